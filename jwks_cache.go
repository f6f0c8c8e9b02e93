package kubejwt

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubejwt/kubejwt/internal/keypolicy"
	"github.com/kubejwt/kubejwt/internal/keyset"
	"github.com/kubejwt/kubejwt/internal/quote"
)

// fetchCause says why a fetch is made. Every fetch except a plain refresh reads
// again where the keys are.
type fetchCause string

const (
	causeFirst    fetchCause = "first"       // there are no keys
	causeRefresh  fetchCause = "refresh"     // the set is due
	causeRetry    fetchCause = "retry"       // the last fetch failed
	causeOnDemand fetchCause = "unknown kid" // a token named a key that the set lacks
)

// fetched is the result of one fetch.
type fetched struct {
	keys   *keyset.Set
	issuer string        // of the discovery document; "" if it was not read
	maxAge time.Duration // negative if there was none
	roots  string        // a digest of the roots that the origin was verified with
}

// retryAfterError is the error of an origin that asked to be left alone for a
// while.
type retryAfterError struct {
	error
	after time.Duration
}

// jwksCache decides when keys are fetched, kept, replaced and dropped. It
// starts a goroutine for each fetch and has none otherwise.
type jwksCache struct {
	fetch    func(context.Context, fetchCause) (fetched, error)
	now      func() keypolicy.Instant
	maxStale time.Duration // negative: for ever
	snapshot *snapshotFile // nil: none
	logger   *slog.Logger

	onIssuerChange func(issuer string) // called when the discovery document names another issuer

	// state is what is known. It is nil until the first use. A stored state does
	// not change, so readers need no lock.
	state atomic.Pointer[cacheState]

	// mu guards changes of state, and the fields below. It is never held over I/O
	// or a log.
	mu      sync.Mutex
	flight  *flight       // the fetch under way
	loading chan struct{} // closed when the snapshot has been read; nil: nobody has started to

	unsaved atomic.Int32 // how many fetches the snapshot is behind

	fetches, failures, onDemand, throttled atomic.Uint64
}

// cacheState is what the cache knows between two fetches.
type cacheState struct {
	keys       *keyset.Set // nil: none yet
	roots      string      // a digest of the roots that their origin was verified with
	fetchedAt  keypolicy.Instant
	life       time.Duration // how long they are used before a caller waits for new ones
	refreshAge time.Duration // from which they are refreshed in the background

	issuer      string // as last read in a discovery document; "" if none was
	former      string // the one before it
	formerSince keypolicy.Instant

	failed   int               // attempts in a row that failed, since the last that did not
	failedAt keypolicy.Instant // the last of them
	backoff  time.Duration     // from failedAt to the next attempt
	err      error             // of the last attempt; nil if it succeeded

	unknownKid keypolicy.UnknownKid
}

// fresh reports whether s can be used as it is: "After 70 to 90 % of that time, the
// next use refreshes it in the background".
func (s *cacheState) fresh(now keypolicy.Instant) bool {
	return s.keys != nil && s.err == nil && now.Since(s.fetchedAt) < s.refreshAge
}

// withinLife reports whether s can be used while it is refreshed: "A set is used
// for as long as its max-age says".
func (s *cacheState) withinLife(now keypolicy.Instant) bool {
	return s.keys != nil && now.Since(s.fetchedAt) < s.life
}

// originDown reports whether the last attempt failed, and so recently that the
// origin must be out of reach now: "While the origin is out of reach, the keys at
// hand are used at once … A failed fetch counts for eleven minutes". Without that
// limit, an old failure would let an idle service accept a withdrawn key.
func (s *cacheState) originDown(now keypolicy.Instant) bool {
	return s.err != nil && now.Since(s.failedAt) < keypolicy.RecentFailure
}

// flight is a fetch under way.
type flight struct {
	cause fetchCause
	done  chan struct{} // closed when its result can be used
}

