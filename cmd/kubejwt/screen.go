package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// A screen is a stream that the command prints to. Everything that is printed goes
// through it. A terminal acts on escape sequences, and letters that look like others or
// run from right to left deceive a reader. So only printable ASCII, line breaks and tabs
// are let through. The marks and colours of a styled text are added after that.
type screen struct{ to io.Writer }

// newScreen returns to, or a screen on it.
func newScreen(to io.Writer) *screen {
	if s, ok := to.(*screen); ok {
		return s
	}
	return &screen{to}
}

func (s *screen) Write(data []byte) (int, error) {
	if _, err := io.WriteString(s.to, toASCII(string(data))); err != nil {
		return 0, err
	}
	return len(data), nil
}

// toASCII escapes everything except printable ASCII, line breaks and tabs, as JSON does
// in strings. JSON keeps its meaning that way.
func toASCII(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\n', r == '\t', ' ' <= r && r <= '~':
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// complain prints a message on one line. With a line break in it, from a file name for
// instance, it would look like two messages.
func complain(to io.Writer, verb, text string) {
	text = strings.NewReplacer("\r\n", "; ", "\n", "; ", "\t", " ").Replace(withhold(namePipes(text)))
	fmt.Fprintf(newScreen(to), "kubejwt %s: %s\n", verb, shorten(toASCII(text)))
}

// strayLog receives the log of a package that does not use the command's own
// logger. Its text may come from a stranger.
type strayLog struct{ to io.Writer }

func (l strayLog) Write(line []byte) (int, error) {
	complain(l.to, "log", strings.TrimSpace(string(line)))
	return len(line), nil
}

// A style is how a piece of text looks on a terminal with colours.
type style int

const (
	plain style = iota
	bold
	faint
	good
	bad
	passMark // these three are a mark each, whatever their text
	failMark
	openMark
)

// A span is a piece of text of one style.
type span struct {
	style style
	text  string
}

// palette has the colours of a terminal, or none. All of them can be read on a light and
// on a dark background. Bright black, the usual grey, can't.
type palette struct{ good, bad, bold, faint, off string }

func newPalette(p process) palette {
	if !isTerminal(p.stdout) || p.getenv("NO_COLOR") != "" {
		return palette{}
	}
	return palette{good: "\x1b[32m", bad: "\x1b[31m", bold: "\x1b[1m", faint: "\x1b[2m", off: "\x1b[0m"}
}

// printStyled prints lines of spans.
func (s *screen) printStyled(lines [][]span, colours palette) error {
	var b strings.Builder
	for _, line := range lines {
		for _, piece := range line {
			b.WriteString(colours.paint(piece))
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(s.to, b.String())
	return err
}

// paint is the only place that writes more than ASCII. None of that comes from outside.
func (c palette) paint(s span) string {
	colour, text := "", strings.ReplaceAll(toASCII(s.text), "\n", " ")
	switch s.style {
	case bold:
		colour = c.bold
	case faint:
		colour = c.faint
	case good:
		colour = c.bold + c.good
	case bad:
		colour = c.bold + c.bad
	case passMark:
		colour, text = c.good, "✓"
	case failMark:
		colour, text = c.bad, "✗"
	case openMark:
		colour, text = c.faint, "·"
	}
	if colour == "" || text == "" {
		return text
	}
	return colour + text + c.off
}

// width is the width of a span on the screen.
func (s span) width() int {
	if s.style >= passMark {
		return 1
	}
	return utf8.RuneCountInString(toASCII(s.text))
}

func isTerminal(stream any) bool {
	if s, ok := stream.(*screen); ok {
		stream = s.to
	}
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
