package kubejwt_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

// More Configs that are wrong: keys that nobody should trust, and texts that no
// token can be equal to. TestConfigFailsClosed has the rest.
func TestConfigIsJudged(t *testing.T) {
	k := newKit(t)
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := k.config.Keys.(kubejwt.PublicKeys)[0]
	key := func(key any) func(*kubejwt.Config) {
		return func(c *kubejwt.Config) { c.Keys = kubejwt.PublicKeys{{KeyID: "x", Key: key}} }
	}
	ofSize := func(bits uint, e int) *rsa.PublicKey {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: e}
	}
	accounts := func(list ...string) func(*kubejwt.Config) {
		return func(c *kubejwt.Config) { c.ServiceAccounts = list }
	}
	remote := func(keys kubejwt.RemoteKeys) func(*kubejwt.Config) {
		return func(c *kubejwt.Config) { c.Keys = keys }
	}
	for _, tt := range []struct {
		name, field string
		change      func(*kubejwt.Config)
	}{
		{"everything empty", "Audiences", func(c *kubejwt.Config) { *c = kubejwt.Config{} }},
		{"an issuer that is not UTF-8", "Issuer", func(c *kubejwt.Config) { c.Issuer = "https://\xff" }},
		{"a former issuer that is not UTF-8", "FormerIssuers", func(c *kubejwt.Config) { c.FormerIssuers = []string{"\xff"} }},
		{"an issuer with a fragment", "Issuer", func(c *kubejwt.Config) { c.Keys, c.Issuer = nil, "https://issuer.example#a" }},
		{"an issuer with a password", "Issuer", func(c *kubejwt.Config) { c.Keys, c.Issuer = nil, "https://a:b@issuer.example" }},
		{"an issuer without a host", "Issuer", func(c *kubejwt.Config) { c.Keys, c.Issuer = nil, "https:///x" }},
		{"an http issuer on a host called localhost", "Issuer", func(c *kubejwt.Config) { c.Keys, c.Issuer = nil, "http://localhost" }},
		{"an audience that is not UTF-8", "Audiences", func(c *kubejwt.Config) { c.Audiences = []string{"\xff"} }},
		{"a good audience and any", "Audiences", func(c *kubejwt.Config) { c.Audiences = []string{"data-store", "*"} }},
		{"a namespace with a capital", "ServiceAccounts", accounts("Shop/api")},
		{"a namespace alone", "ServiceAccounts", accounts("shop/")},
		{"a name alone", "ServiceAccounts", accounts("/api")},
		{"a slash", "ServiceAccounts", accounts("/")},
		{"two slashes", "ServiceAccounts", accounts("shop/api/x")},
		{"every namespace and name", "ServiceAccounts", accounts("*/*")},
		{"two stars", "ServiceAccounts", accounts("**")},
		{"blanks around", "ServiceAccounts", accounts(" shop/api")},
		{"two in one", "ServiceAccounts", accounts("shop/api,shop/web")},
		{"a good one and a bad one", "ServiceAccounts", accounts("shop/api", "shop/*x")},
		{"a line break at the end", "ServiceAccounts", accounts("shop/api\n")},
		{"leeway of a day", "Leeway", func(c *kubejwt.Config) { c.Leeway = 24 * time.Hour }},
		{"a private RSA key", "Keys", key(&rsa.PrivateKey{PublicKey: *ofSize(2048, 65537)})},
		{"a private EC key", "Keys", key(private)},
		{"a secret", "Keys", key([]byte("secret"))},
		{"a string", "Keys", key("-----BEGIN PUBLIC KEY-----")},
		{"an RSA key by value", "Keys", key(*ofSize(2048, 65537))},
		{"a nil RSA key", "Keys", key((*rsa.PublicKey)(nil))},
		{"a nil EC key", "Keys", key((*ecdsa.PublicKey)(nil))},
		{"an empty RSA key", "Keys", key(&rsa.PublicKey{})},
		{"an empty EC key", "Keys", key(&ecdsa.PublicKey{})},
		{"an EC key without a point", "Keys", key(&ecdsa.PublicKey{Curve: elliptic.P256()})},
		//lint:ignore SA1019 a key that Bytes could not make
		{"an EC key off its curve", "Keys", key(&ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)})},
		//lint:ignore SA1019 a key that Bytes could not make
		{"an EC key with a negative coordinate", "Keys", key(&ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(-1), Y: big.NewInt(1)})},
		{"an EC key on P-224", "Keys", key(p224.Public())},
		{"an RSA key of 1024 bits", "Keys", key(ofSize(1024, 65537))},
		{"an RSA key of 2047 bits", "Keys", key(ofSize(2047, 65537))},
		{"an RSA key of 8193 bits", "Keys", key(ofSize(8193, 65537))},
		{"an RSA key with exponent 3", "Keys", key(ofSize(2048, 3))},
		{"an RSA key with exponent 1", "Keys", key(ofSize(2048, 1))},
		{"an RSA key with an even exponent", "Keys", key(ofSize(2048, 65538))},
		{"an RSA key with a negative exponent", "Keys", key(ofSize(2048, -65537))},
		{"a key ID of 1025 bytes", "Keys", func(c *kubejwt.Config) {
			c.Keys = kubejwt.PublicKeys{{KeyID: strings.Repeat("k", 1025), Key: good.Key}}
		}},
		{"two keys of one ID", "Keys", func(c *kubejwt.Config) {
			c.Keys = kubejwt.PublicKeys{{KeyID: "x", Key: good.Key}, {KeyID: "x", Key: private.Public()}}
		}},
		{"a good key and a nil one", "Keys", func(c *kubejwt.Config) { c.Keys = kubejwt.PublicKeys{good, {KeyID: "x"}} }},
		{"a KeyFile without a key", "Keys", func(c *kubejwt.Config) { c.Keys = kubejwt.KeyFile("testdata/vectors/README.md") }},
		{"a KeyFile with a private key", "Keys", func(c *kubejwt.Config) { c.Keys = kubejwt.KeyFile("internal/vectors/rsa_cluster.pem") }},
		{"a KeyFile with a private JWK", "Keys", func(c *kubejwt.Config) { c.Keys = kubejwt.KeyFile("testdata/vectors/keys/private.jwks") }},
		{"a KeyFile with a secret", "Keys", func(c *kubejwt.Config) { c.Keys = kubejwt.KeyFile("testdata/vectors/keys/with_oct.jwks") }},
		{"a KeyFile with a doubled kid", "Keys", func(c *kubejwt.Config) { c.Keys = kubejwt.KeyFile("testdata/vectors/keys/doubled.jwks") }},
		{"MaxStale of a nanosecond", "MaxStale", remote(kubejwt.RemoteKeys{MaxStale: 1})},
		{"a nil pointer for Keys", "Keys", func(c *kubejwt.Config) { c.Keys = (*kubejwt.RemoteKeys)(nil) }},
		{"a JWKSURL without a scheme", "JWKSURL", remote(kubejwt.RemoteKeys{JWKSURL: "a.example/keys"})},
		{"a JWKSURL with a fragment", "JWKSURL", remote(kubejwt.RemoteKeys{JWKSURL: "https://a.example/keys#x"})},
		{"a JWKSURL that is no URL", "JWKSURL", remote(kubejwt.RemoteKeys{JWKSURL: "https://a.example:port/"})},
		{"a DiscoveryURL with user information", "DiscoveryURL", remote(kubejwt.RemoteKeys{DiscoveryURL: "https://a@a.example"})},
		{"an http JWKSURL on a private address", "JWKSURL", remote(kubejwt.RemoteKeys{JWKSURL: "http://10.0.0.1/keys"})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config := k.config
			tt.change(&config)
			v, err := kubejwt.New(config)
			if err == nil || v != nil || !strings.Contains(err.Error(), tt.field) {
				t.Errorf("%v, %v: want an error that names %s", v, err, tt.field)
			}
		})
	}
}

