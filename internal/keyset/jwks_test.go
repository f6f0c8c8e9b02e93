package keyset

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"strings"
	"testing"
)

type members = map[string]any

func encode(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// rsaMembers is an RSA key of a modulus that nobody knows the factors of.
func rsaMembers(bits uint) members {
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return members{"kty": "RSA", "kid": "odd", "n": encode(n.SetBit(n, 0, 1).Bytes()), "e": "AQAB"}
}

func ecMembers(t *testing.T) (m members, x, y []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := private.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	x, y = point[1:33], point[33:]
	return members{"kty": "EC", "kid": "good", "crv": "P-256", "x": encode(x), "y": encode(y)}, x, y
}

// A caller of Parse sees an odd key at once. In a file and in a fetched set it is
// dropped, but a secret must not lie in a file. The text says what is wrong.
func TestOddKeys(t *testing.T) {
	good, x, y := ecMembers(t)
	odd := rsaMembers(2048)
	n := odd["n"].(string)
	decoded, _ := base64.RawURLEncoding.DecodeString(n)
	rsaWith := func(with members) members {
		m := maps.Clone(odd)
		maps.Copy(m, with)
		return m
	}
	ecWith := func(with members) members {
		m := maps.Clone(good)
		m["kid"] = "odd"
		maps.Copy(m, with)
		return m
	}
	const anywhere, notInParse, fetchedOnly = "PFR", "FR", "R" // where the good key is taken
	for _, tt := range []struct {
		name string
		key  members
		good string
		why  string // "": the key is taken
	}{
		{"as it should be", odd, anywhere, ""},
		{"8192 bits", rsaMembers(8192), anywhere, ""},
		{"a zero in front of n", rsaWith(members{"n": encode(append([]byte{0}, decoded...))}), anywhere, ""},
		{"8193 bits", rsaMembers(8193), notInParse, "an RSA key of 8193 bits: want 2048 to 8192"},
		{"8192 bits after a hundred zeros", rsaWith(members{"n": encode(append(make([]byte, 100), decoded...))}), anywhere, ""},
		{"1024 bits", rsaMembers(1024), notInParse, "an RSA key of 1024 bits: want 2048 to 8192"},
		{"zeros for n", rsaWith(members{"n": "AAAA"}), notInParse, "an RSA key without a modulus"},
		{"no n", rsaWith(members{"n": ""}), notInParse, "a key without n"},
		{"padding", rsaWith(members{"n": n + "=="}), notInParse, "a key whose n is not canonical base64url: it is padded with ="},
		{"base64", rsaWith(members{"n": n[:340] + "+/"}), notInParse, "a key whose n is not base64url, which has - and _ instead of + and /"},
		{"a line break", rsaWith(members{"n": n[:64] + "\n" + n[64:]}), notInParse, "a key whose n is not canonical base64url"},
		{"a zero in front of e", rsaWith(members{"e": "AAEAAQ"}), notInParse, "an RSA key whose e is not canonical: there is a zero byte in front of it"},
		{"e of five bytes", rsaWith(members{"e": "AQAAAAE"}), notInParse, "an RSA key whose e is too large: it has 5 bytes, and at most 4 are read"},
		{"for encryption", rsaWith(members{"use": "enc"}), notInParse, "a key whose use is not sig"},
		{"for PS256", rsaWith(members{"alg": "PS256"}), notInParse, "a key whose alg is not RS256, the only one for its type"},
		{"no e", rsaWith(members{"e": ""}), notInParse, "a key without e"},
		{"no kty", members{"kid": "odd"}, notInParse, "a key without kty"},
		{"no crv", members{"kid": "odd", "kty": "EC"}, notInParse, "an EC key without crv"},
		{"a number for n", rsaWith(members{"n": 5}), notInParse, "the member /n has a value of the wrong type or out of range"},
		{"a later type", members{"kid": "odd", "kty": "AKP"}, anywhere, "an unknown kty or crv"},
		{"a later curve", ecWith(members{"crv": "P-999"}), anywhere, "an unknown kty or crv"},
		{"a short x", ecWith(members{"x": encode(x[1:])}), notInParse, "an EC key whose x has 31 bytes: want 32 for P-256"},
		{"a long y", ecWith(members{"y": encode(append([]byte{0}, y...))}), notInParse, "an EC key whose y has 33 bytes: want 32 for P-256"},
		{"of another curve", ecWith(members{"crv": "P-521"}), notInParse, "an EC key whose x has 32 bytes: want 66 for P-521"},
		{"off the curve", ecWith(members{"y": encode(x)}), notInParse, "a damaged EC key, whose point is not on P-256"},
		{"no y", ecWith(members{"y": ""}), notInParse, "a key without y"},
		{"a private key", rsaWith(members{"d": "AQ"}), fetchedOnly, "a private key, which must stay with the API server"},
		{"a secret without k", members{"kid": "odd", "kty": "oct"}, fetchedOnly, "a symmetric key: whoever can verify with it can also sign with it"},
		{"a secret", members{"kid": "odd", "kty": "oct", "k": "AQ"}, fetchedOnly, "a symmetric key: whoever can verify with it can also sign with it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data := jwks(t, tt.key, good)
			for _, way := range []struct {
				name, letter string
				parse        func([]byte) (*Set, error)
			}{{"Parse", "P", Parse}, {"ParseFile", "F", ParseFile}, {"ParseFetched", "R", ParseFetched}} {
				set, err := way.parse(data)
				if !strings.Contains(tt.good, way.letter) {
					if err == nil || err.Error() != "key 1: "+tt.why {
						t.Errorf("%s: %v: want the error key 1: %s", way.name, err, tt.why)
					}
					continue
				}
				if err != nil || set.Key("good") == nil {
					t.Errorf("%s: %v: want the good key", way.name, err)
					continue
				}
				if taken := set.Key("odd") != nil; taken != (tt.why == "") || !taken && !strings.HasSuffix(set.WhyDropped("odd"), tt.why) {
					t.Errorf("%s: taken: %t, %q: want %q", way.name, taken, set.WhyDropped("odd"), tt.why)
				}
			}
		})
	}
}

