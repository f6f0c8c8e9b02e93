package revocation

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxSelected is how many accounts of one namespace have a watch of their own
// pods. Of more, all pods of the namespace are watched at once.
const maxSelected = 4

// A resource is what a stream is about: the objects of one kind, in a namespace
// or everywhere, all of them or those that a field selector leaves.
type resource struct {
	kind      string // pods or serviceaccounts
	namespace string // "": all
	selector  string // fieldSelector; "": none
}

const (
	pods            = "pods"
	serviceAccounts = "serviceaccounts"
)

func (r resource) path() string {
	if r.namespace == "" {
		return "/api/v1/" + r.kind
	}
	return "/api/v1/namespaces/" + r.namespace + "/" + r.kind
}

func (r resource) String() string {
	text := r.kind
	if r.namespace != "" {
		text += " in " + r.namespace
	}
	if r.selector != "" {
		text += " with " + r.selector
	}
	return text
}

// An account is the key of a scope: name "*" stands for all of a namespace, and
// both "*" for every account.
type account struct{ namespace, name string }

var everyAccount = account{"*", "*"}

func parseAccounts(list []string) (map[account]bool, error) {
	if len(list) == 0 {
		return nil, errors.New(`is required: "namespace/name", "namespace/*", or "*" for every one`)
	}
	accounts := make(map[account]bool)
	for _, entry := range list {
		namespace, name, _ := strings.Cut(entry, "/")
		switch {
		case entry == "*":
			accounts[everyAccount] = true
		case isName(namespace) && !strings.Contains(namespace, ".") && (name == "*" || isName(name)):
			accounts[account{namespace, name}] = true
		default:
			return nil, fmt.Errorf(`%q is not "namespace/name", "namespace/*" or "*"`, entry)
		}
	}
	for entry := range accounts { // what a wider one covers
		wider := accounts[everyAccount] && entry != everyAccount
		if wider || entry.name != "*" && accounts[account{entry.namespace, "*"}] {
			delete(accounts, entry)
		}
	}
	return accounts, nil
}

// isName admits what can be a name in Kubernetes, and nothing that means
// something in a URL or a selector.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || c == '-' || c == '.') {
			return false
		}
	}
	return 1 <= len(s) && len(s) <= 253 && strings.Trim(s, ".") == s && !strings.Contains(s, "..")
}

// watched returns the two resources that tell about an account of the list.
func watched(entry account, accounts map[account]bool) (podsOf, accountsOf resource) {
	switch {
	case entry == everyAccount:
		return resource{kind: pods}, resource{kind: serviceAccounts}
	case entry.name == "*":
		return resource{kind: pods, namespace: entry.namespace}, resource{kind: serviceAccounts, namespace: entry.namespace}
	}
	podsOf = resource{kind: pods, namespace: entry.namespace, selector: "spec.serviceAccountName=" + entry.name}
	if namedIn(entry.namespace, accounts) > maxSelected {
		podsOf.selector = ""
	}
	return podsOf, resource{kind: serviceAccounts, namespace: entry.namespace, selector: "metadata.name=" + entry.name}
}

func namedIn(namespace string, accounts map[account]bool) (n int) {
	for entry := range accounts {
		if entry.namespace == namespace {
			n++
		}
	}
	return n
}

// missingRole is the YAML of what the API server has to grant for one
// namespace, or for all of them where namespace is "".
func missingRole(namespace string, accounts map[account]bool) string {
	var names []string
	for entry := range accounts {
		if entry.namespace == namespace && entry.name != "*" {
			names = append(names, entry.name)
		}
	}
	slices.Sort(names)
	kind, metadata, only := "Role", "{name: kubejwt-revocation, namespace: "+namespace+"}", ""
	if namespace == "" {
		kind, metadata = "ClusterRole", "{name: kubejwt-revocation}"
	}
	if len(names) > 0 {
		only = "\n  resourceNames: [" + strings.Join(names, ", ") + "]"
	}
	return `apiVersion: rbac.authorization.k8s.io/v1
kind: ` + kind + `
metadata: ` + metadata + `
rules:
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [serviceaccounts]` + only + `
  verbs: [list, watch]
`
}
