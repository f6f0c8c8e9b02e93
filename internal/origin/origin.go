// Package origin sends guarded GETs to one origin: a cluster's API server, or whatever
// else publishes its keys. A [Client] trusts only the roots of one file, sends a bearer
// token to that origin only, and puts nothing of an answer into an error.
package origin

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// An Origin is the scheme, host and port of a URL. A credential is pinned to an Origin.
// Two URLs have equal Origins only if net/http asks the same server for the same host.
// No URL has the zero Origin.
type Origin struct{ scheme, host, port string }

// Of returns the origin of an http or https URL. The host must be ASCII: net/http asks
// another host if a letter only looks like an ASCII letter.
func Of(u *url.URL) (Origin, error) {
	host, err := parseHost(u.Host, u.Hostname())
	if err != nil {
		return Origin{}, err
	}
	port := u.Port()
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return Origin{}, errors.New("want an http or https URL")
	case port == "" && u.Scheme == "https":
		port = "443"
	case port == "":
		port = "80"
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(number, 10) != port {
		return Origin{}, errors.New("a URL with a port that is not a number from 0 to 65535")
	}
	return Origin{u.Scheme, host, port}, nil
}

// parseHost returns a URL's host in its only spelling: an IP address as netip writes
// it, or a name in lower case.
func parseHost(hostport, host string) (string, error) {
	if strings.HasPrefix(hostport, "[") {
		ip, err := netip.ParseAddr(host)
		if err != nil || !ip.Is6() || !isPlain(ip.Zone()) {
			return "", errors.New("a URL with brackets around what is not an IPv6 address")
		}
		return ip.String(), nil
	}
	switch {
	case host == "":
		return "", errors.New("not a URL with a host")
	case strings.ContainsFunc(host, func(r rune) bool { return r >= utf8.RuneSelf }):
		return "", errors.New("a URL whose host is not ASCII: write its xn-- form, if that is the host you mean")
	case !isPlain(host):
		return "", errors.New("a URL whose host holds more than letters, digits, dots, dashes and underscores")
	}
	return strings.ToLower(host), nil
}

// isPlain reports whether s has only the ASCII characters of names and zones.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isLetterOrDigit(c) && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

func isLetterOrDigit(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// String returns scheme, host and port.
func (o Origin) String() string { return o.scheme + "://" + net.JoinHostPort(o.host, o.port) }

func (o Origin) isLoopback() bool {
	ip, err := netip.ParseAddr(o.host)
	return err == nil && ip.IsLoopback()
}

// isForBearer reports whether a bearer token may be sent to o at all.
func (o Origin) isForBearer() bool { return o.scheme == "https" }
