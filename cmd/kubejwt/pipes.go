package main

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// maxPipe is far above the size that any of the files may have.
const maxPipe = 4 << 20

// keepPipes lets flags name a pipe, such as <(command) in a shell. A pipe can be read
// only once, and the library reads files again and again. So its content is copied into
// a file that only the user can read, and the flag names that. The caller calls remove
// at the end.
func keepPipes(ctx context.Context, flags *flag.FlagSet, names ...string) (remove func(), err error) {
	folder := ""
	remove = func() {
		if folder != "" {
			os.RemoveAll(folder)
		}
	}
	for _, name := range names {
		path := flags.Lookup(name).Value.String()
		info, err := os.Stat(path)
		if path == "" || err != nil || info.Mode().IsRegular() || info.IsDir() {
			continue // whoever reads it says what is wrong with it
		}
		data, err := interruptible(ctx, func() ([]byte, error) { return readFile(path, maxPipe) })
		if errors.Is(err, errInterrupted) {
			return remove, err
		}
		if err != nil {
			return remove, usagef("-%s: %v", name, err)
		}
		if folder == "" {
			if folder, err = os.MkdirTemp("", "kubejwt-"); err != nil {
				return remove, usagef("-%s: a pipe is copied into a file: %v", name, err)
			}
		}
		copied := filepath.Join(folder, name)
		if err := os.WriteFile(copied, data, 0o600); err != nil {
			return remove, usagef("-%s: a pipe is copied into a file: %v", name, err)
		}
		if err := flags.Set(name, copied); err != nil {
			return remove, usagef("-%s: %v", name, err)
		}
	}
	return remove, nil
}

// namePipes puts "a pipe" in the place of the copies that keepPipes made: nobody
// gave these paths, and the files are gone when the message is read.
func namePipes(text string) string {
	folder := strings.ToValidUTF8(os.TempDir(), "") // no expression can hold anything else
	prefix := filepath.Join(folder, "kubejwt-")
	if !strings.Contains(text, prefix) {
		return text
	}
	copies := regexp.MustCompile(regexp.QuoteMeta(prefix) + `\d+/[a-z-]+`)
	return copies.ReplaceAllString(text, "a pipe")
}
