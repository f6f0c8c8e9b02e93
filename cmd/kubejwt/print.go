package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kubejwt/kubejwt"
)

const maxShown = 40 // members of a payload; a token of Kubernetes has 15

// printTable tells e to a person.
func (e *explanation) printTable(p process) error {
	var b strings.Builder
	colours := newPalette(p)
	e.writeRules(&b, colours)
	switch {
	case e.failure == nil:
		fmt.Fprintf(&b, "\n%s%sAccepted%s: the token proves this identity, until %s.\n\n", colours.bold, colours.green, colours.off, e.until())
		writeIdentity(&b, e.claims)
	case e.verdict == "keys_unavailable":
		fmt.Fprintf(&b, "\n%s%sNo verdict%s: there are no keys to judge by, and the token is neither good nor bad.\n\n", colours.bold, colours.red, colours.off)
		fmt.Fprintf(&b, "  why        %s\n", e.failure.advice)
	default:
		fmt.Fprintf(&b, "\n%s%sRefused%s by rule %d: %s.\n\n", colours.bold, colours.red, colours.off, e.failure.rule, e.failure.reason)
		if e.failure.want != "" {
			fmt.Fprintf(&b, "  expected   %s\n", e.failure.want)
		}
		fmt.Fprintf(&b, "  came       %s\n  to do      %s\n", e.failure.got, e.failure.advice)
	}
	if e.verdict == "not_allowed" {
		fmt.Fprint(&b, "\nThe identity that the token proves:\n\n")
		writeIdentity(&b, e.claims)
	} else if e.failure != nil {
		e.writeClaimed(&b, colours)
	}
	for _, note := range e.notes {
		fmt.Fprintf(&b, "\n%s\n", note)
	}
	_, err := io.WriteString(p.stdout, b.String())
	return err
}

// writeRules writes the table. Marks stand outside of its columns, so that
// colours don't count.
func (e *explanation) writeRules(b *strings.Builder, colours palette) {
	marks := map[string]string{
		pass:      colours.green + "✓" + colours.off,
		fail:      colours.red + "✗" + colours.off,
		notJudged: colours.grey + "·" + colours.off,
	}
	const head = "   RULE"
	label, want := len(head), len("EXPECTED")
	for _, r := range e.rules {
		label = max(label, len(r.label()))
		for _, c := range r.checks {
			want = max(want, utf8.RuneCountInString(c.want))
		}
	}
	fmt.Fprintf(b, "  %-*s  %-*s  %s\n", label, head, want, "EXPECTED", "CAME")
	for _, r := range e.rules {
		mark, text := marks[r.verdict], r.label()
		for _, c := range r.checks {
			fmt.Fprintf(b, "%s %-*s  %-*s  %s\n", mark, label, text, want, c.want, c.got)
			mark, text = " ", ""
		}
	}
}

// writeIdentity writes what TokenReview would say.
func writeIdentity(b *strings.Builder, claims kubejwt.Claims) {
	fmt.Fprintf(b, "  username   %s\n  uid        %s\n", claims.Username(), claims.ServiceAccount.UID)
	for i, group := range claims.Groups() {
		fmt.Fprintf(b, "  %-9s  %s\n", firstOnly(i, "groups"), group)
	}
	extra := claims.Extra()
	for i, key := range slices.Sorted(maps.Keys(extra)) {
		fmt.Fprintf(b, "  %-9s  %s: %s\n", firstOnly(i, "extra"), key, strings.Join(extra[key], ", "))
	}
	fmt.Fprintf(b, "  audience   %s\n", quote(claims.Audience))
}

func firstOnly(i int, text string) string {
	if i > 0 {
		return ""
	}
	return text
}

// writeClaimed writes what the token says of itself.
func (e *explanation) writeClaimed(b *strings.Builder, colours palette) {
	heading := "UNVERIFIED: what the token claims. Anybody can write this."
	if e.signatureHeld {
		heading = "What the token claims. Its signature is good; it is refused all the same."
	}
	fmt.Fprintf(b, "\n%s%s%s\n\n", colours.bold, heading, colours.off)
	writeMembers(b, "header", e.claimed.header, e.now)
	writeMembers(b, "payload", e.claimed.payload, e.now)
}

