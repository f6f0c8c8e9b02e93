package revocation_test

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/internal/testlog"
	"github.com/kubejwt/kubejwt/kubejwttest"
	"github.com/kubejwt/kubejwt/revocation"
)

// roundTrip is a Transport that changes what a cluster's does.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// withoutWatchList is a Transport to an API server without WatchList, as 1.33 is.
func withoutWatchList(inner http.RoundTripper) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.URL.Query().Get("sendInitialEvents") != "" {
			return answer(r, http.StatusUnprocessableEntity, nil), nil
		}
		return inner.RoundTrip(r)
	})
}

// withWatchList leaves a Transport as it is.
func withWatchList(inner http.RoundTripper) http.RoundTripper { return inner }

func answer(r *http.Request, code int, header http.Header) *http.Response {
	return &http.Response{StatusCode: code, Header: header, Body: io.NopCloser(strings.NewReader(`{"kind":"Status"}`)), Request: r}
}

// A logBuffer is a Logger's output.
type logBuffer struct{ testlog.Buffer }

func (b *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

func TestOptions(t *testing.T) {
	c := kubejwttest.NewCluster(t)
	good := revocation.Options{ServiceAccounts: []string{"shop/api"}, APIServer: c.Config("x").Issuer, Transport: c.Transport(), WhenStale: revocation.Accept}
	for _, tt := range []struct {
		name   string
		change func(*revocation.Options)
		want   string // in the error; "" if there is none
	}{
		{"good", func(*revocation.Options) {}, ""},
		{"Refuse", func(o *revocation.Options) { o.WhenStale = revocation.Refuse }, ""},
		{"two minutes", func(o *revocation.Options) { o.MaxStale = 2 * time.Minute }, ""},
		{"every kind of account", func(o *revocation.Options) { o.ServiceAccounts = []string{"a/b.c", "a/*", "*"} }, ""},
		{"no accounts", func(o *revocation.Options) { o.ServiceAccounts = nil }, "Options.ServiceAccounts: is required"},
		{"a pattern", func(o *revocation.Options) { o.ServiceAccounts = []string{"shop/a*"} }, `"shop/a*" is not`},
		{"all namespaces", func(o *revocation.Options) { o.ServiceAccounts = []string{"*/*"} }, `"*/*" is not`},
		{"a selector", func(o *revocation.Options) { o.ServiceAccounts = []string{"shop/a,metadata.name=b"} }, "is not"},
		{"a path", func(o *revocation.Options) { o.ServiceAccounts = []string{"shop/../api"} }, "is not"},
		{"a dotted namespace", func(o *revocation.Options) { o.ServiceAccounts = []string{"sh.op/api"} }, "is not"},
		{"no name", func(o *revocation.Options) { o.ServiceAccounts = []string{"shop/"} }, "is not"},
		{"no WhenStale", func(o *revocation.Options) { o.WhenStale = 0 }, "Options.WhenStale: is required"},
		{"another WhenStale", func(o *revocation.Options) { o.WhenStale = 3 }, "Options.WhenStale"},
		{"under two minutes", func(o *revocation.Options) { o.MaxStale = 2*time.Minute - 1 }, "Options.MaxStale: 1m59.999999999s is less than 2m0s"},
		{"negative", func(o *revocation.Options) { o.MaxStale = -1 }, "Options.MaxStale"},
		{"no APIServer", func(o *revocation.Options) { o.APIServer = "" }, "Options.APIServer: is required"},
		{"plain http", func(o *revocation.Options) { o.APIServer = "http://api.example" }, "Options.APIServer: want https"},
		{"two roots", func(o *revocation.Options) { o.CAFile = "ca.crt" }, "Options.CAFile and Options.Transport"},
	} {
		options := good
		tt.change(&options)
		_, err := revocation.New(options)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v: want %q", tt.name, err, tt.want)
		}
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if _, err := revocation.InCluster(good); !errors.Is(err, kubejwt.ErrNotInCluster) ||
		!strings.Contains(err.Error(), "or use New with APIServer, CAFile and BearerTokenFile") {
		t.Errorf("outside a pod: %v: want to hear of New's options", err)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	if _, err := revocation.InCluster(good); err != nil {
		t.Errorf("in a pod: %v", err)
	}
}

// A Run that was forgotten, or has ended, is no silent hole.
func TestNotRunning(t *testing.T) {
	for _, when := range []revocation.Stale{revocation.Accept, revocation.Refuse} {
		c := kubejwttest.NewCluster(t)
		synctest.Test(t, func(t *testing.T) {
			var log logBuffer
			s := newService(t, c, revocation.Options{WhenStale: when, Logger: log.logger()})
			token := s.Mint(ofPod("a"))
			s.expect("before Run", token, undecided)
			if err := s.watcher.Ready(t.Context()); !errors.Is(err, kubejwt.ErrUndecided) {
				t.Errorf("Ready before Run: %v", err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- s.watcher.Run(ctx) }()
			synctest.Wait()
			s.expect("during Run", token, accepted)
			if err := s.watcher.Ready(t.Context()); err != nil {
				t.Errorf("Ready during Run: %v", err)
			}
			if err := s.watcher.Run(ctx); err == nil {
				t.Error("a second Run is no error")
			}
			s.expect("after a second Run", token, accepted)
			cancel()
			<-ended
			s.expect("after Run", token, undecided)
			if err := s.watcher.Ready(t.Context()); !errors.Is(err, kubejwt.ErrUndecided) {
				t.Errorf("Ready after Run: %v", err)
			}
			if err := s.watcher.Run(t.Context()); err == nil {
				t.Error("a Run after the end is no error")
			}
			if stats := s.watcher.Stats(); stats.Failures != 0 || log.String() != "" {
				t.Errorf("that Run ends is no failure: %+v, logged: %s", stats, log.String())
			}
		})
	}
}

// "go w.Run(ctx)" and then Ready is how people start a Watcher: Ready waits for Run to
// begin. It does not wait for one that was forgotten, or whose caller gives up.
func TestReadyAwaitsRun(t *testing.T) {
	c := kubejwttest.NewCluster(t)
	for _, tt := range []struct {
		name             string
		runAfter, giveUp time.Duration
		waits            time.Duration
		err              string
	}{
		{"before Run", time.Second, time.Minute, time.Second, ""},
		{"a forgotten Run", time.Hour, time.Minute, 10 * time.Second, "Run has not been called"},
		{"a caller who gives up", time.Hour, time.Second, time.Second, "Run has not been called"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newService(t, c, revocation.Options{})
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() {
				time.Sleep(tt.runAfter)
				ended <- s.watcher.Run(ctx)
			}()
			waited, err := awaitReady(t, s.watcher, tt.giveUp)
			if waited != tt.waits {
				t.Errorf("%s: Ready waited %v: want %v", tt.name, waited, tt.waits)
			}
			if tt.err == "" && err != nil || tt.err != "" && (!errors.Is(err, kubejwt.ErrUndecided) || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("%s: %v: want %q", tt.name, err, tt.err)
			}
			cancel()
			<-ended
			if waited, err := awaitReady(t, s.watcher, time.Hour); !strings.Contains(errText(err), "Run has ended") || waited != 0 {
				t.Errorf("%s: after Run: %v after %v", tt.name, err, waited)
			}
		})
	}
}

// awaitReady calls Ready for a caller who gives up after so long.
func awaitReady(t *testing.T, w *revocation.Watcher, giveUp time.Duration) (waited time.Duration, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), giveUp)
	defer cancel()
	start := time.Now()
	err = w.Ready(ctx)
	return time.Since(start), err
}

