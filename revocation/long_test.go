package revocation_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
	"github.com/kubejwt/kubejwt/revocation"
)

// slowBody lets time pass before each line.
type slowBody struct {
	io.ReadCloser
	first string        // a line before all others
	wait  time.Duration // before the second read
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.first != "" {
		n := copy(p, b.first)
		b.first = b.first[n:]
		return n, nil
	}
	if b.wait > 0 {
		time.Sleep(b.wait)
		b.wait = 0
	}
	return b.ReadCloser.Read(p)
}

// Only one bookmark ends a list. Before the end, what the list has not said yet
// is not gone.
func TestBookmarkBeforeTheEnd(t *testing.T) {
	c := kubejwttest.NewCluster(t)
	inner := c.Transport()
	transport := roundTrip(func(r *http.Request) (*http.Response, error) {
		response, err := inner.RoundTrip(r)
		if err == nil {
			response.Body = &slowBody{response.Body, `{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"7"}}}` + "\n", 10 * time.Second}
		}
		return response, err
	})
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, c, revocation.Options{Transport: transport})
		token := s.Mint(ofPod("a"))
		time.Sleep(4 * time.Minute)
		defer s.run()()
		time.Sleep(5 * time.Second)
		s.expect("before the end of the list", token, accepted)
		if stats := s.watcher.Stats(); !stats.AsOf.IsZero() || stats.Lists != 0 {
			t.Errorf("%+v: want no list yet", stats)
		}
		time.Sleep(6 * time.Second)
		s.expect("after it", token, accepted)
		if stats := s.watcher.Stats(); stats.Lists != 2 || time.Since(stats.AsOf) != 11*time.Second {
			t.Errorf("%+v: want the view to be as of the time before the request", stats)
		}
	})
}

// A sleepyBody is read by a machine that falls asleep before the third line, and
// finds it when it wakes up: the network does not know.
type sleepyBody struct {
	io.ReadCloser
	lines int
}

func (b *sleepyBody) Read(p []byte) (int, error) {
	if b.lines++; b.lines < 3 {
		return b.ReadCloser.Read(p)
	}
	if b.lines > 3 {
		return 0, io.ErrUnexpectedEOF
	}
	time.Sleep(10 * time.Minute)
	return copy(p, `{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"7"}}}`+"\n"), nil
}

// What was said before a machine slept does not tell what has happened since.
func TestSleep(t *testing.T) {
	c := kubejwttest.NewCluster(t)
	inner := c.Transport()
	transport := roundTrip(func(r *http.Request) (*http.Response, error) {
		response, err := inner.RoundTrip(r)
		if err == nil && strings.Contains(r.URL.Path, "/pods") {
			response.Body = &sleepyBody{ReadCloser: response.Body}
		}
		return response, err
	})
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, c, revocation.Options{Transport: transport, WhenStale: revocation.Refuse})
		old := s.Mint(ofPod("a"))
		end := s.run()
		defer end()
		synctest.Wait()
		s.expect("awake", old, accepted)
		time.Sleep(time.Minute)
		young := s.Mint(ofPod("b"))
		time.Sleep(9*time.Minute - time.Nanosecond)
		s.expect("asleep", old, undecided)
		time.Sleep(2 * time.Nanosecond)
		synctest.Wait()
		s.expect("there for long, when it wakes up", old, undecided)
		s.expect("made meanwhile, when it wakes up", young, undecided)
	})
}

// Nor does a page of a list. No further one is asked for.
func TestSleepWhileListing(t *testing.T) {
	var pages, more atomic.Int64
	c := kubejwttest.NewCluster(t)
	transport := withoutWatchList(roundTrip(func(r *http.Request) (*http.Response, error) {
		if query := r.URL.Query(); query.Get("continue") != "" || query.Get("watch") != "" {
			more.Add(1)
			return nil, errors.New("this should not be asked for")
		}
		pages.Add(1)
		time.Sleep(10 * time.Minute)
		response := answer(r, http.StatusOK, nil)
		response.Body = io.NopCloser(strings.NewReader(`{"metadata":{"resourceVersion":"7","continue":"more"},"items":[]}`))
		return response, nil
	}))
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, c, revocation.Options{Transport: transport})
		defer s.run()()
		time.Sleep(10*time.Minute + 1)
		synctest.Wait()
		stats := s.watcher.Stats()
		if pages.Load() != 2 || more.Load() != 0 || stats.Lists != 0 || !strings.Contains(errText(stats.LastError), "nothing was heard for 1m30s") {
			t.Errorf("%d pages, and %d more requests, %+v: want 2 and none, no list, and to hear of silence", pages.Load(), more.Load(), stats)
		}
	})
}

