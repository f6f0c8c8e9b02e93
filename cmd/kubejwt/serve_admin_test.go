package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/kubejwt/kubejwt/kubejwttest"
)

func scrape(t *testing.T, s *server) string {
	t.Helper()
	w := httptest.NewRecorder()
	s.admin().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

// judged is serve after one verdict of each common kind.
func judged(t *testing.T, p process, args ...string) (*server, *kubejwttest.Cluster) {
	t.Helper()
	cluster := kubejwttest.NewCluster(t)
	s, err := tryServer(p, append(append(clusterFlags(cluster), "-policy", "data-store=shop/api", "-policy", "any=*"), args...)...)
	if err != nil {
		t.Fatal(err)
	}
	other := caller
	other.ServiceAccount = "web"
	token := cluster.Mint(caller)
	ask(s.guard, "GET", "/auth/data-store", token)
	ask(s.guard, "GET", "/auth/data-store", token)
	ask(s.guard, "GET", "/auth/data-store", cluster.Mint(other))
	ask(s.guard, "GET", "/auth/data-store", "")
	ask(s.guard, "GET", "/auth/any", "rubbish")
	return s, cluster
}

func TestServeMetrics(t *testing.T) {
	s, cluster := judged(t, process{stderr: io.Discard})
	metrics := scrape(t, s)
	member := `audience="data-store",issuer="` + cluster.Config("any").Issuer + `"`
	for _, want := range []string{
		`kubejwt_verdicts_total{outcome="accepted",policy="data-store"} 2`,
		`kubejwt_verdicts_total{outcome="not_allowed",policy="data-store"} 1`,
		`kubejwt_verdicts_total{outcome="no_token",policy="data-store"} 1`,
		`kubejwt_verdicts_total{outcome="malformed",policy="any"} 1`,
		`kubejwt_verdicts_total{outcome="expired",policy="any"} 0`,
		`kubejwt_verdict_duration_seconds_count 5`,
		`kubejwt_remembered_hits_total{` + member + `} 1`,
		`kubejwt_keys{` + member + `} 1`,
		`kubejwt_keys_age_seconds{` + member + `} 0.`,
		`kubejwt_keys_stale_timestamp_seconds{` + member + `} 1`,
		`kubejwt_keys_fetched_timestamp_seconds{` + member + `} 1`,
		`kubejwt_key_fetches_total{` + member + `,result="success"} 1`,
		`kubejwt_key_fetches_total{` + member + `,result="failure"} 0`,
		`kubejwt_key_fetch_causes_total{` + member[:len(`audience="data-store",`)] + `cause="schedule",` + member[len(`audience="data-store",`):] + `} 1`,
		`kubejwt_config_last_reload_successful 1`,
		`kubejwt_build_info{goversion="go`,
		`go_goroutines `,
	} {
		if !strings.Contains(metrics, "\n"+want) {
			t.Errorf("the metrics lack %s\n%s", want, metrics)
		}
	}
	problems, err := testutil.GatherAndLint(s.metrics.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		if strings.HasPrefix(problem.Metric, "kubejwt_") {
			t.Errorf("%s: %s", problem.Metric, problem.Text)
		}
	}
}

// The admin listener has what kubelet and Prometheus ask for, and no verdicts.
func TestServeAdmin(t *testing.T) {
	s, cluster := judged(t, process{stderr: io.Discard})
	for target, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 200, "/debug/vars": 200, "/auth/data-store": 404, "/": 404} {
		if got := ask(s.admin(), "GET", target, cluster.Mint(caller)).StatusCode; got != want {
			t.Errorf("%s: status %d: want %d", target, got, want)
		}
	}
	for _, target := range []string{"/healthz", "/readyz", "/metrics", "/debug/vars"} {
		if got := ask(s.guard, "GET", target, "").StatusCode; got != 404 {
			t.Errorf("%s at -listen: status %d: want 404", target, got)
		}
	}
	cluster.SetAvailable(false)
	again, err := tryServer(process{stderr: io.Discard}, append(clusterFlags(cluster), "-policy", "a=*")...)
	if err != nil {
		t.Fatal(err)
	}
	if response := ask(again.admin(), "GET", "/readyz", ""); response.StatusCode != 503 || response.Header.Get("Retry-After") == "" {
		t.Errorf("/readyz without keys: %v: want 503 and Retry-After", response)
	}
}

