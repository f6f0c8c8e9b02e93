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

const (
	maxKidlessKeys = 4   // that are tried for a token without kid
	maxSubject     = 512 // bytes that get into a refusal; the longest name has 339
	maxErrorText   = 512 // bytes of what Config.Check says
)

// A Verifier tells which Kubernetes workload sent a token. Make it with [New],
// [InCluster] or [Join]; it needs no closing. It is safe for concurrent use by
// multiple goroutines. A zero Verifier refuses everything with
// ErrKeysUnavailable.
type Verifier struct {
	cluster   *cluster
	allowed   allowedAccounts
	onVerdict func(context.Context, Claims, error) // nil: nobody is told

	members  []*Verifier          // of a joined Verifier
	byIssuer map[string]*Verifier // the member for each iss
}

// cluster is what a Verifier and its copies share: the issuer, its keys, what
// is remembered of its tokens.
type cluster struct {
	config     Config // defaults filled in
	learns     bool   // the issuer is the keyring's to know
	static     bool   // the keys are given, and a token may come without kid
	keys       keyring
	remembered *tokencache.Cache[*remembered]
	known      atomic.Pointer[knownHeader]
	counters   counters
}

// issuers are those that are configured.
func (c *cluster) issuers() []string {
	return append([]string{c.config.Issuer}, c.config.FormerIssuers...)
}

// Verify checks token, a compact JWT without a scheme in front, and returns the
// identity it proves. The rules are those of the package documentation, in
// their order.
//
// The error is [ErrNoToken] for an empty token, an [*InvalidTokenError] for one
// that is refused, a [*NotAllowedError] for a good one of a service account
// that is not admitted, or wraps [ErrKeysUnavailable] if the keys to judge by
// could not be had, and then ctx's error if ctx ended the wait for them, or
// wraps [ErrUndecided] if Config.Check could not tell. Beside an error the
// Claims are zero.
//
// Verify waits only for keys: at the first use, for a key that is not known,
// and after the life of the key set; never longer than 10 seconds.
func (v *Verifier) Verify(ctx context.Context, token string) (Claims, error) {
	if v == nil || v.cluster == nil {
		return Claims{}, errNotMade
	}
	key := v.cluster.cacheKey(token)
	if v.members != nil {
		return v.verifyJoined(ctx, token, key)
	}
	return v.answer(ctx, token, key)
}

// answer is Verify of one issuer's Verifier.
func (v *Verifier) answer(ctx context.Context, token string, key cacheKey) (Claims, error) {
	claims, err := v.verify(ctx, token, key)
	return v.deliver(ctx, claims, err)
}

// deliver returns a verdict to the caller, after everyone else who wants to
// know of it.
func (v *Verifier) deliver(ctx context.Context, claims Claims, err error) (Claims, error) {
	v.cluster.record(ctx, err)
	if err != nil {
		claims = Claims{}
	}
	if v.onVerdict != nil {
		v.onVerdict(ctx, claims, err)
	}
	return claims, err
}

var errNotMade error = &keysUnavailable{cause: errors.New("this Verifier is not made: use New, InCluster or Join")}

