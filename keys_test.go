//lint:file-ignore SA1019 keys that are no keys are what is tested here

package kubejwt_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"maps"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func TestParsePublicKeys(t *testing.T) {
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))
	ecKey := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	smallKey := must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))

	rsaSPKI := must(x509.MarshalPKIXPublicKey(rsaKey.Public()))
	rsaPEM := block("PUBLIC KEY", rsaSPKI)
	ecPEM := block("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(ecKey.Public())))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(0, 0)} // long past: only the key counts
	certificate := block("CERTIFICATE", must(x509.CreateCertificate(rand.Reader, template, template, ecKey.Public(), ecKey)))

	jwk := func(key any, change func(map[string]any)) string {
		var members map[string]any
		data := must(jose.JSONWebKey{Key: key, KeyID: "k"}.MarshalJSON())
		if err := json.Unmarshal(data, &members); err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(members)
		}
		return string(must(json.Marshal(members)))
	}
	set := func(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }
	with := func(name string, value any) func(map[string]any) {
		return func(members map[string]any) { members[name] = value }
	}
	rsaJWK, ecJWK := jwk(rsaKey.Public(), nil), jwk(ecKey.Public(), with("kid", "e"))

	for _, tt := range []struct {
		name, data string
		keys       int
		err        string
	}{
		{name: "RSA", data: rsaPEM, keys: 1},
		{name: "EC", data: ecPEM, keys: 1},
		{name: "PKCS #1", data: block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&rsaKey.PublicKey)), keys: 1},
		{name: "a certificate", data: certificate, keys: 1},
		{name: "several, with text around", data: "# ours\n" + rsaPEM + "\n# older\n" + ecPEM + "the end", keys: 2},
		{name: "with a key in comments", data: "# -----BEGIN PUBLIC KEY----- of a\n" + rsaPEM + "# " + strings.ReplaceAll(ecPEM, "\n", "\n# "), keys: 1},
		{name: "with CRLF", data: strings.ReplaceAll(rsaPEM+ecPEM, "\n", "\r\n"), keys: 2},
		{name: "the same twice", data: rsaPEM + rsaPEM, keys: 1},
		{name: "the same as certificate", data: ecPEM + certificate, keys: 1},

		{name: "nothing", data: "", err: "no key"},
		{name: "text", data: "hello", err: "no key"},
		{name: "half a file", data: rsaPEM[:200], err: "half-written"},
		{name: "a key and half of another", data: rsaPEM + ecPEM[:60], err: "half-written"},
		{name: "a byte order mark first", data: "\ufeff" + rsaPEM + ecPEM, keys: 2},
		{name: "two byte order marks", data: "\ufeff\ufeff" + rsaPEM, err: "half-written"},
		{name: "UTF-16", data: utf16(rsaPEM), err: "Out-File"},
		{name: "a JWKS after a byte order mark", data: "\ufeff" + set(rsaJWK), keys: 1},
		{name: "a JWKS in UTF-16", data: utf16(set(rsaJWK)), err: "Out-File"},
		{name: "EC PARAMETERS in front", data: block("EC PARAMETERS", []byte("\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07")) + ecPEM, keys: 1},
		{name: "EC PARAMETERS alone", data: block("EC PARAMETERS", []byte("\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07")), err: "no key"},
		{name: "a private key after a byte order mark", data: "\ufeff" + block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(ecKey))) + rsaPEM, err: "private key"},
		{name: "a key that does not begin a line", data: "key: " + rsaPEM + ecPEM, err: "half-written"},
		{name: "a damaged block between", data: rsaPEM + strings.Replace(ecPEM, "-----END", "----END", 1) + rsaPEM, err: "half-written"},
		{name: "a private RSA key", data: block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)), err: "private key"},
		{name: "a private EC key", data: block("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(ecKey))), err: "private key"},
		{name: "a private PKCS #8 key", data: block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(ecKey))), err: "private key"},
		{name: "a private key beside a public one", data: rsaPEM + block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(ecKey))), err: "private key"},
		{name: "another block", data: block("CERTIFICATE REQUEST", []byte("x")), err: "CERTIFICATE REQUEST"},
		{name: "a block that does not decode", data: block("PUBLIC KEY", []byte("x")), err: "damaged"},
		{name: "a block with more behind the key", data: block("PUBLIC KEY", append(bytes.Clone(rsaSPKI), 0)), err: "damaged"},
		{name: "Ed25519", data: block("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(edKey.Public()))), err: "ed25519"},
		{name: "P-224", data: block("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(smallKey.Public()))), err: "curve"},
		{name: "RSA of 1024 bits", data: block("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 1023, 1), E: 65537}))), err: "1024"},
		{name: "RSA of 8192 bits", data: block("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 8191, 1), E: 65537}))), keys: 1},
		{name: "RSA of 8193 bits", data: block("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 8192, 1), E: 65537}))), err: "8193"},
		{name: "RSA with e 3", data: block("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: rsaKey.N, E: 3}))), err: "exponent"},
		{name: "RSA with an even modulus", data: block("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 65537}))), err: "even"},
		{name: "over 1 MiB", data: strings.Repeat(" ", 1<<20) + rsaPEM, err: "1048576"},
		{name: "129 keys", data: strings.Repeat(rsaPEM, 129), err: "128"},

		{name: "JWKS", data: set(rsaJWK, ecJWK), keys: 2},
		{name: "JWKS with white space", data: " \n" + set(rsaJWK), keys: 1},
		{name: "JWKS, the same twice", data: set(rsaJWK, rsaJWK), keys: 1},
		{name: "JWKS without kid", data: set(jwk(rsaKey.Public(), func(m map[string]any) { delete(m, "kid") })), keys: 1},
		{name: "JWKS with a key of a later kind", data: set(`{"kty":"AKP","alg":"ML-DSA-44","pub":"AA"}`, rsaJWK), keys: 1},
		{name: "JWKS with a later curve", data: set(`{"kty":"EC","crv":"P-999","x":"AA","y":"AA"}`, rsaJWK), keys: 1},
		{name: "JWKS with use sig", data: set(jwk(rsaKey.Public(), with("use", "sig"))), keys: 1},
		{name: "JWKS with key_ops verify", data: set(jwk(rsaKey.Public(), with("key_ops", []string{"verify"}))), keys: 1},
		{name: "JWKS with alg", data: set(jwk(rsaKey.Public(), with("alg", "RS256"))), keys: 1},
		{name: "JWKS with a bad x5c", data: set(jwk(rsaKey.Public(), with("x5c", []string{"rubbish"}))), keys: 1},

		{name: "JWKS with a later kind for encryption", data: set(`{"kty":"OKP","crv":"X25519","use":"enc","x":"AA"}`, `{"kty":"AKP","key_ops":["encrypt"]}`, rsaJWK), keys: 1},
		{name: "JWKS with a later kind of other types", data: set(`{"kty":"XYZ","x":5,"n":[],"use":{}}`, `{"kty":"EC","crv":"P-999","x":5}`, rsaJWK), keys: 1},
		{name: "JWKS with EC and no crv", data: set(`{"kty":"EC","x":"AA","y":"AA"}`, rsaJWK), err: "crv"},
		{name: "JWKS with no kty", data: set(`{"kid":"x"}`, rsaJWK), err: "kty"},
		{name: "JWKS with an oct without k", data: set(`{"kty":"oct"}`, rsaJWK), err: "symmetric key"},
		{name: "JWKS with oth alone", data: set(jwk(rsaKey.Public(), with("oth", []string{})), ecJWK), err: "private key"},
		{name: "JWKS with a private key of a later kind", data: set(`{"kty":"OKP","crv":"Ed25519","x":"AA","d":"AA"}`, rsaJWK), err: "private key"},
		{name: "JWKS of later kinds alone", data: set(`{"kty":"AKP"}`), err: "no usable key"},
		{name: "JWKS without keys", data: `{"keys":[]}`, err: "no keys"},
		{name: "an empty object", data: `{}`, err: "no keys"},
		{name: "keys null", data: `{"keys":null}`, err: "no keys"},
		{name: "a JWK", data: rsaJWK, err: "single JWK"},
		{name: "JWKS doubled", data: `{"keys":[],"keys":[` + rsaJWK + `]}`, err: "JSON"},
		{name: "JWKS with more behind it", data: set(rsaJWK) + "{}", err: "JSON"},
		{name: "JWKS with a doubled member in a key", data: set(strings.Replace(rsaJWK, `"kty"`, `"kty":"EC","kty"`, 1)), err: "JSON"},
		{name: "JWKS with a private key", data: set(rsaJWK, jwk(ecKey, nil)), err: "private key"},
		{name: "JWKS with a symmetric key", data: set(rsaJWK, `{"kty":"oct","k":"AAAA"}`), err: "symmetric key"},
		{name: "JWKS with use enc", data: set(jwk(rsaKey.Public(), with("use", "enc"))), err: "use"},
		{name: "JWKS with key_ops encrypt", data: set(jwk(rsaKey.Public(), with("key_ops", []string{"encrypt"}))), err: "key_ops"},
		{name: "JWKS with alg PS256", data: set(jwk(rsaKey.Public(), with("alg", "PS256"))), err: "RS256"},
		{name: "JWKS with alg ES384 on P-256", data: set(jwk(ecKey.Public(), with("alg", "ES384"))), err: "ES256"},
		{name: "JWKS with a leading zero in n", data: set(jwk(rsaKey.Public(), with("n", base64.RawURLEncoding.EncodeToString(append([]byte{0}, rsaKey.N.Bytes()...))))), keys: 1},
		{name: "JWKS with a leading zero in e", data: set(jwk(rsaKey.Public(), with("e", "AAEAAQ"))), err: "canonical"},
		{name: "JWKS with padding in e", data: set(jwk(rsaKey.Public(), with("e", "AQAB="))), err: "canonical"},
		{name: "JWKS with a line break in e", data: set(jwk(rsaKey.Public(), with("e", "AQ\nAB"))), err: "canonical"},
		{name: "JWKS with e of 2^32+1", data: set(jwk(rsaKey.Public(), with("e", "AQAAAAE"))), err: "large"},
		{name: "JWKS with a point off the curve", data: set(jwk(ecKey.Public(), with("x", base64.RawURLEncoding.EncodeToString(make([]byte, 32))))), err: "damaged"},
		{name: "JWKS, two keys of one kid", data: set(rsaJWK, jwk(ecKey.Public(), nil)), err: `"k"`},
		{name: "JWKS with a kid of the wrong type", data: set(jwk(rsaKey.Public(), with("kid", 7))), err: "/kid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			keys, err := kubejwt.ParsePublicKeys([]byte(tt.data))
			if tt.err == "" && (err != nil || len(keys) != tt.keys) {
				t.Fatalf("%d keys, %v: want %d", len(keys), err, tt.keys)
			}
			if tt.err != "" && (keys != nil || err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Fatalf("%d keys, %v: want an error with %q", len(keys), err, tt.err)
			}
		})
	}
}

// utf16 is what > of Windows PowerShell makes of ASCII.
func utf16(ascii string) string {
	var b strings.Builder
	b.WriteString("\xff\xfe")
	for i := range len(ascii) {
		b.WriteByte(ascii[i])
		b.WriteByte(0)
	}
	return b.String()
}

// The IDs that an API server derived, of the keys that it had in sa.pub.
func TestKeyIDs(t *testing.T) {
	for cluster, r := range allRecordings(t) {
		if !r.published {
			continue
		}
		fromPEM := must(kubejwt.ParsePublicKeys([]byte(r.read(t, "sa.pub"))))
		fromJWKS := must(kubejwt.ParsePublicKeys([]byte(r.read(t, "jwks.json"))))
		if len(fromPEM) != r.keys || !reflect.DeepEqual(fromPEM, fromJWKS) {
			t.Errorf("%s: %v derived, %v published: want the same %d", cluster, fromPEM, fromJWKS, r.keys)
		}
	}
}

func TestPublicKeysConflict(t *testing.T) {
	k := newKit(t)
	first := k.config.Keys.(kubejwt.PublicKeys)[0]
	other := must(kubejwt.ParsePublicKeys(kubejwttest.NewCluster(t).PublicKeysPEM()))[0]
	other.KeyID = first.KeyID
	k.config.Keys = kubejwt.PublicKeys{first, other}
	if _, err := kubejwt.New(k.config); err == nil || !strings.Contains(err.Error(), "Keys") {
		t.Errorf("two keys under one ID: %v", err)
	}
	k.config.Keys = kubejwt.PublicKeys{first, first}
	if _, err := kubejwt.New(k.config); err != nil {
		t.Errorf("the same key twice: %v", err)
	}
}

// A token without kid is tried with the keys that fit, four at most.
func TestWithoutKeyID(t *testing.T) {
	k := newOwnKit(t)
	rs256 := good()
	rs256.Header = object{"kid": nil}
	token := k.Mint(rs256) // by the first key
	for range 3 {
		k.RotateKey("RS256")
	}
	k.RotateKey("ES256")
	if _, err := mustNew(t, staticConfig(t, k.Cluster)).Verify(t.Context(), token); err != nil {
		t.Errorf("four keys fit: %v", err)
	}
	if _, err := mustNew(t, k.Config("data-store")).Verify(t.Context(), token); reasonOf(err) != kubejwt.ReasonMalformed {
		t.Errorf("keys that are fetched: %v", err)
	}
	k.RotateKey("RS256")
	if _, err := mustNew(t, staticConfig(t, k.Cluster)).Verify(t.Context(), token); reasonOf(err) != kubejwt.ReasonUnknownKey {
		t.Errorf("five keys fit: %v", err)
	}
	other := kubejwttest.NewCluster(t)
	claim("iss", k.config.Issuer)(&rs256)
	if _, err := mustNew(t, k.config).Verify(t.Context(), other.Mint(rs256)); reasonOf(err) != kubejwt.ReasonBadSignature {
		t.Errorf("another cluster's: %v", err)
	}
}

// A KeyFile is read again as it changes, and outlives its own absence for a day.
func TestKeyFile(t *testing.T) {
	k := newOwnKit(t)
	path := filepath.Join(t.TempDir(), "sa.pub")
	writeFile(t, path, k.PublicKeysPEM())
	synctest.Test(t, func(t *testing.T) {
		config := k.config
		config.Keys = kubejwt.KeyFile(path)
		logged := newLockedLog()
		config.Logger = slog.New(slog.NewTextHandler(logged, nil))
		v := mustNew(t, config)
		verify := func(when string, token string, reason kubejwt.Reason) {
			t.Helper()
			if _, err := v.Verify(t.Context(), token); reasonOf(err) != reason || reason == "" && err != nil {
				t.Errorf("%s: %v: want reason %q", when, err, reason)
			}
		}
		fresh := func() string { g := good(); return k.Mint(g) }
		old := fresh()
		readAt := time.Now()
		verify("at first", old, "")
		if s := v.Stats(); !slices.Equal(s.KeyIDs, []string{k.kid(t)}) || !s.FetchedAt.Equal(readAt) || s.FetchedAt != s.FetchedAt.Round(0) ||
			s.StaleAt != s.FetchedAt.Add(24*time.Hour) || s.LastError != nil {
			t.Errorf("Stats at first: %+v", s)
		}

		oldKey := k.kid(t)
		k.RotateKey("ES256")
		verify("before the file changes", fresh(), kubejwt.ReasonUnknownKey)
		writeFile(t, path, k.PublicKeysPEM())
		time.Sleep(time.Second)
		verify("the new key", fresh(), "")
		verify("the old key", old, "")

		k.DropKey(oldKey)
		writeFile(t, path, k.PublicKeysPEM())
		time.Sleep(time.Second)
		verify("the dropped key, remembered token", old, kubejwt.ReasonUnknownKey)
		synctest.Wait() // for the log
		if n := strings.Count(logged.String(), "the key set changed"); n != 2 || !strings.Contains(logged.String(), `removed=[`+oldKey) {
			t.Errorf("%d changes are logged, want 2:\n%s", n, logged)
		}

		if err := os.Truncate(path, 100); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		verify("half a file", fresh(), "")
		if _, err := v.Verify(t.Context(), old); err == nil || reasonOf(err) != "" {
			t.Errorf("an unknown key while the file is damaged: %v: want ErrKeysUnavailable", err)
		}
		if s := v.Stats(); s.LastError == nil || len(s.KeyIDs) != 1 {
			t.Errorf("Stats of a damaged file: %+v", s)
		}

		os.Remove(path)
		time.Sleep(23 * time.Hour)
		verify("without a file for 23 hours", fresh(), "")
		time.Sleep(time.Hour)
		if err := v.Ready(t.Context()); err == nil {
			t.Error("ready without a file for a day")
		}
		if _, err := v.Verify(t.Context(), fresh()); err == nil || reasonOf(err) != "" {
			t.Errorf("without a file for a day: %v: want ErrKeysUnavailable", err)
		}
		writeFile(t, path, k.PublicKeysPEM())
		time.Sleep(time.Second)
		verify("the file is back", fresh(), "")
	})
}

// A file that ends within the text between two keys is half-written: the later key
// would be lost. ParsePublicKeys takes such text, since nobody replaces it.
func TestHalfWrittenKeyFile(t *testing.T) {
	k := newOwnKit(t)
	first := string(k.PublicKeysPEM())
	k.RotateKey("ES256")
	const text = "# the new key\nsubject=second\n"
	whole := first + text + string(k.PublicKeysPEM())[len(first):]
	path := filepath.Join(t.TempDir(), "sa.pub")
	config := k.config
	config.Keys = kubejwt.KeyFile(path)
	for length := len(first); length < len(first)+len(text)+len("-----BEGIN PUBLIC KEY-----\n"); length++ {
		writeFile(t, path, []byte(whole[:length]))
		_, err := kubejwt.New(config)
		atLineBreak := whole[length-1] == '\n' && length <= len(first)+len(text)
		if (err == nil) != atLineBreak || err != nil && !strings.Contains(err.Error(), "half-written") {
			t.Errorf("cut off after %q: %v", whole[length-8:length], err)
		}
	}
	if keys, err := kubejwt.ParsePublicKeys([]byte(first + "text")); err != nil || len(keys) != 1 {
		t.Errorf("ParsePublicKeys: %d keys, %v", len(keys), err)
	}
}

// An odd key in a JWKS file is dropped and logged, at the start and when the file
// gains it later. A secret, and an odd block of PEM, are not taken.
func TestKeyFileWithOddKeys(t *testing.T) {
	k := newKit(t)
	first := k.kid(t)
	pem := k.PublicKeysPEM()
	g := good()
	token := k.Mint(g)
	jwksOf := func(more string) []byte {
		parsed := must(kubejwt.ParsePublicKeys(pem))[0]
		key := must(json.Marshal(jose.JSONWebKey{Key: parsed.Key, KeyID: parsed.KeyID}))
		return fmt.Appendf(nil, `{"keys":[%s%s]}`, key, more)
	}
	const small = `,{"kty":"RSA","kid":"small","n":"wQ","e":"AQAB"}`
	const secret = `,{"kty":"oct","kid":"secret","k":"AAAA"}`
	smallBlock := block("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 1023, 1), E: 65537})))
	for _, tt := range []struct {
		name        string
		start       []byte
		later       []byte
		usable      bool   // at the start
		log         string // at the start
		logLater    string
		laterIsGood bool
	}{
		{"odd at the start", jwksOf(small), jwksOf(small), true, "kid=small", "", true},
		{"odd later", jwksOf(""), jwksOf(small), true, "", "kid=small", true},
		{"a secret at the start", jwksOf(secret), nil, false, "", "", false},
		{"a secret later", jwksOf(""), jwksOf(secret), true, "", "a symmetric key", false},
		{"an odd block at the start", slices.Concat(pem, []byte(smallBlock)), nil, false, "", "", false},
		{"an odd block later", pem, slices.Concat(pem, []byte(smallBlock)), true, "", "1024 bits", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keys")
			writeFile(t, path, tt.start)
			logged := newLockedLog()
			config := staticConfig(t, k.Cluster)
			config.Keys, config.Logger = kubejwt.KeyFile(path), slog.New(slog.NewTextHandler(logged, nil))
			synctest.Test(t, func(t *testing.T) {
				config.Now = nil
				v, err := kubejwt.New(config)
				if (err == nil) != tt.usable {
					t.Fatalf("New: %v: want usable %t", err, tt.usable)
				}
				if err != nil {
					return
				}
				if !strings.Contains(logged.String(), tt.log) || (tt.log == "") != (logged.String() == "") {
					t.Errorf("the log at the start: %s: want %q", logged, tt.log)
				}
				logged.Reset()
				writeFile(t, path, tt.later)
				for range 2 {
					time.Sleep(time.Second)
					v.Verify(t.Context(), token)
				}
				if got := v.Stats(); !slices.Equal(got.KeyIDs, []string{first}) || (got.LastError == nil) != tt.laterIsGood {
					t.Errorf("later: keys %q, %v: want the good key alone, in order: %t", got.KeyIDs, got.LastError, tt.laterIsGood)
				}
				synctest.Wait() // for the log
				if n := strings.Count(logged.String(), "level=WARN"); !strings.Contains(logged.String(), tt.logLater) || (tt.logLater == "") != (n == 0) || n > 1 {
					t.Errorf("the log later: %s: want %q, once", logged, tt.logLater)
				}
			})
		})
	}
}

// Whatever type of key is given, New answers and does not panic.
func TestOddPublicKeys(t *testing.T) {
	k := newKit(t)
	for _, key := range []any{
		(*rsa.PublicKey)(nil), &rsa.PublicKey{}, rsa.PublicKey{}, &rsa.PublicKey{N: big.NewInt(-1), E: 65537},
		(*ecdsa.PublicKey)(nil), &ecdsa.PublicKey{}, &ecdsa.PublicKey{Curve: elliptic.P256()},
		&ecdsa.PublicKey{Curve: elliptic.P256(), X: new(big.Int), Y: new(big.Int)},
		&ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(-1), Y: big.NewInt(1)},
		&ecdsa.PublicKey{Curve: elliptic.P256().Params(), X: big.NewInt(1), Y: big.NewInt(1)},
		must(rsa.GenerateKey(rand.Reader, 2048)), []byte("secret"), "secret", jose.JSONWebKey{},
	} {
		k.config.Keys = kubejwt.PublicKeys{{Key: key}}
		if _, err := kubejwt.New(k.config); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v: want an error without the key", fmt.Sprintf("%T", key), err)
		}
	}
}

// A key that can't be used costs no other.
func TestOddKeys(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	server := newKeyServer(t, cluster)
	second := kubejwttest.NewCluster(t)
	good, other := server.key(t), (&keyServer{cluster: second}).key(t)
	odd := func(with map[string]any) map[string]any {
		key := maps.Clone(other)
		key["kid"] = "odd"
		maps.Copy(key, with)
		return key
	}
	for _, tt := range []struct {
		name string
		keys []map[string]any
		why  string
	}{
		{"private", []map[string]any{odd(map[string]any{"d": secretText})}, "a private key"},
		{"a private prime", []map[string]any{odd(map[string]any{"p": secretText})}, "a private key"},
		{"symmetric", []map[string]any{{"kty": "oct", "k": secretText, "kid": "odd"}}, "a symmetric key"},
		{"unknown type", []map[string]any{{"kty": "AKP", "alg": "ML-DSA-44", "pub": secretText, "kid": "odd"}}, "an unknown kty"},
		{"unknown type with other members", []map[string]any{{"kty": "AKP", "n": 5, "use": "enc", "kid": "odd"}}, "an unknown kty"},
		{"a member of the wrong type", []map[string]any{odd(map[string]any{"n": 5})}, "/n has a value of the wrong type"},
		{"for encryption", []map[string]any{odd(map[string]any{"use": "enc"})}, "use is not sig"},
		{"of another alg", []map[string]any{odd(map[string]any{"alg": "RS512"})}, "alg is not RS256"},
		{"small exponent", []map[string]any{odd(map[string]any{"e": "Aw"})}, ""},
		{"not canonical", []map[string]any{odd(map[string]any{"e": "AAEAAQ"})}, "not canonical"},
		{"two under one kid", []map[string]any{odd(nil), odd(map[string]any{"n": good["n"]})}, "two different keys"},
		{"two under one kid, one of them thrice", []map[string]any{odd(nil), odd(nil), odd(nil), odd(map[string]any{"n": good["n"]})}, "two different keys"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body, err := json.Marshal(map[string]any{"keys": append(slices.Clone(tt.keys), good, good)})
			if err != nil {
				t.Fatal(err)
			}
			server.answerWith(server.onlyKeys(sendBody(http.StatusOK, string(body))))
			logged := newLockedLog()
			config := server.config()
			config.Logger = slog.New(slog.NewTextHandler(logged, nil))
			synctest.Test(t, func(t *testing.T) {
				v := mustNew(t, config)
				mustVerify(t, v, cluster.Mint(kubejwttest.Token{Audiences: []string{"data-store"}}))
				_, err = v.Verify(t.Context(), second.Mint(kubejwttest.Token{
					Audiences: []string{"data-store"},
					Header:    map[string]any{"kid": "odd"},
					Claims:    map[string]any{"iss": config.Issuer},
				}))
				synctest.Wait() // for the log
			})
			if reasonOf(err) != kubejwt.ReasonUnknownKey || !strings.Contains(err.Error(), "published and not used") || !strings.Contains(err.Error(), tt.why) {
				t.Errorf("a token of the odd key: %v", err)
			}
			if !strings.Contains(logged.String(), "a key is not used") || !strings.Contains(logged.String(), tt.why) {
				t.Errorf("the log: %s", logged)
			}
			mustHoldNoSecret(t, err.Error(), logged.String())
		})
	}
}
