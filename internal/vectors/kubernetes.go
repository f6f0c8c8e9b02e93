package main

import (
	"fmt"
	"strings"
)

// ofAccount is a token of another service account, in sub too.
func ofAccount(namespace, name string) change {
	return all(
		setClaim("sub", quoted("system:serviceaccount:"+namespace+":"+name)),
		setInside("namespace", quoted(namespace)),
		setInside("serviceaccount", fmt.Sprintf(`{"name":%s,"uid":"u"}`, quoted(name))),
	)
}

// bound is what a token is bound to: name and uid of a pod, a node or a secret.
func bound(kind, name, uid string) change {
	return setInside(kind, fmt.Sprintf(`{"name":%s,"uid":%s}`, quoted(name), quoted(uid)))
}

var unbound = all(noInside("pod"), noInside("node"))

// extended is the token that every pod has by default.
var extended = ends(1699997000 + 365*86400)

const legacyClaim = "kubernetes.io/serviceaccount/"

// secretIssuer is the iss of Secret-based tokens, and in some clusters of
// projected ones too.
const secretIssuer = `"kubernetes/serviceaccount"`

// secretBased is the form of a Secret-based token.
var secretBased = all(
	noClaim("aud"), noClaim("exp"), noClaim("iat"), noClaim("nbf"), noClaim("jti"), noClaim("kubernetes.io"),
	setClaim("iss", secretIssuer),
	setClaim(legacyClaim+"namespace", `"ns1"`), setClaim(legacyClaim+"secret.name", `"sa1-token-x2x9f"`),
	setClaim(legacyClaim+"service-account.name", `"sa1"`), setClaim(legacyClaim+"service-account.uid", `"u"`),
)

