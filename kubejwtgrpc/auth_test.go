package kubejwtgrpc_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwtgrpc"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

// server answers Check for whoever the interceptor lets through.
type server struct {
	healthpb.UnimplementedHealthServer
}

var serving = &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}

func isAPI(ctx context.Context) error {
	if claims, ok := kubejwt.FromContext(ctx); !ok || claims.Username() != "system:serviceaccount:shop:api" {
		return status.Error(codes.Internal, "no Claims in the context")
	}
	return nil
}

func (server) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	return serving, isAPI(ctx)
}

func (server) Watch(_ *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	if err := isAPI(stream.Context()); err != nil {
		return err
	}
	return stream.Send(serving)
}

// call makes one call of each kind, which are to end alike.
func call(t *testing.T, conn *grpc.ClientConn, want codes.Code) {
	t.Helper()
	client, request := healthpb.NewHealthClient(conn), new(healthpb.HealthCheckRequest)
	if _, err := client.Check(t.Context(), request); status.Code(err) != want {
		t.Errorf("a call: %v: want %v", err, want)
	}
	stream, err := client.Watch(t.Context(), request)
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != want {
		t.Errorf("a stream: %v: want %v", err, want)
	}
}

// certificate is one for 127.0.0.1, and the roots that vouch for it.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return s.TLS.Certificates[0], roots
}

func TestCall(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	config := cluster.Config("data-store")
	config.ServiceAccounts = []string{"shop/api"}
	v, err := kubejwt.New(config)
	if err != nil {
		t.Fatal(err)
	}
	cert, roots := certificate(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&cert)), grpc.UnaryInterceptor(kubejwtgrpc.Verify(v)), grpc.StreamInterceptor(kubejwtgrpc.VerifyStream(v)))
	healthpb.RegisterHealthServer(s, server{})
	go s.Serve(listener)
	defer s.Stop()

	good := kubejwttest.Token{Namespace: "shop", ServiceAccount: "api", Audiences: []string{"data-store"}}
	other, reports, expiring := good, good, good
	other.ServiceAccount = "web"
	reports.Audiences = []string{"reports"}
	expiring.Claims = map[string]any{"exp": time.Now().Add(48 * time.Hour).Unix()}
	for _, tt := range []struct {
		name  string
		token string
		code  codes.Code
	}{
		{"good", cluster.Mint(good), codes.OK},
		{"another service account", cluster.Mint(other), codes.PermissionDenied},
		{"another audience", cluster.Mint(reports), codes.Unauthenticated},
		{"a lifetime of two days", cluster.Mint(expiring), codes.Unauthenticated},
		{"no JWT", "rubbish", codes.Unauthenticated},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "token")
			if err := os.WriteFile(file, []byte(tt.token), 0o600); err != nil {
				t.Fatal(err)
			}
			conn, err := kubejwtgrpc.Dial(listener.Addr().String(), file, &tls.Config{RootCAs: roots})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			call(t, conn, tt.code)
		})
	}

	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	call(t, conn, codes.Unauthenticated) // without a token
}
