package kubejwt

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/kubejwt/kubejwt/internal/jws"
	"github.com/kubejwt/kubejwt/internal/pemfile"
	"github.com/kubejwt/kubejwt/internal/quote"
	"github.com/kubejwt/kubejwt/internal/reread"
	"github.com/kubejwt/kubejwt/internal/strictjson"
)

// Limits on a key set, wherever it comes from.
const (
	maxKeySetSize = 1 << 20 // bytes
	maxKeys       = 128     // some clusters accumulate old keys
	maxKeyID      = 1024    // bytes, as in a token

	rereadInterval = time.Second // of a KeyFile
)

// A KeySource says where the cluster's public keys come from. It is a
// [PublicKeys], a [KeyFile] or a [RemoteKeys], by value.
type KeySource interface {
	keySource()
}

func (PublicKeys) keySource() {}
func (KeyFile) keySource()    {}
func (RemoteKeys) keySource() {}

// PublicKeys are keys that are given once and never change. Nothing is ever
// fetched.
type PublicKeys []PublicKey

// A PublicKey is an RSA key of 2048 to 8192 bits or an ECDSA key on P-256,
// P-384 or P-521: an *rsa.PublicKey or *ecdsa.PublicKey.
type PublicKey struct {
	KeyID string // the kid in the header of tokens; "": as Kubernetes derives it from the key
	Key   crypto.PublicKey
}

// A KeyFile is the path of a file with public keys, in a form that
// [ParsePublicKeys] reads: an API server's sa.pub, or the JWKS that it serves.
// The file is looked at again while it is used, at most once a second. If it is
// missing or damaged later, its last good keys stay in use for 24 hours.
type KeyFile string

// RemoteKeys are keys that are fetched, kept and refreshed: from a discovery
// document and the jwks_uri that it names, or from JWKSURL. The zero value asks
// the issuer itself, over TLS with the system's roots.
//
// A key set is used for as long as its max-age says, but no less than 5 minutes
// and no more than an hour, and is refreshed in the background before that. See
// the package documentation for rotation and outages. The built-in transport
// heeds HTTPS_PROXY and NO_PROXY.
type RemoteKeys struct {
	// DiscoveryURL is where the discovery document is, if not at the issuer:
	// "" means Config.Issuer, less one trailing slash, and
	// /.well-known/openid-configuration. The document must name Config.Issuer.
	DiscoveryURL string
	// JWKSURL is where the keys are: "" means what the document's jwks_uri
	// says. If it is set, no document is fetched for keys. Setting both URLs
	// is an error.
	JWKSURL string
	// CAFile holds the roots to trust, in PEM, and those alone: "" means the
	// system's. It is read again when it changes.
	CAFile string
	// BearerTokenFile holds a token to send, and is read again as it rotates.
	// The token goes to the configured origin only, that of JWKSURL or
	// DiscoveryURL if set, else of the issuer, and never on a redirect. A
	// jwks_uri on another origin is an error then: set JWKSURL.
	BearerTokenFile string
	// Transport replaces the built-in transport; nil means the built-in one.
	// It excludes CAFile. Redirects are still not followed, the limits on time
	// and size stay, and a jwks_uri on another origin is an error.
	Transport http.RoundTripper
	// MaxStale is for how long keys are trusted when they cannot be refreshed:
	// 0 means 24 hours, negative means for ever. Less than 5 minutes is an
	// error.
	MaxStale time.Duration
	// SnapshotFile is where the last good key set is kept, so that a service
	// which restarts during an outage can verify as soon as its first fetch has
	// failed, after 10 seconds at most: "" means nowhere. It is replaced in one
	// step, so that its folder has to be writable, and ignored if the issuer, the
	// URL or CAFile's content is another, or if it is older than MaxStale. It
	// holds public keys alone; whoever can write it can mint identities.
	SnapshotFile string
}

// ParsePublicKeys reads public keys from PEM (blocks of type PUBLIC KEY, RSA
// PUBLIC KEY and CERTIFICATE, any number of them; text around them is ignored)
// or from a JWKS (RFC 7517, section 5). A key without an ID gets the one that
// Kubernetes derives from it.
//
// Private and symmetric keys, keys that Kubernetes does not sign with, and data
// without a key are errors, which say what was found. In a JWKS, keys of an
// unknown kty or crv are skipped, as section 5 asks, if a usable one is left.
// The same key twice is one key; two keys under one ID are an error.
func ParsePublicKeys(data []byte) (PublicKeys, error) {
	set, err := parseKeySet(data)
	if err != nil {
		return nil, fmt.Errorf("kubejwt: public keys: %w", err)
	}
	parsed := make(PublicKeys, 0, len(set.keys))
	for _, key := range set.keys {
		parsed = append(parsed, PublicKey{KeyID: key.id, Key: key.public})
	}
	return parsed, nil
}

