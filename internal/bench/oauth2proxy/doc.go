// Package oauth2proxy is empty. Its module builds oauth2-proxy, for BenchmarkServe
// of internal/bench, whose versions would be raised by what oauth2-proxy requires.
package oauth2proxy
