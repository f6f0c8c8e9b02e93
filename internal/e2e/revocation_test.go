package e2e

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubejwt/kubejwt"
)

// Told honestly: when a pod or an account is deleted, TokenReview refuses its
// tokens within seconds, and Verify accepts them until they expire.
func TestRevocation(t *testing.T) {
	c := sharedCluster(t, "RS256")
	leaving, staying := c.serviceAccount(t, "api", "leaving"), c.serviceAccount(t, "api", "api")
	pod := c.pod(t, staying, "leaving", "")
	node, secret := c.node(t, "leaving"), c.secret(t, "api", "leaving")
	tokens := map[string]string{
		"pod":             c.mint(t, staying, toPod(pod), time.Hour, service),
		"service account": c.mint(t, leaving, nil, time.Hour, service),
		"secret":          c.mint(t, staying, binding("Secret", secret.Name, secret.UID), time.Hour, service),
		"node":            c.mint(t, staying, binding("Node", node.Name, node.UID), time.Hour, service),
	}
	keys, clock := in(c.mount(t)), time.Now
	keys.JWKSURL = c.address() + "/openid/v1/jwks"
	config := kubejwt.Config{
		Issuer:          issuer,
		Audiences:       []string{service},
		ServiceAccounts: []string{"*"},
		Keys:            keys,
		Now:             func() time.Time { return clock() },
	}
	knows := must(kubejwt.New(config))
	for _, token := range tokens {
		expect(t, knows, token, accepted)
		requireReview(t, c.review(t, token, service))
	}

	now := metav1.DeleteOptions{GracePeriodSeconds: new(int64)}
	noError(t, c.CoreV1().Pods("api").Delete(t.Context(), pod.Name, now))
	noError(t, c.CoreV1().ServiceAccounts("api").Delete(t.Context(), leaving.Name, now))
	noError(t, c.CoreV1().Secrets("api").Delete(t.Context(), secret.Name, now))
	noError(t, c.CoreV1().Nodes().Delete(t.Context(), node.Name, now))
	deleted := time.Now()
	for name, token := range tokens {
		t.Run(name, func(t *testing.T) {
			// It remembers a good token for 10 s.
			eventually(t, "TokenReview refuses", func() bool { return !c.review(t, token, service).Authenticated })
			refused := time.Since(deleted)
			for _, v := range []*kubejwt.Verifier{knows, must(kubejwt.New(config))} {
				clock = time.Now
				claims, err := v.Verify(t.Context(), token)
				noError(t, err)
				t.Logf("TokenReview refuses within %v of the deletion, we %v after it", refused.Round(time.Second),
					claims.Expiry.Add(time.Minute).Sub(deleted).Round(time.Second))
				clock = func() time.Time { return claims.Expiry.Add(59 * time.Second) }
				expect(t, v, token, accepted)
				clock = func() time.Time { return claims.Expiry.Add(60 * time.Second) }
				expect(t, v, token, "expired")
			}
		})
	}
}
