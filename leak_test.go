package kubejwt_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

// printed is what the ways to print a value make of it.
func printed(value any) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%v\n%+v\n%#v\n%s\n%q\n", value, value, value, value, value)
	if data, err := json.Marshal(value); err == nil {
		b.Write(data)
	}
	slog.New(slog.NewTextHandler(&b, nil)).Info("text", "value", value)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("JSON", "value", value)
	return b.String()
}

// Whatever happens, and however it is printed and logged, no 16 characters in a
// row of a token or of the verifier's own bearer come out.
func TestNothingLeaks(t *testing.T) {
	var text, lines bytes.Buffer
	debug := &slog.HandlerOptions{Level: slog.LevelDebug}
	all := tokenVectors(t)
	for name, v := range all {
		text.Reset()
		lines.Reset()
		config := v.config(t)
		out := ""
		for _, handler := range []slog.Handler{slog.NewTextHandler(&text, debug), slog.NewJSONHandler(&lines, debug)} {
			config.Logger = slog.New(handler)
			synctest.Test(t, func(t *testing.T) {
				verifier := mustNew(t, config)
				claims, err := verifier.Verify(t.Context(), v.body)
				synctest.Wait() // for the log
				out += printed(claims) + printed(err) + printed(verifier.Stats()) + printed(verifier) + printed(errors.Join(err, errors.New("more")))
				if refusal, ok := errors.AsType[*kubejwt.InvalidTokenError](err); ok {
					out += printed(*refusal)
				}
			})
		}
		if leak := commonRun(out+text.String()+lines.String(), v.body, 16); leak != "" {
			t.Errorf("%s: %q comes out", name, leak)
		}
		if logged := text.Len() > 0; v.header["expect"] != "accept" && !logged {
			t.Errorf("%s: the refusal is not logged", name)
		}
	}
}

// Bearers do not leak when the origin fails in any of the ways of the corpus.
func TestBearerDoesNotLeak(t *testing.T) {
	bearer := tokenVectors(t)["good_es512.txt"].body
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(bearer+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	documents := readVectors(t, "jwks", documentHeaders...)
	maps.Copy(documents, readVectors(t, "discovery", documentHeaders...))
	// What an origin sends back may be what it was sent.
	documents["echo"] = vector{body: bearer}
	documents["echo in JSON"] = vector{body: `{"keys":[{"kid":"` + bearer + `","kty":"` + bearer + `"}],"issuer":"` + bearer + `"}`}
	documents["echo in jwks_uri"] = vector{body: `{"issuer":"` + vectorIssuer + `","jwks_uri":"` + vectorIssuer + `/` + bearer + `"}`}
	documents["echo in a foreign jwks_uri"] = vector{body: `{"issuer":"` + vectorIssuer + `","jwks_uri":"https://evil.example/` + bearer + `"}`}
	documents["echo in a jwks_uri over http"] = vector{body: `{"issuer":"` + vectorIssuer + `","jwks_uri":"http://iss.example/` + bearer + `"}`}
	for name, v := range documents {
		var log bytes.Buffer
		for _, handler := range []slog.Handler{
			slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}),
			slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}),
		} {
			synctest.Test(t, func(t *testing.T) {
				keys := kubejwt.RemoteKeys{BearerTokenFile: path}
				out := printed(keys)
				keys.Transport = serve(map[string]string{
					vectorIssuer + "/.well-known/openid-configuration": v.body,
					vectorIssuer + "/openid/v1/jwks":                   v.body,
				})
				config := kubejwt.Config{
					Issuer:          vectorIssuer,
					Audiences:       []string{"svc-a"},
					ServiceAccounts: []string{"*"},
					Keys:            keys,
					Logger:          slog.New(handler),
					Now:             func() time.Time { return time.Unix(1700000000, 0) },
				}
				verifier := mustNew(t, config)
				err := verifier.Ready(t.Context())
				synctest.Wait() // for the log
				out += printed(err) + printed(verifier.Stats()) + log.String()
				if leak := commonRun(out, bearer, 16); leak != "" {
					t.Errorf("%s: %q of the bearer comes out", name, leak)
				}
			})
		}
	}
}

// The source and transport of a client hold a token, and don't show it.
func TestClientDoesNotLeak(t *testing.T) {
	token := kubejwttest.NewCluster(t).Mint(good())
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	source := kubejwt.TokenFile(path)
	if _, err := source.Token(); err != nil {
		t.Fatal(err)
	}
	out := printed(source) + printed(&kubejwt.Transport{Source: source, Origin: "https://data-store.prod.svc"})
	if leak := commonRun(out, token, 16); leak != "" {
		t.Errorf("%q comes out", leak)
	}
}
