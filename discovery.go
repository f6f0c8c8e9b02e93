package kubejwt

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/kubejwt/kubejwt/internal/pemfile"
	"github.com/kubejwt/kubejwt/internal/quote"
	"github.com/kubejwt/kubejwt/internal/reread"
	"github.com/kubejwt/kubejwt/internal/strictjson"
)

const (
	discoveryPath = "/.well-known/openid-configuration"
	jwksPath      = "/openid/v1/jwks" // where kube-apiserver serves the keys, whatever its document says

	podFolder = "/var/run/secrets/kubernetes.io/serviceaccount"

	maxBody        = 1 << 20
	maxURL         = 2 << 10 // of a jwks_uri
	maxShownURL    = 256     // of what errors quote of one
	maxErrorText   = 512     // of a Transport's error, for the same reason
	maxBearerSize  = 16 << 10
	maxRootsSize   = 1 << 20
	rereadInterval = time.Second
)

// remote fetches keys from where they are published.
type remote struct {
	config      RemoteKeys // as given
	issuer      string     // that the document must name; "": it is learnt from it
	documentURL string     // "": no document is read
	jwksURL     string     // "": the document names it
	inPod       bool       // the origin is an API server that has the keys at jwksPath too
	origin      string     // where the bearer may go

	roots     *reread.File[*x509.CertPool] // nil: the system's
	bearer    *reread.File[string]         // nil: none
	ownBearer bool                         // the bearer is the pod's own, and may be missing
	transport http.RoundTripper            // nil: the built-in one

	mu          sync.Mutex // guards what the last document said
	namedURL    string
	documentDue time.Time
}

// fetch reads the keys, and the document first where it is due.
func (r *remote) fetch(ctx context.Context, cause fetchCause) (fetched, error) {
	transport, release, roots, err := r.roundTripper()
	if err != nil {
		return fetched{}, err
	}
	defer release()

	got := fetched{roots: roots}
	keysURL := r.jwksURL
	if r.documentURL != "" {
		named, issuer, err := r.document(ctx, transport, cause)
		if err != nil {
			return fetched{}, err
		}
		got.issuer = issuer
		if keysURL == "" {
			keysURL = named
		}
	}
	body, header, err := r.get(ctx, transport, keysURL)
	if err != nil {
		return fetched{}, err
	}
	if got.keys, err = parseFetchedJWKS(body); err != nil {
		return fetched{}, fmt.Errorf("GET %s: %w", r.showText(keysURL), err)
	}
	got.maxAge = maxAge(header)
	return got, nil
}

// document returns the URL of the keys and the issuer. A plain refresh reads
// the document only every few hours, and then returns "" for the issuer.
func (r *remote) document(ctx context.Context, transport http.RoundTripper, cause fetchCause) (keysURL, issuer string, err error) {
	r.mu.Lock()
	named, due := r.namedURL, r.documentDue
	r.mu.Unlock()
	if cause == causeRefresh && named != "" && time.Now().Before(due) {
		return named, "", nil
	}
	body, _, err := r.get(ctx, transport, r.documentURL)
	if err != nil {
		return "", "", err
	}
	var config oidc.ProviderConfig
	if err := strictjson.Unmarshal(body, &config); err != nil {
		return "", "", fmt.Errorf("GET %s: no discovery document: %w", r.documentURL, err)
	}
	switch {
	case config.IssuerURL == "":
		return "", "", fmt.Errorf("GET %s: no discovery document: it names no issuer", r.documentURL)
	case r.issuer != "" && config.IssuerURL != r.issuer:
		return "", "", fmt.Errorf("GET %s: the discovery document is of the issuer %s, and Config.Issuer is %s: they must be equal to the byte",
			r.documentURL, quote.Value(config.IssuerURL), quote.Value(r.issuer))
	}
	if keysURL = r.jwksURL; keysURL == "" {
		if keysURL, err = r.namedJWKS(config.JWKSURL); err != nil {
			return "", "", fmt.Errorf("GET %s: %w", r.documentURL, err)
		}
	}
	if ctx.Err() != nil {
		// Given up on: a later fetch may have read a newer document.
		return "", "", fmt.Errorf("GET %s: no answer within %v", r.documentURL, fetchTimeout)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.namedURL = keysURL
	r.documentDue = time.Now().Add(5*time.Hour + rand.N(2*time.Hour))
	return keysURL, config.IssuerURL, nil
}

// namedJWKS judges the jwks_uri of a document, which is somebody else's word.
func (r *remote) namedJWKS(uri string) (string, error) {
	u, err := url.Parse(uri)
	valid := err == nil && len(uri) <= maxURL && u.Scheme == "https" && u.Host != "" && u.User == nil
	switch {
	case valid && originOf(u) == r.origin:
		return uri, nil
	case r.inPod:
		// An API server names the address of its node, an internal name or a
		// bucket. It has the keys itself, behind the CA that the pod knows.
		return r.origin + jwksPath, nil
	case !valid:
		return "", fmt.Errorf("its jwks_uri is %s: want an https URL of at most %d bytes", r.showText(uri), maxURL)
	case r.bearer != nil || r.transport != nil:
		return "", fmt.Errorf("its jwks_uri %s is not on %s, and the credentials are for that alone: set RemoteKeys.JWKSURL", r.showText(uri), r.origin)
	default:
		return uri, nil
	}
}

// roundTripper returns a transport for one fetch, a func to release it, and a digest
// of the roots that it trusts. A RoundTripper, unlike a client, follows nothing.
func (r *remote) roundTripper() (transport http.RoundTripper, release func(), roots string, err error) {
	if r.transport != nil {
		return r.transport, func() {}, "", nil
	}
	builtIn := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
	}
	if r.roots == nil {
		return builtIn, builtIn.CloseIdleConnections, "", nil
	}
	content, err := r.roots.Get()
	if err != nil {
		return nil, nil, "", r.explainRoots(err)
	}
	builtIn.TLSClientConfig.RootCAs = content.Value
	return builtIn, builtIn.CloseIdleConnections, digest(content.Raw), nil
}