// parseKeySet is ParsePublicKeys for our own use.
func parseKeySet(data []byte) (*keySet, error) {
	if len(data) > maxKeySetSize {
		return nil, fmt.Errorf("more than %d bytes", maxKeySetSize)
	}
	parse := parsePEM
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		parse = parseStaticJWKS
	}
	keys, err := parse(data)
	if err != nil {
		return nil, err
	}
	return newStaticKeySet(keys)
}

func parsePEM(data []byte) (PublicKeys, error) {
	blocks, errBlocks := pemfile.Blocks(data)
	if len(blocks) > maxKeys {
		return nil, fmt.Errorf("more than %d keys", maxKeys)
	}
	var keys PublicKeys
	for i, block := range blocks {
		key, err := parseBlock(block)
		if err != nil {
			return nil, fmt.Errorf("PEM block %d: %w", i+1, err)
		}
		keys = append(keys, PublicKey{Key: key})
	}
	switch {
	case errBlocks != nil:
		return nil, errBlocks
	case len(keys) == 0:
		return nil, errors.New("no key: want PEM blocks (an API server's sa.pub) or a JWKS (what it serves at /openid/v1/jwks)")
	}
	return keys, nil
}

func parseBlock(block *pem.Block) (crypto.PublicKey, error) {
	var key crypto.PublicKey
	var err error
	switch {
	case block.Type == "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case block.Type == "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case block.Type == "CERTIFICATE":
		var certificate *x509.Certificate
		if certificate, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = certificate.PublicKey
		}
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return nil, fmt.Errorf("a private key (%q), which must stay with the API server: take the public half, openssl pkey -pubout", shorten(block.Type))
	default:
		return nil, fmt.Errorf("a block of type %q: want PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE", shorten(block.Type))
	}
	if err != nil {
		return nil, fmt.Errorf("a damaged %s", block.Type)
	}
	return key, nil
}

// shorten bounds what gets from a file into an error.
func shorten(s string) string { return s[:min(len(s), 64)] }

// decodeJWKS opens the envelope of RFC 7517, section 5.
func decodeJWKS(data []byte) ([]json.RawMessage, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
		Type string            `json:"kty"`
	}
	if err := strictjson.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("no JWKS: %w", err)
	}
	switch {
	case set.Keys == nil && set.Type != "":
		return nil, errors.New(`a single JWK: put it into {"keys":[…]}`)
	case len(set.Keys) == 0:
		return nil, errors.New("no JWKS: it has no keys")
	case len(set.Keys) > maxKeys:
		return nil, fmt.Errorf("a JWKS of %d keys: at most %d are read", len(set.Keys), maxKeys)
	}
	return set.Keys, nil
}

