package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/kubejwt/kubejwt/internal/jws"
)

// An input is what somebody gave as a token. It may be quoted, encoded once more, or
// inside the document that it came in. If that can mean only one token, that token is
// used. The library gets the token alone, and stays strict.
type input struct {
	token string // for the library: the token, or all of the input if none could be taken
	taken string // how the token was taken; "" if it came alone
	is    string // what the input is, if no token could be taken; quotes none of it
	toDo  string // how to get at the token then

	several bool // tokens, so that nobody can tell which one is meant
}

// readInput finds the token in data, or says what data is.
func readInput(data []byte) input {
	text, encoding := toUTF8(data)
	if colourless := colours.ReplaceAllString(text, ""); colourless != text && encoding == "" {
		text, encoding = colourless, "colours of a terminal stood around it, and were taken off"
	}
	text = strings.TrimFunc(text, isBlankRune)
	if isJWT(text) {
		return input{token: text, taken: encoding}
	}
	found := findTokens(text, 0)
	if len(found) == 0 && cutOff.MatchString(text) {
		return input{
			token: text,
			is:    "a token that was cut off: three dots stand in the place of the rest",
			toDo:  "copy the whole token, or pipe it: " + pipeCommand,
		}
	}
	if len(found) == 0 {
		is, toDo := describe(data, text)
		return input{token: text, is: is, toDo: toDo}
	}
	if len(found) > 1 {
		return input{
			token:   text,
			several: true,
			is:      fmt.Sprintf("%d different tokens", len(found)),
			toDo:    "give one of them, alone; for tokens on a line each: head -n 1 FILE | kubejwt verify ...",
		}
	}
	taken := "it was taken out of " + found[0].wrapping(text)
	if encoding != "" {
		taken = encoding + ", and " + taken
	}
	return input{token: found[0].token, taken: taken}
}

const pipeCommand = "kubectl create token NAME -n NAMESPACE --audience AUDIENCE | kubejwt verify ..."

// What a token looks like, and a text with one in it.
var (
	alone   = regexp.MustCompile(`^eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$`)
	inside  = regexp.MustCompile(`eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+`)
	encoded = regexp.MustCompile(`[A-Za-z0-9+/_-]{40,}=*`)
	inWord  = regexp.MustCompile(`(?:ZXlK|WlhsS)[A-Za-z0-9+/_-]{40,}=*`) // after other letters
	folded  = regexp.MustCompile(`(?:eyJ|ZXlK|WlhsS|[A-Za-z0-9+/]{60})[A-Za-z0-9+/_.=-]*` +
		`(?:\\?\r?\n[ \t>]*[A-Za-z0-9+/_.=-]+)+`)
	colours = regexp.MustCompile(`\x1b\[[0-9;]*[mK]`)
	compact = regexp.MustCompile(`^[A-Za-z0-9_.=+/-]*$`) // or a piece of one
	cutOff  = regexp.MustCompile(`(?:^|[^A-Za-z0-9])eyJ[A-Za-z0-9_.-]*?(?:\.\.\.|…)`)
)

// pathLook is what the path of a file looks like.
var pathLook = regexp.MustCompile(`^(?:~|\.{0,2}|[A-Za-z]:)[/\\]|^[\w.-]{1,64}\.(?:jwt|txt|json|token)$`)

func isJWT(text string) bool { return alone.MatchString(text) }

func isBlankRune(r rune) bool { return unicode.IsSpace(r) || r == '\ufeff' || r == '\u200b' }

