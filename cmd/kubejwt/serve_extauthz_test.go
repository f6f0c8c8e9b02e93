package main

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/kubejwt/kubejwt/kubejwttest"
)

// dialExtAuthz serves ext_authz on a listener and returns a client, as Envoy is.
func dialExtAuthz(t *testing.T, g *guard) authv3.AuthorizationClient {
	t.Helper()
	return authv3.NewAuthorizationClient(dialGRPC(t, g))
}

func dialGRPC(t *testing.T, g *guard) *grpc.ClientConn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newGRPCServer(g, nil, slog.New(slog.DiscardHandler))
	go s.Serve(listener)
	t.Cleanup(s.Stop)
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// envoyAsks is what Envoy sends for a GET with these headers.
func envoyAsks(policy string, headers map[string]string) *authv3.CheckRequest {
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		ContextExtensions: map[string]string{"policy": policy},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "GET", Path: "/orders?policy=any", Headers: headers, Body: "policy=any",
		}},
	}}
}

func askOverGRPC(t *testing.T, client authv3.AuthorizationClient, r *authv3.CheckRequest) *authv3.CheckResponse {
	t.Helper()
	response, err := client.Check(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// Over gRPC the answers are those that HTTP has.
func TestExtAuthz(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	g := newTestGuard(t, cluster, "-policy", "data-store=shop/api", "-policy", "any=*")
	client := dialExtAuthz(t, g)
	other := caller
	other.ServiceAccount = "web"
	good := "Bearer " + cluster.Mint(caller)
	for _, test := range []struct {
		name, policy string
		headers      map[string]string
		status       int
		code         codes.Code
	}{
		{"good", "data-store", map[string]string{"authorization": good}, 200, codes.OK},
		{"other account", "data-store", map[string]string{"authorization": "Bearer " + cluster.Mint(other)}, 403, codes.PermissionDenied},
		{"the same, where all may call", "any", map[string]string{"authorization": "Bearer " + cluster.Mint(other)}, 200, codes.OK},
		{"no token", "data-store", nil, 401, codes.Unauthenticated},
		{"two tokens, as Envoy joins them", "data-store", map[string]string{"authorization": good + "," + good}, 401, codes.Unauthenticated},
		{"another scheme", "data-store", map[string]string{"authorization": "Basic YTpi"}, 401, codes.Unauthenticated},
		{"the policy in a header", "", map[string]string{"authorization": good, "policy": "any", "x-policy": "any"}, 404, codes.NotFound},
		{"no such policy", "nobody", map[string]string{"authorization": good}, 404, codes.NotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			response := askOverGRPC(t, client, envoyAsks(test.policy, test.headers))
			if got := codes.Code(response.GetStatus().GetCode()); got != test.code {
				t.Errorf("code %v: want %v", got, test.code)
			}
			if test.status == 200 {
				if response.GetOkResponse() == nil {
					t.Errorf("%v: want an OkResponse", response)
				}
				return
			}
			var overHTTP *http.Response
			if value := test.headers["authorization"]; value != "" {
				overHTTP = ask(g, "GET", "/auth/"+test.policy, "", "Authorization", value)
			} else {
				overHTTP = ask(g, "GET", "/auth/"+test.policy, "")
			}
			mustAnswerAs(t, response.GetDeniedResponse(), overHTTP, test.status)
		})
	}
}

// mustAnswerAs compares a refusal over gRPC with the one over HTTP.
func mustAnswerAs(t *testing.T, denied *authv3.DeniedHttpResponse, overHTTP *http.Response, status int) {
	t.Helper()
	if got := int(denied.GetStatus().GetCode()); got != status || overHTTP.StatusCode != status {
		t.Errorf("status %d, over HTTP %d: want %d", got, overHTTP.StatusCode, status)
	}
	headers := make(http.Header)
	for _, option := range denied.GetHeaders() {
		headers.Add(option.GetHeader().GetKey(), option.GetHeader().GetValue())
	}
	for _, name := range []string{"WWW-Authenticate", "Retry-After", "Content-Type"} {
		if got, want := headers.Get(name), overHTTP.Header.Get(name); got != want {
			t.Errorf("%s: %q: want %q", name, got, want)
		}
	}
	body := make([]byte, 1000)
	n, _ := overHTTP.Body.Read(body)
	if denied.GetBody() != string(body[:n]) {
		t.Errorf("body %q: want %q", denied.GetBody(), body[:n])
	}
}

// The headers that tell the caller are set, and those of a client that the token
// says nothing about are removed: between them, all eight.
func TestExtAuthzIdentity(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	client := dialExtAuthz(t, newTestGuard(t, cluster, "-policy", "data-store=shop/api"))
	bare := caller
	bare.Secret.Name = "a-secret"
	for _, test := range []struct {
		token   kubejwttest.Token
		set     int
		removed []string
	}{
		{caller, 8, nil},
		{bare, 5, []string{"kubejwt-pod", "kubejwt-pod-uid", "kubejwt-node"}},
	} {
		ok := askOverGRPC(t, client, envoyAsks("data-store", map[string]string{
			"authorization": "Bearer " + cluster.Mint(test.token), "kubejwt-pod": "spoofed",
		})).GetOkResponse()
		seen := make(map[string]string)
		for _, option := range ok.GetHeaders() {
			seen[option.GetHeader().GetKey()] = option.GetHeader().GetValue()
			if option.GetAppendAction() != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
				t.Errorf("%s: %v: want it to replace the client's", option.GetHeader().GetKey(), option.GetAppendAction())
			}
		}
		if len(seen) != test.set || seen["kubejwt-username"] != "system:serviceaccount:shop:api" || seen["kubejwt-audience"] != "data-store" {
			t.Errorf("the headers set are %v", seen)
		}
		if got := strings.Join(ok.GetHeadersToRemove(), " "); got != strings.Join(test.removed, " ") {
			t.Errorf("the headers removed are %q: want %q", got, test.removed)
		}
		for _, name := range identityHeaders() {
			if _, set := seen[strings.ToLower(name)]; !set && !strings.Contains(strings.Join(ok.GetHeadersToRemove(), " "), strings.ToLower(name)) {
				t.Errorf("%s is neither set nor removed", name)
			}
		}
	}
}

