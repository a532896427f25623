package broker

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"holdfast/gateway/broker/packet"
	"holdfast/gateway/event"
)

// patience is how long a test waits for what must happen: so long that a slow
// machine is not taken for one that hangs.
const patience = time.Minute

// fakeLog is a log whose commits the test releases by hand, or that completes
// everything at once.
type fakeLog struct {
	byHand bool
	route  func([]event.Event) // after commit, if set
	full   error               // what Emit and Release return

	mu       sync.Mutex
	grown    sync.Cond
	batches  []Batch
	waiting  []func(error)
	released []uint16
	commits  int // see committed
	disk     map[string][]uint16
}

func newFakeLog() *fakeLog {
	l := &fakeLog{disk: map[string][]uint16{}}
	l.grown.L = &l.mu
	return l
}

func (l *fakeLog) Emit(b Batch, done func(error)) error {
	l.mu.Lock()
	if l.full != nil {
		defer l.mu.Unlock()
		return l.full
	}
	l.batches = append(l.batches, b)
	l.grown.Broadcast()
	if l.byHand {
		defer l.mu.Unlock()
		l.waiting = append(l.waiting, done)
		return nil
	}
	defer l.mu.Unlock()
	done(nil)
	if l.route != nil {
		l.route(b.Events)
	}
	return nil
}

func (l *fakeLog) Release(_ string, ids []uint16, done func(error)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.released = append(l.released, ids...)
	if l.byHand {
		l.waiting = append(l.waiting, done)
		l.grown.Broadcast()
		return nil
	}
	done(nil)
	return nil
}

func (l *fakeLog) Held(client string) []uint16 { return l.disk[client] }

// commit completes what waits, in order.
func (l *fakeLog) commit(err error) {
	l.mu.Lock()
	waiting := l.waiting
	l.waiting = nil
	l.mu.Unlock()
	for _, done := range waiting {
		done(err)
	}
}

// events waits until there are n events and returns all.
func (l *fakeLog) events(t testing.TB, n int) []event.Event {
	t.Helper()
	late := time.AfterFunc(patience, func() { l.grown.Broadcast() })
	defer late.Stop()
	deadline := time.Now().Add(patience)
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		var all []event.Event
		for _, b := range l.batches {
			all = append(all, b.Events...)
		}
		if len(all) >= n {
			return all
		}
		if !time.Now().Before(deadline) {
			t.Fatalf("got %d events, want %d", len(all), n)
		}
		l.grown.Wait()
	}
}

func (l *fakeLog) topics(t testing.TB, n int) (topics []string) {
	t.Helper()
	for _, e := range l.events(t, n) {
		topics = append(topics, e.Topic)
	}
	return topics
}

// options are those of a broker over the log. What it does by the clock, every
// now and then, it leaves to the test.
func (l *fakeLog) options() Options {
	return Options{
		Listen: []Listener{{Address: "127.0.0.1:0"}}, Emit: l.Emit, Release: l.Release, Held: l.Held,
		keepEvery: 1000 * time.Hour, sysEvery: 1000 * time.Hour, pace: pace{every: 1000 * time.Hour},
	}
}

