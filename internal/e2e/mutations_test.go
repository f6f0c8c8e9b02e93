package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// This file makes tokens that no API server would mint. Those whose signature
// holds are made with the cluster's own key: they show what each side makes of
// a claim, not what an attacker can do.

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// parts are the decoded header and payload, and the signature as it is.
func parts(token string) (header, payload, signature string) {
	segments := strings.Split(token, ".")
	decode := func(s string) string { return string(must(base64.RawURLEncoding.DecodeString(s))) }
	return decode(segments[0]), decode(segments[1]), segments[2]
}

// respelled changes the text of a token: each step'th character, the ends of
// the segments in every way, and the form.
func respelled(token string, step int) (samples []sample) {
	add := func(name, token string) { samples = append(samples, sample{name, token}) }
	segments := strings.Split(token, ".")
	at := 0
	for i, part := range []string{"header", "payload", "signature"} {
		for j := 0; j < len(segments[i]); j += step {
			other := alphabet[(strings.IndexByte(alphabet, segments[i][j])+32)%64]
			add(fmt.Sprintf("%s/at%d", part, j), token[:at+j]+string(other)+token[at+j+1:])
		}
		last := at + len(segments[i]) - 1
		for _, other := range alphabet {
			if byte(other) != token[last] {
				add(fmt.Sprintf("%s/last=%c", part, other), token[:last]+string(other)+token[last+1:])
			}
		}
		at = last + 2
	}
	h, p, s := segments[0], segments[1], segments[2]
	for name, changed := range map[string]string{
		"empty header": "." + p + "." + s, "empty payload": h + ".." + s, "no signature": h + "." + p + ".",
		"two segments": h + "." + p, "four segments": token + "." + s, "five segments": h + ".a." + p + ".b." + s,
		"trailing dot": token + ".", "leading dot": "." + token, "swapped": p + "." + h + "." + s,
		"padded header": h + "==." + p + "." + s, "padded payload": h + "." + p + "=." + s, "padded signature": token + "==",
		"leading space": " " + token, "trailing space": token + " ", "trailing newline": token + "\n", "trailing CRLF": token + "\r\n",
		"newline in header": h[:8] + "\n" + h[8:] + "." + p + "." + s, "newline in payload": h + "." + p[:8] + "\n" + p[8:] + "." + s,
		"newline in signature": token[:len(token)-8] + "\n" + token[len(token)-8:], "tab after dot": h + ".\t" + p + "." + s,
		"Bearer": "Bearer " + token, "bearer twice": "bearer bearer " + token, "twice": token + token, "two tokens": token + " " + token,
		"upper case": strings.ToUpper(token), "NUL": token + "\x00", "not ASCII": token + "é", "comma": token + ",",
		"standard base64": strings.NewReplacer("-", "+", "_", "/").Replace(token), "escaped": strings.ReplaceAll(token, ".", "%2E"),
		"JSON":            fmt.Sprintf(`{"payload":%q,"protected":%q,"signature":%q}`, p, h, s),
		"JSON array":      fmt.Sprintf(`{"payload":%q,"signatures":[{"protected":%q,"signature":%q}]}`, p, h, s),
		"JSON that peeks": fmt.Sprintf(`{"payload":%q,"protected":%q,"signature":%q,"x":".%s."}`, p, h, s, p),
	} {
		if changed != token {
			add("form/"+name, changed)
		}
	}
	for n := 1; n < len(token); n += 16 * step {
		add(fmt.Sprintf("form/first%d", n), token[:n])
	}
	return samples
}

// resigned has other signatures: each step'th byte changed, and others.
func resigned(key, stranger *signingKey, token string, step int) (samples []sample) {
	header, payload, text := parts(token)
	input := encode(header) + "." + encode(payload) + "."
	signature := must(base64.RawURLEncoding.DecodeString(text))
	add := func(name string, signature []byte) {
		samples = append(samples, sample{name, input + encode(string(signature))})
	}
	add("afresh", key.sign(key.alg, strings.TrimSuffix(input, ".")))
	add("of another key", stranger.sign(key.alg, strings.TrimSuffix(input, ".")))
	add("of the header alone", key.sign(key.alg, encode(header)))
	add("of what is decoded", key.sign(key.alg, header+"."+payload))
	add("zeros", make([]byte, len(signature)))
	add("one byte", signature[:1])
	add("a byte less", signature[:len(signature)-1])
	add("a zero more", append(bytes.Clone(signature), 0))
	add("a zero before", append([]byte{0}, signature...))
	add("twice", append(bytes.Clone(signature), signature...))
	for i := 0; i < len(signature); i += step {
		changed := bytes.Clone(signature)
		changed[i] ^= 1
		add(fmt.Sprintf("byte%d", i), changed)
	}
	if private, ok := key.private.(*ecdsa.PrivateKey); ok {
		size := len(signature) / 2
		s := new(big.Int).SetBytes(signature[size:])
		negated := s.Sub(private.Params().N, s).FillBytes(make([]byte, size))
		add("s negated", append(bytes.Clone(signature[:size]), negated...))
		hash, digest := digest(key.alg, strings.TrimSuffix(input, "."))
		add("in ASN.1", must(private.Sign(nil, digest, hash)))
	}
	return samples
}

