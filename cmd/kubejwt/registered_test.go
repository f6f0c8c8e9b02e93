package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

// The command's own judgement of rule 7 begins with the library's, whatever
// times, audiences and flags meet.
func TestRegisteredAgreesWithTheLibrary(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	cluster.RotateKey("ES256")
	now := time.Now().Truncate(time.Second)
	at := func(offsets ...time.Duration) []any {
		all := []any{nil}
		for _, offset := range offsets {
			all = append(all, now.Add(offset).Unix())
		}
		return all
	}
	var tokens []string
	for _, exp := range at(-48*time.Hour, -60*time.Second, -59*time.Second, time.Hour, 25*time.Hour) {
		for _, iat := range at(-72*time.Hour, -time.Hour, 60*time.Second, 61*time.Second, 2*time.Hour) {
			for _, nbf := range at(-time.Hour, 60*time.Second, 61*time.Second) {
				for _, warnAfter := range at(-60*time.Second, time.Hour) {
					for _, aud := range []any{nil, "data-store", []string{"reports"}, []string{"reports", "data-store"}} {
						token := caller
						token.Claims = map[string]any{"exp": exp, "iat": iat, "nbf": nbf, "aud": aud}
						token.Claims["kubernetes.io"] = map[string]any{
							"namespace": "shop", "serviceaccount": map[string]any{"name": "api", "uid": "u"}, "warnafter": warnAfter,
						}
						tokens = append(tokens, cluster.Mint(token))
					}
				}
			}
		}
	}
	keys, err := kubejwt.ParsePublicKeys(cluster.PublicKeysPEM())
	if err != nil {
		t.Fatal(err)
	}
	outcomes := make(map[string]int)
	for _, args := range [][]string{
		nil, {"-max-lifetime", "1h"}, {"-max-lifetime", "-1s"}, {"-leeway", "-1s"}, {"-leeway", "2m", "-audience", "reports"},
		{"-accept-extended", "-max-lifetime", "24h"},
	} {
		var f verifyFlags
		flags := newFlagSet("verify")
		f.define(flags)
		if _, err := parse(flags, append([]string{"-issuer", cluster.Config("any").Issuer, "-audience", "data-store"}, args...)); err != nil {
			t.Fatal(err)
		}
		config := f.config()
		config.Keys, config.ServiceAccounts = keys, []string{"*"}
		config.Now = func() time.Time { return now }
		v, err := kubejwt.New(config)
		if err != nil {
			t.Fatal(err)
		}
		want := expectations{flags: &f, now: now}
		for _, token := range tokens {
			_, verdict := v.Verify(t.Context(), token)
			first := "accepted"
			if faults := want.registeredFaults(readClaimed(token).payload); len(faults) > 0 {
				first = faults[0].reason
			}
			invalid, isInvalid := errors.AsType[*kubejwt.InvalidTokenError](verdict)
			if isInvalid && invalid.Rule != claimsRule || !isInvalid && verdict != nil {
				t.Fatalf("%v: want rule 7 or none", verdict)
			}
			if outcome := kubejwt.Outcome(verdict); outcome != first {
				t.Fatalf("%v: the library says %s and the command %s of\n%s\n%v", args, outcome, first, readClaimed(token).payload.object, verdict)
			}
			outcomes[first]++
		}
	}
	for _, outcome := range []kubejwt.Reason{
		"accepted", kubejwt.ReasonWrongAudience, kubejwt.ReasonExpired, kubejwt.ReasonMalformed, kubejwt.ReasonNotYetValid,
		kubejwt.ReasonStale, kubejwt.ReasonLifetimeTooLong,
	} {
		if outcomes[string(outcome)] == 0 {
			t.Errorf("no token is %s", outcome)
		}
	}
}

// All faults of rule 7 are shown once, the library's first.
func TestVerifyTellsAllFaultsOfRule7(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	keys := writeFile(t, string(cluster.PublicKeysPEM()))
	args := []string{"verify", "-key-file", keys, "-issuer", cluster.Config("any").Issuer, "-audience", "data-store", "-max-lifetime", "10m"}
	expired := caller
	expired.Lifetime = -time.Hour
	late := expired
	late.Claims = map[string]any{"iat": time.Now().Add(-65 * time.Minute).Unix(), "nbf": nil}
	elsewhere := caller
	elsewhere.Audiences = []string{"reports"}
	both := expired
	both.Audiences = elsewhere.Audiences
	both.Claims = map[string]any{"iat": time.Now().Add(-48 * time.Hour).Unix()}
	for name, test := range map[string]struct {
		token kubejwttest.Token
		says  []string
	}{
		"one": {late, []string{"Refused by rule 7: expired.", "ago"}},
		"two": {elsewhere, []string{"Refused by rule 7: wrong_audience, lifetime_too_long.", `came aud "reports"`, "raise -max-lifetime"}},
		"three": {both, []string{
			"Refused by rule 7: wrong_audience, expired, lifetime_too_long.", `aud "data-store"`, `✗ aud "reports"`, "✗ exp ",
			"read the mounted token file again", "✗ a lifetime of", "✓ nbf",
		}},
	} {
		r := kubejwtWith(t, cluster.Mint(test.token), args...)
		r.mustSay(t, exitRefused, test.says...)
		if strings.Count(r.out, "  also ") != strings.Count(test.says[0], ",") {
			t.Errorf("%s: not as many faults as reasons:\n%s", name, r.out)
		}
	}
}