func (v *Verifier) verify(ctx context.Context, token string, key cacheKey) (Claims, error) {
	if token == "" {
		return Claims{}, ErrNoToken
	}
	c := v.cluster
	claims, known, seen, err := v.recall(ctx, key)
	if known {
		return claims, err
	}

	// Rule 1: size and form.
	compact, err := jws.Split(token)
	if errors.Is(err, jws.ErrTooLarge) {
		return Claims{}, refuse(1, ReasonTooLarge, "a token of a pod's size", err.Error())
	}
	if err != nil {
		return Claims{}, refuse(1, ReasonMalformed, "three segments of base64url", err.Error())
	}

	// Rule 2: the header.
	header, err := c.parseHeader(compact)
	if errors.Is(err, jws.ErrAlgorithm) {
		return Claims{}, refuse(2, ReasonBadAlgorithm, "RS256, ES256, ES384 or ES512", err.Error())
	}
	if err != nil {
		return Claims{}, refuse(2, ReasonMalformed, "a header of alg, kid and perhaps typ", err.Error())
	}
	if header.KeyID == "" && !c.static {
		return Claims{}, refuse(2, ReasonMalformed, "a kid", "none, which only static keys can do without")
	}

	// Rule 3: the payload decodes, and iss is one of ours.
	claimed, err := decodePayload(compact.UnverifiedPayload())
	if err != nil {
		return Claims{}, refuse(3, ReasonMalformed, "a payload of claims", err.Error())
	}
	keys, err := c.gate(ctx, claimed, seen)
	if err != nil {
		return Claims{}, err
	}

	// Rule 4: the key, by kid, is for this alg.
	candidates, err := c.candidates(ctx, keys, header, claimed)
	if err != nil {
		return Claims{}, err
	}

	// Rule 5: the signature.
	signer := signedBy(compact, header, candidates)
	if signer == nil {
		return Claims{}, refuse(5, ReasonBadSignature, "", "")
	}

	c.knowHeader(compact, header)

	// Rule 6: only now the claims are judged, as they were decoded.

	// Rule 7: the registered claims.
	audience, err := c.judge(&claimed.registered, claimed.warnAfter())
	if err != nil {
		return Claims{}, withSubject(claimed, err)
	}

	// Rule 8: one consistent identity.
	claims, err = claimed.identity()
	if err != nil {
		return Claims{}, withSubject(claimed, refuse(8, ReasonNotAServiceAccount, "a token that names one service account", err.Error()))
	}
	claims = c.complete(claims, claimed, audience)

	// Rule 9: policy.
	if c.config.RequirePod && claims.Pod == (Object{}) {
		return Claims{}, withSubject(claimed, refuse(9, ReasonNotBound, "a token bound to a pod", "one that is not"))
	}
	if !v.allowed.admit(claims.Namespace, claims.ServiceAccount.Name) {
		return Claims{}, v.allowed.deny(claims)
	}

	// Rule 10: what cannot be told offline.
	if err := c.check(claims); err != nil {
		return Claims{}, err
	}

	c.remember(key, header, signer, claims, claimed)
	return claims, nil
}

// knownHeader is a header that a key has signed. One signer's is the same bytes
// in every token, so that it need not be parsed each time.
type knownHeader struct {
	decoded []byte
	parsed  jws.Header
}

func (c *cluster) parseHeader(compact jws.Compact) (jws.Header, error) {
	if known := c.known.Load(); known != nil && compact.HasHeader(known.decoded) {
		return known.parsed, nil
	}
	return compact.ParseHeader()
}

func (c *cluster) knowHeader(compact jws.Compact, header jws.Header) {
	if known := c.known.Load(); known == nil || !compact.HasHeader(known.decoded) {
		c.known.Store(&knownHeader{compact.CloneHeader(), header})
	}
}

// gate is the rest of rule 3: the issuer is one of ours, before anything that
// could set off a fetch. Where it is to be learnt, it is learnt from the
// discovery document, never from a token. A caller for whom recall has waited
// for a fetch has had its one.
func (c *cluster) gate(ctx context.Context, claimed *payload, seen view) (view, error) {
	if claimed.isLegacy() {
		return view{}, refuse(3, ReasonLegacy, "a projected token", "a Secret-based one")
	}
	if !c.learns && !c.isOurs(claimed.Issuer, view{}) {
		return view{}, c.refuseIssuer(claimed, view{})
	}
	keys, err := c.keys.current(ctx)
	if err != nil {
		return view{}, err
	}
	keys.waited = keys.waited || seen.waited
	if c.isOurs(claimed.Issuer, keys) {
		return keys, nil
	}
	if keys, err = c.lookAgain(ctx, keys, claimed); err != nil {
		return view{}, err
	}
	if !c.isOurs(claimed.Issuer, keys) {
		return view{}, c.refuseIssuer(claimed, keys)
	}
	return keys, nil
}

// isOurs compares bytes: an issuer has one spelling.
func (c *cluster) isOurs(issuer string, keys view) bool {
	if issuer == "" {
		return false
	}
	return issuer == c.config.Issuer || slices.Contains(c.config.FormerIssuers, issuer) ||
		c.learns && (issuer == keys.issuer || issuer == keys.formerIssuer)
}

