package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/csv"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/internal/apiserver"
	"github.com/kubejwt/kubejwt/internal/testlog"
	"github.com/kubejwt/kubejwt/revocation"
)

// A watch sees what TokenReview sees: the tests of the package revocation, asked
// of a real API server.

const revokedWord = string(kubejwt.ReasonRevoked)

// A watched service is a Verifier that asks a running Watcher.
type watched struct {
	*cluster
	watcher  *revocation.Watcher
	verifier *kubejwt.Verifier
	log      *testlog.Buffer
	folder   string // its mounted folder
}

// watch runs a service that may watch accounts of the namespace api, at an
// address that may be a proxy's.
func (c *cluster) watch(t testing.TB, address string, when revocation.Stale, names ...string) *watched {
	t.Helper()
	c.grant(t, names...)
	w := c.watchUngranted(t, address, when, names...)
	eventually(t, "the watch is ready", func() bool { return w.watcher.Ready(t.Context()) == nil })
	return w
}

func (c *cluster) watchUngranted(t testing.TB, address string, when revocation.Stale, names ...string) *watched {
	t.Helper()
	w := &watched{cluster: c, log: new(testlog.Buffer), folder: c.mount(t)}
	keys := in(w.folder)
	options := revocation.Options{
		APIServer: address, CAFile: keys.CAFile, BearerTokenFile: keys.BearerTokenFile,
		WhenStale: when, Logger: slog.New(slog.NewTextHandler(w.log, nil)),
	}
	for _, name := range names {
		options.ServiceAccounts = append(options.ServiceAccounts, "api/"+name)
	}
	var err error
	w.watcher, err = revocation.New(options)
	noError(t, err)
	keys.JWKSURL = c.address() + "/openid/v1/jwks"
	w.verifier = must(kubejwt.New(kubejwt.Config{
		Issuer: issuer, Audiences: []string{service}, ServiceAccounts: []string{"*"}, Keys: keys, Check: w.watcher.Check,
	}))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- w.watcher.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return w
}

// grant applies what a Watcher of these accounts needs, for the service account
// of mount.
func (c *cluster) grant(t testing.TB, names ...string) {
	t.Helper()
	c.applyRole(t, &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "kubejwt-revocation", Namespace: "api"},
		Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list", "watch"}},
			{APIGroups: []string{""}, Resources: []string{"serviceaccounts"}, ResourceNames: names, Verbs: []string{"list", "watch"}},
		},
	})
}

func (c *cluster) applyRole(t testing.TB, role *rbacv1.Role) {
	t.Helper()
	roles, bindings := c.RbacV1().Roles(role.Namespace), c.RbacV1().RoleBindings(role.Namespace)
	create(t, roles, role.Name, role)
	_, err := roles.Update(t.Context(), role, metav1.UpdateOptions{FieldValidation: metav1.FieldValidationStrict})
	noError(t, err)
	create(t, bindings, role.Name, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role.Name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "prod", Name: "data-store"}},
	})
}

func (w *watched) verdict(t testing.TB, token string) string {
	_, err := w.verifier.Verify(t.Context(), token)
	return kubejwt.Outcome(err)
}

