package kubejwt_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/kubejwt/kubejwt"
)

// A refusal may allocate as much as eight of the largest tokens: for the copy,
// its decoded parts, and what is made of them. It takes three; the race
// detector empties pools, and makes it five.
const mostAllocated = 8 * 16 << 10

// bytesPerRun is what f allocates, on average.
func bytesPerRun(f func()) uint64 {
	const runs = 20
	f() // what is made once
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	return (after.TotalAlloc - before.TotalAlloc) / runs
}

// expensive are tokens that are made to cost much. What comes before the
// signature is judged needs no key, so that anybody can send them.
func expensive(t testing.TB) map[string]struct {
	token  string
	reason kubejwt.Reason
} {
	t.Helper()
	part := strings.Split(tokenVectors(t)["good_rs256.txt"].body, ".")
	header := func(text string) string { return encodeSegment(text) + "." + part[1] + "." + part[2] }
	payload := func(text string) string { return part[0] + "." + encodeSegment(text) + "." + part[2] }
	const size = 11000 // of a payload in a token that is not too large
	fill := func(text string) string { return strings.Repeat(text, size/len(text)) }
	var names strings.Builder
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789-_!"
	for i := range 1500 {
		names.WriteString(`,"` + letters[i/39:i/39+1] + letters[i%39:i%39+1] + `":0`)
	}
	type cost = struct {
		token  string
		reason kubejwt.Reason
	}
	return map[string]cost{
		"a million dots":                  {strings.Repeat(".", 1<<20), kubejwt.ReasonTooLarge},
		"64 MiB":                          {strings.Repeat("a", 64<<20), kubejwt.ReasonTooLarge},
		"64 MiB in three segments":        {strings.Repeat("a", 32<<20) + "." + strings.Repeat("a", 16<<20) + "." + strings.Repeat("a", 16<<20), kubejwt.ReasonTooLarge},
		"one byte too much":               {strings.Repeat("a", 16<<10+1), kubejwt.ReasonTooLarge},
		"16 KiB of dots":                  {strings.Repeat(".", 16<<10), kubejwt.ReasonMalformed},
		"16 KiB of text":                  {strings.Repeat("a", 16<<10), kubejwt.ReasonMalformed},
		"16 KiB after the scheme":         {"Bearer " + strings.Repeat("a", 16<<10-7), kubejwt.ReasonMalformed},
		"16 KiB of bytes":                 {strings.Repeat("\xff", 16<<10), kubejwt.ReasonMalformed},
		"a signature of 12 KB":            {part[0] + "." + part[1] + "." + strings.Repeat("A", 14000), kubejwt.ReasonBadSignature},
		"a header of 6 KB of arrays":      {header(`{"x":` + strings.Repeat("[", 3000) + strings.Repeat("]", 3000) + `}`), kubejwt.ReasonMalformed},
		"a header of 6 KB of objects":     {header(`{"x":` + strings.Repeat(`{"y":`, 1000) + "1" + strings.Repeat("}", 1000) + `}`), kubejwt.ReasonMalformed},
		"a header of 500 members":         {header(`{"alg":"RS256"` + names.String()[:500*len(`,"aa":0`)] + `}`), kubejwt.ReasonMalformed},
		"a header of 6 KB of blanks":      {header(`{"alg":"RS256","kid":"x"` + strings.Repeat(" ", 6000) + `}`), kubejwt.ReasonUnknownKey},
		"a kid of 6 KB":                   {header(`{"alg":"RS256","kid":"` + strings.Repeat("k", 6000) + `"}`), kubejwt.ReasonMalformed},
		"a kid of 1 KiB of escapes":       {header(`{"alg":"RS256","kid":"` + strings.Repeat(`\u001b`, 1000) + `"}`), kubejwt.ReasonUnknownKey},
		"12 KB of nested objects":         {payload(strings.Repeat(`{"a":`, 1800) + "1" + strings.Repeat("}", 1800)), kubejwt.ReasonMalformed},
		"12 KB of nested arrays":          {payload(fill("[")), kubejwt.ReasonMalformed},
		"64 nested objects of long names": {payload(strings.Repeat(`{"`+strings.Repeat("n", 160)+`":`, 64) + "1" + strings.Repeat("}", 64)), kubejwt.ReasonWrongIssuer},
		"1,500 member names":              {payload(`{"iss":"https://iss.example"` + names.String() + `}`), kubejwt.ReasonMalformed},
		"256 member names":                {payload(`{"a":0` + names.String()[:255*len(`,"aa":0`)] + `}`), kubejwt.ReasonWrongIssuer},
		"a string of 12 KB":               {payload(`{"iss":"` + fill("x") + `"}`), kubejwt.ReasonWrongIssuer},
		"a string of 12 KB of escapes":    {payload(`{"iss":"` + fill(`\u0041`) + `"}`), kubejwt.ReasonWrongIssuer},
		"a claim of 12 KB that is unread": {payload(`{"x":"` + fill(`\u0041`) + `"}`), kubejwt.ReasonWrongIssuer},
		"a number of 12 KB":               {payload(`{"exp":` + fill("9") + `}`), kubejwt.ReasonMalformed},
		"a number of 12 KB that's unread": {payload(`{"x":` + fill("9") + `}`), kubejwt.ReasonWrongIssuer},
		"250 audiences":                   {payload(`{"iss":"https://iss.example","aud":["x"` + strings.Repeat(`,"`+strings.Repeat("y", 30)+`"`, 250) + `]}`), kubejwt.ReasonBadSignature},
		"an audience of 12 KB":            {payload(`{"iss":"https://iss.example","aud":"` + fill("y") + `"}`), kubejwt.ReasonBadSignature},
		"a sub of 12 KB":                  {payload(`{"iss":"https://iss.example","sub":"` + fill("y") + `"}`), kubejwt.ReasonBadSignature},
		"blanks of 12 KB":                 {payload(fill(" ") + "{}"), kubejwt.ReasonWrongIssuer},
	}
}