// Without keys, the answer tells Envoy's client when to try again.
func TestExtAuthzOutage(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	cluster.SetAvailable(false)
	g := newTestGuard(t, cluster, "-policy", "data-store=shop/api")
	response := askOverGRPC(t, dialExtAuthz(t, g), envoyAsks("data-store", map[string]string{"authorization": "Bearer " + cluster.Mint(caller)}))
	var retry string
	for _, option := range response.GetDeniedResponse().GetHeaders() {
		if option.GetHeader().GetKey() == "retry-after" {
			retry = option.GetHeader().GetValue()
		}
	}
	if status := response.GetDeniedResponse().GetStatus().GetCode(); status != 503 || retry == "" || codes.Code(response.GetStatus().GetCode()) != codes.Unavailable {
		t.Errorf("%v: want 503 and Retry-After", response)
	}
}

// Envoy can ask over gRPC whether to send its checks here.
func TestExtAuthzHealth(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	cluster.SetAvailable(false)
	g := newTestGuard(t, cluster, "-policy", "a=*")
	client := healthv1.NewHealthClient(dialGRPC(t, g))
	mustBe := func(when, service, want string) {
		t.Helper()
		response, err := client.Check(t.Context(), &healthv1.HealthCheckRequest{Service: service})
		got := response.GetStatus().String()
		if err != nil {
			got = status.Code(err).String()
		}
		if got != want {
			t.Errorf("%s: %q: %s, want %s", when, service, got, want)
		}
	}
	mustBe("without keys", "", "NOT_SERVING")

	cluster.SetAvailable(true)
	g = newTestGuard(t, cluster, "-policy", "a=*")
	client = healthv1.NewHealthClient(dialGRPC(t, g))
	mustBe("with keys", "", "SERVING")
	mustBe("with keys", "envoy.service.auth.v3.Authorization", "SERVING")
	mustBe("with keys", "a", "NotFound")

	g.stops.Store(true)
	mustBe("near the end", "", "NOT_SERVING")
}

// A fault of ours denies one request. It ends neither the process nor the connection.
func TestExtAuthzPanic(t *testing.T) {
	g := newTestGuard(t, kubejwttest.NewCluster(t), "-policy", "a=*")
	client := dialExtAuthz(t, g)
	good := g.judge.Swap(nil)
	if _, err := client.Check(t.Context(), envoyAsks("a", nil)); status.Code(err) != codes.Internal {
		t.Errorf("a check that panics: %v: want Internal", err)
	}
	g.judge.Store(good)
	if got := askOverGRPC(t, client, envoyAsks("a", nil)).GetDeniedResponse().GetStatus().GetCode(); got != http.StatusUnauthorized {
		t.Errorf("the next one: %v", got)
	}
}