// headers are signed with the cluster's key.
func headers(key *signingKey, token string) (samples []sample) {
	_, payload, _ := parts(token)
	add := func(name, header string) { samples = append(samples, sample{name, key.token(header, payload)}) }
	good := fmt.Sprintf(`"alg":%q,"kid":%q`, key.alg, key.kid)
	for _, more := range []string{
		`"typ":"JWT"`, `"typ":"jwt"`, `"typ":"at+jwt"`, `"typ":""`, `"typ":null`, `"typ":1`, `"TYP":"JWT"`,
		`"cty":"JWT"`, `"crit":[]`, `"crit":["exp"]`, `"crit":["b64"],"b64":false`, `"b64":false`, `"zip":"DEF"`, `"jku":"https://127.0.0.1/"`,
		`"x5u":"https://127.0.0.1/"`, `"x5c":["AAAA"]`, `"x5t":"AAAA"`, `"jwk":{}`, `"jwk":{"kty":"oct","k":"AAAA"}`, `"nonce":"n"`, `"x":1`, `"iss":"x"`,
		`"alg":"none"`, `"ALG":"none"`, `"Alg":"HS256"`, `"kid":"x"`, `"KID":"x"`, `"Kid":null`, `"":""`, `"x":1,"x":2`, "\"x\":\"\xff\"",
	} {
		add("with "+more, "{"+good+","+more+"}")
		add("after "+more, "{"+more+","+good+"}")
	}
	for name, header := range map[string]string{
		"as it is": "{" + good + "}", "spaced": "{ " + good + " }", "with a newline": "{" + good + "}\n", "trailing object": "{" + good + "}{}",
		"in an array": "[{" + good + "}]", "a string": `"x"`, "null": "null", "empty": "{}", "cut": "{" + good, "BOM": "\ufeff{" + good + "}",
		"trailing comma": "{" + good + ",}", "escaped name": `{"\u0061lg":"` + key.alg + `","kid":"` + key.kid + `"}`,
	} {
		add(name, header)
	}
	for _, kid := range []string{`null`, `""`, `1`, `[]`, `"x"`, `"` + key.kid + ` "`, `"` + key.kid + `="`, `"` + strings.ToUpper(key.kid) + `"`, `"../` + key.kid + `"`, `"` + strings.Repeat("k", 2000) + `"`} {
		add("kid="+short(kid), fmt.Sprintf(`{"alg":%q,"kid":%s}`, key.alg, kid))
	}
	add("kid removed", fmt.Sprintf(`{"alg":%q}`, key.alg))
	add("alg removed", fmt.Sprintf(`{"kid":%q}`, key.kid))
	for _, alg := range []string{`null`, `""`, `1`, `"none"`, `"None"`, `"HS256"`, `"EdDSA"`, `"RS256 "`, `"rs256"`, `"es256"`, `["RS256"]`, `"A128KW"`, `"ES256K"`} {
		add("alg="+alg, fmt.Sprintf(`{"alg":%s,"kid":%q}`, alg, key.kid))
	}
	return append(samples, otherAlgorithms(key, payload)...)
}

func short(s string) string { return s[:min(len(s), 60)] }

// otherAlgorithms are tokens whose header names how they are really signed.
func otherAlgorithms(key *signingKey, payload string) (samples []sample) {
	algs := []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	if key.alg != "RS256" {
		algs = algorithms[1:]
	}
	for _, alg := range algs {
		header := fmt.Sprintf(`{"alg":%q,"kid":%q}`, alg, key.kid)
		if alg[:2] == key.alg[:2] && alg[0] == 'E' && curves[alg].Params().BitSize < curves[key.alg].Params().BitSize {
			continue // its numbers do not fit
		}
		samples = append(samples, sample{"signed by " + alg, key.tokenBy(alg, header, payload)})
	}
	none := fmt.Sprintf(`{"alg":"none","kid":%q}`, key.kid)
	samples = append(samples, sample{"unsigned", encode(none) + "." + encode(payload) + "."})
	for name, secret := range map[string][]byte{"PEM": key.publicPEM(), "SPKI": key.spki(), "nothing": nil} {
		input := encode(fmt.Sprintf(`{"alg":"HS256","kid":%q}`, key.kid)) + "." + encode(payload)
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(input))
		samples = append(samples, sample{"HS256 by " + name, input + "." + encode(string(mac.Sum(nil)))})
	}
	return samples
}

