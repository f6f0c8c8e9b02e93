package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/kubejwt/kubejwt/kubejwttest"
)

// Each refusal is logged once, with the policy that refused, and in the words of
// whoever runs serve: flags, or fields of the policy file.
func TestRefusalsNameThePolicy(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	keys, issuer := writeFile(t, string(cluster.PublicKeysPEM())), cluster.Config("any").Issuer
	config := writeFile(t, "issuers: [{issuer: '"+issuer+"', keyFile: '"+keys+"', maxLifetime: 2h}]\n"+
		"policies: [{name: shop-data, audiences: [data-store], serviceAccounts: [shop/web]}]\n")
	stranger, late := caller, caller
	stranger.ServiceAccount = "web"
	late.Lifetime = 3 * time.Hour
	for raise, args := range map[string][]string{
		"-max-lifetime": {
			"-issuer", issuer, "-audience", "data-store", "-key-file", keys, "-max-lifetime", "2h", "-policy", "shop-data=shop/web",
		},
		"maxLifetime": {"-config", config},
	} {
		log := new(lockedBuffer)
		s, err := tryServer(process{stdout: log, stderr: log}, append(args, "-log-level", "debug")...)
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			token  string
			status int
			says   []string
		}{
			{cluster.Mint(stranger), http.StatusOK, nil},
			{cluster.Mint(caller), http.StatusForbidden, []string{"not_allowed", `add \"shop/api\" to the policy shop-data to admit it`}},
			{cluster.Mint(late), http.StatusUnauthorized, []string{"lifetime_too_long", "raise " + raise}},
			{"", http.StatusUnauthorized, nil},
		} {
			log.Reset()
			request := httptest.NewRequest("GET", "/auth/shop-data", nil)
			if test.token != "" {
				request.Header.Set("Authorization", "Bearer "+test.token)
			}
			response := httptest.NewRecorder()
			s.guard.ServeHTTP(response, request)
			if response.Code != test.status {
				t.Errorf("raise %s: status %d: want %d", raise, response.Code, test.status)
			}
			want := 0
			if test.says != nil {
				want = 1
				log.mustSaySoon(t, notAccepted)
			}
			if got := strings.Count(log.String(), notAccepted); got != want {
				t.Errorf("raise %s: %d lines of the refusal: want %d\n%s", raise, got, want, log.String())
			}
			for _, text := range append(test.says, "policy=shop-data")[:len(test.says)+want] {
				if !strings.Contains(log.String(), text) {
					t.Errorf("raise %s: the log does not say %s:\n%s", raise, text, log.String())
				}
			}
		}
	}
}
