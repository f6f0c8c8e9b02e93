package main

import (
	"encoding/base64"
	"encoding/hex"
	"regexp"
	"strings"

	"github.com/kubejwt/kubejwt/internal/quote"
)

// echoes finds what a service repeats of the token that it was sent. Services
// that help with debugging show a token in parts, and a signature alone is as
// secret as the whole.
type echoes struct {
	pieces  map[string]bool // of echoSize bytes, of the token and of its decoded signature
	letters *regexp.Regexp  // a word of base64
}

const (
	echoSize  = 12 // bytes that no other text has in common with a token
	echoDepth = 3  // times that a text is decoded
)

func newEchoes(token string) echoes {
	e := echoes{make(map[string]bool), regexp.MustCompile(`[A-Za-z0-9+/]{16,}`)}
	e.add(inStdAlphabet(token))
	_, signature, _ := strings.Cut(token, ".")
	_, signature, _ = strings.Cut(signature, ".")
	e.add(decode64(signature))
	return e
}

func (e echoes) add(text string) {
	for i := 0; i+echoSize <= len(text); i++ {
		e.pieces[text[i:i+echoSize]] = true
	}
}

// withhold returns text without the words that have a piece of the token, as
// it is or encoded, or that look like another token.
func (e echoes) withhold(text string) string {
	words := regexp.MustCompile(`[A-Za-z0-9_.+/-]{12,}`)
	return words.ReplaceAllStringFunc(text, func(word string) string {
		if quote.HoldsToken(word) || e.isIn(word, echoDepth) {
			return withheld
		}
		return word
	})
}

// isIn reports whether text has a piece of the token, decoded up to depth times.
func (e echoes) isIn(text string, depth int) bool {
	text = inStdAlphabet(text)
	for i := 0; i+echoSize <= len(text); i++ {
		if e.pieces[text[i:i+echoSize]] {
			return true
		}
	}
	if depth == 0 {
		return false
	}
	digits := text[:len(text)/2*2]
	if data, err := hex.DecodeString(digits); err == nil && e.isIn(string(data), depth-1) {
		return true
	}
	for _, word := range e.letters.FindAllString(text, -1) {
		for start := range 4 { // a word may begin in the middle of a group of four
			group := word[start:]
			data, err := base64.RawStdEncoding.DecodeString(group[:len(group)/4*4])
			if err == nil && e.isIn(string(data), depth-1) {
				return true
			}
		}
	}
	return false
}

// inStdAlphabet writes base64url in the letters of plain base64.
func inStdAlphabet(text string) string { return strings.NewReplacer("-", "+", "_", "/").Replace(text) }
