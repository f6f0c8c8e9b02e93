package main

import (
	"bytes"
	"errors"
	"fmt"
	"image/color"
	"io"
	"os"
	"strings"

	"golang.org/x/perf/benchfmt"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// fastest are nanoseconds for each benchmark, by its name without the number of
// cores: of several turns the fastest, as what else a machine does only ever
// slows one down.
type fastest map[string]float64

func readSpeed(path string) (fastest, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	f := make(fastest)
	reader := benchfmt.NewReader(file, path)
	for reader.Scan() {
		result, ok := reader.Result().(*benchfmt.Result)
		if !ok {
			continue
		}
		name := withoutCores(result.Name.String())
		f.keepServe(name, result)
		seconds, ok := result.Value("sec/op")
		if !ok {
			continue
		}
		if last, ok := f[name]; !ok || seconds*1e9 < last {
			f[name] = seconds * 1e9
		}
	}
	for _, by := range []string{"golang-jwt", "go-oidc", "jwx", "cap"} {
		if took := f[verifyOf("RS256", by)]; took > 0 && (f[fastestOther] == 0 || took < f[fastestOther]) {
			f[fastestOther] = took
		}
	}
	return f, reader.Err()
}

// withoutCores is the name of a benchmark without the number of cores that go
// test adds.
func withoutCores(name string) string {
	cut := strings.LastIndexByte(name, '-')
	if cut <= strings.LastIndexByte(name, '/') || strings.Trim(name[cut+1:], "0123456789") != "" {
		return name
	}
	return name[:cut]
}

// ratio is a ratio of two benchmarks in one run that the library has to keep.
type ratio struct {
	what        string
	over, under string
	bound       float64
	atLeast     bool // the bound is a floor
}

// fastestOther is the name of what is no benchmark itself: for RS256 the one of
// the other libraries that took the least.
const fastestOther = "the fastest of the others"

func verifyOf(alg, by string) string { return "Verify/alg=" + alg + "/by=" + by }
func refuseOf(alg, token string) string {
	return "Refuse/alg=" + alg + "/token=" + token + "/by=kubejwt"
}

func ratios() []ratio {
	cold, remembered := verifyOf("RS256", "kubejwt-cold"), verifyOf("RS256", "kubejwt-remembered")
	list := []ratio{
		{"RS256, first seen / `rsa.VerifyPKCS1v15` and SHA-256 alone", cold, verifyOf("RS256", "floor"), 1.20, false},
		{
			"ES256, first seen / `ecdsa.Verify` alone",
			verifyOf("ES256", "kubejwt-cold"), verifyOf("ES256", "floor"), 1.10, false,
		},
		{"the fastest of the others / RS256, first seen", fastestOther, cold, 1.15, true},
		{"remembered / SHA-256 of the token alone", remembered, verifyOf("RS256", "sha256"), 2, false},
		{"go-oidc / remembered", verifyOf("RS256", "go-oidc"), remembered, 40, true},
		{
			"remembered: one core / two cores",
			"Cores/by=kubejwt-remembered/cores=1", "Cores/by=kubejwt-remembered/cores=2", 1.8, true,
		},
	}
	for _, alg := range []string{"RS256", "ES256"} {
		first := verifyOf(alg, "kubejwt-cold")
		list = append(list,
			ratio{alg + ", bad signature / good, first seen", refuseOf(alg, "bad_signature"), first, 1.05, false},
			ratio{alg + ", truncated / good, first seen", refuseOf(alg, "truncated"), first, 0.2, false},
			ratio{alg + ", exp a string / good, first seen", refuseOf(alg, "exp_string"), first, 0.2, false},
			ratio{alg + ", a claim twice / good, first seen", refuseOf(alg, "doubled_claim"), first, 0.2, false},
			ratio{alg + ", wrong issuer / good, first seen", refuseOf(alg, "wrong_issuer"), first, 0.2, false},
		)
	}
	first := verifyOf(largest, "kubejwt-cold")
	list = append(list,
		ratio{
			"RSA of 8192 bits, first seen / `rsa.VerifyPKCS1v15` and SHA-256 alone",
			first, verifyOf(largest, "floor"), 1.05, false,
		},
		ratio{"RSA of 8192 bits / of 2048 bits, first seen", first, cold, 40, false},
		ratio{
			"RSA of 8192 bits, bad signature / good, first seen",
			refuseOf(largest, "bad_signature"), first, 1.05, false,
		},
		ratio{
			"RSA of 8192 bits, wrong issuer / good, first seen",
			refuseOf(largest, "wrong_issuer"), first, 0.05, false,
		},
	)
	return append(list, serveRatios()...)
}

// largest is RS256 with the largest key that is accepted.
const largest = "RS256-8192"

// table is in Markdown. A ratio beyond its bound says so.
func (f fastest) table() (string, error) {
	var b strings.Builder
	b.WriteString("| | measured | bound |\n|---|--:|--:|\n")
	for _, r := range ratios() {
		over, under := f[r.over], f[r.under]
		if over == 0 || under == 0 {
			return "", fmt.Errorf("%q and %q are not both among the benchmarks", r.over, r.under)
		}
		sign, beyond := "≤", over/under > r.bound
		if r.atLeast {
			sign, beyond = "≥", over/under < r.bound
		}
		remark := ""
		if beyond {
			remark = " (missed)"
		}
		fmt.Fprintf(&b, "| %s | %.2f%s | %s %.2f |\n", r.what, over/under, remark, sign, r.bound)
	}
	row, err := f.watchRow()
	return b.String() + row, err
}

// watchRow says what a watch adds to a remembered verdict: a difference, in one
// run.
func (f fastest) watchRow() (string, error) {
	const bound = 150.0
	with, without := f[verifyOf("RS256", "kubejwt-watched")], f[verifyOf("RS256", "kubejwt-remembered")]
	if with == 0 || without == 0 {
		return "", errors.New("RS256, remembered, with and without a watch, are not both among the benchmarks")
	}
	remark := ""
	if with-without > bound {
		remark = " (missed)"
	}
	const row = "| remembered, with a watch of deletions − without | %.0f ns%s | ≤ %.0f ns |\n"
	return fmt.Sprintf(row, with-without, remark, bound), nil
}

func printSpeed(from string, to io.Writer) error {
	f, err := readSpeed(from)
	if err != nil {
		return err
	}
	table, err := f.table()
	if err != nil {
		return err
	}
	_, err = io.WriteString(to, table)
	return err
}

// bar is one verifier in the table of times and in the picture.
type bar struct{ by, title string }

var bars = []bar{
	{"floor", "the signature alone"},
	{"kubejwt-remembered", "kubejwt, remembered"},
	{"kubejwt-watched", "kubejwt, remembered, with a watch"},
	{"kubejwt-cold", "kubejwt, first seen"},
	{"golang-jwt", "golang-jwt, keyfunc"},
	{"go-oidc", "go-oidc"},
	{"jwx", "jwx"},
	{"cap", "hashicorp/cap"},
}

const speedHead = `# What a verdict costs

How long does a verdict take? One token that a real API server minted for a pod
was verified over and over, in one run on two cores: by this library, first seen
(CacheSize -1) and remembered, and by four other libraries. Each had the keys at
hand, was set up as its documentation says, and read the claims of Kubernetes
too. The bare check of the signature is beside them. The figures are those of the
fastest of fifteen turns.

![Microseconds for a verdict](speed.svg)

| µs | RS256 | ES256 |
|---|--:|--:|
`

const speedMiddle = `
None of the other libraries checks all that this one does.
[differential.md](differential.md) lists the differences.
`

const speedRatios = `
## Ratios

`

const speedFoot = `
These commands write all tables and the picture, from one run:

    cd internal/bench
    for run in {1..15}; do
      go test -run xxx -bench 'Verify|Refuse|Cores' -benchtime 100ms
      go test -run xxx -bench Serve -benchtime 20000x
    done | tee bench.out
    go run ./plot speed bench.out ../../docs/speed.md ../../docs/speed.svg

Allocations and the memory of 100,000 remembered tokens don't differ from run to
run. Tests in internal/bench check that they stay within their limits.
`

func writeSpeed(from, page, picture string) error {
	f, err := readSpeed(from)
	if err != nil {
		return err
	}
	ratios, err := f.table()
	if err != nil {
		return err
	}
	out := bytes.NewBufferString(speedHead)
	for _, bar := range bars {
		for _, alg := range []string{"RS256", "ES256"} {
			if f[verifyOf(alg, bar.by)] == 0 {
				return fmt.Errorf("%q is not among the benchmarks", verifyOf(alg, bar.by))
			}
		}
		rs256, es256 := f[verifyOf("RS256", bar.by)], f[verifyOf("ES256", bar.by)]
		fmt.Fprintf(out, "| %s | %.1f | %.1f |\n", bar.title, rs256/1e3, es256/1e3)
	}
	if f[verifyOf(largest, "kubejwt-cold")] == 0 {
		return fmt.Errorf("%q is not among the benchmarks", verifyOf(largest, "kubejwt-cold"))
	}
	fmt.Fprintf(out, "| kubejwt, first seen, RSA of 8192 bits | %.1f | |\n", f[verifyOf(largest, "kubejwt-cold")]/1e3)
	serve, err := f.serveTable()
	if err != nil {
		return err
	}
	out.WriteString(speedMiddle + serve + speedRatios + ratios + speedFoot)
	if err := os.WriteFile(page, out.Bytes(), 0o644); err != nil {
		return err
	}
	return f.draw(picture)
}

// draw puts the bars of both algorithms side by side, the fastest on top.
func (f fastest) draw(to string) error {
	p := newPlot("Microseconds for a verdict on one core: less is better")
	p.X.Min = 0
	p.Legend.Top, p.Legend.XOffs, p.Legend.YOffs = true, -4*vg.Centimeter, -2*vg.Centimeter // where no bar is
	const width = vg.Length(11)
	titles := make([]string, len(bars))
	for i, side := range []struct {
		alg string
		ink color.Color
	}{
		{"RS256", color.RGBA{R: 0x20, G: 0x60, B: 0xb0, A: 0xff}},
		{"ES256", color.RGBA{R: 0xd0, G: 0x90, B: 0x30, A: 0xff}},
	} {
		values := make(plotter.Values, len(bars))
		labels := plotter.XYLabels{XYs: make(plotter.XYs, len(bars)), Labels: make([]string, len(bars))}
		for j, bar := range bars {
			row := len(bars) - 1 - j
			values[row] = f[verifyOf(side.alg, bar.by)] / 1e3
			titles[row] = bar.title + "     " // room for a wider font
			labels.XYs[row] = plotter.XY{X: values[row], Y: float64(row)}
			labels.Labels[row] = fmt.Sprintf(" %.1f", values[row])
		}
		offset := width / 2 * vg.Length(1-2*i)
		chart, err := plotter.NewBarChart(values, width)
		if err != nil {
			return err
		}
		chart.Horizontal, chart.Color, chart.Offset, chart.LineStyle.Width = true, side.ink, offset, 0
		figures, err := plotter.NewLabels(labels)
		if err != nil {
			return err
		}
		figures.Offset.Y = offset - width/2 + 1
		p.Add(chart, figures)
		p.Legend.Add(side.alg+"  ", chart)
		for _, v := range values {
			p.X.Max = max(p.X.Max, v*1.1)
		}
	}
	p.NominalY(titles...)
	return save(p, to)
}
