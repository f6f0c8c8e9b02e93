package tokenfile

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A desk has a Source and its file. Files are real and time is the bubble's.
type desk struct {
	t      *testing.T
	path   string
	source *Source
}

func atDesk(t *testing.T, test func(*testing.T, *desk)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	synctest.Test(t, func(t *testing.T) { test(t, &desk{t, path, New(path)}) })
}

// jwt expires at a time, and has a name in it.
func jwt(name string, expiry time.Time) string {
	encode := base64.RawURLEncoding.EncodeToString
	payload := fmt.Sprintf(`{"sub":%q,"exp":%d}`, name, expiry.Unix())
	return encode([]byte(`{"alg":"none"}`)) + "." + encode([]byte(payload)) + ".c2ln"
}

func (d *desk) write(text string) {
	d.t.Helper()
	if err := os.WriteFile(d.path, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// mustGet wants a token that is to be asked for again after a while.
func (d *desk) mustGet(bearer string, expiresIn time.Duration) {
	d.t.Helper()
	token, err := d.source.Token()
	if err != nil || token.AccessToken != bearer || token.Type() != "Bearer" || time.Until(token.Expiry) != expiresIn {
		d.t.Errorf("%+v, %v, want %s for %v", token, err, bearer, expiresIn)
	}
}

func (d *desk) mustFail(want string) {
	d.t.Helper()
	token, err := d.source.Token()
	if err == nil || token != nil || !strings.HasPrefix(err.Error(), "kubejwt: TokenFile: "+want) {
		d.t.Errorf("%+v, %v, want an error with %s", token, err, want)
	}
}

// A token is used for a minute, and never after its exp.
func TestToken(t *testing.T) {
	atDesk(t, func(t *testing.T, d *desk) {
		d.mustFail(d.path + ": no such file")
		if _, err := d.source.Token(); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v, want os.ErrNotExist", err)
		}
		first := jwt("first", time.Now().Add(10*time.Minute))
		d.write(first)
		time.Sleep(time.Second)
		d.mustGet(first, time.Minute)
		d.write(jwt("second", time.Now().Add(time.Hour)))
		time.Sleep(59 * time.Second)
		d.mustGet(first, time.Minute)
		time.Sleep(time.Second)
		d.mustGet(jwt("second", time.Now().Add(time.Hour-time.Minute)), time.Minute)

		// No JWT: when it expires is nobody's knowledge.
		d.write("opaque")
		time.Sleep(time.Minute)
		d.mustGet("opaque", time.Minute)
		time.Sleep(1000 * time.Hour)
		d.mustGet("opaque", time.Minute)
	})
}

func TestTokenExpires(t *testing.T) {
	atDesk(t, func(t *testing.T, d *desk) {
		first := jwt("first", time.Now().Add(90*time.Second))
		d.write(first)
		d.mustGet(first, time.Minute)
		time.Sleep(60 * time.Second)
		d.mustGet(first, 30*time.Second)
		// Its last moment, within the minute.
		time.Sleep(30*time.Second - 1)
		d.mustGet(first, 1)
		time.Sleep(time.Nanosecond)
		d.mustFail(d.path + ": the token in it expired at " + time.Now().UTC().Format(time.RFC3339) + ": does kubelet renew")
		// Renewed within the minute.
		second := jwt("second", time.Now().Add(70*time.Second))
		d.write(second)
		time.Sleep(time.Second)
		d.mustGet(second, time.Minute)
		// A file that is being written leaves the last token, while it lives.
		d.write(second[:len(second)-4])
		time.Sleep(time.Minute)
		d.mustGet(second, 9*time.Second)
		time.Sleep(9 * time.Second)
		d.mustFail(d.path + ": half a JWT; the token read before has expired")
	})
	atDesk(t, func(t *testing.T, d *desk) {
		d.write(jwt("old", time.Unix(0, 0)))
		d.mustFail(d.path + ": the token in it expired at 1970-01-01T00:00:00Z: does kubelet renew")
	})
}

// A token that a server has refused is read again at once, if nobody has done so.
func TestForget(t *testing.T) {
	atDesk(t, func(t *testing.T, d *desk) {
		d.source.Forget("first") // which nobody has read
		d.write("first")
		d.mustGet("first", time.Minute)
		d.write("second")
		d.source.Forget("another")
		d.mustGet("first", time.Minute)
		d.source.Forget("first")
		d.mustGet("second", time.Minute)
		d.write("third")
		d.source.Forget("first")
		d.mustGet("second", time.Minute)
	})
}

func TestNoPath(t *testing.T) {
	if token, err := New("").Token(); err == nil || err.Error() != "kubejwt: TokenFile: no path" || token != nil {
		t.Errorf("%+v, %v, want an error", token, err)
	}
}
