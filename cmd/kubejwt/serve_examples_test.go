package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kubejwt/kubejwt/kubejwttest"
)

const prometheusExamples = root + "/examples/prometheus/"

// The dashboard and the alerts ask for metrics that there are.
func TestExamplesKnowMetrics(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	s := newTestServer(t, append(clusterFlags(cluster), "-policy", "data-store=shop/api", "-watch", "-when-stale", "accept",
		"-watch-api-server", cluster.Config("any").Issuer)...)
	ask(s.guard, "GET", "/auth/data-store", cluster.Mint(caller))
	there := make(map[string]bool)
	for _, name := range regexp.MustCompile(`(?m)^kubejwt_\w+`).FindAllString(scrape(t, s), -1) {
		there[name] = true
	}
	for _, file := range []string{"dashboard.json", "alerts.yaml"} {
		data, err := os.ReadFile(prometheusExamples + file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, ".json") && !json.Valid(data) {
			t.Errorf("%s is no JSON", file)
		}
		names := regexp.MustCompile(`\bkubejwt_\w+`).FindAllString(string(data), -1)
		if len(names) < 5 {
			t.Errorf("%s asks for %q alone", file, names)
		}
		for _, name := range names {
			if !there[name] {
				t.Errorf("%s asks for %s, which there is not", file, name)
			}
		}
	}
}

// The alerts fire when they should, and for nobody else.
func TestExamplesAlerts(t *testing.T) {
	promtool := need(t, "promtool", "prometheus")
	output(t, exec.Command(promtool, "test", "rules", filepath.FromSlash(prometheusExamples+"alerts_test.yaml")))
}

// The policy file of the manifests passes its schema. Outside a pod, inCluster is
// all that is wrong with it.
func TestExamplesPolicyFile(t *testing.T) {
	path := root + "/examples/kubernetes/serve/deployment/serve.yaml"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := fileSchema(t).Validate(asJSON(t, string(data))); err != nil {
		t.Error(err)
	}
	kubejwtWith(t, "", "serve", "-check", "-config", path).mustSay(t, exitUsage, "issuers[0]: inCluster: this process does not run in a pod")
	t.Setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1") // as its error says
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	kubejwtWith(t, "", "serve", "-check", "-config", path).mustSay(t, exitOK, "The configuration is valid: 1 issuer, 2 policies.")
}

// need finds a program, which a Debian package has. CI must have it.
func need(t *testing.T, program, debian string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	switch {
	case err == nil:
		return path
	case os.Getenv("REQUIRE_PROXIES") == "1":
		t.Fatalf("%v: apt-get install %s", err, debian)
	default:
		t.Skipf("%v: to run this test, apt-get install %s", err, debian)
	}
	return ""
}

const serveBases = root + "/examples/kubernetes/serve/"

// The command takes the flags that the manifests have.
func TestExamplesFlags(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	pair := issue(t, "kubejwt.kubejwt.svc")
	here := strings.NewReplacer(
		"/etc/kubejwt/", serveBases+"deployment/",
		"/etc/kubejwt-tls/tls.crt", writeFile(t, pair.cert),
		"/etc/kubejwt-tls/tls.key", writeFile(t, pair.key),
	)
	for _, base := range []string{"deployment", "sidecar"} {
		args := kubejwtArgs(t, serveBases+base+"/deployment.yaml")
		for i := range args {
			args[i] = here.Replace(args[i])
		}
		kubejwtWith(t, "", append(args, "-check")...).mustSay(t, exitOK, "The configuration is valid")
		kubejwtWith(t, "", append(args, "-check", "-admin-listen=x")...).mustSay(t, exitUsage, "-admin-listen")
	}
}

// kubejwtArgs are the args of the container kubejwt in a manifest.
func kubejwtArgs(t *testing.T, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	type container struct {
		Name string
		Args []string
	}
	documents := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var object struct {
			Spec struct {
				Template struct {
					Spec struct {
						InitContainers []container `yaml:"initContainers"`
						Containers     []container
					}
				}
			}
		}
		if err := documents.Decode(&object); err != nil {
			t.Fatalf("%s: no container kubejwt: %v", path, err)
		}
		pod := object.Spec.Template.Spec
		for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
			if c.Name == "kubejwt" {
				return c.Args
			}
		}
	}
}

