package kubejwt_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/internal/testserver"
)

func TestTokenFile(t *testing.T) {
	k := newKit(t)
	path := filepath.Join(t.TempDir(), "token")
	synctest.Test(t, func(t *testing.T) {
		lasting := func(d time.Duration) string {
			g := good()
			g.Lifetime = d
			return k.Mint(g)
		}
		source := kubejwt.TokenFile(path)
		if _, err := source.Token(); err == nil || !strings.Contains(err.Error(), path) {
			t.Fatalf("no file: %v: want an error that names %s", err, path)
		}
		first := lasting(time.Hour)
		writeFile(t, path, []byte(first+"\n"))
		time.Sleep(time.Second) // a bad file is looked at again soon

		mustGive(t, source, first)
		if leak := commonRun(fmt.Sprintf("%v %+v %#v", source, source, source), first, 16); leak != "" {
			t.Errorf("printing the source shows %q of the token", leak)
		}

		second := lasting(time.Hour)
		writeFile(t, path, []byte(second))
		mustGive(t, source, first) // within the minute
		time.Sleep(time.Minute)
		mustGive(t, source, second)
		// A ReuseTokenSource around it sees the rotation too.
		reused := oauth2.ReuseTokenSource(nil, source)
		mustGive(t, reused, second)
		third := lasting(2 * time.Minute)
		writeFile(t, path, []byte(third))
		time.Sleep(time.Minute)
		mustGive(t, reused, third)

		// The file goes away: the token stays until it expires.
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		mustGive(t, source, third)
		time.Sleep(time.Minute)
		if _, err := source.Token(); err == nil || !strings.Contains(err.Error(), path) {
			t.Fatalf("no file and the token expired: %v", err)
		}
		fourth := lasting(time.Hour)
		writeFile(t, path, []byte(fourth))
		time.Sleep(time.Second)
		mustGive(t, source, fourth)

		// A renewal is seen at once where the token at hand is of no use.
		fifth := lasting(90 * time.Second)
		writeFile(t, path, []byte(fifth))
		time.Sleep(time.Minute)
		mustGive(t, source, fifth)
		time.Sleep(31 * time.Second)
		writeFile(t, path, []byte(first[:len(first)/2]))
		if _, err := source.Token(); err == nil {
			t.Fatal("half a token after the last one expired is no error")
		}
		time.Sleep(time.Second)
		writeFile(t, path, []byte(first))
		mustGive(t, source, first)
	})
}

func mustGive(t *testing.T, source oauth2.TokenSource, want string) {
	t.Helper()
	token, err := source.Token()
	if err != nil {
		t.Fatal(err)
	}
	if token.AccessToken != want || token.Type() != "Bearer" {
		t.Errorf("another token than the file's, or not a bearer")
	}
	if ahead := time.Until(token.Expiry); ahead <= 0 || ahead > time.Minute {
		t.Errorf("Expiry is %v ahead: want a minute at most", ahead)
	}
}

// secret is a source of one token.
var secret = oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "secret-token"})