// within waits for a verdict, and returns how long it took.
func (w *watched) within(t testing.TB, most time.Duration, token, want string) time.Duration {
	t.Helper()
	start := time.Now()
	for w.verdict(t, token) != want {
		if time.Since(start) > most {
			t.Fatalf("%s: not within %v\n%s", want, most, w.log)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(start)
}

var atOnce = metav1.DeleteOptions{GracePeriodSeconds: new(int64)}

func (c *cluster) deletePod(t testing.TB, name string) {
	t.Helper()
	noError(t, c.CoreV1().Pods("api").Delete(t.Context(), name, atOnce))
}

// Each kind of deletion, beside TokenReview, waiting out its cache.
func TestWatchBesideTokenReview(t *testing.T) {
	c := sharedCluster(t, "RS256")
	names := []string{"watched", "remade"}
	for _, name := range names {
		c.serviceAccount(t, "api", name)
	}
	w := c.watch(t, c.address(), revocation.Refuse, names...)
	account, remade := c.serviceAccount(t, "api", "watched"), c.serviceAccount(t, "api", "remade")
	node := c.node(t, "watch-node")
	of := func(name string) (*corev1.Pod, string) {
		pod := c.pod(t, account, name, node.Name)
		return pod, c.mint(t, account, toPod(pod), time.Hour, service)
	}
	agree := func(what, token string, want bool) {
		t.Helper()
		review := c.review(t, token, service).Authenticated
		verdict := w.verdict(t, token)
		if review != want || (verdict == accepted) != want {
			t.Errorf("%s: TokenReview accepts: %v, we say %s: want accepted: %v", what, review, verdict, want)
		}
	}
	_, staying := of("watch-staying")
	_, leaving := of("watch-leaving")
	_, stateful := of("watch-0")
	accountToken := c.mint(t, remade, nil, time.Hour, service)
	for what, token := range map[string]string{"staying": staying, "leaving": leaving, "stateful": stateful, "account": accountToken} {
		agree(what, token, true)
	}

	c.deletePod(t, "watch-leaving")
	c.deletePod(t, "watch-0")
	noError(t, c.CoreV1().ServiceAccounts("api").Delete(t.Context(), "remade", atOnce))
	_, again := of("watch-0")
	remade = c.serviceAccount(t, "api", "remade")
	accountAgain := c.mint(t, remade, nil, time.Hour, service)

	// A pod with a finalizer is there until somebody takes that off.
	held, heldToken := of("watch-held")
	held.Finalizers = []string{"example.com/hold"}
	held, err := c.CoreV1().Pods("api").Update(t.Context(), held, metav1.UpdateOptions{})
	noError(t, err)
	grace := int64(5)
	noError(t, c.CoreV1().Pods("api").Delete(t.Context(), held.Name, metav1.DeleteOptions{GracePeriodSeconds: &grace}))
	deleted := time.Now()
	time.Sleep(11 * time.Second) // TokenReview remembers for 10
	agree("a pod that stays", staying, true)
	agree("a pod that was deleted", leaving, false)
	agree("a StatefulSet's pod that was deleted", stateful, false)
	agree("its successor of the same name", again, true)
	agree("a service account that was deleted", accountToken, false)
	agree("its successor of the same name", accountAgain, true)
	agree("a pod with a finalizer, within its grace and 60 s", heldToken, true)
	time.Sleep(time.Until(deleted.Add(63 * time.Second)))
	agree("a pod with a finalizer, 63 s after a deletion with 5 s of grace", heldToken, true)
	time.Sleep(time.Until(deleted.Add(77 * time.Second))) // 65 s, and TokenReview's 10
	agree("a pod with a finalizer, 77 s after it", heldToken, false)
	held, err = c.CoreV1().Pods("api").Get(t.Context(), held.Name, metav1.GetOptions{})
	noError(t, err)
	held.Finalizers = nil
	_, err = c.CoreV1().Pods("api").Update(t.Context(), held, metav1.UpdateOptions{})
	noError(t, err)
	agree("a pod with a finalizer, when that is off", heldToken, false)
	t.Logf("%+v", w.watcher.Stats())
}

var latencyFile = flag.String("revocation-csv", "", "where TestWatchLatency writes what it measured")

// Whoever may make pods can make them as large as the API server takes them. The
// watch goes on.
func TestWatchOfLargePods(t *testing.T) {
	c := sharedCluster(t, "RS256")
	account := c.serviceAccount(t, "api", "watched")
	w := c.watch(t, c.address(), revocation.Refuse, "watched", "remade")
	token := c.mint(t, account, toPod(c.pod(t, account, "small", "")), time.Hour, service)
	w.within(t, time.Minute, token, accepted)
	grow := func(name string, change func(*corev1.Pod)) {
		pod := c.pod(t, account, name, "")
		change(pod)
		pod, err := c.CoreV1().Pods("api").Update(t.Context(), pod, metav1.UpdateOptions{})
		noError(t, err)
		t.Logf("%s: %d KiB of metadata", name, len(must(json.Marshal(pod.ObjectMeta)))>>10)
	}
	grow("escaped", func(pod *corev1.Pod) {
		pod.Annotations = map[string]string{"a": strings.Repeat("<", 262_000)}
	})
	grow("labelled", func(pod *corev1.Pod) {
		pod.Labels = make(map[string]string)
		for i := range 1900 {
			pod.Labels[fmt.Sprintf("%s/%050d", strings.Repeat("a.", 120)+"example", i)] = strings.Repeat("v", 63)
		}
	})
	// These have no bounds of their own: only etcd's 1.5 MiB are one.
	patch := func(name, members string) {
		c.pod(t, account, name, "")
		pod, err := c.CoreV1().Pods("api").Patch(t.Context(), name, types.MergePatchType,
			[]byte(`{"metadata":{`+members+`}}`), metav1.PatchOptions{})
		noError(t, err)
		t.Logf("%s: %d KiB of metadata", name, len(must(json.Marshal(pod.ObjectMeta)))>>10)
	}
	patch("owned", `"ownerReferences":[{"apiVersion":"a","kind":"a","uid":"a","name":"`+strings.Repeat("<", 1_500_000)+`"}]`)
	patch("deep", `"managedFields":[{"manager":"a","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{`+
		strings.Repeat(`"f:metadata":{`, 900)+strings.Repeat(`}`, 900)+`}}]`)
	c.deletePod(t, "small")
	w.within(t, time.Minute, token, revokedWord)
	// A list begins with them.
	again := c.watch(t, c.address(), revocation.Refuse, "watched", "remade")
	for _, watcher := range []*revocation.Watcher{w.watcher, again.watcher} {
		if stats := watcher.Stats(); stats.Failures > 0 || stats.Pods < 2 {
			t.Errorf("%+v: want no failures", stats)
		}
	}
	for _, name := range []string{"escaped", "labelled", "owned", "deep"} {
		c.deletePod(t, name)
	}
}

// How long a deletion takes to be refused, from the DELETE request on: by the
// watch, by TokenReview for a token that it has not seen, and for one that it
// has.
func TestWatchLatency(t *testing.T) {
	c := sharedCluster(t, "RS256")
	account := c.serviceAccount(t, "api", "watched")
	w := c.watch(t, c.address(), revocation.Refuse, "watched", "remade")
	pods, cached := 60, 6
	if *latencyFile != "" {
		pods, cached = 200, 15
	}
	var watch, cold, warm []time.Duration
	for i := range pods {
		pod := c.pod(t, account, fmt.Sprint("latency-", i), "")
		token := c.mint(t, account, toPod(pod), time.Hour, service)
		reviewed := c.mint(t, account, toPod(pod), time.Hour, service)
		var unseen []string
		for range 12 {
			unseen = append(unseen, c.mint(t, account, toPod(pod), time.Hour, service))
		}
		w.within(t, time.Minute, token, accepted)
		requireReview(t, c.review(t, reviewed, service))
		start := time.Now()
		seen := make(chan time.Duration)
		go func() {
			for w.verdict(t, token) == accepted {
				runtime.Gosched()
			}
			seen <- time.Since(start)
		}()
		c.deletePod(t, pod.Name)
		for _, token := range unseen {
			if !c.review(t, token, service).Authenticated {
				cold = append(cold, time.Since(start))
				break
			}
		}
		watch = append(watch, <-seen)
		if i < cached {
			for c.review(t, reviewed, service).Authenticated {
				time.Sleep(20 * time.Millisecond)
			}
			warm = append(warm, time.Since(start))
		}
	}
	t.Logf("%+v", w.watcher.Stats())
	rows := [][]string{{"kind", "milliseconds"}}
	for _, kind := range []struct {
		name string
		all  []time.Duration
	}{{"watch", watch}, {"TokenReview, first", cold}, {"TokenReview, again", warm}} {
		slices.Sort(kind.all)
		n := len(kind.all)
		t.Logf("%s: %d deletions: median %v, p99 %v, most %v", kind.name, n, kind.all[n/2], kind.all[n*99/100], kind.all[n-1])
		for _, d := range kind.all {
			rows = append(rows, []string{kind.name, fmt.Sprintf("%.2f", d.Seconds()*1000)})
		}
	}
	if *latencyFile == "" {
		return
	}
	file := must(os.Create(*latencyFile))
	defer file.Close()
	noError(t, csv.NewWriter(file).WriteAll(rows))
}

// A proxy forwards connections, until it is told to cut them or to forward
// nothing more of them.
type proxy struct {
	net.Listener
	to string

	mu    sync.Mutex
	conns []*proxied
	down  bool
}

type proxied struct {
	net.Conn
	stalled chan struct{} // closed: nothing is forwarded any more
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	p := &proxy{Listener: must(net.Listen("tcp", "127.0.0.1:0")), to: to}
	go func() {
		for {
			conn, err := p.Accept()
			if err != nil {
				return
			}
			go p.forward(conn)
		}
	}()
	t.Cleanup(func() {
		p.Close()
		p.cut()
	})
	return p
}

func (p *proxy) address() string { return "https://" + p.Addr().String() }

func (p *proxy) forward(from net.Conn) {
	defer from.Close()
	to, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer to.Close()
	c := &proxied{from, make(chan struct{})}
	p.mu.Lock()
	if p.down {
		p.mu.Unlock()
		return
	}
	p.conns = append(p.conns, c)
	p.mu.Unlock()
	ended := make(chan bool, 2)
	copyUntil := func(to io.Writer, from io.Reader) {
		defer func() { ended <- true }()
		buffer := make([]byte, 32<<10)
		for {
			n, err := from.Read(buffer)
			select {
			case <-c.stalled:
				select {} // whoever waits, waits for ever, as behind a firewall that drops
			default:
			}
			if _, errWrite := to.Write(buffer[:n]); err != nil || errWrite != nil {
				return
			}
		}
	}
	go copyUntil(to, from)
	go copyUntil(from, to)
	<-ended
}

// cut ends the connections at hand.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// stall lets the connections at hand go silent.
func (p *proxy) stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		close(c.stalled)
	}
	p.conns = nil
}