// A view is as of the time before its list was asked for, however long the list
// takes: what was made meanwhile is not gone.
func TestSlowList(t *testing.T) {
	c := kubejwttest.NewCluster(t)
	inner := c.Transport()
	transport := roundTrip(func(r *http.Request) (*http.Response, error) {
		query := r.URL.Query()
		switch {
		case query.Get("sendInitialEvents") != "":
			return answer(r, http.StatusUnprocessableEntity, nil), nil
		case query.Get("watch") != "":
			time.Sleep(10 * time.Second)
			return inner.RoundTrip(r)
		}
		query.Set("limit", "1")
		r.URL.RawQuery = query.Encode()
		response, err := inner.RoundTrip(r)
		time.Sleep(80 * time.Second) // after the API server has read it
		return response, err
	})
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, c, revocation.Options{Transport: transport, WhenStale: revocation.Accept})
		s.Mint(ofPod("a"))
		s.Mint(ofPod("another"))
		defer s.run()()
		time.Sleep(time.Second)
		token := s.Mint(ofPod("b"))
		for range 200 {
			time.Sleep(time.Second)
			s.expect("made while the list was on its way", token, accepted)
		}
		if stats := s.watcher.Stats(); stats.Lists != 2 {
			t.Errorf("%+v: want two lists, one of them in two pages", stats)
		}
	})
}

// Hours of churn leave nothing behind: neither in memory nor a goroutine.
func TestChurn(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds: leave out -short")
	}
	hours := 1
	if revocation.Long() {
		hours = 48
	}
	c := kubejwttest.NewCluster(t)
	before := runtime.NumGoroutine()
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, c, revocation.Options{})
		defer s.run()()
		most := 0
		for i := range hours * 3600 / 2 {
			name := fmt.Sprint("pod-", i%50)
			s.Mint(ofPod(name))
			time.Sleep(2 * time.Second)
			if i%50 < 40 {
				s.DeletePod("shop", name)
			}
			if i%500 == 0 {
				s.CutWatches()
			}
			most = max(most, s.watcher.Stats().Gone)
		}
		synctest.Wait()
		// One every 2.5 s, kept for 6 min, and gone through every 10 s.
		if stats := s.watcher.Stats(); most > 160 || stats.Pods > 51 || stats.ServiceAccounts != 1 || stats.Events < uint64(hours)*2500 {
			t.Errorf("%+v, %d deletions at most: want 160 at most, and 51 pods", stats, most)
		}
	})
	runtime.GC()
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines: want %d as before", runtime.NumGoroutine(), before)
		}
	}
}

// Check costs no allocation, and Verify of a remembered token none with it.
func TestCheckAllocatesNothing(t *testing.T) {
	c := kubejwttest.NewCluster(t)
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, c, revocation.Options{})
		defer s.run()()
		token := s.Mint(ofPod("a"))
		synctest.Wait()
		s.expect("there", token, accepted)
		if got := testing.AllocsPerRun(100, func() { s.verifier.Verify(t.Context(), token) }); got != 0 && !raceEnabled {
			t.Errorf("%v allocations: want none", got)
		}
	})
}

