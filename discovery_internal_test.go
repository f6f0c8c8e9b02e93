package kubejwt

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The document of a fetch that was given up on comes too late to count: another
// one may have been read since.
func TestLateDocument(t *testing.T) {
	ctx, giveUp := context.WithCancel(t.Context())
	r := newTestRemote(t, RemoteKeys{Transport: roundTripFunc(func(request *http.Request) (*http.Response, error) {
		giveUp()
		const document = `{"issuer":"https://iss.example","jwks_uri":"https://iss.example/old"}`
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(document)), Request: request}, nil
	})})
	r.namedURL = "https://iss.example/new"
	if _, _, err := r.document(ctx, r.transport, causeFirst); err == nil || errors.Is(err, context.Canceled) || r.namedURL != "https://iss.example/new" {
		t.Errorf("%v: the keys are looked for at %s", err, r.namedURL)
	}
	if _, _, err := r.document(t.Context(), r.transport, causeFirst); err != nil || r.namedURL != "https://iss.example/old" {
		t.Errorf("%v: the keys are looked for at %s", err, r.namedURL)
	}
}

// The bearer is for one origin, whoever asks.
func TestAuthorize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newTestRemote(t, RemoteKeys{JWKSURL: "https://keys.example/jwks", BearerTokenFile: path})
	for url, want := range map[string]string{
		"https://keys.example/jwks":         "Bearer secret",
		"https://keys.example:443/other":    "Bearer secret",
		"https://KEYS.example/jwks":         "Bearer secret",
		"https://keys.example:8443/jwks":    "",
		"https://iss.example/jwks":          "",
		"https://keys.example.evil/jwks":    "",
		"http://keys.example/jwks":          "",
		"http://keys.example:443/jwks":      "",
		"https://keys.example@evil.example": "",
	} {
		request, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.authorize(request); err != nil || request.Header.Get("Authorization") != want {
			t.Errorf("%s: %q, %v: want %q", url, request.Header.Get("Authorization"), err, want)
		}
	}
	// Even an origin over http gets none.
	r.origin = "http://127.0.0.1:80"
	request, err := http.NewRequest(http.MethodGet, "http://127.0.0.1/jwks", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.authorize(request); err != nil || request.Header.Get("Authorization") != "" {
		t.Errorf("over http: %q, %v", request.Header.Get("Authorization"), err)
	}
}
