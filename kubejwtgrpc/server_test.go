package kubejwtgrpc_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwtgrpc"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// server answers whoever the interceptors let through: Check and List with the
// caller's name in the header "caller", Watch until its context ends.
type server struct {
	healthpb.UnimplementedHealthServer
	watched chan error // what ended a Watch, if it is not nil
}

const (
	check = "/grpc.health.v1.Health/Check"
	list  = "/grpc.health.v1.Health/List"
	watch = "/grpc.health.v1.Health/Watch"
)

func sendCaller(ctx context.Context) error {
	claims, _ := kubejwt.FromContext(ctx)
	return grpc.SetHeader(ctx, metadata.Pairs("caller", claims.Username()))
}

func (server) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	return &healthpb.HealthCheckResponse{}, sendCaller(ctx)
}

func (server) List(ctx context.Context, _ *healthpb.HealthListRequest) (*healthpb.HealthListResponse, error) {
	return &healthpb.HealthListResponse{}, sendCaller(ctx)
}

func (s server) Watch(r *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	if r.Service == "panic" {
		panic("in a handler")
	}
	claims, _ := kubejwt.FromContext(stream.Context())
	if err := stream.SetHeader(metadata.Pairs("caller", claims.Username())); err != nil {
		return err
	}
	if err := stream.Send(&healthpb.HealthCheckResponse{}); err != nil || s.watched == nil {
		return err
	}
	<-stream.Context().Done()
	s.watched <- context.Cause(stream.Context())
	return nil
}

// world is a server behind the interceptors, and who signs its callers' tokens.
type world struct {
	cluster *kubejwttest.Cluster
	address string
	tls     credentials.TransportCredentials // of its clients
}

