// Package reread reads a file that somebody else replaces now and then: a
// rotated token, a CA bundle, a key file. It asks the file itself, not a
// notification: a projected volume swaps a ..data symlink, an editor renames,
// a tool writes in place, and all of them end in other bytes.
package reread

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// retryInterval is how soon a file that is not in order is looked at again.
const retryInterval = time.Second

// grace is for how long after an interval the last content will do for those
// who find another looking. After a longer pause they wait for what it finds:
// the file may have been replaced a day ago.
const grace = time.Second

// A File is the last good content of a file, parsed. It is safe for concurrent
// use by multiple goroutines. While a file is in use, nobody waits for another
// who looks at it.
type File[T any] struct {
	path     string
	limit    int64
	interval time.Duration
	parse    func([]byte) (T, error)
	logger   *slog.Logger

	content atomic.Pointer[content[T]]

	looking sync.Mutex // held by the one caller who looks at the file
	problem string     // the last one logged
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
	GoodAt  time.Time // when the file was last seen in order
	Problem error     // what was wrong with the file at the last look; nil: nothing
}

// New returns a File that has not been read, and is looked at when it is used,
// at most once an interval. What parse refuses does not replace what was there.
// A file of more than limit bytes is refused unparsed.
func New[T any](path string, limit int64, interval time.Duration, parse func([]byte) (T, error), logger *slog.Logger) *File[T] {
	return &File[T]{path: path, limit: limit, interval: interval, parse: parse, logger: logger}
}

// Get returns the content, after looking at the file if nobody has done so for
// an interval. A file that is missing, half-written or otherwise bad leaves the
// last good content in place, with a line in the log; the error is that of a
// file that has never been good.
func (f *File[T]) Get() (Content[T], error) {
	interval := f.interval
	if c := f.content.Load(); c != nil && c.Problem != nil {
		interval = min(interval, retryInterval)
	}
	return f.get(interval)
}

// GetFresh is Get for a user to whom the content is of no more use: it looks at
// the file unless somebody has done so this very second.
func (f *File[T]) GetFresh() (Content[T], error) { return f.get(min(f.interval, retryInterval)) }

func (f *File[T]) get(interval time.Duration) (Content[T], error) {
	c := f.content.Load()
	switch {
	case c != nil && time.Since(c.lookedAt) < interval:
		return c.result()
	case c != nil && time.Since(c.lookedAt) < interval+grace:
		if !f.looking.TryLock() {
			return c.result() // somebody is looking right now
		}
	default:
		f.looking.Lock()
	}
	defer f.looking.Unlock()
	c = f.content.Load()
	if c == nil || time.Since(c.lookedAt) >= interval {
		c = f.look(c)
		f.content.Store(c)
	}
	return c.result()
}

func (c *content[T]) result() (Content[T], error) {
	if !c.found {
		return Content[T]{}, c.Problem
	}
	return c.Content, nil
}

// look reads the file and returns what is known from now on.
func (f *File[T]) look(last *content[T]) *content[T] {
	next := new(content[T])
	if last != nil {
		*next = *last
	}
	next.lookedAt = time.Now()
	raw, err := read(f.path, f.limit)
	if err == nil && !(next.found && bytes.Equal(raw, next.Raw)) {
		var value T
		if value, err = f.parse(raw); err == nil {
			next.Value, next.Raw, next.found = value, raw, true
		}
	}
	next.Problem = nil
	if err == nil {
		next.GoodAt = next.lookedAt
	} else {
		next.Problem = fmt.Errorf("%s: %w", f.path, err)
	}
	f.report(next)
	return next
}

// report logs a problem once, and its end.
func (f *File[T]) report(c *content[T]) {
	text := ""
	if c.Problem != nil {
		text = c.Problem.Error()
	}
	if text == f.problem {
		return
	}
	f.problem = text
	switch {
	case c.Problem == nil:
		f.logger.Info("kubejwt: a file is in order again", "file", f.path)
	case c.found:
		f.logger.Warn("kubejwt: a file is not in order, its last good content stays in use", "error", text)
	default:
		f.logger.Warn("kubejwt: a file is not in order", "error", text)
	}
}

func read(path string, limit int64) ([]byte, error) {
	// Opening a pipe would wait for its writer.
	info, err := os.Stat(path)
	if err != nil {
		return nil, reason(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, reason(err)
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, reason(err)
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("more than %d bytes", limit)
	}
	return raw, nil
}

// reason is err without the path, which look puts in front once.
func reason(err error) error {
	if path, ok := errors.AsType[*os.PathError](err); ok {
		return path.Err
	}
	return err
}
