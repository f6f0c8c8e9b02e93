// Package proxies_test runs the configurations of this folder with the real
// proxies, in front of a service that tells which headers it was sent.
package proxies_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kubejwt/kubejwt/kubejwttest"
)

// good is the caller whom the policy admits.
var good = kubejwttest.Token{Namespace: "shop", ServiceAccount: "api", Audiences: []string{"data-store"}}

// configurations are the files of each proxy, the one to start with first.
var configurations = map[string][]string{
	"nginx":   {"nginx.conf"},
	"caddy":   {"Caddyfile"},
	"traefik": {"traefik.yaml", "traefik-routes.yaml"},
	"envoy":   {"envoy.yaml", "envoy-http.yaml"},
}

func TestNginx(t *testing.T) { testProxy(t, "nginx", startNginx) }
func TestCaddy(t *testing.T) { testProxy(t, "caddy", startCaddy) }

// Traefik is in no package of Debian: whoever has it can run this.
func TestTraefik(t *testing.T) {
	if _, err := exec.LookPath("traefik"); err != nil {
		t.Skip(err)
	}
	testProxy(t, "traefik", startTraefik)
}

// world is a proxy with all that is around it.
type world struct {
	name    string // of the proxy
	cluster *kubejwttest.Cluster
	proxy   string // address
	host    string // that requests name
	asked   *recorder
	reached *atomic.Int64 // requests that the service got
}

// start starts a proxy by its configuration, and returns its process.
type start func(t *testing.T, binary, config string) *exec.Cmd

func testProxy(t *testing.T, name string, start start) {
	binary, kubejwt := need(t, name), build(t)
	t.Run("working", func(t *testing.T) {
		w := newWorld(t, kubejwt, binary, start, true)
		t.Run("identity", w.testIdentity)
		t.Run("verdicts", w.testVerdicts)
		t.Run("spoofed identity", w.testSpoofedIdentity)
		t.Run("spoofed policy", w.testSpoofedPolicy)
		t.Run("any host", w.testAnyHost)
		t.Run("odd paths", w.testOddPaths)
		t.Run("connections", w.testConnections)
	})
	t.Run("not kubejwt", func(t *testing.T) { testNotKubejwt(t, kubejwt, binary, start) })
	t.Run("API server down from the start", func(t *testing.T) {
		w := newWorld(t, kubejwt, binary, start, false)
		if status, _ := w.call(t, "GET / HTTP/1.1", w.bearer(good)); status != http.StatusServiceUnavailable {
			t.Errorf("status %d: want 503", status)
		}
	})
}

// A site that has a name, as in a deployment.
func TestCaddyNamed(t *testing.T) {
	binary, kubejwt := need(t, "caddy"), build(t)
	const host = "data-store.example"
	w := newWorld(t, kubejwt, binary, startCaddy, true, "http://:8000", "http://"+host+":8000")
	w.host = host
	w.testVerdicts(t)
	w.testIdentity(t)
}

// Whoever else answers in kubejwt's place lets nobody through.
func TestCaddyAlone(t *testing.T) {
	binary, kubejwt := need(t, "caddy"), build(t)
	empty := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer empty.Close()
	w := newWorld(t, kubejwt, binary, startCaddy, true, "127.0.0.1:8080", empty.Listener.Addr().String())
	for _, headers := range [][]string{nil, {w.bearer(good)}, {"Kubejwt-Username: system:serviceaccount:shop:api"}} {
		if status, _ := w.call(t, "GET / HTTP/1.1", headers...); status != http.StatusServiceUnavailable {
			t.Errorf("%.40q: status %d: want 503", headers, status)
		}
	}
}

// testNotKubejwt has something else in kubejwt's place, or nothing. It lets
// nobody through.
func testNotKubejwt(t *testing.T, kubejwt, binary string, start start) {
	answers := map[string]http.HandlerFunc{
		"breaks off":   func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"redirects":    func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) },
		"another user": func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Kubejwt-Username", "root") },
	}
	for _, status := range []int{200, 202, 204, 404, 429, 500, 502, 503} {
		answers[fmt.Sprint(status)] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
	}
	var answer atomic.Value // an http.HandlerFunc
	answer.Store(answers["503"])
	other := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer.Load().(http.HandlerFunc)(w, r)
	}))
	other.Config.ErrorLog = log.New(io.Discard, "", 0)
	other.Start()
	defer other.Close()
	w := newWorld(t, kubejwt, binary, start, true, "127.0.0.1:8080", other.Listener.Addr().String())
	for name, handler := range answers {
		answer.Store(handler)
		w.mustRefuse(t, name)
	}
	other.Close()
	w.mustRefuse(t, "nobody")
}

