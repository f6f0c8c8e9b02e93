package jws_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/kubejwt/kubejwt/internal/jws"
	"github.com/kubejwt/kubejwt/internal/keyset"
)

const corpus = "../../testdata/vectors/"

// Each token of the attack corpus passes or falls at the rule that it names: 1
// is Split, 2 ParseHeader, and Verify is the part of 4 and 5 that is told here.
// What is accepted, or refused for what its payload says, passes them all. What
// a token without a kid is checked with is its verifier's business.
func TestVectors(t *testing.T) {
	paths, err := filepath.Glob(corpus + "*.txt")
	if err != nil {
		t.Fatal(err)
	}
	sets := make(map[string]*keyset.Set)
	judged := make(map[string]int)
	for _, path := range paths {
		head, token := readVector(t, path)
		if head["keys"] == "" {
			continue // no token
		}
		if sets[head["keys"]] == nil {
			sets[head["keys"]] = readKeys(t, head["keys"])
		}
		got := ruleOf(t, token, sets[head["keys"]])
		if got == "" {
			continue
		}
		judged[got]++
		want := head["rule"]
		switch want {
		case "1", "2", "4", "5":
		case "3": // of the payload, which is read before the signature is checked
			if got != "1" && got != "2" {
				continue
			}
		default:
			want = "none"
		}
		if got != want {
			t.Errorf("%s: falls at rule %s, want %s", filepath.Base(path), got, want)
		}
	}
	for _, rule := range []string{"none", "1", "2", "4", "5"} {
		if judged[rule] < 20 {
			t.Errorf("only %d tokens for rule %s", judged[rule], rule)
		}
	}
}

// readVector reads a file as the README of the corpus describes it.
func readVector(t *testing.T, path string) (head map[string]string, body string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines, body, _ := strings.Cut(string(data), "\n\n")
	head = make(map[string]string)
	for line := range strings.Lines(lines) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		head[name] = value
	}
	body = strings.TrimSuffix(body, "\n")
	if unquoted, err := strconv.Unquote(body); err == nil {
		body = unquoted
	}
	return head, body
}

func readKeys(t *testing.T, name string) *keyset.Set {
	t.Helper()
	data, err := os.ReadFile(corpus + "keys/" + name)
	if err != nil {
		t.Fatal(err)
	}
	parse := keyset.ParseFetched
	if filepath.Ext(name) == ".pem" {
		parse = keyset.ParseFile
	}
	set, err := parse(data)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return set
}

// ruleOf is the rule at which a token falls, "" if it has no kid.
func ruleOf(t *testing.T, token string, set *keyset.Set) string {
	t.Helper()
	c, err := jws.Split(token)
	if err != nil {
		return "1"
	}
	header, err := c.ParseHeader()
	if err != nil {
		return "2"
	}
	if header.KeyID == "" {
		return ""
	}
	key := set.Key(header.KeyID)
	if key == nil {
		return "4"
	}
	switch err := c.Verify(header, key.Key); {
	case errors.Is(err, jws.ErrUnfit):
		return "4"
	case errors.Is(err, jws.ErrSignature):
		return "5"
	case err != nil:
		t.Errorf("an error that says nothing: %v", err)
		return ""
	default:
		return "none"
	}
}
