package kubejwt_test

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

type oddAnswer struct {
	name   string
	answer http.HandlerFunc
	want   string // in the error
}

// Whatever the origin answers, tokens of known keys go on being verified, the
// bearer stays with the origin, nothing of the answer is told, and nothing runs
// on.
func TestOddAnswers(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
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
			// A failed fetch is tried again within a second, which may pass
			// before we look at Stats, unless the time is a bubble's.
			synctest.Test(t, func(t *testing.T) { server.mustCopeWith(t, odd) })
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

func (s *keyServer) mustCopeWith(t *testing.T, odd oddAnswer) {
	known := s.cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}})
	unknown := s.cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}, Header: map[string]any{"kid": "unknown"}})
	logged := newLockedLog()
	config := s.config()
	config.Logger = slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	v, cold := mustNew(t, config), mustNew(t, config)
	s.answerWith(nil)
	mustVerify(t, v, known)

	s.answerWith(odd.answer)
	_, err := v.Verify(t.Context(), unknown)
	if !errors.Is(err, kubejwt.ErrKeysUnavailable) || !strings.Contains(err.Error(), odd.want) {
		t.Errorf("a token of an unknown key: %v", err)
	}
	mustVerify(t, v, known)
	mustVerify(t, v, s.cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}}))
	if stats := v.Stats(); stats.FetchFailures != 1 || stats.LastError == nil {
		t.Errorf("Stats = %+v", stats)
	}

	_, errCold := cold.Verify(t.Context(), known)
	if !errors.Is(errCold, kubejwt.ErrKeysUnavailable) {
		t.Errorf("without keys: %v", errCold)
	}
	synctest.Wait() // for the log
	mustHoldNoSecret(t, err.Error(), errCold.Error(), logged.String())
}

// In a pod the document is read with the first fetch, after a failure and every
// 5 to 7 hours; elsewhere with each fetch.
func TestWhenTheDocumentIsRead(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	cluster := kubejwttest.NewCluster(t)
	const ownPath = "/own"
	learns := func(config kubejwt.Config) (*kubejwt.Verifier, error) {
		keys := config.Keys.(kubejwt.RemoteKeys)
		keys.JWKSURL = "https://10.96.0.1" + ownPath
		config.Keys, config.Issuer = keys, ""
		return kubejwt.InCluster(config)
	}
	for _, tt := range []struct {
		name  string
		build func(kubejwt.Config) (*kubejwt.Verifier, error)
		often bool // the document is read as often as the keys are
	}{
		{"in a pod", kubejwt.InCluster, false},
		{"in a pod, for the issuer alone", learns, false},
		{"outside a pod", kubejwt.New, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := make(map[string]int)
				available, transport := true, asIssuer(cluster)
				config := cluster.Config("data-store")
				config.Keys = kubejwt.RemoteKeys{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
					if r.URL.Path == ownPath {
						r = r.Clone(r.Context())
						r.URL.Path = keysPath
					}
					asked[r.URL.Path]++
					if !available {
						return nil, errors.New("connection refused")
					}
					return transport(r)
				})}
				v, err := tt.build(config)
				if err != nil {
					t.Fatal(err)
				}
				const lifetime = 10 * time.Hour
				minted, known := time.Now(), cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}, Lifetime: lifetime})
				verify := func() {
					if time.Since(minted) > lifetime/2 {
						minted, known = time.Now(), cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}, Lifetime: lifetime})
					}
					mustVerify(t, v, known)
				}
				// pause orders what a fetch in the background did before what follows.
				pause := func() {
					time.Sleep(time.Minute)
					synctest.Wait()
				}
				day := func(least, most int) {
					clear(asked)
					for range 24 * 60 {
						verify()
						pause()
					}
					documents, keys := asked[documentPath], asked[keysPath]
					if keys < 26 || tt.often && documents != keys || !tt.often && (documents < least || documents > most) {
						t.Errorf("in a day %d documents and %d times the keys", documents, keys)
					}
				}
				day(4, 5)
				day(3, 5)
				available = false
				for asked[documentPath] = 0; v.Stats().LastError == nil; pause() {
					verify()
				}
				available = true
				for clear(asked); v.Stats().LastError != nil; pause() {
					verify()
				}
				if asked[documentPath] != 1 || asked[keysPath] != 1 {
					t.Errorf("after a failure it asked for %v", asked)
				}
			})
		})
	}
}

