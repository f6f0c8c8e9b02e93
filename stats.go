package kubejwt

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Stats is what a [Verifier] has done and knows, for metrics and debugging.
// Copies made by [Verifier.WithServiceAccounts] count together; of a joined
// Verifier the counters are sums and the times the earliest.
type Stats struct {
	KeyIDs    []string  // of the keys in use, sorted
	FetchedAt time.Time // when they were fetched or, of a KeyFile, last seen in order; zero: never
	NextFetch time.Time // the earliest next fetch, except for an unknown kid; zero: none is planned
	StaleAt   time.Time // from when they are no longer trusted; zero: never
	LastError error     // of the last fetch or look at the KeyFile; nil if it succeeded

	Fetches             uint64 // that ended, well or not
	FetchFailures       uint64 // of those, the ones that failed
	UnknownKeyFetches   uint64 // that an unknown kid or issuer set off
	UnknownKeyThrottled uint64 // that were not made for one, as the last was too recent

	Accepted        uint64            // tokens
	NotAllowed      uint64            // good tokens of service accounts that are not admitted
	KeysUnavailable uint64            // tokens that could not be judged for want of keys
	Undecided       uint64            // good tokens of which Config.Check could not tell whether they are honoured
	Refused         map[Reason]uint64 // tokens, by Reason; never nil

	Remembered     int    // verified tokens at hand
	RememberedHits uint64 // tokens that needed no check of a signature, NotAllowed ones included
}

// counters are the parts of Stats that Verify counts.
type counters struct {
	accepted, notAllowed, keysUnavailable, undecided, rememberedHits atomic.Uint64

	mu      sync.Mutex // guards refused
	refused map[Reason]uint64
}

func (c *counters) refuse(reason Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused == nil {
		c.refused = make(map[Reason]uint64)
	}
	c.refused[reason]++
}

func (c *counters) addTo(s *Stats) {
	s.Accepted += c.accepted.Load()
	s.NotAllowed += c.notAllowed.Load()
	s.KeysUnavailable += c.keysUnavailable.Load()
	s.Undecided += c.undecided.Load()
	s.RememberedHits += c.rememberedHits.Load()
	c.mu.Lock()
	defer c.mu.Unlock()
	for reason, n := range c.refused {
		s.Refused[reason] += n
	}
}

// join adds a member's Stats to those of a joined Verifier.
func (s *Stats) join(m Stats) {
	s.KeyIDs = slices.Compact(slices.Sorted(slices.Values(append(s.KeyIDs, m.KeyIDs...))))
	s.FetchedAt = earliest(s.FetchedAt, m.FetchedAt)
	s.NextFetch = earliest(s.NextFetch, m.NextFetch)
	s.StaleAt = earliest(s.StaleAt, m.StaleAt)
	s.LastError = errors.Join(s.LastError, m.LastError)
	s.Fetches += m.Fetches
	s.FetchFailures += m.FetchFailures
	s.UnknownKeyFetches += m.UnknownKeyFetches
	s.UnknownKeyThrottled += m.UnknownKeyThrottled
	s.Accepted += m.Accepted
	s.NotAllowed += m.NotAllowed
	s.KeysUnavailable += m.KeysUnavailable
	s.Undecided += m.Undecided
	for reason, n := range m.Refused {
		s.Refused[reason] += n
	}
	s.Remembered += m.Remembered
	s.RememberedHits += m.RememberedHits
}

// earliest of two times that are zero if there is none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
