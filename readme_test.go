package kubejwt_test

import (
	"log"
	"net/http"
	"testing"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

// What the README shows, as it stands there.

func readmeInCluster() {
	// In a pod: API server, CA, own token and issuer come from the pod. No I/O happens yet.
	v, err := kubejwt.InCluster(kubejwt.Config{
		Audiences:       []string{"data-store"},          // who we are
		ServiceAccounts: []string{"shop/api", "batch/*"}, // who may call
	})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/", v.Handler(app)) // kubejwt.FromContext(r.Context()) in app
}

var _ = readmeInCluster // compiled, never run

func TestEndpoint(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	v, err := kubejwt.New(cluster.Config("data-store"))
	if err != nil {
		t.Fatal(err)
	}
	good := kubejwttest.Token{Namespace: "shop", ServiceAccount: "api", Audiences: []string{"data-store"}}
	kubejwttest.TestHandler(t, v.Handler(app), cluster, good)
}
