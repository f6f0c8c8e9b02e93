package proxies_test

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

const page = "../../docs/proxies.md"

// TestPage does what docs/proxies.md says, with each proxy that is at hand: the
// commands as they stand there, except addresses and where files are.
func TestPage(t *testing.T) {
	kubejwt := build(t)
	for _, name := range []string{"nginx", "caddy", "traefik", "envoy"} {
		t.Run(name, func(t *testing.T) {
			needFor(t, name)
			g := newGuide(t, kubejwt)
			g.start(t, g.command(t, "python3 "))
			waitFor(t, g.here("127.0.0.1:9000"))
			g.start(t, g.command(t, "go run ./cmd/kubejwt serve "))
			waitFor(t, g.here("127.0.0.1:8080"))
			g.start(t, g.command(t, name+" ", "&& "+name+" "))
			waitFor(t, g.here("127.0.0.1:8000"))
			waitForRoutes(t, g.here("127.0.0.1:8000"))
			g.mustPrint(t)
		})
	}
}

// The service of the page is as short as promised.
func TestPageService(t *testing.T) {
	if lines := strings.Count(strings.ReplaceAll(blocks(t, "python")[0], "\n\n", "\n"), "\n"); lines > 10 {
		t.Errorf("service.py has %d lines: want 10 at most", lines)
	}
}

// guide is a folder in which the commands of the page work.
type guide struct {
	folder string
	here   func(text string) string // replaces addresses and files
}

func newGuide(t *testing.T, kubejwt string) guide {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	var addresses []string
	for _, port := range []string{"8000", "8001", "8080", "8082", "9000"} {
		addresses = append(addresses, "127.0.0.1:"+port, freeAddress(t))
	}
	replace := append(addresses, otherSpellings(t, addresses)...)
	replace = append(replace, "testdata/", root+"/testdata/", "-p /tmp ", "-p . ", "go run ./cmd/kubejwt", kubejwt)
	g := guide{t.TempDir(), strings.NewReplacer(replace...).Replace}
	if err := os.MkdirAll(g.folder+"/examples/proxies", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, files := range configurations {
		for _, file := range files {
			g.write(t, "examples/proxies/"+file, read(t, file))
		}
	}
	g.write(t, "service.py", blocks(t, "python")[0])
	return g
}

// otherSpellings are ports as they stand in the Caddyfile, in Envoy's
// configuration and in the service.
func otherSpellings(t *testing.T, addresses []string) (all []string) {
	t.Helper()
	for i := 0; i < len(addresses); i += 2 {
		_, from, err := net.SplitHostPort(addresses[i])
		if err != nil {
			t.Fatal(err)
		}
		_, to, err := net.SplitHostPort(addresses[i+1])
		if err != nil {
			t.Fatal(err)
		}
		for _, spelling := range []string{"http://:% {", "port_value: %", `("127.0.0.1", %)`} {
			all = append(all, strings.ReplaceAll(spelling, "%", from), strings.ReplaceAll(spelling, "%", to))
		}
	}
	return all
}

func (g guide) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(g.folder, name), []byte(g.here(text)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// command is the one of the page that has one of these texts.
func (g guide) command(t *testing.T, texts ...string) string {
	t.Helper()
	for _, block := range blocks(t, "sh") {
		for _, text := range texts {
			if strings.HasPrefix(block, text) || strings.HasPrefix(text, "&&") && strings.Contains(block, text) {
				return block
			}
		}
	}
	t.Fatalf("the page has no command with %q", texts)
	return ""
}

// start runs a command until the test ends, with all that it starts.
func (g guide) start(t *testing.T, text string) {
	t.Helper()
	command := exec.Command("sh", "-c", g.here(text))
	command.Dir, command.Env = g.folder, append(environment(), "HOME="+g.folder, "KUBEJWT_ADMIN_LISTEN=off")
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var said bytes.Buffer
	command.Stdout, command.Stderr = &said, &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-command.Process.Pid, syscall.SIGTERM)
		command.Wait()
		if t.Failed() {
			t.Logf("%s\nsaid:\n%s", text, said.String())
		}
	})
}

// environment is that of the test, without the flags of kubejwt that a shell may have set.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool { return strings.HasPrefix(variable, "KUBEJWT_") })
}

// mustPrint runs the lines behind a $, in one shell, and compares what they print.
func (g guide) mustPrint(t *testing.T) {
	t.Helper()
	for _, block := range blocks(t, "console") {
		var script, want strings.Builder
		for line := range strings.Lines(block) {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				script.WriteString(command)
			} else {
				want.WriteString(line)
			}
		}
		command := exec.Command("sh", "-c", g.here(script.String()))
		command.Dir, command.Env = g.folder, environment()
		out, err := command.CombinedOutput()
		if err != nil || string(out) != want.String() {
			t.Errorf("%v, it prints\n%s\nwant\n%s", err, out, want.String())
		}
	}
}

// blocks are those of the page in a language.
func blocks(t *testing.T, language string) (all []string) {
	t.Helper()
	for _, found := range regexp.MustCompile("(?s)\n```"+language+"\n(.*?)```").FindAllStringSubmatch(read(t, page), -1) {
		all = append(all, found[1])
	}
	if len(all) == 0 {
		t.Fatalf("%s has no %s", page, language)
	}
	return all
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// needFor skips the test without its programs. Traefik and Envoy are in no
// package of Debian.
func needFor(t *testing.T, proxy string) {
	t.Helper()
	need(t, "python3")
	need(t, "curl")
	if proxy == "nginx" || proxy == "caddy" {
		need(t, proxy)
		return
	}
	if _, err := exec.LookPath(proxy); err != nil {
		t.Skip(err)
	}
}