// A key set lives for as long as the origin says, within bounds.
func TestMaxAge(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	for cacheControl, life := range map[string]time.Duration{
		"":                     15 * time.Minute,
		"public, max-age=1800": 30 * time.Minute,
		"max-age=1":            5 * time.Minute,
		"max-age=86400":        time.Hour,
	} {
		synctest.Test(t, func(t *testing.T) {
			config := cluster.Config("data-store")
			config.Keys = kubejwt.RemoteKeys{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				response, err := asIssuer(cluster)(r)
				if err == nil {
					response.Header.Set("Cache-Control", cacheControl)
				}
				return response, err
			})}
			v := mustNew(t, config)
			if err := v.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			s := v.Stats()
			if in := s.NextFetch.Sub(s.FetchedAt); in < life*7/10 || in > life*9/10 {
				t.Errorf("%q: the next fetch in %v, want 70 to 90 %% of %v", cacheControl, in, life)
			}
		})
	}
}

// After a restart the snapshot is used if the origin was judged by the same CA.
func TestSnapshotAndCA(t *testing.T) {
	server := newKeyServer(t, kubejwttest.NewCluster(t))
	config := server.config()
	keys := config.Keys.(kubejwt.RemoteKeys)
	keys.SnapshotFile = filepath.Join(t.TempDir(), "snapshot")
	config.Keys = keys
	known := server.cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}})
	mustVerify(t, mustNew(t, config), known)
	soon(t, "the snapshot", func() error { _, err := os.Stat(keys.SnapshotFile); return err })

	server.answerWith(sendBody(http.StatusInternalServerError, ""))
	mustVerify(t, mustNew(t, config), known)
	_, other := newCertificate(t, "127.0.0.1", time.Hour)
	writeFile(t, server.caFile, other)
	if _, err := mustNew(t, config).Verify(t.Context(), known); !errors.Is(err, kubejwt.ErrKeysUnavailable) {
		t.Errorf("with another CA: %v", err)
	}
}

// asIssuer answers for the cluster, whichever host is asked.
func asIssuer(cluster *kubejwttest.Cluster) roundTrip {
	issuer := strings.TrimPrefix(cluster.Config("x").Issuer, "https://")
	return func(r *http.Request) (*http.Response, error) {
		r = r.Clone(r.Context())
		r.URL.Host = issuer
		r.Header.Del("Authorization")
		return cluster.Transport().RoundTrip(r)
	}
}

// An issuer that moves its keys may leave the old set where it was: a key that is
// withdrawn there and then is gone within the hour that doc.go promises.
func TestMovedKeys(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	t.Run("outside a pod", func(t *testing.T) { testMovedKeys(t, kubejwt.New, "") })
	// In front of the API server somebody may serve keys at another path than its own.
	t.Run("in a pod", func(t *testing.T) { testMovedKeys(t, kubejwt.InCluster, "https://10.96.0.1:443") })
}

// testMovedKeys moves the keys on this origin; "" is the issuer's.
func testMovedKeys(t *testing.T, build func(kubejwt.Config) (*kubejwt.Verifier, error), origin string) {
	cluster := kubejwttest.NewCluster(t)
	synctest.Test(t, func(t *testing.T) {
		old := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}, Lifetime: 20 * time.Hour})
		answer := func(path string) []byte {
			request := httptest.NewRequest(http.MethodGet, cluster.Config("x").Issuer+path, nil)
			response, err := cluster.Transport().RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			return body
		}
		withdrawn := (&keyServer{cluster: cluster}).key(t)["kid"].(string)
		cluster.RotateKey("ES256") // both are published
		oldKeys, issuer := answer(keysPath), cluster.Config("x").Issuer
		at := cmp.Or(origin, issuer)
		moved := false
		config := cluster.Config("data-store")
		config.Keys = kubejwt.RemoteKeys{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			body := oldKeys
			switch {
			case r.URL.Path == documentPath && moved:
				body = fmt.Appendf(nil, `{"issuer":%q,"jwks_uri":"%s/moved"}`, issuer, at)
			case r.URL.Path == documentPath:
				body = fmt.Appendf(nil, `{"issuer":%q,"jwks_uri":"%s/old"}`, issuer, at)
			case r.URL.Path == "/moved":
				body = answer(keysPath)
			}
			header := http.Header{"Cache-Control": {"max-age=3600"}}
			return &http.Response{StatusCode: http.StatusOK, Header: header, Body: io.NopCloser(bytes.NewReader(body))}, nil
		})}
		v, err := build(config)
		if err != nil {
			t.Fatal(err)
		}
		mustVerify(t, v, old)
		moved = true
		cluster.DropKey(withdrawn)
		for range 60 {
			time.Sleep(time.Minute)
			mustVerify(t, v, cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}}))
		}
		if _, err := v.Verify(t.Context(), old); reasonOf(err) != kubejwt.ReasonUnknownKey {
			t.Errorf("an hour after its key was withdrawn: %v", err)
		}
	})
}

