package kubejwt_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
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
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

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
		NotBefore:    time.Now().Add(-time.Hour),
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
// failure a fetch waits for about as long.
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

type oddAnswer struct {
	name   string
	answer http.HandlerFunc
	want   string // in the error
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

// oddAnswers are those that come at once. What they hold is no use to anyone.
func (s *keyServer) oddAnswers(t testing.TB, elsewhere, plain string) []oddAnswer {
	issuer := s.cluster.Config("x").Issuer
	good := string(s.keys())
	redirect := func(code int, to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", to+r.URL.Path+"?"+secretText)
			w.WriteHeader(code)
		}
	}
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	z.Write(make([]byte, 4<<20))
	z.Close()
	keys := func(name, body, want string) oddAnswer {
		return oddAnswer{name, s.onlyKeys(sendBody(http.StatusOK, body)), want}
	}
	var many strings.Builder
	for i := range 129 {
		fmt.Fprintf(&many, `,{"kty":"OKP","kid":"%d"}`, i)
	}
	private, err := json.Marshal(map[string]string{"kty": "EC", "crv": "P-256", "kid": "a", "x": "AA", "y": "AA", "d": secretText})
	if err != nil {
		t.Fatal(err)
	}
	return []oddAnswer{
		{"endless", s.onlyKeys(func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, secretText); err != nil {
					return
				}
			}
		}), "more than 1048576 bytes"},
		keys("huge", good+strings.Repeat(" ", 1<<20), "more than 1048576 bytes"),
		{"gzip bomb", s.onlyKeys(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(bomb.Bytes())
		}), "no JWKS"},
		{"headers without end", func(w http.ResponseWriter, r *http.Request) {
			for i := range 2000 {
				w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat(secretText, 10))
			}
		}, "HTTP over TLS"},
		keys("HTML", "<html>"+secretText+"</html>", "no JWKS"),
		{"HTML for the document", sendBody(http.StatusOK, "<html>"+secretText+"</html>"), "no discovery document"},
		keys("nothing", "", "no JWKS"),
		keys("null", "null", "no JWKS"),
		keys("no keys", `{}`, "no keys"),
		keys("empty set", `{"keys":[]}`, "no keys"),
		keys("null for a key", `{"keys":[null]}`, "usable"),
		keys("no usable key", `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"`+secretText+`"}]}`, "usable"),
		keys("a private key alone", `{"keys":[`+string(private)+`]}`, "usable"),
		keys("too many keys", `{"keys":[`+many.String()[1:]+`]}`, "128"),
		keys("members twice", `{"keys":[],`+good[1:], "no JWKS"),
		keys("more behind", good+good, "no JWKS"),
		keys("broken off", good[:len(good)-2], "no JWKS"),
		{"broken off by the network", s.onlyKeys(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10000")
			io.WriteString(w, good)
		}), "broke off"},
		{"hung up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		{"201", s.onlyKeys(sendBody(http.StatusCreated, good)), "status 201"},
		{"204", s.onlyKeys(sendBody(http.StatusNoContent, "")), "status 204"},
		{"301", redirect(http.StatusMovedPermanently, elsewhere), "redirects"},
		{"302", redirect(http.StatusFound, elsewhere), "redirects"},
		{"307", redirect(http.StatusTemporaryRedirect, elsewhere), "redirects"},
		{"302 of the keys", s.onlyKeys(redirect(http.StatusFound, elsewhere)), "redirects"},
		{"302 to http", redirect(http.StatusFound, plain), "redirects"},
		{"302 to itself", redirect(http.StatusFound, s.URL), "redirects"},
		{"302 to no URL", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "http://[::"+secretText)
			w.WriteHeader(http.StatusFound)
		}, ""},
		{"401", sendBody(http.StatusUnauthorized, secretText), "system:service-account-issuer-discovery"},
		{"403", sendBody(http.StatusForbidden, secretText), "system:service-account-issuer-discovery"},
		{"404", sendBody(http.StatusNotFound, secretText), "KeyFile"},
		{"500", sendBody(http.StatusInternalServerError, secretText), "status 500"},
		{"another issuer", s.document(`{"issuer":"https://another.example","jwks_uri":%q}`, s.URL+keysPath), "equal to the byte"},
		{"issuer and a slash", s.document(`{"issuer":%q,"jwks_uri":%q}`, issuer+"/", s.URL+keysPath), "equal to the byte"},
		{"no issuer", s.document(`{"jwks_uri":%q}`, s.URL+keysPath), "no issuer"},
		{"ISSUER", s.document(`{"ISSUER":%q,"jwks_uri":%q}`, issuer, s.URL+keysPath), "no issuer"},
		{"issuer twice", s.document(`{"issuer":%q,"issuer":%q,"jwks_uri":%q}`, "https://another.example", issuer, s.URL+keysPath), "no discovery document"},
		{"no jwks_uri", s.document(`{"issuer":%q}`, issuer), "jwks_uri"},
		{"foreign jwks_uri", s.document(`{"issuer":%q,"jwks_uri":%q}`, issuer, elsewhere+keysPath), "JWKSURL"},
		{"jwks_uri on another port", s.document(`{"issuer":%q,"jwks_uri":"https://127.0.0.1:1/"}`, issuer), "JWKSURL"},
		{"http jwks_uri", s.document(`{"issuer":%q,"jwks_uri":%q}`, issuer, plain+keysPath), "want an https URL"},
		{"http jwks_uri on the origin", s.document(`{"issuer":%q,"jwks_uri":%q}`, issuer, strings.Replace(s.URL, "https", "http", 1)+keysPath), "want an https URL"},
		{"file jwks_uri", s.document(`{"issuer":%q,"jwks_uri":"file:///etc/passwd"}`, issuer), "want an https URL"},
		{"user in jwks_uri", s.document(`{"issuer":%q,"jwks_uri":%q}`, issuer, strings.Replace(s.URL, "//", "//a:b@", 1)+keysPath), "want an https URL"},
	}
}

