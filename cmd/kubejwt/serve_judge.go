package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwtprom"
)

// judge has a Verifier for each policy. It never changes: other rules make
// another one.
type judge struct {
	rules    rules
	watches  []*watch
	members  []*trusted
	policies map[string]*kubejwt.Verifier
}

// trusted is what is accepted of one issuer for one list of audiences. Its
// Verifier admits everybody, and judges nothing: the policies have copies that
// admit their own accounts.
type trusted struct {
	key       string
	issuer    string
	audiences string
	verifier  *kubejwt.Verifier
}

// newJudge makes the Verifiers, except for those that the last judge has.
func newJudge(r rules, last *judge, verdicts *kubejwtprom.Verdicts, log serveLog) (*judge, error) {
	logger := log.forLibrary()
	j := &judge{rules: r, policies: make(map[string]*kubejwt.Verifier, len(r.policies))}
	watches := make(map[string]*watch) // by issuer
	for _, issuer := range r.issuers {
		w, err := newWatch(issuer, r.policies, last, logger)
		if err != nil {
			return nil, err
		}
		if w != nil {
			watches[issuer.name] = w
			j.watches = append(j.watches, w)
		}
	}
	for _, p := range r.policies {
		var all []*kubejwt.Verifier
		for _, issuer := range r.issuers {
			if !p.concerns(issuer) {
				continue
			}
			m, err := j.trust(issuer, p.audiences, watches[issuer.name], last, logger)
			if err != nil {
				return nil, err
			}
			v, err := m.verifier.WithServiceAccounts(p.accounts...)
			if err != nil {
				return nil, usagef("%s: %s", p.where, strings.TrimPrefix(err.Error(), "kubejwt: WithServiceAccounts: "))
			}
			all = append(all, v)
		}
		v, err := joinAll(all)
		if err != nil {
			return nil, usagef("%s: %s", p.where, strings.TrimPrefix(err.Error(), "kubejwt: Join: "))
		}
		j.policies[p.name] = v
	}
	for name, v := range j.policies { // only now: rules that can't be used leave no trace in the metrics
		j.policies[name] = v.WithOnVerdict(log.refusals(name, verdicts.For(name)))
	}
	return j, nil
}

// joinAll is kubejwt.Join, except that a single Verifier is returned unchanged, since
// Join refuses one that learns its issuer.
func joinAll(all []*kubejwt.Verifier) (*kubejwt.Verifier, error) {
	if len(all) == 1 {
		return all[0], nil
	}
	return kubejwt.Join(all...)
}

func (j *judge) trust(i issuer, audiences []string, w *watch, last *judge, logger *slog.Logger) (*trusted, error) {
	key := i.key(audiences)
	if w != nil {
		key += " " + w.key
	}
	for _, known := range []*judge{j, last} {
		if known == nil {
			continue
		}
		at := slices.IndexFunc(known.members, func(m *trusted) bool { return m.key == key })
		if at < 0 {
			continue
		}
		if known != j {
			j.members = append(j.members, known.members[at])
		}
		return known.members[at], nil
	}
	config := i.config
	config.Audiences = audiences
	config.ServiceAccounts = []string{"*"}
	config.Logger = logger
	if w != nil {
		config.Check = w.watcher.Check
	}
	v, err := i.build(config)
	if err != nil {
		return nil, err
	}
	m := &trusted{key, i.name, strings.Join(audiences, " "), v}
	j.members = append(j.members, m)
	return m, nil
}

// ready returns nil while there are keys for all members, and no watch is too old.
func (j *judge) ready(ctx context.Context) error {
	var errs []error
	for _, m := range j.members {
		if err := m.verifier.Ready(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.issuer, err))
		}
	}
	for _, w := range j.watches {
		if err := w.watcher.Ready(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", w.issuer, err))
		}
	}
	return errors.Join(errs...)
}

// without returns the names of the policies that another judge lacks.
func (j *judge) without(other *judge) (gone []string) {
	for name := range j.policies {
		if other.policies[name] == nil {
			gone = append(gone, name)
		}
	}
	return gone
}
