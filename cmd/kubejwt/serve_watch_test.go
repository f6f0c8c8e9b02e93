package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kubejwt/kubejwt/kubejwttest"
)

// within waits until a request is answered like that.
func within(t *testing.T, limit time.Duration, h http.Handler, target, token string, want int) {
	t.Helper()
	got := 0
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if got = ask(h, "GET", target, token).StatusCode; got == want {
			return
		}
	}
	t.Errorf("%s: status %d after %v: want %d", target, got, limit, want)
}

// With -watch the token of a deleted pod is refused, whatever policy it passes.
func TestServeWatch(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	flags := append(clusterFlags(cluster), "-policy", "data-store=shop/api", "-policy", "any=shop/*", "-watch", "-when-stale", "refuse",
		"-watch-api-server", cluster.Config("any").Issuer)
	s := startServer(t, flags...)
	ready := s.endpoints["admin"] + "/readyz"
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for deadline := time.Now().Add(patience); statusOf(t, client, ready, "") != http.StatusOK; {
		if time.Now().After(deadline) {
			t.Fatalf("/readyz is not 200:\n%s", s.log.String())
		}
	}
	web := caller
	web.ServiceAccount = "web"
	web.Pod.Name = "web-0"
	token, webToken := cluster.Mint(caller), cluster.Mint(web)
	within(t, patience, s.guard, "/auth/data-store", token, 200)
	within(t, patience, s.guard, "/auth/any", webToken, 200)
	cluster.DeletePod("shop", "api-7c9b54c8db-lwrfr")
	within(t, patience, s.guard, "/auth/data-store", token, 401)
	within(t, patience, s.guard, "/auth/any", token, 401)
	within(t, patience, s.guard, "/auth/any", webToken, 200)
	cluster.DeleteServiceAccount("shop", "web")
	within(t, patience, s.guard, "/auth/any", webToken, 401)
	metrics := scrape(t, s.server)
	for _, want := range []string{
		`kubejwt_verdicts_total{outcome="revoked",policy="data-store"} 1`,
		`kubejwt_watch_failing{issuer="` + cluster.Config("any").Issuer + `"} 0`,
		`kubejwt_watch_lists_total{issuer="`,
		`kubejwt_watch_as_of_timestamp_seconds{issuer="`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s\n%s", want, metrics)
		}
	}
}

// /readyz fails until the watch can tell, and a watch that nobody runs is no
// hole.
func TestServeWatchNotRunning(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	s, err := tryServer(process{stderr: io.Discard}, append(clusterFlags(cluster), "-policy", "data-store=shop/api", "-watch", "-when-stale", "accept",
		"-watch-api-server", cluster.Config("any").Issuer)...)
	if err != nil {
		t.Fatal(err)
	}
	for target, handler := range map[string]http.Handler{"/readyz": s.admin(), "/auth/data-store": s.guard} {
		if response := ask(handler, "GET", target, cluster.Mint(caller)); response.StatusCode != 503 || response.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %v: want 503 and Retry-After", target, response)
		}
	}
}

// When the policy file changes what is watched, another watch takes over.
func TestServeWatchFile(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	issuers := "issuers:\n" + issuerYAML(cluster, fmt.Sprintf(", watch: {whenStale: accept, apiServer: %q}", cluster.Config("any").Issuer))
	const api = "policies:\n- {name: api, audiences: [data-store], serviceAccounts: [shop/api]}\n"
	const web = "- {name: web, audiences: [data-store], serviceAccounts: [shop/web]}\n"
	file := writeFile(t, issuers+api)
	s, err := tryServer(process{stderr: io.Discard}, "-config", file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first := s.guard.judge.Load()
	first.run(ctx)
	token := cluster.Mint(caller)
	within(t, patience, s.guard, "/auth/api", token, 200)

	last := s.started
	writeTo(t, file, issuers+"# a comment\n"+api)
	last = s.consider(ctx, last, s.look())
	if second := s.guard.judge.Load(); second == first || second.watches[0] != first.watches[0] {
		t.Error("nothing that is watched has changed, and the watch has")
	}
	writeTo(t, file, issuers+api+web)
	s.consider(ctx, last, s.look())
	if third := s.guard.judge.Load(); third.watches[0] == first.watches[0] {
		t.Error("more is watched, and the watch is the same")
	}
	within(t, patience, s.guard, "/auth/api", token, 200)
	cluster.DeletePod("shop", "api-7c9b54c8db-lwrfr")
	within(t, patience, s.guard, "/auth/api", token, 401)
	if err := first.watches[0].watcher.Ready(ctx); err == nil {
		t.Error("the first watch still runs")
	}
}

func TestServeWatchUsage(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	flags := append(clusterFlags(kubejwttest.NewCluster(t)), "-policy", "a=a/b")
	inPod := "issuers:\n- {inCluster: true, watch: {whenStale: accept}}\n" + goodPolicies
	for says, args := range map[string][]string{
		"-watch needs -in-cluster or -watch-api-server":        {"-watch", "-when-stale", "accept"},
		`-when-stale "": want accept or refuse`:                {"-watch", "-watch-api-server", "https://a"},
		`-when-stale "perhaps": want accept`:                   {"-watch", "-watch-api-server", "https://a", "-when-stale", "perhaps"},
		"-when-stale and -watch-api-server need -watch":        {"-when-stale", "accept"},
		"watch: APIServer":                                     {"-watch", "-watch-api-server", "http://a", "-when-stale", "accept"},
		"issuers[0].watch.whenStale: want accept or refuse, a": {"-config", writeFile(t, "issuers:\n- {issuer: https://a, watch: {whenStale: maybe, apiServer: https://a}}\n"+goodPolicies)},
		"issuers[0].watch: whenStale is required":              {"-config", writeFile(t, "issuers:\n- {issuer: https://a, watch: {apiServer: https://a}}\n"+goodPolicies)},
		"are not both set. To -check what a pod will run":      {"-config", writeFile(t, inPod)},
		"issuers[0].watch: want apiServer":                     {"-config", writeFile(t, "issuers:\n- {issuer: https://a, watch: {whenStale: accept}}\n"+goodPolicies)},
	} {
		all := append(flags, args...)
		if args[0] == "-config" {
			all = args
		}
		if _, err := tryServer(process{stderr: io.Discard}, all...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v: want %q", args, err, says)
		}
	}
}
