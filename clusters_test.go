package kubejwt_test

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kubejwt/kubejwt"
)

const recordedIssuer = "https://kubernetes.default.svc.cluster.local"

// recording is what one API server minted and answered, in
// testdata/clusters/<distribution>/<algorithm>.
type recording struct {
	folder string
	at     time.Time
}

func recordings(t testing.TB) map[string]recording {
	t.Helper()
	all := make(map[string]recording)
	for _, alg := range []string{"rs256", "es256", "es384", "es512"} {
		r := recording{folder: "testdata/clusters/kube-apiserver-1.36/" + alg}
		at, err := time.Parse(time.RFC3339, strings.TrimSpace(r.read(t, "recorded-at")))
		if err != nil {
			t.Fatal(err)
		}
		r.at = at
		all[alg] = r
	}
	return all
}

func (r recording) read(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(r.folder, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func (r recording) token(t testing.TB, name string) string {
	t.Helper()
	return strings.TrimSpace(r.read(t, "tokens/"+name+".jwt"))
}

// config accepts the recording's tokens for data-store, at the time when they
// were minted. Most of them live for ten years.
func (r recording) config(keys kubejwt.KeySource) kubejwt.Config {
	return kubejwt.Config{
		Issuer:          recordedIssuer,
		Audiences:       []string{"data-store"},
		ServiceAccounts: []string{"*"},
		Keys:            keys,
		MaxLifetime:     -1,
		Now:             func() time.Time { return r.at },
	}
}

// serve is the recorded API server on loopback, and a file with its CA.
func (r recording) serve(t testing.TB) (server *httptest.Server, caFile string) {
	t.Helper()
	document, keys := r.read(t, "openid-configuration.json"), r.read(t, "jwks.json")
	server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/.well-known/openid-configuration":
			w.Write([]byte(document))
		case "/here/.well-known/openid-configuration":
			w.Write([]byte(strings.Replace(document, "127.0.0.1:16443", req.Host, 1)))
		case "/openid/v1/jwks":
			w.Header().Set("Cache-Control", "public, max-age=3600")
			w.Write([]byte(keys))
		default:
			http.NotFound(w, req)
		}
	}))
	t.Cleanup(server.Close)
	caFile = filepath.Join(t.TempDir(), "ca.crt")
	writeFile(t, caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	return server, caFile
}

// verifiers are one for each way to get at the recording's keys.
func (r recording) verifiers(t *testing.T) map[string]*kubejwt.Verifier {
	t.Helper()
	server, caFile := r.serve(t)
	parsed, err := kubejwt.ParsePublicKeys([]byte(r.read(t, "sa.pub")))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]*kubejwt.Verifier)
	for name, keys := range map[string]kubejwt.KeySource{
		"PublicKeys":    parsed,
		"KeyFile PEM":   kubejwt.KeyFile(r.folder + "/sa.pub"),
		"KeyFile JWKS":  kubejwt.KeyFile(r.folder + "/jwks.json"),
		"JWKSURL":       kubejwt.RemoteKeys{JWKSURL: server.URL + "/openid/v1/jwks", CAFile: caFile},
		"DiscoveryURL":  kubejwt.RemoteKeys{DiscoveryURL: server.URL + "/here/.well-known/openid-configuration", CAFile: caFile},
		"own Transport": kubejwt.RemoteKeys{JWKSURL: server.URL + "/openid/v1/jwks", Transport: server.Client().Transport},
	} {
		all[name] = mustNew(t, r.config(keys))
	}
	// The recorded jwks_uri names an address that a pod would not get at.
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", at.Hostname())
	t.Setenv("KUBERNETES_SERVICE_PORT", at.Port())
	config := r.config(kubejwt.RemoteKeys{CAFile: caFile})
	config.Issuer = "" // learnt
	if all["InCluster"], err = kubejwt.InCluster(config); err != nil {
		t.Fatal(err)
	}
	return all
}

// review is the status of a TokenReview.
type review struct {
	Authenticated bool     `json:"authenticated"`
	Audiences     []string `json:"audiences"`
	User          struct {
		Username string              `json:"username"`
		UID      string              `json:"uid"`
		Groups   []string            `json:"groups"`
		Extra    map[string][]string `json:"extra"`
	} `json:"user"`
}

