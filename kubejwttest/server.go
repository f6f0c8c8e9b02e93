package kubejwttest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/internal/apiserver"
)

// newServer returns the API server: the part of it that serves keys, pods and service
// accounts.
func newServer(c *Cluster, certificate tls.Certificate) *http.Server {
	return &http.Server{
		Handler:           http.HandlerFunc(c.serveNetwork),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate}},
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0), // clients that don't trust the CA are part of tests
	}
}

// serveNetwork answers like a kube-apiserver with RBAC as it comes: keys for
// service accounts only (401 for a bad token, 403 for none, and 403 for whatever
// else a service account may not do); and lists and watches of pods and service
// accounts for the account whose token is in Folder.
func (c *Cluster) serveNetwork(w http.ResponseWriter, r *http.Request) {
	answer, err := c.answer(r, c.authenticate(r.Header.Get("Authorization")))
	if err != nil {
		panic(http.ErrAbortHandler) // breaks the connection off
	}
	answer.Write(r.Context(), w)
}

var errUnavailable = errors.New("kubejwttest: the API server is not available")

// user is who the caller is, as far as the API server can tell.
type user int

const (
	anonymous user = iota
	serviceAccount
	watcher // the service account whose token is in Folder
	nobody  // the token is bad
)

// authenticate checks a bearer token as the API server does: it accepts any token of
// this cluster with its audience, while the key is published.
func (c *Cluster) authenticate(authorization string) user {
	scheme, token, _ := strings.Cut(authorization, " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "Bearer") {
		return anonymous
	}
	// A mounted token stays good, whatever the clock of a synctest bubble says, and
	// even after its key was dropped. A test that drops a key is about its service, and
	// not about the minute that kubelet takes to mount another token.
	if c.wasMounted(token) {
		return watcher
	}
	keys, err := kubejwt.ParsePublicKeys(c.PublicKeysPEM())
	if err != nil {
		panic("kubejwttest: " + err.Error()) // not of keys that were just made
	}
	v, err := kubejwt.New(kubejwt.Config{
		Issuer:          c.issuer,
		Audiences:       []string{c.issuer},
		ServiceAccounts: []string{"*"},
		MaxLifetime:     -1,
		AcceptExtended:  true, // it looks the pod up instead
		CacheSize:       -1,
		Keys:            keys,
		Logger:          slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic("kubejwttest: " + err.Error()) // not of these fields
	}
	claims, err := v.Verify(context.Background(), token)
	switch {
	case err != nil, !c.objects.exist(claims):
		return nobody
	case claims.Namespace == watcherName && claims.ServiceAccount.Name == watcherName:
		return watcher
	default:
		return serviceAccount
	}
}

func (c *Cluster) answer(r *http.Request, caller user) (*apiserver.Answer, error) {
	path := r.URL.Path
	c.mu.Lock()
	latency := c.latency
	if path == jwksPath {
		c.fetches++
	}
	c.mu.Unlock()
	if latency > 0 {
		select {
		case <-time.After(latency):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	mayReadKeys := caller == serviceAccount || caller == watcher
	switch {
	case !c.available:
		return nil, errUnavailable
	case caller == nobody:
		return apiserver.Failure(http.StatusUnauthorized, "Unauthorized", "Unauthorized"), nil
	case mayReadKeys && r.Method == http.MethodGet && path == discoveryPath:
		return c.discoveryDocument(), nil
	case mayReadKeys && r.Method == http.MethodGet && path == jwksPath:
		return c.jwks(), nil
	case caller == watcher && r.Method == http.MethodGet && apiserver.Is(path):
		return c.objects.server.Answer(r), nil
	default:
		message := "forbidden: the user cannot do this on the path"
		return apiserver.Failure(http.StatusForbidden, "Forbidden", message), nil
	}
}

const (
	discoveryPath = "/.well-known/openid-configuration"
	jwksPath      = "/openid/v1/jwks"
)

// discoveryDocument and jwks are as kube-apiserver writes them, in its order
// (k8s.io/kubernetes pkg/serviceaccount/openidmetadata.go). The caller holds
// c.mu.
func (c *Cluster) discoveryDocument() *apiserver.Answer {
	var algorithms []string
	for _, key := range c.keys {
		algorithms = append(algorithms, key.alg)
	}
	slices.Sort(algorithms)
	body, err := json.Marshal(struct {
		Issuer     string   `json:"issuer"`
		JWKS       string   `json:"jwks_uri"`
		Responses  []string `json:"response_types_supported"`
		Subjects   []string `json:"subject_types_supported"`
		Algorithms []string `json:"id_token_signing_alg_values_supported"`
	}{c.issuer, c.issuer + jwksPath, []string{"id_token"}, []string{"public"}, slices.Compact(algorithms)})
	if err != nil {
		panic("kubejwttest: " + err.Error()) // of strings
	}
	return published("application/json", body)
}

func (c *Cluster) jwks() *apiserver.Answer {
	var set jose.JSONWebKeySet
	for _, key := range c.keys {
		public := jose.JSONWebKey{Key: key.private.Public(), KeyID: key.kid, Algorithm: key.alg, Use: "sig"}
		set.Keys = append(set.Keys, public)
	}
	body, err := json.Marshal(set)
	if err != nil {
		panic("kubejwttest: " + err.Error()) // of keys that were just made
	}
	return published("application/jwk-set+json", body)
}

func published(contentType string, body []byte) *apiserver.Answer {
	return &apiserver.Answer{
		Status: http.StatusOK,
		Header: map[string]string{"Content-Type": contentType, "Cache-Control": "public, max-age=3600"},
		Body:   body,
	}
}

// Transport returns a RoundTripper that asks the API server in memory, for
// RemoteKeys.Transport and for that of a revocation.Watcher. No socket is
// involved, so a test can run in a testing/synctest bubble if the Cluster was made
// outside of it:
//
//	config := cluster.Config("data-store")
//	config.Keys = kubejwt.RemoteKeys{Transport: cluster.Transport()}
//
// Requests without a bearer token are answered as if they had come with the one
// in Folder. A watch belongs to the bubble in which it began: delete objects
// in that bubble.
func (c *Cluster) Transport() http.RoundTripper { return inMemory{c} }

type inMemory struct{ cluster *Cluster }

func (m inMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body.Close()
	}
	if got := r.URL.Scheme + "://" + r.URL.Host; got != m.cluster.issuer {
		return nil, errors.New("kubejwttest: no such host: " + r.URL.Host)
	}
	caller := watcher
	if authorization := r.Header.Get("Authorization"); authorization != "" {
		caller = m.cluster.authenticate(authorization)
	}
	answer, err := m.cluster.answer(r, caller)
	if err != nil {
		return nil, err
	}
	return answer.Response(r), nil
}

// newServingCertificate returns a certificate for the API server's names, and
// the CA that signed it.
func newServingCertificate() (tls.Certificate, []byte, error) {
	// A year on either side leaves room for tests that move the clock.
	from, to := time.Now().AddDate(-1, 0, 0), time.Now().AddDate(1, 0, 0)
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	ca := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "kubernetes"},
		NotBefore:             from,
		NotAfter:              to,
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: "kube-apiserver"},
		NotBefore:    from,
		NotAfter:     to,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	caPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, caPEM, nil
}
