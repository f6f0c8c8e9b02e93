package main

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// A page keeps to its width unless a word is wider, and has no empty lines that
// nobody asked for.
func TestPage(t *testing.T) {
	const long = "a-word-that-is-wider-than-the-page-is-and-stands-alone"
	for name, test := range map[string]struct {
		add  func(*page)
		want string
	}{
		"short":              {func(p *page) { p.add(span{plain, "text"}, span{plain, "head  "}) }, "head  text"},
		"wrapped":            {func(p *page) { p.add(span{plain, "some words that take two lines"}, span{plain, "head  "}) }, "head  some words that take two\n      lines"},
		"hanging":            {func(p *page) { p.addHanging(2, span{plain, "some words that take two lines"}, span{plain, "head  "}) }, "head  some words that take two\n  lines"},
		"a long word":        {func(p *page) { p.add(span{plain, long}, span{plain, "head  "}) }, "head\n    " + long},
		"after words":        {func(p *page) { p.add(span{plain, "see " + long + " there"}, span{plain, "head  "}) }, "head  see\n    " + long + "\n    there"},
		"two long ones":      {func(p *page) { p.add(span{plain, long + " " + long}, span{plain, "head  "}) }, "head\n    " + long + "\n    " + long},
		"no head to be seen": {func(p *page) { p.add(span{plain, long}, span{plain, "      "}) }, "    " + long},
		"a mark is seen":     {func(p *page) { p.add(span{plain, long}, span{style: passMark}, span{plain, "     "}) }, "✓\n    " + long},
		"no text":            {func(p *page) { p.add(span{}, span{plain, "head  "}) }, "head"},
	} {
		p := &page{width: 30}
		test.add(p)
		var out strings.Builder
		if err := newScreen(&out).printStyled(p.lines, palette{}); err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimRight(out.String(), "\n"); strings.ReplaceAll(got, " \n", "\n") != test.want {
			t.Errorf("%s:\n%s\nwant:\n%s", name, got, test.want)
		}
		for line := range strings.Lines(out.String()) {
			if utf8.RuneCountInString(line) > 31 && !strings.Contains(line, long) {
				t.Errorf("%s: a line of %d columns: %s", name, utf8.RuneCountInString(line)-1, line)
			}
		}
	}
}
