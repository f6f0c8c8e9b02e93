package kubejwt

import (
	"crypto"
	"fmt"
	"net/http"
	"time"

	"github.com/kubejwt/kubejwt/internal/keyset"
)

// A KeySource says where the cluster's public keys come from. It is a
// [PublicKeys], a [KeyFile] or a [RemoteKeys], by value.
type KeySource interface {
	keySource()
}

func (PublicKeys) keySource() {}
func (KeyFile) keySource()    {}
func (RemoteKeys) keySource() {}

// PublicKeys are keys that never change. Nothing is ever fetched.
type PublicKeys []PublicKey

// A PublicKey is an RSA key of 2048 to 8192 bits or an ECDSA key on P-256,
// P-384 or P-521: an *rsa.PublicKey or *ecdsa.PublicKey.
type PublicKey struct {
	KeyID string // the kid in the header of tokens; "": the one that Kubernetes derives from the key
	Key   crypto.PublicKey
}

// A KeyFile is the path of a file with public keys, in a form that
// [ParsePublicKeys] reads: an API server's sa.pub, or the JWKS that it serves.
// In a JWKS, a public key that can't be used is dropped and logged, if a usable
// one is left.
//
// The file is checked for changes while it is used, at most once a second. If it
// is missing or damaged later, its last good keys stay in use for 24 hours.
type KeyFile string

// RemoteKeys are keys that are fetched, kept and refreshed: from a discovery
// document and the jwks_uri that it names, or from JWKSURL. The zero value asks
// the issuer itself, over TLS with the system's roots.
//
// A key set is used for as long as its max-age says, but for at least 5 minutes
// and at most an hour. It is refreshed in the background before that. See
// the package documentation for rotation and outages. The built-in transport
// heeds HTTPS_PROXY and NO_PROXY, except that [InCluster] asks the pod's API
// server directly. Errors and logs show URLs without their query.
type RemoteKeys struct {
	// DiscoveryURL is where the discovery document is. "" means that it is at
	// Config.Issuer, without one trailing slash, followed by
	// /.well-known/openid-configuration. The document must name Config.Issuer.
	DiscoveryURL string
	// JWKSURL is where the keys are. "" means the document's jwks_uri. If it is
	// set, no document is fetched for keys. Setting both URLs is an error.
	JWKSURL string
	// CAFile holds the only roots to trust, in PEM. "" means the system's roots.
	// It is read again when it changes. A certificate that Go can't use is left
	// out, with a line in the log.
	CAFile string
	// BearerTokenFile holds a token to send, and is read again as it rotates.
	// The token goes to the configured origin only: that of JWKSURL or
	// DiscoveryURL if one is set, else that of the issuer. It is never sent along
	// a redirect. With a token, a jwks_uri on another origin is an error: set
	// JWKSURL.
	BearerTokenFile string
	// Transport replaces the built-in transport; nil means the built-in one.
	// It excludes CAFile. Redirects, and the limits on time and size, are handled
	// as for the built-in one. A jwks_uri on another origin is an error.
	Transport http.RoundTripper
	// MaxStale is how long keys are trusted when they can't be refreshed. 0 means
	// 24 hours, negative means for ever. Less than 5 minutes is an error.
	MaxStale time.Duration
	// SnapshotFile is where the last good key set is kept. "" means nowhere. A
	// service that restarts during an outage can then verify as soon as its first
	// fetch has failed, after 10 seconds at most. The file is replaced in one step,
	// so its folder must be writable. It is ignored if the issuer, the URL or the
	// content of CAFile has changed, or if it is older than MaxStale. It holds
	// public keys only, but whoever can write it can mint identities.
	SnapshotFile string
}

// ParsePublicKeys reads public keys from PEM (blocks of type PUBLIC KEY, RSA
// PUBLIC KEY and CERTIFICATE, any number of them; text around them is ignored)
// or from a JWKS (RFC 7517, section 5). A key without an ID gets the one that
// Kubernetes derives from it. A byte order mark and blocks of EC PARAMETERS are
// ignored.
//
// Private and symmetric keys, keys that Kubernetes does not sign with, and data
// without a key are errors, which say what was found. In a JWKS, keys of an
// unknown kty or crv are skipped, as section 5 asks, if a usable one is left.
// The same key twice is one key; two keys under one ID are an error.
func ParsePublicKeys(data []byte) (PublicKeys, error) {
	set, err := keyset.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("kubejwt: public keys: %w", err)
	}
	parsed := make(PublicKeys, 0, len(set.Keys))
	for _, k := range set.Keys {
		parsed = append(parsed, PublicKey{KeyID: k.ID, Key: k.Public})
	}
	return parsed, nil
}

// keySet copies and checks the keys.
func (keys PublicKeys) keySet() (*keyset.Set, error) {
	var list []*keyset.Key
	for i, p := range keys {
		k, err := keyset.NewKey(p.KeyID, p.Key)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		list = append(list, k)
	}
	return keyset.New(list...)
}
