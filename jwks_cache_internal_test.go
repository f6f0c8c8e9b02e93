package kubejwt

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubejwt/kubejwt/internal/jws"
	"github.com/kubejwt/kubejwt/internal/keypolicy"
	"github.com/kubejwt/kubejwt/internal/keyset"
	"github.com/kubejwt/kubejwt/internal/safelog"
)

func TestColdStart(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.mustFetches(0) // making a Verifier asks nobody
		token := s.mint("old")
		alongside(1000, func(int) {
			if err := s.verify(token); err != nil {
				t.Error(err)
			}
		})
		s.mustFetches(1)
		s.mustKnowAtOnce("old")
		s.mustFetches(0)
	})
}

func TestColdStartWithoutOrigin(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.failWith(errors.New("connection refused"))
		s.mustBeUnavailable("old")
		s.mustFetches(1)
		if err := s.verifier.Ready(t.Context()); !errors.Is(err, ErrKeysUnavailable) {
			t.Errorf("Ready = %v", err)
		}
		for range 3600 { // an hour, asked each second
			time.Sleep(time.Second)
			s.verify(s.mint("old"))
		}
		// Full jitter of 30 s at most, and no less often than each 30 s.
		if n := s.fetches(); n < 120 || n > 400 {
			t.Errorf("%d attempts in an hour without keys", n)
		}
		s.recover()
		s.latency = keypolicy.FetchTimeout - time.Second // for the first keys a caller waits as long as it takes
		time.Sleep(keypolicy.MaxColdBackoff)
		s.mustKnow("old")
		if err := s.verifier.Ready(t.Context()); err != nil {
			t.Errorf("Ready = %v", err)
		}
	})
}

func TestBackgroundRefresh(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.mustKnow("old")
		s.mustFetches(1)
		// 70 to 90 % of an hour: 24 hours of traffic take 26 to 34 fetches.
		s.busyFor(24*time.Hour, "old")
		if n := s.fetches(); n < 26 || n > 34 {
			t.Errorf("%d fetches in a day", n)
		}
		for _, cause := range s.causes {
			if cause != causeRefresh {
				t.Errorf("a fetch for %q", cause)
			}
		}
	})
}

func TestPrePublishedRotation(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.mustKnow("old")
		s.publish("new") // and nobody signs with it for an hour
		s.busyFor(time.Hour, "old")
		s.withdraw("old")
		s.busyFor(2*time.Hour, "new")
		s.settle() // the last of them may have set off a refresh
		s.mustNotKnow("old")
		if n := s.verifier.Stats().UnknownKeyFetches; n != 1 { // the withdrawn one's
			t.Errorf("%d fetches on demand, want 1, for the withdrawn key", n)
		}
		if n := s.verifier.Stats().Refused[ReasonUnknownKey]; n != 1 {
			t.Errorf("%d tokens refused for their kid", n)
		}
	})
}

func TestInstantRotation(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.mustKnow("old")
		s.mustFetches(1)
		s.rotate("old", "new")
		token := s.mint("new")
		alongside(1000, func(int) {
			if err := s.verify(token); err != nil {
				t.Error(err)
			}
		})
		s.mustFetches(1)
		s.mustKnowAtOnce("new")
		s.mustNotKnow("old")
		s.mustFetches(0)
	})
}

func TestUnknownKidsAreSpaced(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.mustKnow("old")
		s.mustFetches(1)
		began := time.Now()
		alongside(100, func(i int) {
			for n := range 100 {
				time.Sleep(time.Until(began.Add(time.Duration(100*n+i) * time.Minute / 10_000)))
				if err := s.verify(s.mint(rand.Text())); verdict(err) != ReasonUnknownKey {
					t.Errorf("a random kid: %v", err)
				}
			}
			s.mustKnowAtOnce("old")
		})
		if waited := time.Since(began) - time.Minute; waited > s.latency {
			t.Errorf("somebody waited for a turn: %v", waited)
		}
		s.mustFetches(3) // at 0, 10 to 15 and 30 to 45 s
		stats := s.verifier.Stats()
		if stats.UnknownKeyFetches != 3 || stats.UnknownKeyThrottled == 0 {
			t.Errorf("Stats: %d fetches, %d throttled", stats.UnknownKeyFetches, stats.UnknownKeyThrottled)
		}

		// One a second from then on: gaps of 40, 60, 60 … s, all of them longer
		// by one part of themselves.
		stretch := 1 + s.cache.state.Load().unknownKid.Stretch
		if stretch < 1 || stretch > 1.5 {
			t.Errorf("gaps are %v times as long", stretch)
		}
		var at []time.Duration
		for range int(240 * stretch) {
			s.mustNotKnow(rand.Text())
			if s.fetches() > len(at) {
				at = append(at, time.Since(began).Round(time.Second))
			}
			time.Sleep(time.Second)
		}
		want := []float64{71, 131, 192, 252}
		if len(at) != len(want) {
			t.Fatalf("fetches at %v, want about %v times %v", at, want, stretch)
		}
		for i := range want {
			if (at[i] - time.Duration(want[i]*stretch*float64(time.Second))).Abs() > 3*time.Second {
				t.Errorf("fetches at %v, want about %v times %v", at, want, stretch)
			}
		}

		// A set that changes takes the gap back to 10 s.
		s.waitForTurn()
		s.publish("new")
		s.mustKnow("new")
		s.mustFetches(len(want) + 1)
		gap := s.turnIn()
		if gap < keypolicy.MinUnknownKidGap-2*s.latency || gap > keypolicy.MinUnknownKidGap*3/2 {
			t.Errorf("the next fetch in %v, want 10 to 15 s", gap)
		}
		time.Sleep(gap - time.Nanosecond)
		s.mustNotKnow(rand.Text())
		if s.fetches() != 0 {
			t.Error("a fetch before its turn")
		}
		s.waitForTurn()
		s.mustNotKnow(rand.Text())
		s.mustFetches(1)
	})
}

