package quote_test

import (
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
	"testing"

	"github.com/kubejwt/kubejwt/internal/quote"
)

func TestValue(t *testing.T) {
	tests := []struct{ name, value, want string }{
		{"plain", "https://issuer.example", `"https://issuer.example"`},
		{"empty", "", `""`},
		{"terminal escape", "\x1b[2J", `"\x1b[2J"`},
		{"C1 control", "\u009b2J", `"\u009b2J"`},
		{"bidi mark", "a\u202eb", `"a\u202eb"`},
		{"invalid UTF-8", "a\xffb", `"a\xffb"`},
		{"quotation mark", `a"b`, `"a\"b"`},
		{"78 bytes fit", strings.Repeat("a", 78), `"` + strings.Repeat("a", 78) + `"`},
		{"79 do not", strings.Repeat("a", 79), `"` + strings.Repeat("a", 75) + `..."`},
		{"a token", "eyJhbGciOiJSUzI1NiJ9.e30.AA", "(withheld: it looks like a token)"},
		{"a token inside", "my eyJhbGciOiJSUzI1NiJ9.e30.AA", "(withheld: it looks like a token)"},
	}
	for _, tt := range tests {
		if got := quote.Value(tt.value); got != tt.want {
			t.Errorf("%s: Value(%q) = %s: want %s", tt.name, tt.value, got, tt.want)
		}
	}
}

func TestWord(t *testing.T) {
	tests := []struct{ value, want string }{
		{"OQy-8a_1", "OQy-8a_1"},
		{"a=b", `"a=b"`},
		{"a b", `"a b"`},
		{`a"b`, `"a\"b"`},
		{"\x1b[2J", `"\x1b[2J"`},
		{strings.Repeat("a", 79), `"` + strings.Repeat("a", 75) + `..."`},
	}
	for _, tt := range tests {
		if got := quote.Word(tt.value); got != tt.want {
			t.Errorf("Word(%q) = %s: want %s", tt.value, got, tt.want)
		}
	}
}

func TestText(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"plain", `open "a b": no ~`, `open "a b": no ~`},
		{"empty", "", ""},
		{"80 bytes", strings.Repeat("a", 80), strings.Repeat("a", 80)},
		{"81 bytes", strings.Repeat("a", 81), strings.Repeat("a", 80)},
		{"terminal escape", "\x1b[2J", `"\x1b[2J"`},
		{"DEL", "\x7f", `"\x7f"`},
		{"C1 control", "\u009b2J", `"\u009b2J"`},
		{"invalid UTF-8", "a\xffb", `"a\xffb"`},
		{"escape behind what is shown", strings.Repeat("a", 80) + "\n", strings.Repeat("a", 80)},
		{"a token", "see eyJhbGciOiJSUzI1NiJ9.e30.AA", "(withheld: it looks like a token)"},
		{"a token that is cut", strings.Repeat("a", 76) + " eyJhbGciOiJSUzI1NiJ9.e30.AA", "(withheld: it looks like a token)"},
	}
	for _, tt := range tests {
		if got := quote.Text(80, tt.text); got != tt.want {
			t.Errorf("%s: Text(80, %q) = %s: want %s", tt.name, tt.text, got, tt.want)
		}
	}
}

func TestList(t *testing.T) {
	tests := []struct {
		list []string
		want string
	}{
		{nil, "none"},
		{[]string{"a"}, `"a"`},
		{[]string{"a", "b", "c", "d"}, `"a", "b", "c", "d"`},
		{[]string{"a", "b", "c", "d", "e", "f"}, `"a", "b", "c", "d" and 2 more`},
	}
	for _, tt := range tests {
		if got := quote.List(tt.list); got != tt.want {
			t.Errorf("List(%q) = %s: want %s", tt.list, got, tt.want)
		}
	}
}

func TestBeginsToken(t *testing.T) {
	for s, want := range map[string]bool{"eyJh.e30.AA": true, " eyJh": false, "": false, "opaque": false} {
		if got := quote.BeginsToken(s); got != want {
			t.Errorf("BeginsToken(%q) = %t: want %t", s, got, want)
		}
	}
}

