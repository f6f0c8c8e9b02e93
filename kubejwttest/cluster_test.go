package kubejwttest_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

const recordings = "../testdata/clusters/kube-apiserver-1.36/"

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(recordings + name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

// get asks the cluster as a pod does.
func get(t *testing.T, c *kubejwttest.Cluster, path, bearer string) (status int, header http.Header, body string) {
	t.Helper()
	return ask(t, c, http.MethodGet, path, "Bearer "+bearer)
}

func ask(t *testing.T, c *kubejwttest.Cluster, method, path, authorization string) (status int, header http.Header, body string) {
	t.Helper()
	ca, err := os.ReadFile(c.Folder() + "/ca.crt")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	request, err := http.NewRequest(method, c.Config("x").Issuer+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(data)
}

func mounted(t *testing.T, c *kubejwttest.Cluster) string {
	t.Helper()
	token, err := os.ReadFile(c.Folder() + "/token")
	if err != nil {
		t.Fatal(err)
	}
	return string(token)
}

// shape is a JSON value with the values replaced by their types.
func shape(t *testing.T, data string) string {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(data))
	decoder.UseNumber()
	var out strings.Builder
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			return out.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case json.Delim:
			fmt.Fprintf(&out, "%s ", token)
		case string:
			// Names can't be told from values here; kid, n and the like are values.
			if len(token) > 20 || strings.ContainsAny(token, ":-") {
				token = "…"
			}
			fmt.Fprintf(&out, "%q ", token)
		default:
			fmt.Fprintf(&out, "%T ", token)
		}
	}
}

func decode(t *testing.T, token string, segment int) string {
	t.Helper()
	data, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[segment])
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The cluster serves and mints what the recorded API servers did: the same
// members in the same order, of the same types.
func TestLikeTheRecorded(t *testing.T) {
	for _, alg := range []string{"RS256", "ES256", "ES384", "ES512"} {
		t.Run(alg, func(t *testing.T) {
			folder := strings.ToLower(alg)
			c := kubejwttest.NewCluster(t)
			first := c.Config("x")
			if alg != "RS256" {
				keys, err := kubejwt.ParsePublicKeys(c.PublicKeysPEM())
				if err != nil {
					t.Fatal(err)
				}
				c.RotateKey(alg)
				c.DropKey(keys[0].KeyID)
			}
			for path, recorded := range map[string]string{
				"/.well-known/openid-configuration": "/openid-configuration.json",
				"/openid/v1/jwks":                   "/jwks.json",
			} {
				status, header, body := get(t, c, path, mounted(t, c))
				if status != 200 || header.Get("Cache-Control") != "public, max-age=3600" {
					t.Errorf("%s: status %d, %v", path, status, header)
				}
				if diff := cmp.Diff(shape(t, read(t, folder+recorded)), shape(t, body)); diff != "" {
					t.Errorf("%s (-recorded +ours):\n%s", path, diff)
				}
			}
			if _, header, _ := get(t, c, "/openid/v1/jwks", mounted(t, c)); !strings.Contains(read(t, folder+"/jwks.headers"), "content-type: "+header.Get("Content-Type")) {
				t.Errorf("Content-Type %q is not the recorded one", header.Get("Content-Type"))
			}
			recorded := read(t, folder+"/tokens/pod_bound.jwt")
			minted := c.Mint(kubejwttest.Token{Namespace: "api", ServiceAccount: "api", Audiences: []string{"data-store"}})
			for segment, name := range []string{"header", "payload"} {
				want, got := decode(t, recorded, segment), decode(t, minted, segment)
				// Names that tests choose freely differ.
				got = strings.NewReplacer(first.Issuer, recordedIssuer).Replace(got)
				if diff := cmp.Diff(shape(t, want), shape(t, got)); diff != "" {
					t.Errorf("%s (-recorded +ours):\n%s", name, diff)
				}
			}
		})
	}
}