// No input costs more than a small multiple of the largest token, and what is
// too large costs next to nothing: it is not even copied.
func TestCostOfRefusing(t *testing.T) {
	for _, keys := range []string{"cluster.jwks", "cluster.pem"} {
		verifier := vectorVerifier(t, keys)
		if err := verifier.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		for name, tt := range expensive(t) {
			t.Run(keys+"/"+name, func(t *testing.T) {
				claims, err := verifier.Verify(t.Context(), tt.token)
				if got := reasonOf(err); got != tt.reason {
					t.Fatalf("reason %q: want %q (%v)", got, tt.reason, err)
				}
				if len(err.Error()) > 1000 || claims != (kubejwt.Claims{}) {
					t.Errorf("an error of %d bytes", len(err.Error()))
				}
				most := uint64(mostAllocated)
				if tt.reason == kubejwt.ReasonTooLarge {
					most = 4 << 10
				}
				got := bytesPerRun(func() { verifier.Verify(t.Context(), tt.token) })
				t.Logf("%d bytes", got)
				if got > most {
					t.Errorf("%d bytes are allocated: want %d at most", got, most)
				}
			})
		}
	}
}

// The largest token that is accepted, and one that is a byte longer.
func TestLargestToken(t *testing.T) {
	k := newKit(t)
	v := mustNew(t, k.config)
	padded := func(pad int) string {
		token := good()
		claim("pad", strings.Repeat("x", pad))(&token)
		return k.Mint(token)
	}
	// No segment has 4n+1 characters, so that not every size can be had.
	largest := ""
	for pad := (16<<10 - len(padded(0))) * 3 / 4; len(largest) < 16<<10-1; pad++ {
		largest = padded(pad)
	}
	if _, err := v.Verify(t.Context(), largest); err != nil || len(largest) > 16<<10 {
		t.Errorf("%d bytes: %v: want it accepted", len(largest), err)
	}
	if _, err := v.Verify(t.Context(), largest+"AA"); reasonOf(err) != kubejwt.ReasonTooLarge {
		t.Errorf("%d bytes: %v: want too_large", len(largest)+2, err)
	}
}

// Refusals at each stage: what a flood of bad tokens costs.
func BenchmarkRefuse(b *testing.B) {
	verifier := vectorVerifier(b, "cluster.pem")
	for name, tt := range expensive(b) {
		b.Run(strings.ReplaceAll(name, " ", "_"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				verifier.Verify(b.Context(), tt.token)
			}
		})
	}
}
