package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	_ "embed"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
)

// These are fixed, since crypto/rsa can't make a key from a seed.
var (
	//go:embed rsa_cluster.pem
	rsaCluster []byte
	//go:embed rsa_stranger.pem
	rsaStranger []byte
)

// signer is a private key with its ID as Kubernetes derives it.
type signer struct {
	alg     string
	private crypto.Signer
	kid     string
}

// keys are those of the cluster, and one pair that is not in its set.
type keys struct {
	rs256, es256, es384, es512   *signer
	strangerRS256, strangerES256 *signer
}

func newKeys() *keys {
	return &keys{
		rs256:         rsaSigner(rsaCluster),
		es256:         ecdsaSigner("ES256", elliptic.P256(), "cluster"),
		es384:         ecdsaSigner("ES384", elliptic.P384(), "cluster"),
		es512:         ecdsaSigner("ES512", elliptic.P521(), "cluster"),
		strangerRS256: rsaSigner(rsaStranger),
		strangerES256: ecdsaSigner("ES256", elliptic.P256(), "stranger"),
	}
}

func rsaSigner(text []byte) *signer {
	block, _ := pem.Decode(text)
	private := must(x509.ParsePKCS8PrivateKey(block.Bytes)).(*rsa.PrivateKey)
	return &signer{"RS256", private, keyID(private.Public())}
}

// ecdsaSigner makes a key from a seed. TEST ONLY: anybody can make it.
func ecdsaSigner(alg string, curve elliptic.Curve, seed string) *signer {
	sum := sha512.Sum512([]byte("TEST ONLY " + alg + " " + seed))
	size := (curve.Params().BitSize + 7) / 8
	scalar := append(make([]byte, 66), sum[:]...)
	scalar = scalar[len(scalar)-size:]
	scalar[0] = 0 // below every order
	private := must(ecdsa.ParseRawPrivateKey(curve, scalar))
	return &signer{alg, private, keyID(private.Public())}
}

// keyID is keyIDFromPublicKey in k8s.io/kubernetes pkg/serviceaccount/jwt.go.
func keyID(public crypto.PublicKey) string {
	sum := sha256.Sum256(spki(public))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func spki(public crypto.PublicKey) []byte { return must(x509.MarshalPKIXPublicKey(public)) }

func spkiPEM(public crypto.PublicKey) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki(public)}))
}

// sign signs with the algorithm of the key.
func (s *signer) sign(input string) []byte {
	hash := map[string]crypto.Hash{"RS256": crypto.SHA256, "ES256": crypto.SHA256, "ES384": crypto.SHA384, "ES512": crypto.SHA512}[s.alg]
	if private, ok := s.private.(*rsa.PrivateKey); ok {
		return must(rsa.SignPKCS1v15(nil, private, hash, digest(hash, input)))
	}
	// A nil reader makes it deterministic (RFC 6979).
	r, v := s.parse(must(s.private.Sign(nil, digest(hash, input), hash)))
	return s.join(r, v)
}

func digest(hash crypto.Hash, input string) []byte {
	h := hash.New()
	h.Write([]byte(input))
	return h.Sum(nil)
}

func (s *signer) parse(der []byte) (r, v *big.Int) {
	var pair struct{ R, S *big.Int }
	must(asn1.Unmarshal(der, &pair))
	return pair.R, pair.S
}

// join is RFC 7518, section 3.4: both at the full width of the curve.
func (s *signer) join(r, v *big.Int) []byte {
	width := s.width()
	out := make([]byte, 2*width)
	r.FillBytes(out[:width])
	v.FillBytes(out[width:])
	return out
}

func (s *signer) curve() *elliptic.CurveParams {
	return s.private.Public().(*ecdsa.PublicKey).Params()
}

func (s *signer) width() int { return (s.curve().BitSize + 7) / 8 }

// raw is the private operation on a message that is already padded.
func (s *signer) raw(padded []byte) []byte {
	private := s.private.(*rsa.PrivateKey)
	m := new(big.Int).SetBytes(padded)
	return m.Exp(m, private.D, private.N).FillBytes(make([]byte, private.Size()))
}

