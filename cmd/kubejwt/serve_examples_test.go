package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

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
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("KUBEJWT_REQUIRE_PROXIES") == "1" {
			t.Fatalf("%v: apt-get install prometheus", err)
		}
		t.Skipf("%v: to run this test, apt-get install prometheus", err)
	}
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
	kubejwtWith(t, "", "serve", "-check", "-config", path).mustSay(t, exitOK, "In order. Issuers: 1, policies: 2.")
}
