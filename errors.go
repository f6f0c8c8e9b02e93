package kubejwt

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"
)

// These errors are not about a bad token or a caller that is not allowed. Find
// them with [errors.Is].
var (
	// ErrKeysUnavailable says that there are no keys to verify with, so the token
	// is neither good nor bad. Answer 503 and let the caller try again. The text
	// says why there are none.
	ErrKeysUnavailable = errors.New("kubejwt: no keys to verify tokens with")
	// ErrUndecided says that [Config.Check] could not tell whether a good token
	// is still valid. Answer 503 and let the caller try again. The text has what
	// Check said.
	ErrUndecided = errors.New("kubejwt: cannot tell whether the token is still valid")
	// ErrNoToken says that there was no bearer token. Answer 401.
	ErrNoToken = errors.New("kubejwt: no bearer token")
	// ErrNotInCluster is the error of [InCluster] outside a pod. The text says
	// what to do on a laptop.
	ErrNotInCluster = errors.New("kubejwt: not in a cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT " +
		"are not both set: outside a pod, as on a laptop, use New with the cluster's issuer " +
		"(kubectl get --raw /.well-known/openid-configuration shows it) " +
		"and a KeyFile (kubectl get --raw /openid/v1/jwks > keys.json writes it)")
)

// A Reason says in one word why a token was refused. The values are stable, so
// they can be labels of a metric. Later versions may add some.
type Reason string

// The reasons, in the order of the rules that give them.
const (
	ReasonTooLarge           Reason = "too_large"             // over 16 KiB
	ReasonMalformed          Reason = "malformed"             // not a token in the form that Kubernetes writes
	ReasonBadAlgorithm       Reason = "bad_algorithm"         // alg is missing, not one of four, or not the key's
	ReasonLegacy             Reason = "legacy"                // a Secret-based token, which never expires
	ReasonWrongIssuer        Reason = "wrong_issuer"          // from another cluster
	ReasonUnknownKey         Reason = "unknown_key"           // its kid is not in the key set
	ReasonBadSignature       Reason = "bad_signature"         // the key did not sign this token
	ReasonWrongAudience      Reason = "wrong_audience"        // for another service
	ReasonExpired            Reason = "expired"               // past exp, or without one
	ReasonNotYetValid        Reason = "not_yet_valid"         // nbf or iat is ahead of the clock
	ReasonStale              Reason = "stale"                 // past warnafter: the caller does not read its file again
	ReasonLifetimeTooLong    Reason = "lifetime_too_long"     // lives longer than Config.MaxLifetime
	ReasonNotAServiceAccount Reason = "not_a_service_account" // does not name one service account consistently
	ReasonNotBound           Reason = "not_bound"             // not bound to a pod, with Config.RequirePod
	ReasonRevoked            Reason = "revoked"               // Config.Check: its pod or service account is gone
)

// advice is what to do about a refusal.
func (r Reason) advice() string {
	switch r {
	case ReasonTooLarge, ReasonMalformed:
		return "send the token as kubelet or the TokenRequest API wrote it, and nothing else"
	case ReasonBadAlgorithm:
		return "kube-apiserver signs with RS256, ES256, ES384 or ES512, depending on the key"
	case ReasonLegacy:
		return "a Secret of type kubernetes.io/service-account-token never expires and names no audience: " +
			"mount a projected token (serviceAccountToken with an audience) instead"
	case ReasonWrongIssuer:
		return "the token is from another cluster, or Config.Issuer is not what this cluster writes as iss"
	case ReasonUnknownKey:
		return "the token is older than a key rotation or from another cluster, or the keys come from the wrong place"
	case ReasonBadSignature:
		return "the token was altered, or was not signed by this cluster"
	case ReasonWrongAudience:
		return "the caller should mount a projected token (serviceAccountToken) with that audience"
	case ReasonExpired:
		return "read the mounted token file again before each call: if the token in it is current, compare the clocks"
	case ReasonNotYetValid:
		return "compare the clocks of this machine and of the cluster"
	case ReasonStale:
		return "read the mounted token file again before each call: " +
			"kubelet renews it, and only the API server accepts the old one for longer"
	case ReasonLifetimeTooLong:
		return "mount a token with a shorter expirationSeconds, or raise Config.MaxLifetime"
	case ReasonNotAServiceAccount:
		return "only tokens from the TokenRequest API and from projected volumes are accepted"
	case ReasonNotBound:
		return "send the token that is mounted into a pod, not one from kubectl create token"
	case ReasonRevoked:
		return "the pod or the service account of this token was deleted: send the token of one that exists"
	default:
		return ""
	}
}

