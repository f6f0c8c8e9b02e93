package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A subject is a package with all its mutants asleep in it.
type subject struct {
	pkg     string // as the go command takes it
	work    string // a folder for what is built
	overlay string
	mutants []mutant
}

// newSubject mutates the files of a package whose paths match.
func newSubject(pkg string, files *regexp.Regexp, work string) (*subject, error) {
	out, err := exec.Command("go", "list", "-json=Dir,Name,GoFiles", pkg).Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w", pkg, err)
	}
	var listed struct {
		Dir, Name string
		GoFiles   []string
	}
	if err := json.Unmarshal(out, &listed); err != nil {
		return nil, err
	}
	s := &subject{pkg: pkg, work: work, overlay: filepath.Join(work, "overlay.json")}
	awake := filepath.Join(work, "awake.go")
	overlay := map[string]string{filepath.Join(listed.Dir, "mutants_awake.go"): awake}
	for i, file := range listed.GoFiles {
		name := filepath.ToSlash(filepath.Join(pkg, file))
		if !files.MatchString(name) {
			continue
		}
		path := filepath.Join(listed.Dir, file)
		source, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		mutated, mutants, err := mutate(name, source, len(s.mutants)+1)
		if err != nil {
			return nil, err
		}
		s.mutants = append(s.mutants, mutants...)
		overlay[path] = filepath.Join(work, fmt.Sprintf("%d.go", i))
		if err := os.WriteFile(overlay[path], mutated, 0o600); err != nil {
			return nil, err
		}
	}
	source := strings.NewReplacer("package PACKAGE", "package "+listed.Name, "COUNT", fmt.Sprint(len(s.mutants))).
		Replace(awakeSource)
	if err := os.WriteFile(awake, []byte(source), 0o600); err != nil {
		return nil, err
	}
	data, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		return nil, err
	}
	return s, os.WriteFile(s.overlay, data, 0o600)
}

// A suite is the tests of one package, built with a subject.
type suite struct {
	binary, folder string
	tests          []test // those that use the least first
	killer         string // the test that killed the last mutant
}

type test struct {
	name    string
	took    time.Duration
	cpu     time.Duration // that it used: it tells tests apart where other work slows all of them
	reaches map[int]bool  // mutants
}

// newSuite builds the tests of a package and runs each once, with no mutant
// awake.
func (s *subject) newSuite(pkg string) (*suite, error) {
	out, err := exec.Command("go", "list", "-f", "{{.Dir}}", pkg).Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w", pkg, err)
	}
	name := "tests-of-" + strings.NewReplacer("/", "-", ".", "").Replace(pkg)
	u := &suite{folder: strings.TrimSpace(string(out)), binary: filepath.Join(s.work, name)}
	build := exec.Command("go", "test", "-c", "-vet=off", "-overlay", s.overlay, "-o", u.binary, pkg)
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go test -c %s: %w\n%s", pkg, err, out)
	}
	list := exec.Command(u.binary, "-test.list", "^(Test|Example|Fuzz)")
	list.Dir = u.folder
	if out, err = list.Output(); err != nil {
		return nil, fmt.Errorf("the tests of %s: %w", pkg, err)
	}
	trace := filepath.Join(s.work, "trace")
	for _, name := range strings.Fields(string(out)) {
		if err := os.WriteFile(trace, nil, 0o600); err != nil {
			return nil, err
		}
		began := time.Now()
		out, cpu, err := u.run("^"+name+"$", 10*time.Minute, "MUTANT_TRACE="+trace)
		if err != nil {
			return nil, fmt.Errorf("%s %s fails with no mutant awake: %w\n%s", pkg, name, err, out)
		}
		reached, err := os.ReadFile(trace)
		if err != nil {
			return nil, err
		}
		t := test{name: name, took: time.Since(began), cpu: cpu, reaches: make(map[int]bool)}
		for _, field := range strings.Fields(string(reached)) {
			id, err := strconv.Atoi(field)
			if err != nil {
				return nil, err
			}
			t.reaches[id] = true
		}
		u.tests = append(u.tests, t)
	}
	slices.SortFunc(u.tests, func(a, b test) int { return cmp.Compare(a.cpu, b.cpu) })
	return u, nil
}

// run runs the tests that match, and returns what they write and the time that
// they use of a processor.
func (u *suite) run(pattern string, timeout time.Duration, env string) (out []byte, cpu time.Duration, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout+10*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, u.binary,
		"-test.short", "-test.failfast", "-test.run", pattern, "-test.timeout", timeout.String())
	command.Dir = u.folder
	command.Env = append(os.Environ(), env)
	var text bytes.Buffer
	command.Stdout, command.Stderr = &text, &text
	err = command.Run()
	if state := command.ProcessState; state != nil {
		cpu = state.UserTime() + state.SystemTime()
	}
	return text.Bytes(), cpu, err
}

const (
	firstRound = 300 * time.Millisecond // of a processor, for the tests that are tried first
	leeway     = 5 * time.Second        // for tests that take longer with a mutant
)

// A fate is what tests do to a mutant.
type fate int

const (
	survived fate = iota
	failed        // a test fails
	endless       // a test does not end
)

// fateOf runs the tests that reach a mutant with the mutant awake.
func (u *suite) fateOf(m mutant) (fate, error) {
	for _, tests := range u.order(m) {
		var names []string
		timeout := leeway
		for _, t := range tests {
			names = append(names, t.name)
			timeout += 5 * t.took
		}
		out, _, err := u.run("^("+strings.Join(names, "|")+")$", timeout, fmt.Sprintf("MUTANT=%d", m.id))
		_, exited := errors.AsType[*exec.ExitError](err)
		switch {
		case err == nil:
			continue
		case !exited:
			return survived, err
		}
		u.killer = failedTest(out)
		if bytes.Contains(out, []byte("panic: test timed out after")) {
			return endless, nil
		}
		return failed, nil
	}
	return survived, nil
}

// order is what to run one after the other, until something fails: the test that
// killed the mutant before, which stands close to this one, and then rounds of
// tests, each three times as long as all before it. Within a round the tests run
// in the order of their files, so that one long round would begin with long tests.
func (u *suite) order(m mutant) [][]test {
	var killer, round []test
	var rounds [][]test
	var used time.Duration
	end := firstRound
	for _, t := range u.tests {
		switch {
		case !t.reaches[m.id]:
			continue
		case t.name == u.killer:
			killer = []test{t}
			continue
		}
		if used += t.cpu; used > end && len(round) > 0 {
			rounds, round = append(rounds, round), nil
			end = 4 * max(end, used-t.cpu)
		}
		round = append(round, t)
	}
	rounds = append(rounds, round)
	return slices.DeleteFunc(append([][]test{killer}, rounds...), func(r []test) bool { return len(r) == 0 })
}

var failure = regexp.MustCompile(`(?m)^(?:--- FAIL: |\t\t)((?:Test|Example|Fuzz)\w*) \(`)

// failedTest is the test that failed or did not end, "" if the output does not
// tell.
func failedTest(out []byte) string {
	if found := failure.FindSubmatch(out); found != nil {
		return string(found[1])
	}
	return ""
}
