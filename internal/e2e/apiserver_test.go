package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

// childEnv makes this binary a kube-apiserver. Its flags and registries are
// global, so that each one needs a process of its own.
const childEnv = "KUBEJWT_E2E_KUBE_APISERVER"

// patience bounds every wait for an API server.
const patience = 3 * time.Minute

var workFolder string

// kubernetesVersion is that of the module which this binary was built with. The
// API server does not know it: it is told by a release's build.
func kubernetesVersion() string {
	function := runtime.FuncForPC(reflect.ValueOf(app.NewAPIServerCommand).Pointer())
	file, _ := function.FileLine(function.Entry())
	_, path, _ := strings.Cut(file, "k8s.io/kubernetes@")
	version, _, _ := strings.Cut(path, "/")
	return version
}

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		runAPIServer()
	}
	flag.Parse()
	log.Printf("kube-apiserver %s", kubernetesVersion())
	var err error
	if workFolder, err = os.MkdirTemp("", "kubejwt-e2e-"); err != nil {
		log.Fatal(err)
	}
	code := m.Run()
	for _, c := range sharedClusters {
		c.kill()
	}
	os.RemoveAll(workFolder)
	os.Exit(code)
}

// runAPIServer ends with the parent, however that ends: the other end of stdin
// is the parent's.
func runAPIServer() {
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	command := app.NewAPIServerCommand()
	command.SetArgs(os.Args[1:])
	os.Exit(cli.Run(command))
}

// startEtcd starts the etcd that all clusters share. It lives in this process.
var startEtcd = sync.OnceValues(func() (endpoint string, err error) {
	config := embed.NewConfig()
	config.Dir = filepath.Join(workFolder, "etcd")
	config.UnsafeNoFsync = true
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	client, err := loopbackURL()
	if err != nil {
		return "", err
	}
	peer, err := loopbackURL()
	if err != nil {
		return "", err
	}
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return "", err
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return client.String(), nil
	case err := <-etcd.Err():
		return "", err
	case <-time.After(patience):
		return "", errors.New("etcd does not become ready")
	}
})

func loopbackURL() (url.URL, error) {
	port, err := freePort()
	return url.URL{Scheme: "http", Host: net.JoinHostPort("127.0.0.1", port)}, err
}

func freePort() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	return port, err
}

// settings are the flags of a kube-apiserver that the tests are about.
type settings struct {
	issuers   []string      // the first one is that of new tokens
	audiences []string      // --api-audiences; nil: apiAudiences
	published []*signingKey // --service-account-key-file
	signer    *signingKey   // --service-account-signing-key-file
	more      []string
}

// A cluster is an API server and what it keeps in etcd. It stays the same
// cluster, at the same address, when it is restarted with other settings.
type cluster struct {
	settings
	folder string
	port   string
	caFile string
	config *rest.Config // of an administrator
	*kubernetes.Clientset

	process *exec.Cmd
	stdin   io.Closer
	ended   chan struct{}
}

func (c *cluster) address() string { return "https://127.0.0.1:" + c.port }

