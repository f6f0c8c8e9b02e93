package kubejwt_test

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kubejwt/kubejwt"
)

// recorded are the folders of testdata/clusters, whose README says what is
// special about each, and what has to be there.
var recorded = map[string]struct {
	folder       string
	tokens, keys int
	published    bool // the API server serves its keys
}{
	"rs256":          {"kube-apiserver-1.36/rs256", 11, 1, true},
	"es256":          {"kube-apiserver-1.36/es256", 11, 1, true},
	"es384":          {"kube-apiserver-1.36/es384", 11, 1, true},
	"es512":          {"kube-apiserver-1.36/es512", 11, 1, true},
	"1.20":           {"1.20", 11, 1, true},
	"1.20 tutorial":  {"1.20-tutorial", 11, 1, false},
	"1.24":           {"1.24", 11, 1, true},
	"path":           {"1.36-eks", 5, 1, true},
	"plain word":     {"1.36-plain-api", 5, 1, false},
	"rsa8192":        {"1.36-rsa8192", 5, 1, true},
	"three keys":     {"1.36-three-keys", 14, 3, true},
	"trailing slash": {"1.36-trailing-slash", 5, 1, true},
	"tutorial":       {"1.36-tutorial", 12, 1, false},
	"two issuers":    {"1.36-two-issuers", 10, 1, true},
}

// recording is what one API server minted and answered.
type recording struct {
	folder       string
	at           time.Time
	tokens, keys int
	published    bool
	Issuers      []string `json:"issuers"`
	APIAudiences []string `json:"api_audiences"`
}

// allRecordings are those of every folder.
func allRecordings(t testing.TB) map[string]recording {
	t.Helper()
	all := make(map[string]recording)
	for name, f := range recorded {
		r := recording{folder: "testdata/clusters/" + f.folder, tokens: f.tokens, keys: f.keys, published: f.published}
		at, err := time.Parse(time.RFC3339, strings.TrimSpace(r.read(t, "recorded-at")))
		if err != nil {
			t.Fatal(err)
		}
		r.at = at
		if err := json.Unmarshal([]byte(r.read(t, "config.json")), &r); err != nil {
			t.Fatal(err)
		}
		all[name] = r
	}
	return all
}

// recordings are one for each algorithm.
func recordings(t testing.TB) map[string]recording {
	t.Helper()
	all := allRecordings(t)
	maps.DeleteFunc(all, func(_ string, r recording) bool { return !strings.Contains(r.folder, "kube-apiserver-1.36/") })
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
		Issuer:          r.Issuers[0],
		FormerIssuers:   r.Issuers[1:],
		Audiences:       []string{"data-store"},
		ServiceAccounts: []string{"*"},
		Keys:            keys,
		MaxLifetime:     -1,
		Now:             func() time.Time { return r.at },
	}
}

// jwksURI is the recorded jwks_uri up to its path.
var jwksURI = regexp.MustCompile(`https://[^/"]*(/id/ABC/keys|/openid/v1/jwks)`)