// Without a list there is no Ready, whoever gives up first.
func TestReadyWithoutAList(t *testing.T) {
	c := kubejwttest.NewCluster(t)
	for _, tt := range []struct {
		name        string
		run, giveUp time.Duration
		waits       time.Duration
		err         string
	}{
		{"Run ends", time.Second, time.Minute, time.Second, ""},
		{"the caller gives up", time.Minute, time.Second, time.Second, "pods in shop with spec.serviceAccountName=api: no list yet"},
		{"the API server is silent", time.Minute, time.Minute, 10 * time.Second, "pods in shop with spec.serviceAccountName=api: no list yet"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newService(t, c, revocation.Options{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				<-r.Context().Done()
				return nil, r.Context().Err()
			})})
			ctx, cancel := context.WithTimeout(t.Context(), tt.run)
			defer cancel()
			ended := make(chan error)
			go func() { ended <- s.watcher.Run(ctx) }()
			waited, err := awaitReady(t, s.watcher, tt.giveUp)
			if !errors.Is(err, kubejwt.ErrUndecided) || !strings.HasSuffix(err.Error(), tt.err) || waited != tt.waits {
				t.Errorf("%s: %v after %v: want %q after %v", tt.name, err, waited, tt.err, tt.waits)
			}
			cancel()
			<-ended
		})
	}
}

// A Watcher that New did not make can't run. Where the error of New was not looked at,
// it is nil.
func TestWatcherOfNobody(t *testing.T) {
	for name, w := range map[string]*revocation.Watcher{"zero": new(revocation.Watcher), "nil": nil} {
		if err := w.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "New") {
			t.Errorf("%s: Run: %v: want to hear of New", name, err)
		}
		if err := w.Check(kubejwt.Claims{}); !errors.Is(err, kubejwt.ErrUndecided) {
			t.Errorf("%s: Check: %v", name, err)
		}
		if err := w.Ready(t.Context()); !errors.Is(err, kubejwt.ErrUndecided) {
			t.Errorf("%s: Ready: %v", name, err)
		}
		if got := w.Stats(); got != (revocation.Stats{}) {
			t.Errorf("%s: Stats: %+v", name, got)
		}
	}
}

// A Transport that panics ends an attempt, and not the process.
func TestTransportThatPanics(t *testing.T) {
	var panics atomic.Bool
	c := kubejwttest.NewCluster(t)
	inner := c.Transport()
	transport := roundTrip(func(r *http.Request) (*http.Response, error) {
		if panics.Load() {
			panic("secret")
		}
		return inner.RoundTrip(r)
	})
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		s := newService(t, c, revocation.Options{Transport: transport, Logger: log.logger()})
		panics.Store(true)
		defer s.run()()
		token := s.Mint(ofPod("a"))
		time.Sleep(time.Minute)
		if err := s.watcher.Stats().LastError; err == nil || !strings.Contains(err.Error(), "panicked with a string") {
			t.Errorf("LastError: %v", err)
		}
		if strings.Contains(log.String(), "secret") {
			t.Errorf("the log has what came with the panic: %s", log.String())
		}
		panics.Store(false)
		time.Sleep(71 * time.Second)
		s.DeletePod("shop", "a")
		synctest.Wait()
		s.expect("deleted when it no longer panics", token, revoked)
	})
}

