package bench

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/kubejwt/kubejwt"
)

const (
	folder = "../../testdata/vectors/"
	issuer = "https://iss.example"
	keyURL = issuer + "/openid/v1/jwks"
)

// vector is a token of the attack corpus, with what it is judged by.
type vector struct {
	name        string
	accept      bool // by us
	comment     string
	token       string
	issuers     []string
	audiences   []string
	leeway      time.Duration
	maxLifetime time.Duration
	extended    bool
	requirePod  bool
	now         time.Time
	jwks        string // "": the keys are given
	given       []jose.JSONWebKey
	keyFile     string
}

func readVectors(t *testing.T) []vector {
	t.Helper()
	paths, err := filepath.Glob(folder + "*.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".txt")
		if strings.HasPrefix(name, "jwks_") || strings.HasPrefix(name, "discovery_") {
			continue
		}
		all = append(all, readVector(t, name))
	}
	if len(all) == 0 {
		t.Fatal("no vectors in " + folder)
	}
	return all
}

func readVector(t *testing.T, name string) vector {
	t.Helper()
	head, token, _ := strings.Cut(readFile(t, folder+name+".txt"), "\n\n")
	header := make(map[string]string)
	for line := range strings.SplitSeq(head, "\n") {
		key, value, _ := strings.Cut(line, ": ")
		header[key] = value
	}
	v := vector{
		name:        name,
		accept:      header["expect"] == "accept",
		comment:     header["comment"],
		token:       strings.TrimSuffix(token, "\n"),
		issuers:     []string{issuer},
		audiences:   []string{"svc-a"},
		leeway:      duration(t, header["leeway"]),
		maxLifetime: duration(t, header["max-lifetime"]),
		extended:    header["accept-extended"] == "true",
		requirePod:  header["require-pod"] == "true",
	}
	if unquoted, err := strconv.Unquote(v.token); err == nil {
		v.token = unquoted
	}
	if former := header["former-issuers"]; former != "" {
		v.issuers = append(v.issuers, strings.Split(former, ", ")...)
	}
	if audiences := header["audiences"]; audiences != "" {
		v.audiences = strings.Split(audiences, ", ")
	}
	seconds, err := strconv.ParseInt(header["now"], 10, 64)
	if err != nil {
		t.Fatalf("%s: now: %v", name, err)
	}
	v.now = time.Unix(seconds, 0)
	v.keyFile = folder + "keys/" + header["keys"]
	if filepath.Ext(v.keyFile) == ".jwks" {
		v.jwks = readFile(t, v.keyFile)
	} else {
		v.given = publicKeys(t, readFile(t, v.keyFile))
	}
	return v
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	if text == "" {
		return 0
	}
	if text == "none" {
		return -1
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// publicKeys are those of a PEM file under the IDs that Kubernetes derives.
func publicKeys(t testing.TB, text string) []jose.JSONWebKey {
	t.Helper()
	var keys []jose.JSONWebKey
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return keys
		}
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(block.Bytes)
		keys = append(keys, jose.JSONWebKey{Key: key, KeyID: base64.RawURLEncoding.EncodeToString(sum[:])})
	}
}

// RoundTrip answers as the issuer's key endpoint.
func (v vector) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.String() != keyURL {
		return nil, fmt.Errorf("%s is asked", r.URL)
	}
	return &http.Response{StatusCode: http.StatusOK, Header: make(http.Header), Body: io.NopCloser(strings.NewReader(v.jwks)), Request: r}, nil
}

// keySet is what go-jose makes of the keys.
func (v vector) keySet() (jose.JSONWebKeySet, error) {
	var set jose.JSONWebKeySet
	if v.jwks == "" {
		return jose.JSONWebKeySet{Keys: v.given}, nil
	}
	return set, jsonUnmarshal(v.jwks, &set)
}

// find returns the keys to try for a kid: those of it, or for given keys and no
// kid all.
func (v vector) find(kid string) ([]crypto.PublicKey, error) {
	set, err := v.keySet()
	if err != nil {
		return nil, err
	}
	found := set.Key(kid)
	if kid == "" && v.jwks == "" {
		found = v.given
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no key %q", kid)
	}
	var keys []crypto.PublicKey
	for _, k := range found {
		keys = append(keys, k.Key)
	}
	return keys, nil
}

// ours is this library's verdict.
func (v vector) ours(t *testing.T) (identity, error) {
	config := kubejwt.Config{
		Issuer:          v.issuers[0],
		FormerIssuers:   v.issuers[1:],
		Audiences:       v.audiences,
		ServiceAccounts: []string{"*"},
		Leeway:          v.leeway,
		MaxLifetime:     v.maxLifetime,
		AcceptExtended:  v.extended,
		RequirePod:      v.requirePod,
		Keys:            kubejwt.KeyFile(v.keyFile),
		Logger:          slog.New(slog.DiscardHandler),
		Now:             func() time.Time { return v.now },
	}
	if v.leeway == 0 {
		config.Leeway = -1
	}
	if v.jwks != "" {
		config.Keys = kubejwt.RemoteKeys{JWKSURL: keyURL, Transport: v}
	}
	verifier, err := kubejwt.New(config)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := verifier.Verify(t.Context(), v.token)
	return identity{claims.Subject, claims.Namespace, claims.ServiceAccount.Name}, err
}
