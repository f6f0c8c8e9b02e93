package kubejwt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/kubejwt/kubejwt/internal/accounts"
	"github.com/kubejwt/kubejwt/internal/origin"
	"github.com/kubejwt/kubejwt/internal/tokencache"
)

// Config says whose tokens a [Verifier] accepts. Issuer (except for [InCluster]),
// Audiences and ServiceAccounts are required; no field turns a check off by
// being empty. For durations and sizes 0 means the default, and negative means
// none: no leeway, no bound, no memory.
type Config struct {
	// Issuer is the exact iss of the tokens, the API server's
	// --service-account-issuer, and where the discovery document is looked for
	// unless Keys say otherwise. New requires it. InCluster learns it from the
	// API server's document if it is empty; if that names another one later,
	// tokens of the last one stay accepted for 24 hours. An API server whose
	// issuer is no https URL publishes no keys: set Keys to a KeyFile.
	Issuer string
	// FormerIssuers are older issuers of this same cluster, while
	// --service-account-issuer changes. Never name another cluster's: that is
	// what Join is for.
	FormerIssuers []string
	// Audiences are the names of this service: a token must name at least one.
	// Naming an issuer here admits tokens that are good for the API server
	// too, as every pod's default token is; New logs a warning.
	Audiences []string
	// ServiceAccounts may call: "namespace/name", "namespace/*" for all of a
	// namespace, or "*" for every one of the issuer. Nothing else is a
	// pattern. Nil and empty are errors.
	ServiceAccounts []string
	// Keys says where the keys come from. Nil means RemoteKeys{}: for New the
	// issuer's own discovery document with the system's roots, for InCluster
	// the pod's API server.
	Keys KeySource
	// Leeway is how far the clocks may be apart: 0 means 60 seconds, as for
	// the API server; negative means not at all. Over 5 minutes is an error.
	Leeway time.Duration
	// MaxLifetime is how long a token may live, from iat to the earlier of exp
	// and warnafter (to exp with AcceptExtended): 0 means 24 hours, negative
	// means any time. Deletion of a pod or an account is not visible before
	// its token expires, so this bounds for how long it goes unseen.
	MaxLifetime time.Duration
	// AcceptExtended honours exp of tokens past their warnafter: the token
	// that every pod has by default lives for a year, with a warnafter an hour
	// ahead. It needs an explicit MaxLifetime.
	AcceptExtended bool
	// RequirePod refuses tokens that are not bound to a pod.
	RequirePod bool
	// CacheSize is how many verified tokens are remembered at most: 0 means
	// 8192, negative means none. A token of a pod takes less than 1 KB, and the largest that
	// is remembered 3 KB.
	CacheSize int
	// Logger gets, at Warn, failed fetches, files that are not in order, keys
	// that can't be used, and an audience that is an issuer; at Info, changes of
	// keys and issuer, and recoveries; at Debug, each fetch and each token that is
	// not accepted. Nil means slog.Default() at the time of New.
	Logger *slog.Logger
	// Now is the clock for the times in tokens: nil means time.Now. Keys age
	// by the real clock.
	Now func() time.Time
	// Check is rule 10: it judges a token that has passed all other rules, each
	// time, remembered tokens included. It is for what cannot be told offline:
	// see the package revocation. An [*InvalidTokenError] refuses the token, and
	// any other error means that Check can't tell, which is [ErrUndecided]. Check
	// is called by many goroutines at once, and must not block. Nil means no
	// such check.
	Check func(Claims) error
	// OnVerdict is told each verdict once, by the goroutine that asked for it:
	// what [Verifier.Verify] or [Verifier.VerifyRequest] returns, a request
	// without a token included. It is for audit logs, metrics and traces: see
	// [Outcome]. It is called by many goroutines at once, and delays the answer
	// until it returns. Nil costs nothing.
	OnVerdict func(context.Context, Claims, error)
}

// New returns a Verifier for the tokens of one issuer. It does no network I/O;
// it reads a KeyFile, which has to be in order. Its errors name the field.
func New(config Config) (*Verifier, error) {
	c, allowed, err := config.prepare()
	if err != nil {
		return nil, err
	}
	if config.Issuer == "" {
		return nil, badField("Issuer", "is required: the API server's --service-account-issuer (InCluster learns it)")
	}
	if c.keys, err = newKeyring(c.config, c.warnOfAudience); err != nil {
		return nil, err
	}
	_, isRemote := c.keys.(*jwksCache)
	c.static = !isRemote
	return newVerifier(c, allowed), nil
}

func newVerifier(c *cluster, allowed allowedAccounts) *Verifier {
	return &Verifier{members: []member{{cluster: c, allowed: allowed, onVerdict: c.config.OnVerdict}}}
}

