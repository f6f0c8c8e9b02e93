package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kubejwt/kubejwt"
)

const maxRulesFile = 1 << 20

// parseRules reads a policy file. Its errors name the line, the field and what
// was expected.
func parseRules(path string, data []byte) (rules, error) {
	if len(data) > maxRulesFile {
		return rules{}, usagef("%s: it has more than %d bytes", path, maxRulesFile)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return rules{}, usagef("%s: it is no YAML: %s", path, loggable(maxLoggedPath, err.Error()))
	}
	d := decoder{path: path}
	if len(document.Content) == 0 {
		d.fail(&yaml.Node{Line: 1}, "", "want issuers and policies, and it is empty")
		return rules{}, d.err()
	}
	found := d.rules(document.Content[0])
	return found, d.err()
}

// decoder reads a tree of YAML nodes, and gathers what is wrong with it.
type decoder struct {
	path string
	errs []string
}

func (d *decoder) err() error {
	if d.errs == nil {
		return nil
	}
	return usagef("%s", strings.Join(d.errs, "\n"))
}

func (d *decoder) fail(n *yaml.Node, field, format string, args ...any) {
	d.errs = append(d.errs, d.where(n, field)+": "+fmt.Sprintf(format, args...))
}

func (d *decoder) where(n *yaml.Node, field string) string {
	where := d.path + ":" + strconv.Itoa(n.Line)
	if field != "" {
		where += ": " + field
	}
	return where
}

func (d *decoder) rules(n *yaml.Node) (r rules) {
	fields := yamlFields{
		"issuers": func(n *yaml.Node, field string) {
			d.list(n, field, func(n *yaml.Node, field string) { r.issuers = append(r.issuers, d.issuer(n, field)) })
		},
		"policies": func(n *yaml.Node, field string) {
			d.list(n, field, func(n *yaml.Node, field string) { r.policies = append(r.policies, d.policy(n, field)) })
		},
	}
	d.object(n, "", fields, "issuers", "policies")
	d.checkNames(n, r)
	return r
}

// checkNames finds what is named twice, and issuers that there are not.
func (d *decoder) checkNames(n *yaml.Node, r rules) {
	issuers, policies := make(map[string]string), make(map[string]string)
	for _, i := range r.issuers {
		if issuers[i.name] != "" && i.name != "" {
			d.errs = append(d.errs, fmt.Sprintf("%s: the issuer %s is named before, at %s", i.where, quoted(i.name), issuers[i.name]))
		}
		issuers[i.name] = i.where
	}
	for _, p := range r.policies {
		if policies[p.name] != "" && p.name != "" {
			d.errs = append(d.errs, fmt.Sprintf("%s: the policy %s is named before, at %s", p.where, quoted(p.name), policies[p.name]))
		}
		policies[p.name] = p.where
		for _, name := range p.issuers {
			if issuers[name] == "" {
				d.errs = append(d.errs, fmt.Sprintf("%s: issuers: %s is not among the issuers of this file", p.where, quoted(name)))
			}
		}
	}
}

func (d *decoder) issuer(n *yaml.Node, field string) issuer {
	var config kubejwt.Config
	var keys kubejwt.RemoteKeys
	var keyFile string
	var watch *watchOptions
	inCluster, audited := false, len(d.errs)
	d.object(n, field, yamlFields{
		"issuer":          d.text(&config.Issuer),
		"formerIssuers":   d.texts(&config.FormerIssuers),
		"inCluster":       d.boolean(&inCluster),
		"keyFile":         d.text(&keyFile),
		"jwksURL":         d.text(&keys.JWKSURL),
		"discoveryURL":    d.text(&keys.DiscoveryURL),
		"caFile":          d.text(&keys.CAFile),
		"bearerTokenFile": d.text(&keys.BearerTokenFile),
		"snapshotFile":    d.text(&keys.SnapshotFile),
		"maxStale":        d.duration(&keys.MaxStale),
		"leeway":          d.duration(&config.Leeway),
		"maxLifetime":     d.duration(&config.MaxLifetime),
		"acceptExtended":  d.boolean(&config.AcceptExtended),
		"requirePod":      d.boolean(&config.RequirePod),
		"watch":           func(n *yaml.Node, field string) { watch = d.watch(n, field) },
	})
	switch {
	case len(d.errs) > audited:
	case config.Issuer == "" && !inCluster:
		d.fail(n, field, "want issuer, or inCluster: true, which learns it")
	case keyFile != "" && (inCluster || keys != (kubejwt.RemoteKeys{})):
		d.fail(n, field, "keyFile stands alone: inCluster, jwksURL, discoveryURL, caFile, bearerTokenFile, snapshotFile and maxStale are for keys that are fetched")
	}
	if watch != nil {
		watch.inCluster, watch.caFile, watch.tokenFile = inCluster, keys.CAFile, keys.BearerTokenFile
		if !inCluster && watch.apiServer == "" {
			d.fail(n, field+".watch", "want apiServer, or inCluster: true of the issuer")
		}
	}
	config.Keys = keys
	if keyFile != "" {
		config.Keys = kubejwt.KeyFile(keyFile)
	}
	where := d.where(n, field)
	return issuer{where: where, watch: watch, name: issuerName(config.Issuer), config: config, build: func(config kubejwt.Config) (*kubejwt.Verifier, error) {
		return buildFromFile(where, inCluster, config)
	}}
}

