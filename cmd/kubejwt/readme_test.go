package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// commands are the indented ones of a text that start with prefix, with their
// continued lines joined.
func commands(text, prefix string) []string {
	joined := regexp.MustCompile(`\\\n\s*`).ReplaceAllString(text, "")
	var all []string
	for line := range strings.Lines(joined) {
		if command, ok := strings.CutPrefix(line, "    "+prefix); ok {
			all = append(all, prefix+strings.TrimRight(command, "\n"))
		}
	}
	return all
}

// shell runs a command as a reader would, in the root of the repository, with
// the built binary for "go run ./cmd/kubejwt".
func shell(t *testing.T, binary, command string) (exit int, out string) {
	t.Helper()
	c := exec.Command("sh", "-c", strings.ReplaceAll(command, goRun, binary))
	c.Dir = root
	data, _ := c.CombinedOutput()
	return c.ProcessState.ExitCode(), string(data)
}

const goRun = "go run ./cmd/kubejwt"

// What the README and the help show works in a fresh clone.
func TestShownCommands(t *testing.T) {
	data, err := os.ReadFile(root + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme, binary := string(data), build(t)
	for text, want := range map[string]struct {
		exit int
		says string
	}{
		readme:      {exitRefused, "Refused by rule 7: lifetime_too_long"},
		verifyHelp:  {exitOK, "Accepted"},
		versionHelp: {exitOK, "kubejwt "},
	} {
		shown := commands(text, goRun+" ve") // rify and rsion
		if len(shown) != 1 {
			t.Fatalf("%d commands to run: want 1 in\n%s", len(shown), text)
		}
		if exit, out := shell(t, binary, shown[0]); exit != want.exit || !strings.Contains(out, want.says) {
			t.Errorf("%s\nexit status %d: want %d\n%s", shown[0], exit, want.exit, out)
		}
	}
	if exit, out := shell(t, binary, strings.Replace(commands(readme, goRun+" verify")[0], "-max-lifetime 1h", "-max-lifetime -1s", 1)); exit != exitOK {
		t.Errorf("with the other -max-lifetime: exit status %d: want 0\n%s", exit, out)
	}
	for _, text := range []string{readme, serveHelp} {
		showServe(t, binary, text)
	}
}

// showServe runs the two commands of a text that go together, at an address of
// the test's own, and the call that goes with them.
func showServe(t *testing.T, binary, text string) {
	t.Helper()
	shown := commands(text, goRun+" serve")
	curl := regexp.MustCompile(`(?s)\n    (curl -i .*?\)")`).FindStringSubmatch(text)
	if len(shown) != 1 || curl == nil {
		t.Fatalf("no serve with a curl in\n%s", text)
	}
	args := strings.Fields(strings.ReplaceAll(strings.TrimPrefix(shown[0], goRun+" "), "'", ""))
	for i := range args {
		if strings.HasPrefix(args[i], "testdata/") {
			args[i] = root + "/" + args[i]
		}
	}
	s := startServe(t, binary, args...)
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("no curl")
	}
	exit, out := shell(t, binary, strings.Replace(curl[1], "http://127.0.0.1:8080", s.base("data-store"), 1))
	if exit != 0 || !strings.Contains(out, "200 OK") || !strings.Contains(out, "Kubejwt-Username: system:serviceaccount:api:api") {
		t.Errorf("%s\nexit status %d\n%s", curl[1], exit, out)
	}
	call := commands(callHelp, goRun+" call")[0]
	if exit, out := shell(t, binary, strings.Replace(call, "http://127.0.0.1:8080", s.base("data-store"), 1)); exit != 0 || !strings.Contains(out, "200 OK") {
		t.Errorf("%s\nexit status %d\n%s", call, exit, out)
	}
}
