package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/kubejwt/kubejwt"
)

const serveStory = `usage: kubejwt serve -issuer ISS -audience NAME -policy NAME=ns/sa,ns/* [keys] [flags]

Answers the auth requests of a proxy: nginx auth_request, Caddy forward_auth,
Traefik ForwardAuth, Envoy ext_authz over HTTP. The service behind the proxy can
be written in any language; it reads who is calling from headers.

Each -policy is served at /auth/NAME, and lists the service accounts that pass
it. The proxy chooses the policy by that path. Of a request the method, the
query, the body, what follows NAME in the path, and every header but
Authorization are ignored.

    200  the caller may call. Always with all of these headers, empty where the
         token has nothing to say: Kubejwt-Username, Kubejwt-Namespace,
         Kubejwt-Service-Account, Kubejwt-Service-Account-Uid, Kubejwt-Pod,
         Kubejwt-Pod-Uid, Kubejwt-Node, Kubejwt-Audience
    401  no token, or one that is refused
    403  a good token of a service account that the policy does not list
    404  no such policy
    503  there are no keys to judge by: try again after Retry-After

The proxy has to discard headers of these names that its clients send. Complete
configurations are in examples/proxies. Whoever can reach this address can test
tokens, and whoever can reach the service without the proxy can be anybody: keep
both to themselves.

/healthz answers while the process runs, /readyz while there are keys. Counters
are at /debug/vars of the -debug-listen address, for this machine only.
SIGTERM and SIGINT end it after the requests at hand.

Every flag can be given as an environment variable: KUBEJWT_ and its name in
capitals with _ for -, as in KUBEJWT_CA_FILE; values of repeatable flags are
separated by spaces. Flags win. An unknown KUBEJWT_ variable is an error, but
for those that Kubernetes sets for a Service of that name.

In a clone of the repository, with recorded keys and a recorded token:

    go run ./cmd/kubejwt serve -audience data-store -max-lifetime -1s \
      -issuer https://kubernetes.default.svc.cluster.local \
      -key-file testdata/clusters/kube-apiserver-1.36/rs256/sa.pub \
      -policy data-store=api/api
    curl -i http://127.0.0.1:8080/auth/data-store -H "Authorization: Bearer $(
      cat testdata/clusters/kube-apiserver-1.36/rs256/tokens/pod_bound.jwt)"

In a pod:

    kubejwt serve -in-cluster -audience data-store -policy data-store=shop/api

flags:
`

// Limits on what a client can take of the server.
const (
	maxHeaderBytes  = 64 << 10 // a token has 16 KiB at most
	headerTimeout   = 5 * time.Second
	readTimeout     = 10 * time.Second
	writeTimeout    = 20 * time.Second // longer than Verify waits for keys
	idleTimeout     = 2 * time.Minute
	shutdownTimeout = 15 * time.Second
)

// serveFlags are those of serve.
type serveFlags struct {
	trust
	policies     policies
	listen       string
	debugListen  string
	snapshotFile string
	maxStale     time.Duration
	logFormat    string
	logLevel     slog.Level
}

func (f *serveFlags) define(flags *flag.FlagSet) {
	f.trust.define(flags)
	flags.Var(&f.policies, "policy", "`NAME=ns/sa,ns/*`: who passes /auth/NAME; * is everybody. Required (repeatable)")
	flags.StringVar(&f.listen, "listen", "127.0.0.1:8080", "`address` for the proxy")
	flags.StringVar(&f.debugListen, "debug-listen", "127.0.0.1:8081", "`address` for /debug/vars, or off")
	flags.StringVar(&f.snapshotFile, "snapshot-file", "", "`file` that keeps the last good keys, for restarts during an outage")
	flags.DurationVar(&f.maxStale, "max-stale", 0, "how long fetched keys are trusted when they can't be refreshed; 0 means 24h, negative means for ever")
	flags.StringVar(&f.logFormat, "log-format", "text", "`format` of the log: text or json")
	flags.TextVar(&f.logLevel, "log-level", slog.LevelInfo, "`level` of the log: debug (tells why each token is refused), info, warn or error")
}

func runServe(ctx context.Context, p process, flags *flag.FlagSet, args []string) error {
	var f serveFlags
	f.define(flags)
	rest, err := parse(flags, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return usagef("it takes no arguments, and got %s", quoted(rest[0]))
	}
	if err := errors.Join(setFromEnvironment(flags, p.environ), refuseTokens(flags)); err != nil {
		return err
	}
	logger, err := f.logger(p)
	if err != nil {
		return err
	}
	v, err := f.build(logger)
	if err != nil {
		return err
	}
	guard, err := newGuard(v, f.policies)
	if err != nil {
		return err
	}
	return f.serve(ctx, logger, v, guard)
}

func (f *serveFlags) logger(p process) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: f.logLevel}
	switch f.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(p.stderr, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(p.stderr, options)), nil
	default:
		return nil, usagef("-log-format %s: want text or json", quoted(f.logFormat))
	}
}

