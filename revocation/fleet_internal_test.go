package revocation

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubejwt/kubejwt/internal/apiserver"
)

var updateFleet = flag.Bool("update-fleet", false, "write the table of docs/revocation.md, with -long")

// A fleet is many services, each with a Watcher of one service account, and one
// API server that counts who asks.
type fleet struct {
	server *apiserver.Server

	mu     sync.Mutex
	down   bool
	cutOff bool // the packets of every other service are dropped

	breaks   map[int][]func() // by service: each ends a stream
	start    time.Time
	requests map[int]int          // by second: those that reach the API server
	services map[int]map[int]bool // by second: who sent them
	tries    map[int]int          // by second: those that reach nobody
}

// one is the Transport of one service.
type one struct {
	*fleet
	service int
}

func (o one) RoundTrip(r *http.Request) (*http.Response, error) {
	// A dial sends its SYN again after 1, 2 and 4 s, and gives up after 10.
	for _, pause := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 3 * time.Second} {
		if !o.isCutOff() {
			break
		}
		wait(r.Context(), pause)
	}
	if !o.arrives() {
		return nil, errors.New("connection refused, or timeout")
	}
	ctx, cancel := context.WithCancel(r.Context())
	o.set(func() { o.breaks[o.service] = append(o.breaks[o.service], cancel) })
	r = r.WithContext(ctx)
	return o.server.Answer(r).Response(r), nil
}

// arrives counts a request, and reports whether it reaches the API server.
func (o one) arrives() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	second := int(time.Since(o.start) / time.Second)
	if o.down || o.cutOff && o.service%2 == 0 {
		o.tries[second]++
		return false
	}
	o.requests[second]++
	if o.services[second] == nil {
		o.services[second] = make(map[int]bool)
	}
	o.services[second][o.service] = true
	return true
}

func (o one) isCutOff() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.cutOff && o.service%2 == 0
}

// A phase is a row of the table.
type phase struct {
	name     string
	from, to int // seconds
	restart  bool
}

// Ten thousand services, the very code of Run, on a simulated clock.
func TestFleet(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds: leave out -short")
	}
	services, most := 200, 7.0 // of so few, more come by chance
	if *long {
		services, most = 10_000, 2
	}
	var rows []string
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{
			server: apiserver.New(), start: time.Now(), breaks: make(map[int][]func()),
			requests: make(map[int]int), services: make(map[int]map[int]bool), tries: make(map[int]int),
		}
		ctx, cancel := context.WithCancel(t.Context())
		var ended sync.WaitGroup
		f.server.Put(accountKey, apiserver.Object{UID: "account"})
		pod := apiserver.Key{Kind: apiserver.Pods, Namespace: "shop", Name: "pod"}
		f.server.Put(pod, apiserver.Object{UID: "pod", ServiceAccount: "api"})
		for i := range services {
			w, err := New(Options{
				ServiceAccounts: []string{"shop/api"}, APIServer: "https://api.example", Transport: one{f, i},
				WhenStale: Accept, Logger: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				t.Fatal(err)
			}
			ended.Go(func() {
				time.Sleep(rand.N(10 * time.Second))
				w.Run(ctx)
			})
		}
		phases := f.story(t, services)
		cancel()
		ended.Wait()
		for _, p := range phases {
			rows = append(rows, f.row(p, services))
			if peak := f.peak(p, services); p.restart && peak > most {
				t.Errorf("%s: %.1f %% of the services come in one second: want %.1f at most", p.name, peak, most)
			}
		}
	})
	table := strings.Join(rows, "\n") + "\n"
	t.Logf("%d services:\n%s", services, table)
	if *updateFleet && *long {
		writeTable(t, "../docs/revocation.md", table)
	}
}

// story makes things happen, and returns when they did.
func (f *fleet) story(t *testing.T, services int) (phases []phase) {
	pass := func(name string, d time.Duration) *phase {
		from := int(time.Since(f.start) / time.Second)
		time.Sleep(d)
		phases = append(phases, phase{name: name, from: from, to: int(time.Since(f.start) / time.Second)})
		return &phases[len(phases)-1]
	}
	pass("start, all within 10 s: the first minute", time.Minute)
	stop := f.busy()
	pass("steady state, pods come and go: two hours", 2*time.Hour)
	stop()
	pass("steady state, nothing happens at all: half an hour", 30*time.Minute)
	stop = f.busy()
	for _, tt := range []struct {
		name   string
		outage time.Duration
	}{{"5 s", 5 * time.Second}, {"30 s", 30 * time.Second}, {"5 min", 5 * time.Minute}} {
		time.Sleep(10 * time.Minute)
		f.set(func() { f.down = true })
		f.server.Cut()
		pass("the API server is down for "+tt.name, tt.outage)
		f.set(func() { f.down = false })
		pass("the 80 s after", 80*time.Second).restart = true
		if got := f.server.Streams(); got != 2*services {
			t.Errorf("80 s after an outage of %s there are %d streams: want %d", tt.name, got, 2*services)
		}
	}
	time.Sleep(10 * time.Minute)
	f.set(f.partition)
	pass("a partition cuts off every other service: 5 min", 5*time.Minute)
	f.set(func() { f.cutOff = false })
	pass("the 80 s after", 80*time.Second)
	stop()
	return phases
}

// partition cuts every other service off. Pings notice that within 15 s.
func (f *fleet) partition() {
	f.cutOff = true
	for service, breaks := range f.breaks {
		if service%2 > 0 {
			continue
		}
		time.AfterFunc(10*time.Second+rand.N(5*time.Second), func() {
			for _, end := range breaks {
				end()
			}
		})
	}
}

func (f *fleet) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// busy has pods come and go that nobody watches, so that there are bookmarks.
func (f *fleet) busy() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan bool)
	go func() {
		defer close(ended)
		for i := 0; ctx.Err() == nil; i++ {
			f.server.Put(apiserver.Key{Kind: apiserver.Pods, Namespace: "other", Name: "pod"}, apiserver.Object{UID: fmt.Sprint(i)})
			wait(ctx, 30*time.Second)
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// row is one of the table: a second's requests that reach the API server, in the
// mean and at most, the share of services in the worst second, and a second's
// requests that reach nobody, at most.
func (f *fleet) row(p phase, services int) string {
	requests, peak, tries := 0, 0, 0
	for second := p.from; second < p.to; second++ {
		requests += f.requests[second]
		peak = max(peak, f.requests[second])
		tries = max(tries, f.tries[second])
	}
	mean := float64(requests) / float64(p.to-p.from)
	return fmt.Sprintf("| %s | %.1f | %d | %.1f | %d |", p.name, mean, peak, f.peak(p, services), tries)
}

// peak is the share of services, in percent, that come in the worst second.
func (f *fleet) peak(p phase, services int) float64 {
	most := 0
	for second := p.from; second < p.to; second++ {
		most = max(most, len(f.services[second]))
	}
	return 100 * float64(most) / float64(services)
}

// writeTable replaces the rows between two comments.
func writeTable(t *testing.T, path, rows string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- fleet -->\n", "<!-- end of fleet -->\n"
	head, rest, found := bytes.Cut(data, []byte(begin))
	_, tail, foundEnd := bytes.Cut(rest, []byte(end))
	if !found || !foundEnd {
		t.Fatalf("%s has no table", path)
	}
	table := "| when | lists/s, mean | lists/s, peak | services in the worst second, % | failed attempts/s, peak |\n" +
		"|---|--:|--:|--:|--:|\n" + rows
	if err := os.WriteFile(path, []byte(string(head)+begin+table+end+string(tail)), 0o644); err != nil {
		t.Fatal(err)
	}
}
