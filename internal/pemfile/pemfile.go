// Package pemfile reads PEM files that somebody else may be writing. It detects a key
// file or a bundle of roots that is cut off.
package pemfile

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
)

// Blocks decodes all blocks of data. Text around them is ignored.
//
// If the file holds the start or the end of another block, it returns an error as
// well as the whole blocks. pem.Decode silently skips a damaged block, and also one
// that does not start at the beginning of a line, for instance after a byte order
// mark. A file that was cut off at a line break between two blocks looks like a whole
// one, so it must be replaced in one step, by renaming.
func Blocks(data []byte) ([]*pem.Block, error) {
	begun, ended, stray := boundaries(data)
	var blocks []*pem.Block
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		blocks = append(blocks, block)
	}
	switch {
	case begun != len(blocks) || ended != len(blocks):
		return blocks, fmt.Errorf("%d PEM blocks begin, %d end and %d are whole: "+
			"is the file half-written, or is a block indented?", begun, ended, len(blocks))
	case stray > 0:
		return blocks, fmt.Errorf("line %d begins with dashes that don't belong to a PEM block: "+
			"is the file half-written? If not, remove the line", stray)
	default:
		return blocks, nil
	}
}

// FileBlocks is Blocks for a file that somebody replaces now and then. If there is text
// after the last block, it must end with a line break: otherwise the file counts as
// half-written.
func FileBlocks(data []byte) ([]*pem.Block, error) {
	blocks, err := Blocks(data)
	if err == nil && len(blocks) > 0 && isCutOff(data) {
		err = errors.New("its last line does not end with a line break: is the file half-written?")
	}
	return blocks, err
}

// isCutOff reports whether data ends within a line of text. The last line of a
// block needs no line break.
func isCutOff(data []byte) bool {
	last := data[bytes.LastIndexByte(data, '\n')+1:]
	return len(bytes.TrimSpace(last)) > 0 && !bytes.HasPrefix(last, []byte("-----END "))
}

// boundaries counts the lines at which blocks begin and end. stray is the number of
// the first line that is only a part of such a line, or 0 if there is none.
func boundaries(data []byte) (begun, ended, stray int) {
	number := 0
	for line := range bytes.Lines(data) {
		number++
		text := bytes.TrimSpace(line)
		cutOff := !bytes.HasSuffix(line, []byte("\n"))
		switch {
		case bytes.HasPrefix(text, []byte("#")): // a comment may mention a block
		case bytes.Contains(text, []byte("-----BEGIN ")):
			begun++
		case bytes.HasPrefix(text, []byte("-----END ")):
			ended++
		case stray == 0 && (bytes.HasPrefix(text, []byte("--")) || cutOff && string(text) == "-"):
			stray = number
		}
	}
	return begun, ended, stray
}
