package broker

import (
	"bufio"
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/gateway/broker/packet"
	"holdfast/gateway/event"
)

// fault is a packet that a client must not send, and what becomes of it.
type fault struct {
	name   string
	v      version
	packet []byte
	code   byte
}

func sub(v version, b ...byte) []byte {
	head := []byte{0, 1}
	if v == v5 {
		head = append(head, 0)
	}
	return frame(packet.TypeSubscribe<<4|2, append(head, b...))
}

func withOptions(filter string, o byte) []byte { return append(packet.AppendString(nil, filter), o) }

func TestViolationsEndTheConnectionWithTheirReason(t *testing.T) {
	deep := strings.Repeat("/", maxLevels)
	b := start(t, newFakeLog())
	bystander := connect(t, b, v4, "bystander")
	for _, f := range []fault{
		{"the SUBSCRIBE that kills mochi", v5, []byte{0x82, 6, 0, 1, 0, 0, 1, 'a'}, packet.MalformedPacket},
		{"SUBSCRIBE without options", v4, []byte{0x82, 5, 0, 1, 0, 1, 'a'}, 0},
		{"SUBSCRIBE without filters", v5, sub(v5), packet.ProtocolError},
		{"SUBSCRIBE with packet identifier 0", v5, []byte{0x82, 7, 0, 0, 0, 0, 1, 'a', 0}, packet.ProtocolError},
		{"SUBSCRIBE cut in the identifier", v5, []byte{0x82, 1, 0}, packet.MalformedPacket},
		{"SUBSCRIBE with QoS 3", v5, sub(v5, withOptions("a", 3)...), packet.MalformedPacket},
		{"SUBSCRIBE with reserved options", v5, sub(v5, withOptions("a", 0x40)...), packet.MalformedPacket},
		{"SUBSCRIBE with reserved options", v4, sub(v4, withOptions("a", 4)...), 0},
		{"SUBSCRIBE with retain handling 3", v5, sub(v5, withOptions("a", 0x30)...), packet.ProtocolError},
		{"SUBSCRIBE with flags", v5, append([]byte{0x80}, sub(v5, withOptions("a", 0)...)[1:]...), packet.MalformedPacket},
		{"SUBSCRIBE with subscription identifier 0", v5, frame(0x82, append([]byte{0, 1, 2, packet.PropSubscriptionID, 0}, withOptions("a", 0)...)), packet.ProtocolError},
		{"SUBSCRIBE with properties cut short", v5, []byte{0x82, 3, 0, 1, 9}, packet.MalformedPacket},
		{"filter a#", v5, sub(v5, withOptions("a#", 0)...), packet.TopicFilterInvalid},
		{"filter a+/b", v5, sub(v5, withOptions("a+/b", 0)...), packet.TopicFilterInvalid},
		{"filter #/a", v4, sub(v4, withOptions("#/a", 0)...), 0},
		{"empty filter", v5, sub(v5, withOptions("", 0)...), packet.TopicFilterInvalid},
		{"deep filter", v5, sub(v5, withOptions(deep, 0)...), packet.TopicFilterInvalid},
		{"filter that is not UTF-8", v5, sub(v5, withOptions("a\xff", 0)...), packet.MalformedPacket},
		{"shared filter without a name", v5, sub(v5, withOptions("$share//a", 0)...), packet.TopicFilterInvalid},
		{"shared filter without a filter", v5, sub(v5, withOptions("$share/g", 0)...), packet.TopicFilterInvalid},
		{"shared filter with a wildcard in its name", v5, sub(v5, withOptions("$share/g+/a", 0)...), packet.TopicFilterInvalid},
		{"shared filter with no local", v5, sub(v5, withOptions("$share/g/a", 4)...), packet.ProtocolError},
		{"UNSUBSCRIBE without filters", v5, []byte{0xA2, 3, 0, 1, 0}, packet.ProtocolError},
		{"UNSUBSCRIBE deep", v4, frame(0xA2, packet.AppendString([]byte{0, 1}, deep)), 0},
		{"UNSUBSCRIBE cut short", v5, []byte{0xA2, 5, 0, 1, 0, 0, 9}, packet.MalformedPacket},

		{"PUBLISH with QoS 3", v5, []byte{0x36, 6, 0, 1, 'a', 0, 1, 0}, packet.MalformedPacket},
		{"PUBLISH with DUP at QoS 0", v4, []byte{0x38, 3, 0, 1, 'a'}, 0},
		{"PUBLISH with packet identifier 0", v5, pub{topic: "a", qos: 1}.packet(v5), packet.ProtocolError},
		{"PUBLISH to a wildcard", v5, pub{topic: "a/+"}.packet(v5), packet.TopicNameInvalid},
		{"PUBLISH without a topic", v5, pub{}.packet(v5), packet.ProtocolError},
		{"PUBLISH without a topic", v4, pub{}.packet(v4), 0},
		{"PUBLISH to a deep topic", v5, pub{topic: deep}.packet(v5), packet.TopicNameInvalid},
		{"PUBLISH with a null in the topic", v5, pub{topic: "a\x00b"}.packet(v5), packet.MalformedPacket},
		{"PUBLISH with a surrogate in the topic", v5, pub{topic: "a\xed\xa0\x80"}.packet(v5), packet.MalformedPacket},
		{"PUBLISH cut in the topic", v5, []byte{0x30, 3, 0, 5, 'a'}, packet.MalformedPacket},
		{"PUBLISH cut in the identifier", v5, []byte{0x32, 4, 0, 1, 'a', 0}, packet.MalformedPacket},
		{"PUBLISH without property length", v5, []byte{0x30, 3, 0, 1, 'a'}, packet.MalformedPacket},
		{"PUBLISH with a subscription identifier", v5, pub{topic: "a", props: []byte{packet.PropSubscriptionID, 1}}.packet(v5), packet.ProtocolError},
		{"PUBLISH with an unknown property", v5, pub{topic: "a", props: []byte{0x7f, 1}}.packet(v5), packet.MalformedPacket},
		{"PUBLISH with a property of CONNECT", v5, pub{topic: "a", props: []byte{packet.PropSessionExpiry, 0, 0, 0, 1}}.packet(v5), packet.MalformedPacket},
		{"PUBLISH with a property twice", v5, pub{topic: "a", props: []byte{packet.PropPayloadFormat, 1, packet.PropPayloadFormat, 1}}.packet(v5), packet.ProtocolError},
		{"PUBLISH with a property cut short", v5, pub{topic: "a", props: []byte{packet.PropMessageExpiry, 0}}.packet(v5), packet.MalformedPacket},
		{"PUBLISH with payload format 2", v5, pub{topic: "a", props: []byte{packet.PropPayloadFormat, 2}}.packet(v5), packet.ProtocolError},
		{"PUBLISH with a wildcard to respond to", v5, pub{topic: "a", props: []byte{packet.PropResponseTopic, 0, 1, '#'}}.packet(v5), packet.ProtocolError},

		{"second CONNECT", v5, connectPacket(connectOptions{v: v5, id: "x"}), packet.ProtocolError},
		{"second CONNECT", v4, connectPacket(connectOptions{id: "x"}), 0},
		{"type 0", v5, []byte{0, 0}, packet.ProtocolError},
		{"CONNACK", v5, []byte{0x20, 2, 0, 0}, packet.ProtocolError},
		{"SUBACK", v4, []byte{0x90, 3, 0, 1, 0}, 0},
		{"PINGRESP", v5, []byte{0xD0, 0}, packet.ProtocolError},
		{"AUTH that was not agreed on", v5, []byte{0xF0, 0}, packet.ProtocolError},
		{"PINGREQ with a body", v5, []byte{0xC0, 1, 0}, packet.MalformedPacket},
		{"PINGREQ with flags", v5, []byte{0xC1, 0}, packet.MalformedPacket},
		{"PUBACK without an identifier", v5, []byte{0x40, 0}, packet.MalformedPacket},
		{"PUBACK with more than an identifier", v4, []byte{0x40, 3, 0, 1, 0}, 0},
		{"PUBREL with flags of its own", v5, []byte{0x60, 2, 0, 1}, packet.MalformedPacket},
		{"PUBREL for 0", v5, []byte{0x62, 2, 0, 0}, packet.ProtocolError},
		{"remaining length of five bytes", v5, []byte{0x30, 0xff, 0xff, 0xff, 0xff, 1}, packet.MalformedPacket},
		{"packet larger than allowed", v5, []byte{0x30, 0xff, 0xff, 0xff, 0x7f}, packet.PacketTooLarge},
		{"packet larger than allowed", v4, []byte{0x30, 0xff, 0xff, 0xff, 0x7f}, 0},
	} {
		t.Run(fmt.Sprintf("%v/%s", f.v, f.name), func(t *testing.T) {
			c := connect(t, b, f.v, "hostile")
			c.send(f.packet)
			c.closed(f.code)
			bystander.silence()
		})
	}
	got := b.Stats().Violations
	if got["malformed_packet"] < 20 || got["topic_filter_invalid"] < 5 || got["packet_too_large"] != 2 {
		t.Errorf("counted %v", got)
	}
}

