package tokencache_test

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/kubejwt/kubejwt/internal/tokencache"
)

func digest(i int) tokencache.Digest {
	return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
}

func TestNeverMoreThanSize(t *testing.T) {
	for _, size := range []int{-1, 0, 1, 2, 63, 64, 65, 255, 256, 1000, 8192} {
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
		if size > 0 && c.Len() != size {
			t.Errorf("size %d: only %d entries", size, c.Len())
		}
	}
}

// A small cache holds as many as it says, all of them in use.
func TestSmallIsFull(t *testing.T) {
	for _, size := range []int{1, 2, 10, 64, 100, 255} {
		c := tokencache.New[int](size)
		for range 3 {
			for i := range size {
				if _, ok := c.Get(digest(i)); !ok {
					c.Put(digest(i), i)
				}
			}
		}
		for i := range size {
			if value, ok := c.Get(digest(i)); !ok || value != i {
				t.Errorf("size %d: %d is gone", size, i)
			}
		}
	}
}

// Digests that stand side by side, that differ in one byte, and that run over
// the end of the table.
func TestCollisions(t *testing.T) {
	for name, digest := range map[string]func(i int) tokencache.Digest{
		"the same place": func(i int) (d tokencache.Digest) {
			binary.BigEndian.PutUint64(d[24:], uint64(i))
			return d
		},
		"the last places": func(i int) (d tokencache.Digest) {
			binary.LittleEndian.PutUint32(d[2:], uint32(0xfffffff8+i%16))
			binary.BigEndian.PutUint64(d[24:], uint64(i))
			return d
		},
		"the first byte": func(i int) (d tokencache.Digest) {
			binary.BigEndian.PutUint64(d[:], uint64(i)<<48)
			return d
		},
	} {
		const size = 200
		c := tokencache.New[int](size)
		random := rand.New(rand.NewPCG(1, 2))
		last := make(map[int]int)
		for step := range 20 * size {
			i := random.IntN(2 * size)
			c.Put(digest(i), step)
			last[i] = step
			if value, ok := c.Get(digest(random.IntN(2 * size))); ok && value > step {
				t.Fatalf("%s: a value of the future", name)
			}
			if value, ok := c.Get(digest(i)); !ok || value != step {
				t.Fatalf("%s: %d is not there after Put", name, i)
			}
		}
		found := 0
		for i, step := range last {
			if value, ok := c.Get(digest(i)); ok {
				found++
				if value != step {
					t.Errorf("%s: %d under the digest of %d: want %d", name, value, i, step)
				}
			}
		}
		if found != c.Len() || found != size {
			t.Errorf("%s: %d entries, of which %d are found: want %d", name, c.Len(), found, size)
		}
	}
}

// Readers that never pause keep no writer from finding a slot.
func TestAllRead(t *testing.T) {
	const size = 64
	c := tokencache.New[int](size)
	for i := range size {
		c.Put(digest(i), i)
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				for i := range size {
					c.Get(digest(i))
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := size; i < 20*size; i++ {
		c.Put(digest(i), i)
	}
	close(done)
	readers.Wait()
	if c.Len() != size {
		t.Errorf("%d entries: want %d", c.Len(), size)
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

// What makes room is the one that was not read, and no other that stands beside
// it because their places are the same.
func TestMakesRoom(t *testing.T) {
	samePlace := func(i int) (d tokencache.Digest) {
		d[31] = byte(i)
		return d
	}
	for read, unread := range map[int]int{0: 1, 1: 0} {
		c := tokencache.New[int](2)
		c.Put(samePlace(0), 0)
		c.Put(samePlace(1), 1)
		c.Get(samePlace(read))
		c.Put(samePlace(2), 2)
		for i, want := range map[int]bool{read: true, unread: false, 2: true} {
			if value, ok := c.Get(samePlace(i)); ok != want || ok && value != i {
				t.Errorf("%d was read: %d is there: %t (%d)", read, i, ok, value)
			}
		}
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
