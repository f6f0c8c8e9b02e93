package kubejwt

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubejwt/kubejwt/internal/keypolicy"
)

// keepsSnapshot gives the story's cache a snapshot file, and returns its path.
func (s *story) keepsSnapshot(folder string) *snapshotFile {
	f := &snapshotFile{
		path:   filepath.Join(folder, "keys.snapshot"),
		issuer: storyIssuer,
		url:    storyIssuer + discoveryPath,
		roots:  func(context.Context) string { return "" },
		write:  replaceFile,
	}
	s.cache.snapshot = f
	return f
}

// restart is a new process: of what was known, the snapshot alone is left.
func (s *story) restart() {
	synctest.Wait() // the snapshot is written
	last := s.cache
	s.cache = &jwksCache{
		fetch: last.fetch, now: last.now, maxStale: last.maxStale, snapshot: last.snapshot,
		onIssuerChange: last.onIssuerChange, logger: last.logger,
	}
	was := s.verifier.members[0].cluster
	config := was.config
	config.ServiceAccounts = []string{"*"}
	c, allowed, err := config.prepare()
	if err != nil {
		s.t.Fatal(err)
	}
	c.keys, c.learnsIssuer, c.issuers = s.cache, was.learnsIssuer, was.issuers
	s.verifier = newVerifier(c, allowed)
}

func TestSnapshotOutlivesTheProcess(t *testing.T) {
	folder := t.TempDir()
	tell(t, func(t *testing.T, s *story) {
		f := s.keepsSnapshot(folder)
		s.mustKnow("old")
		s.mustFetches(1)
		s.settle()
		info, err := os.Stat(f.path)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("the snapshot: %v, %v", info.Mode(), err)
		}
		files, err := os.ReadDir(folder)
		if err != nil || len(files) != 1 {
			t.Errorf("left in the folder: %v, %v", files, err)
		}

		time.Sleep(23 * time.Hour)
		const pause = 5 * time.Second
		s.failWith(&retryAfterError{errors.New("status 503"), pause})
		s.restart()
		if err := s.verifier.Ready(t.Context()); err != nil {
			t.Errorf("Ready = %v", err)
		}
		s.mustFetches(0)
		s.mustKnow("old") // one fetch is tried first
		s.mustFetches(1)
		s.mustKnowAtOnce("old")
		s.mustBeUnavailable("unknown")

		s.recover()
		s.rotate("old", "new")
		time.Sleep(pause)
		s.mustKnowAtOnce("old")
		s.mustFetches(1)
		s.mustKnowAtOnce("new")

		s.restart() // the snapshot is of the rotation by now
		s.failWith(errors.New("connection refused"))
		s.mustKnow("new")
		s.mustBeUnavailable("old")
	})
}

// However young, a snapshot is not used before one fetch was tried.
func TestSnapshotIsPastItsLife(t *testing.T) {
	folder := t.TempDir()
	tell(t, func(t *testing.T, s *story) {
		s.keepsSnapshot(folder)
		s.mustKnow("old")
		s.mustFetches(1)
		s.rotate("old", "new")
		s.restart()
		s.mustNotKnow("old")
		s.mustFetches(1)
		s.mustKnowAtOnce("new")
	})
}

// A disk that hangs holds up one goroutine, and nobody who waits for keys. When
// it answers again, it gets the latest keys.
func TestDiskThatHangsUnderTheSnapshot(t *testing.T) {
	folder := t.TempDir()
	tell(t, func(t *testing.T, s *story) {
		f := s.keepsSnapshot(folder)
		release, writes := make(chan bool), 0
		f.write = func(path string, data []byte) error {
			writes++
			<-release
			return replaceFile(path, data)
		}
		s.mustKnowAfter("old", s.latency)
		for _, kid := range []string{"new", "newer"} {
			s.publish(kid)
			s.waitForTurn()
			s.mustKnowAfter(kid, s.latency)
		}
		if s.settle(); writes != 1 {
			t.Errorf("%d goroutines write, want 1", writes)
		}
		close(release)
		s.settle()
		if data, err := os.ReadFile(f.path); err != nil || !strings.Contains(string(data), `"kid":"newer"`) || writes != 2 {
			t.Errorf("%s, %v after %d writes: want the newest key after 2", data, err, writes)
		}
	})
}

