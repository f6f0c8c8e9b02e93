package kubejwt

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/kubejwt/kubejwt/internal/keypolicy"
	"github.com/kubejwt/kubejwt/internal/keyset"
	"github.com/kubejwt/kubejwt/internal/reread"
	"github.com/kubejwt/kubejwt/internal/safelog"
)

// A keyring has the keys that a Verifier uses. Each kind of KeySource has its own.
type keyring interface {
	// current returns the keys to judge a token by, and whether it waited for a
	// fetch to get them.
	current(ctx context.Context) (keys keysAtHand, waited bool, err error)
	// refresh brings the keys up to date for a token that could pass, but that the
	// keys seen can't judge. It returns whether it waited for a fetch.
	refresh(ctx context.Context, seen keysAtHand) (waited bool, err error)
	// latest returns the keys without waiting. It returns an error while there may
	// be newer keys that can't be fetched.
	latest() (keysAtHand, error)
	// ready returns nil while there are keys.
	ready(ctx context.Context) error
	// holds reports whether a key is in use at this moment.
	holds(id string, fingerprint [sha256.Size]byte) bool
	addStats(*Stats)
}

// keysAtHand is what a keyring has at one moment.
type keysAtHand struct {
	*keyset.Set
	issuer       string // as the discovery document names it; "" if none was read
	formerIssuer string // the one before it, while it is honoured
}

// publishedBy reports whether the discovery document names issuer, or named it
// lately. It is false for an empty issuer.
func (k keysAtHand) publishedBy(issuer string) bool {
	return issuer != "" && (issuer == k.issuer || issuer == k.formerIssuer)
}

// lookup is how one call of Verify looks at the keys. It makes sure that a caller
// waits for one fetch at most.
type lookup struct {
	keyring keyring
	seen    keysAtHand
	waited  bool
}

// current looks at the keys, once.
func (l *lookup) current(ctx context.Context) (err error) {
	if l.seen.Set == nil {
		l.seen, l.waited, err = l.keyring.current(ctx)
	}
	return err
}

// refresh looks at the keys again, after a fetch if one may be waited for.
func (l *lookup) refresh(ctx context.Context) error {
	if !l.waited {
		waited, err := l.keyring.refresh(ctx, l.seen)
		if err != nil {
			return err
		}
		l.waited = waited
	}
	return l.latest()
}

// latest looks at the keys again.
func (l *lookup) latest() (err error) {
	l.seen, err = l.keyring.latest()
	return err
}

// newKeyring makes the keyring for New.
func newKeyring(config Config, onIssuerChange func(issuer string)) (keyring, error) {
	if config.Keys == nil {
		config.Keys = RemoteKeys{}
	}
	switch source := config.Keys.(type) {
	case RemoteKeys:
		r, err := newRemote(config.Issuer, source, config.Logger)
		if err != nil {
			return nil, err
		}
		return newJWKSCache(r, config.Logger, onIssuerChange), nil
	case KeyFile:
		file, err := newFileKeys(source, config.Logger)
		if err != nil {
			return nil, badField("Keys", "KeyFile: %w", err)
		}
		return file, nil
	case PublicKeys:
		set, err := source.keySet()
		if err != nil {
			return nil, badField("Keys", "PublicKeys: %w", err)
		}
		return staticKeys{set}, nil
	default:
		return nil, badField("Keys",
			"a %T is not a KeySource: want PublicKeys, KeyFile or RemoteKeys, by value", source)
	}
}

// newJWKSCache makes the keyring for keys that r fetches.
func newJWKSCache(r *remote, logger *slog.Logger, onIssuerChange func(issuer string)) *jwksCache {
	cache := &jwksCache{
		fetch:          r.fetch,
		now:            keypolicy.Now,
		maxStale:       cmp.Or(r.config.MaxStale, keypolicy.DefaultMaxStale),
		onIssuerChange: onIssuerChange,
		logger:         safelog.New(logger),
	}
	if path := r.config.SnapshotFile; path != "" {
		url := r.configuredURL().Digest()
		cache.snapshot = &snapshotFile{
			path: path, issuer: r.issuer, url: url, roots: r.client.RootsDigest, write: replaceFile,
		}
	}
	return cache
}

// staticKeys is the keyring of PublicKeys.
type staticKeys struct{ set *keyset.Set }

func (s staticKeys) current(context.Context) (keysAtHand, bool, error) {
	return keysAtHand{Set: s.set}, false, nil
}
func (s staticKeys) refresh(context.Context, keysAtHand) (bool, error) { return false, nil }
func (s staticKeys) latest() (keysAtHand, error)                       { return keysAtHand{Set: s.set}, nil }
func (s staticKeys) ready(context.Context) error                       { return nil }
func (s staticKeys) holds(id string, fingerprint [sha256.Size]byte) bool {
	return s.set.Holds(id, fingerprint)
}
func (s staticKeys) addStats(stats *Stats) { stats.KeyIDs = s.set.IDs() }

// fileKeys is the keyring of a KeyFile.
type fileKeys struct {
	file *reread.File[*keyset.Set]
	now  func() keypolicy.Instant
}

// newFileKeys reads the file. At the start its keys must be good.
func newFileKeys(path KeyFile, logger *slog.Logger) (*fileKeys, error) {
	const interval = time.Second
	if path == "" {
		return nil, errors.New("a KeyFile without a path")
	}
	f := &fileKeys{
		file: reread.New(string(path), keyset.MaxSize, interval, keyset.ParseFile, logger),
		now:  keypolicy.Now,
	}
	logger = safelog.New(logger)
	f.file.Changed = func(last, next *keyset.Set) {
		logChange(logger, last, next)
		logDropped(logger, last, next)
	}
	ctx, cancel := context.WithTimeout(context.Background(), keypolicy.FetchTimeout)
	defer cancel()
	content, err := f.file.Get(ctx)
	if err != nil {
		return nil, err
	}
	logDropped(logger, nil, content.Value)
	return f, nil
}

func (f *fileKeys) current(ctx context.Context) (keysAtHand, bool, error) {
	content, err := f.file.Get(ctx)
	if err != nil {
		return keysAtHand{}, false, &keysUnavailable{cause: err}
	}
	goodAt := keypolicy.At(content.GoodAt)
	if f.now().Since(goodAt) >= keypolicy.DefaultMaxStale {
		problem := cmp.Or(content.Problem, errors.New("the clock was set, and the file was not read since"))
		err := fmt.Errorf("the file could not be used for %v: %w", keypolicy.DefaultMaxStale, problem)
		return keysAtHand{}, false, &keysUnavailable{cause: err}
	}
	return keysAtHand{Set: content.Value}, false, nil
}

// refresh does not read the file again: current has just done so.
func (f *fileKeys) refresh(context.Context, keysAtHand) (bool, error) { return false, nil }

func (f *fileKeys) latest() (keysAtHand, error) {
	content, err := f.file.Last()
	if err := cmp.Or(err, content.Problem); err != nil {
		return keysAtHand{}, &keysUnavailable{cause: err}
	}
	return keysAtHand{Set: content.Value}, nil
}

func (f *fileKeys) holds(id string, fingerprint [sha256.Size]byte) bool {
	content, err := f.file.Last()
	return err == nil && content.Value.Holds(id, fingerprint)
}

func (f *fileKeys) ready(ctx context.Context) error {
	_, _, err := f.current(ctx)
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
	s.StaleAt = s.FetchedAt.Add(keypolicy.DefaultMaxStale)
	s.LastError = content.Problem
}
