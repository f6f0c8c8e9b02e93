package main

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kubejwt/kubejwt/internal/jws"
	"github.com/kubejwt/kubejwt/internal/strictjson"
)

// A claimed is what a token says of itself, with no signature checked: good
// for a look, and for nothing else. Names are those of the members, joined by
// dots.
type claimed struct {
	header, payload []member
}

// member is a leaf of a JSON object. Text is its string, or its JSON if it is
// none.
type member struct {
	name     string
	text     string
	isString bool
}

// readClaimed reads as much as can be read of a token that may be anything.
func readClaimed(token string) claimed {
	var c claimed
	if len(token) > jws.MaxSize {
		return c
	}
	// The header that is refused is the one worth a look, so that jws, which
	// gives out no other than a good one, is not asked.
	segment, _, _ := strings.Cut(token, ".")
	if header, err := base64.RawURLEncoding.DecodeString(segment); err == nil && len(header) <= 1<<10 {
		c.header = flatten(nil, "", header, 0)
	}
	if compact, err := jws.Split(token); err == nil {
		c.payload = flatten(nil, "", compact.UnverifiedPayload(), 0)
	}
	return c
}

// Limits on what is shown of a payload.
const (
	maxDepth    = 8  // a token of Kubernetes has 3
	maxElements = 10 // of an array
)

// flatten appends the leaves of a JSON object or array.
func flatten(to []member, name string, data []byte, depth int) []member {
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
			to = flatten(to, join(name, key), object[key], depth+1)
		}
		return to
	case '[':
		var array []json.RawMessage
		if strictjson.Unmarshal(data, &array) != nil {
			return to
		}
		for i, value := range array {
			if i == maxElements {
				return append(to, member{name + "[...]", strconv.Itoa(len(array)-i) + " more", false})
			}
			to = flatten(to, name+"["+strconv.Itoa(i)+"]", value, depth+1)
		}
		return to
	case '"':
		var text string
		if strictjson.Unmarshal(data, &text) != nil {
			return to
		}
		return append(to, member{name, text, true})
	default:
		return append(to, member{name, string(data), false})
	}
}

// join quotes a key that could pass for a path of others.
func join(name, key string) string {
	if strings.ContainsAny(key, `.["`) && key != "kubernetes.io" {
		key = strconv.Quote(key)
	}
	if name == "" {
		return key
	}
	return name + "." + key
}

// get returns the text of a member, "" if there is none.
func get(members []member, name string) string {
	for _, m := range members {
		if m.name == name {
			return m.text
		}
	}
	return ""
}

// elements returns the strings of a member that is an array, or one string.
func elements(members []member, name string) []string {
	var all []string
	for _, m := range members {
		if m.isString && (m.name == name || strings.HasPrefix(m.name, name+"[")) {
			all = append(all, m.text)
		}
	}
	return all
}

// show is m's value, fit for a terminal, and for a time what it means.
func (m member) show(now time.Time) string {
	if m.isString {
		return quote(m.text)
	}
	text := bound(m.text)
	switch m.name {
	case "exp", "iat", "nbf", "kubernetes.io.warnafter":
		if when, ok := parseDate(m.text); ok {
			return text + ", which is " + showDate(when, now)
		}
	}
	return text
}

// showName is m's name, which is the token's to choose too.
func (m member) showName() string {
	for _, r := range m.name {
		if r < '!' || r > '~' {
			return quote(m.name)
		}
	}
	return bound(m.name)
}

// parseDate reads a NumericDate up to the year 9999.
func parseDate(text string) (time.Time, bool) {
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds < 0 || seconds > 253402300799 {
		return time.Time{}, false
	}
	return time.Unix(seconds, 0).UTC(), true
}

// showDate tells a time, and how far it is from now.
func showDate(when, now time.Time) string {
	return when.UTC().Format(time.RFC3339) + ", " + fromNow(when.Unix()-now.Unix())
}

func fromNow(seconds int64) string {
	if seconds < 0 {
		return showSeconds(-seconds) + " ago"
	}
	return "in " + showSeconds(seconds)
}

// showSeconds tells a time span in the unit that fits.
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
