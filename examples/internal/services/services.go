// Package services is the two services of the examples: an API that anybody
// may call, and a data store that answers only to the API.
package services

import (
	"fmt"
	"io"
	"net/http"

	"github.com/kubejwt/kubejwt"
)

// DataStore answers to the callers that v admits.
func DataStore(v *kubejwt.Verifier) http.Handler {
	return v.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, _ := kubejwt.FromContext(r.Context())
		fmt.Fprintf(w, "the data, for %s", claims.Username())
	}))
}

// API gets its data at the URL of the data store. The client sends the token.
func API(client *http.Client, store string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, store, nil)
		if err != nil {
			http.Error(w, "the URL of the data store is wrong", http.StatusInternalServerError)
			return
		}
		response, err := client.Do(request)
		if err != nil {
			http.Error(w, "the data store can't be reached", http.StatusBadGateway)
			return
		}
		defer response.Body.Close()
		w.WriteHeader(response.StatusCode)
		io.Copy(w, io.LimitReader(response.Body, 1<<20))
	})
}