// Whatever the origin answers, tokens of known keys go on being verified, the
// bearer stays with the origin, nothing of the answer is told, and nothing runs
// on.
func TestOddAnswers(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	known := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}})
	unknown := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}, Header: map[string]any{"kid": "unknown"}})
	elsewhere, plain := newKeyServer(t, cluster), httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a request over http")
	}))
	defer plain.Close()
	server := newKeyServer(t, cluster)
	// The other host is one that would be trusted.
	elsewhere.certificate.Store(server.certificate.Load())

	goroutines := runtime.NumGoroutine()
	for _, odd := range server.oddAnswers(t, elsewhere.URL, plain.URL) {
		t.Run(odd.name, func(t *testing.T) {
			logged := new(bytes.Buffer)
			config := server.config()
			config.Logger = slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
			v, cold := mustNew(t, config), mustNew(t, config)
			server.answerWith(nil)
			mustVerify(t, v, known)

			server.answerWith(odd.answer)
			_, err := v.Verify(t.Context(), unknown)
			if !errors.Is(err, kubejwt.ErrKeysUnavailable) || !strings.Contains(err.Error(), odd.want) {
				t.Errorf("a token of an unknown key: %v", err)
			}
			mustVerify(t, v, known)
			mustVerify(t, v, cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}}))
			if stats := v.Stats(); stats.FetchFailures != 1 || stats.LastError == nil {
				t.Errorf("Stats = %+v", stats)
			}

			_, errCold := cold.Verify(t.Context(), known)
			if !errors.Is(errCold, kubejwt.ErrKeysUnavailable) {
				t.Errorf("without keys: %v", errCold)
			}
			mustHoldNoSecret(t, err.Error(), errCold.Error(), logged.String())
		})
	}
	if n := elsewhere.requests.Load(); n != 0 {
		t.Errorf("%d requests to another host, %d of them with a bearer", n, elsewhere.authorized.Load())
	}
	soon(t, "goroutines are left", func() error {
		if n := runtime.NumGoroutine(); n > goroutines {
			return fmt.Errorf("%d, and %d before", n, goroutines)
		}
		return nil
	})
}

