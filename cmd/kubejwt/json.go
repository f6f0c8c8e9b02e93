package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/internal/quote"
)

// The JSON of an explanation. docs/verify.schema.json is its schema.
type (
	explanationJSON struct {
		Verdict string `json:"verdict"`
		Reason  string `json:"reason,omitempty"`
		ToDo    string `json:"to_do,omitempty"`

		Faults   []faultJSON   `json:"faults,omitempty"`
		Identity *identityJSON `json:"identity,omitempty"`

		SignatureVerified bool       `json:"signature_verified"`
		tokenJSON                    // if the signature is good
		Unverified        *tokenJSON `json:"unverified,omitempty"` // if it is not, or was not checked

		Rules []ruleJSON `json:"rules"`
		At    time.Time  `json:"at"`
		Notes []string   `json:"notes,omitempty"`
		Log   []string   `json:"log,omitempty"`
	}
	faultJSON struct {
		Rule     int    `json:"rule"`
		Reason   string `json:"reason"`
		Expected string `json:"expected,omitempty"`
		Came     string `json:"came,omitempty"`
		ToDo     string `json:"to_do"`
	}
	ruleJSON struct {
		Rule    int         `json:"rule"`
		Name    string      `json:"name"`
		Verdict string      `json:"verdict"`
		Checks  []checkJSON `json:"checks,omitempty"`
	}
	checkJSON struct {
		Verdict  string `json:"verdict"`
		Expected string `json:"expected,omitempty"`
		Came     string `json:"came,omitempty"`
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
	// tokenJSON is what a token says about itself. A part that is not a JSON object
	// is described, and its member is left out.
	tokenJSON struct {
		Header    map[string]any       `json:"header,omitempty"`
		HeaderIs  string               `json:"header_is,omitempty"`
		Claims    map[string]any       `json:"claims,omitempty"`
		ClaimsAre string               `json:"claims_are,omitempty"`
		Times     map[string]time.Time `json:"times,omitempty"`
	}
)

// printJSON prints e for a program.
func (e *explanation) printJSON(p process) error {
	out := explanationJSON{
		Verdict: e.verdict, SignatureVerified: e.signatureHeld, At: e.now.UTC(), Notes: e.notes, Log: e.log,
	}
	for _, f := range e.faults {
		out.Faults = append(out.Faults, faultJSON{f.rule, f.reason, f.want, f.got, f.toDo})
	}
	if len(e.faults) > 0 {
		out.Reason, out.ToDo = e.faults[0].reason, e.faults[0].toDo
	}
	for _, r := range e.rules {
		rule := ruleJSON{Rule: r.number, Name: r.name, Verdict: r.verdict}
		for _, c := range r.checks {
			rule.Checks = append(rule.Checks, checkJSON{c.verdict, c.want, c.got})
		}
		out.Rules = append(out.Rules, rule)
	}
	if c := e.claims; c != (kubejwt.Claims{}) {
		out.Identity = &identityJSON{
			c.Username(), c.ServiceAccount.UID, c.Groups(), c.Extra(), c.Audience, c.Issuer, c.Expiry,
		}
	}
	if said := e.claimed.json(); e.signatureHeld {
		out.tokenJSON = *said
	} else {
		out.Unverified = said
	}
	return writeJSON(p, out)
}

func writeJSON(p process, document any) error {
	encoder := json.NewEncoder(newScreen(p.stdout))
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(document)
}

func (c claimed) json() *tokenJSON {
	out := &tokenJSON{
		Header: c.header.json(), HeaderIs: c.header.is,
		Claims: c.payload.json(), ClaimsAre: c.payload.is,
		Times: make(map[string]time.Time),
	}
	for _, m := range c.payload.members() {
		if when, ok := m.date(); ok {
			out.Times[strings.TrimPrefix(m.name, "kubernetes.io.")] = when
		}
	}
	return out
}

// json returns the object unchanged, except for values that must not be shown.
func (p part) json() map[string]any {
	if p.object == nil {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(p.object))
	decoder.UseNumber()
	var object map[string]any
	if decoder.Decode(&object) != nil {
		return nil
	}
	return tame(object).(map[string]any)
}

const (
	maxJSONText   = 512 // bytes of a string; an issuer has a hundred
	maxJSONNumber = 40  // digits of a number
)

// tame withholds tokens, and cuts what is too long.
func tame(value any) any {
	switch value := value.(type) {
	case map[string]any:
		tamed := make(map[string]any, len(value))
		for name, member := range value {
			tamed[tameText(name)] = tame(member)
		}
		return tamed
	case []any:
		for i := range value {
			value[i] = tame(value[i])
		}
		return value
	case string:
		return tameText(value)
	case json.Number:
		if len(value) > maxJSONNumber {
			return fmt.Sprintf("(a number of %d characters)", len(value))
		}
		return value
	default:
		return value
	}
}

func tameText(text string) string {
	switch {
	case quote.HoldsToken(text):
		return withheld
	case len(text) > maxJSONText:
		return text[:maxJSONText] + "..."
	default:
		return text
	}
}
