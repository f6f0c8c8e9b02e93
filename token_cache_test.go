package kubejwt_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

// At every moment a Verifier that remembers a token says of it what one that
// has never seen it says.
func TestRememberedIsAsAfresh(t *testing.T) {
	k := newKit(t)
	start := time.Now()
	at := func(d time.Duration) int64 { return start.Add(d).Unix() }
	lasting := func(change func(*kubejwttest.Token)) string {
		g := good()
		claim("exp", at(2*time.Hour))(&g)
		if change != nil {
			change(&g)
		}
		return k.Mint(g)
	}
	tokens := map[string]string{
		"plain":     lasting(nil),
		"nbf ahead": lasting(claim("nbf", at(50*time.Second))),
		"warnafter": lasting(kubernetes(object{"warnafter": at(time.Hour)})),
	}
	offsets := []time.Duration{-2 * time.Minute, -61 * time.Second, -20 * time.Second, -5 * time.Second, 0, 59 * time.Minute,
		61*time.Minute + 1, 90 * time.Minute, 2*time.Hour + 59*time.Second, 2*time.Hour + 61*time.Second, 48 * time.Hour, time.Minute}
	for _, extended := range []bool{false, true} {
		now := start
		config := k.config
		config.Now = func() time.Time { return now }
		config.AcceptExtended, config.MaxLifetime = extended, 24*time.Hour
		remembering := mustNew(t, config)
		for name, token := range tokens {
			if _, err := remembering.Verify(t.Context(), token); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		config.CacheSize = -1
		reasons := make(map[kubejwt.Reason]bool)
		for _, offset := range offsets {
			now = start.Add(offset)
			for name, token := range tokens {
				got, gotErr := remembering.Verify(t.Context(), token)
				want, wantErr := mustNew(t, config).Verify(t.Context(), token)
				if got != want || reasonOf(gotErr) != reasonOf(wantErr) {
					t.Errorf("%s at %v: %v, %v: afresh %v, %v", name, offset, got, gotErr, want, wantErr)
				}
				reasons[reasonOf(wantErr)] = true
			}
		}
		for _, reason := range []kubejwt.Reason{"", kubejwt.ReasonExpired, kubejwt.ReasonNotYetValid} {
			if !reasons[reason] {
				t.Errorf("no case of reason %q", reason)
			}
		}
		if reasons[kubejwt.ReasonStale] == extended {
			t.Errorf("AcceptExtended %t: stale %t", extended, reasons[kubejwt.ReasonStale])
		}
		if s := remembering.Stats(); s.Remembered != len(tokens) || s.RememberedHits == 0 {
			t.Errorf("%d remembered, %d hits", s.Remembered, s.RememberedHits)
		}
	}
}

// What Verify returns can't reach what is remembered.
func TestRememberedIsOutOfReach(t *testing.T) {
	k := newKit(t)
	v := mustNew(t, k.config)
	token := k.Mint(good())
	first, err := v.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		claims, err := v.Verify(t.Context(), token)
		if err != nil || claims != first {
			t.Fatalf("%v, %v: want what came first", claims, err)
		}
		groups, extra := claims.Groups(), claims.Extra()
		if groups[0] == "" || len(extra) == 0 {
			t.Fatalf("groups %q, extra %q", groups, extra)
		}
		groups[0] = ""
		for key := range extra {
			extra[key][0] = "changed"
		}
		clear(extra)
		claims.Namespace, claims.ServiceAccount = "kube-system", kubejwt.Object{}
		if !slices.Equal(first.Groups(), []string{"system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"}) {
			t.Errorf("groups %q", first.Groups())
		}
	}
}

