package main

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwtgrpc"
)

// grpcServer serves Envoy's ext_authz over gRPC.
type grpcServer struct{ *grpc.Server }

// maxCheckBytes bounds a CheckRequest: the headers of a client's request. Envoy
// can be configured to send the body too, which nobody reads.
const maxCheckBytes = 1 << 20

const (
	maxChecks = 1000 // at a time on one connection
	// After this time a connection ends when its calls have, so that a call that
	// never sends its request ends too, and replicas that are new get their share.
	maxConnectionAge = 10 * time.Minute
	// Envoy's connection_keepalive pings an idle connection too, usually every 30 s.
	// gRPC's own limit is 5 minutes, and 2 hours while no call is under way.
	minPingInterval = 5 * time.Second
)

func newGRPCServer(g *guard, secure *tls.Config, logger *slog.Logger) grpcServer {
	options := []grpc.ServerOption{
		grpc.UnaryInterceptor(surviving(logger)),
		grpc.MaxRecvMsgSize(maxCheckBytes),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.MaxConcurrentStreams(maxChecks),
		grpc.ConnectionTimeout(headerTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle:     idleTimeout,
			MaxConnectionAge:      maxConnectionAge,
			MaxConnectionAgeGrace: writeTimeout,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime:             minPingInterval,
			PermitWithoutStream: true,
		}),
	}
	if secure != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(secure)))
	}
	s := grpc.NewServer(options...)
	authv3.RegisterAuthorizationServer(s, &extAuthz{guard: g})
	healthv1.RegisterHealthServer(s, grpcHealth{guard: g})
	return grpcServer{s}
}

// surviving ends a call that panics with an error, as net/http does. gRPC would let
// the process end.
func surviving(logger *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, r any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (answer any, err error) {
		defer func() {
			if recover() != nil {
				// The value may quote the request. The stack has no text of it.
				logger.Error("kubejwt serve: a call panicked", "stack", string(debug.Stack()))
				answer, err = nil, status.Error(codes.Internal, "the check failed")
			}
		}()
		return handle(ctx, r)
	}
}

// grpcHealth answers the health checks of Envoy and kubelet
// (https://github.com/grpc/grpc/blob/master/doc/health-checking.md) as /readyz does.
type grpcHealth struct {
	healthv1.UnimplementedHealthServer
	guard *guard
}

// Check is about the whole server, whose name is "", or about its one service.
func (h grpcHealth) Check(ctx context.Context, r *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	if name := r.GetService(); name != "" && name != authv3.Authorization_ServiceDesc.ServiceName {
		return nil, status.Error(codes.NotFound, "there is no such service")
	}
	if h.guard.stops.Load() || h.guard.judge.Load().ready(ctx) != nil {
		return &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_NOT_SERVING}, nil
	}
	return &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_SERVING}, nil
}

func (s grpcServer) Serve(l net.Listener) error { return s.Server.Serve(l) }

// Shutdown returns when the calls under way are answered, or when ctx ends.
func (s grpcServer) Shutdown(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.Server.Stop)
	defer stop()
	s.Server.GracefulStop()
	return nil
}

// extAuthz answers Envoy as guard answers other proxies.
type extAuthz struct {
	authv3.UnimplementedAuthorizationServer
	guard *guard
}

// Check judges the token in the headers of the client's request. The policy is
// named by Envoy's configuration alone.
func (a *extAuthz) Check(ctx context.Context, r *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	name := r.GetAttributes().GetContextExtensions()["policy"]
	v := a.guard.judge.Load().policies[name]
	if v == nil {
		answer := newAnswer()
		http.Error(answer, noSuchPolicy, http.StatusNotFound)
		return denied(answer, status.New(codes.NotFound, noSuchPolicy)), nil
	}
	about := grpcFacts{r.GetAttributes().GetRequest().GetHttp()}
	began := time.Now()
	claims, err := a.verify(ctx, v, about)
	a.guard.observe(verdict{policy: name, claims: claims, err: err, took: time.Since(began)}, about)
	if err != nil {
		answer := newAnswer()
		kubejwt.WriteError(answer, err)
		return denied(answer, kubejwtgrpc.Status(err)), nil
	}
	return allowed(claims), nil
}

func (a *extAuthz) verify(ctx context.Context, v *kubejwt.Verifier, about grpcFacts) (kubejwt.Claims, error) {
	values := about.header(a.guard.tokenHeader)
	if a.guard.tokenHeader != "Authorization" {
		values = bearers(values)
	}
	return v.VerifyRequest(withAuthorization(ctx, values))
}

// allowed sets the identity headers that have a value, and removes the client's
// own of those that have none: Envoy removes after it has set.
func allowed(claims kubejwt.Claims) *authv3.CheckResponse {
	ok := new(authv3.OkHttpResponse)
	for _, one := range identity(claims) {
		if one[1] == "" {
			ok.HeadersToRemove = append(ok.HeadersToRemove, strings.ToLower(one[0]))
			continue
		}
		ok.Headers = append(ok.Headers, header(one[0], one[1]))
	}
	return &authv3.CheckResponse{
		Status:       status.New(codes.OK, "").Proto(),
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: ok},
	}
}

func header(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: strings.ToLower(name), Value: value},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

// denied returns the answer that a client gets through Envoy, with the status of the
// check.
func denied(answer *answer, s *status.Status) *authv3.CheckResponse {
	response := &authv3.DeniedHttpResponse{
		Status: &typev3.HttpStatus{Code: typev3.StatusCode(answer.status)},
		Body:   answer.text.String(),
	}
	for name, values := range answer.header {
		for _, value := range values {
			response.Headers = append(response.Headers, header(name, value))
		}
	}
	return &authv3.CheckResponse{
		Status:       s.Proto(),
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: response},
	}
}

// answer is an http.ResponseWriter that keeps what is written.
type answer struct {
	status int
	header http.Header
	text   strings.Builder
}

func newAnswer() *answer { return &answer{header: make(http.Header)} }

func (a *answer) Header() http.Header            { return a.header }
func (a *answer) WriteHeader(status int)         { a.status = status }
func (a *answer) Write(text []byte) (int, error) { return a.text.Write(text) }

// grpcFacts are what Envoy says about its client's request.
type grpcFacts struct {
	r *authv3.AttributeContext_HttpRequest
}

func (f grpcFacts) method() string    { return f.r.GetMethod() }
func (f grpcFacts) path() string      { return f.r.GetPath() }
func (f grpcFacts) requestID() string { return strings.Join(f.header("x-request-id"), ",") }

// header returns the values of a header. Envoy sends headers in one of two forms. In the
// map, all values of one name are one value with commas.
func (f grpcFacts) header(name string) (values []string) {
	for key, value := range f.r.GetHeaders() {
		if strings.EqualFold(key, name) {
			values = append(values, value)
		}
	}
	for _, one := range f.r.GetHeaderMap().GetHeaders() {
		if !strings.EqualFold(one.GetKey(), name) {
			continue
		}
		value := one.GetValue()
		if raw := one.GetRawValue(); len(raw) > 0 {
			value = string(raw)
		}
		values = append(values, value)
	}
	return values
}