func newWorld(t *testing.T, v *kubejwt.Verifier, cluster *kubejwttest.Cluster, s server, options kubejwtgrpc.Options, more ...grpc.ServerOption) *world {
	t.Helper()
	interceptors, err := kubejwtgrpc.New(v, options)
	if err != nil {
		t.Fatal(err)
	}
	cert, roots := certificate(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	more = append(more, grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
	g := grpc.NewServer(append(more, interceptors.ServerOptions()...)...)
	healthpb.RegisterHealthServer(g, s)
	go g.Serve(listener)
	t.Cleanup(g.Stop)
	return &world{cluster, listener.Addr().String(), credentials.NewTLS(&tls.Config{RootCAs: roots})}
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

func newVerifier(t *testing.T, cluster *kubejwttest.Cluster, accounts ...string) *kubejwt.Verifier {
	t.Helper()
	config := cluster.Config("data-store")
	config.ServiceAccounts = accounts
	v, err := kubejwt.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (w *world) dial(t *testing.T, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(w.address, append([]grpc.DialOption{grpc.WithTransportCredentials(w.tls)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// call makes a call with these authorization headers.
func call(t *testing.T, conn *grpc.ClientConn, method string, authorization ...string) (caller string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for _, value := range authorization {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", value)
	}
	client := healthpb.NewHealthClient(conn)
	var header metadata.MD
	switch method {
	case check:
		_, err = client.Check(ctx, &healthpb.HealthCheckRequest{}, grpc.Header(&header))
	case list:
		_, err = client.List(ctx, &healthpb.HealthListRequest{}, grpc.Header(&header))
	case watch:
		var stream grpc.ServerStreamingClient[healthpb.HealthCheckResponse]
		if stream, err = client.Watch(ctx, &healthpb.HealthCheckRequest{}); err == nil {
			_, err = stream.Recv()
			header, _ = stream.Header()
		}
	}
	return strings.Join(header.Get("caller"), "|"), err
}

var api = kubejwttest.Token{Namespace: "shop", ServiceAccount: "api", Audiences: []string{"data-store"}}

const apiName = "system:serviceaccount:shop:api"

func TestVerdicts(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	w := newWorld(t, newVerifier(t, cluster, "shop/api"), cluster, server{}, kubejwtgrpc.Options{})
	conn := w.dial(t)
	web, reports, expiring := api, api, api
	web.ServiceAccount = "web"
	reports.Audiences = []string{"reports"}
	expiring.Claims = map[string]any{"exp": time.Now().Add(48 * time.Hour).Unix()}
	good := "Bearer " + cluster.Mint(api)
	for _, test := range []struct {
		name          string
		authorization []string
		code          codes.Code
		says          string
	}{
		{"good", []string{good}, codes.OK, ""},
		{"scheme in small letters", []string{"bearer " + cluster.Mint(api)}, codes.OK, ""},
		{"another service account", []string{"Bearer " + cluster.Mint(web)}, codes.PermissionDenied, "this service account may not call this service"},
		{"another audience", []string{"Bearer " + cluster.Mint(reports)}, codes.Unauthenticated, "the token is for another audience"},
		{"a lifetime of two days", []string{"Bearer " + cluster.Mint(expiring)}, codes.Unauthenticated, "the token lives too long"},
		{"no JWT", []string{"Bearer rubbish"}, codes.Unauthenticated, "the token is malformed"},
		{"no token", nil, codes.Unauthenticated, "a bearer token is required"},
		{"another scheme", []string{"Basic YTpi"}, codes.Unauthenticated, "a bearer token is required"},
		{"two tokens", []string{good, good}, codes.Unauthenticated, "the token is malformed"},
	} {
		for _, method := range []string{check, watch} {
			caller, err := call(t, conn, method, test.authorization...)
			s := status.Convert(err)
			if s.Code() != test.code || s.Message() != test.says || len(s.Details()) > 0 {
				t.Errorf("%s, %s: %v: want %v, %q and no details", test.name, method, err, test.code, test.says)
			}
			if want := map[bool]string{true: apiName}[test.code == codes.OK]; caller != want {
				t.Errorf("%s, %s: the handler's caller is %q: want %q", test.name, method, caller, want)
			}
		}
	}
}

// An error that is nobody's verdict lets nobody pass, and says nothing.
func TestStatusOfForeignErrors(t *testing.T) {
	for _, err := range []error{nil, errors.New("a secret")} {
		if s := kubejwtgrpc.Status(err); s.Code() != codes.Internal || strings.Contains(s.Message(), "secret") {
			t.Errorf("%v: %v: want Internal, and a fixed text", err, s)
		}
	}
}

// Where there are no keys, the client is told when to try again.
func TestRetryInfo(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	cluster.SetAvailable(false)
	w := newWorld(t, newVerifier(t, cluster, "*"), cluster, server{}, kubejwtgrpc.Options{})
	for _, method := range []string{check, watch} {
		_, err := call(t, w.dial(t), method, "Bearer "+cluster.Mint(api))
		s := status.Convert(err)
		if s.Code() != codes.Unavailable || len(s.Details()) != 1 {
			t.Fatalf("%s: %v with the details %v: want Unavailable with one", method, err, s.Details())
		}
		if info, ok := s.Details()[0].(*errdetails.RetryInfo); !ok || info.GetRetryDelay().AsDuration() < time.Second {
			t.Errorf("%s: the detail is %v: want RetryInfo of a second at least", method, s.Details()[0])
		}
	}
}

// Config.OnVerdict is told once of each call, one without a token included.
func TestOnVerdict(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	var told atomic.Pointer[string]
	v := newVerifier(t, cluster, "shop/api").WithOnVerdict(func(_ context.Context, _ kubejwt.Claims, err error) {
		outcome := kubejwt.Outcome(err)
		if old := told.Load(); old != nil {
			outcome = *old + " " + outcome
		}
		told.Store(&outcome)
	})
	conn := newWorld(t, v, cluster, server{}, kubejwtgrpc.Options{}).dial(t)
	call(t, conn, check, "Bearer "+cluster.Mint(api))
	call(t, conn, watch)
	call(t, conn, check, "a", "b")
	if got := *told.Load(); got != "accepted no_token malformed" {
		t.Errorf("it was told %q", got)
	}
}

func TestMethods(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	v := newVerifier(t, cluster, "shop/*", "ops/*")
	only := func(account string) *kubejwt.Verifier {
		narrow, err := v.WithServiceAccounts(account)
		if err != nil {
			t.Fatal(err)
		}
		return narrow
	}
	web, root := api, api
	web.ServiceAccount, root.Namespace = "web", "ops"
	type calls map[string]string // by method: who of api, web, root and anonymous may call
	for name, test := range map[string]struct {
		options kubejwtgrpc.Options
		want    calls
	}{
		"none":         {kubejwtgrpc.Options{}, calls{check: "api web root", watch: "api web root"}},
		"one method":   {kubejwtgrpc.Options{Methods: map[string]*kubejwt.Verifier{check: only("shop/api")}}, calls{check: "api", watch: "api web root"}},
		"a service":    {kubejwtgrpc.Options{Methods: map[string]*kubejwt.Verifier{"/grpc.health.v1.Health/*": only("ops/*")}}, calls{check: "root", watch: "root"}},
		"both":         {kubejwtgrpc.Options{Methods: map[string]*kubejwt.Verifier{"/grpc.health.v1.Health/*": only("ops/*"), watch: only("shop/web")}}, calls{check: "root", watch: "web"}},
		"public":       {kubejwtgrpc.Options{Public: []string{check}}, calls{check: "api web root anonymous", watch: "api web root"}},
		"public but 1": {kubejwtgrpc.Options{Public: []string{"/grpc.health.v1.Health/*"}, Methods: map[string]*kubejwt.Verifier{watch: only("shop/web")}}, calls{check: "api web root anonymous", watch: "web"}},
		"another":      {kubejwtgrpc.Options{Public: []string{"/grpc.health.v1.Healt/*"}}, calls{check: "api web root", watch: "api web root"}},
	} {
		conn := newWorld(t, v, cluster, server{}, test.options).dial(t)
		for method, want := range test.want {
			var may []string
			for _, who := range []struct{ name, authorization string }{
				{"api", "Bearer " + cluster.Mint(api)}, {"web", "Bearer " + cluster.Mint(web)}, {"root", "Bearer " + cluster.Mint(root)}, {"anonymous", "none"},
			} {
				if _, err := call(t, conn, method, who.authorization); err == nil {
					may = append(may, who.name)
				}
			}
			if got := strings.Join(may, " "); got != want {
				t.Errorf("%s: %s can be called by %q: want %q", name, method, got, want)
			}
		}
	}
}

func TestNewErrors(t *testing.T) {
	v := newVerifier(t, kubejwttest.NewCluster(t), "*")
	if _, err := kubejwtgrpc.New(nil, kubejwtgrpc.Options{}); err == nil {
		t.Error("a nil Verifier is taken")
	}
	for says, options := range map[string]kubejwtgrpc.Options{
		`"grpc.health.v1.Health/Check" is not`: {Public: []string{"grpc.health.v1.Health/Check"}},
		`"/Health" is not`:                     {Methods: map[string]*kubejwt.Verifier{"/Health": v}},
		`"*" is not`:                           {Methods: map[string]*kubejwt.Verifier{"*": v}},
		`"//Check" is not`:                     {Public: []string{"//Check"}},
		`"/a/b" is named before`:               {Public: []string{"/a/b"}, Methods: map[string]*kubejwt.Verifier{"/a/b": v}},
		`Methods["/a/b"] is nil`:               {Methods: map[string]*kubejwt.Verifier{"/a/b": nil}},
		// No call would ever match, and the Verifier of all others would judge it.
		`"/a/Delete*" is not`: {Methods: map[string]*kubejwt.Verifier{"/a/Delete*": v}},
		`"/*/*" is not`:       {Methods: map[string]*kubejwt.Verifier{"/*/*": v}},
		`"/*/b" is not`:       {Public: []string{"/*/b"}},
	} {
		if _, err := kubejwtgrpc.New(v, options); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: want %q", err, says)
		}
	}
}

// Interceptors that New did not make know no Verifier, and let nobody through.
func TestZeroInterceptors(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	token := cluster.Mint(api)
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "Bearer "+token))
	var zero kubejwtgrpc.Interceptors
	_, err := zero.Unary(ctx, nil, &grpc.UnaryServerInfo{FullMethod: check}, func(context.Context, any) (any, error) {
		t.Error("a unary call is let through")
		return nil, nil
	})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("a unary call: %v, want Unavailable", err)
	}
	err = zero.Stream(nil, contextStream{ctx: ctx}, &grpc.StreamServerInfo{FullMethod: watch}, func(any, grpc.ServerStream) error {
		t.Error("a stream is let through")
		return nil
	})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("a stream: %v, want Unavailable", err)
	}
}

// contextStream is a stream that has a context and nothing else.
type contextStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s contextStream) Context() context.Context { return s.ctx }

// A stream ends when its token does, if it is told to, and the handler with it. It
// does so in a bubble, whose time passes only while both ends wait.
func TestEndStreamsAtExpiry(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	config := cluster.Config("data-store")
	keys, err := kubejwt.ParsePublicKeys(cluster.PublicKeysPEM())
	if err != nil {
		t.Fatal(err)
	}
	config.Keys = keys // nothing outside the bubble is asked
	v, err := kubejwt.New(config)
	if err != nil {
		t.Fatal(err)
	}
	cert, roots := certificate(t)
	for _, ends := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) { testEndStreamsAtExpiry(t, cluster, v, cert, roots, ends) })
	}
}

