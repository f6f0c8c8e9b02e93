package kubejwt

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubejwt/kubejwt/internal/keyset"
	"github.com/kubejwt/kubejwt/internal/quote"
)

// The key policy in numbers. The package documentation tells it in words.
const (
	minLife     = 5 * time.Minute // an external signer's max-age counts down to 0
	maxLife     = time.Hour
	defaultLife = 15 * time.Minute // without a max-age

	fetchTimeout  = 10 * time.Second // a fetch in all, and so a caller's wait
	shortPatience = 3 * time.Second  // of a caller, where the last fetch failed and the keys at hand will do
	snapshotWait  = time.Second      // for a disk that hangs under the snapshot

	minBackoff     = time.Second // grows threefold with each failure: twofold asks 40 % more of an origin that is down
	maxBackoff     = 5 * time.Minute
	maxBackoffCold = 30 * time.Second // while there are no keys to serve with
	maxRetryAfter  = 10 * time.Minute
	failureCounts  = maxRetryAfter + time.Minute // the longest pause, and the attempt that ends it

	minUnknownKidGap = 10 * time.Second // grows twofold while fetches for unknown kids bring nothing
	maxUnknownKidGap = time.Minute
	maxStretch       = 0.5 // by this part of itself a gap is lengthened at most

	defaultMaxStale = 24 * time.Hour
	minMaxStale     = 5 * time.Minute

	formerIssuerLife = 24 * time.Hour // of a learnt issuer after it has changed
)

// instant is one moment on two clocks: one that never goes back and may stand
// still while the machine sleeps, and one that can be set.
type instant struct{ mono, wall time.Time }

func realClock() instant {
	now := time.Now()
	return instant{mono: now, wall: now.Round(0)}
}

// since is the larger of what the two clocks say has passed, so that setting a
// clock back never makes keys younger.
func (i instant) since(earlier instant) time.Duration {
	return max(i.mono.Sub(earlier.mono), i.wall.Sub(earlier.wall))
}

// fetchCause is what a fetch is for. All but a plain refresh look again at
// where the keys are.
type fetchCause string

const (
	causeFirst    fetchCause = "first"       // there are no keys
	causeRefresh  fetchCause = "refresh"     // the set is due
	causeRetry    fetchCause = "retry"       // the last fetch failed
	causeOnDemand fetchCause = "unknown kid" // a token named a key that the set lacks
)

// fetched is what one fetch brought.
type fetched struct {
	keys   *keyset.Set
	issuer string        // of the discovery document; "" if it was not read
	maxAge time.Duration // negative if there was none
	roots  string        // a digest of the roots that the origin was judged by
}

// retryAfterError is of an origin that asked to be left alone for a while.
type retryAfterError struct {
	error
	after time.Duration
}

func (e *retryAfterError) Unwrap() error { return e.error }

// jwksCache decides when keys are fetched, kept, replaced and dropped. It
// starts a goroutine for each fetch and has none otherwise.
type jwksCache struct {
	fetch    func(context.Context, fetchCause) (fetched, error)
	now      func() instant
	maxStale time.Duration       // negative: for ever
	snapshot *snapshotFile       // nil: none
	learnt   func(issuer string) // told when the document names another issuer
	logger   *slog.Logger

	// state is what is known; nil until the first use. A stored state does
	// not change: readers need no lock.
	state atomic.Pointer[cacheState]

	// mu guards changes of state, and what is below. It is never held over I/O
	// or a log.
	mu      sync.Mutex
	flight  *flight       // the fetch under way
	loading chan struct{} // closed when the snapshot has been read; nil: nobody reads it yet

	unsaved atomic.Int32 // how many fetches the snapshot is behind

	fetches, failures, onDemand, throttled atomic.Uint64
}

// cacheState is what the cache knows between two fetches.
type cacheState struct {
	keys      *keyset.Set // nil: none yet
	roots     string      // a digest of the roots that their origin was judged by
	fetchedAt instant
	life      time.Duration // for how long keys may serve before a caller waits for new ones
	refresh   time.Duration // the age from which they are refreshed in the background

	issuer      string // as last read in a discovery document; "" if none was
	former      string // the one before it
	formerSince instant

	failed   int           // attempts in a row that failed, since the last that did not
	failedAt instant       // the last of them
	backoff  time.Duration // from failedAt to the next attempt
	err      error         // of the last attempt; nil if it succeeded

	unknownKid unknownKid
}

