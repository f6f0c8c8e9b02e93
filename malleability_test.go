package kubejwt_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/kubejwt/kubejwt"
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

// isSlow tells the curves whose signatures take a millisecond to check.
func isSlow(alg string) bool { return alg == "es384" || alg == "es512" }

// isSampledOut leaves three of four changes of the slower curves to -long.
func isSampledOut(alg string, change int) bool {
	return isSlow(alg) && !*kubejwt.Long && change%4 != 0
}

// Any bit of the text, and any bit of what it decodes to: one by one for RSA,
// one of each byte for the curves, which take longer. Without -long, of the
// slower curves every fourth byte.
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
					if alg != "rs256" && i%8 != i/8%8 || isSampledOut(alg, i/8) {
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
// slower curves get one in four, and without -long one in 16.
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
					if isSlow(alg) && n%4 != 0 || isSampledOut(alg, n/4) {
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

// No character of a token can be changed: at every place another one is tried,
// and with -long every other one, except for the slower curves. Without it they
// get a fourth of the places.
func TestEveryCharacterCounts(t *testing.T) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for alg, r := range recordings(t) {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			v := mustNew(t, r.config(kubejwt.KeyFile(r.folder+"/sa.pub")))
			token := r.token(t, "pod_bound")
			if _, err := v.Verify(t.Context(), token); err != nil {
				t.Fatal(err)
			}
			others := alphabet
			for i := range len(token) {
				if isSampledOut(alg, i) {
					continue
				}
				if isSlow(alg) || !*kubejwt.Long {
					at := (strings.IndexByte(alphabet, token[i]) + 1) % len(alphabet)
					others = alphabet[at : at+1]
				}
				for j := range len(others) {
					if others[j] == token[i] {
						continue
					}
					changed := token[:i] + others[j:j+1] + token[i+1:]
					claims, err := v.Verify(t.Context(), changed)
					if reasonOf(err) == "" || claims != (kubejwt.Claims{}) {
						t.Fatalf("%q for %q at %d: %v", others[j], token[i], i, err)
					}
					if leak := commonRun(err.Error(), changed, 16); leak != "" {
						t.Fatalf("the error %q has %q of the token", err, leak)
					}
				}
			}
			for n := range len(token) {
				if _, err := v.Verify(t.Context(), token[:n]); err == nil {
					t.Fatalf("accepted when cut after %d characters", n)
				}
			}
		})
	}
}
