package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
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
	d := decoder{path: path}
	documents := yaml.NewDecoder(bytes.NewReader(data))
	var document, another yaml.Node
	switch err := documents.Decode(&document); {
	case errors.Is(err, io.EOF), err == nil && len(document.Content) == 0:
		d.fail(&yaml.Node{Line: 1}, "", "want issuers and policies, and it is empty")
		return rules{}, d.err()
	case err != nil:
		return rules{}, notYAML(path, err)
	}
	switch err := documents.Decode(&another); {
	case err == nil:
		// It would be ignored.
		d.fail(&another, "", "want one document, and another begins here")
	case !errors.Is(err, io.EOF):
		return rules{}, notYAML(path, err)
	}
	found := d.rules(document.Content[0])
	return found, d.err()
}

// notYAML puts the line where other errors have it.
func notYAML(path string, err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if line, rest, ok := strings.Cut(text, ": "); ok && strings.HasPrefix(line, "line ") {
		path, text = path+":"+strings.TrimPrefix(line, "line "), rest
	}
	return usagef("%s: this is not YAML: %s", path, loggable(maxLoggedPath, text))
}

// decoder reads a tree of YAML nodes, and collects what is wrong with it.
type decoder struct {
	path string
	errs []string
}

// maxFileErrors is how many errors of one file are shown.
const maxFileErrors = 20

func (d *decoder) err() error {
	if d.errs == nil {
		return nil
	}
	shown := d.errs[:min(len(d.errs), maxFileErrors)]
	if more := len(d.errs) - len(shown); more > 0 {
		shown = append(slices.Clone(shown), fmt.Sprintf("%s: and %d more", d.path, more))
	}
	return usagef("%s", strings.Join(shown, "\n"))
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
	d.checkNames(r)
	return r
}

// checkNames finds what is named twice, and policies whose issuers are not there.
func (d *decoder) checkNames(r rules) {
	complain := func(where, format string, args ...any) {
		d.errs = append(d.errs, where+": "+fmt.Sprintf(format, args...))
	}
	issuers, policies := make(map[string]string), make(map[string]string)
	for _, i := range r.issuers {
		if before := issuers[i.name]; before != "" && i.name != "" {
			complain(i.where, "the issuer %s is named before, at %s", quoted(i.name), before)
		}
		issuers[i.name] = i.where
	}
	for _, p := range r.policies {
		if before := policies[p.name]; before != "" && p.name != "" {
			complain(p.where, "the policy %s is named before, at %s", quoted(p.name), before)
		}
		policies[p.name] = p.where
		for _, name := range p.issuers {
			if issuers[name] == "" {
				complain(p.where, "issuers: %s is not among the issuers of this file", quoted(name))
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
		d.fail(n, field, "keyFile can't be combined with inCluster, jwksURL, discoveryURL, caFile, bearerTokenFile, "+
			"snapshotFile and maxStale are for keys that are fetched")
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
	found := issuer{where: d.where(n, field), name: issuerName(config.Issuer), config: config, watch: watch}
	found.build = func(config kubejwt.Config) (*kubejwt.Verifier, error) {
		return buildFromFile(found.where, inCluster, config)
	}
	return found
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
		return nil, usagef("%s: inCluster: this process does not run in a pod: KUBERNETES_SERVICE_HOST and "+
			"KUBERNETES_SERVICE_PORT are not both set. Outside a pod use issuer and keyFile. "+
			"To -check the file of a pod, set them to 127.0.0.1 and 443", where)
	}
	if err != nil {
		return nil, usagef("%s: %s", where, inFields(err.Error()))
	}
	return v, nil
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
		d.fail(n, field+".name", "%s: want a-z, 0-9 and - only", quoted(p.name))
	}
	for _, audience := range p.audiences {
		if !isHeaderText(audience) {
			d.fail(n, field+".audiences", "%s: want printable ASCII, which fits into a header", quoted(audience))
		}
	}
	return p
}

// yamlFields has the function that reads each member of an object.
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
			names := strings.Join(slices.Sorted(maps.Keys(known)), ", ")
			d.fail(name, field, "there is no field %s: want %s", quoted(name.Value), names)
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
		isText := n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str"
		switch {
		case isText && n.Value != "":
			*into = n.Value
		case n.Kind == yaml.ScalarNode && !isText && n.ShortTag() != "!!null":
			d.fail(n, field, "want a string, and got %s: if it is meant as one, put it in quotes", kindOf(n))
		default:
			d.fail(n, field, "want a string, and got %s", kindOf(n))
		}
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
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || n.Value != "true" && n.Value != "false" {
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

// kindOf describes what was found where something else was expected.
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
		return bare(n.Value)
	}
}
