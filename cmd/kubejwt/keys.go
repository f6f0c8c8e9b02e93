package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/kubejwt/kubejwt"
)

// trust has the flags that say whose tokens are good and where the keys are. verify
// and serve share them.
type trust struct {
	verb            string // whose flags they are
	issuer          string
	formerIssuers   list
	audiences       list
	keyFile         string
	jwksURL         string
	discoveryURL    string
	caFile          string
	bearerTokenFile string
	inCluster       bool
	leeway          time.Duration
	maxLifetime     time.Duration
	acceptExtended  bool
	requirePod      bool
}

func (t *trust) define(flags *flag.FlagSet) {
	t.verb = flags.Name()
	flags.StringVar(&t.issuer, "issuer", "", "the `iss` that tokens must have: "+
		"the API server's --service-account-issuer. Required, unless -in-cluster learns it. "+
		"Unless a flag says where the keys are, its discovery document does")
	flags.Var(&t.formerIssuers, "former-issuer", "an older `iss` of this same cluster (repeatable)")
	flags.Var(&t.audiences, "audience",
		"a `name` of the service: a token must name one of them in aud. Required (repeatable)")
	flags.StringVar(&t.keyFile, "key-file", "",
		"`file` with the public keys: an API server's sa.pub, or the JWKS that it serves")
	flags.StringVar(&t.jwksURL, "jwks-url", "", "`URL` of the keys (JWKS)")
	flags.StringVar(&t.discoveryURL, "discovery-url", "", "`URL` of the discovery document, if it is not at the issuer")
	flags.BoolVar(&t.inCluster, "in-cluster", false,
		"in a pod: take keys and issuer from the API server, with the pod's CA and token")
	flags.StringVar(&t.caFile, "ca-file", "",
		"`file` with the CA of the server that has the keys (default: the system's roots)")
	flags.StringVar(&t.bearerTokenFile, "bearer-token-file", "",
		"`file` with the token to send to the server that has the keys")
	durationVar(flags, &t.maxLifetime, "max-lifetime", 0,
		"refuse tokens that live longer than this `duration`, such as 1h; 0 means 24h, negative (-1s) means no limit")
	durationVar(flags, &t.leeway, "leeway", 0,
		"how far clocks may be apart: a `duration`, such as 30s; 0 means 60s, negative means not at all")
	flags.BoolVar(&t.acceptExtended, "accept-extended", false,
		"accept default-mounted tokens past their warnafter; needs -max-lifetime")
	flags.BoolVar(&t.requirePod, "require-pod", false, "refuse tokens that are not bound to a pod")
}

// check finds the mistakes that the library can't describe in terms of flags.
func (t *trust) check() error {
	switch {
	case t.issuer == "" && !t.inCluster:
		return usagef("-issuer is required, unless -in-cluster learns it: " + discoveryCommand + " prints it as issuer")
	case len(t.audiences) == 0:
		return usagef("-audience is required: the name of the service that tokens are for, " +
			"as in the caller's projected volume")
	case t.keyFile != "" && (t.inCluster || t.remoteKeys() != kubejwt.RemoteKeys{}):
		return usagef("-key-file can't be combined with -in-cluster, -jwks-url, -discovery-url, " +
			"-ca-file or -bearer-token-file, which are for keys that are fetched")
	}
	return nil
}

func (t *trust) config() kubejwt.Config {
	return kubejwt.Config{
		Issuer:         t.issuer,
		FormerIssuers:  t.formerIssuers,
		Audiences:      t.audiences,
		Leeway:         t.leeway,
		MaxLifetime:    t.maxLifetime,
		AcceptExtended: t.acceptExtended,
		RequirePod:     t.requirePod,
	}
}

func (t *trust) remoteKeys() kubejwt.RemoteKeys {
	return kubejwt.RemoteKeys{
		DiscoveryURL:    t.discoveryURL,
		JWKSURL:         t.jwksURL,
		CAFile:          t.caFile,
		BearerTokenFile: t.bearerTokenFile,
	}
}

// verifier makes the Verifier of a complete Config.
func (t *trust) verifier(config kubejwt.Config) (*kubejwt.Verifier, error) {
	build := kubejwt.New
	if t.inCluster {
		build = kubejwt.InCluster
	}
	v, err := build(config)
	if errors.Is(err, kubejwt.ErrNotInCluster) {
		return nil, usagef("-in-cluster is for a process in a pod, and this is none: " +
			"KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not both set. Elsewhere give -issuer (" +
			discoveryCommand + " prints it) and -key-file (`kubectl get --raw /openid/v1/jwks > keys.json` writes it)")
	}
	if err != nil {
		return nil, &usageError{inFlags(t.verb, err.Error())}
	}
	return v, nil
}

// errKeyFile is the error for a -key-file without usable keys.
var errKeyFile = errors.New("-key-file")

// checkKeyFile reads a key file as a Verifier does. If that fails, there are no keys,
// just as when they can't be fetched.
func checkKeyFile(ctx context.Context, path string) error {
	_, err := interruptible(ctx, func() ([]byte, error) {
		_, err := kubejwt.New(kubejwt.Config{
			Issuer:          "any",
			Audiences:       []string{"any"},
			ServiceAccounts: []string{"*"},
			Keys:            kubejwt.KeyFile(path),
			Logger:          slog.New(slog.DiscardHandler),
		})
		return nil, err
	})
	if err == nil || errors.Is(err, errInterrupted) {
		return err
	}
	why := strings.TrimPrefix(inFlags("", err.Error()), "-key-file")
	return fmt.Errorf("%w: %w%s", kubejwt.ErrKeysUnavailable, errKeyFile, why)
}
