package origin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"log/slog"
	"math/big"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/kubejwt/kubejwt/internal/testlog"
)

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
		logged := new(testlog.Buffer)
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
