package kubejwt_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

// One row for each rule: what differs from the good token, and the verdict.
// The rows with no reason are the accepted siblings.
func TestRules(t *testing.T) {
	k := newKit(t)
	now := time.Now()
	in := func(d time.Duration) int64 { return now.Add(d).Unix() }
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name   string
		rule   int
		reason kubejwt.Reason
		token  func(*kubejwttest.Token)
		config func(*kubejwt.Config)
	}{
		{name: "good"},
		{name: "typ JWT", token: header("typ", "JWT")},

		{name: "alg none", rule: 2, reason: kubejwt.ReasonBadAlgorithm, token: header("alg", "none")},
		{name: "alg HS256", rule: 2, reason: kubejwt.ReasonBadAlgorithm, token: header("alg", "HS256")},
		{name: "alg PS256", rule: 2, reason: kubejwt.ReasonBadAlgorithm, token: header("alg", "PS256")},
		{name: "alg in lower case", rule: 2, reason: kubejwt.ReasonBadAlgorithm, token: header("alg", "rs256")},
		{name: "alg missing", rule: 2, reason: kubejwt.ReasonBadAlgorithm, token: header("alg", nil)},
		{name: "alg null", rule: 2, reason: kubejwt.ReasonMalformed, token: header("alg", null)},
		{name: "alg a number", rule: 2, reason: kubejwt.ReasonMalformed, token: header("alg", 256)},
		{name: "typ in lower case", rule: 2, reason: kubejwt.ReasonMalformed, token: header("typ", "jwt")},
		{name: "typ at+jwt", rule: 2, reason: kubejwt.ReasonMalformed, token: header("typ", "at+jwt")},
		{name: "typ null", rule: 2, reason: kubejwt.ReasonMalformed, token: header("typ", null)},
		{name: "kid empty", rule: 2, reason: kubejwt.ReasonMalformed, token: header("kid", "")},
		{name: "kid null", rule: 2, reason: kubejwt.ReasonMalformed, token: header("kid", null)},
		{name: "kid of 1025 bytes", rule: 2, reason: kubejwt.ReasonMalformed, token: header("kid", strings.Repeat("k", 1025))},
		{name: "kid missing, static keys", token: header("kid", nil)},
		{name: "crit", rule: 2, reason: kubejwt.ReasonMalformed, token: header("crit", []string{"exp"})},
		{name: "jku", rule: 2, reason: kubejwt.ReasonMalformed, token: header("jku", "https://evil.example/keys")},
		{name: "KID beside kid", rule: 2, reason: kubejwt.ReasonMalformed, token: header("KID", "x")},

		{name: "exp a string", rule: 3, reason: kubejwt.ReasonMalformed, token: claim("exp", "1700000000")},
		{name: "exp a fraction", rule: 3, reason: kubejwt.ReasonMalformed, token: claim("exp", float64(in(time.Hour))+.5)},
		{name: "exp with an exponent", rule: 3, reason: kubejwt.ReasonMalformed, token: claim("exp", json.RawMessage("2e9"))},
		{name: "exp negative", rule: 3, reason: kubejwt.ReasonMalformed, token: claim("exp", -1)},
		{name: "exp past the year 9999", rule: 3, reason: kubejwt.ReasonMalformed, token: claim("exp", 253402300800)},
		{name: "exp over 64 bits", rule: 3, reason: kubejwt.ReasonMalformed, token: claim("exp", json.RawMessage("18446744073709551617"))},
		{name: "aud with a null", rule: 3, reason: kubejwt.ReasonMalformed, token: claim("aud", []any{"data-store", nil})},
		{name: "aud nested", rule: 3, reason: kubejwt.ReasonMalformed, token: claim("aud", []any{[]string{"data-store"}})},
		{name: "aud an object", rule: 3, reason: kubejwt.ReasonMalformed, token: claim("aud", object{"data-store": true})},
		{name: "sub a number", rule: 3, reason: kubejwt.ReasonMalformed, token: claim("sub", 1)},
		{name: "kubernetes.io a string", rule: 3, reason: kubejwt.ReasonMalformed, token: claim("kubernetes.io", "shop")},
		{name: "pod a string", rule: 3, reason: kubejwt.ReasonMalformed, token: kubernetes(object{"pod": "api"})},
		{name: "warnafter a string", rule: 3, reason: kubejwt.ReasonMalformed, token: kubernetes(object{"warnafter": "1"})},
		{name: "another claim", token: claim("foo", object{"bar": 1})},
		{name: "ISS beside iss", token: claim("ISS", "https://evil.example")},
		{name: "65 brackets in a string", rule: 1, reason: kubejwt.ReasonMalformed, token: claim("foo", strings.Repeat("[", 65))},
		{name: "50 brackets in a string", token: claim("foo", strings.Repeat("[", 50))},
		{name: "257 commas in a string", rule: 1, reason: kubejwt.ReasonMalformed, token: claim("foo", strings.Repeat(",", 257))},
		{name: "200 commas in a string", token: claim("foo", strings.Repeat(",", 200))},

		{name: "iss of another cluster", rule: 3, reason: kubejwt.ReasonWrongIssuer, token: claim("iss", "https://other.example")},
		{name: "iss with a slash", rule: 3, reason: kubejwt.ReasonWrongIssuer, token: claim("iss", k.config.Issuer+"/")},
		{name: "iss missing", rule: 3, reason: kubejwt.ReasonWrongIssuer, token: claim("iss", nil)},
		{name: "iss null", rule: 3, reason: kubejwt.ReasonWrongIssuer, token: claim("iss", null)},
		{name: "iss empty", rule: 3, reason: kubejwt.ReasonWrongIssuer, token: claim("iss", "")},
		{name: "ISS alone", rule: 3, reason: kubejwt.ReasonWrongIssuer, token: claims(object{"iss": nil, "ISS": k.config.Issuer})},
		{name: "a former issuer", token: claim("iss", "https://former.example"),
			config: func(c *kubejwt.Config) { c.FormerIssuers = []string{"https://former.example"} }},
		{name: "legacy", rule: 3, reason: kubejwt.ReasonLegacy, token: secretBased(nil)},
		{name: "legacy, iss ours", rule: 3, reason: kubejwt.ReasonLegacy, token: secretBased(object{"iss": k.config.Issuer})},
		{name: "legacy, iss another", rule: 3, reason: kubejwt.ReasonLegacy, token: secretBased(object{"iss": "https://other.example"})},
		{name: "legacy, no iss", rule: 3, reason: kubejwt.ReasonLegacy, token: secretBased(object{"iss": nil})},
		{name: "legacy, nulls", rule: 3, reason: kubejwt.ReasonLegacy, token: secretBased(object{"aud": null, "exp": null, "kubernetes.io": null})},
		{name: "legacy, its issuer configured", rule: 3, reason: kubejwt.ReasonLegacy, token: secretBased(nil),
			config: func(c *kubejwt.Config) { c.FormerIssuers = []string{"kubernetes/serviceaccount"} }},
		{name: "legacy except for aud", rule: 7, reason: kubejwt.ReasonExpired, token: secretBased(object{"iss": k.config.Issuer, "aud": "data-store"})},
		{name: "legacy except for exp", rule: 7, reason: kubejwt.ReasonWrongAudience, token: secretBased(object{"iss": k.config.Issuer, "exp": in(time.Hour)})},
		{name: "legacy except for aud, exp and iat", rule: 8, reason: kubejwt.ReasonNotAServiceAccount,
			token: secretBased(object{"iss": k.config.Issuer, "aud": "data-store", "exp": in(time.Hour), "iat": in(0)})},
		{name: "legacy except for kubernetes.io", rule: 7, reason: kubejwt.ReasonWrongAudience,
			token: secretBased(object{"iss": k.config.Issuer, "kubernetes.io": object{"namespace": "shop"}})},
		{name: "the usual iss of legacy", rule: 3, reason: kubejwt.ReasonWrongIssuer, token: claim("iss", "kubernetes/serviceaccount")},
		{name: "the usual iss of legacy, configured", token: claim("iss", "kubernetes/serviceaccount"),
			config: func(c *kubejwt.Config) { c.Issuer = "kubernetes/serviceaccount" }},
		{name: "the usual iss of legacy, formerly", token: claim("iss", "kubernetes/serviceaccount"),
			config: func(c *kubejwt.Config) { c.FormerIssuers = []string{"kubernetes/serviceaccount"} }},

		{name: "kid unknown", rule: 4, reason: kubejwt.ReasonUnknownKey, token: header("kid", "unknown")},
		{name: "kid with a blank", rule: 4, reason: kubejwt.ReasonUnknownKey, token: header("kid", " ")},
		{name: "alg of another key type", rule: 4, reason: kubejwt.ReasonBadAlgorithm, token: header("alg", "ES256")},
		{name: "no kid, and alg of another key type", rule: 4, reason: kubejwt.ReasonBadAlgorithm,
			token: func(t *kubejwttest.Token) { t.Header = object{"kid": nil, "alg": "ES256"} }},

		{name: "aud another", rule: 7, reason: kubejwt.ReasonWrongAudience, token: claim("aud", []string{"reports"})},
		{name: "aud in another case", rule: 7, reason: kubejwt.ReasonWrongAudience, token: claim("aud", []string{"Data-Store"})},
		{name: "aud longer", rule: 7, reason: kubejwt.ReasonWrongAudience, token: claim("aud", []string{"data-store-2"})},
		{name: "aud missing", rule: 7, reason: kubejwt.ReasonWrongAudience, token: claim("aud", nil)},
		{name: "aud null", rule: 7, reason: kubejwt.ReasonWrongAudience, token: claim("aud", null)},
		{name: "aud none", rule: 7, reason: kubejwt.ReasonWrongAudience, token: claim("aud", []string{})},
		{name: "aud empty", rule: 7, reason: kubejwt.ReasonWrongAudience, token: claim("aud", "")},
		{name: "aud a string", token: claim("aud", "data-store")},
		{name: "aud the second of two", token: claim("aud", []string{"reports", "data-store.prod.svc"})},
		{name: "exp missing", rule: 7, reason: kubejwt.ReasonExpired, token: claim("exp", nil)},
		{name: "exp null", rule: 7, reason: kubejwt.ReasonExpired, token: claim("exp", null)},
		{name: "iat missing", rule: 7, reason: kubejwt.ReasonMalformed, token: claim("iat", nil)},
		{name: "iat after exp", rule: 7, reason: kubejwt.ReasonMalformed, token: claims(object{"iat": in(30), "exp": in(-30 * time.Second)})},
		{name: "nbf after exp", rule: 7, reason: kubejwt.ReasonMalformed, token: claims(object{"nbf": in(2 * time.Hour)})},
		{name: "nbf missing", token: claim("nbf", nil)},
		{name: "exp past the leeway", rule: 7, reason: kubejwt.ReasonExpired, token: claims(object{"iat": in(-time.Hour), "nbf": in(-time.Hour), "exp": in(-61 * time.Second)})},
		{name: "exp within the leeway", token: claims(object{"iat": in(-time.Hour), "nbf": in(-time.Hour), "exp": in(-30 * time.Second)})},
		{name: "exp past, no leeway", rule: 7, reason: kubejwt.ReasonExpired, token: claims(object{"iat": in(-time.Hour), "nbf": in(-time.Hour), "exp": in(-2 * time.Second)}),
			config: func(c *kubejwt.Config) { c.Leeway = -1 }},
		{name: "exp ahead, no leeway", token: claims(object{"iat": in(-time.Hour), "nbf": in(-time.Hour), "exp": in(time.Minute)}),
			config: func(c *kubejwt.Config) { c.Leeway = -1 }},
		{name: "nbf past the leeway", rule: 7, reason: kubejwt.ReasonNotYetValid, token: claim("nbf", in(2*time.Minute))},
		{name: "nbf within the leeway", token: claim("nbf", in(30*time.Second))},
		{name: "iat past the leeway", rule: 7, reason: kubejwt.ReasonNotYetValid, token: claim("iat", in(2*time.Minute))},
		{name: "iat within the leeway", token: claim("iat", in(30*time.Second))},
		{name: "warnafter past", rule: 7, reason: kubejwt.ReasonStale, token: kubernetes(object{"warnafter": in(-2 * time.Minute)})},
		{name: "warnafter zero", rule: 7, reason: kubejwt.ReasonStale, token: kubernetes(object{"warnafter": 0})},
		{name: "warnafter within the leeway", token: kubernetes(object{"warnafter": in(-30 * time.Second)})},
		{name: "warnafter ahead", token: kubernetes(object{"warnafter": in(time.Minute)})},
		{name: "warnafter null", token: kubernetes(object{"warnafter": null})},
		{name: "warnafter past, honoured", token: kubernetes(object{"warnafter": in(-2 * time.Minute)}),
			config: func(c *kubejwt.Config) { c.AcceptExtended, c.MaxLifetime = true, day }},
		{name: "lives longer than a day", rule: 7, reason: kubejwt.ReasonLifetimeTooLong, token: claim("exp", in(day+time.Minute))},
		{name: "lives for a day", token: claim("exp", in(day-time.Minute))},
		{name: "lives for ever", rule: 7, reason: kubejwt.ReasonLifetimeTooLong, token: claim("exp", 253402300799)},
		{name: "lives for ever, no bound", token: claim("exp", 253402300799), config: func(c *kubejwt.Config) { c.MaxLifetime = -1 }},
		{name: "lives for an hour, bound lower", rule: 7, reason: kubejwt.ReasonLifetimeTooLong,
			config: func(c *kubejwt.Config) { c.MaxLifetime = 59 * time.Minute }},
		{name: "lives for a year, warns in an hour", token: claims(object{"exp": in(365 * day), "kubernetes.io": object{
			"namespace": "shop", "serviceaccount": object{"name": "api", "uid": "u"}, "warnafter": in(time.Hour)}})},
		{name: "lives for a year, honoured up to a day", rule: 7, reason: kubejwt.ReasonLifetimeTooLong, token: claims(object{"exp": in(365 * day), "kubernetes.io": object{
			"namespace": "shop", "serviceaccount": object{"name": "api", "uid": "u"}, "warnafter": in(time.Hour)}}),
			config: func(c *kubejwt.Config) { c.AcceptExtended, c.MaxLifetime = true, day }},

		{name: "kubernetes.io missing", rule: 8, reason: kubejwt.ReasonNotAServiceAccount, token: claim("kubernetes.io", nil)},
		{name: "kubernetes.io null", rule: 8, reason: kubejwt.ReasonNotAServiceAccount, token: claim("kubernetes.io", null)},
		{name: "Kubernetes.io alone", rule: 8, reason: kubejwt.ReasonNotAServiceAccount, token: claims(object{"kubernetes.io": nil, "Kubernetes.io": object{}})},
		{name: "namespace missing", rule: 8, reason: kubejwt.ReasonNotAServiceAccount, token: kubernetes(object{"namespace": nil})},
		{name: "namespace another than in sub", rule: 8, reason: kubejwt.ReasonNotAServiceAccount, token: kubernetes(object{"namespace": "kube-system"})},
		{name: "namespace with a dot", rule: 8, reason: kubejwt.ReasonNotAServiceAccount,
			token: claims(object{"sub": "system:serviceaccount:a.b:api", "kubernetes.io": object{"namespace": "a.b", "serviceaccount": object{"name": "api", "uid": "u"}}})},
		{name: "serviceaccount missing", rule: 8, reason: kubejwt.ReasonNotAServiceAccount, token: kubernetes(object{"serviceaccount": nil})},
		{name: "serviceaccount another than in sub", rule: 8, reason: kubejwt.ReasonNotAServiceAccount, token: kubernetes(object{"serviceaccount": object{"name": "root", "uid": "u"}})},
		{name: "serviceaccount without uid", rule: 8, reason: kubejwt.ReasonNotAServiceAccount, token: kubernetes(object{"serviceaccount": object{"name": "api"}})},
		{name: "serviceaccount with an empty uid", rule: 8, reason: kubejwt.ReasonNotAServiceAccount, token: kubernetes(object{"serviceaccount": object{"name": "api", "uid": ""}})},
		{name: "serviceaccount with a uid of 129 characters", rule: 8, reason: kubejwt.ReasonNotAServiceAccount, token: kubernetes(object{"serviceaccount": object{"name": "api", "uid": strings.Repeat("u", 129)}})},
		{name: "serviceaccount with a uid of 128 characters", token: kubernetes(object{"serviceaccount": object{"name": "api", "uid": strings.Repeat("u", 128)}})},
		{name: "sub missing", rule: 8, reason: kubejwt.ReasonNotAServiceAccount, token: claim("sub", nil)},
		{name: "sub of another", rule: 8, reason: kubejwt.ReasonNotAServiceAccount, token: claim("sub", "system:serviceaccount:shop:root")},
		{name: "sub with more", rule: 8, reason: kubejwt.ReasonNotAServiceAccount, token: claim("sub", "system:serviceaccount:shop:api:x")},
		{name: "jti empty", rule: 8, reason: kubejwt.ReasonNotAServiceAccount, token: claim("jti", "")},
		{name: "jti with a line break", rule: 8, reason: kubejwt.ReasonNotAServiceAccount, token: claim("jti", "a\nb")},
		{name: "jti missing", token: claim("jti", nil)},
		{name: "pod null", token: kubernetes(object{"pod": null})},
		{name: "pod empty", rule: 8, reason: kubejwt.ReasonNotAServiceAccount, token: kubernetes(object{"pod": object{}})},
		{name: "pod without uid", rule: 8, reason: kubejwt.ReasonNotAServiceAccount, token: kubernetes(object{"pod": object{"name": "api"}})},
		{name: "pod with a slash", rule: 8, reason: kubejwt.ReasonNotAServiceAccount, token: kubernetes(object{"pod": object{"name": "a/b", "uid": "u"}})},
		{name: "node without uid", token: kubernetes(object{"node": object{"name": "node-1"}})},
		{name: "node without name", rule: 8, reason: kubejwt.ReasonNotAServiceAccount, token: kubernetes(object{"node": object{"uid": "u"}})},
		{name: "node with an empty uid", rule: 8, reason: kubejwt.ReasonNotAServiceAccount, token: kubernetes(object{"node": object{"name": "node-1", "uid": ""}})},
		{name: "secret", token: kubernetes(object{"pod": nil, "node": nil, "secret": object{"name": "s", "uid": "u"}})},
		{name: "secret beside pod", rule: 8, reason: kubejwt.ReasonNotAServiceAccount, token: kubernetes(object{"node": nil, "secret": object{"name": "s", "uid": "u"}})},
		{name: "secret beside node", rule: 8, reason: kubejwt.ReasonNotAServiceAccount, token: kubernetes(object{"pod": nil, "secret": object{"name": "s", "uid": "u"}})},
		{name: "legacy claims beside", rule: 8, reason: kubejwt.ReasonNotAServiceAccount, token: claim("kubernetes.io/serviceaccount/namespace", "kube-system")},
		{name: "a legacy secret beside", rule: 8, reason: kubejwt.ReasonNotAServiceAccount, token: claim("kubernetes.io/serviceaccount/secret.name", "s")},
		{name: "a legacy name beside", rule: 8, reason: kubejwt.ReasonNotAServiceAccount, token: claim("kubernetes.io/serviceaccount/service-account.name", "api")},
		{name: "a legacy UID beside", rule: 8, reason: kubejwt.ReasonNotAServiceAccount, token: claim("kubernetes.io/serviceaccount/service-account.uid", "u")},

		{name: "bound to a pod, as required", config: func(c *kubejwt.Config) { c.RequirePod = true }},
		{name: "bound to a node, a pod required", rule: 9, reason: kubejwt.ReasonNotBound, token: kubernetes(object{"pod": nil}),
			config: func(c *kubejwt.Config) { c.RequirePod = true }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			token, config := good(), k.config
			if tt.token != nil {
				tt.token(&token)
			}
			if tt.config != nil {
				tt.config(&config)
			}
			v := mustNew(t, config)
			minted := k.Mint(token)
			claims, err := v.Verify(t.Context(), minted)
			if got := reasonOf(err); got != tt.reason {
				t.Fatalf("reason %q: want %q (%v)", got, tt.reason, err)
			}
			if tt.reason == "" {
				if err != nil || claims.Username() != "system:serviceaccount:shop:api" {
					t.Errorf("Claims %+v, %v: want those of shop/api", claims, err)
				}
				return
			}
			refusal, _ := errors.AsType[*kubejwt.InvalidTokenError](err)
			if refusal.Rule != tt.rule {
				t.Errorf("rule %d: want %d", refusal.Rule, tt.rule)
			}
			if known := refusal.Subject != ""; known && tt.rule < 7 {
				t.Errorf("the subject %q of an unverified token", refusal.Subject)
			}
			checkRefusal(t, minted, claims, err)
		})
	}
}