// kubernetes is G7: the identity.
func kubernetes() table {
	rows := []row{
		{name: "missing", change: noClaim("kubernetes.io"), source: "G7.307, G7.358", comment: "no kubernetes.io: perhaps a human's token of the same issuer"},
		{name: "null", change: setClaim("kubernetes.io", "null"), source: "G7.308", comment: "null is the same as none"},
		{name: "empty", change: setClaim("kubernetes.io", "{}"), source: "G7.307", comment: "an empty object"},
		{name: "string", expect: malformedPayload, change: setClaim("kubernetes.io", `"ns1"`), source: "G7.309", comment: "a string"},
		{name: "array", expect: malformedPayload, change: setClaim("kubernetes.io", `[]`), source: "G7.310", comment: "an array"},
		{name: "number", expect: malformedPayload, change: setClaim("kubernetes.io", `0`), source: "G7.310", comment: "a number"},
		{name: "namespace_missing", change: noInside("namespace"), source: "G7.311", comment: "no namespace"},
		{name: "namespace_null", change: setInside("namespace", "null"), source: "G7.311", comment: "null is the same as none"},
		{name: "namespace_empty", change: setInside("namespace", `""`), source: "G7.312", comment: "an empty namespace"},
		{name: "namespace_number", expect: malformedPayload, change: setInside("namespace", `1`), source: "G7.311", comment: "namespace is a number"},
		{name: "namespace_array", expect: malformedPayload, change: setInside("namespace", `["ns1"]`), source: "G7.311", comment: "namespace is an array"},
		{name: "serviceaccount_missing", change: noInside("serviceaccount"), source: "G7.313", comment: "no serviceaccount"},
		{name: "serviceaccount_null", change: setInside("serviceaccount", "null"), source: "G7.313", comment: "null is the same as none"},
		{name: "serviceaccount_empty", change: setInside("serviceaccount", "{}"), source: "G7.314", comment: "an empty object"},
		{name: "serviceaccount_string", expect: malformedPayload, change: setInside("serviceaccount", `"sa1"`), source: "G7.313", comment: "a string"},
		{name: "name_missing", change: setInside("serviceaccount", `{"uid":"u"}`), source: "G7.314", comment: "no name"},
		{name: "name_empty", change: bound("serviceaccount", "", "u"), source: "G7.314", comment: "an empty name"},
		{name: "name_number", expect: malformedPayload, change: setInside("serviceaccount", `{"name":1,"uid":"u"}`), source: "G7.314", comment: "name is a number"},
		{name: "uid_missing", change: setInside("serviceaccount", `{"name":"sa1"}`), source: "G7.315", comment: "no uid"},
		{name: "uid_null", change: setInside("serviceaccount", `{"name":"sa1","uid":null}`), source: "G7.315", comment: "null is the same as none"},
		{name: "uid_empty", change: bound("serviceaccount", "sa1", ""), source: "G7.315", comment: "an empty uid"},
		{name: "uid_number", expect: malformedPayload, change: setInside("serviceaccount", `{"name":"sa1","uid":1}`), source: "G7.315", comment: "uid is a number"},
		{name: "uid_129", change: bound("serviceaccount", "sa1", strings.Repeat("u", 129)), source: "G7.351", comment: "a uid of 129 characters", sibling: "k8s_uid_128"},
		{name: "uid_line_break", change: bound("serviceaccount", "sa1", "u\nv"), source: "G7.351", comment: "a uid with a line break"},
		{name: "uid_not_ascii", change: bound("serviceaccount", "sa1", "ü"), source: "G7.351", comment: "a uid that is not ASCII"},

		{name: "namespace_another", change: setInside("namespace", `"kube-system"`), source: "G7.316", comment: "another namespace than in sub"},
		{name: "name_another", change: bound("serviceaccount", "root", "u"), source: "G7.317", comment: "another name than in sub"},
		{name: "secret_beside_pod", change: all(noInside("node"), bound("secret", "s", "u")), sibling: "k8s_pod_alone", source: "G7.348", comment: "bound to a secret and a pod, which the API server does not mint"},
		{name: "secret_beside_node", change: all(noInside("pod"), bound("secret", "s", "u")), sibling: "k8s_node_alone", source: "G7.348", comment: "bound to a secret and a node"},
		{name: "secret_without_uid", change: all(unbound, setInside("secret", `{"name":"s"}`)), sibling: "k8s_secret", source: "G7.346", comment: "a secret without uid"},
		{name: "secret_empty", change: all(unbound, setInside("secret", `{}`)), sibling: "k8s_secret", source: "G7.346", comment: "a secret without anything"},
		{name: "secret_string", expect: malformedPayload, change: all(unbound, setInside("secret", `"s"`)), sibling: "k8s_secret", source: "G7.346", comment: "a string"},
		{name: "pod_without_uid", change: setInside("pod", `{"name":"p"}`), source: "G7.343", comment: "a pod without uid"},
		{name: "pod_without_name", change: setInside("pod", `{"uid":"u"}`), source: "G7.343", comment: "a pod without name"},
		{name: "pod_empty", change: setInside("pod", `{}`), source: "G7.343", comment: "a pod without anything: not the same as none"},
		{name: "pod_string", expect: malformedPayload, change: setInside("pod", `"p"`), source: "G7.344", comment: "a string"},
		{name: "pod_number", expect: malformedPayload, change: setInside("pod", `0`), source: "G7.344", comment: "a number"},
		{name: "pod_list", expect: malformedPayload, change: setInside("pod", `[{"name":"p","uid":"u"}]`), source: "G7.344", comment: "a list of pods"},
		{name: "pod_upper_case", change: bound("pod", "Pod", "u"), source: "RFC 1123", comment: "a pod's name with a capital"},
		{name: "pod_slash", change: bound("pod", "a/b", "u"), source: "RFC 1123", comment: "a pod's name with a slash"},
		{name: "pod_254", change: bound("pod", strings.Repeat("p", 254), "u"), sibling: "k8s_pod_253", source: "RFC 1123", comment: "a pod's name of 254 characters"},
		{name: "node_without_name", change: setInside("node", `{"uid":"u"}`), source: "G7.347", comment: "a node without name"},
		{name: "node_empty", change: setInside("node", `{}`), source: "G7.347", comment: "a node without anything"},
		{name: "node_uid_empty", change: bound("node", "node-1", ""), sibling: "k8s_node_without_uid", source: "G7.347", comment: "a uid that is there counts"},
		{name: "node_string", expect: malformedPayload, change: setInside("node", `"node-1"`), source: "G7.347", comment: "a string"},
		{name: "node_blank", change: bound("node", "node 1", "u"), source: "RFC 1123", comment: "a node's name with a blank"},
		{name: "warnafter_string", expect: malformedPayload, change: setInside("warnafter", `"1"`), source: "G7.357", comment: "a number in a string"},
		{name: "legacy_namespace_beside", change: setClaim(legacyClaim+"namespace", `"kube-system"`), source: "G7.353", comment: "a Secret-based token's namespace beside: which is it?"},
		{name: "legacy_same_namespace_beside", change: setClaim(legacyClaim+"namespace", `"ns1"`), source: "G7.353", comment: "a Secret-based token's claim beside, even if it says the same"},
		{name: "legacy_name_beside", change: setClaim(legacyClaim+"service-account.name", `"root"`), source: "G7.353", comment: "a Secret-based token's name beside"},
		{name: "legacy_uid_beside", change: setClaim(legacyClaim+"service-account.uid", `"u"`), source: "G7.353", comment: "a Secret-based token's uid beside"},
		{name: "legacy_secret_beside", change: setClaim(legacyClaim+"secret.name", `"s"`), source: "G7.353", comment: "a Secret-based token's secret beside"},
		{name: "legacy_claims_alone", change: all(noClaim("kubernetes.io"), setClaim(legacyClaim+"namespace", `"ns1"`), setClaim(legacyClaim+"service-account.name", `"sa1"`)), source: "G7.352", comment: "a Secret-based token's claims with a projected token's issuer, aud and exp"},
	}
	for _, v := range []struct{ name, sub, source, comment string }{
		{"namespace", "system:serviceaccount:ns2:sa1", "G7.316", "another namespace"},
		{"name", "system:serviceaccount:ns1:sa2", "G7.317", "another name"},
		{"node", "system:node:n1", "G7.318", "a node"},
		{"plural", "system:serviceaccounts:ns1:sa1", "G7.319", "the group of all service accounts"},
		{"leading_blank", " system:serviceaccount:ns1:sa1", "G7.321", "a blank in front"},
		{"trailing_blank", "system:serviceaccount:ns1:sa1 ", "G7.321", "a blank at the end"},
		{"more", "system:serviceaccount:ns1:sa1:x", "G7.322", "a part more"},
		{"less", "system:serviceaccount:ns1", "G7.323", "a part less"},
		{"trailing_colon", "system:serviceaccount:ns1:sa1:", "G7.322", "a colon at the end"},
		{"upper_case", "system:serviceaccount:ns1:SA1", "G7.317", "the name in another case"},
		{"slash", "ns1/sa1", "G7.323", "the form of Config.ServiceAccounts"},
		{"swapped", "system:serviceaccount:sa1:ns1", "G7.316", "name and namespace swapped"},
		{"spiffe", "spiffe://iss.example/ns/ns1/sa/sa1", "G7.318", "a SPIFFE ID"},
	} {
		rows = append(rows, row{name: "sub_" + v.name, change: setClaim("sub", quoted(v.sub)), source: v.source, comment: "sub: " + v.comment})
	}
	for _, v := range []struct{ name, namespace, source, comment string }{
		{"upper_case", "NS1", "G7.325", "capitals"},
		{"64", strings.Repeat("n", 64), "G7.326", "64 characters"},
		{"dot", "a.b", "G7.327", "a dot: a label has none"},
		{"leading_dash", "-ns1", "G7.328", "a dash in front"},
		{"trailing_dash", "ns1-", "G7.328", "a dash at the end"},
		{"path", "../kube-system", "G7.329", "a path"},
		{"slash", "ns1/x", "G7.329", "a slash"},
		{"colon", "ns1:sa1", "G7.316", "a colon: sub could be read in two ways"},
		{"cyrillic", "n\u04551", "G7.330", "a letter that looks the same"},
		{"full_width", "\uff4e\uff531", "G7.331", "letters of another width"},
		{"decomposed", "nse\u0301", "G7.333", "a decomposed character"},
		{"percent", "ns%31", "G7.335", "percent-encoding"},
		{"underscore", "ns_1", "G7.328", "an underscore"},
		{"blank", "ns 1", "G7.328", "a blank"},
		{"nul", "ns1\x00", "G7.328", "a NUL"},
		{"wildcard", "*", "G7.339", "a pattern"},
	} {
		rows = append(rows, row{name: "namespace_" + v.name, change: ofAccount(v.namespace, "sa1"), sibling: "k8s_another_account", source: v.source, comment: "namespace: " + v.comment})
	}
	for _, v := range []struct{ name, account, source, comment string }{
		{"254", strings.Repeat("s", 254), "G7.338", "254 characters"},
		{"wildcard", "*", "G7.339", "a pattern"},
		{"trailing_dot", "sa.", "G7.340, CVE-2026-39350", "a dot at the end"},
		{"two_dots", "a..b", "G7.340", "nothing between two dots"},
		{"upper_case", "SA1", "G7.325", "capitals"},
		{"colon", "sa1:x", "G7.322", "a colon: sub could be read in two ways"},
		{"slash", "a/b", "G7.329", "a slash"},
		{"underscore", "sa_1", "G7.328", "an underscore"},
		{"dash_in_label", "a.-b", "G7.328", "a dash in front of a part"},
	} {
		rows = append(rows, row{name: "name_" + v.name, change: ofAccount("ns1", v.account), sibling: "k8s_another_account", source: v.source, comment: "name: " + v.comment})
	}
	for i := range rows {
		rows[i].expect = orElse(rows[i].expect, notAServiceAccount)
	}
	honoured := settings{acceptExtended: "true", maxLifetime: "9000h"}
	pod := settings{requirePod: "true"}
	return table{"k8s_", append(rows,
		row{name: "another_account", change: ofAccount("kube-system", "default"), source: "G7.341", comment: "another service account, by all that says so"},
		row{name: "name_with_dot", change: ofAccount("ns1", "a.b"), source: "G7.336", comment: "a name may have dots"},
		row{name: "name_253", change: ofAccount("ns1", strings.Repeat("s", 253)), source: "G7.337", comment: "a name of 253 characters"},
		row{name: "namespace_63", change: ofAccount(strings.Repeat("n", 63), "sa1"), source: "G7.326", comment: "a namespace of 63 characters"},
		row{name: "digits", change: ofAccount("0", "1"), source: "RFC 1123", comment: "names of one digit"},
		row{name: "uid_128", change: bound("serviceaccount", "sa1", strings.Repeat("u", 128)), source: "G7.350", comment: "a uid of 128 characters"},
		row{name: "uid_opaque", change: bound("serviceaccount", "sa1", "~ not a UUID!"), source: "G7.350", comment: "a uid is opaque"},
		row{name: "pod_alone", change: noInside("node"), source: "G7.341", comment: "bound to a pod, and the node is not told"},
		row{name: "pod_253", change: bound("pod", strings.Repeat("p", 253), "u"), source: "RFC 1123", comment: "a pod's name of 253 characters"},
		row{name: "pod_null", change: setInside("pod", "null"), source: "G7.342", comment: "null is the same as none"},
		row{name: "node_alone", change: noInside("pod"), source: "G7.347", comment: "bound to a node"},
		row{name: "node_without_uid", change: setInside("node", `{"name":"node-1"}`), source: "G7.347", comment: "the API server leaves out the uid of a node that it did not find"},
		row{name: "unbound", change: unbound, source: "G7.354", comment: "bound to nothing"},
		row{name: "secret", change: all(unbound, bound("secret", "s", "u")), source: "G7.346", comment: "bound to a secret"},
		row{name: "secret_null_beside_pod", change: setInside("secret", "null"), source: "G7.348", comment: "null is the same as none"},
		row{name: "legacy_null_beside", change: setClaim(legacyClaim+"namespace", "null"), source: "G7.353", comment: "null is the same as none"},
		row{name: "require_pod", with: pod, source: "Config.RequirePod", comment: "bound to a pod, as it has to be"},
		row{name: "require_pod_unbound", expect: notBound, change: unbound, with: pod, sibling: "k8s_require_pod", source: "G7.354", comment: "bound to nothing, and it has to be to a pod"},
		row{name: "require_pod_node", expect: notBound, change: noInside("pod"), with: pod, sibling: "k8s_require_pod", source: "G7.355", comment: "bound to a node, and it has to be to a pod"},
		row{name: "require_pod_null", expect: notBound, change: setInside("pod", "null"), with: pod, sibling: "k8s_require_pod", source: "G7.355", comment: "null is the same as none"},
		row{name: "require_pod_secret", expect: notBound, change: all(unbound, bound("secret", "s", "u")), with: pod, sibling: "k8s_require_pod", source: "G7.355", comment: "bound to a secret, and it has to be to a pod"},

		row{name: "warnafter_ahead", change: setInside("warnafter", "1700000300"), source: "G7.356", comment: "to be renewed in five minutes"},
		row{name: "warnafter_next_second", change: setInside("warnafter", "1700000001"), source: "G7.356", comment: "to be renewed within a second"},
		row{name: "warnafter_now", expect: stalePastWarnAfter, change: setInside("warnafter", "1700000000"), sibling: "k8s_warnafter_next_second", source: "G7.356", comment: "to be renewed now: the holder does not read its file again"},
		row{name: "warnafter_leeway", change: setInside("warnafter", "1699999941"), with: minute, source: "G7.356", comment: "to be renewed, within the leeway"},
		row{name: "warnafter_leeway_past", expect: stalePastWarnAfter, change: setInside("warnafter", "1699999940"), with: minute, sibling: "k8s_warnafter_leeway", source: "G7.356", comment: "to be renewed, past the leeway"},
		row{name: "warnafter_zero", expect: stalePastWarnAfter, change: setInside("warnafter", "0"), source: "G7.356", comment: "zero is a time, and not none"},
		row{name: "warnafter_null", change: setInside("warnafter", "null"), source: "G7.356", comment: "null is the same as none"},
		row{name: "warnafter_after_exp", change: setInside("warnafter", "1800000000"), source: "G7.356", comment: "exp comes first"},
		row{name: "extended", change: all(extended, setInside("warnafter", "1700000607")), source: "G6.298", comment: "for a year, to be renewed within the hour"},
		row{name: "extended_no_warnafter", expect: lifetimeTooLong, change: extended, sibling: "k8s_extended", source: "G6.298", comment: "for a year"},
		row{name: "extended_stale", expect: stalePastWarnAfter, change: all(extended, setInside("warnafter", "1699999000")), sibling: "k8s_extended_honoured", source: "G7.356", comment: "for a year, and not renewed"},
		row{name: "extended_honoured", change: all(extended, setInside("warnafter", "1699999000")), with: honoured, source: "Config.AcceptExtended", comment: "for a year, not renewed, and honoured"},
		row{name: "extended_honoured_too_long", expect: lifetimeTooLong, change: all(extended, setInside("warnafter", "1699999000")), with: settings{acceptExtended: "true", maxLifetime: "24h"}, sibling: "k8s_extended_honoured", source: "Config.MaxLifetime", comment: "honoured, but not for that long"},
	)}
}
