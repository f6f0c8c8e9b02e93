package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/kubejwt/kubejwt"
)

const callStory = `usage: kubejwt call -token-file FILE [flags] URL

Calls a service with a mounted token, and prints the status of the answer and
its body, indented and in ASCII. The file is read again as kubelet renews it;
the token goes to the scheme, host and port of URL and nowhere else. Redirects
are not followed.

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
	flags.DurationVar(&f.interval, "interval", 0, "call again and again, with this pause; 0 means once")
	flags.DurationVar(&f.timeout, "timeout", 10*time.Second, "for one call")
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
	client, err := f.client(target)
	if err != nil {
		return err
	}
	if target.Scheme == "http" && !isLoopback(target.Hostname()) {
		fmt.Fprintln(p.stderr, "kubejwt call: the token travels unencrypted: whoever sees it can use it")
	}
	ok := false
	for {
		answer, err := callOnce(ctx, p, client, target)
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
	if looksLikeToken(args[0]) {
		return nil, usagef("the URL looks like it has a token in it, which servers and proxies log: give the file, with -token-file")
	}
	target, err := url.Parse(args[0])
	if err != nil || target.Hostname() == "" || target.Scheme != "https" && target.Scheme != "http" || target.User != nil {
		return nil, usagef("%s: want a URL as https://data-store.prod.svc/", quoted(args[0]))
	}
	return target, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (f *callFlags) client(target *url.URL) (*http.Client, error) {
	base := http.DefaultTransport.(*http.Transport).Clone()
	if f.caFile != "" {
		data, err := readFile(f.caFile, maxCAFile)
		if err != nil {
			return nil, usagef("-ca-file: %v", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(data) {
			return nil, usagef("-ca-file %s: no certificate in PEM", f.caFile)
		}
		base.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	return &http.Client{
		Transport: &kubejwt.Transport{
			Source: kubejwt.TokenFile(f.tokenFile),
			Origin: target.Scheme + "://" + target.Host,
			Base:   base,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       f.timeout,
	}, nil
}

// callOnce prints the answer, and reports whether it is 2xx.
func callOnce(ctx context.Context, p process, client *http.Client, target *url.URL) (ok bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return false, err
	}
	response, err := client.Do(request)
	if err != nil {
		return false, err
	}
	defer response.Body.Close()
	body, err := readAtMost(response.Body, maxBody+1)
	if err != nil {
		return false, err
	}
	fmt.Fprintln(p.stdout, strings.ReplaceAll(withoutTokens(response.Status), "\n", " "))
	text := withoutTokens(string(body[:min(len(body), maxBody)]))
	for line := range strings.Lines(text) {
		// Indented, so that no line of it passes for the status of another answer.
		fmt.Fprintln(p.stdout, "  "+strings.TrimRight(line, "\r\n"))
	}
	if len(body) > maxBody {
		fmt.Fprintf(p.stdout, "(the first %d bytes)\n", maxBody)
	}
	return response.StatusCode/100 == 2, nil
}

// withoutTokens is text without the token that a service may echo.
func withoutTokens(text string) string {
	return regexp.MustCompile(`\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_.-]*`).ReplaceAllLiteralString(text, withheld)
}
