package kubejwt

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/oauth2"

	"github.com/kubejwt/kubejwt/internal/origin"
	"github.com/kubejwt/kubejwt/internal/quote"
	"github.com/kubejwt/kubejwt/internal/tokenfile"
)

// TokenFile returns the token that kubelet mounts and renews at path. The file is
// read again if the last read was more than a minute ago, or after a [Transport]
// got 401 with its token. If it can't be read then, the last token stays in use
// until it expires. Errors name the file.
//
// The Expiry of a token is at most a minute ahead, so that an
// [oauth2.ReuseTokenSource] around this one sees renewals too. Nothing is read
// before the first Token. It is safe for concurrent use by multiple goroutines.
func TokenFile(path string) oauth2.TokenSource { return tokenfile.New(path) }

// Transport is an http.RoundTripper that sends a token to one origin only. Source
// and Origin are required.
//
//	client := &http.Client{Transport: &kubejwt.Transport{
//		Source: kubejwt.TokenFile("/var/run/secrets/tokens/data-store"),
//		Origin: "https://data-store.prod.svc",
//	}}
//
// A request to another origin, or one whose Host names another origin, is an error
// that names both. If a redirect led to another origin, the request is sent without
// the token, and so are all that follow it. A request that already has an
// Authorization header is an error.
//
// Errors of Base are returned as they are, except those that repeat the token, as the
// answer of a service may do, and those longer than 4 KiB.
//
// After a 401, the next request reads its [TokenFile] again: if keys were rotated,
// there is a new token already. The refused request is not sent again.
//
// Over http, everybody on the way can read the token, proxies included. With a nil
// Base such requests go through the proxy that HTTP_PROXY names, as with
// [http.DefaultTransport]. To use no proxy, set Base to an [http.Transport] whose
// Proxy is nil. Over https, a proxy can't read what it passes on.
//
// It is safe for concurrent use by multiple goroutines if Source and Base are.
type Transport struct {
	Source oauth2.TokenSource // of the token, usually TokenFile
	Origin string             // scheme, host and port, with no path, not even /; over http others may read the token
	Base   http.RoundTripper  // nil: http.DefaultTransport
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	authorized, err := t.authorize(request)
	if err != nil {
		// A RoundTripper must close the body, even if it returns an error.
		if request.Body != nil {
			request.Body.Close()
		}
		return nil, fmt.Errorf("kubejwt: Transport: %w", err)
	}
	bearer := strings.TrimPrefix(authorized.Header.Get("Authorization"), "Bearer ")
	response, err := t.base().RoundTrip(authorized)
	err = withoutToken(err, bearer)
	if response == nil {
		return nil, err
	}
	response.Request = request // and not the copy, which has the token
	if source, ok := t.Source.(*tokenfile.Source); ok && response.StatusCode == http.StatusUnauthorized {
		source.Forget(bearer)
	}
	return response, err
}

// withoutToken returns err, unless its text may repeat the token: it can quote an
// answer that is not HTTP.
func withoutToken(err error, bearer string) error {
	const most = 4 << 10 // bytes that are searched
	if err == nil {
		return nil
	}
	if text := err.Error(); len(text) > most || quote.HoldsToken(text) || quote.HoldsPiece(text, bearer) {
		return errors.New("kubejwt: Transport: the request failed, with an error that repeats the token or " +
			"is very long")
	}
	return err
}

func (t *Transport) base() http.RoundTripper {
	if t.Base != nil {
		return t.Base
	}
	return http.DefaultTransport
}

// CloseIdleConnections closes the idle connections of Base, if Base can do that.
// [http.Client.CloseIdleConnections] calls it.
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.base().(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// token returns the token of Source. If that is a TokenFile, ctx ends the wait for its
// disk.
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
		if strings.EqualFold(name, "Authorization") { // it is sent whatever the case of its letters
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
