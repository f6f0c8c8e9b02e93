package apiserver

import (
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"time"
)

const (
	bookmarkInterval = time.Minute
	minTimeout       = 30 * time.Minute // --min-request-timeout
)

// A Stream is a watch.
type Stream struct {
	server  *Server
	query   *query
	start   int64         // the version it began at
	wake    chan struct{} // holds one when there is something to do
	timeout *time.Timer
	beat    *time.Ticker // nil: no bookmarks

	// Guarded by Server.mu.
	first  [][]byte // the list that it begins with, told even in silence
	queue  [][]byte
	failed bool // it ends after first
	ended  bool
}

// open returns a stream that has yet to get its first events. The caller holds
// mu.
func (s *Server) open(q *query) *Stream {
	timeout := q.timeout
	if timeout == 0 {
		timeout = minTimeout + rand.N(minTimeout)
	}
	stream := &Stream{
		server:  s,
		query:   q,
		start:   s.version,
		wake:    make(chan struct{}, 1),
		timeout: time.NewTimer(timeout),
	}
	if q.bookmarks {
		stream.beat = time.NewTicker(bookmarkInterval)
	}
	s.streams[stream] = true
	return stream
}

// Next returns the next event, a line of JSON. It is io.EOF when the stream ends.
func (st *Stream) Next(ctx context.Context) ([]byte, error) {
	var beat <-chan time.Time
	if st.beat != nil {
		beat = st.beat.C
	}
	for {
		if line, err := st.poll(); line != nil || err != nil {
			return line, err
		}
		select {
		case <-st.wake:
		case <-beat:
			st.bookmark()
		case <-st.timeout.C:
			return nil, io.EOF
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Close has to be called at last.
func (st *Stream) Close() {
	st.timeout.Stop()
	if st.beat != nil {
		st.beat.Stop()
	}
	st.server.mu.Lock()
	defer st.server.mu.Unlock()
	delete(st.server.streams, st)
}

func (st *Stream) poll() ([]byte, error) {
	st.server.mu.Lock()
	defer st.server.mu.Unlock()
	pending := &st.first
	if len(st.first) == 0 && !st.server.silent {
		pending = &st.queue
	}
	switch {
	case st.ended, st.failed && len(st.first) == 0:
		return nil, io.EOF
	case len(*pending) == 0:
		return nil, nil
	}
	line := (*pending)[0]
	*pending = (*pending)[1:]
	return line, nil
}

// bookmark is sent only where there is something newer than the stream's start:
// a quiet watch is silent.
func (st *Stream) bookmark() {
	st.server.mu.Lock()
	defer st.server.mu.Unlock()
	if st.server.version > st.start {
		st.queue = append(st.queue, st.mark(st.server.version, nil))
	}
}

func (st *Stream) mark(version int64, annotations map[string]string) []byte {
	metadata := map[string]any{"resourceVersion": formatVersion(version), "creationTimestamp": nil}
	if annotations != nil {
		metadata["annotations"] = annotations
	}
	return line("BOOKMARK", marshal(map[string]any{
		"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
	}))
}

// begin sends what is there. The caller holds mu.
func (st *Stream) begin(items []item) {
	for _, it := range items {
		st.first = append(st.first, line("ADDED", it.encode(st.query.partial)))
	}
	if st.query.initialEvents {
		st.first = append(st.first, st.mark(st.server.version, map[string]string{"k8s.io/initial-events-end": "true"}))
	}
}

// fail makes a Status all that is sent. The caller holds mu.
func (st *Stream) fail(status json.RawMessage) {
	st.first, st.failed = [][]byte{line("ERROR", status)}, true
}

// take sends a change. The caller holds mu.
func (st *Stream) take(c change) {
	if c.version > st.query.after && st.query.matches(c.item) {
		st.queue = append(st.queue, line(c.kind, c.encode(st.query.partial)))
		st.signal()
	}
}

func (st *Stream) end() {
	st.ended = true
	st.signal()
}

func (st *Stream) signal() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

func line(kind string, object json.RawMessage) []byte {
	return append(marshal(map[string]any{"type": kind, "object": object}), '\n')
}
