package broker

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// proxySignature begins a header of version 2 of the PROXY protocol
// (haproxy.org, proxy-protocol.txt, 2.2).
const proxySignature = "\r\n\r\n\x00\r\nQUIT\n"

// maxProxyHeader bounds what may follow the first 16 bytes of the header.
const maxProxyHeader = 4096

// proxied is a connection that came through a proxy, which says in a header
// who is at the other end. The header is read by whoever needs it first, and
// never by the goroutine that accepts connections.
type proxied struct {
	*net.TCPConn
	once          sync.Once
	err           error
	remote, local net.Addr
}

// newProxied returns the connection; its header must come within the time.
func newProxied(socket *net.TCPConn, within time.Duration) *proxied {
	_ = socket.SetReadDeadline(time.Now().Add(within))
	return &proxied{TCPConn: socket, remote: socket.RemoteAddr(), local: socket.LocalAddr()}
}

// throughProxy returns the connection below another one that came through a
// proxy, nil if it did not.
func throughProxy(socket net.Conn) *proxied {
	if t, ok := socket.(*tls.Conn); ok {
		socket = t.NetConn()
	}
	p, _ := socket.(*proxied)
	return p
}

// header reads the header if that has not been done.
func (p *proxied) header() error {
	p.once.Do(func() {
		remote, local, err := readProxyHeader(p.TCPConn)
		switch {
		case err != nil:
			p.err = fmt.Errorf("proxy protocol: %w", err)
		case remote != nil:
			p.remote, p.local = remote, local
		}
	})
	return p.err
}

// Read reads what comes behind the header.
func (p *proxied) Read(b []byte) (int, error) {
	if err := p.header(); err != nil {
		return 0, err
	}
	return p.TCPConn.Read(b)
}

// RemoteAddr is that of the client.
func (p *proxied) RemoteAddr() net.Addr {
	_ = p.header()
	return p.remote
}

// LocalAddr is the one that the client connected to.
func (p *proxied) LocalAddr() net.Addr {
	_ = p.header()
	return p.local
}

// readProxyHeader reads no more than the header. The addresses are nil if the
// proxy speaks for itself, as for a check of health, and empty if it knows
// none.
func readProxyHeader(r io.Reader) (remote, local net.Addr, err error) {
	var head [16]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, nil, fmt.Errorf("read the header: %w", err)
	}
	command, family := head[12], head[13]
	switch {
	case string(head[:12]) != proxySignature:
		return nil, nil, errors.New("the connection does not begin with a header of version 2; the proxy must send one, as with send-proxy-v2")
	case command>>4 != 2 || command&0x0f > 1:
		return nil, nil, fmt.Errorf("header with version and command %#x", command)
	}
	size := int(binary.BigEndian.Uint16(head[14:]))
	if size > maxProxyHeader {
		return nil, nil, fmt.Errorf("header of %d bytes", size)
	}
	rest := make([]byte, size)
	if _, err := io.ReadFull(r, rest); err != nil {
		return nil, nil, fmt.Errorf("read the header: %w", err)
	}
	if command&0x0f == 0 { // LOCAL
		return nil, nil, nil
	}
	width := map[byte]int{1: 4, 2: 16}[family>>4] // of an address of IPv4 or IPv6
	if width == 0 {
		return &net.TCPAddr{}, &net.TCPAddr{}, nil
	}
	if len(rest) < 2*width+4 {
		return nil, nil, errors.New("header without the addresses that it announces")
	}
	address := func(ip, port []byte) net.Addr {
		a, _ := netip.AddrFromSlice(ip)
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(port)))
	}
	return address(rest[:width], rest[2*width:]), address(rest[width:2*width], rest[2*width+2:]), nil
}
