package keyset

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
)

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func spki(t *testing.T, public crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// certificate is a private key in the form of PKCS #8, and a certificate of it.
func certificate(t *testing.T) (private, cert []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	if cert, err = x509.CreateCertificate(rand.Reader, template, template, key.Public(), key); err != nil {
		t.Fatal(err)
	}
	if private, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		t.Fatal(err)
	}
	return private, cert
}

// In PEM every odd block is an error, in a file too. The text says what is wrong.
func TestPEM(t *testing.T) {
	private, cert := certificate(t)
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	one := spki(t, rsaKey(2048, 1))
	good, two := block("PUBLIC KEY", one), block("PUBLIC KEY", spki(t, rsaKey(2048, 2)))
	many := func(n int) string {
		var all strings.Builder
		for i := range n {
			all.WriteString(block("PUBLIC KEY", spki(t, rsaKey(2048, int64(i)))))
		}
		return all.String()
	}
	filled := func(size int) string { return good + strings.Repeat("\n", size-len(good)) }
	const none = "no key: want PEM blocks"
	for _, tt := range []struct {
		name, data string
		keys       int // 0: an error
		err        string
	}{
		{"a key", good, 1, ""},
		{"two", good + two, 2, ""},
		{"the same key twice", good + good, 1, ""},
		{"of PKCS #1", block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(rsaKey(2048, 1))), 1, ""},
		{"of PKIX under the name of PKCS #1, as kops writes it", block("RSA PUBLIC KEY", one), 1, ""},
		{"a certificate", block("CERTIFICATE", cert), 1, ""},
		{"text around it", "# sa.pub\n" + good + "the end\n", 1, ""},
		{"a byte order mark", "\xef\xbb\xbf" + good, 1, ""},
		{"parameters in front", block("EC PARAMETERS", []byte{6, 8}) + good, 1, ""},
		{"of 1 MiB", filled(MaxSize), 1, ""},
		{"of more", filled(MaxSize + 1), 0, "more than 1048576 bytes"},
		{"128 keys", many(128), 128, ""},
		{"129 keys", many(129), 0, "more than 128 keys"},

		{"parameters alone", block("EC PARAMETERS", []byte{6, 8}), 0, none},
		{"nothing", "", 0, none},
		{"text", "ssh-rsa AAAA", 0, none},
		{"half-written", good + two[:len(two)/2], 0, "2 PEM blocks begin, 1 end and 1 are whole"},
		{"a private key", good + block("PRIVATE KEY", private), 0, `PEM block 2: a private key ("PRIVATE KEY"), which must stay`},
		{"of another kind", block("EC PRIVATE KEY", private), 0, `PEM block 1: a private key ("EC PRIVATE KEY"), which must stay`},
		{"a request", block("CERTIFICATE REQUEST", cert), 0,
			`PEM block 1: a block of type "CERTIFICATE REQUEST": want PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE`},
		{"a long type", block(strings.Repeat("A", 65), one), 0, `PEM block 1: a block of type "` + strings.Repeat("A", 64) + `":`},
		{"a long private type", block(strings.Repeat("A", 65)+" PRIVATE KEY", one), 0, `PEM block 1: a private key ("` + strings.Repeat("A", 64) + `"),`},
		{"a hostile type", block("\x1b[2J\u0430\u202e", one), 0, `a block of type "\x1b[2J\u0430\u202e": want`},
		{"a hostile private type", block("\u009b PRIVATE KEY", one), 0, `a private key ("\u009b PRIVATE KEY"), which`},
		{"a token as a type", block("eyJhbGciOiJSUzI1NiJ9.e30.AAAA", one), 0, "a block of type (withheld: it looks like a token): want"},
		{"a damaged key", block("PUBLIC KEY", one[1:]), 0, "PEM block 1: a damaged PUBLIC KEY"},
		{"a damaged one of PKCS #1", block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(rsaKey(2048, 1))[1:]), 0, "PEM block 1: a damaged RSA PUBLIC KEY"},
		{"a damaged one of kops", block("RSA PUBLIC KEY", one[1:]), 0, "PEM block 1: a damaged RSA PUBLIC KEY"},
		{"a certificate of PKCS #1", block("RSA PUBLIC KEY", cert), 0, "PEM block 1: a damaged RSA PUBLIC KEY"},
		{"of PKCS #1 under the name of PKIX", block("PUBLIC KEY", x509.MarshalPKCS1PublicKey(rsaKey(2048, 1))), 0, "PEM block 1: a damaged PUBLIC KEY"},
		{"a damaged certificate", block("CERTIFICATE", one), 0, "PEM block 1: a damaged CERTIFICATE"},
		{"too small", good + block("PUBLIC KEY", spki(t, rsaKey(1024, 0))), 0, "PEM block 2: an RSA key of 1024 bits: want"},
		{"Ed25519", block("PUBLIC KEY", spki(t, edwards)), 0, "PEM block 1: a key of type ed25519.PublicKey"},
		{"UTF-16", "\xff\xfe-\x00", 0, "Out-File -Encoding ascii"},
	} {
		for name, parse := range map[string]func([]byte) (*Set, error){"Parse": Parse, "ParseFile": ParseFile} {
			set, err := parse([]byte(tt.data))
			if tt.keys == 0 {
				if err == nil || !strings.Contains(err.Error(), tt.err) || set != nil {
					t.Errorf("%s of %s: %+v, %v: want an error with %s", name, tt.name, set, err, tt.err)
				}
				continue
			}
			if err != nil || len(set.Keys) != tt.keys || len(set.IDs()) != tt.keys {
				t.Errorf("%s of %s: %+v, %v: want %d keys", name, tt.name, set, err, tt.keys)
			}
		}
	}
	set, err := Parse([]byte(good))
	if err != nil || !bytes.Equal(set.Keys[0].SPKI, one) || set.Keys[0].ID != encode(set.Keys[0].Fingerprint[:]) {
		t.Errorf("%+v, %v: want the key under the ID that is derived from it", set, err)
	}
}

// A JWKS may begin with blanks.
func TestParseKnowsJSON(t *testing.T) {
	for name, parse := range map[string]func([]byte) (*Set, error){"Parse": Parse, "ParseFile": ParseFile} {
		for data, want := range map[string]string{
			" \n{}": "not a JWKS: it has no keys",
			"[]":    "no key: want PEM blocks",
		} {
			if _, err := parse([]byte(data)); !strings.HasPrefix(errorText(err), want) {
				t.Errorf("%s of %q: %v, want %s", name, data, err, want)
			}
		}
	}
}
