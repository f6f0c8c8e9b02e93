package kubejwttest

import (
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

// TestHandler holds an endpoint against the tokens that it must refuse. The
// endpoint is to accept good, minted by c, in the Authorization header: its
// answer to that has a status below 400. Each bad token differs from good in
// one thing, and must be answered with 401.
func TestHandler(t *testing.T, h http.Handler, c *Cluster, good Token) {
	t.Helper()
	for _, bad := range c.badTokens(good) {
		t.Run(bad.name, func(t *testing.T) {
			if code := call(h, "Bearer "+c.Mint(good)); code >= 400 {
				t.Fatalf("the good token is answered with status %d: want one below 400", code)
			}
			if code := call(h, bad.authorization); code != http.StatusUnauthorized {
				t.Errorf("%s: status %d: want 401", bad.why, code)
			}
		})
	}
}

func call(h http.Handler, authorization string) int {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

type badToken struct {
	name, why     string
	authorization string
}

func (c *Cluster) badTokens(good Token) []badToken {
	token := c.Mint(good)
	header, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	expired := good
	expired.Lifetime = -time.Hour
	claimed := func(name string, value any) string { return c.Mint(good.with(name, value)) }
	return []badToken{
		{"no token", "a request without a token", ""},
		{"another scheme", "the token under another scheme", "Basic " + token},
		{"alg none", "a token that says it is not signed", "Bearer " + encode(map[string]any{"alg": "none"}) + "." + payload + "."},
		{"HS256 with the public key", "a token signed with the public key as a secret", "Bearer " + c.hs256(payload)},
		{"wrong audience", "a token for another service", "Bearer " + claimed("aud", []string{"another-service"})},
		{"wrong issuer", "a token that names another issuer", "Bearer " + claimed("iss", "https://another-cluster.example")},
		{"expired", "a token that expired an hour ago", "Bearer " + c.Mint(expired)},
		{"unsigned", "a token without its signature", "Bearer " + header + "." + payload + "."},
		{"truncated", "a token whose last characters are missing", "Bearer " + token[:len(token)-4]},
		{"another cluster's key", "a token signed by another cluster, under this one's kid", "Bearer " + c.forge(good)},
		{"stale", "a token an hour past its warnafter", "Bearer " + c.stale(good)},
	}
}

// with is t with one claim overridden.
func (t Token) with(claim string, value any) Token {
	t.Claims = maps.Clone(t.Claims)
	if t.Claims == nil {
		t.Claims = make(map[string]any)
	}
	t.Claims[claim] = value
	return t
}

func (c *Cluster) hs256(payload string) string {
	c.mu.Lock()
	kid := c.keys[c.signer].kid
	c.mu.Unlock()
	signed := encode(map[string]any{"alg": "HS256", "kid": kid}) + "." + payload
	mac := hmac.New(sha256.New, c.PublicKeysPEM())
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// forge signs with a new key under the kid of the cluster's.
func (c *Cluster) forge(good Token) string {
	c.mu.Lock()
	key := c.keys[c.signer]
	c.mu.Unlock()
	forger, err := newSigningKey(key.alg)
	if err != nil {
		panic("kubejwttest: " + err.Error())
	}
	forger.kid = key.kid
	return forger.mint(good, c.issuer)
}

// stale is the token that admission mounts, whose holder has not read it again
// for two hours.
func (c *Cluster) stale(good Token) string {
	kubernetes, _ := override(good.claims(c.issuer), good.Claims)["kubernetes.io"].(map[string]any)
	kubernetes = maps.Clone(kubernetes)
	if kubernetes == nil {
		kubernetes = make(map[string]any)
	}
	start := time.Now().Add(-2 * time.Hour)
	kubernetes["warnafter"] = start.Add(time.Hour).Unix()
	stale := good.with("kubernetes.io", kubernetes).with("iat", start.Unix()).with("nbf", start.Unix())
	return c.Mint(stale.with("exp", start.Add(365*24*time.Hour).Unix()))
}
