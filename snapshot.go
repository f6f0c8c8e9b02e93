package kubejwt

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kubejwt/kubejwt/internal/keypolicy"
	"github.com/kubejwt/kubejwt/internal/keyset"
	"github.com/kubejwt/kubejwt/internal/reread"
	"github.com/kubejwt/kubejwt/internal/strictjson"
)

// snapshotFile keeps the last good key set for the next start of the process.
type snapshotFile struct {
	path   string
	issuer string // configured; "" if it is learnt, and then restored
	url    string // a digest of the configured URL: where the keys, or the document, come from
	roots  func(context.Context) string
	write  func(path string, data []byte) error // replaceFile, except in tests
}

// snapshot is the content of the file. It says where the keys are from: those of
// one origin must not be used for another.
type snapshot struct {
	Issuer       string        `json:"issuer"`
	FormerIssuer string        `json:"formerIssuer"`
	FormerSince  time.Time     `json:"formerSince"`
	URLSHA256    string        `json:"urlSHA256"` // a query may be a secret
	RootsSHA256  string        `json:"rootsSHA256"`
	FetchedAt    time.Time     `json:"fetchedAt"`
	Keys         []snapshotKey `json:"keys"`
}

type snapshotKey struct {
	KeyID string `json:"kid"`
	SPKI  []byte `json:"spki"` // DER SubjectPublicKeyInfo
}

// load returns the state that the file holds. It is past its life, so that a fetch
// is tried before it is used. With an error, the state is empty. A panic becomes an
// error: otherwise it would end the process.
func (f *snapshotFile) load(
	ctx context.Context, now keypolicy.Instant, maxStale time.Duration,
) (state *cacheState, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("reading it panicked with a %T", p)
		}
		if err != nil {
			state = new(cacheState)
		}
	}()
	return f.read(ctx, now, maxStale)
}

// report logs what load has returned.
func (f *snapshotFile) report(state *cacheState, err error, logger *slog.Logger) {
	switch {
	case err == nil:
		logger.Info("kubejwt: starting with the keys of the snapshot",
			"file", f.path, "fetched_at", state.fetchedAt.Wall)
	case !errors.Is(err, os.ErrNotExist):
		logger.Warn("kubejwt: the snapshot is not used", "file", f.path, "why", err)
	}
}

func (f *snapshotFile) read(ctx context.Context, now keypolicy.Instant, maxStale time.Duration) (*cacheState, error) {
	data, err := reread.Read(f.path, 2*keyset.MaxSize)
	if err != nil {
		return nil, err
	}
	var s snapshot
	if err := strictjson.UnmarshalClosed(data, &s); err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	age := now.Wall.Sub(s.FetchedAt)
	switch {
	case s.Issuer == "", f.issuer != "" && s.Issuer != f.issuer:
		return nil, errors.New("it is for another issuer")
	case s.URLSHA256 != f.url:
		return nil, errors.New("it is from another URL")
	case s.RootsSHA256 != f.roots(ctx):
		return nil, errors.New("its origin was verified with other roots")
	case age < 0, s.FormerSince.After(now.Wall):
		return nil, errors.New("it is from the future")
	case maxStale >= 0 && age >= maxStale:
		return nil, errors.New("it is older than MaxStale")
	}
	set, err := s.keySet()
	if err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	return &cacheState{
		keys:        set,
		fetchedAt:   now.Before(s.FetchedAt),
		issuer:      s.Issuer,
		former:      s.FormerIssuer,
		formerSince: now.Before(s.FormerSince),
	}, nil
}

func (s *snapshot) keySet() (*keyset.Set, error) {
	var keys PublicKeys
	for _, k := range s.Keys {
		public, err := x509.ParsePKIXPublicKey(k.SPKI)
		if err != nil || k.KeyID == "" {
			return nil, errors.New("a key in it does not decode")
		}
		keys = append(keys, PublicKey{KeyID: k.KeyID, Key: public})
	}
	return keys.keySet()
}

// save replaces the file. If that fails, the service goes on without a snapshot.
func (f *snapshotFile) save(state *cacheState, logger *slog.Logger) {
	data, err := f.encode(state)
	if err == nil {
		err = f.write(f.path, data)
	}
	if err != nil {
		logger.Warn("kubejwt: the snapshot was not written", "file", f.path, "error", err)
	}
}

func (f *snapshotFile) encode(state *cacheState) ([]byte, error) {
	s := snapshot{
		Issuer:       state.issuer,
		FormerIssuer: state.former,
		FormerSince:  state.formerSince.Wall,
		URLSHA256:    f.url,
		RootsSHA256:  state.roots,
		FetchedAt:    state.fetchedAt.Wall,
	}
	if f.issuer != "" {
		s.Issuer = f.issuer
	}
	for _, k := range state.keys.Keys {
		s.Keys = append(s.Keys, snapshotKey{k.ID, k.SPKI})
	}
	return json.Marshal(s)
}

const (
	tempPrefix = ".kubejwt-snapshot-"

	// leftoverAge is how old a temporary file must be to be removed. By then, a
	// process that is still writing it has a disk that hangs.
	leftoverAge = time.Hour
)

// replaceFile writes data to path in one step, so that a reader finds either the
// old or the new content.
func replaceFile(path string, data []byte) error {
	folder := filepath.Dir(path)
	removeLeftovers(folder)
	temp, err := os.CreateTemp(folder, tempPrefix+"*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // fails once it has been renamed
	_, err = temp.Write(data)
	if err = errors.Join(err, temp.Sync(), temp.Close()); err == nil {
		err = os.Rename(temp.Name(), path)
	}
	return err
}

// removeLeftovers removes the temporary files of processes that were killed while they
// wrote. If it can't remove one, the next snapshot is written all the same.
func removeLeftovers(folder string) {
	entries, _ := os.ReadDir(folder)
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), tempPrefix) {
			continue
		}
		info, err := entry.Info()
		if err == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) > leftoverAge {
			os.Remove(filepath.Join(folder, entry.Name()))
		}
	}
}
