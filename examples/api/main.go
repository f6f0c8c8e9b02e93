// Api calls the data store with the token that is mounted for it. It runs in a
// pod: see ../kubernetes.
package main

import (
	"log"
	"net/http"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/examples/internal/services"
)

// Plain HTTP keeps the example small. Where others can read the network, give
// the data store a certificate and write https here.
const store = "http://data-store.prod.svc"

func main() {
	client := &http.Client{
		Transport: &kubejwt.Transport{
			Source: kubejwt.TokenFile("/var/run/secrets/tokens/data-store"),
			Origin: store,
		},
		Timeout: 10 * time.Second,
	}
	server := &http.Server{Addr: ":8080", Handler: services.API(client, store+"/"), ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}