// An unknown kid sets off a fetch only in a token that could pass.
func TestHopelessTokensFetchNothing(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.mustKnow("old")
		s.mustFetches(1)
		random := rand.Text()
		expired := s.mint(random)
		time.Sleep(40 * time.Minute)
		s.must(s.mintOf("https://another.example", random), ReasonWrongIssuer)
		s.mustFetches(0)
		time.Sleep(22 * time.Minute)
		s.mustKnow("old")
		s.mustFetches(1)
		s.must(expired, ReasonUnknownKey)
		s.mustFetches(0)
		s.verifier.members[0].cluster.config.Audiences = []string{"another-service"}
		s.mustNotKnow(random)
		s.mustFetches(0)

		// While the last fetch is a failure, nobody can tell what they are.
		s.failWith(&retryAfterError{errors.New("status 503"), time.Minute})
		time.Sleep(55 * time.Minute)
		s.must(expired, ReasonUnknownKey)
		s.mustFetches(1)
		s.must(expired, "unavailable")
		s.mustBeUnavailable(random)
		s.mustFetches(0)
	})
}

func TestBadSignatureFetchesNothing(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.mustKnow("old")
		s.mustFetches(1)
		token := s.mint("old")
		other := s.mint("old")
		forged := token[:strings.LastIndexByte(token, '.')] + other[strings.LastIndexByte(other, '.'):]
		for range 1000 {
			s.must(forged, ReasonBadSignature)
		}
		s.mustFetches(0)
	})
}

func TestCancelledCallerLeavesTheFetch(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.latency = 5 * time.Second
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		token := s.mint("old")
		began := time.Now()
		alongside(2, func(i int) {
			if i == 1 {
				if err := s.verify(token); err != nil {
					t.Errorf("the other caller: %v", err)
				}
				return
			}
			_, err := s.verifier.Verify(ctx, token)
			if !errors.Is(err, ErrKeysUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the caller that left: %v", err)
			}
			if waited := time.Since(began); waited != time.Second {
				t.Errorf("it waited for %v", waited)
			}
		})
		s.mustFetches(1)
		if s.verifier.Stats().FetchFailures != 0 {
			t.Error("the fetch failed")
		}
	})
}

func TestIdleVerifierAsksFirst(t *testing.T) {
	for _, idle := range []time.Duration{61 * time.Minute, 24*time.Hour - time.Minute, 24 * time.Hour, 30 * 24 * time.Hour} {
		t.Run(idle.String(), func(t *testing.T) {
			tell(t, func(t *testing.T, s *story) {
				s.verifier.members[0].cluster.config.MaxLifetime = -1
				s.lifetime = 365 * 24 * time.Hour
				token := s.mint("old")
				s.must(token, "")
				s.mustFetches(1)
				s.rotate("old", "new")
				time.Sleep(idle)
				s.must(token, ReasonUnknownKey) // a remembered one
				s.mustFetches(1)
				s.mustKnowAtOnce("new")
			})
		})
	}
}

// A failure long past does not excuse serving a key that was withdrawn since.
func TestOldFailureIsNoExcuse(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.mustKnow("old")
		time.Sleep(55 * time.Minute)
		s.failWith(errors.New("connection refused"))
		s.mustKnowAtOnce("old") // sets off a refresh, which fails
		s.mustFetches(2)
		time.Sleep(9 * time.Minute)
		s.mustKnowAtOnce("old") // past its life, after a failure just now
		s.mustFetches(1)

		s.recover()
		s.rotate("old", "new")
		time.Sleep(8 * time.Hour)
		s.mustNotKnow("old")
		s.mustFetches(1)
	})
}

// Nor does it make every call of a quiet service wait for an origin that hangs.
func TestQuietServiceInAnOutage(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.mustKnow("old")
		s.hang()
		time.Sleep(2 * time.Hour)
		for i, want := range []time.Duration{keypolicy.FetchTimeout, keypolicy.StaleWait, keypolicy.StaleWait, keypolicy.StaleWait, keypolicy.StaleWait} {
			start := time.Now()
			s.mustKnow("old")
			if waited := time.Since(start); waited != want {
				t.Errorf("call %d waited %v: want %v", i+1, waited, want)
			}
			time.Sleep(20 * time.Minute)
		}
		s.mustFetches(5 + 1)
		s.recover()
		s.rotate("old", "new")
		time.Sleep(20 * time.Minute)
		s.mustNotKnow("old")
	})
}

func TestOutage(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.mustKnow("old")
		s.failWith(errors.New("connection refused"))
		s.busyFor(23*time.Hour, "old")
		if err := s.verifier.Ready(t.Context()); err != nil {
			t.Errorf("Ready after 23 hours: %v", err)
		}
		// Nobody can tell an unknown key from a new one.
		s.mustBeUnavailable(rand.Text())

		s.lifetime = 4 * time.Hour
		token := s.mint("old")
		s.must(token, "")
		time.Sleep(2 * time.Hour)
		s.must(token, "unavailable")
		s.mustBeUnavailable("old")
		if err := s.verifier.Ready(t.Context()); !errors.Is(err, ErrKeysUnavailable) {
			t.Errorf("Ready after 25 hours: %v", err)
		}

		s.recover()
		time.Sleep(keypolicy.MaxColdBackoff) // there are no keys to serve: it hurries
		s.must(token, "")
		s.mustKnowAtOnce("old")
	})
}

// What a failure put off for long, while there were keys to serve with, is
// hurried when there are none.
func TestPauseEndsWithTrust(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.cache.maxStale = keypolicy.MinMaxStale
		s.mustKnow("old")
		time.Sleep(keypolicy.MinMaxStale - 25*time.Second)
		s.failWith(&retryAfterError{errors.New("status 429"), keypolicy.MaxRetryAfter})
		s.mustKnowAtOnce("old")
		s.mustFetches(2)
		s.recover()
		time.Sleep(26 * time.Second)
		s.mustBeUnavailable("old")
		if in := time.Until(s.verifier.Stats().NextFetch); in <= 0 || in > 4*time.Second {
			t.Errorf("the next attempt in %v", in)
		}
		time.Sleep(4 * time.Second) // keypolicy.MaxColdBackoff after the failure
		s.mustKnow("old")
	})
}

