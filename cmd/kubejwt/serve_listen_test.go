package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/kubejwt/kubejwt/internal/testlog"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct{ testlog.Buffer }

// patience is for what is bound to happen, however busy the machine is.
const patience = 2 * time.Minute

// mustSaySoon waits until the log says it.
func (b *lockedBuffer) mustSaySoon(t *testing.T, text string) {
	t.Helper()
	b.mustSayOften(t, text, 1)
}

// mustSayOften waits until the log says it so many times.
func (b *lockedBuffer) mustSayOften(t *testing.T, text string, times int) {
	t.Helper()
	for deadline := time.Now().Add(patience); strings.Count(b.String(), text) < times; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the log does not say %q %d times after %v:\n%s", text, times, patience, b.String())
		}
	}
}

// running is serve in this process.
type running struct {
	*server
	endpoints map[string]string // by kind: auth, grpc, admin
	log       *lockedBuffer
	stop      context.CancelFunc
	ended     chan error
}

// startServer runs serve as runServe does, with listeners of its own choice
// unless args choose.
func startServer(t *testing.T, args ...string) *running {
	t.Helper()
	r := &running{log: new(lockedBuffer), ended: make(chan error, 1), endpoints: make(map[string]string)}
	args = append([]string{"-listen", "127.0.0.1:0", "-admin-listen", "127.0.0.1:0"}, args...)
	var err error
	if r.server, err = tryServer(process{stdout: io.Discard, stderr: r.log}, args...); err != nil {
		t.Fatal(err)
	}
	endpoints, err := r.server.open()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range endpoints {
		switch e.server.(type) {
		case tolerantServer:
			r.endpoints["auth"] = e.url
		case *http.Server:
			r.endpoints["admin"] = e.url
		default:
			r.endpoints["grpc"] = e.url
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	go func() { r.ended <- r.server.serve(ctx, endpoints) }()
	t.Cleanup(func() {
		cancel()
		for _, e := range endpoints {
			e.listener.Close() // it may have hours left
		}
	})
	return r
}

func statusOf(t *testing.T, client *http.Client, url, token string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// over is a client that connects to a socket whatever the URL says.
func over(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
}

func TestServeUnixSocket(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	socket := filepath.Join(t.TempDir(), "s")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close() // as a process that was killed leaves it
	flags := append(clusterFlags(cluster), "-policy", "data-store=shop/api")
	s := startServer(t, append(flags, "-listen", "unix:"+socket, "-socket-mode", "0600")...)
	if got := statusOf(t, over(socket), "http://unix/auth/data-store", cluster.Mint(caller)); got != http.StatusOK {
		t.Errorf("status %d: want 200", got)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: want mode 0600", info, err)
	}

	folder := t.TempDir()
	link, dangling := filepath.Join(folder, "link"), filepath.Join(folder, "dangling")
	if err := errors.Join(os.Symlink(socket, link), os.Symlink(filepath.Join(folder, "target"), dangling)); err != nil {
		t.Fatal(err)
	}
	for says, address := range map[string]string{
		"another process listens here":    "unix:" + socket,
		"file: there is a file of this":   "unix:" + writeFile(t, ""),
		"link: there is a file of this":   "unix:" + link,
		"dangling: there is a file of th": "unix:" + dangling,
		"no such file":                    "unix:/nonexistent/s",
		"can't be found out":              "unix:" + busySocket(t),
	} {
		other, err := tryServer(process{stderr: io.Discard}, append(flags, "-listen", address, "-admin-listen", "off")...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.open(); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "-listen") {
			t.Errorf("%s: %v: want -listen and %q", address, err, says)
		}
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) != 2 {
		t.Errorf("%v, %v: want both links, and no more", left, err)
	}
	s.stop()
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("after the end: %v: want no socket", err)
	}
}

// busySocket is a socket of a process that does not accept, so that no more can
// connect, as if nobody listened.
func busySocket(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "busy")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		conn, err := net.Dial("unix", path)
		if err != nil {
			return path
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("it takes ten connections")
	return ""
}

// A socket never admits anybody whom its mode excludes, not even before the mode is set.
func TestServeUnixSocketMode(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("other systems have no way to bind with a mode")
	}
	for _, mode := range []fs.FileMode{0o600, 0o400, 0} {
		path := filepath.Join(t.TempDir(), "s")
		listener, err := bindUnix(path, mode)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got&^mode != 0 {
			t.Errorf("after bind the mode is %o: want %o at most", got, mode)
		}
	}
	path := filepath.Join(t.TempDir(), "s")
	listener, err := listenUnix(path, 0o666) // more than the umask usually leaves
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("%v, %v: want mode 0666", info, err)
	}
}