func parseStaticJWKS(data []byte) (PublicKeys, error) {
	list, err := decodeJWKS(data)
	if err != nil {
		return nil, err
	}
	var keys PublicKeys
	var skipped error
	for i, raw := range list {
		key, err := parseJWK(raw)
		switch {
		case errors.Is(err, errUnknownKeyType):
			skipped = fmt.Errorf("key %d: %w", i+1, err)
		case err != nil:
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		default:
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("no usable key: %w", skipped)
	}
	return keys, nil
}

// parseFetchedJWKS reads a set that came over the network: a key that cannot be
// used is dropped and the others stay (RFC 7517, section 5). A set without a
// usable key is an error.
func parseFetchedJWKS(data []byte) (*keySet, error) {
	list, err := decodeJWKS(data)
	if err != nil {
		return nil, err
	}
	set := newKeySet()
	for i, raw := range list {
		parsed, err := parseJWK(raw)
		if err == nil && parsed.KeyID == "" {
			err = errors.New("a key without kid")
		}
		var k *key
		if err == nil {
			k, err = newKey(parsed)
		}
		if err != nil {
			set.dropped = append(set.dropped, droppedKey{id: parsed.KeyID, why: fmt.Sprintf("key %d: %v", i+1, err)})
			continue
		}
		set.add(k)
	}
	set.dropDoubled()
	if len(set.keys) == 0 {
		return nil, fmt.Errorf("a JWKS without a usable key: %s", set.dropped[0].why)
	}
	return set, nil
}

// jwkHead is what tells whether a JSON Web Key is one for here at all.
type jwkHead struct {
	Type  string  `json:"kty"`
	Curve string  `json:"crv"`
	KeyID *string `json:"kid"`

	Symmetric json.RawMessage `json:"k"`
	D         json.RawMessage `json:"d"`
	P         json.RawMessage `json:"p"`
	Q         json.RawMessage `json:"q"`
	DP        json.RawMessage `json:"dp"`
	DQ        json.RawMessage `json:"dq"`
	QI        json.RawMessage `json:"qi"`
	Others    json.RawMessage `json:"oth"`
}

// check lets known public keys pass, and nothing else.
func (h *jwkHead) check() error {
	private := [][]byte{h.D, h.P, h.Q, h.DP, h.DQ, h.QI, h.Others}
	switch {
	case h.Symmetric != nil || h.Type == "oct":
		return errors.New("a symmetric key, which anybody who verifies could sign with")
	case slices.ContainsFunc(private, func(member []byte) bool { return member != nil }):
		return errors.New("a private key, which must stay with the API server")
	case h.Type == "":
		return errors.New("a key without kty")
	case h.Type == "EC" && h.Curve == "":
		return errors.New("an EC key without crv")
	case h.Type == "EC" && !slices.Contains([]string{"P-256", "P-384", "P-521"}, h.Curve):
		return errUnknownKeyType
	case h.Type != "EC" && h.Type != "RSA":
		return errUnknownKeyType
	default:
		return nil
	}
}

// jwk is a JSON Web Key of a known kind as far as it matters here. The x5*
// members do not.
type jwk struct {
	Type       string   `json:"kty"`
	Curve      string   `json:"crv"`
	Use        *string  `json:"use"`
	Algorithm  *string  `json:"alg"`
	Operations []string `json:"key_ops"`
	N          string   `json:"n"`
	E          string   `json:"e"`
	X          string   `json:"x"`
	Y          string   `json:"y"`
}

// errUnknownKeyType is of a key that a later Kubernetes may sign with.
var errUnknownKeyType = errors.New("an unknown kty or crv")

// parseJWK reads one key. With an error the PublicKey still has the KeyID, if
// there was one.
func parseJWK(raw []byte) (PublicKey, error) {
	var head jwkHead
	if err := strictjson.Unmarshal(raw, &head); err != nil {
		return PublicKey{}, err
	}
	var parsed PublicKey
	if head.KeyID != nil {
		parsed.KeyID = *head.KeyID
	}
	if len(parsed.KeyID) > maxKeyID {
		return PublicKey{}, fmt.Errorf("a kid of more than %d bytes", maxKeyID)
	}
	if err := head.check(); err != nil {
		return parsed, err
	}
	var j jwk
	if err := strictjson.Unmarshal(raw, &j); err != nil {
		return parsed, err
	}
	switch {
	case j.Use != nil && *j.Use != "sig":
		return parsed, errors.New("a key whose use is not sig")
	case j.Operations != nil && !slices.Contains(j.Operations, "verify"):
		return parsed, errors.New("a key whose key_ops have no verify")
	case j.Operations != nil && len(slices.Compact(slices.Sorted(slices.Values(j.Operations)))) != len(j.Operations):
		return parsed, errors.New("a key that names one of its key_ops twice")
	}
	public, err := j.public()
	if err != nil {
		return parsed, err
	}
	checked, err := jws.NewKey(public)
	if err != nil {
		return parsed, err
	}
	if j.Algorithm != nil && *j.Algorithm != checked.Algorithm() {
		return parsed, fmt.Errorf("a key whose alg is not %s, as its type asks for", checked.Algorithm())
	}
	parsed.Key = public
	return parsed, nil
}

// public is the key itself, of members in their one canonical spelling.
func (j *jwk) public() (crypto.PublicKey, error) {
	if j.Type == "RSA" {
		return j.rsa()
	}
	return j.ec()
}

// rsa reads an RSA key without go-jose, which takes 4096 bits at most.
func (j *jwk) rsa() (*rsa.PublicKey, error) {
	n, err := decodeCanonical(j.N)
	if err != nil || n[0] == 0 {
		return nil, errors.New("an RSA key whose n is missing or not canonical")
	}
	e, err := decodeCanonical(j.E)
	if err != nil || e[0] == 0 || len(e) > 4 {
		return nil, errors.New("an RSA key whose e is missing, not canonical or too large")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}, nil
}

// ec hands go-jose nothing but the members of the public key: it takes other
// spellings too, and gives up a good key over an x5c that it can't read.
func (j *jwk) ec() (crypto.PublicKey, error) {
	_, errX := decodeCanonical(j.X)
	_, errY := decodeCanonical(j.Y)
	if errX != nil || errY != nil {
		return nil, errors.New("an EC key whose x or y is missing or not canonical")
	}
	minimal, err := json.Marshal(map[string]string{"kty": j.Type, "crv": j.Curve, "x": j.X, "y": j.Y})
	if err != nil {
		return nil, err
	}
	var library jose.JSONWebKey
	if err := library.UnmarshalJSON(minimal); err != nil {
		return nil, errors.New("a damaged key")
	}
	return library.Key, nil
}

// decodeCanonical decodes base64url in its one spelling, and refuses nothing at
// all.
func decodeCanonical(s string) ([]byte, error) {
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(decoded) == 0 || strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("not canonical base64url")
	}
	return decoded, nil
}

