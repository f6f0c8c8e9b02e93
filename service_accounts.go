package kubejwt

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kubejwt/kubejwt/internal/accounts"
)

// WithServiceAccounts returns a copy of v that admits these service accounts
// only, for instance for one route. They are written as in
// Config.ServiceAccounts, and v must admit each of them: its list names the
// callers of all routes. The copy shares everything else with v. It is an error
// to name none, or if v is joined.
func (v *Verifier) WithServiceAccounts(entries ...string) (*Verifier, error) {
	if v == nil || len(v.members) == 0 || v.byIssuer != nil {
		return nil, errors.New("kubejwt: WithServiceAccounts: needs a Verifier made by New or InCluster")
	}
	list, err := accounts.Parse(entries)
	if err != nil {
		return nil, fmt.Errorf("kubejwt: WithServiceAccounts: %w", err)
	}
	for _, entry := range entries {
		if !v.members[0].allowed.Covers(entry) {
			return nil, fmt.Errorf("kubejwt: WithServiceAccounts: the Verifier that is copied does not admit %q", entry)
		}
	}
	copied := v.members[0]
	copied.allowed = allowedAccounts{list, "the service accounts given to WithServiceAccounts"}
	return &Verifier{members: []member{copied}}, nil
}

// WithOnVerdict returns a copy of v that calls onVerdict instead of
// [Config.OnVerdict], for instance for the metrics of one route. The copy shares
// everything else with v. Nil means that nothing is called. If v is nil, so is the
// copy.
func (v *Verifier) WithOnVerdict(onVerdict func(context.Context, Claims, error)) *Verifier {
	if v == nil {
		return nil
	}
	copied := &Verifier{members: slices.Clone(v.members), byIssuer: v.byIssuer}
	for i := range copied.members {
		copied.members[i].onVerdict = onVerdict
	}
	return copied
}

// allowedAccounts is the list of rule 9.
type allowedAccounts struct {
	accounts.List
	field string // where an entry would have to be added
}

// deny returns the error for a good token whose service account is not in the list.
func (a *allowedAccounts) deny(claims Claims) error {
	entry := claims.Namespace + "/" + claims.ServiceAccount.Name
	return &NotAllowedError{Claims: claims, Advice: fmt.Sprintf("add %q to %s to admit it", entry, a.field)}
}
