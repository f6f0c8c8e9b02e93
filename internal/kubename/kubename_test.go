package kubename_test

import (
	"strings"
	"testing"

	"github.com/kubejwt/kubejwt/internal/kubename"
)

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		s                           string
		label, subdomain, printable bool
	}{
		{"shop", true, true, true},
		{"a", true, true, true},
		{"0", true, true, true},
		{"az09", true, true, true},
		{"shop-1", true, true, true},
		{"a--b", true, true, true},
		{strings.Repeat("a", 63), true, true, true},
		{strings.Repeat("a", 64), false, true, true}, // of a subdomain Kubernetes bounds the whole, not each label
		{strings.Repeat("a", 128), false, true, true},
		{strings.Repeat("a", 253), false, true, false},
		{strings.Repeat("a", 254), false, false, false},
		{"shop.api", false, true, true},
		{"a.b.c", false, true, true},

		{"", false, false, false},
		{"-shop", false, false, true},
		{"shop-", false, false, true},
		{".shop", false, false, true},
		{"shop.", false, false, true},
		{"a..b", false, false, true},
		{"a-.b", false, false, true},
		{"a.-b", false, false, true},
		{"Shop", false, false, true},
		{"sh_op", false, false, true},
		{"sh/op", false, false, true},
		{"sh*op", false, false, true},
		{"sh op", false, false, true},
		{"~", false, false, true},
		{"a`", false, false, true},
		{"a{", false, false, true},
		{"a:", false, false, true},
		{"sh\nop", false, false, false},
		{"sh\x7fop", false, false, false},
		{"sh\x1fop", false, false, false},
		{"sch\u00f6n", false, false, false},
		{"\uff53hop", false, false, false},
	} {
		if got := kubename.IsLabel(tt.s); got != tt.label {
			t.Errorf("IsLabel(%q) = %t", tt.s, got)
		}
		if got := kubename.IsSubdomain(tt.s); got != tt.subdomain {
			t.Errorf("IsSubdomain(%q) = %t", tt.s, got)
		}
		if got := kubename.IsPrintable(tt.s); got != tt.printable {
			t.Errorf("IsPrintable(%q) = %t", tt.s, got)
		}
	}
}