// An invisible character in a value is an error: no token would match it.
func TestInvisibleCharacters(t *testing.T) {
	k := newKit(t)
	for field, set := range map[string]func(c *kubejwt.Config, odd string){
		"Issuer":        func(c *kubejwt.Config, odd string) { c.Issuer += odd },
		"FormerIssuers": func(c *kubejwt.Config, odd string) { c.FormerIssuers = []string{"https://former.example" + odd} },
		"Audiences":     func(c *kubejwt.Config, odd string) { c.Audiences = []string{"data-store", odd + "reports"} },
		"ServiceAccounts": func(c *kubejwt.Config, odd string) {
			c.ServiceAccounts = []string{"shop/*", "batch/night" + odd + "ly"}
		},
	} {
		for _, odd := range []string{" ", "\n", "\r\n", "\t", "\x00", "\x1b[2J", "\x7f", "\u0085", "\u00a0", "\u200b", "\u202e", "\ufeff", "\xa0", ""} {
			config := k.config
			set(&config, odd)
			_, err := kubejwt.New(config)
			if odd == "" && err != nil {
				t.Errorf("%s as it should be: %v", field, err)
			}
			if odd != "" && (err == nil || !strings.Contains(err.Error(), "Config."+field+":") || strings.Contains(err.Error(), odd) && odd != " ") {
				t.Errorf("%s with %+q: %v: want an error that names the field, and shows the character", field, odd, err)
			}
		}
	}
}

