package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kubejwt/kubejwt/internal/quote"
)

// Limits on what one client can use of the server.
const (
	maxHeaderBytes = 64 << 10 // a token has 16 KiB at most
	headerTimeout  = 5 * time.Second
	readTimeout    = 10 * time.Second
	writeTimeout   = 20 * time.Second // longer than Verify waits for keys
	idleTimeout    = 2 * time.Minute
)

// listeners has the flags that say where serve listens.
type listeners struct {
	auth, grpc, admin string
	adminIsRemote     bool
	socketMode        string
	tlsFiles
}

func (l *listeners) define(flags *flag.FlagSet) {
	const adminAddress = "127.0.0.1:8081"
	flags.StringVar(&l.auth, "listen", "127.0.0.1:8080",
		"`address` for the proxy's requests over HTTP, or off, which needs -grpc-listen")
	flags.StringVar(&l.grpc, "grpc-listen", "off", "`address` for Envoy's ext_authz over gRPC, or off")
	flags.StringVar(&l.admin, "admin-listen", adminAddress,
		"`address` for /healthz, /readyz, /metrics and /debug/vars, or off")
	flags.StringVar(&l.admin, "debug-listen", adminAddress, "the former name of -admin-listen, an `address`")
	flags.BoolVar(&l.adminIsRemote, "admin-remote", false,
		"-admin-listen is meant to be reached from other machines: don't warn")
	flags.StringVar(&l.socketMode, "socket-mode", "0660", "`mode` of the unix: sockets")
	flags.StringVar(&l.cert, "tls-cert", "",
		"`file` with the certificate for -listen and -grpc-listen, read again when it changes")
	flags.StringVar(&l.key, "tls-key", "", "`file` with its key, read again when it changes")
	flags.StringVar(&l.clientCA, "client-ca-file", "",
		"`file` with a CA, read again when it changes: proxies must show a certificate of it")
}

// check checks what can be checked without opening anything.
func (l *listeners) check() error {
	all := []struct{ flag, address string }{
		{"-listen", l.auth}, {"-grpc-listen", l.grpc}, {"-admin-listen", l.admin},
	}
	for _, one := range all {
		if one.address == "off" && (one.flag != "-listen" || l.grpc != "off") {
			continue
		}
		if path, ok := strings.CutPrefix(one.address, "unix:"); ok {
			if path == "" || len(path) > maxSocketPath {
				return usagef("%s %s: want unix: and a path of at most %d bytes",
					one.flag, quoted(one.address), maxSocketPath)
			}
			continue
		}
		if _, _, err := net.SplitHostPort(one.address); err != nil {
			return usagef("%s %s: want an address, such as 127.0.0.1:8080 or unix:/run/kubejwt.sock",
				one.flag, quoted(one.address))
		}
	}
	if mode, err := strconv.ParseUint(l.socketMode, 8, 32); err != nil || mode > 0o777 {
		return usagef("-socket-mode %s: want an octal mode, such as 0660", quoted(l.socketMode))
	}
	return l.tlsFiles.check()
}

const maxSocketPath = 107 // of a sockaddr_un on Linux

// endpoint is a server and where it listens.
type endpoint struct {
	listener net.Listener
	server   stoppable
	url      string
}

// stoppable is a server over HTTP or gRPC.
type stoppable interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
}

// open opens all listeners. With an error it returns those that are open already.
func (s *server) open() (all []endpoint, err error) {
	l := &s.flags.listeners
	secure, err := l.tlsFiles.config(s.logger)
	if err != nil {
		return nil, err
	}
	add := func(flag, address, scheme string, server stoppable) error {
		listener, err := l.listen(flag, address)
		if err != nil {
			return err
		}
		all = append(all, endpoint{listener, server, addressURL(scheme, listener.Addr())})
		return nil
	}
	scheme := "http"
	if secure != nil {
		scheme = "https"
	}
	if l.admin != "off" {
		err = errors.Join(err, add("-admin-listen", l.admin, "http", newHTTPServer(s.admin(), s.logger)))
	}
	if l.auth != "off" {
		err = errors.Join(err, add("-listen", l.auth, scheme, tolerantServer{newHTTPServer(s.guard, s.logger), secure}))
	}
	if l.grpc != "off" {
		err = errors.Join(err, add("-grpc-listen", l.grpc, "grpc", newGRPCServer(s.guard, secure, s.logger)))
	}
	return all, err
}

