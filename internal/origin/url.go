package origin

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/kubejwt/kubejwt/internal/quote"
)

const (
	maxForeignURL = 2 << 10
	maxShownURL   = 256 // of a foreign URL, in errors
)

// A URL is a URL that was checked. The zero URL is none.
type URL struct {
	url     *url.URL // never changed
	origin  Origin
	foreign bool // somebody else named it
}

// Parse parses a URL that the caller configured. It is https, or http to a literal
// loopback address, which no DNS answer can change.
func Parse(text string) (URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Opaque != "" {
		return URL{}, errors.New("not a URL with a host")
	}
	switch {
	case u.User != nil:
		return URL{}, errors.New("a URL with user information")
	case u.Fragment != "":
		return URL{}, errors.New("a URL with a fragment")
	case u.Scheme != "https" && u.Scheme != "http":
		return URL{}, errors.New("want https (http only for a literal loopback address)")
	}
	at, err := Of(u)
	switch {
	case err != nil:
		return URL{}, err
	case u.Scheme == "http" && !at.isLoopback():
		return URL{}, errors.New("want https (http only for a literal loopback address)")
	}
	return URL{url: u, origin: at}.normal(), nil
}

// ParseOptional is Parse, except that "" is the zero URL.
func ParseOptional(text string) (URL, error) {
	if text == "" {
		return URL{}, nil
	}
	return Parse(text)
}

// ParseForeign parses a URL that somebody else named, who may be an attacker. It must
// be https, and not too long. Errors quote it, without what may be a secret.
func ParseForeign(text string) (URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return URL{}, fmt.Errorf("not a URL: want an https URL of at most %d bytes", maxForeignURL)
	}
	foreign := URL{url: u, foreign: true}
	foreign.origin, err = Of(u)
	if err != nil || len(text) > maxForeignURL || u.Scheme != "https" || u.Opaque != "" || u.User != nil {
		return URL{}, fmt.Errorf("%s: want an https URL of at most %d bytes", foreign, maxForeignURL)
	}
	return foreign.normal(), nil
}

// normal is u without the parts that have no meaning in a request.
func (u URL) normal() URL {
	u.url.Host = strings.TrimSuffix(u.url.Host, ":") // an empty port
	u.url.Fragment, u.url.RawFragment = "", ""
	return u
}

// redirected returns the URL that a response redirects to, if that is on the same
// origin as u.
func (u URL) redirected(response *http.Response) (target URL, ok bool) {
	switch response.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return URL{}, false
	}
	location := response.Header.Get("Location")
	if location == "" || len(location) > maxForeignURL {
		return URL{}, false
	}
	to, err := u.url.Parse(location)
	if err != nil || to.User != nil || to.Opaque != "" {
		return URL{}, false
	}
	at, err := Of(to)
	if err != nil || at != u.origin {
		return URL{}, false
	}
	return URL{url: to, origin: at, foreign: true}.normal(), true
}

// Origin returns the origin of u.
func (u URL) Origin() Origin { return u.origin }

// IsZero reports whether u is the zero URL.
func (u URL) IsZero() bool { return u.url == nil }

// IsAt reports whether u has this path, and no query.
func (u URL) IsAt(path string) bool {
	return u.url != nil && u.url.EscapedPath() == path && u.url.RawQuery == ""
}

// At returns the URL with this path and query on the same origin. The query may be
// nil.
func (u URL) At(path string, query url.Values) URL {
	at := &url.URL{Scheme: u.url.Scheme, Host: u.url.Host, Path: path, RawQuery: query.Encode()}
	return URL{url: at, origin: u.origin}
}

// String is safe for errors and logs. It leaves out the query, which may hold a secret,
// and quotes a foreign URL. Two URLs on the same origin may show it differently.
func (u URL) String() string {
	if u.url == nil {
		return ""
	}
	shown := u.url.EscapedPath()
	if u.url.Scheme != "" {
		shown = u.url.Scheme + "://" + u.url.Host + shown
	}
	if u.foreign {
		return quote.UpTo(maxShownURL, shown)
	}
	return shown
}

// Digest returns a digest of the URL, query included. It does not reveal the URL.
func (u URL) Digest() string { return digest([]byte(u.url.String())) }