// The last second of each bound is on the side that doc.go says. The leeway is a
// minute.
func TestBounds(t *testing.T) {
	k := newKit(t)
	now := time.Unix(1700000000, 0)
	k.config.Now = func() time.Time { return now }
	k.config.MaxLifetime = time.Hour
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	const minute, hour = time.Minute, time.Hour
	for _, tt := range []struct {
		name          string
		iat, nbf, exp time.Duration // from now
		warnAfter     any
		want          kubejwt.Reason
	}{
		{"exp a leeway ago", -minute, -minute, -minute, nil, kubejwt.ReasonExpired},
		{"exp a second later", -minute, -minute, -59 * time.Second, nil, ""},
		{"iat at exp", -time.Second, -minute, -time.Second, nil, ""},
		{"iat after exp", 0, -minute, -time.Second, nil, kubejwt.ReasonMalformed},
		{"nbf at exp", -minute, -time.Second, -time.Second, nil, ""},
		{"nbf after exp", -minute, 0, -time.Second, nil, kubejwt.ReasonMalformed},
		{"nbf a leeway ahead", 0, minute, minute, nil, ""},
		{"nbf a second later", 0, 61 * time.Second, hour, nil, kubejwt.ReasonNotYetValid},
		{"iat a leeway ahead", minute, 0, hour, nil, ""},
		{"iat a second later", 61 * time.Second, 0, hour, nil, kubejwt.ReasonNotYetValid},
		{"warnafter a leeway ago", -minute, -minute, minute, at(-minute), kubejwt.ReasonStale},
		{"warnafter a second later", -minute, -minute, minute, at(-59 * time.Second), ""},
		{"a life of MaxLifetime", 0, 0, hour, nil, ""},
		{"a life of a second more", 0, 0, hour + time.Second, nil, kubejwt.ReasonLifetimeTooLong},
		{"a life of MaxLifetime to warnafter", 0, 0, 2 * hour, at(hour), ""},
		{"a life of a second more to warnafter", 0, 0, 2 * hour, at(hour + time.Second), kubejwt.ReasonLifetimeTooLong},
	} {
		g := good()
		kubernetes(object{"warnafter": tt.warnAfter})(&g)
		claims(object{"iat": at(tt.iat), "nbf": at(tt.nbf), "exp": at(tt.exp)})(&g)
		_, err := mustNew(t, k.config).Verify(t.Context(), k.Mint(g))
		if got := reasonOf(err); got != tt.want || tt.want == "" && err != nil {
			t.Errorf("%s: %v: want %q", tt.name, err, tt.want)
		}
	}
}