// A failure within the set's life is made good while nobody waits, and what is
// known of failures ends with it.
func TestFailureWithinTheLife(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.mustKnow("old")
		s.failWith(errors.New("connection refused"))
		for range 10 {
			s.mustBeUnavailable(rand.Text())
			time.Sleep(time.Minute)
		}
		s.recover()
		time.Sleep(keypolicy.MaxBackoff)
		s.clearLog()
		s.mustKnowAtOnce("old")
		s.settle()
		if got := s.verifier.Stats(); got.LastError != nil || time.Until(got.NextFetch) < 40*time.Minute {
			t.Errorf("Stats = %+v", got)
		}
		if text := s.logged(); !strings.Contains(text, `level=INFO msg="kubejwt: keys can be fetched again"`) {
			t.Errorf("the recovery is not told:\n%s", text)
		}
		// What has made a fetch on demand good counts as one, and no other does.
		s.mustFetches(s.fetches()) // what comes is counted from here
		s.mustNotKnow(rand.Text())
		s.mustFetches(0)
		s.waitForTurn()
		s.mustNotKnow(rand.Text())
		s.mustFetches(1)
		s.mustNotKnow(rand.Text())
		s.mustFetches(0)

		s.failWith(errors.New("connection refused"))
		s.waitForTurn()
		s.mustBeUnavailable(rand.Text())
		if failed := s.cache.state.Load().failed; failed != 1 {
			t.Errorf("%d failures in a row, want 1", failed)
		}
	})
}

// An origin that answers every other time, and tokens of random kids: what makes
// a failure good is no way around the spacing.
func TestUnknownKidsAtAFlakyOrigin(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.mustKnow("old")
		s.mustFetches(1)
		published := s.cache.fetch
		failing := false
		s.cache.fetch = func(ctx context.Context, cause fetchCause) (fetched, error) {
			failing = !failing
			if got, err := published(ctx, cause); err != nil || !failing {
				return got, err
			}
			return fetched{}, errors.New("connection refused")
		}
		token := s.mint("old")
		for range 10 * 60 * 6 {
			s.mustAtOnce(token)
			s.verify(s.mint(rand.Text()))
			time.Sleep(100 * time.Millisecond)
		}
		// Gaps of 10, 20, 40 and then 60 seconds, longer by up to a half, and each
		// time a failure first.
		if n := s.fetches(); n < 10 || n > 20 {
			t.Errorf("%d fetches in six minutes", n)
		}
	})
}

// A caller that saw the set before a fetch landed finds the key in the new one.
func TestSetThatChangedMeanwhile(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.mustKnow("old")
		early, late := lookup{keyring: s.cache}, lookup{keyring: s.cache}
		if err := errors.Join(early.current(t.Context()), late.current(t.Context())); err != nil {
			t.Fatal(err)
		}
		s.publish("new")
		time.Sleep(55 * time.Minute)
		s.mustKnowAtOnce("old")
		s.mustFetches(2)
		began := time.Now()
		err := early.refresh(t.Context())
		if err != nil || early.seen.Key("new") == nil || time.Since(began) != 0 {
			t.Errorf("%v after %v: want the new set at once", err, time.Since(began))
		}
		s.mustFetches(0)
		s.publish("newest") // as it has not waited yet, it may now
		if err = early.refresh(t.Context()); err != nil || early.seen.Key("newest") == nil {
			t.Errorf("%v: want the newest set", err)
		}
		s.mustFetches(1)

		// With a fetch under way, it waits for that.
		s.publish("newer")
		s.waitForTurn()
		go s.verify(s.mint("newer"))
		synctest.Wait()
		if err = late.refresh(t.Context()); err != nil || late.seen.Key("newer") == nil {
			t.Errorf("%v: want the set of the fetch under way", err)
		}
		s.mustFetches(1)
	})
}

// A set that is due serves at once, and a key that it lacks is found in the fetch
// that brings it up to date.
func TestUnknownKeyOfASetThatIsDue(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.mustKnow("old")
		s.publish("new")
		time.Sleep(55 * time.Minute)
		s.mustKnowAfter("new", s.latency)
		s.mustFetches(2)
	})
}

// While the origin fails, attempts grow apart; with keys at hand nobody waits.
func TestOutageIsBackedOff(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.mustKnow("old")
		s.hang()
		s.busyFor(54*time.Minute, "old") // a refresh is under way by now at the latest
		before := s.fetches()
		s.lifetime = 8 * time.Hour
		token := s.mint("old")
		for range 6 * 60 * 60 {
			time.Sleep(time.Second)
			s.mustAtOnce(token)
		}
		// One in 150 s + 10 s in the mean.
		if n := s.fetches() - before; n < 90 || n > 200 {
			t.Errorf("%d attempts in six hours", n)
		}
	})
}

func TestWithdrawnKeyGoesWithTheNextRefresh(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.publish("new")
		token := s.mint("old")
		s.must(token, "")
		s.withdraw("old")
		s.must(token, "") // within the set's life it may
		s.busyFor(55*time.Minute, "new")
		s.must(token, ReasonUnknownKey)
	})
}

// A verification that ends after its key was dropped is not remembered.
func TestKeyThatWentMeanwhile(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.mustKnow("old")
		c := s.verifier.members[0].cluster
		signer := s.cache.state.Load().keys.Key("old")
		remember := func() int {
			digest := sha256.Sum256([]byte(rand.Text()))
			before := c.tokens.Len()
			parsed := parsedToken{header: jws.Header{Algorithm: jws.ES256, KeyID: "old"}, claimed: new(payload)}
			c.toCache(cacheKey{digest, true}, parsed, signer, Claims{})
			return c.tokens.Len() - before
		}
		if n := remember(); n != 1 {
			t.Errorf("while the key is in use %d are remembered, want 1", n)
		}
		s.rotate("old", "new")
		s.mustKnow("new")
		if n := remember(); n != 0 {
			t.Errorf("after the key has gone %d are remembered, want none", n)
		}
		s.publish("old") // another key of the same kid
		time.Sleep(time.Hour)
		s.mustKnow("old")
		if n := remember(); n != 0 {
			t.Errorf("after the key was replaced %d are remembered, want none", n)
		}
	})
}