// build makes the one Verifier, which admits who any policy admits.
func (f *serveFlags) build(logger *slog.Logger) (*kubejwt.Verifier, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	for _, audience := range f.audiences {
		if !isHeaderText(audience) {
			return nil, usagef("-audience %s: it has to fit into a header: printable ASCII", quoted(audience))
		}
	}
	for name, address := range map[string]string{"-listen": f.listen, "-debug-listen": f.debugListen} {
		if _, _, err := net.SplitHostPort(address); err != nil && (name == "-listen" || address != "off") {
			return nil, usagef("%s %s: want an address as 127.0.0.1:8080", name, quoted(address))
		}
	}
	if len(f.policies) == 0 {
		return nil, usagef("-policy is required: NAME=ns/sa,ns/*, which is served at /auth/NAME")
	}
	if f.keyFile != "" && (f.snapshotFile != "" || f.maxStale != 0) {
		return nil, usagef("-snapshot-file and -max-stale are for keys that are fetched, and -key-file is given")
	}
	config := f.config()
	config.Logger = logger
	for _, policy := range f.policies {
		config.ServiceAccounts = append(config.ServiceAccounts, policy.accounts...)
	}
	if f.keyFile != "" {
		if _, err := readKeys(f.keyFile); err != nil {
			return nil, err
		}
		config.Keys = kubejwt.KeyFile(f.keyFile)
		return f.verifier(config)
	}
	keys := f.remoteKeys()
	keys.SnapshotFile, keys.MaxStale = f.snapshotFile, f.maxStale
	config.Keys = keys
	return f.verifier(config)
}

func isHeaderText(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// serve answers until ctx ends or a listener fails.
func (f *serveFlags) serve(ctx context.Context, logger *slog.Logger, v *kubejwt.Verifier, guard *guard) error {
	public, err := net.Listen("tcp", f.listen)
	if err != nil {
		return fmt.Errorf("-listen: %w", err)
	}
	defer public.Close()
	servers := []*http.Server{newServer(guard, logger)}
	listeners := []net.Listener{public}
	if f.debugListen != "off" {
		debug, err := net.Listen("tcp", f.debugListen)
		if err != nil {
			return fmt.Errorf("-debug-listen (another address, or off): %w", err)
		}
		defer debug.Close()
		servers = append(servers, newServer(debugVars(v), logger))
		listeners = append(listeners, debug)
		logger.Info("kubejwt: counters", "url", "http://"+debug.Addr().String()+"/debug/vars")
	}
	for _, policy := range f.policies {
		logger.Info("kubejwt: policy", "url", "http://"+public.Addr().String()+"/auth/"+policy.name, "admits", policy.accounts)
	}
	go v.Ready(ctx) // so that trouble with the keys is logged now, and not at the first request

	failed := make(chan error, len(servers))
	for i, server := range servers {
		go func() { failed <- server.Serve(listeners[i]) }()
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	logger.Info("kubejwt: stopping")
	// ctx has ended already.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	var errs []error
	for _, server := range servers {
		errs = append(errs, server.Shutdown(last))
	}
	return errors.Join(errs...)
}

func newServer(handler http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		// It would answer OPTIONS * with 200, which to a proxy means: may call.
		DisableGeneralOptionsHandler: true,
	}
}

// guard answers the proxy.
type guard struct {
	all      *kubejwt.Verifier
	policies map[string]*kubejwt.Verifier
}

func newGuard(all *kubejwt.Verifier, list policies) (*guard, error) {
	g := &guard{all: all, policies: make(map[string]*kubejwt.Verifier)}
	for _, policy := range list {
		v, err := all.WithServiceAccounts(policy.accounts...)
		if err != nil {
			return nil, usagef("-policy %s: %v", policy.name, err)
		}
		g.policies[policy.name] = v
	}
	return g, nil
}

// ServeHTTP is no ServeMux, which would clean the path, and answer a request
// for /auth/a/../b with the way to /auth/b.
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if r.ContentLength != 0 {
		// Nobody reads the body, and to keep the connection net/http would,
		// before it answers.
		w.Header().Set("Connection", "close")
	}
	path := r.URL.EscapedPath()
	switch path {
	case "/healthz":
		fmt.Fprintln(w, "ok")
		return
	case "/readyz":
		g.ready(w, r)
		return
	}
	rest, isAuth := strings.CutPrefix(path, "/auth/")
	name, _, _ := strings.Cut(rest, "/") // Envoy appends the path of the client's request
	v := g.policies[name]
	if !isAuth || v == nil {
		http.Error(w, "there is no such policy", http.StatusNotFound)
		return
	}
	claims, err := v.VerifyRequest(r)
	if err != nil {
		kubejwt.WriteError(w, err)
		return
	}
	setIdentity(w.Header(), claims)
	w.WriteHeader(http.StatusOK)
}

func (g *guard) ready(w http.ResponseWriter, r *http.Request) {
	if err := g.all.Ready(r.Context()); err != nil {
		kubejwt.WriteError(w, err)
		return
	}
	fmt.Fprintln(w, "ok")
}

// setIdentity sets all headers, whatever the token has to say, so that none
// that a client sent takes the place of a missing one.
func setIdentity(header http.Header, claims kubejwt.Claims) {
	header.Set("Kubejwt-Username", claims.Username())
	header.Set("Kubejwt-Namespace", claims.Namespace)
	header.Set("Kubejwt-Service-Account", claims.ServiceAccount.Name)
	header.Set("Kubejwt-Service-Account-Uid", claims.ServiceAccount.UID)
	header.Set("Kubejwt-Pod", claims.Pod.Name)
	header.Set("Kubejwt-Pod-Uid", claims.Pod.UID)
	header.Set("Kubejwt-Node", claims.Node.Name)
	header.Set("Kubejwt-Audience", claims.Audience)
}

// debugVars serves the Stats in the form of expvar, which would publish the
// command line too.
func debugVars(v *kubejwt.Verifier) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/vars", func(w http.ResponseWriter, r *http.Request) {
		s := v.Stats()
		lastError := ""
		if s.LastError != nil {
			lastError = s.LastError.Error()
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		json.NewEncoder(w).Encode(map[string]any{"kubejwt": struct {
			kubejwt.Stats
			LastError string // instead of an error, of which JSON knows nothing
		}{s, lastError}})
	})
	return mux
}