func TestForm(t *testing.T) {
	k := newKit(t)
	v := mustNew(t, k.config)
	token := k.Mint(good())
	part := strings.Split(token, ".")
	padTo := func(size int) string {
		// The padding claim grows the token by four characters for three.
		g := good()
		claim("pad", "")(&g)
		claim("pad", strings.Repeat("x", (size-len(k.Mint(g)))*3/4))(&g)
		return k.Mint(g)
	}
	for _, tt := range []struct {
		name, token string
		reason      kubejwt.Reason
	}{
		{"good", token, ""},
		{"two segments", part[0] + "." + part[1], kubejwt.ReasonMalformed},
		{"four segments", token + "." + part[2], kubejwt.ReasonMalformed},
		{"a dot at the end", token + ".", kubejwt.ReasonMalformed},
		{"no header", "." + part[1] + "." + part[2], kubejwt.ReasonMalformed},
		{"no payload", part[0] + ".." + part[2], kubejwt.ReasonMalformed},
		{"no signature", part[0] + "." + part[1] + ".", kubejwt.ReasonMalformed},
		{"a blank in front", " " + token, kubejwt.ReasonMalformed},
		{"a line break at the end", token + "\n", kubejwt.ReasonMalformed},
		{"a line break inside", part[0] + "." + part[1][:8] + "\r\n" + part[1][8:] + "." + part[2], kubejwt.ReasonMalformed},
		{"padding", token + "=", kubejwt.ReasonMalformed},
		{"the other alphabet", strings.NewReplacer("-", "+", "_", "/").Replace(token) + "+", kubejwt.ReasonMalformed},
		{"a NUL", token + "\x00", kubejwt.ReasonMalformed},
		{"a scheme", "Bearer " + token, kubejwt.ReasonMalformed},
		{"JSON serialization", `{"protected":"` + part[0] + `","payload":"` + part[1] + `","signature":"` + part[2] + `"}`, kubejwt.ReasonMalformed},
		{"just under 16 KiB", padTo(16000), ""},
		{"over 16 KiB", padTo(17000), kubejwt.ReasonTooLarge},
		{"a million dots", strings.Repeat(".", 1<<20), kubejwt.ReasonTooLarge},
		{"64 MiB", strings.Repeat("a", 64<<20), kubejwt.ReasonTooLarge},
		{"a header over 8 KiB", strings.Repeat("a", 8193) + "." + part[1] + "." + part[2], kubejwt.ReasonMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			claims, err := v.Verify(t.Context(), tt.token)
			if got := reasonOf(err); got != tt.reason {
				t.Fatalf("reason %q: want %q (%v)", got, tt.reason, err)
			}
			if tt.reason != "" {
				checkRefusal(t, token, claims, err)
			}
		})
	}
	if _, err := v.Verify(t.Context(), ""); err != kubejwt.ErrNoToken {
		t.Errorf("the empty token: %v: want ErrNoToken", err)
	}
	if _, err := v.Verify(t.Context(), "Bearer "+token); err == nil || !strings.Contains(err.Error(), "alone") {
		t.Errorf("a token with its scheme: %v: want the advice to hand it over alone", err)
	}
}