func TestNewKeyUnderAnOldKid(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		token := s.mint("old")
		s.must(token, "")
		s.publish("old")
		time.Sleep(55 * time.Minute)
		s.must(token, "") // sets off the refresh
		s.mustFetches(2)
		s.must(token, ReasonBadSignature)
		s.mustKnow("old")
		s.mustFetches(0)
	})
}

// Each bound of a set's age is the first moment on its far side.
func TestCacheStateAtItsBounds(t *testing.T) {
	const refreshAge, life, maxStale = 40 * time.Minute, time.Hour, 24 * time.Hour
	now := keypolicy.Now()
	ago := func(d time.Duration) keypolicy.Instant { return keypolicy.At(now.Mono.Add(-d)) }
	failed := errors.New("connection refused")
	cache := &jwksCache{maxStale: maxStale}
	for _, tt := range []struct {
		name  string
		holds func(age time.Duration) bool
		bound time.Duration
	}{
		{"fresh", func(age time.Duration) bool {
			s := &cacheState{keys: new(keyset.Set), fetchedAt: ago(age), refreshAge: refreshAge}
			return s.fresh(now)
		}, refreshAge},
		{"within its life", func(age time.Duration) bool {
			s := &cacheState{keys: new(keyset.Set), fetchedAt: ago(age), life: life}
			return s.withinLife(now)
		}, life},
		{"a failure that counts", func(age time.Duration) bool {
			s := &cacheState{err: failed, failedAt: ago(age)}
			return s.originDown(now)
		}, keypolicy.RecentFailure},
		{"trusted", func(age time.Duration) bool {
			s := &cacheState{keys: new(keyset.Set), fetchedAt: ago(age)}
			return cache.trusted(s, now)
		}, maxStale},
		{"a former issuer", func(age time.Duration) bool {
			s := &cacheState{former: "https://former.example", formerSince: ago(age)}
			return cache.keysAtHand(s, now).formerIssuer != ""
		}, keypolicy.FormerIssuerLife},
	} {
		if !tt.holds(tt.bound-1) || tt.holds(tt.bound) {
			t.Errorf("%s: %t just before %v, %t then", tt.name, tt.holds(tt.bound-1), tt.bound, tt.holds(tt.bound))
		}
	}
	if s := (&cacheState{failedAt: now}); s.originDown(now) {
		t.Error("a failure that was made good counts")
	}
}

// A failure that was made good excuses nobody from asking first.
func TestFailureMadeGood(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.maxAge = keypolicy.MinLife
		s.mustKnow("old")
		s.failWith(errors.New("connection refused"))
		s.mustBeUnavailable(rand.Text())
		s.recover()
		time.Sleep(keypolicy.MinBackoff)
		s.mustKnowAtOnce("old") // sets off a fetch
		s.mustFetches(3)
		time.Sleep(keypolicy.MinLife)
		s.rotate("old", "new")
		s.mustNotKnow("old")
	})
}

// A cache without keys holds none.
func TestHoldsNothing(t *testing.T) {
	cache := new(jwksCache)
	if cache.holds("old", [sha256.Size]byte{}) {
		t.Error("a cache that was never used holds a key")
	}
	cache.state.Store(new(cacheState))
	if cache.holds("old", [sha256.Size]byte{}) {
		t.Error("a cache without keys holds one")
	}
}

// Keys that grow too old between two looks are not handed out.
func TestKeysThatGrowTooOld(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.mustKnow("old")
		if _, err := s.cache.latest(); err != nil {
			t.Error(err)
		}
		time.Sleep(keypolicy.DefaultMaxStale)
		if _, err := s.cache.latest(); !errors.Is(err, ErrKeysUnavailable) || !strings.Contains(err.Error(), "older than RemoteKeys.MaxStale") {
			t.Errorf("after a day: %v", err)
		}
	})
}

func TestClocksThatJump(t *testing.T) {
	const year = 365 * 24 * time.Hour
	t.Run("wall clock forward", func(t *testing.T) {
		tell(t, func(t *testing.T, s *story) {
			s.mustKnow("old")
			s.wallAhead = year
			s.mustKnow("old") // asks first
			s.mustFetches(2)
			s.mustKnowAtOnce("old")
			s.wallAhead = 0
			s.busyFor(40*time.Minute, "old")
			s.mustFetches(0)
			s.busyFor(20*time.Minute, "old")
			s.mustFetches(1)
		})
	})
	t.Run("wall clock back", func(t *testing.T) {
		tell(t, func(t *testing.T, s *story) {
			s.mustKnow("old")
			s.wallAhead = -year
			s.failWith(errors.New("connection refused"))
			s.busyFor(23*time.Hour, "old")
			time.Sleep(2 * time.Hour)
			s.mustBeUnavailable("old")
		})
	})
	t.Run("suspended", func(t *testing.T) {
		tell(t, func(t *testing.T, s *story) {
			s.mustKnow("old")
			s.monoBehind = 2 * time.Hour
			time.Sleep(2 * time.Hour)
			s.rotate("old", "new")
			s.mustNotKnow("old")
			s.mustFetches(2)
			s.mustKnowAtOnce("new")
		})
	})
	t.Run("suspended after a failure", func(t *testing.T) {
		tell(t, func(t *testing.T, s *story) {
			s.mustKnow("old")
			time.Sleep(55 * time.Minute)
			s.failWith(&retryAfterError{errors.New("status 429"), keypolicy.MaxRetryAfter})
			s.mustKnowAtOnce("old")
			s.mustFetches(2)
			s.recover()
			s.rotate("old", "new")
			s.monoBehind = 12 * time.Hour
			time.Sleep(12 * time.Hour)
			s.mustNotKnow("old")
			s.mustFetches(1)
		})
	})
}

