package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/kubejwt/kubejwt/kubejwttest"
)

// issuerYAML is an issuer of a policy file whose keys are fetched from cluster.
func issuerYAML(cluster *kubejwttest.Cluster, more string) string {
	return fmt.Sprintf("- {issuer: %q, caFile: %s/ca.crt, bearerTokenFile: %s/token%s}\n", cluster.Config("any").Issuer, cluster.Folder(), cluster.Folder(), more)
}

// Several issuers, each policy with its own audiences and, if it says so, its
// own issuers.
func TestServeFile(t *testing.T) {
	one, two := kubejwttest.NewCluster(t), kubejwttest.NewCluster(t)
	file := writeFile(t, "issuers:\n"+issuerYAML(one, "")+issuerYAML(two, ", maxLifetime: 30m")+`policies:
- name: data-store
  audiences: [data-store, old-name]
  serviceAccounts: [shop/api]
- name: reports
  audiences: [reports]
  serviceAccounts: ["shop/*"]
  issuers: [`+one.Config("any").Issuer+`]
`)
	g := newTestServer(t, "-config", file).guard
	old, reports, short := caller, caller, caller
	old.Audiences, reports.Audiences = []string{"old-name"}, []string{"reports"}
	short.Lifetime = 20 * time.Minute
	shortReports := reports
	shortReports.Lifetime = short.Lifetime
	for _, test := range []struct {
		name, target, token string
		want                int
	}{
		{"one", "/auth/data-store", one.Mint(caller), 200},
		{"one, the other audience", "/auth/data-store", one.Mint(old), 200},
		{"two, short", "/auth/data-store", two.Mint(short), 200},
		{"two, long", "/auth/data-store", two.Mint(caller), 401},
		{"replayed", "/auth/reports", one.Mint(caller), 401},
		{"reports of one", "/auth/reports", one.Mint(reports), 200},
		{"reports of two, which may not", "/auth/reports", two.Mint(shortReports), 401},
	} {
		if got := ask(g, "GET", test.target, test.token).StatusCode; got != test.want {
			t.Errorf("%s: status %d: want %d", test.name, got, test.want)
		}
	}
	kubejwtWith(t, "", "serve", "-check", "-config", file).mustSay(t, exitOK, "The configuration is valid: 2 issuers, 2 policies.")
}

const goodIssuers = "issuers:\n- issuer: https://issuer.example\n"
const goodPolicies = "policies:\n- name: a\n  audiences: [a]\n  serviceAccounts: [a/b]\n"