// A caller's Transport tells its own errors; what the answer said stays untold.
func TestTransportErrors(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	known := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}})
	bearer := filepath.Join(t.TempDir(), "token")
	writeFile(t, bearer, []byte(secretText))
	for name, tt := range map[string]struct {
		answer roundTrip
		want   string
	}{
		"its own": {func(*http.Request) (*http.Response, error) { return nil, errors.New("the tunnel is down") }, "the tunnel is down"},
		"a network's": {func(*http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
		}, "connection refused"},
		"a network's that quotes the bearer": {func(r *http.Request) (*http.Response, error) {
			return nil, fmt.Errorf("giving up on %v: %w", r.Header, &net.OpError{Op: "dial", Err: errors.New("refused")})
		}, "quotes the request"},
		"the end, with the bearer": {func(r *http.Request) (*http.Response, error) {
			return nil, fmt.Errorf("%v: %w", r.Header, io.EOF)
		}, "quotes the request"},
		"a token": {func(*http.Request) (*http.Response, error) {
			return nil, errors.New("sent eyJhbGciOiJSUzI1NiIs")
		}, "quotes the request"},
		"a long story": {func(*http.Request) (*http.Response, error) {
			return nil, errors.New(strings.Repeat("it broke ", 1000))
		}, "it broke it broke"},
		"an error of ours": {func(*http.Request) (*http.Response, error) { return nil, new(kubejwt.InvalidTokenError) }, "refused by rule"},
		"another of ours":  {func(*http.Request) (*http.Response, error) { return nil, new(kubejwt.NotAllowedError) }, "not among"},
		"cancelled":        {func(*http.Request) (*http.Response, error) { return nil, context.Canceled }, "canceled"},
		"too late":         {func(*http.Request) (*http.Response, error) { return nil, context.DeadlineExceeded }, "no answer within"},
		"a bad Location": {func(r *http.Request) (*http.Response, error) {
			header := http.Header{"Location": {"http://[::" + secretText}}
			return &http.Response{StatusCode: http.StatusFound, Header: header, Body: http.NoBody, Request: r}, nil
		}, "GET"},
		"nothing": {func(*http.Request) (*http.Response, error) { return nil, nil }, "GET"},
		"a panic": {func(*http.Request) (*http.Response, error) { panic(secretText) }, "panicked"},
	} {
		config := cluster.Config("data-store")
		config.Keys = kubejwt.RemoteKeys{Transport: tt.answer, BearerTokenFile: bearer}
		_, err := mustNew(t, config).Verify(t.Context(), known)
		if !errors.Is(err, kubejwt.ErrKeysUnavailable) || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 1000 {
			t.Errorf("%s: %v", name, err)
		}
		mustHoldNoSecret(t, fmt.Sprint(err))
		_, isNotAllowed := errors.AsType[*kubejwt.NotAllowedError](err)
		if reasonOf(err) != "" || isNotAllowed || errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v is more than ErrKeysUnavailable", name, err)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Over real sockets: nobody with a known key notices, and the others go at ten
// seconds.
func TestHangingOrigin(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	for name, hang := range map[string]http.HandlerFunc{
		"no answer": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"a byte now and then": func(w http.ResponseWriter, r *http.Request) {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					io.WriteString(w, " ")
					w.(http.Flusher).Flush()
				case <-r.Context().Done():
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newKeyServer(t, cluster)
			v := mustNew(t, server.config())
			mint := func(header map[string]any) string {
				return cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}, Header: header})
			}
			mustVerify(t, v, mint(nil))
			server.answerWith(hang)
			began := time.Now()
			done := make(chan error)
			go func() {
				_, err := v.Verify(context.Background(), mint(map[string]any{"kid": "unknown"}))
				done <- err
			}()
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					mustVerify(t, v, mint(nil))
					continue
				case err := <-done:
					if waited := time.Since(began); !errors.Is(err, kubejwt.ErrKeysUnavailable) || waited < 9*time.Second || waited > 15*time.Second {
						t.Errorf("after %v: %v", waited, err)
					}
				}
				break
			}
		})
	}
}