// The pauses of an origin that fails are those of a cache with keys or without.
func TestBackoff(t *testing.T) {
	now := keypolicy.Now()
	cache := &jwksCache{maxStale: -1}
	for _, tt := range []struct {
		name  string
		state *cacheState
		most  time.Duration
	}{
		{"with keys", &cacheState{keys: new(keyset.Set)}, 5 * time.Minute},
		{"without keys", new(cacheState), 30 * time.Second},
	} {
		s := *tt.state
		s.failed = 999
		var most time.Duration
		for range 2000 {
			most = max(most, cache.afterFailure(&s, now, causeRetry, errors.New("connection refused")).backoff)
		}
		if most >= tt.most || most < tt.most*9/10 {
			t.Errorf("%s: at most %v, want just below %v", tt.name, most, tt.most)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for _, tt := range []struct{ asked, want time.Duration }{
		{time.Minute, time.Minute},
		{24 * time.Hour, keypolicy.MaxRetryAfter},
	} {
		t.Run(tt.asked.String(), func(t *testing.T) {
			tell(t, func(t *testing.T, s *story) {
				s.mustKnow("old")
				s.failWith(fmt.Errorf("wrapped: %w", &retryAfterError{errors.New("status 429"), tt.asked}))
				time.Sleep(55 * time.Minute)
				s.mustKnow("old")
				s.mustFetches(2)
				// It binds whoever would fetch.
				for range int(tt.want/time.Second) - 1 {
					s.mustKnowAtOnce("old")
					s.mustBeUnavailable(rand.Text())
					time.Sleep(time.Second)
				}
				s.mustFetches(0)
				time.Sleep(time.Second)
				s.recover()
				s.mustKnowAtOnce("old")
				s.mustFetches(1)
			})
		})
	}
	t.Run("cold", func(t *testing.T) {
		tell(t, func(t *testing.T, s *story) {
			s.failWith(&retryAfterError{errors.New("status 429"), time.Hour})
			for range 30 {
				s.mustBeUnavailable("old")
				if err := s.verifier.Ready(t.Context()); err == nil {
					t.Error("ready without keys")
				}
				time.Sleep(time.Second - s.latency/30)
			}
			s.mustFetches(1)
			s.recover()
			s.mustKnow("old")
			s.mustFetches(1)
		})
	})
}

func TestMaxStale(t *testing.T) {
	t.Run("5 minutes", func(t *testing.T) {
		tell(t, func(t *testing.T, s *story) {
			s.cache.maxStale = keypolicy.MinMaxStale
			s.mustKnow("old")
			for range 180 { // refreshed in time
				time.Sleep(20 * time.Second)
				s.mustKnowAtOnce("old")
			}
			s.settle() // the last of them may have set off a refresh
			s.failWith(errors.New("connection refused"))
			time.Sleep(keypolicy.MinMaxStale)
			s.mustBeUnavailable("old")
		})
	})
	t.Run("for ever", func(t *testing.T) {
		tell(t, func(t *testing.T, s *story) {
			s.cache.maxStale = -1
			s.mustKnow("old")
			s.failWith(errors.New("connection refused"))
			time.Sleep(365 * 24 * time.Hour)
			s.mustKnow("old")
			s.mustKnowAtOnce("old")
			if at := s.verifier.Stats().StaleAt; !at.IsZero() {
				t.Errorf("StaleAt = %v", at)
			}
		})
	})
}

func TestSetLife(t *testing.T) {
	for _, tt := range []struct{ maxAge, life time.Duration }{
		{-1, keypolicy.DefaultLife},
		{0, keypolicy.MinLife},
		{time.Second, keypolicy.MinLife},
		{10 * time.Minute, 10 * time.Minute},
		{24 * time.Hour, keypolicy.MaxLife},
	} {
		for range 100 {
			s := (&jwksCache{maxStale: keypolicy.DefaultMaxStale}).afterSuccess(new(cacheState), keypolicy.Now(), causeFirst, fetched{keys: new(keyset.Set), maxAge: tt.maxAge})
			if s.life != tt.life {
				t.Fatalf("max-age %v: a life of %v, want %v", tt.maxAge, s.life, tt.life)
			}
			if s.refreshAge < tt.life*7/10 || s.refreshAge > tt.life*9/10 {
				t.Fatalf("max-age %v: refreshed after %v", tt.maxAge, s.refreshAge)
			}
		}
	}
}

func TestPanicInAFetch(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.answerWith(func(context.Context) (fetched, error) { panic("a secret of the transport") })
		err := s.verify(s.mint("old"))
		if !errors.Is(err, ErrKeysUnavailable) || strings.Contains(err.Error(), "secret") {
			t.Fatal(err)
		}
		s.recover()
		time.Sleep(keypolicy.MinBackoff)
		s.mustKnow("old")
	})
}

// A test double that calls t.Fatal ends the goroutine of the fetch.
func TestGoexitInAFetch(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.answerWith(func(context.Context) (fetched, error) { runtime.Goexit(); return fetched{}, nil })
		began := time.Now()
		s.mustBeUnavailable("old")
		if waited := time.Since(began); waited != s.latency {
			t.Errorf("it waited for %v", waited)
		}
		s.recover()
		time.Sleep(keypolicy.MinBackoff)
		s.mustKnow("old")
	})
}

// A RoundTripper may ignore its context. Nobody waits for it longer, and what
// it says in the end is not listened to.
func TestFetchThatIgnoresItsContext(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		release := make(chan struct{})
		late, err := keyset.NewKey("late", s.private["old"].Public())
		if err != nil {
			t.Fatal(err)
		}
		set, err := keyset.New(late)
		if err != nil {
			t.Fatal(err)
		}
		s.answerWith(func(context.Context) (fetched, error) {
			<-release
			return fetched{keys: set}, nil
		})
		began := time.Now()
		s.mustBeUnavailable("old")
		if waited := time.Since(began); waited != keypolicy.FetchTimeout {
			t.Errorf("it waited for %v", waited)
		}
		s.recover()
		time.Sleep(keypolicy.MinBackoff)
		s.mustKnow("old")
		close(release)
		synctest.Wait()
		s.mustKnowAtOnce("old")
		if got := s.verifier.Stats(); !slices.Equal(got.KeyIDs, []string{"old"}) || got.Fetches != 2 || got.FetchFailures != 1 {
			t.Errorf("Stats = %+v", got)
		}
	})
}

