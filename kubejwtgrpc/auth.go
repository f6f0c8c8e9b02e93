// Package kubejwtgrpc shows kubejwt at both ends of a gRPC call: [Verify] and
// [VerifyStream] are the server's interceptors, [Dial] the client's connection.
// Copy what you need; a server needs both interceptors, since each sees the
// calls of its kind alone.
package kubejwtgrpc

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/oauth"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/kubejwt/kubejwt"
)

// Verify returns an interceptor that lets calls through whose token v accepts.
// Handlers find the caller with kubejwt.FromContext.
func Verify(v *kubejwt.Verifier) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		claims, err := v.Verify(ctx, bearer(ctx))
		if err != nil {
			return nil, statusOf(err)
		}
		return handler(kubejwt.NewContext(ctx, claims), req)
	}
}

// VerifyStream is Verify for calls that are streams. It judges the token when the
// stream opens: where a stream may outlive it, end it at Claims.Expiry.
func VerifyStream(v *kubejwt.Verifier) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		claims, err := v.Verify(stream.Context(), bearer(stream.Context()))
		if err != nil {
			return statusOf(err)
		}
		return handler(srv, verifiedStream{stream, kubejwt.NewContext(stream.Context(), claims)})
	}
}

// verifiedStream is a stream whose context has the caller's Claims.
type verifiedStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s verifiedStream) Context() context.Context { return s.ctx }

// bearer is the token of a call, or "" if there is not exactly one.
func bearer(ctx context.Context) string {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) != 1 {
		return ""
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return token
}

// statusOf tells the caller as little as kubejwt.WriteError does.
func statusOf(err error) error {
	_, notAllowed := errors.AsType[*kubejwt.NotAllowedError](err)
	switch {
	case notAllowed:
		return status.Error(codes.PermissionDenied, "this service account may not call this service")
	case errors.Is(err, kubejwt.ErrKeysUnavailable):
		return status.Error(codes.Unavailable, "tokens cannot be verified at the moment")
	default:
		return status.Error(codes.Unauthenticated, "a good bearer token is required")
	}
}

// Dial returns a connection that sends the token in the file with each call.
// gRPC sends it over TLS only.
func Dial(target, tokenFile string, config *tls.Config) (*grpc.ClientConn, error) {
	return grpc.NewClient(target,
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithPerRPCCredentials(oauth.TokenSource{TokenSource: kubejwt.TokenFile(tokenFile)}))
}
