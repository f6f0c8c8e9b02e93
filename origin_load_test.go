package kubejwt_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

// hangs are the ways in which an origin doesn't answer.
var hangs = map[string]http.HandlerFunc{
	"no answer": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	"a byte now and then": func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				io.WriteString(w, " ")
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	},
}

// waitForUnknown returns how long a caller with an unknown key waited for the
// server's answer. All the while, tokens of known keys are verified.
func waitForUnknown(t *testing.T, v *kubejwt.Verifier, server *keyServer, hang http.HandlerFunc) time.Duration {
	t.Helper()
	mint := func(header map[string]any) string {
		return server.cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}, Header: header})
	}
	mustVerify(t, v, mint(nil))
	server.answerWith(hang)
	began := time.Now()
	done := make(chan error)
	go func() {
		_, err := v.Verify(context.Background(), mint(map[string]any{"kid": "unknown"}))
		done <- err
	}()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			mustVerify(t, v, mint(nil))
		case err := <-done:
			if !errors.Is(err, kubejwt.ErrKeysUnavailable) {
				t.Error(err)
			}
			return time.Since(began)
		}
	}
}

// Nobody with a known key notices that the origin hangs, and the others go at
// ten seconds.
func TestHangingOrigin(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	for name, hang := range hangs {
		t.Run(name, func(t *testing.T) {
			server := newKeyServer(t, cluster)
			synctest.Test(t, func(t *testing.T) {
				config := server.config()
				config.Keys = kubejwt.RemoteKeys{
					DiscoveryURL:    server.URL + documentPath,
					Transport:       server.inMemory(t),
					BearerTokenFile: server.tokenFile,
				}
				v := mustNew(t, config)
				if waited := waitForUnknown(t, v, server, hang); waited != 10*time.Second {
					t.Errorf("waited for %v", waited)
				}
			})
		})
	}
}

// The same over sockets, with the built-in transport.
func TestHangingSocket(t *testing.T) {
	if !*kubejwt.Long {
		t.Skip("takes ten seconds: set -long")
	}
	cluster := kubejwttest.NewCluster(t)
	for name, hang := range hangs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newKeyServer(t, cluster)
			if waited := waitForUnknown(t, mustNew(t, server.config()), server, hang); waited < 10*time.Second {
				t.Errorf("waited for %v", waited)
			}
		})
	}
}

// Within the set's life a token of a known key takes the same time whether the
// origin is well or hangs, with callers of unknown keys waiting for it.
func BenchmarkVerifyHealthyOrigin(b *testing.B) {
	benchmarkVerify(b, func(*http.Request) {})
}

func BenchmarkVerifyHangingOrigin(b *testing.B) {
	benchmarkVerify(b, func(r *http.Request) { <-r.Context().Done() })
}

func benchmarkVerify(b *testing.B, think func(*http.Request)) {
	cluster := kubejwttest.NewCluster(b)
	server := newKeyServer(b, cluster)
	config := server.config()
	config.CacheSize = -1 // each token is verified
	v := mustNew(b, config)
	token := kubejwttest.Token{Audiences: []string{"data-store"}}
	known := cluster.Mint(token)
	mustVerify(b, v, known)

	token.Header = map[string]any{"kid": "unknown"}
	unknown := cluster.Mint(token)
	asked := make(chan struct{}, 100)
	server.answerWith(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		think(r)
	})
	ctx, cancel := context.WithCancel(b.Context())
	var waiting sync.WaitGroup
	waiting.Go(func() { v.Verify(ctx, unknown) })
	<-asked // the fetch is under way
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(ctx, known); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	cancel()
	waiting.Wait()
}
