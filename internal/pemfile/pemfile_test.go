package pemfile_test

import (
	"strings"
	"testing"

	"github.com/kubejwt/kubejwt/internal/pemfile"
)

const (
	first  = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
	second = "-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n"
)

func TestBlocks(t *testing.T) {
	tests := []struct {
		name, data string
		blocks     int
		err        string
	}{
		{"nothing", "", 0, ""},
		{"one", first, 1, ""},
		{"two", first + second, 2, ""},
		{"two with carriage returns", strings.ReplaceAll(first+second, "\n", "\r\n"), 2, ""},
		{"text around them", "subject=a\n" + first + "issuer=b - c\n- d\n" + second + "e", 2, ""},
		{"no newline at the end", strings.TrimSpace(first + second), 2, ""},
		{"a block in a comment", first + "# " + strings.ReplaceAll(second, "\n", "\n# "), 1, ""},
		{"a separator in a comment", first + "# ----\n" + second, 2, ""},

		{"a dash in a line of its own", first + "-\n" + second, 2, ""},
		{"two dashes", first + "--\n" + second, 2, "line 4 begins with dashes"},
		{"a separator", first + "----\n" + second, 2, "line 4 begins with dashes"},
		{"two separators", "--\n" + first + "----\n" + second, 2, "line 1 begins with dashes"},
		{"the end of another before it", "-----END PUBLIC KEY-----\n" + first, 1, "1 PEM blocks begin, 2 end"},
		{"one dash at the end", first + "-", 1, "line 4 begins with dashes"},
		{"a damaged end", strings.Replace(first, "-----END", "----END", 1) + second, 1, "half-written"},
		{"a damaged body", strings.Replace(first, "AAAA", "A!AA", 1) + second, 1, "2 PEM blocks begin, 2 end and 1 are whole"},
		{"not at the start of a line", "key: " + first, 0, "1 PEM blocks begin, 1 end and 0 are whole"},
		{"indented, as in YAML", "  " + strings.ReplaceAll(first, "\n", "\n  "), 0, "or is a block indented?"},
	}
	for _, tt := range tests {
		blocks, err := pemfile.Blocks([]byte(tt.data))
		if len(blocks) != tt.blocks || (err == nil) != (tt.err == "") {
			t.Errorf("%s: %d blocks, %v: want %d, %s", tt.name, len(blocks), err, tt.blocks, tt.err)
		}
		if err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v: want %s", tt.name, err, tt.err)
		}
	}
}

// TestCutOff writes two blocks byte by byte: except between the two, a reader
// sees that something is missing.
func TestCutOff(t *testing.T) {
	whole := first + second
	for length := range len(whole) {
		_, err := pemfile.Blocks([]byte(whole[:length]))
		between := length == 0 || length == len(first)-1 || length == len(first)
		end := length == len(whole)-1 // the last newline
		if complete := between || end; (err == nil) != complete {
			t.Errorf("cut off after %q: %v: want an error: %t", whole[max(0, length-8):length], err, !complete)
		}
	}
}

// In a file, the last line is complete.
func TestFileBlocks(t *testing.T) {
	for _, tt := range []struct {
		name, data, err string
	}{
		{"text at the end", first + "text\n", ""},
		{"no newline at the end", strings.TrimSpace(first), ""},
		{"blanks at the end", first + " \t", ""},
		{"no block", "text", ""},

		{"half a line of text", first + "subj", "the file half-written"},
		{"half a comment", first + "# -----BEG", "the file half-written"},
		{"zeros, as after a power cut", first + "\x00\x00\x00", "the file half-written"},
		{"half a line break", strings.TrimSpace(first) + "\r", "the file half-written"},
		{"one dash", first + "-", "line 4 begins with dashes"},
	} {
		_, err := pemfile.FileBlocks([]byte(tt.data))
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v: want %s", tt.name, err, tt.err)
		}
	}
}

// TestFileCutOff writes two blocks with text between them: except at a line break
// there, a reader sees that something is missing.
func TestFileCutOff(t *testing.T) {
	const text = "subject=second\n# and a comment\n"
	whole := first + text + second
	for length := range len(whole) {
		_, err := pemfile.FileBlocks([]byte(whole[:length]))
		between := length >= len(first) && length <= len(first)+len(text) && whole[length-1] == '\n'
		lineBreak := length == 0 || length == len(first)-1 || length == len(whole)-1 // of a last line that is there
		if complete := between || lineBreak; (err == nil) != complete {
			t.Errorf("cut off after %q: %v: want an error: %t", whole[max(0, length-8):length], err, !complete)
		}
	}
}
