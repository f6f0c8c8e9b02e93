package tokenfile

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubejwt/kubejwt/internal/reread"
)

// A disk that hangs is waited for until the context ends, and for ten seconds
// without one.
func TestDiskThatHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		source, release := New(path), make(chan bool)
		source.file.Store(reread.New(path, 100, interval, func(data []byte) (mountedToken, error) {
			<-release
			return parse(data)
		}, slog.New(slog.DiscardHandler)))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if _, err := source.TokenWithin(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("with a second: %v after %v", err, time.Since(began))
		}
		began = time.Now()
		if _, err := source.Token(); err == nil || time.Since(began) != wait {
			t.Errorf("without a context: %v after %v, want an error after %v", err, time.Since(began), wait)
		}
		close(release)
		if token, err := source.TokenWithin(t.Context()); err != nil || token.AccessToken != "abc" {
			t.Errorf("when the disk answers: %v", err)
		}
	})
}

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
		"a JWT":                   {jwt(`{"exp":1700000000}`), 1700000000, ""},
		"in the year 9999":        {jwt(`{"exp":253402300799}`), maxDate, ""},
		"without exp":             {jwt(`{}`), 0, ""},
		"exp is null":             {jwt(`{"exp":null}`), 0, ""},
		"another kind of token":   {"abc", 0, ""},
		"line breaks at the end":  {jwt(`{"exp":1700000000}`) + "\r\n", 1700000000, ""},
		"a byte order mark":       {"\xef\xbb\xbf" + "abc", 0, ""},
		"UTF-16":                  {"\xff\xfea\x00b\x00c\x00", 0, "Out-File -Encoding ascii"},
		"exp is a fraction":       {jwt(`{"exp":1.5}`), 0, "damaged"},
		"exp has an exponent":     {jwt(`{"exp":1e9}`), 0, "damaged"},
		"exp is a string":         {jwt(`{"exp":"1700000000"}`), 0, "damaged"},
		"exp is the first second": {jwt(`{"exp":1}`), 1, ""},
		"exp is negative":         {jwt(`{"exp":-1}`), 0, "out of range"},
		"exp is too late":         {jwt(`{"exp":253402300800}`), 0, "out of range"},
		"exp overflows":           {jwt(`{"exp":99999999999999999999}`), 0, "damaged"},
		"two exps":                {jwt(`{"exp":1,"exp":2}`), 0, "damaged"},
		"no JSON":                 {jwt(`exp`), 0, "damaged"},
		"no base64url":            {"eyJh.%%%.c2ln", 0, "damaged"},
		"half":                    {strings.TrimSuffix(jwt(`{}`), "c2ln"), 0, "half a JWT"},
		"two segments":            {"eyJh.eyJh", 0, "half a JWT"},
		"nothing":                 {" \n", 0, "no token"},
		"two lines":               {"abc\ndef", 0, "one line"},
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
