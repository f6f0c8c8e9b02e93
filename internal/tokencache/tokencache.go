// Package tokencache remembers, by the SHA-256 digest of a token, what
// verifying it brought. It holds no token text, a bounded number of entries,
// and no goroutine. Whether an entry still holds is its user's to judge.
package tokencache

import (
	"sync"
	"sync/atomic"
)

// maxShards is how many locks the entries are spread over. Readers share a
// lock, so that this only has to keep writers out of their way.
const maxShards = 64

// A Digest is the SHA-256 of a token.
type Digest = [32]byte

// A Cache maps digests to values. Its methods may be called at once by many
// goroutines. The zero Cache, and a nil one, remember nothing.
type Cache[V any] struct {
	shards []shard[V]
}

// shard is a fixed number of slots, which a clock hand goes round to find the
// one to reuse: a slot read since the hand last passed is passed over once.
type shard[V any] struct {
	mu    sync.RWMutex
	index map[Digest]int
	slots []*slot[V]
	size  int
	hand  int
}

type slot[V any] struct {
	digest Digest
	value  V
	read   atomic.Bool
}

// New returns a Cache of at most size entries; none if size is not positive.
func New[V any](size int) *Cache[V] {
	if size <= 0 {
		return &Cache[V]{}
	}
	n := min(size, maxShards)
	c := &Cache[V]{shards: make([]shard[V], n)}
	for i := range c.shards {
		c.shards[i].size = size / n
		if i < size%n {
			c.shards[i].size++
		}
		c.shards[i].index = make(map[Digest]int)
	}
	return c
}

func (c *Cache[V]) shard(d Digest) *shard[V] {
	return &c.shards[(int(d[0])|int(d[1])<<8)%len(c.shards)]
}

// Get returns the value that was put in under d, if it is still there.
func (c *Cache[V]) Get(d Digest) (value V, ok bool) {
	if c == nil || len(c.shards) == 0 {
		return value, false
	}
	s := c.shard(d)
	s.mu.RLock()
	defer s.mu.RUnlock()
	i, ok := s.index[d]
	if !ok {
		return value, false
	}
	// Storing only a change leaves the slot's cache line with its readers.
	if found := s.slots[i]; !found.read.Load() {
		found.read.Store(true)
	}
	return s.slots[i].value, true
}

// Put remembers value under d, in the place of another entry if there is no
// room.
func (c *Cache[V]) Put(d Digest, value V) {
	if c == nil || len(c.shards) == 0 {
		return
	}
	s := c.shard(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	entry := &slot[V]{digest: d, value: value}
	if i, ok := s.index[d]; ok {
		s.slots[i] = entry
		return
	}
	if len(s.slots) < s.size {
		s.index[d] = len(s.slots)
		s.slots = append(s.slots, entry)
		return
	}
	for s.slots[s.hand].read.Swap(false) {
		s.hand = (s.hand + 1) % len(s.slots)
	}
	delete(s.index, s.slots[s.hand].digest)
	s.slots[s.hand] = entry
	s.index[d] = s.hand
	s.hand = (s.hand + 1) % len(s.slots)
}

// Len is the number of entries.
func (c *Cache[V]) Len() int {
	if c == nil {
		return 0
	}
	n := 0
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		n += len(s.slots)
		s.mu.RUnlock()
	}
	return n
}
