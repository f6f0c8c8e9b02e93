package bench

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"log/slog"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/kubejwt/kubejwt"
)

// recording is a token that a real API server minted for a pod, with what it
// takes to verify it. Its life is ten years, so that the clock can be the real
// one.
type recording struct {
	algorithm string
	token     string
	jwks      string
	public    crypto.PublicKey
}

const (
	recordedIssuer   = "https://kubernetes.default.svc.cluster.local"
	recordedAudience = "data-store"
)

// largest is RS256 by the largest key that is taken. The other libraries don't
// all take it.
const largest = "RS256-8192"

func readRecording(t testing.TB, algorithm string) recording {
	t.Helper()
	folder := "../../testdata/clusters/kube-apiserver-1.36/" + strings.ToLower(algorithm) + "/"
	if algorithm == largest {
		folder = "../../testdata/clusters/1.36-rsa8192/"
	}
	keys := publicKeys(t, readFile(t, folder+"sa.pub"))
	return recording{
		algorithm: algorithm,
		token:     strings.TrimSpace(readFile(t, folder+"tokens/pod_bound.jwt")),
		jwks:      readFile(t, folder+"jwks.json"),
		public:    keys[0].Key,
	}
}

// verifier is ours, with fetched keys that are at hand by the time it returns.
func (r recording) config(cacheSize int) kubejwt.Config {
	return kubejwt.Config{
		Issuer:          recordedIssuer,
		Audiences:       []string{recordedAudience},
		ServiceAccounts: []string{"*"},
		MaxLifetime:     -1,
		CacheSize:       cacheSize,
		Keys:            kubejwt.RemoteKeys{JWKSURL: keyURL, Transport: origin(r.jwks)},
		Logger:          slog.New(slog.DiscardHandler),
	}
}

func (r recording) verifier(t testing.TB, cacheSize int) *kubejwt.Verifier {
	t.Helper()
	v, err := kubejwt.New(r.config(cacheSize))
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return v
}

// segments are those of a token, and signature the last one, decoded.
func (r recording) segments(t testing.TB) (signed, signature []byte) {
	t.Helper()
	end := strings.LastIndexByte(r.token, '.')
	signature, err := base64.RawURLEncoding.DecodeString(r.token[end+1:])
	if err != nil {
		t.Fatal(err)
	}
	return []byte(r.token[:end]), signature
}

// floor is what nobody can be faster than: for RSA the digest and the check of
// the signature, for ECDSA the check alone, all decoded beforehand.
func (r recording) floor(t testing.TB) func() bool {
	t.Helper()
	signed, signature := r.segments(t)
	switch public := r.public.(type) {
	case *rsa.PublicKey:
		return func() bool {
			digest := sha256.Sum256(signed)
			return rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature) == nil
		}
	case *ecdsa.PublicKey:
		digest := sha256.Sum256(signed)
		r, s := new(big.Int).SetBytes(signature[:len(signature)/2]), new(big.Int).SetBytes(signature[len(signature)/2:])
		return func() bool { return ecdsa.Verify(public, digest[:], r, s) }
	default:
		t.Fatalf("a key of type %T", public)
		return nil
	}
}

func peersOf(algorithm string) []fastPeer {
	if algorithm == largest {
		return nil
	}
	return fastPeers
}

// BenchmarkVerify is one pod's token, over and over: the floor, this library
// with and without its memory, and the peers.
func BenchmarkVerify(b *testing.B) {
	for _, algorithm := range []string{"RS256", "ES256", largest} {
		r := readRecording(b, algorithm)
		run := func(by string, f func() bool) {
			b.Run("alg="+algorithm+"/by="+by, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if !f() {
						b.Fatal("refused")
					}
				}
			})
		}
		run("floor", r.floor(b))
		token := []byte(r.token)
		run("sha256", func() bool { return sha256.Sum256(token) != [sha256.Size]byte{} })
		for _, memory := range []struct {
			by        string
			cacheSize int
		}{{"kubejwt-cold", -1}, {"kubejwt-remembered", 0}} {
			v := r.verifier(b, memory.cacheSize)
			run(memory.by, func() bool { _, err := v.Verify(b.Context(), r.token); return err == nil })
		}
		watched := r.watchedVerifier(b)
		run("kubejwt-watched", func() bool { _, err := watched.Verify(b.Context(), r.token); return err == nil })
		for _, p := range peersOf(algorithm) {
			verify := p.prepare(b, r)
			run(p.name, func() bool { return verify(r.token) == nil })
		}
	}
}

