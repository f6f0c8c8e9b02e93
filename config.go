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
	"github.com/kubejwt/kubejwt/internal/safelog"
	"github.com/kubejwt/kubejwt/internal/tokencache"
)

// Config says whose tokens a [Verifier] accepts. Audiences and ServiceAccounts
// are required, and so is Issuer, except for [InCluster]. An empty field never
// turns a check off. For durations and sizes 0 means the default. Negative means
// none: no leeway, no limit, nothing remembered.
type Config struct {
	// Issuer is the exact iss of the tokens: the API server's
	// --service-account-issuer. The discovery document is looked for there, unless
	// Keys say otherwise. New requires it. If it is empty, InCluster learns it from
	// the API server's document. If the document names another issuer later, tokens
	// of the last one stay accepted for 24 hours. An API server whose issuer is not
	// an https URL publishes no keys: set Keys to a KeyFile.
	Issuer string
	// FormerIssuers are older issuers of this same cluster, while
	// --service-account-issuer changes. Never name another cluster's issuer: use
	// Join for that.
	FormerIssuers []string
	// Audiences are the names of this service. A token must name at least one.
	// If one is the issuer, the service gets tokens that the API server accepts
	// too, such as every pod's default token. New logs a warning then.
	Audiences []string
	// ServiceAccounts are the service accounts that may call: "namespace/name",
	// "namespace/*" for all of a namespace, or "*" for all of the issuer. Nothing
	// else is a pattern. Nil and empty are errors.
	ServiceAccounts []string
	// Keys says where the keys come from. Nil means RemoteKeys{}: New asks the
	// issuer for its discovery document, with the system's roots. InCluster asks
	// the pod's API server.
	Keys KeySource
	// Leeway is how far the clocks may be apart. 0 means 60 seconds, as for the
	// API server. Negative means not at all. Over 5 minutes is an error.
	Leeway time.Duration
	// MaxLifetime is how long a token may be valid, from iat to the earlier of
	// exp and warnafter (to exp with AcceptExtended). 0 means 24 hours, negative
	// means any time. The token of a deleted pod or account is accepted until it
	// expires, so this limits for how long.
	MaxLifetime time.Duration
	// AcceptExtended accepts tokens past their warnafter, until exp. The token
	// that every pod has by default is valid for a year, with a warnafter an hour
	// ahead. It needs an explicit MaxLifetime.
	AcceptExtended bool
	// RequirePod refuses tokens that are not bound to a pod.
	RequirePod bool
	// CacheSize is how many verified tokens are remembered at most. 0 means 8192,
	// negative means none. A pod's token takes less than 1 KB of memory, and the
	// largest that is remembered takes 3 KB.
	CacheSize int
	// Logger gets, at Warn, failed fetches, files that can't be read, keys
	// that can't be used, and an audience that is an issuer; at Info, changes of
	// keys and issuer, and recoveries; at Debug, each fetch and each token that is
	// not accepted. A log that hangs delays nobody by more than 25 ms per line. At
	// most 256 lines wait for it, and more are dropped. A panic in it loses the line.
	// Nil means slog.Default() at the time of New.
	Logger *slog.Logger
	// Now is the clock for the times in tokens. Nil means time.Now. The age of
	// keys is measured by the real clock.
	Now func() time.Time
	// Check is rule 10. It is asked about each token that has passed all other
	// rules, every time, even if the token is remembered. It is for facts that a
	// token does not hold: see the package revocation. An [*InvalidTokenError]
	// refuses the token. Any other error means that Check can't tell, which is
	// [ErrUndecided]. Many goroutines call Check at once, and it must not block.
	// Nil means that nobody is asked.
	Check func(Claims) error
	// OnVerdict is called once for each [Verifier.Verify] and
	// [Verifier.VerifyRequest], with what they are about to return, even for a
	// request without a token. It is for audit logs, metrics and traces: see
	// [Outcome]. It runs in the goroutine that called Verify, which waits for it,
	// so many goroutines call it at once. Nil costs nothing.
	OnVerdict func(context.Context, Claims, error)
}

// New returns a Verifier for the tokens of one issuer. It does no network I/O.
// It reads a KeyFile, which must hold good keys. Its errors name the field.
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
// in. The keys come from its API server, which KUBERNETES_SERVICE_HOST and
// KUBERNETES_SERVICE_PORT name. The mounted ca.crt verifies the API server, and
// the mounted token is sent to it. The issuer comes from the API server's
// document unless Config names it. Fields set in a RemoteKeys override these.
// For other kinds of Keys use New. InCluster does no I/O yet. Outside a pod the
// error is ErrNotInCluster.
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
	config.Audiences = slices.Clone(config.Audiences)
	config.ServiceAccounts = nil // each Verifier has its own
	if config.Leeway == 0 {
		config.Leeway = time.Minute // like the API server
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
	config.Logger = safelog.New(config.Logger)
	if config.Now == nil {
		config.Now = time.Now
	}
	c := &cluster{
		config: config,
		tokens: tokencache.New[*cachedToken](config.CacheSize),
	}
	for _, issuer := range append([]string{config.Issuer}, config.FormerIssuers...) {
		if issuer != "" {
			c.issuers = append(c.issuers, issuer)
			c.warnOfAudience(issuer)
		}
	}
	return c, allowed, nil
}

// badField returns the error for a field of Config.
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
			"needs an explicit MaxLifetime: such tokens are valid for a year, and the default refuses them")
	}
	list, err := accounts.Parse(config.ServiceAccounts)
	if err != nil {
		return allowedAccounts{}, badField("ServiceAccounts", "%w", err)
	}
	return allowedAccounts{list, "Config.ServiceAccounts"}, nil
}

// checkTexts refuses a value that was copied together with a line break, or with
// invisible characters. No token would match it, since bytes are compared.
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
				return badField(field.name, "%+q is not UTF-8, so no token can name it", value)
			}
			if strings.ContainsFunc(value, isInvisible) {
				return badField(field.name, "%+q has a space or an invisible character: remove it", value)
			}
		}
	}
	return nil
}

// warnOfAudience warns the operator if callers send tokens that the API server
// accepts too: this service, or whoever breaks into it, could use them there.
func (c *cluster) warnOfAudience(issuer string) {
	if slices.Contains(c.config.Audiences, issuer) {
		c.config.Logger.Warn("kubejwt: an audience is the cluster's issuer: "+
			"whoever steals a token from this service can use it at the API server", "audience", issuer)
	}
}
