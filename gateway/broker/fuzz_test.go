package broker

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"holdfast/gateway/event"
)

var limits = Limits{}.withDefaults()

// FuzzConnect: no bytes upset the parser, and the plain CONNECT that is made of
// what it takes mochi's decoder takes with the same meaning.
func FuzzConnect(f *testing.F) {
	for _, v := range []version{v4, v5} {
		for _, o := range []connectOptions{
			{id: "a"}, {id: "", keep: true}, {id: "b", user: "u", password: "p", keepAlive: 9},
			{id: "c", will: &event.Event{Topic: "t", Payload: []byte("x"), QoS: 2, Retain: true}},
			{id: "d", props: []byte{propReceiveMaximum, 0, 9, propUser, 0, 1, 'k', 0, 1, 'v'}},
		} {
			o.v = v
			b := connectPacket(o)
			f.Add(b[2:])
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		h, err := limits.parseConnect(body)
		if err != nil {
			return
		}
		plain := h.plain()
		head, ok, err := readHeader(plain)
		if !ok || err != nil || head.padded() {
			t.Fatalf("% x is no packet: %v", plain, err)
		}
		m := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect, Remaining: head.body}}
		if err := m.ConnectDecode(bytes.Clone(plain[head.size:])); err != nil {
			t.Fatalf("mochi refuses what was taken: %v", err)
		}
		if code := m.ConnectValidate(); code != packets.CodeSuccess {
			t.Fatalf("mochi refuses what was taken: %v", code)
		}
		if (m.ProtocolVersion == 5) != h.v5 || m.Connect.Clean != h.clean || m.Connect.Keepalive != h.keepAlive || m.Connect.ClientIdentifier != h.id {
			t.Fatalf("mochi reads\n%+v\nbut it was taken as\n%+v", m.Connect, h)
		}
	})
}

// FuzzAck: what passes the check mochi's decoder survives.
func FuzzAck(f *testing.F) {
	f.Add(byte(typePuback), []byte{0, 1}, false)
	f.Add(byte(typePubrec), []byte{0, 1, 0x80, 4, propReason, 0, 1, 'x'}, true)
	f.Fuzz(func(t *testing.T, kind byte, body []byte, v5 bool) {
		kind = typePuback + kind%4
		if checkAck(kind, body, v5) != nil {
			return
		}
		m := packets.Packet{FixedHeader: packets.FixedHeader{Type: kind, Remaining: len(body)}, ProtocolVersion: 4}
		if v5 {
			m.ProtocolVersion = 5
		}
		decode := []func([]byte) error{m.PubackDecode, m.PubrecDecode, m.PubrelDecode, m.PubcompDecode}[kind-typePuback]
		if err := decode(bytes.Clone(body)); err != nil {
			t.Fatalf("mochi refuses what passed the check: %v", err)
		}
	})
}

// FuzzPublish: no bytes upset the parser, and what it takes mochi's decoder
// takes with the same meaning.
func FuzzPublish(f *testing.F) {
	for _, v := range []version{v4, v5} {
		for _, p := range []pub{
			{topic: "a/b", payload: "x", qos: 1, id: 9},
			{topic: "a", props: []byte{propFormat, 1, propExpiry, 0, 0, 0, 1, propTopicAlias, 0, 3}},
			{topic: "a", props: append([]byte{propUser, 0, 1, 'k', 0, 1, 'v'}, propCorrelation, 0, 1, 0xff)},
		} {
			b := p.packet(v)
			f.Add(b[0], b[2:], bool(v))
		}
	}
	f.Fuzz(func(t *testing.T, first byte, body []byte, v5 bool) {
		first = typePublish<<4 | first&0x0f
		if checkHeader(first, v5) != nil {
			return
		}
		p, err := parsePublish(first, body, v5)
		if err != nil || limits.checkTopic(p.topic) != nil {
			return
		}
		props, err := parseProperties(p.props, publishProps)
		if err != nil {
			return
		}
		m := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: p.qos, Remaining: len(body)}, ProtocolVersion: 4}
		if v5 {
			m.ProtocolVersion = 5
		}
		if err := m.PublishDecode(bytes.Clone(body)); err != nil {
			t.Fatalf("mochi refuses what was taken: %v", err)
		}
		if m.TopicName != string(p.topic) || m.PacketID != p.id || !bytes.Equal(m.Payload, p.payload) ||
			m.Properties.ContentType != props.contentType || m.Properties.ResponseTopic != props.response ||
			m.Properties.TopicAlias != props.alias || m.Properties.MessageExpiryInterval != props.expiry ||
			!bytes.Equal(m.Properties.CorrelationData, props.correlation) || len(m.Properties.User) != len(props.user) {
			t.Fatalf("mochi reads\n%+v\nbut it was taken as\n%+v\n%+v", m, p, props)
		}
	})
}

