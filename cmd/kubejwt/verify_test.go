package main

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

func readToken(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(recordings + "/tokens/" + name + ".jwt")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestVerifyAccepts(t *testing.T) {
	token := readToken(t, "pod_bound")
	identity := []string{
		"system:serviceaccount:api:api", "d5ec1197-1710-46f4-83ba-4b1a13f2aa30",
		"system:serviceaccounts:api", "authentication.kubernetes.io/pod-name: app-7c9b54c8db-lwrfr",
	}
	for name, r := range map[string]result{
		"stdin":           kubejwtWith(t, "\n "+token+"\r\n", recorded()...),
		"a dash":          kubejwtWith(t, token, recorded("-")...),
		"a file":          kubejwtWith(t, "", recorded("-token-file", recordings+"/tokens/pod_bound.jwt")...),
		"an argument":     kubejwtWith(t, "", recorded(" "+token+" ")...),
		"argument, flags": kubejwtWith(t, "", recorded(token, "-service-account", "api/api")...),
	} {
		t.Run(name, func(t *testing.T) {
			r.mustSay(t, exitOK, identity...)
			if passed, judged := ruleMarks(r.out); passed != lastRule || judged != lastRule {
				t.Errorf("%d rules are passed and %d judged: want all of them\n%s", passed, judged, r.out)
			}
			mustHoldNothingOf(t, token, r)
		})
	}
}

// ruleMarks returns how far the rules are told to be passed and judged. It
// counts rule 6, which has no line, where those around it are.
func ruleMarks(out string) (passed, judged int) {
	for _, line := range regexp.MustCompile(`(?m)^([✓✗]) (\d) `).FindAllStringSubmatch(out, -1) {
		number, _ := strconv.Atoi(line[2])
		if judged++; number == claimsRule {
			judged++
		}
		if line[1] == "✓" {
			passed = judged
		} else {
			passed = judged - 1
		}
		if number != judged {
			return -1, -1 // a gap, or out of order
		}
	}
	open := regexp.MustCompile(`(?m)^· (\d)(?: (?:to|and) 9)?  not judged$`).FindStringSubmatch(out)
	if open == nil && judged != lastRule || open != nil && open[1] != strconv.Itoa(nextRule(judged)) {
		return -1, -1
	}
	return passed, judged
}

func nextRule(number int) int {
	if number+1 == 6 {
		return claimsRule
	}
	return number + 1
}

// mustHoldNothingOf looks for pieces of the token in all that was printed.
func mustHoldNothingOf(t *testing.T, token string, r result) {
	t.Helper()
	token = strings.TrimSpace(token)
	for i := 0; i+16 <= len(token); i++ {
		if strings.Contains(r.out+r.errOut, token[i:i+16]) {
			t.Fatalf("16 characters of the token are printed:\n%s%s", r.out, r.errOut)
		}
	}
}

// Each rule that refuses is marked, those before it are passed, and those after
// it are not judged.
func TestVerifyRefuses(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	keys := writeFile(t, string(cluster.PublicKeysPEM()))
	with := func(change func(*kubejwttest.Token)) string {
		token := caller
		change(&token)
		return cluster.Mint(token)
	}
	header := func(name string, value any) string {
		return with(func(t *kubejwttest.Token) { t.Header = map[string]any{name: value} })
	}
	claim := func(name string, value any) string {
		return with(func(t *kubejwttest.Token) { t.Claims = map[string]any{name: value} })
	}
	secretBased := map[string]any{
		"iss": "kubernetes/serviceaccount", "aud": nil, "exp": nil, "kubernetes.io": nil,
		"kubernetes.io/serviceaccount/namespace": "shop", "kubernetes.io/serviceaccount/service-account.name": "api",
	}
	good := cluster.Mint(caller)
	for _, test := range []struct {
		name, token string
		rule        int
		reason      kubejwt.Reason
		more        []string
		says        string
	}{
		{"too large", strings.Repeat("a", 20000), 1, kubejwt.ReasonTooLarge, nil, "16384 bytes"},
		{"no token at all", "secret", 1, kubejwt.ReasonMalformed, nil, "one piece without a dot"},
		{"alg", header("alg", "HS256"), 2, kubejwt.ReasonBadAlgorithm, nil, `"HS256"`},
		{"a strange header", header("jku", "https://attacker.example"), 2, kubejwt.ReasonMalformed, nil, "https://attacker.example"},
		{"issuer", claim("iss", "https://elsewhere.example"), 3, kubejwt.ReasonWrongIssuer, nil, "UNVERIFIED"},
		{"legacy", with(func(t *kubejwttest.Token) { t.Claims = secretBased }), 3, kubejwt.ReasonLegacy, nil, "mount a projected token"},
		{"kid", header("kid", "unheard-of"), 4, kubejwt.ReasonUnknownKey, nil, `"unheard-of"`},
		{"signature", good[:len(good)-8] + "AAAAAAAA", 5, kubejwt.ReasonBadSignature, nil, "UNVERIFIED"},
		{"cut off", good[:len(good)-6], 5, kubejwt.ReasonBadSignature, nil, "copy the whole token"},
		{"cut off elsewhere", good[:len(good)-5], 1, kubejwt.ReasonMalformed, nil, "copy the whole token"},
		{"audience", claim("aud", []string{"reports"}), 7, kubejwt.ReasonWrongAudience, nil, "Its signature is good"},
		{"expired", with(func(t *kubejwttest.Token) { t.Lifetime = -time.Hour }), 7, kubejwt.ReasonExpired, nil, "ago"},
		{"not yet", good, 7, kubejwt.ReasonNotYetValid, []string{"-at", "2020-01-01T00:00:00Z"}, "as of 2020-01-01T00:00:00Z"},
		{"lifetime", good, 7, kubejwt.ReasonLifetimeTooLong, []string{"-max-lifetime", "10m"}, "raise -max-lifetime"},
		{"sub", claim("sub", "system:serviceaccount:shop:admin"), 8, kubejwt.ReasonNotAServiceAccount, nil, "shop:admin"},
		{"pod", with(func(t *kubejwttest.Token) { t.Node.Name = "n" }), 9, kubejwt.ReasonNotBound, []string{"-require-pod"}, "to a pod"},
		{"policy", good, 9, "not_allowed", []string{"-service-account", "shop/web"}, "add shop/api"},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := append([]string{"verify", "-key-file", keys, "-issuer", cluster.Config("any").Issuer, "-audience", "data-store"}, test.more...)
			r := kubejwtWith(t, test.token, args...)
			r.mustSay(t, exitRefused, "Refused by rule ", string(test.reason), test.says)
			if passed, judged := ruleMarks(r.out); passed != test.rule-1 || judged != test.rule {
				t.Errorf("%d rules are passed and %d judged: want %d and %d\n%s", passed, judged, test.rule-1, test.rule, r.out)
			}
			if len(test.token) > 100 {
				mustHoldNothingOf(t, test.token, r)
			}
			r = kubejwtWith(t, test.token, append(args, "-json")...)
			var e explanationJSON
			if err := json.Unmarshal([]byte(r.out), &e); err != nil {
				t.Fatal(err)
			}
			if r.exit != exitRefused || e.Faults[0].Rule != test.rule || e.Reason != string(test.reason) || e.verdictOf(test.rule) != fail {
				t.Errorf("exit status %d, JSON:\n%s", r.exit, r.out)
			}
			if (e.Unverified != nil) != (test.rule <= 5) || (e.Claims != nil) != (test.rule > 5) || e.SignatureVerified != (test.rule > 5) {
				t.Errorf("which claims are unverified is told wrongly:\n%s", r.out)
			}
		})
	}
}

