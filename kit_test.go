package kubejwt_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

// Tests that look at the log bring a Logger of their own.
func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	code := m.Run()
	if c, err := sharedCluster(); err == nil {
		c.Close()
	}
	os.Exit(code)
}

// reasonOf is "" for nil and for an error that is no refusal of a token.
func reasonOf(err error) kubejwt.Reason {
	refusal, ok := errors.AsType[*kubejwt.InvalidTokenError](err)
	if !ok {
		return ""
	}
	return refusal.Reason
}

// kit is a cluster and a static Verifier of its tokens: the good baseline.
type kit struct {
	*kubejwttest.Cluster
	config kubejwt.Config
}

// sharedCluster is one for all tests that leave it as it is: an RSA key takes
// a tenth of a second to make.
var sharedCluster = sync.OnceValues(kubejwttest.Start)

func newKit(t testing.TB) kit {
	t.Helper()
	c, err := sharedCluster()
	if err != nil {
		t.Fatal(err)
	}
	return kit{c, staticConfig(t, c)}
}

// newOwnKit is for tests that change the cluster.
func newOwnKit(t testing.TB) kit {
	t.Helper()
	c := kubejwttest.NewCluster(t)
	return kit{c, staticConfig(t, c)}
}

func staticConfig(t testing.TB, c *kubejwttest.Cluster) kubejwt.Config {
	t.Helper()
	keys, err := kubejwt.ParsePublicKeys(c.PublicKeysPEM())
	if err != nil {
		t.Fatal(err)
	}
	config := c.Config("data-store", "data-store.prod.svc")
	config.Keys = keys
	config.ServiceAccounts = []string{"shop/api", "batch/*"}
	return config
}

// good is the token that every row of TestRules differs from in one thing.
func good() kubejwttest.Token {
	return kubejwttest.Token{
		Namespace:      "shop",
		ServiceAccount: "api",
		Audiences:      []string{"data-store"},
		Pod:            kubejwt.Object{Name: "api-7c9b54c8db-lwrfr", UID: "5cd7d846-bd11-434b-ad09-25f6735c4c27"},
		Node:           kubejwt.Object{Name: "node-1", UID: "55cd21fa-952e-4e3e-915d-bda4304ad1eb"},
	}
}

func header(name string, value any) func(*kubejwttest.Token) {
	return func(t *kubejwttest.Token) { t.Header = map[string]any{name: value} }
}

func claim(name string, value any) func(*kubejwttest.Token) {
	return claims(map[string]any{name: value})
}

func claims(with map[string]any) func(*kubejwttest.Token) {
	return func(t *kubejwttest.Token) {
		t.Claims = maps.Clone(t.Claims)
		if t.Claims == nil {
			t.Claims = make(map[string]any)
		}
		maps.Copy(t.Claims, with)
	}
}

// secretBased is the form of a Secret-based token. What is in more comes on top.
func secretBased(more object) func(*kubejwttest.Token) {
	with := object{
		"iss": "kubernetes/serviceaccount",
		"aud": nil, "exp": nil, "iat": nil, "nbf": nil, "jti": nil, "kubernetes.io": nil,
		"kubernetes.io/serviceaccount/namespace":            "shop",
		"kubernetes.io/serviceaccount/secret.name":          "api-token-x2x9f",
		"kubernetes.io/serviceaccount/service-account.name": "api",
		"kubernetes.io/serviceaccount/service-account.uid":  "d5ec1197-1710-46f4-83ba-4b1a13f2aa30",
	}
	maps.Copy(with, more)
	return claims(with)
}

// kubernetes replaces members of kubernetes.io; nil removes one.
func kubernetes(with map[string]any) func(*kubejwttest.Token) {
	object := func(name, uid string) map[string]any { return map[string]any{"name": name, "uid": uid} }
	members := map[string]any{
		"namespace":      "shop",
		"serviceaccount": object("api", "d5ec1197-1710-46f4-83ba-4b1a13f2aa30"),
		"pod":            object("api-7c9b54c8db-lwrfr", "5cd7d846-bd11-434b-ad09-25f6735c4c27"),
		"node":           object("node-1", "55cd21fa-952e-4e3e-915d-bda4304ad1eb"),
	}
	maps.Copy(members, with)
	maps.DeleteFunc(members, func(_ string, value any) bool { return value == nil })
	return claim("kubernetes.io", members)
}

type object = map[string]any

// null is a JSON null, where a nil would remove the member.
var null = json.RawMessage("null")