// mustRefuse asks with a good token, and with the identity that it would have.
func (w *world) mustRefuse(t *testing.T, name string) {
	t.Helper()
	if w.name == "traefik" && slices.Contains([]string{"200", "202", "204", "another user"}, name) {
		w.mustKeepIdentity(t, name)
		return
	}
	for _, headers := range [][]string{nil, {w.bearer(good)}, {"Kubejwt-Username: system:serviceaccount:shop:api"}} {
		before := w.reached.Load()
		if status, _ := w.call(t, "GET / HTTP/1.1", headers...); status < 300 || w.reached.Load() > before {
			t.Errorf("%s, %.40q: status %d, and the service got %d requests", name, headers, status, w.reached.Load()-before)
		}
	}
}

// mustKeepIdentity is for Traefik, which passes on whatever was answered with
// 2xx, and nothing of what a client says about itself.
func (w *world) mustKeepIdentity(t *testing.T, name string) {
	t.Helper()
	_, seen := w.call(t, "GET / HTTP/1.1", "Kubejwt-Username: system:serviceaccount:shop:api")
	if strings.Contains(fmt.Sprint(seen), "shop") {
		t.Errorf("%s: the service was sent %v", name, seen)
	}
}

// newWorld starts a proxy with its configuration, in which some texts are
// replaced: each is followed by what takes its place.
func newWorld(t *testing.T, kubejwt, binary string, start start, available bool, replace ...string) *world {
	w := &world{name: filepath.Base(binary), cluster: kubejwttest.NewCluster(t), proxy: freeAddress(t)}
	w.host = w.proxy
	w.cluster.SetAvailable(available)
	w.reached = new(atomic.Int64)
	service := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.reached.Add(1)
		echo(rw, r)
	}))
	t.Cleanup(service.Close)
	w.asked = newRecorder(t, startServe(t, kubejwt, w.cluster))

	port := func(address string) string { return address[strings.LastIndexByte(address, ':'):] }
	inner := freeAddress(t)
	here := strings.NewReplacer("127.0.0.1:8000", w.proxy, "127.0.0.1:8080", w.asked.address, "127.0.0.1:8001", inner,
		"127.0.0.1:9000", service.Listener.Addr().String(), ":8000 {", port(w.proxy)+" {", ":8001 {", port(inner)+" {")
	files := configurations[w.name]
	folder := t.TempDir()
	for _, file := range files {
		asWritten := strings.NewReplacer(replace...).Replace(read(t, file))
		if err := os.WriteFile(filepath.Join(folder, file), []byte(here.Replace(asWritten)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(folder, files[0])
	run(t, start(t, binary, path))
	waitFor(t, w.proxy)
	waitForRoutes(t, w.proxy)
	return w
}

// waitForRoutes waits for Traefik, which listens before it has read its routes.
func waitForRoutes(t *testing.T, proxy string) {
	t.Helper()
	for range 200 {
		response, err := http.Get("http://" + proxy)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusNotFound {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s has no routes", proxy)
}

// echo tells the headers that it was sent, and the target as one more.
func echo(w http.ResponseWriter, r *http.Request) {
	r.Header.Set(echoedTarget, r.RequestURI)
	json.NewEncoder(w).Encode(r.Header)
}

const echoedTarget = "Echoed-Target"

func startNginx(t *testing.T, binary, config string) *exec.Cmd {
	return exec.Command(binary, "-p", t.TempDir(), "-c", config, "-g", "daemon off;")
}

func startCaddy(t *testing.T, binary, config string) *exec.Cmd {
	command := exec.Command(binary, "run", "--adapter", "caddyfile", "--config", config)
	command.Env = append(environment(), "HOME="+t.TempDir())
	return command
}

func startTraefik(_ *testing.T, binary, config string) *exec.Cmd {
	command := exec.Command(binary, "--configFile="+config)
	command.Dir = filepath.Dir(config)
	return command
}

// run starts a command that is stopped when the test ends, and then tells what
// it said if the test failed.
func run(t *testing.T, command *exec.Cmd) {
	t.Helper()
	var said bytes.Buffer
	command.Stdout, command.Stderr = &said, &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(5*time.Second, func() { command.Process.Kill() })
		command.Wait()
		kill.Stop()
		if t.Failed() {
			t.Logf("%s said:\n%s", command.Path, said.String())
		}
	})
}

// need finds a proxy, or skips the test.
func need(t *testing.T, name string) (binary string) {
	t.Helper()
	binary, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" || os.Getenv("REQUIRE_PROXIES") == "1" {
			t.Fatalf("%v: apt-get install %s", err, name)
		}
		t.Skipf("%v: to run this test, apt-get install %s", err, name)
	}
	return binary
}