// unknownKid is what bounds the fetches for unknown kids.
type unknownKid struct {
	at  instant       // the end of the last successful fetch for one
	gap time.Duration // from then to the next, before it is lengthened; 0: there was none

	// stretch lengthens each gap by this part of itself. It is drawn at random
	// when the gaps begin anew and holds for all of them: verifiers that a flood
	// has reached at one moment drift apart more evenly than with a draw each.
	stretch float64

	// retryPending is set after such a fetch has failed. The success that makes
	// it good counts as one of them, or an origin that answers every other time
	// would be asked without a gap.
	retryPending bool
}

// wait is how long to leave the origin alone before the next fetch.
func (u unknownKid) wait(now instant) time.Duration {
	return u.gap + time.Duration(float64(u.gap)*u.stretch) - now.since(u.at)
}

// afterSuccess is what bounds the next fetch for an unknown kid after this one.
func (u unknownKid) afterSuccess(now instant) unknownKid {
	if u.gap == 0 {
		u.stretch = rand.Float64() * maxStretch
	}
	u.gap = min(max(minUnknownKidGap, 2*u.gap), maxUnknownKidGap)
	u.at = now
	u.retryPending = false
	return u
}

// afterChange lets the gaps begin anew, where there are any.
func (u unknownKid) afterChange() unknownKid {
	if u.gap > 0 {
		u.gap, u.stretch = minUnknownKidGap, rand.Float64()*maxStretch
	}
	return u
}

// flight is a fetch under way.
type flight struct {
	cause fetchCause
	done  chan struct{} // closed when what it brought can be used
}

// current returns the keys to judge by. Within the set's life that is one
// atomic load, and at most sets off a fetch in the background. A set past its
// life is not used before one fetch was tried; a set past maxStale not at all.
func (c *jwksCache) current(ctx context.Context) (_ keysAtHand, waited bool, _ error) {
	s, err := c.load(ctx)
	if err != nil {
		return keysAtHand{}, true, &keysUnavailable{cause: err}
	}
	now := c.now()
	switch age := now.since(s.fetchedAt); {
	case s.keys != nil && s.err == nil && age < s.refresh:
		return c.keysAtHand(s, now), false, nil
	case s.keys != nil && age < s.life, c.trusted(s, now) && s.failedLately(now):
		if c.retryIn(s, now) == 0 { // spares a lock
			c.start(now)
		}
		return c.keysAtHand(s, now), false, nil
	default:
		if f := c.start(now); f != nil {
			waited = true
			if err := f.wait(ctx, c.patience(s, now)); err != nil {
				return keysAtHand{}, waited, c.unavailable(err)
			}
		}
	}
	s, now = c.state.Load(), c.now()
	if !c.trusted(s, now) {
		return keysAtHand{}, waited, c.unavailable(s.err)
	}
	return c.keysAtHand(s, now), waited, nil
}

// refresh joins the fetch under way, or starts one for an unknown kid if that is
// allowed, and waits for it. Nobody waits for a turn.
func (c *jwksCache) refresh(ctx context.Context, seen keysAtHand) (waited bool, err error) {
	f := c.startOnDemand(c.now(), seen)
	if f == nil {
		return false, nil
	}
	if err := f.wait(ctx, nil); err != nil {
		return true, c.unavailable(err)
	}
	return true, nil
}

// latest returns the keys at hand. While the last fetch is a failure nobody can
// tell an unknown key from a new one.
func (c *jwksCache) latest() (keysAtHand, error) {
	s, now := c.state.Load(), c.now()
	if s.err != nil || !c.trusted(s, now) {
		return keysAtHand{}, c.unavailable(s.err)
	}
	return c.keysAtHand(s, now), nil
}

