package kubejwt

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kubejwt/kubejwt/internal/keypolicy"
	"github.com/kubejwt/kubejwt/internal/keyset"
	"github.com/kubejwt/kubejwt/internal/reread"
)

// own is what a call may take beyond its context where a disk or a log hangs.
const own = 100 * time.Millisecond

// keyFile has a story's Verifier take its keys from a file, and returns a func
// that writes other keys there.
func (s *story) keyFile(folder string, make func(KeyFile) (*fileKeys, error)) (write func(kids ...string)) {
	s.t.Helper()
	path := filepath.Join(folder, "sa.jwks")
	write = func(kids ...string) {
		s.t.Helper()
		if err := errors.Join(os.WriteFile(path+"~", s.jwks(kids...), 0o600), os.Rename(path+"~", path)); err != nil {
			s.t.Fatal(err)
		}
	}
	write("old")
	keys, err := make(KeyFile(path))
	if err != nil {
		s.t.Fatal(err)
	}
	s.verifier.members[0].cluster.keys, s.verifier.members[0].cluster.static = keys, true
	return write
}

// mustSoon wants token accepted by six callers at once, in little time of their
// own.
func (s *story) mustSoon(token string) {
	s.t.Helper()
	alongside(6, func(int) {
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if _, err := s.verifier.Verify(ctx, token); err != nil || time.Since(began) > own {
			s.t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

// A log that hangs for ever holds up no caller of a KeyFile, be its token
// remembered or not: not when the file changes, nor when it is damaged.
func TestKeyFileWithALogThatHangs(t *testing.T) {
	folder := t.TempDir()
	tell(t, func(t *testing.T, s *story) {
		log := hangingLog{slog.DiscardHandler, make(chan struct{})}
		write := s.keyFile(folder, func(path KeyFile) (*fileKeys, error) { return newFileKeys(path, slog.New(log)) })
		s.publish("new")
		remembered := s.mint("old")
		s.mustSoon(remembered)
		for range 20 {
			for _, kids := range [][]string{{"old", "new"}, {"old"}} {
				write(kids...)
				time.Sleep(time.Second)
				s.mustSoon(remembered)
				s.mustSoon(s.mint(kids[len(kids)-1]))
			}
			os.Remove(filepath.Join(folder, "sa.jwks"))
			time.Sleep(time.Second)
			s.mustSoon(remembered)
			s.mustSoon(s.mint("old"))
			s.verifier.Stats()
		}
		close(log.release)
	})
}

// A log that panics costs its lines, when a KeyFile changes and at the start.
func TestKeyFileWithALogThatPanics(t *testing.T) {
	folder := t.TempDir()
	tell(t, func(t *testing.T, s *story) {
		log := slog.New(panickingLog{slog.DiscardHandler})
		write := s.keyFile(folder, func(path KeyFile) (*fileKeys, error) {
			const odd = `{"keys":[{"kty":"OKP","kid":"odd"},`
			good, err := os.ReadFile(string(path))
			if err != nil {
				return nil, err
			}
			if err := os.WriteFile(string(path), []byte(strings.Replace(string(good), `{"keys":[`, odd, 1)), 0o600); err != nil {
				return nil, err
			}
			return newFileKeys(path, log)
		})
		s.mustKnow("old")
		s.publish("new")
		write("old", "new")
		time.Sleep(time.Second)
		s.mustKnow("new")
		s.settle()
	})
}

// Nor does a disk that hangs for ever: keys stay trusted for a day, and an
// unknown one can't be told from a new one.
func TestKeyFileOnADiskThatHangs(t *testing.T) {
	folder := t.TempDir()
	tell(t, func(t *testing.T, s *story) {
		release := make(chan bool)
		var once sync.Once
		write := s.keyFile(folder, func(path KeyFile) (*fileKeys, error) {
			file := reread.New(string(path), keyset.MaxSize, time.Second, func(data []byte) (*keyset.Set, error) {
				first := false
				once.Do(func() { first = true })
				if !first {
					<-release
				}
				return keyset.Parse(data)
			}, slog.New(slog.DiscardHandler))
			return &fileKeys{file: file, now: keypolicy.Now}, nil
		})
		s.lifetime = 48 * time.Hour
		s.verifier.members[0].cluster.config.MaxLifetime = -1
		remembered := s.mint("old")
		s.mustSoon(remembered)
		s.publish("new")
		write("old", "new")
		time.Sleep(time.Second)
		s.mustSoon(remembered)
		s.mustSoon(s.mint("old"))
		s.mustBeUnavailable("new")
		if got := s.verifier.Stats(); got.LastError == nil || len(got.KeyIDs) != 1 {
			t.Errorf("Stats = %+v", got)
		}
		time.Sleep(23 * time.Hour)
		s.mustSoon(remembered)
		time.Sleep(time.Hour)
		s.must(remembered, "unavailable")
		if err := s.verifier.Ready(t.Context()); !errors.Is(err, ErrKeysUnavailable) {
			t.Errorf("Ready = %v", err)
		}
		close(release)
		s.settle()
		s.mustSoon(s.mint("new"))
		s.mustSoon(remembered)
	})
}

// A verification that ends after its key has gone from the file is not
// remembered.
func TestKeyThatWentFromTheFile(t *testing.T) {
	folder := t.TempDir()
	tell(t, func(t *testing.T, s *story) {
		write := s.keyFile(folder, func(path KeyFile) (*fileKeys, error) {
			return newFileKeys(path, slog.New(slog.DiscardHandler))
		})
		s.publish("new")
		s.mustKnow("old")
		seen, _, err := s.verifier.members[0].cluster.keys.current(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		signer := seen.Key("old")
		if !s.verifier.members[0].cluster.keys.holds("old", signer.Fingerprint) {
			t.Error("a key in the file is not held")
		}
		write("new")
		time.Sleep(time.Second)
		s.mustKnow("new")
		if s.verifier.members[0].cluster.keys.holds("old", signer.Fingerprint) {
			t.Error("a key that went from the file is held")
		}
	})
}

// Where there are no keys yet, the context ends the wait for the disk.
func TestContextEndsTheWaitForAKeyFile(t *testing.T) {
	folder := t.TempDir()
	tell(t, func(t *testing.T, s *story) {
		release := make(chan bool)
		s.keyFile(folder, func(path KeyFile) (*fileKeys, error) {
			file := reread.New(string(path), keyset.MaxSize, time.Second, func(data []byte) (*keyset.Set, error) {
				<-release
				return keyset.Parse(data)
			}, slog.New(slog.DiscardHandler))
			return &fileKeys{file: file, now: keypolicy.Now}, nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), own)
		defer cancel()
		began := time.Now()
		_, err := s.verifier.Verify(ctx, s.mint("old"))
		if !errors.Is(err, ErrKeysUnavailable) || !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != own {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		keys := s.verifier.members[0].cluster.keys
		if got := s.verifier.Stats(); got.LastError == nil || got.KeyIDs != nil || !got.FetchedAt.IsZero() {
			t.Errorf("Stats = %+v", got)
		}
		if _, err := keys.latest(); !errors.Is(err, ErrKeysUnavailable) || keys.holds("old", [sha256.Size]byte{}) {
			t.Errorf("without keys, and %v", err)
		}
		close(release)
		s.mustSoon(s.mint("old"))
	})
}

// Roots on a disk that hangs cost a fetch, and a caller no more than that or
// what is left of its context.
func TestRootsOnADiskThatHangs(t *testing.T) {
	folder := t.TempDir()
	tell(t, func(t *testing.T, s *story) {
		f := s.keepsSnapshot(folder)
		s.mustKnow("old")
		release := make(chan bool)
		hanging := func(ctx context.Context) string {
			select {
			case <-release:
			case <-ctx.Done():
			}
			return "unreadable"
		}
		s.restart()
		f.roots = hanging
		for _, wait := range []time.Duration{own, 10 * own} {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			began := time.Now()
			if _, err := s.verifier.Verify(ctx, s.mint("old")); err != nil && !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > wait+own {
				t.Errorf("with %v: %v after %v", wait, err, time.Since(began))
			}
		}
		s.mustKnow("old")
		close(release)
	})
}

// A log that hangs for ever holds up nobody whose token is not accepted either,
// nor New.
func TestRefusalsWithALogThatHangs(t *testing.T) {
	folder := t.TempDir()
	tell(t, func(t *testing.T, s *story) {
		log := hangingLog{slog.DiscardHandler, make(chan struct{})}
		defer close(log.release)
		path := filepath.Join(folder, "sa.jwks")
		odd := bytes.Replace(s.jwks("old"), []byte(`[`), []byte(`[{"kty":"unheard-of","kid":"odd"},`), 1)
		if err := os.WriteFile(path, odd, 0o600); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		v, err := New(Config{
			Issuer: storyIssuer, Audiences: []string{"data-store", storyIssuer}, ServiceAccounts: []string{"evil/*"},
			Keys: KeyFile(path), Logger: slog.New(log),
		})
		if err != nil || time.Since(began) > own {
			t.Fatalf("New: %v after %v", err, time.Since(began))
		}
		s.verifier = v
		s.publish("new")
		for _, kid := range []string{"old", "new"} { // not allowed, and unknown
			for range 300 { // more than wait for the log
				began := time.Now()
				if _, err := v.Verify(t.Context(), s.mint(kid)); err == nil || time.Since(began) > own {
					t.Fatalf("%s: %v after %v", kid, err, time.Since(began))
				}
			}
		}
	})
}

// A log that panics costs the line, not the answer.
func TestRefusalWithALogThatPanics(t *testing.T) {
	tell(t, func(t *testing.T, s *story) {
		c := s.verifier.members[0].cluster
		config := c.config
		config.ServiceAccounts, config.Logger = []string{"*"}, slog.New(panickingLog{slog.DiscardHandler})
		prepared, allowed, err := config.prepare()
		if err != nil {
			t.Fatal(err)
		}
		prepared.keys = s.cache
		s.verifier = newVerifier(prepared, allowed)
		s.mustKnow("old")
		s.publish("new")
		s.published = s.published[:1]
		s.mustNotKnow("new")
	})
}
