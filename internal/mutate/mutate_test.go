package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is changed in each kind of source. No line moves.
func TestMutants(t *testing.T) {
	for _, tt := range []struct {
		source string
		want   []string
	}{
		{"if a { b() }", []string{"a → !(a)", "b() → nothing"}},
		{"if !a { b() }", []string{"!a → a", "b() → nothing"}},
		{"if x < y { b() }", []string{"x < y → !(x < y)", "x < y → x <= y", "b() → nothing"}},
		{"if x == y { b() }", []string{"x == y → !(x == y)", "b() → nothing"}},
		{"if a && x >= y { b() }", []string{"a && x >= y → !(a && x >= y)", "a && x >= y → x >= y", "a && x >= y → a", "x >= y → x > y", "b() → nothing"}},
		{"for a || !c { break }", []string{"a || !c → !(a || !c)", "a || !c → !c", "a || !c → a", "!c → c", "break → nothing"}},
		{"switch { case a: b(); default: return }", []string{"a → !(a)", "b() → nothing", "return → nothing"}},
		{"x = 1; x++; x += 2", []string{"x = 1 → nothing", "x++ → nothing", "x += 2 → nothing"}},
		{"x = 1\nx = 1", []string{"x = 1 → nothing", "x = 1 → nothing (2)"}},
		{"z := 1; _ = z; return", nil},
		{"defer b()", []string{"defer b() → nothing"}},
		{"z := slices.Clone(y); b(z)", []string{"b(z) → nothing", "slices.Clone(y) → y"}},
		{"f := func() int { return x }; f()", []string{"f() → nothing", "return x → return zero values"}},
		{"f := func() (int, error) { return 0, nil }; b(f)", []string{"b(f) → nothing"}},
		{"f := func() bool { return true }; b(f)", []string{"b(f) → nothing", "true → !(true)"}},
		{"b(\n1)", []string{"b(… → nothing"}},
	} {
		source := "package p\nfunc (r *T[E]) f() { var first int; " + tt.source + " }"
		mutated, mutants, err := mutate("p/f.go", []byte(source), 1)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i, m := range mutants {
			if m.id != i+1 || m.key() != fmt.Sprintf("p/f.go T.f: %s → %s", m.from, m.to) {
				t.Errorf("%s: mutant %d is %+v", tt.source, i, m)
			}
			got = append(got, m.from+" → "+m.to)
		}
		want := append([]string{"its body → return zero values"}, tt.want...)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.source, diff)
		}
		if strings.Count(string(mutated), "\n") != strings.Count(source, "\n") {
			t.Errorf("%s moves lines:\n%s", tt.source, mutated)
		}
	}
}

// From the source of a module to its survivors: what is tested is killed.
func TestJudge(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a module")
	}
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{
		"go.mod": "module p\n\ngo 1.26\n",
		"p.go": `package p

import "slices"

func Larger(a, b int) bool { return a > b }

func Sorted(list []int) []int {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}

func Forever(n int) {
	for n > 0 {
		n--
	}
}

func Half(n int) int { return n / 2 }

func untested() {
	println()
	println()
}
`,
		"p_test.go": `package p

import "testing"

func TestLarger(t *testing.T) {
	if Larger(1, 2) || !Larger(2, 1) {
		t.Error("not larger")
	}
}

func TestSorted(t *testing.T) {
	if got := Sorted([]int{2, 1}); len(got) != 2 || got[0] != 1 {
		t.Error(got)
	}
}

func TestForever(t *testing.T) { Forever(1) }

func FuzzHalf(f *testing.F) {
	f.Add(4)
	f.Fuzz(func(t *testing.T, n int) {
		if Half(n) != n/2 {
			t.Error(n)
		}
	})
}
`,
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	accepted := map[string]string{"p.go Forever: its body → return zero values": "it does nothing"}
	r, err := judge(".", "", regexp.MustCompile(""), nil, accepted)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range r.survivors {
		got = append(got, m.key())
	}
	want := []string{
		"p.go Larger: a > b → a >= b",
		"p.go Sorted: list = slices.Clone(list) → nothing",
		"p.go Sorted: slices.Clone(list) → list",
		"p.go Forever: n > 0 → !(n > 0)",
		"p.go Forever: n > 0 → n >= 0",
		"p.go untested: its body → return zero values",
		"p.go untested: println() → nothing",
		"p.go untested: println() → nothing (2)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("survivors (-want +got):\n%s", diff)
	}
	if !strings.HasSuffix(r.String(), ": 15 mutants: 6 killed (1 by not ending), 8 survived, 1 change nothing: 42.9 % killed") {
		t.Error(r)
	}

	only := map[string]bool{
		"p.go Larger: a > b → a >= b":                 true,
		"p.go Forever: its body → return zero values": true,
		"p.go Gone: a > b → a >= b":                   true,
	}
	if r, err = judge(".", "", regexp.MustCompile(""), only, accepted); err != nil {
		t.Fatal(err)
	}
	if want := ".: 2 mutants: 0 killed (0 by not ending), 1 survived, 1 change nothing: 0.0 % killed"; r.String() != want {
		t.Errorf("once more: %v, want %s", r, want)
	}
}