func TestZeroVerifier(t *testing.T) {
	for _, v := range []*kubejwt.Verifier{nil, new(kubejwt.Verifier)} {
		if _, err := v.VerifyRequest(new(http.Request)); !errors.Is(err, kubejwt.ErrKeysUnavailable) {
			t.Errorf("VerifyRequest: %v", err)
		}
		claims, err := v.Verify(t.Context(), "a.b.c")
		if !errors.Is(err, kubejwt.ErrKeysUnavailable) || claims != (kubejwt.Claims{}) || !strings.Contains(err.Error(), "New") {
			t.Errorf("Verify: %v, %v: want ErrKeysUnavailable and the advice to use New", claims, err)
		}
		if err := v.Ready(t.Context()); !errors.Is(err, kubejwt.ErrKeysUnavailable) {
			t.Errorf("Ready: %v", err)
		}
		if _, err := v.WithServiceAccounts("shop/api"); err == nil {
			t.Error("WithServiceAccounts is no error")
		}
		if s := v.Stats(); s.Accepted != 0 || s.Refused == nil {
			t.Errorf("Stats: %+v", s)
		}
	}
	if (kubejwt.Claims{}).Username() != "" || (kubejwt.Claims{}).Groups() != nil || (kubejwt.Claims{}).Extra() != nil {
		t.Error("zero Claims have a name, groups or extra")
	}
}

