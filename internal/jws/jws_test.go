package jws_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/kubejwt/kubejwt/internal/jws"
)

var encode = base64.RawURLEncoding.EncodeToString

// signer signs as one of the four algorithms asks.
type signer struct {
	alg     string
	private crypto.Signer
	hash    crypto.Hash
	width   int // of r and s
}

func (s signer) sign(t *testing.T, header, payload string) string {
	t.Helper()
	signed := encode([]byte(header)) + "." + encode([]byte(payload))
	h := s.hash.New()
	h.Write([]byte(signed))
	if private, ok := s.private.(*ecdsa.PrivateKey); ok {
		r, v, err := ecdsa.Sign(rand.Reader, private, h.Sum(nil))
		if err != nil {
			t.Fatal(err)
		}
		return signed + "." + encode(fixed(r, v, s.width))
	}
	signature, err := s.private.Sign(rand.Reader, h.Sum(nil), s.hash)
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + encode(signature)
}

func fixed(r, s *big.Int, width int) []byte {
	signature := make([]byte, 2*width)
	r.FillBytes(signature[:width])
	s.FillBytes(signature[width:])
	return signature
}

// newSigners makes a key for each algorithm, once: RSA keys take their time.
var newSigners = sync.OnceValues(func() ([]signer, error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	all := []signer{{alg: jws.RS256, private: private, hash: crypto.SHA256}}
	for _, ec := range []struct {
		alg   string
		curve elliptic.Curve
		hash  crypto.Hash
		width int
	}{
		{jws.ES256, elliptic.P256(), crypto.SHA256, 32},
		{jws.ES384, elliptic.P384(), crypto.SHA384, 48},
		{jws.ES512, elliptic.P521(), crypto.SHA512, 66},
	} {
		private, err := ecdsa.GenerateKey(ec.curve, rand.Reader)
		if err != nil {
			return nil, err
		}
		all = append(all, signer{ec.alg, private, ec.hash, ec.width})
	}
	return all, nil
})

