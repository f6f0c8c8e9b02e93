package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"strconv"
	"testing"
	"time"
)

// Ctrl-C ends a verb that waits for what nobody sends: a token on standard input,
// or a file that is a pipe.
func TestInterrupt(t *testing.T) {
	if _, err := os.Stat("/dev/fd"); err != nil {
		t.Skip(err)
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	defer writer.Close()
	silent := "/dev/fd/" + strconv.Itoa(int(reader.Fd()))
	stdin, nobody := io.Pipe()
	defer nobody.Close()
	token := recordings + "/tokens/pod_bound.jwt"
	verify := []string{"verify", "-issuer", recordedIssuer, "-audience", "data-store", "-token-file", token}
	for name, args := range map[string][]string{
		"verify, standard input":    recorded(),
		"inspect, standard input":   {"inspect"},
		"verify, -token-file":       recorded("-token-file", silent),
		"verify, -key-file":         append(verify, "-key-file", silent),
		"verify, -ca-file":          append(verify, "-ca-file", silent),
		"call, -token-file":         {"call", "-token-file", silent, "https://127.0.0.1:1/"},
		"serve, -key-file":          {"serve", "-issuer", "i", "-audience", "a", "-policy", "a=a/b", "-key-file", silent},
		"verify, JSON, -token-file": recorded("-json", "-token-file", silent),
	} {
		t.Run(name, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			var out, errOut bytes.Buffer
			exits := make(chan int, 1)
			go func() { exits <- run(ctx, process{stdin, &out, &errOut, nil}, args) }()
			interrupt()
			select {
			case exit := <-exits:
				if exit != exitInterrupted || out.Len()+errOut.Len() > 0 {
					t.Errorf("exit status %d: want %d, and nothing printed\n%s%s", exit, exitInterrupted, out.String(), errOut.String())
				}
			case <-time.After(time.Minute):
				t.Error("it goes on")
			}
		})
	}
}
