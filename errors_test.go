package kubejwt_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

// What is told of unverified values is ASCII, short, and no token.
func TestQuotedValues(t *testing.T) {
	k := newKit(t)
	v := mustNew(t, k.config)
	token := k.Mint(good())
	for name, tt := range map[string]struct {
		change func(*kubejwttest.Token)
		want   string
	}{
		"a token for an issuer":    {claim("iss", "see "+token), "withheld"},
		"a token for an audience":  {claim("aud", "Bearer "+token), "withheld"},
		"a token's start for kid":  {header("kid", "x eyJhbGciOiJSUzI1NiJ9"), "withheld"},
		"an issuer in Cyrillic":    {claim("iss", "https://kubеrnetes.example"), `\u0435`},
		"an audience that escapes": {claim("aud", "\x1b[2Jé"), `"\x1b[2J\u00e9"`},
		"a long kid":               {header("kid", strings.Repeat("k", 1000)), strings.Repeat("k", 70)},
	} {
		g := good()
		tt.change(&g)
		_, err := v.Verify(t.Context(), k.Mint(g))
		refusal, ok := errors.AsType[*kubejwt.InvalidTokenError](err)
		if !ok {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i := range len(refusal.Got) {
			if refusal.Got[i] < ' ' || refusal.Got[i] > '~' {
				t.Errorf("%s: %q is not printable ASCII", name, refusal.Got)
				break
			}
		}
		if !strings.Contains(refusal.Got, tt.want) || len(refusal.Got) > 110 || strings.Contains(refusal.Error(), "eyJ") {
			t.Errorf("%s: got %q: want %s", name, refusal.Got, tt.want)
		}
	}
}

// A subject gets into a refusal if it is one that can be.
func TestLongSubject(t *testing.T) {
	k := newKit(t)
	v := mustNew(t, k.config)
	for length, want := range map[int]bool{512: true, 513: false} {
		g := good()
		claim("sub", strings.Repeat("s", length))(&g)
		_, err := v.Verify(t.Context(), k.Mint(g))
		refusal, ok := errors.AsType[*kubejwt.InvalidTokenError](err)
		if !ok || refusal.Reason != kubejwt.ReasonNotAServiceAccount || (refusal.Subject != "") != want {
			t.Errorf("a sub of %d bytes: %v: want it told %t", length, err, want)
		}
	}
}