// newCluster starts a cluster that ends with the test.
func newCluster(t testing.TB, s settings) *cluster {
	t.Helper()
	c, err := startCluster(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	return c
}

func startCluster(s settings) (*cluster, error) {
	folder, err := os.MkdirTemp(workFolder, "cluster-")
	if err != nil {
		return nil, err
	}
	c := &cluster{folder: folder, caFile: filepath.Join(folder, "ca.crt")}
	if c.port, err = freePort(); err != nil {
		return nil, err
	}
	admin, err := writeCertificates(folder)
	if err != nil {
		return nil, err
	}
	c.config = &rest.Config{Host: c.address(), TLSClientConfig: admin, QPS: -1}
	if c.Clientset, err = kubernetes.NewForConfig(c.config); err != nil {
		return nil, err
	}
	return c, c.start(s)
}

// restart kills the API server, as a crash would, and starts it with s.
func (c *cluster) restart(t testing.TB, s settings) {
	t.Helper()
	c.kill()
	if err := c.start(s); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) kill() {
	if c.process == nil {
		return
	}
	c.process.Process.Kill()
	<-c.ended
	c.stdin.Close()
	c.process = nil
}

func (c *cluster) start(s settings) error {
	if s.audiences == nil {
		s.audiences = apiAudiences
	}
	c.settings = s
	flags, err := c.flags()
	if err != nil {
		return err
	}
	output, err := os.OpenFile(filepath.Join(c.folder, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer output.Close()
	process := exec.Command(os.Args[0], flags...)
	process.Env = append(os.Environ(), childEnv+"=1")
	process.Stdout, process.Stderr = output, output
	if c.stdin, err = process.StdinPipe(); err != nil {
		return err
	}
	if err := process.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		process.Wait()
		close(ended)
	}()
	c.process, c.ended = process, ended
	if err := c.awaitReady(); err != nil {
		c.kill()
		return fmt.Errorf("kube-apiserver: %w\n%s", err, c.lastWords())
	}
	return nil
}

func (c *cluster) flags() ([]string, error) {
	etcd, err := startEtcd()
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	flags := []string{
		"--etcd-servers=" + etcd,
		"--etcd-prefix=/" + filepath.Base(c.folder),
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		"--secure-port=" + c.port,
		"--cert-dir=" + c.folder,
		"--tls-cert-file=" + filepath.Join(c.folder, "serving.crt"),
		"--tls-private-key-file=" + filepath.Join(c.folder, "serving.key"),
		"--client-ca-file=" + c.caFile,
		"--authorization-mode=RBAC",
		"--endpoint-reconciler-type=none",
		"--service-cluster-ip-range=10.0.0.0/24",
		"--api-audiences=" + strings.Join(c.audiences, ","),
	}
	for _, issuer := range c.issuers {
		flags = append(flags, "--service-account-issuer="+issuer)
	}
	for _, key := range c.published {
		path, err := key.write(c.folder, "pub", key.publicPEM())
		if err != nil {
			return nil, err
		}
		flags = append(flags, "--service-account-key-file="+path)
	}
	path, err := c.signer.write(c.folder, "key", c.signer.privatePEM())
	if err != nil {
		return nil, err
	}
	return append(append(flags, "--service-account-signing-key-file="+path), c.more...), nil
}

// awaitReady waits until the API server says that it is ready and a write, of
// which the first can time out, has succeeded.
func (c *cluster) awaitReady() error {
	deadline := time.Now().Add(patience)
	for {
		err := c.tryWrite()
		if err == nil {
			return nil
		}
		select {
		case <-c.ended:
			return errors.New("it has ended")
		case <-time.After(200 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready after %v: %w", patience, err)
		}
	}
}

func (c *cluster) tryWrite() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := c.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error(); err != nil {
		return err
	}
	for _, name := range []string{"api", "prod"} {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		_, err := c.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	return nil
}

// lastWords is the end of the API server's log.
func (c *cluster) lastWords() string {
	data, _ := os.ReadFile(filepath.Join(c.folder, "log"))
	return string(data[max(0, len(data)-4<<10):])
}

var sharedClusters = make(map[string]*cluster)

// sharedCluster returns the cluster whose keys are for alg, which no test
// restarts. Its document names an address of the API server that callers don't
// reach it at, as kubeadm's and the recordings' do.
func sharedCluster(t testing.TB, alg string) *cluster {
	t.Helper()
	if c := sharedClusters[alg]; c != nil {
		return c
	}
	key := newSigningKey(t, alg)
	s := settings{
		issuers:   []string{issuer},
		published: []*signingKey{key},
		signer:    key,
		more:      []string{"--service-account-jwks-uri=https://127.0.0.1:16443/openid/v1/jwks"},
	}
	if alg == "ES256" {
		s.more = append(s.more, "--anonymous-auth=false") // as K3s and Talos have it
	}
	c, err := startCluster(s)
	if err != nil {
		t.Fatal(err)
	}
	sharedClusters[alg] = c
	return c
}
