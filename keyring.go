package kubejwt

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/kubejwt/kubejwt/internal/keyset"
	"github.com/kubejwt/kubejwt/internal/reread"
	"github.com/kubejwt/kubejwt/internal/safelog"
)

const rereadInterval = time.Second // of a KeyFile

// keyring is a KeySource at work.
type keyring interface {
	// current returns the keys to judge a token by.
	current(ctx context.Context) (view, error)
	// again returns them once more for a token that passed rule 3, and whose
	// aud and exp would pass, but that the keys seen can't judge.
	again(ctx context.Context, seen view) (view, error)
	// ready returns nil while there are keys.
	ready(ctx context.Context) error
	// holds reports whether a key is in use at this moment.
	holds(id string, fingerprint [sha256.Size]byte) bool
	addStats(*Stats)
}

// view is what a keyring knows at one moment.
type view struct {
	*keyset.Set
	issuer       string        // as the origin names it, where it is to be learnt
	formerIssuer string        // the one before it, while it is honoured
	trouble      error         // why the keys could not be brought up to date; nil if they could
	retry        time.Duration // with trouble: until the next attempt
	waited       bool          // a fetch was waited for to get this
}

// unavailable is the error of a token that v can't judge, while nobody can tell
// whether a newer set could. It is nil without trouble.
func (v view) unavailable() error {
	if v.trouble == nil {
		return nil
	}
	return &keysUnavailable{cause: v.trouble, retry: v.retry}
}

// staticKeys is the keyring of PublicKeys.
type staticKeys struct{ set *keyset.Set }

func (s staticKeys) current(context.Context) (view, error)     { return view{Set: s.set}, nil }
func (s staticKeys) again(context.Context, view) (view, error) { return view{Set: s.set}, nil }
func (s staticKeys) ready(context.Context) error               { return nil }
func (s staticKeys) holds(id string, fingerprint [sha256.Size]byte) bool {
	return s.set.Holds(id, fingerprint)
}
func (s staticKeys) addStats(stats *Stats) { stats.KeyIDs = s.set.IDs() }

// fileKeys is the keyring of a KeyFile.
type fileKeys struct {
	file *reread.File[*keyset.Set]
	now  func() instant
}

// newFileKeys reads the file, which has to be in order at the start.
func newFileKeys(path KeyFile, logger *slog.Logger) (*fileKeys, error) {
	if path == "" {
		return nil, errors.New("a KeyFile without a path")
	}
	f := &fileKeys{
		file: reread.New(string(path), keyset.MaxSize, rereadInterval, keyset.ParseFile, logger),
		now:  realClock,
	}
	logger = safelog.New(logger)
	f.file.Changed = func(last, next *keyset.Set) {
		logChange(logger, last, next)
		logDropped(logger, last, next)
	}
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	content, err := f.file.Get(ctx)
	if err != nil {
		return nil, err
	}
	logDropped(logger, nil, content.Value)
	return f, nil
}

func (f *fileKeys) current(ctx context.Context) (view, error) {
	content, err := f.file.Get(ctx)
	if err != nil {
		return view{}, &keysUnavailable{cause: err}
	}
	goodAt := instant{mono: content.GoodAt, wall: content.GoodAt.Round(0)}
	if f.now().since(goodAt) >= defaultMaxStale {
		problem := cmp.Or(content.Problem, errors.New("the clock was set, and the file not looked at since"))
		return view{}, &keysUnavailable{cause: fmt.Errorf("not in order for %v: %w", defaultMaxStale, problem)}
	}
	return view{Set: content.Value, trouble: content.Problem}, nil
}

// again does not look twice: current has looked.
func (f *fileKeys) again(_ context.Context, seen view) (view, error) {
	return seen, seen.unavailable()
}

func (f *fileKeys) holds(id string, fingerprint [sha256.Size]byte) bool {
	content, err := f.file.Last()
	return err == nil && content.Value.Holds(id, fingerprint)
}

func (f *fileKeys) ready(ctx context.Context) error {
	_, err := f.current(ctx)
	return err
}

func (f *fileKeys) addStats(s *Stats) {
	content, err := f.file.Last()
	if err != nil {
		s.LastError = err
		return
	}
	s.KeyIDs = content.Value.IDs()
	s.FetchedAt = content.GoodAt.Round(0)
	s.StaleAt = s.FetchedAt.Add(defaultMaxStale)
	s.LastError = content.Problem
}
