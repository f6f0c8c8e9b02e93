package revocation

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/internal/accounts"
)

// at is a moment of the tables: t0 and so many seconds.
func at(seconds int) time.Time {
	return time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(seconds) * time.Second)
}

func list(uids ...string) map[string]int64 {
	live := make(map[string]int64)
	for _, uid := range uids {
		live[uid] = 0
	}
	return live
}

// Each row is one history, judged for "a" at second 1000.
func TestView(t *testing.T) {
	listedAt := func(requested, now int, uids ...string) func(*view) {
		return func(v *view) { *v = v.listed(list(uids...), at(requested), at(now)) }
	}
	change := func(kind string, now int, deletion int64) func(*view) {
		return func(v *view) { v.change(kind, "a", deletion, at(now)) }
	}
	heard := func(now int) func(*view) { return func(v *view) { v.heard(at(now)) } }
	type steps []func(*view)
	for _, tt := range []struct {
		name  string
		steps steps
		iat   int
		gone  bool
		age   int // in seconds, if it is not gone
	}{
		{"nothing is known", nil, 400, false, 600},
		{"listed", steps{listedAt(900, 901, "a")}, 400, false, 100},
		{"listed, and heard since", steps{listedAt(900, 901, "a"), heard(980)}, 400, false, 20},
		{"listed before it was issued", steps{listedAt(900, 901, "a")}, 990, false, 10},
		{"not listed", steps{listedAt(900, 901, "b")}, 400, true, 0},
		{"not listed, issued 61 s before the list", steps{listedAt(900, 901)}, 839, true, 0},
		{"not listed, issued 60 s before the list", steps{listedAt(900, 901)}, 840, false, 160},
		{"not listed, issued after it", steps{listedAt(900, 901)}, 950, false, 50},
		{"not listed, and something heard since", steps{listedAt(900, 901), heard(990)}, 929, true, 0},
		{"added", steps{listedAt(800, 801), change("ADDED", 900, 0)}, 100, false, 100},
		{"deleted", steps{listedAt(900, 901, "a"), change("DELETED", 950, 0)}, 990, true, 0},
		{"deleted without having been seen", steps{listedAt(900, 901), change("DELETED", 950, 0)}, 990, true, 0},
		{"lacking from the next list", steps{listedAt(900, 901, "a"), listedAt(950, 951)}, 990, true, 0},
		{"deleted, and lacking from the next list", steps{listedAt(900, 901, "a"), change("DELETED", 950, 0), listedAt(960, 961)}, 990, true, 0},
		{"deleted, and listed again: a restore", steps{listedAt(900, 901, "a"), change("DELETED", 950, 0), listedAt(960, 961, "a")}, 400, false, 40},
		{"deleted, and added again: a restore", steps{listedAt(900, 901, "a"), change("DELETED", 950, 0), change("ADDED", 970, 0)}, 400, false, 30},
		{"terminating, 60 s after its end", steps{listedAt(900, 901, "a"), change("MODIFIED", 910, at(940).Unix())}, 400, false, 90},
		{"terminating, 61 s after its end", steps{listedAt(900, 901, "a"), change("MODIFIED", 910, at(939).Unix())}, 990, true, 0},
		{"terminating, and then not", steps{listedAt(900, 901, "a"), change("MODIFIED", 910, at(920).Unix()), change("MODIFIED", 920, 0)}, 400, false, 80},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var v view
			for _, step := range tt.steps {
				step(&v)
			}
			gone, live := v.judge("a", at(tt.iat), at(1000))
			age := v.age(live, at(tt.iat), at(1000))
			if gone {
				age = 0
			}
			if want := time.Duration(tt.age) * time.Second; gone != tt.gone || age != want {
				t.Errorf("gone %v, age %v: want %v, %v", gone, age, tt.gone, want)
			}
		})
	}
}

