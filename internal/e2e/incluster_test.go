package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kubejwt/kubejwt"
)

// mount makes a folder as kubelet does for a pod of the service account
// data-store, with the default token.
func (c *cluster) mount(t testing.TB) (folder string) {
	t.Helper()
	folder = t.TempDir()
	c.renewMounted(t, folder)
	for _, name := range []string{"token", "ca.crt", "namespace"} {
		noError(t, os.Symlink(filepath.Join("..data", name), filepath.Join(folder, name)))
	}
	return folder
}

// renewMounted swaps ..data for a new one with a new token, as kubelet does
// before the old token ends.
func (c *cluster) renewMounted(t testing.TB, folder string) {
	t.Helper()
	account := c.serviceAccount(t, "prod", "data-store")
	pod := c.pod(t, account, "data-store-0", "")
	data := must(os.MkdirTemp(folder, "..2026_11_24_00_00_00."))
	for name, content := range map[string][]byte{
		"token":     []byte(c.mint(t, account, toPod(pod), 3607*time.Second)),
		"ca.crt":    must(os.ReadFile(c.caFile)),
		"namespace": []byte("prod"),
	} {
		noError(t, os.WriteFile(filepath.Join(data, name), content, 0o644))
	}
	noError(t, os.Symlink(filepath.Base(data), filepath.Join(folder, "..data_tmp")))
	noError(t, os.Rename(filepath.Join(folder, "..data_tmp"), filepath.Join(folder, "..data")))
}

// in is all that InCluster is told of a folder which is not at kubelet's path.
func in(folder string) kubejwt.RemoteKeys {
	return kubejwt.RemoteKeys{CAFile: filepath.Join(folder, "ca.crt"), BearerTokenFile: filepath.Join(folder, "token")}
}

// inCluster is a service in a pod of the cluster. All it has is the mounted
// folder and two environment variables.
func (c *cluster) inCluster(t *testing.T, host string, keys kubejwt.RemoteKeys) *kubejwt.Verifier {
	t.Helper()
	return c.inClusterWith(t, host, keys, 0)
}

func (c *cluster) inClusterWith(t *testing.T, host string, keys kubejwt.RemoteKeys, cacheSize int) *kubejwt.Verifier {
	t.Helper()
	t.Setenv("KUBERNETES_SERVICE_HOST", host)
	t.Setenv("KUBERNETES_SERVICE_PORT", c.port)
	v, err := kubejwt.InCluster(kubejwt.Config{
		Audiences:       []string{service},
		ServiceAccounts: []string{"api/api"},
		Keys:            keys,
		CacheSize:       cacheSize,
	})
	noError(t, err)
	return v
}

func TestInCluster(t *testing.T) {
	c := sharedCluster(t, "RS256")
	account := c.serviceAccount(t, "api", "api")
	node := c.node(t, "node-1")
	pod := c.pod(t, account, "api-0", node.Name)
	token := c.mint(t, account, toPod(pod), time.Hour, service)
	for _, host := range []string{"127.0.0.1", "localhost"} {
		v := c.inCluster(t, host, in(c.mount(t)))
		claims, err := v.Verify(t.Context(), token)
		noError(t, err)
		want := kubejwt.Claims{
			Issuer: issuer, Subject: "system:serviceaccount:api:api", Audience: service, Namespace: "api",
			ServiceAccount: kubejwt.Object{Name: account.Name, UID: string(account.UID)},
			Pod:            kubejwt.Object{Name: pod.Name, UID: string(pod.UID)},
			Node:           kubejwt.Object{Name: node.Name, UID: string(node.UID)},
			ID:             claims.ID, IssuedAt: claims.IssuedAt, NotBefore: claims.IssuedAt, Expiry: claims.IssuedAt.Add(time.Hour),
		}
		if claims != want || claims.ID == "" || time.Since(claims.IssuedAt).Abs() > time.Minute {
			t.Errorf("by %s: got %+v\nwant %+v", host, claims, want)
		}
	}
}

// The default RBAC lets every service account read the keys, and nobody else.
func TestInClusterWithoutAccess(t *testing.T) {
	rejected := filepath.Join(t.TempDir(), "token")
	noError(t, os.WriteFile(rejected, []byte("not-a-token"), 0o600))
	for _, tt := range []struct {
		name   string
		alg    string
		bearer string
		want   string
	}{
		{"no token file", "RS256", "", "status 403 (no bearer token was sent"},
		{"no token file, and anonymous requests are off", "ES256", "", "status 401 (no bearer token was sent"},
		{"a token that is none", "RS256", rejected, "status 401 (a bearer token was sent)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := sharedCluster(t, tt.alg)
			v := c.inCluster(t, "127.0.0.1", kubejwt.RemoteKeys{CAFile: c.caFile, BearerTokenFile: tt.bearer})
			token := c.mint(t, c.serviceAccount(t, "api", "api"), nil, time.Hour, service)
			expectUnavailable(t, v, token, tt.want)
			expectUnavailable(t, v, token, "ClusterRole system:service-account-issuer-discovery")
		})
	}
}

// The test kit's API server, which is asked the same in kubejwttest, answers
// with these statuses too.
func TestStatuses(t *testing.T) {
	c := sharedCluster(t, "RS256")
	account := c.serviceAccount(t, "api", "api")
	token := c.mint(t, account, nil, time.Hour, issuer)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(must(os.ReadFile(c.caFile)))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	for _, tt := range []struct {
		name, method, path, authorization string
		status                            int
	}{
		{"a service account's token", "GET", "/openid/v1/jwks", "Bearer " + token, 200},
		{"a scheme in lower case", "GET", "/openid/v1/jwks", "bearer " + token, 200},
		{"no token", "GET", "/openid/v1/jwks", "", 403},
		{"no scheme", "GET", "/openid/v1/jwks", token, 403},
		{"another scheme", "GET", "/openid/v1/jwks", "Basic YTpi", 403},
		{"rubbish", "GET", "/openid/v1/jwks", "Bearer rubbish", 401},
		{"a token for another audience", "GET", "/openid/v1/jwks", "Bearer " + c.mint(t, account, nil, time.Hour, service), 401},
		{"a POST", "POST", "/openid/v1/jwks", "Bearer " + token, 403},
		{"another path", "GET", "/openid/v1/jwks/foo", "Bearer " + token, 403},
		{"another path, no token", "GET", "/openid/v1/jwks/foo", "", 403},
	} {
		request := must(http.NewRequestWithContext(t.Context(), tt.method, c.address()+tt.path, nil))
		if tt.authorization != "" {
			request.Header.Set("Authorization", tt.authorization)
		}
		response, err := client.Do(request)
		noError(t, err)
		response.Body.Close()
		if response.StatusCode != tt.status {
			t.Errorf("%s: status %d: want %d", tt.name, response.StatusCode, tt.status)
		}
	}
}
