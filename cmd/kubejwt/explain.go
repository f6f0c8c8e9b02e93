package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/internal/jws"
	"github.com/kubejwt/kubejwt/internal/quote"
)

// An explanation is all that verify prints, for a reader or for a program.
type explanation struct {
	verdict string // accepted, refused, not_allowed or keys_unavailable
	rules   []rule
	claims  kubejwt.Claims // of an authenticated caller
	faults  []fault        // none if the token is accepted; the first is the library's
	claimed claimed        // what the token says of itself
	// signatureHeld is true if the cluster signed the claims. Otherwise anybody may
	// have made them up.
	signatureHeld bool
	now           time.Time
	notes         []string
	log           []string // what the library logged on the way
}

// The verdicts of a rule and of one check in it.
const (
	pass      = "pass"
	fail      = "fail"
	notJudged = "not_judged"
)

// rule is one that the package documentation numbers. Rule 6, which says when
// claims are judged, has nothing to show.
type rule struct {
	number  int
	name    string
	verdict string
	checks  []check // one at least, unless the rule was not judged
}

type check struct{ verdict, want, got string }

// fault says why a token is not accepted.
type fault struct {
	reason    string
	rule      int
	want, got string
	toDo      string
}

// ruleNumbers are the rules that are shown.
func ruleNumbers() []int { return []int{1, 2, 3, 4, 5, 7, 8, 9} }

const (
	signatureRule = 5
	claimsRule    = 7
	lastRule      = 9
)

// expectations is what a token was compared with.
type expectations struct {
	flags  *verifyFlags
	now    time.Time
	keyIDs []string
}

// explain says how Verify came to its verdict. It follows from the verdict how the
// rules went: all rules before the one that refused have passed, and none after it
// was judged.
func explain(in input, claims kubejwt.Claims, verdict error, want expectations) *explanation {
	e := &explanation{verdict: "accepted", claims: claims, claimed: readClaimed(in.token), now: want.now}
	ended, endVerdict := lastRule+1, pass // the rule at which judging ended
	invalid, isInvalid := errors.AsType[*kubejwt.InvalidTokenError](verdict)
	notAllowed, isNotAllowed := errors.AsType[*kubejwt.NotAllowedError](verdict)
	switch {
	case isInvalid:
		e.verdict, e.faults = "refused", want.refusal(in, invalid, e.claimed)
		ended, endVerdict = invalid.Rule, fail
	case isNotAllowed:
		e.verdict, e.faults = "not_allowed", []fault{want.denial(notAllowed)}
		e.claims = notAllowed.Claims
		ended, endVerdict = lastRule, fail
	case verdict != nil:
		e.verdict, e.faults = "keys_unavailable", []fault{want.outage(verdict)}
		ended, endVerdict = e.faults[0].rule, notJudged
	}
	e.signatureHeld = ended > signatureRule
	for _, number := range ruleNumbers() {
		r := rule{number: number, name: ruleName(number), verdict: pass}
		switch {
		case number < ended:
			r.checks = want.passed(number, in.token, e.claimed)
		case number == ended && endVerdict == fail:
			r.verdict, r.checks = fail, want.failed(e.faults[0], e.claimed)
		default:
			r.verdict = notJudged
		}
		e.rules = append(e.rules, r)
	}
	e.notes = want.notes(in)
	return e
}

// refusal returns the library's reason. The library's rule 7 ends at the first check
// that fails, so the other failed checks of that rule are added.
func (want expectations) refusal(in input, err *kubejwt.InvalidTokenError, came claimed) []fault {
	first := fault{
		reason: string(err.Reason),
		rule:   err.Rule,
		want:   want.inFlags(err.Want),
		got:    want.inFlags(err.Got),
		toDo:   want.inFlags(err.Advice),
	}
	switch {
	case err.Rule == 1 && in.is != "":
		first.got, first.toDo = in.is, in.toDo
	case err.Reason == kubejwt.ReasonBadSignature:
		first.want, first.got = "a signature made with the key "+quoted(came.header.get("kid")), "another"
	case err.Reason == kubejwt.ReasonWrongIssuer && want.isNearIssuer(came.payload.get("iss")):
		first.toDo = "the two differ only by a slash at the end, and must be equal to the letter: take -issuer from " +
			discoveryCommand
	}
	algorithm, size := came.header.get("alg"), signatureSize(in.token)
	if isJWT(in.token) && !isSignatureSize(algorithm, size) &&
		(err.Rule == signatureRule || err.Reason == kubejwt.ReasonMalformed && err.Rule == 1) {
		first.got = fmt.Sprintf("a signature of %d bytes, and those of %s have another size",
			size, quotedOrNone(algorithm))
		first.toDo = "the end of the token is missing or was altered: copy the whole token, or pipe it: " + pipeCommand
	}
	faults := []fault{first}
	if err.Rule != claimsRule {
		return faults
	}
	for _, other := range want.registeredFaults(came.payload) {
		if other.reason == first.reason {
			faults[0].want, faults[0].got = other.want, other.got // with times relative to now
			continue
		}
		faults = append(faults, other)
	}
	return faults
}

// signatureSize is the size in bytes of a token's signature.
func signatureSize(token string) int {
	return base64.RawURLEncoding.DecodedLen(len(token) - strings.LastIndexByte(token, '.') - 1)
}

