package origin

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestParseOrigin(t *testing.T) {
	const (
		want  = "want scheme and host, as in https://data-store.prod.svc"
		alone = "want only scheme, host and port: no path, query, fragment or user information"
	)
	for text, want := range map[string]string{ // the error, or the origin
		"https://data-store.prod.svc":      "https://data-store.prod.svc:443",
		"HTTP://Data-Store:8080":           "http://data-store:8080",
		"https://data-store/":              alone,
		"https://data-store/path":          alone,
		"https://data-store?query":         alone,
		"https://data-store?":              alone,
		"https://data-store#fragment":      alone,
		"https://data-store#":              alone,
		"https://user:secret@data-store":   alone,
		"https://[::":                      want,
		"":                                 "not a URL with a host: " + want,
		"data-store.prod.svc":              "not a URL with a host: " + want,
		"https:data-store":                 "not a URL with a host: " + want,
		"ftp://data-store":                 "want an http or https URL: " + want,
		"https://data-store:none":          want,
		"https://data-store:65536":         "a URL with a port that is not a number from 0 to 65535: " + want,
		"https://ap\u0130.example":         "a URL whose host is not ASCII: write its xn-- form, if that is the host you mean: " + want,
		"https://data-store.prod.svc/\x7f": want,
	} {
		o, err := ParseOrigin(text)
		got := errorText(err)
		if err == nil {
			got = o.String()
		}
		if got != want || err != nil && o != (Origin{}) {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// A request carries the token if the URL and the Host are of one origin, in
// whatever spelling.
func TestCheckRequest(t *testing.T) {
	home := mustParse(t, "https://data-store.example").Origin()
	const goesTo = "the token is for https://data-store.example:443, but the request goes to "
	const asks = "the token is for https://data-store.example:443, but the request names the host "
	for _, tt := range []struct{ url, host, want string }{
		{"https://data-store.example/path?query", "", ""},
		{"https://data-store.example/path?query", "data-store.example", ""},
		{"https://DATA-STORE.example:443/", "Data-Store.Example", ""},
		{"https://data-store.example/", "data-store.example:443", ""},
		{"https://data-store.example/", "other.example", asks + `"other.example" (Request.Host)`},
		{"https://data-store.example/", "data-store.example:8443", asks + `"data-store.example:8443" (Request.Host)`},
		{"https://data-store.example/", "data-store.ex\u00e4mple", asks + `"data-store.ex\u00e4mple" (Request.Host)`},
		{"https://other.example/", "data-store.example", goesTo + "https://other.example:443"},
		{"http://data-store.example/", "", goesTo + "http://data-store.example:80"},
		{"https://data-store.example:8443/", "", goesTo + "https://data-store.example:8443"},
		{"https://data-store.ex\u00e4mple/", "", goesTo + `"data-store.ex\u00e4mple": a URL whose host is not ASCII`},
	} {
		u, err := url.Parse(tt.url)
		if err != nil {
			t.Fatal(err)
		}
		err = home.CheckRequest(&http.Request{URL: u, Host: tt.host})
		if got := errorText(err); (got == "") != (tt.want == "") || !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s for %q: %s, want %s", tt.url, tt.host, got, tt.want)
		}
	}
	opaque := &url.URL{Scheme: "https", Host: "data-store.example", Opaque: "//other.example/"}
	if err := home.CheckRequest(&http.Request{URL: opaque}); !strings.Contains(errorText(err), "an Opaque part") {
		t.Errorf("with an opaque part: %v", err)
	}
}

// A redirect chain that was elsewhere, be it at its start, has left the origin.
func TestWasLeft(t *testing.T) {
	const home = "https://a.example"
	for _, tt := range []struct {
		name  string
		chain []string // from the first request to the one in question
		want  bool
	}{
		{"no redirect", []string{home}, false},
		{"a request to elsewhere, which CheckRequest refuses", []string{"https://b.example"}, false},
		{"a redirect", []string{home, home + "/b"}, false},
		{"two redirects", []string{home, home + "/b", "https://A.EXAMPLE:443/c"}, false},
		{"to elsewhere", []string{home, "https://b.example"}, true},
		{"to another port", []string{home, home + ":8443"}, true},
		{"to a look-alike", []string{home, "https://\u00e0.example"}, true},
		{"elsewhere and back", []string{home, "https://b.example", home}, true},
		{"from elsewhere", []string{"https://b.example", home}, true},
		{"from elsewhere, and on", []string{"https://b.example", home, home}, true},
		{"from nowhere", []string{"", home}, true},
	} {
		o := mustParse(t, home).Origin()
		var request *http.Request
		for _, text := range tt.chain {
			next := new(http.Request)
			if request != nil {
				next.Response = &http.Response{Request: request}
			}
			if text != "" {
				u, err := url.Parse(text)
				if err != nil {
					t.Fatal(err)
				}
				next.URL = u
			}
			request = next
		}
		if got := o.WasLeft(request); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.want)
		}
	}
	request := &http.Request{URL: mustParse(t, home).url, Response: new(http.Response)}
	if !mustParse(t, home).Origin().WasLeft(request) {
		t.Error("a redirect of nobody knows whom: not left")
	}
}
