package origin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const secret = "c29tZWJvZHkncyBzZWNyZXQ"

// A server is on loopback, speaks HTTP/2 where it is asked to, and counts its
// connections.
type server struct {
	*httptest.Server
	caFile, tokenFile string
	connections       atomic.Int64
}

func newServer(t *testing.T, h http.HandlerFunc) *server {
	t.Helper()
	s := new(server)
	s.Server = httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		s.connections.Add(1)
		return nil, nil
	}}
	s.StartTLS()
	t.Cleanup(s.Close)
	folder := t.TempDir()
	s.caFile, s.tokenFile = filepath.Join(folder, "ca.crt"), filepath.Join(folder, "token")
	writeFile(t, s.caFile, string(encode(s.Certificate())))
	writeFile(t, s.tokenFile, secret+"\n")
	return s
}

func encode(certificate *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *server) url(t *testing.T) URL { return mustParse(t, s.URL) }

func (s *server) options(t *testing.T) Options {
	return Options{
		Origin:          s.url(t).Origin(),
		CAFile:          s.caFile,
		BearerTokenFile: s.tokenFile,
		FieldPrefix:     "Config.",
		Logger:          slog.New(slog.DiscardHandler),
	}
}

func mustNew(t *testing.T, o Options) *Client {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// The bearer is for one origin, whoever asks.
func TestAuthorize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	writeFile(t, path, "secret\n")
	home := mustParse(t, "https://keys.example/jwks").Origin()
	c := mustNew(t, Options{Origin: home, BearerTokenFile: path, Logger: slog.New(slog.DiscardHandler)})
	sent := func(text string) string {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		to, err := Of(u)
		if err != nil {
			t.Fatal(err)
		}
		header := make(http.Header)
		unsent, err := c.authorize(t.Context(), header, to)
		if err != nil || (unsent == "") != (header.Get("Authorization") != "") {
			t.Errorf("%s: %q, %v", text, unsent, err)
		}
		return header.Get("Authorization")
	}
	for text, want := range map[string]string{
		"https://keys.example/jwks":         "Bearer secret",
		"https://keys.example:443/other":    "Bearer secret",
		"https://KEYS.example/jwks":         "Bearer secret",
		"https://keys.example:8443/jwks":    "",
		"https://iss.example/jwks":          "",
		"https://keys.example.evil/jwks":    "",
		"http://keys.example/jwks":          "",
		"http://keys.example:443/jwks":      "",
		"https://keys.example@evil.example": "",
	} {
		if got := sent(text); got != want {
			t.Errorf("%s: %q: want %q", text, got, want)
		}
	}
	// Even an origin over http gets none.
	c.origin = mustParse(t, "http://127.0.0.1").Origin()
	if got := sent("http://127.0.0.1/jwks"); got != "" {
		t.Errorf("over http: %q", got)
	}
}

func TestOptions(t *testing.T) {
	plain, secure := mustParse(t, "http://127.0.0.1").Origin(), mustParse(t, "https://127.0.0.1").Origin()
	for _, tt := range []struct {
		options Options
		want    string
	}{
		{Options{Origin: secure, CAFile: "ca"}, ""},
		{Options{Origin: secure, Transport: http.DefaultTransport, BearerTokenFile: "token"}, ""},
		{Options{Origin: secure, CAFile: "ca", Transport: http.DefaultTransport}, "Config.CAFile and Config.Transport"},
		{Options{Origin: plain, BearerTokenFile: "token"}, "Config.BearerTokenFile"},
	} {
		tt.options.FieldPrefix, tt.options.Logger = "Config.", slog.New(slog.DiscardHandler)
		if _, err := New(tt.options); (err == nil) != (tt.want == "") || !strings.Contains(fmt.Sprint(err), tt.want) {
			t.Errorf("%+v: %v: want %q", tt.options, err, tt.want)
		}
	}
}

// A short answer: with the query and headers asked for, the bearer, and bounded.
func TestGet(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s %s", r.Proto, r.URL, r.Header.Get("Accept"), r.Header.Get("Authorization"))
	})
	c := mustNew(t, s.options(t))
	get := func(most int64) (string, error) {
		answer, err := c.Get(t.Context(), s.url(t).At("/pods", url.Values{"watch": {"1"}}), "application/json")
		if err != nil {
			t.Fatal(err)
		}
		if answer.Roots != c.RootsDigest(t.Context()) || answer.Roots == "" {
			t.Errorf("Roots = %q", answer.Roots)
		}
		body, err := answer.ReadAll(most)
		return string(body), err
	}
	want := "HTTP/1.1 /pods?watch=1 application/json Bearer " + secret
	if body, err := get(int64(len(want))); err != nil || body != want {
		t.Errorf("%s, %v: want %s", body, err, want)
	}
	if body, err := get(int64(len(want)) - 1); err == nil || body != "" || !strings.Contains(err.Error(), "more than") {
		t.Errorf("%s, %v: want an error", body, err)
	}
}

