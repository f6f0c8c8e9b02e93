// Package testlog has a log that tests read while others write to it.
package testlog

import (
	"bytes"
	"sync"
)

// Buffer keeps what is written to it. Its zero value is empty. It is safe for
// concurrent use: that time has passed in a testing/synctest bubble does not order
// what goroutines do.
type Buffer struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String returns what was written since the last Reset.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Reset forgets what was written.
func (b *Buffer) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text.Reset()
}
