package main

import (
	"strings"
	"testing"

	"github.com/kubejwt/kubejwt/kubejwttest"
)

// In a pod whose token can't be read, an API server that asks who calls answers
// 401 or 403. The reason is the token that was not sent, and the error says so.
func TestInClusterWithoutToken(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	host, port, _ := strings.Cut(strings.TrimPrefix(cluster.Config("any").Issuer, "https://"), ":")
	t.Setenv("KUBERNETES_SERVICE_HOST", host)
	t.Setenv("KUBERNETES_SERVICE_PORT", port)
	base := []string{"verify", "-in-cluster", "-audience", "data-store", "-ca-file", cluster.Folder() + "/ca.crt"}
	token := cluster.Mint(caller)
	kubejwtWith(t, token, append(base, "-bearer-token-file", cluster.Folder()+"/token")...).mustSay(t, exitOK, "Accepted")
	kubejwtWith(t, token, append(base, "-bearer-token-file", "/nonexistent/token")...).mustSay(t, exitNoKeys, "No verdict", "-bearer-token-file: /nonexistent/token: no such file")
	// The pod's own token is at a path of its own, which no machine of a test has.
	kubejwtWith(t, token, base...).mustSay(t, exitNoKeys, "No verdict", "no bearer token was sent", "serviceaccount/token", "no such file")
}
