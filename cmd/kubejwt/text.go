package main

import (
	"context"
	"io"
	"strings"

	"github.com/kubejwt/kubejwt/internal/quote"
)

// maxQuoted is how many bytes of a foreign value are shown at most.
const maxQuoted = 160

const withheld = "(withheld: it looks like a token)"

// maxMessage is the size of the longest message, whatever path or URL is in it.
const maxMessage = 2000

// withhold removes a token that was given in the wrong place from a message, and
// shortens the message.
func withhold(text string) string {
	if quote.HoldsToken(text) {
		return "a value looks like a token, which is not what was expected there"
	}
	return shorten(text)
}

func shorten(text string) string {
	if len(text) > maxMessage {
		return text[:maxMessage] + "..."
	}
	return text
}

// quoted makes a foreign value safe for a terminal: it is cut, and has no escape
// sequences, no letters that look like others, and no token.
func quoted(s string) string { return quote.UpTo(maxQuoted, s) }

func quotedOrNone(s string) string {
	if s == "" {
		return "none"
	}
	return quoted(s)
}

// bare is quoted, without the quotes if s doesn't need them.
func bare(s string) string {
	q := quoted(s)
	if q != `"`+s+`"` || s == "" || strings.Contains(s, " ") {
		return q
	}
	return s
}

// interruptible calls read, which may wait for a person or for the other end of a pipe.
// It gives up when ctx ends. The command ends then, and read with it.
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

// readAtMost reads a stream up to a limit.
func readAtMost(r io.Reader, size int64) ([]byte, error) {
	return io.ReadAll(io.LimitReader(r, size))
}
