package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kubejwt/kubejwt/kubejwttest"
)

// hostile are texts that a terminal acts on, or that deceive its reader.
func hostile() []string {
	return []string{
		"\x1b[2J\x1b[H\x1b[32mAccepted\x1b[0m: system:serviceaccount:kube-system:root",
		"\x1b]0;title\x07\x1b]8;;https://attacker.example\x1b\\link",
		"\u009b2J", "\x9b2J", "\x90q\x9c", "\xff\xfe\xc0\x80",
		"\u202egnp.exe\u2066x\u2069", "\u200f\u200b\ufeff", "\u0430pple \U0001f511 \U000e0041",
		"\nAccepted: system:serviceaccount:kube-system:root, until 2099-01-01T00:00:00Z.\n", "\r\nkubejwt verify: ok\r",
		"✓ 5  signature", "· ✗", "\x00\x08\x7f\x0b\x0c\x0e", "\\u001b[2J", "plain",
	}
}

// mustBeTame looks at every byte: printable ASCII, line breaks, tabs and, in
// the table of verify, marks. A line that says Accepted comes from a verdict.
func (r result) mustBeTame(t *testing.T, what string) {
	t.Helper()
	marks := regexp.MustCompile(`(?m)^( {5})?[✓✗·] `).ReplaceAllString(r.out, "")
	for _, b := range []byte(marks + r.errOut) {
		if (b < ' ' || b > '~') && b != '\n' && b != '\t' {
			t.Fatalf("%s: the byte %#x is printed:\n%q\n%q", what, b, r.out, r.errOut)
		}
	}
	if r.exit != exitOK && regexp.MustCompile(`(?m)^Accepted`).MatchString(r.out+r.errOut) {
		t.Fatalf("%s: a line passes for a verdict:\n%s\n%s", what, r.out, r.errOut)
	}
}

func segment(data string) string { return base64.RawURLEncoding.EncodeToString([]byte(data)) }

// A place is where a hostile text gets into the command: what it puts there, as
// standard input and arguments.
type place struct {
	name, stdin string
	args        []string
}

