package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/client-go/rest"
)

const recordings = "../../testdata/clusters/kube-apiserver-1.36"

var record = flag.String("record", "", "the folder to write new recordings to; those of the library's tests are in "+recordings)

// TestRecord records what the library's own tests are held against. Without
// -record it only shows that it would record the same files.
func TestRecord(t *testing.T) {
	to := *record
	if to == "" {
		to = t.TempDir()
	}
	for _, alg := range algorithms {
		name := strings.ToLower(alg)
		sharedCluster(t, alg).record(t, filepath.Join(to, name))
		if diff := cmp.Diff(filesIn(t, filepath.Join(recordings, name)), filesIn(t, filepath.Join(to, name))); diff != "" {
			t.Errorf("%s: other files (-there +recorded):\n%s", alg, diff)
		}
	}
}

func filesIn(t *testing.T, folder string) (names []string) {
	t.Helper()
	noError(t, fs.WalkDir(os.DirFS(folder), ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			names = append(names, path)
		}
		return err
	}))
	return names
}

func (c *cluster) record(t *testing.T, folder string) {
	write := func(name string, data []byte) {
		path := filepath.Join(folder, name)
		noError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		noError(t, os.WriteFile(path, data, 0o644))
	}
	write("sa.pub", c.signer.publicPEM())
	write("ca.crt", must(os.ReadFile(c.caFile)))
	document, _ := c.get(t, "/.well-known/openid-configuration")
	write("openid-configuration.json", document)
	keys, headers := c.get(t, "/openid/v1/jwks")
	write("jwks.json", keys)
	write("jwks.headers", headers)
	write("config.json", indented(t, map[string]any{"version": kubernetesVersion(), "issuers": c.issuers, "api_audiences": c.audiences}))
	tokens := c.recorded(t)
	write("recorded-at", []byte(time.Now().UTC().Format(time.RFC3339)+"\n"))
	for name, token := range tokens {
		write("tokens/"+name+".jwt", []byte(token+"\n"))
		write("tokenreviews/"+name+".json", sorted(t, c.review(t, token, service)))
	}
}

// recorded are the tokens, by their names in the recording.
func (c *cluster) recorded(t *testing.T) map[string]string {
	account := c.serviceAccount(t, "api", "api")
	node, secret := c.node(t, "node-1"), c.secret(t, "api", "bound")
	pod := toPod(c.pod(t, account, "app-7c9b54c8db-lwrfr", node.Name))
	const decade = 3650 * 24 * time.Hour
	return map[string]string{
		"unbound":                c.mint(t, account, nil, decade, service),
		"short_lived":            c.mint(t, account, nil, 10*time.Minute, service),
		"two_audiences":          c.mint(t, account, nil, decade, service, "reports"),
		"wrong_audience":         c.mint(t, account, nil, decade, "reports"),
		"default_audience":       c.mint(t, account, nil, decade),
		"pod_bound":              c.mint(t, account, pod, decade, service),
		"extended_default_mount": c.mint(t, account, pod, 3607*time.Second),
		"node_bound":             c.mint(t, account, binding("Node", node.Name, node.UID), decade, service),
		"secret_bound":           c.mint(t, account, binding("Secret", secret.Name, secret.UID), decade, service),
		"other_service_account":  c.mint(t, c.serviceAccount(t, "api", "batch"), nil, decade, service),
		"other_namespace":        c.mint(t, c.serviceAccount(t, "prod", "api"), nil, decade, service),
	}
}

// get returns the body and the headers that the API server answers with.
func (c *cluster) get(t *testing.T, path string) (body, headers []byte) {
	t.Helper()
	client, err := rest.HTTPClientFor(c.config)
	noError(t, err)
	response, err := client.Get(c.address() + path)
	noError(t, err)
	defer response.Body.Close()
	body, err = io.ReadAll(response.Body)
	noError(t, err)
	if response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s", path, response.Status)
	}
	text := response.Proto + " " + response.Status + "\n"
	for _, name := range slices.Sorted(maps.Keys(response.Header)) {
		text += fmt.Sprintf("%s: %s\n", strings.ToLower(name), response.Header.Get(name))
	}
	return body, []byte(text)
}

// sorted is the JSON of a review, with its members in alphabetical order.
func sorted(t *testing.T, status authenticationv1.TokenReviewStatus) []byte {
	t.Helper()
	var members map[string]any
	noError(t, json.Unmarshal(must(json.Marshal(status)), &members))
	return indented(t, members)
}

func indented(t *testing.T, value any) []byte {
	t.Helper()
	data, err := json.MarshalIndent(value, "", "  ")
	noError(t, err)
	return append(data, '\n')
}
