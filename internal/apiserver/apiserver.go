// Package apiserver answers lists and watches of pods and service accounts as a
// kube-apiserver does, as far as tests need it: metadata, field selectors, pages,
// resource versions, initial events and bookmarks. internal/e2e asks a real one
// the same.
package apiserver

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"
)

// The kinds of objects, as paths name them.
const (
	Pods            = "pods"
	ServiceAccounts = "serviceaccounts"
)

// maxHistory is how many changes a watch can resume over.
const maxHistory = 1000

// A Key names an object.
type Key struct{ Kind, Namespace, Name string }

// An Object is what is kept of a pod or a service account.
type Object struct {
	UID            string
	ServiceAccount string    // of a pod
	Deletion       time.Time // deletionTimestamp; zero: none
}

// A Server keeps objects and tells streams about them. It is safe for concurrent
// use by multiple goroutines, and may be used from several synctest bubbles:
// each stream belongs to the one that it was opened in.
type Server struct {
	mu        sync.Mutex
	version   int64
	objects   map[Key]stored
	history   []change
	compacted int64             // changes up to this version are forgotten
	pages     map[string][]item // what is left of paged lists, by continue token
	streams   map[*Stream]bool
	silent    bool
	old       bool // no WatchList
}

type stored struct {
	Object
	version int64
	created time.Time
}

type item struct {
	Key
	stored
}

type change struct {
	kind string // ADDED, MODIFIED or DELETED
	item
}

// New returns a Server without objects.
func New() *Server {
	return &Server{
		version: 1,
		objects: make(map[Key]stored),
		pages:   make(map[string][]item),
		streams: make(map[*Stream]bool),
	}
}

// Get returns an object.
func (s *Server) Get(key Key) (Object, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, found := s.objects[key]
	return o.Object, found
}

// Put makes an object exist as it is given. One of the same name with another
// UID is deleted first; where nothing differs nothing happens.
func (s *Server) Put(key Key, o Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, found := s.objects[key]
	switch {
	case found && old.Object == o:
	case found && old.UID == o.UID:
		s.store("MODIFIED", key, stored{Object: o, created: old.created})
	case found:
		s.delete(key)
		fallthrough
	default:
		s.store("ADDED", key, stored{Object: o, created: time.Now()})
	}
}

// Delete removes an object, and reports whether it was there.
func (s *Server) Delete(key Key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, found := s.objects[key]
	if found {
		s.delete(key)
	}
	return found
}

func (s *Server) store(kind string, key Key, o stored) {
	s.version++
	o.version = s.version
	s.objects[key] = o
	s.publish(change{kind, item{key, o}})
}

func (s *Server) delete(key Key) {
	s.version++
	o := s.objects[key]
	o.version = s.version
	delete(s.objects, key)
	s.publish(change{"DELETED", item{key, o}})
}

func (s *Server) publish(c change) {
	s.history = append(s.history, c)
	if len(s.history) > maxHistory {
		s.compacted = s.history[0].version
		s.history = slices.Delete(s.history, 0, 1)
	}
	for stream := range s.streams {
		stream.take(c)
	}
}

// Compact forgets the history, as etcd does: streams and lists of older versions
// can't go on.
func (s *Server) Compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.compacted, s.history = s.version, nil
	clear(s.pages)
}

// Backup returns a func that restores what is there now: resource versions go
// back, and all streams end.
func (s *Server) Backup() (restore func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	version, objects := s.version, maps.Clone(s.objects)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.version, s.objects = version, maps.Clone(objects)
		s.compacted, s.history = version, nil
		clear(s.pages)
		s.cut()
	}
}

// Cut ends all streams.
func (s *Server) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut()
}

func (s *Server) cut() {
	for stream := range s.streams {
		stream.end()
	}
}

// Silence makes streams send nothing, except the list that a new one begins with.
// What happens meanwhile is sent when the silence ends.
func (s *Server) Silence(silent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = silent
	for stream := range s.streams {
		stream.signal()
	}
}

// SetWatchList sets whether streams can begin with a list, as by default.
func (s *Server) SetWatchList(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.old = !on
}

// Streams is how many streams are open.
func (s *Server) Streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

// list returns the items that a request is about, sorted. The caller holds mu.
func (s *Server) list(q *query) []item {
	var items []item
	for key, o := range s.objects {
		if it := (item{key, o}); q.matches(it) {
			items = append(items, it)
		}
	}
	slices.SortFunc(items, func(a, b item) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return items
}

// encode writes an item as an API server does.
func (i item) encode(partial bool) json.RawMessage {
	metadata := map[string]any{
		"name":              i.Name,
		"namespace":         i.Namespace,
		"uid":               i.UID,
		"resourceVersion":   formatVersion(i.version),
		"creationTimestamp": formatTime(i.created),
	}
	if !i.Deletion.IsZero() {
		metadata["deletionTimestamp"] = formatTime(i.Deletion)
	}
	object := map[string]any{"metadata": metadata}
	switch {
	case partial:
		object["kind"], object["apiVersion"] = "PartialObjectMetadata", "meta.k8s.io/v1"
	case i.Kind == Pods:
		object["kind"], object["apiVersion"] = "Pod", "v1"
		object["spec"] = map[string]any{"serviceAccountName": i.ServiceAccount}
	default:
		object["kind"], object["apiVersion"] = "ServiceAccount", "v1"
	}
	return marshal(object)
}

func marshal(value any) json.RawMessage {
	data, err := json.Marshal(value)
	if err != nil {
		panic("apiserver: " + err.Error()) // of strings and maps
	}
	return data
}

func formatVersion(version int64) string { return strconv.FormatInt(version, 10) }
func formatTime(t time.Time) string      { return t.UTC().Format(time.RFC3339) }
