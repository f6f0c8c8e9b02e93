package main

import (
	"crypto"
	"crypto/rsa"
	"encoding/hex"
	"math/big"
	"slices"
)

// signed changes a good signature.
func signed(f func([]byte) []byte) change {
	return signWith(func(s *signer, input string) []byte { return f(s.sign(input)) })
}

// flip changes one bit.
func flip(at int) change {
	return signed(func(b []byte) []byte {
		i := (at + len(b)) % len(b)
		b[i] ^= 1
		return b
	})
}

// number signs with a number at the width of the key.
func number(n func(*rsa.PublicKey) *big.Int) change {
	return signWith(func(s *signer, _ string) []byte {
		public := s.private.Public().(*rsa.PublicKey)
		return n(public).FillBytes(make([]byte, public.Size()))
	})
}

// padded signs a hash that is padded in a way that PKCS #1 v1.5 forbids: with
// the key itself, so that nothing but the padding is wrong. It is made of
// filler, then info and the hash, then what follows.
func padded(info string, filler byte, after int) change {
	return signWith(func(s *signer, input string) []byte {
		message := append(must(hex.DecodeString(info)), digest(crypto.SHA256, input)...)
		block := make([]byte, s.private.(*rsa.PrivateKey).Size())
		end := len(block) - after
		copy(block[end-len(message):end], message)
		block[1] = 1
		for i := 2; i < end-len(message)-1; i++ {
			block[i] = filler
		}
		return s.raw(block)
	})
}

// sha256Info is the DigestInfo of SHA-256, as PKCS #1 v1.5 wants it.
const sha256Info = "3031300d060960864801650304020105000420"

// pair signs with r and s made from those of a good signature and the order.
func pair(f func(r, s, order *big.Int) (*big.Int, *big.Int)) change {
	return signWith(func(s *signer, input string) []byte {
		good := s.sign(input)
		w := s.width()
		r, v := f(new(big.Int).SetBytes(good[:w]), new(big.Int).SetBytes(good[w:]), s.curve().N)
		return s.join(r, v)
	})
}

func numbers(r, s int64) change {
	return pair(func(_, _, _ *big.Int) (*big.Int, *big.Int) { return big.NewInt(r), big.NewInt(s) })
}

func minus(order *big.Int, n int64) *big.Int { return new(big.Int).Sub(order, big.NewInt(n)) }

// der signs with ASN.1 instead of r and s.
func der(s *signer, input string) []byte {
	return must(s.private.Sign(nil, digest(crypto.SHA256, input), crypto.SHA256))
}