// A kid is as long as one in a token can be. That of a key that is dropped for
// its length is nobody's.
func TestLongKID(t *testing.T) {
	good, _, _ := ecMembers(t)
	key := rsaMembers(2048)
	for size, want := range map[int]string{1024: "", 1025: "key 1: a kid of more than 1024 bytes"} {
		kid := strings.Repeat("k", size)
		key["kid"] = kid
		if _, err := Parse(jwks(t, key, good)); errorText(err) != want {
			t.Errorf("%d bytes: %v, want %s", size, err, want)
		}
		set, err := ParseFetched(jwks(t, key, good))
		if err != nil || (set.Key(kid) != nil) != (want == "") || set.WhyDropped("") != want || set.WhyDropped(kid) != "" {
			t.Errorf("%d bytes: %+v, %v: want it dropped for %q", size, set, err, want)
		}
	}
}

// The envelope of the keys.
func TestEnvelope(t *testing.T) {
	good, _, _ := ecMembers(t)
	with := func(more members) string {
		m := members{"keys": []members{good}}
		maps.Copy(m, more)
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	for data, want := range map[string]string{
		with(nil):                   "",
		with(members{"kty": "RSA"}): "",
		`{"kty":"RSA"}`:             `a single JWK: put it into {"keys":[…]}`,
		`{"kty":"RSA","keys":[]}`:   "not a JWKS: it has no keys",
		`{"keys":[]}`:               "not a JWKS: it has no keys",
		`{"keys":null}`:             "not a JWKS: it has no keys",
		`{"keys":{}}`:               "not a JWKS: the member /keys has a value of the wrong type or out of range",
		`{`:                         "not a JWKS: not strict JSON (RFC 8259 grammar, UTF-8, no name twice in an object)",
	} {
		for name, parse := range map[string]func([]byte) (*Set, error){"Parse": Parse, "ParseFile": ParseFile, "ParseFetched": ParseFetched} {
			if set, err := parse([]byte(data)); errorText(err) != want || (set == nil) != (want != "") {
				t.Errorf("%s of %.40s: %+v, %v, want %s", name, data, set, err, want)
			}
		}
	}
}

func jwks(t *testing.T, keys ...members) []byte {
	t.Helper()
	data, err := json.Marshal(members{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// What is left of a set without a usable key, and of one with two keys of one
// kid, which a person can mend in a file and nobody in a fetched set.
func TestSets(t *testing.T) {
	good, _, _ := ecMembers(t)
	other := rsaMembers(2048)
	other["kid"] = "good"
	third := rsaMembers(3072)
	for _, tt := range []struct {
		name          string
		data          []byte
		file, fetched int    // keys; 0: an error
		why           string // of both errors
	}{
		{"nothing usable", jwks(t, rsaMembers(1024)), 0, 0, "no usable key: key 1: an RSA key of 1024 bits"},
		{"the same key twice", jwks(t, good, good), 1, 1, ""},
		{"two keys of one kid", jwks(t, good, other, third), 0, 1, `two different keys have the kid "good"`},
		{"a byte order mark", append([]byte("\xef\xbb\xbf"), jwks(t, good)...), 1, 1, ""},
		{"UTF-16", []byte("\xff\xfe{\x00"), 0, 0, "Out-File -Encoding ascii"},
	} {
		for name, want := range map[string]int{"ParseFile": tt.file, "ParseFetched": tt.fetched} {
			parse := ParseFile
			if name == "ParseFetched" {
				parse = ParseFetched
			}
			set, err := parse(tt.data)
			if want == 0 && (err == nil || !strings.Contains(err.Error(), tt.why)) {
				t.Errorf("%s of %s: %v: want an error with %q", name, tt.name, err, tt.why)
			}
			if want > 0 && (err != nil || len(set.Keys) != want) {
				t.Errorf("%s of %s: %+v, %v: want %d keys", name, tt.name, set, err, want)
			}
		}
	}
}

// A secret in a file is an error, whatever else is wrong with that key.
func TestOddSecrets(t *testing.T) {
	good, _, _ := ecMembers(t)
	for name, odd := range map[string]members{
		"a number for kid":    {"kid": 5},
		"a long kid":          {"kid": strings.Repeat("a", maxKeyID+1)},
		"a number for kty":    {"kty": 5},
		"a number for crv":    {"crv": 5},
		"nothing else at all": {"kty": nil, "n": nil, "e": nil, "kid": nil},
	} {
		for member, want := range map[string]error{"d": errPrivate, "p": errPrivate, "k": errSymmetric} {
			key := rsaMembers(2048)
			maps.Copy(key, odd)
			if _, err := ParseFile(jwks(t, key, good)); err != nil {
				t.Errorf("%s: %v: want the odd key dropped", name, err)
			}
			key[member] = "AQ"
			if _, err := ParseFile(jwks(t, key, good)); !errors.Is(err, want) {
				t.Errorf("%s, with %s: %v: want %v", name, member, err, want)
			}
		}
	}
}

// A key without kid serves under the one that Kubernetes derives.
func TestWithoutKID(t *testing.T) {
	for _, kid := range []any{nil, ""} {
		key := rsaMembers(2048)
		key["kid"] = kid
		for name, parse := range map[string]func([]byte) (*Set, error){"Parse": Parse, "ParseFile": ParseFile, "ParseFetched": ParseFetched} {
			set, err := parse(jwks(t, key))
			if err != nil || len(set.Keys) != 1 || set.Key(encode(set.Keys[0].Fingerprint[:])) == nil {
				t.Errorf("%s, kid %v: %+v, %v: want a key under its derived ID", name, kid, set, err)
			}
		}
	}
}

// Zeros in front of n are no part of the key.
func TestLeadingZeros(t *testing.T) {
	plain, zeros := rsaMembers(2048), rsaMembers(2048)
	decoded, _ := base64.RawURLEncoding.DecodeString(plain["n"].(string))
	zeros["n"] = encode(append([]byte{0}, decoded...))
	var spki [][]byte
	for _, m := range []members{plain, zeros} {
		set, err := ParseFetched(jwks(t, m))
		if err != nil {
			t.Fatal(err)
		}
		if _, isRSA := set.Keys[0].Public.(*rsa.PublicKey); !isRSA {
			t.Fatalf("a key of type %T", set.Keys[0].Public)
		}
		spki = append(spki, set.Keys[0].SPKI)
	}
	if !bytes.Equal(spki[0], spki[1]) {
		t.Error("two keys: want one")
	}
}