// current returns the keys to verify with. Within the set's life that is one
// atomic load, and it may start a fetch in the background. A set past its life is
// used only after a fetch was tried. A set past maxStale is never used.
func (c *jwksCache) current(ctx context.Context) (_ keysAtHand, waited bool, _ error) {
	s, err := c.load(ctx)
	if err != nil {
		return keysAtHand{}, true, &keysUnavailable{cause: err}
	}
	now := c.now()
	switch {
	case s.fresh(now):
		return c.keysAtHand(s, now), false, nil
	case s.withinLife(now), c.trusted(s, now) && s.originDown(now):
		if c.retryIn(s, now) == 0 { // spares a lock
			c.joinFetch(now)
		}
		return c.keysAtHand(s, now), false, nil
	default:
		if f := c.joinFetch(now); f != nil {
			waited = true
			if err := f.wait(ctx, c.waitLimit(s, now)); err != nil {
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
	f := c.joinFetchForUnknownKid(c.now(), seen)
	if f == nil {
		return false, nil
	}
	if err := f.wait(ctx, nil); err != nil {
		return true, c.unavailable(err)
	}
	return true, nil
}

// latest returns the keys at hand. If the last fetch failed, it returns an error:
// a key that is not among them may be a new one.
func (c *jwksCache) latest() (keysAtHand, error) {
	s, now := c.state.Load(), c.now()
	if s.err != nil || !c.trusted(s, now) {
		return keysAtHand{}, c.unavailable(s.err)
	}
	return c.keysAtHand(s, now), nil
}

// ready returns nil while there are trusted keys. Otherwise it tries to get some,
// as Verify would.
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
func (c *jwksCache) trusted(s *cacheState, now keypolicy.Instant) bool {
	return s.keys != nil && (c.maxStale < 0 || now.Since(s.fetchedAt) < c.maxStale)
}

func (c *jwksCache) keysAtHand(s *cacheState, now keypolicy.Instant) keysAtHand {
	k := keysAtHand{Set: s.keys, issuer: s.issuer}
	if now.Since(s.formerSince) < keypolicy.FormerIssuerLife {
		k.formerIssuer = s.former
	}
	return k
}

// unavailable returns an ErrKeysUnavailable with the reason why there are no keys.
func (c *jwksCache) unavailable(cause error) error {
	if cause == nil {
		cause = errors.New("the keys at hand are older than RemoteKeys.MaxStale")
	}
	s, now := c.state.Load(), c.now()
	return &keysUnavailable{cause: cause, retry: c.retryIn(s, now)}
}

// retryIn is how long to wait before the next attempt after a failure. Without
// keys that is never long, even if there were some when the attempt failed.
func (c *jwksCache) retryIn(s *cacheState, now keypolicy.Instant) time.Duration {
	if s.err == nil {
		return 0
	}
	backoff := s.backoff
	if !c.trusted(s, now) {
		backoff = min(backoff, keypolicy.MaxColdBackoff)
	}
	return max(0, backoff-now.Since(s.failedAt))
}

// load returns the state. At the first use, that is what the snapshot holds. The
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
// that is closed when the state is known. If the file system hangs, the state is
// empty after SnapshotWait.
func (c *jwksCache) startLoading() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loading != nil {
		return c.loading
	}
	c.loading = make(chan struct{})
	giveUp := time.AfterFunc(keypolicy.SnapshotWait, func() {
		c.restore(new(cacheState), fmt.Errorf("the file system has not answered for %v", keypolicy.SnapshotWait))
	})
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), keypolicy.FetchTimeout)
		defer cancel()
		restored, err := c.snapshot.load(ctx, c.now(), c.maxStale)
		giveUp.Stop()
		c.restore(restored, err)
	}()
	return c.loading
}

// restore stores what the snapshot held. If it was read late, it is used only if
// there are no keys yet.
func (c *jwksCache) restore(restored *cacheState, err error) {
	c.mu.Lock()
	last := c.state.Load()
	switch {
	case last == nil:
		c.state.Store(restored)
		close(c.loading)
	case last.keys == nil && restored.keys != nil:
		next := *last
		next.keys, next.fetchedAt = restored.keys, restored.fetchedAt
		next.issuer, next.former, next.formerSince = restored.issuer, restored.former, restored.formerSince
		c.state.Store(&next)
	default:
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	c.snapshot.report(restored, err, c.logger)
}

// joinFetch returns the fetch under way, or starts one if the last failure is long
// enough ago. Otherwise it returns nil.
func (c *jwksCache) joinFetch(now keypolicy.Instant) *flight {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.state.Load()
	switch {
	case c.flight != nil:
		return c.flight
	case c.retryIn(s, now) > 0:
		return nil
	case s.fresh(now):
		return nil // another caller's fetch ended since this one looked
	case s.err != nil:
		return c.startFetch(causeRetry)
	case s.keys == nil:
		return c.startFetch(causeFirst)
	default:
		return c.startFetch(causeRefresh)
	}
}

// joinFetchForUnknownKid is joinFetch for a kid that is not among the keys seen.
func (c *jwksCache) joinFetchForUnknownKid(now keypolicy.Instant, seen keysAtHand) *flight {
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
	case s.unknownKid.Wait(now) > 0:
		c.throttled.Add(1)
		return nil
	default:
		c.onDemand.Add(1)
		return c.startFetch(causeOnDemand)
	}
}

// startFetch starts a fetch with its own context: a caller that gives up does not
// end it for the others. The caller holds c.mu.
func (c *jwksCache) startFetch(cause fetchCause) *flight {
	f := &flight{cause: cause, done: make(chan struct{})}
	c.flight = f
	ctx, cancel := context.WithTimeout(context.Background(), keypolicy.FetchTimeout)
	// The fetch may run through a RoundTripper that ignores its context.
	giveUp := time.AfterFunc(keypolicy.FetchTimeout, func() {
		c.finishFetch(f, fetched{}, fmt.Errorf("no answer within %v", keypolicy.FetchTimeout))
	})
	go func() {
		defer cancel()
		defer giveUp.Stop()
		// It does something only after a runtime.Goexit in a RoundTripper.
		defer c.finishFetch(f, fetched{}, errors.New("the fetch ended without an answer"))
		got, err := c.fetchSafely(ctx, cause)
		c.finishFetch(f, got, err)
	}()
	return f
}

