package kubejwt

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubejwt/kubejwt/internal/keypolicy"
	"github.com/kubejwt/kubejwt/internal/keyset"
)

var updateSimulation = flag.Bool("update-simulation", false, "write docs/keys.md and docs/keys.csv")

// A fleet is many caches, each with a token a second to judge, and the one
// origin of their keys. Time is a bubble's, and passes from event to event.
type fleet struct {
	size     int
	began    time.Time
	requests []atomic.Int32 // at the origin, in each second
	logger   *slog.Logger

	set        atomic.Pointer[keyset.Set]
	downFrom   time.Duration
	downFor    time.Duration
	roundTrips time.Duration
}

func newFleet(t *testing.T, size int, length time.Duration) *fleet {
	f := &fleet{
		size:       size,
		began:      time.Now(),
		requests:   make([]atomic.Int32, length/time.Second+60),
		logger:     slog.New(slog.DiscardHandler),
		roundTrips: 20 * time.Millisecond,
	}
	f.publish(t, "first")
	return f
}

func (f *fleet) publish(t *testing.T, kid string) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := keyset.NewKey(kid, private.Public())
	if err != nil {
		t.Fatal(err)
	}
	set, err := keyset.New(k)
	if err != nil {
		t.Fatal(err)
	}
	f.set.Store(set)
}

// service is one verifier of a fleet.
type service struct {
	fleet       *fleet
	cache       *jwksCache
	documentDue time.Time
}

func (f *fleet) join() *service {
	m := &service{fleet: f}
	m.cache = &jwksCache{fetch: m.fetch, now: keypolicy.Now, maxStale: keypolicy.DefaultMaxStale, onIssuerChange: func(string) {}, logger: f.logger}
	return m
}

// fetch asks the origin as remote does: for the document where it is due, then
// for the keys.
func (m *service) fetch(_ context.Context, cause fetchCause) (fetched, error) {
	if cause != causeRefresh || time.Now().After(m.documentDue) {
		if err := m.ask(); err != nil {
			return fetched{}, err
		}
		m.documentDue = time.Now().Add(5*time.Hour + rand.N(2*time.Hour))
	}
	if err := m.ask(); err != nil {
		return fetched{}, err
	}
	return fetched{keys: m.fleet.set.Load(), maxAge: time.Hour}, nil
}

func (m *service) ask() error {
	now := time.Since(m.fleet.began)
	m.fleet.requests[now/time.Second].Add(1)
	time.Sleep(m.fleet.roundTrips)
	if now >= m.fleet.downFrom && now < m.fleet.downFrom+m.fleet.downFor {
		return errors.New("connection refused")
	}
	return nil
}

// serve judges tokens of known keys until then: a use sets off what is due.
// Uses between two due times change nothing, and are left out.
func (m *service) serve(until time.Duration) {
	for {
		next := m.due().Add(time.Duration(rand.ExpFloat64() * float64(time.Second)))
		if end := m.fleet.began.Add(until); !next.Before(end) {
			time.Sleep(time.Until(end))
			return
		}
		time.Sleep(time.Until(next))
		m.cache.current(context.Background())
	}
}

// due is when the next use has an effect: not before now.
func (m *service) due() time.Time {
	now := time.Now()
	s := m.cache.state.Load()
	switch {
	case s == nil:
		return now
	case s.err != nil:
		return now.Add(m.cache.retryIn(s, m.cache.now()))
	default:
		return later(now, s.fetchedAt.Mono.Add(s.refreshAge))
	}
}

