// Package reread reads a file that somebody else replaces now and then: a rotated
// token, a CA bundle, a key file. It looks at the file itself and uses no
// notifications. A projected volume swaps a ..data symlink, an editor renames, a tool
// writes in place, and in each case the bytes change.
//
// A file system or a log that hangs holds nobody up: no lock is held while one of
// them is used, and every wait ends with its context.
package reread

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubejwt/kubejwt/internal/quote"
	"github.com/kubejwt/kubejwt/internal/safelog"
)

const (
	// retryInterval is how soon a bad file is looked at again.
	retryInterval = time.Second

	// grace is how long after an interval the last content may still be used by
	// callers who find a look under way. After a longer pause they wait for its
	// result: the file may have been replaced a day ago.
	grace = time.Second

	// lookWait is how long a caller waits for a look while there is content to
	// go on with.
	lookWait = 50 * time.Millisecond

	// slowAfter is how long a look may take before a line in the log reports it.
	slowAfter = 10 * time.Second
)

// A File is the last good content of a file, parsed. It is safe for concurrent use by
// multiple goroutines. It starts a goroutine for each look at the file. The goroutine
// ends when the file system and the log have answered.
type File[T any] struct {
	path     string
	shown    string // is the path in errors and logs
	limit    int64
	interval time.Duration
	parse    func([]byte) (T, error)
	logger   *slog.Logger

	// Changed, if it is set before the first Get, is called when the content next
	// has replaced last. It runs in the goroutine of the look. Two calls may overlap
	// if the first of them hangs.
	Changed func(last, next T)

	// Taken, if it is set before the first Get, is called with each good content,
	// the first one included. It runs where Changed does.
	Taken func(T)

	read func(path string, limit int64) ([]byte, error) // Read, except in tests
	slow error                                          // the Problem while a look takes too long

	content atomic.Pointer[content[T]]

	mu   sync.Mutex // guards look
	look *look      // under way; nil: none
}

// look is one reading of the file.
type look struct {
	began time.Time
	done  chan struct{} // closed when the content is known
}

// content is what is known between two looks.
type content[T any] struct {
	Content[T]
	found    bool // the file has been good once
	lookedAt time.Time
}

// Content is what a File knew at one moment.
type Content[T any] struct {
	Value   T
	Raw     []byte    // what Value was parsed from; not to be changed
	GoodAt  time.Time // when the file was last seen to be good
	Problem error     // what was wrong with the file at the last look; nil: nothing
}

// New returns a File that has not been read yet. It is looked at when it is used, at
// most once an interval. Content that parse refuses does not replace the last good
// content. A file of more than limit bytes is refused without parsing it.
func New[T any](
	path string, limit int64, interval time.Duration, parse func([]byte) (T, error), logger *slog.Logger,
) *File[T] {
	const longest = 4096 // bytes of a path, on Linux
	shown := quote.Text(longest, path)
	return &File[T]{
		path:     path,
		shown:    shown,
		limit:    limit,
		interval: interval,
		parse:    parse,
		logger:   safelog.New(logger),
		read:     Read,
		slow:     fmt.Errorf("%s: the file system has not answered for %v", shown, lookWait),
	}
}

// Get returns the content, after looking at the file if nobody has done so for an
// interval. If the file is missing, half-written or otherwise bad, the last good
// content stays, with a line in the log. Get returns an error only if the file has
// never been good.
//
// Get waits for the first look until ctx ends. It waits for a later look for 50 ms at
// most, and then goes on with the last content. If ctx ends before that, the error
// wraps ctx's, except while the file is used all the time: then Get goes on with the
// last content.
func (f *File[T]) Get(ctx context.Context) (Content[T], error) {
	interval := f.interval
	last := f.content.Load()
	if last != nil && last.Problem != nil {
		interval = min(interval, retryInterval)
	}
	if last.isYounger(interval) {
		return last.result()
	}
	l, started := f.joinLook(interval)
	switch {
	case l == nil:
		return f.content.Load().result()
	case last.isLate(l):
		return f.late(last), nil
	case !started && last.isYounger(interval+grace):
		return last.result()
	case last == nil || !last.found:
		return f.wait(ctx, l)
	}
	brief, cancel := context.WithDeadline(ctx, l.began.Add(lookWait))
	defer cancel()
	got, err := f.wait(brief, l)
	switch {
	case err == nil:
		return got, nil
	case ctx.Err() == nil:
		return f.late(last), nil
	case last.isYounger(interval + grace):
		return last.result()
	default:
		return Content[T]{}, err
	}
}

