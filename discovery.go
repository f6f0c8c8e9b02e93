package kubejwt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/kubejwt/kubejwt/internal/keypolicy"
	"github.com/kubejwt/kubejwt/internal/keyset"
	"github.com/kubejwt/kubejwt/internal/origin"
	"github.com/kubejwt/kubejwt/internal/quote"
	"github.com/kubejwt/kubejwt/internal/strictjson"
	"github.com/kubejwt/kubejwt/internal/textfile"
)

const (
	discoveryPath = "/.well-known/openid-configuration"
	jwksPath      = "/openid/v1/jwks" // where kube-apiserver serves the keys, whatever its document says
)

// remote fetches keys from where they are published.
type remote struct {
	config      RemoteKeys // as given
	issuer      string     // the one that the document must name; "": learnt from the document
	documentURL origin.URL // zero: no document is read
	jwksURL     origin.URL // zero: the document names it
	inPod       bool       // the origin is an API server that has the keys at jwksPath too
	client      *origin.Client

	mu          sync.Mutex // guards what the last document said
	namedURL    origin.URL
	documentDue time.Time
}

// fetch reads the document, if it is due, and then the keys.
func (r *remote) fetch(ctx context.Context, cause fetchCause) (fetched, error) {
	var got fetched
	keysURL := r.jwksURL
	if !r.documentURL.IsZero() {
		named, issuer, err := r.document(ctx, cause)
		if err != nil {
			return fetched{}, err
		}
		got.issuer = issuer
		keysURL = named
	}
	answer, body, err := r.get(ctx, keysURL)
	if err != nil {
		return fetched{}, err
	}
	if got.keys, err = keyset.ParseFetched(body); err != nil {
		return fetched{}, fmt.Errorf("GET %s: %w", keysURL, err)
	}
	got.maxAge = answer.MaxAge()
	got.roots = answer.Roots
	return got, nil
}

