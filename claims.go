package kubejwt

import (
	"errors"
	"fmt"
	"time"

	"github.com/kubejwt/kubejwt/internal/kubename"
	"github.com/kubejwt/kubejwt/internal/strictjson"
)

// Claims is the identity that a token proves. It is a comparable value: verifying
// one token twice gives equal Claims. Times are in UTC.
//
// If several clusters are joined, look at Issuer and Username together when you
// decide who may do what: every cluster can have a shop/api.
type Claims struct {
	Issuer         string // iss, as configured or learnt from the discovery document
	Subject        string // sub: the same as Username
	ID             string // jti; "" from clusters before 1.30
	Audience       string // the first of Config.Audiences that the token names
	Namespace      string
	ServiceAccount Object
	Pod            Object // zero unless the token is bound to a pod
	Node           Object // the pod's node, or the one that the token is bound to; UID may be ""
	Secret         Object // zero unless the token is bound to a secret
	IssuedAt       time.Time
	NotBefore      time.Time // zero if the token has no nbf
	// Expiry is when this Verifier stops accepting the token, without leeway:
	// the earlier of exp and warnafter, or exp with Config.AcceptExtended.
	Expiry time.Time
}

// An Object names a Kubernetes object. A later object of the same name has
// another UID.
type Object struct{ Name, UID string }

// Username is the name that TokenReview gives and RBAC knows:
// system:serviceaccount:<namespace>:<name>. It is "" for zero Claims.
func (c Claims) Username() string {
	if c == (Claims{}) {
		return ""
	}
	return username(c.Namespace, c.ServiceAccount.Name)
}

func username(namespace, name string) string {
	return "system:serviceaccount:" + namespace + ":" + name
}

// Groups are the groups that TokenReview gives. They are nil for zero Claims.
func (c Claims) Groups() []string {
	if c == (Claims{}) {
		return nil
	}
	return []string{"system:serviceaccounts", "system:serviceaccounts:" + c.Namespace, "system:authenticated"}
}

// Extra is the extra information that TokenReview gives: the token's ID, and
// the pod and node if they are known. It is nil if there is none.
//
// It follows ServiceAccountInfo.UserInfo in
// k8s.io/apiserver/pkg/authentication/serviceaccount.
func (c Claims) Extra() map[string][]string {
	var extra map[string][]string
	add := func(key, value string) {
		if extra == nil {
			extra = make(map[string][]string)
		}
		extra["authentication.kubernetes.io/"+key] = []string{value}
	}
	if c.ID != "" {
		add("credential-id", "JTI="+c.ID)
	}
	if c.Pod.Name != "" && c.Pod.UID != "" {
		add("pod-name", c.Pod.Name)
		add("pod-uid", c.Pod.UID)
	}
	if c.Node.Name != "" {
		add("node-name", c.Node.Name)
		if c.Node.UID != "" {
			add("node-uid", c.Node.UID)
		}
	}
	return extra
}

// payload is a decoded payload. It is unverified until the signature has been
// checked. After that, the bytes are not decoded again.
type payload struct {
	registered
	Subject    string           `json:"sub"`
	ID         optionalString   `json:"jti"`
	Kubernetes *kubernetesClaim `json:"kubernetes.io"`

	// The flat claims of Secret-based tokens. Beside kubernetes.io they would
	// name a second identity.
	LegacyNamespace   *string `json:"kubernetes.io/serviceaccount/namespace"`
	LegacySecret      *string `json:"kubernetes.io/serviceaccount/secret.name"`
	LegacyAccountName *string `json:"kubernetes.io/serviceaccount/service-account.name"`
	LegacyAccountUID  *string `json:"kubernetes.io/serviceaccount/service-account.uid"`
}

// registered are the claims of rule 7.
type registered struct {
	Issuer    string      `json:"iss"`
	Audiences audiences   `json:"aud"`
	Expiry    numericDate `json:"exp"`
	NotBefore numericDate `json:"nbf"`
	IssuedAt  numericDate `json:"iat"`
	// WarnAfter is when the API server starts to log a warning about an extended
	// token. It is nested in kubernetes.io.
	WarnAfter numericDate `json:"-"`
}

// kubernetesClaim follows the type kubernetes in pkg/serviceaccount/claims.go of
// k8s.io/kubernetes. Later versions may add members.
type kubernetesClaim struct {
	Namespace      string       `json:"namespace"`
	ServiceAccount *objectClaim `json:"serviceaccount"`
	Pod            *objectClaim `json:"pod"`
	Node           *objectClaim `json:"node"`
	Secret         *objectClaim `json:"secret"`
	WarnAfter      numericDate  `json:"warnafter"`
}

type objectClaim struct {
	Name string         `json:"name"`
	UID  optionalString `json:"uid"`
}

// decodePayload decodes the payload, strictly and once.
func decodePayload(data []byte) (*payload, error) {
	p := new(payload)
	if err := strictjson.Unmarshal(data, p); err != nil {
		return nil, err
	}
	if p.Kubernetes != nil {
		p.WarnAfter = p.Kubernetes.WarnAfter
	}
	return p, nil
}

