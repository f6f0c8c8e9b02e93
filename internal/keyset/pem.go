package keyset

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/kubejwt/kubejwt/internal/pemfile"
	"github.com/kubejwt/kubejwt/internal/quote"
	"github.com/kubejwt/kubejwt/internal/textfile"
)

// Parse reads keys in PEM or as a JWKS, for a caller who sees the error at once: an
// odd key is an error.
func Parse(data []byte) (*Set, error) { return parse(data, pemfile.Blocks, parseJWKS) }

// ParseFile reads keys in PEM or as a JWKS, from a file that somebody may replace
// while it is in use. An odd key in a JWKS is dropped, if a usable one is left. A
// secret is an error, and so is every odd block of PEM.
func ParseFile(data []byte) (*Set, error) { return parse(data, pemfile.FileBlocks, parseJWKSFile) }

func parse(
	data []byte, decode func([]byte) ([]*pem.Block, error), parseJSON func([]byte) (*Set, error),
) (*Set, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("more than %d bytes", MaxSize)
	}
	data, err := textfile.Decode(data)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return parseJSON(data)
	}
	keys, err := parsePEM(decode(data))
	if err != nil {
		return nil, err
	}
	return New(keys...)
}

// parsePEM takes the results of pemfile.Blocks or pemfile.FileBlocks.
func parsePEM(blocks []*pem.Block, errBlocks error) ([]*Key, error) {
	if len(blocks) > MaxKeys {
		return nil, fmt.Errorf("more than %d keys", MaxKeys)
	}
	var keys []*Key
	for i, block := range blocks {
		if block.Type == "EC PARAMETERS" {
			continue // openssl ecparam writes them in front of a key
		}
		public, err := parseBlock(block)
		if err != nil {
			return nil, fmt.Errorf("PEM block %d: %w", i+1, err)
		}
		k, err := NewKey("", public)
		if err != nil {
			return nil, fmt.Errorf("PEM block %d: %w", i+1, err)
		}
		keys = append(keys, k)
	}
	switch {
	case errBlocks != nil:
		return nil, errBlocks
	case len(keys) == 0:
		return nil, errors.New(
			"no key: want PEM blocks (an API server's sa.pub) or a JWKS (what it serves at /openid/v1/jwks)")
	}
	return keys, nil
}

func parseBlock(block *pem.Block) (crypto.PublicKey, error) {
	var key crypto.PublicKey
	var err error
	switch {
	case block.Type == "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case block.Type == "RSA PUBLIC KEY":
		if key, err = x509.ParsePKCS1PublicKey(block.Bytes); err != nil {
			// kops writes its keys so, and kube-apiserver goes by the content alone.
			key, err = x509.ParsePKIXPublicKey(block.Bytes)
		}
	case block.Type == "CERTIFICATE":
		var certificate *x509.Certificate
		if certificate, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = certificate.PublicKey
		}
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return nil, fmt.Errorf(
			"a private key (%s), which must stay with the API server: take the public half, openssl pkey -pubout",
			quote.Value(shorten(block.Type)))
	default:
		return nil, fmt.Errorf("a block of type %s: want PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE",
			quote.Value(shorten(block.Type)))
	}
	if err != nil {
		return nil, fmt.Errorf("a damaged %s", block.Type)
	}
	return key, nil
}

// shorten limits how much of a file gets into an error.
func shorten(s string) string { return s[:min(len(s), 64)] }
