package kubejwt_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

// goodVectors are an accepted token of each algorithm.
func goodVectors(t testing.TB) map[string]string {
	t.Helper()
	all := tokenVectors(t)
	tokens := make(map[string]string)
	for _, alg := range []string{"rs256", "es256", "es384", "es512"} {
		tokens[alg] = all["good_"+alg+".txt"].body
	}
	return tokens
}

// mustRefuse fails if a changed token is accepted.
func mustRefuse(t *testing.T, v *kubejwt.Verifier, changed, what string) {
	t.Helper()
	claims, err := v.Verify(t.Context(), changed)
	if reasonOf(err) == "" || claims != (kubejwt.Claims{}) {
		t.Fatalf("%s: %v, %v: want a refusal", what, claims, err)
	}
}

// Any bit of the text, and any bit of what it decodes to: one by one for RSA,
// one of each byte for the curves, which take longer.
func TestEveryBitCounts(t *testing.T) {
	for alg, token := range goodVectors(t) {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			v := vectorVerifier(t, "cluster.jwks")
			if _, err := v.Verify(t.Context(), token); err != nil {
				t.Fatal(err)
			}
			flips := func(data []byte, check func(changed string, at int)) {
				for i := range len(data) * 8 {
					if alg != "rs256" && i%8 != i/8%8 {
						continue
					}
					changed := slices.Clone(data)
					changed[i/8] ^= 1 << (i % 8)
					check(string(changed), i)
				}
			}
			flips([]byte(token), func(changed string, at int) { mustRefuse(t, v, changed, fmt.Sprintf("bit %d of the text", at)) })
			for i, segment := range strings.Split(token, ".") {
				decoded, err := base64.RawURLEncoding.DecodeString(segment)
				if err != nil {
					t.Fatal(err)
				}
				flips(decoded, func(changed string, at int) {
					part := strings.Split(token, ".")
					part[i] = encodeSegment(changed)
					mustRefuse(t, v, strings.Join(part, "."), fmt.Sprintf("bit %d of segment %d", at, i))
				})
			}
		})
	}
}

// respellings are other spellings of a JSON text: most mean the same, and none
// is what was signed.
func respellings(text string) map[string]string {
	all := make(map[string]string)
	inString := false
	for i, c := range text {
		before, after := text[:i], text[i+1:]
		if c == '"' {
			inString = !inString
		}
		if !inString && strings.ContainsRune("{}[]:,", c) {
			for name, space := range map[string]string{"a blank": " ", "a tab": "\t", "a line break": "\n", "CR LF": "\r\n"} {
				all[fmt.Sprintf("%s before %d", name, i)] = before + space + text[i:]
				all[fmt.Sprintf("%s after %d", name, i)] = text[:i+1] + space + after
			}
		}
		if inString && c != '"' {
			all[fmt.Sprintf("an escape at %d", i)] = before + fmt.Sprintf(`\u%04x`, c) + after
			if c == '/' {
				all[fmt.Sprintf("a backslash at %d", i)] = before + `\/` + after
			}
		}
		for _, other := range []rune{unicode.ToUpper(c), unicode.ToLower(c)} {
			if other != c {
				all[fmt.Sprintf("%q for %q at %d", other, c, i)] = before + string(other) + after
			}
		}
	}
	all["a comma at the end"] = text[:len(text)-1] + ",}"
	all["a member more"] = text[:len(text)-1] + `,"x":0}`
	return all
}

// White space, case and escapes: the old signature is of the old spelling. The
// slower curves get one in four.
func TestEverySpellingCounts(t *testing.T) {
	for alg, token := range goodVectors(t) {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			v := vectorVerifier(t, "cluster.jwks")
			for i, segment := range strings.Split(token, ".")[:2] {
				decoded, err := base64.RawURLEncoding.DecodeString(segment)
				if err != nil {
					t.Fatal(err)
				}
				changes := respellings(string(decoded))
				if len(changes) < 100 {
					t.Fatalf("%d respellings of %s", len(changes), decoded)
				}
				for n, what := range slices.Sorted(maps.Keys(changes)) {
					if slow := alg == "es384" || alg == "es512"; slow && n%4 != 0 {
						continue
					}
					changed := changes[what]
					part := strings.Split(token, ".")
					part[i] = encodeSegment(changed)
					mustRefuse(t, v, strings.Join(part, "."), fmt.Sprintf("segment %d with %s", i, what))
				}
			}
		})
	}
}

// The order of claims means nothing, if they are signed so.
func TestOrderOfClaims(t *testing.T) {
	all := tokenVectors(t)
	v := vectorVerifier(t, "cluster.jwks")
	want, err := v.Verify(t.Context(), all["good_rs256.txt"].body)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"good_header_first.txt", "good_payload_whitespace.txt", "good_payload_escape.txt", "good_typ.txt"} {
		if got, err := v.Verify(t.Context(), all[name].body); got != want {
			t.Errorf("%s: %+v, %v: want %+v", name, got, err, want)
		}
	}
}

