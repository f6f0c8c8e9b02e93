package bench

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

// What a verdict allocates does not differ from run to run.
func TestAllocations(t *testing.T) {
	for algorithm, most := range map[string]float64{"RS256": 25, "ES256": 25, "ES384": 32, "ES512": 32} {
		r := readRecording(t, algorithm)
		fresh, remembering := r.verifier(t, -1), r.verifier(t, 0)
		for _, tt := range []struct {
			name string
			v    *kubejwt.Verifier
			most float64
		}{
			{"first seen", fresh, most},
			{"first seen, of two joined", joinStranger(t, fresh), most + 2},
			{"remembered", remembering, 0},
			{"remembered, of two joined", joinStranger(t, remembering), 0},
			{"remembered, with Check and OnVerdict", r.hookedVerifier(t), 0},
			{"remembered, with a watch", r.watchedVerifier(t), 0},
		} {
			v := tt.v
			got := testing.AllocsPerRun(100, func() {
				if _, err := v.Verify(t.Context(), r.token); err != nil {
					t.Error(err)
				}
			})
			t.Logf("%s, %s: %v allocations", algorithm, tt.name, got)
			if got > tt.most {
				t.Errorf("%s, %s: %v allocations: want %v at most", algorithm, tt.name, got, tt.most)
			}
		}
	}
}

// Between two looks at the file, remembered tokens cost a KeyFile nothing.
func TestAllocationsWithAKeyFile(t *testing.T) {
	r := readRecording(t, "ES256")
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte(r.jwks), 0o600); err != nil {
		t.Fatal(err)
	}
	config := r.config(0)
	config.Keys = kubejwt.KeyFile(path)
	v, err := kubejwt.New(config)
	if err != nil {
		t.Fatal(err)
	}
	got := testing.AllocsPerRun(1000, func() {
		if _, err := v.Verify(t.Context(), r.token); err != nil {
			t.Error(err)
		}
	})
	if got > 0 {
		t.Errorf("%v allocations: want none", got)
	}
}

// hookedVerifier has hooks that allocate nothing themselves.
func (r recording) hookedVerifier(t testing.TB) *kubejwt.Verifier {
	t.Helper()
	config := r.config(0)
	var verdicts atomic.Int64
	config.Check = func(kubejwt.Claims) error { return nil }
	config.OnVerdict = func(context.Context, kubejwt.Claims, error) { verdicts.Add(1) }
	v, err := kubejwt.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// joinStranger joins v behind a Verifier of another cluster.
func joinStranger(t testing.TB, v *kubejwt.Verifier) *kubejwt.Verifier {
	t.Helper()
	config := kubejwttest.NewCluster(t).Config("data-store")
	config.Issuer, config.CacheSize = "https://stranger.example", -1
	stranger, err := kubejwt.New(config)
	if err != nil {
		t.Fatal(err)
	}
	joined, err := kubejwt.Join(stranger, v)
	if err != nil {
		t.Fatal(err)
	}
	return joined
}

// What is remembered has a bound, in tokens and in bytes.
func TestMemory(t *testing.T) {
	const size, most = 100_000, 100 << 20
	cluster := kubejwttest.NewCluster(t)
	cluster.RotateKey("ES256")
	keys, err := kubejwt.ParsePublicKeys(cluster.PublicKeysPEM())
	if err != nil {
		t.Fatal(err)
	}
	config := cluster.Config("data-store")
	config.Keys, config.CacheSize = keys, size
	v, err := kubejwt.New(config)
	if err != nil {
		t.Fatal(err)
	}
	before := heap()
	for range size + size/10 {
		token := cluster.Mint(kubejwttest.Token{
			Audiences: []string{"data-store"},
			Pod:       kubejwt.Object{Name: "api-7d9c5b9c6d-x2x4z", UID: "5c1d3c7e-4f0e-4a55-9c39-0a9c5a0a8a1f"},
			Node:      kubejwt.Object{Name: "node-1.example", UID: "0b7e2c54-8d07-4a6e-8a4e-1f2c7c1f3b55"},
		})
		if _, err := v.Verify(t.Context(), token); err != nil {
			t.Fatal(err)
		}
	}
	grown := heap() - before
	remembered := v.Stats().Remembered
	t.Logf("%d tokens, %d bytes", remembered, grown)
	if remembered > size || remembered < size*99/100 {
		t.Errorf("%d tokens are remembered, of %d, with room for %d", remembered, size+size/10, size)
	}
	if grown > most {
		t.Errorf("%d bytes for %d remembered tokens: want %d at most", grown, remembered, most)
	}
}

// heap is what is in use after a collection.
func heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
