package revocation

import (
	"context"
	"flag"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/internal/accounts"
	"github.com/kubejwt/kubejwt/internal/apiserver"
)

var (
	long = flag.Bool("long", false, "run the model through thousands of histories, and the churn for a day: .ci/run sets it")
	seed = flag.Uint64("seed", 0, "of the one history of the model to run; 0: all")
)

// The model: random creation, minting, termination, deletion, cuts, silences,
// outages, restores from a backup, compactions, with and without WatchList, and
// clocks that are up to a minute apart. After each step all tokens are judged,
// and an oracle, which knows every moment of every object, is asked whether
// TokenReview would have said the same.
func TestModel(t *testing.T) {
	histories := uint64(150)
	switch {
	case *seed != 0:
		runHistory(t, *seed)
		return
	case *long:
		histories = 5000
	}
	start := rand.Uint64()
	t.Logf("%d histories, seeds from %d on", histories, start)
	for i := range histories {
		if runHistory(t, start+i); t.Failed() {
			t.Fatalf("go test -run TestModel -seed %d", start+i)
		}
	}
}

func runHistory(t *testing.T, seed uint64) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel(t, seed)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan bool)
		go func() {
			m.watcher.Run(ctx)
			close(ended)
		}()
		for range 60 {
			m.step()
			synctest.Wait()
			m.judgeAll()
			if t.Failed() {
				t.Logf("seed %d: server's clock %v ahead, WhenStale %d\n%s", seed, m.skew, m.watcher.options.WhenStale, m.log)
				break
			}
		}
		cancel()
		<-ended
	})
}

// A moment is what the oracle knows of an object from some time on.
type moment struct {
	from     time.Time
	exists   bool
	deletion time.Time // by the API server's clock; zero: none
}

type token struct {
	claims kubejwt.Claims
	minted time.Time // by the watcher's clock
	gone   bool      // it was refused as revoked
}

type model struct {
	*testing.T
	*rand.Rand
	watcher *Watcher
	server  *apiserver.Server
	skew    time.Duration // how far the API server's clock is ahead of ours
	start   time.Time
	log     []byte

	tokens    []*token
	objects   map[string][]moment // by UID
	names     map[apiserver.Key]string
	uids      int
	seen      map[string]bool // deleted while a stream that stood knew them
	available atomic.Bool     // streams read it while a step is made
	silent    bool
	restore   func()
	backup    map[apiserver.Key]string
	backedUp  map[string]moment

	availableSince, restored time.Time
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{
		T: t, Rand: rand.New(rand.NewPCG(seed, 0)), server: apiserver.New(), start: time.Now(),
		objects: make(map[string][]moment), names: make(map[apiserver.Key]string), seen: make(map[string]bool),
		availableSince: time.Now(),
	}
	m.available.Store(true)
	m.skew = time.Duration(m.IntN(119)-59) * time.Second // and iat is in whole seconds
	watcher, err := New(Options{
		ServiceAccounts: []string{"shop/api"},
		APIServer:       "https://api.example",
		Transport:       m,
		WhenStale:       []Stale{Accept, Refuse}[m.IntN(2)],
		MaxStale:        time.Duration(2+m.IntN(5)) * time.Minute,
		Logger:          slog.New(slog.DiscardHandler),
	})
	m.available.Store(true)
	if err != nil {
		t.Fatal(err)
	}
	m.watcher = watcher
	return m
}

func (m *model) RoundTrip(r *http.Request) (*http.Response, error) {
	if !m.available.Load() {
		return nil, fmt.Errorf("unavailable")
	}
	return m.server.Answer(r).Response(r), nil
}

func (m *model) note(format string, args ...any) {
	m.log = fmt.Appendf(m.log, "%8.1f s: ", time.Since(m.start).Seconds())
	m.log = fmt.Appendf(m.log, format+"\n", args...)
}

