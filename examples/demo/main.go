// Demo runs the two services of the examples on the loopback interface, with a
// cluster of the test kit instead of a real one, and shows who gets in.
// Then it verifies tokens that real API servers minted. It exits with status 1
// if any row is not as it should be.
//
//	go run ./examples/demo
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/examples/internal/services"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

func main() {
	wrong, err := demo(os.Stdout)
	if err == nil {
		var more int
		more, err = recorded(context.Background(), os.Stdout)
		wrong += more
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
	if wrong > 0 {
		fmt.Fprintf(os.Stderr, "demo: %d rows are not as they should be\n", wrong)
		os.Exit(1)
	}
}

// world is a cluster with the two services in it.
type world struct {
	cluster *kubejwttest.Cluster
	store   string // URL of the data store
	api     string // URL of the API
	token   string // path of the token that is mounted into the API's pod
	close   []func()
}

// caller is the API's service account, and what its pod mounts.
var caller = kubejwttest.Token{Namespace: "shop", ServiceAccount: "api", Audiences: []string{"data-store"}}

func demo(out io.Writer) (wrong int, err error) {
	w, err := newWorld()
	if err != nil {
		return 0, err
	}
	defer w.stop()

	fmt.Fprintf(out, "The data store answers only to %s/%s. Who gets in?\n\n", caller.Namespace, caller.ServiceAccount)
	t := newTable(out)
	for _, row := range w.rows() {
		status, answer, err := row.call()
		if err != nil {
			return 0, fmt.Errorf("%s: %w", row.what, err)
		}
		if !t.row(row.what, row.want, status, answer) {
			wrong++
		}
	}
	fmt.Fprintf(out, "\nThe API server was asked for its keys %d times, and never for a TokenReview.\n",
		w.cluster.Fetches())
	return wrong, nil
}

// row is a call of the data store and the status that it should end in.
type row struct {
	what string
	want int
	call func() (status int, answer string, err error)
}

func (w *world) rows() []row {
	other, expired := caller, caller
	other.ServiceAccount = "web"
	expired.Lifetime = -time.Hour
	reports := caller
	reports.Audiences = []string{"reports"}
	before := w.cluster.Mint(caller)
	return []row{
		{"the API, with its mounted token", 200, w.throughAPI},
		{"no token", 401, w.with("")},
		{"a token for another audience", 401, w.with(w.cluster.Mint(reports))},
		{"another service account", 403, w.with(w.cluster.Mint(other))},
		{"an expired token", 401, w.with(w.cluster.Mint(expired))},
		{"the API server is down", 200, func() (int, string, error) {
			w.cluster.SetAvailable(false)
			defer w.cluster.SetAvailable(true)
			return w.throughAPI()
		}},
		{"the key was rotated, the old one dropped: a new token", 200, func() (int, string, error) {
			if err := w.rotate(); err != nil {
				return 0, "", err
			}
			return w.throughAPI()
		}},
		{"the key was rotated, the old one dropped: an old token", 401, w.with(before)},
	}
}

// rotate replaces the cluster's key, and renews the API's token as kubelet does.
func (w *world) rotate() error {
	old, err := kubejwt.ParsePublicKeys(w.cluster.PublicKeysPEM())
	if err != nil {
		return err
	}
	w.cluster.RotateKey("ES256")
	w.cluster.DropKey(old[0].KeyID)
	if err := os.WriteFile(w.token, []byte(w.cluster.Mint(caller)), 0o600); err != nil {
		return err
	}
	return w.startAPI() // a real one would read the new token within a minute
}

func (w *world) throughAPI() (int, string, error) { return get(w.api, "") }

func (w *world) with(token string) func() (int, string, error) {
	return func() (int, string, error) { return get(w.store, token) }
}

func get(url, token string) (status int, answer string, err error) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, strings.TrimSpace(string(body)), err
}

func newWorld() (*world, error) {
	cluster, err := kubejwttest.Start()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "kubejwt-demo-")
	if err != nil {
		cluster.Close()
		return nil, err
	}
	w := &world{cluster: cluster, token: filepath.Join(folder, "data-store")}
	w.close = []func(){cluster.Close, func() { os.RemoveAll(folder) }}
	if err := errors.Join(w.startStore(), w.mountToken(), w.startAPI()); err != nil {
		w.stop()
		return nil, err
	}
	return w, nil
}

// mountToken writes the caller's token, as kubelet does.
func (w *world) mountToken() error {
	return os.WriteFile(w.token, []byte(w.cluster.Mint(caller)), 0o600)
}

// startStore starts the data store. In a pod it would use InCluster.
func (w *world) startStore() error {
	config := w.cluster.Config("data-store")
	config.ServiceAccounts = []string{caller.Namespace + "/" + caller.ServiceAccount}
	config.Logger = slog.New(slog.DiscardHandler)
	v, err := kubejwt.New(config)
	if err != nil {
		return err
	}
	w.store, err = w.serve(services.DataStore(v))
	return err
}

func (w *world) startAPI() error {
	client := &http.Client{Transport: &kubejwt.Transport{
		Source: kubejwt.TokenFile(w.token),
		Origin: strings.TrimSuffix(w.store, "/"),
	}}
	var err error
	w.api, err = w.serve(services.API(client, w.store))
	return err
}

func (w *world) serve(h http.Handler) (url string, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go server.Serve(listener)
	w.close = append(w.close, func() { server.Close() })
	return "http://" + listener.Addr().String() + "/", nil
}

func (w *world) stop() {
	for _, end := range w.close {
		end()
	}
}