// timed have other times, none within 30 s of where a verdict changes.
func timed(key *signingKey, token string, now time.Time) (samples []sample) {
	header, payload, _ := parts(token)
	in := func(d time.Duration) string { return fmt.Sprint(now.Add(d).Unix()) }
	set := func(name string, edits ...string) {
		changed := payload
		for i := 0; i < len(edits); i += 2 {
			changed = edit(changed, edits[i], func(m []member) []member { return put(m, last(edits[i]), edits[i+1]) })
		}
		samples = append(samples, sample{name, key.token(header, changed)})
	}
	const s, m, h = time.Second, time.Minute, time.Hour
	for _, d := range []time.Duration{-24 * h, -h, -90 * s, -30 * s, 30 * s, 90 * s, 23 * h, 25 * h, 1e5 * h} {
		set(fmt.Sprintf("exp in %v", d), "iat", in(-30*m), "nbf", in(-30*m), "exp", in(d))
		set(fmt.Sprintf("exp in %v, iat now", d), "exp", in(d))
		set(fmt.Sprintf("nbf in %v", d), "nbf", in(d))
		set(fmt.Sprintf("iat in %v", d), "iat", in(d))
		set(fmt.Sprintf("iat and nbf in %v", d), "iat", in(d), "nbf", in(d), "exp", in(d+h))
		set(fmt.Sprintf("warnafter in %v", d), "kubernetes.io warnafter", in(d))
		set(fmt.Sprintf("extended, warnafter in %v", d), "kubernetes.io warnafter", in(d), "exp", in(365*24*h))
	}
	for _, form := range []string{".0", ".5", "e0", "E+0", "0000000000000000000"} {
		set("exp"+form, "exp", in(10*m)+form)
		set("iat"+form, "iat", in(-10*m)+form)
		set("nbf"+form, "nbf", in(-10*m)+form)
		set("warnafter"+form, "kubernetes.io warnafter", in(10*m)+form)
	}
	return samples
}

// payloads are signed with the cluster's key. Every member that the API server
// knows is removed, doubled, spelled otherwise, and set to all kinds of values.
func payloads(key *signingKey, token string) (samples []sample) {
	header, payload, _ := parts(token)
	add := func(name, payload string) { samples = append(samples, sample{name, key.token(header, payload)}) }
	for _, path := range []string{
		"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "kubernetes.io", "kubernetes.io namespace", "kubernetes.io warnafter",
		"kubernetes.io serviceaccount", "kubernetes.io serviceaccount name", "kubernetes.io serviceaccount uid",
		"kubernetes.io pod", "kubernetes.io pod name", "kubernetes.io pod uid", "kubernetes.io node", "kubernetes.io node name", "kubernetes.io node uid",
		"kubernetes.io secret", "kubernetes.io secret name", "kubernetes.io secret uid",
		"x", "kubernetes.io x", "kubernetes.io/serviceaccount/namespace", "kubernetes.io/serviceaccount/service-account.name",
	} {
		for name, change := range changes(last(path)) {
			if changed := edit(payload, path, change); changed != payload {
				add(path+" "+name, changed)
			}
		}
		for _, value := range append(values, valuesOf[path]...) {
			changed := edit(payload, path, func(m []member) []member { return put(m, last(path), value) })
			if changed != payload {
				add(path+"="+short(value), changed)
			}
		}
	}
	for name, whole := range map[string]string{
		"as it is": payload, "spaced": " " + payload + " ", "trailing object": payload + "{}", "trailing text": payload + "x", "cut": payload[:len(payload)-1],
		"in an array": "[" + payload + "]", "null": "null", "a string": `"x"`, "empty": "{}", "nothing": "", "BOM": "\ufeff" + payload,
		"64 brackets": payload[:len(payload)-1] + `,"x":` + strings.Repeat("[", 65) + strings.Repeat("]", 65) + "}",
		"256 commas":  payload[:len(payload)-1] + `,"x":[0` + strings.Repeat(",0", 257) + "]}",
		"16 KiB":      payload[:len(payload)-1] + `,"x":"` + strings.Repeat("x", 16<<10) + `"}`,
	} {
		add(name, whole)
	}
	return samples
}

