package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// docs/command.md names the verbs, statuses and verdicts that there are, and
// files that exist.
func TestCommandPage(t *testing.T) {
	data, err := os.ReadFile(root + "/docs/command.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	for _, v := range verbs() {
		if !strings.Contains(page, "| `"+v.name+"` |") {
			t.Errorf("it does not tell of %s", v.name)
		}
	}
	flags := newFlagSet("verify")
	new(verifyFlags).define(flags)
	new(callFlags).define(newFlagSet("call"))
	for _, match := range regexp.MustCompile("`-([a-z-]+)").FindAllStringSubmatch(page, -1) {
		if name := match[1]; flags.Lookup(name) == nil && name != "interval" {
			t.Errorf("there is no flag -%s", name)
		}
	}
	for _, match := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(page, -1) {
		if _, err := os.Stat(root + "/docs/" + match[1]); err != nil {
			t.Error(err)
		}
	}
}