// start runs a broker over a log until the test ends.
func start(t testing.TB, l *fakeLog, with ...func(*Options)) *Broker {
	t.Helper()
	o := l.options()
	for _, f := range with {
		f(&o)
	}
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	follow(b, newMemStream("events"))
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// follow makes a stream the broker's log.
func follow(b *Broker, s *memStream) {
	s.feed = b.Follow(s, uint64(len(s.events)+1))
}

// client is an MQTT client that does exactly what the test says.
type client struct {
	net.Conn
	t  testing.TB
	r  *bufio.Reader
	v5 bool
}

type version bool

const (
	v4 version = false // MQTT 3.1.1
	v5 version = true
)

func (v version) String() string {
	if v {
		return "mqtt5"
	}
	return "mqtt311"
}

func bothVersions(t *testing.T, f func(t *testing.T, v version)) {
	for _, v := range []version{v4, v5} {
		t.Run(v.String(), func(t *testing.T) { f(t, v) })
	}
}

func dial(t testing.TB, b *Broker, v version) *client {
	t.Helper()
	nc, err := open(b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return &client{Conn: nc, t: t, r: bufio.NewReader(nc), v5: bool(v)}
}

// connect makes a connection whose session lasts.
func connect(t testing.TB, b *Broker, v version, id string) *client {
	t.Helper()
	c := dial(t, b, v)
	c.send(connectPacket(connectOptions{v: v, id: id, keep: true}))
	c.connack(0)
	return c
}

type connectOptions struct {
	v              version
	id             string
	keep           bool // clean start 0, and for MQTT 5 session expiry one hour
	clean          bool // with keep: clean start 1
	keepAlive      uint16
	user, password string
	will           *event.Event
	willDelay      byte // seconds
	props          []byte
}

func connectPacket(o connectOptions) []byte {
	level, flags := byte(4), byte(0)
	if o.v == v5 {
		level = 5
	}
	if !o.keep || o.clean {
		flags |= 2
	}
	if o.will != nil {
		flags |= 4 | o.will.QoS<<3
		if o.will.Retain {
			flags |= 0x20
		}
	}
	if o.user != "" {
		flags |= 0x80
	}
	if o.password != "" {
		flags |= 0x40
	}
	b := packet.AppendString(nil, "MQTT")
	b = append(b, level, flags, byte(o.keepAlive>>8), byte(o.keepAlive))
	if o.v == v5 {
		props := o.props
		if o.keep {
			props = append(props, packet.PropSessionExpiry, 0, 0, 0x0e, 0x10)
		}
		b = append(packet.AppendVarint(b, len(props)), props...)
	}
	b = packet.AppendString(b, o.id)
	if o.will != nil {
		if o.v == v5 {
			b = append(b, 5, 0x18, 0, 0, 0, o.willDelay)
		}
		b = packet.AppendString(b, o.will.Topic)
		b = packet.AppendString(b, string(o.will.Payload))
	}
	if o.user != "" {
		b = packet.AppendString(b, o.user)
	}
	if o.password != "" {
		b = packet.AppendString(b, o.password)
	}
	return frame(packet.TypeConnect<<4, b)
}

func frame(first byte, body []byte) []byte {
	return append(packet.AppendVarint([]byte{first}, len(body)), body...)
}

// pub is a PUBLISH to be sent.
type pub struct {
	topic   string
	payload string
	qos     byte
	id      uint16
	dup     bool
	retain  bool
	props   []byte
}

func (p pub) packet(v version) []byte {
	first := byte(packet.TypePublish<<4) | p.qos<<1
	if p.dup {
		first |= 8
	}
	if p.retain {
		first |= 1
	}
	b := packet.AppendString(nil, p.topic)
	if p.qos > 0 {
		b = binary.BigEndian.AppendUint16(b, p.id)
	}
	if v == v5 {
		b = append(packet.AppendVarint(b, len(p.props)), p.props...)
	}
	return frame(first, append(b, p.payload...))
}

func (c *client) publish(pubs ...pub) {
	c.t.Helper()
	var b []byte
	for _, p := range pubs {
		b = append(b, p.packet(version(c.v5))...)
	}
	c.send(b)
}

func (c *client) send(b []byte) {
	c.t.Helper()
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	if _, err := c.Write(b); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

func (c *client) read() (first byte, body []byte, err error) {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if first, err = c.r.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(c.r) // the same encoding
	if err != nil {
		return 0, nil, err
	}
	body = make([]byte, n)
	_, err = io.ReadFull(c.r, body)
	return first, body, err
}

// expect reads one packet and compares it.
func (c *client) expect(want ...byte) {
	c.t.Helper()
	first, body, err := c.read()
	if err != nil {
		c.t.Fatalf("waiting for % x: %v", want, err)
	}
	if got := frame(first, body); !bytes.Equal(got, want) {
		c.t.Fatalf("got packet % x, want % x", got, want)
	}
}

// silence checks that nothing has been sent, by asking for something.
func (c *client) silence() {
	c.t.Helper()
	c.send([]byte{packet.TypePingreq << 4, 0})
	first, body, err := c.next()
	if err != nil || first != 0xD0 {
		c.t.Fatalf("got %x % x, %v, want nothing but PINGRESP", first, body, err)
	}
}

// closed waits for the end of the connection. With MQTT 5 and a code that is
// not 0 a DISCONNECT comes first.
func (c *client) closed(code byte) {
	c.t.Helper()
	if c.v5 && code != 0 {
		first, body, err := c.read()
		if err != nil || first != packet.TypeDisconnect<<4 || len(body) == 0 || body[0] != code {
			c.t.Fatalf("got %x % x, %v, want DISCONNECT with %#x", first, body, err, code)
		}
	}
	first, body, err := c.read()
	if err == nil {
		c.t.Fatalf("got %x % x, want the end of the connection", first, body)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatal("the connection was not closed")
	}
}

func (c *client) connack(code byte) {
	c.t.Helper()
	first, body, err := c.read()
	if err != nil || first != 0x20 || len(body) < 2 || body[1] != code {
		c.t.Fatalf("got %x % x, %v, want CONNACK with %#x", first, body, err, code)
	}
}

type filter struct {
	topic   string
	options byte
}

// subscribe subscribes and waits for the SUBACK.
func (c *client) subscribe(filters ...filter) {
	c.t.Helper()
	b := []byte{0, 77}
	if c.v5 {
		b = append(b, 0)
	}
	for _, f := range filters {
		b = append(packet.AppendString(b, f.topic), f.options)
	}
	c.send(frame(packet.TypeSubscribe<<4|2, b))
	first, body, err := c.read()
	if err != nil || first != 0x90 {
		c.t.Fatalf("got %x % x, %v, want SUBACK", first, body, err)
	}
	for i, f := range filters {
		if got := body[len(body)-len(filters)+i]; got != f.options&3 {
			c.t.Fatalf("SUBACK for %s: %#x", f.topic, got)
		}
	}
}

// received is a PUBLISH as a subscriber got it.
type received struct {
	Topic, Payload string
	QoS            byte
	Retain, Dup    bool
	Props          packet.Properties
}

// next reads a packet and answers PUBREL on the way.
func (c *client) next() (first byte, body []byte, err error) {
	for {
		if first, body, err = c.read(); err != nil || first != packet.TypePubrel<<4|2 {
			return first, body, err
		}
		c.send([]byte{packet.TypePubcomp << 4, 2, body[0], body[1]})
	}
}

// receive reads a PUBLISH and acknowledges it.
func (c *client) receive() received {
	c.t.Helper()
	first, body, err := c.next()
	if err != nil || first>>4 != packet.TypePublish {
		c.t.Fatalf("got %x % x, %v, want PUBLISH", first, body, err)
	}
	p, err := packet.ParsePublish(first, body, c.v5)
	if err != nil {
		c.t.Fatal(err)
	}
	props, err := packet.ParseProperties(p.Properties, packet.PublishProperties)
	if err != nil {
		c.t.Fatal(err)
	}
	switch p.QoS {
	case 1:
		c.send([]byte{packet.TypePuback << 4, 2, byte(p.ID >> 8), byte(p.ID)})
	case 2:
		c.send([]byte{packet.TypePubrec << 4, 2, byte(p.ID >> 8), byte(p.ID)})
	}
	return received{string(p.Topic), string(p.Payload), p.QoS, p.Retain, p.Dup, props}
}

func (c *client) receives(want ...received) {
	c.t.Helper()
	for _, w := range want {
		if diff := cmp.Diff(w, c.receive(), cmpopts.IgnoreUnexported(packet.Properties{})); diff != "" {
			c.t.Fatalf("received message, -want +got:\n%s", diff)
		}
	}
}

// eventually waits for something that has no event of its own.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// violations is how often any reason closed a connection.
func violations(b *Broker) (n uint64) {
	for _, of := range b.Stats().Violations {
		n += of
	}
	return n
}

func puback(id uint16) []byte  { return []byte{packet.TypePuback << 4, 2, byte(id >> 8), byte(id)} }
func pubrec(id uint16) []byte  { return []byte{packet.TypePubrec << 4, 2, byte(id >> 8), byte(id)} }
func pubrel(id uint16) []byte  { return []byte{packet.TypePubrel<<4 | 2, 2, byte(id >> 8), byte(id)} }
func pubcomp(id uint16) []byte { return []byte{packet.TypePubcomp << 4, 2, byte(id >> 8), byte(id)} }

func numbered(n int) (pubs []pub) {
	for i := range n {
		pubs = append(pubs, pub{topic: fmt.Sprintf("t/%d", i), payload: "x", qos: 1, id: uint16(i + 1)})
	}
	return pubs
}
