package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/internal/pemfile"
	"github.com/kubejwt/kubejwt/internal/quote"
	"github.com/kubejwt/kubejwt/internal/reread"
)

const callHelp = `usage: kubejwt call -token-file FILE [flags] URL

Calls a service with a mounted token, and prints the status of the answer and
its body, indented and in ASCII. The file is read again as kubelet renews it;
the token goes to the scheme, host and port of URL and nowhere else: redirects
are not followed, and for http:// no proxy is used. With -interval, -ca-file is
read again too. If the answer repeats the token or a part of it, that is
withheld, in base64 and hexadecimal too.

Exit status: 0 if the (last) answer was 2xx, 1 if not, 2 wrong usage.

In a pod, every five seconds:

    kubejwt call -token-file /var/run/secrets/tokens/data-store -interval 5s \
      -ca-file /etc/data-store/ca.crt https://data-store.prod.svc/

In a clone of the repository, while "kubejwt serve" of its help is running:

    go run ./cmd/kubejwt call http://127.0.0.1:8080/auth/data-store \
      -token-file testdata/clusters/kube-apiserver-1.36/rs256/tokens/pod_bound.jwt

flags:
`

const (
	maxBody   = 64 << 10 // that is printed
	maxCAFile = 1 << 20
)

// callFlags are those of call.
type callFlags struct {
	tokenFile string
	caFile    string
	interval  time.Duration
	timeout   time.Duration
}

func (f *callFlags) define(flags *flag.FlagSet) {
	flags.StringVar(&f.tokenFile, "token-file", "", "`file` with the token, as a projected volume mounts it. Required")
	flags.StringVar(&f.caFile, "ca-file", "", "`file` with the CA of the service (default: the system's roots)")
	durationVar(flags, &f.interval, "interval", 0, "call repeatedly, with this `pause` in between; 0 means once")
	durationVar(flags, &f.timeout, "timeout", 10*time.Second, "`time` for one call")
}

func runCall(ctx context.Context, p process, flags *flag.FlagSet, args []string) error {
	var f callFlags
	f.define(flags)
	args, err := parse(flags, args)
	if err != nil {
		return err
	}
	target, err := f.check(args)
	if err != nil {
		return err
	}
	remove, err := keepPipes(ctx, flags, "token-file", "ca-file")
	defer remove()
	if err != nil {
		return err
	}
	c := newClient(f, target, p.stderr)
	if err := c.readRoots(); err != nil {
		return &usageError{err.Error()}
	}
	if target.Scheme == "http" && !isLoopback(target.Hostname()) {
		complain(p.stderr, "call", "the token travels unencrypted: whoever sees it can use it")
	}
	ok := false
	for {
		answer, err := c.call(ctx, p)
		if err == nil || ctx.Err() == nil {
			ok = answer // a call that was broken off here has none
		}
		if f.interval == 0 {
			return verdictOf(ok, err)
		}
		if err != nil && ctx.Err() == nil {
			complain(p.stderr, "call", inFlags("call", err.Error()))
		}
		select {
		case <-ctx.Done():
			return verdictOf(ok, nil)
		case <-time.After(f.interval):
		}
		if err := c.readRoots(); err != nil {
			complain(p.stderr, "call", err.Error()+": the CA read before stays in use")
		}
	}
}

func verdictOf(ok bool, err error) error {
	if err == nil && !ok {
		return errRefused
	}
	return err
}