// What a fetch says after it was given up on is not listened to while another is
// under way either.
func TestLateAnswerDuringAnotherFetch(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		release := make(chan struct{})
		s.rotate("old", "late")
		late, err := s.fetch(t.Context(), causeFirst)
		if err != nil {
			t.Fatal(err)
		}
		s.rotate("late", "new")
		s.answerWith(func(context.Context) (fetched, error) {
			<-release
			return late, nil
		})
		s.mustBeUnavailable("new") // given up on
		s.recover()
		s.latency = 5 * time.Second
		time.Sleep(keypolicy.MinBackoff)
		var waits sync.WaitGroup
		token := s.mint("new")
		waits.Go(func() {
			if err := s.verify(token); err != nil {
				t.Errorf("the caller of the other fetch: %v", err)
			}
		})
		synctest.Wait()
		close(release)
		synctest.Wait()
		if got := s.verifier.Stats(); got.Fetches != 1 || got.KeyIDs != nil {
			t.Errorf("Stats = %+v, want nothing of the late answer", got)
		}
		waits.Wait()
		if got := s.verifier.Stats(); got.Fetches != 2 || !slices.Equal(got.KeyIDs, []string{"new"}) {
			t.Errorf("Stats = %+v, want the answer that was not late", got)
		}
	})
}

// A caller whose token is remembered has one fetch, as any other: if that fails,
// its token is not looked at once more.
func TestRememberedTokenHasOneFetch(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.verifier.members[0].cluster.config.MaxLifetime = -1
		s.lifetime = 48 * time.Hour
		token := s.mint("old")
		s.must(token, "")
		s.mustFetches(1)
		s.failWith(errors.New("connection refused"))
		time.Sleep(25 * time.Hour)
		// Once the fetch has failed, another would be allowed at once.
		s.cache.logger = slog.New(logFunc(func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.wallAhead += time.Hour
		}))
		s.must(token, "unavailable")
		s.mustFetches(1)
		if got := s.verifier.Stats(); got.KeysUnavailable != 1 || got.RememberedHits != 0 {
			t.Errorf("Stats = %+v", got)
		}
	})
}

// logFunc is called for each line of a log.
type logFunc func()

func (f logFunc) Enabled(context.Context, slog.Level) bool  { return true }
func (f logFunc) Handle(context.Context, slog.Record) error { f(); return nil }
func (f logFunc) WithAttrs([]slog.Attr) slog.Handler        { return f }
func (f logFunc) WithGroup(string) slog.Handler             { return f }

// A log that hangs holds nobody up.
func TestLogThatHangs(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		log := hangingLog{slog.DiscardHandler, make(chan struct{})}
		s.cache.logger = slog.New(log)
		s.mustKnowAfter("old", s.latency)
		s.mustKnowAtOnce("old")
		s.publish("new")
		s.mustKnowAfter("new", s.latency)
		s.failWith(errors.New("connection refused"))
		time.Sleep(55 * time.Minute)
		s.mustKnowAtOnce("old")
		s.mustFetches(3)
		s.mustKnowAtOnce("new")
		close(log.release)
	})
}

// A cache that newJWKSCache has made needs no other log.
func TestLogOfANewCacheThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTestRemote(t, RemoteKeys{Transport: roundTripFunc(func(*http.Request) (*http.Response, error) {
			return nil, errors.New("connection refused")
		})})
		cache := newJWKSCache(r, slog.New(panickingLog{slog.DiscardHandler}), nil)
		if err := cache.ready(t.Context()); !errors.Is(err, ErrKeysUnavailable) {
			t.Error(err)
		}
		synctest.Wait() // for the log
	})
}

// A log that panics costs its lines.
func TestLogThatPanics(t *testing.T) {
	folder := t.TempDir()
	tell(t, func(t *testing.T, s *story) {
		s.keepsSnapshot(folder)
		s.cache.logger = safelog.New(slog.New(panickingLog{slog.DiscardHandler}))
		s.mustKnowAfter("old", s.latency)
		s.settle()
		s.failWith(errors.New("connection refused"))
		s.restart()
		s.mustKnowAfter("old", s.latency) // with the snapshot
		s.mustKnowAtOnce("old")
	})
}

type panickingLog struct{ slog.Handler }

func (panickingLog) Enabled(context.Context, slog.Level) bool  { return true }
func (panickingLog) Handle(context.Context, slog.Record) error { panic("a bug of the log") }

// Whoever reads the snapshot holds no lock while it tells.
func TestLogThatHangsOverASnapshot(t *testing.T) {
	folder := t.TempDir()
	tell(t, func(t *testing.T, s *story) {
		s.keepsSnapshot(folder)
		s.mustKnow("old")
		s.settle()
		log := hangingLog{slog.DiscardHandler, make(chan struct{})}
		s.cache.logger = slog.New(log)
		s.restart()
		go s.verify(s.mint("old"))
		synctest.Wait()
		if ids := s.verifier.Stats().KeyIDs; !slices.Equal(ids, []string{"old"}) {
			t.Errorf("KeyIDs = %q", ids)
		}
		s.mustKnow("old")
		close(log.release)
	})
}

type hangingLog struct {
	slog.Handler
	release chan struct{}
}

func (h hangingLog) Enabled(context.Context, slog.Level) bool { return true }

func (h hangingLog) Handle(context.Context, slog.Record) error {
	<-h.release
	return nil
}