// verdictOf is that of a rule by its number.
func (e *explanationJSON) verdictOf(number int) string {
	for _, r := range e.Rules {
		if r.Rule == number {
			return r.Verdict
		}
	}
	return "missing"
}

// What a token claims can't write to the terminal, nor fill it, nor have a
// token shown.
func TestClaimsAreTamed(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	token := caller
	token.Claims = map[string]any{
		"iss":                  "https://\x1b[2J\u202e\u0085evil\u0430.example",
		"sub":                  strings.Repeat("long ", 1000),
		"\x1b]0;name\x07":      "an escape in a name",
		"nested":               "before eyJhbGciOiJSUzI1NiJ9.e30.AAAA after",
		"kubernetes.io.pod":    map[string]any{"name": "not the pod"},
		"emoji":                "\U0001f511",
		"many":                 slices.Repeat([]string{"x"}, 200),
		"number":               json.Number("1" + strings.Repeat("0", 300)),
		"\u202eeyJhbGciOiJSUz": "a token in a name",
	}
	for _, more := range [][]string{nil, {"-json"}} {
		r := kubejwtWith(t, cluster.Mint(token), append(append([]string{"verify"}, clusterFlags(cluster)...), more...)...)
		r.mustSay(t, exitRefused, "withheld", "wrong_issuer")
		for _, char := range r.out {
			if char < ' ' && char != '\n' || char > '~' && !strings.ContainsRune("✓✗·", char) {
				t.Errorf("%q is printed", char)
			}
		}
		if strings.Contains(r.out, "eyJ") {
			t.Error("a token is printed")
		}
		if len(r.out) > 12000 {
			t.Errorf("%d bytes are printed", len(r.out))
		}
	}
}

