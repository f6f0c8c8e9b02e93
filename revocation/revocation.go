// Package revocation notices when a pod or a service account is deleted, so that
// its tokens are refused although they have not expired. It is optional: it
// needs an RBAC grant and a connection to the API server.
//
// A [Watcher] watches the pods and service accounts that the policy admits, and
// answers from memory. A token is refused within milliseconds of the deletion,
// where TokenReview honours one that it has reviewed for another 10 seconds:
//
//	watcher, err := revocation.InCluster(revocation.Options{
//		ServiceAccounts: []string{"shop/api"}, // as in kubejwt.Config
//		WhenStale:       revocation.Accept,
//	})
//	if err != nil {
//		log.Fatal(err)
//	}
//	go watcher.Run(ctx)
//	v, err := kubejwt.InCluster(kubejwt.Config{
//		Audiences:       []string{"data-store"},
//		ServiceAccounts: []string{"shop/api"},
//		Check:           watcher.Check,
//	})
//
// It has to be granted list and watch of pods and service accounts in the
// callers' namespaces. The service can then read everything in these pods, not
// only their names and labels. examples/kubernetes has the Role.
// docs/revocation.md says what is seen, and how soon.
//
// Each stream begins with a list of its own: nothing is resumed. While the API
// server is away, known deletions stay known. What happens in the meantime is seen
// when it is back.
package revocation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/internal/accounts"
	"github.com/kubejwt/kubejwt/internal/quote"
	"github.com/kubejwt/kubejwt/internal/safelog"
)

const (
	defaultMaxStale = 5 * time.Minute
	leastMaxStale   = 2 * time.Minute
	// rule is Config.Check's number in the rules of Verify.
	rule = 10
	// readyWait is how long Ready waits for the first list at most.
	readyWait = 10 * time.Second
	// warnEvery is how often there is a warning about one kind of claim at most.
	warnEvery = time.Minute
)

// Options say what a [Watcher] watches. ServiceAccounts and WhenStale are
// required.
type Options struct {
	// ServiceAccounts are those whose tokens Check is asked about, as in
	// kubejwt.Config: "namespace/name", "namespace/*", or "*" for all, which
	// needs a ClusterRole. For others, Check returns ErrUndecided.
	ServiceAccounts []string
	// APIServer is the https URL of the cluster's API server. InCluster takes the
	// pod's if it is empty; New requires it.
	APIServer string
	// CAFile holds the only roots to trust, in PEM. "" means the system's roots, and
	// for InCluster the pod's ca.crt. It is read again when it changes.
	CAFile string
	// BearerTokenFile holds the token to send, and is read again as it rotates. For
	// InCluster, "" means the pod's own.
	BearerTokenFile string
	// Transport replaces the built-in transport; nil means the built-in one. It
	// excludes CAFile. Redirects are still not followed.
	Transport http.RoundTripper
	// MaxStale is how old the evidence that an object is still there may be. 0
	// means 5 minutes. Less than 2 minutes is an error. An open stream is confirmed
	// at least every 90 seconds. When the API server was away, a Watcher
	// notices within 70 seconds that it is back.
	MaxStale time.Duration
	// WhenStale says what happens to tokens whose evidence is older, as while the
	// API server is away. It has no default.
	WhenStale Stale
	// Logger gets, at Warn, streams that fail, a missing role, and tokens that
	// Check can't decide on; at Info, recoveries. Nil means slog.Default() at the
	// time of New.
	Logger *slog.Logger
}

// Stale says what to do about a token while the watch can't tell whether its
// pod and its service account are still there.
type Stale int

const (
	_ Stale = iota
	// Accept accepts the token, as without a watch. Tokens of objects that are known to
	// be deleted stay refused.
	Accept
	// Refuse returns ErrUndecided, so the caller gets 503.
	Refuse
)