func TestTransport(t *testing.T) {
	seen := func(name string) *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if to := r.URL.Query().Get("to"); to != "" {
				http.Redirect(w, r, to, http.StatusTemporaryRedirect)
				return
			}
			io.WriteString(w, name+" got "+r.Header.Get("Authorization"))
		}))
	}
	home, foreign := seen("home"), seen("foreign")
	defer home.Close()
	defer foreign.Close()
	client := &http.Client{Transport: &kubejwt.Transport{Source: secret, Origin: home.URL}}

	for _, tt := range []struct {
		name, url, body, err string
	}{
		{"the origin", home.URL + "/path?query", "home got Bearer secret-token", ""},
		{"the origin in upper case", strings.ToUpper(home.URL[:4]) + home.URL[4:], "home got Bearer secret-token", ""},
		{"another origin", foreign.URL, "", foreign.URL},
		{"a redirect to another origin", home.URL + "?to=" + foreign.URL, "foreign got ", ""},
		{"a redirect to another origin with a password", home.URL + "?to=" + strings.Replace(foreign.URL, "://", "://u:p@", 1), "foreign got Basic dTpw", ""},
		{"a redirect to the origin", home.URL + "?to=" + home.URL, "home got Bearer secret-token", ""},
		{"two redirects to the origin", home.URL + "?to=" + url.QueryEscape(home.URL+"?to="+home.URL), "home got Bearer secret-token", ""},
		{"a redirect elsewhere and back", home.URL + "?to=" + url.QueryEscape(foreign.URL+"?to="+home.URL), "home got ", ""},
		{"a redirect elsewhere, back and on", home.URL + "?to=" +
			url.QueryEscape(foreign.URL+"?to="+url.QueryEscape(home.URL+"?to="+home.URL)), "home got ", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			response, err := client.Get(tt.url)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), home.URL) {
					t.Fatalf("%v: want an error that names %s and %s", err, home.URL, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil || string(body) != tt.body {
				t.Errorf("%q, %v: want %q", body, err, tt.body)
			}
			if strings.Contains(response.Request.Header.Get("Authorization"), "secret") {
				t.Error("the request in the response has the token")
			}
		})
	}
}

// Letters that only look like the origin's, or turn into them in lower case, are
// another host to net/http.
func TestTransportLookAlikes(t *testing.T) {
	for _, host := range []string{"ap\u0130.shop.example", "ap%C4%B0.shop.example", "api.\u017fhop.example", "api。shop.example"} {
		to := "http://" + host + "/"
		var asked []string
		base := roundTrip(func(r *http.Request) (*http.Response, error) {
			asked = append(asked, r.URL.Host)
			if r.Header.Get("Authorization") != "" && r.URL.Host != "api.shop.example" {
				t.Errorf("%s got the token", r.URL.Host)
			}
			response := &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}
			if len(asked) == 1 {
				response.StatusCode, response.Header = http.StatusTemporaryRedirect, http.Header{"Location": {to}}
			}
			return response, nil
		})
		client := &http.Client{Transport: &kubejwt.Transport{Source: secret, Origin: "http://api.shop.example", Base: base}}
		if _, err := client.Get("http://api.shop.example/"); err != nil || len(asked) != 2 {
			t.Errorf("a redirect to %s: %v, asked %q", to, err, asked)
		}
		if _, err := client.Get(to); err == nil || len(asked) != 2 || !strings.Contains(err.Error(), "http://api.shop.example:80") {
			t.Errorf("%s: %v, asked %q", to, err, asked)
		}
		other := &kubejwt.Transport{Source: secret, Origin: "http://" + host, Base: base}
		if _, err := (&http.Client{Transport: other}).Get(to); err == nil || !strings.Contains(err.Error(), "Origin") {
			t.Errorf("%s for an Origin: %v", host, err)
		}
	}
}

