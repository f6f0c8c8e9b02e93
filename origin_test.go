package kubejwt_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

// A caller's Transport tells its own errors; what the answer said stays untold.
func TestTransportErrors(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	known := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}})
	bearer := filepath.Join(t.TempDir(), "token")
	writeFile(t, bearer, []byte(secretText))
	for name, tt := range map[string]struct {
		answer roundTrip
		want   string
	}{
		"its own": {func(*http.Request) (*http.Response, error) { return nil, errors.New("the tunnel is down") }, "the tunnel is down"},
		"a network's": {func(*http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
		}, "connection refused"},
		"a network's that quotes the bearer": {func(r *http.Request) (*http.Response, error) {
			return nil, fmt.Errorf("giving up on %v: %w", r.Header, &net.OpError{Op: "dial", Err: errors.New("refused")})
		}, "quotes the request"},
		"the end, with the bearer": {func(r *http.Request) (*http.Response, error) {
			return nil, fmt.Errorf("%v: %w", r.Header, io.EOF)
		}, "quotes the request"},
		"a token": {func(*http.Request) (*http.Response, error) {
			return nil, errors.New("sent eyJhbGciOiJSUzI1NiIs")
		}, "quotes the request"},
		"a long story": {func(*http.Request) (*http.Response, error) {
			return nil, errors.New(strings.Repeat("it broke ", 1000))
		}, "it broke it broke"},
		"an error of ours": {func(*http.Request) (*http.Response, error) { return nil, new(kubejwt.InvalidTokenError) }, "refused by rule"},
		"another of ours":  {func(*http.Request) (*http.Response, error) { return nil, new(kubejwt.NotAllowedError) }, "may call"},
		"cancelled":        {func(*http.Request) (*http.Response, error) { return nil, context.Canceled }, "canceled"},
		"too late":         {func(*http.Request) (*http.Response, error) { return nil, context.DeadlineExceeded }, "no answer within"},
		"a bad Location": {func(r *http.Request) (*http.Response, error) {
			header := http.Header{"Location": {"http://[::" + secretText}}
			return &http.Response{StatusCode: http.StatusFound, Header: header, Body: http.NoBody, Request: r}, nil
		}, "GET"},
		"nothing": {func(*http.Request) (*http.Response, error) { return nil, nil }, "GET"},
		"a panic": {func(*http.Request) (*http.Response, error) { panic(secretText) }, "panicked"},
	} {
		config := cluster.Config("data-store")
		config.Keys = kubejwt.RemoteKeys{Transport: tt.answer, BearerTokenFile: bearer}
		_, err := mustNew(t, config).Verify(t.Context(), known)
		if !errors.Is(err, kubejwt.ErrKeysUnavailable) || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 1000 {
			t.Errorf("%s: %v", name, err)
		}
		mustHoldNoSecret(t, fmt.Sprint(err))
		_, isNotAllowed := errors.AsType[*kubejwt.NotAllowedError](err)
		if reasonOf(err) != "" || isNotAllowed || errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v is more than ErrKeysUnavailable", name, err)
		}
	}
}

func TestWrongCertificate(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	known := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}})
	wrongName, wrongNameRoot := newCertificate(t, "127.0.0.2", time.Hour)
	expired, expiredRoot := newCertificate(t, "127.0.0.1", -time.Minute)
	unknownCA, _ := newCertificate(t, "127.0.0.1", time.Hour)
	for _, tt := range []struct {
		name        string
		certificate tls.Certificate
		roots       []byte
		want        string
	}{
		{"unknown CA", unknownCA, nil, "CAFile"},
		{"wrong name", wrongName, wrongNameRoot, "127.0.0.2"},
		{"expired", expired, expiredRoot, "expired"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := newKeyServer(t, cluster)
			server.certificate.Store(&tt.certificate)
			if tt.roots != nil {
				writeFile(t, server.caFile, tt.roots)
			}
			_, err := mustNew(t, server.config()).Verify(t.Context(), known)
			if !errors.Is(err, kubejwt.ErrKeysUnavailable) || !strings.Contains(err.Error(), tt.want) {
				t.Error(err)
			}
			if n := server.requests.Load(); n != 0 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// The API server got a certificate of a new CA, and then the file the new root.
func TestRotatedCA(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	server := newKeyServer(t, cluster)
	certificate, roots := newCertificate(t, "127.0.0.1", time.Hour)
	server.certificate.Store(&certificate)
	synctest.Test(t, func(t *testing.T) {
		known := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}})
		v := mustNew(t, server.config())
		verify := func() error { _, err := v.Verify(t.Context(), known); return err }
		if err := verify(); !errors.Is(err, kubejwt.ErrKeysUnavailable) {
			t.Fatal(err)
		}
		writeFile(t, server.caFile, roots[:len(roots)/2]) // half-written
		if err := verify(); !errors.Is(err, kubejwt.ErrKeysUnavailable) {
			t.Fatal(err)
		}
		writeFile(t, server.caFile, roots)
		soon(t, "with the new root", verify)
	})
}