const recordedIssuer = "https://kubernetes.default.svc.cluster.local"

func TestAPIServer(t *testing.T) {
	c := kubejwttest.NewCluster(t)
	first := mounted(t, c)
	issuer := c.Config("x").Issuer
	// internal/e2e asks a real API server the same.
	for _, tt := range []struct {
		name, method, path, authorization string
		status                            int
	}{
		{"the mounted token", "GET", "/openid/v1/jwks", "Bearer " + first, 200},
		{"a scheme in lower case", "GET", "/openid/v1/jwks", "bearer " + first, 200},
		{"another account's token", "GET", "/openid/v1/jwks", "Bearer " + c.Mint(kubejwttest.Token{Namespace: "shop", Audiences: []string{"x", issuer}}), 200},
		{"a token past its warnafter", "GET", "/openid/v1/jwks", "Bearer " + c.Mint(kubejwttest.Token{
			Audiences: []string{issuer},
			Claims: map[string]any{"kubernetes.io": map[string]any{
				"namespace":      "default",
				"serviceaccount": map[string]any{"name": "default", "uid": "1"},
				"warnafter":      time.Now().Add(-time.Hour).Unix(),
			}},
		}), 200},
		{"no token", "GET", "/openid/v1/jwks", "", 403},
		{"no scheme", "GET", "/openid/v1/jwks", first, 403},
		{"another scheme", "GET", "/openid/v1/jwks", "Basic YTpi", 403},
		{"rubbish", "GET", "/openid/v1/jwks", "Bearer rubbish", 401},
		{"a token for another audience", "GET", "/openid/v1/jwks", "Bearer " + c.Mint(kubejwttest.Token{}), 401},
		{"a POST", "POST", "/openid/v1/jwks", "Bearer " + first, 403},
		{"another path", "GET", "/openid/v1/jwks/foo", "Bearer " + first, 403},
		{"another path, no token", "GET", "/openid/v1/jwks/foo", "", 403},
	} {
		if status, _, _ := ask(t, c, tt.method, tt.path, tt.authorization); status != tt.status {
			t.Errorf("%s: status %d: want %d", tt.name, status, tt.status)
		}
	}
	if c.Fetches() != 10 {
		t.Errorf("%d fetches: want 10", c.Fetches())
	}
	ours := "Bearer " + c.Mint(kubejwttest.Token{Audiences: []string{issuer}})
	kids, err := kubejwt.ParsePublicKeys(c.PublicKeysPEM())
	if err != nil {
		t.Fatal(err)
	}
	c.RotateKey("ES256")
	if status, _, _ := ask(t, c, "GET", "/openid/v1/jwks", ours); status != 200 {
		t.Errorf("a token of a key that is still published: status %d: want 200", status)
	}
	c.DropKey(kids[0].KeyID)
	if status, _, _ := ask(t, c, "GET", "/openid/v1/jwks", ours); status != 401 {
		t.Errorf("a token of a dropped key: status %d: want 401", status)
	}
}