// asReview is what TokenReview would say of claims.
func asReview(claims kubejwt.Claims, err error) review {
	var r review
	if err != nil {
		return r
	}
	r.Authenticated = true
	r.Audiences = []string{claims.Audience}
	r.User.Username = claims.Username()
	r.User.UID = claims.ServiceAccount.UID
	r.User.Groups = claims.Groups()
	r.User.Extra = claims.Extra()
	return r
}

// A real API server's TokenReview and Verify say the same of every recorded
// token, wherever the keys come from.
func TestClusters(t *testing.T) {
	for alg, r := range recordings(t) {
		tokens, err := filepath.Glob(r.folder + "/tokens/*.jwt")
		if err != nil || len(tokens) != 11 {
			t.Fatalf("%s: %d tokens, %v: want 11", alg, len(tokens), err)
		}
		for source, v := range r.verifiers(t) {
			for _, path := range tokens {
				name := strings.TrimSuffix(filepath.Base(path), ".jwt")
				t.Run(alg+"/"+source+"/"+name, func(t *testing.T) {
					var want review
					if err := json.Unmarshal([]byte(r.read(t, "tokenreviews/"+name+".json")), &want); err != nil {
						t.Fatal(err)
					}
					// Once afresh, once remembered.
					for range 2 {
						claims, err := v.Verify(t.Context(), r.token(t, name))
						if diff := cmp.Diff(want, asReview(claims, err)); diff != "" {
							t.Errorf("verdict differs from TokenReview's (-want +got):\n%s%v", diff, err)
						}
					}
				})
			}
			if s := v.Stats(); s.RememberedHits == 0 {
				t.Errorf("%s/%s: no token was remembered", alg, source)
			}
		}
	}
}

// The token that every pod has by default lives for a year, and its holder is
// to read it again within the hour.
func TestExtendedToken(t *testing.T) {
	for alg, r := range recordings(t) {
		token := r.token(t, "extended_default_mount")
		for _, tt := range []struct {
			name      string
			audience  string
			after     time.Duration
			extended  bool
			want      kubejwt.Reason
			expiresIn time.Duration
		}{
			{"fresh", "k3s", 0, false, "", 3607 * time.Second},
			{"fresh, by the issuer", recordedIssuer, 0, false, "", 3607 * time.Second},
			{"within the leeway", "k3s", 3607*time.Second + 50*time.Second, false, "", 3607 * time.Second},
			{"two hours later", "k3s", 2 * time.Hour, false, kubejwt.ReasonStale, 0},
			{"two hours later, honoured", "k3s", 2 * time.Hour, true, "", 365 * 24 * time.Hour},
			{"half a year later, honoured", "k3s", 180 * 24 * time.Hour, true, "", 365 * 24 * time.Hour},
			{"a year later", "k3s", 366 * 24 * time.Hour, true, kubejwt.ReasonExpired, 0},
		} {
			t.Run(alg+"/"+tt.name, func(t *testing.T) {
				config := r.config(kubejwt.KeyFile(r.folder + "/sa.pub"))
				config.Audiences = []string{tt.audience}
				config.AcceptExtended = tt.extended
				config.Now = func() time.Time { return r.at.Add(tt.after) }
				claims, err := mustNew(t, config).Verify(t.Context(), token)
				if got := reasonOf(err); got != tt.want {
					t.Fatalf("reason %q: want %q", got, tt.want)
				}
				if tt.want == "" && claims.Expiry.Sub(claims.IssuedAt) != tt.expiresIn {
					t.Errorf("Expiry is %v after IssuedAt: want %v", claims.Expiry.Sub(claims.IssuedAt), tt.expiresIn)
				}
			})
		}
	}
}

func TestShortLived(t *testing.T) {
	for alg, r := range recordings(t) {
		t.Run(alg, func(t *testing.T) {
			now := r.at
			config := r.config(kubejwt.KeyFile(r.folder + "/sa.pub"))
			config.MaxLifetime = 0
			config.Now = func() time.Time { return now }
			v := mustNew(t, config)
			token := r.token(t, "short_lived")
			claims, err := v.Verify(t.Context(), token)
			if err != nil {
				t.Fatal(err)
			}
			// The same Verifier, which remembers the token.
			now = claims.Expiry.Add(59 * time.Second)
			if _, err := v.Verify(t.Context(), token); err != nil {
				t.Errorf("within the leeway: %v", err)
			}
			now = claims.Expiry.Add(60 * time.Second)
			if _, err := v.Verify(t.Context(), token); reasonOf(err) != kubejwt.ReasonExpired {
				t.Errorf("after the leeway: %v", err)
			}
		})
	}
}