// keyring is a KeySource at work.
type keyring interface {
	// current returns the keys to judge a token by.
	current(ctx context.Context) (view, error)
	// again returns them once more for a token that passed rule 3, and whose
	// aud and exp would pass, but that the keys seen can't judge.
	again(ctx context.Context, seen view) (view, error)
	// ready returns nil while there are keys.
	ready(ctx context.Context) error
	// holds reports whether a key is in use at this moment.
	holds(id string, fingerprint [sha256.Size]byte) bool
	addStats(*Stats)
}

// view is what a keyring knows at one moment.
type view struct {
	*keySet
	issuer       string        // as the origin names it, where it is to be learnt
	formerIssuer string        // the one before it, while it is honoured
	trouble      error         // why the keys could not be brought up to date; nil if they could
	retry        time.Duration // with trouble: until the next attempt
	waited       bool          // a fetch was waited for to get this
}

// unavailable is the error of a token that v can't judge, while nobody can tell
// whether a newer set could. It is nil without trouble.
func (v view) unavailable() error {
	if v.trouble == nil {
		return nil
	}
	return &keysUnavailable{cause: v.trouble, retry: v.retry}
}

// staticKeys is the keyring of PublicKeys.
type staticKeys struct{ set *keySet }

func (s staticKeys) current(context.Context) (view, error)     { return view{keySet: s.set}, nil }
func (s staticKeys) again(context.Context, view) (view, error) { return view{keySet: s.set}, nil }
func (s staticKeys) ready(context.Context) error               { return nil }
func (s staticKeys) holds(id string, fingerprint [sha256.Size]byte) bool {
	return s.set.holds(id, fingerprint)
}
func (s staticKeys) addStats(stats *Stats) { stats.KeyIDs = s.set.sortedIDs() }

// fileKeys is the keyring of a KeyFile.
type fileKeys struct {
	file   *reread.File[*keySet]
	now    func() instant
	logger *slog.Logger
	last   atomic.Pointer[keySet] // in use
}

// newFileKeys reads the file, which has to be in order at the start.
func newFileKeys(path KeyFile, logger *slog.Logger) (*fileKeys, error) {
	if path == "" {
		return nil, errors.New("a KeyFile without a path")
	}
	f := &fileKeys{
		file:   reread.New(string(path), maxKeySetSize, rereadInterval, parseKeySet, logger),
		now:    realClock,
		logger: logger,
	}
	content, err := f.file.Get()
	if err != nil {
		return nil, err
	}
	f.last.Store(content.Value)
	return f, nil
}

func (f *fileKeys) current(context.Context) (view, error) {
	content, err := f.file.Get()
	if err != nil {
		return view{}, &keysUnavailable{cause: err}
	}
	goodAt := instant{mono: content.GoodAt, wall: content.GoodAt.Round(0)}
	if f.now().since(goodAt) >= defaultMaxStale {
		problem := cmp.Or(content.Problem, errors.New("the clock was set, and the file not looked at since"))
		return view{}, &keysUnavailable{cause: fmt.Errorf("not in order for %v: %w", defaultMaxStale, problem)}
	}
	if last := f.last.Load(); last != content.Value && f.last.CompareAndSwap(last, content.Value) && !content.Value.sameKeys(last) {
		logChange(f.logger, last, content.Value)
	}
	return view{keySet: content.Value, trouble: content.Problem}, nil
}

// again does not look twice: current has looked.
func (f *fileKeys) again(_ context.Context, seen view) (view, error) {
	return seen, seen.unavailable()
}

