package main

import (
	"regexp"
	"strings"
)

// settingName is how users of the command know a field of the library's: as a flag, and
// as a field of the policy file.
type settingName struct{ flag, file string }

// flagOf names the flag of a verb that sets a field of the library's, "" if
// there is none.
func flagOf(verb, field string) string {
	if verb == "serve" && field == "ServiceAccounts" {
		return "-policy"
	}
	return settingNames[field].flag
}

// What reword needs. It is not made anew with each line: at Debug, serve logs one
// for each refused token.
var (
	keysField    = regexp.MustCompile(`\bConfig\.Keys: (RemoteKeys\.|KeyFile|PublicKeys)`)
	fieldOrQuote = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|[^\s"(),:]+`)

	settingNames = map[string]settingName{
		"Issuer":          {"-issuer", "issuer"},
		"FormerIssuers":   {"-former-issuer", "formerIssuers"},
		"Audiences":       {"-audience", "audiences"},
		"ServiceAccounts": {"-service-account", "serviceAccounts"},
		"Leeway":          {"-leeway", "leeway"},
		"MaxLifetime":     {"-max-lifetime", "maxLifetime"},
		"AcceptExtended":  {"-accept-extended", "acceptExtended"},
		"RequirePod":      {"-require-pod", "requirePod"},
		"InCluster":       {"-in-cluster", "inCluster"},
		"Keys":            {"-key-file, -jwks-url or -discovery-url", "keyFile, jwksURL or discoveryURL"},
		"KeyFile":         {"-key-file", "keyFile"},
		"PublicKeys":      {"-key-file", "keyFile"},
		"DiscoveryURL":    {"-discovery-url", "discoveryURL"},
		"JWKSURL":         {"-jwks-url", "jwksURL"},
		"CAFile":          {"-ca-file", "caFile"},
		"BearerTokenFile": {"-bearer-token-file", "bearerTokenFile"},
		"SnapshotFile":    {"-snapshot-file", "snapshotFile"},
		"MaxStale":        {"-max-stale", "maxStale"},
		"TokenFile":       {"-token-file", ""},
	}
)

// inFlags replaces the library's field names with the names of a verb's flags.
func inFlags(verb, text string) string {
	return reword(namePipes(text), func(field string) string { return flagOf(verb, field) })
}

// inFields replaces the library's field names with those of the policy file.
func inFields(text string) string {
	return reword(text, func(field string) string { return settingNames[field].file })
}

// reword replaces the library's field names with what nameOf returns for them, unless
// that is "". It leaves quotes and paths alone: they come from somebody else.
func reword(text string, nameOf func(field string) string) string {
	text = strings.ReplaceAll(text, "kubejwt: ", "")
	// In "Config.Keys: RemoteKeys.CAFile: …" the second name is the setting.
	text = keysField.ReplaceAllString(text, "$1")
	return fieldOrQuote.ReplaceAllStringFunc(text, func(word string) string {
		field := strings.TrimRight(word, ".;?")
		name := field
		for _, structure := range []string{"Config.", "RemoteKeys."} {
			name = strings.TrimPrefix(name, structure)
		}
		if known := nameOf(name); known != "" {
			return known + word[len(field):]
		}
		return word
	})
}
