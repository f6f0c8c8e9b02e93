package kubejwt_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

// whoami answers with the caller's name.
var whoami = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	claims, ok := kubejwt.FromContext(r.Context())
	fmt.Fprint(w, claims.Username(), ok)
})

func TestHandler(t *testing.T) {
	k := newKit(t)
	asked := false
	h := mustNew(t, k.config).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = true
		whoami(w, r)
	}))
	token := k.Mint(good())
	expired, stranger := good(), good()
	expired.Lifetime = -1 << 40
	stranger.Namespace = "evil"
	for _, tt := range []struct {
		name          string
		authorization []string
		status        int
		challenge     string // WWW-Authenticate
		body          string
	}{
		{"good", []string{"Bearer " + token}, 200, "", "system:serviceaccount:shop:apitrue"},
		{"scheme in lower case", []string{"bearer " + token}, 200, "", ""},
		{"two blanks", []string{"Bearer  " + token}, 200, "", ""},
		{"no header", nil, 401, "Bearer", ""},
		{"an empty header", []string{""}, 401, "Bearer", ""},
		{"the scheme alone", []string{"Bearer"}, 401, "Bearer", ""},
		{"an empty token", []string{"Bearer "}, 401, "Bearer", ""},
		{"another scheme", []string{"Basic " + token}, 401, "Bearer", ""},
		{"no scheme", []string{token}, 401, "Bearer", ""},
		{"two headers", []string{"Bearer " + token, "Bearer " + token}, 401, `Bearer error="invalid_token", error_description="the token is malformed"`, ""},
		{"two tokens", []string{"Bearer " + token + " " + token}, 401, `Bearer error="invalid_token", error_description="the token is malformed"`, ""},
		{"two tokens with a comma", []string{"Bearer " + token + "," + token}, 401, `Bearer error="invalid_token", error_description="the token is malformed"`, ""},
		{"expired", []string{"Bearer " + k.Mint(expired)}, 401, `Bearer error="invalid_token", error_description="the token has expired"`, ""},
		{"not allowed", []string{"Bearer " + k.Mint(stranger)}, 403, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header["Authorization"] = tt.authorization
			w := httptest.NewRecorder()
			asked = false
			h.ServeHTTP(w, r)
			if w.Code != tt.status || w.Header().Get("WWW-Authenticate") != tt.challenge {
				t.Errorf("status %d, challenge %q: want %d, %q", w.Code, w.Header().Get("WWW-Authenticate"), tt.status, tt.challenge)
			}
			if asked != (tt.status == 200) {
				t.Errorf("status %d, and the handler behind was asked: %t", tt.status, asked)
			}
			if tt.body != "" && w.Body.String() != tt.body {
				t.Errorf("body %q: want %q", w.Body, tt.body)
			}
			if leak := commonRun(w.Body.String()+fmt.Sprint(w.Header()), token, 16); leak != "" {
				t.Errorf("the answer has %q of the token", leak)
			}
		})
	}
}

func TestConformance(t *testing.T) {
	for _, alg := range []string{"RS256", "ES256", "ES384", "ES512"} {
		t.Run(alg, func(t *testing.T) {
			c := kubejwttest.NewCluster(t)
			c.RotateKey(alg)
			v := mustNew(t, c.Config("data-store"))
			kubejwttest.TestHandler(t, v.Handler(whoami), c, good())
		})
	}
}

func TestHandlerWithoutKeys(t *testing.T) {
	k := newOwnKit(t)
	k.SetAvailable(false)
	h := mustNew(t, k.Config("data-store")).Handler(whoami)
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer "+k.Mint(good()))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	seconds, err := strconv.Atoi(w.Header().Get("Retry-After"))
	if w.Code != 503 || err != nil || seconds < 1 || seconds > 30 {
		t.Errorf("status %d, Retry-After %q: want 503 and 1 to 30 s", w.Code, w.Header().Get("Retry-After"))
	}
	if w.Header().Get("WWW-Authenticate") != "" {
		t.Error("a challenge, though no other token would help")
	}
}

func TestWriteError(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status int
	}{
		{nil, 500},
		{errors.New("foreign: secret"), 500},
		{fmt.Errorf("wrapped: %w", kubejwt.ErrNoToken), 401},
		{fmt.Errorf("wrapped: %w", &kubejwt.InvalidTokenError{Reason: "later", Got: "secret"}), 401},
		{fmt.Errorf("wrapped: %w", &kubejwt.NotAllowedError{}), 403},
		{fmt.Errorf("secret: %w", kubejwt.ErrKeysUnavailable), 503},
		{fmt.Errorf("secret: %w", kubejwt.ErrUndecided), 503},
		{(*kubejwt.InvalidTokenError)(nil), 500},
	} {
		w := httptest.NewRecorder()
		kubejwt.WriteError(w, tt.err)
		if w.Body.Len() < 10 {
			t.Errorf("%T: the answer is %q", tt.err, w.Body)
		}
		if w.Code != tt.status {
			t.Errorf("%v: status %d: want %d", tt.err, w.Code, tt.status)
		}
		if strings.Contains(w.Body.String()+fmt.Sprint(w.Header()), "secret") {
			t.Errorf("%v: its text reaches the caller: %s %v", tt.err, w.Body, w.Header())
		}
		if tt.status == 503 && w.Header().Get("Retry-After") != "1" {
			t.Errorf("%v: Retry-After %q: want 1", tt.err, w.Header().Get("Retry-After"))
		}
	}
}

// Retry-After is in whole seconds, and long enough.
func TestRetrySeconds(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	synctest.Test(t, func(t *testing.T) {
		config := cluster.Config("data-store")
		config.Keys = kubejwt.RemoteKeys{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"20"}}, Body: http.NoBody}, nil
		})}
		v := mustNew(t, config)
		for _, tt := range []struct {
			wait time.Duration
			want string
		}{
			{0, "20"},
			{100 * time.Millisecond, "20"},
			{900 * time.Millisecond, "19"},
			{18*time.Second + 999*time.Millisecond, "1"},
		} {
			time.Sleep(tt.wait)
			w := httptest.NewRecorder()
			kubejwt.WriteError(w, v.Ready(t.Context()))
			if got := w.Header().Get("Retry-After"); got != tt.want {
				t.Errorf("after %v more: Retry-After %q, want %q", tt.wait, got, tt.want)
			}
		}
	})
}

// Each reason has its own fixed text, which fits into a quoted string.
func TestReasonTexts(t *testing.T) {
	seen := make(map[string]kubejwt.Reason)
	for _, reason := range append(reasons, kubejwt.ReasonRevoked, "a later one") {
		w := httptest.NewRecorder()
		kubejwt.WriteError(w, &kubejwt.InvalidTokenError{Reason: reason})
		text := w.Body.String()
		if other, ok := seen[text]; ok || strings.TrimSpace(text) == "" || strings.ContainsAny(text, `"\`) {
			t.Errorf("%s: the text %q is that of %q, empty, or has quotation marks", reason, text, other)
		}
		seen[text] = reason
	}
}

func TestContext(t *testing.T) {
	if claims, ok := kubejwt.FromContext(t.Context()); ok || claims != (kubejwt.Claims{}) {
		t.Errorf("an empty context has %v", claims)
	}
	want := kubejwt.Claims{Namespace: "shop"}
	if claims, ok := kubejwt.FromContext(kubejwt.NewContext(t.Context(), want)); !ok || claims != want {
		t.Errorf("%v, %t: want %v", claims, ok, want)
	}
}
