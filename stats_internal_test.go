package kubejwt

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Of a joined Verifier the counters are sums and the times the earliest.
func TestJoinedStats(t *testing.T) {
	at := func(seconds int64) time.Time { return time.Unix(seconds, 0) }
	errA, errB := errors.New("a"), errors.New("b")
	joined := Stats{
		KeyIDs: []string{"b", "c"}, FetchedAt: at(3), NextFetch: at(5), StaleAt: at(9), LastError: errA,
		Fetches: 1, FetchFailures: 2, UnknownKeyFetches: 3, UnknownKeyThrottled: 4,
		Accepted: 5, NotAllowed: 6, KeysUnavailable: 7, Undecided: 8,
		Refused:    map[Reason]uint64{ReasonExpired: 9, ReasonStale: 10},
		Remembered: 11, RememberedHits: 12,
	}
	joined.join(Stats{
		KeyIDs: []string{"a", "c"}, FetchedAt: at(2), NextFetch: at(4), StaleAt: at(8), LastError: errB,
		Fetches: 100, FetchFailures: 200, UnknownKeyFetches: 300, UnknownKeyThrottled: 400,
		Accepted: 500, NotAllowed: 600, KeysUnavailable: 700, Undecided: 800,
		Refused:    map[Reason]uint64{ReasonExpired: 900, ReasonLegacy: 1},
		Remembered: 1100, RememberedHits: 1200,
	})
	if !errors.Is(joined.LastError, errA) || !errors.Is(joined.LastError, errB) {
		t.Errorf("LastError = %v", joined.LastError)
	}
	joined.LastError = nil
	want := Stats{
		KeyIDs: []string{"a", "b", "c"}, FetchedAt: at(2), NextFetch: at(4), StaleAt: at(8),
		Fetches: 101, FetchFailures: 202, UnknownKeyFetches: 303, UnknownKeyThrottled: 404,
		Accepted: 505, NotAllowed: 606, KeysUnavailable: 707, Undecided: 808,
		Refused:    map[Reason]uint64{ReasonExpired: 909, ReasonStale: 10, ReasonLegacy: 1},
		Remembered: 1111, RememberedHits: 1212,
	}
	if diff := cmp.Diff(want, joined); diff != "" {
		t.Errorf("joined Stats (-want +got):\n%s", diff)
	}
}

func TestEarliest(t *testing.T) {
	var none time.Time
	early, late := time.Unix(1, 0), time.Unix(2, 0)
	for _, tt := range []struct{ a, b, want time.Time }{
		{none, none, none},
		{none, late, late},
		{late, none, late},
		{early, late, early},
		{late, early, early},
	} {
		if got := earliest(tt.a, tt.b); got != tt.want {
			t.Errorf("earliest(%v, %v) = %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}