// signature is G4: the bytes of the signature.
func signature(k *keys) table {
	rows := []row{
		{name: "flipped_first", change: flip(0), source: "G4.165", comment: "one bit of the first byte"},
		{name: "flipped_middle", change: flip(100), source: "G4.165", comment: "one bit in the middle"},
		{name: "flipped_last", change: flip(-1), source: "G4.165", comment: "one bit of the last byte"},
		{name: "truncated", change: signed(func(b []byte) []byte { return b[:len(b)-3] }), source: "G4.166", comment: "four characters less"},
		{name: "one_byte", change: signed(func(b []byte) []byte { return b[:1] }), source: "G4.166", comment: "one byte of it"},
		{name: "doubled", change: signed(func(b []byte) []byte { return slices.Concat(b, b) }), source: "G4.168", comment: "twice in a row"},
		{name: "reversed", change: signed(func(b []byte) []byte { slices.Reverse(b); return b }), source: "G4.165", comment: "in the other byte order"},
		{name: "payload_changed", change: segment(1, func(s string) string { return encode([]byte(replace("sa1", "sa2")(decoded(s)))) }), source: "G4.169", comment: "another service account under the old signature"},
		{name: "payload_space", change: segment(1, func(s string) string { return encode([]byte(decoded(s) + " ")) }), source: "RFC 7515 section 5.2", comment: "white space that means nothing, under the old signature"},
		{name: "header_changed", change: segment(0, func(s string) string { return encode([]byte(replace("}", `,"typ":"JWT"}`)(decoded(s)))) }), source: "G4.170", comment: "a typ that means nothing, under the old signature"},
		{name: "header_reordered", change: all(signed(func(b []byte) []byte { return b }), segment(0, func(s string) string { return encode([]byte(replace("{", "{ ")(decoded(s)))) })), source: "RFC 7515 section 5.2", comment: "white space in the header, under the old signature"},
		{name: "of_payload_alone", change: signWith(func(s *signer, input string) []byte { return s.sign(input[len(input)/2:]) }), source: "RFC 7515 section 5.1", comment: "a signature of half of the token"},
		{name: "of_decoded", change: signWith(func(s *signer, input string) []byte { return s.sign(decoded(input[:4])) }), source: "RFC 7515 section 5.1", comment: "a signature of the decoded bytes"},
		{name: "stranger", change: signedBy(strangerRS), source: "G4.169", comment: "another key's signature under the cluster's kid"},
		{name: "rsa_leading_zero", change: signed(func(b []byte) []byte { return append([]byte{0}, b...) }), source: "G4.172, RFC 8017 section 8.2.2", comment: "a zero byte in front: longer than the modulus"},
		{name: "rsa_trailing_zero", change: signed(func(b []byte) []byte { return append(b, 0) }), source: "RFC 8017 section 8.2.2", comment: "a zero byte at the end"},
		{name: "rsa_0", change: number(func(*rsa.PublicKey) *big.Int { return big.NewInt(0) }), source: "G4.179", comment: "0"},
		{name: "rsa_1", change: number(func(*rsa.PublicKey) *big.Int { return big.NewInt(1) }), source: "G4.180", comment: "1"},
		{name: "rsa_n", change: number(func(p *rsa.PublicKey) *big.Int { return p.N }), source: "G4.182", comment: "the modulus"},
		{name: "rsa_ones", change: signed(func(b []byte) []byte {
			for i := range b {
				b[i] = 0xff
			}
			return b
		}), source: "G4.182", comment: "more than the modulus"},
		{name: "rsa_no_null", change: padded("302f300b06096086480165030402010420", 0xff, 0), source: "G4.176", comment: "padding without the NULL parameter, signed so"},
		{name: "rsa_ber_length", change: padded("308131300d060960864801650304020105000420", 0xff, 0), source: "G4.177", comment: "padding with a length in BER, signed so"},
		{name: "rsa_other_hash", change: padded("3031300d060960864801650304020305000420", 0xff, 0), source: "G4.178", comment: "padding that names another hash, signed so"},
		{name: "rsa_no_info", change: padded("", 0xff, 0), source: "RFC 8017 section 9.2", comment: "padding that names no hash, signed so"},
		{name: "rsa_garbage_after", change: padded(sha256Info, 0xff, 16), source: "G4.175, CVE-2006-4339", comment: "something after the hash, signed so"},
		{name: "rsa_filler", change: padded(sha256Info, 0xfe, 0), source: "G4.174", comment: "padding filled with another byte, signed so"},
		{name: "rsa_pss", change: signWith(pss), source: "G3.147", comment: "a PSS signature under RS256"},
		{name: "rsa_sha512", change: signWith(func(s *signer, input string) []byte {
			return must(rsa.SignPKCS1v15(nil, s.private.(*rsa.PrivateKey), crypto.SHA512, digest(crypto.SHA512, input)))
		}), source: "RFC 7518 section 3.3", comment: "a SHA-512 signature under RS256"},
	}
	for _, r := range []row{
		{name: "flipped", change: flip(5), source: "G4.165", comment: "one bit"},
		{name: "zero", change: numbers(0, 0), source: "G4.183, CVE-2022-21449", comment: "r and s are 0"},
		{name: "r_zero", change: numbers(0, 1), source: "G4.184", comment: "r is 0"},
		{name: "s_zero", change: numbers(1, 0), source: "G4.184", comment: "s is 0"},
		{name: "one", change: numbers(1, 1), source: "G4.185", comment: "r and s are 1"},
		{name: "order", change: pair(func(_, _, n *big.Int) (*big.Int, *big.Int) { return n, n }), source: "G4.186", comment: "r and s are the order of the curve"},
		{name: "r_order", change: pair(func(_, s, n *big.Int) (*big.Int, *big.Int) { return n, s }), source: "G4.186", comment: "r is the order of the curve"},
		{name: "s_order", change: pair(func(r, _, n *big.Int) (*big.Int, *big.Int) { return r, n }), source: "G4.186", comment: "s is the order of the curve"},
		{name: "order_minus_1", change: pair(func(_, _, n *big.Int) (*big.Int, *big.Int) { return minus(n, 1), minus(n, 1) }), source: "G4.188", comment: "r and s are one less than the order"},
		{name: "r_negated", change: pair(func(r, s, n *big.Int) (*big.Int, *big.Int) { return new(big.Int).Sub(n, r), s }), source: "G4.188", comment: "r is negated: only s may be"},
		{name: "swapped", change: pair(func(r, s, _ *big.Int) (*big.Int, *big.Int) { return s, r }), source: "RFC 7518 section 3.4", comment: "s before r"},
		{name: "der", change: signWith(der), source: "G4.189", comment: "ASN.1 instead of r and s"},
		{name: "leading_zero", change: signed(func(b []byte) []byte { return append([]byte{0}, b...) }), source: "G4.190", comment: "a byte more in front"},
		{name: "trailing_zero", change: signed(func(b []byte) []byte { return append(b, 0) }), source: "G4.190", comment: "a byte more at the end"},
		{name: "s_leading_zero", change: signed(func(b []byte) []byte { return slices.Insert(b, len(b)/2, 0) }), source: "RFC 7518 section 3.4", comment: "a zero byte before s: the same number, a byte too wide"},
		{name: "short", change: signed(func(b []byte) []byte { return b[:len(b)-1] }), source: "G4.191", comment: "a byte less"},
		{name: "r_alone", change: signed(func(b []byte) []byte { return b[:len(b)/2] }), source: "G4.191", comment: "r alone"},
		{name: "wide", change: signed(func(b []byte) []byte {
			half := len(b) / 2
			return slices.Concat([]byte{0}, b[:half], []byte{0}, b[half:])
		}), source: "RFC 7518 section 3.4", comment: "r and s with a zero byte each"},
		{name: "stranger", change: signedBy(strangerES), source: "G4.169", comment: "another key's signature under the cluster's kid"},
	} {
		r.name, r.change, r.sibling = "es256_"+r.name, all(byES256, r.change), "good_es256"
		rows = append(rows, r)
	}
	rows = append(rows,
		row{name: "es384_zero", change: all(byES384, numbers(0, 0)), sibling: "good_es384", source: "G4.183, CVE-2022-21449", comment: "r and s are 0"},
		row{name: "es512_zero", change: all(byES512, numbers(0, 0)), sibling: "good_es512", source: "G4.183, CVE-2022-21449", comment: "r and s are 0"},
		row{name: "es384_short", change: all(byES384, signed(func(b []byte) []byte { return b[:64] })), sibling: "good_es384", source: "G4.191", comment: "the width of a smaller curve"},
		row{name: "es512_131_bytes", change: all(byES512, signed(func(b []byte) []byte { return b[1:] })), sibling: "good_es512", source: "G4.193", comment: "a byte less in front, which is 0 or 1"},
		row{name: "es512_order", change: all(byES512, pair(func(_, _, n *big.Int) (*big.Int, *big.Int) { return n, n })), sibling: "good_es512", source: "G4.186", comment: "r and s are the order of the curve"},
	)
	for i := range rows {
		rows[i].expect = badSignature
	}
	rows = append(rows, row{name: "es256_negated", change: all(byES256, pair(func(r, s, n *big.Int) (*big.Int, *big.Int) { return r, new(big.Int).Sub(n, s) })),
		source: "G4.194", comment: "s is negated: RFC 7518 has no rule against it, so the text of a token is not an ID"})
	return table{"sig_", rows}
}
