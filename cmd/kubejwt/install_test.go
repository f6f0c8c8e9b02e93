package main

import (
	"archive/zip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	libraryModule = "github.com/kubejwt/kubejwt"
	releasedAs    = "v0.1.0"
)

// Once the tags exist, `go install …/cmd/kubejwt@version` works: the modules of
// this checkout are served as a release would be, by a module proxy that is a
// folder, and installed by a Go command that has never seen the checkout.
func TestInstall(t *testing.T) {
	if testing.Short() {
		t.Skip("builds everything from nothing")
	}
	proxy := t.TempDir()
	nested := requiredOfThisCheckout(t)
	publish(t, proxy, "", nested)
	for _, name := range nested {
		publish(t, proxy, name, nested)
	}
	publish(t, proxy, "cmd/kubejwt", nested)

	modules := strings.TrimSpace(output(t, exec.Command("go", "env", "GOMODCACHE")))
	bin := t.TempDir()
	install := exec.Command("go", "install", libraryModule+"/cmd/kubejwt@"+releasedAs)
	install.Dir = t.TempDir()
	install.Env = append(os.Environ(), "GOWORK=", "GOBIN="+bin, "GOMODCACHE="+t.TempDir(), "CGO_ENABLED=0", "GONOSUMDB=*",
		"GOFLAGS=-modcacherw -trimpath", // with -trimpath, what build has compiled is not compiled again
		"GOPROXY=file://"+proxy+",file://"+modules+"/cache/download")
	output(t, install)
	version := output(t, exec.Command(filepath.Join(bin, "kubejwt"), "version"))
	if !strings.HasPrefix(version, "kubejwt "+releasedAs) {
		t.Errorf("the installed command says %q: want version %s", version, releasedAs)
	}
}

// requiredOfThisCheckout are the folders of the modules beside the library that
// the command requires.
func requiredOfThisCheckout(t *testing.T) (folders []string) {
	t.Helper()
	modFile, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(modFile), "replace") {
		t.Error("go.mod has a replace, with which go install refuses it")
	}
	for line := range strings.Lines(string(modFile)) {
		for field := range strings.FieldsSeq(line) {
			folder, ok := strings.CutPrefix(field, libraryModule+"/")
			if ok && folder != "cmd/kubejwt" {
				folders = append(folders, folder)
			}
		}
	}
	return folders
}

// publish puts the module in a folder of this checkout into the proxy, with the
// versions that it requires set as a release sets them.
func publish(t *testing.T, proxy, folder string, nested []string) {
	t.Helper()
	module := strings.TrimSuffix(libraryModule+"/"+folder, "/")
	versions := filepath.Join(proxy, filepath.FromSlash(module), "@v")
	if err := os.MkdirAll(versions, 0o777); err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(versions, releasedAs)
	data, err := os.ReadFile(filepath.Join(root, folder, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	writeTo(t, base+".mod", string(data))
	for _, required := range append([]string{""}, nested...) {
		required = strings.TrimSuffix(libraryModule+"/"+required, "/")
		if strings.Contains(string(data), required+" v0.0.0") {
			output(t, exec.Command("go", "mod", "edit", "-require="+required+"@"+releasedAs, base+".mod"))
		}
	}
	writeTo(t, filepath.Join(versions, "list"), releasedAs+"\n")
	writeTo(t, base+".info", fmt.Sprintf(`{"Version":%q}`, releasedAs))
	writeModuleZip(t, base, filepath.Join(root, folder), module+"@"+releasedAs+"/")
}

// writeModuleZip packs what git knows of a folder, except for nested modules.
func writeModuleZip(t *testing.T, base, folder, prefix string) {
	t.Helper()
	list := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard")
	list.Dir = folder
	files := strings.Fields(output(t, list))
	var nested []string
	for _, file := range files {
		if dir, name := filepath.Split(file); name == "go.mod" && dir != "" {
			nested = append(nested, dir)
		}
	}
	out, err := os.Create(base + ".zip")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	archive := zip.NewWriter(out)
	for _, file := range files {
		if slices.ContainsFunc(nested, func(dir string) bool { return strings.HasPrefix(file, dir) }) || strings.HasPrefix(file, "testdata/") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(folder, file))
		if file == "go.mod" {
			data, err = os.ReadFile(base + ".mod")
		}
		if os.IsNotExist(err) {
			continue // deleted, and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		w, err := archive.Create(prefix + file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
}

func output(t *testing.T, command *exec.Cmd) string {
	t.Helper()
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}
