package bench

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/differential.md")

const document = "../../docs/differential.md"

// kind is why this library and a peer differ about some vectors: those whose
// name begins like one of names. The first kind that fits counts.
type kind struct {
	title string
	names []string
	why   string
}

var kinds = []kind{
	{"One spelling for every token", []string{"form_blank", "form_newline", "form_crlf", "form_tab", "form_folded", "form_spare_bits"},
		"Many base64 decoders skip line breaks and spare bits, so one good token can be written in many ways. RFC 7515, section 2, allows none of them. Here a token has one spelling: changing spaces or unused bits makes it invalid. (Every ECDSA signature has a second form that is also valid. To deny a token, use its `jti`.)"},
	{"The compact form alone", []string{"form_json"},
		"The JSON serialization can have headers that no signature covers, and several signatures. RFC 7519, section 1, allows only the compact form for JWTs."},
	{"Bounded work before the signature", []string{"form_", "header_depth"},
		"Anybody can send a payload that takes a JSON decoder longer than the signature check. Here brackets and commas are counted before any JSON is decoded. No token of Kubernetes comes near the limits."},
	{"A header that is read in one way", []string{"header_duplicate", "header_case", "header_invalid_utf8", "header_empty_name"},
		"RFC 7515, section 4, requires names to be unique and case-sensitive. If two readers can disagree about `alg` or `kid`, they don't check the same thing."},
	{"No other type of token", []string{"header_typ", "header_cty"},
		"RFC 8725, section 3.11: an access token, a logout token or a security event of the same issuer is not a service account's token. Kubernetes writes `JWT` or nothing."},
	{"Every token names its key", []string{"header_kid"},
		"Kubernetes names the key in every token. If the `kid` is missing, empty or unknown, a verifier could try all its keys. But that costs one check for each key, and the sender of the token decides when. Here keys are tried only if they are static and the token has no `kid` at all, and then at most four."},
	{"A closed header", []string{"header_"},
		"Kubernetes writes `alg`, `kid` and `typ`, and lets an external signer write nothing else. Any other member is refused, not ignored: it could ask for another key, another payload encoding, decompression or an extension. So members that somebody invents later are refused too."},
	{"Keys for what they were published for", []string{"alg_"},
		"RFC 7517, sections 4.2 to 4.5: a key with another `use`, without `verify` among its `key_ops`, or with another `alg` is not for these tokens. If two keys have one `kid`, nobody can tell which is meant."},
	{"Lifetimes that a cache can bound", []string{"claim_lifetime", "claim_exp_year_9999", "claim_iat_zero", "k8s_extended", "k8s_warnafter"},
		"An offline verifier can't look up whether the pod still exists. So a token that lives for a year, or that its holder should have replaced, is refused unless the configuration says otherwise. The other libraries have no rule for it. Their users have to write one."},
	{"Policy", []string{"k8s_require_pod"},
		"This library has an option that requires tokens to be bound to a pod. Users of the other libraries have to check it themselves."},
	{"One consistent identity", []string{"k8s_", "claim_sub", "claim_jti", "payload_nul_in_sub", "payload_lone_surrogate_sub"},
		"The API server looks up the service account, the pod and the node. An offline verifier would not notice a contradiction. So `sub` has to agree with `kubernetes.io`, names have to be valid in Kubernetes, and nothing may name a second identity. A JWT library does not know these claims. Its users have to check them."},
	{"Names as they are written", []string{"payload_shadow", "payload_case", "payload_long_s"},
		"encoding/json reads `ISS`, and even `i\u017fs`, as `iss`, and the last one wins. But names are case-sensitive (RFC 7519, section 4, RFC 8259): `SUB` beside `sub` is an unknown claim that changes nothing, and `ISS` alone is not `iss`."},
	{"No name twice", []string{"payload_duplicate"},
		"RFC 7519, section 4, lets a reader refuse duplicate names or use the last one. Only refusing is the same for every reader: some use the first, or merge two objects into an identity that neither has."},
	{"Text that is UTF-8", []string{"payload_"},
		"RFC 8725, section 3.7. Many decoders replace bytes that are not UTF-8, so two different strings become the same."},
	{"Dates that are whole seconds", []string{
		"claim_exp_1", "claim_exp_2", "claim_exp_exp", "claim_exp_frac", "claim_exp_milli", "claim_exp_string", "claim_exp_year", "claim_exp_minus", "claim_exp_neg",
		"claim_nbf_1", "claim_nbf_2", "claim_nbf_exp", "claim_nbf_frac", "claim_nbf_milli", "claim_nbf_string", "claim_nbf_year", "claim_nbf_minus", "claim_nbf_neg",
		"claim_iat_1", "claim_iat_2", "claim_iat_exp", "claim_iat_frac", "claim_iat_milli", "claim_iat_string", "claim_iat_year", "claim_iat_minus", "claim_iat_neg"},
		"Kubernetes writes plain integers. Readers round, wrap or truncate fractions, exponents, strings and numbers beyond the year 9999 in different ways. If a number wraps, the token may never expire."},
	{"Audiences that are strings", []string{"claim_aud"},
		"A null in the list of audiences is not an audience."},
	{"Times that are judged to the second", []string{"claim_"},
		"RFC 7519, section 4.1.4: a token is refused at `exp` and after it, and `exp` has to be there. `iat` has to be there too, since the lifetime is counted from it. Neither `iat` nor `nbf` may lie more than the configured leeway in the future."},
}