// The issuer that a document names is a server's to write.
func TestLearntIssuerInLog(t *testing.T) {
	for _, tt := range []struct{ name, issuer, want string }{
		{"plain", "https://one.example", " issuer=https://one.example "},
		{"of AKS", "https://x.example/" + strings.Repeat("1", 100) + "/", " issuer=https://x.example/" + strings.Repeat("1", 100) + "/ "},
		{"long", strings.Repeat("1", 1<<20), " issuer=" + strings.Repeat("1", 512) + " "},
		{"hostile", "\x1b[2J\u0430", `\u0430`},
		{"a token", "eyJhbGciOiJSUzI1NiJ9.e30.AAAA", "withheld"},
	} {
		tell(t, func(t *testing.T, s *story) {
			published := s.fetch
			for _, issuer := range []string{tt.issuer, "https://next.example"} { // it is told as the one before, too
				s.cache.fetch = func(ctx context.Context, cause fetchCause) (fetched, error) {
					got, err := published(ctx, cause)
					got.issuer = issuer
					return got, err
				}
				s.must(s.mintOf(storyIssuer, rand.Text()), ReasonUnknownKey)
				s.waitForTurn()
			}
			text := s.logged()
			if !strings.Contains(text, tt.want) || !strings.Contains(text, "before=") {
				t.Errorf("%s: want %s in the log:\n%.3000s", tt.name, tt.want, text)
			}
			if strings.Contains(text, "\u0430") || strings.Contains(text, "eyJ") || len(text) > 5000 {
				t.Errorf("%s: the log has %d bytes:\n%.3000s", tt.name, len(text), text)
			}
		})
	}
}

func TestLearntIssuer(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		c := s.verifier.members[0].cluster
		c.learnsIssuer, c.issuers = true, nil
		issuer := "https://one.example"
		published := s.fetch
		s.cache.fetch = func(ctx context.Context, cause fetchCause) (fetched, error) {
			got, err := published(ctx, cause)
			if cause != causeRefresh {
				got.issuer = issuer // as a document that is not read each time
			}
			return got, err
		}
		var learnt []string
		s.cache.onIssuerChange = func(issuer string) { learnt = append(learnt, issuer) }

		s.must(s.mintOf("https://two.example", "old"), ReasonWrongIssuer)
		s.mustFetches(1) // the first one was joined: no second for the unknown issuer
		s.must(s.mintOf("https://one.example", "old"), "")

		issuer = "https://two.example"
		s.must(s.mintOf("https://two.example", "old"), "")
		s.mustFetches(1)
		if text := s.logged(); !strings.Contains(text, "names the issuer\" issuer=https://two.example before=https://one.example") {
			t.Errorf("the change is not told:\n%s", text)
		}
		s.waitForTurn()
		s.must(s.mintOf("https://two.example", rand.Text()), ReasonUnknownKey) // reads the document again
		s.mustFetches(1)
		s.verifier.members[0].cluster.config.MaxLifetime = -1
		s.lifetime = 48 * time.Hour
		remembered := s.mintOf("https://one.example", "old")
		for range 23 {
			s.must(remembered, "")
			s.must(s.mintOf("https://one.example", "old"), "")
			s.must(s.mintOf("https://two.example", "old"), "")
			time.Sleep(time.Hour)
		}
		time.Sleep(time.Hour)
		s.must(s.mintOf("https://two.example", "old"), "")
		s.must(s.mintOf("https://one.example", "old"), ReasonWrongIssuer)
		s.must(remembered, ReasonWrongIssuer)
		if want := []string{"https://one.example", "https://two.example"}; !slices.Equal(learnt, want) {
			t.Errorf("learnt %q", learnt)
		}
	})
}

// One fetch is for the issuer and the kid of a token, if both are unknown.
func TestUnknownIssuerAndKid(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		issuer := s.learnsIssuer("https://one.example")
		s.must(s.mintOf("https://one.example", "old"), "")
		s.mustFetches(1)
		*issuer = "https://two.example"
		s.must(s.mintOf("https://two.example", rand.Text()), ReasonUnknownKey)
		s.mustFetches(1)
		if n := s.verifier.Stats().UnknownKeyThrottled; n != 0 {
			t.Errorf("%d more were asked for", n)
		}
	})
}

// A caller that can't wait to learn an issuer is told so, be its key known or not.
func TestCancelledWhileLearning(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.learnsIssuer("https://one.example")
		s.must(s.mintOf("https://one.example", "old"), "")
		s.latency = 5 * time.Second
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.verifier.Verify(ctx, s.mintOf("https://two.example", "old"))
		if !errors.Is(err, ErrKeysUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

// learnsIssuer has the story's Verifier learn its issuer from a document, which
// names what the pointer that it returns points to.
func (s *story) learnsIssuer(issuer string) *string {
	c := s.verifier.members[0].cluster
	c.learnsIssuer, c.issuers = true, nil
	published := s.fetch
	s.cache.fetch = func(ctx context.Context, cause fetchCause) (fetched, error) {
		got, err := published(ctx, cause)
		got.issuer = issuer
		return got, err
	}
	return &issuer
}

// What is new about the keys or the issuer ends the long gaps between fetches for
// unknown kids.
func TestGapsAfterAChange(t *testing.T) {
	key := func(s *story) *keyset.Key {
		k, err := keyset.NewKey("old", s.private["old"].Public())
		if err != nil {
			s.t.Fatal(err)
		}
		return k
	}
	tell(t, func(t *testing.T, s *story) {
		set, err := keyset.New(key(s))
		if err != nil {
			t.Fatal(err)
		}
		s.publish("old")
		changed, err := keyset.New(key(s))
		if err != nil {
			t.Fatal(err)
		}
		last := &cacheState{keys: set, issuer: "https://one.example", unknownKid: keypolicy.UnknownKid{Gap: keypolicy.MaxUnknownKidGap}}
		for _, tt := range []struct {
			name string
			got  fetched
			want time.Duration
		}{
			{"nothing new", fetched{keys: set}, keypolicy.MaxUnknownKidGap},
			{"the same issuer", fetched{keys: set, issuer: "https://one.example"}, keypolicy.MaxUnknownKidGap},
			{"a new issuer", fetched{keys: set, issuer: "https://two.example"}, keypolicy.MinUnknownKidGap},
			{"a new key", fetched{keys: changed}, keypolicy.MinUnknownKidGap},
		} {
			next := s.cache.afterSuccess(last, s.cache.now(), causeRefresh, tt.got)
			if got := next.unknownKid.Gap; got != tt.want {
				t.Errorf("%s: a gap of %v, want %v", tt.name, got, tt.want)
			}
		}
	})
}

func TestStats(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		if got := s.verifier.Stats(); !got.NextFetch.IsZero() || !got.StaleAt.IsZero() || !got.FetchedAt.IsZero() {
			t.Errorf("before the first use: %+v", got)
		}
		s.mustKnow("old")
		fetchedAt := time.Now()
		got := s.verifier.Stats()
		if !got.FetchedAt.Equal(fetchedAt) || !got.StaleAt.Equal(fetchedAt.Add(24*time.Hour)) || got.LastError != nil {
			t.Errorf("after the first fetch: %+v", got)
		}
		if in := got.NextFetch.Sub(fetchedAt); in < 42*time.Minute || in > 54*time.Minute {
			t.Errorf("the next fetch in %v", in)
		}
		time.Sleep(time.Until(got.NextFetch) - time.Nanosecond)
		s.mustKnow("old")
		s.mustFetches(1)
		time.Sleep(time.Nanosecond)
		s.failWith(&retryAfterError{errors.New("status 503"), time.Minute})
		s.mustKnow("old")
		s.mustFetches(1)
		got = s.verifier.Stats()
		if got.LastError == nil || got.Fetches != 2 || got.FetchFailures != 1 || !got.FetchedAt.Equal(fetchedAt) {
			t.Errorf("after a failure: %+v", got)
		}
		if in := time.Until(got.NextFetch); in > time.Minute || in < 58*time.Second {
			t.Errorf("the next attempt in %v", in)
		}
	})
}

