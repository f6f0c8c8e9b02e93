package main

import (
	"bufio"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kubejwt/kubejwt/kubejwttest"
)

// identityHeaders are what every 200 has, all of them.
func identityHeaders() []string {
	return []string{
		"Kubejwt-Username", "Kubejwt-Namespace", "Kubejwt-Service-Account", "Kubejwt-Service-Account-Uid",
		"Kubejwt-Pod", "Kubejwt-Pod-Uid", "Kubejwt-Node", "Kubejwt-Audience",
	}
}

// served is a running "kubejwt serve".
type served struct {
	policies map[string]string // URL by name
	admin    string            // URL of its admin listener
	command  *exec.Cmd
}

// startServe runs the binary with listeners of its own choice.
func startServe(t *testing.T, binary string, args ...string) *served {
	t.Helper()
	args = append(args, "-listen", "127.0.0.1:0", "-admin-listen", "127.0.0.1:0", "-log-format", "json")
	s := &served{policies: make(map[string]string), command: exec.Command(binary, args...)}
	s.command.Env = []string{}
	logs, err := s.command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.command.Process.Kill() })
	lines := bufio.NewReader(logs)
	for want := strings.Count(strings.Join(args, " "), "-policy "); len(s.policies) < want; {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("serve ended: %v", err)
		}
		s.read(t, line)
	}
	go io.Copy(io.Discard, lines)
	return s
}

// read learns an address from a line of the log.
func (s *served) read(t *testing.T, line string) {
	t.Helper()
	var entry struct{ Msg, URL string }
	if err := json.Unmarshal([]byte(line), &entry); err != nil {
		t.Fatalf("the log is no JSON: %s", line)
	}
	switch entry.Msg {
	case "kubejwt: admin":
		s.admin = entry.URL
	case "kubejwt: policy":
		_, name, _ := strings.Cut(entry.URL, "/auth/")
		s.policies[name] = entry.URL
	}
}

func (s *served) base(name string) string { return strings.TrimSuffix(s.policies[name], "/auth/"+name) }

func get200(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v", url, response.Status, err)
	}
	return string(body)
}

