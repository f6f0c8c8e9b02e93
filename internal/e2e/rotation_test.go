package e2e

import (
	"sync"
	"testing"
	"time"

	"github.com/kubejwt/kubejwt"
)

// throughout verifies token all the time, remembered and not, until the function
// that it returns is called.
func throughout(t *testing.T, token string, verifiers ...*kubejwt.Verifier) (stop func()) {
	done := make(chan struct{})
	var workers sync.WaitGroup
	for _, v := range verifiers {
		workers.Go(func() {
			for {
				if _, err := v.Verify(t.Context(), token); err != nil {
					t.Errorf("during the rotation: %v", err)
					return
				}
				select {
				case <-done:
					return
				case <-time.After(10 * time.Millisecond):
				}
			}
		})
	}
	return func() {
		close(done)
		workers.Wait()
	}
}

// A key is rotated as operators do it, step by step, each with a restart: they
// publish the new key, sign with it, drop the old one.
func TestRotation(t *testing.T) {
	first, second := newSigningKey(t, "RS256"), newSigningKey(t, "ES256")
	s := settings{issuers: []string{issuer}, published: []*signingKey{first}, signer: first}
	c := newCluster(t, s)
	account := c.serviceAccount(t, "api", "api")
	folder := c.mount(t)
	v := c.inCluster(t, "127.0.0.1", in(folder))
	ofFirst := c.mint(t, account, nil, time.Hour, service)
	expect(t, v, ofFirst, accepted)
	forgetful := c.inClusterWith(t, "127.0.0.1", in(folder), -1)
	expect(t, forgetful, ofFirst, accepted)
	stop := throughout(t, ofFirst, v, forgetful)

	s.published = []*signingKey{first, second}
	c.restart(t, s)
	expect(t, v, c.mint(t, account, nil, time.Hour, service), accepted)

	s.signer = second
	c.restart(t, s)
	ofSecond := c.mint(t, account, nil, time.Hour, service)
	expect(t, v, ofSecond, accepted)
	if stats := v.Stats(); stats.Fetches != 2 || stats.UnknownKeyFetches != 1 {
		t.Errorf("%d fetches, %d for an unknown kid: want 2, 1", stats.Fetches, stats.UnknownKeyFetches)
	}
	expect(t, c.inCluster(t, "127.0.0.1", in(folder)), ofFirst, accepted)
	expect(t, forgetful, ofSecond, accepted)
	stop()
	stop = throughout(t, ofSecond, v, forgetful)
	defer stop()

	// The service's own token is of the old key, and is to be renewed before
	// that goes: within the hour, kubelet has.
	c.renewMounted(t, folder)
	s.published = []*signingKey{second}
	c.restart(t, s)
	expect(t, v, ofFirst, accepted) // by the set at hand
	eventually(t, "the set is fetched again", func() bool {
		v.Verify(t.Context(), strange(t, ofSecond))
		_, err := v.Verify(t.Context(), ofFirst)
		return say(err) == "unknown_key"
	})
	expect(t, v, ofSecond, accepted)
	expect(t, c.inCluster(t, "127.0.0.1", in(folder)), ofFirst, "unknown_key")
	if c.review(t, ofFirst, service).Authenticated {
		t.Error("TokenReview accepts a token of the key that was dropped")
	}
}

// A key that signs before anybody has heard of it, as K3s does it, costs one
// fetch, however many callers come with it at once.
func TestSuddenSwitch(t *testing.T) {
	first, second := newSigningKey(t, "RS256"), newSigningKey(t, "RS256")
	c := newCluster(t, settings{issuers: []string{issuer}, published: []*signingKey{first}, signer: first})
	account := c.serviceAccount(t, "api", "api")
	v := c.inCluster(t, "127.0.0.1", in(c.mount(t)))
	ofFirst := c.mint(t, account, nil, time.Hour, service)
	expect(t, v, ofFirst, accepted)

	c.restart(t, settings{issuers: []string{issuer}, published: []*signingKey{second, first}, signer: second})
	var callers sync.WaitGroup
	for range 50 {
		token := c.mint(t, account, nil, time.Hour, service)
		callers.Go(func() {
			if _, err := v.Verify(t.Context(), token); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	expect(t, v, ofFirst, accepted)
	if stats := v.Stats(); stats.Fetches != 2 || stats.FetchFailures != 0 {
		t.Errorf("%d fetches, %d failed: want 2, 0", stats.Fetches, stats.FetchFailures)
	}
}

// Where key and signer are replaced in one step, the service's own token is
// refused too, until kubelet renews it: no keys can be had meanwhile.
func TestKeyLost(t *testing.T) {
	first, second := newSigningKey(t, "RS256"), newSigningKey(t, "RS256")
	c := newCluster(t, settings{issuers: []string{issuer}, published: []*signingKey{first}, signer: first})
	account := c.serviceAccount(t, "api", "api")
	folder := c.mount(t)
	v := c.inCluster(t, "127.0.0.1", in(folder))
	ofFirst := c.mint(t, account, nil, time.Hour, service)
	expect(t, v, ofFirst, accepted)

	c.restart(t, settings{issuers: []string{issuer}, published: []*signingKey{second}, signer: second})
	ofSecond := c.mint(t, account, nil, time.Hour, service)
	expectUnavailable(t, v, ofSecond, "status 401")
	expect(t, v, ofFirst, accepted)

	c.renewMounted(t, folder)
	eventually(t, "tokens of the new key are accepted", func() bool {
		_, err := v.Verify(t.Context(), ofSecond)
		return err == nil
	})
	expect(t, v, ofFirst, "unknown_key")
}

// --service-account-issuer changes, and the old one is kept as the second:
// tokens of both are good.
func TestIssuerChange(t *testing.T) {
	const newIssuer = "https://issuer.shop.test"
	key := newSigningKey(t, "RS256")
	s := settings{issuers: []string{issuer}, published: []*signingKey{key}, signer: key}
	c := newCluster(t, s)
	account := c.serviceAccount(t, "api", "api")
	keys := in(c.mount(t))
	learns := c.inCluster(t, "127.0.0.1", keys)
	old := c.mint(t, account, nil, time.Hour, service)
	expect(t, learns, old, accepted)

	s.issuers = []string{newIssuer, issuer}
	c.restart(t, s)
	minted := c.mint(t, account, nil, time.Hour, service)
	keys.DiscoveryURL = c.address() + "/.well-known/openid-configuration"
	told, err := kubejwt.New(kubejwt.Config{
		Issuer:          newIssuer,
		FormerIssuers:   []string{issuer},
		Audiences:       []string{service},
		ServiceAccounts: []string{"api/api"},
		Keys:            keys,
	})
	noError(t, err)
	for token, iss := range map[string]string{minted: newIssuer, old: issuer} {
		for name, v := range map[string]*kubejwt.Verifier{"told": told, "learns": learns} {
			claims, err := v.Verify(t.Context(), token)
			if err != nil || claims.Issuer != iss {
				t.Errorf("%s: issuer %q, %v: want %q", name, claims.Issuer, err, iss)
			}
		}
		if status := c.review(t, token, service); !status.Authenticated {
			t.Errorf("TokenReview refuses a token of %s: %s", iss, status.Error)
		}
	}
	if stats := learns.Stats(); stats.Fetches != 2 {
		t.Errorf("%d fetches: want 2, the second for the new issuer", stats.Fetches)
	}
}
