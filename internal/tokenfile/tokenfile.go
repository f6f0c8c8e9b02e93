// Package tokenfile reads the calling side's own token, which kubelet mounts and
// renews. It does not verify the token: the service that gets it does.
package tokenfile

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"

	"github.com/kubejwt/kubejwt/internal/origin"
	"github.com/kubejwt/kubejwt/internal/quote"
	"github.com/kubejwt/kubejwt/internal/reread"
	"github.com/kubejwt/kubejwt/internal/strictjson"
)

const (
	// interval is how long a token is used before its file is read again. Kubelet
	// renews it when a fifth of its life is left, which is two minutes at least.
	interval = time.Minute

	// wait is how long Token waits for a disk that hangs, if there is no token to go
	// on with.
	wait = 10 * time.Second

	maxDate = 253402300799 // the end of the year 9999
)

// A Source is an [oauth2.TokenSource]. It is safe for concurrent use by multiple
// goroutines.
type Source struct {
	path string
	file atomic.Pointer[reread.File[mountedToken]] // printing a Source does not follow it
}

// New returns a Source of the token at path. Nothing is read yet.
func New(path string) *Source {
	s := &Source{path: path}
	s.file.Store(s.unread())
	return s
}

func (s *Source) unread() *reread.File[mountedToken] {
	return reread.New(s.path, origin.MaxBearerSize, interval, parse, slog.New(slog.DiscardHandler))
}

// mountedToken is a token and its exp, which is zero if it is not known.
type mountedToken struct {
	bearer string
	expiry time.Time
}

func (m mountedToken) expired() bool {
	return !m.expiry.IsZero() && !time.Now().Before(m.expiry)
}

// Token returns the token in the file, which is read again after a minute. Its Expiry
// is at most a minute ahead.
func (s *Source) Token() (*oauth2.Token, error) { return s.TokenWithin(context.Background()) }

// TokenWithin is Token for a caller whose context ends the wait for the disk.
func (s *Source) TokenWithin(ctx context.Context) (*oauth2.Token, error) {
	token, err := s.current(ctx)
	if err != nil {
		return nil, fmt.Errorf("kubejwt: TokenFile: %w", err)
	}
	expiry := time.Now().Add(interval)
	if !token.expiry.IsZero() && token.expiry.Before(expiry) {
		expiry = token.expiry
	}
	return &oauth2.Token{AccessToken: token.bearer, TokenType: "Bearer", Expiry: expiry}, nil
}

func (s *Source) current(ctx context.Context) (mountedToken, error) {
	if s.path == "" {
		return mountedToken{}, errors.New("no path")
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	file := s.file.Load()
	content, err := file.Get(ctx)
	if err == nil && content.Value.expired() {
		content, err = file.GetFresh(ctx)
	}
	token := content.Value
	switch {
	case err != nil:
		return mountedToken{}, err
	case token.expired() && content.Problem != nil:
		return mountedToken{}, fmt.Errorf("%w; the token read before has expired", content.Problem)
	case token.expired():
		return mountedToken{}, fmt.Errorf("%s: the token in it expired at %s: does kubelet renew this volume?",
			s.path, token.expiry.Format(time.RFC3339))
	default:
		return token, nil
	}
}

// Forget makes the next Token read the file again, if bearer is the one that was read
// last.
func (s *Source) Forget(bearer string) {
	file := s.file.Load()
	if content, err := file.Last(); err == nil && content.Value.bearer == bearer {
		s.file.CompareAndSwap(file, s.unread())
	}
}

// parse reads the exp of a JWT. A file that is being written is an error.
func parse(data []byte) (mountedToken, error) {
	bearer, err := origin.ParseBearer(data)
	if err != nil {
		return mountedToken{}, err
	}
	if !quote.BeginsToken(bearer) {
		return mountedToken{bearer: bearer}, nil // not a JWT: it may mean something to the service
	}
	segments := strings.Split(bearer, ".")
	if len(segments) != 3 || segments[2] == "" {
		return mountedToken{}, errors.New("half a JWT")
	}
	payload, err := base64.RawURLEncoding.DecodeString(segments[1])
	if err != nil {
		return mountedToken{}, errors.New("a damaged JWT")
	}
	var claims struct {
		Expiry *int64 `json:"exp"`
	}
	if err := strictjson.Unmarshal(payload, &claims); err != nil {
		return mountedToken{}, errors.New("a damaged JWT")
	}
	switch {
	case claims.Expiry == nil:
		return mountedToken{bearer: bearer}, nil
	case *claims.Expiry < 0 || *claims.Expiry > maxDate:
		return mountedToken{}, errors.New("a damaged JWT: its exp is out of range")
	default:
		return mountedToken{bearer, time.Unix(*claims.Expiry, 0).UTC()}, nil
	}
}