// Several faults: the first in the order of the rules is reported.
func TestFirstFault(t *testing.T) {
	k := newKit(t)
	v := mustNew(t, k.config)
	other := kubejwttest.NewCluster(t)
	expired := good()
	expired.Lifetime = -time.Hour
	claim("aud", "reports")(&expired)
	if _, err := v.Verify(t.Context(), k.Mint(expired)); reasonOf(err) != kubejwt.ReasonWrongAudience {
		t.Errorf("expired and for another audience: %v", err)
	}
	claim("iss", k.config.Issuer)(&expired)
	expired.Header = object{"kid": k.kid(t)}
	if _, err := v.Verify(t.Context(), other.Mint(expired)); reasonOf(err) != kubejwt.ReasonBadSignature {
		t.Errorf("badly signed, expired and for another audience: %v", err)
	}
}

// The clock goes on while a token is judged: it is expired, and not something
// else for having expired in between.
func TestClockThatTicks(t *testing.T) {
	k := newKit(t)
	start := time.Now().Truncate(time.Second)
	ticks := 0
	k.config.Now = func() time.Time { ticks++; return start.Add(time.Duration(ticks) * time.Second) }
	for left := range 10 {
		ticks = 0
		g := good()
		claims(map[string]any{"iat": start.Unix() - 60, "nbf": nil, "exp": start.Add(-time.Minute).Add(time.Duration(left) * time.Second).Unix()})(&g)
		if _, err := mustNew(t, k.config).Verify(t.Context(), k.Mint(g)); err != nil && reasonOf(err) != kubejwt.ReasonExpired {
			t.Errorf("%d s left: %v", left, err)
		}
	}
}

