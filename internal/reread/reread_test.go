package reread

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubejwt/kubejwt/internal/testlog"
)

// A desk is a folder, a File on one of its files, and what was logged. Files
// are real and time is the bubble's.
type desk struct {
	t      *testing.T
	folder string
	path   string
	file   *File[string]
	log    *testlog.Buffer
	parsed int
}

const interval = 10 * time.Second

func atDesk(t *testing.T, test func(*testing.T, *desk)) {
	t.Helper()
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := &desk{t: t, folder: folder, path: filepath.Join(folder, "token"), log: new(testlog.Buffer)}
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
	got, err := d.file.Get(d.t.Context())
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
	synctest.Wait()
	logged := d.log.String()
	d.log.Reset()
	if strings.Count(logged, "\n") != 1 || !strings.Contains(logged, text) {
		d.t.Fatalf("want one line with %q in the log:\n%s", text, logged)
	}
}

func (d *desk) mustLogNothing() {
	d.t.Helper()
	synctest.Wait()
	if d.log.String() != "" {
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
		if got, err := d.file.GetFresh(d.t.Context()); err != nil || got.Value != "b" {
			t.Errorf("GetFresh = %q, %v", got.Value, err)
		}
		d.write("c.")
		if got, err := d.file.GetFresh(d.t.Context()); err != nil || got.Value != "b" {
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
		{"a pipe", "not a regular file", func(d *desk) error { return errors.Join(os.Remove(d.path), mkfifo(d.path)) }},
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
				d.mustLog("can be used again")
			})
		})
	}
}

func TestFileThatWasNeverGood(t *testing.T) {
	atDesk(t, func(t *testing.T, d *desk) {
		for range 3 {
			if _, err := d.file.Get(d.t.Context()); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), d.path) {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		d.mustLog("can't be used")
		d.write("a")
		d.file.Get(d.t.Context())
		d.mustLog("half-written") // another problem
		d.write("a.")
		time.Sleep(time.Second - 1)
		if _, err := d.file.Get(d.t.Context()); err == nil {
			t.Fatal("looked at twice in a second")
		}
		time.Sleep(time.Nanosecond)
		d.mustGet("a")
	})
}

// Readers come all the time while the file is replaced; what they get never
// goes back. With an interval, some find it over and the next look done.
// A token or a certificate is easily given in place of a file's name. It is not shown
// as it came.
func TestNamesAreTame(t *testing.T) { synctest.Test(t, namesAreTame) }

func namesAreTame(t *testing.T) {
	for _, tt := range []struct{ path, want string }{
		{"/etc/keyJwks.pem", "/etc/keyJwks.pem: "},
		{"/etc/a b", "/etc/a b: "},
		{"eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhIn0.AAAA", "(withheld: it looks like a token): "},
		{"-----BEGIN\nA\x1b", `"-----BEGIN\nA\x1b": `},
		{strings.Repeat("A", 1<<20), strings.Repeat("A", 4096) + ": "},
	} {
		log := new(testlog.Buffer)
		file := New(tt.path, 100, interval, func([]byte) (string, error) { return "", nil }, slog.New(slog.NewJSONHandler(log, nil)))
		_, errBefore := file.Last()
		_, err := file.Get(t.Context())
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, errEnded := New(tt.path, 100, interval, file.parse, slog.New(slog.DiscardHandler)).Get(ended)
		for _, err := range []error{errBefore, err, errEnded, file.slow} {
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "eyJh") || len(err.Error()) > 5000 {
				t.Errorf("%.50q: %.300v: want %.100s", tt.path, err, tt.want)
			}
		}
		synctest.Wait() // the log comes after the answer
		if text := log.String(); !strings.Contains(text, "can't be used") || strings.Contains(text, "eyJh") || len(text) > 5000 {
			t.Errorf("%.50q: logged %.300q", tt.path, text)
		}
	}
}

func TestManyReaders(t *testing.T) {
	for _, interval := range []time.Duration{0, 20 * time.Microsecond} {
		t.Run(interval.String(), func(t *testing.T) { manyReaders(t, interval) })
	}
}