// fetchSafely turns a panic into an error. It may come from the user's Transport.
func (c *jwksCache) fetchSafely(ctx context.Context, cause fetchCause) (got fetched, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("fetching panicked with a %T", p)
		}
	}()
	return c.fetch(ctx, cause)
}

// waitLimit limits how long a caller waits for newer keys, if the last attempt
// failed and there are keys to go on with: "a service that was idle for longer
// waits three seconds for an answer". Otherwise it is nil, and the wait ends with
// the fetch.
func (c *jwksCache) waitLimit(s *cacheState, now keypolicy.Instant) <-chan time.Time {
	if s.err != nil && c.trusted(s, now) {
		return time.After(keypolicy.StaleWait)
	}
	return nil
}

// wait returns when f has ended or limit has passed, or with ctx's error. A fetch
// ends within FetchTimeout, whatever it does.
func (f *flight) wait(ctx context.Context, limit <-chan time.Time) error {
	select {
	case <-f.done:
		return nil
	case <-limit:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// finishFetch stores the result of f and releases those who wait for it. Only then
// does it use a log or a disk, which may hang. If f was given up on, its late
// answer changes nothing.
func (c *jwksCache) finishFetch(f *flight, got fetched, err error) {
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
		next = c.afterSuccess(last, now, f.cause, got)
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

// save writes the snapshot. If another goroutine is writing it, that one writes it
// again.
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

func (c *jwksCache) afterFailure(s *cacheState, now keypolicy.Instant, cause fetchCause, err error) *cacheState {
	next := *s
	next.failed++
	next.failedAt, next.err = now, err
	if cause == causeOnDemand {
		next.unknownKid = s.unknownKid.AfterFailure()
	}
	var retryAfter time.Duration
	if asked, ok := errors.AsType[*retryAfterError](err); ok {
		retryAfter = asked.after
	}
	if c.trusted(s, now) {
		next.backoff = keypolicy.Backoff(next.failed, retryAfter)
	} else {
		next.backoff = keypolicy.ColdBackoff(next.failed, retryAfter)
	}
	return &next
}

func (c *jwksCache) afterSuccess(s *cacheState, now keypolicy.Instant, cause fetchCause, got fetched) *cacheState {
	next := *s
	next.keys, next.fetchedAt = got.keys, now // replaced, never merged: a key that is gone is gone
	next.roots = got.roots
	next.life = keypolicy.Life(got.maxAge, c.maxStale)
	next.refreshAge = keypolicy.RefreshAge(next.life)
	next.failed, next.backoff, next.err = 0, 0, nil
	if got.issuer != "" && got.issuer != s.issuer {
		next.former, next.formerSince = s.issuer, now
		next.issuer = got.issuer
	}
	if cause == causeOnDemand || s.unknownKid.RetryPending {
		next.unknownKid = next.unknownKid.AfterSuccess(now)
	}
	if next.issuer != s.issuer || !next.keys.SameKeys(s.keys) {
		next.unknownKid = next.unknownKid.AfterChange()
	}
	return &next
}

// log logs what a fetch changed: the keys in use, those that can't be used, and the
// issuer. Then it logs the fetch: whoever has read that line has read them all.
func (c *jwksCache) log(cause fetchCause, last, next *cacheState) {
	if next.err != nil {
		c.logger.Warn("kubejwt: fetching keys failed", "cause", string(cause), "error", next.err,
			"failures", next.failed, "retry_in", next.backoff, "keys_at_hand", next.keys != nil)
		return
	}
	if last.err != nil {
		c.logger.Info("kubejwt: keys can be fetched again", "failures", last.failed)
	}
	logChange(c.logger, last.keys, next.keys)
	if next.issuer != last.issuer {
		const most = 512 // bytes of what a document may say at any length
		c.logger.Info("kubejwt: the discovery document names the issuer",
			"issuer", quote.Text(most, next.issuer), "before", quote.Text(most, last.issuer))
		c.onIssuerChange(next.issuer)
	}
	logDropped(c.logger, last.keys, next.keys)
	c.logger.Debug("kubejwt: fetched keys", "cause", string(cause), "keys", len(next.keys.Keys), "life", next.life)
}

// logChange logs which keys were added and removed since the last set, which is
// nil if there was none.
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

// logDropped logs the keys of a set that are not used, unless the last set, nil if
// there was none, had the same ones.
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
		return // not in use yet
	}
	s.LastError = state.err
	if state.err != nil {
		s.NextFetch = now.Wall.Add(c.retryIn(state, now))
	}
	if state.keys == nil {
		return
	}
	s.KeyIDs = state.keys.IDs()
	s.FetchedAt = state.fetchedAt.Wall
	if c.maxStale >= 0 {
		s.StaleAt = state.fetchedAt.Wall.Add(c.maxStale)
	}
	if state.err == nil {
		s.NextFetch = state.fetchedAt.Wall.Add(state.refreshAge)
	}
}
