package kubejwt

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kubejwt/kubejwt/internal/accounts"
)

// WithServiceAccounts returns a copy of v that admits these service accounts
// only, written as in Config.ServiceAccounts, for instance for one route. It
// shares all else with v. None, one that v does not admit, and a joined v are
// errors.
func (v *Verifier) WithServiceAccounts(entries ...string) (*Verifier, error) {
	if v == nil || len(v.members) == 0 || v.byIssuer != nil {
		return nil, errors.New("kubejwt: WithServiceAccounts: wants a Verifier made by New or InCluster")
	}
	list, err := accounts.Parse(entries)
	if err != nil {
		return nil, fmt.Errorf("kubejwt: WithServiceAccounts: %w", err)
	}
	for _, entry := range entries {
		if !v.members[0].allowed.Covers(entry) {
			return nil, fmt.Errorf("kubejwt: WithServiceAccounts: %q is not admitted by the Verifier that is copied", entry)
		}
	}
	copied := v.members[0]
	copied.allowed = allowedAccounts{list, "the service accounts given to WithServiceAccounts"}
	return &Verifier{members: []member{copied}}, nil
}

// WithOnVerdict returns a copy of v that tells its verdicts to onVerdict in the
// place of [Config.OnVerdict], for instance for the metrics of one route. It
// shares all else with v. Nil means that nobody is told. A nil v stays nil.
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

// allowedAccounts is rule 9's list.
type allowedAccounts struct {
	accounts.List
	field string // where an entry would have to be added
}

// deny is the error of a good token whose service account is not in the list.
func (a *allowedAccounts) deny(claims Claims) error {
	entry := claims.Namespace + "/" + claims.ServiceAccount.Name
	return &NotAllowedError{Claims: claims, Advice: fmt.Sprintf("add %q to %s to admit it", entry, a.field)}
}