// An audience that is an issuer, or a former one, is logged.
func TestAudienceThatIsAnIssuer(t *testing.T) {
	k := newKit(t)
	for audience, want := range map[string]bool{k.config.Issuer: true, "https://former.example": true, "data-store": false} {
		var log bytes.Buffer
		config := k.config
		config.FormerIssuers = []string{"https://former.example"}
		config.Audiences = []string{audience}
		config.Logger = slog.New(slog.NewTextHandler(&log, nil))
		synctest.Test(t, func(t *testing.T) { mustNew(t, config) })
		if got := strings.Contains(log.String(), "level=WARN"); got != want {
			t.Errorf("audience %s: a warning %t: want %t", audience, got, want)
		}
	}
}

func TestConfigFailsClosed(t *testing.T) {
	k := newKit(t)
	typed := kubejwt.KeyFile("sa.pub")
	for _, tt := range []struct {
		name, field string
		change      func(*kubejwt.Config)
	}{
		{"no issuer", "Issuer", func(c *kubejwt.Config) { c.Issuer = "" }},
		{"an issuer that publishes no keys", "Issuer", func(c *kubejwt.Config) { c.Keys, c.Issuer = nil, "kubernetes/serviceaccount" }},
		{"an issuer that publishes no keys", "KeyFile", func(c *kubejwt.Config) { c.Keys, c.Issuer = nil, "kubernetes/serviceaccount" }},
		{"an http issuer", "Issuer", func(c *kubejwt.Config) { c.Keys, c.Issuer = nil, "http://issuer.example" }},
		{"an issuer without a scheme", "Issuer", func(c *kubejwt.Config) { c.Keys, c.Issuer = nil, "issuer.example" }},
		{"an issuer with a query", "Issuer", func(c *kubejwt.Config) { c.Keys, c.Issuer = nil, "https://issuer.example?a=b" }},
		{"an empty former issuer", "FormerIssuers", func(c *kubejwt.Config) { c.FormerIssuers = []string{""} }},
		{"no audiences", "Audiences", func(c *kubejwt.Config) { c.Audiences = nil }},
		{"empty audiences", "Audiences", func(c *kubejwt.Config) { c.Audiences = []string{} }},
		{"an empty audience", "Audiences", func(c *kubejwt.Config) { c.Audiences = []string{"data-store", ""} }},
		{"any audience", "Audiences", func(c *kubejwt.Config) { c.Audiences = []string{"*"} }},
		{"no service accounts", "ServiceAccounts", func(c *kubejwt.Config) { c.ServiceAccounts = nil }},
		{"empty service accounts", "ServiceAccounts", func(c *kubejwt.Config) { c.ServiceAccounts = []string{} }},
		{"an empty service account", "ServiceAccounts", func(c *kubejwt.Config) { c.ServiceAccounts = []string{""} }},
		{"a name without a namespace", "ServiceAccounts", func(c *kubejwt.Config) { c.ServiceAccounts = []string{"api"} }},
		{"a name in every namespace", "ServiceAccounts", func(c *kubejwt.Config) { c.ServiceAccounts = []string{"*/api"} }},
		{"half a pattern", "ServiceAccounts", func(c *kubejwt.Config) { c.ServiceAccounts = []string{"shop/a*"} }},
		{"a username", "ServiceAccounts", func(c *kubejwt.Config) { c.ServiceAccounts = []string{"system:serviceaccount:shop:api"} }},
		{"too much leeway", "Leeway", func(c *kubejwt.Config) { c.Leeway = 5*time.Minute + 1 }},
		{"extended, and no bound chosen", "AcceptExtended", func(c *kubejwt.Config) { c.AcceptExtended = true }},
		{"extended, and no bound chosen", "MaxLifetime", func(c *kubejwt.Config) { c.AcceptExtended = true }},
		{"a pointer", "Keys", func(c *kubejwt.Config) { c.Keys = &typed }},
		{"no keys", "Keys", func(c *kubejwt.Config) { c.Keys = kubejwt.PublicKeys{} }},
		{"a nil slice", "Keys", func(c *kubejwt.Config) { c.Keys = kubejwt.PublicKeys(nil) }},
		{"a nil key", "Keys", func(c *kubejwt.Config) { c.Keys = kubejwt.PublicKeys{{}} }},
		{"a key of another type", "Keys", func(c *kubejwt.Config) { c.Keys = kubejwt.PublicKeys{{Key: ed25519.PublicKey("x")}} }},
		{"a KeyFile without a path", "Keys", func(c *kubejwt.Config) { c.Keys = kubejwt.KeyFile("") }},
		{"a KeyFile that is not there", "Keys", func(c *kubejwt.Config) { c.Keys = kubejwt.KeyFile("testdata/nothing") }},
		{"a KeyFile that is a folder", "Keys", func(c *kubejwt.Config) { c.Keys = kubejwt.KeyFile("testdata") }},
		{"two URLs", "DiscoveryURL", func(c *kubejwt.Config) {
			c.Keys = kubejwt.RemoteKeys{DiscoveryURL: "https://a.example", JWKSURL: "https://a.example"}
		}},
		{"an http JWKSURL", "JWKSURL", func(c *kubejwt.Config) { c.Keys = kubejwt.RemoteKeys{JWKSURL: "http://localhost/keys"} }},
		{"a file JWKSURL", "JWKSURL", func(c *kubejwt.Config) { c.Keys = kubejwt.RemoteKeys{JWKSURL: "file:///etc/keys"} }},
		{"a JWKSURL with a password", "JWKSURL", func(c *kubejwt.Config) { c.Keys = kubejwt.RemoteKeys{JWKSURL: "https://a:b@a.example"} }},
		{"an http DiscoveryURL", "DiscoveryURL", func(c *kubejwt.Config) { c.Keys = kubejwt.RemoteKeys{DiscoveryURL: "http://a.example"} }},
		{"a bearer over http", "BearerTokenFile", func(c *kubejwt.Config) {
			c.Keys = kubejwt.RemoteKeys{JWKSURL: "http://127.0.0.1/keys", BearerTokenFile: "token"}
		}},
		{"CAFile beside Transport", "CAFile", func(c *kubejwt.Config) {
			c.Keys = kubejwt.RemoteKeys{CAFile: "ca.crt", Transport: k.Transport()}
		}},
		{"MaxStale of a minute", "MaxStale", func(c *kubejwt.Config) { c.Keys = kubejwt.RemoteKeys{MaxStale: time.Minute} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config := k.config
			if _, err := kubejwt.New(config); err != nil {
				t.Fatalf("before the change: %v", err)
			}
			tt.change(&config)
			v, err := kubejwt.New(config)
			if err == nil || v != nil || !strings.Contains(err.Error(), tt.field) {
				t.Errorf("%v, %v: want an error that names %s", v, err, tt.field)
			}
		})
	}
}