// InCluster returns a Verifier for the tokens of the cluster that this pod runs
// in: the keys come from its API server, found in KUBERNETES_SERVICE_HOST and
// KUBERNETES_SERVICE_PORT, judged by the mounted ca.crt, asked with the mounted
// token; the issuer comes from the API server's document unless Config names
// it. Fields set in a RemoteKeys override those; for other kinds of Keys use
// New. It does no I/O yet. Outside a pod the error is ErrNotInCluster.
//
// A DiscoveryURL or JWKSURL may also name the API server kubernetes.default.svc,
// or a longer form of that, at port 443. On any other origin it gets neither the
// pod's CA nor its token. The API server is asked directly, never through the
// environment's proxy: set RemoteKeys.Transport to use one.
func InCluster(config Config) (*Verifier, error) {
	c, allowed, err := config.prepare()
	if err != nil {
		return nil, err
	}
	var keys RemoteKeys
	switch given := config.Keys.(type) {
	case nil:
	case RemoteKeys:
		keys = given
	default:
		return nil, badField("Keys", "InCluster takes none or RemoteKeys, not %T: use New", given)
	}
	apiServer, err := origin.PodAPIServer()
	switch {
	case errors.Is(err, origin.ErrNotInPod):
		return nil, ErrNotInCluster
	case err != nil:
		return nil, fmt.Errorf("kubejwt: %w", err)
	}
	c.learnsIssuer = config.Issuer == ""
	r, err := newPodRemote(apiServer, config.Issuer, keys, c.config.Logger)
	if err != nil {
		return nil, err
	}
	c.keys = newJWKSCache(r, c.config.Logger, c.warnOfAudience)
	return newVerifier(c, allowed), nil
}

// prepare checks the fields that New and InCluster have in common, and fills in
// the defaults.
func (config Config) prepare() (*cluster, allowedAccounts, error) {
	allowed, err := config.check()
	if err != nil {
		return nil, allowedAccounts{}, err
	}
	config.FormerIssuers = slices.Clone(config.FormerIssuers)
	config.Audiences = slices.Clone(config.Audiences)
	config.ServiceAccounts = nil // each Verifier has its own
	if config.Leeway == 0 {
		config.Leeway = time.Minute // as the API server
	}
	config.Leeway = max(config.Leeway, 0)
	if config.MaxLifetime == 0 {
		config.MaxLifetime = 24 * time.Hour
	}
	if config.CacheSize == 0 {
		config.CacheSize = 8192
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	c := &cluster{config: config, tokens: tokencache.New[*cachedToken](config.CacheSize)}
	for _, issuer := range append([]string{config.Issuer}, config.FormerIssuers...) {
		if issuer != "" {
			c.issuers = append(c.issuers, issuer)
			c.warnOfAudience(config.Logger, issuer)
		}
	}
	return c, allowed, nil
}

// badField is the error of a field of Config.
func badField(field, format string, args ...any) error {
	return fmt.Errorf("kubejwt: Config."+field+": "+format, args...)
}

func (config Config) check() (allowedAccounts, error) {
	const maxLeeway = 5 * time.Minute
	if err := config.checkTexts(); err != nil {
		return allowedAccounts{}, err
	}
	switch {
	case slices.Contains(config.FormerIssuers, ""):
		return allowedAccounts{}, badField("FormerIssuers", "one is empty")
	case len(config.Audiences) == 0:
		return allowedAccounts{}, badField("Audiences", "is required: the audience in the caller's projected volume")
	case slices.Contains(config.Audiences, ""):
		return allowedAccounts{}, badField("Audiences", "one is empty")
	case slices.Contains(config.Audiences, "*"):
		return allowedAccounts{}, badField("Audiences", `"*" is not a pattern here: name this service`)
	case config.Leeway > maxLeeway:
		return allowedAccounts{}, badField("Leeway", "%v is more than %v", config.Leeway, maxLeeway)
	case config.AcceptExtended && config.MaxLifetime == 0:
		return allowedAccounts{}, badField("AcceptExtended",
			"needs an explicit MaxLifetime: such tokens live for a year, and the default refuses them")
	}
	list, err := accounts.Parse(config.ServiceAccounts)
	if err != nil {
		return allowedAccounts{}, badField("ServiceAccounts", "%w", err)
	}
	return allowedAccounts{list, "Config.ServiceAccounts"}, nil
}

// checkTexts refuses what was copied together with a line break, or from a page
// with invisible characters. Bytes are compared, so that no token would match.
func (config Config) checkTexts() error {
	isInvisible := func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }
	for _, field := range []struct {
		name   string
		values []string
	}{
		{"Issuer", []string{config.Issuer}},
		{"FormerIssuers", config.FormerIssuers},
		{"Audiences", config.Audiences},
		{"ServiceAccounts", config.ServiceAccounts},
	} {
		for _, value := range field.values {
			if !utf8.ValidString(value) {
				return badField(field.name, "%+q is not UTF-8, and no token can name it", value)
			}
			if strings.ContainsFunc(value, isInvisible) {
				return badField(field.name, "%+q has a space or a character that can't be seen: take it out", value)
			}
		}
	}
	return nil
}

// warnOfAudience tells the operator of callers whose token is good for the API
// server too: this service, or whoever breaks into it, could use it there.
func (c *cluster) warnOfAudience(logger *slog.Logger, issuer string) {
	if slices.Contains(c.config.Audiences, issuer) {
		logger.Warn("kubejwt: an audience is the cluster's issuer: "+
			"whoever steals a token from this service can use it at the API server",
			"audience", issuer)
	}
}
