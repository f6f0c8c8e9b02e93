package kubejwttest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/internal/apiserver"
)

// DeletePod removes a pod, as the API server does at the end of its grace
// period. A token that is minted for a pod of this name later names a new UID.
// It panics if there is no such pod.
func (c *Cluster) DeletePod(namespace, name string) {
	c.objects.delete("DeletePod", podKey(namespace, name))
}

// DeleteServiceAccount removes a service account. Its pods stay, as in a real
// cluster. A token that is minted for an account of this name later names a new
// UID. It panics if there is no such account.
func (c *Cluster) DeleteServiceAccount(namespace, name string) {
	c.objects.delete("DeleteServiceAccount", accountKey(namespace, name))
}

// TerminatePod asks a pod to end within grace. The pod gets a deletionTimestamp, and
// exists until DeletePod removes it, like a pod with a finalizer or on a lost node. It panics if there is no such pod.
func (c *Cluster) TerminatePod(namespace, name string, grace time.Duration) {
	key := podKey(namespace, name)
	pod, found := c.objects.server.Get(key)
	if !found {
		panic("kubejwttest: TerminatePod: no pod " + namespace + "/" + name)
	}
	pod.Deletion = time.Now().Add(grace).Truncate(time.Second)
	c.objects.server.Put(key, pod)
}

// CutWatches ends the watches that are open. New ones may begin at once, unless the
// API server is not available.
func (c *Cluster) CutWatches() { c.objects.server.Cut() }

// SilenceWatches sets whether watches stay open and send nothing. A new one still
// begins with its list. What happened meanwhile is sent when the silence ends.
func (c *Cluster) SilenceWatches(silent bool) { c.objects.server.Silence(silent) }

func podKey(namespace, name string) apiserver.Key {
	return apiserver.Key{Kind: apiserver.Pods, Namespace: namespace, Name: name}
}

func accountKey(namespace, name string) apiserver.Key {
	return apiserver.Key{Kind: apiserver.ServiceAccounts, Namespace: namespace, Name: name}
}

// objects are the pods and service accounts of a Cluster.
type objects struct {
	server *apiserver.Server

	mu      *sync.Mutex
	deleted map[apiserver.Key]int // how many of this name there were
}

func newObjects() objects {
	return objects{server: apiserver.New(), mu: new(sync.Mutex), deleted: make(map[apiserver.Key]int)}
}

func (o *objects) delete(caller string, key apiserver.Key) {
	if !o.server.Delete(key) {
		panic("kubejwttest: " + caller + ": none of this name: " + key.Namespace + "/" + key.Name)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.deleted[key]++
}

// uid returns the UID of the object of this name, or the one that it would get.
// A pod of another service account would be replaced by a new one.
func (o *objects) uid(key apiserver.Key, account string) string {
	existing, found := o.server.Get(key)
	if found && existing.ServiceAccount == account {
		return existing.UID
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return uidOf(key.Kind, key.Namespace, key.Name, account, strconv.Itoa(o.deleted[key]))
}

// uidOf makes up a UID. For the same name it is always the same.
func uidOf(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "/")))
	return formatUID([16]byte(sum[:16]))
}

// named is what a payload says about objects. What a test made up may be
// anything.
type named struct {
	Kubernetes struct {
		Namespace      string         `json:"namespace"`
		ServiceAccount kubejwt.Object `json:"serviceaccount"`
		Pod            kubejwt.Object `json:"pod"`
	} `json:"kubernetes.io"`
}

// make makes the objects of an encoded payload exist.
func (o *objects) make(payload string) {
	data, err := base64.RawURLEncoding.DecodeString(payload)
	var n named
	if err != nil || json.Unmarshal(data, &n) != nil {
		return
	}
	k := n.Kubernetes
	if k.Namespace == "" || k.ServiceAccount.Name == "" || k.ServiceAccount.UID == "" {
		return
	}
	o.put(apiserver.ServiceAccounts, k.Namespace, k.ServiceAccount, "")
	if k.Pod.Name != "" && k.Pod.UID != "" {
		o.put(apiserver.Pods, k.Namespace, k.Pod, k.ServiceAccount.Name)
	}
}

// put makes an object exist. One that is there already stays as it is.
func (o *objects) put(kind, namespace string, object kubejwt.Object, account string) {
	key := apiserver.Key{Kind: kind, Namespace: namespace, Name: object.Name}
	if existing, found := o.server.Get(key); found && existing.UID == object.UID {
		return
	}
	o.server.Put(key, apiserver.Object{UID: object.UID, ServiceAccount: account})
}

// exist reports whether the objects that a token names exist.
func (o *objects) exist(claims kubejwt.Claims) bool {
	account, found := o.server.Get(accountKey(claims.Namespace, claims.ServiceAccount.Name))
	if !found || account.UID != claims.ServiceAccount.UID || isOver(account) {
		return false
	}
	if claims.Pod == (kubejwt.Object{}) {
		return true
	}
	pod, found := o.server.Get(podKey(claims.Namespace, claims.Pod.Name))
	return found && pod.UID == claims.Pod.UID && !isOver(pod)
}

// isOver reports whether the API server treats an object as deleted, which it does a
// minute after its deletionTimestamp.
func isOver(o apiserver.Object) bool {
	return !o.Deletion.IsZero() && o.Deletion.Add(time.Minute).Before(time.Now())
}
