package revocation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/internal/origin"
	"github.com/kubejwt/kubejwt/internal/testlog"
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
	answer := func(code int, body string) roundTrip {
		return func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: code, Body: io.NopCloser(strings.NewReader(body))}, nil
		}
	}
	// standing is a stream that ends after so long.
	standing := func(d time.Duration) roundTrip {
		return func(*http.Request) (*http.Response, error) {
			ours, theirs := io.Pipe()
			go func() {
				io.WriteString(theirs, list)
				time.Sleep(d)
				theirs.Close()
			}()
			return &http.Response{StatusCode: 200, Body: ours}, nil
		}
	}
	// endless is a list that never ends.
	endless := func(r *http.Request) (*http.Response, error) {
		ours, theirs := io.Pipe()
		context.AfterFunc(r.Context(), func() { theirs.CloseWithError(r.Context().Err()) })
		return &http.Response{StatusCode: 200, Body: ours}, nil
	}
	for _, tt := range []struct {
		name        string
		answer      roundTrip
		least, most int64  // requests for a resource
		logged      string // as the log has it; "": nothing is logged
	}{
		{"it is away", func(*http.Request) (*http.Response, error) { return nil, errors.New("away") }, 10, 11, "away"},
		{"it fails", answer(500, ""), 10, 11, "status 500"},
		{"lists that are cut off", answer(200, ""), 10, 11, "the API server ended the stream"},
		{"lists that do not end", endless, 5, 5, "nothing was heard for 1m30s"},
		{"streams that end at once", answer(200, list), 12, 13, "the API server ended the stream"},
		{"streams that end soon", standing(10 * time.Second), 11, 12, "the API server ended the stream"},
		{"streams that end after a while", standing(10*time.Second + 1), 50, 60, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked atomic.Int64
				var log testlog.Buffer
				w, err := New(Options{
					ServiceAccounts: []string{"shop/api"},
					APIServer:       "https://api.example",
					WhenStale:       Accept,
					Logger:          slog.New(slog.NewTextHandler(&log, nil)),
					Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
						if strings.Contains(r.URL.Path, "/pods") {
							asked.Add(1)
						}
						return tt.answer(r)
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
				if !strings.Contains(log.String(), tt.logged) || (log.String() == "") != (tt.logged == "") {
					t.Errorf("want %q in the log: %s", tt.logged, log.String())
				}
				cancel()
				<-ended
				time.Sleep(time.Minute) // the last stream ends
			})
		})
	}
}

// What an attempt makes of what comes: whether there was a stream, and why it ended. None
// of this is a list whose gaps mean deletions.
func TestAttempt(t *testing.T) {
	const (
		a      = `{"type":"ADDED","object":{"metadata":{"uid":"a"}}}`
		b      = `{"type":"ADDED","object":{"metadata":{"uid":"b"}}}`
		gone   = `{"type":"DELETED","object":{"metadata":{"uid":"a"}}}`
		no     = `{"type":"ADDED","object":{"metadata":{}}}`
		broken = `{"type":"ERROR","object":{"code":504}}`
		end    = `{"type":"BOOKMARK","object":{"metadata":{"annotations":{"k8s.io/initial-events-end":"true"}}}}`
		page   = `{"metadata":{"resourceVersion":"7"},"items":[{"metadata":{"uid":"a"}}]}`
		more   = `{"metadata":{"resourceVersion":"7","continue":"more"},"items":[{"metadata":{"uid":"a"}}]}`
	)
	known := make(map[string]time.Time, maxObjects)
	for i := range maxObjects - 1 {
		known[strconv.Itoa(i)] = time.Now()
	}
	for _, tt := range []struct {
		name                   string
		watchList, list, watch string // the answers: a status or a body
		known                  int    // objects before the list
		listed                 bool
		gone                   bool // the object a
		err                    string
	}{
		{"a list, and the end", a + end, "", "", 1, true, false, "the API server ended the stream"},
		{"a list that breaks off", a, "", "", 1, false, false, "the API server ended the stream"},
		{"a deletion within the list", a + gone + end, "", "", 1, true, true, "the API server ended the stream"},
		{"a deletion in a list that breaks off", a + gone, "", "", 1, false, true, "the API server ended the stream"},
		{"an error instead of the list", broken, "", "", 1, false, false, "code 504"},
		{"an error within the list", a + broken + end, "", "", 1, false, false, "code 504"},
		{"an error after the list", a + end + broken, "", "", 1, true, false, "code 504"},
		{"no UID within the list", no + end, "", "", 1, false, false, "without a UID"},
		{"no UID after the list", a + end + no, "", "", 1, true, false, "without a UID"},
		{"a deletion after the list", a + end + gone, "", "", 1, true, true, "the API server ended the stream"},
		{"as many as a view holds, and one more", a + end + b, "", "", maxObjects, true, false, errTooMany.Error()},
		{"more than a view holds", a + end, "", "", maxObjects, false, false, errTooMany.Error()},
		{"a refusal", "500", "", "", 1, false, false, "status 500"},

		{"in pages, and the end", "422", page, gone, 1, true, true, "the API server ended the stream"},
		{"in pages that are refused", "422", "500", "", 1, false, false, "status 500"},
		{"in pages that break off", "422", page[:50], "", 1, false, false, "the stream broke off"},
		{"in pages, without a UID", "422", `{"metadata":{"resourceVersion":"7"},"items":[{}]}`, "", 1, false, false, "without a UID"},
		{"in pages without end", "422", more, "", 1, false, false, errTooMany.Error()},
		{"in pages, more than a view holds", "422", page, "", maxObjects, false, false, errTooMany.Error()},
		{"in pages, and a watch that is refused", "422", page, "500", 1, false, false, "status 500"},
	} {
		w, err := New(Options{
			ServiceAccounts: []string{"shop/api"}, APIServer: "https://api.example", WhenStale: Accept,
			Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				text := tt.list
				switch query := r.URL.Query(); {
				case query.Get("sendInitialEvents") != "":
					text = tt.watchList
				case query.Get("watch") != "":
					text = tt.watch
				}
				code, err := strconv.Atoi(text)
				if err != nil {
					code = 200
				}
				return &http.Response{StatusCode: code, Body: io.NopCloser(strings.NewReader(text))}, nil
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		s := w.streams[0]
		s.view.gone = map[string]time.Time{"c": time.Now()}
		if tt.known == maxObjects {
			s.view.gone = known
			if !tt.listed {
				known["c"] = time.Now()
			}
		}
		listed, err := s.attempt(t.Context(), func() {})
		delete(known, "c")
		if listed != tt.listed || err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: listed %v, %v: want %v, %s", tt.name, listed, err, tt.listed, tt.err)
		}
		if gone, _ := s.view.judge("a", time.Now(), time.Now()); gone != tt.gone {
			t.Errorf("%s: a is gone: %v, want %v", tt.name, gone, tt.gone)
		}
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
