package kubejwt

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"

	"github.com/kubejwt/kubejwt/internal/origin"
	"github.com/kubejwt/kubejwt/internal/quote"
	"github.com/kubejwt/kubejwt/internal/reread"
	"github.com/kubejwt/kubejwt/internal/strictjson"
)

// tokenInterval is how old a token read from a file may get. Kubelet renews it
// when a fifth of its life is left, two minutes at the least.
const tokenInterval = time.Minute

// tokenWait is how long Token, which has no context, waits for a disk that hangs
// while there is no token to go on with.
const tokenWait = 10 * time.Second

// TokenFile returns the token that kubelet mounts and renews at path. The file
// is read again when it is asked for after a minute, or after a [Transport] got
// 401 with it. If the file is not in order after a minute, the last token stays
// in use until it expires. Errors name the file.
//
// The Expiry of a token is at most a minute ahead, so that an
// [oauth2.ReuseTokenSource] around this one sees renewals too. Nothing is read
// before the first Token. It is safe for concurrent use by multiple goroutines.
func TokenFile(path string) oauth2.TokenSource {
	t := &tokenFile{path: path}
	t.file.Store(t.unread())
	return t
}

type tokenFile struct {
	path string
	file atomic.Pointer[reread.File[mountedToken]]
}

func (t *tokenFile) unread() *reread.File[mountedToken] {
	return reread.New(t.path, origin.MaxBearerSize, tokenInterval, parseTokenFile, slog.New(slog.DiscardHandler))
}

// forget has the file read again for the next Token, if bearer is still the one
// that was read last.
func (t *tokenFile) forget(bearer string) {
	file := t.file.Load()
	if content, err := file.Last(); err == nil && content.Value.bearer == bearer {
		t.file.CompareAndSwap(file, t.unread())
	}
}

// mountedToken is a token and its exp, zero if that can't be told.
type mountedToken struct {
	bearer string
	expiry time.Time
}

func (m mountedToken) expired() bool {
	return !m.expiry.IsZero() && !time.Now().Before(m.expiry)
}

func (t *tokenFile) Token() (*oauth2.Token, error) {
	if t.path == "" {
		return nil, errors.New("kubejwt: TokenFile: no path")
	}
	ctx, cancel := context.WithTimeout(context.Background(), tokenWait)
	defer cancel()
	file := t.file.Load()
	content, err := file.Get(ctx)
	if err == nil && content.Value.expired() {
		content, err = file.GetFresh(ctx)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("kubejwt: TokenFile: %w", err)
	case content.Value.expired() && content.Problem != nil:
		return nil, fmt.Errorf("kubejwt: TokenFile: %w; the token read before has expired", content.Problem)
	case content.Value.expired():
		return nil, fmt.Errorf("kubejwt: TokenFile: %s: the token in it expired at %s: does kubelet renew this volume?", t.path, formatTime(content.Value.expiry))
	}
	expiry := time.Now().Add(tokenInterval)
	if token := content.Value; !token.expiry.IsZero() && token.expiry.Before(expiry) {
		expiry = token.expiry
	}
	return &oauth2.Token{AccessToken: content.Value.bearer, TokenType: "Bearer", Expiry: expiry}, nil
}

// parseTokenFile reads exp without verifying it: it is the caller's own token,
// and whoever gets it verifies it.
func parseTokenFile(data []byte) (mountedToken, error) {
	bearer, err := origin.ParseBearer(data)
	if err != nil {
		return mountedToken{}, err
	}
	token := mountedToken{bearer: bearer}
	if !quote.BeginsToken(bearer) {
		return token, nil // not a JWT: whoever gets it knows what it is
	}
	segments := strings.Split(bearer, ".")
	if len(segments) != 3 || segments[2] == "" {
		return mountedToken{}, errors.New("half a JWT")
	}
	payload, err := base64.RawURLEncoding.DecodeString(segments[1])
	if err != nil {
		return mountedToken{}, errors.New("a damaged JWT")
	}
	var claims struct {
		Expiry numericDate `json:"exp"`
	}
	if err := strictjson.Unmarshal(payload, &claims); err != nil {
		return mountedToken{}, errors.New("a damaged JWT")
	}
	token.expiry = claims.Expiry.time()
	return token, nil
}

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
	if source, ok := t.Source.(*tokenFile); ok && response.StatusCode == http.StatusUnauthorized && authorized != request {
		source.forget(strings.TrimPrefix(authorized.Header.Get("Authorization"), "Bearer "))
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

// authorize returns a copy of request with the token, or request itself if a
// redirect led elsewhere.
func (t *Transport) authorize(request *http.Request) (*http.Request, error) {
	if request.URL == nil {
		return nil, errors.New("the request has no URL")
	}
	if t.Source == nil {
		return nil, errors.New("no Source, which is required")
	}
	home, err := parseOrigin(t.Origin)
	if err != nil {
		return nil, err
	}
	if wasRedirectedElsewhere(request, home) {
		return request, nil
	}
	if err := checkTarget(request, home); err != nil {
		return nil, err
	}
	for name := range request.Header {
		if strings.EqualFold(name, "Authorization") { // it is sent in any case of letters
			return nil, errors.New("the request has an Authorization header already")
		}
	}
	token, err := t.Source.Token()
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

// wasRedirectedElsewhere reports whether a redirect led to request, and it or one
// before it led away from home. Whoever answered elsewhere chose method, path and
// query of what follows, even if that is at home again.
func wasRedirectedElsewhere(request *http.Request, home origin.Origin) bool {
	if request.Response == nil { // only a client that follows a redirect sets it
		return false
	}
	for request.Response != nil {
		if at, err := origin.Of(request.URL); err != nil || at != home {
			return true
		}
		if request = request.Response.Request; request == nil || request.URL == nil {
			return true // nobody can tell
		}
	}
	at, err := origin.Of(request.URL)
	return err != nil || at != home
}

// checkTarget returns an error unless request goes to home, whatever decides that:
// the URL's host to be dialled, and the host that is asked for there.
func checkTarget(request *http.Request, home origin.Origin) error {
	to, err := origin.Of(request.URL)
	switch {
	case err != nil:
		return fmt.Errorf("the token is for %s, and the request goes to %s: %w", home, quote.Value(request.URL.Host), err)
	case to != home:
		return fmt.Errorf("the token is for %s, and the request goes to %s", home, to)
	case request.URL.Opaque != "":
		return errors.New("the request's URL has an Opaque part, which may name another host")
	case request.Host == "":
		return nil
	}
	asked, err := origin.Of(&url.URL{Scheme: request.URL.Scheme, Host: request.Host})
	if err != nil || asked != home {
		return fmt.Errorf("the token is for %s, and the request asks there for the host %s (Request.Host)",
			home, quote.Value(request.Host))
	}
	return nil
}

func parseOrigin(text string) (origin.Origin, error) {
	if text == "" {
		return origin.Origin{}, errors.New("no Origin, which is required")
	}
	u, err := url.Parse(text)
	if err != nil {
		return origin.Origin{}, errors.New("the Origin is wrong: want scheme and host, as in https://data-store.prod.svc")
	}
	home, err := origin.Of(u)
	if err != nil {
		return origin.Origin{}, fmt.Errorf("the Origin is wrong: %w: want scheme and host, as in https://data-store.prod.svc", err)
	}
	if u.Path != "" || u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#") || u.User != nil {
		return origin.Origin{}, errors.New("the Origin is wrong: want scheme, host and port alone: no path, query, fragment or user information")
	}
	return home, nil
}
