package main

import (
	"encoding/base64"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/kubejwt/kubejwt/kubejwttest"
)

// fold breaks text into lines, the first of which has less room.
func fold(text string, width, first int) string {
	lines := []string{text[:first]}
	for text = text[first:]; len(text) > width; text = text[width:] {
		lines = append(lines, text[:width])
	}
	return strings.Join(append(lines, text), "\n")
}

func inUTF16(text string, order binary.AppendByteOrder) string {
	var data []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		data = order.AppendUint16(data, unit)
	}
	return string(data)
}

func encode(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// What people have on their clipboard is taken, where it can mean one token
// only, and verify says how. Beside each stands what says it.
func TestInputIsTaken(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	token := cluster.Mint(caller)
	keys := writeFile(t, string(cluster.PublicKeysPEM()))
	for name, test := range map[string]struct{ input, says string }{
		"alone":                       {token, ""},
		"blanks around it":            {"\r\n \t" + token + " \n\n", ""},
		"double quotes":               {`"` + token + `"`, "out of quotes"},
		"single quotes, a comma":      {`'` + token + `',`, "out of quotes"},
		"typographic quotes":          {"“" + token + "”", "out of quotes"},
		"Bearer":                      {"Bearer " + token, "an Authorization header"},
		"a header":                    {"Authorization: Bearer " + token, "an Authorization header"},
		"a header, lower case":        {"authorization: bearer " + token, "an Authorization header"},
		"curl":                        {`curl -H "Authorization: Bearer ` + token + `" https://data-store.prod.svc/`, "an Authorization header"},
		"a header in JSON":            {`{"Authorization": "Bearer ` + token + `"}`, "a JSON document"},
		"export":                      {"export TOKEN=" + token, "an assignment"},
		"an assignment in quotes":     {`TOKEN="` + token + `"`, "an assignment"},
		"PowerShell":                  {`$env:TOKEN = "` + token + `"`, "an assignment"},
		"kubectl describe secret":     {"token:      " + token, "a line that begins with token:"},
		"a byte order mark":           {"\ufeff" + token, "a byte order mark"},
		"a byte order mark, a header": {"\ufeffAuthorization: Bearer " + token, "a byte order mark stood before it, and was taken off, and it was taken out of an Authorization header"},
		"UTF-16, little":              {inUTF16("\ufeff"+token+"\r\n", binary.LittleEndian), "UTF-16"},
		"UTF-16, big":                 {inUTF16("\ufeff"+token+"\r\n", binary.BigEndian), "UTF-16"},
		"UTF-16, no mark":             {inUTF16(token+"\r\n", binary.LittleEndian), "UTF-16"},
		"UTF-16, no mark, big":        {inUTF16(token+"\r\n", binary.BigEndian), "UTF-16"},
		"base64":                      {encode(token), "base64 -d"},
		"base64, unpadded, URL":       {base64.RawURLEncoding.EncodeToString([]byte(token)), "base64 -d"},
		"base64 with its line break":  {encode(token + "\n"), "base64 -d"},
		"base64 twice":                {encode(encode(token)), "decoded 2 times"},
		"base64, folded":              {fold(encode(token), 76, 76), "base64 -d"},
		"base64 twice, folded":        {fold(encode(fold(encode(token), 76, 76)+"\n"), 76, 76), "decoded 2 times"},
		"folded at 76":                {fold(token, 76, 76), "lines, joined"},
		"folded at 64, CRLF":          {strings.ReplaceAll(fold(token, 64, 64), "\n", "\r\n"), "lines, joined"},
		"folded, a header":            {"Authorization: Bearer " + fold(token, 76, 54), "lines, joined, and an Authorization header"},
		"folded, indented":            {strings.ReplaceAll(fold(token, 76, 76), "\n", "\n    "), "lines, joined"},
		"folded with backslashes":     {strings.ReplaceAll(fold(token, 76, 76), "\n", "\\\n"), "lines, joined"},
		"base64 three times":          {encode(encode(encode(token))), "decoded 3 times"},
		"a header in base64":          {encode("Authorization: Bearer " + token), "base64 -d"},
		"JSON in base64":              {encode(`{"to":"` + token + `"}`), "base64 -d"},
		"JSON in base64, folded":      {fold(encode(`{"to":"`+token+`"}`), 76, 76), "lines, joined, and base64"},
		"Basic":                       {"Authorization: Basic " + encode("user:"+token), "an Authorization header of Basic, as its user or password"},
		"Basic, another user":         {"Authorization: Basic " + encode("users:"+token), "an Authorization header of Basic, as its user or password"},
		"docker":                      {`{"auths":{"registry.example":{"auth":"` + encode("<token>:"+token) + `"}}}`, "a JSON document"},
		"colours of a terminal":       {"\x1b[31m" + token + "\x1b[0m\n", "colours of a terminal"},
		"colours of grep":             {"\x1b[01;31m\x1b[KeyJ\x1b[m\x1b[K" + token[3:], "colours of a terminal"},
		"TokenRequest":                {`{"kind":"TokenRequest","apiVersion":"authentication.k8s.io/v1","status":{"token":"` + token + `"}}`, "jq -r .status.token"},
		"ExecCredential":              {`{"kind":"ExecCredential","status":{"token":"` + token + `"}}`, "an ExecCredential (jq -r .status.token)"},
		"TokenReview":                 {`{"kind":"TokenReview","spec":{"token":"` + token + `"}}`, "jq -r .spec.token"},
		"Secret":                      {`{"kind":"Secret","data":{"ca.crt":"LS0t","token":"` + encode(token) + `"}}`, "jq -r .data.token | base64 -d"},
		"Secret in YAML":              {"apiVersion: v1\ndata:\n  token: " + encode(token) + "\nkind: Secret\n", "base64 -d"},
		"a kubeconfig":                {"kind: Config\nusers:\n- name: x\n  user:\n    token: " + token + "\n", "a line that begins with token:"},
		"the same twice":              {token + "\n" + token + "\n", "more characters"},
		"a URL":                       {"https://data-store.prod.svc/?access_token=" + token + "&x=1", "more characters"},
		"escaped in an address":       {"https://x.example/?h=Authorization%3A%20Bearer%20" + token + "%0A", "more characters"},
		"a stray percent sign":        {"100% sure: " + token, "more characters"},
		"one, and one cut off":        {token + " is " + token[:30] + "...", "more characters"},
		"text around it":              {"2026-11-25 the token is " + token + " and is refused", "more characters"},
	} {
		t.Run(name, func(t *testing.T) {
			r := kubejwtWith(t, test.input, "verify", "-key-file", keys, "-issuer", cluster.Config("any").Issuer, "-audience", "data-store")
			r.mustSay(t, exitOK, "Accepted", test.says)
			if alone := !strings.Contains(r.out, "did not come alone"); alone != (test.says == "") {
				t.Errorf("it is told to come alone: %t\n%s", alone, r.out)
			}
			mustHoldNothingOf(t, token, r)
			mustHoldNothingOf(t, encode(token), r)
		})
	}
}

// What can mean several tokens, or none, is named, and verify says what to
// type. Nothing of it is printed: it may be a password.
func TestInputIsDescribed(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	token, other := cluster.Mint(caller), cluster.Mint(caller)
	keys := writeFile(t, string(cluster.PublicKeysPEM()))
	parts := strings.Split(token, ".")
	pem, err := os.ReadFile(recordings + "/sa.pub")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ input, is, toDo string }{
		"two tokens":                 {token + "\n" + other, "2 different tokens", "head -n 1"},
		"two in JSON":                {`{"a":"` + token + `","b":"` + other + `"}`, "2 different tokens", "head -n 1"},
		"one, and one in base64":     {token + " " + encode(other), "2 different tokens", "head -n 1"},
		"three dots":                 {token[:60] + "...", "cut off", "copy the whole token"},
		"three dots, most of it":     {token[:len(token)-20] + "...", "cut off", "copy the whole token"},
		"an ellipsis":                {token[:60] + "…", "cut off", "copy the whole token"},
		"three dots in its middle":   {token[:40] + "..." + token[len(token)-20:], "cut off", "copy the whole token"},
		"its beginning in a text":    {"Bearer " + token[:40] + "... (truncated)", "cut off", "copy the whole token"},
		"null of jq":                 {"null\n", "which jq prints", "jq . FILE"},
		"a path at home":             {"~/correct-horse", "the path of a file", "-token-file"},
		"a path of Windows":          {`C:\Users\correct\horse`, "the path of a file", "-token-file"},
		"the name of a file":         {"correct-horse.jwt", "the path of a file", "-token-file"},
		"a signature":                {parts[2], "one piece without a dot", "kubectl create token"},
		"a header":                   {parts[0], "header or payload", "kubectl create token"},
		"a payload":                  {parts[1], "header or payload", "kubectl create token"},
		"no signature":               {parts[0] + "." + parts[1], "without the signature", "kubectl create token"},
		"an empty signature":         {parts[0] + "." + parts[1] + ".", "unsigned", "kubectl create token"},
		"encrypted":                  {token + ".AAAA.AAAA", "five parts", "kubectl create token"},
		"padded":                     {parts[0] + "=." + parts[1] + "." + parts[2] + "==", "padding", "kubectl create token"},
		"a password":                 {"correct-horse-battery-staple!", "text without a token", "kubectl create token"},
		"a password, three parts":    {"correct.horse.battery", "not the header of a token", "kubectl create token"},
		"a password in base64":       {encode("correct-horse-battery-staple!"), "one piece without a dot", "kubectl create token"},
		"binary":                     {"\x00\x01\x02correct-horse\xff\xfe", "binary", "kubectl create token"},
		"a key":                      {string(pem), "PEM", "-key-file"},
		"a private key":              {"-----BEGIN PRIVATE KEY-----\nMIICdummycorrecthorse\n-----END PRIVATE KEY-----", "a private key", "never give it away"},
		"a key set":                  {`{"keys":[{"kty":"RSA","kid":"correct-horse-battery"}]}`, "a key set", "kubectl create token"},
		"a decoded payload":          {`{"iss":"https://correct.horse.battery.example"}`, "decoded header or payload", "kubectl create token"},
		"a document without a token": {`{"kind":"Secret","data":{"password":"Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5"}}`, "JSON document without a token", "kubectl create token"},
		"damaged JSON":               {`{"password":"correct-horse-battery`, "damaged JSON", "kubectl create token"},
		"blanks in it":               {token[:100] + " " + token[100:], "a token with blanks", "tr -dc 'A-Za-z0-9._-'"},
		"carriage returns in it":     {token[:100] + "\r" + token[100:], "a token with blanks", "tr -dc 'A-Za-z0-9._-'"},
		"zero-width blanks in it":    {token[:100] + "\u200b" + token[100:], "a token with blanks", "tr -dc 'A-Za-z0-9._-'"},
		"a payload and a signature":  {parts[1] + "." + parts[2], "one of which is its signature", "kubectl create token"},
		"of another product":         {"hvs.correcthorsebatterystaple", "2 parts with dots between them", "kubectl create token"},
		"a key of a cloud":           {`{"type":"service_account","private_key":"-----BEGIN PRIVATE KEY-----\nMIICcorrecthorse\n"}`, "a private key", "never give it away"},
		"a private JWK":              {`{"kty":"EC","d":"correct-horse-battery"}`, "a private key", "never give it away"},
		"a set of private JWKs":      {`{"keys":[{"kty":"EC","d":"correct-horse-battery"}]}`, "a private key", "never give it away"},
		"a kubeconfig with a key":    {"apiVersion: v1\nkind: Config\nusers:\n- user:\n    client-key-data: Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5\n", "a kubeconfig without a token", "kubectl create token"},
		"an ExecCredential of EKS":   {`{"kind":"ExecCredential","status":{"token":"k8s-aws-v1.aHR0cHM6Ly9jb3JyZWN0LWhvcnNl"}}`, "an ExecCredential (jq -r .status.token) with a token of aws", "an IAM identity"},
		"an ExecCredential of GKE":   {`{"kind":"ExecCredential","status":{"token":"ya29.correct-horse-battery"}}`, "an ExecCredential (jq -r .status.token) with 2 parts", "kubectl create token"},
		"OpenShift":                  {"sha256~correcthorsebatterystaplecorrecthorsebattery", "OpenShift", "no JWT"},
		"EKS":                        {"k8s-aws-v1.aHR0cHM6Ly9jb3JyZWN0LWhvcnNlLWJhdHRlcnktc3RhcGxl", "aws eks get-token", "an IAM identity"},
		"bootstrap":                  {"abcdef.0123456789abcdef", "bootstrap token", "kubectl create token"},
		"a path":                     {"/var/run/secrets/correct-horse-battery/token", "the path of a file", "-token-file"},
		"JSON, not an object":        {segment(`["correct-horse-battery"]`) + "." + segment(`"correct-horse-battery"`) + ".AAAA", "JSON, and not an object, 25 bytes", "send the token as kubelet"},
		"a header that is text":      {segment("correct-horse-battery") + "." + segment(`{}`) + ".AAAA", "text, and not a JSON object", "send the token as kubelet"},
		"a payload that is text":     {parts[0] + "." + segment("correct-horse-battery") + ".AAAA", "", "send the token as kubelet"},
		"a payload that is a token":  {parts[0] + "." + segment(other) + ".AAAA", "", "send the token as kubelet"},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{"verify", "-key-file", keys, "-issuer", cluster.Config("any").Issuer, "-audience", "data-store"}
			r := kubejwtWith(t, test.input, args...)
			r.mustSay(t, exitRefused, "Refused by rule", "malformed", test.is, test.toDo)
			asJSON := kubejwtWith(t, test.input, append(args, "-json")...)
			asJSON.mustSay(t, exitRefused, `"malformed"`)
			for _, r := range []result{r, asJSON} {
				mustHoldNothingOf(t, test.input, r)
				for _, secret := range []string{"correct", "horse", "Y29ycmVjd", parts[2][:12], other[len(other)-12:]} {
					if strings.Contains(r.out+r.errOut, secret) {
						t.Errorf("%q is printed:\n%s", secret, r.out)
					}
				}
			}
		})
	}
}

// A token file of PowerShell is as good as standard input.
func TestInputFromFile(t *testing.T) {
	cluster := kubejwttest.NewCluster(t)
	path := filepath.Join(t.TempDir(), "token")
	writeTo(t, path, inUTF16("\ufeff"+cluster.Mint(caller)+"\r\n", binary.LittleEndian))
	kubejwtWith(t, "", append(append([]string{"verify"}, clusterFlags(cluster)...), "-token-file", path)...).mustSay(t, exitOK, "UTF-16")
}