func build(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("it builds the command: leave out -short")
	}
	binary := filepath.Join(t.TempDir(), "kubejwt")
	if out, err := exec.Command("go", "-C", "../../cmd/kubejwt", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

func startServe(t *testing.T, kubejwt string, cluster *kubejwttest.Cluster) (address string) {
	t.Helper()
	address = freeAddress(t)
	command := exec.Command(kubejwt, "serve", "-listen", address, "-debug-listen", "off", "-log-level", "debug",
		"-issuer", cluster.Config("any").Issuer, "-ca-file", cluster.Folder()+"/ca.crt", "-bearer-token-file", cluster.Folder()+"/token",
		"-audience", "data-store", "-policy", "data-store=shop/api", "-policy", "admin=ops/*")
	command.Env = []string{}
	run(t, command)
	waitFor(t, address)
	return address
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func waitFor(t *testing.T, address string) {
	t.Helper()
	for range 200 {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("nobody listens on %s", address)
}

// recorder stands between the proxy and kubejwt, and keeps the last request.
type recorder struct {
	address     string
	connections atomic.Int64 // made to it so far

	mu   sync.Mutex // guards the rest
	last *http.Request
	body string
}

func newRecorder(t *testing.T, address string) *recorder {
	rec := &recorder{}
	to := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: address})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		rec.mu.Lock()
		rec.last, rec.body = r.Clone(r.Context()), string(body)
		rec.mu.Unlock()
		r.Body = http.NoBody
		to.ServeHTTP(w, r)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			rec.connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	rec.address = server.Listener.Addr().String()
	return rec
}

func (w *world) bearer(token kubejwttest.Token) string {
	return "Authorization: Bearer " + w.cluster.Mint(token)
}

// call sends a request with these very bytes as headers, and returns the
// headers that the service was sent, if it was.
func (w *world) call(t *testing.T, line string, headers ...string) (status int, seen http.Header) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", w.proxy, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	body := ""
	if strings.HasPrefix(line, "POST") {
		body = "the body"
		headers = append(headers, fmt.Sprintf("Content-Length: %d", len(body)))
	}
	headers = append([]string{line, "Host: " + w.host}, headers...)
	if _, err := io.WriteString(conn, strings.Join(headers, "\r\n")+"\r\n\r\n"+body); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		if err := json.NewDecoder(response.Body).Decode(&seen); err != nil {
			t.Fatal(err)
		}
	}
	if response.StatusCode == http.StatusUnauthorized && response.Header.Get("WWW-Authenticate") == "" {
		t.Error("a 401 without WWW-Authenticate")
	}
	return response.StatusCode, seen
}

// identity is what the service knows of its caller, if it takes all that is
// not a letter or a digit in a name for the same, as CGI and its heirs do.
func identity(seen http.Header) map[string]string {
	same := func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}
	all := make(map[string]string)
	for name, values := range seen {
		name = strings.Map(same, strings.ToLower(name))
		if value := strings.Join(values, "|"); strings.HasPrefix(name, "kubejwt") && value != "" {
			all[name] += value
		}
	}
	return all
}

