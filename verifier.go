package kubejwt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubejwt/kubejwt/internal/jws"
	"github.com/kubejwt/kubejwt/internal/keyset"
	"github.com/kubejwt/kubejwt/internal/quote"
	"github.com/kubejwt/kubejwt/internal/tokencache"
)

// A Verifier tells which Kubernetes workload sent a token. Make it with [New],
// [InCluster] or [Join]. There is nothing to close. It is safe for concurrent use
// by multiple goroutines. A zero Verifier answers every token with
// ErrKeysUnavailable.
type Verifier struct {
	members  []member       // one, or those of a joined Verifier
	byIssuer map[string]int // for a joined Verifier: the index of the member for each iss
}

// member judges the tokens of one issuer.
type member struct {
	*cluster
	allowed   allowedAccounts
	onVerdict func(context.Context, Claims, error) // nil: nothing is called
}

// cluster is what a Verifier and its copies share: the issuer, its keys, and
// the verified tokens that are remembered.
type cluster struct {
	config       Config   // defaults filled in
	issuers      []string // the configured ones
	learnsIssuer bool     // from the discovery document
	static       bool     // the keys are not fetched, so a token may have no kid
	keys         keyring
	tokens       *tokencache.Cache[*cachedToken]
	lastHeader   atomic.Pointer[signedHeader]
	counters     counters
}

// Verify checks token, a compact JWT without a scheme in front, and returns the
// identity it proves. The rules are those of the package documentation, in
// their order.
//
// The error is [ErrNoToken] for an empty token, an [*InvalidTokenError] for one
// that is refused, and a [*NotAllowedError] for a good token whose service
// account may not call. It wraps [ErrKeysUnavailable] if there are no keys to
// verify with, and also ctx's error if ctx ended the wait for them. It wraps
// [ErrUndecided] if Config.Check could not tell. With an error the Claims are
// zero.
//
// Verify waits for nothing except keys: at the first use, for a key that is not
// known, and when the key set is too old. It waits for 10 seconds at most, and for
// one second more if RemoteKeys.SnapshotFile is on a file system that hangs.
func (v *Verifier) Verify(ctx context.Context, token string) (Claims, error) {
	if v == nil || len(v.members) == 0 {
		return Claims{}, errNotMade
	}
	m, claims, err := v.verify(ctx, token)
	return m.deliver(ctx, claims, err)
}

var errNotMade error = &keysUnavailable{cause: errors.New("this Verifier was not made by New, InCluster or Join")}

// verify returns the verdict on a token, and the member that gave it. If the
// token names no member's issuer, that is the first member.
func (v *Verifier) verify(ctx context.Context, token string) (*member, Claims, error) {
	first := &v.members[0]
	if token == "" {
		return first, Claims{}, ErrNoToken
	}
	key := v.cacheKey(token)
	var keys lookup
	cachedBy, cached := v.fromCache(key)
	if cached != nil {
		keys.keyring = cachedBy.keys
		if claims, known, err := cachedBy.judgeCached(ctx, &keys, cached); known {
			return cachedBy, claims, err
		}
	}
	parsed, err := v.parse(token)
	if err != nil {
		return first, Claims{}, err
	}
	m, err := v.memberFor(parsed)
	if err != nil {
		return first, Claims{}, err
	}
	if m != cachedBy {
		keys = lookup{keyring: m.keys} // never judge by the keys of another member
	}
	claims, err := m.judge(ctx, &keys, parsed, key)
	return m, claims, err
}

// parsedToken is a token of the right form. Nothing in it is verified.
type parsedToken struct {
	compact jws.Compact
	header  jws.Header
	claimed *payload
}

// parse applies the rules that are the same for each member.
func (v *Verifier) parse(token string) (parsedToken, error) {
	// Rule 1: size and form.
	compact, err := jws.Split(token)
	if errors.Is(err, jws.ErrTooLarge) {
		return parsedToken{}, refuse(1, ReasonTooLarge, "a smaller token", err.Error())
	}
	if err != nil {
		return parsedToken{}, refuse(1, ReasonMalformed, "three segments of base64url", err.Error())
	}

	// Rule 2: the header.
	header, err := v.parseHeader(compact)
	if errors.Is(err, jws.ErrAlgorithm) {
		return parsedToken{}, refuse(2, ReasonBadAlgorithm, "RS256, ES256, ES384 or ES512", err.Error())
	}
	if err != nil {
		return parsedToken{}, refuse(2, ReasonMalformed, "a header with alg, kid and perhaps typ", err.Error())
	}
	if header.KeyID == "" && !slices.ContainsFunc(v.members, func(m member) bool { return m.static }) {
		return parsedToken{}, errNoKeyID()
	}

	// Rule 3: the payload decodes, and the token is not Secret-based.
	claimed, err := decodePayload(compact.UnverifiedPayload())
	if err != nil {
		return parsedToken{}, refuse(3, ReasonMalformed, "a payload of claims", err.Error())
	}
	if claimed.isLegacy() {
		return parsedToken{}, refuse(3, ReasonLegacy, "a projected token", "a Secret-based one")
	}
	return parsedToken{compact, header, claimed}, nil
}

