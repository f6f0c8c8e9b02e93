// Package quote makes values that nobody has verified fit for an error text, a
// log and a terminal: printable ASCII, bounded in length, without a token.
package quote

import (
	"fmt"
	"strconv"
	"strings"
)

// maxBytes is how much of an iss, aud or kid tells enough.
const maxBytes = 80

// maxListed is how many values of a list tell enough.
const maxListed = 4

// Value quotes s to at most 80 bytes.
func Value(s string) string { return UpTo(maxBytes, s) }

// UpTo quotes s to at most this many bytes, and withholds what may be a token.
func UpTo(most int, s string) string {
	if HoldsToken(s) {
		return "(withheld: it looks like a token)"
	}
	// Every byte takes at least one when quoted: no need to quote a megabyte.
	q := strconv.QuoteToASCII(s[:min(len(s), most)])
	if len(q) > most {
		return q[:most-len(`..."`)] + `..."`
	}
	return q
}

// Word is Value for a log, in which a search for an ID should find it: a plain
// word stays as it is.
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

// jsonObject is how {" begins in base64url, and so each header and payload.
const jsonObject = "eyJ"

// maxID is the length of a SHA-256 in base64url, as which Kubernetes writes key
// IDs. A whole token is longer, and so is a signature, even the shortest.
const maxID = 43

// HoldsToken reports whether there may be a JWT or a part of one anywhere in s,
// as it is or in base64 once or twice. It errs on the side of yes. A word that
// is no longer than an ID, and only has the letters of a token's start somewhere
// in its middle, has them by chance: one in 6500 key IDs has.
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

// hasStart reports whether s has a jsonObject, or one in base64 once or twice.
func hasStart(s string) bool {
	return strings.Contains(s, jsonObject) || strings.Contains(s, "ZXlK") || strings.Contains(s, "WlhsS")
}

func isNoTokenLetter(r rune) bool {
	isLetter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
	return !isLetter && r != '-' && r != '_' && r != '.'
}

// BeginsToken reports whether s begins as a JWT does.
func BeginsToken(s string) bool { return strings.HasPrefix(s, jsonObject) }
