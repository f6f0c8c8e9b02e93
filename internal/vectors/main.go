// Vectors writes the attack corpus, testdata/vectors: one fact per file. It is
// deterministic, so generating again changes nothing:
//
//	go run ./internal/vectors
//	go run ./internal/vectors -check
//
// It signs with keys that are used for nothing else. Only this program and the test
// kit sign at all.
package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	folder := flag.String("folder", "testdata/vectors", "where the corpus is")
	check := flag.Bool("check", false, "write nothing, and fail if the corpus is not what would be written")
	flag.Parse()
	if err := run(*folder, *check); err != nil {
		fmt.Fprintln(os.Stderr, "vectors:", err)
		os.Exit(1)
	}
}

func run(folder string, check bool) error {
	files, err := corpus()
	if err != nil {
		return err
	}
	if check {
		return compare(folder, files)
	}
	return write(folder, files)
}

// corpus is every file of the folder, by its path in it.
func corpus() (map[string]string, error) {
	files := make(map[string]string)
	k := newKeys()
	for name, text := range k.sets() {
		files["keys/"+name] = text
	}
	for _, t := range []table{
		form(), header(), algorithm(k), signature(k), payload(), registered(), kubernetes(),
	} {
		if err := t.render(k, files); err != nil {
			return nil, err
		}
	}
	for _, d := range slices.Concat(keySets(k), discoveryDocuments()) {
		if err := d.render(files); err != nil {
			return nil, err
		}
	}
	return files, nil
}

func write(folder string, files map[string]string) error {
	for _, name := range stale(folder, files) {
		if err := os.Remove(filepath.Join(folder, name)); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(folder, "keys"), 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func compare(folder string, files map[string]string) error {
	if names := stale(folder, files); len(names) > 0 {
		return fmt.Errorf("%s is not generated", strings.Join(names, ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		have, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return err
		}
		if string(have) != files[name] {
			return fmt.Errorf("%s is not what is generated: go run ./internal/vectors", name)
		}
	}
	return nil
}

// stale are the files in folder that are not among files, except the README.
func stale(folder string, files map[string]string) []string {
	var names []string
	for _, pattern := range []string{"*", "keys/*"} {
		found, _ := filepath.Glob(filepath.Join(folder, pattern))
		for _, path := range found {
			name, _ := filepath.Rel(folder, path)
			name = filepath.ToSlash(name)
			if _, ok := files[name]; !ok && name != "README.md" && name != "keys" {
				names = append(names, name)
			}
		}
	}
	return names
}
