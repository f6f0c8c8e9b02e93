package main

import (
	"regexp"
	"strings"
)

// flagOf names the flag of a verb that sets a field of the library's, "" if
// there is none. The library speaks of its fields, and who runs the command
// knows flags alone.
func flagOf(verb, field string) string {
	if verb == "serve" && field == "ServiceAccounts" {
		return "-policy"
	}
	return map[string]string{
		"Issuer":          "-issuer",
		"FormerIssuers":   "-former-issuer",
		"Audiences":       "-audience",
		"ServiceAccounts": "-service-account",
		"Leeway":          "-leeway",
		"MaxLifetime":     "-max-lifetime",
		"AcceptExtended":  "-accept-extended",
		"RequirePod":      "-require-pod",
		"KeyFile":         "-key-file",
		"PublicKeys":      "-key-file",
		"DiscoveryURL":    "-discovery-url",
		"JWKSURL":         "-jwks-url",
		"CAFile":          "-ca-file",
		"BearerTokenFile": "-bearer-token-file",
		"SnapshotFile":    "-snapshot-file",
		"MaxStale":        "-max-stale",
		"Keys":            "-key-file or -jwks-url",
	}[field]
}

// inFlags puts the names of a verb's flags in the place of the library's
// fields.
func inFlags(verb, text string) string {
	text = strings.TrimPrefix(text, "kubejwt: ")
	// Config.Keys: RemoteKeys.CAFile: … is about one flag.
	text = regexp.MustCompile(`\bConfig\.Keys: (\w+)`).ReplaceAllString(text, "$1")
	return regexp.MustCompile(`\b(?:Config\.|RemoteKeys\.)?[A-Z]\w+\b`).ReplaceAllStringFunc(text, func(name string) string {
		field := name[strings.LastIndexByte(name, '.')+1:]
		if flag := flagOf(verb, field); flag != "" && (field != name || isCompound(field)) {
			return flag
		}
		return name
	})
}

// isCompound reports whether a bare name can be nothing but a field: Keys and
// Issuer are words too.
func isCompound(field string) bool {
	return regexp.MustCompile(`^[A-Z]+[a-z]+[A-Z]|^JWKS`).MatchString(field)
}
