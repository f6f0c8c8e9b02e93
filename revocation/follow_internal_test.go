package revocation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/internal/origin"
)

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// How soon a stream is tried again: soon at first, then at the Watcher's turn,
// and not before the API server wants it.
func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := func(d time.Duration) error { return fmt.Errorf("GET: %w", &origin.StatusError{RetryAfter: d}) }
		denied := errors.New("denied")
		for _, tt := range []struct {
			failed      int
			sinceTurn   time.Duration
			err, denied error
			least, most time.Duration
		}{
			{0, 0, io.EOF, nil, 0, time.Second},
			{1, 0, io.EOF, nil, 200 * time.Millisecond, 2200 * time.Millisecond},
			{1, 0, denied, denied, 200 * time.Millisecond, 2200 * time.Millisecond},
			{2, 0, io.EOF, nil, 70 * time.Second, 70 * time.Second},
			{3, 10 * time.Second, io.EOF, nil, time.Minute, time.Minute},
			{1000, 150 * time.Second, io.EOF, nil, time.Minute, time.Minute},
			{3, 70*time.Second - 1, io.EOF, nil, 200 * time.Millisecond, 200 * time.Millisecond},
			{2, 40 * time.Second, denied, denied, 20 * time.Second, 20 * time.Second},
			{0, 0, busy(7 * time.Second), nil, 7 * time.Second, 8 * time.Second},
			{1, 0, busy(7 * time.Second), nil, 7 * time.Second, 8 * time.Second},
			{3, 0, busy(7 * time.Second), nil, 70 * time.Second, 70 * time.Second},
			{0, 0, busy(10 * time.Minute), nil, 70 * time.Second, 70 * time.Second},
			{3, 10 * time.Second, busy(0), nil, time.Minute, time.Minute},
		} {
			s := &stream{watcher: &Watcher{turn: time.Now().Add(-tt.sinceTurn)}, denied: tt.denied}
			for range 100 {
				if got := s.delay(tt.failed, tt.err); got < tt.least || got > tt.most {
					t.Fatalf("%d failures, %v after the turn, %v: %v, want %v to %v",
						tt.failed, tt.sinceTurn, tt.err, got, tt.least, tt.most)
				}
			}
		}
	})
}

// What a Watcher asks of an API server on which no stream lasts, in ten minutes.
func TestRequestsWhileNothingLasts(t *testing.T) {
	const list = `{"type":"BOOKMARK","object":{"metadata":{"annotations":{"k8s.io/initial-events-end":"true"}}}}`
	answer := func(code int, body string) func() (*http.Response, error) {
		return func() (*http.Response, error) {
			return &http.Response{StatusCode: code, Body: io.NopCloser(strings.NewReader(body))}, nil
		}
	}
	// standing is a stream that ends after so long.
	standing := func(d time.Duration) func() (*http.Response, error) {
		return func() (*http.Response, error) {
			ours, theirs := io.Pipe()
			go func() {
				io.WriteString(theirs, list)
				time.Sleep(d)
				theirs.Close()
			}()
			return &http.Response{StatusCode: 200, Body: ours}, nil
		}
	}
	for _, tt := range []struct {
		name        string
		answer      func() (*http.Response, error)
		least, most int64 // requests for a resource
	}{
		{"it is away", func() (*http.Response, error) { return nil, errors.New("away") }, 9, 12},
		{"it fails", answer(500, ""), 9, 12},
		{"lists that are cut off", answer(200, ""), 9, 12},
		{"streams that end at once", answer(200, list), 10, 14},
		{"streams that end soon", standing(9 * time.Second), 9, 14},
		{"streams that end after a while", standing(11 * time.Second), 50, 56},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked atomic.Int64
				w, err := New(Options{
					ServiceAccounts: []string{"shop/api"},
					APIServer:       "https://api.example",
					WhenStale:       Accept,
					Logger:          slog.New(slog.DiscardHandler),
					Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
						if strings.Contains(r.URL.Path, "/pods") {
							asked.Add(1)
						}
						return tt.answer()
					}),
				})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error)
				go func() { ended <- w.Run(ctx) }()
				time.Sleep(10 * time.Minute)
				if n := asked.Load(); n < tt.least || n > tt.most {
					t.Errorf("%d requests, want %d to %d", n, tt.least, tt.most)
				}
				cancel()
				<-ended
				time.Sleep(time.Minute) // the last stream ends
			})
		})
	}
}

// In a pod its API server is asked, by its address or its name, as the pod may.
// Another one gets nothing of the pod's.
func TestPodAPIServer(t *testing.T) {
	const token = "/var/run/secrets/kubernetes.io/serviceaccount/token"
	if _, err := os.Stat(token); err == nil {
		t.Skip("in a pod the token is there")
	}
	forbidden := roundTrip(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusForbidden, Body: http.NoBody}, nil
	})
	for _, tt := range []struct {
		name, host string
		options    Options
		url        string // "": an error
		want       string // in the error, or why no token is sent
	}{
		{"the pod's", "10.96.0.1", Options{}, "https://10.96.0.1:443", token},
		{"its name", "10.96.0.1", Options{APIServer: "https://kubernetes.default.svc"}, "https://kubernetes.default.svc", token},
		{"its address", "10.96.0.1", Options{APIServer: "https://10.96.0.1"}, "https://10.96.0.1", token},
		{"another", "10.96.0.1", Options{APIServer: "https://a.example"}, "https://a.example", "Options.BearerTokenFile is not set"},
		{"none", "", Options{}, "", kubejwt.ErrNotInCluster.Error()},
		{"none, and another", "", Options{APIServer: "https://a.example"}, "", kubejwt.ErrNotInCluster.Error()},
		{"an odd one", "a b", Options{}, "", "kubejwt/revocation: KUBERNETES_SERVICE_HOST"},
		{"another that is odd", "10.96.0.1", Options{APIServer: "a.example"}, "", "Options.APIServer"},
		{"roots and a Transport", "10.96.0.1", Options{CAFile: "ca.crt"}, "", "kubejwt/revocation: Options.CAFile and Options.Transport"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("KUBERNETES_SERVICE_HOST", tt.host)
			t.Setenv("KUBERNETES_SERVICE_PORT", "443")
			o := tt.options
			o.Transport, o.Logger = forbidden, slog.New(slog.DiscardHandler)
			s, err := newPodAPIServer(&o)
			if (err == nil) != (tt.url != "") {
				t.Fatalf("%v, want %s %s", err, tt.url, tt.want)
			}
			if err == nil {
				if got := s.url.String(); got != tt.url {
					t.Errorf("%s is asked, want %s", got, tt.url)
				}
				_, err = s.client.Get(t.Context(), s.url, "*/*")
			}
			if !strings.Contains(fmt.Sprint(err), tt.want) {
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
}
