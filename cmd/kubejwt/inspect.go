package main

import (
	"context"
	"flag"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/kubejwt/kubejwt/internal/quote"
)

const inspectHelp = `usage: kubejwt inspect [-json] [-token-file FILE | TOKEN]

Shows what a token claims, without a key and without asking anybody: its kind,
its times relative to now, its header and its payload. None of this is proven,
and each line says so. The last part is the verify command that would judge the
token, with the issuer and the audience that it claims filled in.

The token is the argument, the content of -token-file, or standard input. On the
command line other users of this machine can see it, and the shell remembers it.
Neither the token nor its signature is ever printed, and nothing is sent.

Exit status: 0 its claims are shown, 1 it has none, or there are several tokens,
2 wrong usage.

    kubectl create token api -n shop --audience data-store | kubejwt inspect

In a clone of the repository, a recorded token:

    go run ./cmd/kubejwt inspect \
      -token-file testdata/clusters/kube-apiserver-1.36/rs256/tokens/pod_bound.jwt

flags:
`

// inspectFlags are those of inspect.
type inspectFlags struct {
	tokenFile string
	json      bool
}

func (f *inspectFlags) define(flags *flag.FlagSet) {
	flags.StringVar(&f.tokenFile, "token-file", "", "`file` with the token")
	flags.BoolVar(&f.json, "json", false, "print JSON")
}

func runInspect(ctx context.Context, p process, flags *flag.FlagSet, args []string) error {
	var f inspectFlags
	f.define(flags)
	args, err := parse(flags, args)
	if err != nil {
		return err
	}
	in, err := givenToken(ctx, p, f.tokenFile, args)
	if err != nil {
		return err
	}
	i := inspect(in, f.tokenFile, time.Now())
	print := i.print
	if f.json {
		print = i.printJSON
	}
	if err := print(p); err != nil {
		return err
	}
	if i.kind == noToken {
		return errRefused
	}
	return nil
}

// The kinds of tokens, in JSON.
const (
	noToken     = "none"
	projected   = "projected"
	extended    = "extended"
	secretBased = "secret_based"
	other       = "other"
)

// An inspection is what inspect prints. All of it is unverified.
type inspection struct {
	in      input
	kind    string
	boundTo string // pod, node or secret, "" for none of them
	claimed claimed
	now     time.Time
	command []string // that would judge the token, a line each; nil: none can be made
}

func inspect(in input, file string, now time.Time) *inspection {
	i := &inspection{in: in, claimed: readClaimed(in.token), now: now}
	i.kind, i.boundTo = tokenKind(i.claimed.payload)
	if in.several || i.claimed.header.object == nil || i.claimed.payload.object == nil {
		i.kind = noToken
		return i
	}
	isWhole := in.is == ""
	if isWhole && (i.kind == projected || i.kind == extended) {
		i.command = verifyCommand(i.claimed.payload, file)
	}
	return i
}

func tokenKind(payload part) (kind, boundTo string) {
	for _, m := range payload.members() {
		if strings.HasPrefix(m.name, `"kubernetes.io/serviceaccount/`) {
			return secretBased, ""
		}
	}
	for _, object := range []string{"pod", "node", "secret"} {
		if boundTo == "" && payload.get("kubernetes.io."+object+".name") != "" {
			boundTo = object
		}
	}
	switch {
	case payload.get("kubernetes.io.serviceaccount.name") == "":
		return other, ""
	case payload.get("kubernetes.io.warnafter") != "":
		return extended, boundTo
	default:
		return projected, boundTo
	}
}

// describe says what the kind means to whoever holds the token.
func (i *inspection) describe() string {
	bound := "bound to no pod, as kubectl create token makes it"
	if i.boundTo != "" {
		bound = "bound to the " + i.boundTo + " " + quoted(i.claimed.payload.get("kubernetes.io."+i.boundTo+".name"))
	}
	switch i.kind {
	case projected:
		return "a projected service account token, " + bound
	case extended:
		return "a projected token as every pod has it by default, " + bound +
			": the API server accepts it for a year, others only until its warnafter"
	case secretBased:
		return "a Secret-based service account token. It never expires and names no audience: " +
			"mount a projected token instead"
	default:
		return "not a token of a Kubernetes service account"
	}
}