func TestRotation(t *testing.T) {
	c := kubejwttest.NewCluster(t)
	v, err := kubejwt.New(c.Config("test"))
	if err != nil {
		t.Fatal(err)
	}
	old := c.Mint(kubejwttest.Token{})
	if _, err := v.Verify(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	kids := v.Stats().KeyIDs
	before := mounted(t, c)
	kid := c.RotateKey("ES384")
	if mounted(t, c) == before {
		t.Error("the mounted token is not renewed")
	}
	// An instant rotation costs one fetch.
	if _, err := v.Verify(t.Context(), c.Mint(kubejwttest.Token{})); err != nil || c.Fetches() != 2 {
		t.Errorf("a token of the new key: %v, %d fetches: want 2", err, c.Fetches())
	}
	if _, err := v.Verify(t.Context(), old); err != nil {
		t.Errorf("a token of the old key: %v", err)
	}
	c.DropKey(kids[0])
	v, err = kubejwt.New(c.Config("test"))
	if err != nil {
		t.Fatal(err)
	}
	var refusal *kubejwt.InvalidTokenError
	if _, err := v.Verify(t.Context(), old); !errors.As(err, &refusal) || refusal.Reason != kubejwt.ReasonUnknownKey {
		t.Errorf("a token of the dropped key: %v", err)
	}
	if got := v.Stats().KeyIDs; !slices.Equal(got, []string{kid}) {
		t.Errorf("keys %v: want %v", got, kid)
	}
}

func TestAvailability(t *testing.T) {
	c := kubejwttest.NewCluster(t)
	c.SetAvailable(false)
	v, err := kubejwt.New(c.Config("test"))
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Ready(t.Context()); !errors.Is(err, kubejwt.ErrKeysUnavailable) {
		t.Errorf("an API server that is down: %v", err)
	}
	c.SetAvailable(true)
	v, err = kubejwt.New(c.Config("test"))
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Ready(t.Context()); err != nil {
		t.Errorf("an API server that is up again: %v", err)
	}
}

func TestFolder(t *testing.T) {
	c := kubejwttest.NewCluster(t)
	for _, name := range []string{"token", "ca.crt", "namespace"} {
		if target, err := os.Readlink(filepath.Join(c.Folder(), name)); err != nil || target != "..data/"+name {
			t.Errorf("%s links to %q, %v: want ..data/%s", name, target, err, name)
		}
	}
	before, err := os.Readlink(c.Folder() + "/..data")
	if err != nil {
		t.Fatal(err)
	}
	c.RotateKey("ES256")
	after, err := os.Readlink(c.Folder() + "/..data")
	if err != nil || after == before {
		t.Errorf("..data links to %q, %v: want another folder than before", after, err)
	}
	if _, err := os.Stat(filepath.Join(c.Folder(), before)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old folder: %v: want it gone", err)
	}
}

// A Cluster may be closed while it is in use.
func TestCloseMeanwhile(t *testing.T) {
	for range 20 {
		c, err := kubejwttest.Start()
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan bool)
		go func() {
			defer close(done)
			for range 5 {
				c.RotateKey("ES256")
			}
		}()
		c.Close()
		<-done
	}
}

// The in-memory transport lets hours pass in no time.
func TestTransport(t *testing.T) {
	c := kubejwttest.NewCluster(t)
	synctest.Test(t, func(t *testing.T) {
		config := c.Config("test")
		config.Keys = kubejwt.RemoteKeys{Transport: c.Transport()}
		v, err := kubejwt.New(config)
		if err != nil {
			t.Fatal(err)
		}
		c.SetLatency(3 * time.Second)
		start := time.Now()
		if err := v.Ready(t.Context()); err != nil || time.Since(start) != 6*time.Second {
			t.Errorf("%v after %v: want the document and the keys, 3 s each", err, time.Since(start))
		}
		c.SetAvailable(false)
		time.Sleep(20 * time.Hour)
		for range 2 {
			if _, err := v.Verify(t.Context(), c.Mint(kubejwttest.Token{})); err != nil {
				t.Errorf("during an outage: %v", err)
			}
		}
	})
}

func TestMint(t *testing.T) {
	c := kubejwttest.NewCluster(t)
	token := c.Mint(kubejwttest.Token{
		Header: map[string]any{"kid": nil, "typ": "JWT"},
		Claims: map[string]any{"jti": nil, "exp": 7},
	})
	if got, want := decode(t, token, 0), `{"alg":"RS256","typ":"JWT"}`; got != want {
		t.Errorf("header %s: want %s", got, want)
	}
	var claims map[string]any
	if err := json.Unmarshal([]byte(decode(t, token, 1)), &claims); err != nil {
		t.Fatal(err)
	}
	if _, there := claims["jti"]; there || !reflect.DeepEqual(claims["exp"], 7.0) {
		t.Errorf("claims %v: want no jti, and exp 7", claims)
	}
}

