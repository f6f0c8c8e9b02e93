// Package kubejwt tells a service which Kubernetes workload is calling it. It
// verifies projected ServiceAccount tokens with the cluster's own keys, locally and
// in microseconds, and never calls TokenReview.
//
// A caller mounts a projected token whose audience names the service that it calls,
// and sends it as a bearer token. In a pod, [InCluster] finds the API server, its
// CA, the keys and the issuer by itself. [New] takes an issuer and a [KeySource].
// [Join] accepts several clusters. [Verifier.Handler] guards an http.Handler, and
// [Verifier.Verify] is for everything else. The calling side uses [TokenFile] and
// [Transport].
//
// # What is verified
//
// These are the rules, in the order in which Verify applies them. If a token breaks
// several, the first is reported, in the Reason and the Rule of an
// [InvalidTokenError].
//
//  1. Size and form. A token has at most 16 KiB, and its header at most 8 KiB. It
//     has three segments of canonical base64url, so that the same bytes have one
//     spelling. The payload has at most 64 opening brackets and 256 commas. (Every
//     ECDSA signature has a second form that is just as valid. To block or count
//     tokens, use Claims.ID and not their text.)
//  2. The header has alg and kid, perhaps typ, and nothing else. alg is one of
//     RS256, ES256, ES384 and ES512, typ is JWT, and kid has 1 to 1024 bytes. kid
//     may be missing only with PublicKeys or a KeyFile: then the keys that fit alg
//     are tried, if there are four at most.
//  3. The payload is decoded once. Names are case-sensitive. Duplicate names and
//     invalid UTF-8 are refused. aud is a string or an array of strings. exp, iat,
//     nbf and warnafter are plain integers up to the year 9999. A Secret-based token
//     is refused as legacy, whatever its iss. It is known by its form: it has the
//     flat claims kubernetes.io/serviceaccount/…, and no kubernetes.io, exp or aud.
//     iss is one of ours. This is checked before anything uses the network, except
//     that InCluster first fetches the document that names the issuer, if it has to
//     learn it.
//  4. kid is exactly the ID of a key in the set, and alg is the one that this key is
//     for. RSA keys have 2048 to 8192 bits and an odd exponent from 65537 to
//     2³¹-1.
//  5. The signature matches.
//  6. Only now are the claims judged. They are not decoded a second time.
//  7. aud names one of Config.Audiences. exp and iat are present. iat and nbf are
//     not after exp. exp is in the future, nbf and iat are not, and warnafter is, all
//     of them give or take Config.Leeway. The token does not live longer than
//     Config.MaxLifetime.
//  8. kubernetes.io names one service account. The namespace is a DNS label, names
//     are DNS subdomains, and UIDs and jti are printable (a node may have no UID).
//     There is no pod or node beside a secret, and no claim of a Secret-based token
//     beside kubernetes.io. sub is exactly system:serviceaccount:<namespace>:<name>.
//  9. Policy: Config.RequirePod, then Config.ServiceAccounts. Entries are compared
//     byte by byte. There are no patterns except namespace/* and *.
//  10. Config.Check, if there is one, has the last word.
//
// The identity in [Claims] is the one that TokenReview gives: username, UID, groups
// and extra.
//
// # What is not verified
//
// Offline, nobody can see that a pod, a service account, a secret or a node has been
// deleted: a token is accepted until it expires. What limits the harm: a low
// Config.MaxLifetime, a short expirationSeconds, an audience that only this service
// has, and, for all tokens at once, dropping the signing key.
//
// The package revocation sees the deletion of pods and service accounts, with an
// optional watch that Config.Check asks. It has to be granted list and watch of pods
// and service accounts in the callers' namespaces. The service can then read
// everything in these pods: names, labels, environment variables and the rest. A
// token is refused milliseconds after the deletion. It takes 15 seconds if the
// network has fallen silent, 90 if only the stream has, and 150 if the watch never
// saw the object, plus the time to connect again. Only TokenReview sees the deletion
// of a secret or a node.
//
// The token that every pod has by default is valid for a year, and the API server
// makes up for that by looking up the pod. Its warnafter is an hour ahead. After
// that it is refused as stale, unless Config.AcceptExtended is set. A client that
// reads its token file again, as it has to anyway, never notices.
//
// If a service's audience is the cluster's issuer, callers send it tokens that the
// API server accepts too: whoever steals one from the service can use it at the API
// server. This works, and a warning is logged.
//
// # Keys and outages
//
// A constructor does no network I/O and starts nothing, and there is nothing to
// close. A goroutine lives for one fetch, ten seconds at most (longer only if a
// RemoteKeys.Transport ignores its context), for one look at a file, or for one line
// of the log. Keys are fetched at the first use, with one request for all callers
// that wait. Then:
//
//   - A set is used for as long as its max-age says, but for at least 5 minutes and
//     at most an hour (15 minutes if there is none). After 70 to 90 % of that time,
//     the next use refreshes it in the background: nobody waits for it.
//   - An older set is not used before a fetch was tried, so that an idle service does
//     not accept a key that was withdrawn in the meantime. While the origin is out of
//     reach, the keys at hand are used at once, for RemoteKeys.MaxStale. A failed
//     fetch counts for eleven minutes: a service that was idle for longer waits three
//     seconds for an answer, in case the origin is back. After MaxStale the error is
//     ErrKeysUnavailable.
//   - A token with an unknown kid, which would pass if the key were known, sets off a
//     fetch. The first one starts at once. While they bring nothing new, the gaps
//     between them are at least 10, 20, 40 and then 60 seconds. Each gap is longer
//     than that by up to a half, at random. Nobody waits for a turn. A known kid with
//     a bad signature never sets off a fetch.
//   - A failed fetch is tried again after a random time, of up to a second at first
//     and up to 5 minutes later. A Retry-After in the answer is respected, up to 10
//     minutes. While there are no keys, both limits are 30 seconds. Meanwhile the
//     error for an unknown kid is ErrKeysUnavailable: nobody can tell whether it is
//     new.
//   - A fetched set replaces the old one. A key that is not in the new set is gone,
//     and so are the tokens remembered for it. An answer without one usable key is a
//     failed fetch, and the last good set stays. A single key that can't be used is
//     dropped and logged.
//   - The discovery document says where the keys are. It is read with each fetch. In
//     a pod, if the keys come from the API server's own /openid/v1/jwks, it is read
//     with the first fetch, for an unknown kid, after a failure, and otherwise every 5
//     to 7 hours.
//   - One redirect is followed, if it stays on the origin and no bearer token was
//     sent. URLs are https, or http to a literal loopback address that was
//     configured. The bearer token goes to the configured origin only. A jwks_uri on
//     another origin is followed if there is neither a bearer token nor a Transport.
//     With one of them, it is a failed fetch. In a pod, the API server's own
//     /openid/v1/jwks is asked instead.
//
// With RemoteKeys.SnapshotFile, a service that restarts during an outage goes on
// with the last good set, once its first fetch has failed.
//
// # Remembered tokens
//
// A token that was accepted is remembered by its SHA-256, without any of its text.
// Config.CacheSize says how many are. The answer for it is the one that verifying it
// again would give. Each time, Verify checks the clock, the policy of this Verifier,
// the age of the keys, and that the set at hand still holds exactly the same key.
//
// # Compatibility
//
// Until v1, names may change, with a line in CHANGELOG.md. A later version may
// accept a token that was refused, or refuse one that was accepted, only with such a
// line. Reasons may be added. Those that exist keep their meaning.
package kubejwt