func manyReaders(t *testing.T, interval time.Duration) {
	path := filepath.Join(t.TempDir(), "file")
	replace := func(text string) {
		if err := errors.Join(os.WriteFile(path+"~", []byte(text), 0o600), os.Rename(path+"~", path)); err != nil {
			t.Error(err)
		}
	}
	replace("a")
	parse := func(data []byte) (string, error) { return string(data), nil }
	file := New(path, 100, interval, parse, slog.New(slog.DiscardHandler))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			last := ""
			for len(last) < 50 {
				got, err := file.Get(t.Context())
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
	if err := os.WriteFile(path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
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
		values := make(chan string)
		get := func() {
			got, _ := file.Get(t.Context())
			values <- got.Value
		}
		go get()
		<-entered
		go get()
		synctest.Wait()
		close(release)
		for range 2 {
			if got := <-values; got != "new" {
				t.Errorf("%q: want what the file holds now", got)
			}
		}
	})
}

// A disk is a file system that hangs when it is told to.
type disk struct {
	t    *testing.T
	file *File[string]
	log  *testlog.Buffer

	mu      sync.Mutex
	content string
	release chan bool // closed: it answers
}

func (d *disk) read(string, int64) ([]byte, error) {
	d.mu.Lock()
	release := d.release
	d.mu.Unlock()
	<-release
	d.mu.Lock()
	defer d.mu.Unlock()
	return []byte(d.content), nil
}

func (d *disk) hang() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.release = make(chan bool)
}

func (d *disk) write(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.content = text
}

// atDisk runs test in a bubble, with a File that is looked at once a second.
func atDisk(t *testing.T, test func(*testing.T, *disk)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := &disk{t: t, log: new(testlog.Buffer), content: "a", release: make(chan bool)}
		close(d.release)
		parse := func(data []byte) (string, error) {
			if len(data) == 0 {
				return "", errors.New("empty")
			}
			return string(data), nil
		}
		d.file = New("key", 100, time.Second, parse, slog.New(slog.NewTextHandler(d.log, nil)))
		d.file.read = d.read
		test(t, d)
	})
}

// mustGet wants the content after this very time.
func (d *disk) mustGet(ctx context.Context, want string, wait time.Duration) Content[string] {
	d.t.Helper()
	began := time.Now()
	got, err := d.file.Get(ctx)
	if err != nil || got.Value != want || time.Since(began) != wait {
		d.t.Fatalf("Get = %q, %v after %v, want %q after %v", got.Value, err, time.Since(began), want, wait)
	}
	return got
}

// mustEnd wants the error of a context that ended after this very time.
func (d *disk) mustEnd(get func(context.Context) (Content[string], error), wait time.Duration) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), wait)
	defer cancel()
	began := time.Now()
	got, err := get(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || got.Value != "" || time.Since(began) != wait {
		d.t.Errorf("%q, %v after %v, want the context's error after %v", got.Value, err, time.Since(began), wait)
	}
}

func TestDiskThatHangs(t *testing.T) {
	atDisk(t, func(t *testing.T, d *disk) {
		d.mustGet(t.Context(), "a", 0)
		d.hang()
		d.write("b")
		time.Sleep(time.Second)
		var all sync.WaitGroup
		all.Go(func() {
			if got := d.mustGet(t.Context(), "a", lookWait); got.Problem == nil {
				t.Error("the one who looked is not told that the disk hangs")
			}
		})
		synctest.Wait()
		d.mustGet(t.Context(), "a", 0) // while another is looking
		all.Wait()
		for _, pause := range []time.Duration{0, time.Second, time.Hour} {
			time.Sleep(pause)
			if got := d.mustGet(t.Context(), "a", 0); got.Problem == nil {
				t.Error("no Problem while the disk hangs")
			}
			if got, err := d.file.Last(); err != nil || got.Value != "a" || got.Problem == nil {
				t.Errorf("Last = %q, %v, %v", got.Value, got.Problem, err)
			}
		}
		synctest.Wait()
		if logged := d.log.String(); strings.Count(logged, "\n") != 1 || !strings.Contains(logged, "can't be read") {
			t.Errorf("the log:\n%s", logged)
		}
		d.mustEnd(d.file.GetFresh, 3*time.Second)

		close(d.release)
		synctest.Wait()
		if got := d.mustGet(t.Context(), "b", 0); got.Problem != nil {
			t.Errorf("after the disk has answered: %v", got.Problem)
		}
		synctest.Wait()
		if logged := d.log.String(); strings.Count(logged, "\n") != 2 || !strings.Contains(logged, "can be used again") {
			t.Errorf("the log:\n%s", logged)
		}
	})
}