// A Transport that ignores the end of its context holds Run up, and no more.
func TestTransportThatHangs(t *testing.T) {
	c := kubejwttest.NewCluster(t)
	var release chan bool
	transport := roundTrip(func(*http.Request) (*http.Response, error) {
		<-release
		return nil, errors.New("late")
	})
	synctest.Test(t, func(t *testing.T) {
		release = make(chan bool)
		s := newService(t, c, revocation.Options{Transport: transport})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.watcher.Run(ctx) }()
		synctest.Wait()
		token := s.Mint(ofPod("a"))
		s.expect("before the first list", token, accepted)
		cancel()
		synctest.Wait()
		s.expect("when the context has ended", token, undecided)
		start := time.Now()
		if err := s.watcher.Ready(t.Context()); !strings.Contains(errText(err), "Run has ended") || time.Since(start) != 0 {
			t.Errorf("Ready when the context has ended: %v after %v: want to hear of it at once", err, time.Since(start))
		}
		select {
		case err := <-ended:
			t.Errorf("Run has ended before its goroutines: %v", err)
		default:
		}
		close(release)
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
}

// The log is calm: streams end all the time, and an outage is told of once.
func TestLogIsCalm(t *testing.T) {
	var log logBuffer
	inBubble(t, revocation.Options{Logger: log.logger()}, func(s service) {
		since := func() (lines int, text string) {
			synctest.Wait()
			defer log.Reset()
			text = log.String()
			return strings.Count(text, "\n"), text
		}
		outage := func() {
			s.CutWatches()
			time.Sleep(15 * time.Second) // so that no stream is brief
			since()
			s.SetAvailable(false)
		}
		s.Mint(ofPod("a"))
		time.Sleep(3 * time.Hour) // all is silent, and a new stream begins each 90 s
		for range 180 {
			time.Sleep(time.Minute)
			s.Mint(ofPod("b"))
			s.DeletePod("shop", "b")
		}
		if lines, text := since(); lines > 0 {
			s.Errorf("nothing is wrong, and the log has:\n%s", text)
		}
		outage()
		time.Sleep(3 * time.Hour)
		if lines, text := since(); lines != 2 || strings.Count(text, "level=WARN") != 2 {
			s.Errorf("in an outage, want a line of each of two streams:\n%s", text)
		}
		s.SetAvailable(true)
		time.Sleep(71 * time.Second)
		if lines, text := since(); lines != 2 || strings.Count(text, "level=INFO") != 2 {
			s.Errorf("after it, want a line of each of two streams:\n%s", text)
		}
		time.Sleep(3 * time.Hour)
		if lines, text := since(); lines > 0 {
			s.Errorf("all is well again, and the log has:\n%s", text)
		}
		outage()
		time.Sleep(3 * time.Hour)
		if lines, text := since(); lines != 2 || strings.Count(text, "level=WARN") != 2 {
			s.Errorf("in the same outage again, want a line of each of two streams:\n%s", text)
		}
	})
}

// A list without a watch is no recovery.
func TestLogOfAWatchThatIsRefused(t *testing.T) {
	var log logBuffer
	c := kubejwttest.NewCluster(t)
	inner := c.Transport()
	transport := withoutWatchList(roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.URL.Query().Get("watch") != "" {
			return answer(r, http.StatusForbidden, nil), nil
		}
		return inner.RoundTrip(r)
	}))
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, c, revocation.Options{Logger: log.logger(), Transport: transport})
		defer s.run()()
		time.Sleep(3 * time.Hour)
		if stats := s.watcher.Stats(); stats.Lists < 100 {
			t.Errorf("%+v: want many lists", stats)
		}
		if text := log.String(); strings.Count(text, "level=") != 2 || strings.Count(text, "level=WARN") != 2 {
			t.Errorf("want a line of each of two streams:\n%.1000s", text)
		}
	})
}

func TestWhatIsNotWatched(t *testing.T) {
	var log logBuffer
	inBubble(t, revocation.Options{ServiceAccounts: []string{"shop/api"}, Logger: log.logger()}, func(s service) {
		of := func(change func(*kubejwttest.Token)) string {
			token := ofPod("a")
			change(&token)
			defer synctest.Wait()
			return s.Mint(token)
		}
		for _, tt := range []struct {
			name, token, want string
			warning           string
		}{
			{"a watched account", of(func(*kubejwttest.Token) {}), accepted, ""},
			{"another account", of(func(t *kubejwttest.Token) { t.ServiceAccount, t.Pod.Name = "web", "web" }), undecided, "serviceAccount=shop/web"},
			{"another namespace", of(func(t *kubejwttest.Token) { t.Namespace = "prod" }), undecided, ""},
			{"bound to a secret", of(func(t *kubejwttest.Token) {
				t.Pod, t.Node, t.Secret = kubejwt.Object{}, kubejwt.Object{}, kubejwt.Object{Name: "s"}
			}), undecided, "bound to a secret or a node"},
			{"bound to a node", of(func(t *kubejwttest.Token) { t.Pod = kubejwt.Object{} }), undecided, ""},
			{"bound to a pod without a node", of(func(t *kubejwttest.Token) { t.Node = kubejwt.Object{} }), accepted, ""},
			{"bound to nothing", of(func(t *kubejwttest.Token) {
				t.Pod, t.Node = kubejwt.Object{}, kubejwt.Object{}
				t.Claims = map[string]any{"kubernetes.io": map[string]any{"namespace": "shop", "serviceaccount": s.account("shop", "api")}}
			}), accepted, ""},
		} {
			before := len(log.String())
			s.expect(tt.name, tt.token, tt.want)
			if logged := log.String()[before:]; tt.warning != "" && !strings.Contains(logged, tt.warning) || tt.warning == "" && logged != "" {
				s.Errorf("%s: logged %q: want %q", tt.name, logged, tt.warning)
			}
		}
	})
}

// account is the claim of a service account as the cluster writes it.
func (s service) account(namespace, name string) map[string]any {
	s.Helper()
	v, err := kubejwt.New(kubejwt.Config{Issuer: s.Config("x").Issuer, Audiences: []string{"test"}, ServiceAccounts: []string{"*"},
		Keys: kubejwt.RemoteKeys{Transport: s.Transport()}})
	if err != nil {
		s.Fatal(err)
	}
	claims, err := v.Verify(s.Context(), s.Mint(kubejwttest.Token{Namespace: namespace, ServiceAccount: name}))
	if err != nil {
		s.Fatal(err)
	}
	return map[string]any{"name": name, "uid": claims.ServiceAccount.UID}
}

// A warning a minute is enough, however many requests come.
func TestWarningsAreBounded(t *testing.T) {
	var log logBuffer
	inBubble(t, revocation.Options{Logger: log.logger()}, func(s service) {
		token := ofPod("a")
		token.Namespace = "prod"
		other := s.Mint(token)
		for range 1021 { // the first after 1 s
			time.Sleep(time.Second)
			s.expect("another namespace", other, undecided)
		}
		if got := strings.Count(log.String(), "not watched"); got != 18 {
			s.Errorf("%d warnings in 1020 s: want one a minute", got)
		}
	})
}