func TestOnlyAConnectMayComeFirst(t *testing.T) {
	b := start(t, newFakeLog())
	for _, p := range [][]byte{
		{packet.TypePingreq << 4, 0},
		pub{topic: "a"}.packet(v4),
		{0x10, 0xff, 0xff, 0xff, 0x7f},
		{0x11, 0},
		[]byte("GET / HTTP/1.1\r\n\r\n"),
		{0, 0, 0, 0},
	} {
		c := dial(t, b, v5)
		c.send(p)
		c.closed(0)
	}
}

func TestConnectionsThatAreRefusedAreToldWhy(t *testing.T) {
	b := start(t, newFakeLog(), func(o *Options) {
		o.Users = users(t, "u", "p")
	})
	w := event.Event{Topic: "a/#", Payload: []byte("x")}
	sysWill := event.Event{Topic: "$SYS/x", Payload: []byte("x")}
	level := connectPacket(connectOptions{id: "a", user: "u", password: "p"})
	level[8] = 9
	for _, f := range []fault{
		{"right password", v4, connectPacket(connectOptions{id: "a", user: "u", password: "p"}), 0},
		{"right password", v5, connectPacket(connectOptions{v: v5, id: "a", user: "u", password: "p"}), 0},
		{"wrong password", v4, connectPacket(connectOptions{id: "a", user: "u", password: "q"}), 5},
		{"wrong password", v5, connectPacket(connectOptions{v: v5, id: "a", user: "u", password: "q"}), 0x86},
		{"no user name", v5, connectPacket(connectOptions{v: v5, id: "a"}), 0x86},
		{"unknown level", v4, level, 1},
		{"persistent session without an identifier", v4, connectPacket(connectOptions{user: "u", password: "p", keep: true}), 2},
		{"will with a wildcard", v5, connectPacket(connectOptions{v: v5, id: "a", will: &w, user: "u", password: "p"}), packet.TopicNameInvalid},
		{"will to $SYS", v5, connectPacket(connectOptions{v: v5, id: "a", will: &sysWill, user: "u", password: "p"}), packet.TopicNameInvalid},
		{"authentication method", v5, connectPacket(connectOptions{v: v5, id: "a", props: []byte{0x15, 0, 1, 'x'}}), packet.BadAuthenticationMethod},
	} {
		t.Run(fmt.Sprintf("%v/%s", f.v, f.name), func(t *testing.T) {
			c := dial(t, b, f.v)
			c.send(f.packet)
			c.connack(f.code)
			if f.code != 0 {
				c.closed(0)
			}
		})
	}
}