// checkRefusal holds an error against what no error may do.
func checkRefusal(t *testing.T, token string, claims kubejwt.Claims, err error) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	if claims != (kubejwt.Claims{}) {
		t.Errorf("Claims %+v beside an error", claims)
	}
	for _, text := range []string{err.Error(), fmt.Sprintf("%v %+v %#v", err, err, err)} {
		if leak := commonRun(text, token, 16); leak != "" {
			t.Errorf("the error %q has %q of the token", text, leak)
		}
	}
}

// commonRun returns n characters in a row that text and token share, or "".
func commonRun(text, token string, n int) string {
	for at := 0; at+n/2 <= len(token); at += n / 2 {
		// Every run holds one of these blocks whole.
		if !strings.Contains(text, token[at:at+n/2]) {
			continue
		}
		for i := max(0, at-n); i <= at && i+n <= len(token); i++ {
			if strings.Contains(text, token[i:i+n]) {
				return token[i : i+n]
			}
		}
	}
	return ""
}

// kid is that of the cluster's key.
func (k kit) kid(t testing.TB) string {
	t.Helper()
	return k.config.Keys.(kubejwt.PublicKeys)[0].KeyID
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func mustNew(t testing.TB, config kubejwt.Config) *kubejwt.Verifier {
	t.Helper()
	v, err := kubejwt.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func encodeSegment(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// A keyServer stands before a cluster's keys on loopback, and answers as the
// test likes. Its bearer and all that it says out of turn hold secretText.
type keyServer struct {
	*httptest.Server
	cluster           *kubejwttest.Cluster
	caFile, tokenFile string

	bearer      atomic.Pointer[string] // the one it takes
	certificate atomic.Pointer[tls.Certificate]
	instead     atomic.Pointer[http.HandlerFunc] // nil: as an API server

	requests, authorized atomic.Int64
}

const (
	secretText   = "c29tZWJvZHkncyBzZWNyZXQ"
	documentPath = "/.well-known/openid-configuration"
	keysPath     = "/openid/v1/jwks"
)

func newKeyServer(t testing.TB, cluster *kubejwttest.Cluster) *keyServer {
	t.Helper()
	s := &keyServer{cluster: cluster}
	s.setBearer(secretText)
	certificate, roots := newCertificate(t, "127.0.0.1", time.Hour)
	s.certificate.Store(&certificate)
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{Certificates: []tls.Certificate{*s.certificate.Load()}}, nil
	}}
	s.StartTLS()
	t.Cleanup(s.Close)
	folder := t.TempDir()
	s.caFile, s.tokenFile = filepath.Join(folder, "ca.crt"), filepath.Join(folder, "token")
	writeFile(t, s.caFile, roots)
	writeFile(t, s.tokenFile, []byte(secretText+"\n"))
	return s
}

// newCertificate is self-signed: its own root.
func newCertificate(t testing.TB, host string, left time.Duration) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Date(1999, time.December, 31, 0, 0, 0, 0, time.UTC), // a synctest bubble begins a day later
		NotAfter:     time.Now().Add(left),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses:  []net.IP{net.ParseIP(host)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func (s *keyServer) setBearer(token string) { s.bearer.Store(&token) }

func (s *keyServer) answerWith(h http.HandlerFunc) {
	if h == nil {
		s.instead.Store(nil)
		return
	}
	s.instead.Store(&h)
}

func (s *keyServer) serve(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	if r.Header.Get("Authorization") != "" {
		s.authorized.Add(1)
	}
	switch instead := s.instead.Load(); {
	case instead != nil:
		(*instead)(w, r)
	case *s.bearer.Load() != "" && r.Header.Get("Authorization") != "Bearer "+*s.bearer.Load():
		http.Error(w, "Unauthorized: "+secretText, http.StatusUnauthorized)
	case r.URL.Path == documentPath:
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, s.cluster.Config("x").Issuer, s.URL+keysPath)
	case r.URL.Path == keysPath:
		w.Header().Set("Cache-Control", "public, max-age=3600")
		w.Write(s.keys())
	default:
		http.NotFound(w, r)
	}
}

// inMemory returns a transport to the same handler, over TLS but without a
// socket: in a synctest bubble, time passes while its two ends wait.
func (s *keyServer) inMemory(t testing.TB) *http.Transport {
	t.Helper()
	network := pipes{make(chan net.Conn), make(chan struct{})}
	server := &http.Server{
		Handler:   http.HandlerFunc(s.serve),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{*s.certificate.Load()}},
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	go server.ServeTLS(network, "", "")
	t.Cleanup(func() {
		server.Close()
		time.Sleep(5 * time.Second) // for as long either end of TLS tries to say that it closes
	})
	roots := x509.NewCertPool()
	roots.AddCert(mustParseCertificate(t, s.certificate.Load()))
	return &http.Transport{
		DialContext:       network.dial,
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		DisableKeepAlives: true,
	}
}

// pipes is a net.Listener in memory.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
}

