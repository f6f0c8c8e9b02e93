// Mutate asks how much the tests of this module notice: it changes one thing in
// a package, a condition, a statement, a comparison, and runs the tests, for
// each thing that it can change. A mutant that no test notices has survived:
// a test is missing, or the change changes nothing, and stands with its reason
// in survivors.txt.
//
//	go run ./internal/mutate [-file REGEXP] [-again FILE] [-and PACKAGE] [PACKAGE...]
//
// It is run by hand, in the root of the module, as .ci/mutate. No file is
// changed: all mutants of a package are compiled into it at once, by an overlay,
// and a variable of the environment wakes one of them. Each meets the tests of
// its package that reach it, the seeds of fuzz tests included, the quickest
// first, and then those of the package that -and names. A test that does not end
// has noticed it, too. What an earlier run printed tells, as the FILE of -again,
// which mutants to try once more: those that it names.
package main

import (
	_ "embed"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

//go:embed awake.go.txt
var awakeSource string

//go:embed survivors.txt
var survivors string

func main() {
	files := flag.String("file", "", "mutate only the files whose paths match")
	again := flag.String("again", "", "try only the mutants listed in this file, which an earlier run has printed")
	and := flag.String("and", "", "let those that survive meet the tests of this package, too")
	flag.Parse()
	packages := flag.Args()
	if len(packages) == 0 {
		packages = []string{"./internal/jws", "./internal/keyset", "./internal/reread", "./internal/tokencache", "."}
	}
	accepted, err := parseAccepted(survivors)
	if err != nil {
		fail(err)
	}
	pattern, err := regexp.Compile(*files)
	if err != nil {
		fail(err)
	}
	var only map[string]bool
	if *again != "" {
		if only, err = linesOf(*again); err != nil {
			fail(err)
		}
	}
	survived := false
	for _, pkg := range packages {
		result, err := judge(pkg, *and, pattern, only, accepted)
		if err != nil {
			fail(err)
		}
		fmt.Println(result)
		survived = survived || len(result.survivors) > 0
	}
	if survived {
		os.Exit(1)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "mutate:", err)
	os.Exit(2)
}

func linesOf(file string) (map[string]bool, error) {
	text, err := os.ReadFile(file)
	lines := make(map[string]bool)
	for line := range strings.Lines(string(text)) {
		lines[strings.TrimSuffix(line, "\n")] = true
	}
	return lines, err
}

// judge prints the mutants of a package that survive, as they do. If only is not
// nil, it tries those whose keys are in it.
func judge(
	pkg, and string, files *regexp.Regexp, only map[string]bool, accepted map[string]string,
) (result, error) {
	work, err := os.MkdirTemp("", "mutate-")
	if err != nil {
		return result{}, err
	}
	defer os.RemoveAll(work)
	s, err := newSubject(pkg, files, work)
	if err != nil {
		return result{}, err
	}
	if only != nil {
		s.mutants = slices.DeleteFunc(s.mutants, func(m mutant) bool { return !only[m.key()] })
	}
	if len(s.mutants) == 0 {
		return result{pkg: pkg}, nil
	}
	suites, err := s.suites(and)
	if err != nil {
		return result{}, err
	}
	r := result{pkg: pkg}
	began := time.Now()
	for i, m := range s.mutants {
		fate, err := fateOf(suites, m)
		if err != nil {
			return result{}, err
		}
		r.count(m, fate, accepted)
		fmt.Fprintf(os.Stderr, "\r%d of %d in %v ", i+1, len(s.mutants), time.Since(began).Round(time.Second))
	}
	fmt.Fprintln(os.Stderr)
	return r, nil
}

// suites are the tests that mutants meet.
func (s *subject) suites(and string) ([]*suite, error) {
	packages := []string{s.pkg}
	if and != "" {
		packages = append(packages, and)
	}
	var suites []*suite
	for _, pkg := range packages {
		u, err := s.newSuite(pkg)
		if err != nil {
			return nil, err
		}
		suites = append(suites, u)
	}
	return suites, nil
}

func fateOf(suites []*suite, m mutant) (fate, error) {
	for _, u := range suites {
		if f, err := u.fateOf(m); f != survived || err != nil {
			return f, err
		}
	}
	return survived, nil
}
