package kubejwttest

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestHandler tests an endpoint with tokens that it must refuse. The endpoint has to
// accept good, which c mints, in the Authorization header: with a status below 400.
// Each bad token differs from good in one thing, and must be answered with 401.
//
// It asks for GET /. For another request, and for the service accounts that may
// not call, see [HandlerTest].
func TestHandler(t *testing.T, h http.Handler, c *Cluster, good Token) {
	t.Helper()
	HandlerTest{Handler: h, Cluster: c, Good: good}.Run(t)
}

// A HandlerTest is [TestHandler] with a request of your own, and with a service
// account that may not call. Handler and Cluster are required.
type HandlerTest struct {
	Handler http.Handler
	Cluster *Cluster // mints the tokens
	Good    Token    // is accepted: the answer has a status below 400
	Denied  *Token   // is good, and its service account may not call: 403; nil: not tested

	// Request makes the request that each token is sent with, except the
	// header that carries it: nil means Method and Path without a body.
	Request func() *http.Request
	Method  string // "" means GET
	Path    string // "" means /

	// Header carries the token: "" means Authorization, with Bearer in front.
	// In another header, only Prefix is in front of it.
	Header string
	Prefix string // such as "Bearer ", with the space
}

// Run runs a subtest for each bad token, and one for Denied.
func (ht HandlerTest) Run(t *testing.T) {
	t.Helper()
	if ht.Handler == nil || ht.Cluster == nil {
		t.Fatal("kubejwttest: a HandlerTest without a Handler or a Cluster")
	}
	token := ht.Cluster.Mint(ht.Good)
	for _, bad := range ht.Cluster.badTokens(ht.Good, token) {
		t.Run(bad.name, func(t *testing.T) {
			// Some bad tokens are made of this one: a cache must not confuse them.
			ht.mustAccept(t, token)
			if code := ht.call(bad.prefix, bad.token); code != http.StatusUnauthorized {
				t.Errorf("%s: status %d: want 401", bad.why, code)
			}
		})
	}
	if ht.Denied == nil {
		return
	}
	t.Run("denied", func(t *testing.T) {
		ht.mustAccept(t, token)
		if code := ht.call("", ht.Cluster.Mint(*ht.Denied)); code != http.StatusForbidden {
			t.Errorf("a good token of a service account that may not call: status %d: want 403", code)
		}
	})
}

func (ht HandlerTest) mustAccept(t *testing.T, token string) {
	t.Helper()
	if code := ht.call("", token); code >= 400 {
		t.Fatalf("the good token is answered with status %d: want one below 400", code)
	}
}

// call sends a token, or none if it is empty, and returns the status of the
// answer. An empty prefix is the one that a good token has.
func (ht HandlerTest) call(prefix, token string) int {
	r := ht.request()
	header := cmp.Or(ht.Header, "Authorization")
	if prefix == "" {
		prefix = ht.Prefix
	}
	if prefix == "" && http.CanonicalHeaderKey(header) == "Authorization" {
		prefix = "Bearer "
	}
	r.Header.Del(header)
	if token != "" {
		r.Header.Set(header, prefix+token)
	}
	w := httptest.NewRecorder()
	ht.Handler.ServeHTTP(w, r)
	return w.Code
}

func (ht HandlerTest) request() *http.Request {
	if ht.Request != nil {
		return ht.Request()
	}
	return httptest.NewRequest(cmp.Or(ht.Method, http.MethodGet), cmp.Or(ht.Path, "/"), nil)
}

type badToken struct {
	name, why string
	prefix    string // "": the one that a good token has
	token     string
}

// badTokens are made of good, and some of a token that was minted of it.
func (c *Cluster) badTokens(good Token, token string) []badToken {
	key := c.signingKey()
	header, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	anHourAgo := time.Now().Add(-time.Hour).Unix()
	expired := good.with("iat", anHourAgo-3600).with("nbf", anHourAgo-3600).with("exp", anHourAgo)
	claimed := func(name string, value any) string { return c.Mint(good.with(name, value)) }
	notSigned := encode(map[string]any{"alg": "none", "kid": key.kid}) + "." + payload + "."
	asPEM, asDER := key.hs256(payload, key.publicPEM()), key.hs256(payload, key.spki())
	return []badToken{
		{"no token", "a request without a token", "", ""},
		{"another scheme", "the token under another scheme", "Basic ", token},
		{"alg none", "a token that says it is not signed", "", notSigned},
		{"HS256 with the public key", "a token signed with the public key, in PEM, as a secret", "", asPEM},
		{"HS256 with the public key in DER", "a token signed with the public key, in DER, as a secret", "", asDER},
		{"wrong audience", "a token for another service", "", claimed("aud", []string{"another-service"})},
		{"wrong issuer", "a token that names another issuer", "", claimed("iss", "https://another-cluster.example")},
		{"expired", "a token that expired an hour ago", "", c.Mint(expired)},
		{"unsigned", "a token without its signature", "", header + "." + payload + "."},
		{"truncated", "a token whose last characters are missing", "", token[:len(token)-4]},
		{"another cluster's key", "a token signed by another cluster, under this one's kid", "", c.forge(good)},
		{"stale", "a token an hour past its warnafter", "", c.stale(good)},
	}
}

// with returns t with one claim overridden.
func (t Token) with(claim string, value any) Token {
	t.Claims = maps.Clone(t.Claims)
	if t.Claims == nil {
		t.Claims = make(map[string]any)
	}
	t.Claims[claim] = value
	return t
}

func (k signingKey) hs256(payload string, secret []byte) string {
	signed := encode(map[string]any{"alg": "HS256", "kid": k.kid}) + "." + payload
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// forge signs with a new key under the kid of the cluster's.
func (c *Cluster) forge(good Token) string {
	key := c.signingKey()
	forger, err := newSigningKey(key.alg)
	if err != nil {
		panic("kubejwttest: " + err.Error())
	}
	forger.kid = key.kid
	return forger.mint(good, encode(c.payload(good)))
}

// stale returns the token that every pod gets by default, two hours after it was
// mounted.
func (c *Cluster) stale(good Token) string {
	kubernetes, _ := c.payload(good)["kubernetes.io"].(map[string]any)
	kubernetes = maps.Clone(kubernetes)
	if kubernetes == nil {
		kubernetes = make(map[string]any)
	}
	start := time.Now().Add(-2 * time.Hour)
	kubernetes["warnafter"] = start.Add(time.Hour).Unix()
	stale := good.with("kubernetes.io", kubernetes).with("iat", start.Unix()).with("nbf", start.Unix())
	return c.Mint(stale.with("exp", start.Add(365*24*time.Hour).Unix()))
}