func TestVerifyJSON(t *testing.T) {
	var e explanationJSON
	r := kubejwtWith(t, readToken(t, "pod_bound"), recorded("-json")...)
	if err := json.Unmarshal([]byte(r.out), &e); err != nil {
		t.Fatal(err)
	}
	if r.exit != exitOK || e.Verdict != "accepted" || e.Identity.Username != "system:serviceaccount:api:api" || len(e.Identity.Groups) != 3 ||
		e.Identity.Extra["authentication.kubernetes.io/node-name"][0] != "node-1" || e.Faults != nil || e.Unverified != nil || len(e.Rules) != len(ruleNumbers()) {
		t.Errorf("exit status %d, JSON:\n%s", r.exit, r.out)
	}
}

// The identity and the verdict are TokenReview's for all that is recorded.
func TestVerifyRecorded(t *testing.T) {
	reviews, err := filepath.Glob(recordings + "/tokenreviews/*.json")
	if err != nil || len(reviews) == 0 {
		t.Fatal("no recordings", err)
	}
	for _, path := range reviews {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want := exitRefused
		if strings.Contains(string(data), `"authenticated": true`) {
			want = exitOK
		}
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		if r := kubejwtWith(t, readToken(t, name), recorded()...); r.exit != want {
			t.Errorf("%s: exit status %d: want %d\n%s", name, r.exit, want, r.out)
		}
	}
}

func TestVerifyFetchesKeys(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	token := cluster.Mint(caller)
	issuer, folder := cluster.Config("any").Issuer, cluster.Folder()
	credentials := []string{"verify", "-audience", "data-store", "-ca-file", folder + "/ca.crt", "-bearer-token-file", folder + "/token"}
	for name, flags := range map[string][]string{
		"the issuer":    {"-issuer", issuer},
		"discovery URL": {"-issuer", issuer, "-discovery-url", issuer + "/.well-known/openid-configuration"},
		"JWKS URL":      {"-issuer", issuer, "-jwks-url", issuer + "/openid/v1/jwks"},
	} {
		t.Run(name, func(t *testing.T) {
			kubejwtWith(t, token, append(credentials, flags...)...).mustSay(t, exitOK, "system:serviceaccount:shop:api")
		})
	}
	t.Run("in a cluster", func(t *testing.T) {
		host, port, _ := strings.Cut(strings.TrimPrefix(issuer, "https://"), ":")
		t.Setenv("KUBERNETES_SERVICE_HOST", host)
		t.Setenv("KUBERNETES_SERVICE_PORT", port)
		kubejwtWith(t, token, append(credentials, "-in-cluster")...).mustSay(t, exitOK, "system:serviceaccount:shop:api")
		cluster.SetAvailable(false)
		defer cluster.SetAvailable(true)
		kubejwtWith(t, token, append(credentials, "-in-cluster")...).mustSay(t, exitNoKeys, "· 3 to 9  not judged", "No verdict")
	})
	t.Run("outage", func(t *testing.T) {
		cluster.SetAvailable(false)
		r := kubejwtWith(t, token, append(credentials, "-issuer", issuer)...)
		r.mustSay(t, exitNoKeys, "No verdict", "UNVERIFIED", "✓ 3  issuer", "· 4 to 9  not judged", issuer)
		if strings.Contains(r.out, "✗") {
			t.Errorf("a rule is told to have refused:\n%s", r.out)
		}
	})
}

