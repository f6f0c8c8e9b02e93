package main

import (
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// maxQuoted bounds how much of a foreign value is shown.
const maxQuoted = 160

const withheld = "(withheld: it looks like a token)"

// withhold keeps a token that was given in the wrong place out of a message.
func withhold(text string) string {
	if looksLikeToken(text) {
		return "a value looks like a token, which is not what was expected there"
	}
	return text
}

// looksLikeToken reports whether s holds the start of a JWT's header or
// payload: {" in base64url, and not in the middle of a word like monkeyJobs.
func looksLikeToken(s string) bool {
	return regexp.MustCompile(`(^|[^A-Za-z0-9])eyJ|eyJ[A-Za-z0-9_-]{10}`).MatchString(s)
}

// bound shortens s to what is worth showing, and withholds what may be a token.
func bound(s string) string {
	switch {
	case looksLikeToken(s):
		return withheld
	case len(s) > maxQuoted:
		return strings.ToValidUTF8(s[:maxQuoted], "") + "..."
	default:
		return s
	}
}

// quote makes a foreign value fit for a terminal: no escape sequences, no
// letters that look like others.
func quote(s string) string {
	if s = bound(s); s == withheld {
		return s
	}
	return strconv.QuoteToASCII(s)
}

func quoteAll(values []string) string {
	var quoted []string
	for _, value := range values[:min(len(values), 8)] {
		quoted = append(quoted, quote(value))
	}
	if len(values) > len(quoted) {
		quoted = append(quoted, strconv.Itoa(len(values)-len(quoted))+" more")
	}
	return strings.Join(quoted, ", ")
}

// inFlags puts the names of flags in the place of the library's fields.
func inFlags(text string) string {
	text = strings.TrimPrefix(text, "kubejwt: ")
	return strings.NewReplacer(
		"Config.Issuer, FormerIssuers", "-issuer, -former-issuer",
		"Config.Issuer", "-issuer",
		"Config.FormerIssuers", "-former-issuer",
		"Config.Audiences", "-audience",
		"Config.ServiceAccounts", "-service-account",
		"Config.Leeway", "-leeway",
		"Config.MaxLifetime", "-max-lifetime",
		"Config.AcceptExtended", "-accept-extended",
		"an explicit MaxLifetime", "an explicit -max-lifetime",
		"Config.RequirePod", "-require-pod",
		"Config.Keys: KeyFile", "-key-file",
		"Config.Keys: PublicKeys", "-key-file",
		"Config.Keys: ", "",
		"a JWKSURL needs", "-jwks-url needs",
		"set Keys", "set -jwks-url, -discovery-url or -key-file",
		"RemoteKeys.DiscoveryURL", "-discovery-url",
		"RemoteKeys.JWKSURL", "-jwks-url",
		"RemoteKeys.CAFile", "-ca-file",
		"RemoteKeys.BearerTokenFile", "-bearer-token-file",
		"RemoteKeys.SnapshotFile", "-snapshot-file",
		"RemoteKeys.MaxStale", "-max-stale",
		"use KeyFile", "use -key-file",
	).Replace(text)
}

// palette is the colours of a terminal, all of one length, or none.
type palette struct{ green, red, grey, bold, off string }

func newPalette(p process) palette {
	if !isTerminal(p.stdout) || p.getenv("NO_COLOR") != "" {
		return palette{}
	}
	return palette{green: "\x1b[32m", red: "\x1b[31m", grey: "\x1b[90m", bold: "\x1b[1m", off: "\x1b[0m"}
}

func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull) // a device, and nobody reads it
	return err != nil || !os.SameFile(info, null)
}

// readAtMost reads a stream, and no more of it than fits.
func readAtMost(r io.Reader, size int64) ([]byte, error) {
	return io.ReadAll(io.LimitReader(r, size))
}