// The last value on the good side of each bound.
func TestConfigAtItsBounds(t *testing.T) {
	k := newKit(t)
	for name, change := range map[string]func(*kubejwt.Config){
		"leeway of 5 minutes":          func(c *kubejwt.Config) { c.Leeway = 5 * time.Minute },
		"MaxStale of 5 minutes":        func(c *kubejwt.Config) { c.Keys = kubejwt.RemoteKeys{MaxStale: 5 * time.Minute} },
		"MaxStale for ever":            func(c *kubejwt.Config) { c.Keys = kubejwt.RemoteKeys{MaxStale: -1} },
		"DiscoveryURL alone":           func(c *kubejwt.Config) { c.Keys = kubejwt.RemoteKeys{DiscoveryURL: "https://a.example/x"} },
		"JWKSURL alone":                func(c *kubejwt.Config) { c.Keys = kubejwt.RemoteKeys{JWKSURL: "https://a.example/x"} },
		"extended, with a bound":       func(c *kubejwt.Config) { c.AcceptExtended, c.MaxLifetime = true, time.Hour },
		"extended, with no bound":      func(c *kubejwt.Config) { c.AcceptExtended, c.MaxLifetime = true, -1 },
		"an issuer that publishes":     func(c *kubejwt.Config) { c.Keys = nil },
		"a key ID of 1024 bytes":       func(c *kubejwt.Config) { c.Keys.(kubejwt.PublicKeys)[0].KeyID = strings.Repeat("k", 1024) },
		"an issuer with a slash at it": func(c *kubejwt.Config) { c.Keys, c.Issuer = nil, "https://issuer.example/" },
	} {
		config := k.config
		config.Keys = slices.Clone(k.config.Keys.(kubejwt.PublicKeys))
		change(&config)
		if v, err := kubejwt.New(config); err != nil || v == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// So is one that turns out to be the issuer only when that is learnt.
func TestAudienceThatIsALearntIssuer(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	cluster := kubejwttest.NewCluster(t)
	issuer := cluster.Config("x").Issuer
	for audience, want := range map[string]bool{issuer: true, "data-store": false} {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			v := mustNewInCluster(t, kubejwt.Config{
				Audiences: []string{audience}, ServiceAccounts: []string{"*"},
				Keys:   kubejwt.RemoteKeys{Transport: asIssuer(cluster)},
				Logger: slog.New(slog.NewTextHandler(&log, nil)),
			})
			mustVerify(t, v, cluster.Mint(kubejwttest.Token{Audiences: []string{audience}}))
			synctest.Wait() // for the log
			if got := strings.Contains(log.String(), "an audience is the cluster's issuer"); got != want {
				t.Errorf("audience %s: a warning %t: want %t:\n%s", audience, got, want, &log)
			}
		})
	}
}

