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
	token := c.Mint(good)
	for _, bad := range c.badTokens(good, token) {
		t.Run(bad.name, func(t *testing.T) {
			// The very token that some bad ones are made of: a cache must not
			// take them for it.
			if code := call(h, "Bearer "+token); code >= 400 {
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

// badTokens are made of good, and some of a token that was minted of it.
func (c *Cluster) badTokens(good Token, token string) []badToken {
	key := c.signingKey()
	header, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	anHourAgo := time.Now().Add(-time.Hour).Unix()
	expired := good.with("iat", anHourAgo-3600).with("nbf", anHourAgo-3600).with("exp", anHourAgo)
	claimed := func(name string, value any) string { return c.Mint(good.with(name, value)) }
	return []badToken{
		{"no token", "a request without a token", ""},
		{"another scheme", "the token under another scheme", "Basic " + token},
		{"alg none", "a token that says it is not signed", "Bearer " + encode(map[string]any{"alg": "none", "kid": key.kid}) + "." + payload + "."},
		{"HS256 with the public key", "a token signed with the public key, in PEM, as a secret", "Bearer " + key.hs256(payload, key.publicPEM())},
		{"HS256 with the public key in DER", "a token signed with the public key, in DER, as a secret", "Bearer " + key.hs256(payload, key.spki())},
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