func (w *world) testIdentity(t *testing.T) {
	for _, line := range []string{"GET / HTTP/1.1", "POST /a/b?c=d HTTP/1.1", "DELETE /auth/admin HTTP/1.1"} {
		status, seen := w.call(t, line, w.bearer(good))
		who := identity(seen)
		if status != http.StatusOK || len(who) != 8 {
			t.Fatalf("%s: status %d, identity %v: want 200 and all eight headers", line, status, who)
		}
		for name, want := range map[string]string{
			"kubejwt-username":        "system:serviceaccount:shop:api",
			"kubejwt-namespace":       "shop",
			"kubejwt-service-account": "api",
			"kubejwt-pod":             "api-7c9b54c8db-lwrfr",
			"kubejwt-node":            "node-1",
			"kubejwt-audience":        "data-store",
		} {
			if who[name] != want {
				t.Errorf("%s: %s is %q: want %q", line, name, who[name], want)
			}
		}
		if seen.Get("Authorization") != "" {
			t.Errorf("%s: the service was sent the token", line)
		}
	}
}

func (w *world) testVerdicts(t *testing.T) {
	other, expired := good, good
	other.ServiceAccount = "web"
	expired.Lifetime = -time.Hour
	for name, test := range map[string]struct {
		headers []string
		want    []int
	}{
		"no token":      {nil, []int{401}},
		"expired":       {[]string{w.bearer(expired)}, []int{401}},
		"other account": {[]string{w.bearer(other)}, []int{403}},
		"two tokens":    {[]string{w.bearer(other), w.bearer(good)}, []int{400, 401}},
		"not a bearer":  {[]string{"Authorization: Basic YTpi"}, []int{401}},
		"large headers": {[]string{w.bearer(good), "X-Large: " + strings.Repeat("x", 20<<10)}, []int{200}},
	} {
		if status, _ := w.call(t, "GET / HTTP/1.1", test.headers...); !slices.Contains(test.want, status) {
			t.Errorf("%s: status %d: want %v", name, status, test.want)
		}
	}
	if status, _ := w.call(t, "GET /_kubejwt HTTP/1.1"); status/100 != 4 {
		t.Errorf("a client reaches the auth location: status %d", status)
	}
}

// A client that names another host than the proxy expects gets no further.
func (w *world) testAnyHost(t *testing.T) {
	defer func(host string) { w.host = host }(w.host)
	for _, w.host = range []string{"localhost", "data-store.example", "127.0.0.1.", "kubejwt", "[::1]:8001"} {
		if status, _ := w.call(t, "GET / HTTP/1.1"); status != http.StatusUnauthorized {
			t.Errorf("%s, no token: status %d: want 401", w.host, status)
		}
		if status, seen := w.call(t, "GET / HTTP/1.1", w.bearer(good)); status != http.StatusOK || identity(seen)["kubejwt-namespace"] != "shop" {
			t.Errorf("%s, a good token: status %d, the service was sent %v", w.host, status, seen)
		}
	}
}

// No spelling of a path gets past kubejwt. nginx and Caddy change none.
func (w *world) testOddPaths(t *testing.T) {
	for _, path := range []string{
		"/a%2Fb", "/a%2fb/c%20d", "//a//b", "/a/%2e%2e/b", "/a%5Cb", "/%E2%82%AC", "/a;b=c", "/a?b=%2F..%2F",
		"/_kubejwt%2f", "/auth%2Fadmin",
	} {
		if status, _ := w.call(t, "GET "+path+" HTTP/1.1"); status/100 != 4 {
			t.Errorf("%s, no token: status %d: want 4xx", path, status)
		}
		status, seen := w.call(t, "GET "+path+" HTTP/1.1", w.bearer(good))
		as := seen.Get(echoedTarget)
		if status != http.StatusOK || as != path && w.name != "traefik" { // which has spellings of its own
			t.Errorf("%s: status %d, the service was asked %q", path, status, as)
		}
	}
	for _, path := range []string{
		"/_kubejwt", "/%5fkubejwt", "/./_kubejwt", "/a/../_kubejwt", "/-/..%2f..%2f_kubejwt", "/@unavailable", "*",
		"http://127.0.0.1:8001/",
	} {
		if status, _ := w.call(t, "GET "+path+" HTTP/1.1"); status/100 != 4 {
			t.Errorf("%s, no token: status %d: want 4xx", path, status)
		}
	}
}