// suffer judges ten tokens of random kids a second until then.
func (m *service) suffer(until time.Duration) {
	for time.Since(m.fleet.began) < until {
		keys := lookup{keyring: m.cache}
		if err := keys.current(context.Background()); err == nil {
			keys.refresh(context.Background())
		}
		s := m.cache.state.Load()
		next := time.Now().Add(max(0, s.unknownKid.Wait(m.cache.now())))
		if due := m.due(); due.Before(next) {
			next = due
		}
		time.Sleep(time.Until(next) + time.Duration(rand.ExpFloat64()*float64(100*time.Millisecond)))
	}
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// The days that the simulation tells of.
const (
	fleetSize = 10_000

	startedWithin = 10 * time.Second
	outageAt      = 48 * time.Hour
	outageLength  = 10 * time.Minute
	rotationAt    = 51 * time.Hour
	tokensRenewed = 48 * time.Minute // kubelet renews tokens of an hour at four fifths of it
	callersEach   = 10
	floodAt       = 53 * time.Hour
	floodLength   = 10 * time.Minute
	simulatedEnd  = 54 * time.Hour
)

// days runs a fleet through all of it.
func days(t *testing.T, f *fleet) {
	f.downFrom, f.downFor = outageAt, outageLength
	var all sync.WaitGroup
	all.Go(func() {
		time.Sleep(rotationAt)
		f.publish(t, "second") // and signs with it from now on
	})
	for range f.size {
		all.Go(func() {
			time.Sleep(rand.N(startedWithin))
			m := f.join()
			m.cache.current(context.Background())
			// Each of the callers renews its token some time after the rotation.
			first := 1 - math.Pow(1-rand.Float64(), 1./callersEach)
			m.serve(rotationAt + time.Duration(first*float64(tokensRenewed)))
			keys := lookup{keyring: m.cache}
			err := keys.current(context.Background())
			if err == nil && keys.seen.Key("second") == nil {
				err = keys.refresh(context.Background())
			}
			if err != nil || keys.seen.Key("second") == nil {
				t.Errorf("a token of the new key was refused: %v", err)
			}
			m.serve(floodAt)
			m.suffer(floodAt + floodLength)
			m.serve(simulatedEnd)
		})
	}
	f.wait(&all)
}

// wait ends with the last fetch that a service has set off in the background: a
// bubble's time stands still without its first goroutine.
func (f *fleet) wait(members *sync.WaitGroup) {
	members.Wait()
	time.Sleep(keypolicy.FetchTimeout)
}

// firstWave runs a fleet that started at once into an outage just when its
// first refreshes are due: the worst time for one.
func firstWave(f *fleet, from, end time.Duration) {
	f.downFrom, f.downFor = from, outageLength
	var all sync.WaitGroup
	for range f.size {
		all.Go(func() {
			time.Sleep(rand.N(startedWithin))
			m := f.join()
			m.cache.current(context.Background())
			m.serve(end)
		})
	}
	f.wait(&all)
}

// figures are requests a second at the origin.
type figures struct {
	when string
	mean float64
	peak int
}

func (f *fleet) figures(when string, from, to time.Duration) figures {
	sum, peak := 0, 0
	for i := from / time.Second; i < to/time.Second; i++ {
		n := int(f.requests[i].Load())
		sum, peak = sum+n, max(peak, n)
	}
	return figures{when, float64(sum) / (to - from).Seconds(), peak}
}

// csv is the mean and the peak of every five minutes.
func (f *fleet) csv(length time.Duration) []byte {
	const step = 5 * time.Minute
	out := bytes.NewBufferString("minute,mean,peak\n")
	for from := time.Duration(0); from < length; from += step {
		got := f.figures("", from, from+step)
		fmt.Fprintf(out, "%d,%.2f,%d\n", from/time.Minute, got.mean, got.peak)
	}
	return out.Bytes()
}

func TestSimulation(t *testing.T) {
	if !*Long && !*updateSimulation {
		t.Skip("ten thousand verifiers for more than two days: set -long")
	}
	var table []figures
	var curve []byte
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, fleetSize, simulatedEnd)
		days(t, f)
		table = append(table,
			f.figures("start-up, all within 10 s: the first minute", 0, time.Minute),
			f.figures("steady state: the first day after it", time.Hour, 24*time.Hour),
			f.figures("steady state: the second day", 24*time.Hour, 48*time.Hour),
			f.figures("outage: its ten minutes", outageAt, outageAt+outageLength),
			f.figures("outage: the hour after it", outageAt+outageLength, outageAt+outageLength+time.Hour),
			f.figures("unannounced rotation: the hour after it", rotationAt, rotationAt+time.Hour),
			f.figures("random kids to all: the first minute", floodAt, floodAt+time.Minute),
			f.figures("random kids to all: the other nine", floodAt+time.Minute, floodAt+floodLength),
		)
		curve = f.csv(simulatedEnd)
	})
	synctest.Test(t, func(t *testing.T) {
		const from = 44 * time.Minute
		f := newFleet(t, fleetSize, 2*time.Hour)
		firstWave(f, from, 2*time.Hour)
		table = append(table,
			f.figures("outage while all are due: its ten minutes", from, from+outageLength),
			f.figures("outage while all are due: the hour after it", from+outageLength, from+outageLength+time.Hour),
		)
	})
	for _, row := range table {
		t.Logf("%-45s %8.1f %6d", row.when, row.mean, row.peak)
	}
	if mean := table[2].mean; mean > 4 {
		t.Errorf("%.2f requests a second in steady state, want 4 at most", mean)
	}
	if peak := table[4].peak; peak > fleetSize/100 {
		t.Errorf("%d requests in a second after the outage, want 1 %% of the verifiers at most", peak)
	}
	if peak := table[7].peak; peak > fleetSize/10 {
		t.Errorf("%d requests in a second of the flood after its first minute, want 10 %% of the verifiers at most", peak)
	}
	if *updateSimulation {
		mustWrite(t, "docs/keys.csv", curve)
		mustWrite(t, "docs/keys.md", page(table))
		return
	}
	compareWithPage(t, table)
}