// serve is the recorded API server on loopback, and a file with its CA.
func (r recording) serve(t testing.TB) (server *httptest.Server, caFile string) {
	t.Helper()
	var document, keys string
	if r.published {
		document, keys = r.read(t, "openid-configuration.json"), r.read(t, "jwks.json")
	}
	server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch {
		case !r.published:
			http.NotFound(w, req)
		case req.URL.Path == "/.well-known/openid-configuration":
			w.Write([]byte(document))
		case req.URL.Path == "/here/.well-known/openid-configuration":
			w.Write([]byte(jwksURI.ReplaceAllString(document, "https://"+req.Host+"/openid/v1/jwks")))
		case req.URL.Path == "/openid/v1/jwks":
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

// verifiers are one for each way to get at the recording's keys, by the name of
// the way.
func (r recording) verifiers(t *testing.T, audiences []string) map[string]*kubejwt.Verifier {
	t.Helper()
	server, caFile := r.serve(t)
	parsed, err := kubejwt.ParsePublicKeys([]byte(r.read(t, "sa.pub")))
	if err != nil {
		t.Fatal(err)
	}
	sources := map[string]kubejwt.KeySource{
		"PublicKeys":  parsed,
		"KeyFile PEM": kubejwt.KeyFile(r.folder + "/sa.pub"),
	}
	if r.published {
		maps.Copy(sources, map[string]kubejwt.KeySource{
			"KeyFile JWKS":  kubejwt.KeyFile(r.folder + "/jwks.json"),
			"JWKSURL":       kubejwt.RemoteKeys{JWKSURL: server.URL + "/openid/v1/jwks", CAFile: caFile},
			"DiscoveryURL":  kubejwt.RemoteKeys{DiscoveryURL: server.URL + "/here/.well-known/openid-configuration", CAFile: caFile},
			"own Transport": kubejwt.RemoteKeys{JWKSURL: server.URL + "/openid/v1/jwks", Transport: server.Client().Transport},
		})
	}
	config := r.config(nil)
	config.Audiences, config.AcceptExtended = audiences, true
	all := make(map[string]*kubejwt.Verifier)
	for name, keys := range sources {
		config.Keys = keys
		all[name] = mustNew(t, config)
	}
	if r.published {
		config.Keys = kubejwt.RemoteKeys{CAFile: caFile}
		config.Issuer = "" // learnt
		all["InCluster"] = r.inCluster(t, server, config)
	}
	return all
}

// inCluster returns a Verifier of a pod whose API server this is. The recorded
// jwks_uri names an address that a pod would not get at.
func (r recording) inCluster(t *testing.T, server *httptest.Server, config kubejwt.Config) *kubejwt.Verifier {
	t.Helper()
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", at.Hostname())
	t.Setenv("KUBERNETES_SERVICE_PORT", at.Port())
	v, err := kubejwt.InCluster(config)
	if err != nil {
		t.Fatal(err)
	}
	return v
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

// verdict is what TokenReview said of a token, but that Claims name one
// audience, the first of Config.Audiences. Secret-based tokens, which
// TokenReview accepts, are refused.
func (r recording) verdict(t testing.TB, folder, name string) review {
	t.Helper()
	var want review
	if strings.HasSuffix(name, "legacy_secret") {
		return want
	}
	if err := json.Unmarshal([]byte(r.read(t, folder+"/"+name+".json")), &want); err != nil {
		t.Fatal(err)
	}
	if want.Authenticated {
		want.Audiences = want.Audiences[:1]
	}
	return want
}

// names are the tokens that TokenReview was asked about.
func (r recording) names(t testing.TB, folder string) (names []string) {
	t.Helper()
	paths, err := filepath.Glob(r.folder + "/" + folder + "/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		names = append(names, strings.TrimSuffix(filepath.Base(path), ".json"))
	}
	return names
}

// A real API server's TokenReview and Verify say the same of every recorded
// token, wherever the keys come from.
func TestClusters(t *testing.T) {
	for cluster, r := range allRecordings(t) {
		for folder, audiences := range map[string][]string{"tokenreviews": {"data-store"}, "tokenreviews-api": r.APIAudiences} {
			names := r.names(t, folder)
			if folder == "tokenreviews-api" && strings.Contains(r.folder, "kube-apiserver-1.36/") {
				continue // TokenReview was asked for data-store alone
			}
			if len(names) != r.tokens {
				t.Fatalf("%s/%s: %d answers: want %d", cluster, folder, len(names), r.tokens)
			}
			for source, v := range r.verifiers(t, audiences) {
				for _, name := range names {
					t.Run(strings.Join([]string{cluster, audiences[0], source, name}, "/"), func(t *testing.T) {
						r.hold(t, v, name, r.verdict(t, folder, name))
					})
				}
				if s := v.Stats(); s.RememberedHits == 0 {
					t.Errorf("%s/%s: no token was remembered", cluster, source)
				}
			}
		}
	}
}

// hold compares the verdict on a token, once afresh and once remembered.
func (r recording) hold(t *testing.T, v *kubejwt.Verifier, name string, want review) {
	t.Helper()
	for range 2 {
		claims, err := v.Verify(t.Context(), r.token(t, name))
		if diff := cmp.Diff(want, asReview(claims, err)); diff != "" {
			t.Errorf("verdict differs from TokenReview's (-want +got):\n%s%v", diff, err)
		}
		if isLegacy := strings.HasSuffix(name, "legacy_secret"); isLegacy != (reasonOf(err) == kubejwt.ReasonLegacy) {
			t.Errorf("%v: is it Secret-based: %v", err, isLegacy)
		}
	}
}

// An API server whose issuer is no https URL publishes no keys. The error says
// what to use instead.
func TestUnpublishedKeys(t *testing.T) {
	for cluster, r := range allRecordings(t) {
		server, caFile := r.serve(t)
		config := r.config(kubejwt.RemoteKeys{CAFile: caFile})
		config.Issuer = "" // to be learnt
		learns := r.inCluster(t, server, config)
		config.Issuer = r.Issuers[0]
		config.Keys = kubejwt.RemoteKeys{DiscoveryURL: server.URL + "/here/.well-known/openid-configuration", CAFile: caFile}
		asks := mustNew(t, config)
		for how, v := range map[string]*kubejwt.Verifier{"InCluster": learns, "DiscoveryURL": asks} {
			err := v.Ready(t.Context())
			if r.published && err != nil {
				t.Errorf("%s/%s: %v", cluster, how, err)
			}
			if !r.published && (!errors.Is(err, kubejwt.ErrKeysUnavailable) || !strings.Contains(err.Error(), "KeyFile")) {
				t.Errorf("%s/%s: %v: want ErrKeysUnavailable, and the advice to use a KeyFile", cluster, how, err)
			}
		}
	}
}

// The token that every pod has by default is valid for a year, and its holder is
// to read it again within the hour.
func TestExtendedToken(t *testing.T) {
	for cluster, r := range allRecordings(t) {
		token := r.token(t, "extended_default_mount")
		audience := r.APIAudiences[len(r.APIAudiences)-1]
		for _, tt := range []struct {
			name      string
			audience  string
			after     time.Duration
			extended  bool
			want      kubejwt.Reason
			expiresIn time.Duration
		}{
			{"fresh", audience, 0, false, "", 3607 * time.Second},
			{"fresh, by the first audience", r.APIAudiences[0], 0, false, "", 3607 * time.Second},
			{"within the leeway", audience, 3607*time.Second + 50*time.Second, false, "", 3607 * time.Second},
			{"two hours later", audience, 2 * time.Hour, false, kubejwt.ReasonStale, 0},
			{"two hours later, honoured", audience, 2 * time.Hour, true, "", 365 * 24 * time.Hour},
			{"half a year later, honoured", audience, 180 * 24 * time.Hour, true, "", 365 * 24 * time.Hour},
			{"a year later", audience, 366 * 24 * time.Hour, true, kubejwt.ReasonExpired, 0},
		} {
			t.Run(cluster+"/"+tt.name, func(t *testing.T) {
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
	for cluster, r := range allRecordings(t) {
		t.Run(cluster, func(t *testing.T) {
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
