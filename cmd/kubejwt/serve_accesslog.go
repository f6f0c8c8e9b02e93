package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/internal/quote"
	"github.com/kubejwt/kubejwt/internal/safelog"
)

// accessLog writes a line for each verdict that is asked for. An output that hangs
// does not hold up the requests: the lines that it doesn't take are counted.
type accessLog struct {
	accepted, refused bool // which ones to write
	logger            *slog.Logger
}

// newAccessLog returns one that calls lost for each line that out doesn't take.
func newAccessLog(which string, out io.Writer, lost func()) (*accessLog, error) {
	a := &accessLog{logger: safelog.NewCounting(slog.New(slog.NewJSONHandler(out, nil)), lost)}
	switch which {
	case "none":
	case "refused":
		a.refused = true
	case "all":
		a.accepted, a.refused = true, true
	default:
		return nil, usagef("-access-log %s: want all, refused or none", quoted(which))
	}
	return a, nil
}

// facts are what a proxy says about its client's request. Nobody has verified
// them.
type facts interface {
	method() string
	path() string // may have a query
	requestID() string
}

// How much of a client's request is logged.
const (
	maxLoggedMethod = 16
	maxLoggedPath   = 256
	maxLoggedID     = 128
)

func (a *accessLog) write(v verdict, about facts) {
	if v.err == nil && !a.accepted || v.err != nil && !a.refused {
		return
	}
	claims, username := v.claims, v.claims.Username()
	if notAllowed, ok := errors.AsType[*kubejwt.NotAllowedError](v.err); ok {
		claims, username = notAllowed.Claims, notAllowed.Claims.Username()
	}
	if invalid, ok := errors.AsType[*kubejwt.InvalidTokenError](v.err); ok {
		username = loggable(maxLoggedID, invalid.Subject) // "" unless the signature held
	}
	path, _, _ := strings.Cut(about.path(), "?") // a query may be a secret
	a.logger.LogAttrs(context.Background(), slog.LevelInfo, "kubejwt: verdict",
		slog.String("policy", v.policy),
		slog.String("outcome", kubejwt.Outcome(v.err)),
		slog.String("issuer", claims.Issuer),
		slog.String("username", username),
		slog.String("pod", claims.Pod.Name),
		slog.String("credential_id", claims.ID),
		slog.String("method", loggable(maxLoggedMethod, about.method())),
		slog.String("path", loggable(maxLoggedPath, path)),
		slog.String("request_id", loggable(maxLoggedID, about.requestID())),
		slog.Int64("microseconds", v.took.Microseconds()),
	)
}

// loggable returns s in printable ASCII, without quotation marks around it, cut to this
// many bytes, and withheld if it may be a token.
func loggable(most int, s string) string {
	if quote.HoldsToken(s) {
		return "(withheld: it looks like a token)"
	}
	quoted := strconv.QuoteToASCII(s[:min(len(s), most)])
	quoted = quoted[1 : len(quoted)-1]
	return quoted[:min(len(quoted), most)]
}

// httpFacts are what proxies say over HTTP: Traefik and Caddy in X-Forwarded-* headers,
// nginx usually in X-Original-*, Envoy in the request itself.
type httpFacts struct{ r *http.Request }

func (f httpFacts) method() string {
	return f.first(f.r.Method, "X-Forwarded-Method", "X-Original-Method")
}

func (f httpFacts) path() string {
	rest := strings.TrimPrefix(f.r.URL.Path, "/auth/")
	_, appended, _ := strings.Cut(rest, "/")
	if appended != "" {
		appended = "/" + appended
	}
	return f.first(appended, "X-Forwarded-Uri", "X-Original-Uri", "X-Original-Url")
}

func (f httpFacts) requestID() string { return f.r.Header.Get("X-Request-Id") }

func (f httpFacts) first(otherwise string, headers ...string) string {
	for _, name := range headers {
		if value := f.r.Header.Get(name); value != "" {
			return value
		}
	}
	return otherwise
}