func addressURL(scheme string, address net.Addr) string {
	if address.Network() == "unix" {
		return "unix:" + address.String()
	}
	return scheme + "://" + address.String()
}

func (l *listeners) listen(flag, address string) (net.Listener, error) {
	path, isSocket := strings.CutPrefix(address, "unix:")
	if !isSocket {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
		return listener, nil
	}
	mode, _ := strconv.ParseUint(l.socketMode, 8, 32) // checked before
	listener, err := listenUnix(path, fs.FileMode(mode))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	return listener, nil
}

func listenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	listener, err := bindUnix(path, mode)
	if err != nil {
		return nil, err
	}
	// The umask may have taken something away.
	if err := os.Chmod(path, mode); err != nil {
		listener.Close()
		return nil, err
	}
	return listener, nil
}

// bindUnix returns a listener whose file has the mode, less the umask, from the start.
// Otherwise, whoever the umask admits could connect before the mode is set.
func bindUnix(path string, mode fs.FileMode) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error {
		// On Linux a socket hands its mode to its file. Elsewhere this fails, and
		// until the mode is set only the folder keeps others out.
		return conn.Control(func(fd uintptr) { setMode(syscall.Fchmod, fd, mode) })
	}}
	return config.Listen(context.Background(), "unix", path)
}

// setMode calls Fchmod, in which a descriptor is an int, or on Windows a Handle.
func setMode[FD ~int | ~uintptr](fchmod func(FD, uint32) error, fd uintptr, mode fs.FileMode) {
	_ = fchmod(FD(fd), uint32(mode.Perm()))
}

// removeStale removes a socket that a process left behind when it was killed.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("%s: there is a file of this name, and it is not a socket", path)
	}
	conn, err := net.Dial("unix", path)
	switch {
	case err == nil:
		conn.Close()
		return fmt.Errorf("%s: another process listens here", path)
	case !errors.Is(err, syscall.ECONNREFUSED): // it may be busy, or another user's
		return fmt.Errorf("whether another process listens here can't be found out: %w", err)
	}
	return os.Remove(path)
}

// announce logs the address of each listener.
func (s *server) announce(endpoints []endpoint) {
	remoteIsMeant := s.flags.adminIsRemote
	for _, e := range endpoints {
		switch e.server.(type) {
		case tolerantServer:
			for _, p := range s.guard.judge.Load().rules.policies {
				s.logger.Info("kubejwt: policy",
					"url", e.url+"/auth/"+p.name, "audiences", p.audiences, "admits", p.accounts)
			}
		case *http.Server:
			s.logger.Info("kubejwt: admin", "url", e.url)
			if !remoteIsMeant && isRemote(e.listener.Addr()) {
				s.logger.Warn("kubejwt: -admin-listen can be reached from other machines, and shows how often "+
					"callers come: listen on 127.0.0.1, or say -admin-remote if that is meant", "url", e.url)
			}
		default:
			s.logger.Info("kubejwt: ext_authz over gRPC", "url", e.url)
		}
	}
}

func isRemote(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return ok && !tcp.IP.IsLoopback()
}

func newHTTPServer(handler http.Handler, logger *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           handler,
		Protocols:         protocols,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          log.New(handshakeLog{logger}, "", 0),
		// It would answer OPTIONS * with 200, which to a proxy means: may call.
		DisableGeneralOptionsHandler: true,
	}
}

// handshakeLog receives the log of an http.Server, which is mostly of TLS handshakes
// that failed. It may quote the certificates of a client.
type handshakeLog struct{ *slog.Logger }

func (l handshakeLog) Write(line []byte) (int, error) {
	l.Debug(quote.Text(maxMessage, strings.TrimSpace(string(line))))
	return len(line), nil
}
