package keyset

import (
	"crypto"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/kubejwt/kubejwt/internal/strictjson"
)

// decodeJWKS opens the envelope of RFC 7517, section 5.
func decodeJWKS(data []byte) ([]json.RawMessage, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
		Type string            `json:"kty"`
	}
	if err := strictjson.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("no JWKS: %w", err)
	}
	switch {
	case set.Keys == nil && set.Type != "":
		return nil, errors.New(`a single JWK: put it into {"keys":[…]}`)
	case len(set.Keys) == 0:
		return nil, errors.New("no JWKS: it has no keys")
	case len(set.Keys) > MaxKeys:
		return nil, fmt.Errorf("a JWKS of %d keys: at most %d are read", len(set.Keys), MaxKeys)
	}
	return set.Keys, nil
}

// parseJWKS reads a set that a person put in place: an odd key is an error. A
// key of an unknown kty or crv is skipped, as RFC 7517, section 5 asks, if a
// usable one is left.
func parseJWKS(data []byte) ([]*Key, error) {
	list, err := decodeJWKS(data)
	if err != nil {
		return nil, err
	}
	var keys []*Key
	var skipped error
	for i, raw := range list {
		k, _, err := parseJWK(raw)
		switch {
		case errors.Is(err, errUnknownKeyType):
			skipped = fmt.Errorf("key %d: %w", i+1, err)
		case err != nil:
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		default:
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("no usable key: %w", skipped)
	}
	return keys, nil
}

// ParseFetched reads a JWKS that came over the network: a key that cannot be
// used is dropped and the others stay (RFC 7517, section 5). A set without a
// usable key is an error.
func ParseFetched(data []byte) (*Set, error) {
	list, err := decodeJWKS(data)
	if err != nil {
		return nil, err
	}
	set := newSet()
	for i, raw := range list {
		k, id, err := parseJWK(raw)
		if err == nil && id == "" {
			err = errors.New("a key without kid")
		}
		if err != nil {
			set.Dropped = append(set.Dropped, Dropped{id, fmt.Sprintf("key %d: %v", i+1, err)})
			continue
		}
		set.add(k)
	}
	set.dropDuplicates()
	if len(set.Keys) == 0 {
		return nil, fmt.Errorf("a JWKS without a usable key: %s", set.Dropped[0].Why)
	}
	return set, nil
}

// jwkHead is what tells whether a JSON Web Key is one for here at all.
type jwkHead struct {
	Type  string  `json:"kty"`
	Curve string  `json:"crv"`
	KeyID *string `json:"kid"`

	Symmetric json.RawMessage `json:"k"`
	D         json.RawMessage `json:"d"`
	P         json.RawMessage `json:"p"`
	Q         json.RawMessage `json:"q"`
	DP        json.RawMessage `json:"dp"`
	DQ        json.RawMessage `json:"dq"`
	QI        json.RawMessage `json:"qi"`
	Others    json.RawMessage `json:"oth"`
}

// check lets known public keys pass, and nothing else.
func (h *jwkHead) check() error {
	private := [][]byte{h.D, h.P, h.Q, h.DP, h.DQ, h.QI, h.Others}
	switch {
	case h.Symmetric != nil || h.Type == "oct":
		return errors.New("a symmetric key, which anybody who verifies could sign with")
	case slices.ContainsFunc(private, func(member []byte) bool { return member != nil }):
		return errors.New("a private key, which must stay with the API server")
	case h.Type == "":
		return errors.New("a key without kty")
	case h.Type == "EC" && h.Curve == "":
		return errors.New("an EC key without crv")
	case h.Type == "EC" && !slices.Contains([]string{"P-256", "P-384", "P-521"}, h.Curve):
		return errUnknownKeyType
	case h.Type != "EC" && h.Type != "RSA":
		return errUnknownKeyType
	default:
		return nil
	}
}

// jwk is a JSON Web Key of a known kind as far as it matters here. The x5*
// members do not.
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

// errUnknownKeyType is of a key that a later Kubernetes may sign with.
var errUnknownKeyType = errors.New("an unknown kty or crv")

// parseJWK reads one key. It returns the kid, "" if there is none, beside an
// error too.
func parseJWK(raw []byte) (k *Key, id string, err error) {
	var head jwkHead
	if err := strictjson.Unmarshal(raw, &head); err != nil {
		return nil, "", err
	}
	if head.KeyID != nil {
		id = *head.KeyID
	}
	if len(id) > maxKeyID {
		return nil, "", fmt.Errorf("a kid of more than %d bytes", maxKeyID)
	}
	if err := head.check(); err != nil {
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
		return nil, id, fmt.Errorf("a key whose alg is not %s, as its type asks for", k.Algorithm())
	}
	return k, id, nil
}

// checkUse lets a key pass that is for checking signatures (RFC 7517, sections
// 4.2 and 4.3).
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

// public is the key itself, of members in their one canonical spelling.
func (j *jwk) public() (crypto.PublicKey, error) {
	if j.Type == "RSA" {
		return j.rsa()
	}
	return j.ec()
}

// rsa reads an RSA key without go-jose, which takes 4096 bits at most.
func (j *jwk) rsa() (*rsa.PublicKey, error) {
	n, err := decodeCanonical(j.N)
	if err != nil || n[0] == 0 {
		return nil, errors.New("an RSA key whose n is missing or not canonical")
	}
	e, err := decodeCanonical(j.E)
	if err != nil || e[0] == 0 || len(e) > 4 {
		return nil, errors.New("an RSA key whose e is missing, not canonical or too large")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}, nil
}

// ec hands go-jose nothing but the members of the public key: it takes other
// spellings too, and gives up a good key over an x5c that it can't read.
func (j *jwk) ec() (crypto.PublicKey, error) {
	_, errX := decodeCanonical(j.X)
	_, errY := decodeCanonical(j.Y)
	if errX != nil || errY != nil {
		return nil, errors.New("an EC key whose x or y is missing or not canonical")
	}
	minimal, err := json.Marshal(map[string]string{"kty": j.Type, "crv": j.Curve, "x": j.X, "y": j.Y})
	if err != nil {
		return nil, err
	}
	var library jose.JSONWebKey
	if err := library.UnmarshalJSON(minimal); err != nil {
		return nil, errors.New("a damaged key")
	}
	return library.Key, nil
}

// decodeCanonical decodes base64url in its one spelling, and refuses nothing at
// all.
func decodeCanonical(s string) ([]byte, error) {
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(decoded) == 0 || strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("not canonical base64url")
	}
	return decoded, nil
}