func TestRotatedBearer(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	server := newKeyServer(t, cluster)
	server.setBearer("the-next-one")
	synctest.Test(t, func(t *testing.T) {
		known := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}})
		v := mustNew(t, server.config())
		verify := func() error { _, err := v.Verify(t.Context(), known); return err }
		if err := verify(); !errors.Is(err, kubejwt.ErrKeysUnavailable) || !strings.Contains(err.Error(), "401 (a bearer token was sent)") {
			t.Fatal(err)
		}
		writeFile(t, server.tokenFile, []byte("the-next-one\n"))
		soon(t, "with the new token", verify)
	})
}

func TestMissingBearer(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	known := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}})
	server := newKeyServer(t, cluster)
	server.setBearer("")
	for name, content := range map[string]string{"missing": "-", "empty": "\n", "two lines": "a\nb", "too large": strings.Repeat("a", 17<<10)} {
		writeFile(t, server.tokenFile, []byte(content))
		if content == "-" {
			os.Remove(server.tokenFile)
		}
		_, err := mustNew(t, server.config()).Verify(t.Context(), known)
		if !errors.Is(err, kubejwt.ErrKeysUnavailable) || !strings.Contains(err.Error(), "RemoteKeys.BearerTokenFile") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := server.requests.Load(); n != 0 {
		t.Errorf("%d requests without the bearer", n)
	}
}

func TestRetryAfterHeader(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	date := func(d time.Duration) func() string {
		return func() string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	}
	text := func(s string) func() string { return func() string { return s } }
	for _, tt := range []struct {
		name       string
		status     int
		retryAfter func() string
		want       time.Duration // with keys at hand
	}{
		{"429", http.StatusTooManyRequests, text("120"), 2 * time.Minute},
		{"503", http.StatusServiceUnavailable, text("120"), 2 * time.Minute},
		{"a date", http.StatusTooManyRequests, date(2 * time.Minute), 2 * time.Minute},
		{"a day", http.StatusTooManyRequests, text("86400"), 10 * time.Minute},
		{"a date without end", http.StatusTooManyRequests, text("Fri, 31 Dec 9999 23:59:59 GMT"), 10 * time.Minute},
		{"a number without end", http.StatusTooManyRequests, text(strings.Repeat("9", 40)), 10 * time.Minute},
		{"negative", http.StatusTooManyRequests, text("-5"), 0},
		{"nonsense", http.StatusTooManyRequests, text(secretText), 0},
		{"none", http.StatusTooManyRequests, text(""), 0},
		{"of a 500", http.StatusInternalServerError, text("120"), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := newKeyServer(t, cluster)
			synctest.Test(t, func(t *testing.T) {
				known := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}})
				unknown := cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}, Header: map[string]any{"kid": "unknown"}})
				v, cold := mustNew(t, server.config()), mustNew(t, server.config())
				mustVerify(t, v, known)
				retryAfter := tt.retryAfter()
				server.answerWith(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Retry-After", retryAfter)
					http.Error(w, secretText, tt.status)
				})
				_, err := v.Verify(t.Context(), unknown)
				if !errors.Is(err, kubejwt.ErrKeysUnavailable) {
					t.Fatal(err)
				}
				mustHoldNoSecret(t, err.Error())
				spread := time.Second
				if tt.name == "a date" { // which is the same for all who were told of it
					spread += tt.want / 5
				}
				if in := time.Until(v.Stats().NextFetch); in > tt.want+spread || in < tt.want {
					t.Errorf("the next attempt in %v, want %v", in, tt.want)
				}
				cold.Verify(t.Context(), known)
				if in := time.Until(cold.Stats().NextFetch); in > min(tt.want, 30*time.Second)+time.Second {
					t.Errorf("without keys the next attempt in %v", in)
				}
			})
		})
	}
}
