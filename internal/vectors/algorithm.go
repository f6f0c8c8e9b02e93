package main

import (
	"bytes"
	"crypto"
	"crypto/hmac"
	"crypto/rsa"
	_ "crypto/sha1" // for RS1, which nobody must take
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"hash"
	"strings"
)

// none is a header of alg and a signature that is not empty.
func none(alg string) change {
	return all(setHeader("alg", quoted(alg)), signWith(func(*signer, string) []byte { return []byte{0} }))
}

// macWith signs with a secret that everybody knows: a form of the public key
// (CVE-2016-10555).
func macWith(alg string, newHash func() hash.Hash, secret []byte) change {
	return all(setHeader("alg", quoted(alg)), signWith(func(_ *signer, input string) []byte {
		mac := hmac.New(newHash, secret)
		mac.Write([]byte(input))
		return mac.Sum(nil)
	}))
}

func hs256(secret []byte) change { return macWith("HS256", sha256.New, secret) }

// pkcs1 signs with RSASSA-PKCS1-v1_5 and another hash.
func pkcs1(alg string, h crypto.Hash) change {
	return all(setHeader("alg", quoted(alg)), signWith(func(s *signer, input string) []byte {
		return must(rsa.SignPKCS1v15(nil, s.private.(*rsa.PrivateKey), h, digest(h, input)))
	}))
}

// pss is RSASSA-PSS with a fixed salt (RFC 8017, section 9.1.1).
func pss(s *signer, input string) []byte {
	salt := bytes.Repeat([]byte{7}, sha256.Size)
	h := sha256.New()
	h.Write(make([]byte, 8))
	h.Write(digest(crypto.SHA256, input))
	h.Write(salt)
	sum := h.Sum(nil)

	size := s.private.(*rsa.PrivateKey).Size()
	block := make([]byte, size-len(sum)-1)
	copy(block[len(block)-len(salt):], salt)
	block[len(block)-len(salt)-1] = 1
	for i := range block {
		counter := sha256.New() // MGF1
		counter.Write(sum)
		counter.Write([]byte{0, 0, 0, byte(i / sha256.Size)})
		block[i] ^= counter.Sum(nil)[i%sha256.Size]
	}
	block[0] &= 0x7f
	return s.raw(append(append(block, sum...), 0xbc))
}

// named writes an alg into the header that the token was not signed with.
func named(alg string) change { return setHeader("alg", quoted(alg)) }

