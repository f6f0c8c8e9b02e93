package origin

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// Roots come whole or not at all: what pem.Decode skips would lock out whoever
// has a certificate of them.
func TestParseRoots(t *testing.T) {
	recorded, err := os.ReadFile("../../testdata/clusters/kube-apiserver-1.36/rs256/ca.crt")
	if err != nil {
		t.Fatal(err)
	}
	one := string(recorded)
	for name, tt := range map[string]struct {
		text string
		want string // in the error; "" if there is none
	}{
		"one":                     {one, ""},
		"two":                     {one + one, ""},
		"text around":             {"our CA\n" + one + "the end\n", ""},
		"one in comments":         {"  # the old one: -----BEGIN CERTIFICATE-----\n" + one, ""},
		"a block of another type": {one + "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", ""},
		"one and a half":          {one + one[:len(one)/2], "half-written"},
		"damaged, then whole":     {strings.Replace(one, "M", "!", 1) + one, "half-written"},
		"no certificate in it":    {one + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "does not parse"},
		"half":                    {one[:len(one)/2], "half-written"},
		"nothing":                 {"", "no certificate"},
		"text":                    {"our CA", "no certificate"},
		"a key":                   {"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no certificate"},
	} {
		pool, err := parseRoots([]byte(tt.text))
		if (err == nil) != (tt.want == "") || !strings.Contains(fmt.Sprint(err), tt.want) || (pool == nil) != (err != nil) {
			t.Errorf("%s: %v: want %q", name, err, tt.want)
		}
	}
}