// What Check adds is less than what differs from run to run: see it alone, too.
func BenchmarkRemembered(b *testing.B) {
	c := kubejwttest.NewCluster(b)
	token := c.Mint(ofPod("a"))
	config := c.Config("test")
	var err error
	if config.Keys, err = kubejwt.ParsePublicKeys(c.PublicKeysPEM()); err != nil {
		b.Fatal(err)
	}
	watcher, err := revocation.New(revocation.Options{
		ServiceAccounts: []string{"shop/api", "shop/web", "prod/*"}, APIServer: config.Issuer, Transport: c.Transport(), WhenStale: revocation.Refuse,
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error)
	go func() { ended <- watcher.Run(ctx) }()
	b.Cleanup(func() { cancel(); <-ended })
	for watcher.Ready(ctx) != nil {
		runtime.Gosched()
	}
	v, err := kubejwt.New(config)
	if err != nil {
		b.Fatal(err)
	}
	claims, err := v.Verify(b.Context(), token)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Check alone", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := watcher.Check(claims); err != nil {
				b.Fatal(err)
			}
		}
	})
	for name, check := range map[string]func(kubejwt.Claims) error{
		"without Check":       nil,
		"with an empty Check": func(kubejwt.Claims) error { return nil },
		"with a Watcher":      watcher.Check,
	} {
		config.Check = check
		v, err := kubejwt.New(config)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Each of these changes makes a test fail.
func TestMutations(t *testing.T) {
	if !revocation.Long() {
		t.Skip("takes a minute: run with -long")
	}
	for _, tt := range []struct{ name, file, old, new, test string }{
		{"no gone set", "view.go", "if _, gone := v.gone[uid]; gone {", "if false {", "TestView"},
		{"no gone set, by the model", "view.go", "if _, gone := v.gone[uid]; gone {", "if false {", "TestModel"},
		{"asOf after the list", "follow.go", "s.complete(list.live, requested); err", "s.complete(list.live, requested.Add(time.Since(requested))); err", "TestSlowList"},
		{"resuming by resource version", "follow.go", resume, resumed, "TestModel"},
		{"G = 0", "view.go", "clockSlack = time.Minute", "clockSlack time.Duration = 0", "TestModel"},
		{"D = 0", "view.go", "deletionGrace = time.Minute", "deletionGrace time.Duration = 0", "TestTerminating"},
		{"D = 0, by the model", "view.go", "deletionGrace = time.Minute", "deletionGrace time.Duration = 0", "TestModel"},
		{"no watchdog", "follow.go", "func() { cancel(errSilent) }", "func() {}", "TestSilence"},
		{"no watchdog, by the model", "follow.go", "func() { cancel(errSilent) }", "func() {}", "TestModel"},
		{"what came before a sleep is new", "follow.go", "if silence > maxSilence {", "if silence < 0 {", "TestSleep"},
		{"lists add up", "follow.go", "if next.size() > maxObjects {", "if false {", "TestListsDoNotAddUp"},
		{"turns as short as they were", "follow.go", "turnEvery = 70 * time.Second", "turnEvery = 30 * time.Second", "TestWhenItIsTried"},
		{"any bookmark ends the list", "stream.go", `e.Type == "BOOKMARK" && e.Object`, `e.Type == "BOOKMARK" || e.Object`, "TestBookmarkBeforeTheEnd"},
		{"deletions are forgotten too soon", "view.go", "keepGone = maxApart + clockSlack", "keepGone = maxApart", "TestGoneIsFinal"},
		{"evidence is the view alone", "revocation.go", "Accept, t.Sub(claims.IssuedAt) <= most:", "Accept:", "TestStale"},
		{"Run is not needed", "revocation.go", "err != nil {\n\t\treturn err\n\t}\n\tscope", "false && err != nil {\n\t\treturn err\n\t}\n\tscope", "TestNotRunning"},
		{"refused lists are not told", "follow.go", "if denies(err) && s", "if false && denies(err) && s", "TestDenied"},
		{"strings are held whole", "stream.go", "s.cut = s.length >= maxString", "s.cut = false", "TestDecoderIsBounded"},
		{"each stream that ends is told", "follow.go", "if !stood {", "if true {", "TestLogIsCalm"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, failed := runMutated(t, tt.file, tt.old, tt.new, tt.test)
			if !failed {
				t.Errorf("%s passes", tt.test)
			} else if strings.Contains(out, "[build failed]") {
				t.Errorf("it does not build:\n%s", out)
			}
		})
	}
}

const (
	resume  = `query.Set("resourceVersionMatch", "NotOlderThan")`
	resumed = resume + `
	query.Set("resourceVersion", s.last)
	if s.last != "" {
		query.Del("sendInitialEvents")
		query.Del("resourceVersionMatch")
		if body, err := s.watcher.apiServer.get(ctx, s.resource, query, formObjects); err == nil {
			defer body.Close()
			tried()
			return true, s.watch(newDecoder(body), alive)
		}
	}`
)

// runMutated runs a test with one text of a file replaced.
func runMutated(t *testing.T, file, old, new, test string) (out string, failed bool) {
	t.Helper()
	folder := t.TempDir()
	overlay := `{"Replace":{`
	replace := func(file string, changes ...string) {
		here, err := filepath.Abs(file)
		if err != nil {
			t.Fatal(err)
		}
		mutated := filepath.Join(folder, file)
		writeFile(t, mutated, replaceAll(t, here, changes...))
		overlay += fmt.Sprintf("%q:%q", here, mutated)
	}
	if new == resumed { // it needs to know the last version
		replace(file, old, new,
			"\twatcher *Watcher\n", "\twatcher *Watcher\n\tlast string\n",
			"\t\tif e.Type == \"BOOKMARK\" {", "\t\ts.last = e.Object.Metadata.ResourceVersion\n\t\tif e.Type == \"BOOKMARK\" {")
	} else {
		replace(file, old, new)
	}
	writeFile(t, filepath.Join(folder, "overlay.json"), overlay+"}}")
	command := exec.Command("go", "test", "-overlay", filepath.Join(folder, "overlay.json"), "-run", "^"+test+"$", ".")
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	err := command.Run()
	t.Logf("%.600s", output.String())
	return output.String(), err != nil
}

func replaceAll(t *testing.T, path string, changes ...string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(text, changes[i]) {
			t.Fatalf("%s has no %q", path, changes[i])
		}
		text = strings.ReplaceAll(text, changes[i], changes[i+1])
	}
	return text
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