// With Refuse, evidence may be as old as MaxStale. The evidence for an object that the
// view has is the view or the token, whichever is younger; for another, the token.
func TestEvidence(t *testing.T) {
	const most, unbound = 5 * time.Minute, -1
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for _, tt := range []struct {
			name                   string
			issued, accounts, pods time.Duration // how long ago: the token, and as of when the views are
			account, pod           string        // UIDs
			want                   error
		}{
			{"fresh", time.Hour, 0, 0, "a", "p", nil},
			{"service accounts as of 5 min ago", time.Hour, most, 0, "a", "p", nil},
			{"older", time.Hour, most + 1, 0, "a", "p", errStale},
			{"pods as of 5 min ago", time.Hour, 0, most, "a", "p", nil},
			{"older", time.Hour, 0, most + 1, "a", "p", errStale},
			{"pods as of long ago, and no pod", time.Hour, most, unbound, "a", "", nil},
			{"older service accounts, and no pod", time.Hour, most + 1, unbound, "a", "", errStale},
			{"views of long ago, and issued 5 min ago", most, time.Hour, time.Hour, "a", "p", nil},
			{"before", most + 1, time.Hour, time.Hour, "a", "p", errStale},
			{"a service account too young for the view", most, most - 40*time.Second, 0, "other", "p", nil},
			{"before", most + 20*time.Second, most - 40*time.Second, 0, "other", "p", errStale},
			{"a pod too young for the view", most, 0, most - 40*time.Second, "a", "other", nil},
			{"before", most + 20*time.Second, 0, most - 40*time.Second, "a", "other", errStale},
		} {
			w := &Watcher{options: Options{WhenStale: Refuse, MaxStale: most}}
			accountsOf := &stream{view: view{live: list("a"), asOf: now.Add(-tt.accounts)}}
			var podsOf *stream
			if tt.pods != unbound {
				podsOf = &stream{view: view{live: list("p"), asOf: now.Add(-tt.pods)}}
			}
			claims := kubejwt.Claims{IssuedAt: now.Add(-tt.issued)}
			claims.ServiceAccount.UID, claims.Pod.UID = tt.account, tt.pod
			if err := w.judge(podsOf, accountsOf, &claims); err != tt.want {
				t.Errorf("%s: %v: want %v", tt.name, err, tt.want)
			}
		}
	})
}

// What is dropped from the deleted ones is refused by the formula from then on,
// whatever its iat, if clocks are no more than five minutes apart, as Config.Leeway
// allows.
func TestGoneIsFinal(t *testing.T) {
	v := new(view)
	*v = v.listed(list("a"), at(0), at(1))
	v.change("DELETED", "a", 0, at(100))
	latest := at(100).Add(5 * time.Minute) // the iat of a token of the last moment, by a clock ahead of ours
	for now := 100; now < 700; now++ {
		if now%3 == 0 {
			v.heard(at(now))
		}
		if gone, _ := v.judge("a", latest, at(now)); !gone {
			t.Fatalf("%d s after the deletion it is not gone", now-100)
		}
	}
	if len(v.gone) != 0 {
		t.Errorf("%d deletions are still remembered", len(v.gone))
	}
	// A list drops them as well.
	v.change("DELETED", "b", 0, at(500))
	if *v = v.listed(list(), at(860), at(861)); len(v.gone) != 1 {
		t.Error("a list drops a deletion that is 360 s old")
	}
	if *v = v.listed(list(), at(861), at(862)); len(v.gone) != 0 {
		t.Error("a list keeps a deletion that is 361 s old")
	}
}

// A clock that was set back, or a machine that slept, makes nothing younger.
func TestElapsed(t *testing.T) {
	now := time.Now() // with a monotonic part
	wall := func(d time.Duration) time.Time { return now.Round(0).Add(d) }
	if got := elapsed(now, now.Add(time.Minute)); got != time.Minute {
		t.Errorf("%v: want a minute", got)
	}
	if got := elapsed(time.Time{}, now); got < 24*time.Hour {
		t.Errorf("since the zero time: %v", got)
	}
	if got := elapsed(now, wall(time.Hour)); got != time.Hour {
		t.Errorf("a machine that slept for an hour: %v", got)
	}
}

