package origin

import (
	"net/http"
	"net/url"
	"testing"
)

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
