// Package keyset has the public keys of a cluster as a value. They are parsed from
// PEM or from a JWKS, checked, and found by their IDs. The package uses no network
// and no clock.
package keyset

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/kubejwt/kubejwt/internal/jws"
	"github.com/kubejwt/kubejwt/internal/quote"
)

// Limits on a key set, wherever it comes from.
const (
	MaxSize  = 1 << 20 // bytes
	MaxKeys  = 128     // some clusters accumulate old keys
	maxKeyID = 1024    // bytes, as in a token
)

// A Key is a public key under its ID. It does not change.
type Key struct {
	jws.Key
	ID          string // the kid
	Public      crypto.PublicKey
	SPKI        []byte            // DER SubjectPublicKeyInfo
	Fingerprint [sha256.Size]byte // of SPKI
}

// NewKey copies and checks a key. If id is empty, it is derived from the key as
// Kubernetes does (keyIDFromPublicKey in k8s.io/kubernetes
// pkg/serviceaccount/jwt.go).
func NewKey(id string, public crypto.PublicKey) (*Key, error) {
	if len(id) > maxKeyID {
		return nil, fmt.Errorf("a KeyID of more than %d bytes", maxKeyID)
	}
	if _, err := jws.NewKey(public); err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, errors.New("a key that has no SubjectPublicKeyInfo")
	}
	copied, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, errors.New("a damaged key")
	}
	k := &Key{ID: id, Public: copied, SPKI: spki, Fingerprint: sha256.Sum256(spki)}
	if k.Key, err = jws.NewKey(copied); err != nil {
		return nil, err
	}
	if k.ID == "" {
		k.ID = base64.RawURLEncoding.EncodeToString(k.Fingerprint[:])
	}
	return k, nil
}

// A Set is a set of usable keys, each with its own ID. Make it with New, Parse,
// ParseFile or ParseFetched. After that it does not change.
type Set struct {
	Keys    []*Key
	Dropped []Dropped // the keys of a JWKS that are not used

	byID      map[string]*Key
	duplicate map[string]bool // IDs that more than one key had
}

// Dropped is a key that is not used.
type Dropped struct {
	ID  string // "" if there is none that can be read
	Why string
}

func newSet() *Set {
	return &Set{byID: make(map[string]*Key), duplicate: make(map[string]bool)}
}

// New returns the set of these keys. The same key twice is one key. Two keys with
// the same ID are an error, and so is a set without a key.
func New(keys ...*Key) (*Set, error) {
	set := newSet()
	for i, k := range keys {
		set.add(k)
		if set.duplicate[k.ID] {
			return nil, fmt.Errorf("key %d: another key also has the ID %s", i+1, quote.Value(k.ID))
		}
	}
	if len(set.Keys) == 0 {
		return nil, errors.New("no key")
	}
	return set, nil
}

// add adds k, or notes that another key already has its ID.
func (s *Set) add(k *Key) {
	other := s.byID[k.ID]
	if other != nil {
		if other.Fingerprint != k.Fingerprint {
			s.duplicate[k.ID] = true
		}
		return
	}
	s.Keys = append(s.Keys, k)
	s.byID[k.ID] = k
}

// unambiguous returns s, or an error if two keys have the same ID or if there is no
// key.
func (s *Set) unambiguous() (*Set, error) {
	for _, id := range slices.Sorted(maps.Keys(s.duplicate)) {
		return nil, fmt.Errorf("two different keys have the kid %s", quote.Value(id))
	}
	return s.usable()
}

// usable returns s, or an error if there is no key.
func (s *Set) usable() (*Set, error) {
	if len(s.Keys) > 0 {
		return s, nil
	}
	return nil, fmt.Errorf("a JWKS with no usable key: %s", s.Dropped[0].Why)
}

// dropDuplicates drops all keys that have the same ID: nobody can tell which of them
// is meant.
func (s *Set) dropDuplicates() {
	for _, id := range slices.Sorted(maps.Keys(s.duplicate)) {
		s.Dropped = append(s.Dropped, Dropped{id, "two different keys have this kid"})
		delete(s.byID, id)
	}
	s.Keys = slices.DeleteFunc(s.Keys, func(k *Key) bool { return s.duplicate[k.ID] })
}

// Key returns the key with this ID, or nil if there is none.
func (s *Set) Key(id string) *Key { return s.byID[id] }

// IDs returns the IDs of the usable keys, sorted.
func (s *Set) IDs() []string { return slices.Sorted(maps.Keys(s.byID)) }

// Holds reports whether the key with this ID is the one with this fingerprint.
func (s *Set) Holds(id string, fingerprint [sha256.Size]byte) bool {
	k := s.byID[id]
	return k != nil && k.Fingerprint == fingerprint
}

// SameKeys reports whether two sets have the same keys with the same IDs. No set is
// the same as nil.
func (s *Set) SameKeys(other *Set) bool {
	return other != nil && len(s.Keys) == len(other.Keys) && len(s.Without(other)) == 0
}

// Without returns the keys of s that other does not hold. other may be nil.
func (s *Set) Without(other *Set) []*Key {
	var keys []*Key
	for _, k := range s.Keys {
		if other == nil || !other.Holds(k.ID, k.Fingerprint) {
			keys = append(keys, k)
		}
	}
	return keys
}

// WhyDropped returns why the key with this ID was dropped, or "" if there was no such
// key.
func (s *Set) WhyDropped(id string) string {
	for _, d := range s.Dropped {
		if d.ID == id {
			return d.Why
		}
	}
	return ""
}