func TestRefusalsAreLogged(t *testing.T) {
	k := newKit(t)
	var log bytes.Buffer
	k.config.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	v := mustNew(t, k.config)
	wrong := good()
	claim("aud", "reports")(&wrong)
	var token string
	synctest.Test(t, func(t *testing.T) { // where a line is waited for, on a busy machine too
		token = k.Mint(wrong)
		v.Verify(t.Context(), token)
		v.Verify(t.Context(), k.Mint(kubejwttest.Token{Namespace: "evil", ServiceAccount: "api", Audiences: []string{"data-store"}}))
	})
	for _, want := range []string{"level=DEBUG", "reason=wrong_audience", "reason=not_allowed", "subject=system:serviceaccount:shop:api", "subject=system:serviceaccount:evil:api"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %q:\n%s", want, log.String())
		}
	}
	if leak := commonRun(log.String(), token, 16); leak != "" {
		t.Errorf("the log has %q of the token", leak)
	}
}

// Who is accepted, and who has no token, is not worth a line. Who can't be judged is.
func TestWhatIsLogged(t *testing.T) {
	k := newKit(t)
	for _, tt := range []struct {
		name, token string
		check       error
		issuer      string
		want        string // "": nothing
	}{
		{"accepted", k.Mint(good()), nil, "", ""},
		{"no token", "", nil, "", ""},
		{"undecided", k.Mint(good()), errors.New("no connection"), "", "reason=undecided"},
		{"no keys", k.Mint(good()), nil, "https://127.0.0.1:1", "reason=keys_unavailable"},
	} {
		log := newLockedLog()
		config := k.config
		config.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		config.Check = func(kubejwt.Claims) error { return tt.check }
		if tt.issuer != "" {
			config.Keys = kubejwt.RemoteKeys{JWKSURL: tt.issuer}
		}
		mustNew(t, config).Verify(t.Context(), tt.token)
		if got := log.String(); !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%s: want %q in the log:\n%s", tt.name, tt.want, got)
		}
	}
}

