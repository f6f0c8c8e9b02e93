package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/internal/jws"
)

// An explanation is all that verify tells, for a table or for JSON.
type explanation struct {
	verdict string // accepted, refused, not_allowed or keys_unavailable
	rules   []rule
	claims  kubejwt.Claims // of an authenticated caller
	failure *failure       // nil if the token is accepted
	claimed claimed        // of one that is not
	// signatureHeld tells claims that nobody vouches for from those of a token
	// that was refused all the same.
	signatureHeld bool
	now           time.Time
	notes         []string
}

// The verdicts of a rule.
const (
	pass      = "pass"
	fail      = "fail"
	notJudged = "not_judged"
)

// rule is one of the nine, as the package documentation numbers them.
type rule struct {
	number  int
	name    string
	verdict string
	checks  []check // one at least
}

type check struct{ want, got string }

// failure says why a token is not accepted.
type failure struct {
	reason    string
	rule      int
	want, got string
	advice    string
}

const ruleCount = 9

// expectations is what a token was held against.
type expectations struct {
	flags  *verifyFlags
	now    time.Time
	keyIDs []string
}

// explain tells how Verify came to its verdict. Of the rules it knows what the
// verdict implies: all before the one that refused have passed, and none after
// it was judged.
func explain(token string, claims kubejwt.Claims, verdict error, want expectations) *explanation {
	e := &explanation{verdict: "accepted", claims: claims, claimed: readClaimed(token), now: want.now}
	last, lastVerdict := ruleCount+1, pass // the rule at which judging ended
	invalid, isInvalid := errors.AsType[*kubejwt.InvalidTokenError](verdict)
	notAllowed, isNotAllowed := errors.AsType[*kubejwt.NotAllowedError](verdict)
	switch {
	case isInvalid:
		e.verdict, e.failure = "refused", refusal(invalid)
		last, lastVerdict = invalid.Rule, fail
	case isNotAllowed:
		e.verdict, e.failure = "not_allowed", denial(notAllowed, want)
		e.claims = notAllowed.Claims
		last, lastVerdict = ruleCount, fail
	case verdict != nil:
		e.verdict, e.failure = "keys_unavailable", outage(verdict, want)
		last, lastVerdict = e.failure.rule, notJudged
	}
	e.signatureHeld = last > 5
	for number := 1; number <= ruleCount; number++ {
		r := rule{number: number, verdict: pass}
		r.name, r.checks = want.rule(number, token, e.claimed)
		switch {
		case number == last:
			r.verdict = lastVerdict
			r.checks = []check{{orElse(e.failure.want, r.checks[0].want), e.failure.got}}
		case number > last:
			r.verdict = notJudged
			r.checks = []check{{r.checks[0].want, fmt.Sprintf("not judged, as rule %d was not passed", last)}}
		}
		e.rules = append(e.rules, r)
	}
	e.notes = want.notes()
	return e
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func refusal(err *kubejwt.InvalidTokenError) *failure {
	return &failure{
		reason: string(err.Reason),
		rule:   err.Rule,
		want:   inFlags(err.Want),
		got:    orElse(inFlags(err.Got), "something else"),
		advice: inFlags(err.Advice),
	}
}

func denial(err *kubejwt.NotAllowedError, want expectations) *failure {
	account := err.Claims.Namespace + "/" + err.Claims.ServiceAccount.Name
	return &failure{
		reason: "not_allowed",
		rule:   ruleCount,
		want:   "one of " + quoteAll(want.flags.accounts()),
		got:    account,
		advice: "the token is good, and the service answers 403: to admit this caller, add " + account + " to the service accounts that may call",
	}
}

// outage says at which rule the keys were missed: at the third already if they
// were to tell the issuer too.
func outage(err error, want expectations) *failure {
	rule := 4
	if want.flags.issuer == "" {
		rule = 3
	}
	return &failure{
		reason: "keys_unavailable",
		rule:   rule,
		got:    "not judged, as there are no keys",
		advice: inFlags(err.Error()),
	}
}

// rule returns the name of a rule, what it expects, and what a token that
// passes it has brought.
func (want expectations) rule(number int, token string, came claimed) (name string, checks []check) {
	switch number {
	case 1:
		return "size and form", one(fmt.Sprintf("at most %d bytes, three segments", jws.MaxSize), fmt.Sprintf("%d bytes, three segments of base64url", len(token)))
	case 2:
		return "header", one("alg RS256, ES256, ES384 or ES512, and a kid", want.header(came))
	case 3:
		return "issuer", one("iss "+want.issuers(), quote(get(came.payload, "iss")))
	case 4:
		return "key", one(want.keys(), "kid "+quoteOrNone(get(came.header, "kid")))
	case 5:
		return "signature", one("made with that key", "it is")
	case 6:
		return "one reading", one("the claims are the bytes that are signed", "they are")
	case 7:
		return "audience, times", want.registered(came)
	case 8:
		return "identity", one("one service account, in kubernetes.io and sub", quote(get(came.payload, "sub")))
	default:
		return "policy", want.policy(came)
	}
}

func one(want, got string) []check { return []check{{want, got}} }

func quoteOrNone(text string) string {
	if text == "" {
		return "none"
	}
	return quote(text)
}

func (want expectations) header(came claimed) string {
	return "alg " + quote(get(came.header, "alg")) + ", kid " + quoteOrNone(get(came.header, "kid"))
}

func (want expectations) issuers() string {
	if want.flags.issuer == "" {
		return "of this cluster"
	}
	return quoteAll(append([]string{want.flags.issuer}, want.flags.formerIssuers...))
}

func (want expectations) keys() string {
	if len(want.keyIDs) == 0 {
		return "a key of the issuer, fit for alg"
	}
	return fmt.Sprintf("the kid of one of %d keys, fit for alg", len(want.keyIDs))
}

// registered are the checks of rule 7, in its order.
func (want expectations) registered(came claimed) []check {
	now, leeway := want.now, want.leeway()
	date := func(name string) string {
		when, ok := parseDate(get(came.payload, name))
		if !ok {
			return name + " none"
		}
		return name + " " + showDate(when, now)
	}
	latest := "no later than " + now.Add(leeway).UTC().Format(time.RFC3339)
	earliest := "after " + now.Add(-leeway).UTC().Format(time.RFC3339)
	checks := []check{
		{"aud " + quoteAll(want.flags.audiences), quoteAll(elements(came.payload, "aud"))},
		{"exp " + earliest, date("exp")},
		{"nbf " + latest, date("nbf")},
		{"iat " + latest, date("iat")},
	}
	if get(came.payload, warnAfter) != "" && !want.flags.acceptExtended {
		checks = append(checks, check{"warnafter " + earliest, strings.TrimPrefix(date(warnAfter), "kubernetes.io.")})
	}
	return append(checks, check{want.lifetime(), want.lived(came)})
}

const warnAfter = "kubernetes.io.warnafter"

// leeway is the one in effect, by the convention of kubejwt.Config.
func (want expectations) leeway() time.Duration {
	if want.flags.leeway == 0 {
		return time.Minute
	}
	return max(want.flags.leeway, 0)
}

func (want expectations) lifetime() string {
	switch most := want.flags.maxLifetime; {
	case most < 0:
		return "any lifetime"
	case most == 0:
		return "a lifetime of at most 24 h"
	default:
		return "a lifetime of at most " + showSeconds(int64(most/time.Second))
	}
}

func (want expectations) lived(came claimed) string {
	start, _ := parseDate(get(came.payload, "iat"))
	end, ok := parseDate(get(came.payload, "exp"))
	if warn, has := parseDate(get(came.payload, warnAfter)); has && !want.flags.acceptExtended && warn.Before(end) {
		end = warn
	}
	if !ok {
		return "none"
	}
	return showSeconds(end.Unix() - start.Unix())
}

func (want expectations) policy(came claimed) []check {
	account := get(came.payload, "kubernetes.io.namespace") + "/" + get(came.payload, "kubernetes.io.serviceaccount.name")
	expected := "a service account of " + quoteAll(want.flags.accounts())
	if len(want.flags.serviceAccounts) == 0 {
		expected = "any service account: no -service-account given"
	}
	checks := one(expected, quote(account))
	if want.flags.requirePod {
		checks = append(checks, check{"bound to a pod", quoteOrNone(get(came.payload, "kubernetes.io.pod.name"))})
	}
	return checks
}

func (want expectations) notes() []string {
	var notes []string
	if want.flags.at != "" {
		notes = append(notes, "Judged as of "+want.now.UTC().Format(time.RFC3339)+", with the keys of today.")
	}
	for _, audience := range want.flags.audiences {
		if audience == want.flags.issuer {
			notes = append(notes, "The audience is the cluster's issuer: such tokens are good for the API server too. Give the service a name of its own.")
		}
	}
	return notes
}

// until is when an accepted token ends.
func (e *explanation) until() string { return showDate(e.claims.Expiry, e.now) }

func (r rule) label() string { return strconv.Itoa(r.number) + "  " + r.name }