// hangingLog is a Logger that blocks until it is released.
type hangingLog struct {
	slog.Handler
	release chan bool
}

func (h hangingLog) Enabled(context.Context, slog.Level) bool  { return true }
func (h hangingLog) Handle(context.Context, slog.Record) error { <-h.release; return nil }

// A log that hangs holds up neither callers nor streams.
func TestLogThatHangs(t *testing.T) {
	var broken atomic.Bool
	c := kubejwttest.NewCluster(t)
	inner := c.Transport()
	transport := roundTrip(func(r *http.Request) (*http.Response, error) {
		if broken.Load() {
			return nil, errors.New("broken")
		}
		return inner.RoundTrip(r)
	})
	synctest.Test(t, func(t *testing.T) {
		log := hangingLog{slog.DiscardHandler, make(chan bool)}
		defer close(log.release)
		s := newService(t, c, revocation.Options{Logger: slog.New(log), Transport: transport})
		defer s.run()()
		outside := ofPod("a")
		outside.Namespace = "prod"
		other, leaving := s.Mint(outside), s.Mint(ofPod("leaving"))
		synctest.Wait()
		began := time.Now()
		s.expect("another namespace", other, undecided)
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("a caller waits for %v", took)
		}
		broken.Store(true)
		s.CutWatches()
		time.Sleep(time.Second)
		s.DeletePod("shop", "leaving")
		broken.Store(false)
		time.Sleep(71 * time.Second) // its turn comes within 70 s
		s.expect("a pod that was deleted while the log hung", leaving, revoked)
	})
}

// 401, 403 and 404 say that somebody forgot something. In either mode no token
// passes then, and the log has the role to apply.
func TestDenied(t *testing.T) {
	for _, when := range []revocation.Stale{revocation.Accept, revocation.Refuse} {
		for _, code := range []int{401, 403, 404} {
			var log logBuffer
			var denied, broken atomic.Bool
			c := kubejwttest.NewCluster(t)
			inner := c.Transport()
			transport := roundTrip(func(r *http.Request) (*http.Response, error) {
				switch {
				case denied.Load() && strings.Contains(r.URL.Path, "/pods"):
					return answer(r, code, nil), nil
				case broken.Load():
					return nil, errors.New("broken")
				}
				return inner.RoundTrip(r)
			})
			denied.Store(true)
			synctest.Test(t, func(t *testing.T) {
				s := newService(t, c, revocation.Options{WhenStale: when, Transport: transport, Logger: log.logger(), ServiceAccounts: []string{"shop/api", "shop/web"}})
				defer s.run()()
				token := s.Mint(ofPod("a"))
				synctest.Wait()
				s.expect("refused by the API server", token, undecided)
				if err := s.watcher.Ready(t.Context()); !errors.Is(err, kubejwt.ErrUndecided) {
					t.Errorf("Ready: %v", err)
				}
				for _, want := range []string{
					"level=WARN", "so that no token is accepted", "kind: Role", "namespace: shop", "resources: [pods]", "verbs: [list, watch]", "resourceNames: [api, web]",
				} {
					if !strings.Contains(log.String(), want) {
						t.Errorf("the log lacks %q: %s", want, log.String())
					}
				}
				denied.Store(false)
				broken.Store(true)
				time.Sleep(time.Hour)
				s.expect("then it breaks", s.Mint(ofPod("a")), undecided)
				broken.Store(false)
				time.Sleep(71 * time.Second)
				s.expect("then it answers", s.Mint(ofPod("a")), accepted)
				if err := s.watcher.Ready(t.Context()); err != nil {
					t.Errorf("Ready: %v", err)
				}
				denied.Store(true)
				s.CutWatches()
				time.Sleep(time.Second)
				s.expect("refused after the first list", token, accepted)
				time.Sleep(3 * time.Second)
				if _, again, _ := strings.Cut(log.String(), "level=INFO"); !strings.Contains(again, "deletions are no longer seen") || !strings.Contains(again, "kind: Role") {
					t.Errorf("the role is not told when it is withdrawn: %s", again)
				}
				if got := strings.Count(log.String(), "kind: Role"); got > 4 {
					t.Errorf("the role is told %d times", got)
				}
			})
		}
	}
}

// While the API server is away, what is known to be gone stays so; the rest is
// as the user chose, once the evidence is old.
func TestStale(t *testing.T) {
	for when, want := range map[revocation.Stale]string{revocation.Accept: accepted, revocation.Refuse: undecided} {
		inBubble(t, revocation.Options{WhenStale: when, MaxStale: 10 * time.Minute}, func(s service) {
			gone, there, unseen := s.Mint(ofPod("gone")), s.Mint(ofPod("there")), s.Mint(ofPod("unseen"))
			synctest.Wait()
			s.DeletePod("shop", "gone")
			synctest.Wait()
			s.SetAvailable(false)
			s.DeletePod("shop", "unseen")
			time.Sleep(10 * time.Minute)
			s.expect("gone, after 10 min", gone, revoked)
			s.expect("there, after 10 min", there, accepted)
			s.expect("deleted meanwhile, after 10 min", unseen, accepted)
			if err := s.watcher.Ready(s.Context()); err != nil {
				s.Errorf("Ready after 10 min: %v", err)
			}
			time.Sleep(time.Nanosecond)
			s.expect("gone, after more", gone, revoked)
			s.expect("there, after more", there, want)
			s.expect("deleted meanwhile, after more", unseen, want)
			s.expect("one that was issued just now", s.Mint(ofPod("new")), accepted)
			if err := s.watcher.Ready(s.Context()); !errors.Is(err, kubejwt.ErrUndecided) {
				s.Errorf("Ready after more: %v", err)
			}
			if stats := s.watcher.Stats(); stats.LastError == nil || stats.Failures == 0 {
				s.Errorf("%+v: want failures", stats)
			}
			s.SetAvailable(true)
			back := time.Now()
			time.Sleep(71 * time.Second)
			s.expect("gone, when it is back", gone, revoked)
			s.expect("there, when it is back", there, accepted)
			s.expect("deleted meanwhile, when it is back", unseen, revoked)
			if stats := s.watcher.Stats(); stats.LastError != nil || stats.AsOf.Before(back) {
				s.Errorf("%+v: want no error, and lists since %v", stats, back)
			}
		})
	}
}

