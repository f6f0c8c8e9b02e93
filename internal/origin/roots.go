package origin

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/kubejwt/kubejwt/internal/pemfile"
	"github.com/kubejwt/kubejwt/internal/quote"
	"github.com/kubejwt/kubejwt/internal/textfile"
)

const (
	maxRootsSize = 1 << 20

	// MaxBearerSize is the limit in bytes for a file with a bearer token.
	MaxBearerSize = 16 << 10
)

// roots are the certificates in a CAFile, as it was when it was read.
type roots struct {
	pool   *x509.CertPool
	unused []string // which certificates are not in pool, and why
}

// parseRoots drops a certificate that Go can't use, so that one odd root does not make
// the whole bundle unusable. It refuses what AppendCertsFromPEM silently skips: with
// half a bundle the service could be locked out, and no roots at all would mean the
// system's.
func parseRoots(data []byte) (*roots, error) {
	data, err := textfile.Decode(data)
	if err != nil {
		return nil, err
	}
	blocks, err := pemfile.FileBlocks(data)
	if err != nil {
		return nil, err
	}
	parsed := &roots{pool: x509.NewCertPool()}
	found := 0
	for i, block := range blocks {
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			why := quote.UpTo(maxErrorText, err.Error())
			parsed.unused = append(parsed.unused,
				fmt.Sprintf("PEM block %d of %d does not parse: %s", i+1, len(blocks), why))
			continue
		}
		parsed.pool.AddCert(certificate)
		found++
	}
	switch {
	case found == 0 && len(parsed.unused) > 0:
		return nil, fmt.Errorf("no usable certificate: %s", parsed.unused[0])
	case found == 0:
		return nil, errors.New("no certificate in PEM")
	}
	return parsed, nil
}

// warn logs which certificates are not used.
func (r *roots) warn(logger *slog.Logger, path string) {
	for _, certificate := range r.unused {
		logger.Warn("kubejwt: a root certificate is not used", "file", path, "why", certificate)
	}
}

// ParseBearer returns the token in data. There must be nothing else in it, and only
// characters that a header can hold.
func ParseBearer(data []byte) (string, error) {
	data, err := textfile.Decode(data)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", errors.New("no token in it")
	}
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return "", errors.New("more in it than one token: want one line of ASCII without spaces")
		}
	}
	return token, nil
}
