package kubejwt_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kubejwt/kubejwt"
)

// Claims has all that a token says, with the times in UTC.
func TestClaims(t *testing.T) {
	k := newKit(t)
	g := good()
	now := time.Unix(1700000000, 0)
	k.config.Now = func() time.Time { return now }
	k.config.AcceptExtended, k.config.MaxLifetime = true, -1
	claims(object{
		"jti": "an ID", "iat": now.Unix() - 3, "nbf": now.Unix() - 2, "exp": now.Unix() + 9, "aud": []string{"reports", "data-store"},
	})(&g)
	kubernetes(object{"warnafter": now.Unix() + 8})(&g)
	extended := kubejwt.Claims{
		Issuer: k.config.Issuer, Subject: "system:serviceaccount:shop:api", ID: "an ID", Audience: "data-store", Namespace: "shop",
		ServiceAccount: kubejwt.Object{Name: "api", UID: "d5ec1197-1710-46f4-83ba-4b1a13f2aa30"}, Pod: good().Pod, Node: good().Node,
		IssuedAt: now.Add(-3 * time.Second).UTC(), NotBefore: now.Add(-2 * time.Second).UTC(), Expiry: now.Add(9 * time.Second).UTC(),
	}
	plain := extended
	plain.Expiry = now.Add(8 * time.Second).UTC()
	token := k.Mint(g)
	for _, want := range []kubejwt.Claims{extended, plain} {
		v := mustNew(t, k.config)
		for range 2 { // the second time it is remembered
			got, err := v.Verify(t.Context(), token)
			if diff := cmp.Diff(want, got); err != nil || diff != "" || got != want {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		}
		k.config.AcceptExtended = false
	}

	// The API server leaves out the UID of a node that it did not find.
	kubernetes(object{"node": object{"name": "node-1"}})(&g)
	if got, err := mustNew(t, k.config).Verify(t.Context(), k.Mint(g)); err != nil || got.Node != (kubejwt.Object{Name: "node-1"}) {
		t.Errorf("a node without a UID: %v, %v", got.Node, err)
	}
}

// Extra has what TokenReview gives: a pod by both its name and its UID.
func TestExtra(t *testing.T) {
	const prefix = "authentication.kubernetes.io/"
	for _, tt := range []struct {
		name   string
		claims kubejwt.Claims
		want   map[string][]string
	}{
		{"nothing", kubejwt.Claims{Namespace: "shop"}, nil},
		{"an ID", kubejwt.Claims{ID: "a"}, map[string][]string{prefix + "credential-id": {"JTI=a"}}},
		{"a pod", kubejwt.Claims{Pod: kubejwt.Object{Name: "p", UID: "1"}}, map[string][]string{prefix + "pod-name": {"p"}, prefix + "pod-uid": {"1"}}},
		{"a pod without a UID", kubejwt.Claims{Pod: kubejwt.Object{Name: "p"}}, nil},
		{"a pod without a name", kubejwt.Claims{Pod: kubejwt.Object{UID: "1"}}, nil},
		{"a node", kubejwt.Claims{Node: kubejwt.Object{Name: "n", UID: "2"}}, map[string][]string{prefix + "node-name": {"n"}, prefix + "node-uid": {"2"}}},
		{"a node without a UID", kubejwt.Claims{Node: kubejwt.Object{Name: "n"}}, map[string][]string{prefix + "node-name": {"n"}}},
		{"a node without a name", kubejwt.Claims{Node: kubejwt.Object{UID: "2"}}, nil},
	} {
		if diff := cmp.Diff(tt.want, tt.claims.Extra()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
