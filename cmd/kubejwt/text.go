package main

import (
	"io"
	"regexp"
	"strings"

	"github.com/kubejwt/kubejwt/internal/quote"
)

// maxQuoted bounds how much of a foreign value is shown.
const maxQuoted = 160

const withheld = "(withheld: it looks like a token)"

// withhold keeps a token that was given in the wrong place out of a message.
func withhold(text string) string {
	if looksLikeToken(text) {
		return "a value looks like a token, which is not what was expected there"
	}
	return text
}

// looksLikeToken reports whether s holds the start of a JWT's header or
// payload, or of one in base64 once or twice. Package quote asks this of values
// that a stranger wrote, and withholds too much rather than too little. What
// is asked here are the user's own words: a file may be called keyJobs.
func looksLikeToken(s string) bool { return tokenStart().MatchString(s) }

func tokenStart() *regexp.Regexp {
	return regexp.MustCompile(`(^|[^A-Za-z0-9])eyJ|(eyJ|ZXlK|WlhsS)[A-Za-z0-9_-]{10}`)
}

// quoted makes a foreign value fit for a terminal: bounded, no escape
// sequences, no letters that look like others, no token.
func quoted(s string) string {
	if looksLikeToken(s) {
		return withheld
	}
	return quote.UpTo(maxQuoted, s)
}

func quotedOrNone(s string) string {
	if s == "" {
		return "none"
	}
	return quoted(s)
}

// bare is quoted without the quotes where nothing in s asks for them.
func bare(s string) string {
	q := quoted(s)
	if inner := strings.TrimSuffix(strings.TrimPrefix(q, `"`), `"`); inner == s && s != "" && !strings.Contains(s, " ") {
		return s
	}
	return q
}

// readAtMost reads a stream, and no more of it than fits.
func readAtMost(r io.Reader, size int64) ([]byte, error) {
	return io.ReadAll(io.LimitReader(r, size))
}