// Before the first list the evidence is that of the token itself.
func TestBeforeTheFirstList(t *testing.T) {
	for when, want := range map[revocation.Stale]string{revocation.Accept: accepted, revocation.Refuse: undecided} {
		c := kubejwttest.NewCluster(t)
		synctest.Test(t, func(t *testing.T) {
			s := newService(t, c, revocation.Options{WhenStale: when, Transport: roundTrip(func(*http.Request) (*http.Response, error) {
				return nil, errors.New("broken")
			})})
			token := s.Mint(ofPod("a"))
			defer s.run()()
			synctest.Wait()
			s.expect("issued just now", token, accepted)
			if err := s.watcher.Ready(t.Context()); !errors.Is(err, kubejwt.ErrUndecided) || !strings.Contains(err.Error(), "broken") {
				t.Errorf("Ready: %v", err)
			}
			time.Sleep(6 * time.Minute)
			s.expect("issued 6 min ago", token, want)
		})
	}
}

func TestTerminating(t *testing.T) {
	inBubble(t, revocation.Options{}, func(s service) {
		token := s.Mint(ofPod("a"))
		s.TerminatePod("shop", "a", 30*time.Second)
		synctest.Wait()
		time.Sleep(90 * time.Second)
		s.expect("60 s after its deletionTimestamp", token, accepted)
		time.Sleep(time.Second)
		s.expect("61 s after it", token, revoked)
		s.TerminatePod("shop", "a", time.Hour)
		synctest.Wait()
		s.expect("given more time", token, accepted)
		s.DeletePod("shop", "a")
		synctest.Wait()
		s.expect("removed", token, revoked)
	})
}

// A stream that says nothing is replaced after 90 s.
func TestSilence(t *testing.T) {
	inBubble(t, revocation.Options{}, func(s service) {
		token := s.Mint(ofPod("a"))
		synctest.Wait()
		s.SilenceWatches(true)
		s.DeletePod("shop", "a")
		time.Sleep(85 * time.Second)
		s.expect("after 85 s of silence", token, accepted)
		time.Sleep(7 * time.Second)
		s.expect("after 92 s of silence", token, revoked)
	})
}

// A stream that tells of nothing is kept by its bookmarks, and what is known is fresh.
func TestBookmarksKeepAStream(t *testing.T) {
	for name, with := range map[string]func(http.RoundTripper) http.RoundTripper{
		"WatchList": withWatchList, "no WatchList": withoutWatchList,
	} {
		c := kubejwttest.NewCluster(t)
		synctest.Test(t, func(t *testing.T) {
			s := newService(t, c, revocation.Options{Transport: with(c.Transport())})
			defer s.run()()
			synctest.Wait()
			for range 25 { // API servers end each stream after 30 min or more
				c.Mint(kubejwttest.Token{Namespace: "prod", ServiceAccount: "api", Pod: kubejwt.Object{Name: "a"}})
				time.Sleep(time.Minute)
				c.DeletePod("prod", "a")
			}
			stats := s.watcher.Stats()
			if stats.Lists != 2 || stats.Failures != 0 || time.Since(stats.AsOf) > time.Minute {
				t.Errorf("%s: after %v, %+v: want two lists, and to have heard within a minute", name, time.Since(stats.AsOf), stats)
			}
		})
	}
}

func TestStats(t *testing.T) {
	inBubble(t, revocation.Options{}, func(s service) {
		for _, tt := range []struct {
			name    string
			happens func()
			want    revocation.Stats // AsOf apart
			asOf    time.Duration    // ago
		}{
			{"two pods", func() { s.Mint(ofPod("a")); s.Mint(ofPod("b")) },
				revocation.Stats{Pods: 2, ServiceAccounts: 1, Lists: 2, Events: 3}, 0},
			{"one of them goes", func() { s.DeletePod("shop", "a") },
				revocation.Stats{Pods: 1, ServiceAccounts: 1, Gone: 1, Lists: 2, Events: 4}, 10 * time.Second},
			{"their service account goes", func() { s.DeleteServiceAccount("shop", "api") },
				revocation.Stats{Pods: 1, Gone: 2, Lists: 2, Events: 5}, 10 * time.Second},
		} {
			time.Sleep(10 * time.Second)
			tt.happens()
			synctest.Wait()
			got := s.watcher.Stats()
			tt.want.AsOf = time.Now().Add(-tt.asOf)
			if !got.AsOf.Equal(tt.want.AsOf) {
				s.Errorf("%s: as of %v: want %v", tt.name, got.AsOf, tt.want.AsOf)
			}
			if got.AsOf = tt.want.AsOf; got != tt.want {
				s.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
			}
		}
		s.SetAvailable(false)
		synctest.Wait()
		if stats := s.watcher.Stats(); stats.Failures != 2 || stats.LastError == nil {
			s.Errorf("cut off: %+v: want two failures, and why", stats)
		}
	})
}

func TestCut(t *testing.T) {
	inBubble(t, revocation.Options{}, func(s service) {
		for range 20 {
			token := s.Mint(ofPod("a"))
			synctest.Wait()
			s.CutWatches()
			s.DeletePod("shop", "a")
			s.expect("at once", token, accepted)
			time.Sleep(time.Second)
			synctest.Wait()
			s.expect("a second later", token, revoked)
			time.Sleep(time.Minute)
		}
	})
}