func TestServeListenUsage(t *testing.T) {
	for says, args := range map[string][]string{
		`-listen "unix:": want unix: and a path`:           {"-listen", "unix:"},
		`-grpc-listen "x": want an address`:                {"-grpc-listen", "x"},
		`-socket-mode "rw": want an octal`:                 {"-socket-mode", "rw"},
		`-socket-mode "1777": want an octal`:               {"-socket-mode", "1777"},
		`-tls-cert and -tls-key go together`:               {"-tls-cert", "a"},
		`-client-ca-file needs -tls-cert`:                  {"-client-ca-file", "a"},
		`-listen "off": want an address`:                   {"-listen", "off"},
		`-access-log "some": want all, refused or none`:    {"-access-log", "some"},
		`-config and -policy: the file has that`:           {"-config", "a", "-policy", "a=a/b"},
		`-config and -audience: the file has that`:         {"-config", "a", "-audience", "a"},
		`-config: open /nonexistent: no such file or dire`: {"-config", "/nonexistent"},
		`-tls-cert, -tls-key: /nonexistent: `: {"-check", "-config", writeFile(t, goodIssuers+goodPolicies),
			"-tls-cert", "/nonexistent", "-tls-key", "/nonexistent"},
	} {
		kubejwtWith(t, "", append([]string{"serve"}, args...)...).mustSay(t, map[bool]int{true: exitRefused, false: exitUsage}[strings.Contains(says, "/nonexistent")], says)
	}
}

// issued is a certificate of a CA of its own.
type issued struct{ ca, cert, key string } // PEM

func issue(t *testing.T, name string) issued {
	t.Helper()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	caKey, leafKey := key(), key()
	template := func(serial int64, isCA bool) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), IsCA: isCA, BasicConstraintsValid: true,
			DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}
	}
	sign := func(of *x509.Certificate, public *ecdsa.PrivateKey) []byte {
		der, err := x509.CreateCertificate(rand.Reader, of, template(1, true), &public.PublicKey, caKey)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	der, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	return issued{
		ca:   pemOf(sign(template(1, true), caKey)),
		cert: pemOf(sign(template(2, false), leafKey)),
		key:  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	}
}

func (i issued) client(t *testing.T, shows *issued) *tls.Config {
	t.Helper()
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AppendCertsFromPEM([]byte(i.ca))
	if shows != nil {
		pair, err := tls.X509KeyPair([]byte(shows.cert), []byte(shows.key))
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}

func httpsClient(config *tls.Config, http2 bool) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: http2, DisableKeepAlives: true}}
}

