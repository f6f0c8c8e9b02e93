package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestDemo(t *testing.T) {
	var out bytes.Buffer
	wrong, err := demo(&out)
	if err != nil || wrong != 0 {
		t.Errorf("%d rows are wrong, %v:\n%s", wrong, err, out.String())
	}
	if rows := strings.Count(out.String(), "\nok "); rows != 8 {
		t.Errorf("%d rows: want 8\n%s", rows, out.String())
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("colours where there is no terminal")
	}
}

func TestRecorded(t *testing.T) {
	t.Chdir("../..")
	var out bytes.Buffer
	wrong, err := recorded(t.Context(), &out)
	if err != nil || wrong != 0 {
		t.Errorf("%d verdicts are not TokenReview's, %v:\n%s", wrong, err, out.String())
	}
	if rows := strings.Count(out.String(), "\nok "); rows != 22 {
		t.Errorf("%d rows: want 22\n%s", rows, out.String())
	}
}

// A row that is not as it should be is marked, and counts.
func TestBadRow(t *testing.T) {
	var out bytes.Buffer
	if newTable(&out).row("who", 401, 200, "the data") || !strings.Contains(out.String(), "BAD") {
		t.Errorf("a bad row passes:\n%s", out.String())
	}
}
