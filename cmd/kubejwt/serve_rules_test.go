package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/kubejwt/kubejwt/kubejwttest"
)

// Where there are several audiences, the service of one can't use its callers'
// tokens at another.
func TestServeAudiences(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	flags := clusterFlags(cluster)
	var trust []string // without the -audience
	for i := 0; i < len(flags); i++ {
		if flags[i] == "-audience" {
			i++
			continue
		}
		trust = append(trust, flags[i])
	}
	g := newTestServer(t, append(trust, "-policy", "data-store@data-store=shop/api", "-policy", "reports@https://reports.example/?a=b@c=shop/api")...).guard
	reports, both := caller, caller
	reports.Audiences = []string{"https://reports.example/?a=b@c"}
	both.Audiences = []string{"https://reports.example/?a=b@c", "data-store"}
	for _, test := range []struct {
		name, target string
		token        kubejwttest.Token
		status       int
		audience     string
	}{
		{"its own", "/auth/data-store", caller, 200, "data-store"},
		{"its own, with signs", "/auth/reports", reports, 200, "https://reports.example/?a=b@c"},
		{"replayed", "/auth/reports", caller, 401, ""},
		{"replayed, the other way", "/auth/data-store", reports, 401, ""},
		{"a token for both", "/auth/data-store", both, 200, "data-store"},
		{"a token for both, at the other", "/auth/reports", both, 200, "https://reports.example/?a=b@c"},
	} {
		response := ask(g, "GET", test.target, cluster.Mint(test.token))
		if response.StatusCode != test.status || response.Header.Get("Kubejwt-Audience") != test.audience {
			t.Errorf("%s: status %d, audience %q: want %d, %q", test.name, response.StatusCode, response.Header.Get("Kubejwt-Audience"), test.status, test.audience)
		}
	}

	for says, args := range map[string][]string{
		"use its callers' tokens at another service":                        {"-audience", "a", "-audience", "b", "-policy", "x=a/b"},
		"-policy y: there are several audiences":                            {"-audience", "a", "-audience", "b", "-policy", "x@a=a/b", "-policy", "y=a/b"},
		"-audience is required":                                             {"-policy", "x@a=a/b", "-policy", "y=a/b"},
		`-audience "b": every policy names another`:                         {"-audience", "b", "-policy", "x@a=a/b"},
		"the audience after @ is empty":                                     {"-policy", "x@=a/b"},
		`-audience "a\x00": want printable ASCII, which fits into a header`: {"-policy", "x@a\x00=a/b"},
		`-policy x: "shop" is not`:                                          {"-policy", "x@a=shop"},
	} {
		if _, err := tryServer(process{}, append(trust, args...)...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v: want %q", args, err, says)
		}
	}
}

// The token can come in a header of another name, with or without Bearer.
func TestServeTokenHeader(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	token := cluster.Mint(caller)
	g := newTestGuard(t, cluster, "-policy", "data-store=shop/api", "-token-header", "x-client-id")
	envoy := dialExtAuthz(t, g)
	for _, test := range []struct {
		name    string
		headers []string
		status  int
	}{
		{"bare", []string{"X-Client-Id", token}, 200},
		{"with Bearer", []string{"X-Client-Id", "Bearer " + token}, 200},
		{"two", []string{"X-Client-Id", token, "X-Client-Id", token}, 401},
		{"empty", []string{"X-Client-Id", ""}, 401},
		{"another scheme", []string{"X-Client-Id", "Basic " + token}, 401},
		{"in the usual header", []string{"Authorization", "Bearer " + token}, 401},
		{"none", nil, 401},
	} {
		response := ask(g, "GET", "/auth/data-store", "", test.headers...)
		if response.StatusCode != test.status {
			t.Errorf("%s: status %d: want %d", test.name, response.StatusCode, test.status)
		}
		joined := make(map[string]string) // as Envoy joins them
		for i := 0; i < len(test.headers); i += 2 {
			name := strings.ToLower(test.headers[i])
			joined[name] = strings.TrimPrefix(joined[name]+","+test.headers[i+1], ",")
		}
		overGRPC := askOverGRPC(t, envoy, envoyAsks("data-store", joined))
		if ok := overGRPC.GetOkResponse() != nil; ok != (test.status == http.StatusOK) {
			t.Errorf("%s: over gRPC: %v", test.name, overGRPC)
		}
	}
}

// A header that a client can send a token in is taken, whatever its name. Others, in
// which none can arrive, are refused at the start.
func TestServeTokenHeaderNames(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	token := cluster.Mint(caller)
	flags := append(clusterFlags(cluster), "-policy", "data-store=shop/api", "-token-header")
	for _, name := range []string{
		"Authorization", "authorization", "Proxy-Authorization", "X-Client-Id", "X_Client_Id", "X-Original-Authorization",
		"X-Auth-Request-Token", "X-Auth-Request-Access-Token", "X-Forwarded-Access-Token", "X-Forwarded-Authorization",
		"Hosts", "X-Host", "X-Kubejwt-Token", "Kubejwt",
	} {
		g := newTestServer(t, append(flags, name)...).guard
		if got := ask(g, "GET", "/auth/data-store", "", name, "Bearer "+token).StatusCode; got != http.StatusOK {
			t.Errorf("-token-header %s: status %d: want 200", name, got)
		}
	}
	for says, names := range map[string][]string{
		"want the name of a header": {"", "X Client", "X-Client:", ":authority", "é"},
		"must hold only a token":    {"Cookie", "cookie"},
		"serve sets the Kubejwt-":   {"Kubejwt-Username", "kubejwt_pod", "KUBEJWT-TOKEN"},
		"themselves": {
			"Host", "content-length", "CONNECTION", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
			"Expect", "Forwarded", "via", "X-Real-IP", "X-Request-Id", "x_request_id", "X-Forwarded-For", "X-Forwarded-Proto",
			"X-Forwarded-Uri", "X-Original-URI", "X-Original-URL", "X-Original-Method",
		},
	} {
		for _, name := range names {
			_, err := tryServer(process{}, append(flags, name)...)
			if err == nil || !strings.Contains(err.Error(), "-token-header "+quoted(name)) || !strings.Contains(err.Error(), says) {
				t.Errorf("-token-header %q: %v: want an error that names it, and %q", name, err, says)
			}
		}
	}
}