// In a pod the same fields are checked, and what only New takes is an error.
func TestInClusterConfig(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	remote := func(keys kubejwt.RemoteKeys) func(*kubejwt.Config) {
		return func(c *kubejwt.Config) { c.Keys = keys }
	}
	const foreign, own = "https://a.example/keys", "https://kubernetes.default.svc/openid/v1/jwks"
	issuer := func(keys kubejwt.RemoteKeys) func(*kubejwt.Config) {
		return func(c *kubejwt.Config) { c.Keys, c.Issuer = keys, "https://issuer.example" }
	}
	for _, tt := range []struct {
		name   string
		change func(*kubejwt.Config)
		field  string // that the error names; "": none
	}{
		{"good", func(*kubejwt.Config) {}, ""},
		{"no audiences", func(c *kubejwt.Config) { c.Audiences = nil }, "Audiences"},
		{"a KeyFile", func(c *kubejwt.Config) { c.Keys = kubejwt.KeyFile("sa.pub") }, "Keys"},
		{"PublicKeys", func(c *kubejwt.Config) { c.Keys = kubejwt.PublicKeys{{}} }, "Keys"},
		{"MaxStale of a minute", remote(kubejwt.RemoteKeys{MaxStale: time.Minute}), "MaxStale"},
		{"CAFile beside Transport", remote(kubejwt.RemoteKeys{CAFile: "ca.crt", Transport: http.DefaultTransport}), "CAFile"},
		{"an http JWKSURL", issuer(kubejwt.RemoteKeys{JWKSURL: "http://a.example/keys"}), "JWKSURL"},
		{"a foreign JWKSURL, and no issuer", remote(kubejwt.RemoteKeys{JWKSURL: foreign}), "Issuer"},
		{"a foreign JWKSURL", issuer(kubejwt.RemoteKeys{JWKSURL: foreign}), ""},
		{"the API server's JWKSURL, and no issuer", remote(kubejwt.RemoteKeys{JWKSURL: own}), ""},
		{"a foreign DiscoveryURL, and no issuer", remote(kubejwt.RemoteKeys{DiscoveryURL: foreign}), ""},
	} {
		config := kubejwt.Config{Audiences: []string{"data-store"}, ServiceAccounts: []string{"*"}}
		tt.change(&config)
		v, err := kubejwt.InCluster(config)
		if (err == nil) != (tt.field == "") || (v == nil) != (err != nil) || !strings.Contains(fmt.Sprint(err), tt.field) {
			t.Errorf("%s: %v, %v: want an error that names %q", tt.name, v, err, tt.field)
		}
	}
}

// What Verify is given can be changed afterwards, to no effect.
func TestNewCopies(t *testing.T) {
	k := newKit(t)
	audiences, former := []string{"data-store"}, []string{k.config.Issuer}
	k.config.Audiences = audiences
	k.config.Issuer, k.config.FormerIssuers = "https://new.example", former
	v := mustNew(t, k.config)
	audiences[0], former[0] = "reports", "https://evil.example"
	public := k.config.Keys.(kubejwt.PublicKeys)[0].Key.(*rsa.PublicKey)
	public.N.SetInt64(0)
	public.E = 0
	k.config.Keys.(kubejwt.PublicKeys)[0] = kubejwt.PublicKey{}
	k.config.ServiceAccounts[0] = "evil/api"
	if _, err := v.Verify(t.Context(), k.Mint(good())); err != nil {
		t.Error(err)
	}
}
