package main

import (
	"fmt"
	"strconv"
	"strings"
)

// ends sets exp; starts sets iat and nbf.
func ends(at int64) change { return setClaim("exp", strconv.FormatInt(at, 10)) }
func starts(at int64) change {
	text := strconv.FormatInt(at, 10)
	return all(setClaim("iat", text), setClaim("nbf", text))
}

// minute is a leeway of 60 seconds, as is the default; these vectors have none
// unless they say so.
var minute = settings{leeway: "60s"}

// wrongTypes gives each of the dates each JSON value of a wrong type.
func wrongTypes(name string, set func(name, value string) change) []row {
	var rows []row
	for _, v := range []struct{ name, value, comment string }{
		{"string", `"1700000600"`, "a number in a string"},
		{"empty_string", `""`, "an empty string"},
		{"true", `true`, "a boolean"},
		{"array", `[1700000600]`, "a number in an array"},
		{"object", `{}`, "an object"},
		{"fraction", `1700000600.5`, "a fraction: Kubernetes writes whole seconds"},
		{"fraction_zero", `1700000600.0`, "a whole number that is written as a fraction"},
		{"exponent", `17e8`, "a whole number that is written with an exponent"},
		{"1e308", `1e308`, "more than any integer: it must not wrap"},
		{"1e400", `1e400`, "more than any floating-point number"},
		{"2_63", `9223372036854775808`, "one more than 63 bits hold: it must not wrap"},
		{"2_62", `4611686018427387904`, "a time that no clock shows: adding to it must not wrap"},
		{"2_64", `18446744073709551617`, "one more than 64 bits hold, and one: it must not wrap"},
		{"year_10000", `253402300800`, "the first second after the year 9999"},
		{"negative", `-1`, "before 1970"},
		{"minus_zero", `-0`, "zero with a sign"},
		{"milliseconds", `1700000600000`, "milliseconds"},
		{"date", `"2023-11-14T22:23:20Z"`, "a date in words"},
	} {
		rows = append(rows, row{name: name + "_" + v.name, expect: malformedPayload, change: set(name, v.value), source: "G6.269, RFC 7519 section 2", comment: name + ": " + v.comment})
	}
	return rows
}

