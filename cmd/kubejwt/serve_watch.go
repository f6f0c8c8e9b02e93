package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/revocation"
)

// watchFlags has the flags about the watch for deleted pods and service accounts.
type watchFlags struct {
	on        bool
	whenStale string
	apiServer string
}

func (w *watchFlags) define(flags *flag.FlagSet) {
	flags.BoolVar(&w.on, "watch", false,
		"refuse tokens of deleted pods and service accounts; needs a Role: see examples/kubernetes")
	flags.StringVar(&w.whenStale, "when-stale", "",
		"`what` to do while the -watch can't tell: accept as without it, or refuse with 503")
	flags.StringVar(&w.apiServer, "watch-api-server", "", "`URL` of the API server to watch, without -in-cluster")
}

// options are those of an issuer that is not watched, or is in a pod or not.
func (w *watchFlags) options(inCluster bool, keys kubejwt.RemoteKeys) (*watchOptions, error) {
	switch {
	case !w.on && (w.whenStale != "" || w.apiServer != ""):
		return nil, usagef("-when-stale and -watch-api-server need -watch")
	case !w.on:
		return nil, nil
	case !inCluster && w.apiServer == "":
		return nil, usagef("-watch needs -in-cluster or -watch-api-server: it asks the API server")
	}
	stale, ok := parseStale(w.whenStale)
	if !ok {
		return nil, usagef("-when-stale %s: want accept or refuse: what to do while the watch can't tell",
			quoted(w.whenStale))
	}
	return &watchOptions{stale, w.apiServer, keys.CAFile, keys.BearerTokenFile, inCluster}, nil
}

func parseStale(text string) (revocation.Stale, bool) {
	switch text {
	case "accept":
		return revocation.Accept, true
	case "refuse":
		return revocation.Refuse, true
	default:
		return 0, false
	}
}

// watchOptions say how an issuer's cluster is watched.
type watchOptions struct {
	whenStale         revocation.Stale
	apiServer         string
	caFile, tokenFile string
	inCluster         bool
}

// watch is the watch of one issuer, for all policies.
type watch struct {
	key     string // of the issuer, its options and what is watched
	issuer  string
	watcher *revocation.Watcher
	stop    context.CancelFunc // nil until it runs
}

// newWatch returns a watch for the issuer's service accounts that the policies admit. It
// is nil if the issuer is not watched, and that of the last judge if nothing changed.
func newWatch(i issuer, policies []policy, last *judge, logger *slog.Logger) (*watch, error) {
	if i.watch == nil {
		return nil, nil
	}
	var accounts []string
	for _, p := range policies {
		if p.concerns(i) {
			accounts = append(accounts, p.accounts...)
		}
	}
	slices.Sort(accounts)
	accounts = slices.Compact(accounts)
	key := fmt.Sprintf("%s %#v %q", i.name, *i.watch, accounts)
	if last != nil {
		for _, w := range last.watches {
			if w.key == key {
				return w, nil
			}
		}
	}
	build := revocation.New
	if i.watch.inCluster {
		build = revocation.InCluster
	}
	watcher, err := build(revocation.Options{
		ServiceAccounts: accounts,
		APIServer:       i.watch.apiServer,
		CAFile:          i.watch.caFile,
		BearerTokenFile: i.watch.tokenFile,
		WhenStale:       i.watch.whenStale,
		Logger:          logger,
	})
	if errors.Is(err, kubejwt.ErrNotInCluster) {
		return nil, usagef("%s: this process does not run in a pod: KUBERNETES_SERVICE_HOST and "+
			"KUBERNETES_SERVICE_PORT are not both set. "+
			"To -check what a pod will run, set them to 127.0.0.1 and 443", i.where)
	}
	if err != nil {
		return nil, usagef("%s: watch: %s", i.where, strings.TrimPrefix(err.Error(), "kubejwt/revocation: Options."))
	}
	return &watch{key: key, issuer: i.name, watcher: watcher}, nil
}

// run starts the watches that don't run yet. They end with ctx, or when stopExcept ends
// them.
func (j *judge) run(ctx context.Context) {
	for _, w := range j.watches {
		if w.stop == nil {
			ctx, stop := context.WithCancel(ctx)
			w.stop = stop
			go w.watcher.Run(ctx)
		}
	}
}

// stopExcept ends the watches that another judge doesn't have.
func (j *judge) stopExcept(other *judge) {
	for _, w := range j.watches {
		if w.stop != nil && !slices.Contains(other.watches, w) {
			w.stop()
		}
	}
}
