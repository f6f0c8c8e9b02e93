package main

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/kubejwt/kubejwt"
)

// admin is what kubelet and Prometheus ask.
func (s *server) admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.guard.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/vars", s.debugVars)
	return mux
}

// debugVars serves the Stats in the form of expvar, which would publish the
// command line too.
func (s *server) debugVars(w http.ResponseWriter, r *http.Request) {
	members := s.guard.judge.Load().members
	vars := make(map[string]any)
	for _, m := range members {
		name := "kubejwt"
		if len(members) > 1 {
			name += " " + m.issuer + " " + m.audiences
		}
		vars[name] = showStats(m.verifier.Stats())
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	json.NewEncoder(w).Encode(vars)
}

// shownStats has the text of an error in its place, because JSON has no errors.
type shownStats struct {
	kubejwt.Stats
	LastError string
}

func showStats(stats kubejwt.Stats) shownStats {
	if stats.LastError == nil {
		return shownStats{Stats: stats}
	}
	return shownStats{stats, stats.LastError.Error()}
}
