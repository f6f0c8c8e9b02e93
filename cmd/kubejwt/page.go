package main

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/term"
)

const (
	pageWidth    = 80 // where there is no terminal to ask
	minPageWidth = 40
	maxPageWidth = 120 // longer lines are hard to read
)

// A page is lines of text, wrapped to a width.
type page struct {
	width int
	mark  string // stands before each line; none if it is empty
	lines [][]span
}

// newPage returns an empty page as wide as the terminal.
func newPage(p process) *page {
	if columns, err := strconv.Atoi(p.getenv("COLUMNS")); err == nil && columns > 0 {
		return &page{width: min(max(columns, minPageWidth), maxPageWidth)}
	}
	to := p.stdout
	if s, ok := to.(*screen); ok {
		to = s.to
	}
	if file, ok := to.(*os.File); ok {
		if columns, _, err := term.GetSize(int(file.Fd())); err == nil && columns > 0 {
			return &page{width: min(max(columns, minPageWidth), maxPageWidth)}
		}
	}
	return &page{width: pageWidth}
}

func (p *page) print(to process) error {
	return newScreen(to.stdout).printStyled(p.lines, newPalette(to))
}

// skip adds an empty line.
func (p *page) skip() { p.lines = append(p.lines, nil) }

// addVerbatim adds a line that people copy. It is never wrapped.
func (p *page) addVerbatim(text string) { p.lines = append(p.lines, []span{{plain, text}}) }

// add adds a text after a head of spans. If it is wrapped, the further lines start below
// the text.
func (p *page) add(text span, head ...span) { p.addHanging(widthOf(head), text, head...) }

// addHanging is add, but wrapped lines start at an indent.
func (p *page) addHanging(indent int, text span, head ...span) {
	var line []string
	flush := func() {
		spans := append([]span{{faint, p.mark}}, head...)
		if len(line) > 0 {
			spans = append(spans, span{text.style, strings.Join(line, " ")})
		} else if last := len(spans) - 1; spans[last].style < passMark {
			spans[last].text = strings.TrimRight(spans[last].text, " ")
		}
		p.lines = append(p.lines, spans)
		head, line = []span{{plain, strings.Repeat(" ", indent)}}, nil
	}
	used := len(p.mark) + widthOf(head)
	for _, word := range strings.Fields(toASCII(text.text)) {
		if len(line) > 0 && used+1+len(word) > p.width {
			flush()
			used = len(p.mark) + indent
		}
		if len(line) == 0 && used+len(word) > p.width && indent > shortIndent {
			// Better a line of its own than one that the terminal breaks.
			indent = shortIndent
			if !isBlank(head) {
				flush()
			}
			head, used = []span{{plain, strings.Repeat(" ", indent)}}, len(p.mark)+indent
		}
		if len(line) > 0 {
			used++
		}
		line = append(line, word)
		used += len(word)
	}
	flush()
}

// isBlank reports whether nothing in a head is visible.
func isBlank(head []span) bool {
	isSeen := func(s span) bool { return s.style >= passMark || strings.TrimSpace(s.text) != "" }
	return !slices.ContainsFunc(head, isSeen)
}

const shortIndent = 4

func widthOf(spans []span) int {
	width := 0
	for _, s := range spans {
		width += s.width()
	}
	return width
}

// pad fills text up to a column.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(width-len(text), 0))
}
