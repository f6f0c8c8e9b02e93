package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/kubejwt/kubejwt"
)

// fieldsOf are the names of a struct's fields.
func fieldsOf(structure any) []string {
	var names []string
	for _, field := range reflect.VisibleFields(reflect.TypeOf(structure)) {
		names = append(names, field.Name)
	}
	return names
}

// withoutFlag are the fields that the command sets itself or leaves alone, so
// that no error that it can show names them.
func withoutFlag() map[string]bool {
	return map[string]bool{"CacheSize": true, "Logger": true, "Now": true, "Check": true, "OnVerdict": true, "Transport": true}
}

// libraryTexts are the string literals of the library's code.
func libraryTexts(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(root + "/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal("no library", err)
	}
	var texts []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		syntax, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(syntax, func(n ast.Node) bool {
			if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
				text, err := strconv.Unquote(literal.Value)
				if err != nil {
					t.Fatal(err)
				}
				texts = append(texts, text)
			}
			return true
		})
	}
	return texts
}

// Every field has a flag or is known to have none, and no error of the library
// names a field that the command could not put as a flag.
func TestFieldsHaveFlags(t *testing.T) {
	fields := append(fieldsOf(kubejwt.Config{}), fieldsOf(kubejwt.RemoteKeys{})...)
	for _, field := range fields {
		if (flagOf("verify", field) == "") != withoutFlag()[field] {
			t.Errorf("%s: the flag is %q: want one, or the field among those without", field, flagOf("verify", field))
		}
	}
	named := regexp.MustCompile(`(?:Config|RemoteKeys)\.([A-Z]\w*)`)
	bare := regexp.MustCompile(`\b(` + strings.Join(append(fields, "KeyFile", "PublicKeys"), "|") + `)\b`)
	seen := 0
	for _, text := range libraryTexts(t) {
		for _, match := range named.FindAllStringSubmatch(text, -1) {
			seen++
			if flagOf("verify", match[1]) == "" && !withoutFlag()[match[1]] {
				t.Errorf("%q: there is no flag for %s", text, match[1])
			}
		}
		if !strings.Contains(text, " ") {
			continue // a name, and no sentence
		}
		for _, left := range bare.FindAllString(inFlags("verify", text), -1) {
			if !withoutFlag()[left] {
				t.Errorf("%q is told as %q, which names %s", text, inFlags("verify", text), left)
			}
		}
	}
	if seen < 10 {
		t.Errorf("%d fields are named: are these the library's texts?", seen)
	}
	// And each flag is one of serve, which has all of verify but one.
	flags := newFlagSet("serve")
	new(serveFlags).define(flags)
	for _, field := range fields {
		flag := strings.TrimPrefix(flagOf("serve", field), "-")
		if flag != "" && field != "Keys" && flags.Lookup(flag) == nil {
			t.Errorf("serve has no flag -%s", flag)
		}
	}
}

func TestInFlags(t *testing.T) {
	for text, want := range map[string]string{
		"kubejwt: Config.Keys: RemoteKeys.CAFile: no": "-ca-file: no",
		"Config.Issuer, FormerIssuers: one is":        "-issuer, -former-issuer: one is",
		"needs an explicit MaxLifetime: such":         "needs an explicit -max-lifetime: such",
		`iss "Config.Issuer" of KeyFile.`:             `iss "Config.Issuer" of -key-file.`,
		"open /x/KeyFile: is (RemoteKeys.JWKSURL)?":   "open /x/KeyFile: is (-jwks-url)?",
		"are older than RemoteKeys.MaxStale":          "are older than -max-stale",
	} {
		if got := inFlags("verify", text); got != want {
			t.Errorf("%q is told as %q: want %q", text, got, want)
		}
	}
	if got := inFlags("serve", "Config.ServiceAccounts: is required"); got != "-policy: is required" {
		t.Errorf("in serve: %q", got)
	}
}

// A policy file has a field for each flag, which its JSON Schema knows.
func TestFieldsAreInTheFile(t *testing.T) {
	schema, err := os.ReadFile(root + "/docs/serve-config.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range append(fieldsOf(kubejwt.Config{}), fieldsOf(kubejwt.RemoteKeys{})...) {
		name := inFields(field)
		if field == "Keys" || withoutFlag()[field] {
			continue
		}
		if name == field || !strings.Contains(string(schema), `"`+name+`":`) {
			t.Errorf("%s is told as %s: want a field of the policy file", field, name)
		}
	}
}

// What is in quotes or in a path came from somebody else, and stays as it is.
func TestInFields(t *testing.T) {
	for text, want := range map[string]string{
		"kubejwt: Config.Keys: RemoteKeys.CAFile: no":         "caFile: no",
		"Config.Issuer, FormerIssuers: one is":                "issuer, formerIssuers: one is",
		`Config.Issuer: "https://Leeway.example/MaxStale"`:    `issuer: "https://Leeway.example/MaxStale"`,
		`the aud is "Audiences", "\"Config.Issuer\" JWKSURL"`: `the aud is "Audiences", "\"Config.Issuer\" JWKSURL"`,
		"open /x/KeyFile/CAFile: is (RemoteKeys.JWKSURL)?":    "open /x/KeyFile/CAFile: is (jwksURL)?",
		"Issuers and KeyFiles are words":                      "Issuers and KeyFiles are words",
		"are older than RemoteKeys.MaxStale":                  "are older than maxStale",
	} {
		if got := inFields(text); got != want {
			t.Errorf("%q is told as %q: want %q", text, got, want)
		}
	}
}
