// Package keypolicy says when fetched keys are refreshed, retried and dropped:
// the rules of "Keys and outages" in the documentation of package kubejwt, in
// numbers and as functions of values. It starts nothing and waits for nothing.
package keypolicy

import (
	"math/rand/v2"
	"time"
)

// "A set serves for as long as its max-age says, from 5 minutes to an hour (15
// minutes if it does not say)."
const (
	MinLife     = 5 * time.Minute // an external signer's max-age counts down to 0
	MaxLife     = time.Hour
	DefaultLife = 15 * time.Minute
)

// How long somebody waits.
const (
	FetchTimeout = 10 * time.Second // for a fetch in all, and so a caller for keys
	StaleWait    = 3 * time.Second  // a caller that can go on with old keys, after a failure long past
	SnapshotWait = time.Second      // for a file system that hangs under the snapshot
)

// "A failed fetch is tried again after a random time, at first of up to a
// second, later of up to 5 minutes, or when Retry-After says, for which 10
// minutes are waited at most; while there are no keys, 30 seconds."
const (
	MinBackoff     = time.Second
	MaxBackoff     = 5 * time.Minute
	MaxRetryAfter  = 10 * time.Minute
	MaxColdBackoff = 30 * time.Second // while there are no keys, for Retry-After too
)

// RecentFailure is how long a failure says that the origin is out of reach: the
// longest pause, and the attempt that ends it. "A failure counts for eleven
// minutes."
const RecentFailure = MaxRetryAfter + time.Minute

// How long keys and issuers are trusted.
const (
	DefaultMaxStale  = 24 * time.Hour // keys that can't be refreshed
	MinMaxStale      = 5 * time.Minute
	FormerIssuerLife = 24 * time.Hour // a learnt issuer, after it has changed
)

// An Instant is one moment on two clocks: one that never goes back and may stand
// still while the machine sleeps, and one that can be set.
type Instant struct{ Mono, Wall time.Time }

// Now is this moment.
func Now() Instant { return At(time.Now()) }

// At is the moment of t, which has a monotonic clock reading.
func At(t time.Time) Instant { return Instant{Mono: t, Wall: t.Round(0)} }

// Since is the larger of what the two clocks say has passed since then, so that
// setting a clock back never makes keys younger.
func (i Instant) Since(then Instant) time.Duration {
	return max(i.Mono.Sub(then.Mono), i.Wall.Sub(then.Wall))
}

// Before is the moment when the settable clock showed wall, as both clocks would
// have shown it had neither been set since.
func (i Instant) Before(wall time.Time) Instant {
	return Instant{Mono: i.Mono.Add(-i.Wall.Sub(wall)), Wall: wall}
}

// Life is how long a set serves before a caller waits for a new one. A maxAge
// below zero is none, and a maxStale below zero is for ever.
func Life(maxAge, maxStale time.Duration) time.Duration {
	life := DefaultLife
	if maxAge >= 0 {
		life = min(max(maxAge, MinLife), MaxLife)
	}
	if maxStale > 0 {
		life = min(life, maxStale)
	}
	return life
}

// RefreshAge is the age from which a set is refreshed in the background: "after
// 70 to 90 % of that".
func RefreshAge(life time.Duration) time.Duration {
	return life*7/10 + rand.N(life*2/10)
}

// Backoff is the pause after so many failures in a row, the first of which is 1,
// while there are keys to serve with. The origin may have asked for a longer one.
func Backoff(failures int, retryAfter time.Duration) time.Duration {
	return max(jittered(failures, MaxBackoff), min(retryAfter, MaxRetryAfter))
}

// ColdBackoff is Backoff while there are no keys.
func ColdBackoff(failures int, retryAfter time.Duration) time.Duration {
	return max(jittered(failures, MaxColdBackoff), min(retryAfter, MaxColdBackoff))
}

// jittered grows threefold with each failure: twofold asks 40 % more of an origin
// that is down. Full jitter keeps ten thousand services apart that failed
// together.
func jittered(failures int, most time.Duration) time.Duration {
	ceiling := MinBackoff
	for i := 1; i < failures && ceiling < most; i++ {
		ceiling = min(3*ceiling, most)
	}
	return rand.N(ceiling)
}

// Fetches for unknown kids have gaps of at least 10, 20, 40 and 60 seconds while
// they bring nothing new. "Each gap is longer than that by up to a half, at
// random."
const (
	MinUnknownKidGap = 10 * time.Second
	MaxUnknownKidGap = time.Minute
	MaxStretch       = 0.5
)

// UnknownKid bounds the fetches for unknown kids. The zero value lets the first
// one start at once.
type UnknownKid struct {
	At  Instant       // the end of the last successful fetch for one
	Gap time.Duration // from then to the next, before it is lengthened; 0: there was none

	// Stretch lengthens each gap by this part of itself. It is drawn at random
	// when the gaps begin anew and holds for all of them: verifiers that a flood
	// has reached at one moment drift apart more evenly than with a draw each.
	Stretch float64

	// RetryPending is set after such a fetch has failed. The success that makes
	// it good counts as one of them, or an origin that answers every other time
	// would be asked without a gap.
	RetryPending bool
}

// Wait is how long to leave the origin alone before the next fetch for an unknown
// kid; not above zero if it may start now.
func (u UnknownKid) Wait(now Instant) time.Duration {
	return u.Gap + time.Duration(float64(u.Gap)*u.Stretch) - now.Since(u.At)
}

// AfterFailure notes that a fetch for an unknown kid has failed.
func (u UnknownKid) AfterFailure() UnknownKid {
	u.RetryPending = true
	return u
}

// AfterSuccess notes a fetch that has succeeded, for an unknown kid or in place
// of one that had failed.
func (u UnknownKid) AfterSuccess(now Instant) UnknownKid {
	if u.Gap == 0 {
		u.Stretch = rand.Float64() * MaxStretch
	}
	u.Gap = min(max(MinUnknownKidGap, 2*u.Gap), MaxUnknownKidGap)
	u.At = now
	u.RetryPending = false
	return u
}

// AfterChange notes that a fetch brought something new: the gaps, if there are
// any, begin anew.
func (u UnknownKid) AfterChange() UnknownKid {
	if u.Gap > 0 {
		u.Gap, u.Stretch = MinUnknownKidGap, rand.Float64()*MaxStretch
	}
	return u
}
