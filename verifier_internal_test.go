package kubejwt

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/kubejwt/kubejwt/internal/jws"
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
		c := &cluster{keys: staticKeys{set}, static: true}
		for _, tt := range []struct {
			kid  string
			want int
		}{
			{set.Keys[0].ID, 1},
			{"", n},
		} {
			got, err := c.candidates(t.Context(), view{Set: set}, jws.Header{Algorithm: jws.ES256, KeyID: tt.kid}, new(payload))
			if tt.want <= 4 && (err != nil || len(got) != tt.want) {
				t.Errorf("%d keys, kid %q: %d keys are tried, %v: want %d", n, tt.kid, len(got), err, tt.want)
			}
			if refusal, ok := errors.AsType[*InvalidTokenError](err); tt.want > 4 && (!ok || refusal.Reason != ReasonUnknownKey || len(got) != 0) {
				t.Errorf("%d keys, kid %q: %d keys are tried, %v: want none, and unknown_key", n, tt.kid, len(got), err)
			}
		}
	}
}