func writeMembers(b *strings.Builder, part string, members []member, now time.Time) {
	if len(members) == 0 {
		fmt.Fprintf(b, "  %-7s  can't be read\n", part)
		return
	}
	shown := members[:min(len(members), maxShown)]
	width := 0
	for _, m := range shown {
		width = max(width, len(m.showName()))
	}
	for i, m := range shown {
		fmt.Fprintf(b, "  %-7s  %-*s  %s\n", firstOnly(i, part), width, m.showName(), m.show(now))
	}
	if more := len(members) - len(shown); more > 0 {
		fmt.Fprintf(b, "           and %d more\n", more)
	}
}

// The JSON of an explanation.
type (
	explanationJSON struct {
		Verdict    string        `json:"verdict"`
		Rules      []ruleJSON    `json:"rules"`
		Identity   *identityJSON `json:"identity,omitempty"`
		Failure    *failureJSON  `json:"failure,omitempty"`
		Unverified *claimedJSON  `json:"unverified,omitempty"`
		Refused    *claimedJSON  `json:"refused_claims,omitempty"` // the signature is good
		At         time.Time     `json:"at"`
		Notes      []string      `json:"notes,omitempty"`
	}
	ruleJSON struct {
		Rule    int         `json:"rule"`
		Name    string      `json:"name"`
		Verdict string      `json:"verdict"`
		Checks  []checkJSON `json:"checks"`
	}
	checkJSON struct {
		Expected string `json:"expected"`
		Came     string `json:"came"`
	}
	failureJSON struct {
		Reason   string `json:"reason"`
		Rule     int    `json:"rule"`
		Expected string `json:"expected,omitempty"`
		Came     string `json:"came"`
		ToDo     string `json:"to_do"`
	}
	identityJSON struct {
		Username string              `json:"username"`
		UID      string              `json:"uid"`
		Groups   []string            `json:"groups"`
		Extra    map[string][]string `json:"extra,omitempty"`
		Audience string              `json:"audience"`
		Issuer   string              `json:"issuer"`
		Until    time.Time           `json:"until"`
	}
	claimedJSON struct {
		Header  map[string]string `json:"header"`
		Payload map[string]string `json:"payload"`
	}
)

// printJSON tells e to a program, in ASCII.
func (e *explanation) printJSON(p process) error {
	out := explanationJSON{Verdict: e.verdict, At: e.now.UTC(), Notes: e.notes}
	for _, r := range e.rules {
		rule := ruleJSON{Rule: r.number, Name: r.name, Verdict: r.verdict}
		for _, c := range r.checks {
			rule.Checks = append(rule.Checks, checkJSON{c.want, c.got})
		}
		out.Rules = append(out.Rules, rule)
	}
	if f := e.failure; f != nil {
		out.Failure = &failureJSON{f.reason, f.rule, f.want, f.got, f.advice}
	}
	switch {
	case e.claims != kubejwt.Claims{}:
		c := e.claims
		out.Identity = &identityJSON{c.Username(), c.ServiceAccount.UID, c.Groups(), c.Extra(), c.Audience, c.Issuer, c.Expiry}
	case e.signatureHeld:
		out.Refused = e.claimed.json()
	default:
		out.Unverified = e.claimed.json()
	}
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(out); err != nil {
		return err
	}
	_, err := io.WriteString(p.stdout, toASCII(b.String()))
	return err
}

func (c claimed) json() *claimedJSON {
	return &claimedJSON{membersJSON(c.header), membersJSON(c.payload)}
}

func membersJSON(members []member) map[string]string {
	all := make(map[string]string)
	for _, m := range members[:min(len(members), maxShown)] {
		all[bound(m.name)] = bound(m.text)
	}
	return all
}

// toASCII spells what is not printable ASCII in JSON's own escapes: a terminal
// acts on some of it.
func toASCII(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r < 0x7f:
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