// One client can't take all of the server, and one that never sends its request
// does not keep it from ending.
func TestExtAuthzLimits(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newGRPCServer(newTestGuard(t, kubejwttest.NewCluster(t), "-policy", "a=*"), nil, slog.New(slog.DiscardHandler))
	go s.Serve(listener)
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	// The preface, and the server's SETTINGS: a header of 9 bytes, then pairs of
	// an ID of 2 bytes and a value of 4 (RFC 9113, section 6.5).
	conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"))
	header := make([]byte, 9)
	if _, err := io.ReadFull(conn, header); err != nil {
		t.Fatal(err)
	}
	settings := make([]byte, header[2])
	if _, err := io.ReadFull(conn, settings); err != nil {
		t.Fatal(err)
	}
	got := make(map[uint16]uint32)
	for ; len(settings) >= 6; settings = settings[6:] {
		got[binary.BigEndian.Uint16(settings)] = binary.BigEndian.Uint32(settings[2:])
	}
	const maxConcurrentStreams, maxHeaderListSize = 3, 6
	if got[maxConcurrentStreams] != maxChecks || got[maxHeaderListSize] != maxHeaderBytes {
		t.Errorf("the settings are %v", got)
	}

	client, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.NewStream(t.Context(), &grpc.StreamDesc{}, authv3.Authorization_Check_FullMethodName); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	ended := make(chan struct{})
	go func() { defer close(ended); s.Shutdown(ctx) }()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("it has not ended after 10 s")
		s.Stop()
	}
}

// Envoy sends raw headers if it is told to, and then two of one name as two.
func TestExtAuthzRawHeaders(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	client := dialExtAuthz(t, newTestGuard(t, cluster, "-policy", "data-store=shop/api"))
	good := &corev3.HeaderValue{Key: "authorization", RawValue: []byte("Bearer " + cluster.Mint(caller))}
	for want, headers := range map[int32][]*corev3.HeaderValue{
		int32(codes.OK):              {{Key: ":method", RawValue: []byte("GET")}, good},
		int32(codes.Unauthenticated): {good, good},
	} {
		r := envoyAsks("data-store", nil)
		r.Attributes.Request.Http.HeaderMap = &corev3.HeaderMap{Headers: headers}
		if got := askOverGRPC(t, client, r).GetStatus().GetCode(); got != want {
			t.Errorf("%d headers: code %d: want %d", len(headers), got, want)
		}
	}
	if got := askOverGRPC(t, client, &authv3.CheckRequest{}).GetStatus().GetCode(); got != int32(codes.NotFound) {
		t.Errorf("an empty request: code %d", got)
	}
}

// checkWith is a request at the policy data-store, changed by change.
func checkWith(change func(*authv3.AttributeContext)) *authv3.CheckRequest {
	r := envoyAsks("data-store", nil)
	change(r.Attributes)
	return r
}

