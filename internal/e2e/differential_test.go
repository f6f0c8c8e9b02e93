package e2e

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubejwt/kubejwt"
)

// minTokens is how many tokens each algorithm is to be tried with.
const minTokens = 2000

// A sample is a token and what was done to it.
type sample struct{ name, token string }

// TestDifferential puts thousands of tokens before Verify and TokenReview, and
// fails on a difference that is not one of the known disagreements, and on a
// disagreement that is none any more.
func TestDifferential(t *testing.T) {
	used := make([]int, len(disagreements))
	tried := 0
	for _, alg := range algorithms {
		t.Run(alg, func(t *testing.T) {
			d := newDifferential(t, sharedCluster(t, alg))
			d.used = used
			d.run(t)
			tried++
		})
	}
	if tried < len(algorithms) {
		return // -run chose some
	}
	for i, row := range disagreements {
		t.Logf("%5d times: we say %s, of %s: %s", used[i], row.ours, row.samples, row.why)
		if used[i] == 0 {
			t.Errorf("there is no disagreement any more where we say %s, of %s", row.ours, row.samples)
		}
	}
}

// A differential is one cluster, and two services in it.
type differential struct {
	*cluster
	verifiers map[string]*kubejwt.Verifier // by audience
	bases     []base
	account   *corev1.ServiceAccount

	mu     sync.Mutex // guards what follows
	tokens int
	both   int // accepted by both
	used   []int
}

// A base is a kind of token that TokenRequest mints.
type base struct {
	name string
	to   *authenticationv1.BoundObjectReference
}

func newDifferential(t *testing.T, c *cluster) *differential {
	d := &differential{cluster: c, verifiers: make(map[string]*kubejwt.Verifier), account: c.serviceAccount(t, "api", "api")}
	keys := in(c.mount(t))
	keys.JWKSURL = c.address() + "/openid/v1/jwks"
	for _, audience := range []string{service, issuer} {
		v, err := kubejwt.New(kubejwt.Config{
			Issuer:          issuer,
			Audiences:       []string{audience},
			ServiceAccounts: []string{"*"},
			Keys:            keys,
		})
		noError(t, err)
		d.verifiers[audience] = v
	}
	node := c.node(t, "node-1")
	secret := c.secret(t, "api", "bound")
	d.bases = []base{
		{"unbound", nil},
		{"pod", toPod(c.pod(t, d.account, "api-unscheduled", ""))},
		{"pod_on_node", toPod(c.pod(t, d.account, "api-0", node.Name))},
		{"pod_on_lost_node", toPod(c.pod(t, d.account, "api-lost", "node-lost"))},
		{"node", binding("Node", node.Name, node.UID)},
		{"secret", binding("Secret", secret.Name, secret.UID)},
	}
	return d
}

func (d *differential) run(t *testing.T) {
	start := time.Now()
	minted := d.minted(t)
	d.judge(t, service, minted)
	d.judge(t, issuer, minted)
	for _, b := range d.bases {
		token := d.mint(t, d.account, b.to, time.Hour, service)
		step := 16
		if b.name == "pod_on_node" {
			step = 1
		}
		d.judge(t, service, prefixed(b.name+"/time/", timed(d.signer, token, time.Now())))
		d.judge(t, service, prefixed(b.name+"/text/", respelled(token, step)))
		d.judge(t, service, prefixed(b.name+"/signature/", resigned(d.signer, newSigningKey(t, d.signer.alg), token, step)))
		d.judge(t, service, prefixed(b.name+"/header/", headers(d.signer, token)))
		d.judge(t, service, prefixed(b.name+"/payload/", payloads(d.signer, token)))
	}
	d.judge(t, service, d.deleted(t))
	t.Logf("%d tokens in %v, %d accepted by both", d.tokens, time.Since(start).Round(time.Second), d.both)
	if d.tokens < minTokens || d.both < minTokens/10 {
		t.Errorf("%d tokens, %d accepted by both: want %d and %d at least", d.tokens, d.both, minTokens, minTokens/10)
	}
}

func prefixed(prefix string, samples []sample) []sample {
	for i := range samples {
		samples[i].name = prefix + samples[i].name
	}
	return samples
}

