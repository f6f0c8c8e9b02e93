// Package safelog keeps a log that hangs or panics from harming the goroutines
// that write to it in the background.
package safelog

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// maxWaiting is how many lines may wait for a log at once. Those that come while
// so many wait are dropped, so that a log that hangs for ever holds a bounded
// number of goroutines.
const maxWaiting = 16

// New returns a Logger that writes to logger. A panic in logger ends the line,
// and not the goroutine.
func New(logger *slog.Logger) *slog.Logger {
	if _, ok := logger.Handler().(*handler); ok {
		return logger
	}
	return slog.New(&handler{logger.Handler(), new(atomic.Int32)})
}

type handler struct {
	next    slog.Handler
	waiting *atomic.Int32 // lines that next has not returned from
}

// Enabled leaves the question to Handle, since it may hang or panic as well.
func (h *handler) Enabled(context.Context, slog.Level) bool { return true }

func (h *handler) Handle(ctx context.Context, line slog.Record) error {
	defer h.waiting.Add(-1)
	if h.waiting.Add(1) > maxWaiting {
		return nil
	}
	defer func() { _ = recover() }()
	if !h.next.Enabled(ctx, line.Level) {
		return nil
	}
	return h.next.Handle(ctx, line)
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.next.WithAttrs(attrs), h.waiting}
}

func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.next.WithGroup(name), h.waiting}
}
