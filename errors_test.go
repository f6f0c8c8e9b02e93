package kubejwt_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

// What is shown of unverified values is ASCII, short, and no token.
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

// Each part of an error's text stands where there is one.
func TestErrorTexts(t *testing.T) {
	refused := (&kubejwt.InvalidTokenError{Reason: "later", Rule: 7}).Error()
	if !strings.HasSuffix(refused, "later") || !strings.Contains(refused, "7") {
		t.Errorf("%q: want the rule, and the reason at the end", refused)
	}
	claims := kubejwt.Claims{Namespace: "shop", ServiceAccount: kubejwt.Object{Name: "api"}}
	notAllowed := (&kubejwt.NotAllowedError{Claims: claims}).Error()
	if !strings.Contains(notAllowed, claims.Username()) || strings.HasSuffix(notAllowed, ": ") {
		t.Errorf("%q: want the username", notAllowed)
	}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&kubejwt.InvalidTokenError{Reason: "later", Rule: 7, Want: "a"}, refused + ": want a"},
		{&kubejwt.InvalidTokenError{Reason: "later", Rule: 7, Got: "b"}, refused + ": got b"},
		{&kubejwt.InvalidTokenError{Reason: "later", Rule: 7, Advice: "c"}, refused + ": c"},
		{&kubejwt.InvalidTokenError{Reason: "later", Rule: 7, Want: "a", Got: "b", Advice: "c"}, refused + ": want a: got b: c"},
		{&kubejwt.NotAllowedError{Claims: claims, Advice: "c"}, notAllowed + ": c"},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

// Each reason says what to do about it, in words of its own.
func TestAdvice(t *testing.T) {
	seen := make(map[string]kubejwt.Reason)
	for _, reason := range append(reasons, kubejwt.ReasonRevoked) {
		err := &kubejwt.InvalidTokenError{Reason: reason}
		_, advice, _ := strings.Cut(err.Error(), string(reason)+": ")
		if reason == kubejwt.ReasonTooLarge { // as if malformed
			continue
		}
		if other, ok := seen[advice]; ok || advice == "" {
			t.Errorf("%s: the advice %q is that of %q, or none", reason, advice, other)
		}
		seen[advice] = reason
	}
	large, malformed := &kubejwt.InvalidTokenError{Reason: kubejwt.ReasonTooLarge}, &kubejwt.InvalidTokenError{Reason: kubejwt.ReasonMalformed}
	if want := strings.Replace(malformed.Error(), "malformed", "too_large", 1); large.Error() != want {
		t.Errorf("%q, want %q", large.Error(), want)
	}
}
