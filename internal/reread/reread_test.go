package reread

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A desk is a folder, a File on one of its files, and what was logged. Files
// are real and time is the bubble's.
type desk struct {
	t      *testing.T
	folder string
	path   string
	file   *File[string]
	log    *bytes.Buffer
	parsed int
}

const interval = 10 * time.Second

func atDesk(t *testing.T, test func(*testing.T, *desk)) {
	t.Helper()
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := &desk{t: t, folder: folder, path: filepath.Join(folder, "token"), log: new(bytes.Buffer)}
		d.file = New(d.path, 100, interval, d.parse, slog.New(slog.NewTextHandler(d.log, nil)))
		test(t, d)
	})
}

// parse refuses what does not end as it should.
func (d *desk) parse(data []byte) (string, error) {
	d.parsed++
	text, whole := strings.CutSuffix(string(data), ".")
	if !whole {
		return "", errors.New("half-written")
	}
	return text, nil
}

func (d *desk) write(text string) {
	d.t.Helper()
	if err := os.WriteFile(d.path, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) mustGet(want string) Content[string] {
	d.t.Helper()
	got, err := d.file.Get()
	if err != nil || got.Value != want {
		d.t.Fatalf("Get = %q, %v, want %q", got.Value, err, want)
	}
	return got
}

// mustKeep wants the last good content, with a problem.
func (d *desk) mustKeep(want, problem string) {
	d.t.Helper()
	if got := d.mustGet(want); got.Problem == nil || !strings.Contains(got.Problem.Error(), problem) {
		d.t.Fatalf("Problem = %v, want %q", got.Problem, problem)
	}
}

// mustLog wants one line since it was last asked, with this text.
func (d *desk) mustLog(text string) {
	d.t.Helper()
	logged := d.log.String()
	d.log.Reset()
	if strings.Count(logged, "\n") != 1 || !strings.Contains(logged, text) {
		d.t.Fatalf("want one line with %q in the log:\n%s", text, logged)
	}
}

func (d *desk) mustLogNothing() {
	d.t.Helper()
	if d.log.Len() > 0 {
		d.t.Fatalf("a log that should be empty:\n%s", d.log)
	}
}

func TestOneLookAnInterval(t *testing.T) {
	atDesk(t, func(t *testing.T, d *desk) {
		d.write("a.")
		d.mustGet("a")
		d.write("b.")
		time.Sleep(interval - 1)
		d.mustGet("a")
		if got, err := d.file.GetFresh(); err != nil || got.Value != "b" {
			t.Errorf("GetFresh = %q, %v", got.Value, err)
		}
		d.write("c.")
		if got, err := d.file.GetFresh(); err != nil || got.Value != "b" {
			t.Errorf("GetFresh in the same second = %q, %v", got.Value, err)
		}
		time.Sleep(interval)
		d.mustGet("c")
		time.Sleep(interval)
		d.mustGet("c")
		if d.parsed != 3 {
			t.Errorf("%d times parsed: the same bytes need no second time", d.parsed)
		}
		d.mustLogNothing()
	})
}

// Kubelet writes a new folder and swaps the ..data link.
func TestSwap(t *testing.T) {
	atDesk(t, func(t *testing.T, d *desk) {
		data := filepath.Join(d.folder, "..data")
		swap := func(name, text string) {
			folder := filepath.Join(d.folder, name)
			err := errors.Join(
				os.Mkdir(folder, 0o700),
				os.WriteFile(filepath.Join(folder, "token"), []byte(text), 0o600),
				os.Symlink(name, data+"_tmp"),
				os.Rename(data+"_tmp", data),
			)
			if err != nil {
				t.Fatal(err)
			}
		}
		swap("..1", "a.")
		if err := os.Symlink("..data/token", d.path); err != nil {
			t.Fatal(err)
		}
		d.mustGet("a")
		swap("..2", "b.")
		os.RemoveAll(filepath.Join(d.folder, "..1"))
		time.Sleep(interval)
		d.mustGet("b")
		d.mustLogNothing()
	})
}

func TestBadFileKeepsTheLastContent(t *testing.T) {
	for _, tt := range []struct {
		name, problem string
		spoil         func(*desk) error
	}{
		{"missing", "no such file", func(d *desk) error { return os.Remove(d.path) }},
		{"half-written", "half-written", func(d *desk) error { return os.WriteFile(d.path, []byte("b"), 0o600) }},
		{"empty", "half-written", func(d *desk) error { return os.Truncate(d.path, 0) }},
		{"too large", "more than 100 bytes", func(d *desk) error { return os.WriteFile(d.path, bytes.Repeat([]byte("."), 101), 0o600) }},
		{"a folder", "not a regular file", func(d *desk) error { return errors.Join(os.Remove(d.path), os.Mkdir(d.path, 0o700)) }},
		{"a pipe", "not a regular file", func(d *desk) error { return errors.Join(os.Remove(d.path), syscall.Mkfifo(d.path, 0o600)) }},
		{"a link to nothing", "no such file", func(d *desk) error { return errors.Join(os.Remove(d.path), os.Symlink("nothing", d.path)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			atDesk(t, func(t *testing.T, d *desk) {
				d.write("a.")
				goodAt := d.mustGet("a").GoodAt
				if err := tt.spoil(d); err != nil {
					t.Fatal(err)
				}
				time.Sleep(interval)
				d.mustKeep("a", tt.problem)
				d.mustLog("its last good content stays in use")
				for range 10 { // once a second, and told once
					time.Sleep(time.Second)
					d.mustKeep("a", tt.problem)
				}
				d.mustLogNothing()
				if got := d.mustGet("a"); !got.GoodAt.Equal(goodAt) {
					t.Errorf("GoodAt = %v, want %v", got.GoodAt, goodAt)
				}

				if err := os.RemoveAll(d.path); err != nil {
					t.Fatal(err)
				}
				d.write("c.")
				time.Sleep(time.Second)
				if got := d.mustGet("c"); got.Problem != nil || !got.GoodAt.Equal(time.Now()) {
					t.Errorf("in order again: %+v", got)
				}
				d.mustLog("in order again")
			})
		})
	}
}

func TestFileThatWasNeverGood(t *testing.T) {
	atDesk(t, func(t *testing.T, d *desk) {
		for range 3 {
			if _, err := d.file.Get(); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), d.path) {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		d.mustLog("not in order")
		d.write("a")
		d.file.Get()
		d.mustLog("half-written") // another problem
		d.write("a.")
		time.Sleep(time.Second - 1)
		if _, err := d.file.Get(); err == nil {
			t.Fatal("looked at twice in a second")
		}
		time.Sleep(time.Nanosecond)
		d.mustGet("a")
	})
}

// Readers come all the time while the file is replaced; what they get never
// goes back.
func TestManyReaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	replace := func(text string) {
		if err := errors.Join(os.WriteFile(path+"~", []byte(text), 0o600), os.Rename(path+"~", path)); err != nil {
			t.Error(err)
		}
	}
	replace("a")
	file := New(path, 100, 0, func(data []byte) (string, error) { return string(data), nil }, slog.New(slog.DiscardHandler))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			last := ""
			for len(last) < 50 {
				got, err := file.Get()
				if err != nil || len(got.Value) < len(last) || got.Value != string(got.Raw) {
					t.Errorf("Get = %q, %v after %q", got.Value, err, last)
					return
				}
				last = got.Value
			}
		})
	}
	for n := range 50 {
		replace(strings.Repeat("a", n+1))
	}
	all.Wait()
}

// After a pause nobody goes on with the last content because another is
// looking: the file may have been replaced long ago.
func TestPause(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	entered, release := make(chan bool), make(chan bool)
	file := New(path, 100, interval, func(data []byte) (string, error) {
		close(entered)
		<-release
		return string(data), nil
	}, slog.New(slog.DiscardHandler))
	file.content.Store(&content[string]{
		Content:  Content[string]{Value: "old", Raw: []byte("old")},
		found:    true,
		lookedAt: time.Now().Add(-time.Hour),
	})
	if err := os.WriteFile(path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	values := make(chan string)
	get := func() {
		got, _ := file.Get()
		values <- got.Value
	}
	go get()
	<-entered
	go get()
	close(release)
	for range 2 {
		if got := <-values; got != "new" {
			t.Errorf("%q: want what the file holds now", got)
		}
	}
}
