package kubejwt

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/kubejwt/kubejwt/internal/origin"
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
	last := mustParseURL(t, "https://iss.example/new")
	r.namedURL = last
	if _, _, err := r.document(ctx, causeFirst); err == nil || errors.Is(err, context.Canceled) || r.namedURL != last {
		t.Errorf("%v: the keys are looked for at %s", err, r.namedURL)
	}
	if _, _, err := r.document(t.Context(), causeFirst); err != nil || r.namedURL.Digest() != mustParseURL(t, "https://iss.example/old").Digest() {
		t.Errorf("%v: the keys are looked for at %s", err, r.namedURL)
	}
}

func mustParseURL(t *testing.T, text string) origin.URL {
	t.Helper()
	u, err := origin.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