// A request for /healthz gets nobody in, whether a proxy asks serve at its client's own
// path, or another one on the way cleans the path that Envoy appends.
func TestServeHealthIsNoWayIn(t *testing.T) {
	nginx := need(t, "nginx", "nginx")
	cluster := kubejwttest.NewCluster(t)
	s := startServer(t, append(clusterFlags(cluster), "-policy", "data-store=shop/api")...)
	folder, site, cleaner := t.TempDir(), freeAddress(t), freeAddress(t)
	said := runNginx(t, nginx, folder, strings.NewReplacer("FOLDER", folder, "SITE", site, "CLEANER", cleaner, "SERVE", s.endpoints["auth"]).Replace(`
pid FOLDER/pid;
error_log stderr;
events {}
http {
	access_log off;
	client_body_temp_path FOLDER/client;
	proxy_temp_path FOLDER/proxy;
	fastcgi_temp_path FOLDER/fastcgi;
	uwsgi_temp_path FOLDER/uwsgi;
	scgi_temp_path FOLDER/scgi;
	server {
		listen SITE;
		location / {
			auth_request /_kubejwt;
			try_files /none =204;
		}
		location = /_kubejwt {
			internal;
			proxy_pass SERVE$request_uri;
		}
	}
	server {
		listen CLEANER;
		location / { proxy_pass SERVE/; }
	}
}`))
	waitFor(t, site, said)
	token := cluster.Mint(caller)
	for _, test := range []struct {
		url, token string
		in         bool
	}{
		{site + "/auth/data-store", token, true},
		{site + "/auth/data-store", "", false},
		{site + "/healthz", "", false},
		{site + "/readyz?x", "", false},
		{cleaner + "/auth/data-store/orders", token, true},
		{cleaner + "/auth/data-store/../../healthz", "", false},
		{cleaner + "/auth/data-store/%2e%2e/../readyz", "", false},
	} {
		status := statusOf(t, http.DefaultClient, "http://"+test.url, test.token)
		if in := status >= 200 && status < 300; in != test.in || status == 0 {
			t.Errorf("%s: status %d: want to get in: %v\n%s", test.url, status, test.in, said.String())
		}
	}
}

// One line a verdict, which says who and what, and never has a token.
func TestServeAccessLog(t *testing.T) {
	for which, outcomes := range map[string]string{
		"none":    "",
		"refused": "not_allowed no_token malformed",
		"all":     "accepted accepted not_allowed no_token malformed",
	} {
		out := new(lockedBuffer)
		judged(t, process{stdout: out, stderr: io.Discard}, "-access-log", which)
		out.mustSayOften(t, "microseconds", len(strings.Fields(outcomes)))
		var got []string
		for _, line := range auditLines(t, strings.NewReader(out.String())) {
			got = append(got, line["outcome"].(string))
		}
		if strings.Join(got, " ") != outcomes {
			t.Errorf("-access-log %s: the outcomes %q: want %q", which, got, outcomes)
		}
	}
}

func auditLines(t *testing.T, out io.Reader) (all []map[string]any) {
	t.Helper()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var line map[string]any
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("%v: %s", err, lines.Text())
		}
		all = append(all, line)
	}
	return all
}