// FuzzSubscribe: mochi's decoder survives whatever passes the check.
func FuzzSubscribe(f *testing.F) {
	f.Add(byte(typeSubscribe), []byte{0, 1, 0, 0, 1, 'a'}, true)
	f.Add(byte(typeSubscribe), []byte{0, 1, 0, 0, 1, 'a', 0}, true)
	f.Add(byte(typeSubscribe), []byte{0, 1, 2, propSubscriptionID, 9, 0, 1, 'a', 0}, true)
	f.Add(byte(typeUnsubscribe), []byte{0, 1, 0, 1, 'a'}, false)
	f.Fuzz(func(t *testing.T, kind byte, body []byte, v5 bool) {
		if kind != typeSubscribe {
			kind = typeUnsubscribe
		}
		if limits.checkSubscribe(kind, body, v5) != nil {
			return
		}
		m := packets.Packet{FixedHeader: packets.FixedHeader{Type: kind, Qos: 1, Remaining: len(body)}, ProtocolVersion: 4}
		if v5 {
			m.ProtocolVersion = 5
		}
		var err error
		if kind == typeSubscribe {
			err = m.SubscribeDecode(body)
		} else {
			err = m.UnsubscribeDecode(body)
		}
		if err != nil {
			t.Fatalf("mochi refuses what passed the check: %v", err)
		}
	})
}

// chunks is a socket from which the bytes come a few at a time.
type chunks struct {
	net.Conn
	data []byte
	size int
}

func (c *chunks) Read(b []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), c.size)], c.data)
	c.data = c.data[n:]
	return n, nil
}
func (c *chunks) Write(b []byte) (int, error)      { return len(b), nil }
func (c *chunks) SetReadDeadline(time.Time) error  { return nil }
func (c *chunks) SetWriteDeadline(time.Time) error { return nil }
func (c *chunks) Close() error                     { return nil }
func (c *chunks) RemoteAddr() net.Addr             { return &net.TCPAddr{} }

// FuzzStream: what is taken, what is subscribed to and how the connection ends
// do not depend on how the bytes arrive.
func FuzzStream(f *testing.F) {
	f.Add(append(pub{topic: "a", payload: "b", qos: 2, id: 1}.packet(v4), 0xC0, 0, 0x62, 2, 0, 1, 0xE0, 0), false, 3)
	f.Add(append(pub{topic: "a", payload: "b", qos: 1, id: 1}.packet(v5), 0x82, 7, 0, 1, 0, 0, 1, 'a', 0), true, 1)
	f.Fuzz(func(t *testing.T, data []byte, v5 bool, size int) {
		run := func(size int) (passed []byte, topics []string) {
			b, err := New(Options{MaxPacket: 4096, Emit: func(b Batch, done func(error)) error {
				for _, e := range b.Events {
					topics = append(topics, e.Topic+"="+string(e.Payload))
				}
				done(nil)
				return nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			c := newConn(b, &chunks{data: data, size: size})
			c.connected, c.serving, c.v5 = true, true, v5
			c.id = "fuzz"
			c.session = newSession(b, "fuzz", "")
			c.session.out.begin(c)
			err = c.next()
			c.Close()
			c.kill.Stop()
			b.wg.Wait()
			return fmt.Append(nil, err, slices.Sorted(maps.Keys(c.session.out.subs))), topics
		}
		p1, t1 := run(max(1, size&0xff))
		p2, t2 := run(1 << 16)
		if !bytes.Equal(p1, p2) || len(t1) != len(t2) {
			t.Fatalf("in pieces of %d: %s %q\nat once: %s %q", size, p1, t1, p2, t2)
		}
	})
}
