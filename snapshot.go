package kubejwt

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/kubejwt/kubejwt/internal/keyset"
	"github.com/kubejwt/kubejwt/internal/strictjson"
)

// snapshotFile is where the last good key set outlives the process.
type snapshotFile struct {
	path   string
	issuer string // configured; "" if it is learnt, and then restored
	url    string // configured: where the keys, or the document, come from
	roots  func() string
}

// snapshot is the content of the file. Keys of one origin must not serve for
// another, so that it says where they are from.
type snapshot struct {
	Issuer       string        `json:"issuer"`
	FormerIssuer string        `json:"formerIssuer"`
	FormerSince  time.Time     `json:"formerSince"`
	URL          string        `json:"url"`
	RootsSHA256  string        `json:"rootsSHA256"`
	FetchedAt    time.Time     `json:"fetchedAt"`
	Keys         []snapshotKey `json:"keys"`
}

type snapshotKey struct {
	KeyID string `json:"kid"`
	SPKI  []byte `json:"spki"` // DER SubjectPublicKeyInfo
}

// load returns the state that the file holds, as one past its life so that a
// fetch is tried before it is used, or beside an error an empty state.
func (f *snapshotFile) load(now instant, maxStale time.Duration) (*cacheState, error) {
	state, err := f.read(now, maxStale)
	if err != nil {
		return new(cacheState), err
	}
	return state, nil
}

// report logs what load has returned.
func (f *snapshotFile) report(state *cacheState, err error, logger *slog.Logger) {
	switch {
	case err == nil:
		logger.Info("kubejwt: starting with the keys of the snapshot", "file", f.path, "fetched_at", state.fetchedAt.wall)
	case !errors.Is(err, os.ErrNotExist):
		logger.Warn("kubejwt: the snapshot is not used", "file", f.path, "why", err)
	}
}

func (f *snapshotFile) read(now instant, maxStale time.Duration) (*cacheState, error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > 2*keyset.MaxSize {
		return nil, errors.New("it is no regular file, or too large")
	}
	data, err := os.ReadFile(f.path)
	if err != nil {
		return nil, err
	}
	var s snapshot
	if err := strictjson.UnmarshalClosed(data, &s); err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	age := now.wall.Sub(s.FetchedAt)
	switch {
	case s.Issuer == "", f.issuer != "" && s.Issuer != f.issuer:
		return nil, errors.New("it is of another issuer")
	case s.URL != f.url:
		return nil, errors.New("it is from another URL")
	case s.RootsSHA256 != f.roots():
		return nil, errors.New("its origin was judged by other roots")
	case age < 0, s.FormerSince.After(now.wall):
		return nil, errors.New("it is from the future")
	case maxStale >= 0 && age >= maxStale:
		return nil, errors.New("it is older than MaxStale")
	}
	set, err := s.keySet()
	if err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	before := func(wall time.Time) instant { return instant{now.mono.Add(-now.wall.Sub(wall)), wall} }
	return &cacheState{
		keys:        set,
		fetchedAt:   before(s.FetchedAt),
		issuer:      s.Issuer,
		former:      s.FormerIssuer,
		formerSince: before(s.FormerSince),
	}, nil
}

func (s *snapshot) keySet() (*keyset.Set, error) {
	var keys PublicKeys
	for _, k := range s.Keys {
		public, err := x509.ParsePKIXPublicKey(k.SPKI)
		if err != nil || k.KeyID == "" {
			return nil, errors.New("a key of it does not decode")
		}
		keys = append(keys, PublicKey{KeyID: k.KeyID, Key: public})
	}
	return keys.keySet()
}

// save replaces the file in one step, so that a reader finds the old content or
// the new. A failure costs the snapshot, not the service.
func (f *snapshotFile) save(state *cacheState, roots string, logger *slog.Logger) {
	if err := f.write(state, roots); err != nil {
		logger.Warn("kubejwt: the snapshot was not written", "file", f.path, "error", err)
	}
}

func (f *snapshotFile) write(state *cacheState, roots string) error {
	s := snapshot{
		Issuer:       state.issuer,
		FormerIssuer: state.former,
		FormerSince:  state.formerSince.wall,
		URL:          f.url,
		RootsSHA256:  roots,
		FetchedAt:    state.fetchedAt.wall,
	}
	if f.issuer != "" {
		s.Issuer = f.issuer
	}
	for _, k := range state.keys.Keys {
		s.Keys = append(s.Keys, snapshotKey{k.ID, k.SPKI})
	}
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(f.path), ".kubejwt-snapshot-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // fails once it has been renamed
	_, err = temp.Write(data)
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), f.path)
}