func TestServeAccessLogFields(t *testing.T) {
	out := new(lockedBuffer)
	cluster := kubejwttest.NewCluster(t)
	s, err := tryServer(process{stdout: out, stderr: io.Discard}, append(clusterFlags(cluster), "-policy", "data-store=shop/api", "-access-log", "all")...)
	if err != nil {
		t.Fatal(err)
	}
	other, late := caller, caller
	other.ServiceAccount = "web"
	late.Lifetime = -time.Hour
	token := cluster.Mint(caller)
	envoy := dialExtAuthz(t, s.guard)
	for _, test := range []struct {
		name string
		ask  func()
		want map[string]string
	}{
		{"nginx", func() {
			ask(s.guard, "GET", "/auth/data-store", token, "X-Original-Method", "PUT", "X-Original-Uri", "/orders/1?secret=s", "X-Request-Id", "r-1")
		}, map[string]string{"policy": "data-store", "outcome": "accepted", "issuer": cluster.Config("any").Issuer, "username": "system:serviceaccount:shop:api", "pod": "api-7c9b54c8db-lwrfr", "method": "PUT", "path": "/orders/1", "request_id": "r-1"}},
		{"Caddy and Traefik", func() {
			ask(s.guard, "GET", "/auth/data-store", token, "X-Forwarded-Method", "POST", "X-Forwarded-Uri", "/a%20b")
		}, map[string]string{"method": "POST", "path": "/a%20b", "request_id": ""}},
		{"Envoy over HTTP", func() { ask(s.guard, "DELETE", "/auth/data-store/orders/1?q=1", token) }, map[string]string{"method": "DELETE", "path": "/orders/1"}},
		{"Envoy over gRPC", func() {
			askOverGRPC(t, envoy, envoyAsks("data-store", map[string]string{"authorization": "Bearer " + token, "x-request-id": "r-2"}))
		}, map[string]string{"outcome": "accepted", "method": "GET", "path": "/orders", "request_id": "r-2"}},
		{"who may not", func() { ask(s.guard, "GET", "/auth/data-store", cluster.Mint(other)) }, map[string]string{"outcome": "not_allowed", "username": "system:serviceaccount:shop:web", "path": ""}},
		{"who is late", func() { ask(s.guard, "GET", "/auth/data-store", cluster.Mint(late)) }, map[string]string{"outcome": "expired", "username": "system:serviceaccount:shop:api", "issuer": "", "credential_id": ""}},
		{"nobody", func() { ask(s.guard, "GET", "/auth/data-store", "") }, map[string]string{"outcome": "no_token", "username": "", "pod": "", "credential_id": ""}},
		{"a token in the path", func() {
			ask(s.guard, "GET", "/auth/data-store", token, "X-Original-Uri", "/"+token, "X-Request-Id", token, "X-Original-Method", token)
		}, map[string]string{"method": "(withheld: it looks like a token)", "path": "(withheld: it looks like a token)", "request_id": "(withheld: it looks like a token)"}},
		{"escapes", func() {
			ask(s.guard, "GET", "/auth/data-store", token, "X-Original-Uri", "/\x1b[2J\u202e", "X-Original-Method", strings.Repeat("A", 100))
		}, map[string]string{"path": `/\x1b[2J\u202e`, "method": strings.Repeat("A", 16)}},
		{"a long path", func() {
			ask(s.guard, "GET", "/auth/data-store", token, "X-Original-Uri", "/"+strings.Repeat("\u202e", 1000))
		}, nil},
	} {
		out.Reset()
		test.ask()
		out.mustSaySoon(t, "microseconds")
		text := out.String()
		lines := auditLines(t, strings.NewReader(text))
		if len(lines) != 1 {
			t.Fatalf("%s: %d lines: %s", test.name, len(lines), text)
		}
		for field, want := range test.want {
			if lines[0][field] != want {
				t.Errorf("%s: %s is %q: want %q", test.name, field, lines[0][field], want)
			}
		}
		if micros, ok := lines[0]["microseconds"].(float64); !ok || micros < 0 || lines[0]["time"] == nil {
			t.Errorf("%s: no time in %s", test.name, text)
		}
		if path := lines[0]["path"].(string); len(path) > maxLoggedPath {
			t.Errorf("%s: a path of %d bytes", test.name, len(path))
		}
		if lines[0]["outcome"] == "accepted" && lines[0]["credential_id"] == "" {
			t.Errorf("%s: no credential_id", test.name)
		}
		if strings.Contains(text, "eyJ") || strings.Contains(text, token[len(token)-16:]) {
			t.Errorf("%s: a token is logged: %s", test.name, text)
		}
	}
}

// hung is an output that nobody reads.
type hung chan bool

func (h hung) Write(p []byte) (int, error) {
	<-h
	return len(p), nil
}

// Outputs that nobody reads hold up no request, and what is lost is counted.
func TestServeHungOutputs(t *testing.T) {
	out := make(hung)
	t.Cleanup(func() { close(out) })
	ended := make(chan *server)
	go func() {
		s, _ := judged(t, process{stdout: out, stderr: out}, "-access-log", "all", "-log-level", "debug")
		for range 600 {
			ask(s.guard, "GET", "/auth/any", "rubbish")
		}
		ended <- s
	}()
	select {
	case <-time.After(patience):
		t.Fatal("requests wait for an output that hangs")
	case s := <-ended:
		if !regexp.MustCompile(`kubejwt_access_log_lines_lost_total [1-9]`).MatchString(scrape(t, s)) {
			t.Error("no lost lines are counted")
		}
	}
}
