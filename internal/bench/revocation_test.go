package bench

import (
	"context"
	"net/http"
	"runtime"
	"testing"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/internal/apiserver"
	"github.com/kubejwt/kubejwt/revocation"
)

// pods is an API server that has the objects of one token.
type pods struct{ *apiserver.Server }

func (p pods) RoundTrip(r *http.Request) (*http.Response, error) { return p.Answer(r).Response(r), nil }

// watchedVerifier is one whose Check asks a Watcher that watches the token's pod
// and service account.
func (r recording) watchedVerifier(t testing.TB) *kubejwt.Verifier {
	t.Helper()
	claims, err := r.verifier(t, 0).Verify(t.Context(), r.token)
	if err != nil {
		t.Fatal(err)
	}
	server := apiserver.New()
	account := apiserver.Key{Kind: apiserver.ServiceAccounts, Namespace: claims.Namespace, Name: claims.ServiceAccount.Name}
	server.Put(account, apiserver.Object{UID: claims.ServiceAccount.UID})
	pod := apiserver.Key{Kind: apiserver.Pods, Namespace: claims.Namespace, Name: claims.Pod.Name}
	server.Put(pod, apiserver.Object{UID: claims.Pod.UID, ServiceAccount: claims.ServiceAccount.Name})
	config := r.config(0)
	watcher, err := revocation.New(revocation.Options{
		ServiceAccounts: []string{claims.Namespace + "/" + claims.ServiceAccount.Name},
		APIServer:       "https://api.example",
		Transport:       pods{server},
		WhenStale:       revocation.Refuse,
		Logger:          config.Logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- watcher.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	config.Check = watcher.Check
	v, err := kubejwt.New(config)
	if err != nil {
		t.Fatal(err)
	}
	for watcher.Ready(t.Context()) != nil {
		runtime.Gosched() // Run has not begun
	}
	if stats := watcher.Stats(); stats.Pods != 1 || stats.ServiceAccounts != 1 {
		t.Fatalf("%+v: want one of each", stats)
	}
	return v
}
