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
	"github.com/kubejwt/kubejwt/internal/apiserver"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

// internal/e2e asks a real API server the same.
func TestListsAndWatches(t *testing.T) {
	c := kubejwttest.NewCluster(t)
	for _, name := range []string{"a", "b"} {
		c.Mint(kubejwttest.Token{Namespace: "api", ServiceAccount: "api", Pod: kubejwt.Object{Name: name}})
	}
	web := kubejwttest.Token{Namespace: "shop", ServiceAccount: "web", Audiences: []string{c.Config("x").Issuer}}
	authorization := map[string]string{
		apiserver.Watcher:     "Bearer " + mounted(t, c),
		apiserver.Stranger:    "Bearer " + c.Mint(web),
		apiserver.WithRubbish: "Bearer rubbish",
	}
	for _, q := range apiserver.Questions() {
		status, _, body := ask(t, c, q.Method, q.Path, authorization[q.Who])
		if status != q.Status || !strings.Contains(body, q.Part) {
			t.Errorf("%s: status %d, %.300s: want %d, %s", q.Name, status, body, q.Status, q.Part)
		}
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
