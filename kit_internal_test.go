package kubejwt

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubejwt/kubejwt/internal/keypolicy"
	"github.com/kubejwt/kubejwt/internal/keyset"
	"github.com/kubejwt/kubejwt/internal/testlog"
)

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func newTestRemote(t *testing.T, keys RemoteKeys) *remote {
	t.Helper()
	r, err := newRemote("https://iss.example", keys, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A story is one Verifier, the origin of its keys, and the time between them.
// Its verbs say what a service and its callers see.
type story struct {
	t        *testing.T
	verifier *Verifier
	cache    *jwksCache
	log      *testlog.Buffer

	wallAhead, monoBehind time.Duration // how far the two clocks have gone astray

	mu        sync.Mutex // guards the origin
	private   map[string]*ecdsa.PrivateKey
	published []string
	answer    func(context.Context) (fetched, error) // nil: the published keys
	maxAge    time.Duration
	latency   time.Duration
	lifetime  time.Duration // of tokens
	asked     int
	causes    []fetchCause
}

const storyIssuer = "https://kubernetes.default.svc"

// tell runs a story in a bubble: its time passes only while everybody waits.
// At the start the key "old" is published and nobody has asked for it.
func tell(t *testing.T, plot func(*testing.T, *story)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &story{
			t: t, log: new(testlog.Buffer),
			private:  make(map[string]*ecdsa.PrivateKey),
			maxAge:   time.Hour,
			latency:  20 * time.Millisecond,
			lifetime: time.Hour,
		}
		logger := slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		config := Config{Issuer: storyIssuer, Audiences: []string{"data-store"}, ServiceAccounts: []string{"*"}, Logger: logger}
		c, allowed, err := config.prepare()
		if err != nil {
			t.Fatal(err)
		}
		s.cache = &jwksCache{fetch: s.fetch, now: s.now, maxStale: keypolicy.DefaultMaxStale, onIssuerChange: func(string) {}, logger: logger}
		c.keys = s.cache
		s.verifier = newVerifier(c, allowed)
		s.publish("old")
		defer time.Sleep(keypolicy.FetchTimeout) // a fetch in the background ends
		plot(t, s)
	})
}

func (s *story) now() keypolicy.Instant {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	return keypolicy.Instant{Mono: now.Add(-s.monoBehind), Wall: now.Round(0).Add(s.wallAhead)}
}