var accountKey = apiserver.Key{Kind: apiserver.ServiceAccounts, Namespace: "shop", Name: "api"}

func (m *model) podKey() apiserver.Key {
	return apiserver.Key{Kind: apiserver.Pods, Namespace: "shop", Name: fmt.Sprint("pod-", m.IntN(4))}
}

func (m *model) step() {
	// Some waits are short, so that things overlap, and some pass all bounds.
	time.Sleep([]time.Duration{0, m.wait(time.Second), m.wait(10 * time.Second), m.wait(100 * time.Second), m.wait(5 * time.Minute)}[m.IntN(5)])
	switch n := m.IntN(20); {
	case n < 6:
		m.mint()
	case n < 8:
		m.terminate(m.podKey(), time.Duration(m.IntN(90))*time.Second)
	case n < 11:
		m.delete(m.podKey())
	case n == 11:
		m.delete(accountKey)
	case n == 12:
		m.note("cut")
		m.server.Cut()
	case n == 13 || n == 14:
		m.silent = m.IntN(2) == 0
		m.note("silent: %v", m.silent)
		m.server.Silence(m.silent)
	case n == 15 || n == 16:
		m.setAvailable(m.IntN(2) == 0)
	case n == 17:
		m.note("compact")
		m.server.Compact()
	case n == 18:
		on := m.IntN(2) == 0
		m.note("WatchList: %v", on)
		m.server.SetWatchList(on)
	case m.restore == nil:
		m.note("backup")
		m.takeBackup()
	default:
		m.note("restore")
		m.restoreBackup()
	}
}

func (m *model) wait(most time.Duration) time.Duration { return rand.N(most) }

func (m *model) setAvailable(available bool) {
	m.note("available: %v", available)
	if available && !m.available.Load() {
		m.availableSince = time.Now()
	}
	m.available.Store(available)
	if !available {
		m.server.Cut()
	}
}

// ensure makes an object exist, and returns its UID.
func (m *model) ensure(key apiserver.Key, account string) string {
	if uid := m.names[key]; uid != "" {
		return uid
	}
	m.uids++
	uid := fmt.Sprintf("%s-%d", key.Name, m.uids)
	m.names[key] = uid
	m.server.Put(key, apiserver.Object{UID: uid, ServiceAccount: account})
	m.set(uid, moment{exists: true})
	return uid
}

func (m *model) set(uid string, now moment) {
	now.from = time.Now()
	m.objects[uid] = append(m.objects[uid], now)
}

// mint is for a pod that has not ended: kubelet asks for no others.
func (m *model) mint() {
	key := m.podKey()
	if uid := m.names[key]; uid != "" && !m.ever(uid, time.Now(), time.Now()) {
		m.delete(key)
	}
	claims := kubejwt.Claims{
		Namespace:      "shop",
		ServiceAccount: kubejwt.Object{Name: "api", UID: m.ensure(accountKey, "")},
		IssuedAt:       time.Now().Add(m.skew).Truncate(time.Second),
	}
	if m.IntN(5) > 0 {
		claims.Pod = kubejwt.Object{Name: key.Name, UID: m.ensure(key, "api")}
	}
	m.note("mint for %s, %s, iat %.0f", claims.ServiceAccount.UID, claims.Pod.UID, claims.IssuedAt.Sub(m.start).Seconds())
	m.tokens = append(m.tokens, &token{claims: claims, minted: time.Now()})
}

func (m *model) terminate(key apiserver.Key, grace time.Duration) {
	uid := m.names[key]
	if uid == "" {
		return
	}
	m.note("terminate %s in %v", uid, grace)
	deletion := time.Now().Add(m.skew + grace).Truncate(time.Second)
	if last := m.objects[uid][len(m.objects[uid])-1]; !last.deletion.IsZero() {
		deletion = minTime(deletion, last.deletion) // a second deletion can't put it off
	}
	m.server.Put(key, apiserver.Object{UID: uid, ServiceAccount: "api", Deletion: deletion})
	m.set(uid, moment{exists: true, deletion: deletion})
}

