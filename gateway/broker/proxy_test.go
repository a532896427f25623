package broker

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// proxyHeader is what a proxy sends before the bytes of its client.
func proxyHeader(from, to string, more ...byte) []byte {
	f, t := netip.MustParseAddrPort(from), netip.MustParseAddrPort(to)
	family := byte(0x11)
	if f.Addr().Is6() {
		family = 0x21
	}
	body := append(f.Addr().AsSlice(), t.Addr().AsSlice()...)
	body = binary.BigEndian.AppendUint16(body, f.Port())
	body = binary.BigEndian.AppendUint16(body, t.Port())
	body = append(body, more...)
	b := append([]byte(proxySignature), 0x21, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

func TestTheHeaderOfAProxySaysWhoTheClientIs(t *testing.T) {
	for name, c := range map[string]struct {
		header []byte
		remote string
		local  bool // counts as on a loopback address
	}{
		"over IPv4":                     {proxyHeader("192.0.2.7:4711", "198.51.100.1:1883"), "192.0.2.7:4711", false},
		"over IPv6":                     {proxyHeader("[2001:db8::7]:4711", "[2001:db8::1]:1883"), "[2001:db8::7]:4711", false},
		"with further values":           {proxyHeader("192.0.2.7:4711", "198.51.100.1:1883", 4, 0, 2, 1, 2), "192.0.2.7:4711", false},
		"on a loopback address":         {proxyHeader("127.0.0.1:4711", "127.0.0.1:1883"), "127.0.0.1:4711", true},
		"when the proxy knows nothing":  {append([]byte(proxySignature), 0x21, 0, 0, 0), ":0", false},
		"when the proxy checks health":  {append([]byte(proxySignature), 0x20, 0, 0, 0), "", true},
		"when they share a unix socket": {append(append([]byte(proxySignature), 0x21, 0x31, 0, 216), make([]byte, 216)...), ":0", false},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, newFakeLog(), listens(Listener{Proxy: true}))
			cl := dial(t, b, v4)
			cl.send(append(c.header, connectPacket(connectOptions{id: "a"})...))
			if !c.local {
				cl.connack(5) // there are no users, and it is no loopback address
				return
			}
			cl.connack(0)
			remote := c.remote
			if remote == "" {
				remote = cl.LocalAddr().String()
			}
			if got := b.all()[0].RemoteAddr().String(); got != remote {
				t.Errorf("the client is at %s, want %s", got, remote)
			}
			cl.subscribe(filter{"t", 0})
			cl.silence()
		})
	}
}

func TestAConnectionWithoutAProxysHeaderIsClosed(t *testing.T) {
	b := start(t, newFakeLog(), listens(Listener{Proxy: true}), func(o *Options) { o.Limits.ConnectTimeout = 500 * time.Millisecond })
	for name, bytes := range map[string][]byte{
		"MQTT at once":    connectPacket(connectOptions{id: "abcdefgh"}),
		"version 1":       []byte("PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n"),
		"another version": append([]byte(proxySignature), 0x31, 0, 0, 0),
		"too short":       append([]byte(proxySignature), 0x21, 0x11, 0, 4, 1, 2, 3, 4),
		"too long":        append([]byte(proxySignature), 0x21, 0x11, 0xff, 0xff),
		"half of it":      []byte(proxySignature),
		"nothing":         nil,
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, b, v4)
			c.send(bytes)
			c.closed(0)
		})
	}
}

func TestTheHeaderOfAProxyComesBeforeTLSAndHTTP(t *testing.T) {
	a := newAuthority(t)
	for name, c := range map[string]struct {
		l    Listener
		over func(net.Conn) (net.Conn, error)
	}{
		"tls": {Listener{TLS: secure(t, a)}, func(nc net.Conn) (net.Conn, error) {
			return tls.Client(nc, &tls.Config{RootCAs: a.pool(), ServerName: "127.0.0.1"}), nil
		}},
		"websocket": {Listener{WebSocket: &WebSocket{}}, func(nc net.Conn) (net.Conn, error) {
			d := websocket.Dialer{Subprotocols: []string{"mqtt"}, NetDial: func(string, string) (net.Conn, error) { return nc, nil }}
			ws, _, err := d.Dial("ws://gateway.example/mqtt", nil)
			return &webSocket{Conn: ws}, err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c.l.Proxy = true
			b := start(t, newFakeLog(), listens(c.l), func(o *Options) { o.AllowAnonymous = true })
			nc, err := net.Dial("tcp", b.Addrs()[0].String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { nc.Close() })
			_, _ = nc.Write(proxyHeader("192.0.2.7:4711", "198.51.100.1:8883"))
			if nc, err = c.over(nc); err != nil {
				t.Fatal(err)
			}
			cl := &client{Conn: nc, t: t, r: bufio.NewReader(nc)}
			cl.send(connectPacket(connectOptions{id: "a"}))
			cl.connack(0)
			if at := b.all()[0].RemoteAddr().String(); at != "192.0.2.7:4711" {
				t.Errorf("the client is at %s", at)
			}
		})
	}
}

func FuzzProxyHeader(f *testing.F) {
	f.Add(proxyHeader("192.0.2.7:4711", "198.51.100.1:1883", 1, 2, 3))
	f.Add(proxyHeader("[2001:db8::7]:4711", "[2001:db8::1]:1883"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		remote, local, err := readProxyHeader(r)
		if err != nil {
			return
		}
		if (remote == nil) != (local == nil) {
			t.Fatalf("addresses %v and %v", remote, local)
		}
		rest, _ := io.ReadAll(r)
		if want := 16 + int(binary.BigEndian.Uint16(b[14:])); len(b)-len(rest) != want {
			t.Fatalf("read %d bytes, want %d", len(b)-len(rest), want)
		}
	})
}