// A stream that breaks is tried twice soon, and then each 70 s, all streams at
// once; each 30 s while the list was never granted. Retry-After is heeded.
func TestWhenItIsTried(t *testing.T) {
	const second = time.Second
	soon := [][2]time.Duration{{0, second}, {second / 5, 2*second + second/5}, {second / 5, 70 * second}}
	// A turn that is less than 0.2 s ahead is taken 0.2 s later.
	turns := func(every time.Duration) [][2]time.Duration {
		return [][2]time.Duration{{every - second/5, every}, {every, every}, {every, every}}
	}
	for _, tt := range []struct {
		name   string
		code   int // of the answers; 0: none
		header http.Header
		listed bool
		want   [][2]time.Duration // from attempt to attempt
	}{
		{"away", 0, nil, true, slices.Concat(soon, turns(70*second))},
		{"answers with 500", 500, nil, true, slices.Concat(soon, turns(70*second))},
		{"withdrawn", 403, nil, true, slices.Concat(soon, turns(70*second))},
		{"never granted", 403, nil, false, slices.Concat([][2]time.Duration{soon[1], {second / 5, 30 * second}}, turns(30*second))},
		{"no role", 404, nil, false, slices.Concat([][2]time.Duration{soon[1], {second / 5, 30 * second}}, turns(30*second))},
		{"never there", 0, nil, false, slices.Concat(soon[1:], turns(70*second))},
		{"Retry-After", 429, http.Header{"Retry-After": {"20"}}, true, [][2]time.Duration{{0, second}, {20 * second, 21 * second}, {20 * second, 70 * second}}},
		{"a Retry-After too long", 503, http.Header{"Retry-After": {"100000"}}, true, [][2]time.Duration{{0, second}, {70 * second, 70 * second}, {70 * second, 70 * second}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := kubejwttest.NewCluster(t)
			inner := c.Transport()
			var broken atomic.Bool
			var mu sync.Mutex
			var start time.Time
			tries := make(map[string][]time.Duration)
			options := revocation.Options{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				if !broken.Load() {
					return inner.RoundTrip(r)
				}
				mu.Lock()
				tries[r.URL.Path] = append(tries[r.URL.Path], time.Since(start))
				mu.Unlock()
				if tt.code == 0 {
					return nil, errors.New("connection refused")
				}
				return answer(r, tt.code, tt.header), nil
			})}
			synctest.Test(t, func(t *testing.T) {
				s := newService(t, c, options)
				broken.Store(!tt.listed)
				start = time.Now()
				defer s.run()()
				synctest.Wait()
				if tt.listed {
					time.Sleep(time.Minute)
					broken.Store(true)
					mu.Lock()
					start = time.Now()
					mu.Unlock()
					s.CutWatches()
				}
				time.Sleep(8 * time.Minute)
				mu.Lock()
				defer mu.Unlock()
				for path, at := range tries {
					var last time.Duration
					if !tt.listed { // the first attempt is at once
						last, at = at[0], at[1:]
					}
					for i, want := range tt.want {
						if took := at[i] - last; took < want[0] || took > want[1] {
							t.Errorf("%s, attempt %d comes %v after the last: want %v", path, i, took, want)
						}
						last = at[i]
					}
				}
				ends := func(path string) time.Duration { return tries[path][len(tries[path])-1] }
				if pods, accounts := ends("/api/v1/namespaces/shop/pods"), ends("/api/v1/namespaces/shop/serviceaccounts"); tt.header == nil && pods != accounts {
					t.Errorf("the last attempts are at %v and %v: want the same time", pods, accounts)
				}
			})
		})
	}
}

// A pod that was never seen is refused once the view is a minute younger than
// its token.
func TestNeverSeen(t *testing.T) {
	inBubble(t, revocation.Options{}, func(s service) {
		s.CutWatches()
		token := s.Mint(ofPod("a"))
		s.DeletePod("shop", "a")
		time.Sleep(2 * time.Second)
		s.expect("after 2 s", token, accepted)
		time.Sleep(160 * time.Second)
		s.expect("after Q + G and more", token, revoked)
	})
}

// Without WatchList, as in 1.33, a list in pages does, and a watch from there.
func TestWithoutWatchList(t *testing.T) {
	c := kubejwttest.NewCluster(t)
	inner := c.Transport()
	var pages, watches atomic.Int64
	options := revocation.Options{Transport: withoutWatchList(roundTrip(func(r *http.Request) (*http.Response, error) {
		query := r.URL.Query()
		switch {
		case query.Get("watch") != "":
			watches.Add(1)
			if strings.Contains(r.URL.Path, "/pods") {
				c.DeletePod("shop", "f")
			}
		case query.Get("resourceVersion") != "":
			t.Errorf("a list of a resource version: %s", r.URL)
		case query.Get("limit") != "500":
			t.Errorf("a list that is not in pages of 500: %s", r.URL)
		case strings.Contains(r.URL.Path, "/pods"):
			pages.Add(1)
			query.Set("limit", "2")
			r.URL.RawQuery = query.Encode()
		}
		return inner.RoundTrip(r)
	}))}
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, c, options)
		tokens := make(map[string]string)
		for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
			tokens[name] = s.Mint(ofPod(name))
		}
		defer s.run()()
		start := time.Now()
		if err := s.watcher.Ready(t.Context()); err != nil || time.Since(start) != 0 {
			t.Errorf("Ready after the list: %v after %v", err, time.Since(start))
		}
		synctest.Wait()
		s.expect("deleted between the list and the watch", tokens["f"], revoked)
		if stats := s.watcher.Stats(); stats.Pods != 5 || stats.ServiceAccounts != 1 || stats.Lists != 2 || pages.Load() != 3 || watches.Load() != 2 {
			t.Errorf("%+v, %d pages, %d watches", stats, pages.Load(), watches.Load())
		}
		s.DeletePod("shop", "e")
		synctest.Wait()
		s.expect("deleted", tokens["e"], revoked)
		s.CutWatches()
		s.DeletePod("shop", "d")
		time.Sleep(2 * time.Second)
		s.expect("deleted while it was cut", tokens["d"], revoked)
		s.SilenceWatches(true)
		s.DeletePod("shop", "c")
		time.Sleep(95 * time.Second)
		s.expect("deleted in silence", tokens["c"], revoked)
		s.expect("still there", tokens["a"], accepted)
	})
}