func errNoKeyID() error {
	return refuse(2, ReasonMalformed, "a kid", "none, and the keys are not static")
}

// judge applies the other rules, which depend on the member.
func (m *member) judge(ctx context.Context, keys *lookup, parsed parsedToken, key cacheKey) (Claims, error) {
	// Rule 3, the rest: iss is one of ours, before anything else uses the network.
	if err := m.checkIssuer(ctx, keys, parsed.claimed); err != nil {
		return Claims{}, err
	}

	// Rule 4: the key, by kid, is for this alg.
	selected, err := m.selectKeys(ctx, keys, parsed)
	if err != nil {
		return Claims{}, err
	}

	// Rule 5: the signature.
	signer := parsed.signedBy(selected)
	if signer == nil {
		return Claims{}, refuse(5, ReasonBadSignature, "", "")
	}
	m.keepHeader(parsed)

	// Rule 6: only now are the claims judged, as they were decoded above.
	claimed := parsed.claimed

	// Rule 7: the registered claims.
	audience, err := m.checkRegistered(&claimed.registered)
	if err != nil {
		return Claims{}, claimed.withSubject(err)
	}

	// Rule 8: one consistent identity.
	claims, err := claimed.identity()
	if err != nil {
		return Claims{}, claimed.withSubject(
			refuse(8, ReasonNotAServiceAccount, "a token that names one service account", err.Error()))
	}
	claims = m.fillIn(claims, claimed, audience)

	// Rule 9: policy.
	if m.config.RequirePod && claims.Pod == (Object{}) {
		return Claims{}, claimed.withSubject(refuse(9, ReasonNotBound, "a token bound to a pod", "one that is not"))
	}
	if !m.allowed.Has(claims.Namespace, claims.ServiceAccount.Name) {
		return Claims{}, m.allowed.deny(claims)
	}

	// Rule 10: Config.Check.
	if err := m.check(claims); err != nil {
		return Claims{}, err
	}

	m.toCache(key, parsed, signer, claims)
	return claims, nil
}

// signedHeader is a header that a key has signed. Tokens with the same key usually
// have the same header, so it need not be parsed each time.
type signedHeader struct {
	decoded []byte
	parsed  jws.Header
}

func (v *Verifier) parseHeader(compact jws.Compact) (jws.Header, error) {
	for i := range v.members {
		if last := v.members[i].lastHeader.Load(); last != nil && compact.HasHeader(last.decoded) {
			return last.parsed, nil
		}
	}
	return compact.ParseHeader()
}

func (c *cluster) keepHeader(parsed parsedToken) {
	if last := c.lastHeader.Load(); last == nil || !parsed.compact.HasHeader(last.decoded) {
		c.lastHeader.Store(&signedHeader{parsed.compact.CloneHeader(), parsed.header})
	}
}

// checkIssuer is the rest of rule 3: iss is one of ours. It comes before anything
// that could set off a fetch. An issuer is learnt from the discovery document, and
// never from a token.
func (c *cluster) checkIssuer(ctx context.Context, keys *lookup, claimed *payload) error {
	if slices.Contains(c.issuers, claimed.Issuer) {
		return keys.current(ctx)
	}
	if !c.learnsIssuer {
		return claimed.wrongIssuer(quote.Value(c.config.Issuer))
	}
	if err := keys.current(ctx); err != nil {
		return err
	}
	if keys.seen.publishedBy(claimed.Issuer) {
		return nil
	}
	if err := c.refresh(ctx, keys, claimed); err != nil {
		return err
	}
	if keys.seen.publishedBy(claimed.Issuer) {
		return nil
	}
	return claimed.wrongIssuer(quote.Value(keys.seen.issuer))
}

// acceptsIssuer is checkIssuer without a fetch.
func (c *cluster) acceptsIssuer(issuer string, seen keysAtHand) bool {
	return slices.Contains(c.issuers, issuer) || c.learnsIssuer && seen.publishedBy(issuer)
}

func (p *payload) wrongIssuer(want string) error {
	got := quote.Value(p.Issuer)
	if p.Issuer == "" {
		got = "none"
	}
	return refuse(3, ReasonWrongIssuer, "iss "+want, got)
}

// refresh looks at the keys once more, for a token that the keys seen can't
// judge. Only a token that could pass afterwards sets off a fetch. Its unverified
// aud and exp decide that, and they decide nothing else.
func (c *cluster) refresh(ctx context.Context, keys *lookup, claimed *payload) error {
	if _, ok := c.audience(claimed.Audiences); !ok || !c.unexpired(claimed.Expiry, c.config.Now()) {
		return keys.latest()
	}
	return keys.refresh(ctx)
}