func (r *remote) explainRoots(err error) error {
	if r.inPod {
		return fmt.Errorf("the roots of the API server: %w: mount ca.crt of the ConfigMap kube-root-ca.crt, or leave automountServiceAccountToken on", err)
	}
	return fmt.Errorf("RemoteKeys.CAFile: %w", err)
}

// rootsDigest tells one content of CAFile from another.
func (r *remote) rootsDigest() string {
	if r.roots == nil {
		return ""
	}
	content, err := r.roots.Get()
	if err != nil {
		return "unreadable"
	}
	return digest(content.Raw)
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// get reads a body. Its errors hold nothing of what came.
func (r *remote) get(ctx context.Context, transport http.RoundTripper, from string) ([]byte, http.Header, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, nil, errors.New("GET: not a URL")
	}
	request.Header.Set("Accept", "application/json, application/jwk-set+json")
	if err := r.authorize(request); err != nil {
		return nil, nil, err
	}
	response, err := transport.RoundTrip(request)
	if err == nil && response == nil {
		err = errors.New("neither an answer nor an error")
	}
	if err != nil {
		return nil, nil, r.explainTransport(request, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, nil, r.explainStatus(request, response)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	if err != nil {
		return nil, nil, fmt.Errorf("GET %s: the answer broke off or took too long", r.show(request.URL))
	}
	if len(body) > maxBody {
		return nil, nil, fmt.Errorf("GET %s: more than %d bytes", r.show(request.URL), maxBody)
	}
	return body, response.Header, nil
}

// authorize adds the bearer to a request for the origin, and to no other.
func (r *remote) authorize(request *http.Request) error {
	if r.bearer == nil || originOf(request.URL) != r.origin || request.URL.Scheme != "https" {
		return nil
	}
	content, err := r.bearer.Get()
	if err != nil && r.ownBearer {
		return nil // the API server says what it thinks of that
	}
	if err != nil {
		return fmt.Errorf("RemoteKeys.BearerTokenFile: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+content.Value)
	return nil
}

// show is a URL as errors may have it: what was configured as it stands, and
// what a document named, which is somebody else's word, bounded and quoted.
func (r *remote) show(u *url.URL) string { return r.showText(u.String()) }

func (r *remote) showText(u string) string {
	if u == r.documentURL || u == r.jwksURL || u == r.origin+jwksPath {
		return u
	}
	return quote.UpTo(maxShownURL, u)
}

// explainTransport passes on the errors that hold nothing of the answer:
// others quote what came.
func (r *remote) explainTransport(request *http.Request, err error) error {
	_, isNetwork := errors.AsType[*net.OpError](err)
	_, isCertificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, isRecord := errors.AsType[tls.RecordHeaderError](err)
	unknown, isUnknown := errors.AsType[x509.UnknownAuthorityError](err)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("GET %s: no answer within %v", r.show(request.URL), fetchTimeout)
	case isUnknown:
		return fmt.Errorf("GET %s: %w: is RemoteKeys.CAFile the CA of this server?", r.show(request.URL), unknown)
	case r.transport != nil && leaks(err, request):
		return fmt.Errorf("GET %s: RemoteKeys.Transport failed, with an error that quotes the request or the answer", r.show(request.URL))
	case r.transport != nil:
		// Its text alone: an error of ours in it would pass for a verdict.
		text := err.Error()
		return fmt.Errorf("GET %s: RemoteKeys.Transport: %s", r.show(request.URL), text[:min(len(text), maxErrorText)])
	case isNetwork, isCertificate, isRecord, errors.Is(err, io.EOF):
		return fmt.Errorf("GET %s: %w", r.show(request.URL), err)
	default:
		return fmt.Errorf("GET %s: no answer in HTTP over TLS, from the server or a proxy on the way", r.show(request.URL))
	}
}

// leaks reports whether the text of err holds the bearer token or what looks
// like one.
func leaks(err error, request *http.Request) bool {
	text := err.Error()
	bearer := strings.TrimPrefix(request.Header.Get("Authorization"), "Bearer ")
	return quote.HoldsToken(text) || bearer != "" && strings.Contains(text, bearer)
}

func (r *remote) explainStatus(request *http.Request, response *http.Response) error {
	err := fmt.Errorf("GET %s: status %d", r.show(request.URL), response.StatusCode)
	sent := "no bearer token was sent"
	if request.Header.Get("Authorization") != "" {
		sent = "a bearer token was sent"
	}
	switch code := response.StatusCode; {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return fmt.Errorf("%w (%s): an API server gives its keys to holders of the ClusterRole system:service-account-issuer-discovery, which is bound to every service account: send the token of one (RemoteKeys.BearerTokenFile; in a pod, automountServiceAccountToken)", err, sent)
	case code == http.StatusNotFound:
		return fmt.Errorf("%w: an API server publishes no keys if its --service-account-issuer is not an https URL: use KeyFile", err)
	case 300 <= code && code < 400:
		return fmt.Errorf("%w: redirects are not followed: configure the URL that has the answer", err)
	case code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable:
		return &retryAfterError{err, retryAfter(response.Header)}
	default:
		return err
	}
}

// retryAfter reads seconds or a date (RFC 9110, section 10.2.3); 0 if there is
// neither.
func retryAfter(header http.Header) time.Duration {
	value := header.Get("Retry-After")
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
	return after + rand.N(after/5+minBackoff)
}

// maxAge reads Cache-Control (RFC 9111, section 5.2.2.1); negative if it does not say.
func maxAge(header http.Header) time.Duration {
	for directive := range strings.SplitSeq(strings.Join(header.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		if !strings.EqualFold(name, "max-age") {
			continue
		}
		seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return -1
		}
		return time.Duration(min(seconds, uint64(maxLife/time.Second))) * time.Second
	}
	return -1
}

// originOf is scheme, host and effective port.
func originOf(u *url.URL) string {
	scheme, port := strings.ToLower(u.Scheme), u.Port()
	if port == "" && scheme == "https" {
		port = "443"
	}
	if port == "" && scheme == "http" {
		port = "80"
	}
	return scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// newRemote makes a remote of keys for New: everything comes from the fields.
func newRemote(issuer string, keys RemoteKeys, logger *slog.Logger) (*remote, error) {
	if err := keys.validate(); err != nil {
		return nil, err
	}
	r := &remote{config: keys, issuer: issuer, jwksURL: keys.JWKSURL, transport: keys.Transport}
	switch {
	case keys.JWKSURL != "":
	case keys.DiscoveryURL != "":
		r.documentURL = keys.DiscoveryURL
	default:
		if err := validateIssuerURL(issuer); err != nil {
			return nil, err
		}
		r.documentURL = strings.TrimSuffix(issuer, "/") + discoveryPath
	}
	r.origin = mustOrigin(r.configuredURL())
	return r, r.useFiles(keys, logger)
}

func (r *remote) useFiles(keys RemoteKeys, logger *slog.Logger) error {
	if keys.CAFile != "" {
		r.roots = reread.New(keys.CAFile, maxRootsSize, rereadInterval, parseRoots, logger)
	}
	if keys.BearerTokenFile == "" {
		return nil
	}
	if !strings.HasPrefix(r.origin, "https:") {
		return badField("Keys", "RemoteKeys.BearerTokenFile: a bearer token is sent over https only")
	}
	r.bearer = reread.New(keys.BearerTokenFile, maxBearerSize, rereadInterval, parseBearer, logger)
	return nil
}

// configuredURL is where the keys are configured to come from.
func (r *remote) configuredURL() string { return cmp.Or(r.jwksURL, r.documentURL) }

// newPodRemote makes a remote for InCluster: what keys leave open, the pod
// says.
func newPodRemote(apiServer, issuer string, keys RemoteKeys, logger *slog.Logger) (*remote, error) {
	if err := keys.validate(); err != nil {
		return nil, err
	}
	r := &remote{config: keys, issuer: issuer, documentURL: keys.DiscoveryURL, jwksURL: keys.JWKSURL, transport: keys.Transport}
	if keys.DiscoveryURL == "" && (keys.JWKSURL == "" || issuer == "") {
		r.documentURL = apiServer + discoveryPath // for the keys, the issuer or both
	}
	r.origin = mustOrigin(r.configuredURL())
	r.inPod = r.origin == mustOrigin(apiServer)
	if !r.inPod && keys.JWKSURL != "" && issuer == "" {
		return nil, badField("Issuer", "is needed with a RemoteKeys.JWKSURL that is not the API server's")
	}
	if r.inPod && keys.CAFile == "" && keys.Transport == nil {
		keys.CAFile = podFolder + "/ca.crt"
	}
	if r.inPod && keys.BearerTokenFile == "" {
		keys.BearerTokenFile, r.ownBearer = podFolder+"/token", true
	}
	return r, r.useFiles(keys, logger)
}

// podAPIServer is where a pod finds its API server.
func podAPIServer() (string, error) {
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return "", ErrNotInCluster
	}
	apiServer := "https://" + net.JoinHostPort(host, port)
	if err := validateURL(apiServer); err != nil {
		return "", fmt.Errorf("kubejwt: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT: %w", err)
	}
	return apiServer, nil
}

func (r RemoteKeys) validate() error {
	if r.DiscoveryURL != "" && r.JWKSURL != "" {
		return badField("Keys", "RemoteKeys.DiscoveryURL and RemoteKeys.JWKSURL are both set: a JWKSURL needs no document")
	}
	if r.CAFile != "" && r.Transport != nil {
		return badField("Keys", "RemoteKeys.CAFile and RemoteKeys.Transport are both set: a Transport brings its own roots")
	}
	if r.MaxStale > 0 && r.MaxStale < minMaxStale {
		return badField("Keys", "RemoteKeys.MaxStale: %v is less than %v", r.MaxStale, minMaxStale)
	}
	for _, field := range []struct{ name, url string }{
		{"RemoteKeys.DiscoveryURL", r.DiscoveryURL},
		{"RemoteKeys.JWKSURL", r.JWKSURL},
	} {
		if field.url == "" {
			continue
		}
		if err := validateURL(field.url); err != nil {
			return badField("Keys", "%s: %w", field.name, err)
		}
	}
	return nil
}

// validateIssuerURL judges an issuer that the document is to be found at
// (OpenID Connect Discovery 1.0, section 4.1).
func validateIssuerURL(issuer string) error {
	if err := validateURL(issuer); err != nil {
		return badField("Issuer", "%w: an API server publishes no keys for such an issuer: set Keys to a KeyFile with its sa.pub", err)
	}
	if strings.ContainsAny(issuer, "?#") {
		return badField("Issuer", "has a query or a fragment: an API server publishes no keys for such an issuer: set Keys to a KeyFile with its sa.pub")
	}
	return nil
}

// validateURL judges a URL that the caller configured: https, or http to a
// literal loopback address, where no name can lead elsewhere.
func validateURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Hostname() == "" || u.Opaque != "" {
		return errors.New("not a URL with a host")
	}
	ip := net.ParseIP(u.Hostname())
	switch {
	case u.User != nil:
		return errors.New("a URL with user information")
	case u.Fragment != "":
		return errors.New("a URL with a fragment")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && ip != nil && ip.IsLoopback():
		return nil
	default:
		return errors.New("want https (http only for a literal loopback address)")
	}
}

// mustOrigin is of a URL that was validated.
func mustOrigin(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return originOf(u)
}

// parseRoots refuses what AppendCertsFromPEM skips without a word: half a
// bundle would lock the service out, or no roots at all would mean the
// system's.
func parseRoots(data []byte) (*x509.CertPool, error) {
	blocks, err := pemfile.Blocks(data)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	found := 0
	for _, block := range blocks {
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("a certificate that does not parse")
		}
		pool.AddCert(certificate)
		found++
	}
	if found == 0 {
		return nil, errors.New("no certificate in PEM")
	}
	return pool, nil
}

// parseBearer takes a token alone, in the characters that a header can hold.
func parseBearer(data []byte) (string, error) {
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", errors.New("no token in it")
	}
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return "", errors.New("not a token alone in it, in one line of ASCII")
		}
	}
	return token, nil
}
