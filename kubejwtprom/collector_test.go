package kubejwtprom_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwtprom"
	"github.com/kubejwt/kubejwt/kubejwttest"
	"github.com/kubejwt/kubejwt/revocation"
)

// used is a Verifier that has given some verdicts, and the registry that has
// both collectors.
func used(t *testing.T) (*prometheus.Registry, *kubejwttest.Cluster) {
	t.Helper()
	cluster := kubejwttest.NewCluster(t)
	verdicts := kubejwtprom.NewVerdicts()
	config := cluster.Config("data-store")
	config.ServiceAccounts = []string{"shop/api"}
	config.OnVerdict = verdicts.For("data-store")
	v, err := kubejwt.New(config)
	if err != nil {
		t.Fatal(err)
	}
	good := kubejwttest.Token{Namespace: "shop", ServiceAccount: "api", Audiences: []string{"data-store"}}
	other, foreign := good, good
	other.ServiceAccount = "web"
	foreign.Audiences = []string{"reports"}
	accepted := cluster.Mint(good)
	for _, header := range []string{"Bearer " + accepted, "Bearer " + accepted, "Bearer " + cluster.Mint(other), "Bearer " + cluster.Mint(foreign), ""} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		v.VerifyRequest(r)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(kubejwtprom.NewCollector(v), verdicts)
	return registry, cluster
}

// value is the sample of a metric whose labels are these, in the order of their
// names.
func value(t *testing.T, registry *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			var values []string
			for _, label := range metric.GetLabel() {
				values = append(values, label.GetValue())
			}
			if family.GetName() == name && slices.Equal(values, labels) {
				return metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
		}
	}
	t.Errorf("there is no %s%q", name, labels)
	return -1
}

func TestMetrics(t *testing.T) {
	registry, cluster := used(t)
	for _, test := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"kubejwt_verdicts_total", []string{"accepted", "data-store"}, 2},
		{"kubejwt_verdicts_total", []string{"not_allowed", "data-store"}, 1},
		{"kubejwt_verdicts_total", []string{"wrong_audience", "data-store"}, 1},
		{"kubejwt_verdicts_total", []string{"no_token", "data-store"}, 1},
		{"kubejwt_verdicts_total", []string{"revoked", "data-store"}, 0},
		{"kubejwt_tokens_total", []string{"accepted"}, 2},
		{"kubejwt_tokens_total", []string{"not_allowed"}, 1},
		{"kubejwt_tokens_total", []string{"wrong_audience"}, 1},
		{"kubejwt_tokens_total", []string{"expired"}, 0},
		{"kubejwt_keys", nil, 1},
		{"kubejwt_key_fetches_total", []string{"success"}, float64(cluster.Fetches())},
		{"kubejwt_key_fetches_total", []string{"failure"}, 0},
		{"kubejwt_key_fetch_causes_total", []string{"schedule"}, 1},
		{"kubejwt_key_fetch_causes_total", []string{"unknown_key"}, 0},
		{"kubejwt_key_fetch_failing", nil, 0},
		{"kubejwt_remembered_tokens", nil, 1},
		{"kubejwt_remembered_hits_total", nil, 1},
	} {
		if got := value(t, registry, test.name, test.labels...); got != test.want {
			t.Errorf("%s%q is %v: want %v", test.name, test.labels, got, test.want)
		}
	}
	fetched, stale := value(t, registry, "kubejwt_keys_fetched_timestamp_seconds"), value(t, registry, "kubejwt_keys_stale_timestamp_seconds")
	if age := value(t, registry, "kubejwt_keys_age_seconds"); age < 0 || age > 60 || stale-fetched < 23*3600 {
		t.Errorf("the keys' age is %v s, and they are stale %v s after they were fetched", age, stale-fetched)
	}
}

// The names and helps are as Prometheus' conventions have them.
func TestLint(t *testing.T) {
	registry, _ := used(t)
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
}

// A Verifier that has no keys yet has no times to show, and keys that can't be
// had are seen.
func TestNoKeys(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	cluster.SetAvailable(false)
	v, err := kubejwt.New(cluster.Config("data-store"))
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(kubejwtprom.NewCollector(v))
	v.Ready(t.Context())
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if strings.Contains(family.GetName(), "timestamp") || family.GetName() == "kubejwt_keys_age_seconds" {
			t.Errorf("%s is %v, and there are no keys", family.GetName(), family.GetMetric())
		}
	}
	if got := value(t, registry, "kubejwt_key_fetch_failing"); got != 1 {
		t.Errorf("kubejwt_key_fetch_failing is %v: want 1", got)
	}
	if got := value(t, registry, "kubejwt_key_fetches_total", "failure"); got != 1 {
		t.Errorf("kubejwt_key_fetches_total{result=failure} is %v: want 1", got)
	}
}

// What a watch knows is shown, and named by the conventions.
func TestWatch(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	watcher, err := revocation.New(revocation.Options{
		ServiceAccounts: []string{"shop/api"}, APIServer: cluster.Config("any").Issuer,
		CAFile: cluster.Folder() + "/ca.crt", BearerTokenFile: cluster.Folder() + "/token", WhenStale: revocation.Refuse,
	})
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(kubejwtprom.NewWatchCollector(watcher))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- watcher.Run(ctx) }()
	cluster.Mint(kubejwttest.Token{Namespace: "shop", ServiceAccount: "api"})
	for deadline := time.Now().Add(2 * time.Minute); value(t, registry, "kubejwt_watch_pods") != 1 || watcher.Stats().AsOf.IsZero(); {
		if time.Now().After(deadline) {
			t.Fatal("no pod is seen")
		}
	}
	if value(t, registry, "kubejwt_watch_lists_total") < 1 || value(t, registry, "kubejwt_watch_as_of_timestamp_seconds") < 1 {
		t.Error("it has seen a pod, and no list")
	}
	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	cancel()
	<-ended
}

