package main

import "strings"

func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(`,"m` + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + strings.Repeat("y", i/26) + `":0`)
	}
	return b.String()
}

// attackerJWK is a key that a header offers for its own verification.
func attackerJWK(t *token) { t.header = t.header.set("jwk", t.keys.strangerRS256.jwk().String()) }

// header is G2: the closed header.
func header() table {
	rows := []row{
		{name: "array", change: headerJSON(to(`["RS256"]`)), source: "G2.50", comment: "an array instead of an object"},
		{name: "null", change: headerJSON(to(`null`)), source: "G2.51", comment: "null instead of an object"},
		{name: "null_in_blanks", change: headerJSON(to("\t null\n")), source: "G2.51", comment: "null in white space instead of an object"},
		{name: "string", change: headerJSON(to(`"RS256"`)), source: "G2.52", comment: "a string instead of an object"},
		{name: "number", change: headerJSON(to(`1`)), source: "G2.52", comment: "a number instead of an object"},
		{name: "empty_object", expect: badAlgorithm, change: headerJSON(to(`{}`)), source: "G2.53", comment: "no members: the alg is what is missing first"},
		{name: "not_json", change: headerJSON(to(`alg=RS256`)), source: "RFC 7515 section 5.2", comment: "no JSON"},
		{name: "trailing_junk", change: headerJSON(appended("x")), source: "G2.54", comment: "something after the object"},
		{name: "two_objects", change: headerJSON(appended(`{"alg":"none"}`)), source: "G2.54", comment: "a second object after the first"},
		{name: "trailing_nul", change: headerJSON(appended("\x00")), source: "G2.54", comment: "a NUL after the object"},
		{name: "trailing_comma", change: headerJSON(replace("}", ",}")), source: "RFC 8259 section 4", comment: "a comma before the closing bracket"},
		{name: "comment", change: headerJSON(replace("{", "{/**/")), source: "RFC 8259", comment: "a comment"},
		{name: "single_quotes", change: headerJSON(func(s string) string { return strings.ReplaceAll(s, `"`, `'`) }), source: "RFC 8259 section 7", comment: "single quotes"},
		{name: "invalid_utf8", change: addHeader("x", "\"\xff\""), source: "G2.56, RFC 8725 section 3.7", comment: "no UTF-8, in a member that nobody reads"},
		{name: "invalid_utf8_kid", change: headerJSON(replace(`"kid":"`, "\"kid\":\"\xff")), source: "RFC 8725 section 3.7", comment: "no UTF-8 in kid"},
		{name: "lone_surrogate_kid", change: headerJSON(replace(`"kid":"`, `"kid":"\ud800`)), source: "RFC 8259 section 8.2", comment: "half a surrogate pair in kid"},
		{name: "duplicate_alg", change: headerJSON(replace(`{`, `{"alg":"none",`)), source: "G2.57, RFC 7515 section 4", comment: "alg twice, the first one none"},
		{name: "duplicate_alg_last", change: addHeader("alg", `"none"`), source: "G2.57, RFC 7515 section 4", comment: "alg twice, the last one none"},
		{name: "duplicate_alg_same", change: addHeader("alg", `"RS256"`), source: "RFC 7515 section 4", comment: "alg twice, and both the same"},
		{name: "duplicate_kid", change: addHeader("kid", `"x"`), source: "G2.58", comment: "kid twice"},
		{name: "duplicate_typ", change: all(setHeader("typ", `"JWT"`), addHeader("typ", `"JWT"`)), sibling: "good_typ", source: "RFC 7515 section 4", comment: "typ twice"},
		{name: "duplicate_alg_escaped", change: addHeader(`\u0061lg`, `"none"`), source: "RFC 7515 section 4", comment: "alg twice, once with an escape in its name"},
		{name: "case_alg", change: headerJSON(replace(`"alg"`, `"ALG"`)), source: "G2.60", comment: "a name in another case is another name, and does not belong there"},
		{name: "case_alg_beside", change: addHeader("ALG", `"none"`), source: "G2.61", comment: "ALG beside alg"},
		{name: "case_kid_beside", change: addHeader("Kid", `"x"`), source: "G2.61", comment: "Kid beside kid"},
		{name: "case_typ", change: addHeader("TYP", `"JWT"`), source: "G2.61", comment: "TYP for typ"},
		{name: "empty_name", change: addHeader("", `"x"`), source: "RFC 7515 section 4", comment: "a member without a name"},
		{name: "alg_missing", expect: badAlgorithm, change: noHeader("alg"), source: "G2.63", comment: "no alg"},
		{name: "alg_null", change: setHeader("alg", `null`), source: "G2.64", comment: "alg is null"},
		{name: "alg_number", change: setHeader("alg", `256`), source: "G2.65", comment: "alg is a number"},
		{name: "alg_true", change: setHeader("alg", `true`), source: "G2.65", comment: "alg is a boolean"},
		{name: "alg_array", change: setHeader("alg", `["RS256"]`), source: "G2.66", comment: "alg is an array"},
		{name: "alg_object", change: setHeader("alg", `{}`), source: "G2.66", comment: "alg is an object"},
		{name: "alg_empty", expect: badAlgorithm, change: setHeader("alg", `""`), source: "G2.67", comment: "alg is empty"},
		{name: "kid_missing", change: noHeader("kid"), source: "G2.68", comment: "no kid, and the keys are fetched"},
		{name: "kid_null", change: setHeader("kid", `null`), source: "RFC 7515 section 4.1.4", comment: "kid is null"},
		{name: "kid_number", change: setHeader("kid", `0`), source: "G2.70", comment: "kid is a number"},
		{name: "kid_false", change: setHeader("kid", `false`), source: "RFC 7515 section 4.1.4", comment: "kid is a boolean"},
		{name: "kid_object", change: setHeader("kid", `{}`), source: "G2.72", comment: "kid is an object"},
		{name: "kid_empty", change: setHeader("kid", `""`), source: "G2.73", comment: "kid is empty"},
		{name: "kid_1025_bytes", change: setHeader("kid", quoted(strings.Repeat("k", 1025))), source: "G2.74", comment: "kid is longer than Kubernetes lets it be"},
		{name: "kid_1024_bytes", expect: unknownKey, change: setHeader("kid", quoted(strings.Repeat("k", 1024))), source: "G2.74", comment: "a kid as long as it may be, of no key"},
		{name: "kid_path", expect: unknownKey, change: setHeader("kid", `"../../../../dev/null"`), source: "G2.75", comment: "a path"},
		{name: "kid_sql", expect: unknownKey, change: setHeader("kid", `"x' UNION SELECT '1';--"`), source: "G2.76", comment: "SQL"},
		{name: "kid_command", expect: unknownKey, change: setHeader("kid", `"|sleep 10"`), source: "G2.77", comment: "a command"},
		{name: "kid_url", expect: unknownKey, change: setHeader("kid", `"http://evil.example/k"`), source: "G2.78", comment: "a URL"},
		{name: "kid_line_break", expect: unknownKey, change: setHeader("kid", `"x\r\nlevel=INFO msg=accepted"`), source: "G2.80", comment: "a line of its own for the log"},
		{name: "kid_terminal_escape", expect: unknownKey, change: setHeader("kid", `"\u001b[2J"`), source: "G2.80", comment: "a terminal's escape sequence"},
		{name: "kid_format_verb", expect: unknownKey, change: setHeader("kid", `"%s%n%x"`), source: "G2.80", comment: "format verbs"},
		{name: "kid_trailing_blank", expect: unknownKey, change: headerJSON(replace(`"}`, ` "}`)), source: "G2.81", comment: "the right kid and a blank"},
		{name: "kid_upper_case", expect: unknownKey, change: headerJSON(func(s string) string {
			before, kid, _ := strings.Cut(s, `"kid":`)
			return before + `"kid":` + strings.ToUpper(kid)
		}), source: "RFC 7515 section 4.1.4", comment: "the right kid in another case"},
		{name: "kid_half", expect: unknownKey, change: func(t *token) { t.header = t.header.set("kid", quoted(t.key.kid[:20])) }, source: "RFC 7515 section 4.1.4", comment: "the first half of the right kid"},
		{name: "kid_decomposed", expect: unknownKey, change: setHeader("kid", `"cle\u0301"`), source: "G2.83", comment: "a decomposed character"},
		{name: "jwk_attacker", change: all(attackerJWK, signedBy(strangerRS)), source: "G2.84, CVE-2018-0114", comment: "the attacker's key comes along"},
		{name: "jwk_honest", change: func(t *token) { t.header = t.header.set("jwk", t.key.jwk().String()) }, source: "G2.85", comment: "the honest key comes along"},
		{name: "jwk_private", change: setHeader("jwk", `{"kty":"RSA","n":"AQAB","e":"AQAB","d":"AQAB"}`), source: "G2.86", comment: "a private key comes along"},
		{name: "jku_attacker", change: setHeader("jku", `"https://evil.example/jwks.json"`), source: "G2.87, RFC 8725 section 3.10", comment: "a URL of the attacker's keys"},
		{name: "jku_same_origin", change: setHeader("jku", `"https://iss.example/openid/v1/jwks"`), source: "G2.88", comment: "a URL of the cluster's keys"},
		{name: "x5u", change: setHeader("x5u", `"https://evil.example/cert.pem"`), source: "G2.89", comment: "a URL of a certificate"},
		{name: "x5c", change: setHeader("x5c", `["MIIB"]`), source: "G2.90", comment: "a certificate comes along"},
		{name: "x5t", change: setHeader("x5t", `"AAAAAAAAAAAAAAAAAAAAAAAAAAA"`), source: "G2.91", comment: "a certificate's thumbprint"},
		{name: "x5t_s256", change: setHeader("x5t#S256", `"AAAA"`), source: "G2.92", comment: "a certificate's thumbprint"},
		{name: "crit_unknown", change: all(setHeader("crit", `["exp"]`), setHeader("exp", "1")), source: "G2.93, RFC 7515 section 4.1.11", comment: "an extension that nobody knows"},
		{name: "crit_empty", change: setHeader("crit", `[]`), source: "G2.94", comment: "crit is empty, which is not allowed"},
		{name: "crit_null", change: setHeader("crit", `null`), source: "G2.95", comment: "crit is null"},
		{name: "crit_doubled", change: setHeader("crit", `["b64","b64"]`), source: "G2.97", comment: "crit names one extension twice"},
		{name: "crit_alg", change: setHeader("crit", `["alg"]`), source: "G2.99", comment: "crit names what is no extension"},
		{name: "b64_false", change: func(t *token) {
			t.header = t.header.set("b64", "false").set("crit", `["b64"]`)
			t.signature = func(s *signer, input string) []byte {
				h, c, _ := strings.Cut(input, ".")
				return s.sign(h + "." + decoded(c))
			}
		}, source: "G2.100, RFC 7797 section 7", comment: "the payload was signed unencoded"},
		{name: "b64_true", change: all(setHeader("b64", "true"), setHeader("crit", `["b64"]`)), source: "G2.102", comment: "b64 as it is anyway"},
		{name: "b64_alone", change: setHeader("b64", "false"), source: "RFC 7797 section 6", comment: "b64 without crit"},
		{name: "zip", change: setHeader("zip", `"DEF"`), source: "G2.103", comment: "zip, which only encryption has"},
		{name: "enc", change: setHeader("enc", `"A256GCM"`), source: "G2.105", comment: "enc in a token of three segments"},
		{name: "cty_jwt", change: setHeader("cty", `"JWT"`), source: "G2.106", comment: "a nested token is announced"},
		{name: "cty_json", change: setHeader("cty", `"json"`), source: "G2.107", comment: "a content type"},
		{name: "typ_at_jwt", change: setHeader("typ", `"at+jwt"`), source: "G2.108, RFC 9068", comment: "an OAuth access token"},
		{name: "typ_dpop", change: setHeader("typ", `"dpop+jwt"`), source: "G2.109, RFC 9449", comment: "a proof of possession"},
		{name: "typ_secevent", change: setHeader("typ", `"secevent+jwt"`), source: "G2.110, RFC 8417", comment: "a security event"},
		{name: "typ_logout", change: setHeader("typ", `"logout+jwt"`), source: "G2.111", comment: "a logout token"},
		{name: "typ_jose", change: setHeader("typ", `"JOSE"`), source: "G2.112", comment: "any JOSE object"},
		{name: "typ_null", change: setHeader("typ", `null`), source: "G2.113", comment: "typ is null"},
		{name: "typ_number", change: setHeader("typ", `1`), source: "G2.114", comment: "typ is a number"},
		{name: "typ_empty", change: setHeader("typ", `""`), source: "G2.112", comment: "typ is empty"},
		{name: "typ_lower_case", change: setHeader("typ", `"jwt"`), source: "G2.115", comment: "Kubernetes writes JWT or nothing"},
		{name: "typ_media_type", change: setHeader("typ", `"application/jwt"`), source: "G2.116", comment: "Kubernetes writes JWT or nothing"},
		{name: "typ_array", change: setHeader("typ", `["JWT"]`), source: "G2.114", comment: "typ is an array"},
		{name: "unknown_member", change: setHeader("foo", `1`), source: "G2.117", comment: "a member that Kubernetes never writes"},
		{name: "iss", change: setHeader("iss", `"https://iss.example"`), source: "RFC 7519 section 5.3", comment: "a claim repeated in the header"},
		{name: "nonce", change: setHeader("nonce", `"x"`), source: "G2.117", comment: "a member of another protocol"},
		{name: "depth_9", change: setHeader("x", strings.Repeat("[", 9)+strings.Repeat("]", 9)), source: "G2.119", comment: "nested arrays"},
		{name: "depth_1000", change: setHeader("x", strings.Repeat("[", 1000)+strings.Repeat("]", 1000)), source: "G2.120", comment: "deeply nested arrays"},
	}
	for i := range rows {
		rows[i].expect = orElse(rows[i].expect, malformedHeader)
	}
	return table{"header_", append(rows,
		row{name: "kid_missing_static", change: noHeader("kid"), with: settings{keys: "cluster.pem"}, source: "G2.69", comment: "no kid, and the keys are given: the RSA key fits"},
		row{name: "kid_missing_four_keys", change: all(byES256, noHeader("kid")), with: settings{keys: "four_es256.pem"}, source: "G2.69", comment: "no kid, and four keys that fit are tried"},
		row{name: "kid_missing_five_keys", expect: unknownKey, change: all(byES256, noHeader("kid")), with: settings{keys: "five_es256.pem"}, sibling: "header_kid_missing_four_keys", source: "limit of rule 2", comment: "no kid, and five keys fit: none is tried"},
		row{name: "kid_empty_static", expect: malformedHeader, change: setHeader("kid", `""`), with: settings{keys: "cluster.pem"}, sibling: "header_kid_missing_static", source: "G2.73", comment: "an empty kid is not the same as none"},
		row{name: "kid_null_static", expect: malformedHeader, change: setHeader("kid", `null`), with: settings{keys: "cluster.pem"}, sibling: "header_kid_missing_static", source: "RFC 7515 section 4.1.4", comment: "null is not the same as none"},
		row{name: "kid_unknown_static", expect: unknownKey, change: setHeader("kid", `"x"`), with: settings{keys: "cluster.pem"}, sibling: "header_kid_missing_static", source: "RFC 7515 section 4.1.4", comment: "a kid that is there counts, even if a key would fit"},
		row{name: "kid_missing_stranger_static", expect: badSignature, change: all(noHeader("kid"), signedBy(strangerRS)), with: settings{keys: "cluster.pem"}, sibling: "header_kid_missing_static", source: "G4.169", comment: "no kid, and none of the keys that fit made the signature"},
		row{name: "alg_unfit_static", expect: unfitKey, change: all(noHeader("kid"), setHeader("alg", `"ES256"`)), with: settings{keys: "rsa_only.pem"}, sibling: "header_kid_missing_rsa", source: "G3.143", comment: "no kid, and no key fits alg"},
		row{name: "kid_missing_rsa", change: noHeader("kid"), with: settings{keys: "rsa_only.pem"}, source: "G2.69", comment: "no kid, and the one key fits"},
	)}
}

func strangerRS(k *keys) *signer { return k.strangerRS256 }
func strangerES(k *keys) *signer { return k.strangerES256 }

func orElse(v, standard verdict) verdict {
	if v == accept {
		return standard
	}
	return v
}
