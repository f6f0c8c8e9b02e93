package main

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/kubejwt/kubejwt/kubejwttest"
)

func TestDurations(t *testing.T) {
	for text, says := range map[string]string{
		"1d": "write 24h", "7d": "write 168h", "2w": "write 336h", "60": "write 60s", "soon": "want a time span", "": "want a time span",
		"1y": "want a time span", "99999999d": "want a time span",
	} {
		kubejwtWith(t, "x", recorded("-max-lifetime", text)...).mustSay(t, exitUsage, "-max-lifetime", says)
	}
	var to time.Duration
	flags := newFlagSet("x")
	durationVar(flags, &to, "for", time.Minute, "")
	if to != time.Minute {
		t.Errorf("%v by default: want 1m", to)
	}
	if _, err := parse(flags, []string{"-for", "-90s"}); err != nil || to != -90*time.Second {
		t.Errorf("%v, %v: want -1m30s", to, err)
	}
}

func TestLevels(t *testing.T) {
	var to slog.Level
	flags := newFlagSet("x")
	levelVar(flags, &to, "log-level", slog.LevelInfo, "")
	if _, err := parse(flags, []string{"-log-level", "debug"}); err != nil || to != slog.LevelDebug {
		t.Errorf("%v, %v: want debug", to, err)
	}
	_, err := parse(flags, []string{"-log-level", "chatty"})
	if want := `invalid value "chatty" for flag -log-level: want debug, info, warn or error`; err == nil || err.Error() != want {
		t.Errorf("%v: want %s", err, want)
	}
}

// pipe returns the path of a pipe that gives content once.
func pipe(t *testing.T, content string) string {
	t.Helper()
	if _, err := os.Stat("/dev/fd"); err != nil {
		t.Skip(err)
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	go func() {
		io.WriteString(writer, content)
		writer.Close()
	}()
	return "/dev/fd/" + strconv.Itoa(int(reader.Fd()))
}

// Files may come from a pipe, as <(command) of a shell gives them.
func TestPipes(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	read := func(name string) string {
		data, err := os.ReadFile(cluster.Folder() + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	token, issuer := cluster.Mint(caller), cluster.Config("any").Issuer
	kubejwtWith(t, "", "verify", "-issuer", issuer, "-audience", "data-store", "-ca-file", pipe(t, read("ca.crt")),
		"-bearer-token-file", pipe(t, read("token")), "-token-file", pipe(t, token)).mustSay(t, exitOK, "Accepted")
	kubejwtWith(t, token, "verify", "-issuer", issuer, "-audience", "data-store",
		"-key-file", pipe(t, string(cluster.PublicKeysPEM()))).mustSay(t, exitOK, "Accepted")
	kubejwtWith(t, "", "call", issuer+"/openid/v1/jwks", "-ca-file", pipe(t, read("ca.crt")), "-token-file", pipe(t, read("token"))).
		mustSay(t, exitOK, "200 OK")
	serve := func(flags ...string) result {
		return kubejwtWith(t, "", append([]string{"serve", "-check", "-issuer", issuer, "-audience", "data-store", "-policy", "a=shop/api"}, flags...)...)
	}
	serve("-ca-file", pipe(t, read("ca.crt")), "-bearer-token-file", pipe(t, read("token"))).mustSay(t, exitOK, "The configuration is valid")
	serve("-key-file", pipe(t, string(cluster.PublicKeysPEM()))).mustSay(t, exitOK, "The configuration is valid")
	serve("-key-file", pipe(t, "no key")).mustSay(t, exitNoKeys, "no key")
	if left, _ := filepath.Glob(temporary + "/*"); len(left) > 0 {
		t.Errorf("%v is left behind", left)
	}
}