func TestWrongCertificate(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	known := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}})
	wrongName, wrongNameRoot := newCertificate(t, "127.0.0.2", time.Hour)
	expired, expiredRoot := newCertificate(t, "127.0.0.1", -time.Minute)
	unknownCA, _ := newCertificate(t, "127.0.0.1", time.Hour)
	for _, tt := range []struct {
		name        string
		certificate tls.Certificate
		roots       []byte
		want        string
	}{
		{"unknown CA", unknownCA, nil, "CAFile"},
		{"wrong name", wrongName, wrongNameRoot, "127.0.0.2"},
		{"expired", expired, expiredRoot, "expired"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := newKeyServer(t, cluster)
			server.certificate.Store(&tt.certificate)
			if tt.roots != nil {
				writeFile(t, server.caFile, tt.roots)
			}
			_, err := mustNew(t, server.config()).Verify(t.Context(), known)
			if !errors.Is(err, kubejwt.ErrKeysUnavailable) || !strings.Contains(err.Error(), tt.want) {
				t.Error(err)
			}
			if n := server.requests.Load(); n != 0 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// The API server got a certificate of a new CA, and then the file the new root.
func TestRotatedCA(t *testing.T) {
	t.Parallel()
	cluster := kubejwttest.NewCluster(t)
	known := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}})
	server := newKeyServer(t, cluster)
	certificate, roots := newCertificate(t, "127.0.0.1", time.Hour)
	server.certificate.Store(&certificate)
	v := mustNew(t, server.config())
	verify := func() error { _, err := v.Verify(t.Context(), known); return err }
	if err := verify(); !errors.Is(err, kubejwt.ErrKeysUnavailable) {
		t.Fatal(err)
	}
	writeFile(t, server.caFile, roots[:len(roots)/2]) // half-written
	if err := verify(); !errors.Is(err, kubejwt.ErrKeysUnavailable) {
		t.Fatal(err)
	}
	writeFile(t, server.caFile, roots)
	soon(t, "with the new root", verify)
}

// The document is read with the first fetch, after a failure and every 5 to 7
// hours.
func TestWhenTheDocumentIsRead(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	synctest.Test(t, func(t *testing.T) {
		asked := make(map[string]int)
		available, transport := true, cluster.Transport()
		config := cluster.Config("data-store")
		config.Keys = kubejwt.RemoteKeys{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			asked[r.URL.Path]++
			if !available {
				return nil, errors.New("connection refused")
			}
			return transport.RoundTrip(r)
		})}
		v := mustNew(t, config)
		day := func() (documents, keys int) {
			clear(asked)
			for range 24 * 60 {
				mustVerify(t, v, cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}}))
				time.Sleep(time.Minute)
			}
			return asked[documentPath], asked[keysPath]
		}
		if documents, keys := day(); documents < 4 || documents > 5 || keys < 26 {
			t.Errorf("on the first day %d documents and %d times the keys", documents, keys)
		}
		if documents, keys := day(); documents < 3 || documents > 5 || keys < 26 {
			t.Errorf("on the second day %d documents and %d times the keys", documents, keys)
		}
		available = false
		for asked[documentPath] = 0; v.Stats().LastError == nil; time.Sleep(time.Minute) {
			mustVerify(t, v, cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}}))
		}
		available = true
		for clear(asked); v.Stats().LastError != nil; time.Sleep(time.Minute) {
			mustVerify(t, v, cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}}))
		}
		if asked[documentPath] != 1 || asked[keysPath] != 1 {
			t.Errorf("after a failure it asked for %v", asked)
		}
	})
}

func TestRotatedBearer(t *testing.T) {
	t.Parallel()
	cluster := kubejwttest.NewCluster(t)
	known := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}})
	server := newKeyServer(t, cluster)
	server.setBearer("the-next-one")
	v := mustNew(t, server.config())
	verify := func() error { _, err := v.Verify(t.Context(), known); return err }
	if err := verify(); !errors.Is(err, kubejwt.ErrKeysUnavailable) || !strings.Contains(err.Error(), "401 (a bearer token was sent)") {
		t.Fatal(err)
	}
	writeFile(t, server.tokenFile, []byte("the-next-one\n"))
	soon(t, "with the new token", verify)
}

