package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kubejwt/kubejwt"
)

// While the API server is down, verification goes on. A service that starts
// then needs a snapshot of the keys, or has to wait; when the API server is
// back, all of them fetch again by themselves.

func TestOutage(t *testing.T) {
	key := newSigningKey(t, "RS256")
	s := settings{issuers: []string{issuer}, published: []*signingKey{key}, signer: key}
	c := newCluster(t, s)
	account := c.serviceAccount(t, "api", "api")
	folder := c.mount(t)
	withSnapshot := in(folder)
	withSnapshot.SnapshotFile = filepath.Join(t.TempDir(), "keys")
	seen, unseen := c.mint(t, account, nil, time.Hour, service), c.mint(t, account, nil, time.Hour, service)
	running := c.inCluster(t, "127.0.0.1", withSnapshot)
	expect(t, running, seen, accepted)
	// The verdict does not wait for the snapshot to be written.
	eventually(t, "the snapshot is written", func() bool {
		_, err := os.Stat(withSnapshot.SnapshotFile)
		return err == nil
	})

	c.kill()
	expect(t, running, seen, accepted)
	expect(t, running, unseen, accepted)
	expectUnavailable(t, running, strange(t, seen), "connection refused")
	started := c.inCluster(t, "127.0.0.1", withSnapshot)
	expect(t, started, unseen, accepted)
	cold := c.inCluster(t, "127.0.0.1", in(folder))
	expectUnavailable(t, cold, unseen, "connection refused")
	if err := cold.Ready(t.Context()); !errors.Is(err, kubejwt.ErrKeysUnavailable) {
		t.Errorf("Ready: %v: want ErrKeysUnavailable", err)
	}

	restarted := time.Now()
	noError(t, c.start(s))
	stranger := strange(t, seen)
	for name, v := range map[string]*kubejwt.Verifier{"running": running, "started": started, "cold": cold} {
		eventually(t, name+" fetches again", func() bool {
			v.Verify(t.Context(), seen) // which sets off what is due
			stats := v.Stats()
			return stats.LastError == nil && stats.FetchedAt.After(restarted)
		})
		expect(t, v, seen, accepted)
		expect(t, v, unseen, accepted)
		expect(t, v, stranger, "unknown_key")
	}
}
