package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/kubejwt/kubejwt/kubejwttest"
)

// connections are those that a proxy keeps to the server that it asks.
const connections = 8

// guard is a server that answers the auth requests of a proxy.
type guard struct {
	name string
	pid  int
	dial func(testing.TB) asker
}

// asker is one connection to a guard. It tells whether the caller may call.
type asker func(token string) (allowed bool, err error)

// TestServe sends a good and a bad token to the servers of BenchmarkServe:
// a server that lets everybody in has no place there.
func TestServe(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds oauth2-proxy")
	}
	w := newServeWorld(t)
	for _, g := range w.guards(t) {
		ask := g.dial(t)
		if allowed, err := ask(w.good); !allowed || err != nil {
			t.Errorf("%s, a good token: %v, %v", g.name, allowed, err)
		}
		if allowed, err := ask(w.bad); allowed != strings.HasPrefix(g.name, "bare") || err != nil {
			t.Errorf("%s, a bad signature: %v, %v", g.name, allowed, err)
		}
		if cpuTime(t, g.pid) <= 0 {
			t.Errorf("%s has used no CPU", g.name)
		}
	}
}

// BenchmarkServe is an auth request of a proxy: kubejwt serve over HTTP and over
// gRPC, oauth2-proxy, and a handler that does nothing, without time limits and with
// those of serve. Each is a process, whose
// CPU time is read from outside, so that the client's is not in it.
func BenchmarkServe(b *testing.B) {
	w := newServeWorld(b)
	for _, g := range w.guards(b) {
		asks := make([]asker, connections)
		for i := range asks {
			asks[i] = g.dial(b)
			w.ask(b, asks[i], 100)
		}
		b.Run("by="+g.name, func(b *testing.B) {
			before := cpuTime(b, g.pid)
			var left atomic.Int64
			left.Store(int64(b.N))
			var all sync.WaitGroup
			b.ResetTimer()
			for _, ask := range asks {
				all.Go(func() {
					for left.Add(-1) >= 0 {
						w.ask(b, ask, 1)
					}
				})
			}
			all.Wait()
			b.StopTimer()
			used := cpuTime(b, g.pid) - before
			b.ReportMetric(float64(used.Nanoseconds())/1e3/float64(b.N), "server-µs/op")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
		})
	}
}

// serveWorld is what the servers have in common: the cluster and a token of it.
type serveWorld struct {
	cluster   *kubejwttest.Cluster
	good, bad string
	bin       string
}

func newServeWorld(t testing.TB) *serveWorld {
	t.Helper()
	cluster := kubejwttest.NewCluster(t)
	good := cluster.Mint(kubejwttest.Token{Namespace: "shop", ServiceAccount: "api", Audiences: []string{recordedAudience}})
	start := strings.LastIndexByte(good, '.') + 1
	letter := "A"
	if good[start] == 'A' {
		letter = "B"
	}
	return &serveWorld{cluster, good, good[:start] + letter + good[start+1:], t.TempDir()}
}

// guards starts the servers.
func (w *serveWorld) guards(t testing.TB) []guard {
	t.Helper()
	serve, overGRPC := w.startServe(t)
	return []guard{w.startBare(t, "bare"), w.startBare(t, "bare-limited", "limited"), serve, overGRPC, w.startOAuth2Proxy(t)}
}

func (w *serveWorld) startBare(t testing.TB, name string, args ...string) guard {
	address := freeAddress(t)
	pid := w.start(t, w.build(t, "bare", ".", "./bare"), append([]string{address}, args...)...)
	waitFor(t, address)
	return guard{name, pid, w.overHTTP(address, "/", http.StatusOK)}
}

func (w *serveWorld) startServe(t testing.TB) (overHTTP, overGRPC guard) {
	address, grpcAddress := freeAddress(t), freeAddress(t)
	pid := w.start(t, w.build(t, "kubejwt", "../../cmd/kubejwt", "."), "serve",
		"-listen", address, "-grpc-listen", grpcAddress, "-admin-listen", "off", "-log-level", "warn",
		"-issuer", w.cluster.Config("any").Issuer, "-ca-file", w.cluster.Folder()+"/ca.crt", "-bearer-token-file", w.cluster.Folder()+"/token",
		"-audience", recordedAudience, "-policy", "data-store=shop/api")
	waitFor(t, address)
	waitFor(t, grpcAddress)
	return guard{"kubejwt-http", pid, w.overHTTP(address, "/auth/data-store", http.StatusOK)},
		guard{"kubejwt-grpc", pid, dialGRPC(grpcAddress)}
}

