package main

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// built is the command, built once for all tests, as examples/Dockerfile builds
// it.
var built = sync.OnceValues(func() (binary string, err error) {
	folder, err := os.MkdirTemp("", "kubejwt-test-")
	if err != nil {
		return "", err
	}
	binary = filepath.Join(folder, "kubejwt")
	command := exec.Command("go", "build", "-trimpath", "-o", binary, ".")
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := command.CombinedOutput(); err != nil {
		return binary, fmt.Errorf("%s: %w\n%s", command, err, out)
	}
	return binary, nil
})

var isBuilt bool // whether TestMain has something to remove

func TestMain(m *testing.M) {
	code := m.Run()
	if isBuilt {
		binary, _ := built()
		os.RemoveAll(filepath.Dir(binary))
	}
	os.Exit(code)
}

func build(t *testing.T) string {
	t.Helper()
	isBuilt = true
	binary, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// The image holds what is needed and no more: a program that is static, a user
// who is not root, and the system's roots.
func TestDockerfile(t *testing.T) {
	data, err := os.ReadFile(root + "/examples/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	var stages [][]string // the instructions of each
	for line := range strings.Lines(strings.ReplaceAll(string(data), "\\\n", " ")) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if strings.HasPrefix(line, "FROM ") {
			stages = append(stages, nil)
		}
		stages[len(stages)-1] = append(stages[len(stages)-1], line)
	}
	if len(stages) != 2 {
		t.Fatalf("%d stages: want 2", len(stages))
	}
	if want := `RUN CGO_ENABLED=0 go build -trimpath -o /service "./$PACKAGE"`; !slices.Contains(stages[0], want) {
		t.Errorf("the first stage lacks %s", want)
	}
	want := []string{
		"FROM scratch",
		"COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/",
		"COPY --from=build /service /service",
		"USER 65532:65532",
		`ENTRYPOINT ["/service"]`,
	}
	if !slices.Equal(stages[1], want) {
		t.Errorf("the image is\n%s\nwant\n%s", strings.Join(stages[1], "\n"), strings.Join(want, "\n"))
	}
	for _, match := range regexp.MustCompile(`PACKAGE=(\S+)`).FindAllStringSubmatch(string(data), -1) {
		if _, err := os.Stat(filepath.Join(root, match[1], "main.go")); err != nil {
			t.Errorf("it builds %s: %v", match[1], err)
		}
	}
}

// What the Dockerfile's command builds needs nothing of the machine it runs on.
func TestBuildIsStatic(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("it builds the command, for Linux")
	}
	file, err := elf.Open(build(t))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, header := range file.Progs {
		if header.Type == elf.PT_INTERP || header.Type == elf.PT_DYNAMIC {
			t.Errorf("it has a %v: want a static program", header.Type)
		}
	}
	if libraries, err := file.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("it needs %q, %v: want no library", libraries, err)
	}
}