func (f *callFlags) check(args []string) (*url.URL, error) {
	if len(args) != 1 {
		return nil, usagef("%d arguments: want one URL", len(args))
	}
	if f.tokenFile == "" {
		return nil, usagef("-token-file is required: the path in a container where the token is mounted")
	}
	if f.interval < 0 || f.timeout <= 0 {
		return nil, usagef("-interval %v, -timeout %v: want no negative times, and a timeout", f.interval, f.timeout)
	}
	if quote.HoldsToken(args[0]) {
		return nil, usagef("the URL looks like it has a token in it, which servers and proxies log: " +
			"give the token in a file, with -token-file")
	}
	target, err := url.Parse(args[0])
	isHTTP := err == nil && (target.Scheme == "https" || target.Scheme == "http")
	if !isHTTP || target.Hostname() == "" || target.User != nil {
		return nil, usagef("%s: want a URL as https://data-store.prod.svc/", quoted(args[0]))
	}
	return target, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// A client calls one URL.
type client struct {
	stderr io.Writer
	target *url.URL
	caFile string
	roots  []byte // the content of caFile that http trusts
	token  *sentToken
	http   *http.Client
}

func newClient(f callFlags, target *url.URL, stderr io.Writer) *client {
	c := &client{
		stderr: stderr, target: target, caFile: f.caFile,
		token: &sentToken{source: kubejwt.TokenFile(f.tokenFile)},
	}
	c.http = &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       f.timeout,
	}
	c.trust(nil)
	return c
}

// trust makes c trust roots. Nil means the system's.
func (c *client) trust(roots *x509.CertPool) {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.TLSClientConfig = &tls.Config{RootCAs: roots}
	// Package net/http logs what a service sends on an idle connection, and that may
	// repeat the token.
	base.DisableKeepAlives = true
	if c.target.Scheme == "http" {
		base.Proxy = nil // it would get the token in clear
	}
	c.http.Transport = &kubejwt.Transport{Source: c.token, Origin: c.target.Scheme + "://" + c.target.Host, Base: base}
}

// readRoots reads the CA file, if there is one, and trusts what is new in it.
func (c *client) readRoots() error {
	if c.caFile == "" {
		return nil
	}
	data, err := reread.Read(c.caFile, maxCAFile)
	if err != nil {
		return fmt.Errorf("-ca-file %s: %w", c.caFile, err)
	}
	if c.roots != nil && bytes.Equal(data, c.roots) {
		return nil
	}
	roots, err := pemfile.ParseRoots(data)
	if err != nil {
		return fmt.Errorf("-ca-file %s: %w", c.caFile, err)
	}
	for _, why := range roots.Unused {
		complain(c.stderr, "call", fmt.Sprintf("-ca-file %s: a root certificate is not used: %s", c.caFile, why))
	}
	c.roots = data
	c.trust(roots.Pool)
	return nil
}

// call prints the answer, and reports whether it is 2xx.
func (c *client) call(ctx context.Context, p process) (ok bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.target.String(), nil)
	if err != nil {
		return false, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return false, c.withoutToken(err)
	}
	defer response.Body.Close()
	body, err := readAtMost(response.Body, maxBody+1)
	if err != nil {
		return false, c.withoutToken(err)
	}
	echoed := newEchoes(c.token.last)
	status := strings.ReplaceAll(echoed.withhold(response.Status), "\n", " ")
	if len(status) > maxQuoted {
		status = status[:maxQuoted] + "..."
	}
	fmt.Fprintln(p.stdout, status)
	text := echoed.withhold(string(body[:min(len(body), maxBody)]))
	for line := range strings.Lines(text) {
		// Indented, so that no line of it looks like the status of another answer.
		fmt.Fprintln(p.stdout, "  "+strings.TrimRight(line, "\r\n"))
	}
	if len(body) > maxBody {
		fmt.Fprintf(p.stdout, "(the first %d bytes)\n", maxBody)
	}
	return response.StatusCode/100 == 2, nil
}

// withoutToken is err without what a server repeats of the token in an answer
// that is no HTTP.
func (c *client) withoutToken(err error) error {
	return errors.New(newEchoes(c.token.last).withhold(err.Error()))
}

// sentToken is a source that remembers the token that it gave last.
type sentToken struct {
	source oauth2.TokenSource
	last   string
}

func (s *sentToken) Token() (*oauth2.Token, error) {
	token, err := s.source.Token()
	if err == nil {
		s.last = token.AccessToken
	}
	return token, err
}
