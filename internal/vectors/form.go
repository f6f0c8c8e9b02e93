package main

import (
	"encoding/base64"
	"slices"
	"strings"
)

// lowBits changes the bits of the last character that belong to no byte.
func lowBits(segment string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	if len(segment)%4 == 0 {
		panic("no bits to spare")
	}
	last := strings.IndexByte(alphabet, segment[len(segment)-1])
	return segment[:len(segment)-1] + alphabet[last+1:last+2]
}

// insert puts text into a segment.
func insert(text string) func(string) string {
	return func(segment string) string { return segment[:8] + text + segment[8:] }
}

func appended(text string) func(string) string {
	return func(segment string) string { return segment + text }
}

// claimsSegment changes the payload segment, which is signed as changed.
func claimsSegment(f func(string) string) change {
	return signedSegments(func(h, c string) (string, string) { return h, f(c) })
}

func headerSegment(f func(string) string) change {
	return signedSegments(func(h, c string) (string, string) { return f(h), c })
}

// spare gives the payload a length that leaves bits to spare.
func spare(t *token) { t.claims = t.claims.add("x", `"ab"`) }

// serialized is the JSON serialization of a token (RFC 7515, section 7.2).
func serialized(format string) change {
	return whole(func(token string) string {
		part := strings.Split(token, ".")
		return strings.NewReplacer("HEADER", part[0], "PAYLOAD", part[1], "SIGNATURE", part[2], "COMPACT", token).Replace(format)
	})
}

func decoded(segment string) string {
	return string(must(base64.RawURLEncoding.DecodeString(segment)))
}

func five(header string) change {
	return whole(to(encode([]byte(header)) + ".AAAA.AAAAAAAAAAAAAAAA.AAAA.AAAAAAAAAAAAAAAAAAAAAA"))
}

