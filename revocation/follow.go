package revocation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/kubejwt/kubejwt"
)

const (
	minDelay = 200 * time.Millisecond
	// firstDelay is the longest wait after an open stream has ended.
	firstDelay = time.Second
	// secondDelay is the longest wait, beyond minDelay, after one failed attempt.
	secondDelay = 2 * time.Second
	// turnEvery is how often a Watcher tries while the API server is away. With it, fewer
	// than 2 % of 10,000 services come in the same second.
	turnEvery = 70 * time.Second
	// deniedEvery is how often it tries while it has never been granted a list. Somebody
	// who has just applied the Role is waiting for it.
	deniedEvery = 30 * time.Second
	// steady is how long a stream has to last so that it does not count as brief.
	steady = 10 * time.Second
	// pageSize is the size of a list's pages, if the API server has no WatchList.
	pageSize = 500
	// maxPages leaves room for pages that are not full.
	maxPages = 4 * maxObjects / pageSize
)

// A stream follows one resource, for as long as Run runs.
type stream struct {
	resource
	watcher *Watcher

	// Guarded by Watcher.mu; the view is changed by the stream alone.
	view      view
	denied    error // the API server refused the very first list; nil since it did not
	lastError error // of the last attempt; nil while a stream stands
	lists     uint64
	events    uint64
	failures  uint64

	told string // the failure that the log tells of; "": none. Of the stream alone
}

// follow keeps the view up to date until ctx ends.
func (s *stream) follow(ctx context.Context) {
	tried := sync.OnceFunc(s.watcher.noteTried)
	defer tried()
	failed, brief := 0, 0 // attempts in a row without a stream, and streams in a row that did not last
	for ctx.Err() == nil {
		start := time.Now()
		listed, err := s.attempt(ctx, tried)
		if ctx.Err() != nil {
			return
		}
		stood := listed && time.Since(start) > steady
		switch {
		case !listed:
			failed++
		case stood:
			failed, brief = 0, 0
		default:
			failed, brief = 0, brief+1
		}
		s.fail(err)
		if !stood { // all streams end; if something is wrong, the next attempt fails
			s.tell(err)
		}
		tried()
		wait(ctx, s.delay(max(failed, brief-2), err))
	}
}

// delay is how long to wait after so many failed attempts in a row.
//
// The first two attempts follow soon: connections break. If both fail, the API
// server is away, and so it is for everybody else. From then on each Watcher,
// with all its streams, has a turn of its own, so that a fleet comes back evenly.
func (s *stream) delay(failed int, err error) time.Duration {
	every := turnEvery
	if s.isDenied() {
		every = deniedEvery
	}
	var next time.Duration
	switch failed {
	case 0:
		next = rand.N(firstDelay)
	case 1:
		next = minDelay + rand.N(secondDelay)
	default:
		next = max(minDelay, every-time.Since(s.watcher.turn)%every)
	}
	if after := retryAfter(err); after > 0 {
		return min(max(next, after+rand.N(time.Second)), turnEvery)
	}
	return next
}

