package main

import (
	"bytes"
	"crypto/tls"
	"net"
	"net/http"
)

// tolerantServer is an http.Server that takes any path after a policy's name.
// Envoy appends the path of its client's request there, in which a stray %
// would make net/http answer 400 before anybody could ignore it.
type tolerantServer struct {
	*http.Server
	secure *tls.Config // nil: no TLS
}

// Serve serves HTTP/1.1 and HTTP/2. TLS ends below net/http, which then finds
// HTTP/2 by its preface.
func (s tolerantServer) Serve(l net.Listener) error {
	if s.secure != nil {
		l = tls.NewListener(l, s.secure)
	}
	return s.Server.Serve(tolerantListener{l})
}

type tolerantListener struct{ net.Listener }

func (l tolerantListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &tolerantConn{Conn: conn}, nil
}

// tolerantConn replaces each % by _ in what follows /auth/NAME/ in a request
// line. It changes nothing else, and no lengths: where one request ends and the
// next begins stays as it is. After a request with a body the connection ends,
// so that a body is never mistaken for the next request.
type tolerantConn struct {
	net.Conn
	place   lineState
	slashes int    // in the target so far
	start   []byte // of the request line, as far as it is looked at
	inLine  bool   // of a header: it is not empty
}

// lineState says which part of a request the next byte belongs to.
type lineState int

const (
	inMethod lineState = iota
	inTarget
	inVersion
	inHeaders
	inHTTP2 // for good
)

func (c *tolerantConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mend(p[:n])
	return n, err
}

const policyPrefix = "/auth/"

func (c *tolerantConn) mend(data []byte) {
	for len(data) > 0 && c.place != inHTTP2 {
		if c.place == inHeaders || c.place == inVersion {
			data = c.skipLine(data)
			continue
		}
		c.mendTarget(&data[0])
		data = data[1:]
	}
}

// skipLine skips to the end of a line, and knows the one that ends a request.
func (c *tolerantConn) skipLine(data []byte) (rest []byte) {
	end := bytes.IndexByte(data, '\n')
	if end < 0 {
		c.inLine = c.inLine || len(bytes.Trim(data, "\r")) > 0
		return nil
	}
	empty := !c.inLine && len(bytes.Trim(data[:end], "\r")) == 0
	c.inLine = false
	if c.place == inHeaders && empty {
		c.place, c.slashes, c.start = inMethod, 0, c.start[:0]
	} else {
		c.place = inHeaders
	}
	return data[end+1:]
}

// mendTarget looks at one byte of a request line before its version.
func (c *tolerantConn) mendTarget(b *byte) {
	switch {
	case *b == '\n': // no version, or an empty line
		c.place, c.inLine = inHeaders, false
		return
	case *b == ' ' && c.place == inMethod && string(c.start) == "PRI":
		c.place = inHTTP2
		return
	case *b == ' ' && c.place == inMethod:
		c.place, c.start = inTarget, c.start[:0]
		return
	case *b == ' ':
		c.place, c.inLine = inVersion, true
		return
	}
	if len(c.start) < len(policyPrefix) {
		c.start = append(c.start, *b)
	}
	if c.place == inMethod {
		return
	}
	if *b == '/' {
		c.slashes++
	}
	if *b == '%' && c.slashes > 2 && string(c.start) == policyPrefix {
		*b = '_'
	}
}
