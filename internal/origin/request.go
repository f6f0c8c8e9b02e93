package origin

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/kubejwt/kubejwt/internal/quote"
)

// ParseOrigin parses an origin that a caller configured. It has scheme, host and port,
// and nothing else. http is allowed.
func ParseOrigin(text string) (Origin, error) {
	const want = "want scheme and host, as in https://data-store.prod.svc"
	u, err := url.Parse(text)
	if err != nil {
		return Origin{}, errors.New(want)
	}
	o, err := Of(u)
	if err != nil {
		return Origin{}, fmt.Errorf("%w: %s", err, want)
	}
	if u.Path != "" || u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#") || u.User != nil {
		return Origin{}, errors.New("want only scheme, host and port: no path, query, fragment or user information")
	}
	return o, nil
}

// CheckRequest returns an error unless a request goes to o. It checks both the URL's
// host, which is dialled, and the Host of the request.
func (o Origin) CheckRequest(request *http.Request) error {
	to, err := Of(request.URL)
	switch {
	case err != nil:
		return fmt.Errorf("the token is for %s, but the request goes to %s: %w", o, quote.Value(request.URL.Host), err)
	case to != o:
		return fmt.Errorf("the token is for %s, but the request goes to %s", o, to)
	case request.URL.Opaque != "":
		return errors.New("the request's URL has an Opaque part, which may name another host")
	case request.Host == "":
		return nil
	}
	asked, err := Of(&url.URL{Scheme: request.URL.Scheme, Host: request.Host})
	if err != nil || asked != o {
		return fmt.Errorf("the token is for %s, but the request names the host %s (Request.Host)",
			o, quote.Value(request.Host))
	}
	return nil
}

// WasLeft reports whether a redirect led to request, and this redirect or one before it
// led away from o. Another origin then chose the method, path and query of the request,
// even if the request goes to o again.
func (o Origin) WasLeft(request *http.Request) bool {
	if request.Response == nil { // only a client that follows a redirect sets it
		return false
	}
	for request.Response != nil {
		if at, err := Of(request.URL); err != nil || at != o {
			return true
		}
		if request = request.Response.Request; request == nil || request.URL == nil {
			return true // nobody can tell
		}
	}
	at, err := Of(request.URL)
	return err != nil || at != o
}
