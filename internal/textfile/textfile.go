// Package textfile decodes text files, which people's tools write in different ways.
package textfile

import (
	"bytes"
	"errors"
)

// ErrUTF16 is the error of a file in UTF-16.
var ErrUTF16 = errors.New(
	"in UTF-16, as Windows PowerShell writes files with >: write it in ASCII or UTF-8 (Out-File -Encoding ascii)")

// Decode removes the byte order mark of a text in UTF-8, if it has one. For a text in
// UTF-16 the error is ErrUTF16. The result shares its bytes with data.
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
