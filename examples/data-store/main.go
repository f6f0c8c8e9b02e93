// Data-store answers only to the service account shop/api. It runs in a pod:
// see ../kubernetes.
package main

import (
	"log"
	"net/http"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/examples/internal/services"
)

func main() {
	v, err := kubejwt.InCluster(kubejwt.Config{
		Audiences:       []string{"data-store"},
		ServiceAccounts: []string{"shop/api"},
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", services.DataStore(v))
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := v.Ready(r.Context()); err != nil {
			log.Print(err)
			http.Error(w, "no keys yet", http.StatusServiceUnavailable)
		}
	})
	server := &http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}
