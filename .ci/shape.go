// Shape prints what a reader of the root package has to keep in mind, its
// unexported package-level names, and the lines of code that are too long. It
// fails for neither.
//
//	go run .ci/shape.go
package main

import (
	"bufio"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	mostNames   = 70
	mostColumns = 120
	tabColumns  = 4
)

func main() {
	log.SetFlags(0)
	names, err := unexported(".")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d unexported package-level names in the root package, of at most %d:\n%s\n",
		len(names), mostNames, strings.Join(names, " "))
	// The tables of internal/vectors have a vector a line.
	out, err := exec.Command("git", "ls-files", "*.go", ":!internal/vectors").Output()
	if err != nil {
		log.Fatal(err)
	}
	count := 0
	for _, path := range strings.Fields(string(out)) {
		long, err := tooLong(path)
		if err != nil {
			log.Fatal(err)
		}
		if len(long) > 0 && !strings.HasSuffix(path, "_test.go") {
			fmt.Println(path+":", strings.Trim(fmt.Sprint(long), "[]"))
			count += len(long)
		}
	}
	fmt.Printf("%d lines over %d columns outside of tests\n", count, mostColumns)
}

// unexported are the names that a package declares for itself, its tests apart.
func unexported(folder string) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		return nil, err
	}
	var names []string
	note := func(name *ast.Ident) {
		if !name.IsExported() && name.Name != "_" {
			names = append(names, name.Name)
		}
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, decl := range file.Decls {
			declared(decl, note)
		}
	}
	slices.Sort(names)
	return names, nil
}

// declared notes what a declaration names.
func declared(decl ast.Decl, note func(*ast.Ident)) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil {
			note(d.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				note(s.Name)
			case *ast.ValueSpec:
				for _, name := range s.Names {
					note(name)
				}
			}
		}
	}
}

// tooLong returns the numbers of the lines of a file that are too long.
func tooLong(path string) ([]int, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var long []int
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 1<<20)
	for line := 1; scanner.Scan(); line++ {
		tabs := strings.Count(scanner.Text(), "\t")
		if utf8.RuneCountInString(scanner.Text())+(tabColumns-1)*tabs > mostColumns {
			long = append(long, line)
		}
	}
	return long, scanner.Err()
}
