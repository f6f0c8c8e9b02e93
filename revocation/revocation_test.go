package revocation_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
	"github.com/kubejwt/kubejwt/revocation"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// A service is a Verifier beside a running Watcher, in a synctest bubble.
type service struct {
	*testing.T
	*kubejwttest.Cluster
	watcher  *revocation.Watcher
	verifier *kubejwt.Verifier
}

// inBubble runs a test beside a cluster that was made outside of the bubble.
func inBubble(t *testing.T, options revocation.Options, test func(service)) {
	t.Helper()
	c := kubejwttest.NewCluster(t)
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, c, options)
		defer s.run()()
		synctest.Wait()
		test(s)
	})
}

func newService(t *testing.T, c *kubejwttest.Cluster, options revocation.Options) service {
	t.Helper()
	config := c.Config("test")
	options.APIServer = config.Issuer
	if options.Transport == nil {
		options.Transport = c.Transport()
	}
	if options.ServiceAccounts == nil {
		options.ServiceAccounts = []string{"shop/api"}
	}
	if options.WhenStale == 0 {
		options.WhenStale = revocation.Refuse
	}
	watcher, err := revocation.New(options)
	if err != nil {
		t.Fatal(err)
	}
	if config.Keys, err = kubejwt.ParsePublicKeys(c.PublicKeysPEM()); err != nil {
		t.Fatal(err)
	}
	config.Check = watcher.Check
	config.MaxLifetime = -1
	verifier, err := kubejwt.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return service{t, c, watcher, verifier}
}

// run starts Run. The func ends it, and waits until it has ended.
func (s service) run() (end func()) {
	ctx, cancel := context.WithCancel(s.Context())
	ended := make(chan error)
	go func() { ended <- s.watcher.Run(ctx) }()
	return func() {
		s.Helper()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			s.Errorf("Run returned %v: want the context's error", err)
		}
	}
}

// expect verifies a token, twice: the second time it is remembered.
func (s service) expect(what, token, want string) {
	s.Helper()
	for range 2 {
		if _, err := s.verifier.Verify(s.Context(), token); kubejwt.Outcome(err) != want {
			s.Errorf("%s: %v: want %s", what, err, want)
		}
	}
}

const (
	accepted  = "accepted"
	revoked   = "revoked"
	undecided = "undecided"
)

// ofPod is a token of shop/api, bound to a pod of this name.
func ofPod(name string) kubejwttest.Token {
	return kubejwttest.Token{
		Namespace: "shop", ServiceAccount: "api", Lifetime: 24 * time.Hour,
		Pod: kubejwt.Object{Name: name}, Node: kubejwt.Object{Name: "node-1"},
	}
}

func TestDeletedMeansRefused(t *testing.T) {
	inBubble(t, revocation.Options{}, func(s service) {
		leaving, staying := s.Mint(ofPod("leaving")), s.Mint(ofPod("staying"))
		synctest.Wait()
		s.expect("a pod that is there", leaving, accepted)
		s.DeletePod("shop", "leaving")
		synctest.Wait()
		s.expect("a pod that is gone", leaving, revoked)
		s.expect("the other pod", staying, accepted)
		s.expect("a pod of the same name, made later", s.Mint(ofPod("leaving")), accepted)
		s.expect("the first of this name", leaving, revoked)
		s.DeleteServiceAccount("shop", "api")
		synctest.Wait()
		s.expect("a service account that is gone", staying, revoked)
		again := s.Mint(ofPod("staying"))
		synctest.Wait()
		s.expect("a service account of the same name, made later", again, accepted)
		s.expect("the first of this name", staying, revoked)
		for range 100 {
			time.Sleep(10 * time.Minute)
			s.expect("long afterwards", leaving, revoked)
			s.expect("long afterwards", again, accepted)
		}
	})
}
