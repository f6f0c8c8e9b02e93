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
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kubejwt/kubejwt/internal/testserver"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

// recordingProxy keeps all that is sent to it.
type recordingProxy struct {
	address string
	mu      sync.Mutex
	heard   strings.Builder
}

func newRecordingProxy(t *testing.T) *recordingProxy {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	p := &recordingProxy{address: listener.Addr().String()}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			data := make([]byte, 8192)
			n, _ := connection.Read(data)
			p.mu.Lock()
			p.heard.Write(data[:n])
			p.mu.Unlock()
			io.WriteString(connection, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
			connection.Close()
		}
	}()
	return p
}

// A proxy of the environment never gets the token: it is not asked for an http
// origin, and for an https one it is asked for a tunnel.
func TestCallAndProxies(t *testing.T) {
	token := kubejwttest.NewCluster(t).Mint(caller)
	binary, file := build(t), writeFile(t, token)
	for url, asks := range map[string]string{
		"http://data-store.invalid/":  "",
		"https://data-store.invalid/": "CONNECT data-store.invalid:443",
	} {
		proxy := newRecordingProxy(t)
		command := exec.Command(binary, "call", "-token-file", file, url)
		for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"} {
			command.Env = append(command.Env, name+"=http://"+proxy.address)
		}
		out, _ := command.CombinedOutput()
		proxy.mu.Lock()
		heard := proxy.heard.String()
		proxy.mu.Unlock()
		if command.ProcessState.ExitCode() != exitRefused || strings.Contains(heard, token[:16]) {
			t.Errorf("%s: the proxy got the token, or the call succeeded:\n%s\n%s", url, heard, out)
		}
		if (heard == "") != (asks == "") || !strings.HasPrefix(heard, asks) {
			t.Errorf("%s: the proxy heard %q: want %q", url, heard, asks)
		}
	}
}

// If a service echoes the token, that is not printed, whatever is around it.
func TestCallWithholdsTheToken(t *testing.T) {
	token := kubejwttest.NewCluster(t).Mint(caller)
	file := writeFile(t, token)
	signature := token[strings.LastIndex(token, ".")+1:]
	decoded, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"alone":               token,
		"in a header":         "Authorization: Bearer " + token,
		"in an address":       "/?Authorization=Bearer%20" + token,
		"after letters":       "token" + token,
		"without its start":   token[3:],
		"in base64":           encode(token),
		"in base64 after a :": "Basic " + encode("abc"+token), // a multiple of three before it
		"cut off":             token[:100],
		"its signature":       `{"header": {"alg": "RS256"}, "signature": "` + signature + `"}`,
		"in plain base64":     base64.StdEncoding.EncodeToString(decoded),
		"its signature, hex":  hex.EncodeToString(decoded),
		"in capital hex":      strings.ToUpper(hex.EncodeToString([]byte(token))),
		"folded":              fold(token, 76, 76),
		"Bearer in base64":    encode("Bearer " + token),
		"Basic":               "Basic " + encode("user:"+token),
		"in base64 thrice":    encode(encode(encode("Bearer " + token))),
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<"+body+">") }))
		r := kubejwtWith(t, "", "call", "-token-file", file, server.URL)
		server.Close()
		r.mustSay(t, exitOK, "200 OK", withheld)
		for _, secret := range []string{
			token, encode(token), encode("x" + token)[4:], encode("xx" + token)[4:], encode(string(decoded)), hex.EncodeToString(decoded),
			encode(encode(encode("Bearer " + token))),
		} {
			mustHoldNothingOf(t, secret[:len(secret)*9/10], r) // a last line may be too short to tell
		}
		if t.Failed() {
			t.Fatal(name)
		}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "monkeyJobs, and no token") }))
	defer server.Close()
	kubejwtWith(t, "", "call", "-token-file", file, server.URL).mustSay(t, exitOK, "monkeyJobs, and no token")
}

// A status line and an error are a server's to write too. They are bounded, and
// no more than a body do they repeat the token.
func TestCallWithholdsTheTokenInStatusAndErrors(t *testing.T) {
	token := kubejwttest.NewCluster(t).Mint(caller)
	file := writeFile(t, token)
	for _, secret := range []string{token, token[strings.LastIndex(token, ".")+1:], encode("Bearer " + token), strings.Repeat("A", 9000)} {
		for _, answer := range []string{
			"HTTP/1.1 200 %s\r\nContent-Length: 0\r\n\r\n", "%s\r\n\r\n", "HTTP/1.1 200 OK\r\nno colon %s\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n",
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: %s\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n",
		} {
			address := testserver.Raw(t, fmt.Sprintf(answer, secret))
			r := kubejwtWith(t, "", "call", "-token-file", file, "http://"+address)
			mustHoldNothingOf(t, token, r)
			mustHoldNothingOf(t, encode("x" + token)[4:], r)
			if length := len(r.out + r.errOut); length == 0 || length > maxMessage+100 {
				t.Errorf("%.60q: %d bytes are printed", answer, length)
			}
		}
	}
}

