package kubejwt

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"github.com/kubejwt/kubejwt/internal/jws"
	"github.com/kubejwt/kubejwt/internal/tokencache"
)

// A token costs one signature check, or without kid as many as there are keys
// that fit, up to four: with more none is tried.
func TestSignatureChecks(t *testing.T) {
	for n := 1; n <= 6; n++ {
		var keys PublicKeys
		for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
			for range n {
				private, err := ecdsa.GenerateKey(curve, rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				keys = append(keys, PublicKey{Key: private.Public()})
			}
		}
		set, err := PublicKeys(keys).keySet()
		if err != nil {
			t.Fatal(err)
		}
		c := &cluster{static: true}
		for _, tt := range []struct {
			kid  string
			want int
		}{
			{set.Keys[0].ID, 1},
			{"", n},
		} {
			keys := lookup{keyring: staticKeys{set}, seen: keysAtHand{Set: set}}
			parsed := parsedToken{header: jws.Header{Algorithm: jws.ES256, KeyID: tt.kid}, claimed: new(payload)}
			got, err := c.selectKeys(t.Context(), &keys, parsed)
			if tt.want <= 4 && (err != nil || len(got) != tt.want) {
				t.Errorf("%d keys, kid %q: %d keys are tried, %v: want %d", n, tt.kid, len(got), err, tt.want)
			}
			if refusal, ok := errors.AsType[*InvalidTokenError](err); tt.want > 4 && (!ok || refusal.Reason != ReasonUnknownKey || len(got) != 0) {
				t.Errorf("%d keys, kid %q: %d keys are tried, %v: want none, and unknown_key", n, tt.kid, len(got), err)
			}
		}
	}
}

// A header that a key has signed is kept as it was parsed, and parsed once.
func TestHeaderIsKept(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		c := s.verifier.members[0].cluster
		s.mustNotKnow("unknown")
		if c.lastHeader.Load() != nil {
			t.Error("a header is kept that no key has signed")
		}
		s.mustKnow("old")
		kept := c.lastHeader.Load()
		s.mustKnow("old")
		if kept == nil || c.lastHeader.Load() != kept {
			t.Error("a known header is kept anew")
		}
		compact, err := jws.Split(s.mint("old"))
		if err != nil {
			t.Fatal(err)
		}
		want := jws.Header{Algorithm: jws.ES256, KeyID: "as it was parsed"}
		c.lastHeader.Store(&signedHeader{kept.decoded, want})
		if got, err := s.verifier.parseHeader(compact); got != want || err != nil {
			t.Errorf("a known header is parsed: %+v, %v", got, err)
		}
		s.publish("new")
		s.waitForTurn()
		s.mustKnow("new")
		if c.lastHeader.Load().parsed.KeyID != "new" {
			t.Error("another header that was signed is not kept")
		}
	})
}

// What is remembered answers for itself, be the account admitted or not.
func TestRememberedAnswers(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		token := s.mint("old")
		s.must(token, "")
		other, err := s.verifier.WithServiceAccounts("shop/other")
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range []*Verifier{s.verifier, other} {
			m, cached := v.fromCache(v.cacheKey(token))
			if cached == nil {
				t.Fatal("the token is not remembered")
			}
			claims, known, err := m.judgeCached(t.Context(), &lookup{keyring: m.keys}, cached)
			if _, isRefused := errors.AsType[*NotAllowedError](err); !known || isRefused != (v == other) || (claims == Claims{}) != isRefused {
				t.Errorf("%v, %t, %v", claims, known, err)
			}
		}
	})
}

// A token is hashed only where somebody remembers it.
func TestCacheKey(t *testing.T) {
	member := func(issuer string, cacheSize int) *Verifier {
		c, allowed, err := Config{
			Issuer: issuer, Audiences: []string{"data-store"}, ServiceAccounts: []string{"*"}, CacheSize: cacheSize,
		}.prepare()
		if err != nil {
			t.Fatal(err)
		}
		return newVerifier(c, allowed)
	}
	join := func(members ...*Verifier) *Verifier {
		v, err := Join(members...)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, tt := range []struct {
		name  string
		v     *Verifier
		token string
		want  bool
	}{
		{"remembers", member("a", 0), "x", true},
		{"remembers nothing", member("a", -1), "x", false},
		{"the largest token", member("a", 0), strings.Repeat("x", maxCachedToken), true},
		{"a larger one", member("a", 0), strings.Repeat("x", maxCachedToken+1), false},
		{"one of two remembers", join(member("a", -1), member("b", 0)), "x", true},
		{"none of two remembers", join(member("a", -1), member("b", -1)), "x", false},
	} {
		key := tt.v.cacheKey(tt.token)
		if key.fits != tt.want || (key.digest != tokencache.Digest{}) != tt.want {
			t.Errorf("%s: a digest: %t, want %t", tt.name, key.fits, tt.want)
		}
	}
}
