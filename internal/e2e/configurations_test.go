package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kubejwt/kubejwt"
)

// configurations are ways in which people run an API server. It is started with
// the settings of each stage in turn. The tokens of all stages are judged in the
// last one.
func configurations(t *testing.T) map[string]struct {
	stages    []settings
	published bool // the API server serves its keys
} {
	key, old, ec := newSigningKey(t, "RS256"), newSigningKey(t, "RS256"), newSigningKey(t, "ES256")
	with := func(audiences []string, issuers ...string) settings {
		return settings{issuers: issuers, audiences: audiences, published: []*signingKey{key}, signer: key}
	}
	signedBy := func(signer *signingKey, published ...*signingKey) settings {
		return settings{issuers: []string{issuer}, audiences: []string{issuer}, published: published, signer: signer}
	}
	const path = "https://oidc.eks.eu-west-1.amazonaws.com/id/ABC"
	eks := with([]string{"https://kubernetes.default.svc"}, path)
	eks.more = []string{"--service-account-jwks-uri=" + path + "/keys"}
	return map[string]struct {
		stages    []settings
		published bool
	}{
		"tutorial":          {[]settings{with([]string{"api"}, "kubernetes/serviceaccount")}, false},
		"plain word":        {[]settings{with([]string{"api"}, "api")}, false},
		"from tutorial":     {[]settings{with([]string{"api"}, "kubernetes/serviceaccount"), with([]string{issuer}, issuer, "kubernetes/serviceaccount")}, true},
		"path, keys abroad": {[]settings{eks}, true},
		"trailing slash":    {[]settings{with([]string{issuer + "/"}, issuer+"/")}, true},
		"short":             {[]settings{with([]string{"https://kubernetes.default.svc"}, "https://kubernetes.default.svc")}, true},
		"two issuers":       {[]settings{with([]string{"https://b.example"}, "https://b.example"), with([]string{issuer, "https://b.example"}, issuer, "https://b.example")}, true},
		"three keys":        {[]settings{signedBy(old, old), signedBy(ec, old, ec), signedBy(key, key, old, ec)}, true},
	}
}

// In each configuration, Verify and TokenReview say the same of what the API
// server mints, wherever the keys come from.
func TestConfigurations(t *testing.T) {
	for name, configuration := range configurations(t) {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, configuration.stages[0])
			tokens := c.ordinary(t, 0)
			for i, s := range configuration.stages[1:] {
				c.restart(t, s)
				maps.Copy(tokens, c.ordinary(t, i+1))
			}
			if !configuration.published {
				c.mustNotPublish(t, tokens)
			}
			for _, audience := range []string{service, c.audiences[0]} {
				for source, v := range c.sources(t, configuration.published, audience) {
					accepted := 0
					for token, kind := range tokens {
						if err := c.agree(t, v, kind, token, audience, &accepted); err != nil {
							t.Errorf("%s, for %s, keys from %s: %v", kind, audience, source, err)
						}
					}
					if accepted == 0 {
						t.Errorf("for %s, keys from %s: no token was accepted", audience, source)
					}
				}
			}
		})
	}
}

const secretBased = "Secret-based"

// ordinary are tokens as pods have them, and their kinds.
func (c *cluster) ordinary(t *testing.T, stage int) map[string]string {
	account := c.serviceAccount(t, "api", "api")
	node := c.node(t, "node-1")
	pod := toPod(c.pod(t, account, "app-0", node.Name))
	kinds := map[string]string{
		c.mint(t, account, nil, 10*time.Minute, service):     "short-lived",
		c.mint(t, account, nil, 3650*24*time.Hour):           "default audience",
		c.mint(t, account, pod, time.Hour, service):          "pod",
		c.mint(t, account, pod, 3607*time.Second):            "default mount",
		c.mint(t, account, nil, time.Hour, "x", service):     "two audiences",
		c.mint(t, account, nil, time.Hour, "reports"):        "another audience",
		c.secretToken(t, account, fmt.Sprintf("s%d", stage)): secretBased,
	}
	for token, kind := range kinds {
		kinds[token] = fmt.Sprintf("%s of stage %d", kind, stage)
	}
	return kinds
}