func signers(t *testing.T) []signer {
	t.Helper()
	all, err := newSigners()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func verify(token string, key jws.Key) error {
	compact, err := jws.Split(token)
	if err != nil {
		return err
	}
	header, err := compact.ParseHeader()
	if err != nil {
		return err
	}
	return compact.Verify(header, key)
}

// Each key verifies what it signed under its own alg, and nothing else.
func TestVerify(t *testing.T) {
	all := signers(t)
	for _, s := range all {
		token := s.sign(t, `{"alg":"`+s.alg+`","kid":"k"}`, `{}`)
		for _, other := range all {
			key, err := jws.NewKey(other.private.Public())
			if err != nil || key.Algorithm() != other.alg {
				t.Fatalf("%s: %v, %q", other.alg, err, key.Algorithm())
			}
			err = verify(token, key)
			if other.alg == s.alg && err != nil || other.alg != s.alg && !errors.Is(err, jws.ErrUnfit) {
				t.Errorf("a token of %s with a key of %s: %v", s.alg, other.alg, err)
			}
			// Signed by this key, under the name of another's alg.
			renamed := s.sign(t, `{"alg":"`+other.alg+`","kid":"k"}`, `{}`)
			if key, _ := jws.NewKey(s.private.Public()); other.alg != s.alg && !errors.Is(verify(renamed, key), jws.ErrUnfit) {
				t.Errorf("a token of %s that says %s is verified", s.alg, other.alg)
			}
		}
		key, _ := jws.NewKey(s.private.Public())
		header, rest, _ := strings.Cut(token, ".")
		payload, signature, _ := strings.Cut(rest, ".")
		decoded, _ := base64.RawURLEncoding.DecodeString(signature)
		for name, bad := range map[string][]byte{
			"cut":         decoded[:len(decoded)-1],
			"longer":      append(decoded, 0),
			"zero first":  append([]byte{0}, decoded...),
			"zero":        make([]byte, len(decoded)),
			"doubled":     append(decoded, decoded...),
			"another one": []byte(strings.Repeat("x", len(decoded))),
		} {
			if err := verify(header+"."+payload+"."+encode(bad), key); !errors.Is(err, jws.ErrSignature) {
				t.Errorf("%s: a signature that is %s: %v", s.alg, name, err)
			}
		}
		if err := verify(token, jws.Key{}); !errors.Is(err, jws.ErrUnfit) {
			t.Errorf("%s: with the zero Key: %v", s.alg, err)
		}
	}
}

// r and s stand at full width: a signature without their leading zeros would be
// a second spelling of it.
func TestECDSAWidth(t *testing.T) {
	s := signers(t)[3] // of P-521, where one in four has none but zeros in the first byte of both
	key, _ := jws.NewKey(s.private.Public())
	for {
		token := s.sign(t, `{"alg":"ES512"}`, `{}`)
		at := strings.LastIndex(token, ".") + 1
		decoded, _ := base64.RawURLEncoding.DecodeString(token[at:])
		if decoded[0] != 0 || decoded[s.width] != 0 {
			continue
		}
		if err := verify(token, key); err != nil {
			t.Errorf("at full width: %v", err)
		}
		short := append(decoded[1:s.width:s.width], decoded[s.width+1:]...)
		if err := verify(token[:at]+encode(short), key); !errors.Is(err, jws.ErrSignature) {
			t.Errorf("without leading zeros: %v", err)
		}
		return
	}
}

// The other ECDSA signature of the same message is as good (there is no rule
// of a low S), but r and s out of range are not.
func TestECDSARange(t *testing.T) {
	for _, s := range signers(t)[1:] {
		token := s.sign(t, `{"alg":"`+s.alg+`"}`, `{}`)
		at := strings.LastIndex(token, ".") + 1
		decoded, _ := base64.RawURLEncoding.DecodeString(token[at:])
		r, v := new(big.Int).SetBytes(decoded[:s.width]), new(big.Int).SetBytes(decoded[s.width:])
		n := s.private.(*ecdsa.PrivateKey).Params().N
		key, _ := jws.NewKey(s.private.Public())
		with := func(r, v *big.Int) error { return verify(token[:at]+encode(fixed(r, v, s.width)), key) }
		if err := with(r, new(big.Int).Sub(n, v)); err != nil {
			t.Errorf("%s: r, N-s: %v", s.alg, err)
		}
		zero := new(big.Int)
		for _, bad := range [][2]*big.Int{{zero, v}, {r, zero}, {zero, zero}, {n, v}, {r, n}, {v, r}} {
			if err := with(bad[0], bad[1]); !errors.Is(err, jws.ErrSignature) {
				t.Errorf("%s: r %v, s %v: %v", s.alg, bad[0], bad[1], err)
			}
		}
	}
}

// A header segment has 8 KiB at most.
func TestHeaderSize(t *testing.T) {
	for size, want := range map[int]bool{8 << 10: true, 8<<10 + 2: false} {
		header := encode(make([]byte, size*3/4))
		if _, err := jws.Split(header + ".e30.AAAA"); len(header) < size || (err == nil) != want {
			t.Errorf("%d bytes: %v: want it split %t", len(header), err, want)
		}
	}
}

// A token has one spelling, and what Split refuses is told apart by its error.
func TestSplit(t *testing.T) {
	const header, payload, signature = "eyJhbGciOiJSUzI1NiJ9", "e30", "AAAA" // {"alg":"RS256"}, {}
	with := func(header, payload, signature string) string { return header + "." + payload + "." + signature }
	good := with(header, payload, signature)
	of := func(payload string) string { return with(header, encode([]byte(payload)), signature) }
	// filled has a payload that makes it this long.
	filled := func(size int) string {
		return with(header, strings.Repeat("A", size-len(header)-len(signature)-2), signature)
	}
	for _, tt := range []struct {
		name, token, err string // "": it is split
	}{
		{"as it should be", good, ""},
		{"of 16 KiB", filled(16 << 10), ""},
		{"of more", filled(16<<10 + 1), "more than 16384 bytes"},
		{"Bearer in front", "Bearer " + good, "the scheme Bearer in front of the token"},
		{"Bearer without a blank", "Bearer" + good, "a header segment that is not canonical base64url"},

		{"a newline last", good + "\n", "a line break"},
		{"a newline first", "\n" + good, "a line break"},
		{"a carriage return last", good + "\r", "a line break"},
		{"a carriage return first", "\r" + good, "a line break"},
		{"a blank last", good + " ", "a signature segment that is not canonical base64url"},

		{"nothing", "", "a text without a dot"},
		{"one segment", header, "a text without a dot"},
		{"two segments", header + "." + payload, "2 segments"},
		{"four segments", good + "." + signature, "4 segments"},
		{"an empty header", with("", payload, signature), "an empty segment"},
		{"an empty payload", with(header, "", signature), "an empty segment"},
		{"an empty signature", with(header, payload, ""), "an empty segment"},

		{"spare bits in the header", with("AB", payload, signature), "a header segment that is not"},
		{"spare bits in the payload", with(header, "AB", signature), "a payload segment that is not"},
		{"spare bits in the signature", with(header, payload, "AB"), "a signature segment that is not"},
		{"no spare bits", with("AA", "AA", "AA"), ""},
		{"padding", with(header, payload, "AA=="), "a signature segment that is not"},
		{"base64url", with(header, payload, "A-_A"), ""},
		{"base64", with(header, payload, "A+/A"), "a signature segment that is not"},
		{"one character over", with(header, payload, "AAAAA"), "a signature segment that is not"},

		{"64 brackets", of(strings.Repeat("{[", 32)), ""},
		{"65 braces", of(strings.Repeat("{", 65)), "a payload with over 64 opening brackets or 256 commas"},
		{"65 square brackets", of(strings.Repeat("[", 65)), "a payload with over 64 opening brackets"},
		{"33 of one and 32 of the other", of(strings.Repeat("{[", 32) + "{"), "a payload with over 64 opening brackets"},
		{"closing ones", of(strings.Repeat("}]", 65)), ""},
		{"256 commas", of(strings.Repeat(",", 256)), ""},
		{"257 commas", of(strings.Repeat(",", 257)), "a payload with over 64 opening brackets or 256 commas"},
	} {
		c, err := jws.Split(tt.token)
		if message := errorText(err); (err == nil) != (tt.err == "") || !strings.HasPrefix(message, tt.err) {
			t.Errorf("%s: %q, want %q", tt.name, message, tt.err)
		}
		if err != nil && (c.UnverifiedPayload() != nil || !c.HasHeader(nil)) {
			t.Errorf("%s: parts beside the error %v", tt.name, err)
		}
	}
	if _, err := jws.Split(filled(jws.MaxSize + 1)); !errors.Is(err, jws.ErrTooLarge) {
		t.Errorf("over MaxSize: %v, want ErrTooLarge", err)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// The parts of a token are its own: changing what was handed out changes none
// of the others.
func TestParts(t *testing.T) {
	s := signers(t)[1]
	const header, payload = `{"alg":"ES256","kid":"k"}`, `{"iss":"x"}`
	c, err := jws.Split(s.sign(t, header, payload))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(c.UnverifiedPayload()); got != payload {
		t.Errorf("the payload is %q, want %q", got, payload)
	}
	clone := c.CloneHeader()
	if string(clone) != header {
		t.Errorf("the header is %q, want %q", clone, header)
	}
	clone[0] = 'x'
	_ = append(c.UnverifiedPayload(), "xxxx"...)
	for decoded, want := range map[string]bool{header: true, header + " ": false, "": false, string(clone): false} {
		if c.HasHeader([]byte(decoded)) != want {
			t.Errorf("HasHeader(%q) = %t", decoded, !want)
		}
	}
	h, err := c.ParseHeader()
	if err != nil || h != (jws.Header{Algorithm: "ES256", KeyID: "k"}) {
		t.Errorf("the header is %+v, %v", h, err)
	}
	key, _ := jws.NewKey(s.private.Public())
	if err := c.Verify(h, key); err != nil {
		t.Error(err)
	}
}

// alg, and kid and typ if they are there, and nothing else.
func TestParseHeader(t *testing.T) {
	alg := func(alg string) string { return `{"alg":"` + alg + `"}` }
	kid := func(size int) string { return `{"alg":"RS256","kid":"` + strings.Repeat("k", size) + `"}` }
	const (
		otherwise = "an alg that Kubernetes does not sign with"
		odd       = " has a value of the wrong type or out of range"
		foreign   = "a member that does not belong there"
		noJSON    = "not strict JSON (RFC 8259 grammar, UTF-8, no name twice in an object)"
	)
	for _, tt := range []struct {
		header, algorithm, kid string
		err                    string // "": it is accepted
	}{
		{alg("RS256"), "RS256", "", ""},
		{alg("ES256"), "ES256", "", ""},
		{alg("ES384"), "ES384", "", ""},
		{alg("ES512"), "ES512", "", ""},
		{`{"kid":"k","typ":"JWT","alg":"RS256"}`, "RS256", "k", ""},

		// An alg is named if it looks like one.
		{`{"kid":"k"}`, "", "", otherwise},
		{alg(""), "", "", otherwise},
		{alg("none"), "", "", otherwise + ": none"},
		{alg("HS256"), "", "", otherwise + ": HS256"},
		{alg("rs256"), "", "", otherwise + ": rs256"},
		{alg("09AZaz"), "", "", otherwise + ": 09AZaz"},
		{alg("AAAABBBB"), "", "", otherwise + ": AAAABBBB"},
		{alg("AAAABBBBC"), "", "", otherwise},
		{alg("A/"), "", "", otherwise},
		{alg("A:"), "", "", otherwise},
		{alg("A@"), "", "", otherwise},
		{alg("A["), "", "", otherwise},
		{alg("A`"), "", "", otherwise},
		{alg("A{"), "", "", otherwise},
		{`{"alg":null}`, "", "", "the member /alg" + odd},
		{`{"alg":["RS256"]}`, "", "", "the member /alg" + odd},

		{`{"alg":"RS256","typ":""}`, "", "", "a typ other than JWT"},
		{`{"alg":"RS256","typ":"jwt"}`, "", "", "a typ other than JWT"},
		{`{"alg":"RS256","typ":null}`, "", "", "the member /typ" + odd},

		{kid(1), "RS256", "k", ""},
		{kid(1024), "RS256", strings.Repeat("k", 1024), ""},
		{kid(1025), "", "", "a kid that is empty or over 1024 bytes"},
		{kid(0), "", "", "a kid that is empty or over 1024 bytes"},
		{`{"alg":"RS256","kid":null}`, "", "", "the member /kid" + odd},

		{`{"alg":"RS256","ALG":"RS256"}`, "", "", foreign},
		{`{"alg":"RS256","crit":["b64"]}`, "", "", foreign},
		{`{"alg":"RS256","alg":"RS256"}`, "", "", noJSON},
		{`{"alg":"RS256"} {}`, "", "", noJSON},
		{`"RS256"`, "", "", "a JSON value of the wrong type"},
	} {
		c, err := jws.Split(encode([]byte(tt.header)) + ".e30.AAAA")
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.ParseHeader()
		if want := (jws.Header{Algorithm: tt.algorithm, KeyID: tt.kid}); got != want || errorText(err) != tt.err {
			t.Errorf("%.80s: %.80v, %v: want %.80v, %s", tt.header, got, err, want, tt.err)
		}
		if isAlgorithm := strings.HasPrefix(tt.err, otherwise); errors.Is(err, jws.ErrAlgorithm) != isAlgorithm {
			t.Errorf("%.80s: %v: want ErrAlgorithm: %t", tt.header, err, isAlgorithm)
		}
	}
}

// Keys that tokens may be signed with, and why others are not.
func TestNewKey(t *testing.T) {
	one := big.NewInt(1)
	modulus := func(bits uint) *big.Int { return new(big.Int).Add(new(big.Int).Lsh(one, bits-1), one) }
	withN := func(n *big.Int) *rsa.PublicKey { return &rsa.PublicKey{N: n, E: 65537} }
	withE := func(e int64) *rsa.PublicKey { return &rsa.PublicKey{N: modulus(2048), E: int(e)} }
	on := func(curve elliptic.Curve) *ecdsa.PublicKey {
		private, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return &private.PublicKey
	}
	//lint:ignore SA1019 nothing else makes a key without a point
	at := func(c elliptic.Curve, x, y *big.Int) *ecdsa.PublicKey { return &ecdsa.PublicKey{Curve: c, X: x, Y: y} }
	p256, base := elliptic.P256(), elliptic.P256().Params()
	ed25519Key, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const exponent, noPoint = "an RSA key with the exponent ", "an ECDSA key without a curve or a point"
	for _, tt := range []struct {
		name   string
		public crypto.PublicKey
		alg    string // "": an error
		err    string
	}{
		{"RSA of 2048 bits", withN(modulus(2048)), "RS256", ""},
		{"RSA of 2047 bits", withN(modulus(2047)), "", "an RSA key of 2047 bits: want 2048 to 8192"},
		{"RSA of 8192 bits", withN(modulus(8192)), "RS256", ""},
		{"RSA of 8193 bits", withN(modulus(8193)), "", "an RSA key of 8193 bits: want 2048 to 8192"},
		{"RSA, even", withN(new(big.Int).Lsh(one, 2047)), "", "an RSA key with an even modulus"},
		{"RSA, zero", withN(new(big.Int)), "", "an RSA key without a modulus"},
		{"RSA, negative", withN(new(big.Int).Neg(modulus(2048))), "", "an RSA key without a modulus"},
		{"RSA, no modulus", withN(nil), "", "an RSA key without a modulus"},
		{"RSA, nil", (*rsa.PublicKey)(nil), "", "an RSA key without a modulus"},
		{"e 65537", withE(65537), "RS256", ""},
		{"e 65535", withE(65535), "", exponent + "65535: want an odd one from 65537 to 2147483647"},
		{"e 65538", withE(65538), "", exponent + "65538"},
		{"e 65539", withE(65539), "RS256", ""},
		{"e 2^31-1", withE(1<<31 - 1), "RS256", ""},
		{"e 2^31+1", withE(1<<31 + 1), "", exponent},
		{"P-256", on(elliptic.P256()), "ES256", ""},
		{"P-384", on(elliptic.P384()), "ES384", ""},
		{"P-521", on(elliptic.P521()), "ES512", ""},
		{"P-224", on(elliptic.P224()), "", "an ECDSA key on a curve other than P-256, P-384 and P-521"},
		{"ECDSA, nil", (*ecdsa.PublicKey)(nil), "", noPoint},
		{"no curve", at(nil, base.Gx, base.Gy), "", noPoint},
		{"no x", at(p256, nil, base.Gy), "", noPoint},
		{"no y", at(p256, base.Gx, nil), "", noPoint},
		{"on the curve", at(p256, base.Gx, base.Gy), "ES256", ""},
		{"off the curve", at(p256, base.Gy, base.Gy), "", "an ECDSA key whose point is not on its curve"},
		{"Ed25519", ed25519Key, "", "a key of type ed25519.PublicKey, which Kubernetes does not sign with"},
		{"RSA that is no pointer", *withN(modulus(2048)), "", "a key of type rsa.PublicKey, which"},
		{"none", nil, "", "a key of type <nil>, which"},
	} {
		key, err := jws.NewKey(tt.public)
		if key.Algorithm() != tt.alg || (err == nil) != (tt.err == "") || !strings.HasPrefix(errorText(err), tt.err) {
			t.Errorf("%s: a key for %q, %v: want %q, %s", tt.name, key.Algorithm(), err, tt.alg, tt.err)
		}
		if err != nil && key != (jws.Key{}) {
			t.Errorf("%s: a key beside the error %v", tt.name, err)
		}
	}
}

// Zero values fit nothing, not even each other.
func TestZeroKey(t *testing.T) {
	if err := (jws.Compact{}).Verify(jws.Header{}, jws.Key{}); !errors.Is(err, jws.ErrUnfit) {
		t.Errorf("%v, want ErrUnfit", err)
	}
}

// What is signed is hashed whole, whatever its size.
func TestVerifyLong(t *testing.T) {
	for _, s := range signers(t) {
		key, _ := jws.NewKey(s.private.Public())
		for _, size := range []int{0, 2 << 10, 12000} {
			header, payload := `{"alg":"`+s.alg+`"}`, `"`+strings.Repeat("x", size)
			token := s.sign(t, header, payload+`"`)
			if err := verify(token, key); err != nil {
				t.Errorf("%s, %d bytes: %v", s.alg, size, err)
			}
			_, signature, _ := strings.Cut(token[len(encode([]byte(header)))+1:], ".")
			other := encode([]byte(header)) + "." + encode([]byte(payload+`'`)) + "." + signature
			if err := verify(other, key); !errors.Is(err, jws.ErrSignature) {
				t.Errorf("%s, %d bytes, the last one changed: %v", s.alg, size, err)
			}
		}
	}
}