// A countedBody is open until it is closed.
type countedBody struct {
	io.ReadCloser
	open *atomic.Int64
	once sync.Once
}

func (b *countedBody) Close() error {
	b.once.Do(func() { b.open.Add(-1) })
	return b.ReadCloser.Close()
}

// Of attempts that have ended nothing is left: neither a body nor a request.
func TestAttemptsLeaveNothing(t *testing.T) {
	for name, with := range map[string]func(http.RoundTripper) http.RoundTripper{
		"WatchList": withWatchList, "no WatchList": withoutWatchList,
	} {
		c := kubejwttest.NewCluster(t)
		inner := with(c.Transport())
		var open atomic.Int64
		var mu sync.Mutex
		var requests []context.Context
		transport := roundTrip(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			requests = append(requests, r.Context())
			mu.Unlock()
			response, err := inner.RoundTrip(r)
			if err == nil {
				open.Add(1)
				response.Body = &countedBody{ReadCloser: response.Body, open: &open}
			}
			return response, err
		})
		synctest.Test(t, func(t *testing.T) {
			s := newService(t, c, revocation.Options{Transport: transport})
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- s.watcher.Run(ctx) }()
			for range 5 {
				time.Sleep(time.Minute)
				s.CutWatches()
			}
			time.Sleep(time.Second)
			going := 0
			mu.Lock()
			for _, request := range requests {
				if request.Err() == nil {
					going++
				}
			}
			mu.Unlock()
			// Without WatchList, the same context serves three requests of each stream.
			if streams := int64(2); open.Load() != streams || going > 3*int(streams) || len(requests) < 12 {
				t.Errorf("%s: of %d requests %d go on, and %d bodies are open: want those of two streams", name, len(requests), going, open.Load())
			}
			cancel()
			<-ended
			if open.Load() != 0 {
				t.Errorf("%s: %d bodies are open after Run", name, open.Load())
			}
		})
	}
}

// Which streams there are, and whose tokens they tell about.
func TestScopes(t *testing.T) {
	for _, tt := range []struct {
		name     string
		accounts []string
		paths    []string // with their field selectors
		names    []string // of the resources, in errors and in the log
		watched  []string
		not      []string
	}{
		{
			"one", []string{"shop/api"},
			[]string{"/api/v1/namespaces/shop/pods spec.serviceAccountName=api", "/api/v1/namespaces/shop/serviceaccounts metadata.name=api"},
			[]string{"pods in shop with spec.serviceAccountName=api", "serviceaccounts in shop with metadata.name=api"},
			[]string{"shop/api"}, []string{"shop/web", "prod/api"},
		},
		{
			"a namespace, and one in it", []string{"shop/*", "shop/api"},
			[]string{"/api/v1/namespaces/shop/pods ", "/api/v1/namespaces/shop/serviceaccounts "},
			[]string{"pods in shop", "serviceaccounts in shop"},
			[]string{"shop/api", "shop/web"}, []string{"prod/api"},
		},
		{
			"all", []string{"*", "shop/*", "prod/api"},
			[]string{"/api/v1/pods ", "/api/v1/serviceaccounts "},
			[]string{"pods", "serviceaccounts"},
			[]string{"shop/api", "prod/api"}, nil,
		},
		{
			"four in a namespace", []string{"shop/api", "shop/web", "shop/c", "shop/d", "prod/api"},
			[]string{
				"/api/v1/namespaces/prod/pods spec.serviceAccountName=api", "/api/v1/namespaces/prod/serviceaccounts metadata.name=api",
				"/api/v1/namespaces/shop/pods spec.serviceAccountName=api", "/api/v1/namespaces/shop/pods spec.serviceAccountName=web",
				"/api/v1/namespaces/shop/pods spec.serviceAccountName=c", "/api/v1/namespaces/shop/pods spec.serviceAccountName=d",
				"/api/v1/namespaces/shop/serviceaccounts metadata.name=api", "/api/v1/namespaces/shop/serviceaccounts metadata.name=web",
				"/api/v1/namespaces/shop/serviceaccounts metadata.name=c", "/api/v1/namespaces/shop/serviceaccounts metadata.name=d",
			},
			nil,
			[]string{"shop/api", "shop/web", "prod/api"}, []string{"shop/other", "prod/web"},
		},
		{
			"five in a namespace", []string{"shop/api", "shop/web", "shop/c", "shop/d", "shop/e", "prod/api"},
			[]string{
				"/api/v1/namespaces/prod/pods spec.serviceAccountName=api", "/api/v1/namespaces/prod/serviceaccounts metadata.name=api",
				"/api/v1/namespaces/shop/pods ",
				"/api/v1/namespaces/shop/serviceaccounts metadata.name=api", "/api/v1/namespaces/shop/serviceaccounts metadata.name=web",
				"/api/v1/namespaces/shop/serviceaccounts metadata.name=c", "/api/v1/namespaces/shop/serviceaccounts metadata.name=d",
				"/api/v1/namespaces/shop/serviceaccounts metadata.name=e",
			},
			nil,
			[]string{"shop/api", "shop/web", "prod/api"}, []string{"shop/other", "prod/web"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := kubejwttest.NewCluster(t)
			inner := c.Transport()
			var mu sync.Mutex
			paths := make(map[string]int)
			transport := roundTrip(func(r *http.Request) (*http.Response, error) {
				mu.Lock()
				paths[r.URL.Path+" "+r.URL.Query().Get("fieldSelector")]++
				mu.Unlock()
				if !strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata;") {
					t.Errorf("Accept: %s", r.Header.Get("Accept"))
				}
				return inner.RoundTrip(r)
			})
			synctest.Test(t, func(t *testing.T) {
				var log logBuffer
				s := newService(t, c, revocation.Options{ServiceAccounts: tt.accounts, Transport: transport, Logger: log.logger()})
				defer s.run()()
				synctest.Wait()
				for _, path := range tt.paths {
					if paths[path] != 1 {
						t.Errorf("%s is asked for %d times: want 1", path, paths[path])
					}
				}
				if len(paths) != len(tt.paths) {
					t.Errorf("asked for %v: want %v", paths, tt.paths)
				}
				for want, names := range map[string][]string{accepted: tt.watched, undecided: tt.not} {
					for _, name := range names {
						namespace, account, _ := strings.Cut(name, "/")
						token := s.Mint(kubejwttest.Token{Namespace: namespace, ServiceAccount: account, Pod: kubejwt.Object{Name: account + "-0"}})
						synctest.Wait()
						s.expect(name, token, want)
						if want != accepted {
							continue
						}
						s.DeletePod(namespace, account+"-0")
						synctest.Wait()
						s.expect(name+", whose pod is gone", token, revoked)
					}
				}
				s.SetAvailable(false)
				time.Sleep(time.Minute)
				for _, name := range tt.names {
					if strings.Contains(name, " ") {
						name = strconv.Quote(name)
					}
					if !strings.Contains(log.String(), " resource="+name+" ") {
						t.Errorf("the log lacks the resource %s: %s", name, log.String())
					}
				}
			})
		})
	}
}