func (s *stream) isDenied() bool {
	s.watcher.mu.RLock()
	defer s.watcher.mu.RUnlock()
	return s.denied != nil
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

var errSilent = fmt.Errorf("nothing was heard for %v", maxSilence)

// attempt lists and watches until the stream ends, which is always with an
// error. It reports whether there was a stream. tried is called once there is a list.
//
// Each attempt starts afresh. Resuming from a resource version can fail with 410 or
// bring a backlog. After etcd was restored from a backup, it can be silent for ever.
func (s *stream) attempt(ctx context.Context, tried func()) (listed bool, err error) {
	defer func() {
		if p := recover(); p != nil { // it may come from the user's Transport
			err = fmt.Errorf("watching panicked with a %T", p)
		}
	}()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(maxSilence, func() { cancel(errSilent) })
	defer watchdog.Stop()
	last := time.Now()
	alive := func() error {
		now := time.Now()
		silence := elapsed(last, now)
		last = now
		watchdog.Reset(maxSilence)
		if silence > maxSilence {
			return errSilent // this machine slept: what arrives now is old
		}
		return nil
	}

	listed, err = s.watchList(ctx, tried, alive)
	if lacksWatchList(err) {
		listed, err = s.listAndWatch(ctx, tried, alive)
	}
	if context.Cause(ctx) == errSilent {
		err = errSilent
	}
	return listed, err
}

// watchList lets the watch itself begin with the list. Without a resource version that
// is a consistent read.
func (s *stream) watchList(ctx context.Context, tried func(), alive func() error) (listed bool, err error) {
	query := make(url.Values)
	query.Set("watch", "true")
	query.Set("allowWatchBookmarks", "true")
	query.Set("sendInitialEvents", "true")
	query.Set("resourceVersionMatch", "NotOlderThan")
	requested := time.Now() // before the request: what is deleted later may be listed or not
	body, err := s.watcher.apiServer.get(ctx, s.resource, query, formObjects)
	if err != nil {
		return false, err
	}
	defer body.Close()
	d := newDecoder(body)
	var list view
	for {
		e, err := nextEvent(d, alive)
		if err != nil {
			return false, err
		}
		if e.endsList() {
			break
		}
		if err := s.initial(&list, &e); err != nil {
			return false, err
		}
	}
	if err := s.complete(list.live, requested); err != nil {
		return false, err
	}
	tried()
	return true, s.watch(d, alive)
}

func nextEvent(d *decoder, alive func() error) (event, error) {
	e, err := d.event()
	if err == nil {
		err = alive()
	}
	return e, err
}

// initial takes an event that belongs to the list.
func (s *stream) initial(list *view, e *event) error {
	if e.Type == "BOOKMARK" {
		return nil
	}
	uid, deletion, err := e.check()
	if err != nil {
		return err
	}
	if e.Type == "DELETED" {
		// The list catches up with the present. This is final, even if the list
		// never ends.
		delete(list.live, uid)
		return s.update(func(v *view) error { return v.remove(uid, time.Now()) })
	}
	return list.put(uid, deletion)
}

// listAndWatch is for API servers without WatchList: a list in pages, and a
// watch from there.
func (s *stream) listAndWatch(ctx context.Context, tried func(), alive func() error) (listed bool, err error) {
	requested := time.Now()
	var list view
	version, err := s.listPages(ctx, &list, alive)
	if err != nil {
		return false, err
	}
	query := make(url.Values)
	query.Set("watch", "true")
	query.Set("allowWatchBookmarks", "true")
	query.Set("resourceVersion", version)
	if err := s.complete(list.live, requested); err != nil {
		return false, err
	}
	tried()
	body, err := s.watcher.apiServer.get(ctx, s.resource, query, formObjects)
	if err != nil {
		return false, err
	}
	defer body.Close()
	return true, s.watch(newDecoder(body), alive)
}

func (s *stream) listPages(ctx context.Context, list *view, alive func() error) (version string, err error) {
	query := make(url.Values)
	query.Set("limit", strconv.Itoa(pageSize))
	for range maxPages {
		body, err := s.watcher.apiServer.get(ctx, s.resource, query, formList)
		if err != nil {
			return "", err
		}
		version, next, err := readList(body, func(o *object) error {
			uid, deletion, err := o.key()
			if err != nil {
				return err
			}
			return list.put(uid, deletion)
		})
		body.Close()
		if err == nil {
			err = alive()
		}
		if err != nil || next == "" {
			return version, err
		}
		query.Set("continue", next)
	}
	return "", errTooMany
}

// watch takes the events after the list. It ends with an error.
func (s *stream) watch(d *decoder, alive func() error) error {
	if s.told != "" {
		s.told = ""
		s.watcher.logger.Info("kubejwt: revocation: watching again", "resource", s.String())
	}
	for {
		e, err := nextEvent(d, alive)
		if err != nil {
			return err
		}
		if e.Type == "BOOKMARK" {
			s.update(func(v *view) error { v.heard(time.Now()); return nil })
			continue
		}
		uid, deletion, err := e.check()
		if err != nil {
			return err
		}
		if err := s.update(func(v *view) error { return v.change(e.Type, uid, deletion, time.Now()) }); err != nil {
			return err
		}
	}
}

func (s *stream) update(change func(*view) error) error {
	s.watcher.mu.Lock()
	defer s.watcher.mu.Unlock()
	s.events++
	return change(&s.view)
}

// complete takes a complete list. The new view is made while others read the
// old one.
func (s *stream) complete(list map[string]int64, requested time.Time) error {
	next := s.view.listed(list, requested, time.Now())
	if next.size() > maxObjects {
		return errTooMany // lists that have nothing in common would add up
	}
	s.watcher.mu.Lock()
	defer s.watcher.mu.Unlock()
	s.view, s.denied, s.lastError = next, nil, nil
	s.lists++
	return nil
}

// fail notes why an attempt has ended.
func (s *stream) fail(err error) {
	s.watcher.mu.Lock()
	defer s.watcher.mu.Unlock()
	s.failures++
	s.lastError = err
	if denies(err) && s.view.asOf.IsZero() {
		s.denied = fmt.Errorf("%w: revocation: %s: %w", kubejwt.ErrUndecided, s, err)
	}
}

// tell logs why an attempt has ended, once for each cause.
func (s *stream) tell(err error) {
	if s.told == err.Error() {
		return
	}
	s.told = err.Error()
	logger := s.watcher.logger.With("resource", s.String(), "error", err)
	if !denies(err) {
		logger.Warn("kubejwt: revocation: a watch ended, and is tried again")
		return
	}
	what := "deletions are no longer seen"
	if s.isDenied() {
		what = "so that no token is accepted"
	}
	logger.Warn("kubejwt: revocation: the API server refuses the list and watch, "+what+": "+
		"apply this role, and bind it to this service's own service account",
		"role", missingRole(s.namespace, s.watcher.accounts))
}