func (p pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.accepted <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.accepted:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error   { close(p.closed); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }

// keys is the JWKS of the cluster itself.
func (s *keyServer) keys() []byte {
	request := httptest.NewRequest(http.MethodGet, s.cluster.Config("x").Issuer+keysPath, nil)
	response, err := s.cluster.Transport().RoundTrip(request)
	if err != nil {
		return nil
	}
	body, _ := io.ReadAll(response.Body)
	return body
}

// key is the first of them.
func (s *keyServer) key(t testing.TB) map[string]any {
	t.Helper()
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	if err := json.Unmarshal(s.keys(), &set); err != nil {
		t.Fatal(err)
	}
	return set.Keys[0]
}

// config asks the server for the document and the keys, with its credentials.
func (s *keyServer) config() kubejwt.Config {
	config := s.cluster.Config("data-store")
	config.Keys = kubejwt.RemoteKeys{DiscoveryURL: s.URL + documentPath, CAFile: s.caFile, BearerTokenFile: s.tokenFile}
	return config
}

// soon tries until it holds: files are looked at once a second, and after a
// failure a fetch waits for about as long. In a synctest bubble that takes no
// time.
func soon(t testing.TB, what string, holds func() error) {
	t.Helper()
	deadline := time.After(45 * time.Second) // attempts without keys are 30 s apart at most
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := holds()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: %v", what, err)
		}
	}
}

func mustVerify(t testing.TB, v *kubejwt.Verifier, token string) {
	t.Helper()
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Fatal(err)
	}
}

func mustHoldNoSecret(t testing.TB, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(text, secretText) || strings.Contains(text, "eyJ") {
			t.Errorf("what should not be told: %s", text)
		}
	}
}

func sendBody(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// onlyKeys answers for the keys, and for the document as it should be.
func (s *keyServer) onlyKeys(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == keysPath {
			h(w, r)
			return
		}
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, s.cluster.Config("x").Issuer, s.URL+keysPath)
	}
}

func (s *keyServer) document(format string, args ...any) http.HandlerFunc {
	return sendBody(http.StatusOK, fmt.Sprintf(format, args...))
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func mustParseCertificate(t testing.TB, certificate *tls.Certificate) *x509.Certificate {
	t.Helper()
	parsed, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// inPod has the environment say that server is the pod's API server.
func inPod(t *testing.T, server *keyServer) {
	t.Helper()
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", u.Hostname())
	t.Setenv("KUBERNETES_SERVICE_PORT", u.Port())
}

func mustNewInCluster(t testing.TB, config kubejwt.Config) *kubejwt.Verifier {
	t.Helper()
	v, err := kubejwt.InCluster(config)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// notInPod skips where the files that a test wants to be missing are there.
func notInPod(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/var/run/secrets/kubernetes.io/serviceaccount"); err == nil {
		t.Skip("this is a pod")
	}
}

// vectorVerifier judges by the cluster's keys, as most vectors are.
func vectorVerifier(f testing.TB, keys string) *kubejwt.Verifier {
	f.Helper()
	v := vector{name: keys, header: map[string]string{"keys": keys, "now": "1700000000"}}
	return mustNew(f, v.config(f))
}

// lockedLog is the text of a log that is written to in the background.
type lockedLog struct {
	written *sync.Cond // its lock guards text
	text    strings.Builder
}

func newLockedLog() *lockedLog { return &lockedLog{written: sync.NewCond(new(sync.Mutex))} }

func (l *lockedLog) Write(line []byte) (int, error) {
	l.written.L.Lock()
	defer l.written.L.Unlock()
	defer l.written.Broadcast()
	return l.text.Write(line)
}

func (l *lockedLog) String() string {
	l.written.L.Lock()
	defer l.written.L.Unlock()
	return l.text.String()
}

func (l *lockedLog) Reset() {
	l.written.L.Lock()
	defer l.written.L.Unlock()
	l.text.Reset()
}

// waitFor returns when the log has text in it.
func (l *lockedLog) waitFor(text string) {
	l.written.L.Lock()
	defer l.written.L.Unlock()
	for !strings.Contains(l.text.String(), text) {
		l.written.Wait()
	}
}