// ready returns nil while there are keys to trust, and otherwise tries to get
// some as a token would.
func (c *jwksCache) ready(ctx context.Context) error {
	s, err := c.load(ctx)
	switch {
	case err != nil:
		return &keysUnavailable{cause: err}
	case c.trusted(s, c.now()):
		return nil
	}
	_, _, err = c.current(ctx)
	return err
}

func (c *jwksCache) holds(id string, fingerprint [sha256.Size]byte) bool {
	s := c.state.Load()
	return s != nil && s.keys != nil && s.keys.Holds(id, fingerprint)
}

// trusted reports whether s has keys that are not too old to be used at all.
func (c *jwksCache) trusted(s *cacheState, now instant) bool {
	return s.keys != nil && (c.maxStale < 0 || now.since(s.fetchedAt) < c.maxStale)
}

// failedLately reports whether the last attempt failed, recently enough to say
// that the origin is out of reach now. Without it, an idle service would honour
// a withdrawn key on the word of a failure long past.
func (s *cacheState) failedLately(now instant) bool {
	return s.err != nil && now.since(s.failedAt) < failureCounts
}

func (c *jwksCache) keysAtHand(s *cacheState, now instant) keysAtHand {
	k := keysAtHand{Set: s.keys, issuer: s.issuer}
	if s.former != "" && now.since(s.formerSince) < formerIssuerLife {
		k.formerIssuer = s.former
	}
	return k
}

// unavailable makes an ErrKeysUnavailable of what kept the keys away.
func (c *jwksCache) unavailable(cause error) error {
	if cause == nil {
		cause = errors.New("the keys at hand are older than RemoteKeys.MaxStale")
	}
	s, now := c.state.Load(), c.now()
	return &keysUnavailable{cause: cause, retry: c.retryIn(s, now)}
}

// retryIn is how long to wait before the next attempt after a failure: never
// long without keys to serve with, even if there were some when it failed.
func (c *jwksCache) retryIn(s *cacheState, now instant) time.Duration {
	if s.err == nil {
		return 0
	}
	backoff := s.backoff
	if !c.trusted(s, now) {
		backoff = min(backoff, maxBackoffCold)
	}
	return max(0, backoff-now.since(s.failedAt))
}

// load returns the state, at the first use with what the snapshot holds. The
// error is ctx's.
func (c *jwksCache) load(ctx context.Context) (*cacheState, error) {
	if s := c.state.Load(); s != nil {
		return s, nil
	}
	if c.snapshot == nil {
		c.state.CompareAndSwap(nil, new(cacheState))
		return c.state.Load(), nil
	}
	select {
	case <-c.startLoading():
		return c.state.Load(), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// startLoading starts to read the snapshot if nobody has, and returns a channel
// that is closed when the state is known: from a disk that hangs it is empty.
func (c *jwksCache) startLoading() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loading != nil {
		return c.loading
	}
	done := make(chan struct{})
	c.loading = done
	ctx, cancel := context.WithTimeout(context.Background(), snapshotWait)
	begin := func(s *cacheState, err error) {
		if c.state.CompareAndSwap(nil, s) {
			close(done)
			c.snapshot.report(s, err, c.logger)
		}
	}
	giveUp := time.AfterFunc(snapshotWait, func() {
		begin(new(cacheState), fmt.Errorf("the file system has not answered for %v", snapshotWait))
	})
	go func() {
		defer cancel()
		defer giveUp.Stop()
		begin(c.snapshot.load(ctx, c.now(), c.maxStale))
	}()
	return done
}

// start joins the fetch under way, or starts one if the last failure is long
// enough ago, and otherwise returns nil.
func (c *jwksCache) start(now instant) *flight {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.state.Load()
	switch {
	case c.flight != nil:
		return c.flight
	case c.retryIn(s, now) > 0:
		return nil
	case s.keys != nil && s.err == nil && now.since(s.fetchedAt) < s.refresh:
		return nil // another caller's fetch ended since this one looked
	case s.err != nil:
		return c.takeOff(causeRetry)
	case s.keys == nil:
		return c.takeOff(causeFirst)
	default:
		return c.takeOff(causeRefresh)
	}
}

// startOnDemand is start for a kid that is unknown in what was seen.
func (c *jwksCache) startOnDemand(now instant, seen keysAtHand) *flight {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.state.Load()
	switch {
	case c.flight != nil:
		return c.flight
	case s.keys != seen.Set:
		return nil // a fetch has ended since this one looked, and may have brought the key
	case c.retryIn(s, now) > 0:
		return nil
	case s.unknownKid.wait(now) > 0:
		c.throttled.Add(1)
		return nil
	default:
		c.onDemand.Add(1)
		return c.takeOff(causeOnDemand)
	}
}

// takeOff starts a fetch on a context of its own: no caller's cancelling ends
// it for the others. The caller holds c.mu.
func (c *jwksCache) takeOff(cause fetchCause) *flight {
	f := &flight{cause: cause, done: make(chan struct{})}
	c.flight = f
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	// The fetch may run through a RoundTripper that ignores its context.
	giveUp := time.AfterFunc(fetchTimeout, func() {
		c.land(f, fetched{}, fmt.Errorf("no answer within %v", fetchTimeout))
	})
	go func() {
		defer cancel()
		defer giveUp.Stop()
		// Without effect but after a runtime.Goexit in a RoundTripper.
		defer c.land(f, fetched{}, errors.New("the fetch ended without an answer"))
		got, err := c.call(ctx, cause)
		c.land(f, got, err)
	}()
	return f
}

// call contains a panic, which may come out of the caller's own Transport.
func (c *jwksCache) call(ctx context.Context, cause fetchCause) (got fetched, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("fetching panicked with a %T", p)
		}
	}()
	return c.fetch(ctx, cause)
}

