package main

import "testing"

// The committed corpus is what the committed generator writes.
func TestCorpusIsGenerated(t *testing.T) {
	if err := run("../../testdata/vectors", true); err != nil {
		t.Error(err)
	}
}
