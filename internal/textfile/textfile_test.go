package textfile

import "testing"

func TestDecode(t *testing.T) {
	const mark = "\xef\xbb\xbf"
	for _, tt := range []struct {
		name, data, want string
		err              error
	}{
		{"plain", "-----BEGIN", "-----BEGIN", nil},
		{"a byte order mark", mark + "{}", "{}", nil},
		{"two of them", mark + mark + "{}", mark + "{}", nil},
		{"a byte order mark alone", mark, "", nil},
		{"half of one", mark[:2], mark[:2], nil},
		{"nothing", "", "", nil},
		{"one byte", "{", "{", nil},
		{"not ASCII", "ü", "ü", nil},
		{"zero bytes", "\x00\x00", "\x00\x00", nil},
		{"UTF-16, little endian", "\xff\xfe{\x00}\x00", "", ErrUTF16},
		{"UTF-16, big endian", "\xfe\xff\x00{\x00}", "", ErrUTF16},
		{"UTF-16, nothing but its mark", "\xff\xfe", "", ErrUTF16},
		{"UTF-16, one character", "{\x00", "", ErrUTF16},
		{"UTF-16 without a mark, little endian", "{\x00}\x00", "", ErrUTF16},
		{"UTF-16 without a mark, big endian", "\x00{\x00}", "", ErrUTF16},
	} {
		got, err := Decode([]byte(tt.data))
		if string(got) != tt.want || err != tt.err {
			t.Errorf("%s: %q, %v: want %q, %v", tt.name, got, err, tt.want, tt.err)
		}
	}
}