// What people put into a bucket may begin with a byte order mark.
func TestByteOrderMark(t *testing.T) {
	const mark = "\xef\xbb\xbf"
	cluster := kubejwttest.NewCluster(t)
	server := newKeyServer(t, cluster)
	server.answerWith(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, mark)
		if r.URL.Path == keysPath {
			w.Write(server.keys())
			return
		}
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, cluster.Config("x").Issuer, server.URL+keysPath)
	})
	for _, path := range []string{server.caFile, server.tokenFile} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, path, append([]byte(mark), data...))
	}
	mustVerify(t, mustNew(t, server.config()), cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}}))
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
			if !errors.Is(err, kubejwt.ErrNotInCluster) || !strings.Contains(err.Error(), "kubectl get --raw /openid/v1/jwks > keys.json") {
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
		{"usual for Secrets", "kubernetes/serviceaccount", kubejwt.ReasonWrongIssuer},
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
	if !errors.Is(err, kubejwt.ErrKeysUnavailable) || !strings.Contains(err.Error(), "401 (no bearer token was sent: /var/run/secrets/kubernetes.io/serviceaccount/token: ") ||
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

// Under its name in the cluster, at port 443, the API server is the pod's as well:
// it is judged by the pod's ca.crt, and the document is asked for there too.
func TestInClusterByName(t *testing.T) {
	notInPod(t)
	cluster := kubejwttest.NewCluster(t)
	known := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}})
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	bearer := filepath.Join(t.TempDir(), "token")
	writeFile(t, bearer, []byte(secretText))
	for host, isPods := range map[string]bool{
		"10.96.0.1":                            true,
		"kubernetes.default.svc":               true,
		"kubernetes.default.svc.cluster.local": true,
		"kubernetes.default.svc:6443":          false,
		"kubernetes.default.svcs":              false,
	} {
		config := kubejwt.Config{Audiences: []string{"data-store"}, ServiceAccounts: []string{"*"}, Issuer: cluster.Config("x").Issuer}
		config.Keys = kubejwt.RemoteKeys{JWKSURL: "https://" + host + keysPath, BearerTokenFile: bearer}
		limit := time.Minute // it fails at once
		if !isPods {
			limit = time.Second // it asks the network, and nobody answers
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		_, err := mustNewInCluster(t, config).Verify(ctx, known)
		cancel()
		if got := strings.Contains(fmt.Sprint(err), "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"); got != isPods {
			t.Errorf("%s: %v: judged by the pod's ca.crt: %v", host, err, got)
		}
		if !isPods {
			continue
		}
		asked := make(map[string]int)
		transport := roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.Header.Get("Authorization") == "Bearer "+secretText {
				asked[r.URL.Host+r.URL.Path]++
			}
			return asIssuer(cluster)(r)
		})
		config.Keys = kubejwt.RemoteKeys{JWKSURL: "https://" + host + keysPath, BearerTokenFile: bearer, Transport: transport}
		mustVerify(t, mustNewInCluster(t, config), known)
		if len(asked) != 1 || asked[host+keysPath] != 1 {
			t.Errorf("%s: asked with the bearer for %v: want the keys alone, as the issuer is known", host, asked)
		}
		clear(asked)
		config.Issuer = "" // it is learnt
		mustVerify(t, mustNewInCluster(t, config), known)
		if len(asked) != 2 || asked[host+documentPath] != 1 || asked[host+keysPath] != 1 {
			t.Errorf("%s: asked with the bearer for %v", host, asked)
		}
	}
}

