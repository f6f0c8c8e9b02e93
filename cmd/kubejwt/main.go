// Kubejwt explains why a Kubernetes service account token is accepted or
// refused, and answers the auth requests of a proxy in front of a service.
//
//	kubejwt verify    explain a token
//	kubejwt inspect   show what a token claims, unverified
//	kubejwt serve     answer a proxy's auth requests
//	kubejwt call      call a service with a mounted token
//	kubejwt version
//
// "kubejwt help verify" explains a verb and lists its flags.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"google.golang.org/grpc/grpclog"

	"github.com/kubejwt/kubejwt"
	"github.com/kubejwt/kubejwt/internal/quote"
)

// The exit statuses, which scripts rely on.
const (
	exitOK      = 0
	exitRefused = 1 // also: a call that failed, a server that could not go on
	exitUsage   = 2
	exitNoKeys  = 3

	exitInterrupted = 130 // as a shell has it for Ctrl-C
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	// Package net/http logs by itself what a server sends unasked, and gRPC what
	// goes wrong in it.
	stray := strayLog{newScreen(os.Stderr)}
	log.SetFlags(0)
	log.SetOutput(stray)
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, stray))
	os.Exit(run(ctx, process{os.Stdin, os.Stdout, os.Stderr, os.Environ()}, os.Args[1:]))
}

// process is what a verb gets from its environment.
type process struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string
}

func (p process) getenv(name string) string {
	value := ""
	for _, entry := range p.environ {
		if key, v, _ := strings.Cut(entry, "="); key == name {
			value = v
		}
	}
	return value
}

// verb is one of the things that the command can do.
type verb struct {
	name, summary string
	help          string // what precedes the flags
	run           func(context.Context, process, *flag.FlagSet, []string) error
}

func verbs() []verb {
	return []verb{
		{"verify", "explain a token: every rule, with what was expected and what came", verifyHelp, runVerify},
		{"inspect", "show what a token claims, unverified: no key needed, nothing is sent", inspectHelp, runInspect},
		{"serve", "answer a proxy's auth requests, for services in any language", serveHelp, runServe},
		{"call", "call a service with a mounted token, once or repeatedly", callHelp, runCall},
		{"version", "print which build this is", versionHelp, runVersion},
	}
}

// Errors of a verb that has already printed everything about them.
var (
	errRefused = errors.New("refused")
	errNoKeys  = errors.New("the keys are unavailable")
	// errInterrupted is the error of a verb that was interrupted while it waited for
	// its input.
	errInterrupted = errors.New("interrupted")
)

// usageError says what is wrong with how the command was called.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

func run(ctx context.Context, p process, args []string) int {
	p.stdout, p.stderr = newScreen(p.stdout), newScreen(p.stderr)
	if len(args) == 0 {
		printOverview(p.stderr)
		return exitUsage
	}
	name, args := args[0], args[1:]
	switch name {
	case "-h", "-help", "--help", "help":
		if len(args) == 0 {
			printOverview(p.stdout)
			return exitOK
		}
		name, args = args[0], []string{"-h"}
	case "-version", "--version":
		name = "version"
	}
	for _, v := range verbs() {
		if v.name == name {
			return v.exit(ctx, p, args)
		}
	}
	fmt.Fprintf(p.stderr, "kubejwt: there is no verb %s: want verify, inspect, serve, call or version\n", quoted(name))
	fmt.Fprintln(p.stderr, "see: kubejwt help")
	return exitUsage
}

// exit runs v, prints what went wrong, and returns the exit status.
func (v verb) exit(ctx context.Context, p process, args []string) int {
	flags := newFlagSet(v.name)
	err := v.run(ctx, p, flags, args)
	usage, isUsage := errors.AsType[*usageError](err)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, flag.ErrHelp):
		return v.printHelp(p, flags)
	case errors.Is(err, errRefused):
		return exitRefused
	case errors.Is(err, errNoKeys):
		return exitNoKeys
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	case isUsage:
		complain(p.stderr, v.name, usage.text)
		fmt.Fprintf(p.stderr, "see: kubejwt help %s\n", v.name)
		return exitUsage
	case errors.Is(err, kubejwt.ErrKeysUnavailable):
		complain(p.stderr, v.name, inFlags(v.name, err.Error()))
		return exitNoKeys
	default:
		complain(p.stderr, v.name, inFlags(v.name, err.Error()))
		return exitRefused
	}
}

// newFlagSet returns a FlagSet that prints nothing: exit prints errors and help.
func newFlagSet(name string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	return flags
}

func printOverview(out io.Writer) {
	fmt.Fprint(out, `Kubejwt verifies Kubernetes service account tokens on this machine, with the
cluster's public keys.

`)
	for _, v := range verbs() {
		fmt.Fprintf(out, "    kubejwt %-8s  %s\n", v.name, v.summary)
	}
	fmt.Fprint(out, `
    kubejwt help VERB explains a verb and lists its flags.

For a first look, with a cluster at hand:

    kubectl get --raw /openid/v1/jwks > keys.json
    kubectl create token default --audience data-store |
      kubejwt verify -key-file keys.json -audience data-store \
        -issuer https://kubernetes.default.svc.cluster.local
`)
}

// printHelp is what flag.PrintDefaults prints, wrapped to the terminal.
func (v verb) printHelp(p process, flags *flag.FlagSet) int {
	fmt.Fprint(p.stdout, v.help)
	page := newPage(p)
	flags.VisitAll(func(f *flag.Flag) {
		value, usage := flag.UnquoteUsage(f)
		if isGiven := f.DefValue != "" && f.DefValue != "0s" && f.DefValue != "false"; isGiven {
			usage += " (default " + f.DefValue + ")"
		}
		page.addVerbatim(strings.TrimRight("  -"+f.Name+" "+value, " "))
		page.add(span{plain, usage}, span{plain, "        "})
	})
	if page.print(p) != nil {
		return exitRefused
	}
	return exitOK
}

// parse is flags.Parse, but flags may follow the arguments, which it returns.
func parse(flags *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
			return nil, err
		} else if err != nil {
			return nil, usagef("%s", err)
		}
		if flags.NArg() == 0 {
			return rest, refuseTokens(flags)
		}
		rest, args = append(rest, flags.Arg(0)), flags.Args()[1:]
	}
}

// refuseTokens refuses a flag whose value is a token. That is easily done where a file is
// expected, and the error about that file would quote the token.
func refuseTokens(flags *flag.FlagSet) (err error) {
	flags.Visit(func(f *flag.Flag) {
		if quote.HoldsToken(f.Value.String()) {
			err = usagef("-%s: its value looks like a token: give that in a file or on standard input", f.Name)
		}
	})
	return err
}

// list is a flag that may be given more than once.
type list []string

func (l *list) String() string { return strings.Join(*l, " ") }

func (l *list) Set(value string) error {
	if value == "" {
		return errors.New("it is empty")
	}
	*l = append(*l, value)
	return nil
}
