package main

import (
	"strings"
	"testing"

	"github.com/kubejwt/kubejwt/kubejwttest"
)

// Each member is shown under the names on the way to it, each of them quoted once
// and only where it has to be, and none passes for another.
func TestMembers(t *testing.T) {
	for object, want := range map[string]string{
		`{"iss":"a"}`:                                    `iss`,
		`{"aud":["a"]}`:                                  `aud[0]`,
		`{"kubernetes.io":{"pod":{"name":"a"}}}`:         `kubernetes.io.pod.name`,
		`{"kubernetes.io/serviceaccount/namespace":"a"}`: `"kubernetes.io/serviceaccount/namespace"`,
		`{"kubernetes":{"io":{"pod":{"name":"a"}}}}`:     `"kubernetes".io.pod.name`,
		`{"kubernetes.io.pod.name":"a"}`:                 `"kubernetes.io.pod.name"`,
		`{"x":{"kubernetes.io":"a"}}`:                    `x."kubernetes.io"`,
		`{"":{"iss":"a"}}`:                               `"".iss`,
		`{"":"a"}`:                                       `""`,
		`{"a b":"a"}`:                                    `"a b"`,
		`{"aud[0]":"a"}`:                                 `"aud[0]"`,
		`{"a\"b":"a"}`:                                   `"a\"b"`,
		`{"\u001b[2J":{"é":"a"}}`:                        `"\x1b[2J"."\u00e9"`,
		`{"eyJhbGciOiJSUzI1NiJ9":"a"}`:                   withheld,
		`{"` + strings.Repeat("a", 300) + `":"a"}`:       `"` + strings.Repeat("a", 155) + `..."`,
	} {
		p := part{object: []byte(object)}
		members := p.members()
		if len(members) != 1 || members[0].showName() != want || members[0].text != "a" {
			t.Errorf("%s: it is shown as %+v: want %s", object, members, want)
		}
		if isOne := want == "iss"; (p.get("iss") == "a") != isOne {
			t.Errorf("%s: it has the issuer %q", object, p.get("iss"))
		}
		if isOne := want == "kubernetes.io.pod.name"; (p.get("kubernetes.io.pod.name") == "a") != isOne {
			t.Errorf("%s: it is bound to the pod %q", object, p.get("kubernetes.io.pod.name"))
		}
	}
}

// A Secret-based token is recognised by its flat claims, which are quoted once.
func TestFlatClaims(t *testing.T) {
	legacy := caller
	legacy.Claims = map[string]any{
		"kubernetes.io": nil, "aud": nil, "exp": nil, "kubernetes.io/serviceaccount/namespace": "shop",
	}
	cluster := kubejwttest.NewCluster(t)
	token := cluster.Mint(legacy)
	for _, args := range [][]string{{"inspect"}, append([]string{"verify"}, clusterFlags(cluster)...)} {
		r := kubejwtWith(t, token, args...)
		r.mustSay(t, r.exit, ` "kubernetes.io/serviceaccount/namespace" "shop"`, "Secret-based")
	}
	elsewhere := caller
	elsewhere.Claims = map[string]any{"x": map[string]any{"kubernetes.io/serviceaccount/namespace": "shop"}}
	kubejwtWith(t, cluster.Mint(elsewhere), "inspect").mustSay(t, exitOK, "a projected service account token")
}
