package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kubejwt/kubejwt/kubejwttest"
)

// root is that of the repository.
const root = "../.."

const (
	recordings     = root + "/testdata/clusters/kube-apiserver-1.36/rs256"
	recordedIssuer = "https://kubernetes.default.svc.cluster.local"
	recordedAt     = "2026-11-22T08:14:00Z"
)

// result is what a run of the command left behind.
type result struct {
	exit        int
	out, errOut string
}

// kubejwtWith runs the command in this process.
func kubejwtWith(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var out, errOut lockedBuffer // the log may still be written to
	exit := run(t.Context(), process{strings.NewReader(stdin), &out, &errOut, nil}, args)
	return result{exit, out.String(), errOut.String()}
}

// mustSay fails the test unless the run ended like that.
func (r result) mustSay(t *testing.T, exit int, texts ...string) {
	t.Helper()
	if r.exit != exit {
		t.Errorf("exit status %d: want %d", r.exit, exit)
	}
	said := r.out + r.errOut
	unwrapped := strings.Join(strings.Fields(said), " ")
	for _, text := range texts {
		if !strings.Contains(said, text) && !strings.Contains(unwrapped, text) {
			t.Errorf("it does not say %q", text)
		}
	}
	if t.Failed() {
		t.Logf("stdout:\n%s\nstderr:\n%s", r.out, r.errOut)
	}
}

// recorded are the flags that accept the recorded tokens, with more after them.
func recorded(more ...string) []string {
	return append([]string{
		"verify", "-issuer", recordedIssuer, "-audience", "data-store", "-max-lifetime", "-1s",
		"-key-file", recordings + "/sa.pub", "-at", recordedAt,
	}, more...)
}

// caller is a good one of the test kit.
var caller = kubejwttest.Token{Namespace: "shop", ServiceAccount: "api", Audiences: []string{"data-store"}}

// clusterFlags are the flags with which keys are fetched from cluster.
func clusterFlags(cluster *kubejwttest.Cluster) []string {
	return []string{"-issuer", cluster.Config("any").Issuer, "-ca-file", cluster.Folder() + "/ca.crt", "-bearer-token-file", cluster.Folder() + "/token", "-audience", "data-store"}
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	writeTo(t, path, content)
	return path
}

