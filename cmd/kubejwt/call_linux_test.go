package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/kubejwt/kubejwt/kubejwttest"
)

// A pipe that takes the place of the CA file while call goes on has no writer, and
// is not waited for.
func TestCallMeetsAPipe(t *testing.T) {
	tokenFile := writeFile(t, kubejwttest.NewCluster(t).Mint(caller))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var caFile string
	var answered atomic.Int64
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch answered.Add(1) {
		case 2:
			if err := errors.Join(os.Remove(caFile), syscall.Mkfifo(caFile, 0o600)); err != nil {
				t.Error(err)
			}
		case 4:
			cancel()
		}
		io.WriteString(w, "the data")
	}))
	defer server.Close()
	caFile = writeFile(t, pemOf(server.Certificate().Raw))
	var out, errOut bytes.Buffer
	args := []string{"call", server.URL, "-token-file", tokenFile, "-ca-file", caFile, "-interval", "1ms"}
	exit := run(ctx, process{nil, &out, &errOut, nil}, args)
	result{exit, out.String(), errOut.String()}.mustSay(t, exitOK, "200 OK", "not a regular file", "the CA read before stays in use")
	if n := answered.Load(); n < 4 {
		t.Errorf("%d answers: want 4", n)
	}
}