// minted are tokens of every binding, audience and lifetime.
func (d *differential) minted(t *testing.T) (samples []sample) {
	day := 24 * time.Hour
	for _, b := range d.bases {
		for _, audiences := range [][]string{
			{}, {service}, {service, "reports"}, {"reports", service}, {service, service}, {"reports"}, {""}, {"*"},
			{"Data-Store"}, {issuer}, {issuer, service}, {"k3s"}, apiAudiences,
		} {
			for _, lifetime := range []time.Duration{10 * time.Minute, time.Hour, 3607 * time.Second, day, day + time.Second, 3650 * day} {
				name := fmt.Sprintf("%s/minted/%q/%ds", b.name, audiences, lifetime/time.Second)
				samples = append(samples, sample{name, d.mint(t, d.account, b.to, lifetime, audiences...)})
			}
		}
	}
	return samples
}

// deleted are tokens that outlive what they are bound to.
func (d *differential) deleted(t *testing.T) []sample {
	account := d.serviceAccount(t, "api", "deleted")
	pod := d.pod(t, d.account, "deleted", "")
	node := d.node(t, "deleted")
	secret := d.secret(t, "api", "deleted")
	samples := []sample{
		{"account/deleted", d.mint(t, account, nil, time.Hour, service)},
		{"pod/deleted", d.mint(t, d.account, toPod(pod), time.Hour, service)},
		{"node/deleted", d.mint(t, d.account, binding("Node", node.Name, node.UID), time.Hour, service)},
		{"secret/deleted", d.mint(t, d.account, binding("Secret", secret.Name, secret.UID), time.Hour, service)},
	}
	now := metav1.DeleteOptions{GracePeriodSeconds: new(int64)}
	noError(t, d.CoreV1().ServiceAccounts("api").Delete(t.Context(), account.Name, now))
	noError(t, d.CoreV1().Pods("api").Delete(t.Context(), pod.Name, now))
	noError(t, d.CoreV1().Nodes().Delete(t.Context(), node.Name, now))
	noError(t, d.CoreV1().Secrets("api").Delete(t.Context(), secret.Name, now))
	for _, s := range samples {
		eventually(t, "TokenReview refuses "+s.name, func() bool { return !d.review(t, s.token, service).Authenticated })
	}
	return samples
}

// judge compares the two verdicts on each sample.
func (d *differential) judge(t *testing.T, audience string, samples []sample) {
	t.Helper()
	queue := make(chan sample)
	var workers sync.WaitGroup
	for range 2 * runtime.NumCPU() {
		workers.Go(func() {
			for s := range queue {
				if err := d.compare(t, audience, s); err != nil {
					t.Errorf("%s, for %s: %v", s.name, audience, err)
				}
			}
		})
	}
	for _, s := range samples {
		queue <- s
	}
	close(queue)
	workers.Wait()
}

func (d *differential) compare(t *testing.T, audience string, s sample) error {
	theirs, err := d.tryReview(t.Context(), s.token, audience)
	if err != nil {
		return err
	}
	claims, ours := d.verifiers[audience].Verify(t.Context(), s.token)
	again, oursAgain := d.verifiers[audience].Verify(t.Context(), s.token)
	if again != claims || say(oursAgain) != say(ours) {
		return fmt.Errorf("the second time we say %s: %v, and first %s: %v", say(oursAgain), again, say(ours), claims)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tokens++
	switch {
	case ours == nil && theirs.Authenticated:
		d.both++
		return compareUsers(claims, theirs)
	case ours != nil && !theirs.Authenticated:
		return nil
	}
	for i, row := range disagreements {
		if row.ours == say(ours) && row.samples.MatchString(s.name) {
			d.used[i]++
			return nil
		}
	}
	return fmt.Errorf("we say %s (%v), TokenReview %v (%s)", say(ours), ours, theirs.Authenticated, theirs.Error)
}

func compareUsers(claims kubejwt.Claims, theirs authenticationv1.TokenReviewStatus) error {
	want := theirs.DeepCopy()
	got := &authenticationv1.TokenReviewStatus{
		Authenticated: true,
		Audiences:     []string{claims.Audience},
		User:          authenticationv1.UserInfo{Username: claims.Username(), UID: claims.ServiceAccount.UID, Groups: claims.Groups()},
	}
	for key, values := range claims.Extra() {
		if got.User.Extra == nil {
			got.User.Extra = make(map[string]authenticationv1.ExtraValue)
		}
		got.User.Extra[key] = values
	}
	if diff := cmp.Diff(want, got); diff != "" {
		return fmt.Errorf("the identity differs from TokenReview's (-theirs +ours):\n%s", diff)
	}
	return nil
}
