// Package textfile reads text as people's tools write it into files.
package textfile

import (
	"bytes"
	"errors"
)

// ErrUTF16 is the error of a file in UTF-16.
var ErrUTF16 = errors.New(
	"in UTF-16, as > of Windows PowerShell writes files: write it in ASCII or UTF-8 (Out-File -Encoding ascii)")

// Decode takes off a byte order mark in UTF-8, of which a text has one at most.
// Text in UTF-16 is ErrUTF16. What it returns is part of data.
func Decode(data []byte) ([]byte, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if len(data) < 2 {
		return data, nil
	}
	marked := bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff"))
	// In UTF-16, every ASCII character has a zero byte before or after it.
	if marked || (data[0] == 0) != (data[1] == 0) {
		return nil, ErrUTF16
	}
	return data, nil
}