// sources are Verifiers, by where their keys come from.
func (c *cluster) sources(t *testing.T, published bool, audience string) map[string]*kubejwt.Verifier {
	t.Helper()
	config := kubejwt.Config{
		Issuer:          c.issuers[0],
		FormerIssuers:   c.issuers[1:],
		Audiences:       []string{audience},
		ServiceAccounts: []string{"*"},
		MaxLifetime:     -1,
		AcceptExtended:  true,
	}
	var pem []byte
	for _, key := range c.settings.published {
		pem = append(pem, key.publicPEM()...)
	}
	sources := map[string]kubejwt.KeySource{"sa.pub": keyFile(t, pem)}
	if published {
		keys, _ := c.get(t, "/openid/v1/jwks")
		sources["a JWKS file"] = keyFile(t, keys)
		sources["a bucket"] = bucket(t, keys)
		direct := in(c.mount(t))
		direct.JWKSURL = c.address() + "/openid/v1/jwks"
		sources["the API server"] = direct
	}
	all := make(map[string]*kubejwt.Verifier)
	for name, keys := range sources {
		config.Keys = keys
		all[name] = must(kubejwt.New(config))
	}
	if published {
		t.Setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
		t.Setenv("KUBERNETES_SERVICE_PORT", c.port)
		config.Issuer = "" // learnt
		config.Keys = in(c.mount(t))
		all["a pod's API server"] = must(kubejwt.InCluster(config))
	}
	return all
}

func keyFile(t *testing.T, content []byte) kubejwt.KeyFile {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	noError(t, os.WriteFile(path, content, 0o600))
	return kubejwt.KeyFile(path)
}

// bucket is another host that has the keys.
func bucket(t *testing.T, keys []byte) kubejwt.RemoteKeys {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(keys) }))
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return kubejwt.RemoteKeys{JWKSURL: server.URL, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
}

// agree compares the two verdicts, and counts the token if it is accepted.
func (c *cluster) agree(t *testing.T, v *kubejwt.Verifier, kind, token, audience string, accepted *int) error {
	t.Helper()
	claims, err := v.Verify(t.Context(), token)
	theirs := c.review(t, token, audience)
	switch {
	case strings.HasPrefix(kind, secretBased):
		if say(err) != string(kubejwt.ReasonLegacy) || theirs.Authenticated != (audience != service) {
			return fmt.Errorf("we say %s, TokenReview %v (%s): want legacy, and it accepts", say(err), theirs.Authenticated, theirs.Error)
		}
		return nil
	case theirs.Authenticated != (err == nil):
		return fmt.Errorf("we say %s (%v), TokenReview %v (%s)", say(err), err, theirs.Authenticated, theirs.Error)
	case err == nil:
		*accepted++
		return compareUsers(claims, theirs)
	default:
		return nil
	}
}

// mustNotPublish shows what a service is told that asks for keys where there
// are none.
func (c *cluster) mustNotPublish(t *testing.T, tokens map[string]string) {
	t.Helper()
	asks := in(c.mount(t))
	asks.DiscoveryURL = c.address() + "/.well-known/openid-configuration"
	told := must(kubejwt.New(kubejwt.Config{
		Issuer: c.issuers[0], Audiences: []string{service}, ServiceAccounts: []string{"*"}, Keys: asks,
	}))
	learns := c.inCluster(t, "127.0.0.1", in(c.mount(t)))
	for token, kind := range tokens {
		if strings.HasPrefix(kind, secretBased) {
			continue
		}
		expectUnavailable(t, told, token, "use KeyFile")
		expectUnavailable(t, learns, token, "use KeyFile")
	}
	_, err := kubejwt.New(kubejwt.Config{Issuer: c.issuers[0], Audiences: []string{service}, ServiceAccounts: []string{"*"}})
	if err == nil || !strings.Contains(err.Error(), "KeyFile") {
		t.Errorf("New, without Keys: %v: want the advice to use a KeyFile", err)
	}
}

// The API server's document names another host for the keys. A service that
// sends its token to the API server is not led there, and is told what to set.
func TestKeysAbroad(t *testing.T) {
	c := sharedCluster(t, "RS256")
	token := c.mint(t, c.serviceAccount(t, "api", "api"), nil, time.Hour, service)
	keys := in(c.mount(t))
	keys.DiscoveryURL = c.address() + "/.well-known/openid-configuration"
	config := kubejwt.Config{Issuer: issuer, Audiences: []string{service}, ServiceAccounts: []string{"api/api"}, Keys: keys}
	expectUnavailable(t, must(kubejwt.New(config)), token, "set RemoteKeys.JWKSURL")

	keys.DiscoveryURL, keys.JWKSURL = "", c.address()+"/openid/v1/jwks"
	config.Keys = keys
	expect(t, must(kubejwt.New(config)), token, accepted)
}