func testEndStreamsAtExpiry(t *testing.T, cluster *kubejwttest.Cluster, v *kubejwt.Verifier, cert tls.Certificate, roots *x509.CertPool, ends bool) {
	s := server{watched: make(chan error, 1)}
	interceptors, err := kubejwtgrpc.New(v, kubejwtgrpc.Options{EndStreamsAtExpiry: ends})
	if err != nil {
		t.Fatal(err)
	}
	listener := bufconn.Listen(1 << 16)
	g := grpc.NewServer(append(interceptors.ServerOptions(), grpc.Creds(credentials.NewServerTLSFromCert(&cert)))...)
	healthpb.RegisterHealthServer(g, s)
	go g.Serve(listener)
	defer g.Stop()
	conn, err := grpc.NewClient("passthrough:///127.0.0.1",
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots})),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const lifetime = 10 * time.Minute
	short := api
	short.Lifetime = lifetime
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+cluster.Mint(short))
	ctx, cancel := context.WithTimeout(ctx, 2*lifetime)
	defer cancel()
	began := time.Now()
	stream, err := healthpb.NewHealthClient(conn).Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatalf("before the expiry: %v", err)
	}
	want, after := codes.DeadlineExceeded, 2*lifetime // the client's own
	if ends {
		want, after = codes.Unauthenticated, lifetime
	}
	if _, err := stream.Recv(); status.Code(err) != want || time.Since(began).Round(time.Second) != after {
		t.Errorf("ends at the expiry: %v: the stream ended with %v after %v: want %v after %v", ends, err, time.Since(began), want, after)
	}
	if cause := <-s.watched; ends && status.Code(cause) != codes.Unauthenticated {
		t.Errorf("the handler's context ended with %v", cause)
	}
}

