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

// HoldsToken reports whether there may be a JWT anywhere in s. It errs on the
// side of yes.
func HoldsToken(s string) bool { return strings.Contains(s, jsonObject) }

// BeginsToken reports whether s begins as a JWT does.
func BeginsToken(s string) bool { return strings.HasPrefix(s, jsonObject) }