// jwk is a public key as kube-apiserver publishes it.
func (s *signer) jwk() object {
	o := object{{"use", `"sig"`}}
	switch public := s.private.Public().(type) {
	case *rsa.PublicKey:
		o = append(o, member{"kty", `"RSA"`}, member{"kid", quoted(s.kid)}, member{"alg", quoted(s.alg)},
			member{"n", quoted(encode(public.N.Bytes()))},
			member{"e", quoted(encode(big.NewInt(int64(public.E)).Bytes()))})
	case *ecdsa.PublicKey:
		point := must(public.Bytes()) // 4, x, y
		o = append(o, member{"kty", `"EC"`}, member{"kid", quoted(s.kid)}, member{"crv", quoted(public.Params().Name)}, member{"alg", quoted(s.alg)},
			member{"x", quoted(encode(point[1 : 1+s.width()]))},
			member{"y", quoted(encode(point[1+s.width():]))})
	}
	return o
}

func (k *keys) cluster() []*signer { return []*signer{k.rs256, k.es256, k.es384, k.es512} }

// sets are the key sets that tokens are judged by: JWKS as if fetched, and PEM
// as if given.
func (k *keys) sets() map[string]string {
	var all []object
	var texts strings.Builder
	for _, s := range k.cluster() {
		all = append(all, s.jwk())
		texts.WriteString(spkiPEM(s.private.Public()))
	}
	// with is the cluster's set with a change to its RSA key.
	with := func(change func(object) object) string {
		return jwks(append([]object{change(k.rs256.jwk())}, all[1:]...)...)
	}
	var five strings.Builder
	for _, seed := range []string{"cluster", "2", "3", "4", "5"} {
		five.WriteString(spkiPEM(ecdsaSigner("ES256", elliptic.P256(), seed).private.Public()))
	}
	four := strings.SplitAfter(five.String(), "-----END PUBLIC KEY-----\n")[:4]
	return map[string]string{
		"cluster.jwks":     jwks(all...),
		"cluster.pem":      texts.String(),
		"four_es256.pem":   strings.Join(four, ""),
		"five_es256.pem":   five.String(),
		"rsa_only.jwks":    jwks(k.rs256.jwk()),
		"rsa_only.pem":     spkiPEM(k.rs256.private.Public()),
		"stranger.jwks":    jwks(k.strangerRS256.jwk(), k.strangerES256.jwk()),
		"same_kid.jwks":    jwks(k.strangerRS256.jwk().set("kid", quoted(k.rs256.kid))),
		"no_alg.jwks":      with(func(o object) object { return o.drop("alg") }),
		"no_use.jwks":      with(func(o object) object { return o.drop("use") }),
		"ops_verify.jwks":  with(func(o object) object { return o.set("key_ops", `["verify"]`) }),
		"ops_encrypt.jwks": with(func(o object) object { return o.set("key_ops", `["encrypt"]`) }),
		"use_enc.jwks":     with(func(o object) object { return o.set("use", `"enc"`) }),
		"alg_rsa15.jwks":   with(func(o object) object { return o.set("alg", `"RSA1_5"`) }),
		"alg_ps256.jwks":   with(func(o object) object { return o.set("alg", `"PS256"`) }),
		"alg_rs512.jwks":   with(func(o object) object { return o.set("alg", `"RS512"`) }),
		"with_oct.jwks":    jwks(append([]object{{{"kty", `"oct"`}, {"kid", `"shared"`}, {"alg", `"HS256"`}, {"k", quoted(encode([]byte(sharedSecret)))}}}, all...)...),
		"private.jwks":     with(func(o object) object { return o.set("d", `"AQAB"`) }),
		"doubled.jwks":     jwks(append([]object{k.strangerRS256.jwk().set("kid", quoted(k.rs256.kid))}, all...)...),
	}
}

const sharedSecret = "0123456789abcdef0123456789abcdef"

func jwks(list ...object) string {
	var texts []string
	for _, o := range list {
		texts = append(texts, o.String())
	}
	return `{"keys":[` + strings.Join(texts, ",") + "]}\n"
}

func encode(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

func quoted(s string) string { return string(must(json.Marshal(s))) }

// must panics on an error that only a mistake in this program can cause.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
