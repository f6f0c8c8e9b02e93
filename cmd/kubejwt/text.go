package main

import (
	"context"
	"io"
	"strings"

	"github.com/kubejwt/kubejwt/internal/quote"
)

// maxQuoted bounds how much of a foreign value is shown.
const maxQuoted = 160

const withheld = "(withheld: it looks like a token)"

// withhold keeps a token that was given in the wrong place out of a message.
func withhold(text string) string {
	if quote.HoldsToken(text) {
		return "a value looks like a token, which is not what was expected there"
	}
	return text
}

// quoted makes a foreign value fit for a terminal: bounded, no escape
// sequences, no letters that look like others, no token.
func quoted(s string) string { return quote.UpTo(maxQuoted, s) }

func quotedOrNone(s string) string {
	if s == "" {
		return "none"
	}
	return quoted(s)
}

// bare is quoted without the quotes where nothing in s asks for them.
func bare(s string) string {
	q := quoted(s)
	if q != `"`+s+`"` || s == "" || strings.Contains(s, " ") {
		return q
	}
	return s
}

// interruptible calls read, which may wait for a person or for the other end of
// a pipe, and gives up when ctx ends: the command does then, and with it read.
func interruptible(ctx context.Context, read func() ([]byte, error)) ([]byte, error) {
	type result struct {
		data []byte
		err  error
	}
	results := make(chan result, 1)
	go func() {
		data, err := read()
		results <- result{data, err}
	}()
	select {
	case r := <-results:
		return r.data, r.err
	case <-ctx.Done():
		return nil, errInterrupted
	}
}

// readAtMost reads a stream, and no more of it than fits.
func readAtMost(r io.Reader, size int64) ([]byte, error) {
	return io.ReadAll(io.LimitReader(r, size))
}
