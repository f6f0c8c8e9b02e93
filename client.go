package kubejwt

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/oauth2"

	"github.com/kubejwt/kubejwt/internal/origin"
	"github.com/kubejwt/kubejwt/internal/tokenfile"
)

// TokenFile returns the token that kubelet mounts and renews at path. The file
// is read again when it is asked for after a minute, or after a [Transport] got
// 401 with it. If the file is not in order after a minute, the last token stays
// in use until it expires. Errors name the file.
//
// The Expiry of a token is at most a minute ahead, so that an
// [oauth2.ReuseTokenSource] around this one sees renewals too. Nothing is read
// before the first Token. It is safe for concurrent use by multiple goroutines.
func TokenFile(path string) oauth2.TokenSource { return tokenfile.New(path) }

// Transport is an http.RoundTripper that sends a token to one origin, and to
// no other. Source and Origin are required.
//
//	client := &http.Client{Transport: &kubejwt.Transport{
//		Source: kubejwt.TokenFile("/var/run/secrets/tokens/data-store"),
//		Origin: "https://data-store.prod.svc",
//	}}
//
// A request to another origin, or with a Host of another origin, is an error that
// names both. If a redirect led to another origin, the request passes without the
// token, and so do all that follow it. A request that has an Authorization header
// already is an error.
//
// After an answer of 401 the next request reads a [TokenFile] again: where keys
// were rotated, a new token is there already. A request is not sent again.
//
// Over http, everybody on the way can read the token, a proxy too: a nil Base
// sends such requests through the proxy that HTTP_PROXY names, as
// [http.DefaultTransport] does. A Base of one's own with a nil Proxy uses none.
// Over https a proxy passes on what it can't read.
//
// It is safe for concurrent use by
// multiple goroutines if Source and Base are.
type Transport struct {
	Source oauth2.TokenSource // of the token, usually TokenFile
	Origin string             // scheme, host and port, with no path, not even /; over http others may read the token
	Base   http.RoundTripper  // nil: http.DefaultTransport
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	authorized, err := t.authorize(request)
	if err != nil {
		// A RoundTripper closes the body, in any case.
		if request.Body != nil {
			request.Body.Close()
		}
		return nil, fmt.Errorf("kubejwt: Transport: %w", err)
	}
	response, err := t.base().RoundTrip(authorized)
	if response == nil {
		return nil, err
	}
	response.Request = request // and not the copy, which has the token
	if source, ok := t.Source.(*tokenfile.Source); ok && response.StatusCode == http.StatusUnauthorized {
		source.Forget(strings.TrimPrefix(authorized.Header.Get("Authorization"), "Bearer "))
	}
	return response, err
}

func (t *Transport) base() http.RoundTripper {
	if t.Base != nil {
		return t.Base
	}
	return http.DefaultTransport
}

// CloseIdleConnections closes those of Base, if it can do that. It is what
// [http.Client.CloseIdleConnections] calls.
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.base().(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// token waits for the disk under a TokenFile no longer than ctx.
func (t *Transport) token(ctx context.Context) (*oauth2.Token, error) {
	if file, ok := t.Source.(*tokenfile.Source); ok {
		return file.TokenWithin(ctx)
	}
	return t.Source.Token()
}

// authorize returns a copy of request with the token, or request itself if a
// redirect led elsewhere.
func (t *Transport) authorize(request *http.Request) (*http.Request, error) {
	if request.URL == nil {
		return nil, errors.New("the request has no URL")
	}
	if t.Source == nil {
		return nil, errors.New("no Source, which is required")
	}
	if t.Origin == "" {
		return nil, errors.New("no Origin, which is required")
	}
	home, err := origin.ParseOrigin(t.Origin)
	if err != nil {
		return nil, fmt.Errorf("the Origin is wrong: %w", err)
	}
	if home.WasLeft(request) {
		return request, nil
	}
	if err := home.CheckRequest(request); err != nil {
		return nil, err
	}
	for name := range request.Header {
		if strings.EqualFold(name, "Authorization") { // it is sent in any case of letters
			return nil, errors.New("the request has an Authorization header already")
		}
	}
	token, err := t.token(request.Context())
	if err != nil {
		return nil, err
	}
	if token == nil || token.AccessToken == "" {
		return nil, errors.New("the Source gave no token")
	}
	authorized := request.Clone(request.Context())
	if authorized.Header == nil {
		authorized.Header = make(http.Header)
	}
	token.SetAuthHeader(authorized)
	return authorized, nil
}
