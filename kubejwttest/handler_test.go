package kubejwttest_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

// orders is an endpoint that is nothing like GET / with Authorization: it wants
// a POST with a body, and the token in a header of its own. say is what it
// answers to an error.
func orders(t *testing.T, c *kubejwttest.Cluster, say func(error) int) http.Handler {
	t.Helper()
	config := c.Config("test")
	config.ServiceAccounts = []string{"shop/api"}
	v, err := kubejwt.New(config)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != "order" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if _, err := v.Verify(r.Context(), r.Header.Get("X-Service-Token")); err != nil {
			w.WriteHeader(say(err))
			return
		}
		w.WriteHeader(http.StatusCreated)
	})
	return mux
}

// properly answers as WriteError does.
func properly(err error) int {
	w := httptest.NewRecorder()
	kubejwt.WriteError(w, err)
	return w.Code
}

func ordersTest(c *kubejwttest.Cluster, h http.Handler) kubejwttest.HandlerTest {
	return kubejwttest.HandlerTest{
		Handler: h,
		Cluster: c,
		Good:    kubejwttest.Token{Namespace: "shop", ServiceAccount: "api"},
		Denied:  &kubejwttest.Token{Namespace: "shop", ServiceAccount: "web"},
		Request: func() *http.Request { return httptest.NewRequest("POST", "/orders", strings.NewReader("order")) },
		Header:  "x-service-token",
	}
}

func TestHandlerTest(t *testing.T) {
	c := kubejwttest.NewCluster(t)
	ordersTest(c, orders(t, c, properly)).Run(t)
}

// The header is Authorization unless another is named. A request may bring one
// of its own, which does not count.
func TestHandlerTestOfAPath(t *testing.T) {
	c := kubejwttest.NewCluster(t)
	v, err := kubejwt.New(c.Config("test"))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("DELETE /orders/7", v.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	mux.HandleFunc("GET /forwarded", func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("Authorization", r.Header.Get("X-Forwarded-Authorization"))
		if _, err := v.VerifyRequest(r); err != nil {
			kubejwt.WriteError(w, err)
		}
	})
	for name, test := range map[string]kubejwttest.HandlerTest{
		"method and path": {Handler: mux, Cluster: c, Method: "DELETE", Path: "/orders/7"},
		"a request with a token": {Handler: mux, Cluster: c, Request: func() *http.Request {
			r := httptest.NewRequest("DELETE", "/orders/7", nil)
			r.Header.Set("Authorization", "Bearer "+c.Mint(kubejwttest.Token{}))
			return r
		}},
		"a scheme in another header": {Handler: mux, Cluster: c, Path: "/forwarded", Header: "X-Forwarded-Authorization", Prefix: "Bearer "},
	} {
		t.Run(name, test.Run)
	}
}

// A HandlerTest finds fault with endpoints that do not tell 401 from 403. It
// runs in a process of its own, as it fails there.
func TestHandlerTestFindsFault(t *testing.T) {
	const variable = "KUBEJWTTEST_BROKEN_ORDERS"
	broken := map[string]func(error) int{
		"lets the denied through": func(err error) int {
			if code := properly(err); code != http.StatusForbidden {
				return code
			}
			return http.StatusCreated
		},
		"takes the denied for strangers": func(error) int { return http.StatusUnauthorized },
		"takes strangers for denied":     func(error) int { return http.StatusForbidden },
	}
	if name := os.Getenv(variable); name != "" {
		c := kubejwttest.NewCluster(t)
		ordersTest(c, orders(t, c, broken[name])).Run(t)
		return
	}
	for name, failures := range map[string]int{
		"lets the denied through": 1, "takes the denied for strangers": 1, "takes strangers for denied": 12,
	} {
		command := exec.Command(os.Args[0], "-test.run=^TestHandlerTestFindsFault$", "-test.v")
		command.Env = append(os.Environ(), variable+"="+name)
		out, err := command.CombinedOutput()
		if got := strings.Count(string(out), "    --- FAIL: "); err == nil || got != failures {
			t.Errorf("an endpoint that %s fails %d cases: want %d\n%s", name, got, failures, out)
		}
	}
}
