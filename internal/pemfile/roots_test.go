package pemfile

import (
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"testing"
)

// A bundle comes whole or not at all: what pem.Decode skips would lock out whoever
// has a certificate of it. Only what Go can't use is left out.
func TestParseRoots(t *testing.T) {
	recorded, err := os.ReadFile("../../testdata/clusters/kube-apiserver-1.36/rs256/ca.crt")
	if err != nil {
		t.Fatal(err)
	}
	one := string(recorded)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(recorded) {
		t.Fatal("the recorded bundle has no certificate")
	}
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
		if err == nil && !parsed.Pool.Equal(pool) {
			t.Errorf("%s: it has not the one certificate", name)
		}
	}
}