func writeTo(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestHelp(t *testing.T) {
	kubejwtWith(t, "").mustSay(t, exitUsage, "kubejwt verify", "kubejwt help VERB")
	kubejwtWith(t, "", "-h").mustSay(t, exitOK, "kubejwt verify")
	kubejwtWith(t, "", "help").mustSay(t, exitOK, "kubejwt verify")
	kubejwtWith(t, "", "reprieve").mustSay(t, exitUsage, `"reprieve"`, "want verify")
	for _, v := range verbs() {
		kubejwtWith(t, "", "help", v.name).mustSay(t, exitOK, "usage: kubejwt "+v.name, "go run ./cmd/kubejwt "+v.name)
		help := kubejwtWith(t, "", v.name, "-h")
		help.mustSay(t, exitOK, "usage: kubejwt "+v.name)
		_, flags, _ := strings.Cut(help.out, "\nflags:\n")
		for line := range strings.Lines(flags) {
			if len(line) > 81 && len(strings.Fields(line)) > 1 {
				t.Errorf("%s: a line of %d columns: %s", v.name, len(line)-1, line)
			}
		}
		kubejwtWith(t, "", v.name, "-nonsense").mustSay(t, exitUsage, "-nonsense", "kubejwt help "+v.name)
	}
}

// A token in the place of a file or a URL is not printed.
func TestTokenInTheWrongPlace(t *testing.T) {
	token := kubejwttest.NewCluster(t).Mint(caller)
	const host = "https://127.0.0.1:1/"
	trusted := []string{"-issuer", recordedIssuer, "-audience", "data-store"}
	with := func(verb string, more ...string) []string { return append(append([]string{verb}, trusted...), more...) }
	serve := func(more ...string) []string {
		return with("serve", append(more, "-policy", "a=a/b", "-listen", "256.0.0.1:0")...)
	}
	for _, args := range [][]string{
		with("verify", "-key-file", token, token),
		with("verify", "-token-file", token),
		with("verify", "-ca-file", token, "-jwks-url", host, token),
		with("verify", "-bearer-token-file", token, "-jwks-url", host, token),
		with("verify", "-jwks-url", host+token, token),
		with("verify", "-discovery-url", host+token, token),
		with("verify", "-at", token, token),
		with("verify", "-audience", token, "-key-file", recordings+"/sa.pub", token),
		with("verify", "-nonsense="+token),
		serve("-key-file", token),
		serve("-snapshot-file", token),
		serve("-policy", token),
		serve("-key-file", recordings+"/sa.pub", token),
		{"call", "-token-file", token, host},
		{"call", "-token-file", "token", host + "?token=" + token},
		{"call", "-token-file", "token", "-ca-file", token, host},
		{token},
	} {
		r := kubejwtWith(t, "", args...)
		if r.exit != exitUsage || strings.Contains(r.out+r.errOut, token[:20]) || strings.Contains(r.out+r.errOut, token[len(token)-20:]) {
			t.Errorf("%.60q: exit status %d: want %d, and nothing of the token\n%s%s", args, r.exit, exitUsage, r.out, r.errOut)
		}
	}
	var out, errOut bytes.Buffer
	exit := run(t.Context(), process{nil, &out, &errOut, []string{"KUBEJWT_KEY_FILE=" + token}}, serve())
	if exit != exitUsage || strings.Contains(out.String()+errOut.String(), token[:20]) {
		t.Errorf("in the environment: exit status %d: want %d, and nothing of the token\n%s%s", exit, exitUsage, out.String(), errOut.String())
	}
}

// What only sounds like one is no token.
func TestNoToken(t *testing.T) {
	keys := writeFile(t, "")
	data, err := os.ReadFile(recordings + "/sa.pub")
	if err != nil {
		t.Fatal(err)
	}
	keys = filepath.Join(filepath.Dir(keys), "keyJwks.pem")
	writeTo(t, keys, string(data))
	token, err := os.ReadFile(recordings + "/tokens/pod_bound.jwt")
	if err != nil {
		t.Fatal(err)
	}
	kubejwtWith(t, string(token), recorded("-key-file", keys)...).mustSay(t, exitOK, "Accepted")
	kubejwtWith(t, "", "call", "-token-file", keys+".missing", "http://127.0.0.1:1/monkeyJobs").mustSay(t, 1, "keyJwks.pem.missing")
}

// Colours are for terminals, and for those who want them.
func TestColours(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	defer terminal.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, tt := range []struct {
		name    string
		p       process
		colours bool
	}{
		{"a terminal", process{stdout: terminal}, true},
		{"a terminal, NO_COLOR", process{stdout: terminal, environ: []string{"NO_COLOR=1"}}, false},
		{"a device that is none", process{stdout: null}, false},
		{"a pipe", process{stdout: new(bytes.Buffer)}, false},
	} {
		if got := newPalette(tt.p) != (palette{}); got != tt.colours {
			t.Errorf("%s: colours %t: want %t", tt.name, got, tt.colours)
		}
	}
}

func TestVersion(t *testing.T) {
	kubejwtWith(t, "", "version").mustSay(t, exitOK, "kubejwt ", "built with go1.")
}

// The binary is the command: its exit status and its streams.
func TestBinary(t *testing.T) {
	binary := build(t)
	token, err := os.ReadFile(recordings + "/tokens/pod_bound.jwt")
	if err != nil {
		t.Fatal(err)
	}
	for want, args := range map[int][]string{
		exitOK:      recorded(),
		exitRefused: recorded("-audience", "data-store", "-max-lifetime", "1h"),
		exitUsage:   {"verify"},
		exitNoKeys:  {"verify", "-issuer", recordedIssuer, "-audience", "data-store", "-key-file", "/nonexistent"},
	} {
		command := exec.Command(binary, args...)
		command.Stdin = bytes.NewReader(token)
		out, _ := command.CombinedOutput()
		if exit := command.ProcessState.ExitCode(); exit != want {
			t.Errorf("exit status %d: want %d\n%s", exit, want, out)
		}
		if bytes.Contains(out, []byte("\x1b")) {
			t.Errorf("colours where there is no terminal:\n%s", out)
		}
	}
}

// The command uses the public API alone, and what it needs to explain a token.
func TestImports(t *testing.T) {
	const module = "github.com/kubejwt/kubejwt"
	out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for imported := range strings.FieldsSeq(string(out)) {
		switch {
		case !strings.Contains(imported, "."), imported == module:
		case imported == module+"/internal/jws", imported == module+"/internal/strictjson", imported == module+"/internal/quote":
		case imported == module+"/internal/pemfile": // the CA of call
		case imported == "golang.org/x/oauth2": // the type of kubejwt.TokenFile
		case imported == "golang.org/x/term": // how wide the terminal is
		case imported == module+"/internal/reread", imported == module+"/internal/safelog", imported == module+"/revocation": // serve
		case imported == module+"/kubejwtprom", imported == module+"/kubejwtgrpc": // serve, too
		case strings.HasPrefix(imported, "github.com/prometheus/client_golang/"): // /metrics
		case strings.HasPrefix(imported, "google.golang.org/"), strings.HasPrefix(imported, "github.com/envoyproxy/"): // ext_authz
		case imported == "go.yaml.in/yaml/v3": // the policy file
		default:
			t.Errorf("it imports %s", imported)
		}
	}
}

// Texts are ASCII, since everything else is escaped on its way to the screen:
// dots that are one letter would come out as \u2026. Marks are drawn after that,
// and what the input may have is no text.
func TestTextsAreASCII(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") || file == "screen.go" || file == "input.go" {
			continue
		}
		syntax, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(syntax, func(n ast.Node) bool {
			if literal, ok := n.(*ast.BasicLit); ok && literal.Value != toASCII(literal.Value) {
				t.Errorf("%s: %s", file, literal.Value)
			}
			return true
		})
	}
}

// What a flag takes has a name in the help, which is not one of the values that it
// takes, nor a whole syntax, which the text repeats.
func TestHelpNamesValues(t *testing.T) {
	flagLine := regexp.MustCompile(`(?m)^  -([a-z-]+) (\S+)$`)
	found := 0
	for _, v := range verbs() {
		for _, match := range flagLine.FindAllStringSubmatch(kubejwtWith(t, "", "help", v.name).out, -1) {
			found++
			flag, name := match[1], match[2]
			isValue := slices.Contains([]string{"accept", "refuse", "all", "refused", "none", "off", "text", "json"}, name)
			if isValue || !regexp.MustCompile("^[A-Za-z]+$").MatchString(name) {
				t.Errorf("%s: -%s %s: want the name of a value", v.name, flag, name)
			}
		}
	}
	if found < 40 {
		t.Errorf("%d flags take a value: is this the help?", found)
	}
}
