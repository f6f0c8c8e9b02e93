package keyset

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"math/big"
	"slices"
	"strings"
	"testing"
)

// rsaKey has a modulus that nobody knows the factors of, and a number of its own.
func rsaKey(bits uint, number int64) *rsa.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return &rsa.PublicKey{N: n.Add(n, big.NewInt(2*number+1)), E: 65537}
}

func mustNewKey(t *testing.T, id string, number int64) *Key {
	t.Helper()
	k, err := NewKey(id, rsaKey(2048, number))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestNewKey(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ed25519Key, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		id     string
		public crypto.PublicKey
		alg    string // "": an error
		err    string
	}{
		{"RSA", "k", rsaKey(2048, 0), "RS256", ""},
		{"ECDSA", "k", &private.PublicKey, "ES384", ""},
		{"without an ID", "", rsaKey(2048, 0), "RS256", ""},
		{"an ID of 1024 bytes", strings.Repeat("k", 1024), rsaKey(2048, 0), "RS256", ""},
		{"an ID of 1025 bytes", strings.Repeat("k", 1025), rsaKey(2048, 0), "", "a KeyID of more than 1024 bytes"},
		{"too small", "k", rsaKey(2047, 0), "", "an RSA key of 2047 bits: want 2048 to 8192"},
		{"Ed25519", "k", ed25519Key, "", "a key of type ed25519.PublicKey, which Kubernetes does not sign with"},
	} {
		k, err := NewKey(tt.id, tt.public)
		if (err == nil) != (tt.err == "") || !strings.HasPrefix(errorText(err), tt.err) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.err)
		}
		if (k != nil) != (tt.err == "") {
			t.Errorf("%s: %+v, %v", tt.name, k, err)
		}
		if k == nil {
			continue
		}
		spki, err := x509.MarshalPKIXPublicKey(tt.public)
		if err != nil {
			t.Fatal(err)
		}
		want := tt.id
		fingerprint := sha256.Sum256(spki)
		if want == "" {
			want = encode(fingerprint[:])
		}
		if k.ID != want || k.Algorithm() != tt.alg || string(k.SPKI) != string(spki) || k.Fingerprint != fingerprint {
			t.Errorf("%s: %+v for %s, want the ID %s and the alg %s", tt.name, k, k.Algorithm(), want, tt.alg)
		}
	}
}

// A key stays what it was when the caller's changes.
func TestNewKeyCopies(t *testing.T) {
	public := rsaKey(2048, 0)
	k, err := NewKey("k", public)
	if err != nil {
		t.Fatal(err)
	}
	public.N.SetInt64(1)
	if !k.Public.(*rsa.PublicKey).Equal(rsaKey(2048, 0)) {
		t.Error("it has changed with the caller's")
	}
}

func TestNew(t *testing.T) {
	a, same, other, b := mustNewKey(t, "a", 1), mustNewKey(t, "a", 1), mustNewKey(t, "a", 2), mustNewKey(t, "b", 2)
	for _, tt := range []struct {
		name string
		keys []*Key
		want []string // IDs; nil: an error
		err  string
	}{
		{"two keys", []*Key{b, a}, []string{"a", "b"}, ""},
		{"the same key twice", []*Key{a, same}, []string{"a"}, ""},
		{"one key under two IDs", []*Key{other, b}, []string{"a", "b"}, ""},
		{"two keys under one ID", []*Key{b, a, other}, nil, `key 3: another key also has the ID "a"`},
		{"none", nil, nil, "no key"},
	} {
		set, err := New(tt.keys...)
		if errorText(err) != tt.err || (set == nil) != (tt.want == nil) {
			t.Errorf("%s: %+v, %v: want %q, %s", tt.name, set, err, tt.want, tt.err)
			continue
		}
		if set != nil && (!slices.Equal(set.IDs(), tt.want) || len(set.Keys) != len(tt.want)) {
			t.Errorf("%s: %q, %d keys: want %q", tt.name, set.IDs(), len(set.Keys), tt.want)
		}
	}
}

func TestSet(t *testing.T) {
	a, b, other := mustNewKey(t, "a", 1), mustNewKey(t, "b", 2), mustNewKey(t, "a", 3)
	set := func(keys ...*Key) *Set {
		s, err := New(keys...)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := set(a, b)
	if s.Key("a") != a || s.Key("b") != b || s.Key("c") != nil {
		t.Error("Key finds others")
	}
	for id, want := range map[string]bool{"a": true, "b": false, "c": false} {
		if s.Holds(id, a.Fingerprint) != want {
			t.Errorf("it holds a under the ID %s: %t", id, !want)
		}
	}
	for _, tt := range []struct {
		name    string
		other   *Set
		same    bool
		without []*Key
	}{
		{"itself", s, true, nil},
		{"in another order", set(b, a), true, nil},
		{"less", set(b), false, []*Key{a}},
		{"more", set(a, b, mustNewKey(t, "c", 4)), false, nil},
		{"another key under the ID", set(other, b), false, []*Key{a}},
		{"nothing", nil, false, []*Key{a, b}},
	} {
		if s.SameKeys(tt.other) != tt.same {
			t.Errorf("%s: the same keys: %t", tt.name, !tt.same)
		}
		if got := s.Without(tt.other); !slices.Equal(got, tt.without) {
			t.Errorf("%s: without them %d keys are left, want %d", tt.name, len(got), len(tt.without))
		}
	}
	s.Dropped = []Dropped{{"x", "one"}, {"y", "two"}, {"y", "three"}}
	for id, want := range map[string]string{"x": "one", "y": "two", "a": "", "": ""} {
		if got := s.WhyDropped(id); got != want {
			t.Errorf("%s was dropped for %q, want %q", id, got, want)
		}
	}
}
