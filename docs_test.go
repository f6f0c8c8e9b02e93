package kubejwt_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// trimLines is text with the indentation and the empty lines gone.
func trimLines(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// Every piece of Go in the README and its docs is also in a file that is compiled.
func TestReadmeCompiles(t *testing.T) {
	var compiled string
	for _, file := range []string{"example_test.go", "readme_test.go"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		compiled += trimLines(string(data)) + "\n"
	}
	for page, atLeast := range map[string]int{
		"README.md":          3,
		"docs/clusters.md":   1,
		"docs/operations.md": 4,
		"docs/revocation.md": 1,
		"docs/testing.md":    6,
	} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		pieces := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(text), -1)
		if len(pieces) < atLeast {
			t.Errorf("%s: %d pieces of Go: want %d at least", page, len(pieces), atLeast)
		}
		for _, piece := range pieces {
			if !strings.Contains(compiled, trimLines(piece[1])) {
				t.Errorf("%s: this piece is compiled nowhere:\n%s", page, piece[1])
			}
		}
	}
}

// A page is short enough to be read, and its links lead somewhere.
func TestPages(t *testing.T) {
	const mostLines = 150
	if readme, err := os.ReadFile("README.md"); err != nil || strings.Count(string(readme), "\n") > mostLines {
		t.Errorf("README.md has %d lines, %v: want %d at most", strings.Count(string(readme), "\n"), err, mostLines)
	}
	tracked, err := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md").Output()
	if err != nil {
		t.Skip("not a git checkout")
	}
	pages := strings.Fields(string(tracked))
	if !slices.Contains(pages, "README.md") || len(pages) < 5 {
		t.Fatalf("pages: %q", pages)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, link := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(string(text), -1) {
			checkLink(t, page, link[1])
		}
	}
}

// checkLink checks the file and the heading that a link names.
func checkLink(t *testing.T, page, link string) {
	t.Helper()
	if strings.Contains(link, "://") {
		return
	}
	file, heading, _ := strings.Cut(link, "#")
	target := page
	if file != "" {
		target = path.Join(path.Dir(page), file)
	}
	if _, err := os.Stat(target); err != nil {
		t.Errorf("%s links to %s: %v", page, link, err)
		return
	}
	if heading == "" {
		return
	}
	text, err := os.ReadFile(target)
	if err != nil || !slices.Contains(anchors(string(text)), heading) {
		t.Errorf("%s links to %s, and %s has no such heading", page, link, target)
	}
}

// anchors are what GitHub calls the headings of a page.
func anchors(page string) []string {
	var all []string
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		name := strings.ReplaceAll(strings.ToLower(heading[1]), " ", "-")
		all = append(all, regexp.MustCompile(`[^\w-]`).ReplaceAllString(name, ""))
	}
	return all
}

// The commands of the README are those that CI runs.
func TestReadmeCommands(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	ci, err := os.ReadFile(".ci/run")
	if err != nil {
		t.Fatal(err)
	}
	for command, run := range map[string]string{
		"go run ./examples/demo": "go run ./examples/demo",
		"go test ./...":          "step go test -race ./...\n",
	} {
		if !strings.Contains(string(readme), "\n    "+command) || !strings.Contains(string(ci), run) {
			t.Errorf("%q is not in the README, or %q not in .ci/run", command, run)
		}
	}
}

// What a user of the library has to trust.
func TestDirectDependencies(t *testing.T) {
	out, err := exec.Command("go", "mod", "edit", "-json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	var direct []string
	for _, r := range mod.Require {
		if !r.Indirect {
			direct = append(direct, r.Path)
		}
	}
	want := []string{
		"github.com/coreos/go-oidc/v3",
		"github.com/go-jose/go-jose/v4",
		"github.com/go-json-experiment/json",
		"github.com/google/go-cmp",
		"golang.org/x/oauth2",
	}
	slices.Sort(direct)
	if diff := cmp.Diff(want, direct); diff != "" {
		t.Errorf("direct dependencies (-want +got):\n%s", diff)
	}
}

// The arrows between the rooms point down only.
func TestRooms(t *testing.T) {
	const module = "github.com/kubejwt/kubejwt"
	imports := func(pkg string) []string {
		out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, pkg).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(out))
	}
	for _, room := range []string{"strictjson", "jws", "keypolicy", "reread", "safelog", "tokencache"} {
		for _, imported := range imports("./internal/" + room) {
			if imported == module {
				t.Errorf("internal/%s imports the root", room)
			}
			if strings.HasPrefix(imported, "github.com/go-json-experiment/") != (room == "strictjson") && strings.Contains(imported, "go-json-experiment") {
				t.Errorf("internal/%s imports %s", room, imported)
			}
		}
	}
	for _, imported := range imports(".") {
		if strings.Contains(imported, "go-json-experiment") {
			t.Errorf("the root imports %s: internal/strictjson is there for that", imported)
		}
	}
	// What is tested can't hide behind what tests it.
	for _, imported := range imports("./kubejwttest") {
		if strings.HasPrefix(imported, module+"/internal/") && imported != module+"/internal/apiserver" {
			t.Errorf("kubejwttest imports %s: it uses the public API, and internal/apiserver, which is its own", imported)
		}
	}
	for room, ours := range map[string]bool{"internal/apiserver": false, "revocation": true} {
		for _, imported := range imports("./" + room) {
			if strings.Contains(imported, ".") && !(ours && strings.HasPrefix(imported, module)) {
				t.Errorf("%s imports %s: it needs the standard library alone", room, imported)
			}
		}
	}
}

// Comments quote the rules of doc.go word for word.
func TestRulesAreQuotedExactly(t *testing.T) {
	comments := func(file string) string {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var text []string
		for line := range strings.Lines(string(data)) {
			if comment, ok := strings.CutPrefix(strings.TrimSpace(line), "//"); ok {
				text = append(text, strings.Fields(comment)...)
			}
		}
		return strings.Join(text, " ")
	}
	rules := comments("doc.go")
	for file, atLeast := range map[string]int{"jwks_cache.go": 4, "internal/keypolicy/keypolicy.go": 5} {
		quotes := 0
		for _, quote := range regexp.MustCompile(`"([^"]+)"`).FindAllStringSubmatch(comments(file), -1) {
			for part := range strings.SplitSeq(quote[1], " … ") {
				if part = strings.TrimSuffix(part, "."); len(strings.Fields(part)) < 5 {
					continue // a name or a value
				}
				quotes++
				if !strings.Contains(rules, part) {
					t.Errorf("%s: doc.go does not say %q", file, part)
				}
			}
		}
		if quotes < atLeast {
			t.Errorf("%s: %d quotes of doc.go: want %d at least", file, quotes, atLeast)
		}
	}
}
