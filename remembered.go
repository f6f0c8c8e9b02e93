package kubejwt

import (
	"context"
	"crypto/sha256"

	"github.com/kubejwt/kubejwt/internal/jws"
	"github.com/kubejwt/kubejwt/internal/keyset"
	"github.com/kubejwt/kubejwt/internal/tokencache"
)

// maxRemembered is the size in bytes of the largest token that is remembered.
const maxRemembered = 4 << 10

// remembered is a verified token. What depends on the clock, the key set or
// the policy is judged again each time.
type remembered struct {
	claims         Claims
	registered     registered
	warnAfter      numericDate
	keyID          string
	keyFingerprint [sha256.Size]byte
}

// cacheKey is what a token is remembered by; zero for one that is not
// remembered.
type cacheKey struct {
	digest tokencache.Digest
	fits   bool
}

// cacheKey spares the digest of a token that is too large, and where nothing is
// remembered.
func (c *cluster) cacheKey(token string) cacheKey {
	if c.config.CacheSize < 0 || len(token) > maxRemembered {
		return cacheKey{}
	}
	return cacheKey{digestOf(token), true}
}

// recall answers for a token that was verified before, as verifying it again
// would: with its very key still in use, and rules 7, 9 and 10 judged anew. Where
// that is not so, known is false and verifying it again gives the reason; seen
// is what was known of the keys until then.
func (v *Verifier) recall(ctx context.Context, key cacheKey) (claims Claims, known bool, seen view, err error) {
	c := v.cluster
	if !key.fits {
		return Claims{}, false, view{}, nil
	}
	r, ok := c.remembered.Get(key.digest)
	if !ok {
		return Claims{}, false, view{}, nil
	}
	keys, err := c.keys.current(ctx)
	if err != nil {
		return Claims{}, true, view{}, err
	}
	if !keys.Holds(r.keyID, r.keyFingerprint) || !c.isOurs(r.registered.Issuer, keys) {
		return Claims{}, false, keys, nil
	}
	if _, err := c.judge(&r.registered, r.warnAfter); err != nil {
		return Claims{}, false, keys, nil
	}
	c.counters.rememberedHits.Add(1)
	if !v.allowed.admit(r.claims.Namespace, r.claims.ServiceAccount.Name) {
		return Claims{}, true, keys, v.allowed.deny(r.claims)
	}
	return r.claims, true, keys, c.check(r.claims)
}

// remember keeps a token that was verified. One that named no kid, that is
// large, or whose key has gone meanwhile, is verified each time.
func (c *cluster) remember(key cacheKey, header jws.Header, signer *keyset.Key, claims Claims, claimed *payload) {
	if !key.fits || header.KeyID == "" || !c.keys.holds(signer.ID, signer.Fingerprint) {
		return
	}
	c.remembered.Put(key.digest, &remembered{
		claims:         claims,
		registered:     claimed.registered,
		warnAfter:      claimed.warnAfter(),
		keyID:          signer.ID,
		keyFingerprint: signer.Fingerprint,
	})
}

// digestOf is the SHA-256 of a token of at most maxRemembered bytes. The copy
// on the stack spares one on the heap.
func digestOf(token string) tokencache.Digest {
	var buf [maxRemembered]byte
	return sha256.Sum256(buf[:copy(buf[:], token)])
}