func (f *fileKeys) holds(id string, fingerprint [sha256.Size]byte) bool {
	content, err := f.file.Get()
	return err == nil && content.Value.holds(id, fingerprint)
}

func (f *fileKeys) ready(ctx context.Context) error {
	_, err := f.current(ctx)
	return err
}

func (f *fileKeys) addStats(s *Stats) {
	content, err := f.file.Get()
	if err != nil {
		s.LastError = err
		return
	}
	s.KeyIDs = content.Value.sortedIDs()
	s.FetchedAt = content.GoodAt.Round(0)
	s.StaleAt = s.FetchedAt.Add(defaultMaxStale)
	s.LastError = content.Problem
}

// key is a public key under its ID, our own copy.
type key struct {
	jws.Key
	id          string
	public      crypto.PublicKey
	spki        []byte            // DER SubjectPublicKeyInfo
	fingerprint [sha256.Size]byte // of spki
}

// newKey copies and checks p. Its ID, if it has none, is derived as Kubernetes
// does (keyIDFromPublicKey in k8s.io/kubernetes pkg/serviceaccount/jwt.go).
func newKey(p PublicKey) (*key, error) {
	if len(p.KeyID) > maxKeyID {
		return nil, fmt.Errorf("a KeyID of more than %d bytes", maxKeyID)
	}
	if _, err := jws.NewKey(p.Key); err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(p.Key)
	if err != nil {
		return nil, errors.New("a key that has no SubjectPublicKeyInfo")
	}
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, errors.New("a damaged key")
	}
	k := &key{id: p.KeyID, public: public, spki: spki, fingerprint: sha256.Sum256(spki)}
	if k.Key, err = jws.NewKey(public); err != nil {
		return nil, err
	}
	if k.id == "" {
		k.id = base64.RawURLEncoding.EncodeToString(k.fingerprint[:])
	}
	return k, nil
}

// keySet is a set of usable keys. It does not change once it is in use.
type keySet struct {
	keys    []*key
	byID    map[string]*key
	doubled map[string]bool // IDs under which there is more than one key
	dropped []droppedKey
}

type droppedKey struct{ id, why string }

func newKeySet() *keySet {
	return &keySet{byID: make(map[string]*key), doubled: make(map[string]bool)}
}

// newStaticKeySet refuses what a fetched set would drop: whoever configured
// the keys is there to mend them.
func newStaticKeySet(keys PublicKeys) (*keySet, error) {
	set := newKeySet()
	for i, p := range keys {
		k, err := newKey(p)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		set.add(k)
		if set.doubled[k.id] {
			return nil, fmt.Errorf("key %d: another key has the ID %s too", i+1, quote.Value(k.id))
		}
	}
	if len(set.keys) == 0 {
		return nil, errors.New("no key")
	}
	return set, nil
}

// add takes k in, and notes if another key has its ID already. The same key
// twice is one key.
func (s *keySet) add(k *key) {
	other := s.byID[k.id]
	if other != nil {
		if other.fingerprint != k.fingerprint {
			s.doubled[k.id] = true
		}
		return
	}
	s.keys = append(s.keys, k)
	s.byID[k.id] = k
}

// dropDoubled drops all the keys of a doubled ID: neither can be trusted to be
// the one meant.
func (s *keySet) dropDoubled() {
	for _, id := range slices.Sorted(maps.Keys(s.doubled)) {
		s.dropped = append(s.dropped, droppedKey{id, "two different keys have this kid"})
		delete(s.byID, id)
	}
	s.keys = slices.DeleteFunc(s.keys, func(k *key) bool { return s.doubled[k.id] })
}

// whyDropped tells why there is no key of this ID, if there was one: "" if not.
func (s *keySet) whyDropped(id string) string {
	for _, d := range s.dropped {
		if d.id == id {
			return d.why
		}
	}
	return ""
}

// sortedIDs are the IDs of the usable keys.
func (s *keySet) sortedIDs() []string {
	return slices.Sorted(maps.Keys(s.byID))
}

// holds reports whether the very key of this fingerprint is in use under id.
func (s *keySet) holds(id string, fingerprint [sha256.Size]byte) bool {
	k := s.byID[id]
	return k != nil && k.fingerprint == fingerprint
}

// sameKeys reports whether two sets have the same keys under the same IDs.
func (s *keySet) sameKeys(other *keySet) bool {
	return other != nil && len(s.keys) == len(other.keys) &&
		!slices.ContainsFunc(s.keys, func(k *key) bool { return !other.holds(k.id, k.fingerprint) })
}