func TestMissingBearer(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	known := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}})
	server := newKeyServer(t, cluster)
	server.setBearer("")
	for name, content := range map[string]string{"missing": "-", "empty": "\n", "two lines": "a\nb", "too large": strings.Repeat("a", 17<<10)} {
		writeFile(t, server.tokenFile, []byte(content))
		if content == "-" {
			os.Remove(server.tokenFile)
		}
		_, err := mustNew(t, server.config()).Verify(t.Context(), known)
		if !errors.Is(err, kubejwt.ErrKeysUnavailable) || !strings.Contains(err.Error(), "RemoteKeys.BearerTokenFile") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := server.requests.Load(); n != 0 {
		t.Errorf("%d requests without the bearer", n)
	}
}

func TestRetryAfterHeader(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	known := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}})
	unknown := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}, Header: map[string]any{"kid": "unknown"}})
	for _, tt := range []struct {
		name       string
		status     int
		retryAfter string
		want       time.Duration // with keys at hand
	}{
		{"429", http.StatusTooManyRequests, "120", 2 * time.Minute},
		{"503", http.StatusServiceUnavailable, "120", 2 * time.Minute},
		{"a date", http.StatusTooManyRequests, time.Now().Add(2 * time.Minute).UTC().Format(http.TimeFormat), 2 * time.Minute},
		{"a day", http.StatusTooManyRequests, "86400", 10 * time.Minute},
		{"a date without end", http.StatusTooManyRequests, "Fri, 31 Dec 9999 23:59:59 GMT", 10 * time.Minute},
		{"a number without end", http.StatusTooManyRequests, strings.Repeat("9", 40), 10 * time.Minute},
		{"negative", http.StatusTooManyRequests, "-5", 0},
		{"nonsense", http.StatusTooManyRequests, secretText, 0},
		{"none", http.StatusTooManyRequests, "", 0},
		{"of a 500", http.StatusInternalServerError, "120", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := newKeyServer(t, cluster)
			v, cold := mustNew(t, server.config()), mustNew(t, server.config())
			mustVerify(t, v, known)
			server.answerWith(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", tt.retryAfter)
				http.Error(w, secretText, tt.status)
			})
			_, err := v.Verify(t.Context(), unknown)
			if !errors.Is(err, kubejwt.ErrKeysUnavailable) {
				t.Fatal(err)
			}
			mustHoldNoSecret(t, err.Error())
			spread := time.Second
			if tt.name == "a date" { // which is the same for all who were told of it
				spread += tt.want / 5
			}
			if in := time.Until(v.Stats().NextFetch); in > tt.want+spread || in < tt.want-10*time.Second {
				t.Errorf("the next attempt in %v, want %v", in, tt.want)
			}
			cold.Verify(t.Context(), known)
			if in := time.Until(cold.Stats().NextFetch); in > min(tt.want, 30*time.Second)+time.Second {
				t.Errorf("without keys the next attempt in %v", in)
			}
		})
	}
}

// Without credentials, a document may send us to another host, as public
// issuers do.
func TestForeignKeys(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	known := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}})
	server, elsewhere := newKeyServer(t, cluster), newKeyServer(t, cluster)
	elsewhere.setBearer("")
	elsewhere.certificate.Store(server.certificate.Load())
	config := server.config()
	server.answerWith(server.document(`{"issuer":%q,"jwks_uri":%q}`, config.Issuer, elsewhere.URL+keysPath))

	config.Keys = kubejwt.RemoteKeys{DiscoveryURL: server.URL + documentPath, CAFile: server.caFile}
	mustVerify(t, mustNew(t, config), known)
	if n := elsewhere.requests.Load(); n != 1 || elsewhere.authorized.Load() != 0 {
		t.Errorf("%d requests for the keys", n)
	}

	// With a Transport, who knows what it adds.
	roots := x509.NewCertPool()
	roots.AddCert(mustParseCertificate(t, server.certificate.Load()))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}
	config.Keys = kubejwt.RemoteKeys{DiscoveryURL: server.URL + documentPath, Transport: transport}
	if _, err := mustNew(t, config).Verify(t.Context(), known); !strings.Contains(fmt.Sprint(err), "set RemoteKeys.JWKSURL") {
		t.Error(err)
	}

	// Set by hand it is the origin, and gets the bearer.
	config.Keys = kubejwt.RemoteKeys{JWKSURL: elsewhere.URL + keysPath, CAFile: server.caFile, BearerTokenFile: server.tokenFile}
	before := server.requests.Load()
	mustVerify(t, mustNew(t, config), known)
	if server.requests.Load() != before || elsewhere.authorized.Load() != 1 {
		t.Error("JWKSURL alone was to be asked, with the bearer")
	}
}

