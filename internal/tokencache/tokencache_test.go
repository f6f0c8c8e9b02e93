package tokencache_test

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"testing"

	"github.com/kubejwt/kubejwt/internal/tokencache"
)

func digest(i int) tokencache.Digest {
	return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
}

func TestNeverMoreThanSize(t *testing.T) {
	for _, size := range []int{-1, 0, 1, 2, 63, 64, 65, 1000} {
		c := tokencache.New[int](size)
		for i := range 10 * max(size, 10) {
			c.Put(digest(i), i)
			if value, ok := c.Get(digest(i)); size > 0 && (!ok || value != i) {
				t.Fatalf("size %d: %d is not there after Put", size, i)
			}
			if c.Len() > max(size, 0) {
				t.Fatalf("size %d: %d entries", size, c.Len())
			}
		}
		found := 0
		for i := range 10 * max(size, 10) {
			if value, ok := c.Get(digest(i)); ok && value == i {
				found++
			}
		}
		if found != c.Len() {
			t.Errorf("size %d: %d entries, of which %d are found", size, c.Len(), found)
		}
		// The digests spread evenly, so that ten times the size fills it.
		if size > 0 && c.Len() < size*9/10 {
			t.Errorf("size %d: only %d entries", size, c.Len())
		}
	}
}

func TestZero(t *testing.T) {
	for _, c := range []*tokencache.Cache[int]{nil, {}} {
		c.Put(digest(1), 1)
		if _, ok := c.Get(digest(1)); ok || c.Len() != 0 {
			t.Error("a zero Cache remembers")
		}
	}
}

func TestPutAgain(t *testing.T) {
	c := tokencache.New[string](10)
	c.Put(digest(1), "old")
	c.Put(digest(1), "new")
	if value, _ := c.Get(digest(1)); value != "new" || c.Len() != 1 {
		t.Errorf("%q, %d entries: want new, 1", value, c.Len())
	}
}

// What is read stays, what is not makes room.
func TestKeepsWhatIsRead(t *testing.T) {
	const size = 1024
	c := tokencache.New[int](size)
	for i := range 100 {
		c.Put(digest(i), i)
	}
	for i := 100; i < 20*size; i++ {
		c.Put(digest(i), i)
		c.Get(digest(i % 100))
	}
	kept := 0
	for i := range 100 {
		if _, ok := c.Get(digest(i)); ok {
			kept++
		}
	}
	if kept < 90 {
		t.Errorf("%d of 100 that were read all the time are left", kept)
	}
}

func TestConcurrent(t *testing.T) {
	c := tokencache.New[int](100)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				c.Put(digest(i), i)
				if value, ok := c.Get(digest(i - g)); ok && value != i-g {
					t.Errorf("%d under the digest of %d", value, i-g)
				}
			}
		})
	}
	wg.Wait()
}
