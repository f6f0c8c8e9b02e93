package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/kubejwt/kubejwt"
)

// accepted is what we say of a good token. Of others we say the reason.
const accepted = "accepted"

func say(err error) string {
	if err == nil {
		return accepted
	}
	if refusal, ok := errors.AsType[*kubejwt.InvalidTokenError](err); ok {
		return string(refusal.Reason)
	}
	return err.Error()
}

func expect(t testing.TB, v *kubejwt.Verifier, token, want string) {
	t.Helper()
	if _, err := v.Verify(t.Context(), token); say(err) != want {
		t.Fatalf("got %v: want %s", err, want)
	}
}

func expectUnavailable(t testing.TB, v *kubejwt.Verifier, token, why string) {
	t.Helper()
	_, err := v.Verify(t.Context(), token)
	if !errors.Is(err, kubejwt.ErrKeysUnavailable) || !strings.Contains(err.Error(), why) {
		t.Fatalf("got %v: want ErrKeysUnavailable for %q", err, why)
	}
}

func requireReview(t testing.TB, status authenticationv1.TokenReviewStatus) {
	t.Helper()
	if !status.Authenticated {
		t.Fatalf("TokenReview refuses: %s", status.Error)
	}
}

// strange is a token like this one, except for its key, which nobody knows.
// It sets off a fetch where one may be set off.
func strange(t testing.TB, token string) string {
	t.Helper()
	key := newSigningKey(t, "ES256")
	_, payload, _ := parts(token)
	return key.token(fmt.Sprintf(`{"alg":"ES256","kid":%q}`, key.kid), payload)
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for what an API server or a retry needs some time for.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
