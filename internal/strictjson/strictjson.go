// Package strictjson decodes JSON that somebody else wrote, so that no two readers
// can disagree about it. Member names are case-sensitive, duplicate names and invalid
// UTF-8 are refused at every depth, and nothing may follow the value. It is the only
// package that imports the reference implementation of encoding/json/v2. It can be
// removed when that is stable in Go.
package strictjson

import (
	"bytes"
	"errors"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// A Decoder is what a type's UnmarshalJSONFrom method reads from. It is as strict as
// the call that it is part of.
type Decoder = jsontext.Decoder

// Decode decodes the next value of from into v.
func Decode(from *Decoder, v any) error { return json.UnmarshalDecode(from, v) }

// Unmarshal decodes data into v and ignores members that v has no field for.
// A null at the top is an error: it would leave v unchanged.
//
// The error names the member whose type is wrong, if v has a field for it. It shows
// nothing else of data, so it may be logged.
func Unmarshal(data []byte, v any) error {
	return unmarshal(data, v)
}

// UnmarshalClosed is Unmarshal, except that a member that v has no field for is an
// error.
func UnmarshalClosed(data []byte, v any) error {
	return unmarshal(data, v, json.RejectUnknownMembers(true))
}

func unmarshal(data []byte, v any, opts ...json.Options) error {
	if string(bytes.Trim(data, " \t\r\n")) == "null" {
		return errors.New("null instead of a value")
	}
	err := json.Unmarshal(data, v, opts...)
	if err == nil {
		return nil
	}
	// The decoder's own text quotes what it read, so none of it is passed on.
	semantic, ok := errors.AsType[*json.SemanticError](err)
	switch {
	case !ok:
		return errors.New("not strict JSON (RFC 8259 grammar, UTF-8, no name twice in an object)")
	case errors.Is(err, json.ErrUnknownName):
		return errors.New("a member that does not belong there")
	case semantic.JSONPointer == "":
		return errors.New("a JSON value of the wrong type")
	default:
		// Only a name that v has a field for gets here: unknown ones are
		// skipped, or were reported just above.
		return &TypeError{Member: string(semantic.JSONPointer)}
	}
}

// A TypeError says which known member has a value of the wrong JSON type.
type TypeError struct {
	Member string // a JSON pointer (RFC 6901), for instance /kubernetes.io/pod
}

func (e *TypeError) Error() string {
	return "the member " + e.Member + " has a value of the wrong type or out of range"
}
