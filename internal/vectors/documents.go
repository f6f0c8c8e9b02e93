package main

import (
	"crypto/elliptic"
	"crypto/sha512"
	"fmt"
	"math/big"
	"strings"
)

// document is a JWKS or a discovery document, as fetched.
type document struct {
	name    string
	text    string
	usable  string // kids of the keys that are used; "" if the fetch has failed
	dropped string // kids of the keys that are not
	pod     string // "true": judged as in a pod
	asked   string // where the keys are asked for, if it is told
	source  string
	comment string
}

func (d document) render(files map[string]string) error {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			b.WriteString(name + ": " + value + "\n")
		}
	}
	expect := "usable"
	if d.usable == "" {
		expect = "failed"
	}
	line("expect", expect)
	line("usable", d.usable)
	line("dropped", d.dropped)
	line("in-pod", d.pod)
	line("asked", d.asked)
	line("comment", d.comment)
	line("source", d.source)
	name := d.name + ".txt"
	if _, exists := files[name]; exists {
		return fmt.Errorf("%s is there twice", name)
	}
	files[name] = b.String() + "\n" + printable(d.text) + "\n"
	return nil
}

// modulus is an odd number with this many bits, whose factors nobody knows.
func modulus(bits int) *big.Int {
	var data []byte
	for i := 0; len(data) < bits/8; i++ {
		sum := sha512.Sum512(fmt.Appendf(nil, "TEST ONLY modulus %d %d", bits, i))
		data = append(data, sum[:]...)
	}
	n := new(big.Int).SetBytes(data)
	n.Rsh(n, uint(n.BitLen()-bits))
	return n.SetBit(n.SetBit(n, 0, 1), bits-1, 1)
}

