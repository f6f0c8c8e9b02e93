package main

import (
	"fmt"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// What BenchmarkServe says of a server is kept under these names: nanoseconds of
// CPU for a request, and requests a second.
func cpuOf(by string) string  { return "Serve/by=" + by + "/cpu" }
func rateOf(by string) string { return "Serve/by=" + by + "/rate" }

// keepServe keeps the least CPU of several turns, and the most requests.
func (f fastest) keepServe(name string, result *benchfmt.Result) {
	by, ok := strings.CutPrefix(name, "Serve/by=")
	if !ok {
		return
	}
	if micros, ok := result.Value("server-µs/op"); ok && (f[cpuOf(by)] == 0 || micros*1e3 < f[cpuOf(by)]) {
		f[cpuOf(by)] = micros * 1e3
	}
	if rate, ok := result.Value("requests/s"); ok && rate > f[rateOf(by)] {
		f[rateOf(by)] = rate
	}
}

var servers = []bar{
	{"bare", "a `net/http` handler that does nothing, without time limits"},
	{"bare-limited", "the same, with the time limits of `kubejwt serve`"},
	{"kubejwt-http", "`kubejwt serve`, over HTTP"},
	{"kubejwt-grpc", "`kubejwt serve`, over gRPC"},
	{"oauth2-proxy", "oauth2-proxy"},
}

func serveRatios() []ratio {
	serve := cpuOf("kubejwt-http")
	return []ratio{
		{"CPU of `kubejwt serve` over HTTP / of a handler that does nothing, with the same time limits",
			serve, cpuOf("bare-limited"), 1.5, false},
		{"CPU of oauth2-proxy / of `kubejwt serve` over HTTP", cpuOf("oauth2-proxy"), serve, 5, true},
	}
}

const serveHead = `
## An auth request of a proxy

What ` + "`kubejwt serve`" + ` and oauth2-proxy 7.15 cost when a proxy asks them about
one RS256 token over 8 connections that stay open. The client runs on the same
two cores. CPU is the user and system time of the server's process alone, in the
turn in which it took the least. Requests are those of the turn with the most.
No server logs requests. oauth2-proxy checks the signature each time, where
` + "`kubejwt serve`" + ` remembers the token.

| | CPU, µs a request | requests a second |
|---|--:|--:|
`

// serveTable is in Markdown.
func (f fastest) serveTable() (string, error) {
	var b strings.Builder
	b.WriteString(serveHead)
	for _, server := range servers {
		cpu, rate := f[cpuOf(server.by)], f[rateOf(server.by)]
		if cpu == 0 || rate == 0 {
			return "", fmt.Errorf("%q is not among the benchmarks", "Serve/by="+server.by)
		}
		fmt.Fprintf(&b, "| %s | %.1f | %.0f |\n", server.title, cpu/1e3, rate)
	}
	return b.String(), nil
}
