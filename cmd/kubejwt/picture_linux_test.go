package main

import (
	"bytes"
	"flag"
	"fmt"
	"html"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"
	"unsafe"
)

var update = flag.Bool("update", false, "write docs/command.svg anew")

// inTerminal runs a command in a pseudo-terminal of a width, and returns what a
// reader would see there, colours included.
func inTerminal(t *testing.T, columns uint16, command *exec.Cmd) string {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	defer master.Close()
	control := func(request uintptr, argument unsafe.Pointer) {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), request, uintptr(argument)); errno != 0 {
			t.Skip("no pseudo-terminal: ", errno)
		}
	}
	var unlock, number int32
	control(syscall.TIOCSPTLCK, unsafe.Pointer(&unlock))
	control(syscall.TIOCGPTN, unsafe.Pointer(&number))
	size := [4]uint16{50, columns}
	control(syscall.TIOCSWINSZ, unsafe.Pointer(&size))
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	command.Stdout, command.Stderr = slave, slave
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	var out bytes.Buffer
	io.Copy(&out, master) // ends with an error when the command has ended
	command.Wait()
	return strings.ReplaceAll(out.String(), "\r\n", "\n")
}

var colour = regexp.MustCompile("\x1b\\[[0-9]*m")

// pictured are the two commands of the picture, as far as they are shown there.
// They judge as of a time, so that the picture stays.
func pictured() [][]string {
	return [][]string{
		{"verify", "-audience", "data-store", "-at", recordedAt},
		{"verify", "-audience", "reports", "-at", "2026-11-22T09:00:00Z"},
	}
}

// notPictured are the flags for which dots stand in the picture.
func notPictured() []string {
	const recording = "testdata/clusters/kube-apiserver-1.36/rs256"
	return []string{"-issuer", recordedIssuer, "-key-file", recording + "/sa.pub", "-token-file", recording + "/tokens/short_lived.jwt"}
}

// At every width that a terminal may have, no line is wider, unless a word is;
// colours are those that are readable on light and dark ground; NO_COLOR holds.
func TestTerminal(t *testing.T) {
	binary := build(t)
	for _, columns := range []uint16{40, 80, 100} {
		for _, args := range pictured() {
			args = append(args, notPictured()...)
			command := exec.Command(binary, args...)
			command.Dir, command.Env = root, []string{}
			out := inTerminal(t, columns, command)
			if !strings.Contains(out, "\x1b[1m\x1b[3") {
				t.Errorf("no colours:\n%q", out)
			}
			if regexp.MustCompile("\x1b\\[(?:9\\d|30|37|33)m").MatchString(out) {
				t.Errorf("colours that some ground hides:\n%q", out)
			}
			for line := range strings.Lines(colour.ReplaceAllString(out, "")) {
				line = strings.TrimRight(line, "\n")
				if words := strings.Fields(line); utf8.RuneCountInString(line) > int(columns) && columns >= 80 && len(words) > 1 {
					t.Errorf("%d columns: a line of %d: %s", columns, utf8.RuneCountInString(line), line)
				}
			}
			command = exec.Command(binary, args...)
			command.Dir, command.Env = root, []string{"NO_COLOR=1"}
			if out := inTerminal(t, columns, command); strings.Contains(out, "\x1b") || out == "" {
				t.Errorf("NO_COLOR, and yet:\n%q", out)
			}
		}
	}
}

// docs/command.svg is the real output: go test ./cmd/kubejwt -run Picture -update
func TestPicture(t *testing.T) {
	binary := build(t)
	var screens []string
	for i, args := range pictured() {
		command := exec.Command(binary, append(args, notPictured()...)...)
		command.Dir, command.Env = root, []string{}
		out := inTerminal(t, 80, command)
		if want := []string{"Accepted", "Refused"}[i]; !strings.Contains(out, want) {
			t.Fatalf("it is not %s:\n%s", want, out)
		}
		screens = append(screens, "\x1b[1m$ kubejwt "+strings.Join(args, " ")+" …\x1b[0m\n\n"+out)
	}
	want, path := drawn(strings.Join(screens, "\n\n")), root+"/docs/command.svg"
	if *update {
		writeTo(t, path, want)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("docs/command.svg is not what the command prints (%v): go test ./cmd/kubejwt -run Picture -update", err)
	}
}

// drawn is a terminal's text as a picture, for light and dark pages.
func drawn(text string) string {
	const lineHeight, width, margin = 17, 672, 12
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	height := len(lines)*lineHeight + 2*margin
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="kubejwt verify: an accepted and a refused token">
<style>
  rect { fill: #ffffff; stroke: #d0d7de }
  text { font: 13px ui-monospace, Menlo, Consolas, monospace; fill: #1f2328; white-space: pre }
  .c1 { font-weight: bold } .c2 { opacity: .65 } .c32 { fill: #116329 } .c31 { fill: #b3261e }
  @media (prefers-color-scheme: dark) {
    rect { fill: #0d1117; stroke: #30363d } text { fill: #e6edf3 } .c32 { fill: #56d364 } .c31 { fill: #ff7b72 }
  }
</style>
<rect x="0.5" y="0.5" width="%d" height="%d" rx="6"/>
`, width, height, width, height, width-1, height-1)
	for i, line := range lines {
		fmt.Fprintf(&b, `<text x="%d" y="%d" xml:space="preserve">%s</text>`+"\n", margin, margin+13+i*lineHeight, spans(line))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// spans turns colours into classes.
func spans(line string) string {
	var b strings.Builder
	var classes []string
	write := func(text string) {
		switch {
		case text == "":
		case len(classes) == 0:
			b.WriteString(html.EscapeString(text))
		default:
			fmt.Fprintf(&b, `<tspan class="%s">%s</tspan>`, strings.Join(classes, " "), html.EscapeString(text))
		}
	}
	for {
		at := colour.FindStringIndex(line)
		if at == nil {
			write(line)
			return b.String()
		}
		write(line[:at[0]])
		if code := line[at[0]+2 : at[1]-1]; code == "0" {
			classes = nil
		} else {
			classes = append(classes, "c"+code)
		}
		line = line[at[1]:]
	}
}
