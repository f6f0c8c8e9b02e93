package quote_test

import (
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