func (s *story) fetch(ctx context.Context, cause fetchCause) (fetched, error) {
	s.mu.Lock()
	s.asked++
	s.causes = append(s.causes, cause)
	answer, latency := s.answer, s.latency
	s.mu.Unlock()
	select {
	case <-time.After(latency):
	case <-ctx.Done():
		return fetched{}, ctx.Err()
	}
	if answer != nil {
		return answer(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []*keyset.Key
	for _, kid := range s.published {
		k, err := keyset.NewKey(kid, s.private[kid].Public())
		if err != nil {
			return fetched{}, err
		}
		keys = append(keys, k)
	}
	set, err := keyset.New(keys...)
	return fetched{keys: set, maxAge: s.maxAge}, err
}

// publish adds a new key under kid, in the place of one that was there.
func (s *story) publish(kid string) {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.private[kid] = key
	if !slices.Contains(s.published, kid) {
		s.published = append(s.published, kid)
	}
}

// jwks is what an API server would publish of these keys.
func (s *story) jwks(kids ...string) []byte {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := []map[string]string{}
	for _, kid := range kids {
		point, err := s.private[kid].PublicKey.Bytes()
		if err != nil {
			s.t.Fatal(err)
		}
		encode := base64.RawURLEncoding.EncodeToString
		keys = append(keys, map[string]string{
			"kty": "EC", "crv": "P-256", "kid": kid, "x": encode(point[1:33]), "y": encode(point[33:]),
		})
	}
	data, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		s.t.Fatal(err)
	}
	return data
}

func (s *story) withdraw(kid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.published = slices.DeleteFunc(s.published, func(p string) bool { return p == kid })
}

// rotate has the origin publish one key and no other.
func (s *story) rotate(from, to string) {
	s.withdraw(from)
	s.publish(to)
}

func (s *story) answerWith(answer func(context.Context) (fetched, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *story) failWith(err error) {
	s.answerWith(func(context.Context) (fetched, error) { return fetched{}, err })
}

func (s *story) hang() {
	s.answerWith(func(ctx context.Context) (fetched, error) {
		<-ctx.Done()
		return fetched{}, ctx.Err()
	})
}

func (s *story) recover() { s.answerWith(nil) }

// mint signs a token with the key that kid has now.
func (s *story) mint(kid string) string { return s.mintOf(storyIssuer, kid) }

func (s *story) mintOf(issuer, kid string) string {
	s.t.Helper()
	now := time.Now()
	payload := map[string]any{
		"iss": issuer, "aud": []string{"data-store"}, "sub": "system:serviceaccount:shop:api", "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(s.lifetime).Unix(),
		"kubernetes.io": map[string]any{"namespace": "shop", "serviceaccount": map[string]string{"name": "api", "uid": "1"}},
	}
	signed := encodeSegment(s.t, map[string]string{"alg": "ES256", "kid": kid}) + "." + encodeSegment(s.t, payload)
	digest := sha256.Sum256([]byte(signed))
	s.mu.Lock()
	key := s.private[kid]
	s.mu.Unlock()
	signature := make([]byte, 64)
	if key == nil {
		rand.Read(signature)
		return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
	}
	r, v, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		s.t.Fatal(err)
	}
	r.FillBytes(signature[:32])
	v.FillBytes(signature[32:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func encodeSegment(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

func (s *story) verify(token string) error {
	_, err := s.verifier.Verify(s.t.Context(), token)
	return err
}

// verdict is "" for an accepted token, "unavailable", or the reason.
func verdict(err error) Reason {
	if err == nil {
		return ""
	}
	if refusal, ok := errors.AsType[*InvalidTokenError](err); ok {
		return refusal.Reason
	}
	if errors.Is(err, ErrKeysUnavailable) {
		return "unavailable"
	}
	return Reason("another error: " + err.Error())
}

func (s *story) must(token string, want Reason) {
	s.t.Helper()
	if err := s.verify(token); verdict(err) != want {
		s.t.Fatalf("after %d fetches: got %q, want %q: %v", s.fetches(), verdict(err), want, err)
	}
}

func (s *story) mustKnow(kid string)          { s.t.Helper(); s.must(s.mint(kid), "") }
func (s *story) mustNotKnow(kid string)       { s.t.Helper(); s.must(s.mint(kid), ReasonUnknownKey) }
func (s *story) mustBeUnavailable(kid string) { s.t.Helper(); s.must(s.mint(kid), "unavailable") }

// mustKnowAtOnce is mustKnow without a moment's wait.
func (s *story) mustKnowAtOnce(kid string) { s.t.Helper(); s.mustAtOnce(s.mint(kid)) }

func (s *story) mustAtOnce(token string) { s.t.Helper(); s.mustAfter(token, 0) }

// mustKnowAfter is mustKnow after a wait for this long.
func (s *story) mustKnowAfter(kid string, wait time.Duration) {
	s.t.Helper()
	s.mustAfter(s.mint(kid), wait)
}

func (s *story) mustAfter(token string, wait time.Duration) {
	s.t.Helper()
	began := time.Now()
	s.must(token, "")
	if waited := time.Since(began); waited != wait {
		s.t.Fatalf("a good token waited for %v, want %v", waited, wait)
	}
}

// turnIn is how long an unknown kid sets off no fetch.
func (s *story) turnIn() time.Duration {
	return max(0, s.cache.state.Load().unknownKid.Wait(s.cache.now()))
}

// waitForTurn waits until an unknown kid may set off a fetch.
func (s *story) waitForTurn() { time.Sleep(s.turnIn()) }

// logged is the log once all who write to it have done so.
func (s *story) logged() string {
	synctest.Wait()
	return s.log.String()
}

// clearLog forgets what was logged.
func (s *story) clearLog() {
	synctest.Wait()
	s.log.Reset()
}

// settle lets a fetch in the background end.
func (s *story) settle() {
	time.Sleep(s.latency)
	synctest.Wait()
}

// mustFetches wants n fetches since it was last asked, background ones
// included.
func (s *story) mustFetches(n int) {
	s.t.Helper()
	s.settle()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked != n {
		s.t.Fatalf("%d fetches %q, want %d", s.asked, s.causes, n)
	}
	s.asked, s.causes = 0, nil
}

// fetches are those since mustFetches.
func (s *story) fetches() int {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// busyFor uses a key each minute, as a service does that has callers.
func (s *story) busyFor(d time.Duration, kid string) {
	s.t.Helper()
	for range int(d / time.Minute) {
		time.Sleep(time.Minute)
		s.mustKnowAtOnce(kid)
	}
}

// alongside runs n callers at once, and waits for them.
func alongside(n int, call func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { call(i) })
	}
	all.Wait()
}
