package mqttsink_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
	"holdfast/gateway/forward"
	"holdfast/gateway/forward/sinktest"
	"holdfast/gateway/sink/mqttsink"
)

const patience = time.Minute

// packet is one MQTT packet on the wire.
type packet struct {
	first byte
	body  []byte
}

func (p packet) kind() byte { return p.first >> 4 }
func (p packet) qos() byte  { return p.first >> 1 & 3 }

func readPacket(r *bufio.Reader) (p packet, err error) {
	if p.first, err = r.ReadByte(); err != nil {
		return p, err
	}
	size, err := binary.ReadUvarint(r) // the encoding of MQTT is the same
	if err != nil {
		return p, err
	}
	p.body = make([]byte, size)
	_, err = io.ReadFull(r, p.body)
	return p, err
}

func (p packet) bytes() []byte {
	b := binary.AppendUvarint([]byte{p.first}, uint64(len(p.body)))
	return append(b, p.body...)
}

// publish is what a PUBLISH carries.
type publish struct {
	topic, payload string
	id             uint16
	qos            byte
	dup, retain    bool
}

func text(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

func (m publish) packet() packet {
	body := text(m.topic)
	first := byte(3<<4) | m.qos<<1
	if m.qos > 0 {
		body = binary.BigEndian.AppendUint16(body, m.id)
	}
	if m.dup {
		first |= 8
	}
	if m.retain {
		first |= 1
	}
	return packet{first, append(body, m.payload...)}
}

func parsePublish(p packet) publish {
	n := int(binary.BigEndian.Uint16(p.body))
	m := publish{topic: string(p.body[2 : 2+n]), qos: p.qos(), dup: p.first&8 != 0, retain: p.first&1 != 0}
	rest := p.body[2+n:]
	if m.qos > 0 {
		m.id, rest = binary.BigEndian.Uint16(rest), rest[2:]
	}
	m.payload = string(rest)
	return m
}

func ack(kind byte, id uint16) packet {
	return packet{kind << 4, binary.BigEndian.AppendUint16(nil, id)}
}

// farConn is one connection as the far side sees it.
type farConn struct {
	net.Conn
	number  int // the first has 1
	connect packet
	came    int  // PUBLISH packets
	left    bool // with a DISCONNECT
	closed  atomic.Bool
	ended   chan bool // closed when the other end is closed too
	mu      sync.Mutex
}

// Close ends the connection; what has been read from it already is ignored.
func (c *farConn) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}

// finish ends the connection and waits until the other end has noticed.
func (c *farConn) finish() {
	_ = c.Conn.(*net.TCPConn).CloseWrite()
	<-c.ended
}

func (c *farConn) write(packets ...packet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range packets {
		_, _ = c.Write(p.bytes())
	}
}

// far is a broker that does exactly what a test tells it, wrong or right.
type far struct {
	t        testing.TB
	listener net.Listener

	// on decides about a PUBLISH; nil acknowledges. It may write to c, close
	// it, or wait.
	on func(c *farConn, m publish)
	// connack answers a CONNECT; nil accepts.
	connack func(c *farConn) packet
	// suback returns the codes of a SUBACK; nil grants QoS 1. subscribed is
	// called behind it.
	suback     func(c *farConn, codes []byte) []byte
	subscribed func(c *farConn)
	// acked is called for every PUBACK.
	acked func(c *farConn, id uint16)

	turn    sync.Mutex          // one packet at a time
	current map[string]*farConn // by client identifier: a new one ends the old [MQTT-3.1.4-2]

	mu       sync.Mutex
	conns    []*farConn
	all      []publish // in the order in which they came
	accepted []publish // acknowledged
	down     bool
	hang     bool
}

func newFar(t testing.TB) *far {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &far{t: t, listener: l, current: map[string]*farConn{}}
	t.Cleanup(func() {
		_ = l.Close()
		f.cut()
	})
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			c := &farConn{Conn: conn, number: len(f.conns) + 1, ended: make(chan bool)}
			f.conns = append(f.conns, c)
			f.mu.Unlock()
			go f.serve(c)
		}
	}()
	return f
}

// url is the setting, and one more: it knows nothing of bridges.
func (f *far) url() string { return "tcp://" + f.listener.Addr().String() + "\nbridge: false" }

func (f *far) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		_ = c.Close()
	}
}

