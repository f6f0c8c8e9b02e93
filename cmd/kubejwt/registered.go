package main

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/internal/quote"
	"github.com/kubejwt/kubejwt/internal/strictjson"
)

// registered are the claims of rule 7, except iss. The library's rule ends at
// the first fault; a reader wants all of them, so the command judges these
// again. A test compares its first fault with the library's.
type registered struct {
	audiences                    []string
	exp, nbf, iat, warnAfter     time.Time
	hasExp, hasIat, hasWarnAfter bool
}

func readRegistered(payload part) registered {
	var claims struct {
		Audience   json.RawMessage `json:"aud"`
		Expiry     *int64          `json:"exp"`
		NotBefore  *int64          `json:"nbf"`
		IssuedAt   *int64          `json:"iat"`
		Kubernetes *struct {
			WarnAfter *int64 `json:"warnafter"`
		} `json:"kubernetes.io"`
	}
	// A payload that does not decode is refused by rule 3.
	if payload.object == nil || strictjson.Unmarshal(payload.object, &claims) != nil {
		return registered{}
	}
	var r registered
	var audience string
	if len(claims.Audience) > 0 && strictjson.Unmarshal(claims.Audience, &audience) == nil {
		r.audiences = []string{audience}
	} else if len(claims.Audience) > 0 && strictjson.Unmarshal(claims.Audience, &r.audiences) != nil {
		r.audiences = nil
	}
	r.exp, r.hasExp = dateOf(claims.Expiry)
	r.iat, r.hasIat = dateOf(claims.IssuedAt)
	r.nbf, _ = dateOf(claims.NotBefore)
	if claims.Kubernetes != nil {
		r.warnAfter, r.hasWarnAfter = dateOf(claims.Kubernetes.WarnAfter)
	}
	return r
}

func dateOf(seconds *int64) (time.Time, bool) {
	if seconds == nil || *seconds < 0 || *seconds > maxDate {
		return time.Time{}, false
	}
	return time.Unix(*seconds, 0).UTC(), true
}

// end is when the token stops being accepted with these flags, without leeway.
func (want expectations) end(r registered) time.Time {
	if r.hasWarnAfter && !want.flags.acceptExtended && r.warnAfter.Before(r.exp) {
		return r.warnAfter
	}
	return r.exp
}

// leeway is the one in effect: 0 and negative values mean what they mean in
// kubejwt.Config.
func (want expectations) leeway() time.Duration {
	if want.flags.leeway == 0 {
		return time.Minute
	}
	return max(want.flags.leeway, 0)
}

// maxLifetime is the limit in effect in seconds, and whether there is one.
func (want expectations) maxLifetime() (seconds int64, bounded bool) {
	if want.flags.maxLifetime == 0 {
		return 24 * 3600, true
	}
	return int64(want.flags.maxLifetime / time.Second), want.flags.maxLifetime > 0
}

// registeredCheck is one of rule 7's, and the reason if it fails.
type registeredCheck struct {
	reason    kubejwt.Reason
	failed    bool
	want, got string
}

// registeredChecks checks each claim of rule 7, in the order of the rule. A check that
// makes no sense after one that failed is left out.
func (want expectations) registeredChecks(payload part) []registeredCheck {
	r, now, leeway := readRegistered(payload), want.now, want.leeway()
	latest, earliest := now.Add(leeway), now.Add(-leeway)
	notAfter := "no later than " + latest.UTC().Format(time.RFC3339)
	after := "after " + earliest.UTC().Format(time.RFC3339)
	exp, nbf, iat := "exp "+showIfAny(r.exp, now), "nbf "+showIfAny(r.nbf, now), "iat "+showIfAny(r.iat, now)

	ours, theirs := "aud "+quote.List(want.flags.audiences), "aud "+quote.List(r.audiences)
	checks := []registeredCheck{{kubejwt.ReasonWrongAudience, !want.isFor(r.audiences), ours, theirs}}
	if !r.hasExp {
		return append(checks, registeredCheck{kubejwt.ReasonExpired, true, "exp " + after, exp})
	}
	if !r.hasIat || r.iat.After(r.exp) || r.nbf.After(r.exp) {
		const inOrder = "iat, and iat and nbf not after exp"
		return append(checks, registeredCheck{kubejwt.ReasonMalformed, true, inOrder, iat + "; " + nbf + "; " + exp})
	}
	expired, end := !r.exp.After(earliest), want.end(r)
	checks = append(checks,
		registeredCheck{kubejwt.ReasonExpired, expired, "exp " + after, exp},
		registeredCheck{kubejwt.ReasonNotYetValid, r.nbf.After(latest), "nbf " + notAfter, nbf},
		registeredCheck{kubejwt.ReasonNotYetValid, r.iat.After(latest), "iat " + notAfter, iat})
	if r.hasWarnAfter && !want.flags.acceptExtended && !expired {
		checks = append(checks, registeredCheck{
			kubejwt.ReasonStale, !end.After(earliest), "warnafter " + after, "warnafter " + showIfAny(r.warnAfter, now),
		})
	}
	lifetime, most := end.Unix()-r.iat.Unix(), "any lifetime"
	seconds, bounded := want.maxLifetime()
	if bounded {
		most = "a lifetime of at most " + showSeconds(seconds)
	}
	return append(checks, registeredCheck{
		kubejwt.ReasonLifetimeTooLong, bounded && lifetime > seconds, most, "a lifetime of " + showSeconds(lifetime),
	})
}

func showIfAny(when, now time.Time) string {
	if when.IsZero() {
		return "none"
	}
	return showDate(when, now)
}

func (want expectations) isFor(audiences []string) bool {
	isNamed := func(ours string) bool { return slices.Contains(audiences, ours) }
	return slices.ContainsFunc(want.flags.audiences, isNamed)
}

func (want expectations) registered(payload part) []check {
	var checks []check
	for _, c := range want.registeredChecks(payload) {
		verdict := pass
		if c.failed {
			verdict = fail
		}
		checks = append(checks, check{verdict, c.want, c.got})
	}
	return checks
}

// registeredFaults are the checks of rule 7 that fail, one for each reason.
func (want expectations) registeredFaults(payload part) []fault {
	var faults []fault
	for _, c := range want.registeredChecks(payload) {
		seen := slices.ContainsFunc(faults, func(f fault) bool { return f.reason == string(c.reason) })
		if c.failed && !seen {
			faults = append(faults, fault{string(c.reason), claimsRule, c.want, c.got, adviceOn(c.reason)})
		}
	}
	return faults
}

// adviceOn is what to do about a further fault of rule 7. The library has an error for
// the first one only.
func adviceOn(reason kubejwt.Reason) string {
	switch reason {
	case kubejwt.ReasonWrongAudience:
		return "mount or create a token for this audience"
	case kubejwt.ReasonExpired, kubejwt.ReasonStale:
		return "read the mounted token file again before each call"
	case kubejwt.ReasonNotYetValid:
		return "compare the clocks of this machine and of the cluster"
	case kubejwt.ReasonLifetimeTooLong:
		return "mount a token with a shorter expirationSeconds, or raise -max-lifetime"
	default:
		return "send the token as kubelet or the TokenRequest API wrote it"
	}
}