// A Watcher knows which pods and service accounts are gone. Make it with [New] or
// [InCluster]: a nil or zero Watcher can't run, and its Check returns ErrUndecided. It is
// safe for concurrent use by multiple goroutines.
type Watcher struct {
	options   Options
	accounts  []accounts.Account
	scopes    map[accounts.Account]scope
	streams   []*stream
	apiServer apiServer
	logger    *slog.Logger

	state   atomic.Int32 // of the states below
	mu      sync.RWMutex // guards what the streams know, and what follows
	turn    time.Time    // of all streams, while the API server is away; the next is turnEvery later
	pending int          // streams that were not tried yet

	tried    chan struct{}             // closed when none is pending; nil in a zero Watcher
	warnings [numWarnings]atomic.Int64 // when each was last given, in Unix seconds
}

// A scope has the streams about the accounts of one entry of Options.
type scope struct{ pods, accounts *stream }

const (
	notRunning int32 = iota
	running
	ended
)

const (
	warnOutside = iota
	warnBinding
	numWarnings
)

// New returns a Watcher that does nothing before Run. It does no I/O. Its errors
// name the field.
func New(options Options) (*Watcher, error) { return newWatcher(options, newAPIServer) }

// InCluster is New for the API server of the cluster that this pod runs in. The pod
// supplies APIServer, CAFile and BearerTokenFile if they are empty. Any other API server
// gets neither the pod's CA nor its token. Outside a pod the error is
// kubejwt.ErrNotInCluster.
func InCluster(options Options) (*Watcher, error) { return newWatcher(options, newPodAPIServer) }

func newWatcher(options Options, newAPIServer func(*Options) (apiServer, error)) (*Watcher, error) {
	list, err := accounts.Parse(options.ServiceAccounts)
	switch {
	case err != nil:
		return nil, badOption("ServiceAccounts", "%w", err)
	case options.MaxStale != 0 && options.MaxStale < leastMaxStale:
		return nil, badOption("MaxStale", "%v is less than %v: a stream may be silent for that long",
			options.MaxStale, leastMaxStale)
	case options.WhenStale != Accept && options.WhenStale != Refuse:
		return nil, badOption("WhenStale", "is required: revocation.Accept or revocation.Refuse")
	}
	options.MaxStale = cmp.Or(options.MaxStale, defaultMaxStale)
	if options.Logger == nil {
		options.Logger = slog.Default()
	}
	w := &Watcher{
		options:  options,
		accounts: list.Entries(),
		scopes:   make(map[accounts.Account]scope),
		logger:   safelog.New(options.Logger),
	}
	if w.apiServer, err = newAPIServer(&options); err != nil {
		return nil, err
	}
	streams := make(map[resource]*stream)
	for _, entry := range w.accounts {
		podsOf, accountsOf := watched(entry, w.accounts)
		w.scopes[entry] = scope{w.stream(streams, podsOf), w.stream(streams, accountsOf)}
	}
	w.pending, w.tried = len(w.streams), make(chan struct{})
	return w, nil
}

// stream returns the one stream of a resource.
func (w *Watcher) stream(streams map[resource]*stream, r resource) *stream {
	if streams[r] == nil {
		streams[r] = &stream{resource: r, watcher: w}
		w.streams = append(w.streams, streams[r])
	}
	return streams[r]
}

func badOption(field, format string, args ...any) error {
	return fmt.Errorf("kubejwt/revocation: Options."+field+": "+format, args...)
}

// Run watches until ctx ends, and returns ctx's error. It can be called once. Any
// further call is an error. Before Run has begun, and after it has ended, Check returns
// ErrUndecided for every token. All goroutines have ended when Run returns.
func (w *Watcher) Run(ctx context.Context) error {
	if w == nil || w.logger == nil {
		return errors.New("kubejwt/revocation: this Watcher was not made by New or InCluster")
	}
	if !w.begin() {
		return errors.New("kubejwt/revocation: Run was called before")
	}
	defer w.apiServer.client.CloseIdleConnections()
	var streams sync.WaitGroup
	streams.Go(func() {
		<-ctx.Done()
		w.state.Store(ended) // even if a Transport holds Run up
	})
	for _, s := range w.streams {
		streams.Go(func() { s.follow(ctx) })
	}
	streams.Wait()
	return ctx.Err()
}