// Times in an error are in UTC, and those that a token has not are "none".
func TestTimesInErrors(t *testing.T) {
	k := newKit(t)
	now := time.Unix(1700000000, 0)
	k.config.Now = func() time.Time { return now }
	v := mustNew(t, k.config)
	for _, tt := range []struct {
		claims    object
		warnAfter any
		want      string
	}{
		{object{"iat": now.Unix() + 61, "nbf": nil, "exp": now.Unix() + 3600}, nil,
			"want nbf and iat no later than 2023-11-14T22:14:20Z: got nbf none, iat 2023-11-14T22:14:21Z"},
		{object{"iat": now.Unix() - 100, "nbf": nil, "exp": now.Unix() - 60}, nil, "want exp after 2023-11-14T22:12:20Z: got 2023-11-14T22:12:20Z"},
		{object{"iat": now.Unix() - 100, "nbf": nil, "exp": now.Unix()}, now.Unix() - 60, "want warnafter after 2023-11-14T22:12:20Z: got 2023-11-14T22:12:20Z"},
	} {
		g := good()
		kubernetes(object{"warnafter": tt.warnAfter})(&g)
		claims(tt.claims)(&g)
		if _, err := v.Verify(t.Context(), k.Mint(g)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: want %q", err, tt.want)
		}
	}
}

func TestCancelledContext(t *testing.T) {
	k := newOwnKit(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// Nobody waits here, so that there is nothing to cancel.
	if _, err := mustNew(t, k.config).Verify(ctx, k.Mint(good())); err != nil {
		t.Errorf("static keys: %v", err)
	}
	k.SetLatency(time.Minute)
	_, err := mustNew(t, k.Config("data-store")).Verify(ctx, k.Mint(good()))
	if !errors.Is(err, kubejwt.ErrKeysUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("keys to wait for: %v: want ErrKeysUnavailable and context.Canceled", err)
	}
}