// The query of a URL may be a signature that opens a bucket: it is in no error, no
// log, no Stats and no snapshot, whatever goes wrong.
func TestSecretsInURLs(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	known := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}})
	server := newKeyServer(t, cluster)
	server.setBearer("")
	const query = "?X-Amz-Signature=" + secretText
	for _, url := range []string{server.URL, strings.Replace(server.URL, "127.0.0.1", "127.0.0.2", 1)} {
		for _, keys := range []kubejwt.RemoteKeys{{JWKSURL: url + keysPath + query}, {DiscoveryURL: url + documentPath + query}} {
			for name, answer := range map[string]http.HandlerFunc{
				"good":      nil,
				"404":       sendBody(http.StatusNotFound, ""),
				"not JSON":  sendBody(http.StatusOK, "<html>"),
				"too large": sendBody(http.StatusOK, strings.Repeat(" ", 2<<20)),
				"redirect": func(w http.ResponseWriter, r *http.Request) {
					http.Redirect(w, r, "https://elsewhere.example/"+query, http.StatusFound)
				},
				"named in a document": server.document(`{"issuer":%q,"jwks_uri":%q}`, cluster.Config("x").Issuer, "http://elsewhere.example/"+query),
				"named and damaged":   server.document(`{"issuer":%q,"jwks_uri":%q}`, cluster.Config("x").Issuer, "https://[::/"+query),
				"named and followed":  server.document(`{"issuer":%q,"jwks_uri":%q}`, cluster.Config("x").Issuer, "https://127.0.0.1:1/"+query),
			} {
				server.answerWith(answer)
				logged := newLockedLog()
				config := cluster.Config("data-store")
				config.Logger = slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
				keys.CAFile, keys.SnapshotFile = server.caFile, filepath.Join(t.TempDir(), "snapshot")
				config.Keys = keys
				v := mustNew(t, config)
				_, err := v.Verify(t.Context(), known)
				logged.waitFor("etch") // fetched, or fetching failed
				var snapshot []byte
				for err == nil && len(snapshot) == 0 { // it is written behind the caller's back
					snapshot, _ = os.ReadFile(keys.SnapshotFile)
				}
				for _, text := range []string{fmt.Sprint(err), logged.String(), fmt.Sprintf("%+v", v.Stats()), string(snapshot)} {
					if strings.Contains(text, secretText) {
						t.Errorf("%s: shows the query: %s", name, text)
					}
				}
			}
		}
	}
	for _, url := range []string{"ftp://a.example/" + query, "https://u:" + secretText + "@a.example/", "https://[::/" + query, "https://a.example/#" + secretText} {
		config := cluster.Config("data-store")
		config.Keys = kubejwt.RemoteKeys{JWKSURL: url}
		if _, err := kubejwt.New(config); err == nil || strings.Contains(err.Error(), secretText) {
			t.Errorf("%v: want an error without the secret", err)
		}
	}
}