func (w *Watcher) begin() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state.Load() != notRunning {
		return false
	}
	w.turn = time.Now().Add(-rand.N(turnEvery))
	w.state.Store(running)
	return true
}

// noteTried counts the streams that have not yet been tried.
func (w *Watcher) noteTried() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pending--; w.pending == 0 {
		close(w.tried)
	}
}

// awaitTried waits until every stream has been tried once. That may be before Run has
// begun: whoever calls "go Run" and then Ready can't know.
func (w *Watcher) awaitTried(ctx context.Context) {
	if w == nil || w.tried == nil || w.state.Load() == ended {
		return
	}
	select {
	case <-w.tried:
	case <-time.After(readyWait):
	case <-ctx.Done():
	}
}

// Check is for [kubejwt.Config].Check. It answers from memory: nil if the
// token's pod and service account are there, as far as is known; an
// InvalidTokenError with ReasonRevoked if one of them is gone; and an
// ErrUndecided if it can't tell: Run is not running, the API server refused the
// first list (401, 403, 404), the token is bound to a secret or a node, or its
// service account is not among Options.ServiceAccounts; and, with Refuse, if
// what is known is older than Options.MaxStale.
func (w *Watcher) Check(claims kubejwt.Claims) error {
	if err := w.running(); err != nil {
		return err
	}
	scope, found := w.scopeOf(&claims)
	if !found {
		return w.outside(claims)
	}
	unbound := claims.Pod == (kubejwt.Object{})
	if claims.Secret != (kubejwt.Object{}) || unbound && claims.Node != (kubejwt.Object{}) {
		return w.otherBinding(claims)
	}
	podScope := scope.pods
	if unbound {
		podScope = nil
	}
	return w.judge(podScope, scope.accounts, &claims)
}

// running returns an error before Run is called and after it has ended.
func (w *Watcher) running() error {
	if w == nil {
		return errNotRunning
	}
	switch w.state.Load() {
	case notRunning:
		return errNotRunning
	case ended:
		return errEnded
	default:
		return nil
	}
}

var (
	errNotRunning = fmt.Errorf("%w: revocation: Run has not been called", kubejwt.ErrUndecided)
	errEnded      = fmt.Errorf("%w: revocation: Run has ended", kubejwt.ErrUndecided)
	errStale      = fmt.Errorf("%w: revocation: what is known is older than Options.MaxStale", kubejwt.ErrUndecided)

	errOtherBinding = fmt.Errorf("%w: revocation: the token is bound to a secret or a node, and these are not watched",
		kubejwt.ErrUndecided)
)

func (w *Watcher) scopeOf(claims *kubejwt.Claims) (scope, bool) {
	if s, found := w.scopes[accounts.Account{Namespace: claims.Namespace, Name: claims.ServiceAccount.Name}]; found {
		return s, true
	}
	if s, found := w.scopes[accounts.Account{Namespace: claims.Namespace, Name: accounts.All}]; found {
		return s, true
	}
	s, found := w.scopes[accounts.Account{Namespace: accounts.All, Name: accounts.All}]
	return s, found
}

// judge judges a token by its two streams. podsOf is nil if it is not bound to a pod. A
// known deletion decides, whatever else is unknown.
func (w *Watcher) judge(podsOf, accountsOf *stream, claims *kubejwt.Claims) error {
	t := time.Now()
	w.mu.RLock()
	defer w.mu.RUnlock()
	gone, live := accountsOf.view.judge(claims.ServiceAccount.UID, claims.IssuedAt, t)
	if gone {
		return revoked("service account", claims.ServiceAccount)
	}
	denied, podLive := accountsOf.denied, false
	if podsOf != nil {
		if gone, podLive = podsOf.view.judge(claims.Pod.UID, claims.IssuedAt, t); gone {
			return revoked("pod", claims.Pod)
		}
		denied = cmp.Or(denied, podsOf.denied)
	}
	switch most := w.options.MaxStale; {
	case denied != nil:
		return denied
	case w.options.WhenStale == Accept, t.Sub(claims.IssuedAt) <= most: // no evidence is older than that
		return nil
	case !live || elapsed(accountsOf.view.asOf, t) > most:
		return errStale
	case podsOf != nil && (!podLive || elapsed(podsOf.view.asOf, t) > most):
		return errStale
	default:
		return nil
	}
}