// The error for a bad file has line, field and what was expected, and the JSON Schema
// says the same of it where a schema can.
func TestServeFileErrors(t *testing.T) {
	schema := fileSchema(t)
	if err := schema.Validate(asJSON(t, goodIssuers+goodPolicies)); err != nil {
		t.Errorf("a good file: %v", err)
	}
	kubejwtWith(t, "", "serve", "-check", "-config", writeFile(t, goodIssuers+goodPolicies)).mustSay(t, exitOK, "The configuration is valid")
	const beyondSchema = true
	for _, test := range []struct {
		file, says string
		beyond     bool // the schema can't know
	}{
		{"", ":1: want issuers and policies, and it is empty", false},
		{"a: [", ":1: this is not YAML: did not find expected node content", beyondSchema},
		{goodIssuers + goodPolicies + "  a: b: c\n", ":7: this is not YAML: mapping values are not allowed", beyondSchema},
		{goodIssuers + goodPolicies + "---\n" + goodPolicies, ":7: want one document, and another begins here", beyondSchema},
		{goodIssuers + goodPolicies + "---\na: [\n", "this is not YAML", beyondSchema},
		{"- a", ":1: want a mapping, and got a list", false},
		{goodPolicies, ":1: issuers is required", false},
		{goodIssuers, ":1: policies is required", false},
		{"issuers: []\n" + goodPolicies, ":1: issuers: want a list of one at least, and got an empty list", false},
		{"issuers:\n- {}\n" + goodPolicies, ":2: issuers[0]: want issuer, or inCluster: true", false},
		{"issuers:\n- issuer: 5\n" + goodPolicies, ":2: issuers[0].issuer: want a string, and got 5: if it is meant as one, put it in quotes", false},
		{"issuers:\n- issuer: !x \"a\\e\"\n" + goodPolicies, `:2: issuers[0].issuer: want a string, and got "a\x1b"`, beyondSchema},
		{"issuers:\n- issuer: [" + strings.Repeat("1", 500) + "]\n" + goodPolicies, ":2: issuers[0].issuer: want a string, and got a list", false},
		{"issuers:\n- issuer: a\n  issuer: b\n" + goodPolicies, "issuers[0].issuer: it is given twice", beyondSchema},
		{"issuers:\n- issuer: https://a\n  maxLifetime: 1d\n" + goodPolicies, `:3: issuers[0].maxLifetime: want a duration as 90s or 24h, and got "1d"`, false},
		{"issuers:\n- issuer: https://a\n  requirePod: yes\n" + goodPolicies, `:3: issuers[0].requirePod: want true or false, and got "yes"`, false},
		{"issuers:\n- issuer: https://a\n  requirePod: \"true\"\n" + goodPolicies, `:3: issuers[0].requirePod: want true or false, and got "true"`, false},
		{"issuers:\n- issuer: https://a\n  requirePod: True\n" + goodPolicies, `:3: issuers[0].requirePod: want true or false, and got True`, beyondSchema},
		{"issuers:\n- issuer: https://a\n  leeway: 5\n" + goodPolicies, `:3: issuers[0].leeway: want a duration as 90s or 24h, and got 5`, false},
		{"issuers:\n- issuer: https://a\n  audience: b\n" + goodPolicies, `:3: issuers[0]: there is no field "audience": want acceptExtended, bearerTokenFile,`, false},
		{"issuers:\n- issuer: https://a\n  keyFile: b\n  jwksURL: https://c\n" + goodPolicies, ":2: issuers[0]: keyFile can't be combined", false},
		{"issuers:\n- issuer: https://a\n- issuer: https://a\n" + goodPolicies, `:3: issuers[1]: the issuer "https://a" is named before`, beyondSchema},
		{"issuers:\n- issuer: https://a\n  leeway: 1h\n" + goodPolicies, ":2: issuers[0]: leeway", beyondSchema},
		{"issuers:\n- issuer: http://a\n" + goodPolicies, ":2: issuers[0]: ", beyondSchema},
		{"issuers:\n- issuer: kubernetes/serviceaccount\n" + goodPolicies, "for such an issuer: use a keyFile with its sa.pub", beyondSchema},
		{"issuers:\n- inCluster: true\n" + goodPolicies, ":2: issuers[0]: inCluster: this process does not run in a pod", beyondSchema},
		{"issuers:\n- issuer: https://a\n  keyFile: /nonexistent\n" + goodPolicies, "/nonexistent", beyondSchema},
		{goodIssuers + "policies:\n- name: a\n", ":4: policies[0]: audiences is required", false},
		{goodIssuers + strings.Replace(goodPolicies, "[a]", "a", 1), `:5: policies[0].audiences: want a list of one at least, and got "a"`, false},
		{goodIssuers + strings.Replace(goodPolicies, "[a]", `["a\e"]`, 1), `:4: policies[0].audiences: "a\x1b": want printable ASCII, which fits into a header`, false},
		{goodIssuers + strings.Replace(goodPolicies, "name: a", "name: A", 1), `:4: policies[0].name: "A": want a-z, 0-9 and - only`, false},
		{goodIssuers + strings.Replace(goodPolicies, "a/b", "a", 1), `:4: policies[0]: "a" is not "namespace/name"`, false},
		{goodIssuers + goodPolicies + strings.TrimPrefix(goodPolicies, "policies:\n"), `:7: policies[1]: the policy "a" is named before, at `, beyondSchema},
		{goodIssuers + goodPolicies + "  issuers: [b]\n", `:4: policies[0]: issuers: "b" is not among the issuers`, beyondSchema},
		{goodIssuers + strings.Replace(goodPolicies, "[a]", "&x [a]", 1) + "  issuers: *x\n", "an alias, which this file can't have", beyondSchema},
		{goodIssuers + goodPolicies + "\x1b[2J: 1\n", "", beyondSchema},
		{strings.Repeat("#", maxRulesFile) + "\n", "it has more than 1048576 bytes", beyondSchema},
		{goodIssuers + "policies:\n" + strings.Repeat("- {}\n", 50), ": and 130 more", false},
	} {
		t.Run(test.says, func(t *testing.T) {
			path := writeFile(t, test.file)
			r := kubejwtWith(t, "", "serve", "-check", "-config", path)
			r.mustSay(t, exitUsage, strings.Replace(test.says, ":", path+":", map[bool]int{true: 1}[strings.HasPrefix(test.says, ":")]))
			if strings.Contains(r.errOut, "\x1b") {
				t.Error("an escape sequence is printed")
			}
			if err := schemaVerdict(t, schema, test.file); !test.beyond && err == nil {
				t.Errorf("the schema takes\n%s", test.file)
			}
		})
	}
}

