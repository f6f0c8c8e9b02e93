package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

var algorithms = []string{"RS256", "ES256", "ES384", "ES512"}

var curves = map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}

// A signingKey signs service account tokens. The tests have it too, and sign
// what no API server would.
type signingKey struct {
	alg     string
	kid     string // as Kubernetes derives it
	private crypto.Signer
}

func newSigningKey(t testing.TB, alg string) *signingKey {
	t.Helper()
	key := &signingKey{alg: alg}
	var err error
	if alg == "RS256" {
		key.private, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key.private, err = ecdsa.GenerateKey(curves[alg], rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(key.spki())
	key.kid = base64.RawURLEncoding.EncodeToString(sum[:])
	return key
}

func (k *signingKey) spki() []byte { return must(x509.MarshalPKIXPublicKey(k.private.Public())) }

func (k *signingKey) publicPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.spki()})
}

func (k *signingKey) privatePEM() []byte {
	if private, ok := k.private.(*ecdsa.PrivateKey); ok {
		return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: must(x509.MarshalECPrivateKey(private))})
	}
	private := k.private.(*rsa.PrivateKey)
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(private)})
}

func (k *signingKey) write(folder, extension string, data []byte) (path string, err error) {
	path = filepath.Join(folder, k.kid+"."+extension)
	return path, os.WriteFile(path, data, 0o600)
}

// token signs header and payload as they are.
func (k *signingKey) token(header, payload string) string { return k.tokenBy(k.alg, header, payload) }

// tokenBy signs by another algorithm than the key is for.
func (k *signingKey) tokenBy(alg, header, payload string) string {
	input := encode(header) + "." + encode(payload)
	return input + "." + encode(string(k.sign(alg, input)))
}

func digest(alg, input string) (crypto.Hash, []byte) {
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[alg[2:]]
	h := hash.New()
	h.Write([]byte(input))
	return hash, h.Sum(nil)
}

func (k *signingKey) sign(alg, input string) []byte {
	hash, digest := digest(alg, input)
	switch private := k.private.(type) {
	case *rsa.PrivateKey:
		if alg[0] == 'P' {
			return must(rsa.SignPSS(rand.Reader, private, hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}))
		}
		return must(rsa.SignPKCS1v15(rand.Reader, private, hash, digest))
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, private, digest)
		if err != nil {
			panic(err)
		}
		size := (curves[alg].Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	}
	panic("no such key")
}

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// writeCertificates writes a CA and an API server's serving certificate into
// folder. It returns an administrator's credentials.
func writeCertificates(folder string) (admin rest.TLSClientConfig, err error) {
	ca := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	root := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "kubernetes-ca"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	caPEM, _ := issue(root, root, ca, ca)
	serving, servingKey := issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		DNSNames:    []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, root, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), ca)
	admin.CAData = caPEM
	admin.CertData, admin.KeyData = issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, root, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), ca)

	for name, data := range map[string][]byte{"ca.crt": caPEM, "serving.crt": serving, "serving.key": servingKey} {
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o600); err != nil {
			return rest.TLSClientConfig{}, fmt.Errorf("certificates: %w", err)
		}
	}
	return admin, nil
}

func issue(template, parent *x509.Certificate, key, ca *ecdsa.PrivateKey) (certificate, private []byte) {
	template.SerialNumber = must(rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)))
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(10 * 365 * 24 * time.Hour)
	if template.KeyUsage == 0 {
		template.KeyUsage = x509.KeyUsageDigitalSignature
	}
	der := must(x509.CreateCertificate(rand.Reader, template, parent, key.Public(), ca))
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: must(x509.MarshalECPrivateKey(key))})
}
