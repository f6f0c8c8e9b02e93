package origin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestStatusError(t *testing.T) {
	const redirect = ": redirects are followed once, on the same origin and without a bearer token: configure the URL that has the answer"
	u := mustParse(t, "https://a.example/keys?"+secret)
	for _, tt := range []struct {
		code   int
		unsent string
		want   string
	}{
		{401, "", " (a bearer token was sent)"},
		{403, "", " (a bearer token was sent)"},
		{401, "why", " (no bearer token was sent: why)"},
		{403, "why", " (no bearer token was sent: why)"},
		{299, "why", ""},
		{300, "why", redirect},
		{399, "", redirect},
		{400, "", ""},
		{404, "why", ""},
	} {
		err := &StatusError{URL: u, Code: tt.code, Unsent: tt.unsent}
		if want := fmt.Sprintf("GET https://a.example/keys: status %d%s", tt.code, tt.want); err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// Of our own transport's errors those are told that hold nothing of an answer. A
// caller's Transport may say anything.
func TestHarmless(t *testing.T) {
	network := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	unknown := x509.UnknownAuthorityError{}
	certificate := &tls.CertificateVerificationError{Err: errors.New("expired")}
	const broken = "no answer in HTTP over TLS, from the server or from a proxy on the way"
	const invalid = "the server's certificate is not valid, with an error that quotes the request or a token"
	const quotes = "Config.Transport failed, with an error that quotes the request or the answer"
	for _, tt := range []struct {
		name      string
		err       error
		ours      string
		transport string // what is told of the same error of a caller's Transport
	}{
		{"too late", context.DeadlineExceeded, "no answer within the time allowed", "no answer within the time allowed"},
		{"another CA", unknown, unknown.Error() + ": is Config.CAFile the CA of this server?", unknown.Error() + ": is Config.CAFile the CA of this server?"},
		{"the network", network, network.Error(), "Config.Transport: " + network.Error()},
		{"a certificate", certificate, certificate.Error(), "Config.Transport: " + certificate.Error()},
		{"no TLS", tls.RecordHeaderError{Msg: "no TLS"}, "tls: no TLS", "Config.Transport: tls: no TLS"},
		{"the end", io.EOF, "EOF", "Config.Transport: EOF"},
		{"cancelled", context.Canceled, "the request was cancelled", "Config.Transport: context canceled"},
		{"else", errors.New("down"), broken, "Config.Transport: down"},
		{"a long text", errors.New(strings.Repeat("a", 513)), broken, "Config.Transport: " + strings.Repeat("a", 512)},
		{"a JWT", errors.New("got eyJhbGciOiJSUzI1NiJ9"), broken, quotes},
		{"the bearer", errors.New("sent " + secret), broken, quotes},
		{"a piece of it", errors.New("sent " + secret[3:19]), broken, quotes},
		{"fewer letters of it", errors.New("sent " + secret[3:18]), broken, "Config.Transport: sent " + secret[3:18]},
		{"the bearer behind what is shown", errors.New(strings.Repeat("a", 512) + secret), broken, "Config.Transport: " + strings.Repeat("a", 512)},
		{"a certificate with the bearer", &tls.CertificateVerificationError{Err: errors.New(secret)}, invalid, quotes},
		{"control bytes", errors.New("a\x1b[2J\n"), broken, `Config.Transport: "a\x1b[2J\n"`},
		{"other letters", errors.New("\u202e\x7f"), broken, `Config.Transport: "\u202e\x7f"`},
	} {
		request := &http.Request{Header: http.Header{"Authorization": {"Bearer " + secret}}}
		ours, given := &Client{prefix: "Config."}, &Client{prefix: "Config.", given: http.DefaultTransport}
		wrapped := tt.err
		if tt.err == context.DeadlineExceeded {
			wrapped = fmt.Errorf("quoting %s: %w", secret, tt.err)
		}
		if got := ours.harmless(request, wrapped).Error(); got != tt.ours {
			t.Errorf("%s: ours: %s, want %s", tt.name, got, tt.ours)
		}
		if got := given.harmless(request, wrapped).Error(); got != tt.transport {
			t.Errorf("%s: a Transport: %s, want %s", tt.name, got, tt.transport)
		}
	}
	without := &http.Request{Header: make(http.Header)}
	given := &Client{prefix: "Config.", given: http.DefaultTransport}
	if got := given.harmless(without, errors.New("down")).Error(); got != "Config.Transport: down" {
		t.Errorf("without a bearer: %s", got)
	}
	// It would pass for a verdict.
	err := given.harmless(without, &StatusError{Code: 401})
	if _, ok := errors.AsType[*StatusError](err); ok {
		t.Errorf("%#v is a StatusError of ours", err)
	}
}

// A query may be a signature. Neither it nor one of its longer values is told.
func TestLeaksOfQueries(t *testing.T) {
	const query = "v=1&seven=1234567&eight=12345678&sig=%2Fsignature"
	for text, want := range map[string]bool{
		"down":                              false,
		"is it down? ask":                   false,
		"Get https://b.example/keys: down":  false,
		"Get https://b.example/keys?x":      true,
		"asked for " + query:                true,
		"sig is %2Fsignature":               true,
		"sig is /signature":                 true,
		"status 1":                          false,
		"1234567 tries":                     false,
		"12345678 tries":                    true,
		"x509: unknown, eyJhbGciOiJSUzI1Ni": true,
	} {
		request := &http.Request{URL: mustParse(t, "https://a.example/keys?"+query).url}
		if got := leaks(errors.New(text), request); got != want {
			t.Errorf("%s: %t, want %t", text, got, want)
		}
	}
	short := &http.Request{URL: mustParse(t, "https://a.example/keys?a=b").url}
	if !leaks(errors.New("asked for a=b"), short) {
		t.Error("a short query is told")
	}
	// The reason is told without the URL, unless that has the secret too.
	given := &Client{prefix: "Config.", given: http.DefaultTransport}
	for _, tt := range []struct{ err, want string }{
		{"down", "Config.Transport: down"},
		{"asked for a=b", "Config.Transport failed, with an error that quotes the request or the answer"},
	} {
		about := &url.Error{Op: "Get", URL: short.URL.String(), Err: errors.New(tt.err)}
		if got := given.harmless(short, about).Error(); got != tt.want {
			t.Errorf("%v: %s, want %s", about, got, tt.want)
		}
	}
	plain := &url.Error{Op: "Get", URL: "https://a.example/keys", Err: errors.New("down")}
	if got, want := given.harmless(short, plain).Error(), `Config.Transport: Get "https://a.example/keys": down`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// The names are quoted, and the error is found by errors.As as before.
func TestHostnames(t *testing.T) {
	named := &x509.Certificate{DNSNames: []string{"b.example", "\x1b[2J"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}}
	for _, tt := range []struct {
		err  x509.HostnameError
		want string
	}{
		{x509.HostnameError{Certificate: named, Host: "a.example"},
			`tls: failed to verify certificate: x509: certificate is valid for "b.example", "\x1b[2J", not a.example`},
		{x509.HostnameError{Certificate: named, Host: "10.0.0.2"},
			"tls: failed to verify certificate: x509: certificate is valid for 10.0.0.1, not 10.0.0.2"},
		{x509.HostnameError{Certificate: new(x509.Certificate), Host: "a.example"},
			"tls: failed to verify certificate: x509: certificate is not valid for any names, but wanted to match a.example"},
	} {
		ours := &Client{prefix: "Config."}
		got := ours.harmless(new(http.Request), &tls.CertificateVerificationError{Err: tt.err})
		if found, ok := errors.AsType[x509.HostnameError](got); got.Error() != tt.want || !ok || found.Host != tt.err.Host {
			t.Errorf("%v, %t, want %s", got, ok, tt.want)
		}
	}
}

func TestViaProxy(t *testing.T) {
	through := func(proxy *url.URL, err error) func(*http.Request) (*url.URL, error) {
		return func(*http.Request) (*url.URL, error) { return proxy, err }
	}
	proxy := mustParse(t, "https://proxy.example").url
	const names = " (through the proxy that %s names: to ask a.example directly, list it in NO_PROXY)"
	for _, tt := range []struct {
		name     string
		client   *Client
		variable string
		want     string
	}{
		{"by HTTPS_PROXY", &Client{proxy: through(proxy, nil)}, "HTTPS_PROXY", fmt.Sprintf(names, "HTTPS_PROXY")},
		{"by https_proxy", &Client{proxy: through(proxy, nil)}, "https_proxy", fmt.Sprintf(names, "https_proxy")},
		{"by nobody knows what", &Client{proxy: through(proxy, nil)}, "ALL_PROXY", " (through a proxy that the environment names)"},
		{"not for this", &Client{proxy: through(nil, nil)}, "HTTPS_PROXY", ""},
		{"an odd variable", &Client{proxy: through(proxy, errors.New("odd"))}, "HTTPS_PROXY", ""},
		{"in a pod", &Client{}, "HTTPS_PROXY", ""},
		{"by a Transport", &Client{given: http.DefaultTransport, proxy: through(proxy, nil)}, "HTTPS_PROXY", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, variable := range []string{"HTTPS_PROXY", "https_proxy", "ALL_PROXY"} {
				t.Setenv(variable, "")
			}
			t.Setenv(tt.variable, "https://proxy.example")
			request := &http.Request{URL: mustParse(t, "https://a.example:8443/x").url}
			if got := tt.client.viaProxy(request); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) { synctest.Test(t, retriesAfter) }

func retriesAfter(t *testing.T) {
	in := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	for _, tt := range []struct {
		name        string
		code        int
		value       string
		least, most time.Duration
	}{
		{"429", 429, "7", 7 * time.Second, 7 * time.Second},
		{"503", 503, "7", 7 * time.Second, 7 * time.Second},
		{"500", 500, "7", 0, 0},
		{"none", 503, "", 0, 0},
		{"no number", 503, "soon", 0, 0},
		{"negative", 503, "-1", 0, 0},
		{"ten minutes", 503, "600", 10 * time.Minute, 10 * time.Minute},
		{"a day", 503, "86400", 10 * time.Minute, 10 * time.Minute},
		{"out of range", 503, "99999999999999999999", 10 * time.Minute, 10 * time.Minute},
		{"a date", 503, in(100 * time.Second), 100 * time.Second, 121 * time.Second},
		{"a date of tomorrow", 503, in(24 * time.Hour), 10 * time.Minute, 12*time.Minute + time.Second},
		{"a date of yesterday", 503, in(-24 * time.Hour), 0, time.Second},
	} {
		got := retryAfter(&http.Response{StatusCode: tt.code, Header: http.Header{"Retry-After": {tt.value}}})
		if got < tt.least || got > tt.most {
			t.Errorf("%s: %v, want %v to %v", tt.name, got, tt.least, tt.most)
		}
	}
}
