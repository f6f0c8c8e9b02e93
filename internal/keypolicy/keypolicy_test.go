package keypolicy

import (
	"testing"
	"time"
)

func TestSince(t *testing.T) {
	now := Now()
	for _, tt := range []struct {
		name       string
		mono, wall time.Duration // that have passed
		want       time.Duration
	}{
		{"both clocks agree", time.Hour, time.Hour, time.Hour},
		{"the clock was set back", time.Hour, -time.Hour, time.Hour},
		{"the machine slept", 0, time.Hour, time.Hour},
		{"the clock was set forward", time.Minute, time.Hour, time.Hour},
	} {
		then := Instant{now.Mono.Add(-tt.mono), now.Wall.Add(-tt.wall)}
		if got := now.Since(then); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	// What was saved a while ago grows older on each of the clocks alone.
	then := now.Before(now.Wall.Add(-time.Hour))
	for name, later := range map[string]Instant{
		"monotonic": {now.Mono.Add(time.Minute), now.Wall.Add(-24 * time.Hour)},
		"wall":      {now.Mono, now.Wall.Add(time.Minute)},
	} {
		if got := later.Since(then); got != time.Hour+time.Minute {
			t.Errorf("by the %s clock: %v, want 1h1m", name, got)
		}
	}
}

// One clock can be set, and the other never goes back.
func TestNow(t *testing.T) {
	at := time.Now()
	if got := At(at); got.Mono != at || got.Wall != at.Round(0) || got.Wall == at {
		t.Errorf("%v, want %v by both clocks", got, at)
	}
	if now := Now(); now.Mono.Before(at) || now.Wall == now.Mono {
		t.Errorf("%v, want what comes after %v by both clocks", now, at)
	}
}

func TestLife(t *testing.T) {
	for _, tt := range []struct{ maxAge, maxStale, want time.Duration }{
		{-1, DefaultMaxStale, DefaultLife},
		{0, DefaultMaxStale, MinLife},
		{time.Second, DefaultMaxStale, MinLife},
		{MinLife + 1, DefaultMaxStale, MinLife + 1},
		{10 * time.Minute, DefaultMaxStale, 10 * time.Minute},
		{24 * time.Hour, DefaultMaxStale, MaxLife},
		{time.Hour, MinMaxStale, MinMaxStale},
		{-1, MinMaxStale, MinMaxStale},
		{time.Hour, -1, MaxLife},
	} {
		if got := Life(tt.maxAge, tt.maxStale); got != tt.want {
			t.Errorf("Life(%v, %v) = %v, want %v", tt.maxAge, tt.maxStale, got, tt.want)
		}
	}
}

const draws = 10_000

// mustSpread wants draws all over a range, evenly.
func mustSpread(t *testing.T, name string, from, to time.Duration, draw func() time.Duration) {
	t.Helper()
	var quarters [4]int
	for range draws {
		d := draw()
		if d < from || d >= to {
			t.Fatalf("%s: %v, want from %v to %v", name, d, from, to)
		}
		quarters[4*(d-from)/(to-from)]++
	}
	for _, n := range quarters {
		if n < draws/5 || n > draws*3/10 {
			t.Errorf("%s: %d in the four quarters from %v to %v", name, quarters, from, to)
		}
	}
}

func TestRefreshAge(t *testing.T) {
	mustSpread(t, "an hour", 42*time.Minute, 54*time.Minute, func() time.Duration { return RefreshAge(time.Hour) })
}

func TestBackoff(t *testing.T) {
	for _, tt := range []struct {
		name     string
		backoff  func(int, time.Duration) time.Duration
		failures int
		most     time.Duration
	}{
		{"1 failure", Backoff, 1, time.Second},
		{"2 failures", Backoff, 2, 3 * time.Second},
		{"5 failures", Backoff, 5, 81 * time.Second},
		{"6 failures", Backoff, 6, 243 * time.Second},
		{"7 failures", Backoff, 7, 5 * time.Minute},
		{"1000 failures", Backoff, 1000, 5 * time.Minute},
		{"1 failure without keys", ColdBackoff, 1, time.Second},
		{"4 failures without keys", ColdBackoff, 4, 27 * time.Second},
		{"5 failures without keys", ColdBackoff, 5, 30 * time.Second},
		{"1000 failures without keys", ColdBackoff, 1000, 30 * time.Second},
	} {
		mustSpread(t, tt.name, 0, tt.most, func() time.Duration { return tt.backoff(tt.failures, 0) })
	}
	for _, tt := range []struct {
		name        string
		backoff     func(int, time.Duration) time.Duration
		asked, want time.Duration
	}{
		{"as long as was asked", Backoff, time.Minute, time.Minute},
		{"10 minutes at most", Backoff, 24 * time.Hour, 10 * time.Minute},
		{"as long as was asked, without keys", ColdBackoff, 20 * time.Second, 20 * time.Second},
		{"30 seconds at most without keys", ColdBackoff, time.Hour, 30 * time.Second},
	} {
		if got := tt.backoff(1, tt.asked); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	// What was asked for shortens nothing.
	mustSpread(t, "a short Retry-After", time.Second, 5*time.Minute, func() time.Duration {
		return max(time.Second, Backoff(1000, time.Second))
	})
}

// The gaps of many verifiers are spread evenly over half of themselves, and
// drawn anew when a set changes.
func TestUnknownKid(t *testing.T) {
	now := Now()
	if (UnknownKid{}).Wait(now) > 0 {
		t.Error("the first fetch has to wait")
	}
	if u := (UnknownKid{}).AfterChange(); u != (UnknownKid{}) {
		t.Errorf("%+v after a change, where there was no gap", u)
	}
	for name, begin := range map[string]func() UnknownKid{
		"the first gap":        func() UnknownKid { return UnknownKid{}.AfterSuccess(now) },
		"a gap after a change": func() UnknownKid { return UnknownKid{At: now, Gap: MaxUnknownKidGap}.AfterChange() },
		"after a failure":      func() UnknownKid { return UnknownKid{}.AfterFailure().AfterSuccess(now) },
	} {
		mustSpread(t, name, MinUnknownKidGap, MinUnknownKidGap*3/2, func() time.Duration { return begin().Wait(now) })
		u := begin()
		for _, want := range []time.Duration{20 * time.Second, 40 * time.Second, time.Minute, time.Minute} {
			stretch := u.Stretch
			u = u.AfterFailure()
			if !u.RetryPending {
				t.Errorf("%s: no retry is pending after a failure", name)
			}
			if u = u.AfterSuccess(now); u.Gap != want || u.Stretch != stretch || u.RetryPending || u.At != now {
				t.Errorf("%s: %+v, want a gap of %v", name, u, want)
			}
			later := Instant{now.Mono.Add(time.Duration(float64(want) * (1 + stretch))), now.Wall}
			if wait := u.Wait(later); wait.Abs() > time.Microsecond {
				t.Errorf("%s: %v to wait after the gap", name, wait)
			}
		}
	}
}
