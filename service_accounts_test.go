package kubejwt_test

import (
	"errors"
	"testing"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/kubejwttest"
)

func TestServiceAccounts(t *testing.T) {
	k := newKit(t)
	v := mustNew(t, k.config)
	batch, err := v.WithServiceAccounts("batch/*")
	if err != nil {
		t.Fatal(err)
	}
	nightly, err := batch.WithServiceAccounts("batch/nightly")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		namespace, name         string
		byAll, byBatch, byNight bool
	}{
		{"shop", "api", true, false, false},
		{"shop", "web", false, false, false},
		{"batch", "nightly", true, true, true},
		{"batch", "weekly", true, true, false},
		{"batch2", "nightly", false, false, false},
		{"kube-system", "api", false, false, false},
	} {
		token := k.Mint(kubejwttest.Token{Namespace: tt.namespace, ServiceAccount: tt.name, Audiences: []string{"data-store"}})
		for _, by := range []struct {
			v    *kubejwt.Verifier
			want bool
		}{{v, tt.byAll}, {batch, tt.byBatch}, {nightly, tt.byNight}} {
			// The second time it may be remembered, by another copy too.
			for range 2 {
				claims, err := by.v.Verify(t.Context(), token)
				refusal, refused := errors.AsType[*kubejwt.NotAllowedError](err)
				if refused == by.want || (err == nil) != by.want {
					t.Errorf("%s/%s: %v: want admitted %t", tt.namespace, tt.name, err, by.want)
				}
				if refused && (claims != kubejwt.Claims{} || refusal.Claims.Namespace != tt.namespace) {
					t.Errorf("%s/%s: Claims %v beside the error, %v in it", tt.namespace, tt.name, claims, refusal.Claims)
				}
			}
		}
	}
	// Six tokens, twice each, by three copies that count together.
	if s := nightly.Stats(); s.Accepted != 2*6 || s.NotAllowed != 2*12 {
		t.Errorf("%d accepted, %d not allowed: want 12 and 24", s.Accepted, s.NotAllowed)
	}
	for _, accounts := range [][]string{nil, {""}, {"*"}, {"shop/*"}, {"shop/web"}, {"shop/api", "shop/web"}, {"batch"}, {"*/api"}, {"batch/night*"}} {
		if _, err := v.WithServiceAccounts(accounts...); err == nil {
			t.Errorf("WithServiceAccounts(%q) is no error", accounts)
		}
	}
}
