package jws_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"math/big"
	"strings"
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

func signers(t *testing.T) []signer {
	t.Helper()
	all := []signer{{alg: jws.RS256, hash: crypto.SHA256}}
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	all[0].private = private
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
			t.Fatal(err)
		}
		all = append(all, signer{ec.alg, private, ec.hash, ec.width})
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
