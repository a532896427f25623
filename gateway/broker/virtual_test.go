package broker

import (
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// virtual makes a broker listen in memory, for tests on a virtual clock: whoever
// waits for a socket of the kernel would keep the time from passing.
func virtual(o *Options) {
	o.listen = func(string, string) (net.Listener, error) {
		return &memoryPort{conns: make(chan net.Conn), closed: make(chan struct{})}, nil
	}
}

// virtually runs a test on a virtual clock.
func virtually(test func(t *testing.T)) func(t *testing.T) {
	return func(t *testing.T) { synctest.Test(t, test) }
}

// memoryPort is a listener for connections in memory.
type memoryPort struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *memoryPort) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *memoryPort) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *memoryPort) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1883} }

// memoryConn is one end of a connection in memory. It has no buffers: a write
// waits until the other end reads.
type memoryConn struct{ in, out net.Conn }

func memoryConns() (a, b net.Conn) {
	a1, b1 := net.Pipe()
	a2, b2 := net.Pipe()
	return memoryConn{a1, a2}, memoryConn{b2, b1}
}

func (c memoryConn) Read(b []byte) (int, error)         { return c.in.Read(b) }
func (c memoryConn) Write(b []byte) (int, error)        { return c.out.Write(b) }
func (c memoryConn) CloseWrite() error                  { return c.out.Close() }
func (c memoryConn) SetReadDeadline(t time.Time) error  { return c.in.SetReadDeadline(t) }
func (c memoryConn) SetWriteDeadline(t time.Time) error { return c.out.SetWriteDeadline(t) }
func (c memoryConn) LocalAddr() net.Addr                { return (*memoryPort)(nil).Addr() }
func (c memoryConn) RemoteAddr() net.Addr               { return (*memoryPort)(nil).Addr() }

func (c memoryConn) SetDeadline(t time.Time) error {
	_ = c.in.SetReadDeadline(t)
	return c.out.SetWriteDeadline(t)
}

func (c memoryConn) Close() error {
	c.out.Close()
	return c.in.Close()
}

// open opens a connection to a broker, virtual or not.
func open(b *Broker) (net.Conn, error) {
	p, ok := b.ports[0].Listener.(*memoryPort)
	if !ok {
		return net.Dial("tcp", b.Addrs()[0].String())
	}
	ours, theirs := memoryConns()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