// toUTF8 removes a byte order mark, and decodes the UTF-16 that PowerShell writes.
func toUTF8(data []byte) (text, encoding string) {
	var order binary.ByteOrder
	switch {
	case strings.HasPrefix(string(data), "\xef\xbb\xbf"):
		return string(data[3:]), "a byte order mark stood before it, and was taken off"
	case strings.HasPrefix(string(data), "\xff\xfe"), len(data) > 3 && data[0] != 0 && data[1] == 0 && data[3] == 0:
		order = binary.LittleEndian
	case strings.HasPrefix(string(data), "\xfe\xff"), len(data) > 3 && data[0] == 0 && data[1] != 0 && data[2] == 0:
		order = binary.BigEndian
	default:
		return string(data), ""
	}
	units := make([]uint16, len(data)/2)
	for i := range units {
		units[i] = order.Uint16(data[2*i:])
	}
	text = strings.TrimPrefix(string(utf16.Decode(units)), "\ufeff")
	return text, "it was in UTF-16, as PowerShell writes files, and was decoded " +
		"(Out-File -Encoding ascii writes it plainly)"
}

// foundToken is a token in a text.
type foundToken struct {
	token   string
	raw     string // how it stood there
	decoded int    // how often base64 was decoded
	lines   int    // that it was folded over; 0: one
}

const maxDecoded = 3 // times base64

// findTokens returns the different tokens of a text.
func findTokens(text string, depth int) []foundToken {
	var all []foundToken
	add := func(found ...foundToken) {
		for _, f := range found {
			if !slices.ContainsFunc(all, func(other foundToken) bool { return other.token == f.token }) {
				all = append(all, f)
			}
		}
	}
	if plain, err := url.PathUnescape(text); err == nil {
		text = plain // as it is in an address and in some logs
	}
	for _, raw := range folded.FindAllString(text, -1) {
		if joined, lines, ok := unfold(raw); ok {
			for _, f := range findTokens(joined, depth) {
				f.raw, f.lines = raw, lines
				add(f)
				text = strings.ReplaceAll(text, raw, " ")
			}
		}
	}
	for _, at := range inside.FindAllStringIndex(text, -1) {
		if standsAlone(text, at[0], at[1]) {
			add(foundToken{token: text[at[0]:at[1]], raw: text[at[0]:at[1]]})
		}
	}
	if depth == maxDecoded {
		return all
	}
	for _, found := range all {
		text = strings.ReplaceAll(text, found.token, " ") // its parts are base64, and may hold another
	}
	for _, word := range encoded.FindAllString(text, -1) {
		for _, raw := range []string{word, inWord.FindString(word)} {
			for _, f := range findTokens(decode64(raw), depth+1) {
				f.raw = raw
				f.decoded++
				add(f)
			}
		}
	}
	return all
}

// standsAlone reports whether what stands beside text[from:to] ends a token.
func standsAlone(text string, from, to int) bool {
	before, _ := utf8.DecodeLastRuneInString(text[:from])
	after, _ := utf8.DecodeRuneInString(text[to:])
	const part = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
	begins := from == 0 || !strings.ContainsRune(part+".+/", before)
	ends := to == len(text) || !strings.ContainsRune(part+".+/=…", after)
	return begins && ends
}

// maxFold is the longest line that counts as folded. A whole token is longer.
const maxFold = 200

// unfold joins the lines of one token. All of them are as long as the second, except
// the first, which may have other text in front, and the last.
func unfold(raw string) (joined string, lines int, ok bool) {
	parts := strings.FieldsFunc(raw, func(r rune) bool { return strings.ContainsRune("\\\r\n \t>", r) })
	if isJWT(parts[0]) {
		return "", 0, false
	}
	longest := 0
	for _, part := range parts {
		longest = max(longest, len(part))
	}
	for _, part := range parts[1 : len(parts)-1] {
		if len(part) != longest {
			return "", 0, false
		}
	}
	return strings.Join(parts, ""), len(parts), longest <= maxFold
}

// decode64 decodes any of the four kinds of base64, "" if it is none.
func decode64(raw string) string {
	raw = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(raw, "="))
	data, err := base64.RawStdEncoding.DecodeString(raw)
	if err != nil {
		return ""
	}
	return string(data)
}