// startOAuth2Proxy starts it as its documentation says for nginx's auth_request
// and bearer tokens. It logs nothing, as kubejwt serve.
func (w *serveWorld) startOAuth2Proxy(t testing.TB) guard {
	keys, caFile := w.publishKeys(t)
	address := freeAddress(t)
	pid := w.start(t, w.build(t, "oauth2-proxy", "oauth2proxy", "github.com/oauth2-proxy/oauth2-proxy/v7"),
		"--http-address", address, "--reverse-proxy", "--set-xauthrequest", "--upstream", "static://202", "--email-domain", "*",
		"--skip-jwt-bearer-tokens", "--provider", "oidc", "--client-id", recordedAudience, "--client-secret", "unused",
		"--oidc-issuer-url", w.cluster.Config("any").Issuer, "--skip-oidc-discovery", "--oidc-jwks-url", keys, "--provider-ca-file", caFile,
		"--login-url", keys+"/unused", "--redeem-url", keys+"/unused", "--cookie-secret", strings.Repeat("0", 32),
		"--request-logging=false", "--auth-logging=false", "--standard-logging=false")
	waitFor(t, address)
	return guard{"oauth2-proxy", pid, w.overHTTP(address, "/oauth2/auth", http.StatusAccepted)}
}

// publishKeys serves the cluster's keys to whoever asks: oauth2-proxy sends no
// bearer token for them.
func (w *serveWorld) publishKeys(t testing.TB) (url, caFile string) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		request, err := http.NewRequest(http.MethodGet, w.cluster.Config("any").Issuer+"/openid/v1/jwks", nil)
		if err != nil {
			t.Error(err)
			return
		}
		response, err := w.cluster.Transport().RoundTrip(request)
		if err != nil {
			t.Error(err)
			return
		}
		defer response.Body.Close()
		io.Copy(rw, response.Body)
	}))
	t.Cleanup(server.Close)
	caFile = filepath.Join(t.TempDir(), "ca.crt")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(caFile, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	return server.URL, caFile
}

// build builds a command in the module of a folder.
func (w *serveWorld) build(t testing.TB, name, module, pkg string) (binary string) {
	t.Helper()
	binary = filepath.Join(w.bin, name)
	command := exec.Command("go", "-C", module, "build", "-o", binary, pkg)
	command.Env = append(os.Environ(), "GOWORK=") // the workspace of that folder
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, out)
	}
	return binary
}

// start starts a command that is killed when the test ends.
func (w *serveWorld) start(t testing.TB, binary string, args ...string) (pid int) {
	t.Helper()
	var said bytes.Buffer
	command := exec.Command(binary, args...)
	command.Env, command.Stdout, command.Stderr = []string{}, &said, &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Kill()
		command.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", binary, said.String())
		}
	})
	return command.Process.Pid
}

func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func waitFor(t testing.TB, address string) {
	t.Helper()
	for range 600 {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("nobody listens on %s", address)
}

// cpuTime is what a process has used, in user and system mode, by the clock that
// clock_getcpuclockid(3) returns.
func cpuTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	const scheduled = 2 // CPUCLOCK_SCHED
	var used unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Nano())
}

func (w *serveWorld) ask(t testing.TB, ask asker, times int) {
	for range times {
		if allowed, err := ask(w.good); !allowed || err != nil {
			t.Errorf("a good token: %v, %v", allowed, err)
			return
		}
	}
}

// overHTTP asks over a connection that is kept, with as little work as it takes:
// the client runs on the same cores.
func (w *serveWorld) overHTTP(address, path string, allowed int) func(testing.TB) asker {
	return func(t testing.TB) asker {
		t.Helper()
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		before := "GET " + path + " HTTP/1.1\r\nHost: " + address + "\r\nAuthorization: Bearer "
		var request []byte
		answers := bufio.NewReader(conn)
		return func(token string) (bool, error) {
			request = append(append(append(request[:0], before...), token...), "\r\n\r\n"...)
			if _, err := conn.Write(request); err != nil {
				return false, err
			}
			status, err := readAnswer(answers)
			return status == allowed, err
		}
	}
}

// readAnswer reads an answer that says how long it is.
func readAnswer(from *bufio.Reader) (status int, err error) {
	line, err := from.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < len("HTTP/1.1 200") {
		return 0, fmt.Errorf("not an answer: %q", line)
	}
	if status, err = strconv.Atoi(string(line[len("HTTP/1.1 "):len("HTTP/1.1 200")])); err != nil {
		return 0, err
	}
	length := -1
	for {
		line, err := from.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		if len(line) == len("\r\n") {
			break
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, err
			}
		}
	}
	if length < 0 {
		return 0, errors.New("an answer without Content-Length")
	}
	_, err = from.Discard(length)
	return status, err
}

// dialGRPC asks as Envoy does.
func dialGRPC(address string) func(testing.TB) asker {
	return func(t testing.TB) asker {
		t.Helper()
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		client := authv3.NewAuthorizationClient(conn)
		return func(token string) (bool, error) {
			response, err := client.Check(context.Background(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
				ContextExtensions: map[string]string{"policy": recordedAudience},
				Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
					Method: http.MethodGet, Path: "/", Headers: map[string]string{"authorization": "Bearer " + token},
				}},
			}})
			return codes.Code(response.GetStatus().GetCode()) == codes.OK, err
		}
	}
}
