// Bare is an HTTP server that answers 200 and does nothing else, with the time
// limits of kubejwt serve or without any. BenchmarkServe compares kubejwt serve
// with both.
package main

import (
	"log"
	"net/http"
	"os"
	"time"
)

func main() {
	server := http.Server{Addr: os.Args[1], Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
	})}
	if len(os.Args) > 2 {
		server.ReadHeaderTimeout = 5 * time.Second
		server.ReadTimeout = 10 * time.Second
		server.WriteTimeout = 20 * time.Second
		server.IdleTimeout = 2 * time.Minute
	}
	log.Fatal(server.ListenAndServe())
}
