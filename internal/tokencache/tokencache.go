// Package tokencache remembers the result of verifying a token, by the token's
// SHA-256 digest. It holds no token text, a limited number of entries, and no
// goroutine. Its user decides whether an entry is still valid.
//
// We wrote our own cache because the well-kept ones do more than is needed, and cost
// more. otter v2, ristretto v2 and golang-lru's expirable run two, two and one
// goroutines, and nothing ends the last one. Each would be one more module that users
// of a security library have to trust. A hit takes 12 ns here, and five to twelve
// times as long there. With two cores expirable is no faster than with one, because
// it takes a lock. The figures come from
//
//	cd internal/bench && go test -run xxx -bench Caches .
package tokencache

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
)

// Each shard has its own lock, so that writers seldom wait for each other. A shard
// must be large enough that tokens in use don't crowd each other out of it.
const (
	maxShards    = 64
	minShardSize = 128
)

// A Digest is the SHA-256 of a token.
type Digest = [32]byte

// A Cache maps digests to values. It is safe for concurrent use by multiple
// goroutines. Reading never waits. The zero Cache and a nil one remember nothing.
type Cache[V any] struct {
	shards []shard[V]
}

// shard is a hash table with open addressing: a slot is at the place that its digest
// says, or at the next free one. Readers take no lock. A slot never changes, so a
// reader who looks while a writer moves it finds either the whole slot or none. If it
// finds none, the token is verified again.
type shard[V any] struct {
	mu    sync.Mutex // held by writers
	table atomic.Pointer[table[V]]
	size  int // the most slots
	used  int
	hand  int // where the search for a slot to reuse goes on
}

// table has a power of two places, at most half of them in use.
type table[V any] []atomic.Pointer[slot[V]]

const firstPlaces = 8

type slot[V any] struct {
	digest Digest
	value  V
	read   atomic.Bool // since the hand last passed
}

// New returns a Cache of at most size entries, and nil if size is not positive.
func New[V any](size int) *Cache[V] {
	if size <= 0 {
		return nil
	}
	n := min(max(size/minShardSize, 1), maxShards)
	c := &Cache[V]{shards: make([]shard[V], n)}
	for i := range c.shards {
		c.shards[i].size = size / n
		if i < size%n {
			c.shards[i].size++
		}
		places := make(table[V], firstPlaces)
		c.shards[i].table.Store(&places)
	}
	return c
}

func (c *Cache[V]) shard(d Digest) *shard[V] {
	return &c.shards[int(binary.LittleEndian.Uint16(d[:]))%len(c.shards)]
}

// home is the place of d. It uses other bytes of d than the choice of the shard.
func (t table[V]) home(d Digest) int {
	return int(binary.LittleEndian.Uint32(d[2:]) & uint32(len(t)-1))
}

func (t table[V]) after(i int) int { return (i + 1) & (len(t) - 1) }

// find returns the place where d is, or the free place where it belongs. The search
// ends after all places, since a writer may be moving slots at the same time.
func (t table[V]) find(d Digest) (place int, found *slot[V]) {
	place = t.home(d)
	for range t {
		s := t[place].Load()
		if s == nil || s.digest == d {
			return place, s
		}
		place = t.after(place)
	}
	return place, nil
}

// remove frees a place, and moves up the slots behind it that belong further up.
func (t table[V]) remove(free int) {
	for next := t.after(free); ; next = t.after(next) {
		s := t[next].Load()
		if s == nil {
			t[free].Store(nil)
			return
		}
		// s may move to free if that is not in front of its home.
		if home := t.home(s.digest); (next-home)&(len(t)-1) >= (next-free)&(len(t)-1) {
			t[free].Store(s)
			free = next
		}
	}
}

// Get returns the value that Put stored for d, if it is still there.
func (c *Cache[V]) Get(d Digest) (value V, ok bool) {
	if c == nil || len(c.shards) == 0 {
		return value, false
	}
	_, found := c.shard(d).table.Load().find(d)
	if found == nil {
		return value, false
	}
	// Storing only a change keeps the slot's cache line shared among its readers.
	if !found.read.Load() {
		found.read.Store(true)
	}
	return found.value, true
}

// Put remembers value for d. If there is no room, it replaces an entry that was not
// read since the last search for such an entry passed it.
func (c *Cache[V]) Put(d Digest, value V) {
	if c == nil || len(c.shards) == 0 {
		return
	}
	s := c.shard(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	entry := &slot[V]{digest: d, value: value}
	t := *s.table.Load()
	if place, found := t.find(d); found != nil {
		t[place].Store(entry)
		return
	}
	if s.used == s.size {
		s.evict(t)
	}
	if 2*(s.used+1) > len(t) {
		t = s.grow(t)
	}
	place, _ := t.find(d)
	t[place].Store(entry)
	s.used++
}

// evict removes a slot. It goes round like the hand of a clock, and skips a slot that
// was read since it last came by. It skips each slot only once: otherwise it might
// never end if there are many readers.
func (s *shard[V]) evict(t table[V]) {
	for passed := 0; ; passed++ {
		place := s.hand & (len(t) - 1)
		s.hand++
		if at := t[place].Load(); at != nil && (!at.read.Swap(false) || passed >= len(t)) {
			t.remove(place)
			s.used--
			return
		}
	}
}

// grow doubles the number of places. Those who still read the old table find the old
// slots there.
func (s *shard[V]) grow(old table[V]) table[V] {
	t := make(table[V], 2*len(old))
	for i := range old {
		if entry := old[i].Load(); entry != nil {
			place, _ := t.find(entry.digest)
			t[place].Store(entry)
		}
	}
	s.table.Store(&t)
	return t
}

// Len is the number of entries.
func (c *Cache[V]) Len() int {
	if c == nil {
		return 0
	}
	n := 0
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		n += s.used
		s.mu.Unlock()
	}
	return n
}