func TestFirstLookAtADiskThatHangs(t *testing.T) {
	atDisk(t, func(t *testing.T, d *disk) {
		d.hang()
		if _, err := d.file.Last(); err == nil {
			t.Error("Last of a file that was never read")
		}
		var all sync.WaitGroup
		for i := range 3 {
			all.Go(func() { d.mustEnd(d.file.Get, time.Duration(i+1)*time.Second) })
		}
		all.Go(func() { d.mustGet(t.Context(), "a", time.Minute) })
		time.Sleep(10 * time.Second)
		d.mustEnd(d.file.Get, time.Second) // also who comes late
		time.Sleep(49 * time.Second)
		close(d.release)
		all.Wait()
	})
}

// A file that has never been in order has no content to go on with.
func TestBadFileOnADiskThatHangs(t *testing.T) {
	atDisk(t, func(t *testing.T, d *disk) {
		d.write("")
		for range 2 {
			if _, err := d.file.Get(t.Context()); err == nil || !strings.Contains(err.Error(), "empty") {
				t.Errorf("Get: %v, want that it is empty", err)
			}
			if _, err := d.file.Last(); err == nil || !strings.Contains(err.Error(), "empty") {
				t.Errorf("Last: %v, want that it is empty", err)
			}
		}
		d.hang()
		time.Sleep(time.Second)
		d.mustEnd(d.file.Get, time.Second)
		d.mustEnd(d.file.Get, time.Second)
		if got, err := d.file.Last(); err == nil {
			t.Errorf("Last while the disk hangs: %+v, want an error", got)
		}
		close(d.release)
	})
}

// Last has what the last look found, and never looks.
func TestLast(t *testing.T) {
	atDisk(t, func(t *testing.T, d *disk) {
		d.mustGet(t.Context(), "a", 0)
		d.write("b")
		time.Sleep(time.Hour)
		if got, err := d.file.Last(); err != nil || got.Value != "a" || got.Problem != nil || time.Since(got.GoodAt) != time.Hour {
			t.Errorf("%+v, %v, want a of an hour ago", got, err)
		}
		d.mustGet(t.Context(), "b", 0)
		if got, err := d.file.Last(); err != nil || got.Value != "b" {
			t.Errorf("%+v, %v, want b", got, err)
		}
	})
}

// A context that ends is no reason to judge by what may have been replaced a day
// ago. While the file is in use, the last content is a second old.
func TestContextEndsDuringALook(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pause time.Duration
		want  string
	}{
		{"in use", time.Second, "a"},
		{"after a pause", time.Hour, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			atDisk(t, func(t *testing.T, d *disk) {
				d.mustGet(t.Context(), "a", 0)
				time.Sleep(tt.pause)
				d.hang()
				ctx, cancel := context.WithTimeout(t.Context(), lookWait/2)
				defer cancel()
				if tt.want == "" {
					d.mustEnd(d.file.Get, lookWait/2)
				} else {
					d.mustGet(ctx, tt.want, lookWait/2)
				}
				close(d.release)
			})
		})
	}
}

// A disk that is slow rather than dead is waited for.
func TestSlowDisk(t *testing.T) {
	atDisk(t, func(t *testing.T, d *disk) {
		d.mustGet(t.Context(), "a", 0)
		d.hang()
		d.write("b")
		time.Sleep(time.Hour)
		time.AfterFunc(lookWait-1, func() { close(d.release) })
		if got := d.mustGet(t.Context(), "b", lookWait-1); got.Problem != nil {
			t.Error(got.Problem)
		}
		synctest.Wait()
		if d.log.String() != "" {
			t.Errorf("the log:\n%s", d.log)
		}
	})
}

type hangingLog struct {
	slog.Handler
	release chan bool
}

func (h hangingLog) Enabled(context.Context, slog.Level) bool { return true }

func (h hangingLog) Handle(context.Context, slog.Record) error {
	<-h.release
	return nil
}