// selectKeys returns the keys to try. That is the one that kid names or, for a token
// without a kid, the few that fit. Rule 2 allows such a token only with static keys.
func (c *cluster) selectKeys(ctx context.Context, keys *lookup, parsed parsedToken) ([]*keyset.Key, error) {
	header := parsed.header
	if header.KeyID == "" {
		return keys.seen.withoutKeyID(header)
	}
	k := keys.seen.Key(header.KeyID)
	if k == nil {
		if err := c.refresh(ctx, keys, parsed.claimed); err != nil {
			return nil, err
		}
		k = keys.seen.Key(header.KeyID)
	}
	if k == nil {
		got := quote.Value(header.KeyID)
		if why := keys.seen.WhyDropped(header.KeyID); why != "" {
			got += ", which is published and not used: " + why
		}
		return nil, refuse(4, ReasonUnknownKey, "one of the kids "+quote.List(keys.seen.IDs()), got)
	}
	if k.Algorithm() != header.Algorithm {
		return nil, refuse(4, ReasonBadAlgorithm, k.Algorithm()+", the alg of the key with this kid", header.Algorithm)
	}
	return []*keyset.Key{k}, nil
}

// withoutKeyID returns the keys to try for a token without kid.
func (seen keysAtHand) withoutKeyID(header jws.Header) ([]*keyset.Key, error) {
	const most = 4
	var few []*keyset.Key
	for _, k := range seen.Keys {
		if k.Algorithm() != header.Algorithm {
			continue
		}
		if len(few) == most {
			return nil, refuse(4, ReasonUnknownKey, "a kid, since there are many keys", "none")
		}
		few = append(few, k)
	}
	if len(few) == 0 {
		return nil, refuse(4, ReasonBadAlgorithm, "the alg of one of the keys", header.Algorithm)
	}
	return few, nil
}

// signedBy returns the one of these keys that made the signature, or nil.
func (p parsedToken) signedBy(keys []*keyset.Key) *keyset.Key {
	for _, k := range keys {
		if p.compact.Verify(p.header, k.Key) == nil {
			return k
		}
	}
	return nil
}

// checkRegistered is rule 7, except for iss, which checkIssuer has checked. It
// returns the first of Config.Audiences that the token names.
func (c *cluster) checkRegistered(r *registered) (audience string, err error) {
	now, leeway := c.config.Now(), c.config.Leeway
	audience, ok := c.audience(r.Audiences)
	if !ok {
		return "", refuse(7, ReasonWrongAudience,
			"aud "+quote.List(c.config.Audiences)+", the name of this service", "a token for "+quote.List(r.Audiences))
	}
	if !r.Expiry.present {
		return "", refuse(7, ReasonExpired, "exp", "none")
	}
	if !r.IssuedAt.present {
		return "", refuse(7, ReasonMalformed, "iat", "none")
	}
	if r.IssuedAt.seconds > r.Expiry.seconds || r.NotBefore.seconds > r.Expiry.seconds {
		return "", refuse(7, ReasonMalformed, "iat and nbf not after exp", "")
	}
	if !c.unexpired(r.Expiry, now) {
		return "", refuse(7, ReasonExpired, "exp after "+formatTime(now.Add(-leeway)), formatTime(r.Expiry.time()))
	}
	if latest := now.Add(leeway); r.NotBefore.time().After(latest) || r.IssuedAt.time().After(latest) {
		return "", refuse(7, ReasonNotYetValid, "nbf and iat no later than "+formatTime(latest),
			"nbf "+formatTime(r.NotBefore.time())+", iat "+formatTime(r.IssuedAt.time()))
	}
	end := c.acceptedUntil(r)
	if !c.unexpired(end, now) {
		return "", refuse(7, ReasonStale,
			"warnafter after "+formatTime(now.Add(-leeway)), formatTime(r.WarnAfter.time()))
	}
	// In seconds: as a Duration, 9999 years would wrap.
	most, lifetime := int64(c.config.MaxLifetime/time.Second), end.seconds-r.IssuedAt.seconds
	if c.config.MaxLifetime > 0 && lifetime > most {
		return "", refuse(7, ReasonLifetimeTooLong,
			fmt.Sprintf("a lifetime of at most %d s", most), fmt.Sprintf("%d s", lifetime))
	}
	return audience, nil
}

// audience returns the first of Config.Audiences that is in list.
func (c *cluster) audience(list []string) (string, bool) {
	for _, audience := range c.config.Audiences {
		if slices.Contains(list, audience) {
			return audience, true
		}
	}
	return "", false
}