func (m *model) delete(key apiserver.Key) {
	if uid := m.names[key]; uid != "" {
		m.seen[uid] = !m.silent && m.server.Streams() == 2 && m.knows(uid)
		m.note("delete %s", uid)
		m.server.Delete(key)
		m.set(uid, moment{})
		delete(m.names, key)
	}
}

// knows reports whether an object is in the watcher's view.
func (m *model) knows(uid string) bool {
	m.watcher.mu.RLock()
	defer m.watcher.mu.RUnlock()
	for _, s := range m.watcher.streams {
		if _, found := s.view.live[uid]; found {
			return true
		}
	}
	return false
}

func (m *model) takeBackup() {
	m.restore, m.backup, m.backedUp = m.server.Backup(), make(map[apiserver.Key]string), make(map[string]moment)
	for key, uid := range m.names {
		m.backup[key] = uid
		m.backedUp[uid] = m.objects[uid][len(m.objects[uid])-1]
	}
}

func (m *model) restoreBackup() {
	m.restore()
	clear(m.names)
	clear(m.seen)
	for uid := range m.objects {
		m.set(uid, m.backedUp[uid])
	}
	for key, uid := range m.backup {
		m.names[key] = uid
	}
	m.restored = time.Now()
}

// honoured reports whether TokenReview, without its cache, takes an object for
// there at x.
func (m *model) honoured(mo moment, x time.Time) bool {
	return mo.exists && (mo.deletion.IsZero() || !mo.deletion.Add(time.Minute).Before(x.Add(m.skew)))
}

// ever and everNot report whether an object was honoured, or was not, at any
// moment of a span of time.
func (m *model) ever(uid string, from, to time.Time) bool {
	for mo, end := range m.moments(uid) {
		// The clock of from, and not of the moment: what comes back with a backup may
		// have been at its end before, which the watcher and TokenReview tell by clocks
		// that differ.
		if !maxTime(mo.from, from).After(to) && !end.Before(from) && m.honoured(mo, from) {
			return true
		}
	}
	return false
}

func (m *model) everNot(uid string, from, to time.Time) bool {
	for mo, end := range m.moments(uid) {
		if !mo.from.After(to) && !end.Before(from) && !m.honoured(mo, minTime(end, to)) {
			return true
		}
	}
	return false
}

// moments yields what was known of an object, and until when.
func (m *model) moments(uid string) iter.Seq2[moment, time.Time] {
	return func(yield func(moment, time.Time) bool) {
		all := m.objects[uid]
		for i, mo := range all {
			end := time.Now().Add(time.Hour)
			if i+1 < len(all) {
				end = all[i+1].from
			}
			if !yield(mo, end) {
				return
			}
		}
	}
}

func (m *model) judgeAll() {
	for _, tok := range m.tokens {
		err := m.watcher.Check(tok.claims)
		outcome := kubejwt.Outcome(err)
		m.judgeOne(tok, outcome)
		if m.Failed() {
			m.note("judged %+v: %s, %v", tok.claims, outcome, err)
			return
		}
	}
}

// settled is when whatever happened before the watcher has had to see: a silent
// stream is replaced after Q, the next one may take two turns, if it is restored
// meanwhile, and a UID that was never seen takes G more.
const settled = maxSilence + clockSlack + 2*turnEvery + 2*time.Second

