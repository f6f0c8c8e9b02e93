package bench

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/golang-jwt/jwt/v5"
	capjwt "github.com/hashicorp/cap/jwt"
	"github.com/lestrrat-go/jwx/v3/jwk"
	jwxjwt "github.com/lestrrat-go/jwx/v3/jwt"
)

// origin answers every request with these keys.
type origin string

func (o origin) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: make(http.Header), Body: io.NopCloser(strings.NewReader(string(o))), Request: r}, nil
}

// fastPeer is another library, prepared once as it is in a service, with the
// keys at hand. It reads the claims of Kubernetes too: without them its caller
// does not know who is calling.
type fastPeer struct {
	name    string
	prepare func(testing.TB, recording) func(token string) error
}

var fastPeers = []fastPeer{
	{"golang-jwt", fastGolangJWT},
	{"go-oidc", fastGoOIDC},
	{"jwx", fastJWX},
	{"cap", fastCap},
}

var errNobody = errors.New("the token names no service account")

func (k kubernetesClaims) check() error {
	if k.Kubernetes.Namespace == "" || k.Kubernetes.ServiceAccount.Name == "" {
		return errNobody
	}
	return nil
}

func fastGolangJWT(t testing.TB, r recording) func(string) error {
	keys, err := keyfunc.NewJWKSetJSON(json.RawMessage(r.jwks))
	if err != nil {
		t.Fatal(err)
	}
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{r.algorithm}),
		jwt.WithIssuer(recordedIssuer),
		jwt.WithAudience(recordedAudience),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
	)
	return func(token string) error {
		var claims struct {
			jwt.RegisteredClaims
			kubernetesClaims
		}
		if _, err := parser.ParseWithClaims(token, &claims, keys.Keyfunc); err != nil {
			return err
		}
		return claims.check()
	}
}

func fastGoOIDC(t testing.TB, r recording) func(string) error {
	ctx := oidc.ClientContext(context.Background(), &http.Client{Transport: origin(r.jwks)})
	verifier := oidc.NewVerifier(recordedIssuer, oidc.NewRemoteKeySet(ctx, keyURL), &oidc.Config{
		ClientID:             recordedAudience,
		SupportedSigningAlgs: []string{r.algorithm},
	})
	return func(text string) error {
		token, err := verifier.Verify(ctx, text)
		if err != nil {
			return err
		}
		var claims kubernetesClaims
		if err := token.Claims(&claims); err != nil {
			return err
		}
		return claims.check()
	}
}

func fastJWX(t testing.TB, r recording) func(string) error {
	set, err := jwk.Parse([]byte(r.jwks))
	if err != nil {
		t.Fatal(err)
	}
	type kubernetes struct {
		Namespace      string `json:"namespace"`
		ServiceAccount struct {
			Name string `json:"name"`
		} `json:"serviceaccount"`
	}
	return func(text string) error {
		token, err := jwxjwt.Parse([]byte(text),
			jwxjwt.WithKeySet(set),
			jwxjwt.WithIssuer(recordedIssuer),
			jwxjwt.WithAudience(recordedAudience),
			jwxjwt.WithRequiredClaim("exp"),
			jwxjwt.WithTypedClaim("kubernetes.io", kubernetes{}))
		if err != nil {
			return err
		}
		var claims kubernetes
		if err := token.Get("kubernetes.io", &claims); err != nil {
			return err
		}
		if claims.Namespace == "" || claims.ServiceAccount.Name == "" {
			return errNobody
		}
		return nil
	}
}

func fastCap(t testing.TB, r recording) func(string) error {
	keys, err := capjwt.NewStaticKeySet([]crypto.PublicKey{r.public})
	if err != nil {
		t.Fatal(err)
	}
	validator, err := capjwt.NewValidator(keys)
	if err != nil {
		t.Fatal(err)
	}
	expected := capjwt.Expected{
		Issuer:            recordedIssuer,
		Audiences:         []string{recordedAudience},
		SigningAlgorithms: []capjwt.Alg{capjwt.Alg(r.algorithm)},
	}
	return func(token string) error {
		claims, err := validator.Validate(context.Background(), token, expected)
		if err != nil {
			return err
		}
		kubernetes, _ := claims["kubernetes.io"].(map[string]any)
		account, _ := kubernetes["serviceaccount"].(map[string]any)
		name, _ := account["name"].(string)
		if namespace, _ := kubernetes["namespace"].(string); name == "" || namespace == "" {
			return errNobody
		}
		return nil
	}
}
