package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/kubejwt/kubejwt"
)

// rules say whose tokens pass which policy. They come from the flags or a policy file.
type rules struct {
	issuers  []issuer
	policies []policy
}

// issuer is a cluster whose tokens are good.
type issuer struct {
	where  string         // in which flags or lines it is written, for errors
	name   string         // its iss, or in-cluster where that is to be learnt
	config kubejwt.Config // without Audiences and ServiceAccounts
	build  func(kubejwt.Config) (*kubejwt.Verifier, error)
	watch  *watchOptions // nil: deletions are not seen
}

// policy says who passes /auth/<name>.
type policy struct {
	where     string // as of an issuer
	name      string
	audiences []string
	accounts  []string
	issuers   []string // names; nil: all
}

// concerns reports whether tokens of an issuer can pass the policy.
func (p policy) concerns(i issuer) bool {
	return p.issuers == nil || slices.Contains(p.issuers, i.name)
}

var policyName = regexp.MustCompile(`^[a-z0-9-]+$`)

// policies is the flag -policy.
type policies []policy

func (p *policies) String() string {
	var all []string
	for _, one := range *p {
		name := one.name
		for _, audience := range one.audiences {
			name += "@" + audience
		}
		all = append(all, name+"="+strings.Join(one.accounts, ","))
	}
	return strings.Join(all, " ")
}

// Set reads NAME@AUDIENCE=ns/sa,ns/*. An audience may contain = and @, which
// names and accounts do not.
func (p *policies) Set(value string) error {
	cut := strings.LastIndexByte(value, '=')
	if cut < 0 || cut == len(value)-1 {
		return errors.New("want NAME=ns/sa,ns/* or NAME@AUDIENCE=ns/sa,ns/*")
	}
	name, audience, hasAudience := strings.Cut(value[:cut], "@")
	switch {
	case !policyName.MatchString(name):
		return errors.New("the name may have a-z, 0-9 and - only")
	case hasAudience && audience == "":
		return errors.New("the audience after @ is empty")
	case slices.ContainsFunc(*p, func(other policy) bool { return other.name == name }):
		return errors.New("there is a policy of this name: list all service accounts in one")
	}
	one := policy{where: "-policy " + name, name: name, accounts: strings.Split(value[cut+1:], ",")}
	if hasAudience {
		one.audiences = []string{audience}
	}
	*p = append(*p, one)
	return nil
}

// rules returns the rules of the policy file, or those of the flags without one. The
// file's content is returned as well, to compare a later one with.
func (f *serveFlags) rules(flags *flag.FlagSet) (r rules, data []byte, err error) {
	if f.configFile == "" {
		r, err = f.flagRules()
		return r, nil, err
	}
	if err := f.refuseRuleFlags(flags); err != nil {
		return rules{}, nil, err
	}
	if data, err = readFile(f.configFile, maxRulesFile+1); err != nil {
		return rules{}, nil, fmt.Errorf("-config: %w", err)
	}
	r, err = parseRules(f.configFile, data)
	return r, data, err
}

// refuseRuleFlags refuses flags that say what the policy file says.
func (f *serveFlags) refuseRuleFlags(flags *flag.FlagSet) (err error) {
	taken := flag.NewFlagSet("", flag.ContinueOnError)
	new(serveFlags).defineRules(taken)
	flags.Visit(func(given *flag.Flag) {
		if taken.Lookup(given.Name) != nil {
			err = usagef("-config and -%s: the file has that: give one of them", given.Name)
		}
	})
	return err
}

func (f *serveFlags) flagRules() (rules, error) {
	if len(f.policies) == 0 {
		if err := f.trust.check(); err != nil {
			return rules{}, err
		}
		return rules{}, usagef("-policy is required: NAME=ns/sa,ns/*, which is served at /auth/NAME")
	}
	policies, err := f.withAudiences()
	if err != nil {
		return rules{}, err
	}
	trust := f.trust
	trust.audiences = policies[0].audiences // all have some: check asks for no more
	if err := trust.check(); err != nil {
		return rules{}, err
	}
	if f.keyFile != "" && (f.snapshotFile != "" || f.maxStale != 0) {
		return rules{}, usagef("-snapshot-file and -max-stale are for keys that are fetched: -key-file needs neither")
	}
	config := f.config()
	if f.keyFile != "" {
		if err := checkKeyFile(context.Background(), f.keyFile); err != nil {
			return rules{}, err
		}
		config.Keys = kubejwt.KeyFile(f.keyFile)
	} else {
		keys := f.remoteKeys()
		keys.SnapshotFile, keys.MaxStale = f.snapshotFile, f.maxStale
		config.Keys = keys
	}
	watch, err := f.watching.options(f.inCluster, f.remoteKeys())
	if err != nil {
		return rules{}, err
	}
	only := issuer{where: "-watch", watch: watch, name: issuerName(f.issuer), config: config, build: f.trust.verifier}
	return rules{[]issuer{only}, policies}, nil
}

