package kubejwt

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	josejson "github.com/go-jose/go-jose/v4/json"

	"github.com/kubejwt/kubejwt/internal/keyset"
)

// corpus is what the vectors of a kind hold: tokens have no prefix.
func corpus(f *testing.F, prefix string) []string {
	paths, err := filepath.Glob("testdata/vectors/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	var bodies []string
	for _, path := range paths {
		name := filepath.Base(path)
		isDocument := strings.HasPrefix(name, "jwks_") || strings.HasPrefix(name, "discovery_")
		if !strings.HasPrefix(name, prefix) || isDocument && prefix == "" {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		_, body, _ := strings.Cut(string(data), "\n\n")
		body = strings.TrimSuffix(body, "\n")
		if unquoted, err := strconv.Unquote(body); err == nil {
			body = unquoted
		}
		bodies = append(bodies, body)
	}
	if len(bodies) == 0 {
		f.Fatal("no seeds in testdata/vectors")
	}
	return bodies
}

// What a payload says is what two other readers find in it, for every member
// that we know.
func FuzzClaims(f *testing.F) {
	for _, token := range corpus(f, "") {
		if part := strings.Split(token, "."); len(part) == 3 {
			if decoded, err := base64.RawURLEncoding.DecodeString(part[1]); err == nil {
				f.Add(decoded)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 16<<10 || bytes.Count(data, []byte("{"))+bytes.Count(data, []byte("[")) > 64 {
			t.Skip() // as jws.Split does
		}
		p, err := decodePayload(data)
		if err != nil {
			return
		}
		mine := p.known()
		for name, decode := range map[string]func(any) error{
			"encoding/json": func(v any) error {
				d := json.NewDecoder(bytes.NewReader(data))
				d.UseNumber()
				return d.Decode(v)
			},
			"go-jose": func(v any) error {
				d := josejson.NewDecoder(bytes.NewReader(data))
				d.SetNumberType(josejson.UnmarshalJSONNumber)
				return d.Decode(v)
			},
		} {
			var members map[string]any
			if err := decode(&members); err != nil {
				t.Fatalf("%q is accepted, and %s says: %v", data, name, err)
			}
			if its := knownTo(members); its != mine {
				t.Errorf("%q is read as\n%s, and by %s as\n%s", data, mine, name, its)
			}
		}
	})
}

// known is everything that is known of a payload, as one text.
func (p *payload) known() string {
	var b strings.Builder
	text := func(name string, value *string) {
		if value != nil && *value != "" {
			fmt.Fprintf(&b, "%s=%q ", name, *value)
		}
	}
	date := func(name string, d numericDate) {
		if d.present {
			fmt.Fprintf(&b, "%s=%d ", name, d.seconds)
		}
	}
	text("iss", &p.Issuer)
	text("sub", &p.Subject)
	text("jti", &p.ID.value)
	for _, audience := range p.Audiences {
		fmt.Fprintf(&b, "aud=%q ", audience)
	}
	date("exp", p.Expiry)
	date("nbf", p.NotBefore)
	date("iat", p.IssuedAt)
	for i, legacy := range []*string{p.LegacyNamespace, p.LegacySecret, p.LegacyAccountName, p.LegacyAccountUID} {
		text(legacyNames[i], legacy)
	}
	if p.Kubernetes == nil {
		return b.String()
	}
	k := p.Kubernetes
	b.WriteString("kubernetes.io ")
	text("namespace", &k.Namespace)
	date("warnafter", k.WarnAfter)
	for i, object := range []*objectClaim{k.ServiceAccount, k.Pod, k.Node, k.Secret} {
		if object != nil {
			b.WriteString(objectNames[i] + " ")
			text("name", &object.Name)
			text("uid", &object.UID.value)
		}
	}
	return b.String()
}

var (
	legacyNames = []string{"kubernetes.io/serviceaccount/namespace", "kubernetes.io/serviceaccount/secret.name",
		"kubernetes.io/serviceaccount/service-account.name", "kubernetes.io/serviceaccount/service-account.uid"}
	objectNames = []string{"serviceaccount", "pod", "node", "secret"}
)

// knownTo is known for what another reader has read.
func knownTo(members map[string]any) string {
	var b strings.Builder
	text := func(from map[string]any, name string) {
		if value := from[name]; value != nil && value != "" {
			fmt.Fprintf(&b, "%s=%q ", name, value)
		}
	}
	date := func(from map[string]any, name string) {
		if value := from[name]; value != nil {
			fmt.Fprintf(&b, "%s=%v ", name, value)
		}
	}
	text(members, "iss")
	text(members, "sub")
	text(members, "jti")
	switch aud := members["aud"].(type) {
	case string:
		fmt.Fprintf(&b, "aud=%q ", aud)
	case []any:
		for _, audience := range aud {
			fmt.Fprintf(&b, "aud=%q ", audience)
		}
	}
	date(members, "exp")
	date(members, "nbf")
	date(members, "iat")
	for _, name := range legacyNames {
		text(members, name)
	}
	k, found := members["kubernetes.io"].(map[string]any)
	if !found {
		return b.String()
	}
	b.WriteString("kubernetes.io ")
	text(k, "namespace")
	date(k, "warnafter")
	for _, name := range objectNames {
		if object, found := k[name].(map[string]any); found {
			b.WriteString(name + " ")
			text(object, "name")
			text(object, "uid")
		}
	}
	return b.String()
}

// mostFuzzed is the size of a document up to which the fuzzer tries thousands a
// second. Two keys fit into it; the larger vectors have tests of their own.
const mostFuzzed = 2 << 10

func addSmall(f *testing.F, documents []string) {
	for _, document := range documents {
		if len(document) <= mostFuzzed {
			f.Add([]byte(document))
		}
	}
}

// A key of a fetched set is one that another reader finds in it under the same
// kid, public, for signatures, and large enough.
func FuzzJWKS(f *testing.F) {
	addSmall(f, corpus(f, "jwks_"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > mostFuzzed {
			t.Skip()
		}
		set, err := keyset.ParseFetched(data)
		if err != nil {
			return
		}
		if len(set.Keys) == 0 || len(set.Keys) > keyset.MaxKeys || len(set.Keys) != len(set.IDs()) {
			t.Fatalf("%d keys under %d IDs", len(set.Keys), len(set.IDs()))
		}
		var other struct{ Keys []map[string]any }
		if err := json.Unmarshal(bytes.TrimPrefix(data, []byte("\ufeff")), &other); err != nil {
			t.Fatalf("%q is accepted, and encoding/json says: %v", data, err)
		}
		for _, k := range set.Keys {
			found := slices.ContainsFunc(other.Keys, func(members map[string]any) bool { return isOf(k, members) })
			if !found || !set.Holds(k.ID, k.Fingerprint) {
				t.Errorf("the key %q is not one of %q", k.ID, data)
			}
		}
	})
}

// isOf reports whether k is what members describe, and may be used.
func isOf(k *keyset.Key, members map[string]any) bool {
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, found := members[private]; found {
			return false
		}
	}
	use, hasUse := members["use"]
	if hasUse && use != nil && use != "sig" {
		return false
	}
	derived := base64.RawURLEncoding.EncodeToString(k.Fingerprint[:])
	if kid, _ := members["kid"].(string); k.ID == "" || kid != k.ID && (kid != "" || k.ID != derived) {
		return false
	}
	if public, isRSA := k.Public.(*rsa.PublicKey); isRSA {
		n, _ := members["n"].(string)
		decoded, err := base64.RawURLEncoding.Strict().DecodeString(n)
		return err == nil && members["kty"] == "RSA" && new(big.Int).SetBytes(decoded).Cmp(public.N) == 0 &&
			public.N.BitLen() >= 2048 && public.N.BitLen() <= 8192 && public.E >= 65537
	}
	x, _ := members["x"].(string)
	decoded, err := base64.RawURLEncoding.DecodeString(x)
	return err == nil && members["kty"] == "EC" && bytes.Contains(k.SPKI, decoded)
}

// Keys that are read from PEM or a JWKS file can be used, and are the same when
// they are written and read again.
func FuzzParsePublicKeys(f *testing.F) {
	paths, err := filepath.Glob("testdata/vectors/keys/*")
	if err != nil || len(paths) == 0 {
		f.Fatalf("no seeds in testdata/vectors/keys: %v", err)
	}
	for _, path := range slices.Concat(paths, []string{"testdata/sa.pub", "testdata/clusters/kube-apiserver-1.36/rs256/ca.crt"}) {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	addSmall(f, corpus(f, "jwks_"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > mostFuzzed {
			t.Skip()
		}
		keys, err := ParsePublicKeys(data)
		if err != nil {
			if keys != nil {
				t.Errorf("keys beside the error %v", err)
			}
			return
		}
		if len(keys) == 0 || len(keys) > keyset.MaxKeys {
			t.Fatalf("%d keys and no error", len(keys))
		}
		want := spkis(t, keys)
		var written []byte
		for _, spki := range want {
			written = append(written, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte(spki)})...)
		}
		again, err := ParsePublicKeys(written)
		if err != nil || !slices.Equal(spkis(t, again), want) {
			t.Fatalf("%d keys when read again, %v: want the same %d", len(again), err, len(want))
		}
	})
}

// spkis are the keys as written, each once.
func spkis(t *testing.T, keys PublicKeys) []string {
	t.Helper()
	var all []string
	for _, k := range keys {
		spki, err := x509.MarshalPKIXPublicKey(k.Key)
		if err != nil {
			t.Fatalf("a key that is accepted can't be written: %v", err)
		}
		all = append(all, string(spki))
	}
	slices.Sort(all)
	return slices.Compact(all)
}
