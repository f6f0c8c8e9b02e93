package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubejwt/kubejwt/kubejwttest"
)

// schema is a JSON Schema of the few keywords that ours have: any other is an
// error, so that none is read past.
type schema map[string]any

func readSchema(t *testing.T, name string) schema {
	t.Helper()
	data, err := os.ReadFile(root + "/docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// resolve follows a $ref into one of the documents.
func resolve(documents map[string]schema, own, ref string) (schema, string) {
	document, path, _ := strings.Cut(ref, "#/")
	if document == "" {
		document = own
	}
	var at any = map[string]any(documents[document])
	for _, name := range strings.Split(path, "/") {
		at = at.(map[string]any)[name]
	}
	return at.(map[string]any), document
}

// conforms returns what of value is not as s has it.
func conforms(documents map[string]schema, own string, s schema, path string, value any) (wrong []string) {
	fail := func(format string, args ...any) { wrong = append(wrong, path+": "+fmt.Sprintf(format, args...)) }
	object, _ := value.(map[string]any)
	for keyword, want := range s {
		switch keyword {
		case "$schema", "title", "description", "$defs":
		case "$ref":
			target, document := resolve(documents, own, want.(string))
			wrong = append(wrong, conforms(documents, document, target, path, value)...)
		case "type":
			if got := typeOf(value); got != want && !(want == "integer" && got == "number" && value == float64(int64(value.(float64)))) {
				fail("a %s: want %s", got, want)
			}
		case "enum":
			if !slices.Contains(want.([]any), value) {
				fail("%v: want one of %v", value, want)
			}
		case "pattern":
			if !regexp.MustCompile(want.(string)).MatchString(value.(string)) {
				fail("%v: want %s", value, want)
			}
		case "format":
			if _, err := time.Parse(time.RFC3339, value.(string)); want != "date-time" || err != nil {
				fail("%v: want %s", value, want)
			}
		case "minimum", "maximum":
			if n := value.(float64); keyword == "minimum" && n < want.(float64) || keyword == "maximum" && n > want.(float64) {
				fail("%v: %s %v", n, keyword, want)
			}
		case "minItems", "maxItems":
			if n := float64(len(value.([]any))); keyword == "minItems" && n < want.(float64) || keyword == "maxItems" && n > want.(float64) {
				fail("%v items: %s %v", n, keyword, want)
			}
		case "required":
			for _, name := range want.([]any) {
				if _, ok := object[name.(string)]; !ok {
					fail("no %s", name)
				}
			}
		case "properties", "additionalProperties":
		case "items":
			for i, item := range value.([]any) {
				wrong = append(wrong, conforms(documents, own, want.(map[string]any), fmt.Sprintf("%s[%d]", path, i), item)...)
			}
		default:
			fail("the schema has %s, which this test does not know", keyword)
		}
	}
	properties, _ := s["properties"].(map[string]any)
	for name, member := range object {
		if property, ok := properties[name]; ok {
			wrong = append(wrong, conforms(documents, own, property.(map[string]any), path+"."+name, member)...)
		} else if s["additionalProperties"] == false {
			fail("a member %s, of which the schema knows nothing", name)
		} else if rest, ok := s["additionalProperties"].(map[string]any); ok {
			wrong = append(wrong, conforms(documents, own, rest, path+"."+name, member)...)
		}
	}
	return wrong
}

func typeOf(value any) string {
	switch value.(type) {
	case map[string]any:
		return "object"
	case []any:
		return "array"
	case string:
		return "string"
	case float64:
		return "number"
	case bool:
		return "boolean"
	default:
		return "null"
	}
}

// The schemas in docs hold for what is printed, whatever the verdict, and for
// every exit status but usage there is a document.
func TestJSONFollowsTheSchema(t *testing.T) {
	documents := map[string]schema{
		"verify.schema.json":  readSchema(t, "verify.schema.json"),
		"inspect.schema.json": readSchema(t, "inspect.schema.json"),
	}
	cluster := kubejwttest.NewCluster(t)
	keys, issuer := writeFile(t, string(cluster.PublicKeysPEM())), cluster.Config("any").Issuer
	good := []string{"-key-file", keys, "-issuer", issuer, "-audience", "data-store"}
	seen := make(map[string]bool)
	members := make(map[string]bool)
	hold := func(name, schema, stdin string, args ...string) {
		r := kubejwtWith(t, stdin, append(args, "-json")...)
		var value map[string]any
		if err := json.Unmarshal([]byte(r.out), &value); err != nil || r.exit == exitUsage {
			t.Fatalf("%s: exit status %d, %v:\n%s%s", name, r.exit, err, r.out, r.errOut)
		}
		for _, wrong := range conforms(documents, schema, documents[schema], name, value) {
			t.Error(wrong)
		}
		seen[fmt.Sprint(r.exit, " ", value["verdict"], value["kind"])] = true
		for member := range value {
			members[schema+" "+member] = true
		}
		if r.exit != exitOK && value["to_do"] == "" {
			t.Errorf("%s: nothing to do:\n%s", name, r.out)
		}
	}
	verify := func(name, token string, args ...string) {
		hold("verify, "+name, "verify.schema.json", token, append([]string{"verify"}, args...)...)
		hold("inspect, "+name, "inspect.schema.json", token, "inspect")
	}
	verify("accepted", cluster.Mint(caller), good...)
	verify("quoted", `"`+cluster.Mint(caller)+`"`, good...)
	verify("as of", cluster.Mint(caller), append(good, "-at", "2020-01-01T00:00:00Z")...)
	verify("not allowed", cluster.Mint(caller), append(good, "-service-account", "shop/web")...)
	verify("no key file", cluster.Mint(caller), "-key-file", "/nonexistent", "-issuer", issuer, "-audience", "data-store")
	verify("no keys", cluster.Mint(caller), "-jwks-url", "http://127.0.0.1:1/", "-issuer", issuer, "-audience", "data-store")
	for name, token := range tokenPlaces(t, cluster, hostile()[0]) {
		verify(name, token, good...)
	}
	for _, name := range []string{"pod_bound", "node_bound", "secret_bound", "extended_default_mount", "unbound"} {
		verify(name, readToken(t, name), recorded()[1:]...)
	}
	legacy := caller
	legacy.Claims = map[string]any{"kubernetes.io": nil, "aud": nil, "exp": nil, "kubernetes.io/serviceaccount/namespace": "shop"}
	verify("legacy", cluster.Mint(legacy), good...)
	notOurs := caller
	notOurs.Claims = map[string]any{"kubernetes.io": nil}
	verify("other", cluster.Mint(notOurs), good...)
	for _, want := range []string{
		"0 accepted<nil>", "1 refused<nil>", "1 not_allowed<nil>", "3 keys_unavailable<nil>", "1 <nil>none", "0 <nil>projected",
		"0 <nil>extended", "0 <nil>secret_based", "0 <nil>other",
	} {
		if !seen[want] {
			t.Errorf("there is no document with %s: %v", want, seen)
		}
	}
	for name, document := range documents {
		for member := range document["properties"].(map[string]any) {
			if !members[name+" "+member] && member != "log" {
				t.Errorf("%s: no document has %s", name, member)
			}
		}
	}
}

// Claims are fit for jq: numbers are numbers, objects are objects, and times
// stand beside them, for accepted tokens too.
func TestJSONClaims(t *testing.T) {
	r := kubejwtWith(t, readToken(t, "pod_bound"), recorded("-json")...)
	var document struct {
		Claims struct {
			Exp        int64    `json:"exp"`
			Aud        []string `json:"aud"`
			Kubernetes struct {
				Pod struct{ Name string }
			} `json:"kubernetes.io"`
		}
		Times map[string]time.Time
	}
	if err := json.Unmarshal([]byte(r.out), &document); err != nil {
		t.Fatal(err)
	}
	c := document.Claims
	if c.Exp != document.Times["exp"].Unix() || c.Exp == 0 || c.Aud[0] != "data-store" || c.Kubernetes.Pod.Name == "" {
		t.Errorf("claims %+v, times %v", c, document.Times)
	}
	cluster := kubejwttest.NewCluster(t)
	token := caller
	token.Claims = map[string]any{"big": json.Number("9007199254740993"), "huge": json.Number("1" + strings.Repeat("0", 300)), "list": []any{1.5, true, nil}}
	r = kubejwtWith(t, cluster.Mint(token), append(append([]string{"verify"}, clusterFlags(cluster)...), "-json")...)
	r.mustSay(t, exitOK, `"big": 9007199254740993`, `"huge": "(a number of 301 characters)"`, `"list": [ 1.5, true, null ]`)
}
