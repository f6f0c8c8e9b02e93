package kubejwt_test

import (
	"context"
	"errors"
	"expvar"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
	"github.com/kubejwt/kubejwt/revocation"
)

// What the README and its docs show, as it stands there.

func readmeInCluster() {
	// In a pod: API server, CA, own token and issuer come from the pod. No I/O happens yet.
	v, err := kubejwt.InCluster(kubejwt.Config{
		Audiences:       []string{"data-store"},          // who we are
		ServiceAccounts: []string{"shop/api", "batch/*"}, // who may call
	})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/", v.Handler(app)) // kubejwt.FromContext(r.Context()) in app
}

// These are compiled, never run.
var _ = []any{
	readmeInCluster, readmeOnVerdict, operationsOnVerdict, operationsReady, operationsMetrics, clustersIssuer,
	revocationInCluster,
}

func readmeOnVerdict(config kubejwt.Config) {
	config.OnVerdict = func(ctx context.Context, claims kubejwt.Claims, err error) {
		slog.InfoContext(ctx, "call", "from", claims.Username(), "outcome", kubejwt.Outcome(err), "error", err)
	}
}

func operationsOnVerdict(config kubejwt.Config) {
	config.OnVerdict = func(ctx context.Context, _ kubejwt.Claims, err error) {
		if err != nil {
			slog.WarnContext(ctx, "call refused", "outcome", kubejwt.Outcome(err), "error", err)
		}
	}
}

func revocationInCluster(ctx context.Context) (*kubejwt.Verifier, error) {
	watcher, err := revocation.InCluster(revocation.Options{
		ServiceAccounts: []string{"shop/api"}, // as in kubejwt.Config
		WhenStale:       revocation.Accept,
	})
	if err != nil {
		log.Fatal(err)
	}
	go watcher.Run(ctx)
	v, err := kubejwt.InCluster(kubejwt.Config{
		Audiences:       []string{"data-store"},
		ServiceAccounts: []string{"shop/api"},
		Check:           watcher.Check,
	})
	return v, err
}

func clustersIssuer() (*kubejwt.Verifier, error) {
	v, err := kubejwt.New(kubejwt.Config{
		Issuer:          "kubernetes/serviceaccount",
		Audiences:       []string{"data-store"},
		ServiceAccounts: []string{"shop/api"},
		Keys:            kubejwt.KeyFile("/etc/kubejwt/sa.pub"),
	})
	return v, err
}

func operationsReady(mux *http.ServeMux, v *kubejwt.Verifier) {
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := v.Ready(r.Context()); err != nil {
			http.Error(w, "no keys yet", http.StatusServiceUnavailable)
		}
	})
}

func operationsMetrics(config kubejwt.Config) {
	verdicts := expvar.NewMap("verdicts")
	config.OnVerdict = func(_ context.Context, _ kubejwt.Claims, err error) {
		verdicts.Add(kubejwt.Outcome(err), 1)
	}
}

func TestEndpoint(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	v, err := kubejwt.New(cluster.Config("data-store"))
	if err != nil {
		t.Fatal(err)
	}
	good := kubejwttest.Token{Namespace: "shop", ServiceAccount: "api", Audiences: []string{"data-store"}}
	kubejwttest.TestHandler(t, v.Handler(app), cluster, good)
}

func TestEndpointWithItsOwnRequest(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	config := cluster.Config("data-store")
	config.ServiceAccounts = []string{"shop/api"}
	v, err := kubejwt.New(config)
	if err != nil {
		t.Fatal(err)
	}
	kubejwttest.HandlerTest{
		Handler: v.Handler(app),
		Cluster: cluster,
		Good:    kubejwttest.Token{Namespace: "shop", ServiceAccount: "api", Audiences: []string{"data-store"}},
		Denied:  &kubejwttest.Token{Namespace: "shop", ServiceAccount: "web", Audiences: []string{"data-store"}},
		Method:  http.MethodPost,
		Path:    "/orders",
	}.Run(t)
}

func TestMintedToken(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	v, err := kubejwt.New(cluster.Config("data-store"))
	if err != nil {
		t.Fatal(err)
	}
	token := cluster.Mint(kubejwttest.Token{
		Namespace:      "shop",
		ServiceAccount: "api",
		Audiences:      []string{"data-store"},
		Pod:            kubejwt.Object{Name: "api-0"},
		Claims:         map[string]any{"nbf": nil},
	})
	verified, err := v.Verify(t.Context(), token)
	if err != nil || verified.Pod.Name != "api-0" || !verified.NotBefore.IsZero() {
		t.Errorf("%+v, %v: want the pod api-0 and no nbf", verified, err)
	}
}

func TestHandlerWithoutToken(t *testing.T) {
	claims := kubejwt.Claims{Namespace: "shop", ServiceAccount: kubejwt.Object{Name: "api"}}
	r := httptest.NewRequestWithContext(kubejwt.NewContext(t.Context(), claims), http.MethodGet, "/", nil)
	w := httptest.NewRecorder()
	app(w, r)
	if got := w.Body.String(); got != "hello, shop/api" {
		t.Errorf("%q: want the caller's name", got)
	}
}

func TestOutage(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	synctest.Test(t, func(t *testing.T) {
		config := cluster.Config("data-store")
		config.Keys = kubejwt.RemoteKeys{Transport: cluster.Transport(), MaxStale: 6 * time.Hour}
		v, err := kubejwt.New(config)
		if err != nil {
			t.Fatal(err)
		}
		verify := func() error {
			token := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}})
			_, err := v.Verify(t.Context(), token)
			return err
		}
		if err := verify(); err != nil {
			t.Fatal(err)
		}
		cluster.SetAvailable(false)
		time.Sleep(5 * time.Hour)
		if err := verify(); err != nil {
			t.Errorf("after 5 hours: %v", err)
		}
		time.Sleep(2 * time.Hour)
		if err := verify(); !errors.Is(err, kubejwt.ErrKeysUnavailable) {
			t.Errorf("after 7 hours: %v, want ErrKeysUnavailable", err)
		}
	})
}

func TestDeletedPod(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	synctest.Test(t, func(t *testing.T) {
		config := cluster.Config("data-store")
		watcher, err := revocation.New(revocation.Options{
			ServiceAccounts: []string{"shop/api"},
			APIServer:       config.Issuer,
			Transport:       cluster.Transport(),
			WhenStale:       revocation.Accept,
		})
		if err != nil {
			t.Fatal(err)
		}
		go watcher.Run(t.Context())
		if err := watcher.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		config.Keys = kubejwt.RemoteKeys{Transport: cluster.Transport()}
		config.Check = watcher.Check
		v, err := kubejwt.New(config)
		if err != nil {
			t.Fatal(err)
		}
		token := cluster.Mint(kubejwttest.Token{
			Namespace: "shop", ServiceAccount: "api", Audiences: []string{"data-store"},
			Pod: kubejwt.Object{Name: "api-0"},
		})
		if _, err := v.Verify(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		cluster.DeletePod("shop", "api-0")
		synctest.Wait()
		if _, err := v.Verify(t.Context(), token); kubejwt.Outcome(err) != "revoked" {
			t.Errorf("%v, want revoked", err)
		}
	})
}