// The error of a caller's Transport may quote the URL that it was asked for, or
// one that it was sent to. Why it failed is told.
func TestSecretsInTransportErrors(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	known := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}})
	about := func(to string, why error) error { return &url.Error{Op: "Get", URL: to, Err: why} }
	tired := errors.New("giving up after 3 attempts")
	for name, tt := range map[string]struct {
		fails func(asked *url.URL) error
		want  string
	}{
		"no query":         {func(*url.URL) error { return about("https://a.example/keys", tired) }, `https://a.example/keys": giving up`},
		"its URL":          {func(asked *url.URL) error { return about(asked.String(), tired) }, "giving up after 3 attempts"},
		"its URL, wrapped": {func(asked *url.URL) error { return fmt.Errorf("pool: %w", about(asked.String(), tired)) }, "giving up"},
		"another URL":      {func(*url.URL) error { return about("https://b.example/?X-Other="+secretText, tired) }, "giving up"},
		"its URL, as a reason": {func(asked *url.URL) error {
			return about("x", errors.New(asked.String()))
		}, "quotes the request"},
		"its path and query": {func(asked *url.URL) error { return errors.New("no route for " + asked.RequestURI()) }, "quotes the request"},
		"its query, decoded": {func(asked *url.URL) error { return fmt.Errorf("%v", asked.Query()) }, "quotes the request"},
		"a value":            {func(asked *url.URL) error { return errors.New(asked.Query().Get("sig")) }, "quotes the request"},
		"a short value":      {func(*url.URL) error { return errors.New("status 1") }, "status 1"},
	} {
		config := cluster.Config("data-store")
		config.Keys = kubejwt.RemoteKeys{
			JWKSURL: "https://a.example/keys?v=1&sig=%2F" + secretText,
			Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				return nil, tt.fails(r.URL)
			}),
		}
		_, err := mustNew(t, config).Verify(t.Context(), known)
		if !errors.Is(err, kubejwt.ErrKeysUnavailable) || !strings.Contains(err.Error(), tt.want) ||
			strings.Contains(err.Error(), secretText) {
			t.Errorf("%s: %v: want %q", name, err, tt.want)
		}
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
		}), "more than 1048576 bytes"},
		{"headers without end", func(w http.ResponseWriter, r *http.Request) {
			for i := range 2000 {
				w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat(secretText, 10))
			}
		}, "HTTP over TLS"},
		keys("HTML", "<html>"+secretText+"</html>", "not a JWKS"),
		{"HTML for the document", sendBody(http.StatusOK, "<html>"+secretText+"</html>"), "not a discovery document"},
		keys("nothing", "", "not a JWKS"),
		keys("null", "null", "not a JWKS"),
		keys("no keys", `{}`, "no keys"),
		keys("empty set", `{"keys":[]}`, "no keys"),
		keys("null for a key", `{"keys":[null]}`, "usable"),
		keys("no usable key", `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"`+secretText+`"}]}`, "usable"),
		keys("a private key alone", `{"keys":[`+string(private)+`]}`, "usable"),
		keys("too many keys", `{"keys":[`+many.String()[1:]+`]}`, "128"),
		keys("members twice", `{"keys":[],`+good[1:], "not a JWKS"),
		keys("more behind", good+good, "not a JWKS"),
		keys("broken off", good[:len(good)-2], "not a JWKS"),
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
		{"another issuer", s.document(`{"issuer":"https://another.example","jwks_uri":%q}`, s.URL+keysPath), "must be exactly equal"},
		{"issuer and a slash", s.document(`{"issuer":%q,"jwks_uri":%q}`, issuer+"/", s.URL+keysPath), "must be exactly equal"},
		{"a document in UTF-16", sendBody(http.StatusOK, "\xff\xfe{\x00}\x00"), "UTF-16"},
		{"no issuer", s.document(`{"jwks_uri":%q}`, s.URL+keysPath), "no issuer"},
		{"ISSUER", s.document(`{"ISSUER":%q,"jwks_uri":%q}`, issuer, s.URL+keysPath), "no issuer"},
		{"issuer twice", s.document(`{"issuer":%q,"issuer":%q,"jwks_uri":%q}`, "https://another.example", issuer, s.URL+keysPath), "not a discovery document"},
		{"no jwks_uri", s.document(`{"issuer":%q}`, issuer), "jwks_uri"},
		{"foreign jwks_uri", s.document(`{"issuer":%q,"jwks_uri":%q}`, issuer, elsewhere+keysPath), "JWKSURL"},
		{"jwks_uri on another port", s.document(`{"issuer":%q,"jwks_uri":"https://127.0.0.1:1/"}`, issuer), "JWKSURL"},
		{"http jwks_uri", s.document(`{"issuer":%q,"jwks_uri":%q}`, issuer, plain+keysPath), "want an https URL"},
		{"http jwks_uri on the origin", s.document(`{"issuer":%q,"jwks_uri":%q}`, issuer, strings.Replace(s.URL, "https", "http", 1)+keysPath), "want an https URL"},
		{"file jwks_uri", s.document(`{"issuer":%q,"jwks_uri":"file:///etc/passwd"}`, issuer), "want an https URL"},
		{"user in jwks_uri", s.document(`{"issuer":%q,"jwks_uri":%q}`, issuer, strings.Replace(s.URL, "//", "//a:b@", 1)+keysPath), "want an https URL"},
	}
}