// patience ends a caller's wait for the keys to be brought up to date. If the
// last attempt failed and there are keys to go on with, it is for an origin that
// answers as usual, not for one that hangs; otherwise nil, which is without end.
func (c *jwksCache) patience(s *cacheState, now instant) <-chan time.Time {
	if s.err != nil && c.trusted(s, now) {
		return time.After(shortPatience)
	}
	return nil
}

// wait returns when f has landed or patience ends, or with ctx's error. A flight
// lands within fetchTimeout, whatever the fetch does.
func (f *flight) wait(ctx context.Context, patience <-chan time.Time) error {
	select {
	case <-f.done:
		return nil
	case <-patience:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// land takes in what f brought, and lets go those who wait for it, before a log
// or a disk can hang. Of a fetch that was given up on, a late answer changes
// nothing.
func (c *jwksCache) land(f *flight, got fetched, err error) {
	c.mu.Lock()
	if c.flight != f {
		c.mu.Unlock()
		return
	}
	c.flight = nil
	last, now := c.state.Load(), c.now()
	var next *cacheState
	if err != nil {
		next = c.afterFailure(last, now, f.cause, err)
	} else {
		next = last.afterSuccess(now, f.cause, got, c.maxStale)
	}
	c.state.Store(next)
	c.fetches.Add(1)
	if err != nil {
		c.failures.Add(1)
	}
	c.mu.Unlock()
	close(f.done)

	c.log(f.cause, last, next)
	if err == nil {
		c.save()
	}
}

// save writes the snapshot. If another goroutine is writing it, that one writes
// it once more.
func (c *jwksCache) save() {
	if c.snapshot == nil || c.unsaved.Add(1) > 1 {
		return
	}
	for behind := int32(1); behind > 0; {
		seen := c.unsaved.Load()
		c.snapshot.save(c.state.Load(), c.logger)
		behind = c.unsaved.Add(-seen)
	}
}

func (c *jwksCache) afterFailure(s *cacheState, now instant, cause fetchCause, err error) *cacheState {
	next := *s
	next.failed++
	next.unknownKid.retryPending = s.unknownKid.retryPending || cause == causeOnDemand
	next.failedAt, next.err = now, err
	most, mostAfter := maxBackoff, maxRetryAfter
	if !c.trusted(s, now) {
		most, mostAfter = maxBackoffCold, maxBackoffCold
	}
	// Full jitter keeps ten thousand services apart that failed together.
	ceiling := minBackoff
	for i := 1; i < next.failed && ceiling < most; i++ {
		ceiling = min(3*ceiling, most)
	}
	next.backoff = rand.N(ceiling)
	if asked, ok := errors.AsType[*retryAfterError](err); ok {
		next.backoff = max(next.backoff, min(asked.after, mostAfter))
	}
	return &next
}

func (s *cacheState) afterSuccess(now instant, cause fetchCause, got fetched, maxStale time.Duration) *cacheState {
	next := *s
	next.keys, next.fetchedAt = got.keys, now // replaced, never merged: a key that is gone is gone
	next.roots = got.roots
	next.failed, next.backoff, next.err = 0, 0, nil

	next.life = defaultLife
	if got.maxAge >= 0 {
		next.life = min(max(got.maxAge, minLife), maxLife)
	}
	if maxStale > 0 {
		next.life = min(next.life, maxStale)
	}
	next.refresh = next.life*7/10 + rand.N(next.life*2/10)

	if got.issuer != "" && got.issuer != s.issuer {
		next.former, next.formerSince = s.issuer, now
		next.issuer = got.issuer
	}

	changed := !got.keys.SameKeys(s.keys) || next.issuer != s.issuer
	if cause == causeOnDemand || s.unknownKid.retryPending {
		next.unknownKid = next.unknownKid.afterSuccess(now)
	}
	if changed {
		next.unknownKid = next.unknownKid.afterChange()
	}
	return &next
}

// log tells of a fetch, and what is new: of keys in use, of odd ones, and of the
// issuer.
func (c *jwksCache) log(cause fetchCause, last, next *cacheState) {
	if next.err != nil {
		c.logger.Warn("kubejwt: fetching keys failed", "cause", string(cause), "error", next.err,
			"failures", next.failed, "retry_in", next.backoff, "keys_at_hand", next.keys != nil)
		return
	}
	c.logger.Debug("kubejwt: fetched keys", "cause", string(cause), "keys", len(next.keys.Keys), "life", next.life)
	if last.err != nil {
		c.logger.Info("kubejwt: keys can be fetched again", "failures", last.failed)
	}
	logChange(c.logger, last.keys, next.keys)
	if next.issuer != last.issuer {
		c.logger.Info("kubejwt: the discovery document names the issuer", "issuer", next.issuer, "before", last.issuer)
		c.learnt(next.issuer)
	}
	logDropped(c.logger, last.keys, next.keys)
}

// logChange tells which keys a set has that the last one, nil if there was none,
// had not, and the other way round.
func logChange(logger *slog.Logger, last, next *keyset.Set) {
	if next.SameKeys(last) {
		return
	}
	var removed []string
	if last != nil {
		removed = loggedIDs(last.Without(next))
	}
	logger.Info("kubejwt: the key set changed", "added", loggedIDs(next.Without(last)), "removed", removed)
}

// logDropped tells which keys a set has that are not used, if the last one, nil
// if there was none, had others.
func logDropped(logger *slog.Logger, last, next *keyset.Set) {
	if last != nil && slices.Equal(next.Dropped, last.Dropped) {
		return
	}
	for _, d := range next.Dropped {
		logger.Warn("kubejwt: a key is not used", "kid", quote.Word(d.ID), "why", d.Why)
	}
}

func loggedIDs(keys []*keyset.Key) []string {
	var ids []string
	for _, k := range keys {
		ids = append(ids, quote.Word(k.ID))
	}
	return ids
}

func (c *jwksCache) addStats(s *Stats) {
	state, now := c.state.Load(), c.now()
	s.Fetches = c.fetches.Load()
	s.FetchFailures = c.failures.Load()
	s.UnknownKeyFetches = c.onDemand.Load()
	s.UnknownKeyThrottled = c.throttled.Load()
	if state == nil {
		return // not in use yet: nothing is read to tell of it
	}
	s.LastError = state.err
	if state.err != nil {
		s.NextFetch = now.wall.Add(c.retryIn(state, now))
	}
	if state.keys == nil {
		return
	}
	s.KeyIDs = state.keys.IDs()
	s.FetchedAt = state.fetchedAt.wall
	if c.maxStale >= 0 {
		s.StaleAt = state.fetchedAt.wall.Add(c.maxStale)
	}
	if state.err == nil {
		s.NextFetch = state.fetchedAt.wall.Add(state.refresh)
	}
}