func mustParseCertificate(t testing.TB, certificate *tls.Certificate) *x509.Certificate {
	t.Helper()
	parsed, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// A key that can't be used costs no other.
func TestOddKeys(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	known := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}})
	server := newKeyServer(t, cluster)
	second := kubejwttest.NewCluster(t)
	good, other := server.key(t), (&keyServer{cluster: second}).key(t)
	odd := func(with map[string]any) map[string]any {
		key := maps.Clone(other)
		key["kid"] = "odd"
		maps.Copy(key, with)
		return key
	}
	for _, tt := range []struct {
		name string
		keys []map[string]any
		why  string
	}{
		{"private", []map[string]any{odd(map[string]any{"d": secretText})}, "a private key"},
		{"a private prime", []map[string]any{odd(map[string]any{"p": secretText})}, "a private key"},
		{"symmetric", []map[string]any{{"kty": "oct", "k": secretText, "kid": "odd"}}, "a symmetric key"},
		{"unknown type", []map[string]any{{"kty": "AKP", "alg": "ML-DSA-44", "pub": secretText, "kid": "odd"}}, "an unknown kty"},
		{"unknown type with other members", []map[string]any{{"kty": "AKP", "n": 5, "use": "enc", "kid": "odd"}}, "an unknown kty"},
		{"a member of the wrong type", []map[string]any{odd(map[string]any{"n": 5})}, "/n has a value of the wrong type"},
		{"for encryption", []map[string]any{odd(map[string]any{"use": "enc"})}, "use is not sig"},
		{"of another alg", []map[string]any{odd(map[string]any{"alg": "RS512"})}, "alg is not RS256"},
		{"small exponent", []map[string]any{odd(map[string]any{"e": "Aw"})}, ""},
		{"not canonical", []map[string]any{odd(map[string]any{"e": "AAEAAQ"})}, "not canonical"},
		{"two under one kid", []map[string]any{odd(nil), odd(map[string]any{"n": good["n"]})}, "two different keys"},
		{"two under one kid, one of them thrice", []map[string]any{odd(nil), odd(nil), odd(nil), odd(map[string]any{"n": good["n"]})}, "two different keys"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body, err := json.Marshal(map[string]any{"keys": append(slices.Clone(tt.keys), good, good)})
			if err != nil {
				t.Fatal(err)
			}
			server.answerWith(server.onlyKeys(sendBody(http.StatusOK, string(body))))
			logged := new(bytes.Buffer)
			config := server.config()
			config.Logger = slog.New(slog.NewTextHandler(logged, nil))
			v := mustNew(t, config)
			mustVerify(t, v, known)
			_, err = v.Verify(t.Context(), second.Mint(kubejwttest.Token{
				Audiences: []string{"data-store"},
				Header:    map[string]any{"kid": "odd"},
				Claims:    map[string]any{"iss": config.Issuer},
			}))
			if reasonOf(err) != kubejwt.ReasonUnknownKey || !strings.Contains(err.Error(), "published and not used") || !strings.Contains(err.Error(), tt.why) {
				t.Errorf("a token of the odd key: %v", err)
			}
			if !strings.Contains(logged.String(), "a key is not used") || !strings.Contains(logged.String(), tt.why) {
				t.Errorf("the log: %s", logged)
			}
			mustHoldNoSecret(t, err.Error(), logged.String())
		})
	}
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