// printed is what the ways to print a value make of it.
func printed(value any) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%v\n%+v\n%#v\n%s\n%q\n", value, value, value, value, value)
	if data, err := json.Marshal(value); err == nil {
		b.Write(data)
	}
	slog.New(slog.NewTextHandler(&b, nil)).Info("text", "value", value)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("JSON", "value", value)
	return b.String()
}

// Whatever happens, and however it is printed and logged, no 16 characters in a
// row of a token or of the verifier's own bearer come out.
func TestNothingLeaks(t *testing.T) {
	var text, lines bytes.Buffer
	debug := &slog.HandlerOptions{Level: slog.LevelDebug}
	all := tokenVectors(t)
	for name, v := range all {
		text.Reset()
		lines.Reset()
		config := v.config(t)
		out := ""
		for _, handler := range []slog.Handler{slog.NewTextHandler(&text, debug), slog.NewJSONHandler(&lines, debug)} {
			config.Logger = slog.New(handler)
			verifier := mustNew(t, config)
			claims, err := verifier.Verify(t.Context(), v.body)
			out += printed(claims) + printed(err) + printed(verifier.Stats()) + printed(verifier) + printed(errors.Join(err, errors.New("more")))
			if refusal, ok := errors.AsType[*kubejwt.InvalidTokenError](err); ok {
				out += printed(*refusal)
			}
		}
		if leak := commonRun(out+text.String()+lines.String(), v.body, 16); leak != "" {
			t.Errorf("%s: %q comes out", name, leak)
		}
		if logged := text.Len() > 0; v.header["expect"] != "accept" && !logged {
			t.Errorf("%s: the refusal is not logged", name)
		}
	}
}

// Bearers do not leak when the origin fails in any of the ways of the corpus.
func TestBearerDoesNotLeak(t *testing.T) {
	bearer := tokenVectors(t)["good_es512.txt"].body
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(bearer+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	documents := readVectors(t, "jwks", documentHeaders...)
	maps.Copy(documents, readVectors(t, "discovery", documentHeaders...))
	// What an origin sends back may be what it was sent.
	documents["echo"] = vector{body: bearer}
	documents["echo in JSON"] = vector{body: `{"keys":[{"kid":"` + bearer + `","kty":"` + bearer + `"}],"issuer":"` + bearer + `"}`}
	documents["echo in jwks_uri"] = vector{body: `{"issuer":"` + vectorIssuer + `","jwks_uri":"` + vectorIssuer + `/` + bearer + `"}`}
	documents["echo in a foreign jwks_uri"] = vector{body: `{"issuer":"` + vectorIssuer + `","jwks_uri":"https://evil.example/` + bearer + `"}`}
	documents["echo in a jwks_uri over http"] = vector{body: `{"issuer":"` + vectorIssuer + `","jwks_uri":"http://iss.example/` + bearer + `"}`}
	for name, v := range documents {
		var log bytes.Buffer
		for _, handler := range []slog.Handler{
			slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}),
			slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}),
		} {
			keys := kubejwt.RemoteKeys{BearerTokenFile: path}
			out := printed(keys)
			keys.Transport = serve(map[string]string{
				vectorIssuer + "/.well-known/openid-configuration": v.body,
				vectorIssuer + "/openid/v1/jwks":                   v.body,
			})
			config := kubejwt.Config{
				Issuer:          vectorIssuer,
				Audiences:       []string{"svc-a"},
				ServiceAccounts: []string{"*"},
				Keys:            keys,
				Logger:          slog.New(handler),
				Now:             func() time.Time { return time.Unix(1700000000, 0) },
			}
			verifier := mustNew(t, config)
			err := verifier.Ready(t.Context())
			out += printed(err) + printed(verifier.Stats()) + log.String()
			if leak := commonRun(out, bearer, 16); leak != "" {
				t.Errorf("%s: %q of the bearer comes out", name, leak)
			}
		}
	}
}

// The source and transport of a client hold a token, and don't show it.
func TestClientDoesNotLeak(t *testing.T) {
	token := kubejwttest.NewCluster(t).Mint(good())
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	source := kubejwt.TokenFile(path)
	if _, err := source.Token(); err != nil {
		t.Fatal(err)
	}
	out := printed(source) + printed(&kubejwt.Transport{Source: source, Origin: "https://data-store.prod.svc"})
	if leak := commonRun(out, token, 16); leak != "" {
		t.Errorf("%q comes out", leak)
	}
}
