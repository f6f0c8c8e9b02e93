package origin

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/kubejwt/kubejwt/internal/pemfile"
	"github.com/kubejwt/kubejwt/internal/reread"
	"github.com/kubejwt/kubejwt/internal/safelog"
)

const (
	rereadInterval = time.Second // of files

	dialTimeout  = 10 * time.Second // to connect, and again for TLS
	idleTimeout  = 90 * time.Second // of a connection without a request
	pingAfter    = 10 * time.Second // of silence on a connection that carries streams
	pingTimeout  = 5 * time.Second
	maxHeaders   = 64 << 10
	podFolder    = "/var/run/secrets/kubernetes.io/serviceaccount"
	podCAFile    = podFolder + "/ca.crt"
	podTokenFile = podFolder + "/token"
)

// Options say how an origin is asked. Origin and Logger are required.
type Options struct {
	Origin          Origin            // who gets the bearer token
	CAFile          string            // PEM roots, read again when it changes; "": the system's
	BearerTokenFile string            // read again as it rotates; "": no token
	Transport       http.RoundTripper // replaces the built-in one; excludes CAFile
	FieldPrefix     string            // what errors put before the three names above, as in "RemoteKeys."
	Streams         bool              // answers may be long: use HTTP/2, with pings that notice a silent network
	Logger          *slog.Logger
}

// A Client sends GETs. It is safe for concurrent use by multiple goroutines.
type Client struct {
	origin   Origin
	prefix   string
	roots    *reread.File[*pemfile.Roots] // nil: the system's
	podRoots bool                         // roots are the pod's own
	bearer   *reread.File[string]         // nil: none
	podToken bool                         // bearer is the pod's own, and may be missing
	given    http.RoundTripper            // nil: builtIn
	proxy    func(*http.Request) (*url.URL, error)
	streams  bool

	mu      sync.Mutex      // guards builtIn and trusted
	builtIn *http.Transport // nil: not needed yet
	trusted *x509.CertPool  // by builtIn
}

// New returns a Client, without any I/O.
func New(o Options) (*Client, error) {
	c := &Client{
		origin:  o.Origin,
		prefix:  o.FieldPrefix,
		given:   o.Transport,
		proxy:   http.ProxyFromEnvironment,
		streams: o.Streams,
	}
	switch {
	case o.CAFile != "" && o.Transport != nil:
		return nil, fmt.Errorf("%[1]sCAFile and %[1]sTransport are both set: a Transport has its own roots",
			o.FieldPrefix)
	case o.BearerTokenFile != "" && !o.Origin.isForBearer():
		return nil, fmt.Errorf("%sBearerTokenFile: a bearer token is sent over https only", o.FieldPrefix)
	}
	if o.CAFile != "" {
		c.roots = reread.New(o.CAFile, maxRootsSize, rereadInterval, pemfile.ParseRoots, o.Logger)
		logger := safelog.New(o.Logger)
		c.roots.Taken = func(r *pemfile.Roots) { warnOfRoots(logger, o.CAFile, r) }
	}
	if o.BearerTokenFile != "" {
		c.bearer = reread.New(o.BearerTokenFile, MaxBearerSize, rereadInterval, ParseBearer, o.Logger)
	}
	return c, nil
}

// NewInPod returns a Client for the API server of the cluster that this pod runs in.
// Unless o names others, the roots are the pod's ca.crt and the bearer token is the
// pod's own. If the token is missing, the API server is asked without one. If ca.crt
// is missing, it is not asked. It is always asked directly: a proxy that leads out of
// the cluster can seldom reach it.
func NewInPod(o Options) (*Client, error) {
	podRoots := o.CAFile == "" && o.Transport == nil
	if podRoots {
		o.CAFile = podCAFile
	}
	podToken := o.BearerTokenFile == ""
	o.BearerTokenFile = cmp.Or(o.BearerTokenFile, podTokenFile)
	c, err := New(o)
	if err != nil {
		return nil, err
	}
	c.podRoots, c.podToken, c.proxy = podRoots, podToken, nil
	return c, nil
}

