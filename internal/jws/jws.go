// Package jws parses compact JSON Web Signatures (RFC 7515, section 7.1) in the one
// form that Kubernetes issues, and verifies them with the standard library. It has no
// signing code.
//
// Everything that it returns before [Compact.Verify] has succeeded is unverified.
package jws

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kubejwt/kubejwt/internal/strictjson"
)

// Limits. Anybody may send a token.
const (
	MaxSize        = 16 << 10 // of a token: a pod's is about 1.2 KB, and audiences are not bounded
	maxHeaderSize  = 8 << 10  // of the header segment
	maxKeyIDSize   = 1024     // Kubernetes' own limit for an external signer's kid
	maxBrackets    = 64       // { and [ in a payload: 12 KB of nested objects cost a decoder ten signature checks
	maxCommas      = 256      // in a payload, for the same reason
	minRSABits     = 2048     // RFC 7518, section 3.3
	maxRSABits     = 8192     // an API server may sign with such a key; a check takes a millisecond
	minRSAExponent = 65537    // FIPS 186-5, section 5.4
	maxRSAExponent = 1<<31 - 1
)

// The four algorithms that kube-apiserver signs with.
const (
	RS256 = "RS256"
	ES256 = "ES256"
	ES384 = "ES384"
	ES512 = "ES512"
)

var (
	// ErrTooLarge is the error for a token over MaxSize.
	ErrTooLarge = fmt.Errorf("more than %d bytes", MaxSize)
	// ErrAlgorithm is the error for a header whose alg is missing or not one of
	// the four.
	ErrAlgorithm = errors.New("an alg that Kubernetes does not sign with")
	// ErrSignature is the error for a signature that the key did not make.
	ErrSignature = errors.New("the signature does not match")
	// ErrUnfit is the error for a key that is not for the token's alg.
	ErrUnfit = errors.New("the key is not for this alg")
)

// Compact is a JWS in its three parts, decoded and unverified.
type Compact struct {
	header, payload, signature []byte
	signed                     string // the first two segments as they came
}

