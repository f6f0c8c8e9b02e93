// Package accounts has lists of service accounts. Users say with them who may call,
// or whose pods are watched.
package accounts

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kubejwt/kubejwt/internal/kubename"
	"github.com/kubejwt/kubejwt/internal/quote"
)

// All stands for every namespace or name of an Account.
const All = "*"

// An Account is one service account. If Name is All, it is all of the namespace. If
// both fields are All, it is every one.
type Account struct{ Namespace, Name string }

// A List is a set of service accounts. The zero List is empty. A List does not
// change, so it is safe for concurrent use by multiple goroutines.
type List struct {
	everyone   bool
	namespaces map[string]bool
	accounts   map[Account]bool
}

// Parse reads entries of the form "namespace/name", "namespace/*" and "*". Nothing
// else is a pattern. A list without an entry is an error.
func Parse(entries []string) (List, error) {
	if len(entries) == 0 {
		return List{}, errors.New(`is required: "namespace/name", "namespace/*", or "*" for every one`)
	}
	list := List{namespaces: make(map[string]bool), accounts: make(map[Account]bool)}
	for _, entry := range entries {
		namespace, name, _ := strings.Cut(entry, "/")
		switch {
		case entry == All:
			list.everyone = true
		case kubename.IsLabel(namespace) && name == All:
			list.namespaces[namespace] = true
		case kubename.IsLabel(namespace) && kubename.IsSubdomain(name):
			list.accounts[Account{namespace, name}] = true
		default:
			return List{}, fmt.Errorf(`%s is not "namespace/name", "namespace/*" or "*"`, quote.Value(entry))
		}
	}
	return list, nil
}

// Has reports whether the list has a service account. Bytes are compared.
func (l *List) Has(namespace, name string) bool {
	return l.everyone || l.namespaces[namespace] || l.accounts[Account{namespace, name}]
}

// Covers reports whether the list has all that an entry of Parse stands for. No
// account is called "*", so that a wide entry is covered by a wide one alone.
func (l *List) Covers(entry string) bool {
	namespace, name, _ := strings.Cut(entry, "/")
	return l.Has(namespace, name)
}

// Entries returns the entries in no particular order, without those that a wider one
// covers.
func (l *List) Entries() []Account {
	if l.everyone {
		return []Account{{All, All}}
	}
	var entries []Account
	for namespace := range l.namespaces {
		entries = append(entries, Account{namespace, All})
	}
	for account := range l.accounts {
		if !l.namespaces[account.Namespace] {
			entries = append(entries, account)
		}
	}
	return entries
}