// Whatever a request over gRPC looks like, it gets in only with one good token, at the
// policy that context_extensions names. Others get a fixed text.
func TestExtAuthzOddRequests(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	client := dialExtAuthz(t, newTestGuard(t, cluster, "-policy", "data-store=shop/api"))
	good, mark := "Bearer "+cluster.Mint(caller), "m4rk"
	extensions := func(pairs map[string]string) *authv3.CheckRequest {
		return checkWith(func(a *authv3.AttributeContext) {
			a.ContextExtensions, a.Request.Http.Headers = pairs, map[string]string{"authorization": good, "policy": "data-store"}
		})
	}
	inMap := func(headers map[string]string) *authv3.CheckRequest { return envoyAsks("data-store", headers) }
	raw := func(values ...*corev3.HeaderValue) *authv3.CheckRequest {
		return checkWith(func(a *authv3.AttributeContext) { a.Request.Http.HeaderMap = &corev3.HeaderMap{Headers: values} })
	}
	both := inMap(map[string]string{"authorization": good})
	both.Attributes.Request.Http.HeaderMap = &corev3.HeaderMap{Headers: []*corev3.HeaderValue{{Key: "authorization", Value: good}}}
	metadata := extensions(nil)
	metadata.Attributes.MetadataContext = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
		"policy": {Fields: map[string]*structpb.Value{"policy": structpb.NewStringValue("data-store")}},
	}}
	for _, test := range []struct {
		name   string
		r      *authv3.CheckRequest
		status int // 0: of gRPC's own
	}{
		{"good", inMap(map[string]string{"authorization": good, "policy": "nobody"}), 200},
		{"good, in the other form", raw(&corev3.HeaderValue{Key: "authorization", Value: good}), 200},
		{"good, other keys beside", extensions(map[string]string{"policy": "data-store", "Policy": "nobody"}), 200},
		{"good, in upper case", inMap(map[string]string{"Authorization": good}), 200},

		{"empty", &authv3.CheckRequest{}, 404},
		{"no policy", extensions(nil), 404},
		{"empty policy", extensions(map[string]string{"policy": ""}), 404},
		{"a policy under another key", extensions(map[string]string{"Policy": "data-store", "": "data-store"}), 404},
		{"unknown policy", extensions(map[string]string{"policy": mark}), 404},
		{"policy in upper case", extensions(map[string]string{"policy": "Data-Store"}), 404},
		{"policy as a path", extensions(map[string]string{"policy": "data-store/orders"}), 404},
		{"policy as a path in front", extensions(map[string]string{"policy": "/auth/data-store"}), 404},
		{"policy in the metadata", metadata, 404},

		{"no request", checkWith(func(a *authv3.AttributeContext) { a.Request = nil }), 401},
		{"no HTTP request", checkWith(func(a *authv3.AttributeContext) { a.Request.Http = nil }), 401},
		{"an empty header map", raw(), 401},
		{"an empty header", raw(&corev3.HeaderValue{}), 401},
		{"an empty name", inMap(map[string]string{"": good}), 401},
		{"in another header", inMap(map[string]string{"x-authorization": good, "authorization2": good, "proxy-authorization": good}), 401},
		{"in two cases", inMap(map[string]string{"authorization": good, "Authorization": good}), 401},
		{"in both forms", both, 401},
		{"two in one value", inMap(map[string]string{"authorization": good + "," + good}), 401},
		{"another scheme behind", inMap(map[string]string{"authorization": good + ", Basic " + mark}), 401},
		{"another scheme in front", inMap(map[string]string{"authorization": "Basic " + mark + ", " + good}), 401},
		{"an empty value in front", inMap(map[string]string{"authorization": "," + good}), 401},
		{"a comma behind", inMap(map[string]string{"authorization": good + ","}), 401},
		{"a raw value beside", raw(&corev3.HeaderValue{Key: "authorization", Value: good, RawValue: []byte("Bearer " + mark)}), 401},
		{"no UTF-8", raw(&corev3.HeaderValue{Key: "authorization", RawValue: []byte("Bearer \xff" + mark)}), 401},
		{"a line break", inMap(map[string]string{"authorization": good + "\r\nKubejwt-Username: " + mark}), 401},
		{"a zero byte", inMap(map[string]string{"authorization": good + "\x00"}), 401},
		{"large", inMap(map[string]string{"authorization": "Bearer " + strings.Repeat(mark, 100_000)}), 401},
		{"many headers", raw(slices.Repeat([]*corev3.HeaderValue{{Key: "authorization", Value: mark}}, 20_000)...), 401},
		{"too large", inMap(map[string]string{"authorization": good, "x": strings.Repeat("x", maxCheckBytes)}), 0},
	} {
		response, err := client.Check(t.Context(), test.r)
		if test.status == 0 {
			if status.Code(err) != codes.ResourceExhausted {
				t.Errorf("%s: %v, %v: want ResourceExhausted", test.name, response, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v: want an answer", test.name, err)
			continue
		}
		denied, ok := response.GetDeniedResponse(), response.GetOkResponse() != nil
		if ok != (test.status == 200) || ok != (response.GetStatus().GetCode() == int32(codes.OK)) || !ok && int(denied.GetStatus().GetCode()) != test.status {
			t.Errorf("%s: %v: want status %d", test.name, response, test.status)
		}
		if said := response.String(); strings.Contains(said, mark) || strings.Contains(said, good) {
			t.Errorf("%s: the answer %s has what the request said", test.name, said)
		}
	}
}

// Who stops waiting gets in nowhere, and serve answers the next one.
func TestExtAuthzCancelled(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	g := newTestGuard(t, cluster, "-policy", "data-store=shop/api")
	client := dialExtAuthz(t, g)
	r := envoyAsks("data-store", map[string]string{"authorization": "Bearer " + cluster.Mint(caller)})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if response, err := client.Check(gone, r); status.Code(err) != codes.Canceled {
		t.Errorf("%v, %v: want Canceled", response, err)
	}
	// As it is when the client cancels after serve has got the request: there are no keys yet.
	response, err := (&extAuthz{guard: g}).Check(gone, r)
	if got := response.GetDeniedResponse().GetStatus().GetCode(); err != nil || got != http.StatusServiceUnavailable {
		t.Errorf("%v, %v: want 503", response, err)
	}
	if response := askOverGRPC(t, client, r); response.GetOkResponse() == nil {
		t.Errorf("the next one: %v: want OK", response)
	}
}

// Envoy's keepalive pings keep a connection, with calls under way and without. A flood
// of them ends it.
func TestExtAuthzKeepalive(t *testing.T) {
	g := newTestGuard(t, kubejwttest.NewCluster(t), "-policy", "a=*")
	const noError, enhanceYourCalm = 0, 11
	for _, test := range []struct {
		name     string
		interval time.Duration
		hasCall  bool
		code     uint32
		after    time.Duration // at least
	}{
		{"every 30 s", 30 * time.Second, true, noError, maxConnectionAge * 8 / 10},
		{"every 30 s, idle", 30 * time.Second, false, noError, idleTimeout},
		{"every 10 s", 10 * time.Second, true, noError, maxConnectionAge * 8 / 10},
		{"every 10 s, idle", 10 * time.Second, false, noError, idleTimeout},
		{"every second", time.Second, true, enhanceYourCalm, 0},
		{"every second, idle", time.Second, false, enhanceYourCalm, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			client, conn := net.Pipe()
			listener := &oneConn{conns: make(chan net.Conn, 1)}
			listener.conns <- conn
			s := newGRPCServer(g, nil, slog.New(slog.DiscardHandler))
			go s.Serve(listener)
			defer s.Stop()
			defer client.Close()
			code, after := pingUntilGoAway(t, client, test.interval, test.hasCall)
			if code != test.code || after < test.after {
				t.Errorf("%s: GOAWAY with code %d after %v: want %d, after %v", test.name, code, after, test.code, test.after)
			}
		})
	}
}

