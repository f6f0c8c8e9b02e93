package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/kubejwt/kubejwt"
)

const maxTokenFile = 1 << 20 // far over what the library takes, so that it says so

const verifyHelp = `usage: kubejwt verify -issuer ISS -audience NAME [keys] [flags] [TOKEN]

Explains a token. First comes the verdict: the identity that the token proves,
or why it is refused and what to do about it. Then comes each rule, with what
was expected and what came. Nothing is sent to the token's cluster, except a
request for its public keys if -key-file is not given.

The token is the argument, the content of -token-file, or standard input. On the
command line other users of this machine can see it, and the shell remembers it.
Neither the token nor its signature is ever printed. A token in quotes, after
Bearer, in base64 or in the JSON that it came in is accepted too. A line says how
it was read.

Exit status: 0 accepted, 1 refused, 2 wrong usage, 3 the keys are unavailable.

A token of your cluster, judged by the keys of your cluster:

    kubectl get --raw /openid/v1/jwks > keys.json
    kubectl create token api -n shop --audience data-store |
      kubejwt verify -key-file keys.json -audience data-store \
        -issuer https://kubernetes.default.svc.cluster.local

Without a cluster, in a clone of the repository, a recorded token:

    go run ./cmd/kubejwt verify -audience data-store -max-lifetime -1s \
      -issuer https://kubernetes.default.svc.cluster.local \
      -key-file testdata/clusters/kube-apiserver-1.36/rs256/sa.pub \
      -token-file testdata/clusters/kube-apiserver-1.36/rs256/tokens/pod_bound.jwt

In a pod, its own mounted token:

    kubejwt verify -in-cluster -audience data-store \
      -token-file /var/run/secrets/tokens/data-store

Why was it refused at two in the morning? Add -at 2026-11-22T02:00:00Z.

flags:
`

// verifyFlags are those of verify.
type verifyFlags struct {
	trust
	serviceAccounts list
	tokenFile       string
	at              string
	json            bool
}

func (f *verifyFlags) define(flags *flag.FlagSet) {
	f.trust.define(flags)
	flags.Var(&f.serviceAccounts, "service-account",
		"who may call, a `rule`: namespace/name, namespace/* or * (repeatable; default: *)")
	flags.StringVar(&f.tokenFile, "token-file", "", "`file` with the token")
	flags.StringVar(&f.at, "at", "",
		"judge as of this `time`, RFC 3339, for instance 2026-11-22T08:15:00Z (default: now)")
	flags.BoolVar(&f.json, "json", false, "print JSON")
}

func runVerify(ctx context.Context, p process, flags *flag.FlagSet, args []string) error {
	var f verifyFlags
	f.define(flags)
	args, err := parse(flags, args)
	if err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	now, err := f.now()
	if err != nil {
		return err
	}
	in, err := givenToken(ctx, p, f.tokenFile, args)
	if err != nil {
		return err
	}
	remove, err := keepPipes(ctx, flags, "key-file", "ca-file", "bearer-token-file")
	defer remove()
	if err != nil {
		return err
	}
	logged := newLogLines()
	want := expectations{flags: &f, now: now}
	var claims kubejwt.Claims
	v, err := f.build(ctx, now, logged)
	if err == nil {
		claims, err = v.Verify(ctx, in.token)
		stats := v.Stats()
		want.keyIDs = stats.KeyIDs
		logged.waitFor(stats.Fetches)
	} else if !errors.Is(err, kubejwt.ErrKeysUnavailable) {
		return err
	}
	e := explain(in, claims, err, want)
	e.log = logged.besides(err)
	print := e.print
	if f.json {
		print = e.printJSON
	}
	if err := print(p); err != nil {
		return err
	}
	return e.exit()
}

func (f *verifyFlags) now() (time.Time, error) {
	if f.at == "" {
		return time.Now(), nil
	}
	now, err := time.Parse(time.RFC3339, f.at)
	if err != nil {
		return time.Time{}, usagef("-at %s: want a time of RFC 3339, for instance 2026-11-22T08:15:00Z", quoted(f.at))
	}
	return now, nil
}

// givenToken reads the token from where the flags say it is.
func givenToken(ctx context.Context, p process, file string, args []string) (input, error) {
	var data []byte
	var err error
	switch {
	case len(args) > 1:
		return input{}, usagef("%d arguments: want one token at most", len(args))
	case file != "" && len(args) > 0:
		return input{}, usagef("a token as an argument and -token-file: want one of them")
	case file != "":
		data, err = interruptible(ctx, func() ([]byte, error) { return readFile(file, maxTokenFile) })
	case len(args) == 1 && args[0] != "-":
		data = []byte(args[0])
	default:
		if isTerminal(p.stdin) {
			fmt.Fprintln(p.stderr, "paste the token, then press Enter and Ctrl-D:")
		}
		data, err = interruptible(ctx, func() ([]byte, error) { return readAtMost(p.stdin, maxTokenFile) })
	}
	if errors.Is(err, errInterrupted) {
		return input{}, err
	}
	if err != nil {
		return input{}, usagef("the token can't be read: %v", err)
	}
	in := readInput(data)
	if in.token == "" {
		return input{}, usagef("there is no token: give it as an argument, in -token-file or on standard input")
	}
	return in, nil
}

func readFile(path string, size int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, size))
}

// build makes the Verifier for this one token.
func (f *verifyFlags) build(ctx context.Context, now time.Time, logged *logLines) (*kubejwt.Verifier, error) {
	config := f.config()
	config.Now = func() time.Time { return now }
	config.Logger = slog.New(logged)
	config.CacheSize = -1
	config.ServiceAccounts = f.accounts()
	if f.keyFile == "" {
		config.Keys = f.remoteKeys()
		return f.verifier(config)
	}
	if err := checkKeyFile(ctx, f.keyFile); err != nil {
		return nil, err
	}
	config.Keys = kubejwt.KeyFile(f.keyFile)
	return f.verifier(config)
}

func (f *verifyFlags) accounts() []string {
	if len(f.serviceAccounts) == 0 {
		return []string{"*"}
	}
	return f.serviceAccounts
}

// exit turns the verdict, which has been printed, into the exit status.
func (e *explanation) exit() error {
	switch e.verdict {
	case "accepted":
		return nil
	case "keys_unavailable":
		return errNoKeys
	default:
		return errRefused
	}
}