// The help's example and what else is good passes the schema.
func TestServeFileSchema(t *testing.T) {
	schema := fileSchema(t)
	_, example, _ := strings.Cut(serveHelp, "\n    issuers:")
	example, _, _ = strings.Cut("    issuers:"+example, "\n\n")
	full := `issuers:
- inCluster: true
  discoveryURL: https://a
  caFile: a
  bearerTokenFile: a
  snapshotFile: a
  maxStale: 1h30m
- {issuer: a, formerIssuers: [b], keyFile: c, leeway: -1s, maxLifetime: 0, acceptExtended: false, requirePod: true}
- {issuer: d, jwksURL: https://e, watch: {whenStale: refuse, apiServer: https://e}}
` + goodPolicies + "  issuers: [a]\n"
	for _, file := range []string{strings.ReplaceAll(example, "\n    ", "\n")[4:], full} {
		if err := schema.Validate(asJSON(t, file)); err != nil {
			t.Errorf("%v\n%s", err, file)
		}
		d := decoder{}
		var document yaml.Node
		if err := yaml.Unmarshal([]byte(file), &document); err != nil {
			t.Fatal(err)
		}
		if d.rules(document.Content[0]); d.err() != nil {
			t.Errorf("%v\n%s", d.err(), file)
		}
	}
}

func fileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	data, err := os.ReadFile(root + "/docs/serve-config.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func schemaVerdict(t *testing.T, schema *jsonschema.Schema, file string) error {
	t.Helper()
	var value any
	if err := yaml.Unmarshal([]byte(file), &value); err != nil {
		return err
	}
	return schema.Validate(asJSON(t, file))
}