func (c *cluster) unexpired(end numericDate, now time.Time) bool {
	return end.present && now.Before(end.time().Add(c.config.Leeway))
}

// acceptedUntil is when this Verifier stops accepting a token, without leeway.
func (c *cluster) acceptedUntil(r *registered) numericDate {
	if r.WarnAfter.present && !c.config.AcceptExtended && r.WarnAfter.seconds < r.Expiry.seconds {
		return r.WarnAfter
	}
	return r.Expiry
}

// fillIn adds the claims that identity does not return.
func (c *cluster) fillIn(claims Claims, claimed *payload, audience string) Claims {
	claims.Issuer = claimed.Issuer
	claims.Audience = audience
	claims.IssuedAt = claimed.IssuedAt.time()
	claims.NotBefore = claimed.NotBefore.time()
	claims.Expiry = c.acceptedUntil(&claimed.registered).time()
	return claims
}

// withSubject adds the subject to a refusal. The signature has been verified.
func (p *payload) withSubject(err error) error {
	const most = 512 // bytes; the longest name has 339
	if refusal, ok := err.(*InvalidTokenError); ok && len(p.Subject) <= most {
		refusal.Subject = p.Subject
	}
	return err
}

// check is rule 10.
func (c *cluster) check(claims Claims) error {
	if c.config.Check == nil {
		return nil
	}
	const mostSaid = 512 // bytes
	err := c.config.Check(claims)
	if err == nil {
		return nil
	}
	refusal, ok := errors.AsType[*InvalidTokenError](err)
	switch {
	case !ok:
		said := strings.TrimPrefix(err.Error(), ErrUndecided.Error()+": ")
		return &undecided{said[:min(len(said), mostSaid)]}
	case refusal == nil:
		return &undecided{"Config.Check returned a nil *InvalidTokenError: return a plain nil"}
	}
	refused := *refusal // a copy: Check may return the same error each time
	refused.Rule, refused.Reason, refused.Subject = 10, cmp.Or(refused.Reason, ReasonRevoked), claims.Subject
	refused.Advice = cmp.Or(refused.Advice, refused.Reason.advice())
	return &refused
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return "none"
	}
	return t.UTC().Format(time.RFC3339)
}

// deliver counts and logs a verdict, calls OnVerdict, and returns it.
func (m *member) deliver(ctx context.Context, claims Claims, err error) (Claims, error) {
	m.record(ctx, err)
	if err != nil {
		claims = Claims{}
	}
	if m.onVerdict != nil {
		m.onVerdict(ctx, claims, err)
	}
	return claims, err
}

// record counts and logs a verdict.
func (c *cluster) record(ctx context.Context, err error) {
	var reason, subject string
	switch err := err.(type) {
	case nil:
		c.counters.accepted.Add(1)
		return
	case *InvalidTokenError:
		c.counters.refuse(err.Reason)
		reason, subject = string(err.Reason), err.Subject
	case *NotAllowedError:
		c.counters.notAllowed.Add(1)
		reason, subject = Outcome(err), err.Claims.Subject
	case *keysUnavailable:
		c.counters.keysUnavailable.Add(1)
		reason = Outcome(err)
	case *undecided:
		c.counters.undecided.Add(1)
		reason = Outcome(err)
	default:
		return // no token
	}
	c.config.Logger.LogAttrs(ctx, slog.LevelDebug, "kubejwt: not accepted",
		slog.String("reason", reason), slog.String("subject", subject), slog.Any("error", err))
}

// Ready returns nil while v has keys that it trusts. If v is joined, every member
// must have them. Use it for a readiness probe, or to get the keys before the
// first request. It fetches only if there are no keys, under the same limits as
// Verify, and waits no longer than Verify does. If a probe gives up sooner, the
// fetch goes on, and a later probe finds the keys. The error wraps
// ErrKeysUnavailable.
func (v *Verifier) Ready(ctx context.Context) error {
	if v == nil || len(v.members) == 0 {
		return errNotMade
	}
	if len(v.members) == 1 {
		return v.members[0].keys.ready(ctx)
	}
	errs := make([]error, len(v.members))
	var all sync.WaitGroup
	for i := range v.members {
		all.Go(func() { errs[i] = v.members[i].keys.ready(ctx) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// Stats returns what v has done and knows.
func (v *Verifier) Stats() Stats {
	if v == nil || len(v.members) == 0 {
		return Stats{Refused: make(map[Reason]uint64)}
	}
	s := v.members[0].stats()
	for i := range v.members[1:] {
		s.join(v.members[1+i].stats())
	}
	return s
}

func (c *cluster) stats() Stats {
	s := Stats{Refused: make(map[Reason]uint64), Remembered: c.tokens.Len()}
	c.counters.addTo(&s)
	c.keys.addStats(&s)
	return s
}
