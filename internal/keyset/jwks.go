package keyset

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/kubejwt/kubejwt/internal/strictjson"
	"github.com/kubejwt/kubejwt/internal/textfile"
)

// decodeJWKS returns the keys in a JWKS (RFC 7517, section 5), still encoded.
func decodeJWKS(data []byte) ([]json.RawMessage, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
		Type string            `json:"kty"`
	}
	if err := strictjson.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("not a JWKS: %w", err)
	}
	switch {
	case set.Keys == nil && set.Type != "":
		return nil, errors.New(`a single JWK: put it into {"keys":[…]}`)
	case len(set.Keys) == 0:
		return nil, errors.New("not a JWKS: it has no keys")
	case len(set.Keys) > MaxKeys:
		return nil, fmt.Errorf("a JWKS with %d keys: at most %d are read", len(set.Keys), MaxKeys)
	}
	return set.Keys, nil
}

// entry is one key of a JWKS, or what is wrong with it.
type entry struct {
	id  string // "" if there is none that can be read
	key *Key
	err error
}

func readJWKS(data []byte) ([]entry, error) {
	list, err := decodeJWKS(data)
	if err != nil {
		return nil, err
	}
	entries := make([]entry, len(list))
	for i, raw := range list {
		k, id, err := parseJWK(raw)
		if err != nil {
			err = fmt.Errorf("key %d: %w", i+1, err)
		}
		entries[i] = entry{id, k, err}
	}
	return entries, nil
}

// collect makes a set of the usable keys, and lists the others in Dropped.
func collect(entries []entry) *Set {
	set := newSet()
	for _, e := range entries {
		if e.err != nil {
			set.Dropped = append(set.Dropped, Dropped{e.id, e.err.Error()})
			continue
		}
		set.add(e.key)
	}
	return set
}

// parseJWKS reads a set for a caller who sees the error at once, so an odd key is
// an error. A key with an unknown kty or crv is skipped, as RFC 7517, section 5
// asks, if a usable one is left.
func parseJWKS(data []byte) (*Set, error) {
	entries, err := readJWKS(data)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.err != nil && !errors.Is(e.err, errUnknownKeyType) {
			return nil, e.err
		}
	}
	return collect(entries).unambiguous()
}

// parseJWKSFile reads a set that a person put into a file. An API server may have
// published it with an odd key, which is dropped as in a fetched set. A secret is an
// error: it must not be there.
func parseJWKSFile(data []byte) (*Set, error) {
	entries, err := readJWKS(data)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if errors.Is(e.err, errSymmetric) || errors.Is(e.err, errPrivate) {
			return nil, e.err
		}
	}
	return collect(entries).unambiguous()
}

// ParseFetched reads a JWKS that came over the network. A key that can't be used is
// dropped and the others stay (RFC 7517, section 5). A set without a usable key is
// an error.
func ParseFetched(data []byte) (*Set, error) {
	data, err := textfile.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("not a JWKS: %w", err)
	}
	entries, err := readJWKS(data)
	if err != nil {
		return nil, err
	}
	set := collect(entries)
	set.dropDuplicates()
	return set.usable()
}

// jwkSecrets has the members that nobody may publish, of whatever type.
type jwkSecrets struct {
	Symmetric json.RawMessage `json:"k"`
	D         json.RawMessage `json:"d"`
	P         json.RawMessage `json:"p"`
	Q         json.RawMessage `json:"q"`
	DP        json.RawMessage `json:"dp"`
	DQ        json.RawMessage `json:"dq"`
	QI        json.RawMessage `json:"qi"`
	Others    json.RawMessage `json:"oth"`
}

// check returns an error if there is one of them.
func (s *jwkSecrets) check() error {
	private := [][]byte{s.D, s.P, s.Q, s.DP, s.DQ, s.QI, s.Others}
	switch {
	case s.Symmetric != nil:
		return errSymmetric
	case slices.ContainsFunc(private, func(member []byte) bool { return member != nil }):
		return errPrivate
	default:
		return nil
	}
}

// jwkHead has the members that tell whether a JSON Web Key can be used here.
type jwkHead struct {
	Type  string  `json:"kty"`
	Curve string  `json:"crv"`
	KeyID *string `json:"kid"`
}

// check returns an error unless this is a public key of a known kind.
func (h *jwkHead) check() error {
	switch {
	case h.Type == "oct":
		return errSymmetric
	case h.Type == "":
		return errors.New("a key without kty")
	case h.Type == "EC" && h.Curve == "":
		return errors.New("an EC key without crv")
	case h.Type == "EC" && curveOf(h.Curve) == nil:
		return errUnknownKeyType
	case h.Type != "EC" && h.Type != "RSA":
		return errUnknownKeyType
	default:
		return nil
	}
}

// jwk has the members of a JSON Web Key that matter here. The x5* members don't.
type jwk struct {
	Type       string   `json:"kty"`
	Curve      string   `json:"crv"`
	Use        *string  `json:"use"`
	Algorithm  *string  `json:"alg"`
	Operations []string `json:"key_ops"`
	N          string   `json:"n"`
	E          string   `json:"e"`
	X          string   `json:"x"`
	Y          string   `json:"y"`
}