// A snapshot on a disk that hangs is waited for until the caller's context ends,
// and for a second at most.
func TestSnapshotThatCannotBeRead(t *testing.T) {
	folder := t.TempDir()
	tell(t, func(t *testing.T, s *story) {
		f := s.keepsSnapshot(folder)
		s.mustKnow("old")
		s.settle()
		release := make(chan bool)
		f.roots = func(context.Context) string { <-release; return "" }
		s.restart()
		s.clearLog()

		token := s.mint("old")
		for name, call := range map[string]func(context.Context) error{
			"Verify": func(ctx context.Context) error { _, err := s.verifier.Verify(ctx, token); return err },
			"Ready":  s.verifier.Ready,
		} {
			const wait = 100 * time.Millisecond
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			began := time.Now()
			err := call(ctx)
			if !errors.Is(err, ErrKeysUnavailable) || !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != wait {
				t.Errorf("%s: %v after %v", name, err, time.Since(began))
			}
		}
		s.mustFetches(1) // the one before the restart
		if got := s.verifier.Stats(); got.KeyIDs != nil || got.LastError != nil {
			t.Errorf("Stats = %+v", got)
		}

		began := time.Now()
		s.failWith(errors.New("connection refused"))
		s.must(token, "unavailable")
		if waited := time.Since(began); waited > keypolicy.SnapshotWait+s.latency {
			t.Errorf("it waited for %v", waited)
		}
		if !strings.Contains(s.logged(), "has not answered") {
			t.Errorf("the log:\n%s", s.logged())
		}
		close(release) // late, but better than no keys
		s.settle()
		s.mustAtOnce(token)
		s.recover()
		time.Sleep(keypolicy.MaxBackoff)
		s.mustKnow("old")
	})
}

// A snapshot that comes after newer keys, or that is no good, changes nothing, and
// is told of once at most. One that comes late and is good says who the issuer is.
func TestSnapshotThatComesLate(t *testing.T) {
	for _, tt := range []struct {
		name    string
		damaged bool
		answers bool // the origin does, before the file system
		told    int  // lines that tell of the snapshot
	}{
		{"good, and the origin is down", false, false, 2}, // that it hangs, and then that it is used
		{"good, after newer keys", false, true, 1},
		{"damaged, and the origin is down", true, false, 1},
		{"damaged, after newer keys", true, true, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			folder := t.TempDir()
			tell(t, func(t *testing.T, s *story) {
				f := s.keepsSnapshot(folder)
				f.issuer = ""
				issuer := s.learnsIssuer("https://one.example")
				s.must(s.mintOf("https://one.example", "old"), "")
				*issuer = "https://two.example"
				s.must(s.mintOf("https://two.example", "old"), "")
				s.settle()
				release := make(chan bool)
				f.roots = func(context.Context) string {
					<-release
					if tt.damaged {
						return "other roots"
					}
					return ""
				}
				s.restart()
				s.clearLog()
				s.rotate("old", "new")
				if tt.answers {
					s.must(s.mintOf("https://two.example", "new"), "")
				} else {
					s.failWith(errors.New("connection refused"))
					s.must(s.mintOf("https://two.example", "old"), "unavailable")
				}
				close(release)
				s.settle()
				if tt.answers {
					s.must(s.mintOf("https://two.example", "new"), "")
					s.must(s.mintOf("https://two.example", "old"), ReasonUnknownKey)
				} else if !tt.damaged {
					s.must(s.mintOf("https://two.example", "old"), "")
					s.must(s.mintOf("https://one.example", "old"), "")
				} else {
					s.must(s.mintOf("https://two.example", "old"), "unavailable")
				}
				log := s.logged()
				if n := strings.Count(log, "snapshot is not used") + strings.Count(log, "keys of the snapshot"); n != tt.told {
					t.Errorf("it is told of %d times, want %d:\n%s", n, tt.told, log)
				}
			})
		})
	}
}

// Keys that are trusted for ever are so in a snapshot, too.
func TestSnapshotForEver(t *testing.T) {
	folder := t.TempDir()
	tell(t, func(t *testing.T, s *story) {
		s.cache.maxStale = -1
		s.keepsSnapshot(folder)
		s.mustKnow("old")
		time.Sleep(365 * 24 * time.Hour)
		s.failWith(errors.New("connection refused"))
		s.restart()
		s.mustKnow("old")
	})
}

// A bug in what reads a snapshot costs the snapshot.
func TestSnapshotThatPanics(t *testing.T) {
	folder := t.TempDir()
	tell(t, func(t *testing.T, s *story) {
		f := s.keepsSnapshot(folder)
		s.mustKnow("old")
		f.roots = func(context.Context) string { panic("a bug") }
		s.restart()
		s.mustKnow("old")
		if !strings.Contains(s.logged(), "panicked with a string") {
			t.Errorf("the log:\n%s", s.logged())
		}
	})
}