// A connection to kubejwt serves many requests.
func (w *world) testConnections(t *testing.T) {
	const requests = 30
	token := w.bearer(good)
	before := w.asked.connections.Load()
	for range requests {
		if status, _ := w.call(t, "GET / HTTP/1.1", token); status != http.StatusOK {
			t.Fatalf("status %d: want 200", status)
		}
	}
	if made := w.asked.connections.Load() - before; made > requests/10 {
		t.Errorf("%d connections to kubejwt for %d requests", made, requests)
	}
}

// A header that a client sends does not take the place of a missing one, nor
// keep a good one from the service.
func (w *world) testSpoofedIdentity(t *testing.T) {
	noPod := good
	noPod.Secret.Name = "a-secret"
	spoofs := []string{
		"Kubejwt-Username: root", "kUBEJWT-uSERNAME: root", "KUBEJWT_USERNAME: root", "Kubejwt_Username: root", "Kubejwt-Service_Account: root",
		"Kubejwt.Username: root", "Kubejwt-Pod: root", "kubejwt-pod: root", "Kubejwt_Pod: root", "KUBEJWT_POD-UID: root", "Kubejwt-Node: root",
	}
	connections := []string{"", "Connection: Kubejwt-Username", "Connection: close, kubejwt-username, Kubejwt-Namespace, Kubejwt-Pod"}
	for _, connection := range connections {
		headers := append([]string{w.bearer(noPod)}, spoofs...)
		if connection != "" {
			headers = append(headers, connection)
		}
		status, seen := w.call(t, "GET / HTTP/1.1", headers...)
		who := identity(seen)
		want := map[string]string{
			"kubejwt-username":            "system:serviceaccount:shop:api",
			"kubejwt-namespace":           "shop",
			"kubejwt-service-account":     "api",
			"kubejwt-service-account-uid": who["kubejwt-service-account-uid"],
			"kubejwt-audience":            "data-store",
		}
		if status != http.StatusOK || !maps.Equal(who, want) || strings.Contains(fmt.Sprint(seen), "root") {
			t.Errorf("%q: status %d, the service was sent %v", connection, status, seen)
		}
	}
	if status, _ := w.call(t, "GET / HTTP/1.1", spoofs...); status != http.StatusUnauthorized {
		t.Errorf("spoofed headers and no token: status %d: want 401", status)
	}
}

// Of a client's request kubejwt is sent the token and nothing else.
func (w *world) testSpoofedPolicy(t *testing.T) {
	other := good
	other.Namespace = "ops"
	for _, line := range []string{
		"GET /?policy=admin HTTP/1.1",
		"POST /auth/admin?uri=/auth/admin HTTP/1.1",
		"GET /../auth/admin HTTP/1.1",
		"GET /%2e%2e/auth/admin HTTP/1.1",
	} {
		status, _ := w.call(t, line, w.bearer(other), "X-Original-URI: /auth/admin", "X-Original-URL: /auth/admin", "X-Forwarded-Uri: /auth/admin",
			"X-Rewrite-URL: /auth/admin", "X-HTTP-Method-Override: PUT", "X-Policy: admin", "Cookie: policy=admin", "User-Agent: spoof")
		if status != http.StatusForbidden && status != http.StatusBadRequest {
			t.Errorf("%s: status %d: want 403", line, status)
		}
		w.asked.mustBeBare(t, line, w.name)
	}
}

func (rec *recorder) mustBeBare(t *testing.T, line, proxy string) {
	t.Helper()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.last.RequestURI != "/auth/data-store" || rec.last.Method != http.MethodGet || rec.body != "" {
		t.Errorf("%s: kubejwt was asked %s %s with %d bytes of body: want GET /auth/data-store and none", line, rec.last.Method, rec.last.RequestURI, len(rec.body))
	}
	for name, values := range rec.last.Header {
		switch name {
		case "Authorization", "Connection", "Accept-Encoding", "User-Agent": // the proxy's own, except the first
		default:
			if proxy == "traefik" && strings.HasPrefix(name, "X-Forwarded-") { // its own
				continue
			}
			t.Errorf("%s: kubejwt was sent %s: %q", line, name, values)
		}
		if strings.Contains(fmt.Sprint(values), "spoof") {
			t.Errorf("%s: kubejwt was sent the client's %s", line, name)
		}
	}
}