// Get asks for u. It may be on another origin, to which the bearer token is not sent.
// Get follows one redirect on the same origin, if no bearer token was sent. For any
// status except 200 the error is a [*StatusError]. Errors hold nothing of an answer.
// The context also limits the time to read the answer's Body.
func (c *Client) Get(ctx context.Context, u URL, accept string) (*Answer, error) {
	transport, trusted, err := c.transport(ctx)
	if err != nil {
		return nil, err
	}
	request := newRequest(ctx, u, accept)
	unsent, err := c.authorize(ctx, request.Header, u.origin)
	if err != nil {
		return nil, err
	}
	response, err := c.send(transport, u, request)
	if err != nil {
		return nil, err
	}
	if target, ok := u.redirected(response); ok && unsent != "" {
		response.Body.Close()
		u = target
		if response, err = c.send(transport, u, newRequest(ctx, u, accept)); err != nil {
			return nil, err
		}
	}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		return nil, &StatusError{URL: u, Code: response.StatusCode, Unsent: unsent, RetryAfter: retryAfter(response)}
	}
	return &Answer{URL: u, Header: response.Header, Body: response.Body, Roots: trusted}, nil
}

func newRequest(ctx context.Context, u URL, accept string) *http.Request {
	request := &http.Request{
		Method: http.MethodGet,
		URL:    new(*u.url),
		Host:   u.url.Host,
		Header: http.Header{"Accept": {accept}},
	}
	return request.WithContext(ctx)
}

// send returns a response with a Body. A transport, unlike an http.Client, follows no
// redirects.
func (c *Client) send(transport http.RoundTripper, u URL, request *http.Request) (*http.Response, error) {
	response, err := transport.RoundTrip(request)
	if err == nil && response == nil {
		err = errors.New("neither an answer nor an error")
	}
	if err != nil {
		return nil, c.explain(u, request, err)
	}
	if response.Body == nil {
		response.Body = http.NoBody
	}
	return response, nil
}

// authorize adds the bearer token to the header of a request for the origin, and of no
// other request. It returns why it added none, or "" if it did.
func (c *Client) authorize(ctx context.Context, header http.Header, to Origin) (unsent string, err error) {
	switch {
	case c.bearer == nil:
		return c.prefix + "BearerTokenFile is not set", nil
	case to != c.origin || !to.isForBearer():
		return "it is only for " + c.origin.String(), nil
	}
	content, err := c.bearer.Get(ctx)
	switch {
	case err != nil && c.podToken:
		return err.Error(), nil // the API server may answer without one
	case err != nil:
		return "", fmt.Errorf("%sBearerTokenFile: %w", c.prefix, err)
	}
	header.Set("Authorization", "Bearer "+content.Value)
	return "", nil
}

// RootsDigest returns a digest of the CAFile's content. It may read the file.
func (c *Client) RootsDigest(ctx context.Context) string {
	if c.roots == nil {
		return ""
	}
	content, err := c.roots.Get(ctx)
	if err != nil {
		return "unreadable"
	}
	return digest(content.Raw)
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// CloseIdleConnections closes the built-in transport's connections that carry no
// request. The next Get opens a new one.
func (c *Client) CloseIdleConnections() {
	c.mu.Lock()
	builtIn := c.builtIn
	c.mu.Unlock()
	if builtIn != nil {
		builtIn.CloseIdleConnections()
	}
}

// transport returns the caller's transport, or the built-in one and a digest of the
// roots that it trusts. The built-in one is kept until the roots change.
func (c *Client) transport(ctx context.Context) (transport http.RoundTripper, trusted string, err error) {
	if c.given != nil {
		return c.given, "", nil
	}
	if c.roots == nil {
		return c.trusting(nil), "", nil
	}
	content, err := c.roots.Get(ctx)
	switch {
	case err != nil && c.podRoots:
		return nil, "", fmt.Errorf("the roots of the API server: %w: mount ca.crt of the ConfigMap kube-root-ca.crt, "+
			"or leave automountServiceAccountToken on", err)
	case err != nil:
		return nil, "", fmt.Errorf("%sCAFile: %w", c.prefix, err)
	}
	return c.trusting(content.Value.Pool), digest(content.Raw), nil
}

func (c *Client) trusting(pool *x509.CertPool) *http.Transport {
	c.mu.Lock()
	last := c.builtIn
	if last != nil && c.trusted == pool {
		c.mu.Unlock()
		return last
	}
	next := c.newTransport(pool)
	c.builtIn, c.trusted = next, pool
	c.mu.Unlock()
	if last != nil {
		last.CloseIdleConnections()
	}
	return next
}

func (c *Client) newTransport(pool *x509.CertPool) *http.Transport {
	t := &http.Transport{
		Proxy:                  c.proxy,
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool},
		TLSHandshakeTimeout:    dialTimeout,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaders,
		DisableCompression:     true,
		// Package net/http logs what a server sends on an idle connection, and that
		// may repeat the bearer token.
		DisableKeepAlives: !c.streams,
	}
	if c.streams {
		t.ForceAttemptHTTP2 = true
		t.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout}
	}
	return t
}