// algorithm is G3: confusion about algorithms and keys.
func algorithm(k *keys) table {
	rsaPublic := k.rs256.private.Public().(*rsa.PublicKey)
	text := spkiPEM(rsaPublic)
	pkcs1DER := x509.MarshalPKCS1PublicKey(rsaPublic)
	pkcs1PEM := pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: pkcs1DER})
	point := spki(k.es256.private.Public())

	rows := []row{
		{name: "none_no_signature", expect: malformed, change: all(named("none"), signWith(func(*signer, string) []byte { return nil })), source: "G3.121, CVE-2015-2951", comment: "none, and no signature: an empty segment comes first"},
		{name: "none", change: none("none"), source: "G3.121, CVE-2015-2951", comment: "none, and a byte for a signature"},
		{name: "none_capital", change: none("None"), source: "G3.122", comment: "None"},
		{name: "none_upper_case", change: none("NONE"), source: "G3.123", comment: "NONE"},
		{name: "none_mixed_case", change: none("nOnE"), source: "G3.124", comment: "nOnE"},
		{name: "none_blank", change: none(" none"), source: "G3.125", comment: "none and a blank"},
		{name: "none_nul", change: none("none\x00"), source: "G3.125", comment: "none and a NUL"},
		{name: "none_signed", change: named("none"), source: "G3.127", comment: "none, and a good signature"},
		{name: "none_kid_none", change: all(none("none"), setHeader("kid", `"none"`)), source: "G3.128", comment: "none as kid too"},
		{name: "hs256_pem", change: hs256([]byte(text)), source: "G3.129, CVE-2016-10555", comment: "the public key's PEM as a secret"},
		{name: "hs256_pem_trimmed", change: hs256([]byte(strings.TrimSpace(text))), source: "G3.130", comment: "the public key's PEM as a secret, without the last line break"},
		{name: "hs256_pkcs1_pem", change: hs256(pkcs1PEM), source: "G3.131", comment: "the public key's PEM in PKCS #1 as a secret"},
		{name: "hs256_der", change: hs256(spki(rsaPublic)), source: "G3.132", comment: "the public key's DER as a secret"},
		{name: "hs256_pkcs1_der", change: hs256(pkcs1DER), source: "G3.132", comment: "the public key's DER in PKCS #1 as a secret"},
		{name: "hs256_jwk", change: hs256([]byte(k.rs256.jwk().String())), source: "G3.133", comment: "the public key's JWK as a secret"},
		{name: "hs256_modulus", change: hs256(rsaPublic.N.Bytes()), source: "G3.132", comment: "the public key's modulus as a secret"},
		{name: "hs256_ec_point", change: all(byES256, hs256(point[len(point)-64:])), sibling: "good_es256", source: "G3.135", comment: "an EC key's coordinates as a secret"},
		{name: "hs256_ec_der", change: all(byES256, hs256(point)), sibling: "good_es256", source: "G3.135", comment: "an EC key's DER as a secret"},
		{name: "hs256_empty_key", change: hs256(nil), source: "G3.137, CVE-2019-20933", comment: "nothing as a secret"},
		{name: "hs256_null_key", change: hs256([]byte("null")), source: "G3.138", comment: "null as a secret"},
		{name: "hs384", change: macWith("HS384", sha512.New384, []byte(text)), source: "G3.139", comment: "the public key's PEM as a secret"},
		{name: "hs512", change: macWith("HS512", sha512.New, []byte(text)), source: "G3.140", comment: "the public key's PEM as a secret"},
		{name: "hs256_published_secret", change: all(setHeader("kid", `"shared"`), hs256([]byte(sharedSecret))), with: settings{keys: "with_oct.jwks"}, sibling: "alg_beside_oct", source: "G3.141", comment: "a secret that the set publishes"},
		{name: "hs256_unsigned_change", change: named("HS256"), source: "G3.129", comment: "HS256 over a good RSA signature"},
		{name: "ps256", change: all(named("PS256"), signWith(pss)), source: "G3.147, RFC 8725 section 3.1", comment: "a good PSS signature of the RSA key: each key is for one algorithm"},
		{name: "ps384", change: named("PS384"), source: "G3.147", comment: "an algorithm that Kubernetes does not sign with"},
		{name: "ps512", change: named("PS512"), source: "G3.147", comment: "an algorithm that Kubernetes does not sign with"},
		{name: "rs384", change: pkcs1("RS384", crypto.SHA384), source: "G3.148", comment: "a good RS384 signature of the RSA key"},
		{name: "rs512", change: pkcs1("RS512", crypto.SHA512), source: "G3.149", comment: "a good RS512 signature of the RSA key"},
		{name: "rs1", change: pkcs1("RS1", crypto.SHA1), source: "G3.151", comment: "a good SHA-1 signature of the RSA key"},
		{name: "es256k", change: all(byES256, named("ES256K")), sibling: "good_es256", source: "G3.152", comment: "another curve"},
		{name: "eddsa", change: named("EdDSA"), source: "G3.153", comment: "an algorithm that Kubernetes does not sign with"},
		{name: "ed25519", change: named("Ed25519"), source: "G3.154", comment: "an algorithm that Kubernetes does not sign with"},
		{name: "ml_dsa_65", change: named("ML-DSA-65"), source: "G3.155", comment: "an algorithm that Kubernetes does not sign with yet"},
		{name: "unknown", change: named("XX256"), source: "G3.156", comment: "an algorithm that nobody knows"},
		{name: "lower_case", change: named("rs256"), source: "G3.157", comment: "names are case-sensitive"},
		{name: "mixed_case", change: named("Rs256"), source: "G3.157", comment: "names are case-sensitive"},
		{name: "trailing_blank", change: named("RS256 "), source: "G3.157", comment: "the name and a blank"},
		{name: "list", change: named("RS256,none"), source: "G3.157", comment: "two names"},
		{name: "dir", change: named("dir"), source: "G3.156", comment: "an algorithm of encryption"},
		{name: "rsa_oaep", change: named("RSA-OAEP"), source: "G3.156", comment: "an algorithm of encryption"},
		{name: "rs256_on_p256", expect: unfitKey, change: all(byES256, named("RS256")), sibling: "good_es256", source: "G3.142", comment: "RSA with an EC key"},
		{name: "es256_on_rsa", expect: unfitKey, change: named("ES256"), source: "G3.143", comment: "ECDSA with an RSA key"},
		{name: "es384_on_p256", expect: unfitKey, change: all(byES256, named("ES384")), sibling: "good_es256", source: "G3.145, RFC 7518 section 3.4", comment: "each curve has its own algorithm"},
		{name: "es512_on_p256", expect: unfitKey, change: all(byES256, named("ES512")), sibling: "good_es256", source: "G3.146, RFC 7518 section 3.4", comment: "each curve has its own algorithm"},
		{name: "es256_on_p384", expect: unfitKey, change: all(byES384, named("ES256")), sibling: "good_es384", source: "RFC 7518 section 3.4", comment: "each curve has its own algorithm"},
		{name: "es256_on_p521", expect: unfitKey, change: all(byES512, named("ES256")), sibling: "good_es512", source: "RFC 7518 section 3.4", comment: "each curve has its own algorithm"},
		{name: "kid_of_another_key", expect: unfitKey, change: func(t *token) { t.header = t.header.set("kid", quoted(t.keys.es256.kid)) }, source: "G3.142", comment: "the kid of the EC key on an RSA token"},
	}
	for i := range rows {
		rows[i].expect = orElse(rows[i].expect, badAlgorithm)
	}
	kidOfStranger := func(t *token) { t.header = t.header.set("kid", quoted(t.keys.strangerRS256.kid)) }
	return table{"alg_", append(rows,
		row{name: "jwk_without_alg", with: settings{keys: "no_alg.jwks"}, source: "G3.150", comment: "a published key without alg: the key's type says it"},
		row{name: "jwk_without_use", with: settings{keys: "no_use.jwks"}, source: "RFC 7517 section 4.2", comment: "a published key without use"},
		row{name: "jwk_ops_verify", with: settings{keys: "ops_verify.jwks"}, source: "RFC 7517 section 4.3", comment: "a published key for verifying"},
		row{name: "beside_oct", with: settings{keys: "with_oct.jwks"}, source: "G8.391", comment: "a set with a secret in it: the other keys stay"},
		row{name: "jwk_use_enc", expect: unknownKey, with: settings{keys: "use_enc.jwks"}, source: "G3.162, RFC 7517 section 4.2", comment: "a published key for encryption"},
		row{name: "jwk_ops_encrypt", expect: unknownKey, with: settings{keys: "ops_encrypt.jwks"}, source: "G3.163, RFC 7517 section 4.3", comment: "a published key for encryption"},
		row{name: "jwk_alg_rsa15", expect: unknownKey, with: settings{keys: "alg_rsa15.jwks"}, source: "G3.164", comment: "a published key for an algorithm of encryption"},
		row{name: "jwk_alg_ps256", expect: unknownKey, with: settings{keys: "alg_ps256.jwks"}, source: "RFC 7517 section 4.4", comment: "a published key for another algorithm than the token's"},
		row{name: "jwk_alg_rs512", expect: unknownKey, with: settings{keys: "alg_rs512.jwks"}, source: "RFC 7517 section 4.4", comment: "a published key for another algorithm than the token's"},
		row{name: "jwk_private", expect: unknownKey, with: settings{keys: "private.jwks"}, source: "G8.389", comment: "a published key with its private half: whoever reads the set can sign"},
		row{name: "jwk_doubled_kid", expect: unknownKey, with: settings{keys: "doubled.jwks"}, source: "G8.393", comment: "two keys of one kid: neither can be trusted to be the one meant"},
		row{name: "key_dropped", expect: unknownKey, change: byES256, with: settings{keys: "rsa_only.jwks"}, sibling: "good_es256", source: "RFC 8725 section 3.8", comment: "a key that is published no more"},
		row{name: "stranger", expect: unknownKey, change: all(signedBy(strangerRS), kidOfStranger), source: "G3.160", comment: "another cluster's key under its own kid"},
		row{name: "stranger_own_set", change: all(signedBy(strangerRS), kidOfStranger), with: settings{keys: "stranger.jwks"}, source: "G3.160", comment: "the same token is good where that key is published"},
		row{name: "same_kid_other_cluster", expect: badSignature, with: settings{keys: "same_kid.jwks"}, source: "G3.161, G7.360", comment: "the same kid is another key there"},
	)}
}
