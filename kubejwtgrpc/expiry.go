package kubejwtgrpc

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// handleUntil calls handler, and ends the call at the expiry. A server ends a call by
// returning. The handler may be waiting for its client at that moment, so it runs in
// its own goroutine. It ends soon after, because its context and its stream do.
func handleUntil(expiry time.Time, srv any, stream verifiedStream, handler grpc.StreamHandler) error {
	expired := status.Error(codes.Unauthenticated, "the token of this stream has expired")
	ctx, cancel := context.WithDeadlineCause(stream.ctx, expiry, expired)
	defer cancel()
	stream.ctx = ctx

	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			r.panicked = recover()
			done <- r
		}()
		r.err = handler(srv, stream)
	}()
	var r result
	select {
	case <-ctx.Done():
		// Not a timer of its own: the handler would sometimes see the stream end
		// before its context says why.
		if context.Cause(ctx) == expired {
			return expired
		}
		r = <-done
	case r = <-done:
	}
	if r.panicked != nil {
		panic(r.panicked) // to whoever recovers the panics of handlers
	}
	return r.err
}

// result is how a handler ended.
type result struct {
	err      error
	panicked any
}