func TestWhatIsRemembered(t *testing.T) {
	k := newKit(t)
	large, noKid, wrong := good(), good(), good()
	claim("pad", string(make([]byte, 1000)))(&large) // six characters each in JSON
	noKid.Header = object{"kid": nil}
	claim("aud", "reports")(&wrong)
	for _, tt := range []struct {
		name  string
		token kubejwttest.Token
		size  int
		want  int
	}{
		{"a good token", good(), 0, 1},
		{"no room", good(), -1, 0},
		{"a large token", large, 0, 0},
		{"a token without kid", noKid, 0, 0},
		{"a refused token", wrong, 0, 0},
		{"a token that is not allowed", kubejwttest.Token{Namespace: "evil", Audiences: []string{"data-store"}}, 0, 0},
	} {
		config := k.config
		config.CacheSize = tt.size
		v := mustNew(t, config)
		v.Verify(t.Context(), k.Mint(tt.token))
		if got := v.Stats().Remembered; got != tt.want {
			t.Errorf("%s: %d remembered: want %d", tt.name, got, tt.want)
		}
	}
}

func TestCacheSize(t *testing.T) {
	k := newOwnKit(t)
	k.RotateKey("ES256")
	k.config = staticConfig(t, k.Cluster)
	k.config.CacheSize = 10
	v := mustNew(t, k.config)
	for range 50 {
		if _, err := v.Verify(t.Context(), k.Mint(good())); err != nil {
			t.Fatal(err)
		}
	}
	if got := v.Stats().Remembered; got == 0 || got > 10 {
		t.Errorf("%d remembered: want 10 at most", got)
	}
}

// A header that a key has signed is known from then on. That lets no other
// header pass.
func TestKnownHeader(t *testing.T) {
	k := newKit(t)
	config := k.config
	config.CacheSize = -1
	v := mustNew(t, config)
	for range 2 {
		if _, err := v.Verify(t.Context(), k.Mint(good())); err != nil {
			t.Fatal(err)
		}
		for name, bad := range map[string]func(*kubejwttest.Token){
			"alg none":    header("alg", "none"),
			"another kid": header("kid", "another"),
			"crit":        header("crit", []string{"exp"}),
			"typ":         header("typ", "at+jwt"),
		} {
			g := good()
			bad(&g)
			if _, err := v.Verify(t.Context(), k.Mint(g)); reasonOf(err) == "" {
				t.Errorf("%s: %v", name, err)
			}
		}
		g := good()
		header("typ", "JWT")(&g) // another good header
		if _, err := v.Verify(t.Context(), k.Mint(g)); err != nil {
			t.Fatal(err)
		}
	}
}

// What is remembered of a token has a bound, however many audiences it names
// and however long its names are.
func TestRememberedSize(t *testing.T) {
	const tokens, most = 1000, 3 << 10
	k := newOwnKit(t)
	k.RotateKey("ES256")
	config := staticConfig(t, k.Cluster)
	config.ServiceAccounts = []string{"*"}
	longName := strings.Repeat("a", 253)
	uid := strings.Repeat("u", 128)
	for _, tt := range []struct {
		name  string
		token kubejwttest.Token
	}{
		{"240 audiences", kubejwttest.Token{Audiences: slices.Concat([]string{"data-store"}, manyAudiences(240))}},
		{"the longest names", kubejwttest.Token{
			Namespace: strings.Repeat("n", 63), ServiceAccount: longName, Audiences: []string{"data-store"},
			Pod: kubejwt.Object{Name: longName, UID: uid}, Node: kubejwt.Object{Name: longName, UID: uid},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := mustNew(t, config)
			minted := make([]string, tokens)
			for i := range minted {
				minted[i] = k.Mint(tt.token)
				if len(minted[i]) > 4<<10 {
					t.Fatalf("a token of %d bytes", len(minted[i]))
				}
			}
			before := heapInUse()
			for _, token := range minted {
				if _, err := v.Verify(t.Context(), token); err != nil {
					t.Fatal(err)
				}
			}
			each := (heapInUse() - before) / tokens
			if n := v.Stats().Remembered; n != tokens || each > most {
				t.Errorf("%d tokens are remembered, with %d bytes each: want %d, with %d at most", n, each, tokens, most)
			}
			t.Logf("%d bytes each", each)
			runtime.KeepAlive(minted)
		})
	}
}

func manyAudiences(n int) []string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("a%d", i))
	}
	return list
}

// heapInUse is what is in use after a collection.
func heapInUse() int64 {
	runtime.GC()
	runtime.GC() // what a finalizer has kept
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