func (c *cluster) refuseIssuer(claimed *payload, keys view) error {
	want := quote.Value(c.config.Issuer)
	if c.learns {
		want = quote.Value(keys.issuer)
	}
	return wrongIssuer(want, claimed)
}

func wrongIssuer(want string, claimed *payload) error {
	got := quote.Value(claimed.Issuer)
	if claimed.Issuer == "" {
		got = "none"
	}
	return refuse(3, ReasonWrongIssuer, "iss "+want, got)
}

// lookAgain returns the keys to look in once more for a token that the ones
// seen can't judge. Only a token that could pass afterwards sets off a fetch:
// its unverified aud and exp decide, here and nowhere else.
func (c *cluster) lookAgain(ctx context.Context, seen view, claimed *payload) (view, error) {
	if _, ok := c.audience(claimed.Audiences); !ok || !c.unexpired(claimed.Expiry, c.config.Now()) {
		return seen, seen.unavailable()
	}
	return c.keys.again(ctx, seen)
}

// candidates are the keys to try: the one that kid names or, for static keys
// and no kid, a few that fit.
func (c *cluster) candidates(ctx context.Context, keys view, header jws.Header, claimed *payload) ([]*keyset.Key, error) {
	if header.KeyID == "" {
		return kidless(keys, header)
	}
	k := keys.Key(header.KeyID)
	if k == nil {
		var err error
		if keys, err = c.lookAgain(ctx, keys, claimed); err != nil {
			return nil, err
		}
		k = keys.Key(header.KeyID)
	}
	if k == nil {
		got := quote.Value(header.KeyID)
		if why := keys.WhyDropped(header.KeyID); why != "" {
			got += ", which is published and not used: " + why
		}
		return nil, refuse(4, ReasonUnknownKey, "one of the kids "+quote.List(keys.IDs()), got)
	}
	if k.Algorithm() != header.Algorithm {
		return nil, refuse(4, ReasonBadAlgorithm, k.Algorithm()+", as the key of this kid is for", header.Algorithm)
	}
	return []*keyset.Key{k}, nil
}

func kidless(keys view, header jws.Header) ([]*keyset.Key, error) {
	var few []*keyset.Key
	for _, k := range keys.Keys {
		if k.Algorithm() != header.Algorithm {
			continue
		}
		if len(few) == maxKidlessKeys {
			return nil, refuse(4, ReasonUnknownKey, "a kid, as there are many keys", "none")
		}
		few = append(few, k)
	}
	if len(few) == 0 {
		return nil, refuse(4, ReasonBadAlgorithm, "an alg that one of the keys is for", header.Algorithm)
	}
	return few, nil
}

// signedBy returns the first of a few keys that made the signature, or nil.
func signedBy(compact jws.Compact, header jws.Header, candidates []*keyset.Key) *keyset.Key {
	for _, k := range candidates {
		if compact.Verify(header, k.Key) == nil {
			return k
		}
	}
	return nil
}

