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
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/kubejwt/kubejwt/internal/quote"
)

const (
	maxErrorText  = 512 // of a Transport's error, which may quote anything
	maxRetryAfter = 10 * time.Minute
)

// A StatusError is an answer with another status than 200.
type StatusError struct {
	URL        URL
	Code       int
	Unsent     string        // why no bearer token was sent; "": one was
	RetryAfter time.Duration // as the answer asks for; 0: it does not
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

// explain passes on the errors that hold nothing of the answer: others quote
// what came. It names the variable that chose a proxy.
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
		return fmt.Errorf("%w: is %sCAFile the CA of this server?", unknown, c.prefix)
	case c.given != nil && leaks(err, request):
		return fmt.Errorf("%sTransport failed, with an error that quotes the request or the answer", c.prefix)
	case c.given != nil:
		// Its text alone: an error of ours in it would pass for a verdict.
		text := err.Error()
		return fmt.Errorf("%sTransport: %s", c.prefix, text[:min(len(text), maxErrorText)])
	case isNetwork, isCertificate, isRecord, errors.Is(err, io.EOF):
		return err
	case errors.Is(err, context.Canceled):
		return errors.New("the request was cancelled")
	default:
		return errors.New("no answer in HTTP over TLS, from the server or a proxy on the way")
	}
}

// viaProxy tells of the proxy that the environment chose for a request: a
// NO_PROXY that lacks the server is a common reason for a failure.
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
			return fmt.Sprintf(" (through the proxy that %s names: NO_PROXY has to list %s if it is to be asked directly)",
				name, request.URL.Hostname())
		}
	}
	return " (through a proxy that the environment names)"
}

// leaks reports whether the text of err holds the bearer token or what looks
// like one.
func leaks(err error, request *http.Request) bool {
	text := err.Error()
	bearer := strings.TrimPrefix(request.Header.Get("Authorization"), "Bearer ")
	return quote.HoldsToken(text) || bearer != "" && strings.Contains(text, bearer)
}

// retryAfter reads seconds or a date (RFC 9110, section 10.2.3) from an answer
// that tells its origin is busy; 0 if there is neither.
func retryAfter(response *http.Response) time.Duration {
	if response.StatusCode != http.StatusTooManyRequests && response.StatusCode != http.StatusServiceUnavailable {
		return 0
	}
	value := response.Header.Get("Retry-After")
	// Of a number out of range, ParseUint returns the largest.
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	// One moment for all who were told of it: they don't come back at once.
	after := min(max(0, time.Until(date)), maxRetryAfter)
	return after + rand.N(after/5+time.Second)
}
