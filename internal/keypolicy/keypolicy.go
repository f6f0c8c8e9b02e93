// Package keypolicy says when fetched keys are refreshed, retried and dropped. It
// has the rules of "Keys and outages" in the documentation of package kubejwt, as
// numbers and as functions of values. It starts nothing and waits for nothing.
package keypolicy

import (
	"math/rand/v2"
	"time"
)

// "A set is used for as long as its max-age says, but for at least 5 minutes and at
// most an hour (15 minutes if there is none)."
const (
	MinLife     = 5 * time.Minute // an external signer's max-age counts down to 0
	MaxLife     = time.Hour
	DefaultLife = 15 * time.Minute
)

// How long somebody waits.
const (
	FetchTimeout = 10 * time.Second // for a whole fetch
	StaleWait    = 3 * time.Second  // for a fetch, if there are old keys to go on with
	SnapshotWait = time.Second      // for the snapshot, if its file system hangs
)

// "A failed fetch is tried again after a random time, of up to a second at first and
// up to 5 minutes later. A Retry-After in the answer is respected, up to 10 minutes.
// While there are no keys, both limits are 30 seconds."
const (
	MinBackoff     = time.Second
	MaxBackoff     = 5 * time.Minute
	MaxRetryAfter  = 10 * time.Minute
	MaxColdBackoff = 30 * time.Second // while there are no keys, for Retry-After too
)

// RecentFailure is how long a failure means that the origin is out of reach: the
// longest pause, and the attempt that ends it. "A failed fetch counts for eleven
// minutes."
const RecentFailure = MaxRetryAfter + time.Minute

// How long keys and issuers are trusted.
const (
	DefaultMaxStale  = 24 * time.Hour // keys that can't be refreshed
	MinMaxStale      = 5 * time.Minute
	FormerIssuerLife = 24 * time.Hour // a learnt issuer, after it has changed
)

// An Instant is one moment on two clocks. One never goes back, but may stand still
// while the machine sleeps. The other can be set.
type Instant struct{ Mono, Wall time.Time }

// Now is this moment.
func Now() Instant { return At(time.Now()) }

// At is the moment of t, which has a monotonic clock reading.
func At(t time.Time) Instant { return Instant{Mono: t, Wall: t.Round(0)} }

// Since is the time since then. If the two clocks differ it is the longer time, so
// that setting a clock back never makes keys younger.
func (i Instant) Since(then Instant) time.Duration {
	return max(i.Mono.Sub(then.Mono), i.Wall.Sub(then.Wall))
}

// Before is the moment when the settable clock showed wall, if no clock was set
// since then.
func (i Instant) Before(wall time.Time) Instant {
	return Instant{Mono: i.Mono.Add(-i.Wall.Sub(wall)), Wall: wall}
}

// Life is how long a set is used before a caller waits for a new one. A negative
// maxAge means that there is none, and a negative maxStale means for ever.
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

// RefreshAge is the age from which a set is refreshed in the background: "After 70
// to 90 % of that time".
func RefreshAge(life time.Duration) time.Duration {
	return life*7/10 + rand.N(life*2/10)
}

// Backoff is the pause after a number of failures in a row, while there are keys to
// go on with. For the first failure the number is 1. The pause is longer if the
// origin asked for that with retryAfter.
func Backoff(failures int, retryAfter time.Duration) time.Duration {
	return max(jittered(failures, MaxBackoff), min(retryAfter, MaxRetryAfter))
}

// ColdBackoff is Backoff while there are no keys.
func ColdBackoff(failures int, retryAfter time.Duration) time.Duration {
	return max(jittered(failures, MaxColdBackoff), min(retryAfter, MaxColdBackoff))
}

// jittered grows threefold with each failure: with twofold, an origin that is down
// gets 40 % more requests. Full jitter spreads out ten thousand services that failed
// at the same time.
func jittered(failures int, most time.Duration) time.Duration {
	ceiling := MinBackoff
	for i := 1; i < failures && ceiling < most; i++ {
		ceiling = min(3*ceiling, most)
	}
	return rand.N(ceiling)
}

// Fetches for unknown kids: "While they bring nothing new, the gaps between them are
// at least 10, 20, 40 and then 60 seconds. Each gap is longer than that by up to a
// half, at random."
const (
	MinUnknownKidGap = 10 * time.Second
	MaxUnknownKidGap = time.Minute
	MaxStretch       = 0.5
)

// UnknownKid limits the fetches for unknown kids. The zero value lets the first one
// start at once.
type UnknownKid struct {
	At  Instant       // the end of the last successful fetch for an unknown kid
	Gap time.Duration // from then to the next, before it is lengthened; 0: there was no fetch

	// Stretch lengthens each gap by this part of itself. It is drawn at random when
	// the gaps begin anew, and holds for all of them. That way, verifiers that a
	// flood reached at the same moment drift apart more evenly than if each gap had
	// its own.
	Stretch float64

	// RetryPending is set after such a fetch has failed. The next fetch that
	// succeeds then counts as one for an unknown kid. Otherwise an origin that
	// answers every other time would be asked without a gap.
	RetryPending bool
}

// Wait is how long to wait before the next fetch for an unknown kid. It is zero or
// negative if the fetch may start now.
func (u UnknownKid) Wait(now Instant) time.Duration {
	return u.Gap + time.Duration(float64(u.Gap)*u.Stretch) - now.Since(u.At)
}

// AfterFailure notes that a fetch for an unknown kid has failed.
func (u UnknownKid) AfterFailure() UnknownKid {
	u.RetryPending = true
	return u
}

// AfterSuccess notes that a fetch has succeeded, either for an unknown kid or as the
// retry of one that had failed.
func (u UnknownKid) AfterSuccess(now Instant) UnknownKid {
	if u.Gap == 0 {
		u.Stretch = rand.Float64() * MaxStretch
	}
	u.Gap = min(max(MinUnknownKidGap, 2*u.Gap), MaxUnknownKidGap)
	u.At = now
	u.RetryPending = false
	return u
}

// AfterChange notes that a fetch brought something new. If there are gaps, they
// begin anew.
func (u UnknownKid) AfterChange() UnknownKid {
	if u.Gap > 0 {
		u.Gap, u.Stretch = MinUnknownKidGap, rand.Float64()*MaxStretch
	}
	return u
}
