package origin

import (
	"crypto/x509"
	"errors"
	"strings"

	"github.com/kubejwt/kubejwt/internal/pemfile"
)

const (
	maxRootsSize = 1 << 20

	// MaxBearerSize bounds a file that holds a bearer token.
	MaxBearerSize = 16 << 10
)

// parseRoots refuses what AppendCertsFromPEM skips without a word: half a
// bundle would lock the service out, or no roots at all would mean the
// system's.
func parseRoots(data []byte) (*x509.CertPool, error) {
	blocks, err := pemfile.Blocks(data)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	found := 0
	for _, block := range blocks {
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("a certificate that does not parse")
		}
		pool.AddCert(certificate)
		found++
	}
	if found == 0 {
		return nil, errors.New("no certificate in PEM")
	}
	return pool, nil
}

// ParseBearer takes a token alone, in the characters that a header can hold.
func ParseBearer(data []byte) (string, error) {
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", errors.New("no token in it")
	}
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return "", errors.New("not a token alone in it, in one line of ASCII")
		}
	}
	return token, nil
}
