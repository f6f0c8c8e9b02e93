package connect_test

import (
	"net/http/httptest"
	"testing"

	"connectrpc.com/connect"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/kubejwt/kubejwt"
	example "github.com/kubejwt/kubejwt/examples/connect"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

// Clients of each protocol get the caller's name, or the code that says why not.
func TestConnect(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	config := cluster.Config("data-store")
	config.ServiceAccounts = []string{"shop/api"}
	v, err := kubejwt.New(config)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(example.NewHandler(v))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()

	good := kubejwttest.Token{Namespace: "shop", ServiceAccount: "api", Audiences: []string{"data-store"}}
	other := good
	other.ServiceAccount = "web"
	for protocol, option := range map[string]connect.ClientOption{
		"Connect": connect.WithProtoJSON(), "gRPC": connect.WithGRPC(), "gRPC-Web": connect.WithGRPCWeb(),
	} {
		client := connect.NewClient[healthpb.HealthCheckRequest, healthpb.HealthCheckResponse](server.Client(), server.URL+example.Procedure, option)
		for _, test := range []struct {
			name, token, caller string
			code                connect.Code
		}{
			{"good", cluster.Mint(good), "system:serviceaccount:shop:api", 0},
			{"another service account", cluster.Mint(other), "", connect.CodePermissionDenied},
			{"no token", "", "", connect.CodeUnauthenticated},
		} {
			request := connect.NewRequest(&healthpb.HealthCheckRequest{})
			if test.token != "" {
				request.Header().Set("Authorization", "Bearer "+test.token)
			}
			response, err := client.CallUnary(t.Context(), request)
			if test.code == 0 && err == nil {
				if got := response.Header().Get("Caller"); got != test.caller {
					t.Errorf("%s, %s: the caller is %q: want %q", protocol, test.name, got, test.caller)
				}
				continue
			}
			if err == nil || connect.CodeOf(err) != test.code {
				t.Errorf("%s, %s: %v: want %v", protocol, test.name, err, test.code)
			}
		}
	}
}