func TestViewIsBounded(t *testing.T) {
	var v view
	for i := range maxObjects {
		if err := v.put(strconv.Itoa(i), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.put("one more", 0); err == nil {
		t.Error("one more fits")
	}
	if err := v.remove("one more", at(0)); err == nil {
		t.Error("one more that is gone fits")
	}
	if err := v.put("7", 0); err != nil {
		t.Errorf("one that is known: %v", err)
	}
	if err := v.remove("7", at(0)); err != nil {
		t.Errorf("one that is known goes: %v", err)
	}
}

// A server that lists other objects each time makes no view grow.
func TestListsDoNotAddUp(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds: leave out -short")
	}
	const each = maxObjects / 5 * 2
	s := &stream{watcher: &Watcher{logger: slog.New(slog.DiscardHandler)}}
	for n := range 4 {
		live := make(map[string]int64)
		for i := range each {
			live[fmt.Sprint(n, " ", i)] = 0
		}
		err := s.complete(live, time.Now())
		if want := n < 2; (err == nil) != want || s.view.size() > maxObjects {
			t.Errorf("list %d: %v, %d objects: want that to be no error: %v", n, err, s.view.size(), want)
		}
	}
}

// At most 120 bytes are kept for each pod.
func TestMemoryOfAView(t *testing.T) {
	const n = 10_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var v view
	for i := range n {
		v.put(fmt.Sprintf("9c1b9a51-4e61-4a3c-8f6e-%012d", i), 0)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := float64(after.HeapAlloc-before.HeapAlloc) / n
	t.Logf("%.0f bytes for each of %d pods", each, n)
	if each > 120 {
		t.Errorf("%.0f bytes for each pod: want 120 at most", each)
	}
	runtime.KeepAlive(v)
}

// What the log asks for is what the example grants.
func TestExampleRole(t *testing.T) {
	data, err := os.ReadFile("../examples/kubernetes/revocation.yaml")
	if err != nil {
		t.Fatal(err)
	}
	role := missingRole("shop", []accounts.Account{{Namespace: "shop", Name: "api"}})
	_, rules, _ := strings.Cut(role, "\nrules:\n")
	if rules == "" || !strings.Contains(string(data), "\nrules:\n"+rules+"---\n") {
		t.Errorf("the example does not grant these rules, or grants more:\n%s", rules)
	}
}

// The role can be applied as it stands: YAML would take some names for something
// else than strings.
func TestRoleOfOddNames(t *testing.T) {
	for _, tt := range []struct{ account, namespace, name string }{
		{"shop/api", "shop", "api"},
		{"nullable/trueish", "nullable", "trueish"},
		{"123/1e3", `"123"`, `"1e3"`},
		{"on/null", `"on"`, `"null"`},
		{"0x1f/y", `"0x1f"`, `"y"`},
		{"9/9a", `"9"`, `"9a"`},
	} {
		list, err := accounts.Parse([]string{tt.account})
		if err != nil {
			t.Fatal(err)
		}
		namespace, _, _ := strings.Cut(tt.account, "/")
		role := missingRole(namespace, list.Entries())
		if !strings.Contains(role, ", namespace: "+tt.namespace+"}\n") || !strings.Contains(role, "resourceNames: ["+tt.name+"]\n") {
			t.Errorf("%s: want %s and %s in:\n%s", tt.account, tt.namespace, tt.name, role)
		}
	}
	if role := missingRole("", []accounts.Account{{Namespace: "*", Name: "*"}}); strings.Contains(role, "namespace") {
		t.Errorf("of all namespaces:\n%s", role)
	}
	several := []accounts.Account{{Namespace: "shop", Name: "web"}, {Namespace: "prod", Name: "db"}, {Namespace: "shop", Name: "api"}}
	if role := missingRole("shop", several); !strings.Contains(role, "resourceNames: [api, web]\n") {
		t.Errorf("of several accounts, want those of the namespace, sorted:\n%s", role)
	}
	if role := missingRole("shop", []accounts.Account{{Namespace: "shop", Name: "*"}}); strings.Contains(role, "resourceNames") {
		t.Errorf("of all accounts of a namespace:\n%s", role)
	}
}