func (f *far) serve(c *farConn) {
	defer close(c.ended)
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		p, err := readPacket(r)
		if err != nil || !f.handle(c, p) {
			return
		}
	}
}

// handle answers a packet; false ends the connection.
func (f *far) handle(c *farConn, p packet) bool {
	f.turn.Lock()
	defer f.turn.Unlock()
	f.mu.Lock()
	down, hang := f.down, f.hang
	f.mu.Unlock()
	if down {
		return false
	}
	if p.kind() == 1 {
		c.connect = p
		f.current[c.id()] = c
		if f.connack != nil {
			c.write(f.connack(c))
		} else {
			c.write(packet{0x20, []byte{0, 0}})
		}
		return true
	}
	if f.current[c.id()] != c || c.closed.Load() {
		return false
	}
	switch p.kind() {
	case 3:
		m := parsePublish(p)
		f.mu.Lock()
		f.all = append(f.all, m)
		f.mu.Unlock()
		c.came++
		switch {
		case hang:
		case f.on != nil:
			f.on(c, m)
		default:
			f.accept(c, m)
		}
	case 4:
		if f.acked != nil {
			f.acked(c, binary.BigEndian.Uint16(p.body))
		}
	case 8:
		codes := make([]byte, filters(p))
		for i := range codes {
			codes[i] = 1
		}
		if f.suback != nil {
			codes = f.suback(c, codes)
		}
		c.write(packet{0x90, append(p.body[:2:2], codes...)})
		if f.subscribed != nil {
			f.subscribed(c)
		}
	case 12:
		c.write(packet{0xd0, nil})
	case 14:
		c.left = true
		return false
	}
	return true
}

// id is the client identifier.
func (c *farConn) id() string {
	rest := c.connect.body[10:]
	return string(rest[2 : 2+binary.BigEndian.Uint16(rest)])
}

func filters(subscribe packet) (n int) {
	for rest := subscribe.body[2:]; len(rest) > 2; n++ {
		rest = rest[2+int(binary.BigEndian.Uint16(rest))+1:]
	}
	return n
}

// accept takes a message and acknowledges it.
func (f *far) accept(c *farConn, m publish) {
	f.mu.Lock()
	f.accepted = append(f.accepted, m)
	f.mu.Unlock()
	if m.qos > 0 {
		c.write(ack(4, m.id))
	}
}

func (f *far) Received() []sinktest.Item {
	f.mu.Lock()
	defer f.mu.Unlock()
	var items []sinktest.Item
	for _, m := range f.accepted {
		i, err := sinktest.ParseItem([]byte(m.payload))
		if err != nil {
			f.t.Errorf("payload %q: %v", m.payload, err)
		}
		items = append(items, i)
	}
	return items
}

func (f *far) Fail(on bool) {
	f.mu.Lock()
	f.down = on
	f.mu.Unlock()
	if on {
		f.cut()
	}
}

func (f *far) Hang(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hang = on
}

// taken returns what was accepted.
func (f *far) taken() []publish {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]publish(nil), f.accepted...)
}

func (f *far) came() []publish {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]publish(nil), f.all...)
}

func (f *far) connections() []*farConn {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*farConn(nil), f.conns...)
}

func section(t testing.TB, yaml string) *config.Section {
	t.Helper()
	s, err := config.LoadBytes("test.yaml", []byte("cloud:\n  "+indent(yaml)))
	if err != nil {
		t.Fatal(err)
	}
	return s.Child("cloud")
}

func indent(yaml string) string {
	var b []byte
	for i := range len(yaml) {
		if b = append(b, yaml[i]); yaml[i] == '\n' {
			b = append(b, "  "...)
		}
	}
	return string(b)
}

func open(t testing.TB, yaml string) forward.Sink {
	t.Helper()
	s, err := mqttsink.Kind.New(section(t, yaml))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// numbered returns n events with the payloads "first", "first+1" and so on.
func numbered(first, n int) forward.Batch {
	b := forward.Batch{Gateway: "gw-1", Stream: "events"}
	for i := first; i < first+n; i++ {
		b.Events = append(b.Events, event.Event{Epoch: 1, Offset: uint64(i), Topic: "t", Source: "mqtt", Payload: fmt.Append(nil, i), QoS: 1})
	}
	return b
}

// eventually waits until ok is true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func write(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