// TLS over HTTP/1.1, HTTP/2 and gRPC; certificate, key and client CA are read
// again when they change, and a half-changed pair does no harm.
func TestServeTLS(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	first, second, proxy, stranger := issue(t, "first"), issue(t, "second"), issue(t, "proxy"), issue(t, "stranger")
	cert, key, ca := writeFile(t, first.cert), writeFile(t, first.key), writeFile(t, proxy.ca)
	s := startServer(t, append(clusterFlags(cluster), "-policy", "data-store=shop/api", "-grpc-listen", "127.0.0.1:0",
		"-tls-cert", cert, "-tls-key", key, "-client-ca-file", ca)...)
	url, token := s.endpoints["auth"]+"/auth/data-store", cluster.Mint(caller)
	if !strings.HasPrefix(url, "https://") {
		t.Fatalf("the URL is %s", url)
	}
	for _, http2 := range []bool{false, true} {
		if got := statusOf(t, httpsClient(first.client(t, &proxy), http2), url, token); got != http.StatusOK {
			t.Errorf("HTTP/2 %v: status %d: want 200", http2, got)
		}
		for name, config := range map[string]*tls.Config{
			"no certificate":  first.client(t, nil),
			"a stranger's":    first.client(t, &stranger),
			"another root CA": second.client(t, &proxy),
		} {
			if got := statusOf(t, httpsClient(config, http2), url, token); got != 0 {
				t.Errorf("HTTP/2 %v, %s: status %d: want no answer", http2, name, got)
			}
		}
	}
	conn, err := grpc.NewClient(strings.TrimPrefix(s.endpoints["grpc"], "grpc://"), grpc.WithTransportCredentials(credentials.NewTLS(first.client(t, &proxy))))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if response := askOverGRPC(t, authv3.NewAuthorizationClient(conn), envoyAsks("data-store", map[string]string{"authorization": "Bearer " + token})); response.GetOkResponse() == nil {
		t.Errorf("gRPC: %v: want OK", response)
	}

	writeTo(t, cert, second.cert)
	// With the certificate alone the old pair serves, and the log says why.
	for deadline := time.Now().Add(patience); !strings.Contains(s.log.String(), "don't fit together"); {
		if got := statusOf(t, httpsClient(first.client(t, &proxy), true), url, token); got != http.StatusOK || time.Now().After(deadline) {
			t.Fatalf("with a pair that doesn't fit: status %d: want 200 by the last one, and a line in the log", got)
		}
	}
	writeTo(t, key, second.key)
	writeTo(t, ca, stranger.ca)
	changed := func() bool {
		return statusOf(t, httpsClient(second.client(t, &stranger), true), url, token) == http.StatusOK
	}
	for deadline := time.Now().Add(patience); !changed(); {
		if time.Now().After(deadline) {
			t.Fatal("the new files are not in use")
		}
	}
	if got := statusOf(t, httpsClient(second.client(t, &proxy), true), url, token); got != 0 {
		t.Errorf("the former CA's client: status %d: want no answer", got)
	}
}

func TestServeTLSFiles(t *testing.T) {
	a, b := issue(t, "a"), issue(t, "b")
	good := func() (string, string) { return writeFile(t, a.cert), writeFile(t, a.key) }
	cert, key := good()
	block := func(kind string) string { return "-----BEGIN " + kind + "-----\nAAAA\n-----END " + kind + "-----\n" }
	for says, files := range map[string]tlsFiles{
		"-tls-cert, -tls-key: /nonexistent":          {"/nonexistent", key, ""},
		"-tls-cert, -tls-key: tls: private key d":    {cert, writeFile(t, b.key), ""},
		"-client-ca-file: ":                          {cert, key, writeFile(t, "")},
		"-tls-cert, -tls-key: (withheld":             {writeFile(t, block("eyJhbGciOiJSUzI1NiJ9.e30.AAAA")), key, ""},
		`types: [\u0430]"`:                           {writeFile(t, block("\u0430")), key, ""},
		`is of type "PRIVATE KEY": want CERTIFICATE`: {cert, key, key},
	} {
		if _, err := files.config(slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: want %q", err, says)
		}
	}
	// One odd certificate in a bundle leaves the others in use, and is named.
	const odd = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
	logged := new(bytes.Buffer)
	files := tlsFiles{cert, key, writeFile(t, "\ufeff"+odd+a.ca)}
	if _, err := files.config(slog.New(slog.NewTextHandler(logged, nil))); err != nil {
		t.Error(err)
	}
	if strings.Count(logged.String(), "PEM block 1 of 2 does not parse") != 1 {
		t.Errorf("the log: %s: want the odd certificate, once", logged)
	}
}

