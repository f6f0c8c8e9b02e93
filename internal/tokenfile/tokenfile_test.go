package tokenfile

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	jwt := func(payload string) string {
		encode := base64.RawURLEncoding.EncodeToString
		return encode([]byte(`{"alg":"none"}`)) + "." + encode([]byte(payload)) + ".c2ln"
	}
	for name, tt := range map[string]struct {
		text   string
		expiry int64  // 0: none
		want   string // in the error; "" if there is none
	}{
		"a JWT":                  {jwt(`{"exp":1700000000}`), 1700000000, ""},
		"in the year 9999":       {jwt(`{"exp":253402300799}`), maxDate, ""},
		"without exp":            {jwt(`{}`), 0, ""},
		"exp is null":            {jwt(`{"exp":null}`), 0, ""},
		"another kind of token":  {"abc", 0, ""},
		"line breaks at the end": {jwt(`{"exp":1700000000}`) + "\r\n", 1700000000, ""},
		"a byte order mark":      {"\xef\xbb\xbf" + "abc", 0, ""},
		"UTF-16":                 {"\xff\xfea\x00b\x00c\x00", 0, "Out-File -Encoding ascii"},
		"exp is a fraction":      {jwt(`{"exp":1.5}`), 0, "damaged"},
		"exp has an exponent":    {jwt(`{"exp":1e9}`), 0, "damaged"},
		"exp is a string":        {jwt(`{"exp":"1700000000"}`), 0, "damaged"},
		"exp is negative":        {jwt(`{"exp":-1}`), 0, "out of range"},
		"exp is too late":        {jwt(`{"exp":253402300800}`), 0, "out of range"},
		"exp overflows":          {jwt(`{"exp":99999999999999999999}`), 0, "damaged"},
		"two exps":               {jwt(`{"exp":1,"exp":2}`), 0, "damaged"},
		"no JSON":                {jwt(`exp`), 0, "damaged"},
		"no base64url":           {"eyJh.%%%.c2ln", 0, "damaged"},
		"half":                   {strings.TrimSuffix(jwt(`{}`), "c2ln"), 0, "half a JWT"},
		"two segments":           {"eyJh.eyJh", 0, "half a JWT"},
		"nothing":                {" \n", 0, "no token"},
		"two lines":              {"abc\ndef", 0, "one line"},
	} {
		token, err := parse([]byte(tt.text))
		if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "eyJ")) {
			t.Errorf("%s: %v: want %q", name, err, tt.want)
			continue
		}
		want := time.Time{}
		if tt.expiry != 0 {
			want = time.Unix(tt.expiry, 0).UTC()
		}
		if err == nil && (token.bearer != strings.TrimSpace(strings.TrimPrefix(tt.text, "\xef\xbb\xbf")) || token.expiry != want) {
			t.Errorf("%s: exp %v: want %v", name, token.expiry, want)
		}
	}
}