func kindOf(name string) int {
	return slices.IndexFunc(kinds, func(k kind) bool {
		return slices.ContainsFunc(k.names, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
	})
}

// row is a vector about which a peer differs from us.
type row struct {
	vector
	verdicts []string // of the peers; "" where it is ours
}

// differ returns the verdicts of the peers about v where they are not ours.
func differ(t *testing.T, v vector) (row, bool) {
	t.Helper()
	ours, err := v.ours(t)
	if (err == nil) != v.accept {
		t.Fatalf("%s: %v: this is not what the vector expects", v.name, err)
	}
	r := row{vector: v}
	differs := false
	for _, p := range peers {
		its, err := p.verify(t, v)
		verdict := ""
		switch {
		case err == nil && !v.accept:
			verdict = "accepts"
		case err != nil && v.accept:
			verdict = "refuses"
		case err == nil && its != ours:
			verdict = "finds another identity"
		}
		differs = differs || verdict != ""
		r.verdicts = append(r.verdicts, verdict)
	}
	return r, differs
}

// docs/differential.md is what the vectors and the peers give, and every
// difference has a reason.
func TestDifferential(t *testing.T) {
	all := readVectors(t)
	rows := make([][]row, len(kinds))
	for _, v := range all {
		r, differs := differ(t, v)
		if !differs {
			continue
		}
		i := kindOf(v.name)
		if i < 0 {
			t.Errorf("%s: %q: no reason is given why ours is right", v.name, r.verdicts)
			continue
		}
		rows[i] = append(rows[i], r)
	}
	for i, k := range kinds {
		if len(rows[i]) == 0 {
			t.Errorf("%s: no vector differs any more", k.title)
		}
	}
	text := render(all, rows)
	if *update {
		if err := os.WriteFile(document, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	refused, accepted := totals(all, rows)
	summary := fmt.Sprintf("[%d to %d](docs/differential.md) of the %d bad tokens",
		slices.Min(accepted), slices.Max(accepted), refused)
	if !strings.Contains(readFile(t, "../../README.md"), summary) {
		t.Errorf("the README does not say %q", summary)
	}
	if readFile(t, document) != text {
		t.Errorf("%s is not what the vectors give: go test -run TestDifferential -update, and look at what has changed", document)
	}
}

// totals are how many of all are refused here, and how many of those each peer
// accepts.
func totals(all []vector, rows [][]row) (refused int, accepted []int) {
	for _, v := range all {
		if !v.accept {
			refused++
		}
	}
	accepted = make([]int, len(peers))
	for _, r := range slices.Concat(rows...) {
		for j, verdict := range r.verdicts {
			if verdict == "accepts" {
				accepted[j]++
			}
		}
	}
	return refused, accepted
}

// tableRow is one of Markdown.
func tableRow(counts []int) string {
	row := "|"
	for _, n := range counts {
		row += fmt.Sprintf(" %d |", n)
	}
	return row + "\n"
}

func render(all []vector, rows [][]row) string {
	var b strings.Builder
	refused, accepted := totals(all, rows)
	fmt.Fprintf(&b, introduction, len(all), refused, len(all)-refused)
	b.WriteString("\n## Summary\n\n|  |")
	for _, p := range peers {
		b.WriteString(" " + p.name + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("--:|", len(peers)) + "\n")
	line := func(title string, counts []int) { b.WriteString("| " + title + " " + tableRow(counts)) }
	other := make([]int, len(peers))
	for i, k := range kinds {
		counts := make([]int, len(peers))
		for _, r := range rows[i] {
			for j, verdict := range r.verdicts {
				if verdict == "accepts" {
					counts[j]++
				} else if verdict != "" {
					other[j]++
				}
			}
		}
		line(k.title, counts)
	}
	line(fmt.Sprintf("**accepted of the %d that are refused here**", refused), accepted)
	line(fmt.Sprintf("refused, or with another identity, of the %d that are accepted here", len(all)-refused), other)
	for i, k := range kinds {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| vector | what it is |", k.title, k.why)
		for _, p := range peers {
			b.WriteString(" " + p.name + " |")
		}
		b.WriteString("\n|---|---|" + strings.Repeat("---|", len(peers)) + "\n")
		for _, r := range rows[i] {
			ours := "refused"
			if r.accept {
				ours = "accepted"
			}
			fmt.Fprintf(&b, "| `%s` (%s here) | %s |", r.name, ours, strings.ReplaceAll(r.comment, "|", `\|`))
			for _, verdict := range r.verdicts {
				b.WriteString(" " + verdict + " |")
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

const introduction = `# Where this library and its peers differ

This library and three others judged each of the %d tokens of the attack corpus
([testdata/vectors](../testdata/vectors)). This library refuses %d and accepts %d.
The page lists every token about which another library disagrees, and why. A
test keeps it up to date (TestDifferential in internal/bench).

The others are general libraries for JWTs and OpenID Connect, and good ones. The
RFCs allow much of what is listed, and some of it only a Kubernetes library can
know. A service that verifies Kubernetes tokens with one of them has to add these
checks. They are configured as their documentation says for strict use:

- go-jose v4: jwt.ParseSigned with the four algorithms, the key by kid from a
  JSONWebKeySet, ValidateWithLeeway with issuer, audience, time and leeway.
- golang-jwt v5: WithValidMethods, WithIssuer, WithAudience,
  WithExpirationRequired, WithIssuedAt, WithLeeway, WithStrictDecoding, and the
  key by kid.
- go-oidc v3: RemoteKeySet (StaticKeySet for given keys), ClientID,
  SupportedSigningAlgs, Now. It has no leeway for exp, and five minutes for nbf.

With each of them the Kubernetes claims are decoded into a struct, as a user has
to do. An empty field means the same verdict as here.
`
