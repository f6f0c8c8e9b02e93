package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kubejwt/kubejwt"
)

// The cost of a verdict: of TokenReview over one kept-alive connection on
// loopback, with nothing else to do for the API server, and of Verify.
//
//	go test -run '^$' -bench . -benchmem

func BenchmarkTokenReview(b *testing.B) {
	c := sharedCluster(b, "RS256")
	b.Run("another token each time", func(b *testing.B) { c.benchmarkReview(b, c.many(b, b.N)) })
	// The API server remembers a good token for 10 s.
	b.Run("the same token", func(b *testing.B) { c.benchmarkReview(b, c.many(b, 1)) })
}

func (c *cluster) benchmarkReview(b *testing.B, tokens []string) {
	requireReview(b, c.review(b, c.many(b, 1)[0], service)) // connects
	b.ResetTimer()
	for i := range b.N {
		status, err := c.tryReview(b.Context(), tokens[i%len(tokens)], service)
		if err != nil || !status.Authenticated {
			b.Fatal(status.Error, err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, alg := range algorithms {
		c := sharedCluster(b, alg)
		b.Run(alg+" cold", func(b *testing.B) { c.benchmarkVerify(b, -1) })
		b.Run(alg+" remembered", func(b *testing.B) { c.benchmarkVerify(b, 0) })
	}
}

func (c *cluster) benchmarkVerify(b *testing.B, cacheSize int) {
	keys := in(c.mount(b))
	keys.JWKSURL = c.address() + "/openid/v1/jwks"
	v, err := kubejwt.New(kubejwt.Config{
		Issuer:          issuer,
		Audiences:       []string{service},
		ServiceAccounts: []string{"api/api"},
		Keys:            keys,
		CacheSize:       cacheSize,
	})
	noError(b, err)
	token := c.many(b, 1)[0]
	expect(b, v, token, accepted) // fetches the keys
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}

// many are tokens of a pod on a node, each with another jti. Except for the first
// they are signed here, as the API server would take longer.
func (c *cluster) many(b *testing.B, n int) (tokens []string) {
	b.Helper()
	account := c.serviceAccount(b, "api", "api")
	pod := c.pod(b, account, "api-0", c.node(b, "node-1").Name)
	minted := c.mint(b, account, toPod(pod), time.Hour, service)
	tokens = append(tokens, minted)
	header, payload, _ := parts(minted)
	id := edit(payload, "jti", func(all []member) []member { return put(all, "jti", `"JTI"`) })
	for i := 1; i < n; i++ {
		tokens = append(tokens, c.signer.token(header, strings.Replace(id, "JTI", fmt.Sprintf("%036d", i), 1)))
	}
	return tokens
}
