package jws

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	josejson "github.com/go-jose/go-jose/v4/json"
)

// seeds are the tokens of the attack corpus.
func seeds(f *testing.F) []string {
	paths, err := filepath.Glob("../../testdata/vectors/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	var tokens []string
	for _, path := range paths {
		name := filepath.Base(path)
		if strings.HasPrefix(name, "jwks_") || strings.HasPrefix(name, "discovery_") {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		_, token, _ := strings.Cut(string(data), "\n\n")
		token = strings.TrimSuffix(token, "\n")
		if unquoted, err := strconv.Unquote(token); err == nil {
			token = unquoted
		}
		tokens = append(tokens, token)
	}
	if len(tokens) == 0 {
		f.Fatal("no seeds in testdata/vectors")
	}
	return tokens
}

// What Split accepts is what encoding its parts again gives: a token has one
// spelling.
func FuzzSplit(f *testing.F) {
	for _, token := range seeds(f) {
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		c, err := Split(token)
		if err != nil {
			if c.header != nil || c.payload != nil || c.signature != nil || c.signed != "" {
				t.Errorf("parts beside the error %v", err)
			}
			return
		}
		encode := base64.RawURLEncoding.EncodeToString
		signed := encode(c.header) + "." + encode(c.payload)
		if signed != string(c.signed) || signed+"."+encode(c.signature) != token || len(token) > MaxSize {
			t.Errorf("%q is accepted, and encodes to %s.%s", token, signed, encode(c.signature))
		}
	})
}

// A header that is accepted has the members that two other readers find in it,
// and no others.
func FuzzHeader(f *testing.F) {
	for _, token := range seeds(f) {
		if c, err := Split(token); err == nil {
			f.Add(c.header)
		}
	}
	readers := map[string]func([]byte, any) error{"encoding/json": json.Unmarshal, "go-jose": josejson.Unmarshal}
	f.Fuzz(func(t *testing.T, data []byte) {
		header, err := Compact{header: data}.ParseHeader()
		if err != nil {
			if header != (Header{}) {
				t.Errorf("a header beside the error %v", err)
			}
			return
		}
		for name, unmarshal := range readers {
			var members map[string]any
			if err := unmarshal(data, &members); err != nil {
				t.Fatalf("%q is accepted, and %s says: %v", data, name, err)
			}
			kid, hasKid := members["kid"]
			if members["alg"] != header.Algorithm || hasKid != (header.KeyID != "") || hasKid && kid != header.KeyID {
				t.Errorf("%q is read as %+v, and by %s as %v", data, header, name, members)
			}
			typ, hasType := members["typ"]
			delete(members, "alg")
			delete(members, "kid")
			delete(members, "typ")
			if hasType && typ != "JWT" || len(members) != 0 {
				t.Errorf("%q is accepted, in which %s finds %v", data, name, members)
			}
		}
	})
}
