package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubejwt/kubejwt/internal/safelog"
)

const serveHelp = `usage: kubejwt serve -issuer ISS -audience NAME -policy NAME=ns/sa,ns/* [keys] [flags]
       kubejwt serve -config FILE [flags]
       kubejwt serve -check -config FILE

Answers the auth requests of a proxy: nginx auth_request, Caddy forward_auth,
Traefik ForwardAuth, Envoy ext_authz over HTTP or gRPC. The service behind the
proxy can be written in any language. It reads from headers who is calling.

Each -policy is served at /auth/NAME. It lists the service accounts that pass.
The proxy chooses the policy by that path. serve ignores the method, the query,
the body, what follows /auth/NAME/ in the path, and every header except
Authorization, or the one that -token-header names. -access-log shows method,
path and request ID as the proxy passes them, and nothing depends on these.

    200  the caller may call. The answer always has all of these headers, empty
         where the token says nothing: Kubejwt-Username, Kubejwt-Namespace,
         Kubejwt-Service-Account, Kubejwt-Service-Account-Uid, Kubejwt-Pod,
         Kubejwt-Pod-Uid, Kubejwt-Node, Kubejwt-Audience
    401  no token, or one that is refused
    403  a good token of a service account that the policy does not list
    404  no such policy
    503  there are no keys to judge by: try again after Retry-After

The proxy has to discard headers of these names that its clients send, and
should take the token out of the request before it passes it on. Complete
configurations are in examples/proxies. Whoever can reach this address can test
tokens. Whoever can reach the service without the proxy can claim to be anybody.
Keep both addresses private.

A service must not be able to use its callers' tokens at another service. So
where there are several audiences, each policy names its own: -policy
data-store@data-store=shop/api -policy reports@reports=shop/api.

Envoy can also ask over gRPC, at -grpc-listen. It names the policy in
context_extensions, under "policy", never in the request. serve sets the
headers above and removes a client's own. It leaves the token in the request:
request_headers_to_remove of Envoy's route takes it out.

-config takes issuers and policies from a YAML file instead of flags. The file
is read again when it changes, and at once on SIGHUP. A bad one is logged and
shown in /metrics, and the last good one stays in use. -check validates the flags
or the file, and ends. docs/serve-config.md explains the file, and
docs/serve-config.schema.json is its JSON Schema.

    issuers:
    - inCluster: true
    policies:
    - name: data-store
      audiences: [data-store]
      serviceAccounts: [shop/api, batch/*]

-watch refuses tokens of deleted pods and service accounts, usually within
milliseconds. It needs list and watch of both in the callers' namespaces.
-when-stale says what happens while the watch can't tell: accept them as without
it, or refuse them with 503.

The -admin-listen address is for kubelet and Prometheus. /healthz answers 200
while the process runs. /readyz answers 200 while there are keys and the process
is not stopping. /metrics and /debug/vars show what it does. -listen serves none
of these, because there a proxy takes any 200 for a verdict. SIGTERM and SIGINT
make /readyz fail. -grpc-listen answers gRPC's health checks in the same way.
After -shutdown-delay the process finishes the requests under way and ends. A
second signal ends it at once.

An address is host:port, or unix:/path of a socket. Put a socket into a folder
that only serve and the proxy can write to.

Every flag can be given as an environment variable: KUBEJWT_ and its name in
capitals with _ for -, as in KUBEJWT_CA_FILE; values of repeatable flags are
separated by spaces. Flags win. An unknown KUBEJWT_ variable is an error, except
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

const shutdownTimeout = 15 * time.Second

// serveFlags are those of serve.
type serveFlags struct {
	trust
	policies     policies
	snapshotFile string
	maxStale     time.Duration
	watching     watchFlags

	configFile string
	onlyCheck  bool

	listeners
	tokenHeader   string
	accessLog     string
	shutdownDelay time.Duration
	logFormat     string
	logLevel      slog.Level
}

func (f *serveFlags) define(flags *flag.FlagSet) {
	f.defineRules(flags)
	f.listeners.define(flags)
	flags.StringVar(&f.configFile, "config", "", "YAML `file` with issuers and policies, instead of the flags for them")
	flags.BoolVar(&f.onlyCheck, "check", false, "validate the flags and the -config file, report, and end")
	flags.StringVar(&f.tokenHeader, "token-header", "Authorization",
		"`header` with the token. In any header but Authorization it may come without Bearer")
	flags.StringVar(&f.accessLog, "access-log", "none",
		"`which` verdicts to log on standard output, as JSON: all, refused or none")
	durationVar(flags, &f.shutdownDelay, "shutdown-delay", 0,
		"how long to go on answering after SIGTERM while /readyz fails: a `duration`, such as 15s")
	flags.StringVar(&f.logFormat, "log-format", "text", "`format` of the log: text or json")
	levelVar(flags, &f.logLevel, "log-level", slog.LevelInfo,
		"`level` of the log: debug (says why each token is refused), info, warn or error")
}

// defineRules defines the flags that a policy file replaces.
func (f *serveFlags) defineRules(flags *flag.FlagSet) {
	f.trust.define(flags)
	flags.Var(&f.policies, "policy",
		"a `rule`, NAME[@AUDIENCE]=ns/sa,ns/*: who passes /auth/NAME; * is everybody. Required (repeatable)")
	flags.StringVar(&f.snapshotFile, "snapshot-file", "",
		"`file` that keeps the last good keys, for restarts during an outage")
	durationVar(flags, &f.maxStale, "max-stale", 0, "how long fetched keys are trusted when they can't be "+
		"refreshed: a `duration`, such as 6h; 0 means 24h, negative means for ever")
	f.watching.define(flags)
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
	remove, err := keepPipes(ctx, flags, "key-file", "ca-file", "bearer-token-file", "config")
	defer remove()
	if err != nil {
		return err
	}
	s, err := f.newServer(p, flags)
	if err != nil {
		return err
	}
	if f.onlyCheck {
		if _, err := f.tlsFiles.config(s.logger); err != nil {
			return err
		}
		rules := s.guard.judge.Load().rules
		fmt.Fprintf(p.stdout, "The configuration is valid: %s, %s.\n",
			count(len(rules.issuers), "issuer", "issuers"), count(len(rules.policies), "policy", "policies"))
		return nil
	}
	if p.getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	return s.run(ctx)
}

// count returns a number with its noun.
func count(n int, one, several string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, several)
}

// gcPercent is how much garbage may collect, in percent of the memory in use. With Go's
// default of 100, garbage collection takes a tenth of the CPU of an auth request. GOGC
// in the environment overrides it.
const gcPercent = 400

// server is serve, ready to run.
type server struct {
	flags   *serveFlags
	logger  *slog.Logger
	metrics *metrics
	guard   *guard
	stops   *atomic.Bool // set when /readyz has to fail, because the end is near
	started reading      // the policy file that it started with
}

// newServer checks the flags and the files that they name. It opens no listener.
func (f *serveFlags) newServer(p process, flags *flag.FlagSet) (*server, error) {
	logger, err := f.logger(p)
	if err != nil {
		return nil, err
	}
	if err := f.listeners.check(); err != nil {
		return nil, err
	}
	if err := checkTokenHeader(f.tokenHeader); err != nil {
		return nil, err
	}
	metrics := newMetrics()
	audit, err := newAccessLog(f.accessLog, p.stdout, metrics.linesLost.Inc)
	if err != nil {
		return nil, err
	}
	rules, data, err := f.rules(flags)
	if err != nil {
		return nil, err
	}
	judge, err := newJudge(rules, nil, metrics.verdicts, f.serveLog(logger))
	if err != nil {
		return nil, err
	}
	stops := new(atomic.Bool)
	guard := &guard{
		tokenHeader: http.CanonicalHeaderKey(f.tokenHeader),
		stops:       stops,
		audit:       audit,
		seconds:     metrics.seconds,
	}
	guard.judge.Store(judge)
	metrics.watch(&guard.judge)
	return &server{f, logger, metrics, guard, stops, reading{data: data, at: time.Now()}}, nil
}

// logger is a log that holds nobody up, even if standard error hangs.
func (f *serveFlags) logger(p process) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: f.logLevel}
	switch f.logFormat {
	case "text":
		return safelog.New(slog.New(slog.NewTextHandler(p.stderr, options))), nil
	case "json":
		return safelog.New(slog.New(slog.NewJSONHandler(p.stderr, options))), nil
	default:
		return nil, usagef("-log-format %s: want text or json", quoted(f.logFormat))
	}
}

func (f *serveFlags) serveLog(logger *slog.Logger) serveLog {
	if f.configFile != "" {
		return serveLog{logger, inFields}
	}
	return serveLog{logger, func(text string) string { return inFlags("serve", text) }}
}

// run opens the listeners and answers until ctx ends or one of them fails.
func (s *server) run(ctx context.Context) error {
	endpoints, err := s.open()
	defer func() {
		for _, e := range endpoints {
			e.listener.Close()
		}
	}()
	if err != nil {
		return err
	}
	return s.serve(ctx, endpoints)
}

// serve answers at endpoints that are open already.
func (s *server) serve(ctx context.Context, endpoints []endpoint) error {
	s.announce(endpoints)
	background, cancel := context.WithCancel(ctx)
	defer cancel()
	hangups, stop := onHangup()
	defer stop()
	s.guard.judge.Load().run(background)
	// Problems with the keys are logged now, and not at the first request.
	go s.guard.judge.Load().ready(background)
	if s.flags.configFile != "" {
		go s.reload(background, hangups)
	}

	failed := make(chan error, len(endpoints))
	for _, e := range endpoints {
		go func() { failed <- e.server.Serve(e.listener) }()
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	return s.shutDown(ctx, endpoints, failed)
}

// shutDown makes /readyz fail, waits until no more requests are sent, and returns when
// those under way are answered.
func (s *server) shutDown(ctx context.Context, endpoints []endpoint, failed <-chan error) error {
	s.stops.Store(true)
	s.logger.Info("kubejwt: stopping", "after", s.flags.shutdownDelay)
	select {
	case err := <-failed:
		return err
	case <-time.After(s.flags.shutdownDelay):
	}
	// ctx has ended already.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	errs := make([]error, len(endpoints))
	var asked sync.WaitGroup // at once: a call over gRPC that hangs takes no time from HTTP
	for i, e := range endpoints {
		if _, isAdmin := e.server.(*http.Server); isAdmin {
			defer e.server.Shutdown(last) // after the others
			continue
		}
		asked.Go(func() { errs[i] = e.server.Shutdown(last) })
	}
	asked.Wait()
	return errors.Join(errs...)
}