func TestKeyEventsAreLogged(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		mustLog := func(lines ...string) {
			t.Helper()
			s.settle()
			text := s.logged()
			s.clearLog()
			for _, line := range lines {
				if !strings.Contains(text, line) {
					t.Errorf("no %q in the log:\n%s", line, text)
				}
			}
			if strings.Contains(text, "eyJ") {
				t.Errorf("a token in the log:\n%s", text)
			}
			if len(lines) == 0 && text != "" {
				t.Errorf("a log that should be empty:\n%s", text)
			}
		}
		refresh := func() { time.Sleep(55 * time.Minute); s.mustKnow("old") }
		mustNotSay := func(what string) {
			t.Helper()
			if s.settle(); strings.Contains(s.logged(), what) {
				t.Errorf("what is not so, %q:\n%s", what, s.logged())
			}
		}

		s.mustKnow("old")
		mustLog(`level=DEBUG msg="kubejwt: fetched keys" cause=first keys=1`, `level=INFO msg="kubejwt: the key set changed"`, `added=[old] removed=[]`)
		refresh()
		mustNotSay("changed")
		mustLog(`cause=refresh keys=1`)
		s.publish("new")
		refresh()
		mustLog(`cause=refresh keys=2`, `added=[new] removed=[]`)
		s.withdraw("new")
		refresh()
		mustLog(`added=[] removed=[new]`)
		s.failWith(errors.New("connection refused"))
		refresh()
		mustNotSay("fetched keys")
		mustLog(`level=WARN msg="kubejwt: fetching keys failed" cause=refresh error="connection refused" failures=1`, `keys_at_hand=true`)

		// An odd key is told of when it turns up and not again, be the others
		// the same or not.
		odd := func(dropped ...keyset.Dropped) {
			s.answerWith(func(ctx context.Context) (fetched, error) {
				k, err := keyset.NewKey("old", s.private["old"].Public())
				if err != nil {
					return fetched{}, err
				}
				set, err := keyset.New(k)
				set.Dropped = dropped
				return fetched{keys: set, maxAge: time.Hour}, err
			})
		}
		const line = `level=WARN msg="kubejwt: a key is not used" kid=odd why="an unknown kty or crv"`
		odd(keyset.Dropped{ID: "odd", Why: "an unknown kty or crv"})
		refresh()
		mustLog(line)
		refresh()
		s.settle()
		if strings.Contains(s.logged(), "a key is not used") {
			t.Errorf("told twice:\n%s", s.logged())
		}
	})
}

// The same key twice is one key; two keys under one kid are none.
func TestDoubledKeys(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.publish("new")
		jwk := func(kid, of string) string {
			point, err := s.private[of].PublicKey.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			encode := base64.RawURLEncoding.EncodeToString
			return fmt.Sprintf(`{"kty":"EC","crv":"P-256","kid":%q,"x":%q,"y":%q}`, kid, encode(point[1:33]), encode(point[33:]))
		}
		for _, tt := range []struct {
			name string
			keys []string
			want []string
			why  string
		}{
			{"one key twice", []string{jwk("a", "old"), jwk("a", "old")}, []string{"a"}, ""},
			{"one key three times beside another", []string{jwk("a", "old"), jwk("b", "new"), jwk("a", "old"), jwk("a", "old")}, []string{"a", "b"}, ""},
			{"two keys under one kid", []string{jwk("a", "old"), jwk("a", "new"), jwk("b", "new")}, []string{"b"}, "two different keys have this kid"},
			{"two keys under one kid, the first again", []string{jwk("a", "old"), jwk("a", "new"), jwk("a", "old"), jwk("b", "new")}, []string{"b"}, "two different keys have this kid"},
		} {
			set, err := keyset.ParseFetched([]byte(`{"keys":[` + strings.Join(tt.keys, ",") + `]}`))
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
				continue
			}
			if got := set.IDs(); !slices.Equal(got, tt.want) || len(set.Keys) != len(tt.want) || set.WhyDropped("a") != tt.why {
				t.Errorf("%s: kids %q, %d keys, a dropped because %q; want %q", tt.name, got, len(set.Keys), set.WhyDropped("a"), tt.want)
			}
		}
	})
}

// Callers that come from everywhere at once, for the race detector.
func TestManyAtOnce(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		s.publish("new")
		tokens := []string{s.mint("old"), s.mint("new"), s.mint(rand.Text())}
		alongside(64, func(i int) {
			for range 20 {
				s.verify(tokens[i%3])
				s.verifier.Ready(t.Context())
				s.verifier.Stats()
				time.Sleep(time.Duration(i) * time.Minute)
			}
		})
	})
}