func (d *decoder) watch(n *yaml.Node, field string) *watchOptions {
	w := new(watchOptions)
	d.object(n, field, yamlFields{
		"apiServer": d.text(&w.apiServer),
		"whenStale": func(n *yaml.Node, field string) {
			stale, ok := parseStale(n.Value)
			if !ok {
				d.fail(n, field, "want accept or refuse, and got %s", kindOf(n))
			}
			w.whenStale = stale
		},
	}, "whenStale")
	return w
}

func buildFromFile(where string, inCluster bool, config kubejwt.Config) (*kubejwt.Verifier, error) {
	build := kubejwt.New
	if inCluster {
		build = kubejwt.InCluster
	}
	v, err := build(config)
	if errors.Is(err, kubejwt.ErrNotInCluster) {
		return nil, usagef("%s: inCluster: this is no process in a pod: %s", where, inFields(err.Error()))
	}
	if err != nil {
		return nil, usagef("%s: %s", where, inFields(err.Error()))
	}
	return v, nil
}

// inFields puts the fields of the policy file in the place of the library's.
func inFields(text string) string {
	text = strings.NewReplacer("kubejwt: ", "", "Config.Keys: ", "", "RemoteKeys.", "", "Config.", "").Replace(text)
	for _, field := range []string{
		"FormerIssuers", "Issuer", "Audiences", "KeyFile", "DiscoveryURL", "CAFile", "BearerTokenFile", "SnapshotFile",
		"MaxStale", "Leeway", "MaxLifetime", "AcceptExtended", "RequirePod",
	} {
		text = strings.ReplaceAll(text, field, strings.ToLower(field[:1])+field[1:])
	}
	return strings.NewReplacer("JWKSURL", "jwksURL", "cAFile", "caFile").Replace(text)
}

func (d *decoder) policy(n *yaml.Node, field string) policy {
	p := policy{where: d.where(n, field)}
	d.object(n, field, yamlFields{
		"name":            d.text(&p.name),
		"audiences":       d.texts(&p.audiences),
		"serviceAccounts": d.texts(&p.accounts),
		"issuers":         d.texts(&p.issuers),
	}, "name", "audiences", "serviceAccounts")
	if p.name != "" && !policyName.MatchString(p.name) {
		d.fail(n, field+".name", "%s has to be of a-z, 0-9 and -", quoted(p.name))
	}
	for _, audience := range p.audiences {
		if !isHeaderText(audience) {
			d.fail(n, field+".audiences", "%s has to fit into a header: printable ASCII", quoted(audience))
		}
	}
	return p
}

// yamlFields say who reads which member of an object.
type yamlFields map[string]func(n *yaml.Node, field string)

func (d *decoder) object(n *yaml.Node, field string, known yamlFields, required ...string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, field, "want a mapping, and got %s", kindOf(n))
		return
	}
	seen := make(map[string]bool)
	for i := 0; i < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		inside := strings.TrimPrefix(field+"."+name.Value, ".")
		switch read := known[name.Value]; {
		case read == nil:
			d.fail(name, field, "there is no field %s: want %s", quoted(name.Value), strings.Join(sortedNames(known), ", "))
		case seen[name.Value]:
			d.fail(name, inside, "it is given twice")
		default:
			read(value, inside)
		}
		seen[name.Value] = true
	}
	for _, name := range required {
		if !seen[name] {
			d.fail(n, field, "%s is required", name)
		}
	}
}

func sortedNames(known yamlFields) (names []string) {
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (d *decoder) list(n *yaml.Node, field string, read func(n *yaml.Node, field string)) {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		d.fail(n, field, "want a list of one at least, and got %s", kindOf(n))
		return
	}
	for i, one := range n.Content {
		read(one, field+"["+strconv.Itoa(i)+"]")
	}
}

func (d *decoder) text(into *string) func(*yaml.Node, string) {
	return func(n *yaml.Node, field string) {
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" || n.Value == "" {
			d.fail(n, field, "want a string, and got %s", kindOf(n))
			return
		}
		*into = n.Value
	}
}

func (d *decoder) texts(into *[]string) func(*yaml.Node, string) {
	return func(n *yaml.Node, field string) {
		d.list(n, field, func(n *yaml.Node, field string) {
			var one string
			d.text(&one)(n, field)
			*into = append(*into, one)
		})
	}
}

func (d *decoder) boolean(into *bool) func(*yaml.Node, string) {
	return func(n *yaml.Node, field string) {
		if n.Kind != yaml.ScalarNode || n.Value != "true" && n.Value != "false" {
			d.fail(n, field, "want true or false, and got %s", kindOf(n))
			return
		}
		*into = n.Value == "true"
	}
}

func (d *decoder) duration(into *time.Duration) func(*yaml.Node, string) {
	return func(n *yaml.Node, field string) {
		length, err := time.ParseDuration(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil {
			d.fail(n, field, "want a duration as 90s or 24h, and got %s", kindOf(n))
			return
		}
		*into = length
	}
}

// kindOf says what stands in the place of something else.
func kindOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode && len(n.Content) == 0:
		return "an empty list"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.AliasNode:
		return "an alias, which this file can't have"
	case n.ShortTag() == "!!null":
		return "nothing"
	case n.ShortTag() == "!!str":
		return quoted(n.Value)
	default:
		return n.Value + ", which is no string: put it in quotes if it is meant as one"
	}
}