// The test that noticed the mutant before comes first, and then all others, in
// rounds that grow.
func TestOrder(t *testing.T) {
	reaches := map[int]bool{1: true}
	u := &suite{
		tests: []test{
			{"Quick", 0, firstRound / 2, reaches},
			{"Elsewhere", 0, firstRound / 2, nil},
			{"AsQuick", 0, firstRound / 2, reaches},
			{"Slow", 0, firstRound, reaches},
			{"AsSlow", 0, firstRound, reaches},
			{"Killer", 0, firstRound, reaches},
			{"Slowest", 0, 10 * firstRound, reaches},
		},
		killer: "Killer",
	}
	var got []string
	for _, tests := range u.order(mutant{id: 1}) {
		for _, t := range tests {
			got = append(got, t.name)
		}
		got = append(got, "")
	}
	if diff := cmp.Diff([]string{"Killer", "", "Quick", "AsQuick", "", "Slow", "AsSlow", "", "Slowest", ""}, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if rounds := u.order(mutant{id: 2}); len(rounds) != 0 {
		t.Errorf("what reaches no mutant is run: %v", rounds)
	}
}

func TestFailedTest(t *testing.T) {
	for out, want := range map[string]string{
		"=== RUN\n--- FAIL: TestOne (0.00s)\n    --- FAIL: TestOne/two (0.00s)\n": "TestOne",
		"panic: test timed out after 5s\n\trunning tests:\n\t\tTestOne (5s)\n":    "TestOne",
		"--- FAIL: FuzzOne (0.00s)\n":                                             "FuzzOne",
		"--- FAIL: ExampleVerifier (0.00s)\n":                                     "ExampleVerifier",
		"panic: in a goroutine\n":                                                 "",
	} {
		if got := failedTest([]byte(out)); got != want {
			t.Errorf("%q: %q, want %q", out, got, want)
		}
	}
}

func TestAccepted(t *testing.T) {
	for text, want := range map[string]map[string]string{
		"":                             {},
		"# nothing\n\n":                {},
		"a\n\tbecause\n":               {"a": "because"},
		"a\n\tbecause\n\tof\n\nb\n\tc": {"a": "because of", "b": "c"},
		"a\n":                          nil,
		"a\nb\n\tc\n":                  nil,
		"a\n\tb\na\n\tc\n":             nil,
		"\tbecause\n":                  nil,
	} {
		got, err := parseAccepted(text)
		if diff := cmp.Diff(want, got); diff != "" || (err == nil) != (want != nil) {
			t.Errorf("%q: %v (-want +got):\n%s", text, err, diff)
		}
	}
	if _, err := parseAccepted(survivors); err != nil {
		t.Error(err)
	}
}
