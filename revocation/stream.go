package revocation

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	maxObjectSize = 1 << 20
	maxUID        = 128     // as the rules for tokens have it
	maxContinue   = 4 << 10 // of a list's continue token
)

// An event is what a stream says, as far as it matters here.
type event struct {
	Type   string `json:"type"`
	Object object `json:"object"`
}

// An object is a PartialObjectMetadata, or the Status in an event of type ERROR.
type object struct {
	Metadata struct {
		UID               string     `json:"uid"`
		ResourceVersion   string     `json:"resourceVersion"`
		DeletionTimestamp *time.Time `json:"deletionTimestamp"`
		Annotations       struct {
			InitialEventsEnd string `json:"k8s.io/initial-events-end"`
		} `json:"annotations"`
	} `json:"metadata"`
	Code int `json:"code"`
}

// endsList reports whether e is the bookmark that ends the initial events.
// Other bookmarks don't have the annotation.
func (e *event) endsList() bool {
	return e.Type == "BOOKMARK" && e.Object.Metadata.Annotations.InitialEventsEnd == "true"
}

// check returns what an event tells about an object. It refuses all other events.
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
		deletion = at.Unix()
	}
	return uid, deletion, nil
}

// A decoder reads JSON values one after the other. It holds at most two objects'
// size of the stream at a time.
type decoder struct {
	*json.Decoder
	from io.Reader
	read int64
}

var errTooLarge = fmt.Errorf("an object of more than %d bytes", maxObjectSize)

func newDecoder(from io.Reader) *decoder {
	d := &decoder{from: from}
	d.Decoder = json.NewDecoder(d)
	return d
}

// Read is for the json.Decoder, which asks for more as long as its value has not
// ended.
func (d *decoder) Read(p []byte) (int, error) {
	room := maxObjectSize - (d.read - d.InputOffset())
	if room <= 0 {
		return 0, errTooLarge
	}
	n, err := d.from.Read(p[:min(int64(len(p)), room)])
	d.read += int64(n)
	return n, err
}

// next decodes the next value. Errors hold nothing of what came.
func (d *decoder) next(into any) error {
	return plainError(d.Decode(into))
}

// plainError replaces the errors of encoding/json, which quote what they read,
// and of net/http, which may.
func plainError(err error) error {
	_, isSyntax := errors.AsType[*json.SyntaxError](err)
	_, isType := errors.AsType[*json.UnmarshalTypeError](err)
	_, isTime := errors.AsType[*time.ParseError](err)
	switch {
	case err == nil, errors.Is(err, errTooLarge):
		return err
	case isSyntax, isType, isTime:
		return errors.New("not what an API server writes")
	case errors.Is(err, io.EOF):
		return errors.New("the API server ended the stream")
	default:
		return errors.New("the stream broke off")
	}
}

// readList passes the objects of a list to put, one by one, and returns what its
// metadata says.
func readList(from io.Reader, put func(*object) error) (resourceVersion, next string, err error) {
	d := newDecoder(from)
	if err := d.delim('{'); err != nil {
		return "", "", err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return "", "", plainError(err)
		}
		switch name {
		case "metadata":
			var metadata struct {
				ResourceVersion string `json:"resourceVersion"`
				Continue        string `json:"continue"`
			}
			err = d.next(&metadata)
			resourceVersion, next = metadata.ResourceVersion, metadata.Continue
		case "items":
			err = d.readItems(put)
		default:
			var ignored json.RawMessage
			err = d.next(&ignored)
		}
		if err != nil {
			return "", "", err
		}
	}
	if err := d.delim('}'); err != nil {
		return "", "", err
	}
	if resourceVersion == "" || len(resourceVersion) > maxUID || len(next) > maxContinue {
		return "", "", errors.New("a list without a resource version, or with one that is too long")
	}
	return resourceVersion, next, nil
}

func (d *decoder) readItems(put func(*object) error) error {
	start, err := d.Token()
	if err != nil || start == nil { // null: no items
		return plainError(err)
	}
	if start != json.Delim('[') {
		return errors.New("items that are no array")
	}
	for d.More() {
		var item object
		if err := d.next(&item); err != nil {
			return err
		}
		if err := put(&item); err != nil {
			return err
		}
	}
	return d.delim(']')
}

func (d *decoder) delim(want json.Delim) error {
	got, err := d.Token()
	if err != nil {
		return plainError(err)
	}
	if got != want {
		return errors.New("not a list as an API server writes it")
	}
	return nil
}
