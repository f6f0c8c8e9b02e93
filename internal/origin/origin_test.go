package origin

import (
	"net/url"
	"strings"
	"testing"
)

func mustParse(t testing.TB, text string) URL {
	t.Helper()
	u, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// Each row is one origin in several spellings, and differs from all others.
func TestOrigins(t *testing.T) {
	rows := map[string][]string{
		"https://a.example:443":                {"https://a.example", "https://a.example/", "https://A.EXAMPLE:443/path?query", "https://a.example:", "HTTPS://a.example"},
		"http://a.example:80":                  {"http://a.example", "http://a.example:80"},
		"https://a.example:80":                 {"https://a.example:80"},
		"https://a.example.:443":               {"https://a.example."},
		"https://xn--api-bec.shop.example:443": {"https://xn--api-bec.shop.example", "https://XN--API-BEC.shop.example"},
		"https://a_z-09.example:443":           {"https://a_z-09.example", "https://A_Z-09.example"},
		"https://10.0.0.1:443":                 {"https://10.0.0.1"},
		"https://127.1:443":                    {"https://127.1"},
		"https://[fd00::1]:443":                {"https://[fd00::1]", "https://[FD00:0:0:0:0:0:0:1]:443", "https://[fd00:0000::0.0.0.1]"},
		"https://[::ffff:10.0.0.1]:443":        {"https://[::ffff:10.0.0.1]", "https://[::ffff:a00:1]"},
		"https://[fe80::1%eth0]:443":           {"https://[fe80::1%25eth0]", "https://[FE80::1%25eth0]"},
		"https://[fe80::1%ETH0]:443":           {"https://[fe80::1%25ETH0]"},
	}
	for want, spellings := range rows {
		for _, text := range spellings {
			u, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := Of(u); err != nil || got.String() != want {
				t.Errorf("%s: %s, %v: want %s", text, got, err, want)
			}
		}
	}
}

// What net/http reads otherwise than it looks has no origin.
func TestNoOrigin(t *testing.T) {
	for name, u := range map[string]*url.URL{
		"a dotted capital I":    {Scheme: "https", Host: "apİ.shop.example"},
		"a capital sharp s":     {Scheme: "https", Host: "stra\u1e9ee.example"},
		"an umlaut":             {Scheme: "https", Host: "bücher.example"},
		"a fullwidth dot":       {Scheme: "https", Host: "a。example"},
		"invalid UTF-8":         {Scheme: "https", Host: "a\xff.example"},
		"a zone beyond ASCII":   {Scheme: "https", Host: "[fe80::1%ethİ]"},
		"no host":               {Scheme: "https"},
		"a port alone":          {Scheme: "https", Host: ":443"},
		"no scheme":             {Host: "a.example"},
		"a scheme in capitals":  {Scheme: "HTTPS", Host: "a.example"},
		"another scheme":        {Scheme: "ftp", Host: "a.example"},
		"two ports":             {Scheme: "https", Host: "a.example:443:80"},
		"a port with a zero":    {Scheme: "https", Host: "a.example:0443"},
		"a port out of range":   {Scheme: "https", Host: "a.example:65536"},
		"a user in the host":    {Scheme: "https", Host: "a@b.example"},
		"a path in the host":    {Scheme: "https", Host: "a.example/b"},
		"a space":               {Scheme: "https", Host: "a.example "},
		"a line break":          {Scheme: "https", Host: "a.example\r\nX: y"},
		"IPv6 without brackets": {Scheme: "https", Host: "fd00::1"},
		"a name in brackets":    {Scheme: "https", Host: "[a.example]"},
		"IPv4 in brackets":      {Scheme: "https", Host: "[10.0.0.1]"},
		"text behind brackets":  {Scheme: "https", Host: "[fd00::1]x"},
		"two pairs of brackets": {Scheme: "https", Host: "[fd00::1][fd00::2]"},
	} {
		if got, err := Of(u); err == nil {
			t.Errorf("%s: %s is no error", name, got)
		}
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{ // a part of the error, or how the URL is shown
		"https://a.example":                   "https://a.example",
		"https://a.example/path/%2f?secret=1": "https://a.example/path/%2f",
		"https://A.example:/":                 "https://A.example/",
		"http://127.0.0.1:8080/x":             "http://127.0.0.1:8080/x",
		"http://[::1]/x":                      "http://[::1]/x",
		"http://localhost/":                   "want https",
		"http://10.0.0.1/":                    "want https",
		"http://a.example":                    "want https",
		"ftp://a.example":                     "want https",
		"a.example":                           "with a host",
		"https:a.example":                     "with a host",
		"https:///path":                       "with a host",
		"https://:443":                        "with a host",
		"https://u:secret@a.example":          "user information",
		"https://a.example/#secret":           "fragment",
		"https://ap\u0130.example":            "not ASCII",
		"https://ap%C4%B0.example":            "not ASCII",
		"https://a%C2%80.example":             "not ASCII",
		"https://a.example\n":                 "with a host",
		"":                                    "with a host",
	} {
		u, err := Parse(text)
		got := u.String()
		if err != nil {
			got = err.Error()
		}
		if got != want && (err == nil || !strings.Contains(got, want)) || strings.Contains(got, "secret") {
			t.Errorf("%q: %q: want %q", text, got, want)
		}
	}
}

func TestParseForeign(t *testing.T) {
	for text, want := range map[string]string{
		"https://a.example/keys?secret=1#x":              `= "https://a.example/keys"`,
		"https://a.example/" + strings.Repeat("a", 2030): `= "https://a.example/aaaa`,
		"https://a.example/" + strings.Repeat("a", 300):  `..."`,
		"https://a.example/" + strings.Repeat("a", 2031): "at most 2048 bytes",
		"https://a.example/eyJhbGci":                     "withheld",
		"https://u:secret@a.example/":                    "want an https URL",
		"https://ap\u0130.example":                       "want an https URL",
		"http://127.0.0.1/":                              "want an https URL",
		"http://a.example/?secret":                       "want an https URL",
		"https://[::secret":                              "want an https URL",
		"file:///etc/passwd":                             `"file:///etc/passwd"`,
		"":                                               `""`,
	} {
		u, err := ParseForeign(text)
		got := u.String()
		if err != nil {
			got = err.Error()
		}
		shown, isURL := strings.CutPrefix(want, "= ")
		if isURL && (err != nil || !strings.HasPrefix(got, shown)) || !isURL && !strings.Contains(got, want) || len(got) > 400 {
			t.Errorf("%q: %s: want %s", text, got, want)
		}
	}
	for _, text := range []string{"https://u:secret@a.example/", "https://a.example/?secret", "http://a.example/?secret"} {
		if u, err := ParseForeign(text); strings.Contains(u.String(), "secret") || err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s, %v: shows a secret", u, err)
		}
	}
}

func TestURL(t *testing.T) {
	u := mustParse(t, "https://a.example:8443/one?secret")
	at := u.At("/two words", url.Values{"watch": {"true"}})
	if got := at.url.String(); got != "https://a.example:8443/two%20words?watch=true" || at.Origin() != u.Origin() {
		t.Errorf("%s on %s", got, at.Origin())
	}
	for text, want := range map[string]bool{
		"https://a.example/keys":    true,
		"https://a.example/keys?":   true,
		"https://a.example/keys?a":  false,
		"https://a.example/keys/":   false,
		"https://a.example/%6Beys":  false,
		"https://a.example/a//keys": false,
	} {
		if got := mustParse(t, text).IsAt("/keys"); got != want {
			t.Errorf("%s: IsAt = %t, want %t", text, got, want)
		}
	}
	if (URL{}).IsAt("") {
		t.Error("the zero URL has a path")
	}
	if !(URL{}).IsZero() || u.IsZero() || (URL{}).String() != "" {
		t.Error("the zero URL is not told from others")
	}
	if u.Digest() == mustParse(t, "https://a.example:8443/one?another").Digest() {
		t.Error("two queries have one digest")
	}
	one, err := ParseForeign("https://a.example/one")
	other, errOther := ParseForeign("https://a.example:/one#fragment")
	if err != nil || errOther != nil || one.Digest() != other.Digest() {
		t.Errorf("%v, %v: a fragment makes another digest", err, errOther)
	}
}

func TestParseOptional(t *testing.T) {
	for text, want := range map[string]string{"": "", "https://a.example": "https://a.example:443"} {
		u, err := ParseOptional(text)
		if err != nil || u.IsZero() != (want == "") || want != "" && u.Origin().String() != want {
			t.Errorf("%q: %s, %v: want %q", text, u, err, want)
		}
	}
	if u, err := ParseOptional("a.example"); err == nil || !u.IsZero() {
		t.Errorf("a.example: %s, %v: want an error", u, err)
	}
}
