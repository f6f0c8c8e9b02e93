package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kubejwt/kubejwt"
)

const (
	maxShown   = 40 // members of a payload; a token of Kubernetes has 15
	labelWidth = 11 // of the words before what they label
)

// print prints e for a reader: the verdict with what to do, then the identity or the
// faults, then how the rules went.
func (e *explanation) print(p process) error {
	page := newPage(p)
	e.addVerdict(page)
	if e.claims != (kubejwt.Claims{}) {
		addIdentity(page, e.claims)
	}
	for _, note := range e.notes {
		page.skip()
		page.add(span{plain, note})
	}
	page.skip()
	e.addRules(page)
	if e.claims == (kubejwt.Claims{}) {
		e.addClaimed(page)
	}
	if len(e.log) > 0 && e.verdict != "accepted" {
		page.skip()
		page.add(span{bold, "What the library logged:"})
		for _, line := range e.log {
			page.addHanging(4, span{plain, line}, span{plain, "  "})
		}
	}
	return page.print(p)
}

func (e *explanation) addVerdict(page *page) {
	switch e.verdict {
	case "accepted":
		text := fmt.Sprintf("%s, until %s.", e.claims.Username(), showDate(e.claims.Expiry, e.now))
		page.addHanging(2, span{plain, text}, span{good, "Accepted"}, span{plain, ": "})
		page.skip()
		return
	case "keys_unavailable":
		page.addHanging(2, span{plain, "there are no keys to judge by. The token is neither good nor bad."},
			span{bad, "No verdict"}, span{plain, ": "})
		addLabelled(page, "why", e.faults[0].toDo)
		return
	}
	var reasons []string
	for _, f := range e.faults {
		reasons = append(reasons, f.reason)
	}
	page.addHanging(2, span{plain, fmt.Sprintf("by rule %d: %s.", e.faults[0].rule, strings.Join(reasons, ", "))},
		span{bad, "Refused"}, span{plain, " "})
	for i, f := range e.faults {
		if i > 0 {
			page.skip()
			addLabelled(page, "also", f.reason)
		}
		addLabelled(page, "to do", f.toDo)
		addLabelled(page, "expected", f.want)
		addLabelled(page, "came", f.got)
	}
	if e.verdict == "not_allowed" {
		page.skip()
		page.add(span{plain, "The identity that the token proves:"})
		page.skip()
	}
}

func addLabelled(page *page, label, text string) {
	if text != "" {
		page.add(span{plain, text}, span{plain, "  " + pad(label, labelWidth)})
	}
}

// addIdentity adds what TokenReview would say.
func addIdentity(page *page, claims kubejwt.Claims) {
	addLabelled(page, "username", claims.Username())
	addLabelled(page, "uid", claims.ServiceAccount.UID)
	for i, group := range claims.Groups() {
		addLabelled(page, firstOnly(i, "groups"), group)
	}
	extra := claims.Extra()
	for i, key := range slices.Sorted(maps.Keys(extra)) {
		text := key + ": " + strings.Join(extra[key], ", ")
		page.addHanging(labelWidth+4, span{plain, text}, span{plain, "  " + pad(firstOnly(i, "extra"), labelWidth)})
	}
	addLabelled(page, "audience", quoted(claims.Audience))
}

func firstOnly(i int, text string) string {
	if i > 0 {
		return ""
	}
	return text
}

// addRules adds a line for each rule and for each of its checks, and one for
// all the rules that were not judged.
func (e *explanation) addRules(page *page) {
	marks := map[string]span{pass: {style: passMark}, fail: {style: failMark}}
	width := 0
	for _, r := range e.rules {
		width = max(width, len(r.name))
	}
	firstOpen := 0
	for _, r := range e.rules {
		if r.verdict == notJudged {
			firstOpen = cmp.Or(firstOpen, r.number)
			continue
		}
		head := fmt.Sprintf(" %d  %s  ", r.number, pad(r.name, width))
		if len(r.checks) == 1 {
			page.add(span{plain, r.checks[0].got}, marks[r.verdict], span{plain, head})
			e.addWant(page, r.checks[0], len(head)+1)
			continue
		}
		page.add(span{}, marks[r.verdict], span{plain, strings.TrimRight(head, " ")})
		for _, c := range r.checks {
			page.add(span{plain, c.got}, span{plain, "     "}, marks[c.verdict], span{plain, " "})
			e.addWant(page, c, 7)
		}
	}
	if firstOpen == 0 {
		return
	}
	numbers := fmt.Sprintf(" %d to %d  ", firstOpen, lastRule)
	switch firstOpen {
	case lastRule:
		numbers = fmt.Sprintf(" %d  ", lastRule)
	case lastRule - 1:
		numbers = fmt.Sprintf(" %d and %d  ", firstOpen, lastRule)
	}
	page.add(span{faint, "not judged"}, span{style: openMark}, span{faint, numbers})
}

// addWant adds what a check that failed expects.
func (e *explanation) addWant(page *page, c check, indent int) {
	if c.verdict == fail && c.want != "" {
		page.add(span{plain, c.want}, span{plain, strings.Repeat(" ", indent) + "want "})
	}
}

// addClaimed adds what the token says about itself.
func (e *explanation) addClaimed(page *page) {
	if e.faults[0].rule == 1 && e.claimed.header.object == nil && e.claimed.payload.object == nil {
		return // the verdict already says what it is
	}
	heading := "UNVERIFIED: what the token claims. Anybody can write this."
	if e.signatureHeld {
		heading = "What the token claims. Its signature is good; it is refused all the same."
	}
	page.skip()
	page.add(span{bold, heading})
	page.skip()
	addPart(page, "header", e.claimed.header, e.now)
	addPart(page, "payload", e.claimed.payload, e.now)
}

const partWidth = 11 // of the name of a part, and what stands before it

// addPart adds the members of a part of a token.
func addPart(page *page, name string, p part, now time.Time) {
	gutter, gap := span{plain, "  " + pad(name, partWidth-2)}, "  "
	if page.mark != "" { // which takes the room
		page.add(span{}, span{plain, " " + name})
		gutter, gap = span{plain, "  "}, " "
	}
	if p.object == nil {
		page.add(span{plain, p.is}, gutter)
		return
	}
	members := p.members()
	shown := members[:min(len(members), maxShown)]
	width, inKubernetes := 0, false
	for _, m := range shown {
		width = max(width, min(len(m.showName()), maxNameWidth))
	}
	for _, m := range shown {
		label := m.showName()
		short, ok := strings.CutPrefix(label, kubernetesMember)
		if ok && !inKubernetes {
			page.add(span{}, gutter, span{plain, "kubernetes.io"})
			gutter.text = strings.Repeat(" ", gutter.width())
		}
		if inKubernetes = ok; ok {
			label = "  " + short
		}
		page.add(span{plain, m.show(now)}, gutter, span{plain, pad(label, width) + gap})
		gutter.text = strings.Repeat(" ", gutter.width())
	}
	if more := len(members) - len(shown); more > 0 {
		page.add(span{plain, fmt.Sprintf("and %d more", more)}, gutter)
	}
}

const (
	kubernetesMember = "kubernetes.io."
	maxNameWidth     = len("  serviceaccount.name")
)
