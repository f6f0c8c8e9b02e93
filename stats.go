package kubejwt

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Stats says what a [Verifier] has done and what keys it has, for metrics and
// debugging. A Verifier and its copies by [Verifier.WithServiceAccounts] share
// one Stats. For a joined Verifier the counters are sums, and each time is the
// earliest of its members.
type Stats struct {
	KeyIDs    []string  // of the keys in use, sorted
	FetchedAt time.Time // when they were fetched, or a KeyFile last read without an error; zero: never
	NextFetch time.Time // the earliest next fetch, except for an unknown kid; zero: none is planned
	StaleAt   time.Time // when they stop being trusted; zero: never
	LastError error     // of the last fetch, or of the last read of the KeyFile; nil if it succeeded

	Fetches             uint64 // fetches that ended, failed ones included
	FetchFailures       uint64 // fetches that failed
	UnknownKeyFetches   uint64 // fetches that an unknown kid or issuer set off
	UnknownKeyThrottled uint64 // fetches for an unknown kid or issuer that were not made, since the last was too recent

	Accepted        uint64            // tokens that were accepted
	NotAllowed      uint64            // good tokens whose service account may not call
	KeysUnavailable uint64            // tokens that were not judged, since there were no keys
	Undecided       uint64            // good tokens that Config.Check could not decide on
	Refused         map[Reason]uint64 // tokens that were refused, by Reason; never nil

	Remembered     int    // verified tokens that are remembered now
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

// earliest returns the earlier of two times. A zero time counts as none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
