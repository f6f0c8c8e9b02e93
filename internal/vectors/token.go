package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// now is the time at which everything is judged.
const now = 1700000000

// member is one name and the JSON text of its value. The name stands between
// quotes as it is, so that it can hold escapes.
type member struct{ name, value string }

// object is written as it is: in this order, with its duplicate names.
type object []member

func (o object) String() string {
	var texts []string
	for _, m := range o {
		texts = append(texts, `"`+m.name+`":`+m.value)
	}
	return "{" + strings.Join(texts, ",") + "}"
}

// set replaces the member of this name, or appends it.
func (o object) set(name, value string) object {
	o = slices.Clone(o)
	for i := range o {
		if o[i].name == name {
			o[i].value = value
			return o
		}
	}
	return append(o, member{name, value})
}

// add appends a member even if there is one of this name.
func (o object) add(name, value string) object {
	return append(slices.Clone(o), member{name, value})
}

func (o object) drop(name string) object {
	return slices.DeleteFunc(slices.Clone(o), func(m member) bool { return m.name == name })
}

// token is a token in the making: changed as members, as JSON text, as
// segments, as a signature, and as a whole, in this order.
type token struct {
	keys                   *keys
	key                    *signer
	header, claims, inside object // inside is kubernetes.io
	headerJSON, claimsJSON func(string) string
	segments               func(header, claims string) (string, string)
	signature              func(s *signer, input string) []byte
	whole                  func(string) string
}

// goodToken is the token from which all others are made.
func goodToken(k *keys) *token {
	return &token{
		keys:   k,
		key:    k.rs256,
		header: object{{"alg", quoted(k.rs256.alg)}, {"kid", quoted(k.rs256.kid)}},
		claims: object{
			{"aud", `["svc-a"]`},
			{"exp", "1700000600"},
			{"iat", "1699997000"},
			{"iss", `"https://iss.example"`},
			{"jti", `"c9b1d2e4-6f0a-4b6e-9a53-0d7f1c2b3a49"`},
			{"kubernetes.io", ""},
			{"nbf", "1699997000"},
			{"sub", `"system:serviceaccount:ns1:sa1"`},
		},
		inside: object{
			{"namespace", `"ns1"`},
			{"node", `{"name":"node-1","uid":"55cd21fa-952e-4e3e-915d-bda4304ad1eb"}`},
			{"pod", `{"name":"sa1-7c9b54c8db-lwrfr","uid":"5cd7d846-bd11-434b-ad09-25f6735c4c27"}`},
			{"serviceaccount", `{"name":"sa1","uid":"d5ec1197-1710-46f4-83ba-4b1a13f2aa30"}`},
		},
	}
}

func (t *token) String() string {
	claims := slices.Clone(t.claims)
	for i, m := range claims {
		if m == (member{"kubernetes.io", ""}) {
			claims[i].value = t.inside.String()
		}
	}
	headerText, claimsText := t.header.String(), claims.String()
	if t.headerJSON != nil {
		headerText = t.headerJSON(headerText)
	}
	if t.claimsJSON != nil {
		claimsText = t.claimsJSON(claimsText)
	}
	h, c := encode([]byte(headerText)), encode([]byte(claimsText))
	if t.segments != nil {
		h, c = t.segments(h, c)
	}
	input := h + "." + c
	var signature []byte
	if t.signature != nil {
		signature = t.signature(t.key, input)
	} else {
		signature = t.key.sign(input)
	}
	text := input + "." + encode(signature)
	if t.whole != nil {
		text = t.whole(text)
	}
	return text
}

// change is one mutation, or a few that make one.
type change func(*token)

func all(changes ...change) change {
	return func(t *token) {
		for _, c := range changes {
			c(t)
		}
	}
}

// by signs with another key of the cluster, and says so in the header.
func by(key func(*keys) *signer) change {
	return func(t *token) {
		t.key = key(t.keys)
		t.header = t.header.set("alg", quoted(t.key.alg)).set("kid", quoted(t.key.kid))
	}
}

func byES256(t *token) { by(func(k *keys) *signer { return k.es256 })(t) }
func byES384(t *token) { by(func(k *keys) *signer { return k.es384 })(t) }
func byES512(t *token) { by(func(k *keys) *signer { return k.es512 })(t) }

// signedBy signs with another key, and the header does not say so.
func signedBy(key func(*keys) *signer) change {
	return func(t *token) { t.key = key(t.keys) }
}

func setHeader(name, value string) change {
	return func(t *token) { t.header = t.header.set(name, value) }
}
func addHeader(name, value string) change {
	return func(t *token) { t.header = t.header.add(name, value) }
}
func noHeader(name string) change { return func(t *token) { t.header = t.header.drop(name) } }

func setClaim(name, value string) change {
	return func(t *token) { t.claims = t.claims.set(name, value) }
}
func addClaim(name, value string) change {
	return func(t *token) { t.claims = t.claims.add(name, value) }
}
func noClaim(name string) change { return func(t *token) { t.claims = t.claims.drop(name) } }

// setInside, addInside and noInside change kubernetes.io.
func setInside(name, value string) change {
	return func(t *token) { t.inside = t.inside.set(name, value) }
}
func addInside(name, value string) change {
	return func(t *token) { t.inside = t.inside.add(name, value) }
}
func noInside(name string) change { return func(t *token) { t.inside = t.inside.drop(name) } }

