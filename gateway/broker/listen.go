package broker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Listener is an address that clients connect to.
type Listener struct {
	Address   string     // host:port
	TLS       *TLS       // nil: not encrypted
	WebSocket *WebSocket // nil: MQTT directly on the connection
	// Proxy says that clients come through a proxy, which begins each connection
	// with a header of version 2 of the PROXY protocol. Who reaches the listener
	// past the proxy can claim any address.
	Proxy bool
}

// port is a listener that is open.
type port struct {
	net.Listener
	b    *Broker
	set  Listener
	keys *keys // nil without TLS
	web  *web  // nil without WebSocket
}

// Start binds all listeners and accepts clients. If one address cannot be
// bound, none is served.
func (b *Broker) Start() error {
	for _, l := range b.opt.Listen {
		p, err := b.bind(l)
		if err != nil {
			for _, p := range b.ports {
				_ = p.Close()
			}
			b.ports = nil
			return fmt.Errorf("listen for mqtt on %s: %w", l.Address, err)
		}
		b.ports = append(b.ports, p)
	}
	if err := b.server.Serve(); err != nil {
		return fmt.Errorf("start mqtt: %w", err)
	}
	b.silence()
	s := newSys(b, time.Now())
	s.tell(s.started)
	b.wg.Go(s.run)
	b.kept.Go(b.keeper.run)
	for _, p := range b.ports {
		b.wg.Go(func() {
			if p.web != nil {
				p.web.serve()
			} else {
				p.serve(b)
			}
		})
	}
	return nil
}

func (b *Broker) bind(l Listener) (p *port, err error) {
	p = &port{b: b, set: l}
	if l.TLS != nil {
		if p.keys, err = newKeys(*l.TLS, b.log); err != nil {
			return nil, err
		}
	}
	if p.Listener, err = b.opt.listen("tcp", l.Address); err != nil {
		return nil, err
	}
	if l.WebSocket != nil {
		p.web = newWeb(b, p)
	}
	return p, nil
}

// Accept waits for a client. The header of a proxy and the handshake of TLS
// are yet to come.
func (p *port) Accept() (net.Conn, error) {
	socket, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if tcp, ok := socket.(*net.TCPConn); ok && p.set.Proxy {
		socket = newProxied(tcp, p.b.limits.ConnectTimeout)
	}
	if p.keys != nil {
		socket = tls.Server(socket, p.keys.current())
	}
	return socket, nil
}

// Addrs returns the addresses that Start bound, in the order of
// Options.Listen.
func (b *Broker) Addrs() []net.Addr {
	var addrs []net.Addr
	for _, p := range b.ports {
		addrs = append(addrs, p.Addr())
	}
	return addrs
}

// stop ends the accepting of clients.
func (p *port) stop() {
	if p.web != nil {
		_ = p.web.server.Close()
	}
	_ = p.Close()
}

func (p *port) serve(b *Broker) {
	for pause := time.Duration(0); ; {
		socket, err := p.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // out of file descriptors, for instance
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			b.say("accept mqtt connections", p.Addr().String(), err)
			time.Sleep(pause)
			continue
		}
		pause = 0
		if !b.take(socket, p, nil) {
			_ = socket.Close()
		}
	}
}

// take begins to serve a connection, of a client that has proven to own a
// certificate if cert is not nil. ok is false if there are too many.
func (b *Broker) take(socket net.Conn, from *port, cert *x509.Certificate) (ok bool) {
	c := newConn(b, socket)
	c.from, c.cert = from.set, cert
	if !b.enter(c) {
		return false
	}
	go b.serve(c, from.Addr().String())
	return true
}

// enter counts a connection in. Half as many again as MaxClients may be open,
// for those that have not said who they are.
func (b *Broker) enter(c *conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || len(b.conns) >= b.maxConns() {
		return false
	}
	b.conns[c] = struct{}{}
	b.count.sockets.Add(1)
	b.wg.Add(1)
	return true
}

func (b *Broker) maxConns() int { return b.opt.MaxClients + b.opt.MaxClients/2 + 16 }

// handshake reads the header of a proxy and does the handshake of TLS, if
// there is any to do.
func (c *conn) handshake() error {
	if p := throughProxy(c.Conn); p != nil {
		if err := p.header(); err != nil {
			if !errors.Is(err, io.EOF) { // which is somebody who tries the port
				c.b.say("mqtt connection without proxy header", c.host(), err)
			}
			return err
		}
	}
	t, ok := c.Conn.(*tls.Conn)
	if !ok {
		return nil
	}
	_ = t.SetWriteDeadline(time.Now().Add(c.b.limits.ConnectTimeout)) // the one for reading is set
	if err := t.Handshake(); err != nil {
		if tcp, ok := t.NetConn().(interface {
			net.Conn
			CloseWrite() error
		}); ok && tcp.CloseWrite() == nil {
			// As in finish: the client shall see what was wrong.
			_ = tcp.SetReadDeadline(time.Now().Add(drainTimeout))
			_, _ = io.CopyN(io.Discard, tcp, 64<<10)
		}
		if !errors.Is(err, io.EOF) { // which is somebody who tries the port
			c.b.say("mqtt tls handshake", c.name(), err)
		}
		return fmt.Errorf("tls handshake: %w", err)
	}
	c.cert = verified(t.ConnectionState())
	return nil
}

// verified returns the certificate of a client, nil if it showed none.
func verified(s tls.ConnectionState) *x509.Certificate {
	if len(s.VerifiedChains) == 0 {
		return nil
	}
	return s.PeerCertificates[0]
}