func issuerName(iss string) string {
	if iss == "" {
		return "in-cluster"
	}
	return iss
}

// withAudiences gives each policy the -audience, if there is just one. If all
// policies shared two, the service behind one could use its callers' tokens at the
// other.
func (f *serveFlags) withAudiences() ([]policy, error) {
	all := slices.Clone(f.policies)
	if err := f.checkAudiences(); err != nil {
		return nil, err
	}
	var used []string
	for i := range all {
		p := &all[i]
		switch {
		case p.audiences == nil && len(f.audiences) > 1:
			return nil, usagef("-policy %s: there are several audiences, so each policy has to name its own, "+
				"as in -policy %s@%s=ns/sa: if all policies shared them, a service could use its callers' tokens "+
				"at another service", p.name, p.name, f.audiences[0])
		case p.audiences == nil && len(f.audiences) == 0:
			return nil, usagef("-audience is required: the name of the service that tokens are for, "+
				"as in the caller's projected volume (or -policy %s@AUDIENCE=ns/sa)", p.name)
		case p.audiences == nil:
			p.audiences = f.audiences
		}
		used = append(used, p.audiences...)
	}
	for _, audience := range f.audiences {
		if !slices.Contains(used, audience) {
			return nil, usagef("-audience %s: every policy names another audience", quoted(audience))
		}
	}
	return all, nil
}

func (f *serveFlags) checkAudiences() error {
	all := slices.Clone(f.audiences)
	for _, one := range f.policies {
		all = append(all, one.audiences...)
	}
	for _, audience := range all {
		if !isHeaderText(audience) {
			return usagef("-audience %s: want printable ASCII, which fits into a header", quoted(audience))
		}
	}
	return nil
}

func isHeaderText(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// checkTokenHeader refuses names under which no token of a client can arrive.
func checkTokenHeader(name string) error {
	const other = "want another one, such as X-Client-Id"
	// To many programs Content_Length is the same name as Content-Length.
	canonical := http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
	switch {
	case !isHeaderName(name):
		return usagef("-token-header %s: want the name of a header, such as X-Client-Id", quoted(name))
	case canonical == "Cookie":
		return usagef("-token-header %s: cookies are pairs of name and value, and the header must hold "+
			"only a token: %s", quoted(name), other)
	case strings.HasPrefix(canonical, "Kubejwt-"):
		return usagef("-token-header %s: serve sets the Kubejwt- headers, and proxies discard a client's: %s",
			quoted(name), other)
	case slices.Contains(headersOfProxies(), canonical):
		return usagef("-token-header %s: proxies and servers write or remove this header themselves: %s",
			quoted(name), other)
	}
	return nil
}

// headersOfProxies are those that belong to one connection, and those with which
// nginx, Caddy, Traefik and Envoy describe their client's request.
func headersOfProxies() []string {
	return []string{
		"Connection", "Content-Length", "Expect", "Host", "Keep-Alive", "Proxy-Connection", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade",
		"Forwarded", "Via", "X-Forwarded-Client-Cert", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Method",
		"X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Proto", "X-Forwarded-Server", "X-Forwarded-Uri",
		"X-Original-Method", "X-Original-Uri", "X-Original-Url", "X-Real-Ip", "X-Request-Id",
	}
}

// isHeaderName reports whether s can name a header (RFC 9110, section 5.6.2).
func isHeaderName(s string) bool {
	return regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$").MatchString(s)
}

// key is equal for two issuers with the same settings and audiences. Then the Verifier
// and its keys are kept when the policy file changes.
func (i issuer) key(audiences []string) string {
	return fmt.Sprintf("%s %q %#v", i.name, audiences, i.config)
}
