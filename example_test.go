package kubejwt_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

// app is the service behind the Verifier.
var app = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	claims, _ := kubejwt.FromContext(r.Context())
	fmt.Fprintf(w, "hello, %s/%s", claims.Namespace, claims.ServiceAccount.Name)
})

// A service in a pod: the API server, its CA, this pod's own token and the
// issuer come from the pod.
func Example() {
	v, err := kubejwt.InCluster(kubejwt.Config{
		Audiences:       []string{"data-store"},          // who we are
		ServiceAccounts: []string{"shop/api", "batch/*"}, // who may call
	})
	if err != nil {
		fmt.Println(err) // this is no pod
		return
	}
	http.Handle("/", v.Handler(app)) // kubejwt.FromContext(r.Context()) in app
	log.Fatal(http.ListenAndServeTLS(":8443", "tls.crt", "tls.key", nil))
	// Output: kubejwt: not in a cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not both set: outside a pod, as on a laptop, use New with the cluster's issuer (kubectl get --raw /.well-known/openid-configuration shows it) and a KeyFile (kubectl get --raw /openid/v1/jwks > keys.json writes it)
}

// A managed cluster whose issuer is public.
func ExampleNew() {
	v, err := kubejwt.New(kubejwt.Config{
		Issuer:          "https://oidc.example.com/id/0123456789abcdef",
		Audiences:       []string{"data-store"},
		ServiceAccounts: []string{"shop/api"},
	})
	fmt.Println(v != nil, err)
	// Output: true <nil>
}

// Air-gapped: with the cluster's sa.pub nothing is ever fetched.
func ExampleNew_keyFile() {
	v, err := kubejwt.New(kubejwt.Config{
		Issuer:          "https://kubernetes.default.svc.cluster.local",
		Audiences:       []string{"data-store"},
		ServiceAccounts: []string{"api/api"},
		Keys:            kubejwt.KeyFile("testdata/sa.pub"), // /etc/kubernetes/pki/sa.pub
		MaxLifetime:     -1,                                 // this token was minted to last for the example
	})
	if err != nil {
		log.Fatal(err)
	}
	token, err := os.ReadFile("testdata/clusters/kube-apiserver-1.36/rs256/tokens/pod_bound.jwt")
	if err != nil {
		log.Fatal(err)
	}
	claims, err := v.Verify(context.Background(), strings.TrimSpace(string(token)))
	fmt.Println(claims.Username(), claims.Pod.Name, err)
	// Output: system:serviceaccount:api:api app-7c9b54c8db-lwrfr <nil>
}

// Several clusters: the token's issuer chooses.
func ExampleJoin() {
	east, err := kubejwt.New(kubejwt.Config{
		Issuer:          "https://oidc.example.com/id/east",
		Audiences:       []string{"data-store"},
		ServiceAccounts: []string{"shop/api"},
	})
	if err != nil {
		log.Fatal(err)
	}
	west, err := kubejwt.New(kubejwt.Config{
		Issuer:          "https://oidc.example.com/id/west",
		Audiences:       []string{"data-store"},
		ServiceAccounts: []string{"shop/api"},
	})
	if err != nil {
		log.Fatal(err)
	}
	both, err := kubejwt.Join(east, west)
	fmt.Println(both != nil, err)
	// Output: true <nil>
}

// Another header, and answers of one's own.
func ExampleVerifier_Verify() {
	cluster, err := kubejwttest.Start()
	if err != nil {
		log.Fatal(err)
	}
	defer cluster.Close()
	config := cluster.Config("data-store")
	config.ServiceAccounts = []string{"shop/api"}
	v, err := kubejwt.New(config)
	if err != nil {
		log.Fatal(err)
	}

	handler := func(w http.ResponseWriter, r *http.Request) {
		claims, err := v.Verify(r.Context(), r.Header.Get("X-Client-Id")) // or v.VerifyRequest(r), for a bearer token
		var notAllowed *kubejwt.NotAllowedError
		switch {
		case err == nil:
			fmt.Fprintf(w, "hello, %s", claims.Username())
		case errors.Is(err, kubejwt.ErrKeysUnavailable), errors.Is(err, kubejwt.ErrUndecided):
			http.Error(w, "try again later", http.StatusServiceUnavailable)
		case errors.As(err, &notAllowed):
			http.Error(w, "not you", http.StatusForbidden)
		default:
			http.Error(w, "who are you?", http.StatusUnauthorized)
		}
	}

	minted := func(account string) string {
		return cluster.Mint(kubejwttest.Token{Namespace: "shop", ServiceAccount: account, Audiences: []string{"data-store"}})
	}
	for _, token := range []string{"rubbish", minted("web"), minted("api")} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("X-Client-Id", token)
		w := httptest.NewRecorder()
		handler(w, r)
		fmt.Println(w.Code, strings.TrimSpace(w.Body.String()))
	}
	// Output:
	// 401 who are you?
	// 403 not you
	// 200 hello, system:serviceaccount:shop:api
}

// Each route has its own callers.
func ExampleVerifier_WithServiceAccounts() {
	cluster, err := kubejwttest.Start()
	if err != nil {
		log.Fatal(err)
	}
	defer cluster.Close()
	v, err := kubejwt.New(cluster.Config("data-store"))
	if err != nil {
		log.Fatal(err)
	}
	admin, err := v.WithServiceAccounts("ops/admin")
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", v.Handler(app))
	mux.Handle("/admin", admin.Handler(app))

	token := cluster.Mint(kubejwttest.Token{Namespace: "shop", ServiceAccount: "api", Audiences: []string{"data-store"}})
	for _, path := range []string{"/", "/admin"} {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Println(path, w.Code)
	}
	// Output:
	// / 200
	// /admin 403
}

// The caller: the token goes to that origin and nowhere else.
func ExampleTransport() {
	client := &http.Client{Transport: &kubejwt.Transport{
		Source: kubejwt.TokenFile("/var/run/secrets/tokens/data-store"),
		Origin: "https://data-store.prod.svc", // the token goes nowhere else; over http, a proxy sees it too: see Base
	}}
	_, err := client.Get("https://elsewhere.example/")
	fmt.Println(err)
	// Output: Get "https://elsewhere.example/": kubejwt: Transport: the token is for https://data-store.prod.svc:443, but the request goes to https://elsewhere.example:443
}

// What a refusal says, for the log.
func ExampleInvalidTokenError() {
	cluster, err := kubejwttest.Start()
	if err != nil {
		log.Fatal(err)
	}
	defer cluster.Close()
	v, err := kubejwt.New(cluster.Config("data-store"))
	if err != nil {
		log.Fatal(err)
	}
	_, err = v.Verify(context.Background(), cluster.Mint(kubejwttest.Token{
		Audiences: []string{"reports"},
		Lifetime:  10 * time.Minute,
	}))
	if refusal, ok := errors.AsType[*kubejwt.InvalidTokenError](err); ok {
		fmt.Println(refusal.Reason, refusal.Subject)
	}
	fmt.Println(err)
	// Output:
	// wrong_audience system:serviceaccount:default:default
	// kubejwt: token refused by rule 7, wrong_audience: want aud "data-store", the name of this service: got a token for "reports": the caller should mount a projected token (serviceAccountToken) with that audience
}