// A copy inherits the check, and each member of a joined Verifier has its own.
func TestJoinAndCopies(t *testing.T) {
	one, other := kubejwttest.NewCluster(t), kubejwttest.NewCluster(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		first, second := newService(t, one, revocation.Options{}), newService(t, other, revocation.Options{})
		go first.watcher.Run(ctx)
		go second.watcher.Run(ctx)
		synctest.Wait()
		joined, err := kubejwt.Join(first.verifier, second.verifier)
		if err != nil {
			t.Fatal(err)
		}
		here, there := one.Mint(ofPod("a")), other.Mint(ofPod("a"))
		synctest.Wait()
		one.DeletePod("shop", "a")
		synctest.Wait()
		narrowed, err := first.verifier.WithServiceAccounts("shop/api")
		if err != nil {
			t.Fatal(err)
		}
		for name, tt := range map[string]struct {
			*kubejwt.Verifier
			token, want string
		}{
			"joined, deleted":    {joined, here, revoked},
			"joined, not":        {joined, there, accepted},
			"narrowed, deleted":  {narrowed, here, revoked},
			"the first, deleted": {first.verifier, here, revoked},
		} {
			if _, err := tt.Verify(t.Context(), tt.token); kubejwt.Outcome(err) != tt.want {
				t.Errorf("%s: %v: want %s", name, err, tt.want)
			}
		}
	})
}

// Over TLS, with the CA and the token of a pod: what the API server grants
// decides.
func TestOverTLS(t *testing.T) {
	c := kubejwttest.NewCluster(t)
	stranger := filepath.Join(t.TempDir(), "token")
	issuer := c.Config("x").Issuer
	if err := os.WriteFile(stranger, []byte(c.Mint(kubejwttest.Token{Namespace: "shop", ServiceAccount: "web", Audiences: []string{issuer}})), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(tokenFile string) *revocation.Watcher {
		w, err := revocation.New(revocation.Options{
			ServiceAccounts: []string{"shop/api"}, APIServer: issuer,
			CAFile: c.Folder() + "/ca.crt", BearerTokenFile: tokenFile, WhenStale: revocation.Refuse,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- w.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-ended })
		eventually(t, "Run begins", func() bool {
			return !strings.Contains(errText(w.Ready(t.Context())), "Run has not been called")
		})
		return w
	}
	denied := run(stranger)
	if err := denied.Ready(t.Context()); !errors.Is(err, kubejwt.ErrUndecided) || !strings.Contains(err.Error(), "status 403 (a bearer token was sent)") {
		t.Errorf("with the token of another account: %v", err)
	}
	w := run(c.Folder() + "/token")
	if err := w.Ready(t.Context()); err != nil { // it waits for the lists
		t.Fatal(err)
	}
	config := c.Config("test")
	config.Check = w.Check
	v, err := kubejwt.New(config)
	if err != nil {
		t.Fatal(err)
	}
	outcome := func(token string) string {
		_, err := v.Verify(t.Context(), token)
		return kubejwt.Outcome(err)
	}
	token := c.Mint(ofPod("a"))
	if got := outcome(token); got != accepted {
		t.Errorf("there: %s", got)
	}
	c.DeletePod("shop", "a")
	eventually(t, "the deletion is seen", func() bool { return outcome(token) == revoked })
	token = c.Mint(ofPod("b"))
	c.CutWatches()
	c.DeletePod("shop", "b")
	eventually(t, "the deletion is seen after a cut", func() bool {
		return w.Stats().Gone > 1 || w.Stats().Lists > 2 && outcome(token) != undecided
	})
}

// After Run no connection is left.
func TestRunClosesItsConnections(t *testing.T) {
	var open atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	server.StartTLS()
	defer server.Close()
	roots := filepath.Join(t.TempDir(), "ca.crt")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(roots, text, 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := revocation.New(revocation.Options{
		ServiceAccounts: []string{"shop/api"}, APIServer: server.URL, CAFile: roots, WhenStale: revocation.Refuse,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()
	eventually(t, "both streams are refused", func() bool { return w.Stats().Failures >= 2 })
	if err := w.Stats().LastError; !strings.Contains(errText(err), "status 500") || open.Load() == 0 {
		t.Errorf("%v, and %d connections are open: want an answer, and a connection", err, open.Load())
	}
	cancel()
	<-ended
	eventually(t, "connections are closed", func() bool { return open.Load() == 0 })
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// eventually waits for what another process or goroutine does in real time.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !happened() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 20 s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