// wrapping says what was around the token.
func (f foundToken) wrapping(text string) string {
	var layers []string
	if f.lines > 1 {
		layers = append(layers, fmt.Sprintf("%d lines, joined", f.lines))
	}
	if f.decoded == 1 {
		layers = append(layers, "base64 (base64 -d decodes it; a Secret has its data so)")
	}
	if f.decoded > 1 {
		layers = append(layers, fmt.Sprintf("base64, decoded %d times (base64 -d | base64 -d)", f.decoded))
	}
	before, after, _ := strings.Cut(text, f.raw)
	if around := nameWrapping(text, strings.TrimSpace(before), strings.TrimSpace(after)); around != "" {
		layers = append(layers, around)
	}
	return strings.Join(layers, ", and ")
}

var (
	bearer     = regexp.MustCompile(`(?i)\bbearer["']?$`)
	basic      = regexp.MustCompile(`(?i)\bbasic["']?$`)
	assignment = regexp.MustCompile(`(?i)^(?:export |set |declare -x |\$env:|\$)?[A-Za-z_][A-Za-z0-9_]* ?=\s*["']?$`)
)

// nameWrapping names what is before and after a token.
func nameWrapping(text, before, after string) string {
	rest := strings.Trim(before+after, "\"'`“”‘’,;")
	switch {
	case before == "" && after == "":
		return ""
	case strings.HasPrefix(text, "{"):
		return documentName(text)
	case rest == "":
		return "quotes"
	case bearer.MatchString(before):
		return "an Authorization header: it is what follows Bearer"
	case basic.MatchString(before):
		return "an Authorization header of Basic, as its user or password"
	case assignment.MatchString(before):
		return "an assignment: it is what follows ="
	case strings.HasSuffix(strings.ToLower(rest), "token:"):
		return "a line that begins with token:"
	default:
		return fmt.Sprintf("a text that has %d more characters", utf8.RuneCountInString(before+after))
	}
}

// documentName names a JSON document that has a token, and says how to extract it.
func documentName(text string) string {
	var document struct{ Kind string }
	if json.Unmarshal([]byte(text), &document) != nil {
		return "JSON"
	}
	switch document.Kind {
	case "TokenRequest":
		return "a TokenRequest (jq -r .status.token)"
	case "ExecCredential":
		return "an ExecCredential (jq -r .status.token)"
	case "TokenReview":
		return "a TokenReview (jq -r .spec.token)"
	case "Secret":
		return "a Secret (jq -r .data.token | base64 -d)"
	case "Config":
		return "a kubeconfig"
	default:
		return "a JSON document"
	}
}

// describe says what an input without a token is. It quotes nothing of it, because it
// may be a password.
func describe(data []byte, text string) (is, toDo string) {
	const (
		whole     = "give the whole token: " + pipeCommand
		ownTokens = "a service account has tokens of its own: " + pipeCommand
	)
	size := fmt.Sprintf(" (%d bytes)", len(data))
	switch {
	case len(data) > 64*jws.MaxSize, len(text) > jws.MaxSize && isCompact(text):
		return "", "" // the library says enough
	case isJWT(withoutBlanks(text)):
		return "a token with blanks or line breaks in it" + size,
			"take them out, if nothing else is missing: tr -dc 'A-Za-z0-9._-' < FILE | kubejwt verify ..."
	case strings.Contains(text, "PRIVATE KEY-----"), isPrivateJWK(text):
		return "a private key" + size, "never give it away: kubejwt only needs public keys, with -key-file, " +
			"and here a token"
	case strings.HasPrefix(text, "{"):
		if is, toDo := describeCredential(text); is != "" {
			return is + size, toDo
		}
		return describeJSON(text) + size, whole
	case kubeconfigLook.MatchString(text):
		return "a kubeconfig without a token in it" + size, ownTokens
	case strings.Contains(text, "-----BEGIN"):
		return "PEM" + size, "give public keys with -key-file, and here a token: " + pipeCommand
	case strings.HasPrefix(text, "sha256~"):
		return "an OAuth token of OpenShift" + size, "such a token is no JWT, and only its API server can judge it"
	case strings.HasPrefix(text, "k8s-aws-v1."):
		return "a token of aws eks get-token" + size, "it is a signed request of an IAM identity; " + ownTokens
	case bootstrapLook.MatchString(text):
		return "a bootstrap token" + size, "such a token joins nodes to a cluster; " + ownTokens
	case pathLook.MatchString(text):
		return "the path of a file, by its look" + size, "give it with -token-file"
	case text == "null":
		return "null, which jq prints for what is not there", "look for the token's place in the JSON: jq . FILE"
	case isCompact(text):
		return describeCompact(text) + size, whole
	case !utf8.ValidString(text), strings.ContainsFunc(text, isControl):
		return "binary data" + size, whole
	default:
		return "text without a token in it" + size, whole
	}
}