// The sidecar's nginx.conf, with nginx and a socket, lets nobody else in: what
// matters in such a configuration is tested in examples/proxies.
func TestExamplesSidecar(t *testing.T) {
	nginx := need(t, "nginx", "nginx")
	cluster := kubejwttest.NewCluster(t)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%q %q", r.Header["Kubejwt-Username"], r.Header["Authorization"])
	}))
	defer service.Close()
	folder, address := t.TempDir(), freeAddress(t)
	socket := filepath.Join(folder, "s")
	startServer(t, append(clusterFlags(cluster), "-policy", "reports=shop/api", "-listen", "unix:"+socket)...)
	data, err := os.ReadFile(serveBases + "sidecar/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	config := strings.NewReplacer("/tmp/", folder+"/", "/run/kubejwt/kubejwt.sock", socket, "listen 8000", "listen "+address,
		"127.0.0.1:9000", service.Listener.Addr().String()).Replace(string(data))
	said := runNginx(t, nginx, folder, config)
	call := func(headers ...string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/x?y", nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			request.Header.Add(headers[i], headers[i+1])
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0, ""
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(body)
	}
	waitFor(t, address, said)
	other := caller
	other.ServiceAccount = "web"
	for _, test := range []struct {
		name    string
		headers []string
		status  int
		body    string
	}{
		{"good", []string{"Authorization", "Bearer " + cluster.Mint(caller), "Kubejwt-Username", "spoofed"}, 200, `["system:serviceaccount:shop:api"] []`},
		{"nobody", []string{"Kubejwt-Username", "system:serviceaccount:shop:api"}, 401, ""},
		{"other", []string{"Authorization", "Bearer " + cluster.Mint(other)}, 403, ""},
	} {
		status, body := call(test.headers...)
		if status != test.status || test.status == 200 && body != test.body {
			t.Errorf("%s: status %d, %s: want %d, %s\n%s", test.name, status, body, test.status, test.body, said.String())
		}
	}
}

// runNginx runs nginx until the test ends, and returns what it says.
func runNginx(t *testing.T, nginx, folder, config string) *lockedBuffer {
	t.Helper()
	if os.Geteuid() == 0 {
		config = "user root;\n" + config // nobody could not use a socket
	}
	said := new(lockedBuffer)
	command := exec.Command(nginx, "-p", folder, "-c", writeFile(t, config), "-g", "daemon off;")
	command.Stdout, command.Stderr = said, said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Signal(syscall.SIGTERM)
		command.Wait()
	})
	return said
}

// waitFor returns when something listens at an address.
func waitFor(t *testing.T, address string, said *lockedBuffer) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nginx does not answer:\n%s", said.String())
		}
	}
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

// docs/serve-config.md explains each field, and its example is in order.
func TestExamplesPage(t *testing.T) {
	page, err := os.ReadFile(root + "/docs/serve-config.md")
	if err != nil {
		t.Fatal(err)
	}
	schema, err := os.ReadFile(root + "/docs/serve-config.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Defs map[string]struct{ Properties map[string]any } `json:"$defs"`
	}
	if err := json.Unmarshal(schema, &document); err != nil {
		t.Fatal(err)
	}
	for of, least := range map[string]int{"issuer": 15, "policy": 4} {
		fields := document.Defs[of].Properties
		if len(fields) < least {
			t.Errorf("the schema has %d fields of %s: want %d at least", len(fields), of, least)
		}
		for field := range fields {
			if !strings.Contains(string(page), "`"+field+"`") {
				t.Errorf("it does not explain %s of %s", field, of)
			}
		}
	}
	_, example, _ := strings.Cut(string(page), "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	t.Setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	kubejwtWith(t, "", "serve", "-check", "-config", writeFile(t, example)).mustSay(t, exitOK, "The configuration is valid: 2 issuers, 2 policies.")
}
