package revocation

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	// maxObjectSize is what one object may take to pass by. etcd keeps 1.5 MiB of
	// each. As JSON that may be seven times as much, where all of it is escaped.
	maxObjectSize = 32 << 20
	// maxHeld is what may be held of it at once.
	maxHeld = 64 << 10
	// maxString is what is held of each string.
	maxString = 8 << 10
	// maxDepth is how deep the decoders of an API server go. The fields that
	// managedFields name can be nested that deep.
	maxDepth    = 10_000
	maxUID      = 128     // as the rules for tokens have it
	maxContinue = 4 << 10 // of a list's continue token
)

// An event is what a stream sends, as far as it matters here.
type event struct {
	Type   string
	Object object
}

// An object is a PartialObjectMetadata, or the Status in an event of type ERROR.
type object struct {
	Metadata struct {
		UID               string
		ResourceVersion   string
		DeletionTimestamp *time.Time
		Annotations       struct{ InitialEventsEnd string }
	}
	Code int
}

// endsList reports whether e is the bookmark that ends the initial events.
// Other bookmarks don't have the annotation.
func (e *event) endsList() bool {
	return e.Type == "BOOKMARK" && e.Object.Metadata.Annotations.InitialEventsEnd == "true"
}

// check returns an event about an object. It refuses all other events.
func (e *event) check() (uid string, deletion int64, err error) {
	switch e.Type {
	case "ADDED", "MODIFIED", "DELETED":
		return e.Object.key()
	case "ERROR":
		return "", 0, fmt.Errorf("the API server ended the stream with an error, code %d", e.Object.Code)
	default:
		return "", 0, errors.New("an event of an unknown type")
	}
}

// key returns what a view keeps of the object.
func (o *object) key() (uid string, deletion int64, err error) {
	uid = o.Metadata.UID
	if uid == "" || len(uid) > maxUID {
		return "", 0, errors.New("an object without a UID, or with one of over 128 bytes")
	}
	if at := o.Metadata.DeletionTimestamp; at != nil {
		deletion = max(1, at.Unix()) // 0 is none
	}
	return uid, deletion, nil
}

// A decoder reads JSON of any length, and holds little of it. Whoever may create pods
// can make them large, and must not be able to blind the watch that way.
type decoder struct {
	*json.Decoder
	from    io.Reader
	strings shortener
	read    int64 // by the json.Decoder
	start   int64 // of the object at hand
	room    int64 // what the object at hand may still take
}

var (
	errTooLarge = fmt.Errorf("an object of more than %d bytes, or more than %d without a string",
		maxObjectSize, maxHeld)
	errForeign = errors.New("not what an API server writes")
)

func newDecoder(from io.Reader) *decoder {
	d := &decoder{from: from, room: maxObjectSize}
	d.Decoder = json.NewDecoder(d)
	d.UseNumber()
	return d
}

// Read is for the json.Decoder, which asks for more as long as its value has not
// ended.
func (d *decoder) Read(p []byte) (int, error) {
	most := min(int64(len(p)), maxHeld-(d.read-d.InputOffset()), d.room)
	if most <= 0 {
		return 0, errTooLarge
	}
	n, err := d.from.Read(p[:most])
	kept := d.strings.shorten(p[:n])
	d.room -= int64(n)
	d.read += int64(kept)
	return kept, err
}

// next begins an object.
func (d *decoder) next() { d.start, d.room = d.InputOffset(), maxObjectSize }

// A shortener leaves of each string in JSON the first maxString bytes. No name or
// value that matters here is as long.
type shortener struct {
	inside bool // a string
	length int  // of the string
	escape int  // how many bytes of an escape sequence are to come
	cut    bool // the rest of the string is left out
}

// shorten moves what is left of text to its beginning, and returns how much it is.
func (s *shortener) shorten(text []byte) (kept int) {
	for _, b := range text {
		if s.leaves(b) {
			text[kept] = b
			kept++
		}
	}
	return kept
}

func (s *shortener) leaves(b byte) bool {
	switch {
	case !s.inside:
		*s = shortener{inside: b == '"'}
		return true
	case s.escape > 0:
		s.escape--
		if b == 'u' {
			s.escape = 4
		}
	case b == '"':
		s.inside = false
		return true
	default: // never within an escape sequence
		s.cut = s.length >= maxString
		if b == '\\' {
			s.escape = 1
		}
	}
	s.length++
	return !s.cut
}

