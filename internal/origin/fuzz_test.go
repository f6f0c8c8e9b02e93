package origin

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

// FuzzOf: for any two URLs that have one Origin, net/http dials one address and
// sends one Host.
func FuzzOf(f *testing.F) {
	for _, pair := range [][2]string{
		{"https://api.shop.example", "https://ap\u0130.shop.example"},
		{"https://api.shop.example", "https://ap%C4%B0.shop.example"},
		{"https://strasse.example", "https://stra\u1e9ee.example"},
		{"https://k.example", "https://\u212a.example"}, // the Kelvin sign
		{"https://a.example", "https://A.EXAMPLE:443"},
		{"https://a.example", "https://a.example:0443"},
		{"http://a.example", "http://a.example:"},
		{"https://[::1]", "https://[0:0::0001]:443"},
		{"https://[fe80::1%25eth0]", "https://[fe80::1%25ETH0]"},
		{"https://a.example", "https://a.example."},
		{"https://127.0.0.1", "https://0177.0.0.1"},
		{"https://a.example", "https://a。example"},
	} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		first, errFirst := url.Parse(a)
		second, errSecond := url.Parse(b)
		if errFirst != nil || errSecond != nil {
			return
		}
		one, errFirst := Of(first)
		other, errSecond := Of(second)
		if errFirst != nil || errSecond != nil || one != other {
			return
		}
		if asked, askedToo := whoIsAsked(t, first), whoIsAsked(t, second); asked != askedToo {
			t.Errorf("%q and %q are %s, and net/http asks %s and %s", a, b, one, asked, askedToo)
		}
	})
}

// whoIsAsked is the address that net/http dials for u, and the Host it sends
// there, each in one spelling.
func whoIsAsked(t *testing.T, u *url.URL) string {
	var address, host string
	dial := func(_ context.Context, _, to string) (net.Conn, error) {
		address = to
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			request, err := http.ReadRequest(bufio.NewReader(theirs))
			if err != nil {
				return
			}
			host = request.Host
			io.WriteString(theirs, "HTTP/1.1 204 No Content\r\n\r\n")
		}()
		return ours, nil
	}
	transport := &http.Transport{DialContext: dial, DialTLSContext: dial, DisableKeepAlives: true}
	plain := &url.URL{Scheme: u.Scheme, Host: u.Host}
	response, err := transport.RoundTrip(&http.Request{Method: http.MethodGet, URL: plain, Host: plain.Host, Header: make(http.Header)})
	if err != nil {
		t.Fatalf("%s has an origin, and net/http fails: %v", u, err)
	}
	response.Body.Close()
	return fmt.Sprintf("%s for %s", oneSpelling(u, address), oneSpelling(u, host))
}

// oneSpelling of an address or a Host: DNS names are alike in any case of ASCII
// letters, an IP address is alike however it is written, and the default port may
// be left out.
func oneSpelling(u *url.URL, hostport string) string {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		host, port = strings.Trim(hostport, "[]"), ""
	}
	if port == map[string]string{"https": "443", "http": "80"}[u.Scheme] {
		port = ""
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.String() + ":" + port
	}
	var lower strings.Builder
	for _, c := range []byte(host) { // not Unicode's lower case
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower.WriteByte(c)
	}
	return lower.String() + ":" + port
}
