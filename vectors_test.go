package kubejwt_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kubejwt/kubejwt"
)

const (
	vectorFolder = "testdata/vectors/"
	vectorIssuer = "https://iss.example"
)

// vector is a file of testdata/vectors, as its README describes it.
type vector struct {
	name   string
	header map[string]string
	body   string
}

// readVectors reads the files of a kind, strictly: a header that nobody reads
// would be a test that nobody runs.
func readVectors(t testing.TB, kind string, known ...string) map[string]vector {
	t.Helper()
	all := make(map[string]vector)
	paths, err := filepath.Glob(vectorFolder + "*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		v := vector{name: filepath.Base(path)}
		if kindOf(v.name) != kind {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.parse(string(data), known); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all[v.name] = v
	}
	if len(all) == 0 {
		t.Fatalf("no %s vectors in %s", kind, vectorFolder)
	}
	return all
}

func kindOf(name string) string {
	for _, kind := range []string{"jwks", "discovery"} {
		if strings.HasPrefix(name, kind+"_") {
			return kind
		}
	}
	return "token"
}

func (v *vector) parse(text string, known []string) error {
	head, body, found := strings.Cut(text, "\n\n")
	if !found {
		return errors.New("no blank line after the header")
	}
	v.header = make(map[string]string)
	for line := range strings.SplitSeq(head, "\n") {
		name, value, found := strings.Cut(line, ": ")
		_, doubled := v.header[name]
		if !found || value == "" || doubled || !slices.Contains(known, name) {
			return fmt.Errorf("header line %q: want one each of %q", line, known)
		}
		v.header[name] = value
	}
	v.body = strings.TrimSuffix(body, "\n")
	if strings.HasPrefix(v.body, `"`) {
		unquoted, err := strconv.Unquote(v.body)
		if err != nil {
			return fmt.Errorf("the quoted body: %w", err)
		}
		v.body = unquoted
	}
	return nil
}

// tokenVectors are those of tokens.
func tokenVectors(t testing.TB) map[string]vector {
	t.Helper()
	return readVectors(t, "token", "expect", "rule", "sibling", "keys", "now", "audiences", "former-issuers", "service-accounts",
		"leeway", "max-lifetime", "accept-extended", "require-pod", "comment", "source")
}

// reasons are those that a vector may expect.
var reasons = []kubejwt.Reason{
	kubejwt.ReasonTooLarge, kubejwt.ReasonMalformed, kubejwt.ReasonBadAlgorithm, kubejwt.ReasonLegacy, kubejwt.ReasonWrongIssuer,
	kubejwt.ReasonUnknownKey, kubejwt.ReasonBadSignature, kubejwt.ReasonWrongAudience, kubejwt.ReasonExpired, kubejwt.ReasonNotYetValid,
	kubejwt.ReasonStale, kubejwt.ReasonLifetimeTooLong, kubejwt.ReasonNotAServiceAccount, kubejwt.ReasonNotBound,
}

// served is a RoundTripper that answers from memory, by URL, and notes what it
// was asked.
type served struct {
	bodies map[string]string
	asked  chan string
}

func serve(bodies map[string]string) *served { return &served{bodies, make(chan string, 100)} }

func (s *served) RoundTrip(r *http.Request) (*http.Response, error) {
	s.asked <- r.URL.String()
	body, found := s.bodies[r.URL.String()]
	status := http.StatusOK
	if !found {
		status = http.StatusNotFound
	}
	return &http.Response{StatusCode: status, Header: make(http.Header), Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

// config is what v is judged by. What its header does not say is the default,
// except for the leeway: there is none.
func (v vector) config(t testing.TB) kubejwt.Config {
	t.Helper()
	config := kubejwt.Config{
		Issuer:          vectorIssuer,
		FormerIssuers:   v.list("former-issuers", nil),
		Audiences:       v.list("audiences", []string{"svc-a"}),
		ServiceAccounts: v.list("service-accounts", []string{"*"}),
		Leeway:          v.duration(t, "leeway"),
		MaxLifetime:     v.duration(t, "max-lifetime"),
		AcceptExtended:  v.flag(t, "accept-extended"),
		RequirePod:      v.flag(t, "require-pod"),
	}
	if config.Leeway == 0 {
		config.Leeway = -1
	}
	now, err := strconv.ParseInt(v.header["now"], 10, 64)
	if err != nil {
		t.Fatalf("%s: now: %v", v.name, err)
	}
	config.Now = func() time.Time { return time.Unix(now, 0) }

	path := vectorFolder + "keys/" + v.header["keys"]
	switch filepath.Ext(path) {
	case ".pem":
		config.Keys = kubejwt.KeyFile(path)
	case ".jwks":
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatalf("%s: keys: %v", v.name, err)
		}
		const url = vectorIssuer + "/openid/v1/jwks"
		config.Keys = kubejwt.RemoteKeys{JWKSURL: url, Transport: serve(map[string]string{url: string(data)})}
	default:
		t.Fatalf("%s: keys: want a .pem or .jwks file", v.name)
	}
	return config
}

func (v vector) list(name string, otherwise []string) []string {
	value, found := v.header[name]
	if !found {
		return otherwise
	}
	return strings.Split(value, ", ")
}

// duration is 0 if there is none, and negative for "none".
func (v vector) duration(t testing.TB, name string) time.Duration {
	t.Helper()
	value, found := v.header[name]
	if !found {
		return 0
	}
	if value == "none" {
		return -1
	}
	d, err := time.ParseDuration(value)
	if err != nil {
		t.Fatalf("%s: %s: %v", v.name, name, err)
	}
	return d
}

func (v vector) flag(t testing.TB, name string) bool {
	t.Helper()
	value, found := v.header[name]
	if found && value != "true" {
		t.Fatalf("%s: %s: %q: want true or nothing", v.name, name, value)
	}
	return found
}

// Every vector gets the verdict and the Reason that its header expects, and the
// sibling that it differs from by one mutation is accepted.
func TestVectors(t *testing.T) {
	all := tokenVectors(t)
	seen := make(map[kubejwt.Reason]int)
	for name, v := range all {
		expect := kubejwt.Reason(v.header["expect"])
		seen[expect]++
		t.Run(strings.TrimSuffix(name, ".txt"), func(t *testing.T) {
			if expect == "accept" {
				v.mustBeAccepted(t)
				return
			}
			if !slices.Contains(reasons, expect) {
				t.Fatalf("expect: %q is neither accept nor a Reason", expect)
			}
			sibling, found := all[v.header["sibling"]]
			if !found {
				t.Fatalf("sibling: there is no %q", v.header["sibling"])
			}
			sibling.mustBeAccepted(t)
			v.mustDifferOnce(t, sibling)
			v.mustBeRefused(t, expect)
		})
	}
	if len(all) < 300 {
		t.Errorf("%d vectors: want 300 at least", len(all))
	}
	for _, reason := range reasons {
		// A token over 16 KiB is no text to read: TestCostOfRefusing has it.
		if seen[reason] == 0 && reason != kubejwt.ReasonTooLarge {
			t.Errorf("no vector expects %q", reason)
		}
	}
}

func (v vector) mustBeAccepted(t *testing.T) {
	t.Helper()
	if v.header["expect"] != "accept" || v.header["sibling"] != "" || v.header["rule"] != "" {
		t.Fatalf("%s: expects %q: want accept, without a rule or a sibling", v.name, v.header["expect"])
	}
	verifier := mustNew(t, v.config(t))
	for _, how := range []string{"afresh", "remembered"} {
		claims, err := verifier.Verify(t.Context(), v.body)
		if err != nil || claims.Username() != claims.Subject || claims.Subject == "" {
			t.Fatalf("%s, %s: %+v, %v: want Claims", v.name, how, claims, err)
		}
	}
}

func (v vector) mustBeRefused(t *testing.T, expect kubejwt.Reason) {
	t.Helper()
	rule, err := strconv.Atoi(v.header["rule"])
	if err != nil {
		t.Fatalf("rule: %v", err)
	}
	verifier := mustNew(t, v.config(t))
	for range 2 {
		claims, err := verifier.Verify(t.Context(), v.body)
		if got := reasonOf(err); got != expect {
			t.Fatalf("reason %q: want %q (%v)", got, expect, err)
		}
		refusal, _ := errors.AsType[*kubejwt.InvalidTokenError](err)
		if refusal.Rule != rule {
			t.Errorf("rule %d: want %d", refusal.Rule, rule)
		}
		if refusal.Subject != "" && rule < 7 {
			t.Errorf("the subject %q of an unverified token", refusal.Subject)
		}
		checkRefusal(t, v.body, claims, err)
	}
}

// mustDifferOnce holds v against its sibling: either the token is the same and
// is judged by something else, or it is judged by the same, and header and
// payload do not both differ.
func (v vector) mustDifferOnce(t *testing.T, sibling vector) {
	t.Helper()
	judgedBy := func(v vector) string {
		var lines []string
		for name, value := range v.header {
			if !slices.Contains([]string{"expect", "rule", "sibling", "comment", "source"}, name) {
				lines = append(lines, name+": "+value)
			}
		}
		slices.Sort(lines)
		return strings.Join(lines, "\n")
	}
	if same := judgedBy(v) == judgedBy(sibling); same == (v.body == sibling.body) {
		t.Errorf("it differs from %s in the token and in what judges it, or in neither", sibling.name)
	}
	mine, its := strings.Split(v.body, "."), strings.Split(sibling.body, ".")
	if len(mine) == 3 && mine[0] != its[0] && mine[1] != its[1] && !strings.HasPrefix(v.name, "form_") {
		t.Errorf("it differs from %s in the header and in the payload", sibling.name)
	}
}

// unsigned is a token that names a kid. Its signature is nobody's, which is
// judged after the key is found.
func unsigned(t testing.TB, kid string) string {
	t.Helper()
	good := tokenVectors(t)["good_es256.txt"].body
	part := strings.Split(good, ".")
	return encodeSegment(fmt.Sprintf(`{"alg":"ES256","kid":%q}`, kid)) + "." + part[1] + "." + part[2]
}

// documentVerifier judges by a document that is fetched.
func documentVerifier(t *testing.T, kind string, v vector, transport *served) *kubejwt.Verifier {
	t.Helper()
	config := kubejwt.Config{
		Issuer:          vectorIssuer,
		Audiences:       []string{"svc-a"},
		ServiceAccounts: []string{"*"},
		Now:             func() time.Time { return time.Unix(1700000000, 0) },
	}
	keys := kubejwt.RemoteKeys{Transport: transport}
	if kind == "jwks" {
		keys.JWKSURL = vectorIssuer + "/openid/v1/jwks"
	}
	config.Keys = keys
	if v.header["in-pod"] != "true" {
		return mustNew(t, config)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "iss.example")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	verifier, err := kubejwt.InCluster(config)
	if err != nil {
		t.Fatal(err)
	}
	return verifier
}

// Every document gives the keys that its header says, or the fetch has failed,
// and nobody is asked but the URL that the header says.
func TestDocuments(t *testing.T) {
	const keysURL = vectorIssuer + "/openid/v1/jwks"
	oneKey := readVectors(t, "jwks", documentHeaders...)["jwks_use_enc.txt"].body // of which "good" is usable
	for kind, documentURL := range map[string]string{
		"jwks":      keysURL,
		"discovery": vectorIssuer + "/.well-known/openid-configuration",
	} {
		for name, v := range readVectors(t, kind, documentHeaders...) {
			t.Run(strings.TrimSuffix(name, ".txt"), func(t *testing.T) {
				bodies := map[string]string{documentURL: v.body}
				if asked := v.header["asked"]; kind == "discovery" && asked != "" {
					bodies[asked] = oneKey
				}
				if v.header["in-pod"] == "true" {
					// The pod's API server, with its port, is the same origin.
					bodies["https://iss.example:443/.well-known/openid-configuration"] = v.body
					bodies["https://iss.example:443/openid/v1/jwks"] = oneKey
				}
				transport := serve(bodies)
				verifier := documentVerifier(t, kind, v, transport)
				err := verifier.Ready(t.Context())
				close(transport.asked)
				switch v.header["expect"] {
				case "usable":
					v.mustBeUsable(t, verifier, err)
				case "failed":
					v.mustHaveFailed(t, verifier, err)
				default:
					t.Fatalf("expect: %q: want usable or failed", v.header["expect"])
				}
				for asked := range transport.asked {
					if _, found := bodies[asked]; !found {
						t.Errorf("%s was asked", asked)
					}
				}
			})
		}
	}
}

var documentHeaders = []string{"expect", "usable", "dropped", "in-pod", "asked", "comment", "source"}

func (v vector) mustBeUsable(t *testing.T, verifier *kubejwt.Verifier, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if got := verifier.Stats().KeyIDs; !slices.Equal(got, v.list("usable", nil)) {
		t.Errorf("usable keys %q: want %q", got, v.header["usable"])
	}
	for _, kid := range v.list("dropped", nil) {
		if why := v.dropped(t, kid); !strings.Contains(why, "published and not used") {
			t.Errorf("kid %q: %s: want it dropped, and why", kid, why)
		}
	}
}

// dropped is what a token of this kid is told.
func (v vector) dropped(t *testing.T, kid string) string {
	t.Helper()
	const url = vectorIssuer + "/openid/v1/jwks"
	verifier := documentVerifier(t, "jwks", v, serve(map[string]string{url: v.body}))
	_, err := verifier.Verify(t.Context(), unsigned(t, kid))
	if reasonOf(err) != kubejwt.ReasonUnknownKey {
		t.Errorf("kid %q: %v: want unknown_key", kid, err)
	}
	return fmt.Sprint(err)
}

func (v vector) mustHaveFailed(t *testing.T, verifier *kubejwt.Verifier, err error) {
	t.Helper()
	if !errors.Is(err, kubejwt.ErrKeysUnavailable) {
		t.Fatalf("%v: want ErrKeysUnavailable", err)
	}
	if v.header["usable"] != "" || v.header["asked"] != "" {
		t.Error("expects failed, and keys")
	}
	if s := verifier.Stats(); s.FetchFailures != 1 || len(s.KeyIDs) != 0 {
		t.Errorf("%+v: want one failed fetch and no keys", s)
	}
	// A body is somebody else's text.
	if leak := commonRun(strings.ReplaceAll(err.Error(), vectorIssuer, ""), strings.ReplaceAll(v.body, vectorIssuer, ""), 16); leak != "" && kindOf(v.name) == "jwks" {
		t.Errorf("the error %q has %q of the document", err, leak)
	}
}