// keySets is G8: JWKS. The key "good" is in most of them, and stays usable;
// the other is called "odd".
func keySets(k *keys) []document {
	rsaKey := k.rs256.jwk().set("kid", `"odd"`)
	ecKey := k.es256.jwk().set("kid", `"odd"`)
	good := k.strangerES256.jwk().set("kid", `"good"`)
	ofSize := func(bits int) object { return rsaKey.set("n", quoted(encode(modulus(bits).Bytes()))) }
	exponent := func(e string) object { return rsaKey.set("e", quoted(e)) }
	value := func(o object, name string) string {
		for _, m := range o {
			if m.name == name {
				return strings.Trim(m.value, `"`)
			}
		}
		panic("no " + name)
	}
	p256 := elliptic.P256().Params()
	coordinate := func(n *big.Int) string { return quoted(encode(n.FillBytes(make([]byte, 32)))) }

	docs := []document{
		{name: "one_rsa", text: jwks(rsaKey), usable: "odd", source: "G8.363", comment: "one RSA key"},
		{name: "one_ec", text: jwks(ecKey), usable: "odd", source: "G8.363", comment: "one EC key"},
		{name: "four", text: jwks(k.rs256.jwk().set("kid", `"1"`), k.es256.jwk().set("kid", `"2"`), k.es384.jwk().set("kid", `"3"`), k.es512.jwk().set("kid", `"4"`)), usable: "1, 2, 3, 4", source: "G8.364", comment: "one key of each kind"},
		{name: "more_members", text: `{"keys":[` + good.add("expires", "1").String() + `],"next":"x"}`, usable: "good", source: "RFC 7517 section 5", comment: "members that nobody knows"},
		{name: "null", text: "null", source: "G8.368", comment: "null"},
		{name: "array", text: "[" + good.String() + "]", source: "G8.369", comment: "an array instead of an object"},
		{name: "keys_missing", text: "{}", source: "G8.370", comment: "no keys"},
		{name: "keys_null", text: `{"keys":null}`, source: "G8.371", comment: "keys are null"},
		{name: "keys_object", text: `{"keys":{}}`, source: "G8.372", comment: "keys are an object"},
		{name: "keys_empty", text: `{"keys":[]}`, source: "G8.373", comment: "no key"},
		{name: "keys_of_null", text: `{"keys":[null]}`, source: "G8.374", comment: "a null for a key"},
		{name: "keys_case", text: strings.Replace(jwks(good), "keys", "Keys", 1), source: "RFC 7517 section 5", comment: "Keys for keys"},
		{name: "keys_twice", text: strings.TrimSuffix(jwks(good), "}\n") + `,"keys":[]}`, source: "RFC 7517 section 5", comment: "keys twice"},
		{name: "member_twice", text: jwks(good, rsaKey.add("kty", `"RSA"`)), source: "RFC 7517 section 4", comment: "kty twice in one key: a set that two readers read differently is none"},
		{name: "single_jwk", text: good.String(), source: "RFC 7517 section 4", comment: "a key alone, which is no set"},
		{name: "none_usable", text: jwks(ofSize(1024)), source: "G8.375", comment: "nothing but a key that is too small"},
		{name: "trailing_junk", text: strings.TrimSpace(jwks(good)) + "x", source: "G8.378", comment: "something after the object"},
		{name: "byte_order_mark", text: "\ufeff" + jwks(good), usable: "good", source: "G8.379", comment: "a byte order mark first"},
		{name: "two_byte_order_marks", text: "\ufeff\ufeff" + jwks(good), source: "G8.379", comment: "a byte order mark, and then another character"},
		{name: "utf16", text: "\xff\xfe" + strings.Join(strings.Split(jwks(good), ""), "\x00") + "\x00", source: "RFC 8259 section 8.1", comment: "UTF-16"},
		{name: "invalid_utf8", text: `{"x":"` + "\xff" + `",` + jwks(good)[1:], source: "G8.380", comment: "no UTF-8"},
		{name: "html", text: "<!doctype html><title>Sign in</title>", source: "G8.381", comment: "a page of a proxy"},
		{name: "truncated", text: jwks(good)[:len(jwks(good))-4], source: "G8.382", comment: "half of it"},
		{name: "empty", text: "", source: "G8.382", comment: "nothing"},
		{name: "deep", text: `{"x":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + "," + jwks(good)[1:], source: "G8.388", comment: "20,000 levels"},
		{name: "gzip", text: "\x1f\x8b\x08\x00\x00\x00\x00\x00", source: "G8.383", comment: "compressed, though nobody asked"},
		{name: "128_keys", text: jwks(many(good, 128)...), usable: strings.Join(kids(128), ", "), source: "G8.387", comment: "as many keys as are read"},
		{name: "129_keys", text: jwks(many(good, 129)...), source: "G8.387", comment: "one key more"},
		{name: "same_key_twice", text: jwks(good, good), usable: "good", source: "G8.392", comment: "the same key twice is one key"},
		{name: "same_kid_other_key", text: jwks(good, rsaKey, ecKey), usable: "good", dropped: "odd", source: "G8.393", comment: "two keys of one kid are both dropped"},
		{name: "kid_missing", text: jwks(good, rsaKey.drop("kid")), usable: k.rs256.kid + ", good", source: "G8.394", comment: "a key without kid gets the one that Kubernetes derives"},
		{name: "kid_empty", text: jwks(good, rsaKey.set("kid", `""`)), usable: k.rs256.kid + ", good", source: "G8.396", comment: "a key with an empty kid"},
		{name: "no_use_no_alg", text: jwks(good, rsaKey.drop("use").drop("alg")), usable: "good, odd", source: "RFC 7517 section 4", comment: "a key that says nothing of what it is for"},
		{name: "x5c_unreadable", text: jwks(good, rsaKey.add("x5c", `["!"]`)), usable: "good, odd", source: "G8.429", comment: "a certificate that nobody can read: nobody reads it"},
		{name: "x5u", text: jwks(good, rsaKey.add("x5u", `"http://169.254.169.254/"`)), usable: "good, odd", source: "G8.430", comment: "a URL that nobody fetches"},
		{name: "rsa_2048", text: jwks(good, ofSize(2048)), usable: "good, odd", source: "RFC 7518 section 3.3", comment: "the smallest RSA key"},
		{name: "rsa_4096", text: jwks(good, ofSize(4096)), usable: "good, odd", source: "limit of rule 4", comment: "4096 bits"},
		{name: "rsa_8192", text: jwks(good, ofSize(8192)), usable: "good, odd", source: "limit of rule 4", comment: "the largest RSA key"},
		{name: "rsa_n_leading_zero", text: jwks(good, rsaKey.set("n", quoted(encode(append([]byte{0}, modulus(2048).Bytes()...))))), usable: "good, odd", source: "RFC 7518 section 2", comment: "a zero byte in front of n, as some tools write it: the same integer"},
		{name: "ops_verify", text: jwks(good, rsaKey.add("key_ops", `["verify"]`)), usable: "good, odd", source: "RFC 7517 section 4.3", comment: "a key for verifying"},
	}
	for _, odd := range []document{
		{name: "kty_okp", text: `{"kid":"odd","kty":"OKP","crv":"Ed25519","x":"AAAA"}`, source: "G8.365", comment: "a kind of key that nobody here knows"},
		{name: "kty_akp", text: `{"kid":"odd","kty":"AKP","alg":"ML-DSA-65","pub":"AAAA"}`, source: "G8.365", comment: "a kind of key that is to come"},
		{name: "kty_missing", text: rsaKey.drop("kty").String(), source: "RFC 7517 section 4.1", comment: "no kty"},
		{name: "kty_lower_case", text: rsaKey.set("kty", `"rsa"`).String(), source: "RFC 7517 section 4.1", comment: "kty in another case"},
		{name: "crv_unknown", text: ecKey.set("crv", `"P-192"`).String(), source: "G8.366", comment: "a curve that nobody here knows"},
		{name: "crv_p224", text: ecKey.set("crv", `"P-224"`).String(), source: "G8.422", comment: "a curve that no algorithm of ours is for"},
		{name: "crv_secp256k1", text: ecKey.set("crv", `"secp256k1"`).String(), source: "G8.366", comment: "another curve"},
		{name: "crv_another", text: ecKey.set("crv", `"P-384"`).String(), source: "G8.421", comment: "a point of another curve"},
		{name: "private_rsa", text: rsaKey.add("d", `"AQAB"`).String(), source: "G8.389", comment: "the private half too"},
		{name: "private_rsa_prime", text: rsaKey.add("p", `"AQAB"`).String(), source: "G8.389", comment: "a prime factor too"},
		{name: "private_ec", text: ecKey.add("d", `"AQAB"`).String(), source: "G8.390", comment: "the private half too"},
		{name: "oct", text: `{"kid":"odd","kty":"oct","k":"AAAA"}`, source: "G8.391", comment: "a secret"},
		{name: "oct_in_rsa", text: rsaKey.add("k", `"AAAA"`).String(), source: "G8.391", comment: "a secret inside an RSA key"},
		{name: "rsa_512", text: ofSize(512).String(), source: "G8.397", comment: "512 bits"},
		{name: "rsa_1024", text: ofSize(1024).String(), source: "G8.398", comment: "1024 bits"},
		{name: "rsa_2047", text: ofSize(2047).String(), source: "G8.399", comment: "a bit less than 2048"},
		{name: "rsa_8193", text: ofSize(8193).String(), source: "limit of rule 4", comment: "a bit more than 8192"},
		{name: "rsa_16384", text: ofSize(16384).String(), source: "G8.401", comment: "a key that takes long to use"},
		{name: "rsa_n_missing", text: rsaKey.drop("n").String(), source: "RFC 7518 section 6.3.1", comment: "no n"},
		{name: "rsa_n_empty", text: rsaKey.set("n", `""`).String(), source: "G8.411", comment: "an empty n"},
		{name: "rsa_n_zero", text: rsaKey.set("n", `"AA"`).String(), source: "G8.411", comment: "0 for n"},
		{name: "rsa_n_even", text: rsaKey.set("n", quoted(encode(new(big.Int).Add(modulus(2048), big.NewInt(1)).Bytes()))).String(), source: "G8.410", comment: "an even n"},
		{name: "rsa_n_padded", text: rsaKey.set("n", quoted(value(rsaKey, "n")+"==")).String(), source: "G8.412", comment: "padding"},
		{name: "rsa_n_standard_alphabet", text: rsaKey.set("n", quoted(strings.NewReplacer("-", "+", "_", "/").Replace(value(rsaKey, "n")))).String(), source: "G8.414", comment: "the other alphabet"},
		{name: "rsa_n_spare_bits", text: rsaKey.set("n", quoted(lowBits(value(rsaKey, "n")))).String(), source: "RFC 4648 section 3.5", comment: "bits to spare"},
		{name: "rsa_n_line_break", text: rsaKey.set("n", quoted(insert("\n")(value(rsaKey, "n")))).String(), source: "RFC 4648 section 3.3", comment: "a line break"},
		{name: "rsa_n_number", text: rsaKey.set("n", "3").String(), source: "RFC 7518 section 6.3.1", comment: "a number for n"},
		{name: "rsa_e_1", text: exponent("AQ").String(), source: "G8.403", comment: "1 for e: every signature is right"},
		{name: "rsa_e_2", text: exponent("Ag").String(), source: "G8.404", comment: "2 for e"},
		{name: "rsa_e_3", text: exponent("Aw").String(), source: "G8.405, CVE-2006-4339", comment: "3 for e"},
		{name: "rsa_e_65536", text: exponent("AQAA").String(), source: "limit of rule 4", comment: "an even e"},
		{name: "rsa_e_2_31", text: exponent("gAAAAQ").String(), source: "limit of rule 4", comment: "an e of 32 bits"},
		{name: "rsa_e_2_32", text: exponent("AQAAAAE").String(), source: "G8.407", comment: "an e of 33 bits: it must not wrap to 1"},
		{name: "rsa_e_missing", text: rsaKey.drop("e").String(), source: "G8.408", comment: "no e"},
		{name: "rsa_e_leading_zero", text: exponent("AAEAAQ").String(), source: "G8.409", comment: "a zero byte in front"},
		{name: "ec_off_curve", text: ecKey.set("y", coordinate(big.NewInt(1))).String(), source: "G8.416, CVE-2015-7940", comment: "a point that is not on the curve"},
		{name: "ec_infinity", text: ecKey.set("x", coordinate(new(big.Int))).set("y", coordinate(new(big.Int))).String(), source: "G8.417", comment: "0 and 0"},
		{name: "ec_x_over_p", text: ecKey.set("x", coordinate(p256.P)).String(), source: "G8.418", comment: "x is no number of the field"},
		{name: "ec_long_x", text: ecKey.set("x", quoted(encode(append([]byte{0}, decoded(value(ecKey, "x"))...)))).String(), source: "G8.420", comment: "a zero byte in front of x"},
		{name: "ec_short_x", text: ecKey.set("x", quoted(encode([]byte(decoded(value(ecKey, "x")))[1:]))).String(), source: "RFC 7518 section 6.2.1.2", comment: "a byte less than the width of the curve"},
		{name: "ec_y_missing", text: ecKey.drop("y").String(), source: "RFC 7518 section 6.2.1", comment: "no y"},
		{name: "ec_padded", text: ecKey.set("x", quoted(value(ecKey, "x")+"=")).String(), source: "RFC 7518 section 6.2.1", comment: "padding"},
		{name: "use_enc", text: rsaKey.set("use", `"enc"`).String(), source: "G8.423", comment: "a key for encryption"},
		{name: "use_upper_case", text: rsaKey.set("use", `"SIG"`).String(), source: "RFC 7517 section 4.2", comment: "use in another case"},
		{name: "use_empty", text: rsaKey.set("use", `""`).String(), source: "RFC 7517 section 4.2", comment: "an empty use"},
		{name: "ops_encrypt", text: rsaKey.add("key_ops", `["encrypt"]`).String(), source: "G8.424", comment: "a key for encryption"},
		{name: "ops_sign", text: rsaKey.add("key_ops", `["sign"]`).String(), source: "RFC 7517 section 4.3", comment: "a key for signing alone"},
		{name: "ops_empty", text: rsaKey.add("key_ops", `[]`).String(), source: "RFC 7517 section 4.3", comment: "a key for nothing"},
		{name: "ops_doubled", text: rsaKey.add("key_ops", `["verify","verify"]`).String(), source: "G8.425, RFC 7517 section 4.3", comment: "an operation twice"},
		{name: "ops_string", text: rsaKey.add("key_ops", `"verify"`).String(), source: "RFC 7517 section 4.3", comment: "a string for a list"},
		{name: "alg_rsa15", text: rsaKey.set("alg", `"RSA1_5"`).String(), source: "G8.426", comment: "an algorithm of encryption"},
		{name: "alg_hs256", text: rsaKey.set("alg", `"HS256"`).String(), source: "G8.427", comment: "a secret's algorithm"},
		{name: "alg_none", text: rsaKey.set("alg", `"none"`).String(), source: "RFC 8725 section 3.2", comment: "no algorithm"},
		{name: "alg_rs512", text: rsaKey.set("alg", `"RS512"`).String(), source: "RFC 7517 section 4.4", comment: "another hash than Kubernetes uses"},
		{name: "alg_of_other_curve", text: ecKey.set("alg", `"ES384"`).String(), source: "G8.421", comment: "another curve's algorithm"},
	} {
		odd.usable = "good"
		// Without a kid that could be read there is nothing to name it by.
		if odd.name != "rsa_n_number" && odd.name != "ops_string" {
			odd.dropped = "odd"
		}
		odd.text = `{"keys":[` + odd.text + "," + good.String() + "]}"
		docs = append(docs, odd)
	}
	for i := range docs {
		docs[i].name = "jwks_" + docs[i].name
		docs[i].text = strings.TrimSpace(docs[i].text)
	}
	return docs
}

func kids(n int) []string {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("k%03d", i))
	}
	return names
}

// many returns keys with different kids.
func many(key object, n int) []object {
	var list []object
	for _, kid := range kids(n) {
		list = append(list, key.set("kid", quoted(kid)))
	}
	return list
}

// discoveryDocuments is the rest of G8. The issuer is https://iss.example, and
// it serves its keys at /openid/v1/jwks.
func discoveryDocuments() []document {
	const keysAt = "https://iss.example/openid/v1/jwks"
	good := object{
		{"issuer", `"https://iss.example"`},
		{"jwks_uri", quoted(keysAt)},
		{"response_types_supported", `["id_token"]`},
		{"subject_types_supported", `["public"]`},
		{"id_token_signing_alg_values_supported", `["RS256"]`},
	}
	uri := func(value string) string { return good.set("jwks_uri", quoted(value)).String() }
	const usable = "good"
	docs := []document{
		{name: "good", text: good.String(), usable: usable, asked: keysAt, source: "OpenID Connect Discovery 1.0 section 4.2", comment: "as an API server writes it"},
		{name: "more_members", text: good.add("x", `{"y":1}`).String(), usable: usable, asked: keysAt, source: "OpenID Connect Discovery 1.0 section 4.2", comment: "a member that nobody knows"},
		{name: "fewer_members", text: good[:2].String(), usable: usable, asked: keysAt, source: "OpenID Connect Discovery 1.0 section 4.2", comment: "the two members that matter"},
		{name: "algorithms_none", text: good.set("id_token_signing_alg_values_supported", `["none"]`).String(), usable: usable, asked: keysAt, source: "G3.159", comment: "the document has no say in algorithms"},
		{name: "issuer_another", text: good.set("issuer", `"https://evil.example"`).String(), source: "G8.446", comment: "another issuer"},
		{name: "issuer_slash", text: good.set("issuer", `"https://iss.example/"`).String(), source: "G8.447", comment: "a slash at the end"},
		{name: "issuer_upper_case", text: good.set("issuer", `"https://ISS.example"`).String(), source: "G8.447", comment: "the host in another case"},
		{name: "issuer_twice", text: good.add("issuer", `"https://iss.example"`).String(), source: "G8.448", comment: "issuer twice"},
		{name: "issuer_missing", text: good.drop("issuer").String(), source: "G8.446", comment: "no issuer"},
		{name: "issuer_null", text: good.set("issuer", "null").String(), source: "G8.446", comment: "a null issuer"},
		{name: "issuer_case", text: good.drop("issuer").add("Issuer", `"https://iss.example"`).String(), source: "G8.446", comment: "Issuer for issuer"},
		{name: "issuer_number", text: good.set("issuer", "1").String(), source: "G8.446", comment: "a number for issuer"},
		{name: "jwks_uri_missing", text: good.drop("jwks_uri").String(), source: "G8.449", comment: "no jwks_uri"},
		{name: "jwks_uri_empty", text: uri(""), source: "G8.449", comment: "an empty jwks_uri"},
		{name: "jwks_uri_http", text: uri("http://iss.example/openid/v1/jwks"), source: "G8.449", comment: "no TLS"},
		{name: "jwks_uri_file", text: uri("file:///etc/passwd"), source: "G8.450", comment: "a file"},
		{name: "jwks_uri_relative", text: uri("/openid/v1/jwks"), source: "G8.449", comment: "no host"},
		{name: "jwks_uri_other_host", text: uri("https://evil.example/jwks"), source: "G8.451", comment: "another host, and the transport is the caller's"},
		{name: "jwks_uri_other_port", text: uri("https://iss.example:8443/jwks"), source: "G8.451", comment: "another port of the same host"},
		{name: "jwks_uri_longer_host", text: uri("https://iss.example.evil.example/jwks"), source: "G8.451", comment: "the host is a prefix of it"},
		{name: "jwks_uri_link_local", text: uri("http://169.254.169.254/latest/meta-data"), source: "G8.452", comment: "a cloud's metadata"},
		{name: "jwks_uri_user", text: uri("https://iss.example@evil.example/jwks"), source: "G8.451", comment: "the host is a user name"},
		{name: "jwks_uri_user_own_host", text: uri("https://user:password@iss.example/jwks"), source: "G8.451", comment: "user information"},
		{name: "jwks_uri_own_port", text: uri("https://iss.example:443/openid/v1/jwks"), usable: usable, asked: "https://iss.example:443/openid/v1/jwks", source: "RFC 6454 section 4", comment: "the port that it has anyway"},
		{name: "jwks_uri_other_path", text: uri("https://iss.example/keys?x=1"), usable: usable, asked: "https://iss.example/keys?x=1", source: "OpenID Connect Discovery 1.0 section 4.2", comment: "another path of the same host"},
		{name: "jwks_uri_number", text: good.set("jwks_uri", "1").String(), source: "G8.449", comment: "a number"},
		{name: "null", text: "null", source: "G8.368", comment: "null"},
		{name: "array", text: "[" + good.String() + "]", source: "G8.369", comment: "an array"},
		{name: "html", text: "<!doctype html><title>Sign in</title>", source: "G8.381", comment: "a page of a proxy"},
		{name: "truncated", text: good.String()[:60], source: "G8.382", comment: "half of it"},
		{name: "trailing_junk", text: good.String() + "x", source: "G8.378", comment: "something after it"},
		{name: "empty", text: "", source: "G8.382", comment: "nothing"},
		{name: "invalid_utf8", text: good.add("x", "\"\xff\"").String(), source: "G8.380", comment: "no UTF-8"},

		{name: "pod_good", pod: "true", text: good.String(), usable: usable, asked: keysAt, source: "Keys: in a cluster", comment: "the API server names itself"},
		{name: "pod_other_host", pod: "true", text: uri("https://10.0.0.1:6443/openid/v1/jwks"), usable: usable, asked: keysAt, source: "G8.451", comment: "another host is not asked: the API server has the keys too"},
		{name: "pod_link_local", pod: "true", text: uri("http://169.254.169.254/"), usable: usable, asked: keysAt, source: "G8.452", comment: "a cloud's metadata is not asked"},
		{name: "pod_issuer_another", pod: "true", text: good.set("issuer", `"https://evil.example"`).String(), source: "G8.446", comment: "another issuer"},
	}
	for i := range docs {
		docs[i].name = "discovery_" + docs[i].name
	}
	return docs
}
