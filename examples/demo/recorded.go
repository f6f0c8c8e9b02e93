package main

import (
	"cmp"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/kubejwt/kubejwt"
)

const (
	recordings     = "testdata/clusters/kube-apiserver-1.36"
	recordedIssuer = "https://kubernetes.default.svc.cluster.local"
)

// recorded verifies tokens that real API servers minted: those of one cluster
// with its sa.pub, those of another with keys found through its discovery
// document, served over TLS. It returns how many verdicts are not TokenReview's.
func recorded(ctx context.Context, out io.Writer) (wrong int, err error) {
	if _, err := os.Stat(recordings); err != nil {
		return 0, fmt.Errorf("%w: run the demo from the root of the repository", err)
	}
	fmt.Fprint(out, "\nTokens of real API servers. One that signs with RS256, keys from its sa.pub:\n\n")
	wrong, err = verifyAll(ctx, out, recordings+"/rs256", kubejwt.KeyFile(recordings+"/rs256/sa.pub"))
	if err != nil {
		return 0, err
	}

	server, caFile, err := serveRecording(recordings + "/es256")
	if err != nil {
		return 0, err
	}
	defer server.Close()
	defer os.RemoveAll(filepath.Dir(caFile))
	fmt.Fprint(out, "\nOne that signs with ES256, keys from its discovery document:\n\n")
	more, err := verifyAll(ctx, out, recordings+"/es256", kubejwt.RemoteKeys{
		DiscoveryURL: server.URL + "/.well-known/openid-configuration",
		CAFile:       caFile,
	})
	return wrong + more, err
}

// verifyAll prints a table of token, verdict, and identity or reason, and counts
// the verdicts that are not TokenReview's.
func verifyAll(ctx context.Context, out io.Writer, folder string, keys kubejwt.KeySource) (wrong int, err error) {
	recordedAt, err := os.ReadFile(folder + "/recorded-at")
	if err != nil {
		return 0, err
	}
	now, err := time.Parse(time.RFC3339, strings.TrimSpace(string(recordedAt)))
	if err != nil {
		return 0, err
	}
	v, err := kubejwt.New(kubejwt.Config{
		Issuer:          recordedIssuer,
		Audiences:       []string{"data-store"},
		ServiceAccounts: []string{"*"},
		Keys:            keys,
		MaxLifetime:     -1, // these were minted to last for the tests
		Now:             func() time.Time { return now },
		Logger:          slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return 0, err
	}
	tokens, err := filepath.Glob(folder + "/tokens/*.jwt")
	if err != nil {
		return 0, err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "     VERDICT\tTOKEN\tIDENTITY OR REASON")
	for _, path := range tokens {
		token, err := os.ReadFile(path)
		if err != nil {
			return 0, err
		}
		verdict, why, err := judge(v.Verify(ctx, strings.TrimSpace(string(token))))
		if err != nil {
			return 0, err
		}
		name := strings.TrimSuffix(filepath.Base(path), ".jwt")
		review, err := os.ReadFile(folder + "/tokenreviews/" + name + ".json")
		if err != nil {
			return 0, err
		}
		mark := "ok "
		if (verdict == "accepted") != strings.Contains(string(review), `"authenticated": true`) {
			mark = "BAD"
			wrong++
		}
		fmt.Fprintf(table, "%s  %s\t%s\t%s\n", mark, verdict, name, why)
	}
	return wrong, table.Flush()
}

// judge returns the verdict, or an error that is not about the token.
func judge(claims kubejwt.Claims, err error) (verdict, why string, _ error) {
	invalid, isInvalid := errors.AsType[*kubejwt.InvalidTokenError](err)
	switch {
	case isInvalid:
		return "refused", fmt.Sprintf("%s: %s", invalid.Reason, invalid.Got), nil
	case err != nil:
		return "", "", err
	default:
		return "accepted", claims.Username() + cmp.Or(bound(claims), ", not bound"), nil
	}
}

func bound(claims kubejwt.Claims) string {
	for _, to := range []struct {
		kind   string
		object kubejwt.Object
	}{{"pod", claims.Pod}, {"node", claims.Node}, {"secret", claims.Secret}} {
		if to.object.Name != "" {
			return ", bound to " + to.kind + " " + to.object.Name
		}
	}
	return ""
}

// serveRecording answers as the recorded API server did, at an address of its own.
func serveRecording(folder string) (server *httptest.Server, caFile string, err error) {
	document, err := os.ReadFile(folder + "/openid-configuration.json")
	if err != nil {
		return nil, "", err
	}
	keys, err := os.ReadFile(folder + "/jwks.json")
	if err != nil {
		return nil, "", err
	}
	mux := http.NewServeMux()
	server = httptest.NewTLSServer(mux)
	here := strings.TrimPrefix(server.URL, "https://")
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, strings.Replace(string(document), "127.0.0.1:16443", here, 1))
	})
	mux.HandleFunc("GET /openid/v1/jwks", func(w http.ResponseWriter, _ *http.Request) {
		w.Write(keys)
	})
	temp, err := os.MkdirTemp("", "kubejwt-demo-")
	if err != nil {
		return nil, "", err
	}
	caFile = filepath.Join(temp, "ca.crt")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return server, caFile, os.WriteFile(caFile, ca, 0o600)
}
