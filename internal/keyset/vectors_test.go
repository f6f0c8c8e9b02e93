package keyset

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A key set of the attack corpus has the usable keys that it names, and tells of
// those that were dropped, or it is refused.
func TestVectors(t *testing.T) {
	paths, err := filepath.Glob("../../testdata/vectors/jwks_*.txt")
	if err != nil || len(paths) < 90 {
		t.Fatalf("%d files, %v", len(paths), err)
	}
	for _, path := range paths {
		name := filepath.Base(path)
		head, data := readVector(t, path)
		set, err := ParseFetched(data)
		if head["expect"] == "failed" {
			if err == nil || set != nil {
				t.Errorf("%s: %+v, %v: want an error", name, set, err)
			}
			continue
		}
		if err != nil || head["expect"] != "usable" {
			t.Errorf("%s: %v, want it %s", name, err, head["expect"])
			continue
		}
		if want := strings.Split(head["usable"], ", "); !slices.Equal(set.IDs(), want) || len(set.Keys) != len(want) {
			t.Errorf("%s: %q, want %q", name, set.IDs(), want)
		}
		for id := range strings.SplitSeq(head["dropped"], ", ") {
			if why := set.WhyDropped(id); (why == "") != (id == "") {
				t.Errorf("%s: %q was dropped for %q", name, id, why)
			}
		}
	}
}

// readVector reads a file as the README of the corpus describes it.
func readVector(t *testing.T, path string) (head map[string]string, body []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines, text, _ := strings.Cut(string(data), "\n\n")
	head = make(map[string]string)
	for line := range strings.Lines(lines) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		head[name] = value
	}
	text = strings.TrimSuffix(text, "\n")
	if unquoted, err := strconv.Unquote(text); err == nil {
		text = unquoted
	}
	return head, []byte(text)
}
