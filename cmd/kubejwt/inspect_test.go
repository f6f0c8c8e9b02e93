package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kubejwt/kubejwt/kubejwttest"
)

// inspect needs no flag, and marks every line that comes from the token.
func TestInspect(t *testing.T) {
	for name, says := range map[string][]string{
		"pod_bound":              {"a projected service account token, bound to the pod", "-audience data-store", "in 36"},
		"unbound":                {"bound to no pod"},
		"node_bound":             {"bound to the node"},
		"secret_bound":           {"bound to the secret"},
		"extended_default_mount": {"a projected token as every pod has it by default", "warnafter"},
	} {
		token := readToken(t, name)
		r := kubejwtWith(t, token, "inspect")
		r.mustSay(t, exitOK, append(says, "UNVERIFIED", "kubejwt verify -key-file keys.json", "-issuer "+recordedIssuer)...)
		mustHoldNothingOf(t, token, r)
		_, rest, _ := strings.Cut(r.out, "\n\n")
		body, _, _ := strings.Cut(rest, "\nTo have it judged")
		for line := range strings.Lines(body) {
			if !strings.HasPrefix(line, "unverified ") && line != "\n" {
				t.Errorf("%s: a line is not marked: %s", name, line)
			}
		}
		if !strings.Contains(body, "system:serviceaccount:api:api") {
			t.Errorf("%s: no sub:\n%s", name, r.out)
		}
	}
	kubejwtWith(t, `"`+readToken(t, "unbound")+`"`, "inspect").mustSay(t, exitOK, "out of quotes")
	kubejwtWith(t, "hunter2", "inspect").mustSay(t, exitRefused, "No token", "kubectl create token")
	kubejwtWith(t, segment("hunter2")+".e30.AAAA", "inspect").mustSay(t, exitRefused, "No token", "header")
	kubejwtWith(t, " ", "inspect").mustSay(t, exitUsage, "there is no token")
	kubejwtWith(t, "", "inspect", "-token-file", "/nonexistent").mustSay(t, exitUsage, "/nonexistent")
}

// The command that inspect shows judges the token as it says.
func TestInspectCommandWorks(t *testing.T) {
	file := recordings + "/tokens/pod_bound.jwt"
	r := kubejwtWith(t, "", "inspect", "-token-file", file)
	_, command, ok := strings.Cut(r.out, "kubejwt verify ")
	if !ok {
		t.Fatalf("no command:\n%s", r.out)
	}
	args := strings.Fields(strings.NewReplacer("\\\n", " ", "keys.json", recordings+"/sa.pub").Replace(command))
	kubejwtWith(t, "", append([]string{"verify", "-max-lifetime", "-1s", "-at", recordedAt}, args...)...).mustSay(t, exitOK, "Accepted")
}

// A token's author does not get a command into the reader's shell.
func TestInspectQuotesForNoShell(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	for _, evil := range []string{
		"x; rm -rf /", "$(id)", "`id`", "'; id; '", "a\nid", "-key-file=/tmp/x", "a b", "a&b", "a|b", "a>b", "~root", "\u0430", strings.Repeat("a", 500), "*",
	} {
		token := caller
		token.Claims = map[string]any{"iss": evil, "aud": []string{evil}}
		r := kubejwtWith(t, cluster.Mint(token), "inspect")
		r.mustSay(t, exitOK, "-issuer ISSUER \\", "-audience AUDIENCE \\")
	}
	token := caller
	token.Claims = map[string]any{"iss": "https://container.googleapis.com/v1/projects/p_1/locations/europe-west1/clusters/c-2/", "aud": "sts:a@b.example"}
	kubejwtWith(t, cluster.Mint(token), "inspect").mustSay(t, exitOK, "/clusters/c-2/ \\", "-audience sts:a@b.example \\")
}

// An issuer that differs by a slash is told so.
func TestIssuerWithSlash(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	keys, issuer := writeFile(t, string(cluster.PublicKeysPEM())), cluster.Config("any").Issuer
	verify := func(iss string) result {
		return kubejwtWith(t, cluster.Mint(caller), "verify", "-key-file", keys, "-audience", "data-store", "-issuer", iss)
	}
	verify(issuer).mustSay(t, exitOK, "Accepted")
	verify(issuer+"/").mustSay(t, exitRefused, "wrong_issuer", "differ only by a slash at the end")
	if r := verify(issuer + "x"); r.exit != exitRefused || strings.Contains(r.out, "slash") {
		t.Errorf("exit status %d:\n%s", r.exit, r.out)
	}
}

// What only the library knows is shown beside the verdict that it explains.
func TestVerifyShowsTheLog(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	coordinate := base64.RawURLEncoding.EncodeToString
	set := fmt.Sprintf(`{"keys":[{"kty":"EC","crv":"P-256","kid":"good","x":%q,"y":%q},{"kty":"RSA","kid":"small","n":"AQAB","e":"AQAB"}]}`,
		coordinate(point[1:33]), coordinate(point[33:]))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, set) }))
	defer server.Close()
	cluster := kubejwttest.NewCluster(t)
	r := kubejwtWith(t, cluster.Mint(caller), "verify", "-audience", "data-store", "-issuer", cluster.Config("any").Issuer, "-jwks-url", server.URL)
	r.mustSay(t, exitRefused, "unknown_key", "What the library logged:", "a key is not used", "small")
}

// What is no whole token is shown as far as it goes, and named. Of several
// tokens none is shown: the reader may have meant another.
func TestInspectOfPieces(t *testing.T) {
	token, other := readToken(t, "pod_bound"), readToken(t, "unbound")
	parts := strings.Split(token, ".")
	for name, test := range map[string]struct {
		input, is string
		exit      int
	}{
		"whole":              {token, "", exitOK},
		"no signature":       {parts[0] + "." + parts[1], "without the signature", exitOK},
		"an empty signature": {parts[0] + "." + parts[1] + ".", "an unsigned token", exitOK},
		"cut off":            {token + "...", "cut off", exitOK},
		"a dot too many":     {token + ".", "4 parts", exitOK},
		"two tokens":         {token + "\n" + other, "2 different tokens", exitRefused},
	} {
		r := kubejwtWith(t, test.input, "inspect")
		r.mustSay(t, test.exit, test.is)
		asJSON := kubejwtWith(t, test.input, "inspect", "-json")
		asJSON.mustSay(t, test.exit, test.is)
		if told := strings.Contains(r.out, "Not a whole token"); told != (test.is != "" && test.exit == exitOK) {
			t.Errorf("%s: told to be no whole token: %t\n%s", name, told, r.out)
		}
		for _, r := range []result{r, asJSON} {
			if judged := strings.Contains(r.out, "kubejwt verify -key-file"); judged != (test.is == "") {
				t.Errorf("%s: a command judges it: %t\n%s", name, judged, r.out)
			}
			if shown := strings.Contains(r.out, "system:serviceaccount:api:api"); shown != (test.exit == exitOK) {
				t.Errorf("%s: its claims are shown: %t\n%s", name, shown, r.out)
			}
			mustHoldNothingOf(t, token, r)
		}
	}
}