const pageHead = `# Ten thousand verifiers and one API server

How many requests does the key policy send to the API server? Here 10,000
verifiers run the code of jwks_cache.go on a simulated clock. Each has callers
of its own. They share one origin, which answers in 20 ms with max-age=3600.
Requests are counted as in a pod: a refresh is one request. A first fetch, a
retry and a fetch for an unknown kid are two, since they read the discovery
document again.

- After two days the origin is down for ten minutes.
- Three hours later it signs with a new key that it had not announced. Each
  verifier's ten callers get new tokens within 48 minutes.
- At the end every verifier receives ten tokens with random kids a second, for
  ten minutes.

![Requests a second over the days](keys.svg)

| when | requests/s, mean | requests/s, peak |
|---|--:|--:|
`

const pageFoot = `
Both columns count every request that reaches the origin, including those that
it refuses in an outage. The peak is the number in a single second. A test fails
if the mean of the second day is over 4, the peak after the outage over 100, or
the peak of the flood after its first minute over 1,000.

At the start of a flood each verifier asks at once, so that it learns of a new
key at once. Each later gap is longer by a random part, up to a half, so that
the verifiers don't all ask again at one moment. The last two rows show the
worst time for an outage: a fleet was started all at once, and its first
refreshes are due.

The table and keys.csv are written by

    go test -run TestSimulation -long -update-simulation .

and the picture by

    go -C internal/bench run ./plot keys ../../docs/keys.csv ../../docs/keys.svg

Random spreads differ from run to run. Without the flag the test compares the
table with a new run: a mean may differ by a quarter, a peak by a half.
`

func page(table []figures) []byte {
	out := bytes.NewBufferString(pageHead)
	for _, row := range table {
		fmt.Fprintf(out, "| %s | %.1f | %d |\n", row.when, row.mean, row.peak)
	}
	out.WriteString(pageFoot)
	return out.Bytes()
}

func mustWrite(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// compareWithPage holds a run against the published one.
func compareWithPage(t *testing.T, table []figures) {
	t.Helper()
	data, err := os.ReadFile("docs/keys.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(data, []byte(pageHead)) || !bytes.HasSuffix(data, []byte(pageFoot)) {
		t.Error("docs/keys.md is of another test: write it again")
	}
	near := func(a, b float64) bool { return math.Abs(a-b) <= max(8, b/4) }
	like := func(a, b float64) bool { return math.Abs(a-b) <= max(20, b/2) } // one second's peak varies more
	lines := strings.Split(string(data), "\n")
	for _, row := range table {
		at := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "| "+row.when+" | ") })
		if at < 0 {
			t.Errorf("docs/keys.md has no row %q", row.when)
			continue
		}
		columns := strings.Split(lines[at], " | ")
		mean, errMean := strconv.ParseFloat(columns[1], 64)
		peak, errPeak := strconv.ParseFloat(strings.TrimSuffix(columns[2], " |"), 64)
		if err := errors.Join(errMean, errPeak); err != nil || !near(row.mean, mean) || !like(float64(row.peak), peak) {
			t.Errorf("%s: %.1f and %d, and docs/keys.md says: %s", row.when, row.mean, row.peak, lines[at])
		}
	}
}