// What a kubeconfig in YAML looks like, and a bootstrap token.
var (
	kubeconfigLook = regexp.MustCompile(`(?m)^kind: ["']?Config\b`)
	bootstrapLook  = regexp.MustCompile(`^[a-z0-9]{6}\.[a-z0-9]{16}$`)
)

func withoutBlanks(text string) string {
	return strings.Map(func(r rune) rune {
		if isBlankRune(r) {
			return -1
		}
		return r
	}, text)
}

// isPrivateJWK reports whether text is a JWK, or a set of them, with the
// private part of a key.
func isPrivateJWK(text string) bool {
	type jwk struct{ D string }
	var set struct {
		jwk
		Keys []jwk
	}
	isPrivate := func(key jwk) bool { return key.D != "" }
	return json.Unmarshal([]byte(text), &set) == nil && (isPrivate(set.jwk) || slices.ContainsFunc(set.Keys, isPrivate))
}

// describeCredential says what the token of an ExecCredential or TokenRequest
// is, if it is no JWT.
func describeCredential(text string) (is, toDo string) {
	var document struct{ Status struct{ Token string } }
	if json.Unmarshal([]byte(text), &document) != nil || document.Status.Token == "" {
		return "", ""
	}
	token := document.Status.Token
	is, toDo = describe([]byte(token), token)
	return documentName(text) + " with " + is, toDo
}

func isControl(r rune) bool { return unicode.IsControl(r) && !unicode.IsSpace(r) }

// isCompact reports whether text has no other characters than a token.
func isCompact(text string) bool { return compact.MatchString(text) }

func describeCompact(text string) string {
	segments := strings.Split(text, ".")
	switch {
	case strings.ContainsAny(text, "=+/") && len(segments) == 3:
		return "three parts in base64 with padding, + or /: a token is base64url"
	case len(segments) == 1 && readPart(text).object != nil:
		return "one part of a token, its header or payload"
	case len(segments) == 1:
		return "one piece without a dot: a signature alone, a part of a token, or no token at all"
	case len(segments) == 2 && readPart(segments[0]).object != nil && readPart(segments[1]).object != nil:
		return "two parts of a token, without the signature"
	case len(segments) == 2 && readPart(segments[0]).object != nil:
		return "two parts of a token, one of which is its signature or damaged"
	case len(segments) == 3 && segments[2] == "":
		return "an unsigned token, with nothing after its second dot"
	case len(segments) == 5:
		return "five parts, as encrypted tokens have: Kubernetes encrypts none"
	case len(segments) == 3:
		return "three parts, of which the first is not the header of a token"
	default:
		return fmt.Sprintf("%d parts with dots between them, where a token has three", len(segments))
	}
}

func describeJSON(text string) string {
	var document map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &document) != nil {
		return "damaged JSON without a token in it"
	}
	switch {
	case document["keys"] != nil:
		return "a key set, which is for -key-file"
	case document["alg"] != nil, document["iss"] != nil:
		return "the decoded header or payload of a token"
	default:
		return "a JSON document without a token in it"
	}
}
