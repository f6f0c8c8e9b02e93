package kubejwt

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/kubejwt/kubejwt/internal/quote"
)

// Join returns a Verifier for several clusters. The token's iss chooses the
// member that judges it, with that member's keys, audiences and service
// accounts. Every member must have Config.Issuer set, and no two members may have
// the same issuer, former ones included. Look at Claims.Issuer too when you
// decide who may do what: every cluster can have a shop/api.
//
// Each member counts and logs its own verdicts, and calls its own OnVerdict. The
// first member does so for tokens whose issuer is no member's.
func Join(members ...*Verifier) (*Verifier, error) {
	if len(members) == 0 {
		return nil, errors.New("kubejwt: Join: no Verifier")
	}
	joined := &Verifier{byIssuer: make(map[string]int)}
	for i, v := range members {
		switch {
		case v == nil || len(v.members) == 0:
			return nil, fmt.Errorf("kubejwt: Join: Verifier %d was not made by New or InCluster", i+1)
		case v.byIssuer != nil:
			return nil, fmt.Errorf("kubejwt: Join: Verifier %d is already joined: pass its members instead", i+1)
		case v.members[0].config.Issuer == "":
			return nil, fmt.Errorf("kubejwt: Join: Verifier %d has no Config.Issuer, so no token could choose it", i+1)
		}
		for _, issuer := range v.members[0].issuers {
			if other, found := joined.byIssuer[issuer]; found && other != i {
				return nil, fmt.Errorf("kubejwt: Join: two Verifiers have the issuer %s", quote.Value(issuer))
			}
			joined.byIssuer[issuer] = i
		}
		joined.members = append(joined.members, v.members[0])
	}
	return joined, nil
}

// memberFor returns the member whose issuer a token names.
func (v *Verifier) memberFor(parsed parsedToken) (*member, error) {
	if v.byIssuer == nil {
		return &v.members[0], nil
	}
	i, found := v.byIssuer[parsed.claimed.Issuer]
	if !found {
		return nil, parsed.claimed.wrongIssuer(quote.List(slices.Sorted(maps.Keys(v.byIssuer))))
	}
	if m := &v.members[i]; parsed.header.KeyID != "" || m.static {
		return m, nil
	}
	return nil, errNoKeyID() // another member's keys are static
}
