package kubejwt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// WithServiceAccounts returns a copy of v that admits these service accounts
// only, written as in Config.ServiceAccounts, for instance for one route. It
// shares all else with v. None, one that v does not admit, and a joined v are
// errors.
func (v *Verifier) WithServiceAccounts(accounts ...string) (*Verifier, error) {
	if v == nil || len(v.members) == 0 || v.byIssuer != nil {
		return nil, errors.New("kubejwt: WithServiceAccounts: wants a Verifier made by New or InCluster")
	}
	allowed, err := parseServiceAccounts(accounts)
	if err != nil {
		return nil, fmt.Errorf("kubejwt: WithServiceAccounts: %w", err)
	}
	for _, account := range accounts {
		if !v.members[0].allowed.covers(account) {
			return nil, fmt.Errorf("kubejwt: WithServiceAccounts: %q is not admitted by the Verifier that is copied", account)
		}
	}
	allowed.field = "the service accounts given to WithServiceAccounts"
	copied := v.members[0]
	copied.allowed = allowed
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

// allowedAccounts is rule 9's list. The zero value admits nobody.
type allowedAccounts struct {
	field      string // where an entry would have to be added
	everyone   bool
	namespaces map[string]bool
	accounts   map[account]bool
}

type account struct{ namespace, name string }

func parseServiceAccounts(list []string) (allowedAccounts, error) {
	if len(list) == 0 {
		return allowedAccounts{}, errors.New(`is required: "namespace/name", "namespace/*", or "*" for every one`)
	}
	allowed := allowedAccounts{field: "Config.ServiceAccounts", namespaces: make(map[string]bool), accounts: make(map[account]bool)}
	for _, entry := range list {
		namespace, name, _ := strings.Cut(entry, "/")
		switch {
		case entry == "*":
			allowed.everyone = true
		case isDNSLabel(namespace) && name == "*":
			allowed.namespaces[namespace] = true
		case isDNSLabel(namespace) && isDNSSubdomain(name):
			allowed.accounts[account{namespace, name}] = true
		default:
			return allowedAccounts{}, fmt.Errorf(`%q is not "namespace/name", "namespace/*" or "*"`, entry)
		}
	}
	return allowed, nil
}

func (a *allowedAccounts) admit(namespace, name string) bool {
	return a.everyone || a.namespaces[namespace] || a.accounts[account{namespace, name}]
}

// deny is the error of a good token whose service account is not in the list.
func (a *allowedAccounts) deny(claims Claims) error {
	entry := claims.Namespace + "/" + claims.ServiceAccount.Name
	return &NotAllowedError{Claims: claims, Advice: fmt.Sprintf("add %q to %s to admit it", entry, a.field)}
}

// covers reports whether a admits all that a well-formed entry stands for.
func (a *allowedAccounts) covers(entry string) bool {
	namespace, name, _ := strings.Cut(entry, "/")
	if entry == "*" || name == "*" {
		return a.everyone || a.namespaces[namespace]
	}
	return a.admit(namespace, name)
}
