// Package kubejwttest has a fake Kubernetes cluster for the tests of services that
// use kubejwt. It mints tokens, serves its keys over TLS as kube-apiserver does,
// rotates them, and fails on request. Its pods and service accounts can be watched
// and deleted.
//
//	cluster := kubejwttest.NewCluster(t)
//	v, err := kubejwt.New(cluster.Config("data-store"))
//	token := cluster.Mint(kubejwttest.Token{
//		Namespace: "shop", ServiceAccount: "api", Audiences: []string{"data-store"},
//	})
//
// [TestHandler] tests one of your endpoints with the tokens that it has to refuse.
package kubejwttest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kubejwt/kubejwt"
)

// A Cluster is a cluster with one API server on the loopback interface. Make it with
// [NewCluster] or [Start]. It is safe for concurrent use by multiple goroutines.
type Cluster struct {
	issuer string
	server *http.Server
	folder string
	caPEM  []byte
	renew  *time.Timer

	objects objects

	mu        sync.Mutex // guards the rest
	keys      []signingKey
	signer    int      // index in keys
	mounted   []string // tokens that are or were in the folder
	swaps     int
	available bool
	latency   time.Duration
	fetches   int
	closed    bool
}

// signingKey is a private key, with the public part that is published.
type signingKey struct {
	kid     string
	alg     string
	private crypto.Signer
}

// NewCluster starts a Cluster that is closed when the test ends.
func NewCluster(tb testing.TB) *Cluster {
	tb.Helper()
	c, err := Start()
	if err != nil {
		tb.Fatalf("kubejwttest: %v", err)
	}
	tb.Cleanup(c.Close)
	return c
}

// Start starts a Cluster for a main or an example. Its first key is for RS256.
func Start() (*Cluster, error) {
	key, err := newSigningKey("RS256")
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		issuer:    "https://" + listener.Addr().String(),
		objects:   newObjects(),
		keys:      []signingKey{key},
		available: true,
	}
	if err := c.start(listener); err != nil {
		listener.Close()
		os.RemoveAll(c.folder)
		return nil, err
	}
	return c, nil
}

func (c *Cluster) start(listener net.Listener) error {
	certificate, caPEM, err := newServingCertificate()
	if err != nil {
		return err
	}
	c.caPEM = caPEM
	if c.folder, err = os.MkdirTemp("", "kubejwttest-"); err != nil {
		return err
	}
	if err := c.mount(); err != nil {
		return err
	}
	// Kubelet renews a token when a fifth of its life is left.
	c.renew = time.AfterFunc(mountedLifetime*4/5, c.renewMounted)
	c.server = newServer(c, certificate)
	go c.server.ServeTLS(listener, "", "")
	return nil
}

// Close stops the API server and removes the folder.
func (c *Cluster) Close() {
	c.server.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.renew.Stop()
	os.RemoveAll(c.folder)
}

// Config returns a Config for kubejwt.New that accepts this cluster's tokens
// for these audiences, of every service account. The keys come from the
// cluster's API server, with the CA and the token of Folder.
func (c *Cluster) Config(audiences ...string) kubejwt.Config {
	return kubejwt.Config{
		Issuer:          c.issuer,
		Audiences:       slices.Clone(audiences),
		ServiceAccounts: []string{"*"},
		Keys: kubejwt.RemoteKeys{
			CAFile:          c.folder + "/ca.crt",
			BearerTokenFile: c.folder + "/token",
		},
	}
}

// PublicKeysPEM returns the published keys as an API server's sa.pub has them.
func (c *Cluster) PublicKeysPEM() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []byte
	for _, key := range c.keys {
		out = append(out, key.publicPEM()...)
	}
	return out
}

// RotateKey makes a new key for alg (RS256, ES256, ES384 or ES512) and signs
// with it from now on. The old keys stay published until DropKey. It panics if
// there is no such alg.
func (c *Cluster) RotateKey(alg string) (kid string) {
	key, err := newSigningKey(alg)
	if err != nil {
		panic("kubejwttest: RotateKey: " + err.Error())
	}
	c.mu.Lock()
	c.keys = append(c.keys, key)
	c.signer = len(c.keys) - 1
	c.mu.Unlock()
	c.renewMounted()
	return key.kid
}

// DropKey stops publishing the key of this ID. It panics if there is none, or
// if it is the one that signs.
func (c *Cluster) DropKey(kid string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	signing := c.keys[c.signer].kid
	if kid == signing {
		panic("kubejwttest: DropKey: " + kid + " signs: rotate first")
	}
	kept := slices.DeleteFunc(slices.Clone(c.keys), func(key signingKey) bool { return key.kid == kid })
	if len(kept) == len(c.keys) {
		panic("kubejwttest: DropKey: no key " + kid)
	}
	c.keys = kept
	c.signer = slices.IndexFunc(kept, func(key signingKey) bool { return key.kid == signing })
}

// SetAvailable sets whether the API server answers. While it does not, it breaks
// off all connections, those of watches too.
func (c *Cluster) SetAvailable(available bool) {
	c.mu.Lock()
	c.available = available
	c.mu.Unlock()
	if !available {
		c.CutWatches()
	}
}

// SetLatency sets how long the API server waits before it answers a request. At
// first it does not wait.
func (c *Cluster) SetLatency(latency time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.latency = latency
}

// Fetches returns how many times the keys were requested, including requests that
// were refused.
func (c *Cluster) Fetches() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fetches
}

func newSigningKey(alg string) (signingKey, error) {
	key := signingKey{alg: alg}
	var err error
	switch alg {
	case "RS256":
		key.private, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ES256":
		key.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		key.private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		key.private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	default:
		err = fmt.Errorf("no alg %q: want RS256, ES256, ES384 or ES512", alg)
	}
	if err != nil {
		return signingKey{}, err
	}
	sum := sha256.Sum256(key.spki())
	key.kid = base64.RawURLEncoding.EncodeToString(sum[:])
	return key, nil
}

// signingKey is the one that signs now.
func (c *Cluster) signingKey() signingKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.keys[c.signer]
}

func (k signingKey) publicPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.spki()})
}

// spki is the DER SubjectPublicKeyInfo, from which Kubernetes derives the kid.
func (k signingKey) spki() []byte {
	der, err := x509.MarshalPKIXPublicKey(k.private.Public())
	if err != nil {
		panic("kubejwttest: " + err.Error()) // not of a key that was just made
	}
	return der
}
