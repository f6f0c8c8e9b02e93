// Package safelog keeps a log that hangs or panics from harming those who write
// to it.
package safelog

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

const (
	// Patience is how long the writer of a line waits for the log. A log that takes
	// longer goes on in its own goroutine.
	Patience = 25 * time.Millisecond

	// maxWaiting is how many lines may wait for a log at once. More lines are
	// dropped, so that a log that hangs for ever holds a limited number of
	// goroutines.
	maxWaiting = 256
)

// New returns a Logger that writes to logger. It holds nobody up for longer than
// Patience with each line. A panic in logger loses the line, but does not end the
// goroutine.
func New(logger *slog.Logger) *slog.Logger {
	if _, ok := logger.Handler().(*handler); ok {
		return logger
	}
	return NewCounting(logger, func() {})
}

// NewCounting returns a Logger as New does, which calls lost for each line that
// is dropped, or that logger fails to write. lost must be safe for concurrent use
// by multiple goroutines.
func NewCounting(logger *slog.Logger, lost func()) *slog.Logger {
	return slog.New(&handler{logger.Handler(), new(atomic.Int32), lost})
}

type handler struct {
	next    slog.Handler
	waiting *atomic.Int32 // lines that next is still handling
	lost    func()
}

// Enabled asks next, so that a line that nobody wants costs little. While a line
// waits, next may hang here too: then Handle asks it instead.
func (h *handler) Enabled(ctx context.Context, level slog.Level) (enabled bool) {
	if h.waiting.Load() > 0 {
		return true
	}
	defer func() { _ = recover() }()
	return h.next.Enabled(ctx, level)
}

func (h *handler) Handle(ctx context.Context, line slog.Record) error {
	if h.waiting.Add(1) > maxWaiting {
		h.waiting.Add(-1)
		h.lost()
		return nil
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		defer h.waiting.Add(-1)
		isLost := true // unless it comes to its end
		defer func() {
			_ = recover()
			if isLost {
				h.lost()
			}
		}()
		isLost = h.next.Enabled(ctx, line.Level) && h.next.Handle(ctx, line) != nil
	}()
	select {
	case <-written:
	case <-time.After(Patience):
	}
	return nil
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.next.WithAttrs(attrs), h.waiting, h.lost}
}

func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.next.WithGroup(name), h.waiting, h.lost}
}