// values are for every member.
var values = []string{
	`null`, `""`, `" "`, `"x"`, `"X"`, `"-x"`, `"x.y"`, `"x/y"`, `"é"`, "\"\xff\"", `"\ud800"`, `"\u0000"`, `"*"`, `true`, `false`,
	`0`, `-1`, `1`, `1.5`, `1e3`, `1e30`, `1e400`, `9999999999`, `253402300799`, `253402300800`, `9223372036854775808`,
	`[]`, `[null]`, `["x"]`, `[[]]`, `{}`, `{"x":"y"}`, `{"name":"x"}`, `{"name":"x","uid":"y"}`, `{"name":"","uid":""}`,
}

// valuesOf are close to what is right.
var valuesOf = map[string][]string{
	"aud": {`"data-store"`, `["data-store","x"]`, `["x","data-store"]`, `["data-store","data-store"]`, `["data-store",null]`, `["data-store",1]`,
		`["data-store",""]`, `[["data-store"]]`, `"data-store "`, `"Data-Store"`, `["data-stor"]`, `"data-store,x"`, `{"0":"data-store"}`},
	"iss": {`"https://kubernetes.default.svc.cluster.local/"`, `"https://kubernetes.default.svc"`, `"HTTPS://kubernetes.default.svc.cluster.local"`,
		`["https://kubernetes.default.svc.cluster.local"]`, `"kubernetes/serviceaccount"`, `"https:\/\/kubernetes.default.svc.cluster.local"`},
	"sub": {`"system:serviceaccount:prod:api"`, `"system:serviceaccount:api:batch"`, `"system:serviceaccount:api:api:"`, `"System:serviceaccount:api:api"`,
		`"system:admin"`, `"system:serviceaccount:api:api "`, `"system\u003aserviceaccount:api:api"`},
	"kubernetes.io namespace":           {`"prod"`, `"Api"`, `"api "`},
	"kubernetes.io serviceaccount name": {`"batch"`, `"Api"`, `"api "`},
	"jti":                               {`"` + strings.Repeat("j", 128) + `"`, `"` + strings.Repeat("j", 129) + `"`, `"a b"`, `"a\nb"`},
}

// changes of a member that is there, or of the name alone.
func changes(name string) map[string]func([]member) []member {
	of := func(change func(m member) []member) func([]member) []member {
		return func(all []member) (changed []member) {
			for _, m := range all {
				if m.name == name {
					changed = append(changed, change(m)...)
				} else {
					changed = append(changed, m)
				}
			}
			return changed
		}
	}
	upper := strings.ToUpper(name)
	return map[string]func([]member) []member{
		"removed":             of(func(m member) []member { return nil }),
		"doubled":             of(func(m member) []member { return []member{m, m} }),
		"doubled after null":  of(func(m member) []member { return []member{{name, "null"}, m} }),
		"doubled before null": of(func(m member) []member { return []member{m, {name, "null"}} }),
		"in upper case":       of(func(m member) []member { return []member{{upper, m.value}} }),
		"beside upper case":   of(func(m member) []member { return []member{m, {upper, `"x"`}} }),
		"after upper case":    of(func(m member) []member { return []member{{upper, `"x"`}, m} }),
	}
}

// A member of a JSON object, in its order and as it is spelled.
type member struct{ name, value string }

func members(object string) (all []member) {
	decoder := json.NewDecoder(strings.NewReader(object))
	must(decoder.Token())
	for decoder.More() {
		name := must(decoder.Token()).(string)
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			panic(err)
		}
		all = append(all, member{name, string(value)})
	}
	return all
}

func object(all []member) string {
	var b strings.Builder
	for i, m := range all {
		b.WriteString([]string{"{", ","}[min(i, 1)])
		fmt.Fprintf(&b, "%q:%s", m.name, m.value)
	}
	if len(all) == 0 {
		b.WriteString("{")
	}
	return b.String() + "}"
}

// edit changes the object that holds the last name of path. On the way there
// it makes the objects that are missing.
func edit(payload, path string, change func([]member) []member) string {
	name, rest, nested := strings.Cut(path, " ")
	all := members(payload)
	if !nested {
		return object(change(all))
	}
	inner := "{}"
	for _, m := range all {
		if m.name == name {
			inner = m.value
		}
	}
	edited := edit(inner, rest, change)
	if edited == inner {
		return payload
	}
	return object(put(all, name, edited))
}

func put(all []member, name, value string) []member {
	for i := range all {
		if all[i].name == name {
			all[i].value = value
			return all
		}
	}
	return append(all, member{name, value})
}

func last(path string) string { return path[strings.LastIndexByte(path, ' ')+1:] }
