package main

import (
	"regexp"
	"strings"
)

// flagOf names the flag of a verb that sets a field of the library's, "" if
// there is none. The library's errors name its fields. Whoever runs the command
// knows only the flags.
func flagOf(verb, field string) string {
	if verb == "serve" && field == "ServiceAccounts" {
		return "-policy"
	}
	return fieldFlags[field]
}

// What inFlags needs. It is not made anew with each line: at Debug, serve logs one
// for each refused token.
var (
	keysField    = regexp.MustCompile(`\bConfig\.Keys: (RemoteKeys\.|KeyFile|PublicKeys)`)
	fieldOrQuote = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|[^\s"(),:]+`)

	fieldFlags = map[string]string{
		"Issuer":          "-issuer",
		"FormerIssuers":   "-former-issuer",
		"Audiences":       "-audience",
		"ServiceAccounts": "-service-account",
		"Leeway":          "-leeway",
		"MaxLifetime":     "-max-lifetime",
		"AcceptExtended":  "-accept-extended",
		"RequirePod":      "-require-pod",
		"InCluster":       "-in-cluster",
		"Keys":            "-key-file, -jwks-url or -discovery-url",
		"KeyFile":         "-key-file",
		"PublicKeys":      "-key-file",
		"DiscoveryURL":    "-discovery-url",
		"JWKSURL":         "-jwks-url",
		"CAFile":          "-ca-file",
		"BearerTokenFile": "-bearer-token-file",
		"SnapshotFile":    "-snapshot-file",
		"MaxStale":        "-max-stale",
		"TokenFile":       "-token-file",
	}
)

// inFlags replaces the library's field names with the names of a verb's flags, except
// in quotes and in paths, which come from somebody else.
func inFlags(verb, text string) string {
	text = namePipes(strings.ReplaceAll(text, "kubejwt: ", ""))
	// In "Config.Keys: RemoteKeys.CAFile: …" the second name is the flag.
	text = keysField.ReplaceAllString(text, "$1")
	return fieldOrQuote.ReplaceAllStringFunc(text, func(word string) string {
		field := strings.TrimRight(word, ".;?")
		name := field
		for _, structure := range []string{"Config.", "RemoteKeys."} {
			name = strings.TrimPrefix(name, structure)
		}
		if flag := flagOf(verb, name); flag != "" {
			return flag + word[len(field):]
		}
		return word
	})
}