// isLegacy reports whether p has the form of a Secret-based token: flat claims,
// and no kubernetes.io, exp or aud. Its iss does not decide: some clusters sign
// projected tokens with the iss that Secret-based tokens have.
func (p *payload) isLegacy() bool {
	return p.hasFlatClaims() && p.Kubernetes == nil && !p.Expiry.present && len(p.Audiences) == 0
}

func (p *payload) hasFlatClaims() bool {
	return p.LegacyNamespace != nil || p.LegacySecret != nil || p.LegacyAccountName != nil || p.LegacyAccountUID != nil
}

// maxDate is the last second of the year 9999.
const maxDate = 253402300799

// numericDate is RFC 7519's NumericDate as Kubernetes writes it, a plain
// integer, or absent.
type numericDate struct {
	seconds int64
	present bool
}

func (d *numericDate) UnmarshalJSONFrom(from *strictjson.Decoder) error {
	value, err := from.ReadValue()
	if err != nil {
		return err
	}
	if value.Kind() == 'n' {
		return nil
	}
	d.present = true
	if len(value) > len("253402300799") {
		return errors.New("out of range")
	}
	for _, digit := range value {
		if digit < '0' || digit > '9' {
			return errors.New("not a plain integer")
		}
		d.seconds = d.seconds*10 + int64(digit-'0')
	}
	if d.seconds > maxDate {
		return errors.New("out of range")
	}
	return nil
}

// time is the zero Time if d is absent.
func (d numericDate) time() time.Time {
	if !d.present {
		return time.Time{}
	}
	return time.Unix(d.seconds, 0).UTC()
}

// audiences is aud: a string or an array of strings (RFC 7519, section 4.1.3).
type audiences []string

func (a *audiences) UnmarshalJSONFrom(from *strictjson.Decoder) error {
	switch from.PeekKind() {
	case 'n':
		return from.SkipValue()
	case '"':
		return a.appendFrom(from)
	case '[':
	default:
		return errors.New("neither a string nor an array")
	}
	if _, err := from.ReadToken(); err != nil { // [
		return err
	}
	for from.PeekKind() != ']' {
		if err := a.appendFrom(from); err != nil {
			return err
		}
	}
	_, err := from.ReadToken() // ]
	return err
}

func (a *audiences) appendFrom(from *strictjson.Decoder) error {
	// A null would decode into the empty string.
	if from.PeekKind() != '"' {
		return errors.New("not a string among the audiences")
	}
	*a = append(*a, "")
	return strictjson.Decode(from, &(*a)[len(*a)-1])
}

// optionalString is a string that may be absent. An absent one is not the same as
// an empty one.
type optionalString struct {
	value   string
	present bool
}

func (s *optionalString) UnmarshalJSONFrom(from *strictjson.Decoder) error {
	*s = optionalString{present: from.PeekKind() != 'n'}
	return strictjson.Decode(from, &s.value)
}

// identity checks that p names one service account consistently, and returns it.
// The API server looks most of this up. Offline, nothing else would notice a
// contradiction.
func (p *payload) identity() (Claims, error) {
	k := p.Kubernetes
	switch {
	case k == nil:
		return Claims{}, errors.New("no kubernetes.io")
	case p.hasFlatClaims():
		return Claims{}, errors.New("the claims of a Secret-based token beside kubernetes.io")
	case !kubename.IsLabel(k.Namespace):
		return Claims{}, errors.New("a kubernetes.io namespace that is missing or not a DNS label")
	case k.ServiceAccount == nil:
		return Claims{}, errors.New("no kubernetes.io serviceaccount")
	case k.Secret != nil && (k.Pod != nil || k.Node != nil):
		return Claims{}, errors.New("a kubernetes.io secret beside a pod or node")
	case p.ID.present && !kubename.IsPrintable(p.ID.value):
		return Claims{}, errors.New("a jti that is not 1 to 128 printable ASCII characters")
	}

	c := Claims{Subject: p.Subject, ID: p.ID.value, Namespace: k.Namespace}
	var err error
	if c.ServiceAccount, err = k.ServiceAccount.object("serviceaccount"); err != nil {
		return Claims{}, err
	}
	if c.Pod, err = k.Pod.object("pod"); err != nil {
		return Claims{}, err
	}
	if c.Node, err = k.Node.object("node"); err != nil {
		return Claims{}, err
	}
	if c.Secret, err = k.Secret.object("secret"); err != nil {
		return Claims{}, err
	}
	// The API server does not compare sub with kubernetes.io.
	if p.Subject != username(c.Namespace, c.ServiceAccount.Name) {
		return Claims{}, errors.New("a sub that does not name the service account of kubernetes.io")
	}
	return c, nil
}

// object returns what o names. It is zero if o is absent.
func (o *objectClaim) object(kind string) (Object, error) {
	switch {
	case o == nil:
		return Object{}, nil
	case !kubename.IsSubdomain(o.Name):
		return Object{}, fmt.Errorf("a kubernetes.io %s whose name is missing or not a DNS subdomain", kind)
	case !o.UID.present && kind == "node":
		// The API server leaves out the UID of a node that it did not find.
		return Object{Name: o.Name}, nil
	case !kubename.IsPrintable(o.UID.value):
		return Object{}, fmt.Errorf("a kubernetes.io %s whose uid is not 1 to 128 printable ASCII characters", kind)
	default:
		return Object{o.Name, o.UID.value}, nil
	}
}