func TestSnapshotThatDoesNotFit(t *testing.T) {
	for _, tt := range []struct {
		name, why string
		change    func(*story, *snapshotFile)
	}{
		{"as it was", "", func(*story, *snapshotFile) {}},
		{"missing", "", func(_ *story, f *snapshotFile) { os.Remove(f.path) }},
		{"damaged", "damaged", func(_ *story, f *snapshotFile) { rewrite(f.path, `"keys":[`, `"keys":[[`) }},
		{"broken off", "damaged", func(_ *story, f *snapshotFile) { os.Truncate(f.path, 100) }},
		{"empty", "damaged", func(_ *story, f *snapshotFile) { os.Truncate(f.path, 0) }},
		{"without keys", "damaged", func(_ *story, f *snapshotFile) { os.WriteFile(f.path, beforeKeys(f.path), 0o600) }},
		{"a key that does not decode", "damaged: a key in it does not decode", func(_ *story, f *snapshotFile) { rewrite(f.path, `"spki":"M`, `"spki":"N`) }},
		{"a key without kid", "damaged: a key in it does not decode", func(_ *story, f *snapshotFile) { rewrite(f.path, `"kid":"old"`, `"kid":""`) }},
		{"a member that is none of ours", "damaged", func(_ *story, f *snapshotFile) { rewrite(f.path, `{"issuer"`, `{"x":1,"issuer"`) }},
		{"another issuer", "another issuer", func(_ *story, f *snapshotFile) { f.issuer = "https://another.example" }},
		{"no issuer, where it is learnt", "another issuer", func(_ *story, f *snapshotFile) {
			f.issuer = ""
			rewrite(f.path, `"issuer":"`+storyIssuer+`"`, `"issuer":""`)
		}},
		{"an issuer of the future", "from the future", func(_ *story, f *snapshotFile) {
			rewrite(f.path, `"formerSince":"0001`, `"formerSince":"2101`)
		}},
		{"another URL", "another URL", func(_ *story, f *snapshotFile) { f.url += "/" }},
		{"other roots", "other roots", func(_ *story, f *snapshotFile) {
			f.roots = func(context.Context) string { return "another digest" }
		}},
		{"from the future", "from the future", func(s *story, _ *snapshotFile) { s.wallAhead = -time.Second }},
		{"too old", "older than MaxStale", func(s *story, _ *snapshotFile) { time.Sleep(24 * time.Hour) }},
		{"a folder", "not a regular file", func(_ *story, f *snapshotFile) { os.Remove(f.path); os.Mkdir(f.path, 0o700) }},
		{"too large", "more than", func(_ *story, f *snapshotFile) { os.Truncate(f.path, 3<<20) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			folder := t.TempDir()
			tell(t, func(t *testing.T, s *story) {
				f := s.keepsSnapshot(folder)
				s.mustKnow("old")
				s.failWith(errors.New("connection refused"))
				s.restart()
				s.clearLog()
				tt.change(s, f)
				if tt.name == "as it was" {
					s.mustKnow("old")
					return
				}
				s.mustBeUnavailable("old")
				s.settle()
				logged := s.logged()
				if told := strings.Contains(logged, "the snapshot is not used"); told != (tt.why != "") || !strings.Contains(logged, tt.why) {
					t.Errorf("want %q in the log:\n%s", tt.why, logged)
				}
				s.recover()
				time.Sleep(keypolicy.MinBackoff)
				s.mustKnow("old")
			})
		})
	}
}

// The age of what a snapshot gives grows while the clock goes back.
func TestClockSetBackAfterASnapshot(t *testing.T) {
	folder := t.TempDir()
	tell(t, func(t *testing.T, s *story) {
		s.keepsSnapshot(folder)
		s.mustKnow("old")
		s.failWith(errors.New("connection refused"))
		time.Sleep(22 * time.Hour)
		s.restart()
		s.mustKnow("old")
		s.wallAhead = -365 * 24 * time.Hour
		time.Sleep(time.Hour)
		s.mustKnow("old")
		time.Sleep(time.Hour)
		s.mustBeUnavailable("old")
	})
}

func rewrite(path, from, to string) {
	data, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(data), from) {
		panic("no " + from + " in the snapshot")
	}
	os.WriteFile(path, []byte(strings.Replace(string(data), from, to, 1)), 0o600)
}

