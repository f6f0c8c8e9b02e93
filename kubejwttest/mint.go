package kubejwttest

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/internal/apiserver"
)

// A Token says what to mint. The zero value is a good token of the service
// account default/default for the audience "test", bound to a pod on a node,
// which lives for an hour.
type Token struct {
	Namespace, ServiceAccount string
	Audiences                 []string
	Lifetime                  time.Duration // negative: it has expired already
	// Pod, Node and Secret are what the token is bound to. If all three are
	// zero it is bound to a pod on a node. A missing UID is that of the object of
	// this name, or made up.
	Pod, Node, Secret kubejwt.Object
	// Header and Claims override single members of the header and of the
	// payload, whatever they are; nil removes one. The signature is always
	// made with the cluster's key, whatever the header says.
	Header, Claims map[string]any
}

// Mint returns a token that this cluster signs now, in the shape in which
// kube-apiserver writes it. The service account and the pod that it names exist
// from then on; one of the same name with another UID is replaced.
func (c *Cluster) Mint(t Token) string {
	payload := encode(c.payload(t))
	c.objects.make(payload)
	return c.signingKey().mint(t, payload)
}

func (c *Cluster) payload(t Token) map[string]any { return override(c.claims(t), t.Claims) }

func (k signingKey) mint(t Token, payload string) string {
	header := override(map[string]any{"alg": k.alg, "kid": k.kid}, t.Header)
	return k.sign(encode(header), payload)
}

// claims are the payload as kube-apiserver builds it (Claims in
// k8s.io/kubernetes pkg/serviceaccount/claims.go).
func (c *Cluster) claims(t Token) map[string]any {
	if t.Namespace == "" {
		t.Namespace = "default"
	}
	if t.ServiceAccount == "" {
		t.ServiceAccount = "default"
	}
	if t.Audiences == nil {
		t.Audiences = []string{"test"}
	}
	if t.Lifetime == 0 {
		t.Lifetime = time.Hour
	}
	if none := (kubejwt.Object{}); t.Pod == none && t.Node == none && t.Secret == none {
		t.Pod.Name = t.ServiceAccount + "-7c9b54c8db-lwrfr"
		t.Node.Name = "node-1"
	}
	account := apiserver.Key{Kind: apiserver.ServiceAccounts, Namespace: t.Namespace, Name: t.ServiceAccount}
	kubernetes := map[string]any{
		"namespace":      t.Namespace,
		"serviceaccount": reference(t.ServiceAccount, c.objects.uid(account, "")),
	}
	if t.Pod != (kubejwt.Object{}) {
		pod := apiserver.Key{Kind: apiserver.Pods, Namespace: t.Namespace, Name: t.Pod.Name}
		kubernetes["pod"] = reference(t.Pod.Name, cmp.Or(t.Pod.UID, c.objects.uid(pod, t.ServiceAccount)))
	}
	for kind, object := range map[string]kubejwt.Object{"node": t.Node, "secret": t.Secret} {
		if object != (kubejwt.Object{}) {
			kubernetes[kind] = reference(object.Name, cmp.Or(object.UID, uidOf(kind, object.Name)))
		}
	}
	now := time.Now()
	start := now
	if t.Lifetime < 0 {
		start = now.Add(2 * t.Lifetime)
	}
	return map[string]any{
		"aud":           t.Audiences,
		"exp":           now.Add(t.Lifetime).Unix(),
		"iat":           start.Unix(),
		"iss":           c.issuer,
		"jti":           newUID(),
		"kubernetes.io": kubernetes,
		"nbf":           start.Unix(),
		"sub":           "system:serviceaccount:" + t.Namespace + ":" + t.ServiceAccount,
	}
}

func reference(name, uid string) map[string]any {
	return map[string]any{"name": name, "uid": uid}
}

func override(members, with map[string]any) map[string]any {
	maps.Copy(members, with)
	maps.DeleteFunc(members, func(_ string, value any) bool { return value == nil })
	return members
}

// encode panics if a Token holds a value that JSON can't represent. That is a mistake
// in a test.
func encode(members map[string]any) string {
	data, err := json.Marshal(members)
	if err != nil {
		panic("kubejwttest: Mint: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

// sign returns the compact JWS of two encoded segments.
func (k signingKey) sign(header, payload string) string {
	signed := header + "." + payload
	return signed + "." + base64.RawURLEncoding.EncodeToString(k.signature([]byte(signed)))
}

func (k signingKey) signature(signed []byte) []byte {
	hash := map[string]crypto.Hash{
		"RS256": crypto.SHA256, "ES256": crypto.SHA256, "ES384": crypto.SHA384, "ES512": crypto.SHA512,
	}[k.alg]
	h := hash.New()
	h.Write(signed)
	digest := h.Sum(nil)
	switch private := k.private.(type) {
	case *rsa.PrivateKey:
		signature, err := rsa.SignPKCS1v15(rand.Reader, private, hash, digest)
		if err != nil {
			panic("kubejwttest: " + err.Error())
		}
		return signature
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, private, digest)
		if err != nil {
			panic("kubejwttest: " + err.Error())
		}
		// RFC 7518, section 3.4: both at full width.
		width := (private.Params().BitSize + 7) / 8
		signature := make([]byte, 2*width)
		r.FillBytes(signature[:width])
		s.FillBytes(signature[width:])
		return signature
	default:
		panic(fmt.Sprintf("kubejwttest: a key of type %T", private))
	}
}

func newUID() string {
	var b [16]byte
	rand.Read(b[:])
	return formatUID(b)
}

func formatUID(b [16]byte) string {
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