// event reads the next event. Errors hold nothing of what came.
func (d *decoder) event() (e event, err error) {
	d.next()
	err = d.members(func(name string) error {
		switch name {
		case "type":
			return d.value(&e.Type)
		case "object":
			return d.object(&e.Object)
		default:
			return d.skip()
		}
	})
	return e, err
}

func (d *decoder) object(o *object) error {
	return d.members(func(name string) error {
		switch name {
		case "metadata":
			return d.metadata(o)
		case "code":
			return d.value(&o.Code)
		default:
			return d.skip()
		}
	})
}

func (d *decoder) metadata(o *object) error {
	m := &o.Metadata
	return d.members(func(name string) error {
		switch name {
		case "uid":
			return d.value(&m.UID)
		case "resourceVersion":
			return d.value(&m.ResourceVersion)
		case "deletionTimestamp":
			return d.value(&m.DeletionTimestamp)
		case "annotations":
			return d.members(func(name string) error {
				if name == "k8s.io/initial-events-end" {
					return d.value(&m.Annotations.InitialEventsEnd)
				}
				return d.skip()
			})
		default:
			return d.skip()
		}
	})
}

// members passes the name of each member to take, which has to read its value.
// null has none.
func (d *decoder) members(take func(name string) error) error {
	start, err := d.Token()
	if start == nil { // null, or an error
		return d.plain(err)
	}
	if start != json.Delim('{') {
		return errForeign
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return d.plain(err)
		}
		if err := take(name.(string)); err != nil {
			return err
		}
	}
	return d.end()
}

// skip reads a value of any kind and drops it.
func (d *decoder) skip() error {
	for depth := 0; depth < maxDepth; {
		token, err := d.Token()
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if err != nil || depth == 0 {
			return d.plain(err)
		}
	}
	return errForeign
}

// value decodes a value without members.
func (d *decoder) value(into any) error { return d.plain(d.Decode(into)) }

// plain replaces the errors of encoding/json, which quote what they read,
// and of net/http, which may.
func (d *decoder) plain(err error) error {
	_, isSyntax := errors.AsType[*json.SyntaxError](err)
	_, isType := errors.AsType[*json.UnmarshalTypeError](err)
	_, isTime := errors.AsType[*time.ParseError](err)
	switch {
	case err == nil, errors.Is(err, errTooLarge):
		return err
	case isSyntax, isType, isTime:
		return errForeign
	case errors.Is(err, io.EOF) && d.InputOffset() == d.start:
		return errors.New("the API server ended the stream")
	default:
		return errors.New("the stream broke off")
	}
}

// readList passes the objects of a list to put, one by one, and returns what its
// metadata says.
func readList(from io.Reader, put func(*object) error) (resourceVersion, next string, err error) {
	d := newDecoder(from)
	err = d.members(func(name string) error {
		switch name {
		case "metadata":
			return d.members(func(name string) error {
				switch name {
				case "resourceVersion":
					return d.value(&resourceVersion)
				case "continue":
					return d.value(&next)
				default:
					return d.skip()
				}
			})
		case "items":
			return d.items(put)
		default:
			return d.skip()
		}
	})
	if err != nil {
		return "", "", err
	}
	if resourceVersion == "" || len(resourceVersion) > maxUID || len(next) > maxContinue {
		return "", "", errors.New("a list without a resource version, or with one that is too long")
	}
	return resourceVersion, next, nil
}

func (d *decoder) items(put func(*object) error) error {
	start, err := d.Token()
	if start == nil { // null: no items, or an error
		return d.plain(err)
	}
	if start != json.Delim('[') {
		return errors.New("items that are no array")
	}
	for d.More() {
		d.next()
		var item object
		if err := d.object(&item); err != nil {
			return err
		}
		if err := put(&item); err != nil {
			return err
		}
	}
	return d.end()
}

// end reads the end of an object or an array. encoding/json allows no other there.
func (d *decoder) end() error {
	_, err := d.Token()
	return d.plain(err)
}