// After a 401 the file is read again for the next request, whatever its age; the
// request itself is not repeated. A redirected answer from elsewhere changes
// nothing.
func TestTransportForgets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	var sent []string
	status := http.StatusOK
	base := roundTrip(func(r *http.Request) (*http.Response, error) {
		sent = append(sent, r.Header.Get("Authorization"))
		if status == http.StatusFound { // to elsewhere, which says 401
			if r.URL.Host == "b.example" {
				return &http.Response{StatusCode: http.StatusUnauthorized, Body: http.NoBody}, nil
			}
			header := http.Header{"Location": {"https://b.example/"}}
			return &http.Response{StatusCode: status, Header: header, Body: http.NoBody}, nil
		}
		return &http.Response{StatusCode: status, Body: http.NoBody}, nil
	})
	client := &http.Client{Transport: &kubejwt.Transport{Source: kubejwt.TokenFile(path), Origin: "https://a.example", Base: base}}
	for _, tt := range []struct {
		name, file string // what the file holds by then
		status     int
		want       string // what is sent; "": an error
	}{
		{"at first", "one", http.StatusOK, "Bearer one"},
		{"a new token, which nobody needs yet", "two", http.StatusOK, "Bearer one"},
		{"403 is about something else", "two", http.StatusForbidden, "Bearer one"},
		{"so is a 401 from elsewhere", "two", http.StatusFound, "Bearer one"},
		{"the old one is refused", "two", http.StatusUnauthorized, "Bearer one"},
		{"the new one is sent", "two", http.StatusOK, "Bearer two"},
		{"and is refused too", "", http.StatusUnauthorized, "Bearer two"},
		{"no token is left", "", http.StatusOK, ""},
	} {
		writeFile(t, path, []byte(tt.file))
		sent, status = nil, tt.status
		response, err := client.Get("https://a.example/")
		if err == nil {
			response.Body.Close()
		}
		if (err != nil) != (tt.want == "") || tt.want != "" && (sent[0] != tt.want || len(sent) > 1 && sent[1] != "") {
			t.Errorf("%s: sent %q, %v", tt.name, sent, err)
		}
		if err == nil && tt.status != http.StatusFound && len(sent) != 1 {
			t.Errorf("%s: sent %d times", tt.name, len(sent))
		}
	}
}

// A request's context ends its wait for the disk under a TokenFile.
func TestTransportHasItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	missing, ended := filepath.Join(t.TempDir(), "token"), 0
	for range 100 { // the disk may be faster now and then
		transport := &kubejwt.Transport{Source: kubejwt.TokenFile(missing), Origin: "https://a.example"}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://a.example/", nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = transport.RoundTrip(request)
		if errors.Is(err, context.Canceled) {
			ended++
		} else if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("no file, and a context that has ended: %v", err)
		}
	}
	if ended == 0 {
		t.Error("no request was ended by its context")
	}
}

func TestTransportClosesIdleConnections(t *testing.T) {
	base := new(idle)
	client := &http.Client{Transport: &kubejwt.Transport{Source: secret, Origin: "https://a.example", Base: base}}
	client.CloseIdleConnections()
	if base.closed != 1 {
		t.Errorf("closed %d times", base.closed)
	}
	client.Transport = &kubejwt.Transport{Source: secret, Origin: "https://a.example", Base: roundTrip(nil)}
	client.CloseIdleConnections() // of a Base that can't: nothing happens
}

type idle struct {
	http.RoundTripper
	closed int
}

func (i *idle) CloseIdleConnections() { i.closed++ }

