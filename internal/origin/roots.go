package origin

import (
	"crypto/x509"
	"encoding/pem"
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

// Roots are the certificates in a bundle.
type Roots struct {
	Pool   *x509.CertPool
	Unused []string // which blocks of the bundle are not in Pool, and why
}

// ParseRoots reads a bundle in PEM. It drops a certificate that Go can't use, so that
// one odd root does not make the whole bundle unusable. It refuses what
// AppendCertsFromPEM silently skips: with half a bundle the service could be locked
// out, and no roots at all would mean the system's.
func ParseRoots(data []byte) (*Roots, error) {
	data, err := textfile.Decode(data)
	if err != nil {
		return nil, err
	}
	blocks, err := pemfile.FileBlocks(data)
	if err != nil {
		return nil, err
	}
	parsed := &Roots{Pool: x509.NewCertPool()}
	for i, block := range blocks {
		certificate, err := parseCertificate(block)
		if err != nil {
			parsed.Unused = append(parsed.Unused, fmt.Sprintf("PEM block %d of %d %v", i+1, len(blocks), err))
			continue
		}
		parsed.Pool.AddCert(certificate)
	}
	switch {
	case len(blocks) == 0:
		return nil, errors.New("no certificate in PEM")
	case len(parsed.Unused) == len(blocks):
		return nil, fmt.Errorf("no certificate in PEM that can be used: %s", parsed.Unused[0])
	}
	return parsed, nil
}

// parseCertificate takes plain certificates. openssl has others, such as TRUSTED
// CERTIFICATE, which say what they may be used for.
func parseCertificate(block *pem.Block) (*x509.Certificate, error) {
	if block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("is of type %s: want CERTIFICATE", quote.Value(block.Type))
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("does not parse: %s", quote.UpTo(maxErrorText, err.Error()))
	}
	return certificate, nil
}

// warn logs which certificates are not used.
func (r *Roots) warn(logger *slog.Logger, path string) {
	for _, certificate := range r.Unused {
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
