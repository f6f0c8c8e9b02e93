package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/kubejwt/kubejwt"
)

// notAccepted is what the library logs of each token that it refuses. It knows no
// policies, so serve logs that line in its place.
const notAccepted = "kubejwt: not accepted"

// serveLog is the log of serve.
type serveLog struct {
	*slog.Logger
	words func(string) string // puts flags or fields of the policy file in the place of the library's fields
}

// forLibrary is the log that the library gets.
func (l serveLog) forLibrary() *slog.Logger { return slog.New(reworded{l.Handler(), l.words}) }

// refusals passes each verdict to next, and logs why a policy did not accept a token.
func (l serveLog) refusals(
	policy string, next func(context.Context, kubejwt.Claims, error),
) func(context.Context, kubejwt.Claims, error) {
	return func(ctx context.Context, claims kubejwt.Claims, err error) {
		next(ctx, claims, err)
		reason := kubejwt.Outcome(err)
		if err == nil || reason == "no_token" || !l.Enabled(ctx, slog.LevelDebug) {
			return
		}
		subject := ""
		switch refusal := err.(type) {
		case *kubejwt.InvalidTokenError:
			subject = refusal.Subject
		case *kubejwt.NotAllowedError:
			subject = refusal.Claims.Subject
			account := refusal.Claims.Namespace + "/" + refusal.Claims.ServiceAccount.Name
			err = &kubejwt.NotAllowedError{
				Claims: refusal.Claims, Advice: fmt.Sprintf("add %q to the policy %s to admit it", account, policy),
			}
		}
		l.LogAttrs(ctx, slog.LevelDebug, notAccepted, slog.String("policy", policy),
			slog.String("reason", reason), slog.String("subject", subject), slog.String("error", l.words(err.Error())))
	}
}

// reworded is a log handler that rewrites errors in terms of the command's flags or the
// policy file.
type reworded struct {
	slog.Handler
	words func(string) string
}

func (h reworded) Handle(ctx context.Context, line slog.Record) error {
	if line.Message == notAccepted {
		return nil
	}
	changed := slog.NewRecord(line.Time, line.Level, line.Message, line.PC)
	line.Attrs(func(attribute slog.Attr) bool {
		if attribute.Key == "error" {
			attribute = slog.String("error", h.words(attribute.Value.String()))
		}
		changed.AddAttrs(attribute)
		return true
	})
	return h.Handler.Handle(ctx, changed)
}

func (h reworded) WithAttrs(attrs []slog.Attr) slog.Handler {
	return reworded{h.Handler.WithAttrs(attrs), h.words}
}

func (h reworded) WithGroup(name string) slog.Handler {
	return reworded{h.Handler.WithGroup(name), h.words}
}