// A good token may have claims of its own.
func TestHandlerWithClaims(t *testing.T) {
	c := kubejwttest.NewCluster(t)
	v, err := kubejwt.New(c.Config("test"))
	if err != nil {
		t.Fatal(err)
	}
	good := kubejwttest.Token{Claims: map[string]any{"exp": time.Now().Add(2 * time.Hour).Unix(), "nbf": nil}}
	kubejwttest.TestHandler(t, v.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})), c, good)
}

// TestHandler finds fault with endpoints that let something through. It runs in
// a process of its own, as it fails there.
func TestHandlerFindsFault(t *testing.T) {
	const variable = "KUBEJWTTEST_BROKEN"
	broken := map[string]func(*kubejwttest.Cluster) http.Handler{
		"everything": func(*kubejwttest.Cluster) http.Handler {
			return http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
		},
		"nothing": func(*kubejwttest.Cluster) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) })
		},
		"extended": func(c *kubejwttest.Cluster) http.Handler {
			config := c.Config("test")
			config.AcceptExtended, config.MaxLifetime = true, -1
			v, err := kubejwt.New(config)
			if err != nil {
				t.Fatal(err)
			}
			return v.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		},
	}
	// unless lets through what a Verifier does, and some tokens more.
	unless := func(c *kubejwttest.Cluster, more func(r *http.Request, token []string) bool) http.Handler {
		v, err := kubejwt.New(c.Config("test"))
		if err != nil {
			t.Fatal(err)
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			segments := strings.Split(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), ".")
			if len(segments) == 3 && more(r, segments) {
				return
			}
			v.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, r)
		})
	}
	says := func(segment, text string) bool {
		header, err := base64.RawURLEncoding.DecodeString(segment)
		return err == nil && strings.Contains(string(header), text)
	}
	broken["alg none of a known kid"] = func(c *kubejwttest.Cluster) http.Handler {
		kid := c.RotateKey("RS256")
		return unless(c, func(_ *http.Request, token []string) bool {
			return says(token[0], `"none"`) && says(token[0], kid)
		})
	}
	broken["HS256 with the key of the kid"] = func(c *kubejwttest.Cluster) http.Handler {
		kid := c.RotateKey("RS256")
		all := c.PublicKeysPEM()
		own := all[strings.LastIndex(string(all), "-----BEGIN"):]
		return unless(c, func(_ *http.Request, token []string) bool {
			mac := hmac.New(sha256.New, own)
			mac.Write([]byte(token[0] + "." + token[1]))
			return says(token[0], `"HS256"`) && says(token[0], kid) && token[2] == base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
		})
	}
	broken["what it remembers without the signature"] = func(c *kubejwttest.Cluster) http.Handler {
		seen := make(map[string]bool)
		return unless(c, func(_ *http.Request, token []string) bool {
			signed := token[0] + "." + token[1]
			known := seen[signed]
			seen[signed] = true
			return known
		})
	}
	if name := os.Getenv(variable); name != "" {
		c := kubejwttest.NewCluster(t)
		kubejwttest.TestHandler(t, broken[name](c), c, kubejwttest.Token{})
		return
	}
	for name, failures := range map[string]int{
		"everything": 12, "nothing": 12, "extended": 1,
		"alg none of a known kid": 1, "HS256 with the key of the kid": 1, "what it remembers without the signature": 3,
	} {
		command := exec.Command(os.Args[0], "-test.run=^TestHandlerFindsFault$", "-test.v")
		command.Env = append(os.Environ(), variable+"="+name)
		out, err := command.CombinedOutput()
		if err == nil {
			t.Errorf("an endpoint that accepts %s passes", name)
		}
		if got := strings.Count(string(out), "    --- FAIL: "); got != failures {
			t.Errorf("an endpoint that accepts %s fails %d cases: want %d\n%s", name, got, failures, out)
		}
	}
}