// What a server sends unasked is logged by net/http itself. It comes out as tame
// as all else.
func TestStrayLog(t *testing.T) {
	for _, text := range append(hostile(), "eyJhbGciOiJSUzI1NiJ9.e30.AAAA") {
		var errOut bytes.Buffer
		log.New(strayLog{newScreen(&errOut)}, "", 0).Printf("a server sent %s", text)
		r := result{exitRefused, "", errOut.String()}
		r.mustBeTame(t, text)
		if strings.Count(r.errOut, "\n") != 1 || strings.Contains(r.errOut, "eyJ") {
			t.Errorf("%q is logged as %q", text, r.errOut)
		}
	}
}

// Nothing that a server sends unasked is printed. It may be a signature, which
// nobody knows by its look.
func TestCallLogsNothingSentUnasked(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	token := kubejwttest.NewCluster(t).Mint(caller)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		defer cancel()
		for range 3 {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			answerTwice(connection, token[strings.LastIndex(token, "."):])
		}
	}()
	command := exec.CommandContext(ctx, build(t), "call", "-token-file", writeFile(t, token), "-interval", "10ms", "http://"+listener.Addr().String())
	var out, errOut bytes.Buffer
	command.Stdout, command.Stderr = &out, &errOut
	command.Run()
	if strings.Count(out.String(), "200 OK") < 2 || errOut.Len() > 0 {
		t.Errorf("out:\n%slog:\n%s", out.String(), errOut.String())
	}
}

// answerTwice answers requests until the client ends the connection, and says
// more after each answer.
func answerTwice(connection net.Conn, more string) {
	defer connection.Close()
	reader := bufio.NewReader(connection)
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return
		}
		if line == "\r\n" {
			io.WriteString(connection, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"+more)
		}
	}
}

// selfSigned is a certificate for 127.0.0.1, and the same in PEM.
func selfSigned(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pemOf(der)
}

// A CA that is replaced while call goes on is trusted from the next call on,
// and one that is damaged leaves the last one in use.
func TestCallReadsCAAgain(t *testing.T) {
	first, firstPEM := selfSigned(t)
	second, secondPEM := selfSigned(t)
	caFile, tokenFile := writeFile(t, firstPEM), writeFile(t, kubejwttest.NewCluster(t).Mint(caller))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var mu sync.Mutex
	current, answered := first, 0
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		switch answered++; answered {
		case 2:
			writeTo(t, caFile, "-----BEGIN CERTIFICATE-----\nhalf")
		case 4:
			writeTo(t, caFile, secondPEM)
			current = second
		case 6:
			cancel()
		}
		w.Header().Set("Connection", "close")
		io.WriteString(w, "the data")
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		mu.Lock()
		defer mu.Unlock()
		return &tls.Config{Certificates: []tls.Certificate{current}}, nil
	}}
	server.StartTLS()
	defer server.Close()
	var out, errOut bytes.Buffer
	args := []string{"call", server.URL, "-token-file", tokenFile, "-ca-file", caFile, "-interval", "1ms"}
	exit := run(ctx, process{nil, &out, &errOut, nil}, args)
	r := result{exit, out.String(), errOut.String()}
	r.mustSay(t, exitOK, "200 OK", "half-written", "the CA read before stays in use")
	if answered < 6 {
		t.Errorf("%d answers: want 6", answered)
	}
}

// One odd certificate in a bundle leaves the others in use, and is named.
func TestCallWithOddRoot(t *testing.T) {
	certificate, good := selfSigned(t)
	odd := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 0}}))
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.StartTLS()
	defer server.Close()
	tokenFile := writeFile(t, kubejwttest.NewCluster(t).Mint(caller))
	call := func(bundle string) result {
		return kubejwtWith(t, "", "call", server.URL, "-token-file", tokenFile, "-ca-file", writeFile(t, bundle))
	}
	call(good).mustSay(t, exitRefused, "404 Not Found")
	call(odd+good).mustSay(t, exitRefused, "404 Not Found", "certificate is not used: PEM block 1 of 2 does not parse")
	call("\ufeff"+good).mustSay(t, exitRefused, "404 Not Found")
	call(odd).mustSay(t, exitUsage, "no certificate", "PEM block 1 of 1 does not parse")
	call("\xff\xfe-\x00").mustSay(t, exitUsage, "in UTF-16")
	call(good+odd[:40]).mustSay(t, exitUsage, "half-written")
}
