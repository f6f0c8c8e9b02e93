package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/kubejwt/kubejwt/internal/pemfile"
	"github.com/kubejwt/kubejwt/internal/quote"
	"github.com/kubejwt/kubejwt/internal/reread"
)

// tlsFiles has the flags for TLS.
type tlsFiles struct{ cert, key, clientCA string }

func (f *tlsFiles) check() error {
	switch {
	case (f.cert == "") != (f.key == ""):
		return usagef("-tls-cert and -tls-key go together")
	case f.clientCA != "" && f.cert == "":
		return usagef("-client-ca-file needs -tls-cert and -tls-key: clients show certificates over TLS only")
	}
	return nil
}

const (
	maxTLSFile  = 1 << 20
	tlsInterval = time.Second
)

// config returns nil without TLS. The files must be good at the start.
func (f *tlsFiles) config(logger *slog.Logger) (*tls.Config, error) {
	if f.cert == "" {
		return nil, nil
	}
	pair := &keyPair{
		cert: reread.New(f.cert, maxTLSFile, tlsInterval, raw, logger),
		key:  reread.New(f.key, maxTLSFile, tlsInterval, raw, logger),
		log:  logger,
	}
	if _, err := pair.get(context.Background()); err != nil {
		return nil, fmt.Errorf("-tls-cert, -tls-key: %w", err)
	}
	config := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.get(hello.Context()) },
	}
	if f.clientCA == "" {
		return config, nil
	}
	clients := reread.New(f.clientCA, maxTLSFile, tlsInterval, func(data []byte) (*tls.Config, error) {
		roots, err := pemfile.ParseRoots(data)
		if err != nil {
			return nil, err
		}
		for _, why := range roots.Unused {
			logger.Warn("kubejwt: a root certificate is not used", "file", f.clientCA, "why", why)
		}
		forClients := config.Clone()
		forClients.ClientAuth, forClients.ClientCAs = tls.RequireAndVerifyClientCert, roots.Pool
		return forClients, nil
	}, logger)
	if _, err := clients.Get(context.Background()); err != nil {
		return nil, fmt.Errorf("-client-ca-file: %w", err)
	}
	outer := config.Clone()
	outer.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		content, err := clients.Get(hello.Context())
		return content.Value, err
	}
	return outer, nil
}

func raw(data []byte) ([]byte, error) {
	if len(data) == 0 {
		return nil, errors.New("it is empty")
	}
	return data, nil
}

// keyPair is a certificate and its key, in two files that change one after the other.
// While they don't fit together, the last pair that did stays in use.
type keyPair struct {
	cert, key *reread.File[[]byte]
	log       *slog.Logger

	mu              sync.Mutex // guards the rest
	certPEM, keyPEM []byte     // of the last look
	pair            *tls.Certificate
	problem         error // of the last look
}

func (p *keyPair) get(ctx context.Context) (*tls.Certificate, error) {
	cert, err := p.cert.Get(ctx)
	if err != nil {
		return nil, err
	}
	key, err := p.key.Get(ctx)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !bytes.Equal(cert.Raw, p.certPEM) || !bytes.Equal(key.Raw, p.keyPEM) {
		p.certPEM, p.keyPEM = cert.Raw, key.Raw
		p.look()
	}
	if p.pair == nil {
		return nil, p.problem
	}
	return p.pair, nil
}

func (p *keyPair) look() {
	pair, err := tls.X509KeyPair(p.certPEM, p.keyPEM)
	if err == nil {
		p.pair, p.problem = &pair, nil
		return
	}
	p.problem = errors.New(quote.Text(maxMessage, err.Error())) // it may quote the files
	if p.pair != nil {
		p.log.Warn("kubejwt: -tls-cert and -tls-key don't fit together, the last pair that did stays in use",
			"error", p.problem)
	}
}
