package kubejwt_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubejwt/kubejwt"
)

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