func TestSubscriptionsAreBounded(t *testing.T) {
	bothVersions(t, func(t *testing.T, v version) {
		b := start(t, newFakeLog(), func(o *Options) { o.Limits.Subscriptions = 3 })
		c := connect(t, b, v, "many")
		c.subscribe(filter{"a", 1}, filter{"b", 1})
		refused := byte(packet.QuotaExceeded)
		if v == v4 {
			refused = packet.UnspecifiedError
		}
		ask := func(want ...byte) {
			t.Helper()
			c.send(sub(v, slices.Concat(withOptions("a", 0), withOptions("c", 0), withOptions("d", 0))...))
			_, body, err := c.read()
			if err != nil || !bytes.HasSuffix(body, want) {
				t.Fatalf("SUBACK % x, %v, want codes % x", body, err, want)
			}
		}
		ask(0, 0, refused) // a was there before
		ask(0, 0, refused)
		c.send(sub(v, slices.Concat(withOptions("a", 0), withOptions("b", 0), withOptions("c", 0), withOptions("d", 0))...))
		c.closed(map[version]byte{v5: packet.QuotaExceeded}[v])
	})
}

func TestTopicsAreBoundedInLength(t *testing.T) {
	b := start(t, newFakeLog(), func(o *Options) { o.Limits.TopicBytes = 20 })
	long := strings.Repeat("x", 21)
	for _, p := range [][]byte{pub{topic: long}.packet(v5), pub{topic: long, qos: 1, id: 1}.packet(v5)} {
		c := connect(t, b, v5, "long")
		c.publish(pub{topic: long[1:]})
		c.send(p)
		c.closed(packet.TopicNameInvalid)
	}
	c := connect(t, b, v5, "long")
	c.send(sub(v5, withOptions(long, 0)...))
	c.closed(packet.TopicFilterInvalid)
	c = dial(t, b, v5)
	c.send(connectPacket(connectOptions{v: v5, id: long}))
	c.connack(packet.ClientIDNotValid)
}

