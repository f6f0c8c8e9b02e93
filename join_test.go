package kubejwt_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

func TestJoin(t *testing.T) {
	a, b, stranger := kubejwttest.NewCluster(t), kubejwttest.NewCluster(t), kubejwttest.NewCluster(t)
	configA := staticConfig(t, a)
	va, vb := mustNew(t, configA), mustNew(t, b.Config("data-store"))
	joined, err := kubejwt.Join(va, vb)
	if err != nil {
		t.Fatal(err)
	}
	if err := joined.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	for _, c := range []*kubejwttest.Cluster{a, b} {
		for range 2 {
			claims, err := joined.Verify(t.Context(), c.Mint(good()))
			if err != nil || claims.Issuer != c.Config().Issuer {
				t.Errorf("%v, %v: want the Claims of %s", claims.Issuer, err, c.Config().Issuer)
			}
		}
	}
	if _, err := joined.Verify(t.Context(), stranger.Mint(good())); reasonOf(err) != kubejwt.ReasonWrongIssuer {
		t.Errorf("a third cluster's token: %v", err)
	}
	// The key of one member does not vouch for the issuer of another.
	lie := good()
	claim("iss", a.Config().Issuer)(&lie)
	if _, err := joined.Verify(t.Context(), b.Mint(lie)); reasonOf(err) != kubejwt.ReasonUnknownKey {
		t.Errorf("a token of b that claims to be of a: %v", err)
	}
	if s := joined.Stats(); s.Accepted != 4 || s.Refused[kubejwt.ReasonWrongIssuer] != 1 || s.Refused[kubejwt.ReasonUnknownKey] != 1 || len(s.KeyIDs) != 2 {
		t.Errorf("Stats: %+v", s)
	}

	// Which member comes first makes no difference.
	reversed, err := kubejwt.Join(vb, va)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*kubejwttest.Token)
		want   kubejwt.Reason
		got    string
	}{
		"legacy":              {secretBased(nil), kubejwt.ReasonLegacy, "Secret"},
		"legacy, iss of a":    {secretBased(object{"iss": configA.Issuer}), kubejwt.ReasonLegacy, "Secret"},
		"legacy, without kid": {func(t *kubejwttest.Token) { secretBased(nil)(t); header("kid", nil)(t) }, kubejwt.ReasonLegacy, "Secret"},
		"no issuer":           {claim("iss", nil), kubejwt.ReasonWrongIssuer, "got none"},
	} {
		g := good()
		tt.change(&g)
		token := a.Mint(g)
		for _, v := range []*kubejwt.Verifier{joined, reversed, va} {
			if _, err := v.Verify(t.Context(), token); reasonOf(err) != tt.want || !strings.Contains(err.Error(), tt.got) {
				t.Errorf("%s: %v: want %s", name, err, tt.want)
			}
		}
	}

	inPod(t, newKeyServer(t, a))
	learning := mustNewInCluster(t, kubejwt.Config{Audiences: []string{"data-store"}, ServiceAccounts: []string{"*"}})
	former := configA
	former.Issuer, former.FormerIssuers = "https://new.example", []string{configA.Issuer}
	for name, members := range map[string][]*kubejwt.Verifier{
		"none":                    nil,
		"nil":                     {va, nil},
		"zero":                    {va, new(kubejwt.Verifier)},
		"a joined one":            {va, joined},
		"the same twice":          {va, va},
		"an issuer twice":         {va, mustNew(t, configA)},
		"an issuer and as former": {va, mustNew(t, former)},
		"one that learns it":      {va, learning},
	} {
		if _, err := kubejwt.Join(members...); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	twice := former
	twice.FormerIssuers = []string{configA.Issuer, "https://new.example"}
	if _, err := kubejwt.Join(mustNew(t, twice), vb); err != nil {
		t.Errorf("an issuer that a member names twice: %v", err)
	}
	if _, err := joined.WithServiceAccounts("shop/api"); err == nil {
		t.Error("WithServiceAccounts of a joined Verifier: no error")
	}
}

// Only a member whose keys are given takes a token without kid.
func TestJoinWithoutKeyID(t *testing.T) {
	given, fetched := kubejwttest.NewCluster(t), kubejwttest.NewCluster(t)
	joined, err := kubejwt.Join(mustNew(t, staticConfig(t, given)), mustNew(t, fetched.Config("data-store")))
	if err != nil {
		t.Fatal(err)
	}
	g := good()
	header("kid", nil)(&g)
	if _, err := joined.Verify(t.Context(), given.Mint(g)); err != nil {
		t.Errorf("keys that are given: %v", err)
	}
	if _, err := joined.Verify(t.Context(), fetched.Mint(g)); reasonOf(err) != kubejwt.ReasonMalformed || fetched.Fetches() != 0 {
		t.Errorf("keys that are fetched: %v, after %d fetches", err, fetched.Fetches())
	}
}

// The members of a joined Verifier are asked at once, and all of them.
func TestJoinReady(t *testing.T) {
	clusters := []*kubejwttest.Cluster{kubejwttest.NewCluster(t), kubejwttest.NewCluster(t), kubejwttest.NewCluster(t)}
	synctest.Test(t, func(t *testing.T) {
		var members []*kubejwt.Verifier
		for _, c := range clusters {
			c.SetLatency(4 * time.Second)
			config := c.Config("data-store")
			config.Keys = kubejwt.RemoteKeys{Transport: c.Transport()}
			members = append(members, mustNew(t, config))
		}
		joined, err := kubejwt.Join(members...)
		if err != nil {
			t.Fatal(err)
		}
		clusters[0].SetAvailable(false)
		start := time.Now()
		if err := joined.Ready(t.Context()); !errors.Is(err, kubejwt.ErrKeysUnavailable) || time.Since(start) > 10*time.Second {
			t.Errorf("%v after %v: want ErrKeysUnavailable within ten seconds", err, time.Since(start))
		}
		if n := clusters[2].Fetches(); n != 1 {
			t.Errorf("the last member was asked %d times, want once", n)
		}
		if err := members[2].Ready(t.Context()); err != nil || clusters[2].Fetches() != 1 {
			t.Errorf("the last member: %v, %d fetches: want it ready already", err, clusters[2].Fetches())
		}
	})
}
