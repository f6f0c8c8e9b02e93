package kubejwt_test

import (
	"context"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/kubejwt/kubejwt"
)

type callersKey struct{}

// verdicts notes what OnVerdict is told.
type verdicts struct {
	t    *testing.T
	told []string
}

func (v *verdicts) note(ctx context.Context, claims kubejwt.Claims, err error) {
	if ctx.Value(callersKey{}) != "the caller's" {
		v.t.Error("told with another context")
	}
	if (claims == kubejwt.Claims{}) != (err != nil) {
		v.t.Errorf("told %v beside %v", claims, err)
	}
	v.told = append(v.told, kubejwt.Outcome(err))
}

// Each verdict is told once, whichever way it was asked for.
func TestOnVerdict(t *testing.T) {
	k := newKit(t)
	stranger, expired := good(), good()
	stranger.Namespace = "evil"
	expired.Lifetime = -1 << 40
	bearer := func(token string) []string { return []string{"Bearer " + token} }
	token := k.Mint(good())
	for _, tt := range []struct {
		name    string
		headers []string
		want    string
	}{
		{"good", bearer(token), "accepted"},
		{"remembered", bearer(token), "accepted"},
		{"not allowed", bearer(k.Mint(stranger)), "not_allowed"},
		{"expired", bearer(k.Mint(expired)), "expired"},
		{"no header", nil, "no_token"},
		{"an empty token", bearer(""), "no_token"},
		{"another scheme", []string{"Basic eA=="}, "no_token"},
		{"two headers", []string{"Bearer a", "Bearer b"}, "malformed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			told := &verdicts{t: t}
			config := k.config
			config.OnVerdict = told.note
			v := mustNew(t, config)
			joined, err := kubejwt.Join(v)
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest("GET", "/", nil)
			r.Header["Authorization"] = tt.headers
			r = r.WithContext(context.WithValue(r.Context(), callersKey{}, "the caller's"))
			for _, v := range []*kubejwt.Verifier{v, joined} {
				v.VerifyRequest(r)
				v.Handler(whoami).ServeHTTP(httptest.NewRecorder(), r)
			}
			if want := slices.Repeat([]string{tt.want}, 4); !slices.Equal(told.told, want) {
				t.Errorf("told %q: want %q", told.told, want)
			}
		})
	}
}

// A copy tells the same one, or one of its own.
func TestOnVerdictOfCopies(t *testing.T) {
	k := newKit(t)
	ours, route := &verdicts{t: t}, &verdicts{t: t}
	config := k.config
	config.OnVerdict = ours.note
	v := mustNew(t, config)
	same, err := v.WithServiceAccounts("shop/api")
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithValue(t.Context(), callersKey{}, "the caller's")
	token := k.Mint(good())
	for _, v := range []*kubejwt.Verifier{v, same, same.WithOnVerdict(route.note), same.WithOnVerdict(nil)} {
		if _, err := v.Verify(ctx, token); err != nil {
			t.Error(err)
		}
	}
	if len(ours.told) != 2 || len(route.told) != 1 {
		t.Errorf("told %d and %d times: want 2 and 1", len(ours.told), len(route.told))
	}
}

// Of a joined Verifier the first member tells what no member has judged.
func TestOnVerdictJoined(t *testing.T) {
	k, other := newKit(t), newOwnKit(t)
	other.config.Issuer = "https://other.example"
	first, second := &verdicts{t: t}, &verdicts{t: t}
	k.config.OnVerdict, other.config.OnVerdict = first.note, second.note
	joined, err := kubejwt.Join(mustNew(t, k.config), mustNew(t, other.config))
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithValue(t.Context(), callersKey{}, "the caller's")
	for _, issuer := range []string{"https://stranger.example", "https://other.example"} {
		token := good()
		token.Claims = map[string]any{"iss": issuer}
		joined.Verify(ctx, other.Mint(token))
	}
	if !slices.Equal(first.told, []string{"wrong_issuer"}) || !slices.Equal(second.told, []string{"accepted"}) {
		t.Errorf("told %q and %q", first.told, second.told)
	}
}

// The words of Outcome, and what WriteError answers, for errors of each kind.
func TestOutcome(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{nil, "accepted"},
		{kubejwt.ErrNoToken, "no_token"},
		{kubejwt.ErrKeysUnavailable, "keys_unavailable"},
		{kubejwt.ErrUndecided, "undecided"},
		{&kubejwt.NotAllowedError{}, "not_allowed"},
		{&kubejwt.InvalidTokenError{Reason: kubejwt.ReasonStale}, "stale"},
		{(*kubejwt.InvalidTokenError)(nil), "error"},
		{context.Canceled, "error"},
	} {
		if got := kubejwt.Outcome(tt.err); got != tt.want {
			t.Errorf("Outcome(%v) = %s: want %s", tt.err, got, tt.want)
		}
	}
}