// isSignatureSize reports whether a key of an algorithm may make signatures of
// this size: those of RS256 are as long as the key, which has 2048 bits at least.
func isSignatureSize(algorithm string, size int) bool {
	switch algorithm {
	case "ES256":
		return size == 64
	case "ES384":
		return size == 96
	case "ES512":
		return size == 132
	case "RS256":
		return size >= 256 && size%32 == 0
	default:
		return true // whatever that is
	}
}

// discoveryCommand prints the issuer.
const discoveryCommand = "`kubectl get --raw /.well-known/openid-configuration`"

// isNearIssuer reports whether iss is an issuer with a slash more or less.
func (want expectations) isNearIssuer(iss string) bool {
	for _, issuer := range append([]string{want.flags.issuer}, want.flags.formerIssuers...) {
		if iss != "" && issuer != "" && strings.TrimRight(iss, "/") == strings.TrimRight(issuer, "/") {
			return true
		}
	}
	return false
}

func (want expectations) denial(err *kubejwt.NotAllowedError) fault {
	account := err.Claims.Namespace + "/" + err.Claims.ServiceAccount.Name
	return fault{
		reason: "not_allowed",
		rule:   lastRule,
		want:   "one of " + quote.List(want.flags.accounts()),
		got:    account,
		toDo: "the token is good, and the service answers 403: to admit this caller, add " + account +
			" to the service accounts that may call",
	}
}

// outage says at which rule the keys were missing: at the third if the issuer had to be
// learnt, and at the first if there were no keys to start with.
func (want expectations) outage(err error) fault {
	rule := 4
	switch {
	case errors.Is(err, errKeyFile):
		rule = 1
	case want.flags.issuer == "":
		rule = 3
	}
	return fault{
		reason: "keys_unavailable",
		rule:   rule,
		want:   "the cluster's public keys",
		got:    "none",
		toDo:   withhold(want.inFlags(err.Error())),
	}
}

// inFlags replaces the library's field names with the verb's flags.
func (want expectations) inFlags(text string) string { return inFlags("verify", text) }

func ruleName(number int) string {
	switch number {
	case 1:
		return "size and form"
	case 2:
		return "header"
	case 3:
		return "issuer"
	case 4:
		return "key"
	case 5:
		return "signature"
	case 7:
		return "audience, times"
	case 8:
		return "identity"
	default:
		return "policy"
	}
}

// passed returns what a rule expects, and what a token that passes it has
// brought.
func (want expectations) passed(number int, token string, came claimed) []check {
	switch number {
	case 1:
		return one(
			fmt.Sprintf("at most %d bytes, three segments", jws.MaxSize),
			fmt.Sprintf("%d bytes, three segments of base64url", len(token)))
	case 2:
		return one(
			"alg RS256, ES256, ES384 or ES512, and a kid",
			"alg "+quotedOrNone(came.header.get("alg"))+", kid "+quotedOrNone(came.header.get("kid")))
	case 3:
		return one("iss "+want.issuers(), quoted(came.payload.get("iss")))
	case 4:
		return one(want.keys(), "known, and for "+quotedOrNone(came.header.get("alg")))
	case 5:
		return one("made with that key", "made with that key")
	case 7:
		return want.registered(came.payload)
	case 8:
		return one("one service account, in kubernetes.io and sub", quoted(came.payload.get("sub")))
	default:
		return want.policy(came.payload)
	}
}

func one(want, got string) []check { return []check{{pass, want, got}} }

// failed are the checks of the rule that refused.
func (want expectations) failed(first fault, came claimed) []check {
	if first.rule == claimsRule {
		if checks := want.registered(came.payload); hasFailed(checks) {
			return checks
		}
	}
	return []check{{fail, first.want, first.got}}
}

func hasFailed(checks []check) bool {
	for _, c := range checks {
		if c.verdict == fail {
			return true
		}
	}
	return false
}

func (want expectations) issuers() string {
	if want.flags.issuer == "" {
		return "of this cluster"
	}
	return quote.List(append([]string{want.flags.issuer}, want.flags.formerIssuers...))
}

func (want expectations) keys() string {
	if len(want.keyIDs) == 0 {
		return "the kid of a key of the cluster"
	}
	return "the kid of a key of the cluster: " + quote.List(want.keyIDs)
}

func (want expectations) policy(payload part) []check {
	account := payload.get("kubernetes.io.namespace") + "/" + payload.get("kubernetes.io.serviceaccount.name")
	expected := "a service account of " + quote.List(want.flags.accounts())
	if len(want.flags.serviceAccounts) == 0 {
		expected = "any service account: no -service-account given"
	}
	checks := one(expected, quoted(account))
	if want.flags.requirePod {
		pod := quotedOrNone(payload.get("kubernetes.io.pod.name"))
		checks = append(checks, check{pass, "bound to a pod", "pod " + pod})
	}
	return checks
}

func (want expectations) notes(in input) []string {
	var notes []string
	if in.taken != "" {
		notes = append(notes, "The token did not come alone: "+in.taken+". A service takes it alone.")
	}
	if want.flags.at != "" {
		notes = append(notes, "Judged as of "+want.now.UTC().Format(time.RFC3339)+", with the keys of today.")
	}
	for _, audience := range want.flags.audiences {
		if audience == want.flags.issuer {
			notes = append(notes, "The audience is the cluster's issuer: whoever steals such a token from the service "+
				"can use it against the API server. Give the service a name of its own.")
		}
	}
	return notes
}
