package kubejwt_test

import (
	"encoding/json"
	"errors"
	"os"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/kubejwt/kubejwt"
)

// allocated is how much this process has allocated so far.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// mostGrown is what Verify may allocate: no input is larger than 16 KiB, except for
// those that are refused for their size.
const mostGrown = 1 << 20

// Nothing that the cluster did not sign is accepted: the fuzzer has no key, so
// what is accepted is one of the seeds, byte for byte. And no input makes
// Verify allocate more than a few times the largest token.
func FuzzVerify(f *testing.F) {
	verifiers := map[string]*kubejwt.Verifier{}
	for _, keys := range []string{"cluster.jwks", "cluster.pem"} {
		verifiers[keys] = vectorVerifier(f, keys)
	}
	signed := make(map[string]bool)
	for _, v := range tokenVectors(f) {
		f.Add(v.body)
		signed[v.body] = signed[v.body] || v.header["expect"] == "accept"
	}
	f.Fuzz(func(t *testing.T, token string) {
		for keys, verifier := range verifiers {
			before := allocated()
			claims, err := verifier.Verify(t.Context(), token)
			grown := allocated() - before
			// A garbage collection counts what went before, and then no other
			// does so soon.
			for range 3 {
				if grown <= mostGrown {
					break
				}
				before = allocated()
				verifier.Verify(t.Context(), token)
				grown = allocated() - before
			}
			if grown > mostGrown {
				t.Errorf("%s: %d bytes are allocated", keys, grown)
			}
			if err == nil {
				if !signed[token] {
					t.Errorf("%s: %q is accepted, which nobody signed", keys, token)
				}
				continue
			}
			if claims != (kubejwt.Claims{}) {
				t.Errorf("%s: Claims beside the error %v", keys, err)
			}
			if reasonOf(err) == "" && !errors.Is(err, kubejwt.ErrNoToken) {
				t.Errorf("%s: %v: want a refusal", keys, err)
			}
		}
	})
}

// A discovery document that is used names our issuer, and keys on our origin,
// as another reader reads it; nothing else is asked for.
func FuzzDiscovery(f *testing.F) {
	for _, v := range readVectors(f, "discovery", documentHeaders...) {
		f.Add(v.body)
	}
	keys, err := os.ReadFile(vectorFolder + "keys/cluster.jwks")
	if err != nil {
		f.Fatal(err)
	}
	const documentURL = vectorIssuer + "/.well-known/openid-configuration"
	f.Fuzz(func(t *testing.T, body string) {
		var document map[string]any
		readable := json.Unmarshal([]byte(body), &document) == nil
		uri, _ := document["jwks_uri"].(string)
		bodies := map[string]string{documentURL: body}
		if uri != documentURL {
			bodies[uri] = string(keys)
		}
		transport := serve(bodies)
		verifier := mustNew(t, kubejwt.Config{
			Issuer:          vectorIssuer,
			Audiences:       []string{"svc-a"},
			ServiceAccounts: []string{"*"},
			Keys:            kubejwt.RemoteKeys{Transport: transport},
			Now:             func() time.Time { return time.Unix(1700000000, 0) },
		})
		err := verifier.Ready(t.Context())
		close(transport.asked)
		for asked := range transport.asked {
			if !strings.HasPrefix(strings.ToLower(asked), vectorIssuer+"/") && !strings.HasPrefix(strings.ToLower(asked), vectorIssuer+":443") &&
				!strings.EqualFold(asked, vectorIssuer) && !strings.HasPrefix(strings.ToLower(asked), vectorIssuer+"?") {
				t.Errorf("%q: %q is asked", body, asked)
			}
		}
		if err == nil && (!readable || document["issuer"] != vectorIssuer) {
			t.Errorf("%q is used as the document of %s", body, vectorIssuer)
		}
	})
}