func revoked(what string, o kubejwt.Object) error {
	return &kubejwt.InvalidTokenError{
		Reason: kubejwt.ReasonRevoked,
		Rule:   rule,
		Want:   "a " + what + " that exists",
		Got:    what + " " + quote.Value(o.Name) + " with UID " + quote.Value(o.UID) + ", which is deleted",
	}
}

func (w *Watcher) outside(claims kubejwt.Claims) error {
	name := claims.Namespace + "/" + claims.ServiceAccount.Name
	w.warn(warnOutside, "kubejwt: revocation: a service account's tokens are not accepted, since it is not watched: "+
		"add it to Options.ServiceAccounts, or take it out of Config.ServiceAccounts", "serviceAccount", name)
	return fmt.Errorf("%w: revocation: %s is not among Options.ServiceAccounts", kubejwt.ErrUndecided, name)
}

func (w *Watcher) otherBinding(claims kubejwt.Claims) error {
	w.warn(warnBinding, "kubejwt: revocation: a token is not accepted, since it is bound to a secret or a node, "+
		"and these are not watched: send the token that is mounted into a pod", "username", claims.Username())
	return errOtherBinding
}

// warn logs at most once a minute for each kind.
func (w *Watcher) warn(kind int, text string, args ...any) {
	now := time.Now().Unix()
	last := w.warnings[kind].Load()
	if now-last >= int64(warnEvery/time.Second) && w.warnings[kind].CompareAndSwap(last, now) {
		w.logger.Warn(text, args...)
	}
}

// Ready returns nil if every stream has had its list, and none is older than
// Options.MaxStale. It waits for Run to begin and for the very first lists, until ctx
// ends and for 10 seconds at most. Its errors are ErrUndecided.
func (w *Watcher) Ready(ctx context.Context) error {
	w.awaitTried(ctx)
	if err := w.running(); err != nil {
		return err
	}
	now := time.Now()
	w.mu.RLock()
	defer w.mu.RUnlock()
	for _, s := range w.streams {
		switch {
		case s.denied != nil:
			return s.denied
		case s.view.asOf.IsZero() && s.lastError != nil:
			return fmt.Errorf("%w: revocation: %s: no list yet: %w", kubejwt.ErrUndecided, s, s.lastError)
		case s.view.asOf.IsZero():
			return fmt.Errorf("%w: revocation: %s: no list yet", kubejwt.ErrUndecided, s)
		case elapsed(s.view.asOf, now) > w.options.MaxStale:
			return errStale
		}
	}
	return nil
}

// Stats is what a [Watcher] has done and knows, for metrics and debugging.
type Stats struct {
	AsOf            time.Time // everything that happened before this is known; zero before the first lists
	Pods            int       // that exist
	ServiceAccounts int       // that exist
	Gone            int       // deletions that are remembered, a few minutes of them

	Lists     uint64 // that were complete
	Events    uint64 // of streams, bookmarks included
	Failures  uint64 // streams that ended, and attempts that began none
	LastError error  // of a stream that is not open now; nil if all are
}

// Stats returns a snapshot.
func (w *Watcher) Stats() Stats {
	if w == nil {
		return Stats{}
	}
	w.mu.RLock()
	defer w.mu.RUnlock()
	var stats Stats
	for i, s := range w.streams {
		if i == 0 || s.view.asOf.Before(stats.AsOf) {
			stats.AsOf = s.view.asOf
		}
		if s.kind == pods {
			stats.Pods += len(s.view.live)
		} else {
			stats.ServiceAccounts += len(s.view.live)
		}
		stats.Gone += len(s.view.gone)
		stats.Lists += s.lists
		stats.Events += s.events
		stats.Failures += s.failures
		if stats.LastError == nil {
			stats.LastError = s.lastError
		}
	}
	return stats
}