// document returns the URL of the keys and the issuer, which is "" if the document
// is not read.
func (r *remote) document(ctx context.Context, cause fetchCause) (keysURL origin.URL, issuer string, err error) {
	if named, ok := r.lastDocument(cause); ok {
		return named, "", nil
	}
	_, body, err := r.get(ctx, r.documentURL)
	if err != nil {
		return origin.URL{}, "", err
	}
	keysURL, issuer, err = r.parseDocument(body)
	if ctx.Err() != nil {
		// This fetch was given up on: a later one may have read a newer document.
		err = fmt.Errorf("no answer within %v", keypolicy.FetchTimeout)
	}
	if err != nil {
		return origin.URL{}, "", fmt.Errorf("GET %s: %w", r.documentURL, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.namedURL = keysURL
	r.documentDue = time.Now().Add(5*time.Hour + rand.N(2*time.Hour))
	return keysURL, issuer, nil
}

// lastDocument returns the URL that the last document named, if it may still be
// used. If the document decides where the keys are, it is read with each fetch, so
// that keys withdrawn by a new jwks_uri are gone as soon as other withdrawn keys. In
// a pod the API server has the keys at its own path. A plain refresh from there reads
// the document every few hours.
func (r *remote) lastDocument(cause fetchCause) (named origin.URL, ok bool) {
	if !r.inPod || cause != causeRefresh {
		return origin.URL{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	fixed := !r.jwksURL.IsZero() || r.namedURL.IsAt(jwksPath)
	return r.namedURL, fixed && time.Now().Before(r.documentDue)
}

func (r *remote) parseDocument(body []byte) (keysURL origin.URL, issuer string, err error) {
	var document oidc.ProviderConfig
	body, err = textfile.Decode(body)
	if err == nil {
		err = strictjson.Unmarshal(body, &document)
	}
	if err != nil {
		return origin.URL{}, "", fmt.Errorf("not a discovery document: %w", err)
	}
	switch {
	case document.IssuerURL == "":
		return origin.URL{}, "", errors.New("not a discovery document: it names no issuer")
	case r.issuer != "" && document.IssuerURL != r.issuer:
		return origin.URL{}, "", fmt.Errorf("the discovery document names the issuer %s, but Config.Issuer is %s: "+
			"they must be exactly equal", quote.Value(document.IssuerURL), quote.Value(r.issuer))
	case !r.jwksURL.IsZero():
		return r.jwksURL, document.IssuerURL, nil
	}
	keysURL, err = r.namedJWKS(document.JWKSURL)
	return keysURL, document.IssuerURL, err
}

// namedJWKS checks the jwks_uri of a document, which is not trusted.
func (r *remote) namedJWKS(uri string) (origin.URL, error) {
	named, err := origin.ParseForeign(uri)
	home := r.documentURL.Origin()
	switch {
	case err == nil && named.Origin() == home:
		return named, nil
	case r.inPod:
		// An API server may name the address of its node, an internal name or a
		// bucket. It also has the keys itself, under the CA that the pod knows.
		return r.documentURL.At(jwksPath, nil), nil
	case err != nil:
		return origin.URL{}, fmt.Errorf("its jwks_uri is %w", err)
	case r.config.BearerTokenFile != "" || r.config.Transport != nil:
		return origin.URL{}, fmt.Errorf("its jwks_uri %s is not on %s, and the credentials are only for that: "+
			"set RemoteKeys.JWKSURL", named, home)
	default:
		return named, nil
	}
}

// get returns an answer and its whole body. Its errors hold nothing of them.
func (r *remote) get(ctx context.Context, from origin.URL) (*origin.Answer, []byte, error) {
	const maxBody = 1 << 20
	answer, err := r.client.Get(ctx, from, "application/json, application/jwk-set+json")
	if err != nil {
		return nil, nil, r.explainStatus(err)
	}
	body, err := answer.ReadAll(maxBody)
	return answer, body, err
}

// explainStatus adds what an operator can do about the status of an answer.
func (r *remote) explainStatus(err error) error {
	status, ok := errors.AsType[*origin.StatusError](err)
	if !ok {
		return err
	}
	switch status.Code {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w: an API server gives its keys to holders of the ClusterRole "+
			"system:service-account-issuer-discovery, which is bound to every service account: "+
			"send the token of one (RemoteKeys.BearerTokenFile; in a pod, automountServiceAccountToken)", err)
	case http.StatusNotFound:
		return fmt.Errorf("%w: an API server publishes no keys if its --service-account-issuer is not an https URL: "+
			"use KeyFile", err)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return &retryAfterError{err, status.RetryAfter}
	default:
		return err
	}
}

// newRemote makes the remote for New.
func newRemote(issuer string, keys RemoteKeys, logger *slog.Logger) (*remote, error) {
	r, err := keys.parse(issuer)
	if err != nil {
		return nil, err
	}
	if r.configuredURL().IsZero() {
		if r.documentURL, err = r.issuerDocument(); err != nil {
			return nil, err
		}
	}
	r.client, err = origin.New(r.clientOptions(logger))
	if err != nil {
		return nil, badField("Keys", "%w", err)
	}
	return r, nil
}

// newPodRemote makes the remote for InCluster. The pod supplies what keys leaves
// empty.
func newPodRemote(apiServer origin.URL, issuer string, keys RemoteKeys, logger *slog.Logger) (*remote, error) {
	r, err := keys.parse(issuer)
	if err != nil {
		return nil, err
	}
	if r.documentURL.IsZero() && (r.jwksURL.IsZero() || issuer == "") {
		// It is needed for the keys, the issuer or both. The host is JWKSURL's.
		r.documentURL = cmp.Or(r.jwksURL, apiServer).At(discoveryPath, nil)
	}
	r.inPod = r.configuredURL().Origin().IsPodAPIServer(apiServer)
	if !r.inPod && keys.JWKSURL != "" && issuer == "" {
		return nil, badField("Issuer", "is needed with a RemoteKeys.JWKSURL that is not the API server's")
	}
	newClient := origin.New
	if r.inPod {
		newClient = origin.NewInPod
	}
	r.client, err = newClient(r.clientOptions(logger))
	if err != nil {
		return nil, badField("Keys", "%w", err)
	}
	return r, nil
}

// configuredURL is where the keys are configured to come from.
func (r *remote) configuredURL() origin.URL { return cmp.Or(r.jwksURL, r.documentURL) }

func (r *remote) clientOptions(logger *slog.Logger) origin.Options {
	return origin.Options{
		Origin:          r.configuredURL().Origin(),
		CAFile:          r.config.CAFile,
		BearerTokenFile: r.config.BearerTokenFile,
		Transport:       r.config.Transport,
		FieldPrefix:     "RemoteKeys.",
		Logger:          logger,
	}
}

// parse checks the fields, and returns a remote without a client.
func (k RemoteKeys) parse(issuer string) (*remote, error) {
	if k.DiscoveryURL != "" && k.JWKSURL != "" {
		return nil, badField("Keys", "RemoteKeys.DiscoveryURL and RemoteKeys.JWKSURL are both set: "+
			"a JWKSURL needs no document")
	}
	if k.MaxStale > 0 && k.MaxStale < keypolicy.MinMaxStale {
		return nil, badField("Keys", "RemoteKeys.MaxStale: %v is less than %v", k.MaxStale, keypolicy.MinMaxStale)
	}
	documentURL, err := origin.ParseOptional(k.DiscoveryURL)
	if err != nil {
		return nil, badField("Keys", "RemoteKeys.DiscoveryURL: %w", err)
	}
	jwksURL, err := origin.ParseOptional(k.JWKSURL)
	if err != nil {
		return nil, badField("Keys", "RemoteKeys.JWKSURL: %w", err)
	}
	return &remote{config: k, issuer: issuer, documentURL: documentURL, jwksURL: jwksURL}, nil
}

// issuerDocument returns where the issuer's document is (OpenID Connect Discovery
// 1.0, section 4.1).
func (r *remote) issuerDocument() (origin.URL, error) {
	if _, err := origin.Parse(r.issuer); err != nil {
		return origin.URL{}, badField("Issuer", "%w: an API server publishes no keys for such an issuer: "+
			"use a KeyFile with its sa.pub", err)
	}
	if strings.ContainsAny(r.issuer, "?#") {
		return origin.URL{}, badField("Issuer", "has a query or a fragment: an API server publishes no keys "+
			"for such an issuer: use a KeyFile with its sa.pub")
	}
	return origin.Parse(strings.TrimSuffix(r.issuer, "/") + discoveryPath)
}