// An InvalidTokenError says why a token was refused. Answer 401. Its text is for
// logs. It shows iss, aud and kid (quoted, at most 80 bytes of each), alg and
// times, and nothing else of the token. Callers get the fixed text of
// [WriteError].
type InvalidTokenError struct {
	Reason  Reason
	Rule    int    // the number of the rule that refused it, as in the package documentation
	Subject string // sub, for logs; "" if the signature was not verified, or if sub is over 512 bytes
	Want    string // what was expected; may be empty
	Got     string // what came; may be empty
	Advice  string // what to do about it; may be empty
}

func (e *InvalidTokenError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "kubejwt: token refused by rule %d, %s", e.Rule, e.Reason)
	if e.Want != "" {
		b.WriteString(": want " + e.Want)
	}
	if e.Got != "" {
		b.WriteString(": got " + e.Got)
	}
	if advice := cmp.Or(e.Advice, e.Reason.advice()); advice != "" {
		b.WriteString(": " + advice)
	}
	return b.String()
}

// A NotAllowedError says that a token is good, but its service account may not
// call. Answer 403.
type NotAllowedError struct {
	Claims Claims // the identity that the token proves
	Advice string // what to do to admit it
}

func (e *NotAllowedError) Error() string {
	text := "kubejwt: " + e.Claims.Username() +
		" is authenticated, but it is not one of the service accounts that may call"
	if e.Advice == "" {
		return text
	}
	return text + ": " + e.Advice
}

// refuse makes the error of a rule.
func refuse(rule int, reason Reason, want, got string) *InvalidTokenError {
	return &InvalidTokenError{Reason: reason, Rule: rule, Want: want, Got: got, Advice: reason.advice()}
}

// Outcome returns one word for the error that Verify returned, for a metric's
// label: accepted for nil, no_token, not_allowed, keys_unavailable, undecided, or
// the Reason of an [InvalidTokenError]. Any other error is "error".
func Outcome(err error) string {
	invalid, _ := errors.AsType[*InvalidTokenError](err)
	_, isNotAllowed := errors.AsType[*NotAllowedError](err)
	switch {
	case err == nil:
		return "accepted"
	case invalid != nil:
		return string(invalid.Reason)
	case isNotAllowed:
		return "not_allowed"
	case errors.Is(err, ErrNoToken):
		return "no_token"
	case errors.Is(err, ErrKeysUnavailable):
		return "keys_unavailable"
	case errors.Is(err, ErrUndecided):
		return "undecided"
	default:
		return "error"
	}
}

// keysUnavailable is an ErrKeysUnavailable with its cause and, for Retry-After,
// the time until the next attempt is allowed.
type keysUnavailable struct {
	cause error
	retry time.Duration
}

func (e *keysUnavailable) Error() string   { return ErrKeysUnavailable.Error() + ": " + e.cause.Error() }
func (e *keysUnavailable) Unwrap() []error { return []error{ErrKeysUnavailable, e.cause} }

// undecided is an ErrUndecided with what Config.Check said. It keeps the text
// only: one of our own errors in its chain would look like a verdict.
type undecided struct{ said string }

func (e *undecided) Error() string { return ErrUndecided.Error() + ": " + e.said }
func (e *undecided) Unwrap() error { return ErrUndecided }