// badToken is an ordinary token with one thing wrong.
type badToken struct {
	token  string
	reason kubejwt.Reason
}

func (r recording) badTokens(t testing.TB) map[string]badToken {
	t.Helper()
	_, signature := r.segments(t)
	part := strings.Split(r.token, ".")
	payload, err := base64.RawURLEncoding.DecodeString(part[1])
	if err != nil {
		t.Fatal(err)
	}
	with := func(old, new string) string {
		changed := strings.Replace(string(payload), old, new, 1)
		if changed == string(payload) {
			t.Fatalf("the payload has no %s", old)
		}
		return part[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(changed)) + "." + part[2]
	}
	signature[len(signature)/2] ^= 1
	return map[string]badToken{
		"bad_signature": {part[0] + "." + part[1] + "." + base64.RawURLEncoding.EncodeToString(signature), kubejwt.ReasonBadSignature},
		"truncated":     {part[0] + "." + part[1], kubejwt.ReasonMalformed},
		"exp_string":    {with(`"exp":`, `"exp":"0","x":`), kubejwt.ReasonMalformed},
		"doubled_claim": {with(`{`, `{"jti":"",`), kubejwt.ReasonMalformed},
		"wrong_issuer":  {with(recordedIssuer, recordedIssuer+".example"), kubejwt.ReasonWrongIssuer},
	}
}

// Bad tokens are refused for what is wrong with them, and by the peers too,
// where they see it.
func TestBadTokens(t *testing.T) {
	for _, algorithm := range []string{"RS256", "ES256", largest} {
		r := readRecording(t, algorithm)
		v := r.verifier(t, 0)
		for name, bad := range r.badTokens(t) {
			_, err := v.Verify(t.Context(), bad.token)
			if refusal, ok := errors.AsType[*kubejwt.InvalidTokenError](err); !ok || refusal.Reason != bad.reason {
				t.Errorf("%s, %s: %v: want %s", algorithm, name, err, bad.reason)
			}
			for _, p := range peersOf(algorithm) {
				if err := p.prepare(t, r)(bad.token); err == nil {
					t.Errorf("%s, %s: %s accepts it", algorithm, name, p.name)
				}
			}
		}
	}
}

// BenchmarkRefuse is what bad tokens cost, which anybody can send.
func BenchmarkRefuse(b *testing.B) {
	for _, algorithm := range []string{"RS256", "ES256", largest} {
		r := readRecording(b, algorithm)
		v := r.verifier(b, 0)
		bad := r.badTokens(b)
		for _, name := range slices.Sorted(maps.Keys(bad)) {
			token := bad[name].token
			b.Run("alg="+algorithm+"/token="+name+"/by=kubejwt", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := v.Verify(b.Context(), token); err == nil {
						b.Fatal("accepted")
					}
				}
			})
			for _, p := range peersOf(algorithm) {
				verify := p.prepare(b, r)
				b.Run("alg="+algorithm+"/token="+name+"/by="+p.name, func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						verify(token)
					}
				})
			}
		}
	}
}

// BenchmarkCores is the same token on one core and on two. Twice as much is
// done where nobody waits for another.
func BenchmarkCores(b *testing.B) {
	for _, memory := range []struct {
		by        string
		cacheSize int
	}{{"kubejwt-cold", -1}, {"kubejwt-remembered", 0}} {
		r := readRecording(b, "RS256")
		v := r.verifier(b, memory.cacheSize)
		for _, cores := range []int{1, 2} {
			b.Run("by="+memory.by+"/cores="+strconv.Itoa(cores), func(b *testing.B) {
				var all sync.WaitGroup
				for range cores {
					all.Go(func() {
						for range b.N / cores {
							if _, err := v.Verify(b.Context(), r.token); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				all.Wait()
			})
		}
	}
}
