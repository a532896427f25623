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

	"holdfast/gateway/broker/packet"
	"holdfast/gateway/event"
)

var limits = Limits{}.withDefaults().packets()

// FuzzConnect: no bytes upset the parser, and the plain CONNECT that is made of
// what it takes mochi's decoder takes with the same meaning.
func FuzzConnect(f *testing.F) {
	for _, v := range []version{v4, v5} {
		for _, o := range []connectOptions{
			{id: "a"}, {id: "", keep: true}, {id: "b", user: "u", password: "p", keepAlive: 9},
			{id: "c", will: &event.Event{Topic: "t", Payload: []byte("x"), QoS: 2, Retain: true}},
			{id: "d", props: []byte{packet.PropReceiveMaximum, 0, 9, packet.PropUser, 0, 1, 'k', 0, 1, 'v'}},
		} {
			o.v = v
			b := connectPacket(o)
			f.Add(b[2:])
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		h, err := limits.ParseConnect(body)
		if err != nil {
			return
		}
		plain := plain(&h)
		head, ok, err := packet.ReadHeader(plain)
		if !ok || err != nil || head.CheckLength() != nil {
			t.Fatalf("% x is no packet: %v", plain, err)
		}
		m := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect, Remaining: head.Remaining}}
		if err := m.ConnectDecode(bytes.Clone(plain[head.Size:])); err != nil {
			t.Fatalf("mochi refuses what was taken: %v", err)
		}
		if code := m.ConnectValidate(); code != packets.CodeSuccess {
			t.Fatalf("mochi refuses what was taken: %v", code)
		}
		if (m.ProtocolVersion == 5) != h.V5 || m.Connect.Clean != h.Clean || m.Connect.Keepalive != h.KeepAlive || m.Connect.ClientIdentifier != h.ClientID {
			t.Fatalf("mochi reads\n%+v\nbut it was taken as\n%+v", m.Connect, h)
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