// Each status is told from the others, and nothing of the body is told.
func TestStatus(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		var code int
		fmt.Sscan(strings.TrimPrefix(r.URL.Path, "/"), &code)
		w.Header().Set("Retry-After", "7")
		http.Error(w, secret, code)
	})
	anonymous := s.options(t)
	anonymous.BearerTokenFile = ""
	c, without := mustNew(t, s.options(t)), mustNew(t, anonymous)
	for _, code := range []int{201, 204, 301, 401, 403, 404, 410, 422, 429, 500, 503, 504} {
		_, err := c.Get(t.Context(), s.url(t).At(fmt.Sprintf("/%d", code), nil), "*/*")
		status, ok := errors.AsType[*StatusError](err)
		if !ok || status.Code != code || status.Unsent != "" || strings.Contains(err.Error(), secret) {
			t.Errorf("%d: %v", code, err)
			continue
		}
		want := time.Duration(0)
		if code == 429 || code == 503 {
			want = 7 * time.Second
		}
		if status.RetryAfter != want {
			t.Errorf("%d: RetryAfter %v: want %v", code, status.RetryAfter, want)
		}
		_, err = without.Get(t.Context(), s.url(t).At(fmt.Sprintf("/%d", code), nil), "*/*")
		if status, ok := errors.AsType[*StatusError](err); !ok || !strings.Contains(status.Unsent, "Config.BearerTokenFile") {
			t.Errorf("%d without a bearer: %v", code, err)
		}
	}
}

// Streams share one connection in HTTP/2, come as they are written, and end with
// their context.
func TestStreams(t *testing.T) {
	more := make(chan string)
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		flush := http.NewResponseController(w).Flush
		for text := r.Proto; ; {
			io.WriteString(w, text)
			flush()
			select {
			case text = <-more:
			case <-r.Context().Done():
				return
			}
		}
	})
	options := s.options(t)
	options.Streams = true
	c := mustNew(t, options)
	open := func(ctx context.Context) *Answer {
		answer, err := c.Get(ctx, s.url(t), "application/json")
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	mustRead := func(answer *Answer, want string) {
		got := make([]byte, len(want))
		if _, err := io.ReadFull(answer.Body, got); err != nil || string(got) != want {
			t.Fatalf("%q, %v: want %q", got, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first := open(ctx)
	defer first.Body.Close()
	mustRead(first, "HTTP/2.0")
	more <- " and more"
	mustRead(first, " and more")
	c.CloseIdleConnections() // which it is not

	second := open(t.Context())
	mustRead(second, "HTTP/2.0")
	if n := s.connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	second.Body.Close()

	cancel()
	if _, err := first.Body.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("after the context's end: %v", err)
	}
}

// With other roots there is another transport; what runs goes on.
func TestRotatedRoots(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {})
	options := s.options(t)
	synctest.Test(t, func(t *testing.T) {
		c := mustNew(t, options)
		must := func(transport http.RoundTripper, _ string, err error) http.RoundTripper {
			if err != nil {
				t.Fatal(err)
			}
			return transport
		}
		first := must(c.transport(t.Context()))
		time.Sleep(rereadInterval)
		if must(c.transport(t.Context())) != first {
			t.Error("another transport for the same roots")
		}
		writeFile(t, s.caFile, "# the same root, another file\n"+string(encode(s.Certificate())))
		time.Sleep(rereadInterval)
		second := must(c.transport(t.Context()))
		if second == first {
			t.Error("the old transport for other roots")
		}
		writeFile(t, s.caFile, "half-written")
		time.Sleep(rereadInterval)
		if must(c.transport(t.Context())) != second {
			t.Error("another transport for a damaged file")
		}
	})
}

// A caller's Transport may answer anything.
func TestOddTransport(t *testing.T) {
	u := mustParse(t, "https://a.example")
	for name, answer := range map[string]roundTrip{
		"nothing": func(*http.Request) (*http.Response, error) { return nil, nil },
		"no body": func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusNotFound}, nil
		},
		"an error": func(*http.Request) (*http.Response, error) { return nil, errors.New("the tunnel is down") },
	} {
		c := mustNew(t, Options{Origin: u.Origin(), Transport: answer, Logger: slog.New(slog.DiscardHandler)})
		if answer, err := c.Get(t.Context(), u, "*/*"); err == nil {
			t.Errorf("%s: %+v is no error", name, answer)
		}
	}
	c := mustNew(t, Options{Origin: u.Origin(), Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK}, nil
	})})
	answer, err := c.Get(t.Context(), u, "*/*")
	if err != nil {
		t.Fatal(err)
	}
	if body, err := answer.ReadAll(1); err != nil || len(body) != 0 {
		t.Errorf("%q, %v", body, err)
	}
}

func TestPodAPIServer(t *testing.T) {
	for _, tt := range []struct{ host, port, want string }{
		{"10.96.0.1", "443", "https://10.96.0.1:443"},
		{"fd00::1", "443", "https://[fd00::1]:443"},
		{"kubernetes.default.svc", "6443", "https://kubernetes.default.svc:6443"},
		{"10.96.0.1", "", ""},
		{"", "443", ""},
		{"a@10.96.0.1", "443", hostVariable},
		{"ap\u0130.example", "443", hostVariable},
		{"10.96.0.1", "none", portVariable},
	} {
		t.Setenv(hostVariable, tt.host)
		t.Setenv(portVariable, tt.port)
		u, err := PodAPIServer()
		switch {
		case err == nil && u.String() == tt.want:
		case tt.want == "" && errors.Is(err, ErrNotInPod):
		case tt.want != "" && err != nil && !errors.Is(err, ErrNotInPod) && strings.Contains(err.Error(), tt.want):
		default:
			t.Errorf("%q, %q: %s, %v: want %q", tt.host, tt.port, u, err, tt.want)
		}
	}
}