// What net/http logs of a handshake may quote the client's certificates.
func TestServerLogIsTame(t *testing.T) {
	for text, want := range map[string]string{
		"plain":                         `"msg":"http: TLS handshake error: plain"`,
		"\u0430\x1b\n":                  `\\u0430\\x1b`,
		"eyJhbGciOiJSUzI1NiJ9.e30.AAAA": "withheld",
		strings.Repeat("A", 60_000):     "AAA",
	} {
		logged := new(bytes.Buffer)
		logger := slog.New(slog.NewJSONHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
		newHTTPServer(nil, logger).ErrorLog.Printf("http: TLS handshake error: %s", text)
		got := logged.String()
		result{exitOK, got, ""}.mustBeTame(t, "the log")
		if !strings.Contains(got, want) || strings.Contains(got, "eyJ") || len(got) > maxMessage+200 || strings.Count(got, "\n") != 1 {
			t.Errorf("%.30q: logged %.300s: want %s", text, got, want)
		}
	}
}

// HTTP/2 in the clear, as Envoy and Traefik speak it to a sidecar.
func TestServeH2C(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	s := startServer(t, append(clusterFlags(cluster), "-policy", "data-store=shop/api")...)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.endpoints["auth"]+"/auth/data-store/a%20b", strings.NewReader("the body"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+cluster.Mint(caller))
	for range 3 {
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK || response.ProtoMajor != 2 {
			t.Errorf("%s over %s: want 200 over HTTP/2", response.Status, response.Proto)
		}
	}
}

// What Envoy appends to the path may be anything, and connections are kept.
func TestServeStrayPercent(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	s := startServer(t, append(clusterFlags(cluster), "-policy", "data-store=shop/api", "-policy", "admin=ops/*")...)
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.endpoints["auth"], "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	answers := bufio.NewReader(conn)
	token := cluster.Mint(caller)
	for _, test := range []struct {
		target string
		want   int
	}{
		{"/auth/data-store/100%", 200},
		{"/auth/data-store/%zz/%", 200},
		{"/auth/data-store/a%2fb?c=%zz", 200},
		{"/auth/admin/%", 403},
		{"/auth/admin/%2e%2e/data-store", 403},
		{"/auth/data-store%2fadmin", 404},
		{"/x%41/auth/data-store/", 404},
		{"/auth/data-store", 200},
	} {
		// A % elsewhere is nobody's business.
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nX-Percent: /auth/data-store/%%zz\r\nAuthorization: Bearer %s\r\n\r\n", test.target, token)
		response, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatalf("%s: %v", test.target, err)
		}
		io.Copy(io.Discard, response.Body)
		if response.StatusCode != test.want {
			t.Errorf("%s: status %d: want %d", test.target, response.StatusCode, test.want)
		}
	}
}

// The bytes are mended alike however they are cut, and nothing else changes.
func TestTolerantConn(t *testing.T) {
	const in = "GET /auth/a/%zz?q=% HTTP/1.1\r\nX: /auth/a/%\r\n\r\n" +
		"GET /auth/a%/b HTTP/1.1\n\n" +
		"GET /other/a/% HTTP/1.1\r\nA: b\r\n\r\n" +
		"PUT /auth/a/b/% HTTP/1.1\r\n\r\n" +
		"PRI * HTTP/2.0\r\n\r\nGET /auth/a/% HTTP/1.1\r\n\r\n"
	const want = "GET /auth/a/_zz?q=_ HTTP/1.1\r\nX: /auth/a/%\r\n\r\n" +
		"GET /auth/a%/b HTTP/1.1\n\n" +
		"GET /other/a/% HTTP/1.1\r\nA: b\r\n\r\n" +
		"PUT /auth/a/b/_ HTTP/1.1\r\n\r\n" +
		"PRI * HTTP/2.0\r\n\r\nGET /auth/a/% HTTP/1.1\r\n\r\n"
	for size := 1; size <= len(in); size++ {
		c, got := new(tolerantConn), []byte(in)
		for rest := got; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			c.mend(rest[:min(size, len(rest))])
		}
		if string(got) != want {
			t.Fatalf("in pieces of %d:\n%q\nwant\n%q", size, got, want)
		}
	}
}

// Who stops answering is found out before: /readyz fails at once, the others are
// served until the delay is over.
func TestServeShutdownDelay(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	s := startServer(t, append(clusterFlags(cluster), "-policy", "data-store=shop/api", "-shutdown-delay", "1h", "-grpc-listen", "127.0.0.1:0")...)
	token := cluster.Mint(caller)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	admin, auth := s.endpoints["admin"], s.endpoints["auth"]
	ready := admin + "/readyz"
	if got := statusOf(t, client, ready, ""); got != http.StatusOK {
		t.Fatalf("/readyz: status %d: want 200", got)
	}
	if connection := ask(s.guard, "GET", "/auth/data-store", token).Header.Get("Connection"); connection != "" {
		t.Errorf("before the end, Connection is %q: want none", connection)
	}
	s.stop()
	for deadline := time.Now().Add(patience); statusOf(t, client, ready, "") != http.StatusServiceUnavailable; {
		if time.Now().After(deadline) {
			t.Fatal("/readyz does not fail")
		}
	}
	for url, want := range map[string]int{auth + "/auth/data-store": 200, ready: 503, admin + "/healthz": 200} {
		if got := statusOf(t, client, url, token); got != want {
			t.Errorf("while it stops, %s: status %d: want %d", url, got, want)
		}
	}
	if connection := ask(s.guard, "GET", "/auth/data-store", token).Header.Get("Connection"); connection != "close" {
		t.Errorf("while it stops, Connection is %q: want close, so that the proxy goes elsewhere", connection)
	}
}

