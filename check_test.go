package kubejwt_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kubejwt/kubejwt"
)

// Config.Check is asked for each token that has passed all else, the first
// time and once it is remembered.
func TestCheck(t *testing.T) {
	k := newKit(t)
	revoked := &kubejwt.InvalidTokenError{Reason: kubejwt.ReasonRevoked, Want: "a pod that exists", Got: "a deleted one"}
	for _, tt := range []struct {
		name    string
		check   error
		outcome string
		status  int
	}{
		{"honoured", nil, "accepted", 200},
		{"revoked", revoked, "revoked", 401},
		{"revoked, wrapped", fmt.Errorf("look-up: %w", revoked), "revoked", 401},
		{"a reason of its own", &kubejwt.InvalidTokenError{Reason: "stolen"}, "stolen", 401},
		{"no reason", &kubejwt.InvalidTokenError{}, "revoked", 401},
		{"a nil refusal", (*kubejwt.InvalidTokenError)(nil), "undecided", 503},
		{"can't tell", errors.New("no connection"), "undecided", 503},
		{"ErrUndecided", kubejwt.ErrUndecided, "undecided", 503},
		{"no bad keys", kubejwt.ErrKeysUnavailable, "undecided", 503},
		{"no missing token", kubejwt.ErrNoToken, "undecided", 503},
		{"no verdict of a policy", &kubejwt.NotAllowedError{}, "undecided", 503},
		{"a cancelled look-up", context.Canceled, "undecided", 503},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config := k.config
			var answer error
			var asked []kubejwt.Claims
			config.Check = func(c kubejwt.Claims) error {
				asked = append(asked, c)
				return answer
			}
			v := mustNew(t, config)
			token := k.Mint(good())
			first, err := v.Verify(t.Context(), token) // is remembered
			if err != nil {
				t.Fatal(err)
			}
			answer = tt.check
			for _, token := range []string{token, k.Mint(good())} {
				claims, err := v.Verify(t.Context(), token)
				if got := kubejwt.Outcome(err); got != tt.outcome {
					t.Errorf("%s, %v: want %s", got, err, tt.outcome)
				}
				if err != nil && claims != (kubejwt.Claims{}) {
					t.Errorf("claims beside an error: %v", claims)
				}
				w := httptest.NewRecorder()
				if err == nil {
					w.WriteHeader(200)
				} else {
					kubejwt.WriteError(w, err)
				}
				if w.Code != tt.status {
					t.Errorf("status %d: want %d", w.Code, tt.status)
				}
				if retry := w.Header().Get("Retry-After"); (retry != "") != (tt.status == 503) {
					t.Errorf("status %d with Retry-After %q", w.Code, retry)
				}
				if invalid, ok := errors.AsType[*kubejwt.InvalidTokenError](err); ok && (invalid.Rule != 10 || invalid.Subject != first.Subject) {
					t.Errorf("rule %d, subject %q: want 10, %q", invalid.Rule, invalid.Subject, first.Subject)
				}
			}
			if len(asked) != 3 || asked[0] != first || asked[1] != first {
				t.Errorf("Check was asked %d times: want 3, with what the token proves", len(asked))
			}
			if s := v.Stats(); s.Undecided+s.Accepted+s.Refused[kubejwt.Reason(tt.outcome)] != 3 {
				t.Errorf("Stats %+v: want 3 verdicts", s)
			}
		})
	}
	if revoked.Rule != 0 || revoked.Subject != "" {
		t.Error("Check's own error was written to")
	}
}

// What Check says reaches the log, bounded, and what to do about a refusal is
// its own advice or that of the reason.
func TestWhatCheckSays(t *testing.T) {
	k := newKit(t)
	token := k.Mint(good())
	for _, tt := range []struct {
		check error
		want  string // at the end of the error
	}{
		{errors.New("no connection"), kubejwt.ErrUndecided.Error() + ": no connection"},
		{fmt.Errorf("%w: no connection", kubejwt.ErrUndecided), kubejwt.ErrUndecided.Error() + ": no connection"},
		{errors.New(strings.Repeat("x", 600)), ": " + strings.Repeat("x", 512)},
		{&kubejwt.InvalidTokenError{Reason: "stolen", Advice: "call the police"}, "stolen: call the police"},
	} {
		k.config.Check = func(kubejwt.Claims) error { return tt.check }
		if _, err := mustNew(t, k.config).Verify(t.Context(), token); err == nil || !strings.HasSuffix(err.Error(), tt.want) {
			t.Errorf("%v: want %q at the end", err, tt.want)
		}
	}
	k.config.Check = func(kubejwt.Claims) error { return new(kubejwt.InvalidTokenError) }
	_, err := mustNew(t, k.config).Verify(t.Context(), token)
	if refusal, ok := errors.AsType[*kubejwt.InvalidTokenError](err); !ok || refusal.Advice == "" {
		t.Errorf("%+v: want the advice of the reason", refusal)
	}
}

// Check is not asked about what another rule refuses.
func TestCheckComesLast(t *testing.T) {
	k := newKit(t)
	stranger := good()
	stranger.Namespace = "evil"
	config := k.config
	config.Check = func(kubejwt.Claims) error { t.Error("asked"); return nil }
	v := mustNew(t, config)
	for _, token := range []string{k.Mint(stranger), ""} {
		if _, err := v.Verify(t.Context(), token); err == nil {
			t.Error("accepted")
		}
	}
}

// A copy has the same Check, and a joined Verifier each member's own.
func TestCheckOfCopies(t *testing.T) {
	k, other := newKit(t), newOwnKit(t)
	config := k.config
	config.Check = func(kubejwt.Claims) error { return errors.New("no connection") }
	v := mustNew(t, config)
	copied, err := v.WithServiceAccounts("shop/api")
	if err != nil {
		t.Fatal(err)
	}
	other.config.Issuer = "https://other.example"
	joined, err := kubejwt.Join(v, mustNew(t, other.config))
	if err != nil {
		t.Fatal(err)
	}
	foreign := good()
	foreign.Claims = map[string]any{"iss": "https://other.example"}
	for _, tt := range []struct {
		name  string
		v     *kubejwt.Verifier
		token string
		want  string
	}{
		{"copied", copied, k.Mint(good()), "undecided"},
		{"joined", joined, k.Mint(good()), "undecided"},
		{"joined, of the other member", joined, other.Mint(foreign), "accepted"},
	} {
		if _, err := tt.v.Verify(t.Context(), tt.token); kubejwt.Outcome(err) != tt.want {
			t.Errorf("%s: %v: want %s", tt.name, err, tt.want)
		}
	}
}