func TestInClusterEnvironment(t *testing.T) {
	config := kubejwt.Config{Audiences: []string{"data-store"}, ServiceAccounts: []string{"*"}}
	for _, tt := range []struct{ host, port, want string }{
		{"", "", "no"},
		{"10.96.0.1", "", "no"},
		{"", "443", "no"},
		{"10.96.0.1", "443", ""},
		{"fd00::1", "443", ""},
		{"kubernetes.default.svc", "443", ""},
		{"10.96.0.1 evil", "443", "bad"},
		{"a@10.96.0.1", "443", "bad"},
		{"10.96.0.1", "none", "bad"},
	} {
		t.Setenv("KUBERNETES_SERVICE_HOST", tt.host)
		t.Setenv("KUBERNETES_SERVICE_PORT", tt.port)
		_, err := kubejwt.InCluster(config)
		switch tt.want {
		case "no":
			if !errors.Is(err, kubejwt.ErrNotInCluster) {
				t.Errorf("%q, %q: %v", tt.host, tt.port, err)
			}
		case "bad":
			if err == nil || errors.Is(err, kubejwt.ErrNotInCluster) || !strings.Contains(err.Error(), "KUBERNETES_SERVICE_HOST") {
				t.Errorf("%q, %q: %v", tt.host, tt.port, err)
			}
		default:
			if err != nil {
				t.Errorf("%q, %q: %v", tt.host, tt.port, err)
			}
		}
	}
}

// An issuer that is learnt is learnt from the document alone.
func TestInClusterLearnsTheIssuer(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	server := newKeyServer(t, cluster)
	inPod(t, server)
	v := mustNewInCluster(t, kubejwt.Config{
		Audiences: []string{"data-store"}, ServiceAccounts: []string{"*"},
		Keys: kubejwt.RemoteKeys{CAFile: server.caFile, BearerTokenFile: server.tokenFile},
	})
	for _, tt := range []struct {
		name string
		iss  any
		want kubejwt.Reason
	}{
		{"another", "https://another.example", kubejwt.ReasonWrongIssuer},
		{"the document's", cluster.Config("x").Issuer, ""},
		{"empty", "", kubejwt.ReasonWrongIssuer},
		{"none", nil, kubejwt.ReasonWrongIssuer},
		{"null", null, kubejwt.ReasonWrongIssuer},
		{"of a Secret", "kubernetes/serviceaccount", kubejwt.ReasonLegacy},
	} {
		token := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}, Claims: map[string]any{"iss": tt.iss}})
		if _, err := v.Verify(t.Context(), token); reasonOf(err) != tt.want || tt.want == "" && err != nil {
			t.Errorf("%s: %v: want %q", tt.name, err, tt.want)
		}
	}
}

// Without ca.crt the API server can't be told from anyone else: never with the
// system's roots.
func TestInClusterWithoutRoots(t *testing.T) {
	notInPod(t)
	cluster := kubejwttest.NewCluster(t)
	server := newKeyServer(t, cluster)
	inPod(t, server)
	t.Setenv("SSL_CERT_FILE", server.caFile) // the system's roots would do
	v := mustNewInCluster(t, kubejwt.Config{Audiences: []string{"data-store"}, ServiceAccounts: []string{"*"}})
	_, err := v.Verify(t.Context(), cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}}))
	if !errors.Is(err, kubejwt.ErrKeysUnavailable) || !strings.Contains(err.Error(), "automountServiceAccountToken") {
		t.Error(err)
	}
	if n := server.requests.Load(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestInClusterWithoutOwnToken(t *testing.T) {
	notInPod(t)
	cluster := kubejwttest.NewCluster(t)
	known := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}})
	server := newKeyServer(t, cluster)
	inPod(t, server)
	config := kubejwt.Config{
		Audiences: []string{"data-store"}, ServiceAccounts: []string{"*"},
		Keys: kubejwt.RemoteKeys{CAFile: server.caFile},
	}
	_, err := mustNewInCluster(t, config).Verify(t.Context(), known)
	if !errors.Is(err, kubejwt.ErrKeysUnavailable) || !strings.Contains(err.Error(), "401 (no bearer token was sent)") ||
		!strings.Contains(err.Error(), "system:service-account-issuer-discovery") {
		t.Error(err)
	}
	server.setBearer("") // an API server that lets anybody read the keys
	mustVerify(t, mustNewInCluster(t, config), known)
	if server.requests.Load() == 0 || server.authorized.Load() != 0 {
		t.Errorf("%d requests, %d with a bearer", server.requests.Load(), server.authorized.Load())
	}
}

