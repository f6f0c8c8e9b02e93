package main

import (
	"strings"
	"testing"

	"github.com/kubejwt/kubejwt/kubejwttest"
)

// An error about what came through a pipe does not name the copy of it, which
// nobody gave and which is gone by then. A file keeps its name.
func TestPipesAreNamed(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	token := cluster.Mint(caller)
	tokenFile, empty := writeFile(t, token), writeFile(t, "")
	verify := []string{"verify", "-issuer", cluster.Config("any").Issuer, "-audience", "data-store"}
	for name, args := range map[string][]string{
		"verify, CA":       append(verify[:len(verify):len(verify)], "-ca-file"),
		"verify, JSON":     append(verify[:len(verify):len(verify)], "-json", "-ca-file"),
		"verify, bearer":   append(verify[:len(verify):len(verify)], "-ca-file", cluster.Folder()+"/ca.crt", "-bearer-token-file"),
		"call, CA":         {"call", "-token-file", tokenFile, "https://127.0.0.1:1/", "-ca-file"},
		"call, token file": {"call", "https://127.0.0.1:1/", "-token-file"},
	} {
		ofFile := kubejwtWith(t, token, append(args[:len(args):len(args)], empty)...)
		if said := strings.ReplaceAll(ofFile.out+ofFile.errOut, "\n", ""); !strings.Contains(strings.ReplaceAll(said, " ", ""), empty) {
			t.Errorf("%s: the file is not named:\n%s", name, said)
		}
		ofPipe := kubejwtWith(t, token, append(args[:len(args):len(args)], "/dev/null")...)
		said := ofPipe.out + ofPipe.errOut
		if ofPipe.exit != ofFile.exit || !strings.Contains(said, "a pipe") || strings.Contains(said, "kubejwt-") {
			t.Errorf("%s: exit status %d:\n%s", name, ofPipe.exit, said)
		}
	}
}

// The folder for temporary files may have any name.
func TestPipesInAnOddFolder(t *testing.T) {
	t.Setenv("TMPDIR", "/nonexistent/\xff(\x1b[2J")
	r := kubejwtWith(t, "", "call", "https://127.0.0.1:1/", "-token-file", "/dev/null")
	r.mustSay(t, exitUsage, "a pipe is copied into a file")
	r.mustBeTame(t, "TMPDIR")
}
