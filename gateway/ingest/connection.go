package ingest

import (
	"net"
	"sync"
	"time"
)

// bounded is a listener with a bound on the connections that are open. One
// beyond it is told so and closed, rather than left to wait for others to go.
type bounded struct {
	net.Listener
	slots chan struct{}
}

const tooManyConnections = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n" +
	"Content-Type: application/problem+json\r\nContent-Length: 88\r\n\r\n" +
	`{"title":"Service Unavailable","status":503,"detail":"there are too many connections"}` + "\r\n"

func (b *bounded) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case b.slots <- struct{}{}:
			return &boundedConn{Conn: c, free: sync.OnceFunc(func() { <-b.slots })}, nil
		default:
			c.SetDeadline(time.Now().Add(100 * time.Millisecond))
			_, _ = c.Write([]byte(tooManyConnections))
			c.Close()
		}
	}
}

type boundedConn struct {
	net.Conn
	free func()
}

func (c *boundedConn) Close() error {
	defer c.free()
	return c.Conn.Close()
}

// loopback reports whether only this machine can reach the address host:port.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	if n := len(host); n > 1 && host[0] == '[' && host[n-1] == ']' {
		host = host[1 : n-1]
	}
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}