// An API server's jwks_uri often names what a pod can't reach or can't judge:
// the API server has the keys itself.
func TestInClusterForeignKeys(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	known := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}})
	server, elsewhere := newKeyServer(t, cluster), newKeyServer(t, cluster)
	elsewhere.certificate.Store(server.certificate.Load())
	inPod(t, server)
	issuer := cluster.Config("x").Issuer
	for _, uri := range []string{elsewhere.URL + keysPath, "https://ip-10-0-0-1.internal:443/openid/v1/jwks", "http://127.0.0.1/keys", "nonsense", ""} {
		server.answerWith(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case documentPath:
				fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, issuer, uri)
			case keysPath:
				w.Write(server.keys())
			}
		})
		v := mustNewInCluster(t, kubejwt.Config{
			Audiences: []string{"data-store"}, ServiceAccounts: []string{"*"},
			Keys: kubejwt.RemoteKeys{CAFile: server.caFile, BearerTokenFile: server.tokenFile},
		})
		claims, err := v.Verify(t.Context(), known)
		if err != nil || claims.Issuer != issuer {
			t.Errorf("jwks_uri %q: %+v, %v", uri, claims, err)
		}
	}
	if elsewhere.requests.Load() != 0 {
		t.Error("another host was asked")
	}
}

// A URL on another origin than the pod's API server gets neither its CA nor its
// token.
func TestInClusterForeignOrigin(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	known := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}})
	apiServer, elsewhere := newKeyServer(t, cluster), newKeyServer(t, cluster)
	inPod(t, apiServer)
	for _, keys := range []kubejwt.RemoteKeys{{DiscoveryURL: elsewhere.URL + documentPath}, {JWKSURL: elsewhere.URL + keysPath}} {
		config := kubejwt.Config{Issuer: cluster.Config("x").Issuer, Audiences: []string{"data-store"}, ServiceAccounts: []string{"*"}, Keys: keys}
		// Judged by the system's roots, it is a stranger.
		_, err := mustNewInCluster(t, config).Verify(t.Context(), known)
		if !errors.Is(err, kubejwt.ErrKeysUnavailable) || !strings.Contains(err.Error(), "unknown authority") {
			t.Error(err)
		}
		// Judged by roots of its own, it still gets no token.
		keys.CAFile = elsewhere.caFile
		config.Keys = keys
		if _, err := mustNewInCluster(t, config).Verify(t.Context(), known); !strings.Contains(fmt.Sprint(err), "no bearer token was sent") {
			t.Error(err)
		}
		keys.BearerTokenFile = elsewhere.tokenFile
		config.Keys = keys
		mustVerify(t, mustNewInCluster(t, config), known)
	}
	if apiServer.requests.Load() != 0 {
		t.Error("the API server was asked")
	}
}

// Within the set's life a token of a known key takes the same time whether the
// origin is well or hangs, with callers of unknown keys waiting for it.
func BenchmarkVerifyHealthyOrigin(b *testing.B) {
	benchmarkVerify(b, func(*http.Request) {})
}

func BenchmarkVerifyHangingOrigin(b *testing.B) {
	benchmarkVerify(b, func(r *http.Request) { <-r.Context().Done() })
}

func benchmarkVerify(b *testing.B, think func(*http.Request)) {
	cluster := kubejwttest.NewCluster(b)
	server := newKeyServer(b, cluster)
	config := server.config()
	config.CacheSize = -1 // each token is verified
	v := mustNew(b, config)
	token := kubejwttest.Token{Audiences: []string{"data-store"}}
	known := cluster.Mint(token)
	mustVerify(b, v, known)

	token.Header = map[string]any{"kid": "unknown"}
	unknown := cluster.Mint(token)
	asked := make(chan struct{}, 100)
	server.answerWith(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		think(r)
	})
	ctx, cancel := context.WithCancel(b.Context())
	var waiting sync.WaitGroup
	waiting.Go(func() { v.Verify(ctx, unknown) })
	<-asked // the fetch is under way
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(ctx, known); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	cancel()
	waiting.Wait()
}
