package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// logLines is a log handler that keeps the warnings of the library, which are
// shown beside a verdict: it alone knows, for instance, which key of a set it
// could not use. It is safe for concurrent use by multiple goroutines.
type logLines struct {
	fetches chan struct{} // gets one for each fetch that has been logged

	mu   sync.Mutex
	kept []logLine
}

func newLogLines() *logLines { return &logLines{fetches: make(chan struct{}, 16)} }

type logLine struct{ text, cause string }

// Enabled lets all lines pass: that of a fetch is at Debug.
func (l *logLines) Enabled(context.Context, slog.Level) bool { return true }
func (l *logLines) WithAttrs([]slog.Attr) slog.Handler       { return l } // the library has none
func (l *logLines) WithGroup(string) slog.Handler            { return l }

func (l *logLines) Handle(_ context.Context, record slog.Record) error {
	if record.Level >= slog.LevelWarn {
		l.keep(record)
	}
	switch record.Message {
	case "kubejwt: fetched keys", "kubejwt: fetching keys failed": // the last line of a fetch
		select {
		case l.fetches <- struct{}{}:
		default:
		}
	}
	return nil
}

// waitFor waits until this many fetches have been logged. The library writes to the
// log only after it has released those who wait for the keys.
func (l *logLines) waitFor(fetches uint64) {
	const most = 5 * time.Second
	limit := time.After(most)
	for range fetches {
		select {
		case <-l.fetches:
		case <-limit:
			return
		}
	}
}

func (l *logLines) keep(record slog.Record) {
	line := logLine{}
	var details []string
	record.Attrs(func(attribute slog.Attr) bool {
		if attribute.Key == "error" {
			line.cause = attribute.Value.String()
		}
		details = append(details, fmt.Sprintf("%s: %s", attribute.Key, attribute.Value))
		return true
	})
	line.text = strings.TrimPrefix(record.Message, "kubejwt: ")
	if len(details) > 0 {
		line.text += " (" + strings.Join(details, ", ") + ")"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, line)
}

// besides returns the lines that say more than the error.
func (l *logLines) besides(err error) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	told := ""
	if err != nil {
		told = err.Error()
	}
	var lines []string
	for _, line := range l.kept {
		if line.cause == "" || !strings.Contains(told, line.cause) {
			lines = append(lines, withhold(line.text))
		}
	}
	return lines
}