// GetFresh is Get for a caller who can't use the content any more. It looks at the
// file unless somebody has done so within the last second, and waits until ctx
// ends.
func (f *File[T]) GetFresh(ctx context.Context) (Content[T], error) {
	l, _ := f.joinLook(min(f.interval, retryInterval))
	if l == nil {
		return f.content.Load().result()
	}
	return f.wait(ctx, l)
}

// Last returns the content without looking at the file. It never waits.
func (f *File[T]) Last() (Content[T], error) {
	last := f.content.Load()
	if last == nil {
		return Content[T]{}, fmt.Errorf("%s: has not been read yet", f.shown)
	}
	f.mu.Lock()
	l := f.look
	f.mu.Unlock()
	if last.isLate(l) {
		return f.late(last), nil
	}
	return last.result()
}

// isLate reports whether c has to be used because l takes too long. l may be nil.
func (c *content[T]) isLate(l *look) bool {
	return c != nil && c.found && l != nil && time.Since(l.began) >= lookWait
}

// late is the last content. Its Problem says that the file system is slow.
func (f *File[T]) late(last *content[T]) Content[T] {
	got := last.Content
	got.Problem = f.slow
	return got
}

func (c *content[T]) isYounger(than time.Duration) bool {
	return c != nil && time.Since(c.lookedAt) < than
}

func (c *content[T]) result() (Content[T], error) {
	if !c.found {
		return Content[T]{}, c.Problem
	}
	return c.Content, nil
}

// wait returns what l has found.
func (f *File[T]) wait(ctx context.Context, l *look) (Content[T], error) {
	select {
	case <-l.done:
		return f.content.Load().result()
	case <-ctx.Done():
		return Content[T]{}, fmt.Errorf("%s: waiting for the file system: %w", f.shown, ctx.Err())
	}
}

// joinLook returns the look under way, or starts one if the content is older than an
// interval. Otherwise it returns nil.
func (f *File[T]) joinLook(interval time.Duration) (l *look, started bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.look != nil {
		return f.look, false
	}
	if f.content.Load().isYounger(interval) {
		return nil, false
	}
	f.look = &look{began: time.Now(), done: make(chan struct{})}
	go f.run(f.look)
	return f.look, true
}

// run looks at the file. It releases those who wait before it writes to the log.
func (f *File[T]) run(l *look) {
	last := f.content.Load()
	before := textOf(last)
	slow := time.AfterFunc(slowAfter, func() {
		f.logger.Warn("kubejwt: a file can't be read, its last good content stays in use", "error", f.slow)
	})
	next := f.next(last, l.began)
	if !slow.Stop() {
		before = f.slow.Error()
	}
	f.content.Store(next)
	f.mu.Lock()
	f.look = nil
	f.mu.Unlock()
	close(l.done)
	f.report(before, next)
	isFirst := last == nil || !last.found
	if !next.found || !isFirst && bytes.Equal(last.Raw, next.Raw) {
		return
	}
	if f.Taken != nil {
		f.Taken(next.Value)
	}
	if f.Changed != nil && !isFirst {
		f.Changed(last.Value, next.Value)
	}
}

// next reads the file and returns what is known from then on.
func (f *File[T]) next(last *content[T], now time.Time) *content[T] {
	next := new(content[T])
	if last != nil {
		*next = *last
	}
	next.lookedAt = now
	raw, err := f.read(f.path, f.limit)
	if err == nil && !(next.found && bytes.Equal(raw, next.Raw)) {
		var value T
		if value, err = f.parseSafely(raw); err == nil {
			next.Value, next.Raw, next.found = value, raw, true
		}
	}
	next.Problem = nil
	if err == nil {
		next.GoodAt = now
	} else {
		next.Problem = fmt.Errorf("%s: %w", f.shown, err)
	}
	return next
}

// parseSafely turns a panic into an error: otherwise it would end the process.
func (f *File[T]) parseSafely(raw []byte) (value T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("parsing panicked with a %T", p)
		}
	}()
	return f.parse(raw)
}

func textOf[T any](c *content[T]) string {
	if c == nil || c.Problem == nil {
		return ""
	}
	return c.Problem.Error()
}

// report logs a new problem, and the end of one.
func (f *File[T]) report(before string, c *content[T]) {
	text := textOf(c)
	switch {
	case text == before:
	case text == "":
		f.logger.Info("kubejwt: a file can be used again", "file", f.shown)
	case c.found:
		f.logger.Warn("kubejwt: a file can't be used, its last good content stays in use", "error", text)
	default:
		f.logger.Warn("kubejwt: a file can't be used", "error", text)
	}
}