func (m *model) judgeOne(tok *token, outcome string) {
	now := time.Now()
	apart := m.skew.Abs() + time.Second
	calm := m.available.Load() && now.Sub(m.availableSince) > settled
	switch outcome {
	case "accepted":
		for _, e := range m.evidence(tok, now) {
			if !m.ever(e.uid, e.at.Add(-apart), e.at.Add(apart)) {
				m.Errorf("accepted, and TokenReview refused %s at the evidence, %.1f s", e.uid, e.at.Sub(m.start).Seconds())
			}
			if m.watcher.options.WhenStale == Refuse && now.Sub(e.at) > m.watcher.options.MaxStale {
				m.Errorf("accepted on evidence that is %v old", now.Sub(e.at))
			}
		}
		if m.seen[tok.claims.ServiceAccount.UID] || m.seen[tok.claims.Pod.UID] {
			m.Errorf("accepted, although a stream told of the deletion")
		}
		if calm && m.longGone(tok, now) {
			m.Errorf("accepted, although it was deleted long ago")
		}
		if tok.gone && m.restored.IsZero() && !m.terminated(tok) {
			m.Errorf("accepted, although it was refused before: gone is final")
		}
	case "revoked":
		tok.gone = true
		restoring := !m.restored.IsZero() && (!calm || now.Sub(m.restored) < settled)
		isGone := func(o kubejwt.Object) bool { return o.UID != "" && m.everNot(o.UID, now, now.Add(apart)) }
		// What came back with a backup may not be known yet.
		if !restoring && !isGone(tok.claims.ServiceAccount) && !isGone(tok.claims.Pod) {
			m.Errorf("revoked, and TokenReview accepts")
		}
	case "undecided":
		if m.watcher.options.WhenStale == Accept {
			m.Errorf("undecided, although stale evidence is to be accepted")
		}
		there := func(o kubejwt.Object) bool { return o.UID == "" || m.ever(o.UID, now, now) }
		// With the least MaxStale, a clock that is behind makes a pod that was made
		// in silence look too old for a moment.
		roomy := m.watcher.options.MaxStale > maxSilence+clockSlack
		if roomy && calm && there(tok.claims.ServiceAccount) && there(tok.claims.Pod) {
			m.Errorf("undecided, although the API server answers, and TokenReview accepts")
		}
	default:
		m.Errorf("%s", outcome)
	}
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

type evidence struct {
	uid string
	at  time.Time
}

// evidence is what an acceptance stood on.
func (m *model) evidence(tok *token, now time.Time) (all []evidence) {
	m.watcher.mu.RLock()
	defer m.watcher.mu.RUnlock()
	s := m.watcher.scopes[accounts.Account{Namespace: "shop", Name: "api"}]
	age := func(v *view, uid string) time.Duration {
		_, live := v.judge(uid, tok.claims.IssuedAt, now)
		return v.age(live, tok.claims.IssuedAt, now)
	}
	all = append(all, evidence{tok.claims.ServiceAccount.UID, now.Add(-age(&s.accounts.view, tok.claims.ServiceAccount.UID))})
	if tok.claims.Pod.UID != "" {
		all = append(all, evidence{tok.claims.Pod.UID, now.Add(-age(&s.pods.view, tok.claims.Pod.UID))})
	}
	return all
}

// longGone reports whether one of the token's objects has not been honoured for
// long.
func (m *model) longGone(tok *token, now time.Time) bool {
	return slices.ContainsFunc([]kubejwt.Object{tok.claims.ServiceAccount, tok.claims.Pod}, func(o kubejwt.Object) bool {
		return o.UID != "" && !m.ever(o.UID, now.Add(-settled-m.skew.Abs()), now)
	})
}

// terminated reports whether one of the token's objects has or had a
// deletionTimestamp, which may be put off.
func (m *model) terminated(tok *token) bool {
	for _, o := range []kubejwt.Object{tok.claims.ServiceAccount, tok.claims.Pod} {
		for _, mo := range m.objects[o.UID] {
			if !mo.deletion.IsZero() {
				return true
			}
		}
	}
	return false
}

// age is how old, at time t, the evidence is that an object is there which judge
// has not found gone.
func (v *view) age(live bool, iat, t time.Time) time.Duration {
	if !live {
		return t.Sub(iat)
	}
	return min(t.Sub(iat), elapsed(v.asOf, t))
}