func (p *proxy) setDown(down bool) {
	p.mu.Lock()
	p.down = down
	p.mu.Unlock()
	if down {
		p.cut()
	}
}

// turn bounds how long a Watcher takes to try again, and to see what it missed.
const turn = 75 * time.Second

// compact makes etcd forget all versions before one.
func compact(t *testing.T, version string) {
	t.Helper()
	etcd := must(startEtcd())
	body := strings.NewReader(`{"revision":"` + version + `","physical":true}`)
	response, err := http.Post(etcd+"/v3/kv/compaction", "application/json", body)
	noError(t, err)
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("etcd answers %s: %s", response.Status, must(io.ReadAll(response.Body)))
	}
}

// watchFrom returns the error that a watch from a version begins with.
func (c *cluster) watchFrom(t *testing.T, version string) error {
	t.Helper()
	w, err := c.CoreV1().Pods("api").Watch(t.Context(), metav1.ListOptions{ResourceVersion: version})
	if err != nil {
		return err
	}
	defer w.Stop()
	event := <-w.ResultChan()
	if event.Type != watch.Error {
		return fmt.Errorf("%s", event.Type)
	}
	return apierrors.FromObject(event.Object)
}

// onePage asks for pages of one object, and calls between before the second page.
type onePage struct {
	http.RoundTripper
	between func()
}

