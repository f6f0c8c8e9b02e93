package origin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/kubejwt/kubejwt/internal/keypolicy"
	"github.com/kubejwt/kubejwt/internal/quote"
)

const maxErrorText = 512 // bytes of an error that may quote a certificate or anything else

// A StatusError is an answer with a status other than 200.
type StatusError struct {
	URL        URL
	Code       int
	Unsent     string        // why no bearer token was sent; "": one was
	RetryAfter time.Duration // what the answer asks for; 0: nothing
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("GET %s: status %d", e.URL, e.Code)
	switch {
	case e.Code == http.StatusUnauthorized || e.Code == http.StatusForbidden:
		return fmt.Sprintf("%s (%s)", text, e.sent())
	case 300 <= e.Code && e.Code < 400:
		return text + ": redirects are followed once, on the same origin and without a bearer token: " +
			"configure the URL that has the answer"
	default:
		return text
	}
}

func (e *StatusError) sent() string {
	if e.Unsent != "" {
		return "no bearer token was sent: " + e.Unsent
	}
	return "a bearer token was sent"
}

// explain passes on only errors that hold nothing of the answer: some errors quote it.
// It names the variable that chose a proxy.
func (c *Client) explain(u URL, request *http.Request, err error) error {
	return fmt.Errorf("GET %s: %w%s", u, c.harmless(request, err), c.viaProxy(request))
}

func (c *Client) harmless(request *http.Request, err error) error {
	_, isNetwork := errors.AsType[*net.OpError](err)
	_, isCertificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, isRecord := errors.AsType[tls.RecordHeaderError](err)
	unknown, isUnknown := errors.AsType[x509.UnknownAuthorityError](err)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("no answer within the time allowed")
	case isUnknown:
		if leaks(unknown, request) {
			unknown = x509.UnknownAuthorityError{}
		}
		return fmt.Errorf("%w: is %sCAFile the CA of this server?", tamed{unknown}, c.prefix)
	case c.given != nil:
		return c.ofTransport(request, err)
	case isCertificate && leaks(tamed{err}, request):
		return errors.New("the server's certificate is not valid, with an error that quotes the request or a token")
	case isNetwork, isCertificate, isRecord, errors.Is(err, io.EOF):
		return tamed{err}
	case errors.Is(err, context.Canceled):
		return errors.New("the request was cancelled")
	default:
		return errors.New("no answer in HTTP over TLS, from the server or from a proxy on the way")
	}
}

// ofTransport returns the text of an error of the caller's transport. Only its text:
// one of our own errors in it would look like a verdict.
func (c *Client) ofTransport(request *http.Request, err error) error {
	if about, ok := errors.AsType[*url.Error](err); ok && leaks(err, request) {
		err = about.Err // the reason without the URL
	}
	if leaks(err, request) {
		return fmt.Errorf("%sTransport failed, with an error that quotes the request or the answer", c.prefix)
	}
	return fmt.Errorf("%sTransport: %s", c.prefix, tamed{err})
}

// tamed has a text that is fit for a log. The names in a certificate are what its
// owner likes.
type tamed struct{ error }

func (e tamed) Unwrap() error { return e.error }

func (e tamed) Error() string {
	wrong, _ := errors.AsType[x509.HostnameError](e.error)
	if wrong.Certificate != nil && len(wrong.Certificate.DNSNames) > 0 && net.ParseIP(wrong.Host) == nil {
		return fmt.Sprintf("tls: failed to verify certificate: x509: certificate is valid for %s, not %s",
			quote.List(wrong.Certificate.DNSNames), wrong.Host)
	}
	return quote.Text(maxErrorText, e.error.Error())
}

// viaProxy names the variable that chose a proxy for a request. A NO_PROXY that does
// not list the server is a common reason for a failure.
func (c *Client) viaProxy(request *http.Request) string {
	if c.given != nil || c.proxy == nil {
		return ""
	}
	if proxy, err := c.proxy(request); proxy == nil || err != nil {
		return ""
	}
	upper := strings.ToUpper(request.URL.Scheme) + "_PROXY"
	for _, name := range []string{upper, strings.ToLower(upper)} {
		if os.Getenv(name) != "" {
			return fmt.Sprintf(" (through the proxy that %s names: to ask %s directly, list it in NO_PROXY)",
				name, request.URL.Hostname())
		}
	}
	return " (through a proxy that the environment names)"
}

// leaks reports whether the text of err holds a piece of the bearer token, something
// that looks like a token, or a query. A query may be a signature.
func leaks(err error, request *http.Request) bool {
	text, query := err.Error(), ""
	if request.URL != nil {
		query = request.URL.RawQuery
	}
	bearer := strings.TrimPrefix(request.Header.Get("Authorization"), "Bearer ")
	shown := text[:min(len(text), maxErrorText)]
	return quote.HoldsToken(text) || holdsQuery(text, query) || quote.HoldsPiece(shown, bearer)
}

// holdsQuery reports whether text holds any URL with a query, or this query, or one
// of its values.
func holdsQuery(text, query string) bool {
	const long = 8 // bytes; shorter values are words and numbers
	for word := range strings.FieldsSeq(text) {
		if _, rest, _ := strings.Cut(word, "://"); strings.Contains(rest, "?") {
			return true
		}
	}
	if query != "" && strings.Contains(text, query) {
		return true
	}
	for pair := range strings.SplitSeq(query, "&") {
		_, raw, _ := strings.Cut(pair, "=")
		value, _ := url.QueryUnescape(raw)
		for _, spelling := range []string{raw, value} {
			if len(spelling) >= long && strings.Contains(text, spelling) {
				return true
			}
		}
	}
	return false
}

// retryAfter returns the Retry-After of an answer that says that the origin is busy:
// seconds or a date (RFC 9110, section 10.2.3). It is 0 if there is neither.
func retryAfter(response *http.Response) time.Duration {
	if response.StatusCode != http.StatusTooManyRequests && response.StatusCode != http.StatusServiceUnavailable {
		return 0
	}
	value := response.Header.Get("Retry-After")
	// For a number out of range, ParseUint returns the largest.
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(seconds, uint64(keypolicy.MaxRetryAfter/time.Second))) * time.Second
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	// Everybody gets the same date: this keeps them from coming back at once.
	after := min(max(0, time.Until(date)), keypolicy.MaxRetryAfter)
	return after + rand.N(after/5+time.Second)
}