// newTestServer is serve in this process, which listens nowhere.
func newTestServer(t *testing.T, args ...string) *server {
	t.Helper()
	s, err := tryServer(process{stdout: io.Discard, stderr: io.Discard}, args...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tryServer(p process, args ...string) (*server, error) {
	var f serveFlags
	flags := newFlagSet("serve")
	f.define(flags)
	if _, err := parse(flags, args); err != nil {
		return nil, err
	}
	return f.newServer(p, flags)
}

// newTestGuard is a guard in this process.
func newTestGuard(t *testing.T, cluster *kubejwttest.Cluster, args ...string) *guard {
	t.Helper()
	return newTestServer(t, append(clusterFlags(cluster), args...)...).guard
}

func ask(h http.Handler, method, target, token string, more ...string) *http.Response {
	r := httptest.NewRequest(method, target, nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(more); i += 2 {
		r.Header.Add(more[i], more[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func TestServeVerdicts(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	g := newTestGuard(t, cluster, "-policy", "data-store=shop/api", "-policy", "admin=ops/*", "-policy", "any=shop/*,ops/*")
	other, bare := caller, caller
	other.Namespace, other.ServiceAccount = "ops", "root"
	bare.Secret.Name = "a-secret"
	token, otherToken := cluster.Mint(caller), cluster.Mint(other)
	for _, test := range []struct {
		name, method, target, token string
		more                        []string
		want                        int
	}{
		{"good", "GET", "/auth/data-store", token, nil, 200},
		{"any method", "DELETE", "/auth/data-store", token, nil, 200},
		{"not bound to a pod", "GET", "/auth/data-store", cluster.Mint(bare), nil, 200},
		{"no token", "GET", "/auth/data-store", "", nil, 401},
		{"bad token", "GET", "/auth/data-store", token[:len(token)-4], nil, 401},
		{"two headers", "GET", "/auth/data-store", token, []string{"Authorization", "Bearer " + token}, 401},
		{"other policy", "GET", "/auth/admin", token, nil, 403},
		{"other account", "GET", "/auth/data-store", otherToken, nil, 403},
		{"both pass", "GET", "/auth/any", otherToken, nil, 200},
		{"Envoy's path", "GET", "/auth/data-store/a/b?c=d", token, nil, 200},
		{"a path that climbs", "GET", "/auth/admin/../data-store", token, nil, 403},
		{"a path that climbs, encoded", "GET", "/auth/admin/%2e%2e/data-store", token, nil, 403},
		{"an encoded slash", "GET", "/auth/data-store%2fadmin", token, nil, 404},
		{"query", "GET", "/auth/admin?policy=data-store&audience=x&service-account=*", token, nil, 403},
		{"headers", "GET", "/auth/admin", token, []string{"X-Original-URI", "/auth/data-store", "X-Forwarded-Uri", "/auth/data-store", "Kubejwt-Username", "system:serviceaccount:ops:root"}, 403},
		{"a path in front", "GET", "/x/auth/data-store", token, nil, 404},
		{"no policy", "GET", "/auth/nobody", token, nil, 404},
		{"no name", "GET", "/auth/", token, nil, 404},
		{"root", "GET", "/", token, nil, 404},
		{"asterisk", "OPTIONS", "*", token, nil, 404},
		{"healthz", "GET", "/healthz", "", nil, 404},
		{"readyz", "GET", "/readyz", "", nil, 404},
		{"healthz with a token", "GET", "/healthz", token, nil, 404},
	} {
		t.Run(test.name, func(t *testing.T) {
			response := ask(g, test.method, test.target, test.token, test.more...)
			if response.StatusCode != test.want {
				t.Errorf("status %d: want %d", response.StatusCode, test.want)
			}
			if cache := response.Header.Get("Cache-Control"); cache != "no-store" {
				t.Errorf("Cache-Control %q: want no-store", cache)
			}
			for _, name := range identityHeaders() {
				_, has := response.Header[name]
				if want := test.want == 200 && strings.HasPrefix(test.target, "/auth/"); has != want {
					t.Errorf("the answer has %s: %v: want %v", name, has, want)
				}
			}
		})
	}
	if pod := ask(g, "GET", "/auth/data-store", cluster.Mint(bare)).Header.Get("Kubejwt-Pod"); pod != "" {
		t.Errorf("Kubejwt-Pod %q: want it empty", pod)
	}
	kubejwttest.TestHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = "/auth/data-store"
		g.ServeHTTP(w, r)
	}), cluster, caller)
}

func TestServeOutage(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	cluster.SetAvailable(false)
	s := newTestServer(t, append(clusterFlags(cluster), "-policy", "data-store=shop/api")...)
	for target, handler := range map[string]http.Handler{"/auth/data-store": s.guard, "/readyz": s.admin()} {
		response := ask(handler, "GET", target, cluster.Mint(caller))
		if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %s, %v: want 503 and Retry-After", target, response.Status, response.Header)
		}
	}
	if status := ask(s.admin(), "GET", "/healthz", "").StatusCode; status != http.StatusOK {
		t.Errorf("/healthz: status %d: want 200, the process is fine", status)
	}
}

// The binary answers, keeps its counters on a listener of their own, and ends
// when it is told to.
func TestServeBinary(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	s := startServe(t, build(t), append(append([]string{"serve"}, clusterFlags(cluster)...), "-policy", "data-store=shop/api")...)
	tokenFile := writeFile(t, cluster.Mint(caller))
	kubejwtWith(t, "", "call", s.policies["data-store"], "-token-file", tokenFile).mustSay(t, exitOK, "200 OK")
	if vars := get200(t, s.admin+"/debug/vars"); !strings.Contains(vars, `"Accepted":1`) || !strings.Contains(vars, `"LastError":""`) {
		t.Errorf("the counters are %s", vars)
	}
	response, err := http.Get(s.base("data-store") + "/debug/vars")
	if err != nil || response.StatusCode != http.StatusNotFound {
		t.Errorf("/debug/vars in public: %v, %v: want 404", response, err)
	}
	request, err := http.NewRequest(http.MethodOptions, s.base("data-store"), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.URL.Opaque = "*"
	if response, err = http.DefaultClient.Do(request); err != nil || response.StatusCode != http.StatusNotFound {
		t.Errorf("OPTIONS *: %v, %v: want 404", response, err)
	}
	request, err = http.NewRequest(http.MethodGet, s.policies["data-store"], nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Large", strings.Repeat("x", 2*maxHeaderBytes))
	if response, err = http.DefaultClient.Do(request); err != nil || response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("large headers: %v, %v: want 431", response, err)
	}

	// SIGHUP does not end it.
	s.command.Process.Signal(syscall.SIGHUP)
	kubejwtWith(t, "", "call", s.policies["data-store"], "-token-file", tokenFile).mustSay(t, exitOK, "200 OK")

	// A request at hand, which waits for a new key, is answered first.
	cluster.SetLatency(time.Second)
	cluster.RotateKey("ES256")
	writeTo(t, tokenFile, cluster.Mint(caller))
	fetches := cluster.Fetches()
	answered := make(chan result)
	go func() { answered <- kubejwtWith(t, "", "call", s.policies["data-store"], "-token-file", tokenFile) }()
	for deadline := time.Now().Add(patience); cluster.Fetches() == fetches && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	s.command.Process.Signal(syscall.SIGTERM)
	(<-answered).mustSay(t, exitOK, "200 OK")
	if err := s.command.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v: want exit status 0", err)
	}
}

// A client that never ends its headers is sent away.
func TestServeSlowHeaders(t *testing.T) {
	t.Parallel()
	guard := newTestGuard(t, kubejwttest.NewCluster(t), "-policy", "data-store=shop/api")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := newHTTPServer(guard, slog.New(slog.DiscardHandler))
	defer server.Close()
	go server.Serve(listener)
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	began := time.Now()
	conn.SetDeadline(began.Add(patience))
	fmt.Fprint(conn, "GET /auth/data-store HTTP/1.1\r\nHost: x\r\nX-Slow: ")
	_, err = io.ReadAll(conn)
	if waited := time.Since(began); errors.Is(err, os.ErrDeadlineExceeded) || waited < headerTimeout-time.Second {
		t.Errorf("%v after %v: want the end of the connection after %v", err, waited, headerTimeout)
	}
}

// A client that announces a body and sends none is answered at once.
func TestServeIgnoresBody(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	server := httptest.NewServer(newTestGuard(t, cluster, "-policy", "data-store=shop/api"))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "POST /auth/data-store HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\nAuthorization: Bearer %s\r\n\r\n", cluster.Mint(caller))
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || response.StatusCode != http.StatusOK || !response.Close {
		t.Errorf("%v, %v: want 200, and the end of the connection", response, err)
	}
}

func TestServeUsage(t *testing.T) {
	keys := recordings + "/sa.pub"
	base := []string{"serve", "-issuer", recordedIssuer, "-audience", "data-store", "-key-file", keys, "-listen", "256.0.0.1:0"}
	for says, args := range map[string][]string{
		"-policy is required":         base,
		"NAME=ns/sa":                  append(base, "-policy", "data-store"),
		"a-z, 0-9":                    append(base, "-policy", "Data/Store=a/b"),
		"of this name":                append(base, "-policy", "a=a/b", "-policy", "a=b/c"),
		`"shop"`:                      append(base, "-policy", "a=shop"),
		"text or json":                append(base, "-policy", "a=a/b", "-log-format", "xml"),
		"-log-level":                  append(base, "-policy", "a=a/b", "-log-level", "chatty"),
		"no arguments":                append(base, "-policy", "a=a/b", "stray"),
		"fits into a header":          append(base, "-policy", "a=a/b", "-audience", "a\nb"),
		"for keys that are":           append(base, "-policy", "a=a/b", "-max-stale", "1h"),
		"-audience is required":       {"serve", "-issuer", "i"},
		"-key-file can't be combined": append(base, "-policy", "a=a/b", "-in-cluster"),
		"-listen \"nonsense\"":        append(base, "-policy", "a=a/b", "-listen", "nonsense"),
		"-admin-listen \"80\"":        append(base, "-policy", "a=a/b", "-debug-listen", "80"),
		"-listen \"off\"":             append(base, "-policy", "a=a/b", "-listen", "off"),
	} {
		kubejwtWith(t, "", args...).mustSay(t, exitUsage, says)
	}
	kubejwtWith(t, "", append(base, "-policy", "a=a/b")...).mustSay(t, 1, "-listen")
	kubejwtWith(t, "", append(base, "-policy", "a=a/b", "-key-file", "/nonexistent")...).mustSay(t, exitNoKeys, "/nonexistent")
	kubejwtWith(t, "", append(base, "-policy", "a=a/b", "-key-file", "main.go")...).mustSay(t, exitNoKeys, "no key")
}

func TestServeEnvironment(t *testing.T) {
	read := func(environ []string, args ...string) (serveFlags, error) {
		var f serveFlags
		flags := newFlagSet("serve")
		f.define(flags)
		if _, err := parse(flags, args); err != nil {
			t.Fatal(err)
		}
		return f, setFromEnvironment(flags, environ)
	}
	f, err := read([]string{
		"KUBEJWT_ISSUER=from the environment", "KUBEJWT_AUDIENCE=a b", "KUBEJWT_POLICY=x=shop/api,shop/web y=ops/*",
		"KUBEJWT_REQUIRE_POD=true", "KUBEJWT_MAX_LIFETIME=1h", "KUBEJWT_LOG_LEVEL=debug", "KUBEJWT_CA_FILE=",
		"KUBEJWT_SERVICE_HOST=10.0.0.1", "KUBEJWT_PORT=tcp://10.0.0.1:80", "KUBEJWT_PORT_80_TCP_ADDR=10.0.0.1", "KUBEJWT_ADMIN_SERVICE_PORT_HTTP=80",
	}, "-issuer", "from a flag", "-audience", "c")
	if err != nil {
		t.Fatal(err)
	}
	if f.issuer != "from a flag" || f.audiences.String() != "c" || f.policies.String() != "x=shop/api,shop/web y=ops/*" ||
		!f.requirePod || f.maxLifetime != time.Hour || f.logLevel.String() != "DEBUG" {
		t.Errorf("the flags are %+v", f)
	}
	// Misspelt, they would leave a check out.
	for _, environ := range []string{"KUBEJWT_REQUIRE_PODS=true", "KUBEJWT_REQUIRE_POD=perhaps", "KUBEJWT_POLICY=x"} {
		if _, err := read([]string{environ}); err == nil || !regexp.MustCompile(`KUBEJWT_[A-Z_]+`).MatchString(err.Error()) {
			t.Errorf("%s: %v: want an error that names it", environ, err)
		}
	}
}

func TestCall(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	tokenFile := writeFile(t, cluster.Mint(caller))
	var asked atomic.Int64
	atThird := func() {}
	mux := http.NewServeMux()
	mux.HandleFunc("/data", func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 3 {
			atThird()
		}
		if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ey") {
			t.Error("the call has no token")
		}
		io.WriteString(w, "the data\x1b[2J "+strings.Repeat("x", maxBody))
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `you sent %v. {"monkeyJobs":3}`, r.Header["Authorization"])
	})
	mux.Handle("/refuse", http.NotFoundHandler())
	mux.Handle("/away", http.RedirectHandler("/data", http.StatusFound))
	server := httptest.NewUnstartedServer(mux)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // a client that does not trust the CA is part of this
	server.StartTLS()
	defer server.Close()
	caFile := writeFile(t, pemOf(server.Certificate().Raw))
	call := func(path string, more ...string) result {
		return kubejwtWith(t, "", append([]string{"call", server.URL + path, "-token-file", tokenFile, "-ca-file", caFile}, more...)...)
	}
	r := call("/data")
	r.mustSay(t, exitOK, "200 OK\n  the data", "the first 65536 bytes")
	if strings.Contains(r.out, "\x1b") {
		t.Error("an escape sequence is printed")
	}
	call("/echo").mustSay(t, exitOK, `you sent [Bearer (withheld: it looks like a token)]. {"monkeyJobs":3}`)
	call("/refuse").mustSay(t, 1, "404 Not Found")
	call("/away").mustSay(t, 1, "302 Found")
	call("/data", "-token-file", "/nonexistent").mustSay(t, 1, "/nonexistent")
	call("/data", "-ca-file", tokenFile).mustSay(t, exitUsage, "no certificate")
	kubejwtWith(t, "", "call", server.URL+"/data", "-token-file", tokenFile).mustSay(t, 1, "certificate")
	kubejwtWith(t, "", "call", server.URL).mustSay(t, exitUsage, "-token-file is required")
	kubejwtWith(t, "", "call", "data-store", "-token-file", tokenFile).mustSay(t, exitUsage, "want a URL")
	kubejwtWith(t, "", "call", "-token-file", tokenFile).mustSay(t, exitUsage, "want one URL")

	// With -interval it goes on until somebody stops it.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	atThird = cancel
	asked.Store(0)
	exit := run(ctx, process{nil, io.Discard, io.Discard, nil}, []string{"call", server.URL + "/data", "-token-file", tokenFile, "-ca-file", caFile, "-interval", "1ms"})
	if n := asked.Load(); n < 3 || exit != exitOK {
		t.Errorf("called %d times, exit status %d: want three calls, and 0", n, exit)
	}
}

func pemOf(certificate []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}))
}
