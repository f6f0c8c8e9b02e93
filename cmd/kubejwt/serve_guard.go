package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kubejwt/kubejwt"
)

// guard answers the proxy.
type guard struct {
	judge       atomic.Pointer[judge]
	tokenHeader string // in canonical form
	stops       *atomic.Bool
	audit       *accessLog
	seconds     prometheus.Observer
}

// ServeHTTP answers 200 to a good token and to nothing else, not even to probes: a proxy
// takes any 200 for a verdict. It does not use a ServeMux: that would clean the path, and
// redirect a request for /auth/a/../b to /auth/b.
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header()["Cache-Control"] = noStore
	if g.stops.Load() || r.ContentLength != 0 && r.ProtoMajor == 1 {
		// Near the end, proxies have to open their connections elsewhere. And
		// nobody reads a body, which net/http would, before it answers, to keep
		// the connection.
		w.Header().Set("Connection", "close")
	}
	rest, isAuth := strings.CutPrefix(r.URL.EscapedPath(), "/auth/")
	name, _, _ := strings.Cut(rest, "/") // Envoy appends the path of the client's request
	v := g.judge.Load().policies[name]
	if !isAuth || v == nil {
		http.Error(w, noSuchPolicy, http.StatusNotFound)
		return
	}
	began := time.Now()
	claims, err := g.verify(r.Context(), v, r)
	g.observe(verdict{policy: name, claims: claims, err: err, took: time.Since(began)}, httpFacts{r})
	if err != nil {
		kubejwt.WriteError(w, err)
		return
	}
	setIdentity(w.Header(), claims)
	w.WriteHeader(http.StatusOK)
}

const noSuchPolicy = "there is no such policy"

var noStore = []string{"no-store"} // never changed

// verify judges the token in the header that carries it.
func (g *guard) verify(ctx context.Context, v *kubejwt.Verifier, r *http.Request) (kubejwt.Claims, error) {
	if g.tokenHeader == "Authorization" {
		return v.VerifyRequest(r)
	}
	return v.VerifyRequest(withAuthorization(ctx, bearers(r.Header[g.tokenHeader])))
}

// bearers returns the values of a header that has tokens, in the form of Authorization.
func bearers(values []string) []string {
	var all []string
	for _, value := range values {
		if scheme, _, _ := strings.Cut(value, " "); !strings.EqualFold(scheme, "Bearer") {
			value = "Bearer " + value
		}
		all = append(all, value)
	}
	return all
}

// withAuthorization returns a request with this header and nothing else.
func withAuthorization(ctx context.Context, values []string) *http.Request {
	r := http.Request{Header: http.Header{"Authorization": values}}
	return r.WithContext(ctx)
}

// verdict is what was decided, for the metrics and the access log. The Verifier
// has counted it already.
type verdict struct {
	policy string
	claims kubejwt.Claims
	err    error
	took   time.Duration
}

func (g *guard) observe(v verdict, about facts) {
	g.seconds.Observe(v.took.Seconds())
	g.audit.write(v, about)
}

func (g *guard) ready(w http.ResponseWriter, r *http.Request) {
	if g.stops.Load() {
		http.Error(w, "it is stopping", http.StatusServiceUnavailable)
		return
	}
	if err := g.judge.Load().ready(r.Context()); err != nil {
		kubejwt.WriteError(w, err)
		return
	}
	fmt.Fprintln(w, "ok")
}

// identity has the headers that name the caller for the service.
func identity(claims kubejwt.Claims) [8][2]string {
	return [...][2]string{
		{"Kubejwt-Username", claims.Username()},
		{"Kubejwt-Namespace", claims.Namespace},
		{"Kubejwt-Service-Account", claims.ServiceAccount.Name},
		{"Kubejwt-Service-Account-Uid", claims.ServiceAccount.UID},
		{"Kubejwt-Pod", claims.Pod.Name},
		{"Kubejwt-Pod-Uid", claims.Pod.UID},
		{"Kubejwt-Node", claims.Node.Name},
		{"Kubejwt-Audience", claims.Audience},
	}
}

// setIdentity sets all headers, even if the token has no value for one. Otherwise a
// header that the client sent could take its place.
func setIdentity(header http.Header, claims kubejwt.Claims) {
	all := identity(claims)
	values := make([]string, len(all)) // of all headers, at once
	for i, one := range all {
		values[i] = one[1]
		header[one[0]] = values[i : i+1 : i+1]
	}
}
