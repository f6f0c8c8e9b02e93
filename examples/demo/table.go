package main

import (
	"fmt"
	"io"
	"os"
)

// table prints rows, in colour on a terminal.
type table struct {
	out        io.Writer
	green, red string
	off        string
}

func newTable(out io.Writer) *table {
	t := &table{out: out}
	if isTerminal(out) && os.Getenv("NO_COLOR") == "" {
		t.green, t.red, t.off = "\x1b[32m", "\x1b[31m", "\x1b[0m"
	}
	fmt.Fprintf(out, "     %-6s  %-54s  %s\n", "STATUS", "WHO CALLS", "THE ANSWER")
	return t
}

func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// row prints one, and reports whether it is as it should be.
func (t *table) row(what string, want, got int, answer string) bool {
	mark, colour := "ok ", t.green
	if got != want {
		mark, colour = "BAD", t.red
		answer = fmt.Sprintf("want %d: %s", want, answer)
	}
	fmt.Fprintf(t.out, "%s%s%s  %-6d  %-54s  %s\n", colour, mark, t.off, got, what, answer)
	return got == want
}