// judge is rule 7 but for iss, which the gate has let pass in these same bytes.
// It returns the audience that this service goes by.
func (c *cluster) judge(r *registered, warnAfter numericDate) (audience string, err error) {
	now, leeway := c.config.Now(), c.config.Leeway
	audience, ok := c.audience(r.Audiences)
	if !ok {
		return "", refuse(7, ReasonWrongAudience,
			"aud "+quote.List(c.config.Audiences)+", as this service is called", "a token for "+quote.List(r.Audiences))
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
		return "", refuse(7, ReasonExpired, "exp after "+date(now.Add(-leeway)), date(r.Expiry.time()))
	}
	if latest := now.Add(leeway); r.NotBefore.time().After(latest) || r.IssuedAt.time().After(latest) {
		return "", refuse(7, ReasonNotYetValid, "nbf and iat no later than "+date(latest), "nbf "+date(r.NotBefore.time())+", iat "+date(r.IssuedAt.time()))
	}
	end := c.end(r, warnAfter)
	if !c.unexpired(end, now) {
		return "", refuse(7, ReasonStale, "warnafter after "+date(now.Add(-leeway)), date(warnAfter.time()))
	}
	// In seconds: as a Duration, 9999 years would wrap.
	if most := int64(c.config.MaxLifetime / time.Second); c.config.MaxLifetime > 0 && end.seconds-r.IssuedAt.seconds > most {
		return "", refuse(7, ReasonLifetimeTooLong, fmt.Sprintf("a lifetime of at most %d s", most), fmt.Sprintf("%d s", end.seconds-r.IssuedAt.seconds))
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

// end is when a token ends for this Verifier, leeway aside.
func (c *cluster) end(r *registered, warnAfter numericDate) numericDate {
	if warnAfter.present && !c.config.AcceptExtended && warnAfter.seconds < r.Expiry.seconds {
		return warnAfter
	}
	return r.Expiry
}

// complete fills in what identity does not know.
func (c *cluster) complete(claims Claims, claimed *payload, audience string) Claims {
	claims.Issuer = claimed.Issuer
	claims.Audience = audience
	claims.IssuedAt = claimed.IssuedAt.time()
	claims.NotBefore = claimed.NotBefore.time()
	claims.Expiry = c.end(&claimed.registered, claimed.warnAfter()).time()
	return claims
}

// withSubject adds the subject, which is verified by now, to a refusal.
func withSubject(claimed *payload, err error) error {
	if refusal, ok := err.(*InvalidTokenError); ok && len(claimed.Subject) <= maxSubject {
		refusal.Subject = claimed.Subject
	}
	return err
}

// check is rule 10.
func (c *cluster) check(claims Claims) error {
	if c.config.Check == nil {
		return nil
	}
	err := c.config.Check(claims)
	if err == nil {
		return nil
	}
	refusal, ok := errors.AsType[*InvalidTokenError](err)
	switch {
	case !ok:
		said := strings.TrimPrefix(err.Error(), ErrUndecided.Error()+": ")
		return &undecided{said[:min(len(said), maxErrorText)]}
	case refusal == nil:
		return &undecided{"Config.Check returned a nil *InvalidTokenError: it has to return a plain nil"}
	}
	refused := *refusal // Check may return one error to all
	refused.Rule, refused.Reason, refused.Subject = 10, cmp.Or(refused.Reason, ReasonRevoked), claims.Subject
	refused.Advice = cmp.Or(refused.Advice, refused.Reason.advice())
	return &refused
}

func date(t time.Time) string {
	if t.IsZero() {
		return "none"
	}
	return t.UTC().Format(time.RFC3339)
}

// record counts and logs a verdict.
func (c *cluster) record(ctx context.Context, err error) {
	if err == nil {
		c.counters.accepted.Add(1)
		return
	}
	var reason, subject string
	switch err := err.(type) {
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
		return // no token: nothing to tell
	}
	c.config.Logger.LogAttrs(ctx, slog.LevelDebug, "kubejwt: not accepted",
		slog.String("reason", reason), slog.String("subject", subject), slog.Any("error", err))
}

// Ready returns nil while v has keys that it trusts, of every member if it is
// joined. Only if it has none it fetches, under the same limits as Verify: fit
// for a readiness probe, and to get the keys before the first request. It waits
// for 10 seconds at most; a probe that gives up sooner finds the keys at a later
// try. The error wraps ErrKeysUnavailable.
func (v *Verifier) Ready(ctx context.Context) error {
	if v == nil || v.cluster == nil {
		return errNotMade
	}
	if v.members == nil {
		return v.cluster.keys.ready(ctx)
	}
	errs := make([]error, len(v.members))
	var all sync.WaitGroup
	for i, m := range v.members {
		all.Go(func() { errs[i] = m.Ready(ctx) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// Stats returns what v has done and knows.
func (v *Verifier) Stats() Stats {
	s := Stats{Refused: make(map[Reason]uint64)}
	if v == nil || v.cluster == nil {
		return s
	}
	v.cluster.counters.addTo(&s)
	if v.members == nil {
		v.cluster.keys.addStats(&s)
		s.Remembered = v.cluster.remembered.Len()
		return s
	}
	for _, m := range v.members {
		s.join(m.Stats())
	}
	return s
}
