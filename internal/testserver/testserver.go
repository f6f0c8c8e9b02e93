// Package testserver has a server whose answer need not be HTTP.
package testserver

import (
	"io"
	"net"
	"testing"
)

// Raw answers the first request that comes with these bytes, and closes the
// connection. It returns its address, and listens until the test ends.
func Raw(t *testing.T, answer string) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		defer connection.Close()
		connection.Read(make([]byte, 8192))
		io.WriteString(connection, answer)
	}()
	return listener.Addr().String()
}
