package broker

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"holdfast/gateway/broker/packet"
	"holdfast/gateway/event"
)

// dialWeb opens a WebSocket connection.
func dialWeb(t testing.TB, b *Broker, path string, header http.Header, protocols ...string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	d := websocket.Dialer{Subprotocols: protocols, HandshakeTimeout: patience, NetDial: func(string, string) (net.Conn, error) { return open(b) }}
	ws, answer, err := d.Dial("ws://"+b.Addrs()[0].String()+path, header)
	if err == nil {
		t.Cleanup(func() { ws.Close() })
	}
	return ws, answer, err
}

func overWeb(t testing.TB, b *Broker, v version) *client {
	t.Helper()
	ws, _, err := dialWeb(t, b, "/mqtt", nil, "mqtt")
	if err != nil {
		t.Fatal(err)
	}
	s := &webSocket{Conn: ws}
	return &client{Conn: s, t: t, r: bufio.NewReader(s), v5: bool(v)}
}

func TestClientsAreServedOverWebSocket(t *testing.T) {
	bothVersions(t, func(t *testing.T, v version) {
		l := newFakeLog()
		b := start(t, l, listens(Listener{WebSocket: &WebSocket{}}))
		c := overWeb(t, b, v)
		c.send(connectPacket(connectOptions{v: v, id: "a"}))
		c.connack(0)
		c.subscribe(filter{"#", 1})
		var all []byte
		for _, p := range numbered(50) {
			all = append(all, p.packet(v)...)
		}
		big := strings.Repeat("x", 200_000)
		all = append(all, pub{topic: "big", payload: big, qos: 1, id: 200}.packet(v)...)
		for at, size := 0, 1; at < len(all); size = size*2%1001 + 1 { // packets may begin anywhere
			end := min(at+size, len(all))
			c.send(all[at:end])
			at = end
		}
		for i := range 50 {
			c.expect(puback(uint16(i + 1))...)
		}
		c.expect(puback(200)...)
		route(b, l.events(t, 51)[50:])
		c.receives(received{Topic: "big", Payload: big, QoS: 1})
		_ = c.Conn.(*webSocket).WriteMessage(websocket.PingMessage, nil)
		c.silence()
		b.Close()
		c.closed(packet.ServerShuttingDown)
	})
	t.Run("which may vanish", func(t *testing.T) {
		l := newFakeLog()
		b := start(t, l, listens(Listener{WebSocket: &WebSocket{}}))
		c := overWeb(t, b, v4)
		w := event.Event{Topic: "gone", Payload: []byte("x")}
		c.send(connectPacket(connectOptions{id: "a", will: &w}))
		c.connack(0)
		c.Close()
		l.events(t, 1)
	})
	t.Run("or be silent for too long", func(t *testing.T) {
		t.Parallel()
		b := start(t, newFakeLog(), listens(Listener{WebSocket: &WebSocket{}}))
		c := overWeb(t, b, v5)
		c.send(connectPacket(connectOptions{v: v5, id: "a", keepAlive: 1}))
		c.connack(0)
		c.closed(packet.KeepAliveTimeout)
	})
	t.Run("or read nothing", virtually(func(t *testing.T) {
		b := start(t, newFakeLog(), virtual, listens(Listener{WebSocket: &WebSocket{}}), func(o *Options) { o.MaxQueued = 1 << 20 })
		c := overWeb(t, b, v4)
		c.send(connectPacket(connectOptions{id: "a"}))
		c.connack(0)
		c.subscribe(filter{"#", 0})
		big := ev("t", strings.Repeat("x", 100_000), 0)
		for range 200 {
			route(b, []event.Event{big})
		}
		if b.Stats().Dropped == 0 {
			t.Error("nothing was dropped: was it all queued?")
		}
		began := time.Now()
		b.Close()
		if took := time.Since(began); took > closeTimeout+drainTimeout {
			t.Errorf("Close took %v", took)
		}
	}))
}

func TestAWebSocketConnectionIsOpenedOnlyByTheRules(t *testing.T) {
	for _, c := range []struct {
		name      string
		origins   []string
		path      string
		origin    string
		protocols []string
		status    int
	}{
		{name: "no browser", status: 101},
		{name: "a page of the same host", origin: "http://HOST", status: 101},
		{name: "a page of another host", origin: "http://evil.example", status: 403},
		{name: "a page of another port", origin: "http://127.0.0.1:1", status: 403},
		{name: "a page without an origin", origin: "null", status: 403},
		{name: "a listed page", origins: []string{"https://panel.example"}, origin: "https://PANEL.example", status: 101},
		{name: "a listed page by another scheme", origins: []string{"https://panel.example"}, origin: "http://panel.example", status: 403},
		{name: "a name that begins like a listed one", origins: []string{"https://panel.example"}, origin: "https://panel.example.evil.example", status: 403},
		{name: "the same host when others are listed", origins: []string{"https://panel.example"}, origin: "http://HOST", status: 403},
		{name: "any page", origins: []string{"*"}, origin: "https://else.example", status: 101},
		{name: "another path", path: "/", status: 404},
		{name: "no subprotocol", protocols: []string{}, status: 400},
		{name: "another subprotocol", protocols: []string{"mqttv3.1"}, status: 400},
		{name: "one of several subprotocols", protocols: []string{"mqttv3.1", "mqtt"}, status: 101},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := start(t, newFakeLog(), listens(Listener{WebSocket: &WebSocket{Origins: c.origins}}))
			header := http.Header{}
			if c.origin != "" {
				header.Set("Origin", strings.ReplaceAll(c.origin, "HOST", b.Addrs()[0].String()))
			}
			if c.path == "" {
				c.path = "/mqtt"
			}
			if c.protocols == nil {
				c.protocols = []string{"mqtt"}
			}
			ws, answer, err := dialWeb(t, b, c.path, header, c.protocols...)
			if answer == nil || answer.StatusCode != c.status {
				t.Fatalf("got %v, %v, want status %d", answer, err, c.status)
			}
			if c.status == 101 && ws.Subprotocol() != "mqtt" {
				t.Errorf("the subprotocol is %q", ws.Subprotocol())
			}
		})
	}
}

func TestAWebSocketConnectionTakesBinaryMessagesOfALimitedSizeOnly(t *testing.T) {
	for name, c := range map[string]struct {
		kind, size, code int
	}{
		"text":      {websocket.TextMessage, 2, websocket.CloseUnsupportedData},
		"too large": {websocket.BinaryMessage, minMessage + 1, websocket.CloseMessageTooBig},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, newFakeLog(), listens(Listener{WebSocket: &WebSocket{}}))
			cl := overWeb(t, b, v5)
			cl.send(connectPacket(connectOptions{v: v5, id: "a"}))
			cl.connack(0)
			ws := cl.Conn.(*webSocket).Conn
			_ = ws.WriteMessage(c.kind, bytes.Repeat([]byte{0xC0, 0}, c.size/2+1)[:c.size])
			var err error
			for err == nil {
				_ = ws.SetReadDeadline(time.Now().Add(patience))
				_, _, err = ws.ReadMessage()
			}
			if !websocket.IsCloseError(err, c.code) {
				t.Errorf("got %v, want close code %d", err, c.code)
			}
			eventually(t, "the end of the connection", func() bool { return len(b.all()) == 0 })
			if n := violations(b); n != 1 {
				t.Errorf("counted %d violations, want 1", n)
			}
		})
	}
}