func TestAnonymousClients(t *testing.T) {
	nobody := users(t)
	for _, c := range []struct {
		name string
		set  func(*Options)
		code byte
	}{
		{"may use a loopback address without users", func(*Options) {}, 0},
		{"may not once there are users", func(o *Options) { o.Users = nobody }, 5},
		{"may if that is said", func(o *Options) { o.Users, o.AllowAnonymous = nobody, true }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := dial(t, start(t, newFakeLog(), c.set), v4)
			cl.send(connectPacket(connectOptions{id: "a"}))
			cl.connack(c.code)
		})
	}
}

func TestTheServerAnnouncesItsLimits(t *testing.T) {
	b := start(t, newFakeLog(), func(o *Options) { o.MaxPacket, o.ReceiveMaximum = 1<<16, 99 })
	c := dial(t, b, v5)
	c.send(connectPacket(connectOptions{v: v5, id: "a"}))
	_, body, err := c.read()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]byte{{0x21, 0, 99}, {0x22, 0, maxAlias}, {0x27, 0, 1, 0, 0}} {
		if !bytes.Contains(body, want) {
			t.Errorf("CONNACK % x lacks % x", body, want)
		}
	}
}

func TestAClientThatSaysNothingIsDisconnected(t *testing.T) {
	t.Run("without CONNECT", virtually(func(t *testing.T) {
		const timeout = 300 * time.Millisecond
		b := start(t, newFakeLog(), virtual, func(o *Options) { o.Limits.ConnectTimeout = timeout })
		began := time.Now()
		c := dial(t, b, v4)
		c.send(connectPacket(connectOptions{id: "a"})[:5])
		c.closed(0)
		if took := time.Since(began); took != timeout {
			t.Errorf("disconnected after %v, want %v", took, timeout)
		}
		if n := b.Stats().Violations["connect_timeout"]; n != 1 {
			t.Errorf("counted %d, want 1", n)
		}
	}))
	t.Run("without a packet for one and a half keep alives", virtually(func(t *testing.T) {
		b := start(t, newFakeLog(), virtual)
		c := dial(t, b, v5)
		c.send(connectPacket(connectOptions{v: v5, id: "a", keepAlive: 10}))
		c.connack(0)
		// Messages keep it alive though mochi sees none of them.
		for range 25 {
			time.Sleep(time.Second)
			c.publish(pub{topic: "x"})
		}
		c.silence()
		began := time.Now()
		c.closed(packet.KeepAliveTimeout)
		if took := time.Since(began); took < 15*time.Second || took > 16*time.Second {
			t.Errorf("disconnected after %v, want 15 s", took)
		}
	}))
	t.Run("but not with a keep alive of 43,691 s", virtually(func(t *testing.T) {
		b := start(t, newFakeLog(), virtual)
		c := dial(t, b, v4)
		c.send(connectPacket(connectOptions{id: "a", keepAlive: 43_691}))
		c.connack(0)
		for range 3 {
			time.Sleep(43_691 * time.Second)
			c.silence()
		}
	}))
}