func (o *onePage) RoundTrip(r *http.Request) (*http.Response, error) {
	query := r.URL.Query()
	if query.Has("continue") && o.between != nil {
		o.between()
		o.between = nil
	}
	if query.Has("limit") {
		query.Set("limit", "1")
		r = r.Clone(r.Context())
		r.URL.RawQuery = query.Encode()
	}
	return o.RoundTripper.RoundTrip(r)
}

// What goes wrong on the way, and with the API server itself.
func TestWatchTroubles(t *testing.T) {
	key := newSigningKey(t, "RS256")
	s := settings{issuers: []string{issuer}, published: []*signingKey{key}, signer: key}
	c := newCluster(t, s)
	account := c.serviceAccount(t, "api", "api")
	p := newProxy(t, "127.0.0.1:"+c.port)
	w := c.watch(t, p.address(), revocation.Accept, "api")
	of := func(name string) string {
		t.Helper()
		token := c.mint(t, account, toPod(c.pod(t, account, name, "")), time.Hour, service)
		w.within(t, time.Minute, token, accepted)
		return token
	}

	gone := of("gone")
	c.deletePod(t, "gone")
	w.within(t, time.Minute, gone, revokedWord)

	t.Run("cut", func(t *testing.T) {
		token := of("cut")
		p.cut()
		c.deletePod(t, "cut")
		t.Logf("refused %v after the deletion", w.within(t, 10*time.Second, token, revokedWord))
	})
	t.Run("cut for 3 s", func(t *testing.T) {
		token := of("cut-longer")
		p.setDown(true)
		c.deletePod(t, "cut-longer")
		time.Sleep(3 * time.Second)
		p.setDown(false)
		t.Logf("refused %v after the network was back", w.within(t, turn, token, revokedWord))
	})
	t.Run("silent network", func(t *testing.T) {
		token := of("silent")
		p.stall()
		c.deletePod(t, "silent")
		took := w.within(t, 30*time.Second, token, revokedWord)
		t.Logf("refused %v after the deletion", took)
		if took < 5*time.Second {
			t.Errorf("that soon nothing can have been noticed: does the proxy stall?")
		}
	})
	t.Run("API server restarted", func(t *testing.T) {
		token := of("restarted")
		c.kill()
		w.holds(t, gone, revokedWord)
		w.holds(t, token, accepted)
		noError(t, c.start(s))
		up := time.Now()
		c.deletePod(t, "restarted")
		w.within(t, turn, token, revokedWord)
		t.Logf("refused %v after the API server was ready again", time.Since(up))
		w.holds(t, gone, revokedWord)
	})
	t.Run("token file rotated", func(t *testing.T) {
		token := of("rotated")
		lists := w.watcher.Stats().Lists
		c.renewMounted(t, w.folder)
		p.cut()
		c.deletePod(t, "rotated")
		w.within(t, turn, token, revokedWord)
		if now := w.watcher.Stats().Lists; now <= lists {
			t.Errorf("%d lists, and %d before", now, lists)
		}
	})
	t.Run("RBAC withdrawn and given back", func(t *testing.T) {
		token := of("withdrawn")
		noError(t, c.RbacV1().RoleBindings("api").Delete(t.Context(), "kubejwt-revocation", atOnce))
		time.Sleep(2 * time.Second)
		p.cut()
		eventually(t, "the API server refuses", func() bool { return strings.Contains(fmt.Sprint(w.watcher.Stats().LastError), "status 403") })
		c.deletePod(t, "withdrawn")
		w.holds(t, gone, revokedWord)
		w.holds(t, token, accepted)
		c.grant(t, "api")
		t.Logf("refused %v after it was given back", w.within(t, turn, token, revokedWord))
	})
	t.Run("compacted meanwhile", func(t *testing.T) {
		token := of("compacted")
		before := must(c.CoreV1().Pods("api").Get(t.Context(), "compacted", metav1.GetOptions{})).ResourceVersion
		p.setDown(true)
		c.deletePod(t, "compacted")
		compact(t, c.pod(t, account, "after", "").ResourceVersion)
		c.restart(t, s) // its cache is that of etcd
		if err := c.watchFrom(t, before); !apierrors.IsResourceExpired(err) {
			t.Errorf("a watch from what a Watcher had last heard of: %v: want 410", err)
		}
		p.setDown(false)
		t.Logf("refused %v after the network was back", w.within(t, turn, token, revokedWord))
		w.holds(t, gone, revokedWord)
	})
	t.Run("WatchList off", func(t *testing.T) {
		off := s
		off.more = []string{"--feature-gates=WatchList=false"}
		c.restart(t, off)
		old := c.watch(t, c.address(), revocation.Refuse, "api")
		token := c.mint(t, account, toPod(c.pod(t, account, "old", "")), time.Hour, service)
		old.within(t, time.Minute, token, accepted)
		c.deletePod(t, "old")
		t.Logf("refused %v after the deletion", old.within(t, 10*time.Second, token, revokedWord))
		if failures := old.watcher.Stats().Failures; failures > 0 {
			t.Errorf("%d failures\n%s", failures, old.log)
		}
		// The one from before the restart, too.
		eventually(t, "it watches again", func() bool { return w.watcher.Stats().LastError == nil })
		token = of("old-again")
		c.deletePod(t, "old-again")
		w.within(t, 10*time.Second, token, revokedWord)
	})
	t.Run("WatchList off, compacted between two pages", func(t *testing.T) {
		for _, name := range []string{"first", "second"} {
			c.pod(t, account, name, "")
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(must(os.ReadFile(c.caFile)))
		pages := &onePage{RoundTripper: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
		pages.between = func() {
			c.pod(t, account, "between", "")
			c.deletePod(t, "between")
			compact(t, c.pod(t, account, "last", "").ResourceVersion)
		}
		paged := must(revocation.New(revocation.Options{
			ServiceAccounts: []string{"api/api"}, APIServer: c.address(), Transport: pages,
			BearerTokenFile: in(w.folder).BearerTokenFile, WhenStale: revocation.Refuse,
		}))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- paged.Run(ctx) }()
		var all []corev1.Pod
		eventually(t, "it watches", func() bool {
			if paged.Ready(t.Context()) != nil {
				return false
			}
			all = must(c.CoreV1().Pods("api").List(t.Context(), metav1.ListOptions{})).Items
			return paged.Stats().Pods == len(all)
		})
		t.Logf("%d pods: %+v", len(all), paged.Stats())
		cancel()
		<-ended
		if pages.between != nil {
			t.Error("there was no second page")
		}
	})
	t.Logf("%+v", w.watcher.Stats())
}

// holds checks a verdict for a second.
func (w *watched) holds(t testing.TB, token, want string) {
	t.Helper()
	for start := time.Now(); time.Since(start) < time.Second; time.Sleep(10 * time.Millisecond) {
		if got := w.verdict(t, token); got != want {
			t.Fatalf("%s: want %s\n%s", got, want, w.log)
		}
	}
}

// Without the role no token passes, and the log has what to apply: the real API
// server takes it as it stands.
func TestWatchSaysWhichRole(t *testing.T) {
	c := sharedCluster(t, "ES256")
	account := c.serviceAccount(t, "api", "api")
	c.serviceAccount(t, "api", "web")
	w := c.watchUngranted(t, c.address(), revocation.Accept, "api", "web")
	token := c.mint(t, account, toPod(c.pod(t, account, "roleless", "")), time.Hour, service)
	eventually(t, "the API server refuses", func() bool { return w.verdict(t, token) == "undecided" })
	eventually(t, "the role is told", func() bool { return strings.Contains(w.log.String(), "kind: Role") })
	_, quoted, _ := strings.Cut(w.log.String(), "role=")
	quoted, _, _ = strings.Cut(quoted, "\n")
	var text string
	_, err := fmt.Sscanf(quoted, "%q", &text)
	noError(t, err)
	var role rbacv1.Role
	noError(t, yaml.UnmarshalStrict([]byte(text), &role))
	c.applyRole(t, &role)
	t.Logf("accepted %v after the role was there:\n%s", w.within(t, 40*time.Second, token, accepted), text)
	eventually(t, "the watch is ready", func() bool { return w.watcher.Ready(t.Context()) == nil }) // of web, too
}

// kubejwttest answers these questions with these statuses, too.
func TestListsAndWatches(t *testing.T) {
	c := sharedCluster(t, "RS256")
	account := c.serviceAccount(t, "api", "api")
	c.grant(t, "api", "watched", "remade", "web")
	for _, name := range []string{"a", "b"} {
		c.pod(t, account, name, "")
	}
	authorization := map[string]string{
		apiserver.Watcher:     "Bearer " + string(must(os.ReadFile(in(c.mount(t)).BearerTokenFile))),
		apiserver.Stranger:    "Bearer " + c.mint(t, account, nil, time.Hour),
		apiserver.WithRubbish: "Bearer rubbish",
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(must(os.ReadFile(c.caFile)))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	ask := func(q apiserver.Question) (int, string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		request := must(http.NewRequestWithContext(ctx, q.Method, c.address()+q.Path, nil))
		if value := authorization[q.Who]; value != "" {
			request.Header.Set("Authorization", value)
		}
		response, err := client.Do(request)
		noError(t, err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		noError(t, err)
		return response.StatusCode, string(body)
	}
	for _, q := range apiserver.Questions() {
		status, body := ask(q)
		if status != q.Status || !strings.Contains(body, q.Part) {
			t.Errorf("%s: status %d, %.300s: want %d, %s", q.Name, status, body, q.Status, q.Part)
		}
	}
}
