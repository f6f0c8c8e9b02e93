package accounts_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/kubejwt/kubejwt/internal/accounts"
)

func TestParse(t *testing.T) {
	for _, entry := range []string{"shop/api", "shop/*", "*", "shop/a.b", "s-1/a-1"} {
		if _, err := accounts.Parse([]string{entry}); err != nil {
			t.Errorf("%q: %v", entry, err)
		}
	}
	for _, entries := range [][]string{
		nil, {}, {""}, {"shop"}, {"shop/"}, {"/api"}, {"*/api"}, {"*/*"}, {"shop/a*"}, {"sh.op/api"},
		{"shop/api/x"}, {"Shop/api"}, {"shop/api "}, {"system:serviceaccount:shop:api"}, {"shop/api", "x"},
	} {
		if list, err := accounts.Parse(entries); err == nil || list.Has("shop", "api") {
			t.Errorf("%q: no error, or a list beside it", entries)
		}
	}
}

// A token that is given by mistake is not repeated, nor is anything at length.
func TestErrorsAreTame(t *testing.T) {
	for entry, want := range map[string]string{
		"shop":                          `"shop" is not "namespace/name"`,
		"\x1b[2J\u0430":                 `"\x1b[2J\u0430" is not`,
		"eyJhbGciOiJSUzI1NiJ9.e30.AAAA": "(withheld: it looks like a token) is not",
		strings.Repeat("A", 1000):       `AAA..." is not`,
	} {
		_, err := accounts.Parse([]string{entry})
		if err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 200 {
			t.Errorf("%.20q: %v, want %s", entry, err, want)
		}
	}
}

func TestList(t *testing.T) {
	list := func(entries ...string) accounts.List {
		l, err := accounts.Parse(entries)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	for _, tt := range []struct {
		name    string
		list    accounts.List
		has     []string // of the accounts below
		covers  []string // of the entries below
		entries []accounts.Account
	}{
		{"none", accounts.List{}, nil, nil, nil},
		{"one", list("shop/api"), []string{"shop/api"}, []string{"shop/api"}, []accounts.Account{{"shop", "api"}}},
		{"a namespace", list("shop/*", "shop/api"), []string{"shop/api", "shop/web"},
			[]string{"shop/api", "shop/web", "shop/*"}, []accounts.Account{{"shop", "*"}}},
		{"every one", list("*", "shop/api", "shop/*"), []string{"shop/api", "shop/web", "batch/api"},
			[]string{"shop/api", "shop/web", "batch/api", "shop/*", "*"}, []accounts.Account{{"*", "*"}}},
		{"two", list("shop/web", "batch/api"), []string{"shop/web", "batch/api"}, []string{"shop/web", "batch/api"},
			[]accounts.Account{{"batch", "api"}, {"shop", "web"}}},
	} {
		for entry, account := range map[string]accounts.Account{
			"shop/api": {"shop", "api"}, "shop/web": {"shop", "web"}, "batch/api": {"batch", "api"},
		} {
			if got := tt.list.Has(account.Namespace, account.Name); got != slices.Contains(tt.has, entry) {
				t.Errorf("%s: Has(%s) = %t", tt.name, entry, got)
			}
		}
		for _, entry := range []string{"shop/api", "shop/web", "batch/api", "shop/*", "*"} {
			if got := tt.list.Covers(entry); got != slices.Contains(tt.covers, entry) {
				t.Errorf("%s: Covers(%s) = %t", tt.name, entry, got)
			}
		}
		got := make(map[accounts.Account]bool)
		for _, entry := range tt.list.Entries() {
			got[entry] = true
		}
		want := make(map[accounts.Account]bool)
		for _, entry := range tt.entries {
			want[entry] = true
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: Entries() = %v: want %v", tt.name, got, want)
		}
	}
}