// asJSON is YAML as a schema sees it.
func asJSON(t *testing.T, file string) any {
	t.Helper()
	var value any
	if err := yaml.Unmarshal([]byte(file), &value); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	again, err := jsonschema.UnmarshalJSON(strings.NewReader(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// A file that changes is read again. A bad one leaves the last good one in use,
// and the log and the metrics say so. Issuers that stay keep their keys.
func TestServeFileChanges(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	policies := func(text string) string { return "issuers:\n" + issuerYAML(cluster, "") + "policies:\n" + text }
	const api = "- {name: api, audiences: [data-store], serviceAccounts: [shop/api]}\n"
	const web = "- {name: web, audiences: [data-store], serviceAccounts: [shop/web]}\n"
	file := writeFile(t, policies(api))
	log := new(lockedBuffer)
	s, err := tryServer(process{stderr: log}, "-config", file)
	if err != nil {
		t.Fatal(err)
	}
	token := cluster.Mint(caller)
	mustAnswer := func(when, target string, want int) {
		t.Helper()
		if got := ask(s.guard, "GET", target, token).StatusCode; got != want {
			t.Errorf("%s, %s: status %d: want %d", when, target, got, want)
		}
	}
	inOrder := func() string {
		for line := range strings.Lines(scrape(t, s)) {
			if value, ok := strings.CutPrefix(line, "kubejwt_config_last_reload_successful "); ok {
				return strings.TrimSpace(value)
			}
		}
		return "none"
	}
	mustAnswer("at first", "/auth/api", 200)
	mustAnswer("at first", "/auth/web", 404)
	fetches := cluster.Fetches()
	last := s.started
	look := func() { last = s.consider(context.Background(), last, s.look()) }

	look()
	if strings.Contains(log.String(), "policy file") {
		t.Errorf("nothing has changed, and the log says %s", log.String())
	}
	writeTo(t, file, policies(api+web))
	look()
	mustAnswer("with another policy", "/auth/api", 200)
	mustAnswer("with another policy", "/auth/web", 403)
	const late = "- {name: late, audiences: [data-store], serviceAccounts: [shop/api]}\n" // and then a bad one
	for _, bad := range []string{"", policies("- {name: api}\n"), policies(late + strings.ReplaceAll(web, "shop/web", "shop")), "issuers:\n- {issuer: https://a, keyFile: /nonexistent}\n" + goodPolicies} {
		writeTo(t, file, bad)
		look()
		look()
		mustAnswer("with a bad file", "/auth/api", 200)
		mustAnswer("with a bad file", "/auth/web", 403)
		if got := inOrder(); got != "0" {
			t.Errorf("with a bad file: kubejwt_config_last_reload_successful is %s: want 0", got)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	look()
	mustAnswer("without a file", "/auth/api", 200)
	log.mustSayOften(t, "the policy file can't be used", 5)
	if n := strings.Count(log.String(), "the policy file can't be used"); n != 5 {
		t.Errorf("%d lines on 5 bad files:\n%s", n, log.String())
	}
	writeTo(t, file, policies(web))
	look()
	mustAnswer("in order again", "/auth/api", 404)
	mustAnswer("in order again", "/auth/web", 403)
	if metrics := scrape(t, s); inOrder() != "1" || strings.Contains(metrics, `policy="api"`) || strings.Contains(metrics, `policy="late"`) ||
		!strings.Contains(metrics, `kubejwt_config_reloads_total{result="failure"} 5`) {
		t.Errorf("the metrics are\n%s", metrics)
	}
	if got := cluster.Fetches(); got != fetches {
		t.Errorf("%d fetches, and no issuer has changed", got-fetches)
	}
	writeTo(t, file, strings.Replace(policies(web), "}", ", requirePod: true}", 1))
	look()
	mustAnswer("with another issuer", "/auth/web", 403)
	if got := cluster.Fetches(); got == fetches {
		t.Error("an issuer has changed, and no keys were fetched ahead")
	}
}

// The file is looked at without a request, and until the end alone.
func TestServeFileIsWatched(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	file := writeFile(t, "issuers:\n"+issuerYAML(cluster, "")+"policies:\n- {name: a, audiences: [data-store], serviceAccounts: [shop/api]}\n")
	s := startServer(t, "-config", file)
	writeTo(t, file, "issuers:\n"+issuerYAML(cluster, "")+"policies:\n- {name: b, audiences: [data-store], serviceAccounts: [shop/api]}\n")
	s.log.mustSaySoon(t, "has changed and is in use")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if got := statusOf(t, client, s.endpoints["auth"]+"/auth/b", cluster.Mint(caller)); got != http.StatusOK {
		t.Errorf("status %d: want 200", got)
	}
}

// A file that is being written is left alone until it stays as it is: its first
// half can be in order, and admit more than the whole. SIGHUP says that it is
// complete.
func TestServeFileHalfWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuers := "issuers:\n- {issuer: " + recordedIssuer + ", keyFile: " + recordings + "/sa.pub}\n"
		policy := func(name string) string {
			return issuers + "policies:\n- name: " + name + "\n  audiences: [data-store]\n  serviceAccounts: [shop/api]\n"
		}
		file := writeFile(t, policy("first"))
		s := newTestServer(t, "-config", file)
		ctx, cancel := context.WithCancel(t.Context())
		hangups := make(chan os.Signal)
		ended := make(chan struct{})
		go func() { defer close(ended); s.reload(ctx, hangups) }()
		mustHave := func(when, name string) {
			t.Helper()
			synctest.Wait()
			if got := s.guard.judge.Load().rules.policies[0].name; got != name {
				t.Errorf("%s: the policy is %s: want %s", when, got, name)
			}
		}
		time.Sleep(reloadInterval / 2) // from now on between two looks
		writeTo(t, file, policy("half"))
		time.Sleep(reloadInterval)
		mustHave("after one look", "first")
		writeTo(t, file, policy("whole"))
		time.Sleep(reloadInterval)
		mustHave("after one look at the whole", "first")
		time.Sleep(reloadInterval)
		mustHave("after two looks at the whole", "whole")
		writeTo(t, file, policy("last"))
		mustHave("before SIGHUP", "whole")
		hangups <- syscall.SIGHUP
		mustHave("after SIGHUP", "last")
		cancel()
		<-ended
	})
}