func headerJSON(f func(string) string) change { return func(t *token) { t.headerJSON = f } }
func claimsJSON(f func(string) string) change { return func(t *token) { t.claimsJSON = f } }

// signedSegments changes segments before they are signed.
func signedSegments(f func(header, claims string) (string, string)) change {
	return func(t *token) { t.segments = f }
}
func signWith(f func(s *signer, input string) []byte) change {
	return func(t *token) { t.signature = f }
}
func whole(f func(string) string) change { return func(t *token) { t.whole = f } }

// to replaces a whole text.
func to(text string) func(string) string { return func(string) string { return text } }

// replace has to find what it replaces.
func replace(old, new string) func(string) string {
	return func(text string) string {
		if !strings.Contains(text, old) {
			panic(fmt.Sprintf("no %q in %q", old, text))
		}
		return strings.Replace(text, old, new, 1)
	}
}

// segment changes segment i of a whole token.
func segment(i int, f func(string) string) change {
	return whole(func(text string) string {
		parts := strings.Split(text, ".")
		parts[i] = f(parts[i])
		return strings.Join(parts, ".")
	})
}

// verdict is a Reason and the rule that gives it.
type verdict struct {
	reason string
	rule   int
}

var (
	accept             = verdict{}
	malformed          = verdict{"malformed", 1}
	malformedHeader    = verdict{"malformed", 2}
	badAlgorithm       = verdict{"bad_algorithm", 2}
	malformedPayload   = verdict{"malformed", 3}
	wrongIssuer        = verdict{"wrong_issuer", 3}
	legacy             = verdict{"legacy", 3}
	unknownKey         = verdict{"unknown_key", 4}
	unfitKey           = verdict{"bad_algorithm", 4}
	badSignature       = verdict{"bad_signature", 5}
	wrongAudience      = verdict{"wrong_audience", 7}
	expired            = verdict{"expired", 7}
	inconsistentTimes  = verdict{"malformed", 7}
	notYetValid        = verdict{"not_yet_valid", 7}
	stalePastWarnAfter = verdict{"stale", 7}
	lifetimeTooLong    = verdict{"lifetime_too_long", 7}
	notAServiceAccount = verdict{"not_a_service_account", 8}
	notBound           = verdict{"not_bound", 9}
)

// row is one vector. Its comment says what is wrong, or why it is right.
type row struct {
	name    string
	expect  verdict
	change  change
	source  string
	comment string
	with    settings
	sibling string // "": good_rs256
}

// settings are the settings that a token is judged by, if they are not the defaults.
type settings struct {
	keys            string
	now             int64
	audiences       string
	formerIssuers   string
	serviceAccounts string
	leeway          string
	maxLifetime     string
	acceptExtended  string
	requirePod      string
}

// table is a group of vectors. Each refused one differs from its sibling, which
// is accepted, by one change.
type table struct {
	prefix string
	rows   []row
}

const goodSibling = "good_rs256"

func (t table) render(k *keys, files map[string]string) error {
	for _, r := range t.rows {
		token := goodToken(k)
		if r.change != nil {
			r.change(token)
		}
		name := t.prefix + r.name + ".txt"
		if _, exists := files[name]; exists {
			return fmt.Errorf("%s is there twice", name)
		}
		r.sibling = t.siblingOf(r)
		files[name] = r.head() + "\n" + printable(token.String()) + "\n"
	}
	return nil
}

// siblingOf completes the name of a sibling in the same table.
func (t table) siblingOf(r row) string {
	if r.sibling == "" {
		return goodSibling
	}
	if slices.ContainsFunc(t.rows, func(other row) bool { return other.name == r.sibling }) {
		return t.prefix + r.sibling
	}
	return r.sibling
}

func (r row) head() string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			b.WriteString(name + ": " + value + "\n")
		}
	}
	if r.expect == accept {
		line("expect", "accept")
	} else {
		line("expect", r.expect.reason)
		line("rule", strconv.Itoa(r.expect.rule))
		line("sibling", r.sibling+".txt")
	}
	if r.with.keys == "" {
		r.with.keys = "cluster.jwks"
	}
	line("keys", r.with.keys)
	if r.with.now == 0 {
		r.with.now = now
	}
	line("now", strconv.FormatInt(r.with.now, 10))
	line("audiences", r.with.audiences)
	line("former-issuers", r.with.formerIssuers)
	line("service-accounts", r.with.serviceAccounts)
	line("leeway", r.with.leeway)
	line("max-lifetime", r.with.maxLifetime)
	line("accept-extended", r.with.acceptExtended)
	line("require-pod", r.with.requirePod)
	line("comment", r.comment)
	line("source", r.source)
	return b.String()
}

// printable quotes what is not printable ASCII in one line, and what would be
// taken for a quotation.
func printable(token string) string {
	for i := range len(token) {
		if token[i] <= ' ' && token[i] != ' ' || token[i] > '~' {
			return strconv.QuoteToASCII(token)
		}
	}
	if token == "" || token[0] == '"' || token[0] == ' ' || token[len(token)-1] == ' ' {
		return strconv.QuoteToASCII(token)
	}
	return token
}