// Split splits a compact JWS into its parts. It accepts only one spelling of each
// token: the one that encoding the three parts again would give.
func Split(token string) (Compact, error) {
	if len(token) > MaxSize {
		return Compact{}, ErrTooLarge
	}
	if strings.HasPrefix(token, "Bearer ") {
		return Compact{}, errors.New("the scheme Bearer in front of the token: pass the token alone")
	}
	// Go's decoder skips these two even when it is strict.
	if strings.IndexByte(token, '\n') >= 0 || strings.IndexByte(token, '\r') >= 0 {
		return Compact{}, errors.New("a line break: trim the token")
	}
	switch dots := strings.Count(token, "."); dots {
	case 0:
		return Compact{}, errors.New("a text without a dot")
	case 2:
	default:
		return Compact{}, fmt.Errorf("%d segments", dots+1)
	}
	header, rest, _ := strings.Cut(token, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	if header == "" || payload == "" || signature == "" {
		return Compact{}, errors.New("an empty segment")
	}
	if len(header) > maxHeaderSize {
		return Compact{}, fmt.Errorf("a header segment of more than %d bytes", maxHeaderSize)
	}

	c := Compact{signed: token[:len(header)+1+len(payload)]}
	room := make([]byte, 0, base64.RawURLEncoding.DecodedLen(len(token)))
	var err error
	if c.header, room, err = decode(room, header); err != nil {
		return Compact{}, errors.New("a header segment that is not canonical base64url")
	}
	if c.payload, room, err = decode(room, payload); err != nil {
		return Compact{}, errors.New("a payload segment that is not canonical base64url")
	}
	if c.signature, _, err = decode(room, signature); err != nil {
		return Compact{}, errors.New("a signature segment that is not canonical base64url")
	}
	if err := checkComplexity(c.payload); err != nil {
		return Compact{}, err
	}
	return c, nil
}

// decode appends the decoded segment to room. It returns that segment and the longer
// room.
func decode(room []byte, segment string) (decoded, longer []byte, err error) {
	longer, err = base64.RawURLEncoding.Strict().AppendDecode(room, []byte(segment))
	if err != nil {
		return nil, nil, err
	}
	return slices.Clip(longer[len(room):]), longer, nil
}

// checkComplexity limits what decoding a payload can cost, before it is decoded.
// Characters inside strings count too. Real tokens are far below the limits.
func checkComplexity(payload []byte) error {
	brackets := bytes.Count(payload, []byte("{")) + bytes.Count(payload, []byte("["))
	if commas := bytes.Count(payload, []byte(",")); brackets > maxBrackets || commas > maxCommas {
		return fmt.Errorf("a payload with over %d opening brackets or %d commas", maxBrackets, maxCommas)
	}
	return nil
}

// UnverifiedPayload is the decoded payload. The caller must not pass it on until Verify
// has succeeded.
func (c Compact) UnverifiedPayload() []byte { return c.payload }

// HasHeader reports whether these bytes are the decoded header of c.
func (c Compact) HasHeader(decoded []byte) bool { return bytes.Equal(c.header, decoded) }

// CloneHeader returns a copy of the decoded header, for HasHeader.
func (c Compact) CloneHeader() []byte { return bytes.Clone(c.header) }

// Header is a decoded, unverified header.
type Header struct {
	Algorithm string
	KeyID     string // "" if there was none: an empty kid is refused
}

// ParseHeader decodes the header of c. It allows alg, kid and typ and nothing else.
// kube-apiserver writes no other members, nor does it let an external signer write any
// (pkg/serviceaccount/externaljwt/plugin validateJWTHeader). So jku, jwk, x5u, crit,
// b64 and whatever comes next can't change what a token means.
func (c Compact) ParseHeader() (Header, error) {
	var members struct {
		Algorithm headerString `json:"alg"`
		KeyID     headerString `json:"kid"`
		Type      headerString `json:"typ"`
	}
	if err := strictjson.UnmarshalClosed(c.header, &members); err != nil {
		return Header{}, err
	}
	switch members.Algorithm.value {
	case RS256, ES256, ES384, ES512:
	default:
		return Header{}, algorithmError(members.Algorithm.value)
	}
	if members.Type.present && members.Type.value != "JWT" {
		return Header{}, errors.New("a typ other than JWT")
	}
	kid := members.KeyID
	if kid.present && kid.value == "" || len(kid.value) > maxKeyIDSize {
		return Header{}, fmt.Errorf("a kid that is empty or over %d bytes", maxKeyIDSize)
	}
	return Header{Algorithm: members.Algorithm.value, KeyID: kid.value}, nil
}

// algorithmError names an alg only if it is as short and plain as the registered ones,
// since anybody may have written the header.
func algorithmError(alg string) error {
	for i := range len(alg) {
		if c := alg[i]; (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return ErrAlgorithm
		}
	}
	if alg == "" || len(alg) > len("RS256")+3 {
		return ErrAlgorithm
	}
	return fmt.Errorf("%w: %s", ErrAlgorithm, alg)
}

// headerString is a member that is a string or absent. It can't be null.
type headerString struct {
	value   string
	present bool
}

func (s *headerString) UnmarshalJSONFrom(from *strictjson.Decoder) error {
	// Check before reading: 6000 brackets cost more than checking a signature.
	if from.PeekKind() != '"' {
		return errors.New("not a string")
	}
	s.present = true
	return strictjson.Decode(from, &s.value)
}

// Key is a public key that is fit for exactly one of the four algorithms.
// The zero Key is fit for none.
type Key struct {
	algorithm string
	public    crypto.PublicKey
	hash      crypto.Hash
}

// NewKey returns an error unless public is a key that tokens may be signed with. It
// keeps public, which must not change afterwards.
func NewKey(public crypto.PublicKey) (Key, error) {
	switch public := public.(type) {
	case *rsa.PublicKey:
		return newRSAKey(public)
	case *ecdsa.PublicKey:
		return newECDSAKey(public)
	default:
		return Key{}, fmt.Errorf("a key of type %T, which Kubernetes does not sign with: "+
			"want RSA, or ECDSA on P-256, P-384 or P-521", public)
	}
}

func newRSAKey(public *rsa.PublicKey) (Key, error) {
	if public == nil || public.N == nil || public.N.Sign() <= 0 {
		return Key{}, errors.New("an RSA key without a modulus")
	}
	if bits := public.N.BitLen(); bits < minRSABits || bits > maxRSABits {
		return Key{}, fmt.Errorf("an RSA key of %d bits: want %d to %d", bits, minRSABits, maxRSABits)
	}
	if public.N.Bit(0) == 0 {
		return Key{}, errors.New("an RSA key with an even modulus")
	}
	if e := public.E; e < minRSAExponent || e > maxRSAExponent || e%2 == 0 {
		return Key{}, fmt.Errorf("an RSA key with the exponent %d: want an odd one from %d to %d",
			e, minRSAExponent, maxRSAExponent)
	}
	return Key{RS256, public, crypto.SHA256}, nil
}

func newECDSAKey(public *ecdsa.PublicKey) (Key, error) {
	//lint:ignore SA1019 Bytes and ECDH panic on a key without a point
	if public == nil || public.Curve == nil || public.X == nil || public.Y == nil {
		return Key{}, errors.New("an ECDSA key without a curve or a point")
	}
	key := Key{public: public}
	switch public.Curve {
	case elliptic.P256():
		key.algorithm, key.hash = ES256, crypto.SHA256
	case elliptic.P384():
		key.algorithm, key.hash = ES384, crypto.SHA384
	case elliptic.P521():
		key.algorithm, key.hash = ES512, crypto.SHA512
	default:
		return Key{}, errors.New("an ECDSA key on a curve other than P-256, P-384 and P-521")
	}
	if _, err := public.ECDH(); err != nil {
		return Key{}, errors.New("an ECDSA key whose point is not on its curve")
	}
	return key, nil
}

// Algorithm is the one alg that k is for.
func (k Key) Algorithm() string { return k.algorithm }

// Verify checks the signature of c with k. It uses the key's own algorithm. If the
// header names another one, the error is ErrUnfit, before any arithmetic (RFC 8725,
// section 3.1).
func (c Compact) Verify(h Header, k Key) error {
	if h.Algorithm != k.algorithm {
		return ErrUnfit
	}
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		if rsa.VerifyPKCS1v15(public, k.hash, k.digest(c.signed), c.signature) != nil {
			return ErrSignature
		}
		return nil
	case *ecdsa.PublicKey:
		width := (public.Curve.Params().BitSize + 7) / 8
		if len(c.signature) != 2*width {
			return ErrSignature
		}
		var room [maxASN1]byte
		if !ecdsa.VerifyASN1(public, k.digest(c.signed), appendASN1(room[:0], c.signature)) {
			return ErrSignature
		}
		return nil
	default:
		return ErrUnfit
	}
}