// With the option, a stream whose handler is done ends at once, and a handler's
// panic still reaches those who recover it.
func TestEndStreamsAtExpiryOtherwise(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	recovering := grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
		defer func() {
			if said := recover(); said != nil {
				err = status.Errorf(codes.Internal, "recovered: %v", said)
			}
		}()
		return handler(srv, stream)
	})
	conn := newWorld(t, newVerifier(t, cluster, "*"), cluster, server{}, kubejwtgrpc.Options{EndStreamsAtExpiry: true}, recovering).dial(t)
	for service, want := range map[string]string{"": "EOF", "panic": "recovered: in a handler"} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+cluster.Mint(api))
		stream, err := healthpb.NewHealthClient(conn).Watch(ctx, &healthpb.HealthCheckRequest{Service: service})
		for err == nil {
			_, err = stream.Recv()
		}
		if err != io.EOF && !strings.Contains(err.Error(), want) || err == io.EOF && want != "EOF" {
			t.Errorf("%q: %v: want %s", service, err, want)
		}
	}
}

func TestCredentials(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	w := newWorld(t, newVerifier(t, cluster, "shop/api"), cluster, server{}, kubejwtgrpc.Options{})
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(cluster.Mint(api)), 0o600); err != nil {
		t.Fatal(err)
	}
	mounted := kubejwtgrpc.Credentials(kubejwt.TokenFile(file))
	conn := w.dial(t, grpc.WithPerRPCCredentials(mounted))
	for _, method := range []string{check, watch} {
		if caller, err := call(t, conn, method); err != nil || caller != apiName {
			t.Errorf("%s: %q, %v: want %s", method, caller, err, apiName)
		}
	}
	missing := kubejwtgrpc.Credentials(kubejwt.TokenFile("/nonexistent/token"))
	if _, err := call(t, w.dial(t, grpc.WithPerRPCCredentials(missing)), check); err == nil || !strings.Contains(err.Error(), "/nonexistent/token") {
		t.Errorf("without a file: %v: want an error that names it", err)
	}
}

func TestCredentialsWithoutSource(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	w := newWorld(t, newVerifier(t, cluster, "shop/api"), cluster, server{}, kubejwtgrpc.Options{})
	_, err := call(t, w.dial(t, grpc.WithPerRPCCredentials(kubejwtgrpc.Credentials(nil))), check)
	if err == nil || !strings.Contains(err.Error(), "the TokenSource is nil") {
		t.Errorf("%v: want that the TokenSource is nil", err)
	}
}

// Over a connection in the clear the token is not sent, whether the credentials
// are the connection's or the call's.
func TestCredentialsRefusePlaintext(t *testing.T) {
	var asked atomic.Int32
	source := kubejwtgrpc.Credentials(sourceFunc(func() (*oauth2.Token, error) {
		asked.Add(1)
		return &oauth2.Token{AccessToken: "secret"}, nil
	}))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	healthpb.RegisterHealthServer(g, server{})
	go g.Serve(listener)
	defer g.Stop()
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	if conn, err := grpc.NewClient(listener.Addr().String(), plain, grpc.WithPerRPCCredentials(source)); err == nil {
		conn.Close()
		t.Error("a connection in the clear takes them")
	}
	conn, err := grpc.NewClient(listener.Addr().String(), plain)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}, grpc.PerRPCCredentials(source))
	if err == nil || asked.Load() > 0 {
		t.Errorf("a call in the clear: %v, and the token was read %d times: want an error and none", err, asked.Load())
	}
	if _, err := source.GetRequestMetadata(t.Context()); err == nil {
		t.Error("outside a call the token is given away")
	}
}

type sourceFunc func() (*oauth2.Token, error)

func (f sourceFunc) Token() (*oauth2.Token, error) { return f() }