// All Reasons of the library are shown, from 0 on.
func TestReasons(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{"accepted": true, "no_token": true, "not_allowed": true, "keys_unavailable": true, "undecided": true}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if ok && len(spec.Values) == 1 && strings.HasPrefix(spec.Names[0].Name, "Reason") {
			reason, _ := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			want[reason] = true
		}
		return true
	})
	verdicts := kubejwtprom.NewVerdicts()
	verdicts.For("a")
	got := make(map[string]bool)
	for _, outcome := range outcomesOf(t, verdicts) {
		got[outcome] = true
	}
	if !maps.Equal(got, want) || len(want) < 19 {
		t.Errorf("the outcomes are %v: want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	verdicts.Forget("a")
	if left := outcomesOf(t, verdicts); left != nil {
		t.Errorf("a policy that was forgotten has the outcomes %v", left)
	}
}

func outcomesOf(t *testing.T, verdicts *kubejwtprom.Verdicts) (all []string) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(verdicts)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			all = append(all, metric.GetLabel()[0].GetValue())
		}
	}
	return all
}

// An accepted token costs no allocation more.
func TestVerdictAllocations(t *testing.T) {
	observe := kubejwtprom.NewVerdicts().For("a")
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() { observe(ctx, kubejwt.Claims{}, nil) }); n != 0 {
		t.Errorf("%v allocations: want none", n)
	}
}

// What was not made as it should be is an error when it is registered, and never a panic
// when Prometheus asks.
func TestMisuse(t *testing.T) {
	v, err := kubejwt.New(kubejwttest.NewCluster(t).Config("data-store"))
	if err != nil {
		t.Fatal(err)
	}
	verdicts := kubejwtprom.NewVerdicts()
	var none *kubejwtprom.Verdicts
	for _, zero := range []*kubejwtprom.Verdicts{none, new(kubejwtprom.Verdicts)} {
		zero.For("a")(t.Context(), kubejwt.Claims{}, nil)
		zero.Forget("a")
	}
	var noCollector *kubejwtprom.Collector
	var noWatch *kubejwtprom.WatchCollector
	for _, test := range []struct {
		name string
		all  []prometheus.Collector
		says string // by the last one; "" if it can be registered
	}{
		{"a Verifier", []prometheus.Collector{kubejwtprom.NewCollector(v)}, ""},
		{"two of one Verifier", []prometheus.Collector{kubejwtprom.NewCollector(v), kubejwtprom.NewCollector(v)}, "duplicate"},
		{"a zero Verifier", []prometheus.Collector{kubejwtprom.NewCollector(new(kubejwt.Verifier))}, ""},
		{"no Verifier", []prometheus.Collector{kubejwtprom.NewCollector(nil)}, "a Verifier that is not nil"},
		{"a zero Collector", []prometheus.Collector{new(kubejwtprom.Collector)}, "NewCollector"},
		{"no Collector", []prometheus.Collector{noCollector}, "NewCollector"},
		{"Verdicts", []prometheus.Collector{verdicts}, ""},
		{"Verdicts twice", []prometheus.Collector{verdicts, verdicts}, "duplicate"},
		{"two Verdicts", []prometheus.Collector{verdicts, kubejwtprom.NewVerdicts()}, "duplicate"},
		{"a zero Verdicts", []prometheus.Collector{new(kubejwtprom.Verdicts)}, "NewVerdicts"},
		{"no Verdicts", []prometheus.Collector{none}, "NewVerdicts"},
		{"a zero Watcher", []prometheus.Collector{kubejwtprom.NewWatchCollector(new(revocation.Watcher))}, ""},
		{"no Watcher", []prometheus.Collector{kubejwtprom.NewWatchCollector(nil)}, "a Watcher that is not nil"},
		{"a zero WatchCollector", []prometheus.Collector{new(kubejwtprom.WatchCollector)}, "NewWatchCollector"},
		{"no WatchCollector", []prometheus.Collector{noWatch}, "NewWatchCollector"},
	} {
		for name, wrap := range map[string]func(prometheus.Registerer) prometheus.Registerer{
			"plain": func(r prometheus.Registerer) prometheus.Registerer { return r },
			"with a label": func(r prometheus.Registerer) prometheus.Registerer {
				return prometheus.WrapRegistererWith(prometheus.Labels{"cluster": "a"}, r)
			},
		} {
			registry := prometheus.NewPedanticRegistry()
			var err error
			for _, one := range test.all {
				err = wrap(registry).Register(one)
			}
			if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("%s, %s: %v: want %q", test.name, name, err, test.says)
			}
			if _, err := registry.Gather(); err != nil {
				t.Errorf("%s, %s: %v", test.name, name, err)
			}
		}
		last := test.all[len(test.all)-1]
		metrics := make(chan prometheus.Metric, 1000)
		last.Collect(metrics)
		if wasMade := test.says == "" || test.says == "duplicate"; !wasMade && len(metrics) > 0 {
			t.Errorf("%s: it has %d metrics: want none", test.name, len(metrics))
		}
	}
}
