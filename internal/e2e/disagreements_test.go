package e2e

import "regexp"

// disagreements are where Verify and TokenReview differ, by what we say and by
// the names of the samples. The first row that fits counts.
//
// Where we accept, TokenReview refuses: it looks things up, and we can't. Where
// we refuse, TokenReview accepts: our rules are stricter. No API server mints
// such tokens, but those that live long.
var disagreements = []struct {
	ours    string
	samples *regexp.Regexp
	why     string
}{
	{accepted, regexp.MustCompile(`/deleted$`),
		"revocation: what the token is bound to is gone; we can't know before exp"},
	{accepted, regexp.MustCompile(`/payload/kubernetes\.io (serviceaccount|pod|node|secret)\b`),
		"it looks the objects up by name and uid; to us, who holds the cluster's key says what there is"},
	{accepted, regexp.MustCompile(`/payload/iss beside upper case$`),
		"before it verifies, it reads iss without regard to case and stumbles over an ISS; to us that is another member"},

	{"lifetime_too_long", regexp.MustCompile(`/(minted|time|payload)/`),
		"it sets no bound to a lifetime; ours is Config.MaxLifetime"},
	{"stale", regexp.MustCompile(`/(time|payload)/.*warnafter`),
		"past warnafter it counts and accepts, since it has looked the pod up"},
	{"expired", regexp.MustCompile(`/payload/exp(=null| removed| in upper case)$`),
		"it needs no exp"},
	{"malformed", regexp.MustCompile(`/payload/iat(=null| removed| in upper case)$`),
		"it needs no iat"},
	{"malformed", regexp.MustCompile(`/time/exp in -30s, iat now$`),
		"it does not mind an iat after exp, within its leeway"},
	{"malformed", regexp.MustCompile(`/(time|payload)/(kubernetes\.io )?(exp|iat|nbf|warnafter)(=|\.|e0|E\+0|0+$)`),
		"it takes fractions, exponents, and numbers that overflow, for dates"},

	{"malformed", regexp.MustCompile(`/text/(header|payload|signature)/last=`),
		"it drops the stray bits of a segment's last character, so that a token has many spellings"},
	{"malformed", regexp.MustCompile(`/text/form/(two tokens|.*(space|newline|CRLF)|newline in .*)$`),
		"it strips white space, and what follows it"},
	{"malformed", regexp.MustCompile(`/header/(with|after) `),
		"it ignores members of the header that Kubernetes never writes"},
	{"malformed", regexp.MustCompile(`/header/kid( removed|=null|="")$`),
		"without a kid it tries every key; with keys that are fetched, we want one"},
	{"bad_algorithm", regexp.MustCompile(`/header/signed by `),
		"it takes every alg that suits the type of the key; we take the one that Kubernetes signs with"},
	{"malformed", regexp.MustCompile(`/payload/(256 commas|64 brackets)$`),
		"it sets no bound to what a payload costs to decode"},
	{"too_large", regexp.MustCompile(`/payload/16 KiB$`),
		"it sets no bound to the size of a token"},
	{"malformed", regexp.MustCompile(`/payload/.*="(\x{FFFD}|\\ud800)"$`),
		"it puts U+FFFD where a string is not UTF-8"},

	{"malformed", regexp.MustCompile(`/payload/kubernetes\.io/serviceaccount/`),
		"it ignores the claims of a Secret-based token beside kubernetes.io"},
	{"not_a_service_account", regexp.MustCompile(`/payload/kubernetes\.io/serviceaccount/`),
		"it ignores the claims of a Secret-based token beside kubernetes.io"},
	{"not_a_service_account", regexp.MustCompile(`/payload/sub\b`),
		"it never looks at sub"},
	{"not_a_service_account", regexp.MustCompile(`/payload/jti=`),
		"it takes any string for a jti"},
	{"not_a_service_account", regexp.MustCompile(`/payload/kubernetes\.io node\b`),
		"it copies the node of a pod as it stands"},
}
