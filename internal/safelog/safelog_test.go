package safelog

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestLinesPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		logger := New(slog.New(slog.NewTextHandler(&log, nil)))
		if logger.Enabled(t.Context(), slog.LevelDebug) || !logger.Enabled(t.Context(), slog.LevelInfo) {
			t.Error("it is enabled where the log is not, or the other way round")
		}
		logger.Debug("a line that is not enabled")
		logger.With("a", 1).WithGroup("g").Info("a line", "b", 2)
		if got := log.String(); !strings.HasSuffix(got, "level=INFO msg=\"a line\" a=1 g.b=2\n") || strings.Count(got, "\n") != 1 {
			t.Errorf("the log:\n%s", got)
		}
		if New(logger) != logger {
			t.Error("a safe log is wrapped once more")
		}
	})
}

// handlerFunc is a Handler for one test.
type handlerFunc struct {
	slog.Handler
	enabled func() bool
	handle  func()
}

func (h handlerFunc) Enabled(context.Context, slog.Level) bool { return h.enabled() }
func (h handlerFunc) Handle(context.Context, slog.Record) error {
	h.handle()
	return nil
}

func TestPanicsAreContained(t *testing.T) {
	fail := func() { panic("a bug of the log") }
	for name, h := range map[string]handlerFunc{
		"in Handle":  {enabled: func() bool { return true }, handle: fail},
		"in Enabled": {enabled: func() bool { fail(); return true }, handle: func() {}},
	} {
		t.Run(name, func(t *testing.T) {
			logger := New(slog.New(h))
			for range 3 * maxWaiting {
				logger.Info("a line")
			}
			if n := logger.Handler().(*handler).waiting.Load(); n != 0 {
				t.Errorf("%d lines wait, want none", n)
			}
		})
	}
}

// A log that hangs holds so many lines, drops the others, and goes on when it
// has recovered.
func TestHangingLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		release, written := make(chan bool), 0
		logger := New(slog.New(handlerFunc{
			enabled: func() bool { return true },
			handle: func() {
				<-release
				mu.Lock()
				defer mu.Unlock()
				written++
			},
		}))
		var all sync.WaitGroup
		for range maxWaiting {
			all.Go(func() { logger.Info("a line that waits") })
		}
		synctest.Wait()
		for range 100 {
			logger.Info("a line that is dropped") // and does not hang
		}
		close(release)
		all.Wait()
		logger.Info("a line")
		if written != maxWaiting+1 {
			t.Errorf("%d lines are written, want %d", written, maxWaiting+1)
		}
		if n := logger.Handler().(*handler).waiting.Load(); n != 0 {
			t.Errorf("%d lines wait, want none", n)
		}
	})
}

// A line that is not written is counted, whatever the cause.
func TestLostLinesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lost atomic.Int32
		release := make(chan bool)
		handlers := map[string]slog.Handler{
			"hangs":   handlerFunc{enabled: func() bool { return true }, handle: func() { <-release }},
			"panics":  handlerFunc{enabled: func() bool { return true }, handle: func() { panic("a bug of the log") }},
			"fails":   slog.NewTextHandler(fullDisk{}, nil),
			"writes":  slog.NewTextHandler(io.Discard, nil),
			"ignores": slog.NewTextHandler(fullDisk{}, &slog.HandlerOptions{Level: slog.LevelError}),
		}
		for name, want := range map[string]int32{"hangs": 3, "panics": maxWaiting + 3, "fails": maxWaiting + 3, "writes": 0, "ignores": 0} {
			lost.Store(0)
			logger := NewCounting(slog.New(handlers[name]), func() { lost.Add(1) })
			for range maxWaiting + 3 {
				logger.Info("a line")
			}
			if got := lost.Load(); got != want {
				t.Errorf("a log that %s: %d lines are lost, want %d", name, got, want)
			}
		}
		close(release)
	})
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// A slow log gets its line whole, and whoever wrote it goes on.
func TestSlowLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct{ takes, want time.Duration }{
			{0, 0},
			{Patience - 1, Patience - 1},
			{Patience + 1, Patience},
			{time.Hour, Patience},
		} {
			written := false
			logger := New(slog.New(handlerFunc{
				enabled: func() bool { return true },
				handle: func() {
					time.Sleep(tt.takes)
					written = true
				},
			}))
			began := time.Now()
			logger.Info("a line")
			if got := time.Since(began); got != tt.want {
				t.Errorf("a log that takes %v: %v, want %v", tt.takes, got, tt.want)
			}
			time.Sleep(tt.takes)
			synctest.Wait()
			if !written {
				t.Errorf("a log that takes %v: the line is lost", tt.takes)
			}
		}
	})
}

// A log whose Enabled waits for the line that hangs is not asked by a caller.
func TestHangingEnabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hangs atomic.Bool
		release := make(chan bool)
		logger := New(slog.New(handlerFunc{
			enabled: func() bool {
				if hangs.Load() {
					<-release
				}
				return true
			},
			handle: func() {
				hangs.Store(true)
				<-release
			},
		}))
		logger.Info("a line that hangs")
		began := time.Now()
		logger.Info("another line")
		if got := time.Since(began); got != Patience {
			t.Errorf("after %v, want %v", got, Patience)
		}
		close(release)
	})
}

// While a line hangs, the log still doesn't get what it did not ask for.
func TestLevelWhileALineHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan bool)
		var log bytes.Buffer
		logger := New(slog.New(slog.NewTextHandler(waitingWriter{release, &log}, nil)))
		logger.Info("a line that hangs")
		logger.Debug("a line that is not enabled")
		close(release)
		synctest.Wait()
		if got := log.String(); !strings.Contains(got, "hangs") || strings.Contains(got, "not enabled") {
			t.Errorf("the log:\n%s", got)
		}
	})
}

// waitingWriter writes as soon as it is released.
type waitingWriter struct {
	release <-chan bool
	log     io.Writer
}

func (w waitingWriter) Write(line []byte) (int, error) {
	<-w.release
	return w.log.Write(line)
}
