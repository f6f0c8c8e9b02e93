package origin

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// A bundle comes whole or not at all: what pem.Decode skips would lock out whoever
// has a certificate of it. Only what Go can't use is left out.
func TestParseRoots(t *testing.T) {
	recorded, err := os.ReadFile("../../testdata/clusters/kube-apiserver-1.36/rs256/ca.crt")
	if err != nil {
		t.Fatal(err)
	}
	one := string(recorded)
	const odd = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
	for name, tt := range map[string]struct {
		text string
		want string // in the error; "" if there is none
	}{
		"one":                     {one, ""},
		"two":                     {one + one, ""},
		"a byte order mark":       {"\xef\xbb\xbf" + one, ""},
		"UTF-16":                  {"\xff\xfe-\x00-\x00", "Out-File -Encoding ascii"},
		"text around":             {"our CA\n" + one + "the end\n", ""},
		"one in comments":         {"  # the old one: -----BEGIN CERTIFICATE-----\n" + one, ""},
		"a block of another type": {one + "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", ""},
		"one and half a line":     {one + "our oth", "half-written"},
		"one and a half":          {one + one[:len(one)/2], "half-written"},
		"damaged, then whole":     {strings.Replace(one, "M", "!", 1) + one, "half-written"},
		"one odd certificate":     {one + odd, ""},
		"only an odd certificate": {odd, "PEM block 1 of 1 does not parse"},
		"only one of openssl's":   {strings.ReplaceAll(one, " CERT", " TRUSTED CERT"), `is of type "TRUSTED CERTIFICATE"`},
		"half":                    {one[:len(one)/2], "half-written"},
		"nothing":                 {"", "no certificate"},
		"text":                    {"our CA", "no certificate"},
		"a key":                   {"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no certificate"},
	} {
		parsed, err := ParseRoots([]byte(tt.text))
		if (err == nil) != (tt.want == "") || !strings.Contains(fmt.Sprint(err), tt.want) || (parsed == nil) != (err != nil) {
			t.Errorf("%s: %v: want %q", name, err, tt.want)
		}
	}
}

// One odd certificate, as system bundles have them, costs no other: the log names
// its place and what is wrong.
func TestOddRoots(t *testing.T) {
	s := newServer(t, func(http.ResponseWriter, *http.Request) {})
	certificate := newCertificate(t)
	with := func(old, new string) string {
		return string(encode([]byte(strings.Replace(string(certificate), old, new, 1))))
	}
	for name, tt := range map[string]struct{ odd, why string }{
		"a negative serial": {with("\xa0\x03\x02\x01\x02\x02\x01\x01", "\xa0\x03\x02\x01\x02\x02\x01\xff"), "negative serial number"},
		"an unknown curve":  {with("\x2a\x86\x48\xce\x3d\x03\x01\x07", "\x2a\x86\x48\xce\x3d\x03\x01\x06"), "unsupported elliptic curve"},
		"one of openssl's":  {strings.ReplaceAll(with("", ""), " CERT", " TRUSTED CERT"), "TRUSTED CERTIFICATE"},
	} {
		writeFile(t, s.caFile, "# odd\n"+tt.odd+string(encode(s.Certificate().Raw)))
		logged := new(lockedBuffer)
		options := s.options(t)
		options.Logger = slog.New(slog.NewTextHandler(logged, nil))
		c := mustNew(t, options)
		for range 2 {
			answer, err := c.Get(t.Context(), s.url(t), "*/*")
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			answer.Body.Close()
		}
		for !strings.Contains(logged.String(), "PEM block") {
			runtime.Gosched() // the log is told behind the caller's back
		}
		text := logged.String()
		if strings.Count(text, "PEM block 1 of 2") != 1 || !strings.Contains(text, tt.why) || !strings.Contains(text, s.caFile) {
			t.Errorf("%s: the log: %s: want %q once", name, text, tt.why)
		}
	}
}

// A token is what a header can hold.
func TestParseBearer(t *testing.T) {
	const none, odd = "no token in it", "more in it than one token: want one line of ASCII without spaces"
	for text, want := range map[string]string{ // the error, or the token
		"abc":             "abc",
		" \tabc\r\n":      "abc",
		"\xef\xbb\xbfabc": "abc",
		"!~":              "!~",
		"":                none,
		" \n":             none,
		"a b":             odd,
		"a\nb":            odd,
		"a\x7fb":          odd,
		"a\u00e4b":        odd,
		"Bearer abc":      odd,
		"a\x00b\x00":      "in UTF-16, as Windows PowerShell writes files with >: write it in ASCII or UTF-8 (Out-File -Encoding ascii)",
	} {
		got, err := ParseBearer([]byte(text))
		if err != nil && got != "" {
			t.Errorf("%q: %q beside the error %v", text, got, err)
		}
		if got += errorText(err); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// newCertificate has the serial number 1 and a key on P-256.
func newCertificate(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// lockedBuffer is a log that a look at a file writes to in the background.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