// stackSize is the size up to which a token is hashed from a buffer on the stack,
// without an allocation. A pod's token is smaller.
const stackSize = 2 << 10

func (k Key) digest(signed string) []byte {
	var room [stackSize]byte
	data := append(room[:0], signed...)
	switch k.hash {
	case crypto.SHA384:
		sum := sha512.Sum384(data)
		return sum[:]
	case crypto.SHA512:
		sum := sha512.Sum512(data)
		return sum[:]
	default:
		sum := sha256.Sum256(data)
		return sum[:]
	}
}

// maxASN1 is the size of the largest signature in ASN.1, which is one on P-521.
const maxASN1 = 3 + 2*(2+1+66)

// appendASN1 appends a signature in the form that crypto/ecdsa takes: a SEQUENCE of
// two INTEGERs in DER. It came as r and s, each at the full width of the curve (RFC
// 7518, section 3.4).
func appendASN1(der, signature []byte) []byte {
	var room [maxASN1]byte
	numbers := appendInteger(room[:0], signature[:len(signature)/2])
	numbers = appendInteger(numbers, signature[len(signature)/2:])
	der = append(der, 0x30)
	if len(numbers) > 0x7f {
		der = append(der, 0x81)
	}
	der = append(der, byte(len(numbers)))
	return append(der, numbers...)
}

func appendInteger(der, value []byte) []byte {
	for len(value) > 1 && value[0] == 0 {
		value = value[1:]
	}
	if value[0] > 0x7f { // would be negative
		der = append(der, 0x02, byte(len(value)+1), 0)
	} else {
		der = append(der, 0x02, byte(len(value)))
	}
	return append(der, value...)
}