var (
	// errUnknownKeyType is the error for a key that a later Kubernetes may sign with.
	errUnknownKeyType = errors.New("an unknown kty or crv")

	errSymmetric = errors.New("a symmetric key: whoever can verify with it can also sign with it")
	errPrivate   = errors.New("a private key, which must stay with the API server")
)

// parseJWK reads one key. It returns the kid, "" if there is none, even with an
// error.
func parseJWK(raw []byte) (k *Key, id string, err error) {
	var secrets jwkSecrets
	if err := strictjson.Unmarshal(raw, &secrets); err != nil {
		return nil, "", err
	}
	errSecret := secrets.check() // told before all else that is odd: in a file it is an error
	var head jwkHead
	if err := strictjson.Unmarshal(raw, &head); err != nil {
		return nil, "", cmp.Or(errSecret, err)
	}
	if head.KeyID != nil {
		id = *head.KeyID
	}
	if len(id) > maxKeyID {
		return nil, "", cmp.Or(errSecret, fmt.Errorf("a kid of more than %d bytes", maxKeyID))
	}
	if err := cmp.Or(errSecret, head.check()); err != nil {
		return nil, id, err
	}
	var j jwk
	if err := strictjson.Unmarshal(raw, &j); err != nil {
		return nil, id, err
	}
	if err := j.checkUse(); err != nil {
		return nil, id, err
	}
	public, err := j.public()
	if err != nil {
		return nil, id, err
	}
	if k, err = NewKey(id, public); err != nil {
		return nil, id, err
	}
	if j.Algorithm != nil && *j.Algorithm != k.Algorithm() {
		return nil, id, fmt.Errorf("a key whose alg is not %s, the only one for its type", k.Algorithm())
	}
	return k, id, nil
}

// checkUse returns an error unless the key is for verifying signatures (RFC 7517,
// sections 4.2 and 4.3).
func (j *jwk) checkUse() error {
	switch {
	case j.Use != nil && *j.Use != "sig":
		return errors.New("a key whose use is not sig")
	case j.Operations != nil && !slices.Contains(j.Operations, "verify"):
		return errors.New("a key whose key_ops have no verify")
	case len(slices.Compact(slices.Sorted(slices.Values(j.Operations)))) != len(j.Operations):
		return errors.New("a key that names one of its key_ops twice")
	default:
		return nil
	}
}

// public returns the key itself. It takes what go-jose takes, which Kubernetes uses
// to read a JWKS, as long as there is only one way to read it.
func (j *jwk) public() (crypto.PublicKey, error) {
	if j.Type == "RSA" {
		return j.rsa()
	}
	return j.ec()
}

// rsa allows zero bytes in front of n: some tools write one, because the first bit of
// n is set. They don't change the integer.
func (j *jwk) rsa() (*rsa.PublicKey, error) {
	n, err := decodeMember("n", j.N)
	if err != nil {
		return nil, err
	}
	e, err := decodeMember("e", j.E)
	if err != nil {
		return nil, err
	}
	switch {
	case len(e) > 4:
		return nil, fmt.Errorf("an RSA key whose e is too large: it has %d bytes, and at most 4 are read", len(e))
	case e[0] == 0:
		return nil, errors.New("an RSA key whose e is not canonical: there is a zero byte in front of it")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}, nil
}

func (j *jwk) ec() (*ecdsa.PublicKey, error) {
	curve := curveOf(j.Curve)
	x, err := decodeCoordinate("x", j.X, curve)
	if err != nil {
		return nil, err
	}
	y, err := decodeCoordinate("y", j.Y, curve)
	if err != nil {
		return nil, err
	}
	const uncompressed = 4 // SEC 1, section 2.3.4
	public, err := ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{uncompressed}, x, y))
	if err != nil {
		return nil, fmt.Errorf("a damaged EC key, whose point is not on %s", j.Curve)
	}
	return public, nil
}

// curveOf returns nil for a curve that none of our algorithms uses.
func curveOf(name string) elliptic.Curve {
	switch name {
	case "P-256":
		return elliptic.P256()
	case "P-384":
		return elliptic.P384()
	case "P-521":
		return elliptic.P521()
	default:
		return nil
	}
}

// decodeCoordinate decodes a member, which must have the full width of the curve
// (RFC 7518, section 6.2.1.2).
func decodeCoordinate(member, s string, curve elliptic.Curve) ([]byte, error) {
	decoded, err := decodeMember(member, s)
	if err != nil {
		return nil, err
	}
	if width := (curve.Params().BitSize + 7) / 8; len(decoded) != width {
		return nil, fmt.Errorf("an EC key whose %s has %d bytes: want %d for %s",
			member, len(decoded), width, curve.Params().Name)
	}
	return decoded, nil
}

// decodeMember decodes base64url, in its only canonical spelling.
func decodeMember(member, s string) ([]byte, error) {
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(s)
	switch {
	case s == "":
		return nil, fmt.Errorf("a key without %s", member)
	case strings.Contains(s, "="):
		return nil, fmt.Errorf("a key whose %s is not canonical base64url: it is padded with =", member)
	case strings.ContainsAny(s, "+/"):
		return nil, fmt.Errorf("a key whose %s is not base64url, which has - and _ instead of + and /", member)
	case err != nil, strings.ContainsAny(s, "\r\n"):
		return nil, fmt.Errorf("a key whose %s is not canonical base64url", member)
	default:
		return decoded, nil
	}
}