// A token is found wherever it stands and whatever stands beside it. An ID and a
// file that have the same letters in their middle are none.
func TestHoldsToken(t *testing.T) {
	const token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIn0.c2lnbmF0dXJl"
	header, payload, _ := strings.Cut(token, ".")
	payload, _, _ = strings.Cut(payload, ".")
	once := base64.StdEncoding.EncodeToString([]byte(token))
	tests := []struct {
		name, text string
		want       bool
	}{
		{"a token", token, true},
		{"after a word", "Bearer " + token, true},
		{"in quotes", `"` + token + `"`, true},
		{"escaped", "Bearer%20" + token, true},
		{"after letters", "x" + token, true},
		{"after a dot", "x." + token, true},
		{"its header", header, true},
		{"its payload", payload, true},
		{"its first letters", token[:8], true},
		{"without its first letters", token[3:], true},
		{"dots escaped", strings.ReplaceAll(token, ".", "%2E"), true},
		{"folded", token[:40] + "\n" + token[40:], true},
		{"in base64", once, true},
		{"in base64 twice", base64.StdEncoding.EncodeToString([]byte(once)), true},
		{"in base64 after a name", "token=" + once, true},
		{"a long word", strings.Repeat("a", 30) + "eyJ" + strings.Repeat("a", 11), true},
		{"a short payload after a dot", "x.eyJpc3M", true},
		{"short, after {", "{eyJhbGci", true},
		{"short, after [", "[eyJhbGci", true},
		{"short, after a colon", ":eyJhbGci", true},
		{"short, after A", "AeyJhbGci", false},
		{"long with a dot", "abceyJ" + strings.Repeat("a", 18) + "." + strings.Repeat("a", 20), true},
		{"long with _", "abceyJ" + strings.Repeat("a", 18) + "_" + strings.Repeat("a", 20), true},
		{"a key ID and a long word", "0BATSYvKqgTWxtteyJbWT1B_RRL0MF6ZHg7qAe6Mtak " + strings.Repeat("a", 50), false},
		{"a key ID", "0BATSYvKqgTWxtteyJbWT1B_RRL0MF6ZHg7qAe6Mtak", false},
		{"a key ID, at its end", "0BATSYvKqgTWxtt9mlbWT1B_RRL0MF6ZHg7qAe6MeyJ", false},
		{"a key ID, after a dash", "0BATSYvKqgTWxtt-eyJWT1B_RRL0MF6ZHg7qAe6Mtak", false},
		{"a key ID with base64", "0BATSYvKqgTWZXlKmlbWT1B_RRL0MF6ZHg7qAe6Mtak", false},
		{"a key ID in a sentence", `two keys have the kid "0BATSYvKqgTWxtteyJbWT1B_RRL0MF6ZHg7qAe6Mtak"`, false},
		{"a file", "/etc/kubejwt/keyJwks.pem", false},
		{"nothing", "", false},
	}
	for _, tt := range tests {
		if got := quote.HoldsToken(tt.text); got != tt.want {
			t.Errorf("%s: HoldsToken(%q) = %t: want %t", tt.name, tt.text, got, tt.want)
		}
	}
}

// Base64 of a token has other letters with each number of bytes in front of it, modulo
// three.
func TestHoldsTokenInBase64(t *testing.T) {
	token := "eyJhbGciOiJSUzI1NiJ9." + strings.Repeat("A", 30)
	encode := base64.RawURLEncoding.EncodeToString
	for _, front := range []string{"", "x", "xy", "xyz", "~", "~\xff", "token=", "Bearer ", `{"token":"`} {
		once := front + token
		if text := encode([]byte(once)); !quote.HoldsToken(text) {
			t.Errorf("HoldsToken(%s), base64 of %q: false: want true", text, once)
		}
		for _, again := range []string{"", "x", "xy", "~", "~\xff", "token: "} {
			twice := again + encode([]byte(once))
			if text := encode([]byte(twice)); !quote.HoldsToken(text) {
				t.Errorf("HoldsToken(%s), base64 of %q: false: want true", text, twice)
			}
		}
	}
	for _, text := range []string{"the quick brown fox jumps over the lazy dog, and over the next one", strings.Repeat("monkey", 20)} {
		if text := encode([]byte(text)); quote.HoldsToken(text) {
			t.Errorf("HoldsToken(%s): true: want false", text)
		}
	}
}

func BenchmarkHoldsToken(b *testing.B) {
	for name, text := range map[string]string{
		"an issuer":      "https://kubernetes.default.svc.cluster.local",
		"1 MB, one word": strings.Repeat("a", 1<<20),
		"1 MB, words":    strings.Repeat("ab cd ", 1<<20/6),
		"1 MB, letters":  strings.Repeat("eWZslYVp", 1<<20/8),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				quote.HoldsToken(text)
			}
		})
	}
}

func TestHoldsPiece(t *testing.T) {
	const token = "0123456789abcdefghij"
	for _, tt := range []struct {
		text, token string
		want        bool
	}{
		{"sent " + token, token, true},
		{"sent " + token[:16], token, true},
		{token[4:] + " was sent", token, true},
		{token[2:18], token, true},
		{token[:15], token, false},
		{token[5:], token, false},
		{"a short secret", "secret", true},
		{"a short secre", "secret", false},
		{"anything", "", false},
		{"", token, false},
		{"", "", false},
	} {
		if got := quote.HoldsPiece(tt.text, tt.token); got != tt.want {
			t.Errorf("HoldsPiece(%q, %q) = %t: want %t", tt.text, tt.token, got, tt.want)
		}
	}
}

// No ID that Kubernetes derives from a key is withheld, except one in 260,000
// that begins as a token does.
func TestDerivedIDs(t *testing.T) {
	withStart := 0
	for i := range 100_000 {
		sum := sha256.Sum256(strconv.AppendInt(nil, int64(i), 10))
		id := base64.RawURLEncoding.EncodeToString(sum[:])
		if strings.Contains(id, "eyJ") {
			withStart++
		}
		if got, want := quote.Word(id), id; got != want && !quote.BeginsToken(id) {
			t.Errorf("Word(%q) = %s: want it as it is", id, got)
		}
	}
	if withStart == 0 {
		t.Error("no ID has the letters of a token's start: the test shows nothing")
	}
}
