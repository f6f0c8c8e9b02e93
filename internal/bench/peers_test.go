package bench

import (
	"crypto"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"
	"github.com/golang-jwt/jwt/v5"
)

var algorithms = []string{"RS256", "ES256", "ES384", "ES512"}

// peer is another library, configured as its documentation says for strict use:
// an allow-list of algorithms, issuer, audience, and exp required where there
// is an option for that.
type peer struct {
	name   string
	verify func(*testing.T, vector) (identity, error)
}

var peers = []peer{
	{"go-jose v4", goJose},
	{"golang-jwt v5", golangJWT},
	{"go-oidc v3", goOIDC},
}

// identity is the caller that a library finds in a token.
type identity struct{ subject, namespace, name string }

// kubernetesClaims is what a caller has to read to know who it is.
type kubernetesClaims struct {
	Kubernetes struct {
		Namespace      string `json:"namespace"`
		ServiceAccount struct {
			Name string `json:"name"`
			UID  string `json:"uid"`
		} `json:"serviceaccount"`
		Pod *struct {
			Name string `json:"name"`
			UID  string `json:"uid"`
		} `json:"pod"`
	} `json:"kubernetes.io"`
}

func (k kubernetesClaims) of(subject string) identity {
	return identity{subject, k.Kubernetes.Namespace, k.Kubernetes.ServiceAccount.Name}
}

func jsonUnmarshal(text string, v any) error { return json.Unmarshal([]byte(text), v) }

func goJose(_ *testing.T, v vector) (identity, error) {
	var allowed []jose.SignatureAlgorithm
	for _, alg := range algorithms {
		allowed = append(allowed, jose.SignatureAlgorithm(alg))
	}
	token, err := josejwt.ParseSigned(v.token, allowed)
	if err != nil {
		return identity{}, err
	}
	keys, err := v.find(token.Headers[0].KeyID)
	if err != nil {
		return identity{}, err
	}
	var claims josejwt.Claims
	var kubernetes kubernetesClaims
	err = errors.New("no key")
	for _, key := range keys {
		if err = token.Claims(key, &claims, &kubernetes); err == nil {
			break
		}
	}
	if err != nil {
		return identity{}, err
	}
	for _, issuer := range v.issuers {
		expected := josejwt.Expected{Issuer: issuer, AnyAudience: v.audiences, Time: v.now}
		if err = claims.ValidateWithLeeway(expected, v.leeway); err == nil {
			return kubernetes.of(claims.Subject), nil
		}
	}
	return identity{}, err
}

func golangJWT(_ *testing.T, v vector) (identity, error) {
	var err error
	for _, issuer := range v.issuers {
		parser := jwt.NewParser(
			jwt.WithValidMethods(algorithms),
			jwt.WithIssuer(issuer),
			jwt.WithAudience(v.audiences...),
			jwt.WithExpirationRequired(),
			jwt.WithIssuedAt(),
			jwt.WithLeeway(v.leeway),
			jwt.WithStrictDecoding(),
			jwt.WithTimeFunc(func() time.Time { return v.now }),
		)
		var claims struct {
			jwt.RegisteredClaims
			kubernetesClaims
		}
		_, err = parser.ParseWithClaims(v.token, &claims, func(token *jwt.Token) (any, error) {
			kid, _ := token.Header["kid"].(string)
			keys, err := v.find(kid)
			if err != nil {
				return nil, err
			}
			var set jwt.VerificationKeySet
			for _, key := range keys {
				set.Keys = append(set.Keys, key)
			}
			return set, nil
		})
		if err == nil {
			return claims.of(claims.Subject), nil
		}
	}
	return identity{}, err
}

func goOIDC(t *testing.T, v vector) (identity, error) {
	ctx := oidc.ClientContext(t.Context(), &http.Client{Transport: v})
	var keys oidc.KeySet = oidc.NewRemoteKeySet(ctx, keyURL)
	if v.jwks == "" {
		given := &oidc.StaticKeySet{}
		for _, key := range v.given {
			given.PublicKeys = append(given.PublicKeys, crypto.PublicKey(key.Key))
		}
		keys = given
	}
	var err error
	for _, issuer := range v.issuers {
		for _, audience := range v.audiences {
			verifier := oidc.NewVerifier(issuer, keys, &oidc.Config{
				ClientID:             audience,
				SupportedSigningAlgs: slices.Clone(algorithms),
				Now:                  func() time.Time { return v.now.Add(-v.leeway) },
			})
			var token *oidc.IDToken
			if token, err = verifier.Verify(ctx, v.token); err != nil {
				continue
			}
			var kubernetes kubernetesClaims
			if err = token.Claims(&kubernetes); err == nil {
				return kubernetes.of(token.Subject), nil
			}
		}
	}
	return identity{}, err
}
