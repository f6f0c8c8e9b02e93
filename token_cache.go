package kubejwt

import (
	"context"
	"crypto/sha256"
	"slices"

	"github.com/kubejwt/kubejwt/internal/keyset"
	"github.com/kubejwt/kubejwt/internal/tokencache"
)

// maxCachedToken is the size in bytes of the largest token that is remembered.
const maxCachedToken = 4 << 10

// cachedToken is a verified token. Whatever depends on the clock, the key set or
// the policy is checked again each time.
type cachedToken struct {
	claims         Claims
	registered     registered // with the one audience that Claims names
	keyID          string
	keyFingerprint [sha256.Size]byte
}

// cacheKey is the key of a token in the cache. It is zero for a token that is not
// remembered.
type cacheKey struct {
	digest tokencache.Digest
	fits   bool
}

// cacheKey computes no digest if the token is too large, or if no member remembers
// tokens.
func (v *Verifier) cacheKey(token string) cacheKey {
	remembers := func(m member) bool { return m.config.CacheSize >= 0 }
	if len(token) > maxCachedToken || !slices.ContainsFunc(v.members, remembers) {
		return cacheKey{}
	}
	return cacheKey{digestOf(token), true}
}

// fromCache returns what is remembered of a token, and the member that verified
// it; nil if there is nothing.
func (v *Verifier) fromCache(key cacheKey) (*member, *cachedToken) {
	if !key.fits {
		return nil, nil
	}
	for i := range v.members {
		if cached, ok := v.members[i].tokens.Get(key.digest); ok {
			return &v.members[i], cached
		}
	}
	return nil, nil
}

// judgeCached answers for a token that was verified before, exactly as verifying
// it again would. It checks that the token's key is still in use, and rules 7, 9
// and 10. If the key or rule 7 fails, known is false: verifying the token again
// gives the reason.
func (m *member) judgeCached(ctx context.Context, keys *lookup, cached *cachedToken) (_ Claims, known bool, _ error) {
	if err := keys.current(ctx); err != nil {
		return Claims{}, true, err
	}
	if !keys.seen.Holds(cached.keyID, cached.keyFingerprint) || !m.acceptsIssuer(cached.registered.Issuer, keys.seen) {
		return Claims{}, false, nil
	}
	if _, err := m.checkRegistered(&cached.registered); err != nil {
		return Claims{}, false, nil
	}
	m.counters.rememberedHits.Add(1)
	if claims := cached.claims; !m.allowed.Has(claims.Namespace, claims.ServiceAccount.Name) {
		return Claims{}, true, m.allowed.deny(claims)
	}
	return cached.claims, true, m.check(cached.claims)
}

// toCache keeps a token that was verified. A token is not kept if it has no kid,
// if it is large, or if its key has been dropped meanwhile.
func (c *cluster) toCache(key cacheKey, parsed parsedToken, signer *keyset.Key, claims Claims) {
	if !key.fits || parsed.header.KeyID == "" || !c.keys.holds(signer.ID, signer.Fingerprint) {
		return
	}
	cached := &cachedToken{
		claims:         claims,
		registered:     parsed.claimed.registered,
		keyID:          signer.ID,
		keyFingerprint: signer.Fingerprint,
	}
	if len(cached.registered.Audiences) > 1 {
		cached.registered.Audiences = audiences{claims.Audience} // a token may name hundreds
	}
	c.tokens.Put(key.digest, cached)
}

// digestOf is the SHA-256 of a token of at most maxCachedToken bytes. It copies
// the token to the stack, so that nothing is allocated on the heap.
func digestOf(token string) tokencache.Digest {
	var buf [maxCachedToken]byte
	return sha256.Sum256(buf[:copy(buf[:], token)])
}