// A log that hangs costs nobody a moment.
func TestLogThatHangs(t *testing.T) {
	atDisk(t, func(t *testing.T, d *disk) {
		log := hangingLog{slog.DiscardHandler, make(chan bool)}
		d.file.logger = slog.New(log)
		d.mustGet(t.Context(), "a", 0)
		d.write("")
		time.Sleep(time.Second)
		d.mustGet(t.Context(), "a", 0) // and a line waits for the log
		d.mustGet(t.Context(), "a", 0)
		d.write("b")
		time.Sleep(time.Second)
		d.mustGet(t.Context(), "b", 0)
		d.mustGet(t.Context(), "b", 0)
		close(log.release)
	})
	atDisk(t, func(t *testing.T, d *disk) {
		log := hangingLog{slog.DiscardHandler, make(chan bool)}
		d.file.logger = slog.New(log)
		d.write("")
		began := time.Now()
		if _, err := d.file.Get(t.Context()); err == nil || time.Since(began) != 0 {
			t.Errorf("the first Get of a bad file: %v after %v", err, time.Since(began))
		}
		close(log.release)
	})
}

type panickingLog struct{ slog.Handler }

func (panickingLog) Enabled(context.Context, slog.Level) bool  { return true }
func (panickingLog) Handle(context.Context, slog.Record) error { panic("a bug of the log") }

func TestPanicsAreContained(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	file := New(path, 100, 0, func([]byte) (string, error) { panic("a secret") }, slog.New(panickingLog{slog.DiscardHandler}))
	if _, err := file.Get(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("with a log that panics: %v", err)
	}
	if err := os.WriteFile(path, []byte("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Get(t.Context()); err == nil || !strings.Contains(err.Error(), "panicked") || strings.Contains(err.Error(), "secret") {
		t.Errorf("with a parser that panics: %v", err)
	}
}

func TestChanged(t *testing.T) {
	atDisk(t, func(t *testing.T, d *disk) {
		var changes, taken []string
		d.file.Changed = func(last, next string) { changes = append(changes, last+"→"+next) }
		d.file.Taken = func(content string) { taken = append(taken, content) }
		for _, text := range []string{"", "a", "a", "b", "", "b", "c"} {
			d.write(text)
			d.file.Get(t.Context())
			time.Sleep(time.Second)
			synctest.Wait()
		}
		if want := []string{"a→b", "b→c"}; !slices.Equal(changes, want) {
			t.Errorf("told of %q, want %q", changes, want)
		}
		if want := []string{"a", "b", "c"}; !slices.Equal(taken, want) {
			t.Errorf("%q were taken, want %q", taken, want)
		}
	})
}

// What is opened is judged: between two looks of ours a pipe may take the place
// of the file.
func TestRead(t *testing.T) {
	folder := t.TempDir()
	path := func(name string) string { return filepath.Join(folder, name) }
	if err := errors.Join(
		os.WriteFile(path("file"), []byte("abc"), 0o600),
		os.Symlink("file", path("link")),
		mkfifo(path("pipe")),
		os.Symlink("pipe", path("link to a pipe")),
	); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path  string
		limit int64
		want  string // "": an error with problem
		err   string
	}{
		{path("file"), 3, "abc", ""},
		{path("link"), 3, "abc", ""},
		{path("file"), 2, "", "more than 2 bytes"},
		{path("pipe"), 3, "", "not a regular file"},
		{path("link to a pipe"), 3, "", "not a regular file"},
		{folder, 3, "", "not a regular file"},
		{"/dev/zero", 3, "", "not a regular file"},
		{path("missing"), 3, "", "no such file"},
	} {
		got, err := Read(tt.path, tt.limit)
		if string(got) != tt.want || (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("Read(%s, %d) = %q, %v, want %q, %q", tt.path, tt.limit, got, err, tt.want, tt.err)
		}
		if err != nil && strings.Contains(err.Error(), tt.path) {
			t.Errorf("Read(%s): %v: names the file, which its user does", tt.path, err)
		}
	}
}

// A regular file can fail when it is read: this one has nothing at its start.
func TestReadFails(t *testing.T) {
	const path = "/proc/self/mem"
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		t.Skip("there is no such file here")
	}
	if got, err := Read(path, 3); err == nil || strings.Contains(err.Error(), path) {
		t.Errorf("%q, %v, want an error without the path", got, err)
	}
}

func TestReadClosesWhatItOpened(t *testing.T) {
	const open = "/proc/self/fd"
	if _, err := os.ReadDir(open); err != nil {
		t.Skip("nothing tells which files are open")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which closes files, too
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int64{3, 2} {
		Read(path, limit)
	}
	links, err := os.ReadDir(open)
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if target, err := os.Readlink(filepath.Join(open, link.Name())); err == nil && target == path {
			t.Error("the file is still open")
		}
	}
}