// registered is G6: the registered claims and the times.
func registered() table {
	rows := []row{
		{name: "iss_missing", expect: wrongIssuer, change: noClaim("iss"), source: "G6.235", comment: "no iss"},
		{name: "iss_null", expect: wrongIssuer, change: setClaim("iss", "null"), source: "G6.236", comment: "null is the same as none"},
		{name: "iss_empty", expect: wrongIssuer, change: setClaim("iss", `""`), source: "G6.235", comment: "an empty iss"},
		{name: "iss_number", expect: malformedPayload, change: setClaim("iss", "1"), source: "G6.237", comment: "iss is a number"},
		{name: "iss_array", expect: malformedPayload, change: setClaim("iss", `["https://iss.example"]`), source: "G6.238", comment: "iss is an array"},
		{name: "iss_object", expect: malformedPayload, change: setClaim("iss", `{}`), source: "G6.238", comment: "iss is an object"},
	}
	for _, v := range []struct{ name, value, source, comment string }{
		{"trailing_slash", "https://iss.example/", "G6.239", "a slash at the end"},
		{"http", "http://iss.example", "G6.240", "another scheme"},
		{"upper_case_host", "https://ISS.example", "G6.241", "the host in another case"},
		{"upper_case_scheme", "HTTPS://iss.example", "G6.241", "the scheme in another case"},
		{"prefix", "https://iss.exampl", "G6.242", "a character less"},
		{"longer", "https://iss.example.evil.example", "G6.243", "the issuer is a prefix of it"},
		{"path", "https://iss.example/cluster", "G6.243", "a path more"},
		{"part", "iss.example", "G6.244, CVE-2024-53861", "a part of the issuer"},
		{"homoglyph", "https://\u0456ss.example", "G6.245", "a letter that looks the same"},
		{"port", "https://iss.example:443", "G6.246", "the port that it has anyway"},
		{"user_information", "https://x@iss.example", "G6.244", "user information"},
		{"query", "https://iss.example?", "G6.244", "an empty query"},
		{"blank", "https://iss.example ", "G6.244", "a blank at the end"},
		{"dot", "https://iss.example.", "G6.244", "a dot at the end of the host"},
		{"other_cluster", "https://other.example", "G7.359", "another cluster of the same names"},
		{"percent", "https://iss%2eexample", "G6.244", "percent-encoding"},
	} {
		rows = append(rows, row{name: "iss_" + v.name, expect: wrongIssuer, change: setClaim("iss", quoted(v.value)), source: v.source, comment: v.comment})
	}
	formerly := settings{formerIssuers: "https://former.example"}
	formerlyLegacy := settings{formerIssuers: "kubernetes/serviceaccount"}
	rows = append(rows,
		row{name: "iss_former", change: setClaim("iss", `"https://former.example"`), with: formerly, source: "Config.FormerIssuers", comment: "an issuer that the cluster had before"},
		row{name: "iss_former_not_configured", expect: wrongIssuer, change: setClaim("iss", `"https://former.example"`), sibling: "iss_former", source: "Config.FormerIssuers", comment: "the same, and nobody says that it is the same cluster's"},
		row{name: "iss_former_longer", expect: wrongIssuer, change: setClaim("iss", `"https://former.example/"`), with: formerly, sibling: "iss_former", source: "Config.FormerIssuers", comment: "a former issuer has one spelling too"},
		row{name: "iss_legacy", expect: legacy, change: secretBased, source: "G6.248", comment: "a Secret-based token"},
		row{name: "iss_legacy_ours", expect: legacy, change: all(secretBased, setClaim("iss", `"https://iss.example"`)), source: "G6.248", comment: "a Secret-based token that names our issuer"},
		row{name: "iss_legacy_nulls", expect: legacy, change: all(secretBased, setClaim("aud", "null"), setClaim("exp", "null"), setClaim("kubernetes.io", "null")), source: "G6.248", comment: "null is the same as none"},
		row{name: "iss_legacy_configured", expect: legacy, change: secretBased, with: formerlyLegacy, sibling: "iss_of_secrets_configured", source: "G6.248", comment: "a Secret-based token, and its issuer is configured"},
		row{name: "iss_of_secrets", expect: wrongIssuer, change: setClaim("iss", secretIssuer), source: "G6.248", comment: "a projected token with the issuer that Secret-based tokens have"},
		row{name: "iss_of_secrets_configured", change: setClaim("iss", secretIssuer), with: formerlyLegacy, source: "Config.FormerIssuers", comment: "a projected token of a cluster that had that issuer"},

		row{name: "aud_missing", expect: wrongAudience, change: noClaim("aud"), source: "G6.249, CVE-2026-55689", comment: "no aud"},
		row{name: "aud_null", expect: wrongAudience, change: setClaim("aud", "null"), source: "G6.250", comment: "null is the same as none"},
		row{name: "aud_none", expect: wrongAudience, change: setClaim("aud", "[]"), source: "G6.251, CVE-2020-26160", comment: "an empty list"},
		row{name: "aud_empty", expect: wrongAudience, change: setClaim("aud", `""`), source: "G6.252", comment: "an empty audience"},
		row{name: "aud_number", expect: malformedPayload, change: setClaim("aud", "1"), source: "G6.253", comment: "aud is a number"},
		row{name: "aud_true", expect: malformedPayload, change: setClaim("aud", "true"), source: "G6.253", comment: "aud is a boolean"},
		row{name: "aud_object", expect: malformedPayload, change: setClaim("aud", `{"svc-a":true}`), source: "G6.254", comment: "aud is an object"},
		row{name: "aud_list_of_null", expect: malformedPayload, change: setClaim("aud", `[null]`), source: "G6.255", comment: "a null in the list"},
		row{name: "aud_null_beside", expect: malformedPayload, change: setClaim("aud", `["svc-a",null]`), source: "G6.255", comment: "a null beside ours"},
		row{name: "aud_number_beside", expect: malformedPayload, change: setClaim("aud", `["svc-a",1]`), source: "G6.255", comment: "a number beside ours"},
		row{name: "aud_nested", expect: malformedPayload, change: setClaim("aud", `[["svc-a"]]`), source: "G6.257", comment: "a list in the list"},
		row{name: "aud_string", change: setClaim("aud", `"svc-a"`), source: "G1.7, RFC 7519 section 4.1.3", comment: "one audience without a list"},
		row{name: "aud_second", change: setClaim("aud", `["x","svc-a"]`), source: "G6.263", comment: "ours is the second"},
		row{name: "aud_twice_ours", change: setClaim("aud", `["svc-a","svc-a"]`), source: "G6.263", comment: "ours twice"},
		row{name: "aud_with_issuer", change: setClaim("aud", `["https://iss.example","svc-a"]`), source: "G6.264", comment: "good for the API server too"},
		row{name: "aud_two_configured", change: setClaim("aud", `["svc-b"]`), with: settings{audiences: "svc-a, svc-b"}, source: "Config.Audiences", comment: "one of two names of this service"},
		row{name: "aud_two_configured_none_named", expect: wrongAudience, change: setClaim("aud", `["svc-c"]`), with: settings{audiences: "svc-a, svc-b"}, sibling: "aud_two_configured", source: "Config.Audiences", comment: "none of two names of this service"},
		row{name: "exp_next_second", change: ends(now + 1), source: "G6.283", comment: "one second left"},
		row{name: "exp_now", expect: expired, change: ends(now), sibling: "exp_next_second", source: "G6.282, RFC 7519 section 4.1.4", comment: "not on or after exp"},
		row{name: "exp_last_second", expect: expired, change: ends(now - 1), sibling: "exp_next_second", source: "G6.284", comment: "a second too late"},
		row{name: "exp_leeway", change: ends(now - 59), with: minute, source: "G6.285", comment: "one second of the leeway left"},
		row{name: "exp_leeway_past", expect: expired, change: ends(now - 60), with: minute, sibling: "exp_leeway", source: "G6.286", comment: "the leeway is past"},
		row{name: "exp_missing", expect: expired, change: noClaim("exp"), source: "G6.267", comment: "no exp"},
		row{name: "exp_null", expect: expired, change: setClaim("exp", "null"), source: "G6.268", comment: "null is the same as none"},
		row{name: "exp_zero", expect: inconsistentTimes, change: ends(0), source: "G6.278", comment: "1970: before iat"},
		row{name: "exp_zero_all", expect: expired, change: all(ends(0), starts(0)), source: "G6.278", comment: "a token of one moment in 1970"},
		row{name: "exp_year_9999", expect: lifetimeTooLong, change: ends(253402300799), source: "G6.297", comment: "for ever"},
		row{name: "exp_year_9999_unbounded", change: ends(253402300799), with: settings{maxLifetime: "none"}, source: "Config.MaxLifetime", comment: "for ever, and nobody minds"},
		row{name: "iat_missing", expect: inconsistentTimes, change: noClaim("iat"), source: "G6.293", comment: "no iat: nobody knows for how long the token lives"},
		row{name: "iat_null", expect: inconsistentTimes, change: setClaim("iat", "null"), source: "G6.293", comment: "null is the same as none"},
		row{name: "iat_after_exp", expect: inconsistentTimes, change: setClaim("iat", "1700000601"), source: "G6.296", comment: "iat after exp"},
		row{name: "iat_now", change: setClaim("iat", "1700000000"), source: "G6.294", comment: "minted this second"},
		row{name: "iat_next_second", expect: notYetValid, change: setClaim("iat", "1700000001"), sibling: "iat_now", source: "G6.294", comment: "minted in the future"},
		row{name: "iat_leeway", change: setClaim("iat", "1700000060"), with: minute, source: "G6.294", comment: "minted in the future, within the leeway"},
		row{name: "iat_leeway_past", expect: notYetValid, change: setClaim("iat", "1700000061"), with: minute, sibling: "iat_leeway", source: "G6.294", comment: "minted in the future, past the leeway"},
		row{name: "iat_zero", expect: lifetimeTooLong, change: setClaim("iat", "0"), source: "G6.297", comment: "minted in 1970"},
		row{name: "nbf_missing", change: noClaim("nbf"), source: "G6.292", comment: "no nbf"},
		row{name: "nbf_null", change: setClaim("nbf", "null"), source: "G6.292", comment: "null is the same as none"},
		row{name: "nbf_zero", change: setClaim("nbf", "0"), source: "G6.287", comment: "valid since 1970: iat is what counts for the lifetime"},
		row{name: "nbf_now", change: setClaim("nbf", "1700000000"), source: "G6.287", comment: "valid from this second"},
		row{name: "nbf_next_second", expect: notYetValid, change: setClaim("nbf", "1700000001"), sibling: "nbf_now", source: "G6.288", comment: "valid from the next second"},
		row{name: "nbf_leeway", change: setClaim("nbf", "1700000060"), with: minute, source: "G6.289", comment: "valid soon, within the leeway"},
		row{name: "nbf_leeway_past", expect: notYetValid, change: setClaim("nbf", "1700000061"), with: minute, sibling: "nbf_leeway", source: "G6.289", comment: "valid soon, past the leeway"},
		row{name: "nbf_after_exp", expect: inconsistentTimes, change: setClaim("nbf", "1700000601"), source: "G6.296", comment: "nbf after exp"},
		row{name: "lifetime_day", change: all(ends(1699997000 + 86400)), source: "G6.297", comment: "the longest life by default"},
		row{name: "lifetime_day_and_second", expect: lifetimeTooLong, change: ends(1699997000 + 86401), sibling: "lifetime_day", source: "G6.297", comment: "a second longer than that"},
		row{name: "lifetime_bound", change: nil, with: settings{maxLifetime: "1h"}, source: "Config.MaxLifetime", comment: "as long as it may"},
		row{name: "lifetime_bound_lower", expect: lifetimeTooLong, with: settings{maxLifetime: "59m59s"}, sibling: "lifetime_bound", source: "Config.MaxLifetime", comment: "a second longer than it may"},

		row{name: "sub_missing", expect: notAServiceAccount, change: noClaim("sub"), source: "G6.301", comment: "no sub"},
		row{name: "sub_null", expect: notAServiceAccount, change: setClaim("sub", "null"), source: "G6.302", comment: "null is the same as none"},
		row{name: "sub_empty", expect: notAServiceAccount, change: setClaim("sub", `""`), source: "G6.304", comment: "an empty sub"},
		row{name: "sub_number", expect: malformedPayload, change: setClaim("sub", "1"), source: "G6.303", comment: "sub is a number"},
		row{name: "sub_array", expect: malformedPayload, change: setClaim("sub", `["system:serviceaccount:ns1:sa1"]`), source: "G6.303", comment: "sub is an array"},
		row{name: "jti_missing", change: noClaim("jti"), source: "G6.305", comment: "clusters before 1.30 write none"},
		row{name: "jti_null", change: setClaim("jti", "null"), source: "G6.305", comment: "null is the same as none"},
		row{name: "jti_empty", expect: notAServiceAccount, change: setClaim("jti", `""`), source: "G6.306", comment: "an empty jti"},
		row{name: "jti_number", expect: malformedPayload, change: setClaim("jti", "1"), source: "G6.306", comment: "jti is a number"},
		row{name: "jti_128", change: setClaim("jti", quoted(strings.Repeat("j", 128))), source: "limit of rule 8", comment: "128 characters"},
		row{name: "jti_129", expect: notAServiceAccount, change: setClaim("jti", quoted(strings.Repeat("j", 129))), sibling: "jti_128", source: "limit of rule 8", comment: "129 characters"},
		row{name: "jti_line_break", expect: notAServiceAccount, change: setClaim("jti", `"a\nb"`), source: "limit of rule 8", comment: "a line of its own for the log"},
		row{name: "jti_not_ascii", expect: notAServiceAccount, change: setClaim("jti", `"ü"`), source: "limit of rule 8", comment: "a character that is not ASCII"},
	)
	for _, v := range []struct{ name, value, source, comment string }{
		{"other", "svc-b", "G6.258", "another service"},
		{"upper_case", "SVC-A", "G6.259", "another case"},
		{"longer", "svc-a-x", "G6.260", "ours is a prefix of it"},
		{"shorter", "svc-", "G6.260", "it is a prefix of ours"},
		{"comma", "svc-a,svc-b", "G6.262", "two names in one"},
		{"blanks", "svc-b svc-a", "G6.262", "two names in one, as OAuth's scope has them"},
		{"wildcard", "*", "G6.261", "no pattern"},
		{"regular_expression", "svc-.", "CVE-2026-39350", "no pattern"},
		{"trailing_blank", "svc-a ", "G6.260", "ours and a blank"},
		{"issuer", "https://iss.example", "G6.265", "the API server's: the token that every pod has"},
		{"url", "https://svc-a", "G6.260", "ours as a URL"},
	} {
		rows = append(rows, row{name: "aud_" + v.name, expect: wrongAudience, change: setClaim("aud", fmt.Sprintf(`[%s]`, quoted(v.value))), source: v.source, comment: v.comment})
	}
	rows = append(rows, wrongTypes("exp", setClaim)...)
	rows = append(rows, wrongTypes("nbf", setClaim)...)
	return table{"claim_", append(rows, wrongTypes("iat", setClaim)...)}
}
