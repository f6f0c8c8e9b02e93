package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/kubejwt/kubejwt/internal/jws"
	"github.com/kubejwt/kubejwt/internal/quote"
	"github.com/kubejwt/kubejwt/internal/strictjson"
)

// A claimed is what a token says about itself. Its signature is not checked, so it is
// only shown, and never decides anything.
type claimed struct{ header, payload part }

// part is a segment of a token, decoded. Only a JSON object is ever shown: the
// rest may be a signature, an encoded token or a password.
type part struct {
	object []byte // the JSON object, nil if it is none
	is     string // what it is, if it is no JSON object
}

// members are the leaves of the object.
func (p part) members() []member { return flatten(nil, path{}, p.object, 0) }

// get returns the text of a member, "" if there is none.
func (p part) get(name string) string {
	for _, m := range p.members() {
		if m.name == name {
			return m.text
		}
	}
	return ""
}

// member is a leaf of a JSON object. Text is its value if it is a string, and its JSON
// otherwise.
type member struct {
	path
	text     string
	isString bool
}

// path says where a member is in a JSON object: the names on the way to it,
// joined by dots. A name that could pass for several is quoted, so that each
// place has a path of its own.
type path struct {
	name  string
	shown string // name, fit for a terminal
}

func (p path) in(key string) path {
	name, shown := key, bare(key)
	isTop := p.name == ""
	isPlain := key != "" && !strings.ContainsAny(key, `.["`) && !(isTop && key == "kubernetes")
	if !isPlain && !(isTop && key == "kubernetes.io") {
		name, shown = strconv.Quote(key), quoted(key)
	}
	if isTop {
		return path{name, shown}
	}
	return path{p.name + "." + name, p.shown + "." + shown}
}

func (p path) at(index string) path {
	return path{p.name + "[" + index + "]", p.shown + "[" + index + "]"}
}

// readClaimed reads as much as can be read of a token that may be anything. It
// has a decoder of its own, because readers want to see a header that package jws
// refuses.
func readClaimed(token string) claimed {
	if len(token) > jws.MaxSize {
		return claimed{part{is: "too large to be looked at"}, part{is: "too large to be looked at"}}
	}
	segments := strings.Split(token, ".")
	if len(segments) == 1 {
		only := readPart(segments[0])
		if only.get("alg") != "" {
			return claimed{only, part{is: "missing"}}
		}
		return claimed{part{is: "missing"}, only}
	}
	return claimed{readPart(segments[0]), readPart(segments[1])}
}

func readPart(segment string) part {
	data, err := base64.RawURLEncoding.DecodeString(segment)
	var object map[string]json.RawMessage
	switch {
	case segment == "":
		return part{is: "empty"}
	case err != nil:
		return part{is: fmt.Sprintf("not base64url, %d bytes", len(segment))}
	case strictjson.Unmarshal(data, &object) == nil:
		return part{object: data}
	default:
		return part{is: looksLike(data)}
	}
}

// looksLike describes bytes and quotes none of them.
func looksLike(data []byte) string {
	size := fmt.Sprintf(", %d bytes", len(data))
	text := strings.TrimSpace(string(data))
	switch {
	case quote.HoldsToken(text):
		return "another token" + size
	case strings.HasPrefix(text, "{"):
		return "a damaged JSON object, or one that has a name twice" + size
	case json.Valid(data):
		return "JSON, and not an object" + size
	case strings.HasPrefix(text, "-----BEGIN"):
		return "PEM" + size
	case utf8.Valid(data) && strings.IndexFunc(text, unicode.IsControl) < 0:
		return "text, and not a JSON object" + size
	default:
		return "binary, perhaps a signature" + size
	}
}

// Limits on what is shown of a payload.
const (
	maxDepth    = 8  // a token of Kubernetes has 3
	maxElements = 10 // of an array
)

// flatten appends the leaves of a JSON object or array.
func flatten(to []member, at path, data []byte, depth int) []member {
	if depth == maxDepth || len(data) == 0 {
		return to
	}
	switch data[0] {
	case '{':
		var object map[string]json.RawMessage
		if strictjson.Unmarshal(data, &object) != nil {
			return to
		}
		for _, key := range slices.Sorted(maps.Keys(object)) {
			to = flatten(to, at.in(key), object[key], depth+1)
		}
		return to
	case '[':
		var array []json.RawMessage
		if strictjson.Unmarshal(data, &array) != nil {
			return to
		}
		for i, value := range array {
			if i == maxElements {
				return append(to, member{at.at("..."), strconv.Itoa(len(array)-i) + " more", false})
			}
			to = flatten(to, at.at(strconv.Itoa(i)), value, depth+1)
		}
		return to
	case '"':
		var text string
		if strictjson.Unmarshal(data, &text) != nil {
			return to
		}
		return append(to, member{at, text, true})
	default:
		return append(to, member{at, string(data), false})
	}
}

// show returns m's value in a form that is safe on a terminal. For a time it adds the
// date.
func (m member) show(now time.Time) string {
	if m.isString {
		return quoted(m.text)
	}
	if when, ok := m.date(); ok {
		return showDate(when, now) + " (" + bare(m.text) + ")"
	}
	return bare(m.text)
}

// date returns the time that m holds, if it is one of the members that hold a time.
func (m member) date() (time.Time, bool) {
	switch m.name {
	case "exp", "iat", "nbf", "kubernetes.io.warnafter":
		if !m.isString {
			return parseDate(m.text)
		}
	}
	return time.Time{}, false
}

// showName returns m's path. It comes from the token, so it is cut too.
func (m member) showName() string {
	if len(m.shown) > maxQuoted {
		return m.shown[:maxQuoted] + "..."
	}
	return m.shown
}

// maxDate is the last second of the year 9999.
const maxDate = 253402300799

// parseDate reads a NumericDate up to the year 9999.
func parseDate(text string) (time.Time, bool) {
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds < 0 || seconds > maxDate {
		return time.Time{}, false
	}
	return time.Unix(seconds, 0).UTC(), true
}

// showDate formats a time, and says how far it is from now.
func showDate(when, now time.Time) string {
	return when.UTC().Format(time.RFC3339) + ", " + fromNow(when.Unix()-now.Unix())
}

func fromNow(seconds int64) string {
	if seconds == 0 {
		return "now"
	}
	if seconds < 0 {
		return showSeconds(-seconds) + " ago"
	}
	return "in " + showSeconds(seconds)
}

// showSeconds formats a time span in the unit that fits.
func showSeconds(seconds int64) string {
	const minute, hour, day = 60, 3600, 86400
	switch {
	case seconds >= 2*day:
		return strconv.FormatInt(seconds/day, 10) + " d"
	case seconds >= 2*hour:
		return strconv.FormatInt(seconds/hour, 10) + " h"
	case seconds >= 2*minute:
		return strconv.FormatInt(seconds/minute, 10) + " min"
	default:
		return strconv.FormatInt(seconds, 10) + " s"
	}
}