// verifyCommand is the command that would judge the token, with what the token
// claims filled in.
func verifyCommand(payload part, file string) []string {
	audience := "AUDIENCE"
	if audiences := readRegistered(payload).audiences; len(audiences) > 0 {
		audience = shellWord(audiences[0], audience)
	}
	if file == "" {
		file = "FILE"
	}
	return []string{
		"kubectl get --raw /openid/v1/jwks > keys.json",
		"kubejwt verify -key-file keys.json \\",
		"  -issuer " + shellWord(payload.get("iss"), "ISSUER") + " \\",
		"  -audience " + audience + " \\",
		"  -token-file " + shellWord(file, "FILE"),
	}
}

// shellWord returns value as a word for a shell. Whoever made the token must not be able
// to write a command, so a value with other characters than those of URLs and names is
// replaced by instead.
func shellWord(value, instead string) string {
	safe := regexp.MustCompile(`^[A-Za-z0-9/.][A-Za-z0-9:/._@%+-]*$`)
	if len(value) > maxQuoted || quote.HoldsToken(value) || !safe.MatchString(value) {
		return instead
	}
	return value
}

func (i *inspection) print(p process) error {
	page := newPage(p)
	if i.kind == noToken {
		page.addHanging(2, span{plain, "this is " + i.whatItIs() + "."}, span{bad, "No token"}, span{plain, ": "})
		addLabelled(page, "to do", i.toDo())
		return page.print(p)
	}
	const warning = "Nothing below is proven: anybody can write such a token."
	page.addHanging(2, span{plain, warning}, span{bad, "UNVERIFIED."}, span{plain, " "})
	if i.in.is != "" {
		page.skip()
		page.addHanging(2, span{plain, "it is " + i.in.is + "."}, span{bad, "Not a whole token"}, span{plain, ": "})
		addLabelled(page, "to do", i.toDo())
	}
	page.skip()
	page.mark = "unverified"
	addLabelled(page, "kind", i.describe())
	r := readRegistered(i.claimed.payload)
	if r.hasExp {
		addLabelled(page, "expires", showDate(r.exp, i.now))
	}
	if r.hasExp && r.hasIat {
		addLabelled(page, "lifetime", showSeconds(r.exp.Unix()-r.iat.Unix()))
	}
	page.skip()
	addPart(page, "header", i.claimed.header, i.now)
	page.skip()
	addPart(page, "payload", i.claimed.payload, i.now)
	page.mark = ""
	if i.in.taken != "" {
		page.skip()
		page.add(span{plain, "The token did not come alone: " + i.in.taken + "."})
	}
	if i.command != nil {
		page.skip()
		page.add(span{plain, "To have it judged by the keys of your cluster, run this. " +
			"Issuer and audience are what the token claims: are they what you expect?"})
		page.skip()
		for _, line := range i.command {
			page.addVerbatim("    " + line)
		}
	}
	return page.print(p)
}

const inspectCommand = "kubectl create token NAME -n NAMESPACE --audience AUDIENCE | kubejwt inspect"

func (i *inspection) whatItIs() string {
	switch {
	case i.in.is != "":
		return i.in.is
	case i.claimed.header.object == nil:
		return "no token, as its header is no JSON object: " + i.claimed.header.is
	default:
		return "no token, as its payload is no JSON object: " + i.claimed.payload.is
	}
}

func (i *inspection) toDo() string {
	if i.in.toDo == "" {
		return "give a token: " + inspectCommand
	}
	return strings.ReplaceAll(i.in.toDo, "kubejwt verify ...", "kubejwt inspect")
}

// inspectionJSON is the JSON of inspect. docs/inspect.schema.json is its schema.
type inspectionJSON struct {
	Kind          string     `json:"kind"`
	BoundTo       string     `json:"bound_to,omitempty"`
	Is            string     `json:"is,omitempty"`
	ToDo          string     `json:"to_do,omitempty"`
	Unverified    *tokenJSON `json:"unverified,omitempty"`
	VerifyCommand string     `json:"verify_command,omitempty"`
	At            time.Time  `json:"at"`
	Notes         []string   `json:"notes,omitempty"`
}

func (i *inspection) printJSON(p process) error {
	out := inspectionJSON{Kind: i.kind, BoundTo: i.boundTo, At: i.now.UTC().Truncate(time.Second)}
	if i.kind == noToken {
		out.Is, out.ToDo = i.whatItIs(), i.toDo()
		return writeJSON(p, out)
	}
	if i.in.is != "" {
		out.Is, out.ToDo = i.in.is, i.toDo()
	}
	out.Unverified = i.claimed.json()
	out.VerifyCommand = strings.Join(i.command, "\n")
	if i.in.taken != "" {
		out.Notes = []string{fmt.Sprintf("The token did not come alone: %s.", i.in.taken)}
	}
	return writeJSON(p, out)
}