// It ends when the delay is over, and not before.
func TestServeEndsAfterTheDelay(t *testing.T) {
	flags := append(clusterFlags(kubejwttest.NewCluster(t)), "-policy", "data-store=shop/api", "-shutdown-delay", "90s")
	s, err := tryServer(process{stdout: io.Discard, stderr: io.Discard}, flags...)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := s.shutDown(t.Context(), nil, make(chan error)); err != nil || time.Since(began) != 90*time.Second {
			t.Errorf("it ended after %v: %v: want 90 s, and no error", time.Since(began), err)
		}
	})
}

// An admin listener that others can reach is warned of, unless it is meant.
func TestServeAdminWarning(t *testing.T) {
	flags := append(clusterFlags(kubejwttest.NewCluster(t)), "-policy", "a=a/b")
	for _, test := range []struct {
		args []string
		want bool
	}{
		{[]string{"-admin-listen", "127.0.0.1:0"}, false},
		{[]string{"-admin-listen", "[::1]:0"}, false},
		{[]string{"-admin-listen", "0.0.0.0:0"}, true},
		{[]string{"-admin-listen", ":0"}, true},
		{[]string{"-admin-listen", "0.0.0.0:0", "-admin-remote"}, false},
		{[]string{"-admin-listen", "unix:" + filepath.Join(t.TempDir(), "s")}, false},
	} {
		s := startServer(t, append(flags, test.args...)...)
		s.stop()
		<-s.ended
		if test.want {
			s.log.mustSaySoon(t, "can be reached from other machines")
		}
		if got := strings.Contains(s.log.String(), "can be reached from other machines"); got != test.want {
			t.Errorf("%q: warned %v: want %v\n%s", test.args, got, test.want, s.log.String())
		}
	}
}

// A client whose CA is withdrawn can't resume the session of better days.
func TestServeTLSResumption(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	server, proxy, stranger := issue(t, "first"), issue(t, "proxy"), issue(t, "stranger")
	ca := writeFile(t, proxy.ca)
	s := startServer(t, append(clusterFlags(cluster), "-policy", "data-store=shop/api",
		"-tls-cert", writeFile(t, server.cert), "-tls-key", writeFile(t, server.key), "-client-ca-file", ca)...)
	url, token := s.endpoints["auth"]+"/auth/data-store", cluster.Mint(caller)
	former := server.client(t, &proxy)
	former.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	if got := statusOf(t, httpsClient(former, false), url, token); got != http.StatusOK {
		t.Fatalf("status %d: want 200", got)
	}
	writeTo(t, ca, stranger.ca)
	for deadline := time.Now().Add(patience); statusOf(t, httpsClient(server.client(t, &stranger), false), url, token) != http.StatusOK; {
		if time.Now().After(deadline) {
			t.Fatal("the new CA is not in use")
		}
	}
	if got := statusOf(t, httpsClient(former, false), url, token); got != 0 {
		t.Errorf("the former CA's client resumes its session: status %d: want no answer", got)
	}
}

// A call over gRPC that never ends takes no time from requests over HTTP.
func TestServeShutdownTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ended := make(map[string]time.Duration)
		var mu sync.Mutex
		slow := func(name string, takes time.Duration) endpoint {
			return endpoint{server: stopFunc(func(ctx context.Context) error {
				select {
				case <-ctx.Done():
				case <-time.After(takes):
				}
				mu.Lock()
				defer mu.Unlock()
				ended[name] = time.Since(began)
				return ctx.Err()
			})}
		}
		s := &server{flags: new(serveFlags), logger: slog.New(slog.DiscardHandler), stops: new(atomic.Bool)}
		err := s.shutDown(t.Context(), []endpoint{slow("admin", 0), slow("auth", 10*time.Second), slow("grpc", time.Hour)}, nil)
		if !errors.Is(err, context.DeadlineExceeded) || ended["auth"] != 10*time.Second || ended["grpc"] != shutdownTimeout {
			t.Errorf("%v: %v: want auth to end after 10 s", err, ended)
		}
	})
}

type stopFunc func(context.Context) error

func (stopFunc) Serve(net.Listener) error             { return nil }
func (f stopFunc) Shutdown(ctx context.Context) error { return f(ctx) }