func TestMemoryIsNotReservedForWhatAClientClaims(t *testing.T) {
	b := start(t, newFakeLog(), func(o *Options) { o.MaxPacket = 256 << 20 })
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 20 {
		c := dial(t, b, v4)
		c.send([]byte{0x10, 0xf0, 0xff, 0xff, 0x7f, 0, 4, 'M'})
	}
	eventually(t, "all claims to be read", func() bool { return b.count.bytesIn.Load() == 20*8 })
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
		t.Errorf("20 claims of 256 MB reserved %d bytes", grown)
	}
}

func TestEveryGoroutineEndsWithClose(t *testing.T) {
	before := runtime.NumGoroutine()
	l := newFakeLog()
	b := start(t, l)
	var clients []*client
	for i := range 20 {
		c := connect(t, b, version(i%2 == 0), fmt.Sprint("c", i))
		c.subscribe(filter{"#", 1})
		c.publish(numbered(10)...)
		clients = append(clients, c)
	}
	route(b, l.events(t, 200))
	began := time.Now()
	b.Close()
	if took := time.Since(began); took > patience {
		t.Errorf("Close took %v", took)
	}
	for _, c := range clients {
		c.Close()
	}
	eventually(t, "the end of all goroutines", func() bool { return runtime.NumGoroutine() <= before })
	b.Close() // once more does no harm
}

// Another connection may take over before the first one is served.
func TestWhoHasAConnackIsToldWhyTheConnectionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, accepted := range []bool{true, false} {
			ours, theirs := memoryConns()
			c := newConn(start(t, newFakeLog(), virtual), theirs)
			c.v5 = true
			connack := []byte{packet.TypeConnack << 4, 3, 0, packet.QuotaExceeded, 0}
			reason := byte(0) // nothing may follow a refusal
			if accepted {
				connack[3], reason = packet.Success, packet.SessionTakenOver
			}
			_, _ = c.Write(connack)
			c.disconnect(packet.SessionTakenOver)
			client := &client{Conn: ours, t: t, r: bufio.NewReader(ours), v5: true}
			client.expect(connack...)
			client.closed(reason)
		}
	})
}

func ended(c *conn) bool {
	select {
	case <-c.over:
		return true
	default:
		return false
	}
}

func TestTheLastOfAStormOfTakeoversIsServed(t *testing.T) {
	b := start(t, newFakeLog())
	for range 5 {
		var storm sync.WaitGroup
		for i := range 60 {
			c := dial(t, b, version(i%2 == 0))
			storm.Go(func() {
				_, _ = c.Write(connectPacket(connectOptions{v: version(c.v5), id: "same"}))
				// CONNACK, or the end if another was faster
				if first, body, err := c.read(); err == nil && first != packet.TypeConnack<<4 {
					t.Errorf("the first packet is % x", frame(first, body))
				}
			})
		}
		storm.Wait()
		// Each ends the one before it, and nobody the last one.
		eventually(t, "one to be left", func() bool { return len(b.all()) <= 1 })
		if left := b.all(); len(left) == 0 || ended(left[0]) {
			t.Error("none is left")
		}
		last := connect(t, b, v4, "same")
		last.subscribe(filter{"t", 0})
		eventually(t, "the end of the others", func() bool { return len(b.all()) == 1 })
		route(b, []event.Event{ev("t", "x", 0)})
		last.receives(received{Topic: "t", Payload: "x"})
	}
}
