package pemfile

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/kubejwt/kubejwt/internal/quote"
	"github.com/kubejwt/kubejwt/internal/textfile"
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
	blocks, err := FileBlocks(data)
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
	const most = 512 // bytes of the reason
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("does not parse: %s", quote.UpTo(most, err.Error()))
	}
	return certificate, nil
}