func jsonOf(t *testing.T, value any) string {
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// tokenPlaces are those of a token, which is stdin.
func tokenPlaces(t *testing.T, cluster *kubejwttest.Cluster, text string) map[string]string {
	good := `{"alg":"RS256","kid":"a"}`
	signed := func(change func(*kubejwttest.Token)) string {
		token := caller
		change(&token)
		return cluster.Mint(token)
	}
	raw := strings.NewReplacer(`"`, "", `\`, "").Replace(text) // inside a JSON string, as it is
	return map[string]string{
		"all of it":       text,
		"its header":      segment(text) + "." + segment(`{}`) + ".AAAA",
		"its payload":     segment(good) + "." + segment(text) + ".AAAA",
		"its signature":   segment(good) + "." + segment(`{}`) + "." + segment(text),
		"one part":        segment(text),
		"a raw string":    segment(`{"alg":"`+raw+`"}`) + "." + segment(`{"iss":"`+raw+`"}`) + ".AAAA",
		"a raw name":      segment(`{"`+raw+`":1}`) + "." + segment(`{"`+raw+`":{"`+raw+`":[1]}}`) + ".AAAA",
		"alg":             signed(func(t *kubejwttest.Token) { t.Header = map[string]any{"alg": text} }),
		"kid":             signed(func(t *kubejwttest.Token) { t.Header = map[string]any{"kid": text} }),
		"typ":             signed(func(t *kubejwttest.Token) { t.Header = map[string]any{"typ": text} }),
		"iss":             signed(func(t *kubejwttest.Token) { t.Claims = map[string]any{"iss": text} }),
		"aud":             signed(func(t *kubejwttest.Token) { t.Claims = map[string]any{"aud": []string{text}} }),
		"sub":             signed(func(t *kubejwttest.Token) { t.Claims = map[string]any{"sub": text} }),
		"jti":             signed(func(t *kubejwttest.Token) { t.Claims = map[string]any{"jti": text} }),
		"exp":             signed(func(t *kubejwttest.Token) { t.Claims = map[string]any{"exp": text} }),
		"kubernetes.io":   signed(func(t *kubejwttest.Token) { t.Claims = map[string]any{"kubernetes.io": text} }),
		"another claim":   signed(func(t *kubejwttest.Token) { t.Claims = map[string]any{text: map[string]any{text: text}} }),
		"the namespace":   signed(func(t *kubejwttest.Token) { t.Namespace = text }),
		"the pod":         signed(func(t *kubejwttest.Token) { t.Pod.Name = text; t.Pod.UID = text }),
		"before it":       text + " " + cluster.Mint(caller),
		"after it":        cluster.Mint(caller) + text,
		"base64":          base64.StdEncoding.EncodeToString([]byte(text)),
		"a document":      `{"kind":` + jsonOf(t, text) + `,"status":{"token":` + jsonOf(t, text) + `}}`,
		"a good document": `{"kind":` + jsonOf(t, text) + `,"status":{"token":"` + cluster.Mint(caller) + `"}}`,
	}
}

// placesOf are all places, except those of a server.
func placesOf(t *testing.T, cluster *kubejwttest.Cluster, text string) []place {
	keys := writeFile(t, string(cluster.PublicKeysPEM()))
	issuer := cluster.Config("any").Issuer
	good := cluster.Mint(caller)
	base := []string{"verify", "-issuer", issuer, "-audience", "data-store"}
	with := func(more ...string) []string { return append(append([]string{}, base...), more...) }
	var all []place
	for name, token := range tokenPlaces(t, cluster, text) {
		all = append(all,
			place{"token: " + name, token, with("-key-file", keys)},
			place{"token, JSON: " + name, token, with("-key-file", keys, "-json")},
			place{"inspect: " + name, token, []string{"inspect"}},
			place{"inspect, JSON: " + name, token, []string{"inspect", "-json"}})
	}
	file := func(content string) string { return writeFile(t, content) }
	inPEM := "-----BEGIN " + text + "-----\n" + text + "\n-----END " + text + "-----\n"
	inJWKS := `{"keys":[{"kty":` + jsonOf(t, text) + `,"kid":` + jsonOf(t, text) + `,"alg":` + jsonOf(t, text) + `}]}`
	for _, content := range []string{text, inPEM, inJWKS} {
		all = append(all,
			place{"key file", good, with("-key-file", file(content))},
			place{"key file, JSON", good, with("-key-file", file(content), "-json")},
			place{"CA file", good, with("-ca-file", file(content))},
			place{"bearer file", good, with("-ca-file", cluster.Folder()+"/ca.crt", "-bearer-token-file", file(content))},
			place{"call, token file", "", []string{"call", "-token-file", file(content), "http://127.0.0.1:1/"}},
			place{"call, CA file", "", []string{"call", "-token-file", file(good), "-ca-file", file(content), "https://127.0.0.1:1/"}})
	}
	named := strings.ReplaceAll(strings.ReplaceAll(text, "\x00", ""), "/", "")
	path := filepath.Join(t.TempDir(), "x"+named)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		path = "/nonexistent/" + named // no name of a file here
	}
	for _, flag := range []string{"key-file", "ca-file", "bearer-token-file", "token-file"} {
		all = append(all, place{"a path: " + flag, good, with("-"+flag, path)})
	}
	// serve never listens here: it has an address that there is none of, or is to check only.
	serve := append([]string{"serve", "-check", "-listen", "256.0.0.1:0"}, base[1:]...)
	for _, flag := range append(flagsOf(new(verifyFlags).define), text) {
		all = append(all,
			place{"a flag: " + flag, good, with("-key-file", keys, "-"+flag+"="+text)},
			place{"a flag, no key file: " + flag, good, with("-" + flag + "=" + text)},
			place{"inspect, a flag: " + flag, good, []string{"inspect", "-" + flag + "=" + text}},
			place{"call, a flag: " + flag, "", []string{"call", "-" + flag + "=" + text, "http://127.0.0.1:1/"}})
	}
	for _, flag := range flagsOf(new(callFlags).define) {
		all = append(all, place{"call, its own flag: " + flag, "", []string{"call", "-" + flag + "=" + text, "http://127.0.0.1:1/"}})
	}
	for _, flag := range append(flagsOf(new(serveFlags).define), text) {
		all = append(all,
			place{"serve, a flag: " + flag, "", []string{"serve", "-check", "-" + flag + "=" + text}},
			place{"serve, a flag after others: " + flag, "", append(serve[:len(serve):len(serve)], "-key-file", keys, "-policy", "a=a/b", "-"+flag+"="+text)})
	}
	quotedText := jsonOf(t, text)
	for _, content := range []string{
		text, quotedText + ": " + quotedText, "issuers: [{issuer: " + quotedText + ", keyFile: " + quotedText + "}]",
		"a: *" + text, "a: !<" + text + "> b", "%TAG ! " + text + "\n---\na", "a: &" + text + " b\nissuers: *" + text, "a:\n\t" + text,
		text + ": a\n" + text + ": b", "issuers: [{issuer: a, inCluster: " + quotedText + ", leeway: " + quotedText + ", watch: {whenStale: " + quotedText + "}}]",
		"policies: [{name: " + quotedText + ", audiences: [" + quotedText + "], serviceAccounts: [" + quotedText + "]}]",
	} {
		all = append(all, place{"serve, its file", "", []string{"serve", "-check", "-config", file(content)}})
	}
	return append(all,
		place{"a verb", "", []string{text}},
		place{"an argument", "", with("-key-file", keys, text)},
		place{"two arguments", "", with("-key-file", keys, text, text)},
		place{"a URL", "", []string{"call", "-token-file", keys, text}},
		place{"a URL's path", "", []string{"call", "-token-file", file(good), "http://127.0.0.1:1/" + text}},
		place{"version", "", []string{"version", text}})
}

// Whatever bytes get into whatever place, none that a terminal acts on or that
// could pass for others comes out.
func FuzzOutput(f *testing.F) {
	for _, text := range hostile() {
		f.Add([]byte(text))
	}
	cluster := kubejwttest.NewCluster(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		server := newHostileServer(t, text)
		places := append(placesOf(t, cluster, string(text)), server.places(t, cluster.Mint(caller))...)
		t.Setenv("KUBERNETES_SERVICE_HOST", "")
		for _, p := range places {
			kubejwtWith(t, p.stdin, p.args...).mustBeTame(t, fmt.Sprintf("%q in %s", text, p.name))
		}
	})
}

// Whatever gets into whatever place, little comes out, and nothing of a token. Except:
// call prints the start of a body, and verify the jti that the cluster signed.
func TestOutputIsBoundedAndWithoutTokens(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	token := cluster.Mint(kubejwttest.Token{Audiences: []string{"another"}})
	for _, text := range []string{token, encode("x" + token), "\u0430 " + token[:40], strings.Repeat("long ", 4000), strings.Repeat("\x1b", 20_000)} {
		server := newHostileServer(t, []byte(text))
		for _, p := range append(placesOf(t, cluster, text), server.places(t, cluster.Mint(caller))...) {
			if strings.HasPrefix(p.name, "an answer of") || strings.HasPrefix(p.name, "token") && strings.HasSuffix(p.name, ": jti") {
				continue
			}
			r := kubejwtWith(t, p.stdin, p.args...)
			if size := len(r.out + r.errOut); size > 16_000 {
				t.Errorf("%.20q in %s: %d bytes are printed: %.300s", text, p.name, size, r.out+r.errOut)
			}
			if strings.Contains(text, token[:40]) {
				mustHoldNothingOf(t, token[:40], r)
			}
			if strings.Contains(text, token) {
				mustHoldNothingOf(t, token, r)
			}
			if text == encode("x"+token) {
				mustHoldNothingOf(t, text, r)
			}
			if t.Failed() {
				t.Fatalf("%.20q in %s: see above", text, p.name)
			}
		}
	}
}

// flagsOf are the names of the flags that are defined.
func flagsOf(define func(*flag.FlagSet)) (names []string) {
	flags := newFlagSet("any")
	define(flags)
	flags.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
	return names
}

// The environment sets the flags of serve, and its variables are no tamer.
func TestEnvironmentIsTame(t *testing.T) {
	const token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhIn0.c2lnbmF0dXJlIG9mIGEgdG9rZW4"
	for _, text := range append(hostile(), token, encode("x"+token), strings.Repeat("long", 10_000)) {
		for _, entry := range []string{
			"KUBEJWT_" + text + "=x", "KUBEJWT_AUDIENCE=" + text, "KUBEJWT_LEEWAY=" + text, "COLUMNS=" + text,
			"KUBEJWT_KEY_FILE=" + text, "KUBEJWT_POLICY=" + text, "KUBEJWT_LISTEN=" + text,
		} {
			var out, errOut bytes.Buffer
			exit := run(t.Context(), process{nil, &out, &errOut, []string{entry}}, []string{"serve", "-check", "-issuer", "a", "-policy", "a=a/b"})
			r := result{exit, out.String(), errOut.String()}
			r.mustBeTame(t, fmt.Sprintf("%q", entry))
			mustHoldNothingOf(t, token, r)
			mustHoldNothingOf(t, encode("x"+token), r)
			if size := len(r.out + r.errOut); size > 3*maxMessage {
				t.Errorf("%.60q: %d bytes are printed", entry, size)
			}
		}
	}
}

// hostileServer puts a text into all that it answers.
type hostileServer struct{ url string }

func newHostileServer(t *testing.T, text []byte) hostileServer {
	mux := http.NewServeMux()
	server := httptest.NewUnstartedServer(mux)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	quoted := jsonOf(t, string(text))
	answer := func(path, body string, status int) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			io.WriteString(w, body)
		})
	}
	answer("/raw", string(text), 200)
	answer("/error", string(text), 500)
	answer("/keys", `{"keys":[{"kty":`+quoted+`,"kid":`+quoted+`},{"kty":"RSA","kid":`+quoted+`,"n":`+quoted+`}]}`, 200)
	answer("/issuer", `{"issuer":`+quoted+`,"jwks_uri":`+quoted+`}`, 200)
	answer("/uri", `{"issuer":"`+recordedIssuer+`","jwks_uri":`+quoted+`}`, 200)
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", string(text))
		w.Header().Set("Retry-After", string(text))
		w.WriteHeader(http.StatusFound)
	})
	mux.HandleFunc("/status", func(w http.ResponseWriter, r *http.Request) {
		connection, buffer, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer connection.Close()
		fmt.Fprintf(buffer, "HTTP/1.1 200 %s\r\n%s: %s\r\nContent-Length: 0\r\n\r\n", text, text, text)
		buffer.Flush()
	})
	server.Start()
	t.Cleanup(server.Close)
	return hostileServer{server.URL}
}

func (s hostileServer) places(t *testing.T, token string) []place {
	var all []place
	file := writeFile(t, token)
	for _, path := range []string{"/raw", "/error", "/keys", "/issuer", "/uri", "/away", "/status"} {
		verify := []string{"verify", "-issuer", recordedIssuer, "-audience", "data-store"}
		all = append(all,
			place{"a JWKS of " + path, token, append(verify, "-jwks-url", s.url+path)},
			place{"a document of " + path, token, append(verify, "-discovery-url", s.url+path)},
			place{"a document of " + path + ", JSON", token, append(verify, "-discovery-url", s.url+path, "-json")},
			place{"an answer of " + path, "", []string{"call", "-token-file", file, s.url + path}})
	}
	return all
}

// The log of serve is read in a terminal too.
func TestServeLogIsTame(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	for _, format := range []string{"text", "json"} {
		ctx, cancel := context.WithCancel(t.Context())
		reader, writer := io.Pipe()
		ended := make(chan int)
		args := append([]string{"serve", "-policy", "data-store=shop/api", "-listen", "127.0.0.1:0", "-debug-listen", "off"}, clusterFlags(cluster)...)
		args = append(args, "-log-format", format, "-log-level", "debug")
		go func() {
			ended <- run(ctx, process{nil, io.Discard, writer, nil}, args)
			writer.Close()
		}()
		lines := bufio.NewReader(reader)
		var written strings.Builder
		url := ""
		for url == "" {
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			written.WriteString(line)
			url = regexp.MustCompile(`http://[^ "]*/auth/data-store`).FindString(line)
		}
		rest := make(chan string)
		go func() {
			all, _ := io.ReadAll(lines)
			rest <- string(all)
		}()
		for _, text := range hostile() {
			for _, token := range tokenPlaces(t, cluster, text) {
				request, err := http.NewRequest("GET", url, nil)
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Authorization", "Bearer "+token)
				if response, err := http.DefaultClient.Do(request); err == nil { // not every token is fit for a header
					response.Body.Close()
				}
			}
		}
		cancel()
		<-ended
		r := result{errOut: written.String() + <-rest}
		r.mustBeTame(t, format)
		if !strings.Contains(r.errOut, "wrong_issuer") {
			t.Errorf("%s: the log does not tell of refusals:\n%s", format, r.errOut)
		}
	}
}
