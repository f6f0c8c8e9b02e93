// Package kubejwt tells a service which Kubernetes workload is calling it: it
// verifies projected ServiceAccount tokens against the cluster's own keys,
// locally and in microseconds, and never calls TokenReview.
//
// A caller mounts a projected token whose audience names the service it calls,
// and sends it as a bearer token. In a pod, [InCluster] finds the API server,
// its CA, the keys and the issuer by itself; [New] takes an issuer and a
// [KeySource]; [Join] accepts several clusters. [Verifier.Handler] guards an
// http.Handler, [Verifier.Verify] everything else. The calling side is
// [TokenFile] and [Transport].
//
// # What is verified
//
// The rules, in the order in which Verify applies them. Of several faults the
// first is reported, in the Reason and the Rule of an [InvalidTokenError].
//
//  1. Size and form. At most 16 KiB, of which the header has 8 at most; three
//     segments of canonical base64url, so that the same bytes have one spelling;
//     a payload with at most 64 opening brackets and 256 commas. (Of an ECDSA
//     signature there is always a second that is as good: to deny or to count
//     tokens, go by Claims.ID, not by their text.)
//  2. The header has alg and kid, perhaps typ, and nothing else. alg is one of
//     RS256, ES256, ES384 and ES512, typ is JWT, kid has 1 to 1024 bytes. Only
//     with PublicKeys and a KeyFile may kid be missing: then the keys that fit
//     alg are tried, if they are four at most.
//  3. The payload is decoded once: names are case-sensitive, doubled names and
//     invalid UTF-8 are refused, aud is a string or an array of strings, and
//     exp, iat, nbf and warnafter are plain integers up to the year 9999. iss is
//     one of ours, before anything uses the network; where InCluster is to learn
//     it, the document that names it is fetched first. A Secret-based token
//     is refused as legacy, whatever its iss. It is known by its form: the flat
//     claims kubernetes.io/serviceaccount/…, and no kubernetes.io, exp or aud.
//  4. kid names a key of the set, exactly, and alg is the one that this key is
//     for. RSA keys have 2048 to 8192 bits and an odd exponent from 65537 to
//     2³¹-1.
//  5. The signature matches.
//  6. Only now the claims are judged: the same decoded bytes.
//  7. aud names one of Config.Audiences. exp and iat are there; iat and nbf are
//     not after exp; exp is ahead, nbf and iat are not, warnafter is ahead, all
//     of them give or take Config.Leeway; the token does not live longer than
//     Config.MaxLifetime.
//  8. kubernetes.io names one service account: the namespace is a DNS label,
//     names are DNS subdomains, UIDs and jti are printable (a node may have no
//     UID), a secret stands alone, no claims of a Secret-based token stand beside
//     it, and sub is system:serviceaccount:<namespace>:<name> to the letter.
//  9. Policy: Config.RequirePod, then Config.ServiceAccounts. Bytes are
//     compared; there are no patterns except namespace/* and *.
//  10. Config.Check, if there is one, has the last word.
//
// The identity in [Claims] is the one that TokenReview gives: username, UID,
// groups, extra.
//
// # What is not verified
//
// Offline nobody sees that a pod, a service account, a secret or a node has
// been deleted: a token is good until it expires. Config.MaxLifetime, a short
// expirationSeconds, an audience of the service's own and, for all tokens at
// once, dropping the signing key bound that. The package revocation sees that a
// pod or a service account was deleted, mostly within milliseconds: Config.Check
// asks it. It is optional, because it has to be granted list and watch of pods
// and service accounts in the callers' namespaces, and can then read what these
// pods say. Only TokenReview sees that a secret or a node was deleted.
//
// The token that every pod has by default lives for a year, and the API server
// makes up for it by looking the pod up. Its warnafter is an hour ahead; past
// that it is refused as stale, unless Config.AcceptExtended. A client that reads
// its token file again, as it has to anyway, never notices.
//
// A service whose audience is the cluster's issuer gets tokens that the API
// server takes as well. That works, and is logged as a warning.
//
// # Keys and outages
//
// A constructor does no network I/O and starts nothing, and there is nothing to
// close: a goroutine lives for one fetch, ten seconds at most (longer only in a
// RemoteKeys.Transport that ignores its context), for one look at a file, or for
// one line of the log. Keys are fetched at the first use, by one request however
// many callers wait. Then:
//
//   - A set serves for as long as its max-age says, from 5 minutes to an hour
//     (15 minutes if it does not say). It is refreshed in the background after
//     70 to 90 % of that, set off by use: nobody waits for it.
//   - A set past its life is not used before one fetch was tried, so that an
//     idle service does not honour a key that was withdrawn meanwhile. While the
//     origin is out of reach, the keys at hand serve at once, for
//     RemoteKeys.MaxStale: a failure counts for eleven minutes, and a service
//     that was idle for longer waits three seconds for an answer, in case the
//     origin is back. After MaxStale the answer is ErrKeysUnavailable.
//   - A token with an unknown kid, which would pass if the key were known,
//     sets off a fetch: at once at first, and then with gaps of at least 10, 20,
//     40 and 60 seconds while that brings nothing new. Each gap is longer than
//     that by up to a half, at random. Nobody waits for a turn. A known kid with
//     a bad signature never does.
//   - A failed fetch is tried again after a random time, at first of up to a
//     second, later of up to 5 minutes, or when Retry-After says, for which 10
//     minutes are waited at most; while there are no keys, 30 seconds. Meanwhile
//     an unknown kid is ErrKeysUnavailable: nobody can tell whether it is new.
//   - A fetched set replaces the old one: a key that is gone is gone, with the
//     tokens remembered for it. An answer without one usable key is a failed
//     fetch, and the last good set stays. A single odd key is dropped and logged.
//   - The discovery document that says where the keys are is read with each
//     fetch. In a pod, if the keys come from the API server's own
//     /openid/v1/jwks, it is read with the first fetch, for an unknown kid, after
//     a failure, and otherwise every 5 to 7 hours.
//   - One redirect is followed, if it stays on the origin and no bearer token was
//     sent. URLs are https, or http to a literal loopback
//     address that was configured. The bearer token goes to the configured origin
//     only. A jwks_uri on another origin is followed where there is neither a
//     bearer token nor a Transport; with one of them it is a failed fetch, and in
//     a pod the API server's own /openid/v1/jwks is asked instead.
//
// With RemoteKeys.SnapshotFile a service that restarts during an outage goes on
// with the last good set, once its first fetch has failed.
//
// # Remembered tokens
//
// A token that was accepted is remembered by its SHA-256, with no text of it, up
// to Config.CacheSize. The answer for it is the one that verifying it afresh
// would give: the clock, the policy of this very Verifier, the age of the keys,
// and whether the set at hand still holds the very same key are judged again
// each time.
//
// # Compatibility
//
// Until v1 names may change, with a line in CHANGELOG.md. A token that was
// refused may be accepted by a later version, or the other way round, only with
// such a line. Reasons may be added; those that exist keep their meaning.
package kubejwt
