package origin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kubejwt/kubejwt/internal/testlog"
)

// issued returns a certificate of this template, signed by the parent or by itself.
func issued(t *testing.T, template, parent *x509.Certificate, by *ecdsa.PrivateKey) (tls.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if by == nil {
		parent, by = template, key
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, key
}

func authority(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
}

// Names in a certificate are what its owner likes. Errors show them quoted and
// bounded, or not at all. A server that was sent the bearer token may put that there.
func TestHostileCertificates(t *testing.T) {
	const token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhIn0.AAAA"
	bearer := filepath.Join(t.TempDir(), "token")
	writeFile(t, bearer, secret)
	for _, text := range []string{
		"\x1b[2Jplain", "a\nAccepted", "a, not b\" x", token, strings.Repeat("long", 1000), "\u202eplain\u009b",
		secret, "x." + secret[2:20], "plain",
	} {
		ascii := strings.Map(func(r rune) rune { return min(r, '~') }, text)
		root, rootKey := issued(t, authority(text), nil, nil)
		other, _ := issued(t, authority(text), nil, nil) // the same name and another key
		serve := func(leaf *x509.Certificate) tls.Certificate {
			leaf.Subject.CommonName, leaf.Subject.Organization = text, []string{text}
			cert, _ := issued(t, leaf, root.Leaf, rootKey)
			return cert
		}
		loopback := []net.IP{net.IPv4(127, 0, 0, 1)}
		names := strings.Fields(strings.Repeat(strings.ReplaceAll(ascii, " ", "")+" ", 50))
		for _, tt := range []struct {
			name, host string
			cert       tls.Certificate
			roots      tls.Certificate
			mustSay    string
			namesIt    bool // says the name too, if it is plain
		}{
			{"another name", "localhost", serve(&x509.Certificate{DNSNames: []string{ascii}}), root, "certificate is", true},
			{"many names", "localhost", serve(&x509.Certificate{DNSNames: names}), root, "certificate is", true},
			{"no IP", "127.0.0.1", serve(&x509.Certificate{DNSNames: []string{ascii}}), root, "IP SANs", false},
			{"another CA", "127.0.0.1", serve(&x509.Certificate{IPAddresses: loopback}), other, "unknown authority", true},
			{"expired", "127.0.0.1", serve(&x509.Certificate{IPAddresses: loopback, NotAfter: time.Unix(1e9, 0)}), root, "expired", false},
		} {
			what := fmt.Sprintf("%.20q, %s", text, tt.name)
			server := httptest.NewUnstartedServer(http.NotFoundHandler())
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			server.TLS = &tls.Config{Certificates: []tls.Certificate{tt.cert}}
			server.StartTLS()
			file := filepath.Join(t.TempDir(), "ca.crt")
			writeFile(t, file, string(encode(tt.roots.Certificate[0])))
			u := mustParse(t, strings.Replace(server.URL, "127.0.0.1", tt.host, 1))
			pool := x509.NewCertPool()
			pool.AddCert(tt.roots.Leaf)
			options := Options{Origin: u.Origin(), BearerTokenFile: bearer, Logger: slog.New(slog.DiscardHandler)}
			ours, given := options, options
			ours.CAFile = file
			given.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
			_, ourErr := mustNew(t, ours).Get(t.Context(), u, "*/*")
			_, givenErr := mustNew(t, given).Get(t.Context(), u, "*/*")
			server.Close()
			mustBeTame(t, what, ourErr)
			mustBeTame(t, what+", a Transport", givenErr)
			if !strings.Contains(ourErr.Error(), tt.mustSay) {
				t.Errorf("%s: %v: want %s in it", what, ourErr, tt.mustSay)
			}
			for _, err := range []error{ourErr, givenErr} {
				if tt.namesIt && text == "plain" && !strings.Contains(err.Error(), `"plain"`) {
					t.Errorf("%s: %v: want the name in it", what, err)
				}
			}
		}
	}
}

func mustBeTame(t *testing.T, name string, err error) {
	t.Helper()
	if err == nil {
		t.Fatalf("%s: no error", name)
	}
	text := err.Error()
	if len(text) > 1000 {
		t.Errorf("%s: an error of %d bytes", name, len(text))
	}
	if strings.Contains(text, "eyJ") || strings.Contains(text, secret[2:18]) {
		t.Errorf("%s: a token is in %.200q", name, text)
	}
	for _, r := range text {
		if r < ' ' || r > '~' {
			t.Errorf("%s: %q is in %.200q", name, r, text)
			return
		}
	}
}

// Package net/http logs by itself what a server sends after its answer. That is never
// the bearer token.
func TestNothingAfterAnAnswerIsLogged(t *testing.T) {
	var logged testlog.Buffer
	before := log.Writer()
	log.SetOutput(&logged)
	defer log.SetOutput(before)
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {})
	listener, err := tls.Listen("tcp", "127.0.0.1:0", s.TLS)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	u := mustParse(t, "https://"+listener.Addr().String())
	options := s.options(t)
	options.Origin = u.Origin()
	answer, err := answered(t, listener, mustNew(t, options), u)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(answer, "Authorization: Bearer "+secret) || logged.String() != "" {
		t.Errorf("asked %q, logged %q: want the bearer, and no log", answer, logged.String())
	}
}

// answered asks for u, and returns the request, which the server repeats behind its
// answer. It waits until the client has ended the connection.
func answered(t *testing.T, listener net.Listener, c *Client, u URL) (asked string, err error) {
	ended := make(chan string)
	go func() {
		defer close(ended)
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		defer connection.Close()
		request := make([]byte, 8192)
		n, _ := connection.Read(request)
		fmt.Fprintf(connection, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}%s", request[:n])
		io.Copy(io.Discard, connection)
		ended <- string(request[:n])
	}()
	answer, err := c.Get(t.Context(), u, "*/*")
	if err != nil {
		return "", err
	}
	if _, err := answer.ReadAll(100); err != nil {
		return "", err
	}
	return <-ended, nil
}
