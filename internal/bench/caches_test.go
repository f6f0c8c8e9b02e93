package bench

import (
	"crypto/sha256"
	"encoding/binary"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/ristretto/v2"
	"github.com/hashicorp/golang-lru/v2/expirable"
	"github.com/maypok86/otter/v2"

	"github.com/kubejwt/kubejwt/internal/tokencache"
)

// cache is one that could hold what is remembered of tokens, by their digest.
type cache struct {
	name string
	make func(testing.TB) (put func(tokencache.Digest, *int), get func(tokencache.Digest) bool)
}

const cached = 8192

var caches = []cache{
	{"tokencache", func(testing.TB) (func(tokencache.Digest, *int), func(tokencache.Digest) bool) {
		c := tokencache.New[*int](cached)
		return c.Put, func(d tokencache.Digest) bool { _, ok := c.Get(d); return ok }
	}},
	{"otter", func(t testing.TB) (func(tokencache.Digest, *int), func(tokencache.Digest) bool) {
		c, err := otter.New(&otter.Options[tokencache.Digest, *int]{
			MaximumSize:      cached,
			ExpiryCalculator: otter.ExpiryWriting[tokencache.Digest, *int](time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
		put := func(d tokencache.Digest, value *int) { c.Set(d, value) }
		return put, func(d tokencache.Digest) bool { _, ok := c.GetIfPresent(d); return ok }
	}},
	{"ristretto", func(t testing.TB) (func(tokencache.Digest, *int), func(tokencache.Digest) bool) {
		c, err := ristretto.NewCache(&ristretto.Config[[]byte, *int]{
			NumCounters:        10 * cached,
			MaxCost:            cached,
			BufferItems:        64,
			IgnoreInternalCost: true, // MaxCost is entries, and not bytes
		})
		if err != nil {
			t.Fatal(err)
		}
		put := func(d tokencache.Digest, value *int) {
			c.SetWithTTL(d[:], value, 1, time.Hour)
			c.Wait() // it puts in later
		}
		return put, func(d tokencache.Digest) bool { _, ok := c.Get(d[:]); return ok }
	}},
	{"expirable", func(testing.TB) (func(tokencache.Digest, *int), func(tokencache.Digest) bool) {
		c := expirable.NewLRU[tokencache.Digest, *int](cached, nil, time.Hour)
		put := func(d tokencache.Digest, value *int) { c.Add(d, value) }
		return put, func(d tokencache.Digest) bool { _, ok := c.Get(d); return ok }
	}},
}

// BenchmarkCaches is why there is a cache of our own: what a hit on one digest
// costs on one core and on two, and the goroutines that run meanwhile.
func BenchmarkCaches(b *testing.B) {
	for _, c := range caches {
		before := runtime.NumGoroutine()
		put, get := c.make(b)
		for i := range cached / 2 {
			put(sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i))), new(int))
		}
		hot := sha256.Sum256(make([]byte, 8))
		put(hot, new(int))
		goroutines := runtime.NumGoroutine() - before
		for _, cores := range []int{1, 2} {
			b.Run("by="+c.name+"/cores="+strconv.Itoa(cores), func(b *testing.B) {
				b.ReportAllocs()
				var misses atomic.Int64
				var all sync.WaitGroup
				for range cores {
					all.Go(func() {
						for range b.N / cores {
							if !get(hot) {
								misses.Add(1)
							}
						}
					})
				}
				all.Wait()
				b.ReportMetric(float64(goroutines), "goroutines")
				b.ReportMetric(float64(misses.Load()), "misses")
			})
		}
	}
}