// form is G1: what a compact token looks like.
func form() table {
	return table{"", []row{
		{name: "good_rs256", source: "G1.1", comment: "the token that most others are one change of"},
		{name: "good_es256", change: byES256, source: "G1.2", comment: "a P-256 key"},
		{name: "good_es384", change: byES384, source: "G1.3", comment: "a P-384 key"},
		{name: "good_es512", change: byES512, source: "G1.4", comment: "a P-521 key"},
		{name: "good_typ", change: setHeader("typ", `"JWT"`), source: "G1.5", comment: "an external signer's header has a typ"},
		{name: "good_header_first", change: func(t *token) { slices.Reverse(t.header) }, source: "RFC 8259 section 4", comment: "the order of members means nothing"},
		{name: "good_header_whitespace", change: headerJSON(replace(`,`, " ,\t\r\n ")), source: "G1.6, RFC 8259 section 2", comment: "white space in the header's JSON, signed so"},
		{name: "good_payload_whitespace", change: claimsJSON(replace(`,`, " ,\t\r\n ")), source: "RFC 8259 section 2", comment: "white space in the payload's JSON, signed so"},
		{name: "good_header_escape", change: headerJSON(replace(`RS256`, `\u0052S256`)), source: "RFC 8259 section 7", comment: "an escape in a value, signed so"},
		{name: "good_payload_escape", change: claimsJSON(replace(`"iss":"https://`, `"i\u0073s":"https:\/\/`)), source: "RFC 8259 section 7", comment: "escapes in a name and in a value, signed so"},

		{name: "form_one_segment", expect: malformed, change: whole(func(s string) string { return s[:strings.IndexByte(s, '.')] }), source: "G1.9", comment: "the header alone"},
		{name: "form_two_segments", expect: malformed, change: whole(func(s string) string { return s[:strings.LastIndexByte(s, '.')] }), source: "G1.10", comment: "no signature segment"},
		{name: "form_four_segments", expect: malformed, change: whole(appended(".AAAA")), source: "G1.11", comment: "one segment more"},
		{name: "form_dot_first", expect: malformed, change: whole(func(s string) string { return "." + s }), source: "RFC 7515 section 7.1", comment: "a dot in front"},
		{name: "form_dot_last", expect: malformed, change: whole(appended(".")), source: "G1.12", comment: "a dot at the end"},
		{name: "form_dot_doubled", expect: malformed, change: whole(replace(".", "..")), source: "RFC 7515 section 7.1", comment: "two dots after the header"},
		{name: "form_only_dots", expect: malformed, change: whole(to("..")), source: "CVE-2025-30204", comment: "three empty segments"},
		{name: "form_many_dots", expect: malformed, change: whole(to(strings.Repeat(".", 1000))), source: "CVE-2025-27144, CVE-2025-30204", comment: "a thousand dots; a million are in TestCostOfRefusing"},
		{name: "form_header_empty", expect: malformed, change: segment(0, to("")), source: "G1.14", comment: "an empty header segment"},
		{name: "form_payload_empty", expect: malformed, change: segment(1, to("")), source: "G1.15", comment: "an empty payload segment"},
		{name: "form_payload_empty_signed", expect: malformed, change: claimsSegment(to("")), source: "RFC 7515 section 7.1", comment: "an empty payload segment, signed so"},
		{name: "form_signature_empty", expect: malformed, change: segment(2, to("")), source: "G1.16, CVE-2020-28042", comment: "an empty signature segment"},
		{name: "form_blank_first", expect: malformed, change: whole(func(s string) string { return " " + s }), source: "G1.17", comment: "a blank in front"},
		{name: "form_blank_last", expect: malformed, change: whole(appended(" ")), source: "RFC 7515 section 2", comment: "a blank at the end"},
		{name: "form_tab_first", expect: malformed, change: whole(func(s string) string { return "\t" + s }), source: "RFC 7515 section 2", comment: "a tab in front"},
		{name: "form_newline_first", expect: malformed, change: whole(func(s string) string { return "\n" + s }), source: "RFC 7515 section 2", comment: "a line break in front"},
		{name: "form_newline_last", expect: malformed, change: whole(appended("\n")), source: "G1.18", comment: "a line break at the end, as files have it: the caller trims"},
		{name: "form_crlf_last", expect: malformed, change: whole(appended("\r\n")), source: "RFC 7515 section 2", comment: "CR LF at the end"},
		{name: "form_newline_in_header", expect: malformed, change: segment(0, insert("\n")), source: "RFC 7515 section 2", comment: "Go's base64 skips a line break even if it is strict"},
		{name: "form_newline_in_header_signed", expect: malformed, change: headerSegment(insert("\n")), source: "RFC 7515 section 2", comment: "a line break in the header segment, signed so"},
		{name: "form_crlf_in_payload", expect: malformed, change: segment(1, insert("\r\n")), source: "G1.19", comment: "CR LF in the payload segment, put there afterwards"},
		{name: "form_crlf_in_payload_signed", expect: malformed, change: claimsSegment(insert("\r\n")), source: "G1.19", comment: "CR LF in the payload segment, signed so"},
		{name: "form_newline_in_signature", expect: malformed, change: segment(2, insert("\n")), source: "RFC 7515 section 2", comment: "a line break in the signature segment"},
		{name: "form_folded", expect: malformed, change: segment(2, insert("\r\n ")), source: "RFC 9112 section 5.2", comment: "a folded header line"},
		{name: "form_tab_in_payload", expect: malformed, change: claimsSegment(insert("\t")), source: "RFC 7515 section 2", comment: "a tab in the payload segment, signed so"},
		{name: "form_padding_header", expect: malformed, change: headerSegment(appended("=")), source: "G1.22, RFC 7515 section 2", comment: "padding at the header segment, signed so"},
		{name: "form_padding_payload", expect: malformed, change: claimsSegment(appended("=")), source: "G1.23, RFC 7515 section 2", comment: "padding at the payload segment, signed so"},
		{name: "form_padding_signature", expect: malformed, change: segment(2, appended("==")), source: "G1.24, RFC 7515 section 2", comment: "padding at the signature segment"},
		{name: "form_standard_alphabet", expect: malformed, change: segment(2, func(s string) string { return strings.NewReplacer("-", "+", "_", "/").Replace(s) }), source: "G1.25, RFC 4648 section 5", comment: "the signature in the other alphabet"},
		{name: "form_standard_alphabet_payload", expect: malformed, change: all(setClaim("x", `"???>>>~~~"`), claimsSegment(func(s string) string {
			return base64.RawStdEncoding.EncodeToString([]byte(decoded(s)))
		})), sibling: "good_other_alphabet", source: "G1.25, RFC 4648 section 5", comment: "the payload in the other alphabet, signed so"},
		{name: "good_other_alphabet", change: setClaim("x", `"???>>>~~~"`), source: "RFC 4648 section 5", comment: "a payload whose base64url has - and _"},
		{name: "good_spare_bits", change: spare, source: "RFC 4648 section 3.5", comment: "a payload whose last character has bits to spare"},
		{name: "form_spare_bits_payload", expect: malformed, change: all(spare, segment(1, lowBits)), sibling: "good_spare_bits", source: "G1.27, RFC 4648 section 3.5", comment: "other bits to spare in the payload segment, put there afterwards"},
		{name: "form_spare_bits_payload_signed", expect: malformed, change: all(spare, claimsSegment(lowBits)), sibling: "good_spare_bits", source: "G1.27, RFC 4648 section 3.5", comment: "other bits to spare in the payload segment, signed so"},
		{name: "form_spare_bits_signature", expect: malformed, change: segment(2, lowBits), source: "G1.28, RFC 4648 section 3.5", comment: "other bits to spare in the signature segment: the same signature in another spelling"},
		{name: "form_length_1_mod_4_payload", expect: malformed, change: claimsSegment(func(s string) string { return s[:len(s)/4*4-3] }), source: "G1.29", comment: "a payload segment of a length that base64 can't have"},
		{name: "form_length_1_mod_4_signature", expect: malformed, change: segment(2, func(s string) string { return s[:len(s)/4*4-3] }), source: "G1.29", comment: "a signature segment of a length that base64 can't have"},
		{name: "form_nul", expect: malformed, change: whole(appended("\x00")), source: "G1.31", comment: "a NUL at the end"},
		{name: "form_nul_in_payload", expect: malformed, change: claimsSegment(insert("\x00")), source: "G1.31", comment: "a NUL in the payload segment, signed so"},
		{name: "form_byte_over_127", expect: malformed, change: claimsSegment(insert("\xff")), source: "RFC 7515 section 2", comment: "a byte that no text has"},
		{name: "form_percent_encoded", expect: malformed, change: whole(func(s string) string { return strings.ReplaceAll(s, ".", "%2E") }), source: "G1.32", comment: "dots in percent-encoding"},
		{name: "form_percent_in_payload", expect: malformed, change: claimsSegment(insert("%41")), source: "RFC 7515 section 2", comment: "percent-encoding in the payload segment"},
		{name: "form_bearer", expect: malformed, change: whole(func(s string) string { return "Bearer " + s }), source: "G1.34", comment: "the scheme in front: the error says to hand over the token alone"},
		{name: "form_bearer_lower_case", expect: malformed, change: whole(func(s string) string { return "bearer " + s }), source: "G1.34", comment: "the scheme in front, in lower case"},
		{name: "form_quoted", expect: malformed, change: whole(func(s string) string { return `"` + s + `"` }), source: "RFC 7515 section 7.1", comment: "a JSON string of the token"},
		{name: "form_twice", expect: malformed, change: whole(func(s string) string { return s + "," + s }), source: "RFC 9110 section 5.3", comment: "two tokens, as joined header lines would be"},
		{name: "form_json_flattened", expect: malformed, change: serialized(`{"payload":"PAYLOAD","protected":"HEADER","signature":"SIGNATURE"}`), source: "G1.35, RFC 7515 section 7.2.2", comment: "the flattened JSON serialization"},
		{name: "form_json_general", expect: malformed, change: serialized(`{"payload":"PAYLOAD","signatures":[{"protected":"HEADER","signature":"SIGNATURE"}]}`), source: "G1.36, RFC 7515 section 7.2.1", comment: "the general JSON serialization"},
		{name: "form_json_unprotected", expect: malformed, change: serialized(`{"payload":"PAYLOAD","protected":"HEADER","header":{"kid":"x"},"signature":"SIGNATURE"}`), source: "RFC 7515 section 7.2.2", comment: "a header that no signature covers"},
		{name: "form_json_two_signatures", expect: malformed, change: serialized(`{"payload":"PAYLOAD","signatures":[{"protected":"HEADER","signature":"AAAA"},{"protected":"HEADER","signature":"SIGNATURE"}]}`), source: "G1.37", comment: "one good signature of two"},
		{name: "form_json_around_compact", expect: malformed, change: serialized(`{"token":"COMPACT"}`), source: "CVE-2022-39227", comment: "a compact token inside JSON"},
		{name: "form_jwe", expect: malformed, change: five(`{"alg":"dir","enc":"A128GCM"}`), source: "G1.39", comment: "an encrypted token of five segments"},
		{name: "form_jwe_zip", expect: malformed, change: five(`{"alg":"dir","enc":"A128GCM","zip":"DEF"}`), source: "G1.40, CVE-2024-28180", comment: "an encrypted token that asks to be inflated"},
		{name: "form_jwe_pbes2", expect: malformed, change: five(`{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2c":2147483647,"p2s":"AAAA"}`), source: "G1.41, CVE-2023-50658", comment: "an encrypted token that asks for two billion hashes"},
		{name: "form_detached", expect: malformed, change: segment(1, to("")), source: "G1.43, RFC 7515 appendix F", comment: "a detached payload"},
		{name: "form_paseto", expect: malformed, change: whole(to("v4.public.eyJkYXRhIjoidGhpcyBpcyBhIHNpZ25lZCBtZXNzYWdlIn0.AAAA")), source: "G1.48", comment: "a PASETO"},
		{name: "form_paseto_three", expect: verdict{"malformed", 1}, change: whole(to("v4.public.eyJkYXRhIjoidGhpcyBpcyBhIHNpZ25lZCBtZXNzYWdlIn1")), source: "G1.48", comment: "a PASETO without a footer has three segments"},
		{name: "form_opaque", expect: malformed, change: whole(to("ghr_1B4a2e77838347a7E420ce178F2E7c6912E169246c34E1ccbF66C46812d16D5B1A9Dc86A1498")), source: "G1.48", comment: "an opaque token"},
		{name: "form_ssh_certificate", expect: malformed, change: whole(to("ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29t")), source: "G1.48", comment: "an SSH certificate"},
		{name: "form_xml", expect: malformed, change: whole(to(`<saml:Assertion Version="2.0"><saml:Issuer>x</saml:Issuer></saml:Assertion>`)), source: "G1.48", comment: "a SAML assertion"},
		{name: "form_pem", expect: malformed, change: whole(to("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")), source: "G1.48", comment: "a certificate"},
		{name: "form_basic_credentials", expect: malformed, change: whole(to("Basic dXNlcjpwYXNzd29yZA==")), source: "RFC 7617", comment: "another scheme's credentials"},

		{name: "form_brackets_64", change: setClaim("x", `"`+strings.Repeat("{", 58)+`"`), source: "limit of rule 1", comment: "64 opening brackets in all"},
		{name: "form_brackets_65", expect: malformed, change: setClaim("x", `"`+strings.Repeat("{", 59)+`"`), sibling: "form_brackets_64", source: "limit of rule 1", comment: "65 opening brackets in all"},
		{name: "form_commas_256", change: setClaim("x", `"`+strings.Repeat(",", 256-14)+`"`), source: "limit of rule 1", comment: "256 commas in all"},
		{name: "form_commas_257", expect: malformed, change: setClaim("x", `"`+strings.Repeat(",", 257-14)+`"`), sibling: "form_commas_256", source: "limit of rule 1", comment: "257 commas in all"},
		{name: "form_nested_58", change: setClaim("x", strings.Repeat("[", 58)+strings.Repeat("]", 58)), source: "G5.225", comment: "a claim that nobody reads, 58 deep"},
		{name: "form_nested_59", expect: malformed, change: setClaim("x", strings.Repeat("[", 59)+strings.Repeat("]", 59)), sibling: "form_nested_58", source: "G5.225", comment: "65 levels in all: no JSON is decoded"},
		{name: "form_many_members", expect: malformed, change: setClaim("x", `{"a":1`+manyMembers(300)+`}`), source: "G5.227", comment: "300 members: no JSON is decoded"},
		{name: "form_aud_many", expect: malformed, change: setClaim("aud", `["svc-a"`+strings.Repeat(`,"x"`, 300)+`]`), source: "G6.266", comment: "301 audiences: no JSON is decoded"},
	}}
}