func beforeKeys(path string) []byte {
	data, _ := os.ReadFile(path)
	head, _, _ := strings.Cut(string(data), `"keys"`)
	return []byte(head + `"keys":[]}`)
}

// The CA's bytes are those that judged the origin at the fetch.
func TestSnapshotNotesTheRoots(t *testing.T) {
	folder := t.TempDir()
	tell(t, func(t *testing.T, s *story) {
		f := s.keepsSnapshot(folder)
		f.roots = func(context.Context) string { return "the CA" }
		published := s.fetch
		s.cache.fetch = func(ctx context.Context, cause fetchCause) (fetched, error) {
			got, err := published(ctx, cause)
			got.roots = "the CA"
			return got, err
		}
		s.mustKnow("old")
		s.failWith(errors.New("connection refused"))
		s.restart()
		s.mustKnow("old")
	})
}

func TestSnapshotRestoresALearntIssuer(t *testing.T) {
	folder := t.TempDir()
	tell(t, func(t *testing.T, s *story) {
		s.keepsSnapshot(folder).issuer = ""
		c := s.verifier.members[0].cluster
		c.learnsIssuer, c.issuers = true, nil
		issuer := "https://one.example"
		published := s.fetch
		s.cache.fetch = func(ctx context.Context, cause fetchCause) (fetched, error) {
			got, err := published(ctx, cause)
			got.issuer = issuer
			return got, err
		}
		s.must(s.mintOf("https://one.example", "old"), "")
		issuer = "https://two.example"
		s.must(s.mintOf("https://two.example", "old"), "")

		s.failWith(errors.New("connection refused"))
		time.Sleep(12 * time.Hour)
		s.restart()
		s.must(s.mintOf("https://two.example", "old"), "")
		s.must(s.mintOf("https://one.example", "old"), "") // the one before it
		s.must(s.mintOf("https://three.example", "old"), "unavailable")

		s.recover()
		time.Sleep(12 * time.Hour) // and no longer than a day
		s.must(s.mintOf("https://two.example", "old"), "")
		s.must(s.mintOf("https://one.example", "old"), ReasonWrongIssuer)
	})
}

// A file that can't be replaced stays as it is, and nothing is left beside it.
func TestReplaceFile(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "taken")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(path, []byte("x")); err == nil {
		t.Error("a folder was replaced")
	}
	if files, err := os.ReadDir(folder); err != nil || len(files) != 1 {
		t.Errorf("left in the folder: %v, %v", files, err)
	}
}

// What can't be written costs the snapshot, not the service.
func TestSnapshotThatCannotBeWritten(t *testing.T) {
	folder := t.TempDir()
	tell(t, func(t *testing.T, s *story) {
		s.keepsSnapshot(filepath.Join(folder, "missing"))
		s.mustKnow("old")
		s.settle()
		if !strings.Contains(s.logged(), "the snapshot was not written") {
			t.Errorf("the log:\n%s", s.logged())
		}
		if ids := s.verifier.Stats().KeyIDs; !slices.Equal(ids, []string{"old"}) {
			t.Errorf("KeyIDs = %q", ids)
		}
	})
}

// What a process left that was killed while it wrote is gone after an hour, and
// what another one writes at this moment stays.
func TestSnapshotLeftovers(t *testing.T) {
	folder := t.TempDir()
	tell(t, func(t *testing.T, s *story) {
		s.keepsSnapshot(folder)
		for name, age := range map[string]time.Duration{
			".kubejwt-snapshot-1": time.Hour + time.Second,
			".kubejwt-snapshot-2": time.Hour - s.latency, // an hour when the snapshot is written
			"kubejwt-snapshot-3":  48 * time.Hour,
		} {
			path, at := filepath.Join(folder, name), time.Now().Add(-age)
			if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chtimes(path, at, at)); err != nil {
				t.Fatal(err)
			}
		}
		dir, at := filepath.Join(folder, ".kubejwt-snapshot-4"), time.Now().Add(-48*time.Hour)
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chtimes(dir, at, at)); err != nil { // none of ours
			t.Fatal(err)
		}
		s.mustKnow("old")
		s.settle()
		entries, err := os.ReadDir(folder)
		var names []string
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		if want := []string{".kubejwt-snapshot-2", ".kubejwt-snapshot-4", "keys.snapshot", "kubejwt-snapshot-3"}; err != nil || !slices.Equal(names, want) {
			t.Errorf("%q, %v: want %q", names, err, want)
		}
	})
}
