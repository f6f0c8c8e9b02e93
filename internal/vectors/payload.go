package main

import "strings"

// nested nests a value that nobody reads.
func nested(depth int) string {
	return strings.Repeat(`{"x":`, depth) + "1" + strings.Repeat("}", depth)
}

func utf16LE(s string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteByte(s[i])
		b.WriteByte(0)
	}
	return b.String()
}

// payload is G5: the JSON of the payload.
func payload() table {
	rows := []row{
		{name: "null", change: claimsJSON(to("null")), source: "G5.196", comment: "null instead of an object"},
		{name: "null_in_blanks", change: claimsJSON(to(" null\r\n")), source: "G5.196", comment: "null in white space instead of an object"},
		{name: "array", change: claimsJSON(to("[]")), source: "G5.197", comment: "an array instead of an object"},
		{name: "array_of_object", change: claimsJSON(func(s string) string { return "[" + s + "]" }), source: "G5.197", comment: "the object inside an array"},
		{name: "string", change: claimsJSON(to(`"x"`)), source: "G5.198", comment: "a string instead of an object"},
		{name: "number", change: claimsJSON(to("1")), source: "G5.199", comment: "a number instead of an object"},
		{name: "true", change: claimsJSON(to("true")), source: "G5.199", comment: "a boolean instead of an object"},
		{name: "blank", change: claimsJSON(to("  ")), source: "RFC 8259 section 2", comment: "nothing but blanks"},
		{name: "text", change: claimsJSON(to("hello")), source: "RFC 8259", comment: "no JSON"},
		{name: "trailing_junk", change: claimsJSON(appended("x")), source: "G5.201", comment: "something after the object"},
		{name: "trailing_bracket", change: claimsJSON(appended("}")), source: "G5.201", comment: "a bracket after the object"},
		{name: "trailing_nul", change: claimsJSON(appended("\x00")), source: "G5.201", comment: "a NUL after the object"},
		{name: "two_objects", change: claimsJSON(func(s string) string { return s + s }), source: "G5.202", comment: "the object twice"},
		{name: "empty_object_first", change: claimsJSON(func(s string) string { return "{}" + s }), source: "G5.202", comment: "an empty object first"},
		{name: "byte_order_mark", change: claimsJSON(func(s string) string { return "\ufeff" + s }), source: "G5.203, RFC 8259 section 8.1", comment: "a byte order mark first"},
		{name: "comment", change: claimsJSON(replace("{", "{/* */")), source: "G5.204", comment: "a comment"},
		{name: "comment_line", change: claimsJSON(appended("//")), source: "G5.204", comment: "a comment at the end"},
		{name: "trailing_comma", change: claimsJSON(func(s string) string { return s[:len(s)-1] + ",}" }), source: "G5.205", comment: "a comma before the closing bracket"},
		{name: "leading_comma", change: claimsJSON(replace("{", "{,")), source: "G5.205", comment: "a comma after the opening bracket"},
		{name: "single_quotes", change: claimsJSON(func(s string) string { return strings.ReplaceAll(s, `"`, `'`) }), source: "G5.206", comment: "single quotes"},
		{name: "unquoted_name", change: claimsJSON(replace(`"iss"`, `iss`)), source: "RFC 8259 section 4", comment: "a name without quotes"},
		{name: "truncated", change: claimsJSON(func(s string) string { return s[:len(s)-1] }), source: "RFC 8259 section 4", comment: "no closing bracket"},
		{name: "no_break_space", change: claimsJSON(replace(",", ",\u00a0")), source: "RFC 8259 section 2", comment: "white space that JSON does not know"},
		{name: "form_feed", change: claimsJSON(replace(",", ",\f")), source: "RFC 8259 section 2", comment: "white space that JSON does not know"},
		{name: "invalid_utf8", change: setClaim("iss", "\"https://iss.example\xff\""), source: "G5.207, RFC 8725 section 3.7", comment: "no UTF-8 in iss"},
		{name: "invalid_utf8_unread", change: setClaim("x", "\"\xff\""), source: "G5.207, RFC 8725 section 3.7", comment: "no UTF-8 in a claim that nobody reads"},
		{name: "invalid_utf8_name", change: setClaim("\xff", "1"), source: "RFC 8725 section 3.7", comment: "no UTF-8 in a name"},
		{name: "overlong_utf8", change: setClaim("x", "\"\xc0\xaf\""), source: "RFC 3629 section 3", comment: "a character in more bytes than it needs"},
		{name: "surrogate_utf8", change: setClaim("x", "\"\xed\xa0\x80\""), source: "RFC 3629 section 3", comment: "a surrogate in UTF-8"},
		{name: "lone_surrogate", change: setClaim("x", `"\ud800"`), source: "G5.208, RFC 8259 section 8.2", comment: "half a surrogate pair"},
		{name: "lone_surrogate_sub", change: setClaim("sub", `"system:serviceaccount:ns1:sa1\udc00"`), source: "G5.208", comment: "half a surrogate pair in sub"},
		{name: "bad_escape", change: setClaim("x", `"\x41"`), source: "RFC 8259 section 7", comment: "an escape that JSON does not know"},
		{name: "short_escape", change: setClaim("x", `"\u00"`), source: "RFC 8259 section 7", comment: "half an escape"},
		{name: "utf16", change: claimsJSON(utf16LE), source: "G5.210, RFC 8259 section 8.1", comment: "the whole in UTF-16"},
		{name: "duplicate_iss", change: addClaim("iss", `"https://evil.example"`), source: "G5.211, RFC 7519 section 4", comment: "iss twice"},
		{name: "duplicate_iss_first", change: claimsJSON(replace("{", `{"iss":"https://evil.example",`)), source: "G5.211", comment: "iss twice, the right one last"},
		{name: "duplicate_sub", change: addClaim("sub", `"system:serviceaccount:kube-system:root"`), source: "G5.212", comment: "sub twice"},
		{name: "duplicate_exp", change: addClaim("exp", "1700000600"), source: "G5.213", comment: "exp twice, and both the same"},
		{name: "duplicate_aud", change: addClaim("aud", `["svc-a"]`), source: "G5.214", comment: "aud twice"},
		{name: "duplicate_jti", change: addClaim("jti", `"x"`), source: "RFC 7519 section 4", comment: "jti twice"},
		{name: "duplicate_kubernetes", change: addClaim("kubernetes.io", `{"namespace":"kube-system"}`), source: "G5.215", comment: "kubernetes.io twice: some decoders merge the two"},
		{name: "duplicate_namespace", change: addInside("namespace", `"kube-system"`), source: "G5.216", comment: "namespace twice"},
		{name: "duplicate_pod", change: addInside("pod", `null`), source: "G5.216", comment: "pod twice, once null"},
		{name: "duplicate_deep", change: setInside("serviceaccount", `{"name":"root","name":"sa1","uid":"u"}`), source: "G5.216", comment: "a name twice, two levels down"},
		{name: "duplicate_unread", change: all(addClaim("x", "1"), addClaim("x", "1")), source: "RFC 7519 section 4", comment: "a claim twice that nobody reads"},
		{name: "duplicate_unread_deep", change: addClaim("x", `{"y":{"z":1,"z":1}}`), source: "RFC 7519 section 4", comment: "a member twice that nobody reads, deep down"},
		{name: "duplicate_escaped", change: addClaim(`\u0073ub`, `"system:serviceaccount:kube-system:root"`), source: "G5.212", comment: "sub twice, once with an escape in its name"},
		{name: "control_character", change: setClaim("x", "\"\x01\""), source: "G5.231, RFC 8259 section 7", comment: "a control character in a string"},
		{name: "line_break_in_string", change: setClaim("x", "\"a\nb\""), source: "RFC 8259 section 7", comment: "a line break in a string"},
		{name: "number_leading_zero", change: setClaim("exp", "01700000600"), source: "RFC 8259 section 6", comment: "a number with a zero in front"},
		{name: "number_plus", change: setClaim("exp", "+1700000600"), source: "RFC 8259 section 6", comment: "a number with a plus"},
		{name: "number_hexadecimal", change: setClaim("exp", "0x65553f80"), source: "RFC 8259 section 6", comment: "a number to another base"},
		{name: "number_nan", change: setClaim("exp", "NaN"), source: "RFC 8259 section 6", comment: "not a number"},
		{name: "number_infinity", change: setClaim("exp", "Infinity"), source: "RFC 8259 section 6", comment: "no end"},
		{name: "literal_upper_case", change: setClaim("x", "True"), source: "RFC 8259 section 3", comment: "a literal in another case"},
	}
	for i := range rows {
		rows[i].expect = malformedPayload
	}
	return table{"payload_", append(rows,
		row{name: "empty_object", expect: wrongIssuer, change: claimsJSON(to("{}")), source: "G5.200", comment: "no claims: iss is what is missing first"},
		row{name: "shadow_iss", change: addClaim("ISS", `"https://evil.example"`), source: "G5.218", comment: "ISS is not iss, and changes nothing"},
		row{name: "shadow_sub", change: addClaim("SUB", `"system:serviceaccount:kube-system:root"`), source: "G5.220", comment: "SUB is not sub, and changes nothing"},
		row{name: "shadow_exp", change: addClaim("Exp", `1`), source: "G5.220", comment: "Exp is not exp, and changes nothing"},
		row{name: "shadow_aud", change: addClaim("Aud", `["svc-b"]`), source: "G5.220", comment: "Aud is not aud, and changes nothing"},
		row{name: "shadow_kubernetes", change: addClaim("kubernetes.IO", `{"namespace":"kube-system"}`), source: "G5.221", comment: "kubernetes.IO is not kubernetes.io, and changes nothing"},
		row{name: "shadow_namespace", change: addInside("Namespace", `"kube-system"`), source: "G5.223", comment: "Namespace is not namespace, and changes nothing"},
		row{name: "shadow_serviceaccount", change: addInside("serviceAccount", `{"name":"root","uid":"u"}`), source: "G5.223", comment: "serviceAccount is not serviceaccount, and changes nothing"},
		row{name: "case_iss", expect: wrongIssuer, change: claimsJSON(replace(`"iss"`, `"ISS"`)), source: "G5.224", comment: "ISS and no iss"},
		row{name: "case_aud", expect: wrongAudience, change: claimsJSON(replace(`"aud"`, `"Aud"`)), source: "G5.224", comment: "Aud and no aud"},
		row{name: "case_exp", expect: expired, change: claimsJSON(replace(`"exp"`, `"EXP"`)), source: "G5.224", comment: "EXP and no exp"},
		row{name: "case_iat", expect: inconsistentTimes, change: claimsJSON(replace(`"iat"`, `"IAT"`)), source: "G5.224", comment: "IAT and no iat"},
		row{name: "case_sub", expect: notAServiceAccount, change: claimsJSON(replace(`"sub"`, `"Sub"`)), source: "G5.224", comment: "Sub and no sub"},
		row{name: "case_kubernetes", expect: notAServiceAccount, change: claimsJSON(replace(`"kubernetes.io"`, `"Kubernetes.io"`)), source: "G5.224", comment: "Kubernetes.io and no kubernetes.io"},
		row{name: "case_namespace", expect: notAServiceAccount, change: claimsJSON(replace(`"namespace"`, `"Namespace"`)), source: "G5.224", comment: "Namespace and no namespace"},
		row{name: "long_s", expect: wrongIssuer, change: claimsJSON(replace(`"iss"`, "\"i\u017fs\"")), source: "G5.224", comment: "a letter that folds to s"},
		row{name: "nul_in_sub", expect: notAServiceAccount, change: setClaim("sub", `"system:serviceaccount:ns1:sa1\u0000x"`), source: "G5.232", comment: "a NUL in sub"},
		row{name: "huge_integer_unread", change: setClaim("x", strings.Repeat("9", 1000)), source: "G5.229", comment: "a number of a thousand digits in a claim that nobody reads"},
		row{name: "nested_unread", change: setClaim("x", nested(30)), source: "G5.225", comment: "a claim that nobody reads, 30 deep"},
		row{name: "more_claims", change: all(setClaim("azp", `"x"`), setClaim("email_verified", "true"), setClaim("x", "null")), source: "G5.234, RFC 7519 section 4", comment: "claims that nobody reads"},
		row{name: "more_claims_inside", change: setInside("cluster", `{"name":"x"}`), source: "RFC 7519 section 4", comment: "a later Kubernetes may say more"},
		row{name: "surrogate_pair", change: setClaim("x", `"\ud83d\ude00"`), source: "RFC 8259 section 7", comment: "a whole surrogate pair"},
	)}
}
