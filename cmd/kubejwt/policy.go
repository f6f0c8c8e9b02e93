package main

import (
	"flag"
	"regexp"
	"strings"
)

const envPrefix = "KUBEJWT_"

// setFromEnvironment sets the flags that the command line does not.
func setFromEnvironment(flags *flag.FlagSet, environ []string) error {
	given := make(map[string]bool)
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		rest, ours := strings.CutPrefix(name, envPrefix)
		if !ours || value == "" {
			continue
		}
		f := flags.Lookup(strings.ReplaceAll(strings.ToLower(rest), "_", "-"))
		switch {
		case f == nil && isServiceLink(rest):
			continue
		case f == nil:
			return usagef("the environment has %s, and there is no such flag", quoted(name))
		case given[f.Name]:
			continue
		}
		values := []string{value}
		if isRepeatable(f) {
			values = strings.Fields(value)
		}
		for _, one := range values {
			if err := flags.Set(f.Name, one); err != nil {
				return usagef("%s: %s: %v", name, quoted(one), err)
			}
		}
	}
	return nil
}

func isRepeatable(f *flag.Flag) bool {
	switch f.Value.(type) {
	case *list, *policies:
		return true
	default:
		return false
	}
}

// isServiceLink reports whether Kubernetes sets the variable KUBEJWT_<rest> in the pods
// of a namespace that has a Service whose name is, or starts with, kubejwt.
func isServiceLink(rest string) bool {
	return regexp.MustCompile(`^(.*_)?(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_.*)?)$`).MatchString(rest)
}