// pingUntilGoAway sends pings, and a call's headers first if there is to be a call. It
// returns the code of the server's GOAWAY (RFC 9113, section 6.8), and when it came.
func pingUntilGoAway(t *testing.T, conn net.Conn, interval time.Duration, hasCall bool) (uint32, time.Duration) {
	t.Helper()
	began := time.Now()
	codes := make(chan uint32, 1)
	go func() {
		header := make([]byte, 9)
		for {
			if _, err := io.ReadFull(conn, header); err != nil {
				return
			}
			payload := make([]byte, int(header[0])<<16|int(header[1])<<8|int(header[2]))
			if _, err := io.ReadFull(conn, payload); err != nil {
				return
			}
			if header[3] == 7 {
				codes <- binary.BigEndian.Uint32(payload[4:])
				return
			}
		}
	}()
	io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	if hasCall {
		// POST, http, and literals for :path, :authority and content-type (RFC 7541,
		// appendix A). The request itself never follows.
		path := authv3.Authorization_Check_FullMethodName
		block := "\x83\x86\x04" + string(rune(len(path))) + path + "\x01\x01x\x0f\x10\x10application/grpc"
		io.WriteString(conn, "\x00\x00"+string(rune(len(block)))+"\x01\x04\x00\x00\x00\x01"+block)
	}
	for {
		select {
		case code := <-codes:
			return code, time.Since(began)
		case <-time.After(interval):
			conn.SetWriteDeadline(time.Now().Add(interval))
			io.WriteString(conn, "\x00\x00\x08\x06\x00\x00\x00\x00\x00kubejwt!")
		}
	}
}

// oneConn is a listener with one connection.
type oneConn struct {
	conns chan net.Conn
	once  sync.Once
}

func (l *oneConn) Accept() (net.Conn, error) {
	conn, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (l *oneConn) Close() error {
	l.once.Do(func() { close(l.conns) })
	return nil
}

func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }
