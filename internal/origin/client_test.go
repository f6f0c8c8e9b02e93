package origin

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
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
	writeFile(t, s.caFile, string(encode(s.Certificate().Raw)))
	writeFile(t, s.tokenFile, secret+"\n")
	return s
}

func encode(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
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
		{Options{Origin: plain}, ""},
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

// In a pod whose own files are there, they are used.
func TestPodFiles(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("Authorization")) })
	c := mustNew(t, s.options(t))
	c.podRoots, c.podToken = true, true // as if they stood where kubelet puts them
	answer, err := c.Get(t.Context(), s.url(t), "*/*")
	if err != nil {
		t.Fatal(err)
	}
	if body, err := answer.ReadAll(100); err != nil || string(body) != "Bearer "+secret {
		t.Errorf("%q, %v, want the bearer", body, err)
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
		writeFile(t, s.caFile, "# the same root, another file\n"+string(encode(s.Certificate().Raw)))
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
	for want, answer := range map[string]roundTrip{
		"neither an answer nor an error": func(*http.Request) (*http.Response, error) { return nil, nil },
		"status 404": func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusNotFound}, nil
		},
		"the tunnel is down": func(*http.Request) (*http.Response, error) { return nil, errors.New("the tunnel is down") },
		"after a redirect": func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/there" {
				return nil, errors.New("after a redirect")
			}
			return &http.Response{StatusCode: http.StatusFound, Header: http.Header{"Location": {"/there"}}}, nil
		},
	} {
		c := mustNew(t, Options{Origin: u.Origin(), Transport: answer, Logger: slog.New(slog.DiscardHandler)})
		if answer, err := c.Get(t.Context(), u, "*/*"); answer != nil || !strings.Contains(errorText(err), want) {
			t.Errorf("%+v, %v, want an error with %s", answer, err, want)
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

// The body of an answer that nobody gets is closed, so that its connection can
// be used again.
func TestClosesBodies(t *testing.T) {
	u := mustParse(t, "https://a.example")
	var bodies []*closer
	c := mustNew(t, Options{Origin: u.Origin(), Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		body := &closer{Reader: strings.NewReader("text")}
		bodies = append(bodies, body)
		header, code := http.Header{"Location": {"/there"}}, http.StatusFound
		if r.URL.Path == "/there" {
			header, code = nil, http.StatusNotFound
		}
		return &http.Response{StatusCode: code, Header: header, Body: body}, nil
	})})
	_, err := c.Get(t.Context(), u, "*/*")
	if status, ok := errors.AsType[*StatusError](err); !ok || status.Code != 404 || len(bodies) != 2 {
		t.Fatalf("%v, %d answers, want a 404 after a redirect", err, len(bodies))
	}
	for i, body := range bodies {
		if !body.done {
			t.Errorf("body %d is open", i)
		}
	}
}

// Files that are missing: without roots nothing is sent, and what the pod's own
// token says is the API server's business.
func TestMissingFiles(t *testing.T) {
	for _, path := range []string{podCAFile, podTokenFile} {
		if _, err := os.Stat(path); err == nil {
			t.Skip("in a pod the files are there")
		}
	}
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		if got := r.Header.Get("Authorization"); got != "" {
			t.Errorf("%s was sent", got)
		}
	})
	missing := filepath.Join(t.TempDir(), "missing")
	in := func(inPod func(Options) (*Client, error), caFile, tokenFile string, transport http.RoundTripper) func() (*Client, error) {
		return func() (*Client, error) {
			o := s.options(t)
			o.CAFile, o.BearerTokenFile, o.Transport = caFile, tokenFile, transport
			return inPod(o)
		}
	}
	given := roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("Authorization") != "" {
			t.Error("a token was sent")
		}
		return &http.Response{StatusCode: http.StatusForbidden}, nil
	})
	const systemRoots = "certificate signed by unknown authority: is Config.CAFile the CA of this server?"
	for _, tt := range []struct {
		name   string
		client func() (*Client, error)
		want   string
		roots  string // RootsDigest
	}{
		{"the pod's roots", in(NewInPod, "", "", nil), "the roots of the API server: " + podCAFile + ": ", "unreadable"},
		{"roots, in a pod", in(NewInPod, missing, "", nil), "Config.CAFile: " + missing + ": ", "unreadable"},
		{"roots", in(New, missing, "", nil), "Config.CAFile: " + missing + ": ", "unreadable"},
		{"the system has no such roots", in(New, "", "", nil), systemRoots, ""},
		{"the pod's token", in(NewInPod, s.caFile, "", nil), "status 401 (no bearer token was sent: " + podTokenFile + ": ", "-"},
		{"the pod's token, by a Transport", in(NewInPod, "", "", given), "status 403 (no bearer token was sent: " + podTokenFile + ": ", ""},
		{"a token, in a pod", in(NewInPod, s.caFile, missing, nil), "Config.BearerTokenFile: " + missing + ": ", "-"},
		{"a token", in(New, s.caFile, missing, nil), "Config.BearerTokenFile: " + missing + ": ", "-"},
		{"a Transport and roots, in a pod", in(NewInPod, missing, "", given), "Config.CAFile and Config.Transport are both set", ""},
	} {
		c, err := tt.client()
		if err == nil {
			var answer *Answer
			answer, err = c.Get(t.Context(), s.url(t), "*/*")
			if answer != nil {
				t.Errorf("%s: an answer", tt.name)
			}
			if got := c.RootsDigest(t.Context()); got != tt.roots && (tt.roots != "-" || len(got) != 64) {
				t.Errorf("%s: RootsDigest %q, want %q", tt.name, got, tt.roots)
			}
			c.CloseIdleConnections()
		}
		if !strings.Contains(errorText(err), tt.want) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
		if want := strings.HasPrefix(tt.want, "the roots"); strings.Contains(errorText(err), "automountServiceAccountToken") != want {
			t.Errorf("%s: %v: want automountServiceAccountToken named: %t", tt.name, err, want)
		}
	}
}

// A connection that carries nothing is closed when it is asked, and when other
// roots are trusted. One that does goes on.
func TestIdleConnections(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {})
	options := s.options(t)
	options.Streams = true // connections are used again for these alone
	c := mustNew(t, options)
	get := func(want int64) {
		t.Helper()
		answer, err := c.Get(t.Context(), s.url(t), "*/*")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := answer.ReadAll(100); err != nil {
			t.Fatal(err)
		}
		if got := s.connections.Load(); got != want {
			t.Errorf("%d connections, want %d", got, want)
		}
	}
	c.CloseIdleConnections() // of which there are none
	get(1)
	get(1)
	c.CloseIdleConnections()
	get(2)
	first := c.builtIn
	c.trusting(x509.NewCertPool())
	// Back to it: its connection is gone.
	c.mu.Lock()
	c.builtIn, c.trusted = first, mustRoots(t, c)
	c.mu.Unlock()
	get(3)
}

// mustRoots are those of c's CAFile.
func mustRoots(t *testing.T, c *Client) *x509.CertPool {
	t.Helper()
	content, err := c.roots.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return content.Value.Pool
}

// A stream on a network that has gone silent ends, which it does by pings alone.
func TestPings(t *testing.T) {
	if got := new(Client).newTransport(nil); got.HTTP2 != nil || got.ForceAttemptHTTP2 {
		t.Errorf("HTTP/2 for short answers: %+v", got.HTTP2)
	}
	got := (&Client{streams: true}).newTransport(nil)
	if got.HTTP2 == nil || got.HTTP2.SendPingTimeout != pingAfter || got.HTTP2.PingTimeout != pingTimeout || !got.ForceAttemptHTTP2 {
		t.Errorf("streams: %+v, want pings", got.HTTP2)
	}
}

// A redirect is followed once, on the same origin, where nothing is given away.
func TestRedirects(t *testing.T) {
	var asked []string
	s := newServer(t, nil)
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		if r.Header.Get("Authorization") != "" && r.URL.Path != "/" {
			t.Error("a redirected request has the bearer")
		}
		if r.URL.Query().Has("to") {
			var code int
			fmt.Sscan(r.URL.Query().Get("code"), &code)
			w.Header().Set("Location", r.URL.Query().Get("to"))
			w.WriteHeader(code)
			return
		}
		io.WriteString(w, r.Header.Get("Accept"))
	})
	upper := strings.Replace(s.URL, "https", "HTTPS", 1)
	for _, tt := range []struct {
		name, to string
		code     int
		bearer   bool
		followed bool
	}{
		{"301", s.URL + "/there", 301, false, true},
		{"302", s.URL + "/there", 302, false, true},
		{"307", s.URL + "/there", 307, false, true},
		{"308", s.URL + "/there", 308, false, true},
		{"relative", "there?" + secret + "#fragment", 301, false, true},
		{"in capitals", upper + "/there", 301, false, true},
		{"as long as can be", s.URL + "/" + strings.Repeat("a", 2047-len(s.URL)), 301, false, true},
		{"300", s.URL + "/there", 300, false, false},
		{"303", s.URL + "/there", 303, false, false},
		{"304", s.URL + "/there", 304, false, false},
		{"with a bearer", s.URL + "/there", 301, true, false},
		{"twice", s.URL + "/there?code=301&to=/" + secret, 301, false, false},
		{"to itself", "?code=301&to=/", 301, false, false},
		{"to another port", "https://127.0.0.1:1/", 301, false, false},
		{"to another host", "https://localhost:1/", 301, false, false},
		{"to http", "http" + strings.TrimPrefix(s.URL, "https") + "/", 301, false, false},
		{"with a user", strings.Replace(s.URL, "://", "://u:p@", 1), 301, false, false},
		{"to no URL", "https://[::" + secret, 301, false, false},
		{"to a file", "file:///etc/passwd", 301, false, false},
		{"too long", s.URL + "/" + strings.Repeat("a", 2048-len(s.URL)), 301, false, false},
		{"nowhere", "", 301, false, false},
	} {
		options := s.options(t)
		if !tt.bearer {
			options.BearerTokenFile = ""
		}
		c := mustNew(t, options)
		asked = nil
		query := url.Values{"code": {fmt.Sprint(tt.code)}, "to": {tt.to}}
		answer, err := c.Get(t.Context(), s.url(t).At("/", query), "application/json")
		if tt.followed {
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
				continue
			}
			body, err := answer.ReadAll(100)
			if err != nil || string(body) != "application/json" || strings.Contains(answer.URL.String(), secret) {
				t.Errorf("%s: %q from %s, %v", tt.name, body, answer.URL, err)
			}
			continue
		}
		_, ok := errors.AsType[*StatusError](err)
		most := 2
		if tt.to == "" {
			most = 1
		}
		if !ok || len(asked) > most || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "redirects are followed once") {
			t.Errorf("%s: %v, asked %q", tt.name, err, asked)
		}
	}
}

// A bucket may send gzip that nobody asked for.
func TestCompressed(t *testing.T) {
	zip := func(text string) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		io.WriteString(z, text)
		z.Close()
		return b.String()
	}
	damaged := []byte(zip("hello"))
	damaged[len(damaged)-5]++
	corrupt := []byte(zip("hello"))
	corrupt[10] = 0xff // a block of a kind that there is not
	for name, tt := range map[string]struct{ encoding, body, want string }{
		"plain":                   {"", "hello", "hello"},
		"empty":                   {"", "", ""},
		"one byte":                {"", "\x1f", "\x1f"},
		"gzip":                    {"gzip", zip("hello"), "hello"},
		"gzip without saying so":  {"", zip("hello"), "hello"},
		"gzip said of plain text": {"gzip", "hello", "hello"},
		"identity":                {"identity", "hello", "hello"},
		"too large":               {"gzip", zip(strings.Repeat("a", 101)), "error: more than 100 bytes"},
		"a bomb":                  {"gzip", zip(strings.Repeat("a", 4<<20)), "error: "},
		"empty pieces for ever":   {"gzip", strings.Repeat(zip(""), 1000), "error: broke off"},
		"a damaged checksum":      {"gzip", string(damaged), "error: damaged gzip"},
		"a damaged header":        {"gzip", "\x1f\x8b\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "error: damaged gzip"},
		"gzip, and then more":     {"gzip", zip("hello") + strings.Repeat("x", 20), "error: damaged gzip"},
		"damaged data":            {"gzip", string(corrupt), "error: damaged gzip"},
		"broken off":              {"gzip", zip("hello")[:20], "error: broke off"},
		"another encoding":        {"br", "hello", `error: Content-Encoding "br"`},
		"a charset for encoding":  {"utf-8", `{"keys":[]}`, `{"keys":[]}`},
		"a way of sending":        {"aws-chunked", "\ufeff{}", "\ufeff{}"},
		"a hostile encoding":      {"\x1b[2J" + strings.Repeat("a", 1000), "hello", `error: Content-Encoding "\x1b[2J`},
	} {
		u := mustParse(t, "https://a.example")
		closed := new(closer)
		closed.Reader = strings.NewReader(tt.body)
		answer := &Answer{URL: u, Header: http.Header{"Content-Encoding": {tt.encoding}}, Body: closed}
		body, err := answer.ReadAll(100)
		want, isError := strings.CutPrefix(tt.want, "error: ")
		if isError != (err != nil) || !isError && string(body) != want || isError && (body != nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 300) {
			t.Errorf("%s: %q, %v: want %s", name, body, err, tt.want)
		}
		if !closed.done {
			t.Errorf("%s: the body is not closed", name)
		}
	}
}

func TestMaxAge(t *testing.T) {
	const none = -1
	for value, want := range map[string]time.Duration{
		"":                             none,
		"public":                       none,
		"max-age=60":                   time.Minute,
		"public, Max-Age=60":           time.Minute,
		`max-age="60"`:                 time.Minute,
		"max-age=0":                    0,
		"s-maxage=60":                  none,
		"max-age=-1":                   none,
		"max-age=soon":                 none,
		"max-age":                      none,
		"max-age=86401":                24 * time.Hour,
		"max-age=99999999999999999999": 24 * time.Hour,
	} {
		answer := &Answer{Header: http.Header{"Cache-Control": {value}}}
		if got := answer.MaxAge(); got != want {
			t.Errorf("%q: %v: want %v", value, got, want)
		}
	}
}

type closer struct {
	io.Reader
	done bool
}

func (c *closer) Close() error { c.done = true; return nil }

// The environment's proxy is for others than the pod's API server, and an error
// names the variable that chose it. A process reads the variables once: the test
// asks in one of its own.
func TestProxy(t *testing.T) {
	if os.Getenv("KUBEJWT_PROXY_TEST") != "" {
		askThroughProxy(t)
		return
	}
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	asked := make(chan string, 10)
	go func() {
		for {
			connection, err := proxy.Accept()
			if err != nil {
				return
			}
			if request, err := http.ReadRequest(bufio.NewReader(connection)); err == nil {
				asked <- request.Method + " " + request.Host
			}
			io.WriteString(connection, "HTTP/1.1 403 "+secret+"\r\n\r\n")
			connection.Close()
		}
	}()
	for _, variable := range []string{"HTTPS_PROXY", "https_proxy"} {
		child := exec.Command(os.Args[0], "-test.run=^TestProxy$", "-test.v")
		child.Env = append(os.Environ(), "KUBEJWT_PROXY_TEST=1", "HTTPS_PROXY=", "https_proxy=", "NO_PROXY=", "no_proxy=", variable+"=http://"+proxy.Addr().String())
		output, err := child.CombinedOutput()
		text := string(output)
		want := "through the proxy that " + variable + " names: to ask 192.0.2.1 directly, list it in NO_PROXY"
		if err != nil || !strings.Contains(text, want) || strings.Contains(text, secret) {
			t.Errorf("%s: %v: want %q in\n%s", variable, err, want, text)
		}
		if len(asked) != 1 || <-asked != "CONNECT 192.0.2.1:443" {
			t.Errorf("%s: the proxy was asked more or less than once", variable)
		}
	}
}

// askThroughProxy asks for an address that nobody has.
func askThroughProxy(t *testing.T) {
	caFile := filepath.Join(t.TempDir(), "ca.crt")
	writeFile(t, caFile, string(encode(newCertificate(t))))
	u := mustParse(t, "https://192.0.2.1")
	options := Options{Origin: u.Origin(), CAFile: caFile, Logger: slog.New(slog.DiscardHandler)}
	inPod, err := NewInPod(options)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Client{mustNew(t, options), inPod} {
		limit := time.Minute // the proxy answers
		if c == inPod {
			limit = 200 * time.Millisecond // nobody does
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		_, err = c.Get(ctx, u, "*/*")
		cancel()
		t.Log(err)
		if err == nil || c == inPod && strings.Contains(err.Error(), "proxy that") {
			t.Error("a proxy for the pod's API server, or no error")
		}
	}
}

func TestIsPodAPIServer(t *testing.T) {
	apiServer := mustParse(t, "https://10.96.0.1:6443")
	for text, want := range map[string]bool{
		"https://10.96.0.1:6443/openid/v1/jwks":         true,
		"https://10.96.0.1":                             false,
		"https://kubernetes.default.svc":                true,
		"https://KUBERNETES.default.svc:443/x":          true,
		"https://kubernetes.default.svc.":               true,
		"https://kubernetes.default.svc.cluster.local":  true,
		"https://kubernetes.default.svc.cluster.local.": true,
		"https://kubernetes.default.svc.prod.example":   true,
		"https://kubernetes.default.svc:6443":           false,
		"https://kubernetes.default":                    false,
		"https://kubernetes":                            false,
		"https://kubernetes.default.svcs":               false,
		"https://kubernetes.other.svc":                  false,
		"https://x.kubernetes.default.svc":              false,
		"https://evil.example/kubernetes.default.svc":   false,
	} {
		if got := mustParse(t, text).Origin().IsPodAPIServer(apiServer); got != want {
			t.Errorf("%s: %v: want %v", text, got, want)
		}
	}
	// A configured origin may be of http.
	if o, err := ParseOrigin("http://kubernetes.default.svc:443"); err != nil || o.IsPodAPIServer(apiServer) {
		t.Errorf("%s, %v: is taken for the API server", o, err)
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
		case err == nil && tt.want != "" && u.String() == tt.want:
		case tt.want == "" && errors.Is(err, ErrNotInPod):
		case tt.want != "" && err != nil && !errors.Is(err, ErrNotInPod) && strings.Contains(err.Error(), tt.want):
		default:
			t.Errorf("%q, %q: %s, %v: want %q", tt.host, tt.port, u, err, tt.want)
		}
	}
}