// A virtual host behind the same address is another service.
func TestTransportHost(t *testing.T) {
	for _, tt := range []struct {
		host, opaque string
		want         string // in the error; "" if there is none
	}{
		{"", "", ""},
		{"a.example", "", ""},
		{"A.EXAMPLE:443", "", ""},
		{"b.example", "", `"b.example"`},
		{"a.example:8443", "", `"a.example:8443"`},
		{"\u00e0.example", "", `"\u00e0.example"`},
		{"a.example\r\nX: y", "", `"a.example\r\nX: y"`},
		{"", "//b.example/", "Opaque"},
		{"", "https://b.example/", "Opaque"},
	} {
		sent := false
		transport := &kubejwt.Transport{Source: secret, Origin: "https://a.example", Base: roundTrip(func(r *http.Request) (*http.Response, error) {
			sent = r.Header.Get("Authorization") == "Bearer secret-token"
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
		})}
		request, err := http.NewRequest(http.MethodGet, "https://a.example/", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host, request.URL.Opaque = tt.host, tt.opaque
		_, err = transport.RoundTrip(request)
		if sent != (tt.want == "") || (err == nil) != sent {
			t.Errorf("Host %q, Opaque %q: sent %v, %v", tt.host, tt.opaque, sent, err)
		}
		if err != nil && (!strings.Contains(err.Error(), tt.want) || tt.opaque == "" && !strings.Contains(err.Error(), "https://a.example:443")) {
			t.Errorf("%v: want an error with %s", err, tt.want)
		}
	}
}

func TestTransportWithoutURL(t *testing.T) {
	transport := &kubejwt.Transport{Source: secret, Origin: "https://a.example"}
	if _, err := transport.RoundTrip(new(http.Request)); err == nil {
		t.Error("a request without a URL is no error")
	}
}

// What the base says comes back, and what the request has goes there beside the
// token.
func TestTransportBase(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct {
		name   string
		header http.Header
		status int // 0: it fails
	}{
		{"good", http.Header{"X-Other": {"x"}}, http.StatusOK},
		{"no headers", nil, http.StatusOK},
		{"401", nil, http.StatusUnauthorized},
		{"broken", nil, 0},
	} {
		var sent http.Header
		transport := &kubejwt.Transport{Source: secret, Origin: "https://a.example", Base: roundTrip(func(r *http.Request) (*http.Response, error) {
			sent = r.Header
			if tt.status == 0 {
				return nil, broken
			}
			return &http.Response{StatusCode: tt.status, Body: http.NoBody}, nil
		})}
		response, err := transport.RoundTrip(&http.Request{URL: &url.URL{Scheme: "https", Host: "a.example", Path: "/"}, Header: tt.header})
		if tt.status == 0 && !errors.Is(err, broken) || tt.status != 0 && (err != nil || response.StatusCode != tt.status) {
			t.Errorf("%s: %v, %v", tt.name, response, err)
		}
		if sent.Get("Authorization") != "Bearer secret-token" || sent.Get("X-Other") != tt.header.Get("X-Other") {
			t.Errorf("%s: sent %v", tt.name, sent)
		}
	}
}

// An error is often logged. If it repeats the token, because the service does, another
// one takes its place. All others come back as they are.
func TestTransportErrorsAreWithoutToken(t *testing.T) {
	const token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhIn0.c2lnbmF0dXJlIG9mIGEgdG9rZW4"
	const signature = "c2lnbmF0dXJlIG9mIGEgdG9rZW4"
	encode := base64.StdEncoding.EncodeToString
	for _, tt := range []struct{ name, answer, want string }{
		{"plain", "nonsense\r\n\r\n", `malformed HTTP response "nonsense"`},
		{"15 letters", signature[:15] + "\r\n\r\n", `malformed HTTP response "` + signature[:15] + `"`},
		{"16 letters", signature[:16] + "\r\n\r\n", "repeats the token"},
		{"the token", token + "\r\n\r\n", "repeats the token"},
		{"its signature", signature + "\r\n\r\n", "repeats the token"},
		{"in base64", encode([]byte("Bearer "+token)) + "\r\n\r\n", "repeats the token"},
		{"in a header", "HTTP/1.1 200 OK\r\nno colon " + signature + "\r\n\r\n", "repeats the token"},
		{"4 KiB in front", strings.Repeat("A", 4096) + signature + "\r\n\r\n", "repeats the token"},
	} {
		address := testserver.Raw(t, tt.answer)
		base := new(http.Transport)
		source := oauth2.StaticTokenSource(&oauth2.Token{AccessToken: token})
		client := &http.Client{Transport: &kubejwt.Transport{Source: source, Origin: "http://" + address, Base: base}}
		_, err := client.Get("http://" + address)
		if err == nil || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 300 {
			t.Errorf("%s: %.300v: want %s", tt.name, err, tt.want)
		}
	}
}

// So much of an error is searched for the token. What is longer is not passed on.
func TestTransportErrorsAreBounded(t *testing.T) {
	for size, same := range map[int]bool{4 << 10: true, 4<<10 + 1: false} {
		given := errors.New(strings.Repeat("a", size))
		transport := &kubejwt.Transport{Source: secret, Origin: "https://a.example", Base: roundTrip(func(*http.Request) (*http.Response, error) {
			return nil, given
		})}
		request := httptest.NewRequest("GET", "https://a.example/", nil)
		if _, err := transport.RoundTrip(request); err == nil || (err == given) != same {
			t.Errorf("an error of %d bytes: it is the same: %v, want %v", size, err == given, same)
		}
	}
}

// closed is a body that says whether it was closed.
type closed struct {
	io.Reader
	done bool
}

func (c *closed) Close() error { c.done = true; return nil }

func TestTransportRefuses(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct {
		name      string
		transport kubejwt.Transport
		url       string
		header    http.Header
		want      string
	}{
		{name: "no Source", transport: kubejwt.Transport{Origin: "https://a.example"}, want: "Source"},
		{name: "no Origin", transport: kubejwt.Transport{Source: secret}, want: "Origin"},
		{name: "Origin with a path", transport: kubejwt.Transport{Source: secret, Origin: "https://a.example/x"}, want: "Origin"},
		{name: "Origin with a slash", transport: kubejwt.Transport{Source: secret, Origin: "https://a.example/"}, want: "Origin"},
		{name: "Origin with a query", transport: kubejwt.Transport{Source: secret, Origin: "https://a.example?x"}, want: "Origin"},
		{name: "Origin with an empty fragment", transport: kubejwt.Transport{Source: secret, Origin: "https://a.example#"}, want: "Origin"},
		{name: "Origin with a user", transport: kubejwt.Transport{Source: secret, Origin: "https://u@a.example"}, want: "Origin"},
		{name: "Origin without a scheme", transport: kubejwt.Transport{Source: secret, Origin: "a.example"}, want: "Origin"},
		{name: "Origin of another scheme", transport: kubejwt.Transport{Source: secret, Origin: "ftp://a.example"}, want: "Origin"},
		{name: "http where https is the origin", transport: kubejwt.Transport{Source: secret, Origin: "https://a.example"}, url: "http://a.example/", want: "http://a.example:80"},
		{name: "another port", transport: kubejwt.Transport{Source: secret, Origin: "https://a.example"}, url: "https://a.example:8443/", want: "8443"},
		{name: "a name that starts alike", transport: kubejwt.Transport{Source: secret, Origin: "https://a.example"}, url: "https://a.example.evil/", want: "evil"},
		{name: "Authorization already", transport: kubejwt.Transport{Source: secret, Origin: "https://a.example"}, header: http.Header{"Authorization": {"Basic x"}}, want: "Authorization"},
		{name: "authorization already", transport: kubejwt.Transport{Source: secret, Origin: "https://a.example"}, header: http.Header{"authorization": {"Basic x"}}, want: "Authorization"},
		{name: "a Source that fails", transport: kubejwt.Transport{Source: failing{broken}, Origin: "https://a.example"}, want: "broken"},
		{name: "a Source without a token", transport: kubejwt.Transport{Source: failing{nil}, Origin: "https://a.example"}, want: "Source"},
		{name: "a Source of an empty token", transport: kubejwt.Transport{Source: oauth2.StaticTokenSource(new(oauth2.Token)), Origin: "https://a.example"}, want: "Source"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := &closed{Reader: strings.NewReader("body")}
			url := tt.url
			if url == "" {
				url = "https://a.example/"
			}
			request := httptest.NewRequest(http.MethodPost, url, body)
			request.Response = nil
			for name, values := range tt.header {
				request.Header[name] = values
			}
			_, err := tt.transport.RoundTrip(request)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v: want an error with %q", err, tt.want)
			}
			if !body.done {
				t.Error("the body is not closed")
			}
			if request.Header.Get("Authorization") != tt.header.Get("Authorization") {
				t.Error("the caller's request was changed")
			}
		})
	}
}

type failing struct{ err error }

func (f failing) Token() (*oauth2.Token, error) { return nil, f.err }