func TestVerifyUsage(t *testing.T) {
	token := readToken(t, "pod_bound")
	base := []string{"verify", "-issuer", recordedIssuer, "-audience", "data-store"}
	for _, test := range []struct {
		exit int
		says string
		args []string
	}{
		{exitUsage, "-issuer is required", []string{"verify", "-audience", "a"}},
		{exitUsage, "-audience is required", []string{"verify", "-issuer", "i"}},
		{exitUsage, "for such an issuer: use a -key-file with its sa.pub", []string{"verify", "-issuer", "kubernetes/serviceaccount", "-audience", "a"}},
		{exitUsage, "-key-file can't be combined", append(base, "-key-file", "k", "-in-cluster")},
		{exitUsage, "-jwks-url", append(base, "-jwks-url", "https://127.0.0.1", "-discovery-url", "https://127.0.0.1")},
		{exitUsage, "-in-cluster", append(base, "-in-cluster")},
		{exitUsage, "RFC 3339", recorded("-at", "noon")},
		{exitUsage, "-leeway", recorded("-leeway", "1h")},
		{exitUsage, "-service-account", recorded("-service-account", "shop")},
		{exitUsage, "-accept-extended: needs an explicit -max-lifetime", recorded("-accept-extended", "-max-lifetime", "0")},
		{exitUsage, "2 arguments", recorded("a", "b")},
		{exitUsage, "want one of them", recorded("a", "-token-file", "b")},
		{exitUsage, "/nonexistent", recorded("-token-file", "/nonexistent")},
		{exitUsage, "looks like a token", recorded("-leeway", token)},
		{exitNoKeys, "/nonexistent", append(base, "-key-file", "/nonexistent", token)},
		{exitNoKeys, "no key", append(base, "-key-file", "main.go", token)},
	} {
		t.Run(test.says, func(t *testing.T) {
			t.Setenv("KUBERNETES_SERVICE_HOST", "")
			r := kubejwtWith(t, token, test.args...)
			r.mustSay(t, test.exit, test.says)
			mustHoldNothingOf(t, token, r)
		})
	}
	kubejwtWith(t, " \n", recorded()...).mustSay(t, exitUsage, "there is no token")
}

// An odd key in a file of keys costs no other, and is named: here as at a service
// that has this KeyFile. A secret in it does.
func TestOddKeyInAFile(t *testing.T) {
	data, err := os.ReadFile(recordings + "/jwks.json")
	if err != nil {
		t.Fatal(err)
	}
	keyFile := func(more string) string {
		return writeFile(t, strings.Replace(string(data), `{"keys":[`, `{"keys":[`+more+`,`, 1))
	}
	token := readToken(t, "pod_bound")
	_, rest, _ := strings.Cut(token, ".")
	ofOddKey := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","kid":"odd"}`)) + "." + rest
	verify := func(token, keys string) result { return kubejwtWith(t, token, recorded("-key-file", keys)...) }
	serve := func(keys string) result {
		return kubejwtWith(t, "", "serve", "-check", "-issuer", recordedIssuer, "-audience", "data-store", "-policy", "a=a/b", "-key-file", keys)
	}
	const odd = `{"kty":"RSA","kid":"odd","use":"enc","n":"AQ","e":"AQAB"}`
	const secret = `{"kty":"oct","kid":"odd","k":"AQ"}`
	verify(token, keyFile(odd)).mustSay(t, exitOK, "Accepted")
	verify(ofOddKey, keyFile(odd)).mustSay(t, exitRefused, "published and not used", "use is not sig")
	serve(keyFile(odd)).mustSay(t, exitOK, "The configuration is valid: 1 issuer, 1 policy.")
	verify(token, keyFile(secret)).mustSay(t, exitNoKeys, "a symmetric key")
	serve(keyFile(secret)).mustSay(t, exitNoKeys, "a symmetric key")
}
