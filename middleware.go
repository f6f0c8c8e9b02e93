package kubejwt

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// VerifyRequest verifies the bearer token in the Authorization header of r
// (RFC 6750, section 2.1). It reads r.Header and r.Context() and nothing else.
// Its errors are those of Verify. For a request without a bearer token the error
// is ErrNoToken. A request with two Authorization headers is refused.
func (v *Verifier) VerifyRequest(r *http.Request) (Claims, error) {
	if v == nil || len(v.members) == 0 {
		return Claims{}, errNotMade
	}
	token, err := bearerToken(r.Header)
	if err != nil {
		return v.members[0].deliver(r.Context(), Claims{}, err)
	}
	return v.Verify(r.Context(), token)
}

func bearerToken(header http.Header) (string, error) {
	headers := header.Values("Authorization")
	if len(headers) == 0 {
		return "", ErrNoToken
	}
	if len(headers) > 1 {
		return "", refuse(1, ReasonMalformed, "one Authorization header", strconv.Itoa(len(headers)))
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", ErrNoToken
	}
	return strings.Trim(token, " "), nil
}

// Handler returns a handler that passes requests with a good bearer token to
// next, which gets their Claims from [FromContext]. [WriteError] answers all
// other requests.
func (v *Verifier) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, err := v.VerifyRequest(r)
		if err != nil {
			WriteError(w, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(NewContext(r.Context(), claims)))
	})
}

// WriteError answers a request whose token was not accepted: with 401 for
// ErrNoToken and an InvalidTokenError, 403 for a NotAllowedError, 503 and
// Retry-After for ErrKeysUnavailable and ErrUndecided, and 500 for nil and any
// other error. It writes one fixed text for each Reason. Nothing of the token, the
// keys or err's text reaches the caller.
func WriteError(w http.ResponseWriter, err error) {
	header := w.Header()
	invalid, _ := errors.AsType[*InvalidTokenError](err)
	_, isNotAllowed := errors.AsType[*NotAllowedError](err)
	switch {
	case invalid != nil:
		text := invalid.Reason.publicText()
		header.Set("WWW-Authenticate", `Bearer error="invalid_token", error_description="`+text+`"`)
		http.Error(w, text, http.StatusUnauthorized)
	case isNotAllowed:
		http.Error(w, "this service account may not call this service", http.StatusForbidden)
	case errors.Is(err, ErrNoToken):
		// RFC 6750, section 3.1: no error code without credentials.
		header.Set("WWW-Authenticate", "Bearer")
		http.Error(w, "a bearer token is required", http.StatusUnauthorized)
	case errors.Is(err, ErrKeysUnavailable):
		header.Set("Retry-After", strconv.Itoa(retrySeconds(err)))
		http.Error(w, "tokens cannot be verified at the moment", http.StatusServiceUnavailable)
	case errors.Is(err, ErrUndecided):
		header.Set("Retry-After", "1")
		http.Error(w, "cannot tell at the moment whether the token is still valid", http.StatusServiceUnavailable)
	default:
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
	}
}

// retrySeconds is how long to wait until the keys may be fetched again, at least
// one second.
func retrySeconds(err error) int {
	unavailable, ok := errors.AsType[*keysUnavailable](err)
	if !ok {
		return 1
	}
	return max(1, int(math.Ceil(float64(unavailable.retry)/float64(time.Second))))
}

// publicText is the text for the caller. A header has it in a quoted string, so it
// must not contain quotation marks.
func (r Reason) publicText() string {
	switch r {
	case ReasonTooLarge:
		return "the token is too large"
	case ReasonMalformed:
		return "the token is malformed"
	case ReasonBadAlgorithm:
		return "the algorithm of the token is not accepted"
	case ReasonLegacy:
		return "tokens from Secrets are not accepted: mount a projected token"
	case ReasonWrongIssuer:
		return "the token is from another issuer"
	case ReasonUnknownKey:
		return "the key of the token is not known"
	case ReasonBadSignature:
		return "the signature of the token does not match"
	case ReasonWrongAudience:
		return "the token is for another audience"
	case ReasonExpired:
		return "the token has expired"
	case ReasonNotYetValid:
		return "the token is not valid yet"
	case ReasonStale:
		return "the token is stale: read the mounted file again"
	case ReasonLifetimeTooLong:
		return "the token lives too long"
	case ReasonNotAServiceAccount:
		return "the token names no service account"
	case ReasonNotBound:
		return "the token is not bound to a pod"
	case ReasonRevoked:
		return "the token has been revoked"
	default:
		return "the token is not accepted"
	}
}

type contextKey struct{}

// NewContext returns a copy of ctx that carries claims. [Verifier.Handler] does
// this for the next handler. Use it in interceptors for other protocols, and in
// tests of your handlers.
func NewContext(ctx context.Context, claims Claims) context.Context {
	return context.WithValue(ctx, contextKey{}, claims)
}

// FromContext returns the Claims that ctx carries, and whether it carries any.
func FromContext(ctx context.Context) (Claims, bool) {
	claims, ok := ctx.Value(contextKey{}).(Claims)
	return claims, ok
}
