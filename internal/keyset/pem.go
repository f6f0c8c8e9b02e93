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
)

// Parse reads a key set that a person put in place, in PEM or as a JWKS. An odd
// key is an error: whoever put it there can mend it.
func Parse(data []byte) (*Set, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("more than %d bytes", MaxSize)
	}
	parse := parsePEM
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		parse = parseJWKS
	}
	keys, err := parse(data)
	if err != nil {
		return nil, err
	}
	return New(keys...)
}

func parsePEM(data []byte) ([]*Key, error) {
	blocks, errBlocks := pemfile.Blocks(data)
	if len(blocks) > MaxKeys {
		return nil, fmt.Errorf("more than %d keys", MaxKeys)
	}
	var keys []*Key
	for i, block := range blocks {
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
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case block.Type == "CERTIFICATE":
		var certificate *x509.Certificate
		if certificate, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = certificate.PublicKey
		}
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return nil, fmt.Errorf(
			"a private key (%q), which must stay with the API server: take the public half, openssl pkey -pubout",
			shorten(block.Type))
	default:
		return nil, fmt.Errorf("a block of type %q: want PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE",
			shorten(block.Type))
	}
	if err != nil {
		return nil, fmt.Errorf("a damaged %s", block.Type)
	}
	return key, nil
}

// shorten bounds what gets from a file into an error.
func shorten(s string) string { return s[:min(len(s), 64)] }
