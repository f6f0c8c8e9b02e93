// Package kubejwtgrpc verifies Kubernetes service account tokens at both ends of
// a gRPC call: [New] makes a server's interceptors, [Credentials] what a client
// sends.
//
//	interceptors, err := kubejwtgrpc.New(v, kubejwtgrpc.Options{})
//	…
//	server := grpc.NewServer(append(interceptors.ServerOptions(), grpc.Creds(…))...)
//
// Handlers find their caller with [kubejwt.FromContext]. Connect needs none of
// this: its handlers are http.Handlers, and [kubejwt.Verifier.Handler] guards
// them.
package kubejwtgrpc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/kubejwt/kubejwt"
)

// Options are the settings of [New]. With the zero value, the Verifier judges every
// call, and a stream may outlive its token.
type Options struct {
	// Methods has Verifiers for some methods, which replace New's Verifier
	// there. The keys are "/package.Service/Method", or "/package.Service/*"
	// for all methods of a service that have no entry of their own. Use
	// WithServiceAccounts to make a Verifier for a method.
	Methods map[string]*kubejwt.Verifier
	// Public are methods that anybody may call, without a token, written like
	// the keys of Methods: for instance "/grpc.health.v1.Health/*". An exact
	// entry of Methods wins over "*" here.
	Public []string
	// EndStreamsAtExpiry ends a stream at [kubejwt.Claims.Expiry] with the code
	// Unauthenticated, so that it does not outlive its token. The handler's
	// context ends then, and it has to return soon after. Without it the token
	// is verified when the stream opens, and never again.
	EndStreamsAtExpiry bool
}

// Interceptors let a server's calls through if their token is accepted. Make
// them with [New]: the zero value lets no call through. They are safe for
// concurrent use by multiple goroutines.
type Interceptors struct {
	fallback  *kubejwt.Verifier
	methods   map[string]*kubejwt.Verifier // nil for a public one
	endStream bool
}

// New returns interceptors that verify calls with v, except for the methods that
// options name. A nil Verifier, and a method that is not written as
// "/package.Service/Method" or is named twice, are errors.
func New(v *kubejwt.Verifier, options Options) (*Interceptors, error) {
	if v == nil {
		return nil, errors.New("kubejwtgrpc: New: the Verifier is nil")
	}
	i := &Interceptors{fallback: v, methods: maps.Clone(options.Methods), endStream: options.EndStreamsAtExpiry}
	if i.methods == nil {
		i.methods = make(map[string]*kubejwt.Verifier)
	}
	for method, verifier := range i.methods {
		if verifier == nil {
			return nil, fmt.Errorf("kubejwtgrpc: New: Options.Methods[%q] is nil: "+
				"to let anybody call it, name it in Public", method)
		}
	}
	for _, method := range options.Public {
		if _, named := i.methods[method]; named {
			return nil, fmt.Errorf("kubejwtgrpc: New: Options.Public: %q is named before", method)
		}
		i.methods[method] = nil
	}
	for _, method := range slices.Sorted(maps.Keys(i.methods)) {
		parts := strings.Split(method, "/")
		if len(parts) != 3 || parts[0] != "" || !isName(parts[1]) || parts[2] != "*" && !isName(parts[2]) {
			return nil, fmt.Errorf("kubejwtgrpc: New: Options: %q is not "+
				`"/package.Service/Method" or "/package.Service/*"`, method)
		}
	}
	return i, nil
}

// isName reports whether s can name a service or a method.
func isName(s string) bool { return s != "" && !strings.Contains(s, "*") }

// ServerOptions returns both interceptors, for [grpc.NewServer]. A server needs
// both, because each sees only the calls of its kind.
func (i *Interceptors) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(i.Unary), grpc.ChainStreamInterceptor(i.Stream)}
}

// Unary is a [grpc.UnaryServerInterceptor].
func (i *Interceptors) Unary(
	ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	v, isPublic := i.judge(info.FullMethod)
	if isPublic {
		return handler(ctx, req)
	}
	claims, err := verify(ctx, v)
	if err != nil {
		return nil, Status(err).Err()
	}
	return handler(kubejwt.NewContext(ctx, claims), req)
}

// Stream is a [grpc.StreamServerInterceptor].
func (i *Interceptors) Stream(
	srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) error {
	v, isPublic := i.judge(info.FullMethod)
	if isPublic {
		return handler(srv, stream)
	}
	claims, err := verify(stream.Context(), v)
	if err != nil {
		return Status(err).Err()
	}
	verified := verifiedStream{stream, kubejwt.NewContext(stream.Context(), claims)}
	if i.endStream {
		return handleUntil(claims.Expiry, srv, verified, handler)
	}
	return handler(srv, verified)
}

// judge returns the Verifier for a method, unless the method is public. Without a
// Verifier, verify refuses the call.
func (i *Interceptors) judge(method string) (v *kubejwt.Verifier, isPublic bool) {
	service, _, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	for _, named := range []string{method, "/" + service + "/*"} {
		if v, ok := i.methods[named]; ok {
			return v, v == nil
		}
	}
	return i.fallback, false
}

// verify verifies the token of a call as VerifyRequest does for a request: OnVerdict is
// also called for a call without a token, and a call with two is refused.
func verify(ctx context.Context, v *kubejwt.Verifier) (kubejwt.Claims, error) {
	var r http.Request
	r.Header = http.Header{"Authorization": metadata.ValueFromIncomingContext(ctx, "authorization")}
	return v.VerifyRequest(r.WithContext(ctx))
}

// verifiedStream is a stream whose context has the caller's Claims.
type verifiedStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s verifiedStream) Context() context.Context { return s.ctx }
