// Package connect shows kubejwt in front of a Connect service: its handlers are
// http.Handlers, so that Verifier.Handler guards them. It serves Connect, gRPC
// and gRPC-Web clients alike.
package connect

import (
	"context"
	"net/http"

	"connectrpc.com/connect"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/kubejwt/kubejwt"
)

// Procedure is what the service serves.
const Procedure = "/grpc.health.v1.Health/Check"

// NewHandler serves the procedure to whoever v admits. Over HTTP/2 in the clear,
// which gRPC clients need without TLS, set http.Server.Protocols.
func NewHandler(v *kubejwt.Verifier) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(Procedure, connect.NewUnaryHandler(Procedure, check))
	return v.Handler(mux)
}

// check answers with the caller's name in a header.
func check(
	ctx context.Context, _ *connect.Request[healthpb.HealthCheckRequest],
) (*connect.Response[healthpb.HealthCheckResponse], error) {
	response := connect.NewResponse(&healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING})
	if caller, ok := kubejwt.FromContext(ctx); ok {
		response.Header().Set("Caller", caller.Username())
	}
	return response, nil
}
