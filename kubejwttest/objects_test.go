package kubejwttest_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

// internal/e2e asks a real API server the same.
func TestListsAndWatches(t *testing.T) {
	c := kubejwttest.NewCluster(t)
	for _, name := range []string{"a", "b"} {
		c.Mint(kubejwttest.Token{Namespace: "api", ServiceAccount: "api", Pod: kubejwt.Object{Name: name}})
	}
	issuer := c.Config("x").Issuer
	watcher := "Bearer " + mounted(t, c)
	stranger := "Bearer " + c.Mint(kubejwttest.Token{Namespace: "shop", ServiceAccount: "web", Audiences: []string{issuer}})
	const pods = "/api/v1/namespaces/api/pods"
	for _, tt := range []struct {
		name, path, authorization string
		status                    int
		body                      string // a part of it
	}{
		{"a list", pods, watcher, 200, `"kind":"PodList"`},
		{"of one account's pods", pods + "?fieldSelector=spec.serviceAccountName%3Dapi", watcher, 200, `"name":"a"`},
		{"of nobody's pods", pods + "?fieldSelector=spec.serviceAccountName%3Dnobody", watcher, 200, `"items":[]`},
		{"of one service account", "/api/v1/namespaces/api/serviceaccounts?fieldSelector=metadata.name%3Dapi", watcher, 200, `"name":"api"`},
		{"by a field that can't be selected", pods + "?fieldSelector=spec.priority%3D1", watcher, 400, ""},
		{"a page", pods + "?limit=1", watcher, 200, `"continue":"`},
		{"of a cached version", pods + "?resourceVersion=0", watcher, 200, `"name":"a"`},
		{"of a version to come", pods + "?resourceVersion=999999999", watcher, 504, ""},
		{"of a version that is none", pods + "?resourceVersion=x", watcher, 400, ""},
		{"initial events without a match", pods + "?watch=1&sendInitialEvents=true", watcher, 422, ""},
		{"a match without initial events", pods + "?watch=1&resourceVersionMatch=NotOlderThan", watcher, 422, ""},
		{"initial events of a version to come", pods + "?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=999999999&timeoutSeconds=1", watcher, 200, `"type":"ERROR"`},
		{"a version to come, in silence", pods + "?watch=1&resourceVersion=999999999&timeoutSeconds=1", watcher, 200, ""},
		{"another account's token", pods, stranger, 403, ""},
		{"no token", pods, "", 403, ""},
		{"rubbish", pods, "Bearer rubbish", 401, ""},
	} {
		status, _, body := ask(t, c, http.MethodGet, tt.path, tt.authorization)
		if status != tt.status || !strings.Contains(body, tt.body) {
			t.Errorf("%s: status %d, %.300s: want %d, %s", tt.name, status, body, tt.status, tt.body)
		}
	}
	if status, _, _ := ask(t, c, http.MethodPost, pods, watcher); status != 403 {
		t.Errorf("a POST: status %d: want 403", status)
	}
}

// A stream begins with what is there, and goes on with what happens.
func TestWatch(t *testing.T) {
	c := kubejwttest.NewCluster(t)
	token := func(pod string) kubejwttest.Token {
		return kubejwttest.Token{Namespace: "shop", ServiceAccount: "api", Pod: kubejwt.Object{Name: pod}}
	}
	c.Mint(token("a"))
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Config("x").Issuer+
			"/api/v1/namespaces/shop/pods?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")
		response, err := c.Transport().RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		decoder := json.NewDecoder(response.Body)
		next := func() string {
			var e struct {
				Type   string
				Object struct {
					Kind     string
					Metadata struct {
						Name, UID         string
						DeletionTimestamp *time.Time
						Annotations       map[string]string
					}
				}
			}
			if err := decoder.Decode(&e); err == io.EOF {
				return "end"
			} else if err != nil {
				t.Fatal(err)
			}
			m := e.Object.Metadata
			text := e.Type + " " + e.Object.Kind + " " + m.Name + " " + m.Annotations["k8s.io/initial-events-end"]
			if m.DeletionTimestamp != nil {
				text += " " + time.Until(*m.DeletionTimestamp).Round(time.Second).String()
			}
			return strings.TrimSpace(text)
		}
		expect := func(want string) {
			t.Helper()
			if got := next(); got != want {
				t.Errorf("got %q: want %q", got, want)
			}
		}
		expect("ADDED PartialObjectMetadata a")
		expect("BOOKMARK PartialObjectMetadata  true")
		c.Mint(token("a")) // it is there
		c.Mint(token("b"))
		expect("ADDED PartialObjectMetadata b")
		c.TerminatePod("shop", "b", 30*time.Second)
		expect("MODIFIED PartialObjectMetadata b  30s")
		c.Mint(kubejwttest.Token{Namespace: "shop", ServiceAccount: "api", Pod: kubejwt.Object{Name: "b", UID: "another"}})
		expect("DELETED PartialObjectMetadata b  30s")
		expect("ADDED PartialObjectMetadata b")
		c.DeletePod("shop", "a")
		expect("DELETED PartialObjectMetadata a")
		expect("BOOKMARK PartialObjectMetadata") // a minute later
		c.SilenceWatches(true)
		c.DeletePod("shop", "b")
		start := time.Now()
		go func() {
			time.Sleep(time.Hour / 4)
			c.SilenceWatches(false)
		}()
		expect("DELETED PartialObjectMetadata b")
		if time.Since(start) != time.Hour/4 {
			t.Errorf("told after %v of silence", time.Since(start))
		}
		c.CutWatches()
		for got := next(); got != "end"; got = next() {
			if !strings.HasPrefix(got, "BOOKMARK") {
				t.Errorf("got %q: want the end", got)
			}
		}
	})
}

// The API server itself refuses a token of what is gone.
func TestDeletedObjects(t *testing.T) {
	c := kubejwttest.NewCluster(t)
	token := kubejwttest.Token{Namespace: "shop", ServiceAccount: "api", Pod: kubejwt.Object{Name: "a"}, Audiences: []string{c.Config("x").Issuer}}
	expect := func(what, token string, want int) {
		t.Helper()
		if status, _, _ := get(t, c, "/openid/v1/jwks", token); status != want {
			t.Errorf("%s: status %d: want %d", what, status, want)
		}
	}
	first := c.Mint(token)
	expect("a pod that is there", first, 200)
	c.DeletePod("shop", "a")
	expect("a pod that is gone", first, 401)
	second := c.Mint(token)
	expect("its successor", second, 200)
	expect("its predecessor", first, 401)
	c.DeleteServiceAccount("shop", "api")
	expect("a service account that is gone", second, 401)
	for name, call := range map[string]func(){
		"DeletePod":            func() { c.DeletePod("shop", "none") },
		"DeleteServiceAccount": func() { c.DeleteServiceAccount("shop", "none") },
		"TerminatePod":         func() { c.TerminatePod("shop", "none", 0) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s of what is not there does not panic", name)
				}
			}()
			call()
		}()
	}
}
