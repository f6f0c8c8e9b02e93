package revocation

import (
	"slices"
	"strings"

	"github.com/kubejwt/kubejwt/internal/accounts"
)

// maxSelected is how many accounts of one namespace have a watch of their own
// pods. If there are more, all pods of the namespace are watched at once.
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

// watched returns the two resources to watch for the accounts of an entry.
func watched(entry accounts.Account, all []accounts.Account) (podsOf, accountsOf resource) {
	switch {
	case entry.Namespace == accounts.All:
		return resource{kind: pods}, resource{kind: serviceAccounts}
	case entry.Name == accounts.All:
		podsOf = resource{kind: pods, namespace: entry.Namespace}
		return podsOf, resource{kind: serviceAccounts, namespace: entry.Namespace}
	}
	podsOf = resource{kind: pods, namespace: entry.Namespace, selector: "spec.serviceAccountName=" + entry.Name}
	if len(namesIn(entry.Namespace, all)) > maxSelected {
		podsOf.selector = ""
	}
	return podsOf, resource{kind: serviceAccounts, namespace: entry.Namespace, selector: "metadata.name=" + entry.Name}
}

// namesIn returns the accounts of a namespace that are named one by one, sorted.
func namesIn(namespace string, all []accounts.Account) (names []string) {
	for _, entry := range all {
		if entry.Namespace == namespace && entry.Name != accounts.All {
			names = append(names, entry.Name)
		}
	}
	slices.Sort(names)
	return names
}

// missingRole returns the YAML of the Role that one namespace needs, or of the
// ClusterRole for all of them if namespace is "".
func missingRole(namespace string, all []accounts.Account) string {
	names := namesIn(namespace, all)
	for i := range names {
		names[i] = yamlString(names[i])
	}
	kind, metadata, only := "Role", "{name: kubejwt-revocation, namespace: "+yamlString(namespace)+"}", ""
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

// yamlString quotes a name that YAML would take for a number, a truth value or null.
func yamlString(name string) string {
	words := []string{"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
	if slices.Contains(words, name) || name != "" && name[0] <= '9' {
		return `"` + name + `"`
	}
	return name
}
