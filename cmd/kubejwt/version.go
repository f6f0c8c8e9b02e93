package main

import (
	"context"
	"flag"
	"fmt"
	"runtime/debug"
)

const versionHelp = `usage: kubejwt version

Prints the version of the command, the commit it was built from if that is
known, and the version of Go that built it.

    go run ./cmd/kubejwt version
`

func runVersion(_ context.Context, p process, flags *flag.FlagSet, args []string) error {
	rest, err := parse(flags, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return usagef("it takes no arguments")
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		fmt.Fprintln(p.stdout, "kubejwt, of a version that is not recorded in it")
		return nil
	}
	fmt.Fprintf(p.stdout, "kubejwt %s%s, built with %s\n", info.Main.Version, commitOf(info), info.GoVersion)
	return nil
}

func commitOf(info *debug.BuildInfo) string {
	settings := make(map[string]string)
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if settings["vcs.revision"] == "" {
		return ""
	}
	commit := ", commit " + settings["vcs.revision"]
	if settings["vcs.modified"] == "true" {
		commit += " with changes"
	}
	return commit
}
