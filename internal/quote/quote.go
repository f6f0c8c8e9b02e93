// Package quote makes unverified values safe for an error, a log and a terminal:
// printable ASCII, of limited length, without a token.
package quote

import (
	"fmt"
	"strconv"
	"strings"
)

// maxBytes is how much of an iss, aud or kid is shown.
const maxBytes = 80

// maxListed is how many values of a list are shown.
const maxListed = 4

// Value quotes s to at most 80 bytes.
func Value(s string) string { return UpTo(maxBytes, s) }

// UpTo quotes s to at most this many bytes. It withholds s if it may hold a token.
func UpTo(most int, s string) string {
	if HoldsToken(s) {
		return "(withheld: it looks like a token)"
	}
	// Each byte takes at least one byte when quoted, so the rest is not needed.
	q := strconv.QuoteToASCII(s[:min(len(s), most)])
	if len(q) > most {
		return q[:most-len(`..."`)] + `..."`
	}
	return q
}

// Text is for the text of an error that may quote a stranger. It is s itself, or its
// start, if that is printable ASCII, and otherwise UpTo.
func Text(most int, s string) string {
	start := s[:min(len(s), most)]
	if HoldsToken(s) || strings.ContainsFunc(start, func(r rune) bool { return r < ' ' || r > '~' }) {
		return UpTo(most, s)
	}
	return start
}

// Word is Value, except that a plain word stays as it is, so that a search for an ID
// finds it in a log.
func Word(s string) string {
	if q := Value(s); q != `"`+s+`"` || strings.ContainsAny(s, " =") {
		return q
	}
	return s
}

// List quotes the first values of a list, and counts the others.
func List(list []string) string {
	var quoted []string
	for _, s := range list[:min(len(list), maxListed)] {
		quoted = append(quoted, Value(s))
	}
	text := strings.Join(quoted, ", ")
	switch {
	case len(list) == 0:
		return "none"
	case len(list) > maxListed:
		return fmt.Sprintf("%s and %d more", text, len(list)-maxListed)
	default:
		return text
	}
}

// jsonObject is {" in base64url. Each header and payload begins with it.
const jsonObject = "eyJ"

// maxID is the length of a SHA-256 in base64url, which is how Kubernetes writes key
// IDs. A whole token is longer, and so is even the shortest signature.
const maxID = 43

// HoldsToken reports whether there may be a JWT or a part of one anywhere in s, as it
// is or encoded in base64 once or twice. If in doubt, it returns true. If a word is no
// longer than an ID and has the first letters of a token only somewhere in its middle,
// that is chance: one in 6500 key IDs has them.
func HoldsToken(s string) bool {
	if !hasStart(s) {
		return false
	}
	for word := range strings.FieldsFuncSeq(s, isNoTokenLetter) {
		if BeginsToken(word) || strings.Contains(word, "."+jsonObject) || len(word) > maxID && hasStart(word) {
			return true
		}
	}
	return false
}

// HoldsPiece reports whether text holds this token or 16 characters of it in a row. The
// time it takes grows with the length of text times that of token.
func HoldsPiece(text, token string) bool {
	size := min(len(token), 16)
	for i := 0; size > 0 && i+size <= len(token); i++ {
		if strings.Contains(text, token[i:i+size]) {
			return true
		}
	}
	return false
}

// hasStart reports whether s has a jsonObject, or one in base64 once or twice. Base64
// of it has these letters in it, after a multiple of three bytes, one byte more and two
// more.
func hasStart(s string) bool {
	for _, start := range [...]string{
		jsonObject,
		"ZXlK", "V5S", "leU",
		"WlhsS", "pYbE", "aWGxL", "VjVT", "Y1U", "WNV", "bGVV", "xlV", "sZV",
	} {
		if strings.Contains(s, start) {
			return true
		}
	}
	return false
}

func isNoTokenLetter(r rune) bool {
	isLetter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
	return !isLetter && r != '-' && r != '_' && r != '.'
}

// BeginsToken reports whether s begins as a JWT does.
func BeginsToken(s string) bool { return strings.HasPrefix(s, jsonObject) }
