package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// logLines is a log handler that keeps the warnings of the library, which are
// shown beside a verdict: it alone knows, for instance, which key of a set it
// could not use. It is safe for concurrent use by multiple goroutines.
type logLines struct {
	mu   sync.Mutex
	kept []logLine
}

type logLine struct{ text, cause string }

func (l *logLines) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }
func (l *logLines) WithAttrs([]slog.Attr) slog.Handler               { return l } // the library has none
func (l *logLines) WithGroup(string) slog.Handler                    { return l }

func (l *logLines) Handle(_ context.Context, record slog.Record) error {
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
	return nil
}

// besides returns the lines that tell more than the error.
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
