package kubejwt

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/kubejwt/kubejwt/internal/jws"
	"github.com/kubejwt/kubejwt/internal/quote"
)

// Join returns a Verifier for several clusters: the token's iss chooses the
// member that judges it, with that member's keys, audiences and service
// accounts. Every member has Config.Issuer set, and no issuer, former ones
// included, is another's. A decision on Claims then has to look at Issuer too.
//
// Each member logs and tells its own verdicts. The first one also tells those
// on tokens whose issuer is no member's.
func Join(members ...*Verifier) (*Verifier, error) {
	if len(members) == 0 {
		return nil, errors.New("kubejwt: Join: no Verifier")
	}
	joined := &Verifier{cluster: &cluster{}, members: slices.Clone(members), byIssuer: make(map[string]*Verifier)}
	for i, m := range members {
		switch {
		case m == nil || m.cluster == nil:
			return nil, fmt.Errorf("kubejwt: Join: Verifier %d was not made by New or InCluster", i+1)
		case m.members != nil:
			return nil, fmt.Errorf("kubejwt: Join: Verifier %d is a joined one: join its members", i+1)
		case m.cluster.config.Issuer == "":
			return nil, fmt.Errorf("kubejwt: Join: Verifier %d has no Config.Issuer, and could not be chosen", i+1)
		}
		issuers := m.cluster.issuers()
		for _, issuer := range issuers {
			if joined.byIssuer[issuer] != nil {
				return nil, fmt.Errorf("kubejwt: Join: two Verifiers have the issuer %s", quote.Value(issuer))
			}
		}
		for _, issuer := range issuers {
			joined.byIssuer[issuer] = m
		}
	}
	joined.cluster.config.Logger, joined.onVerdict = members[0].cluster.config.Logger, members[0].onVerdict
	return joined, nil
}

// verifyJoined lets the member verify whose issuer the token names.
func (v *Verifier) verifyJoined(ctx context.Context, token string, key cacheKey) (Claims, error) {
	member, err := v.memberFor(token, key)
	if err != nil {
		return v.deliver(ctx, Claims{}, err)
	}
	return member.answer(ctx, token, key)
}

func (v *Verifier) memberFor(token string, key cacheKey) (*Verifier, error) {
	for _, m := range v.members {
		if _, ok := m.cluster.remembered.Get(key.digest); key.fits && ok {
			return m, nil
		}
	}
	// What rules 1 to 3 refuse, any member refuses for the same reason, but for
	// a token without kid: a member whose keys are static lets it pass rule 2.
	anyone := v.members[max(0, slices.IndexFunc(v.members, func(m *Verifier) bool { return m.cluster.static }))]
	compact, err := jws.Split(token)
	if err != nil {
		return anyone, nil
	}
	header, err := compact.ParseHeader()
	if err != nil {
		return anyone, nil
	}
	if header.KeyID == "" && !anyone.cluster.static {
		return anyone, nil
	}
	claimed, err := decodePayload(compact.UnverifiedPayload())
	if err != nil || claimed.isLegacy() {
		return anyone, nil
	}
	if member := v.byIssuer[claimed.Issuer]; member != nil {
		return member, nil
	}
	return nil, wrongIssuer(quote.List(slices.Sorted(maps.Keys(v.byIssuer))), claimed)
}
