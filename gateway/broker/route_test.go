package broker

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"holdfast/gateway/broker/packet"
	"holdfast/gateway/event"
)

// ev is an event from outside MQTT.
func ev(topic, payload string, qos byte) event.Event {
	return event.Event{Topic: topic, Source: "rule", Client: "r", Payload: []byte(payload), QoS: qos}
}

func TestSubscribersGetWhatIsRouted(t *testing.T) {
	bothVersions(t, func(t *testing.T, v version) {
		b := start(t, newFakeLog())
		c := connect(t, b, v, "sub")
		c.subscribe(filter{"a/+", 2}, filter{"b/#", 1}, filter{"c", 0})
		route(b, []event.Event{ev("a/1", "x", 2), ev("a/1/2", "no", 2), ev("b", "y", 2), ev("b/1/2", "z", 0), ev("c", "0", 2), ev("d", "no", 0)})
		c.receives(
			received{Topic: "a/1", Payload: "x", QoS: 2},
			received{Topic: "b", Payload: "y", QoS: 1},
			received{Topic: "b/1/2", Payload: "z"},
			received{Topic: "c", Payload: "0"},
		)
		c.silence()
	})
}

func TestMessagesGoFromClientToClientAfterTheCommit(t *testing.T) {
	l := newFakeLog()
	l.byHand = true
	b := start(t, l)
	from, to := connect(t, b, v4, "from"), connect(t, b, v5, "to")
	to.subscribe(filter{"#", 1})
	from.publish(pub{topic: "t", payload: "p", qos: 1, id: 1})
	events := l.events(t, 1)
	to.silence()
	l.commit(nil)
	route(b, events)
	to.receives(received{Topic: "t", Payload: "p", QoS: 1})
}

func TestSubscriptionsTakeEffectWithTheirAcknowledgement(t *testing.T) {
	b := start(t, newFakeLog())
	c := connect(t, b, v4, "a")
	route(b, []event.Event{ev("x", "before", 0)}) // now it is known that nobody subscribes
	c.subscribe(filter{"x", 0})
	route(b, []event.Event{ev("x", "in", 0)})
	c.receives(received{Topic: "x", Payload: "in"})
	c.send(frame(packet.TypeUnsubscribe<<4|2, packet.AppendString([]byte{0, 9}, "x")))
	c.expect(0xB0, 2, 0, 9)
	route(b, []event.Event{ev("x", "after", 0)})
	c.silence()
}

func TestPropertiesSurvive(t *testing.T) {
	l := newFakeLog()
	b := start(t, l)
	from, to, old := connect(t, b, v5, "from"), connect(t, b, v5, "to"), connect(t, b, v4, "old")
	sub := append(packet.AppendString([]byte{0, 1, 2, packet.PropSubscriptionID, 9}, "t"), 1)
	to.send(frame(packet.TypeSubscribe<<4|2, sub))
	to.expect(0x90, 4, 0, 1, 0, 1)
	old.subscribe(filter{"t", 0})
	props := []byte{packet.PropPayloadFormat, 1, packet.PropMessageExpiry, 0, 0, 0, 60}
	props = packet.AppendString(append(props, packet.PropContentType), "text/plain")
	props = packet.AppendString(append(props, packet.PropResponseTopic), "reply")
	props = append(props, packet.PropCorrelationData, 0, 2, 1, 2)
	props = packet.AppendString(packet.AppendString(append(props, packet.PropUser), "k"), "v")
	from.publish(pub{topic: "t", payload: "p", qos: 1, id: 1, props: props})
	route(b, l.events(t, 1))

	first, body, err := to.read()
	if err != nil {
		t.Fatal(err)
	}
	p, _ := packet.ParsePublish(first, body, true)
	got, err := packet.ParseProperties(p.Properties, packet.PublishProperties|1<<packet.PropSubscriptionID)
	if err != nil {
		t.Fatal(err)
	}
	if got.PayloadFormat != 1 || got.MessageExpiry != 60 || got.ContentType != "text/plain" || got.ResponseTopic != "reply" ||
		string(got.Correlation) != "\x01\x02" || len(got.User) != 1 || !got.Has(packet.PropSubscriptionID) {
		t.Errorf("got properties %+v", got)
	}
	old.receives(received{Topic: "t", Payload: "p"})
}

func TestNoLocal(t *testing.T) {
	l := newFakeLog()
	b := start(t, l)
	c := connect(t, b, v5, "self")
	c.subscribe(filter{"t", 1 | 4})
	c.publish(pub{topic: "t", payload: "mine", qos: 1, id: 1})
	c.expect(puback(1)...)
	route(b, l.events(t, 1))
	other := ev("t", "a rule's of the same name", 0)
	other.Client = "self"
	route(b, []event.Event{other})
	c.receives(received{Topic: "t", Payload: "a rule's of the same name"})
}

func TestRetainedMessages(t *testing.T) {
	keep := func(topic, payload string) event.Event {
		e := ev(topic, payload, 1)
		e.Retain = true
		return e
	}
	bothVersions(t, func(t *testing.T, v version) {
		b := start(t, newFakeLog())
		live := connect(t, b, v, "live")
		live.subscribe(filter{"r/#", 0})
		route(b, []event.Event{keep("r", "0"), keep("r/1", "old"), keep("r/1", "new"), keep("r/2", "gone"), keep("r/2", ""), keep("s", "other")})
		live.receives( // as they come, they do not bear the flag
			received{Topic: "r", Payload: "0"}, received{Topic: "r/1", Payload: "old"}, received{Topic: "r/1", Payload: "new"},
			received{Topic: "r/2", Payload: "gone"}, received{Topic: "r/2"})
		late := connect(t, b, v, "late")
		late.subscribe(filter{"r/#", 1})
		late.receives(received{Topic: "r", Payload: "0", QoS: 1, Retain: true}, received{Topic: "r/1", Payload: "new", QoS: 1, Retain: true})
		late.silence()
	})
	t.Run("retain handling and retain as published", func(t *testing.T) {
		b := start(t, newFakeLog())
		route(b, []event.Event{keep("r", "1")})
		c := connect(t, b, v5, "a")
		c.subscribe(filter{"r", 2 << 4})
		c.silence() // never
		c.subscribe(filter{"r", 1 << 4})
		c.silence() // not again
		c.subscribe(filter{"r", 8})
		c.receives(received{Topic: "r", Payload: "1", Retain: true})
		route(b, []event.Event{keep("r", "2")})
		c.receives(received{Topic: "r", Payload: "2", Retain: true})
	})
	t.Run("expire", func(t *testing.T) {
		b := start(t, newFakeLog())
		e := keep("r", "1")
		e.Properties = &event.Properties{HasExpiry: true, Expiry: 0}
		route(b, []event.Event{e})
		c := connect(t, b, v5, "a")
		c.subscribe(filter{"r", 0})
		c.silence()
	})
}

func TestASessionGetsWhatItMissed(t *testing.T) {
	bothVersions(t, func(t *testing.T, v version) {
		b := start(t, newFakeLog())
		c := connect(t, b, v, "a")
		c.subscribe(filter{"t", 1})
		c.Close()
		eventually(t, "the end of the connection", func() bool { return len(b.all()) == 0 })
		route(b, []event.Event{ev("t", "kept", 1), ev("t", "QoS 0 is not kept", 0)})
		c = dial(t, b, v)
		c.send(connectPacket(connectOptions{v: v, id: "a", keep: true}))
		first, body, err := c.read()
		if err != nil || first != 0x20 || body[0] != 1 {
			t.Fatalf("got %x % x, %v, want CONNACK with session present", first, body, err)
		}
		c.receives(received{Topic: "t", Payload: "kept", QoS: 1})
		route(b, []event.Event{ev("t", "live", 1)})
		c.receives(received{Topic: "t", Payload: "live", QoS: 1})
	})
}

func TestMissedMessagesComeInOrder(t *testing.T) {
	const n = 3 * maxWindow
	b := start(t, newFakeLog())
	c := connect(t, b, v4, "a")
	c.subscribe(filter{"t", 1})
	c.Close()
	eventually(t, "the end of the connection", func() bool { return len(b.all()) == 0 })
	for i := range n {
		route(b, []event.Event{ev("t", fmt.Sprint(i), 1)})
	}
	c = connect(t, b, v4, "a")
	for i := range 10 { // received, but the acknowledgements are lost
		first, body, err := c.read()
		if p, _ := packet.ParsePublish(first, body, false); err != nil || string(p.Payload) != fmt.Sprint(i) {
			t.Fatalf("message %d: %x % x, %v", i, first, body, err)
		}
	}
	c.Close()
	c = connect(t, b, v4, "a")
	for i := range n {
		got := c.receive()
		if got.Payload != fmt.Sprint(i) || i < 10 && !got.Dup || i >= maxWindow && got.Dup {
			t.Fatalf("got %+v, want message %d", got, i)
		}
	}
	c.silence()
}

func TestTheReceiveMaximumOfASubscriberIsHonoured(t *testing.T) {
	b := start(t, newFakeLog())
	join := func() *client {
		c := dial(t, b, v5)
		c.send(connectPacket(connectOptions{v: v5, id: "a", keep: true, props: []byte{0x21, 0, 2}}))
		c.connack(0)
		return c
	}
	c := join()
	c.subscribe(filter{"t", 1})
	route(b, []event.Event{ev("t", "1", 1), ev("t", "2", 1), ev("t", "3", 1), ev("t", "4", 1), ev("t", "QoS 0", 0)})
	two := func(dup bool) (ids []uint16) {
		for _, want := range []string{"1", "2"} {
			first, body, err := c.read()
			p, _ := packet.ParsePublish(first, body, true)
			if err != nil || string(p.Payload) != want || p.Dup != dup {
				t.Fatalf("got %x % x, %v, want message %s", first, body, err, want)
			}
			ids = append(ids, p.ID)
		}
		return ids
	}
	two(false)
	c.receives(received{Topic: "t", Payload: "QoS 0"})
	c.silence()
	c.Close()
	c = join() // the same holds for what is sent again
	ids := two(true)
	c.silence()
	c.send(puback(ids[0]))
	c.receives(received{Topic: "t", Payload: "3", QoS: 1}, received{Topic: "t", Payload: "4", QoS: 1})
	c.send(puback(ids[1]))
	c.silence()
}

func TestAnExactlyOnceDeliveryGoesOnAfterAReconnect(t *testing.T) {
	b := start(t, newFakeLog())
	c := connect(t, b, v5, "a")
	c.subscribe(filter{"t", 2})
	route(b, []event.Event{ev("t", "1", 2)})
	first, body, err := c.read()
	p, _ := packet.ParsePublish(first, body, true)
	if err != nil || p.QoS != 2 {
		t.Fatalf("got %x % x, %v", first, body, err)
	}
	c.send(pubrec(p.ID))
	c.expect(pubrel(p.ID)...)
	c.Close()
	c = connect(t, b, v5, "a")
	c.expect(pubrel(p.ID)...)
	c.send(pubcomp(p.ID))
	c.silence()
}

func TestASessionThatIsAwayKeepsTheNewestWithinItsLimit(t *testing.T) {
	b := start(t, newFakeLog(), func(o *Options) { o.Sessions.Max = 160_000 })
	c := connect(t, b, v4, "a")
	c.subscribe(filter{"t", 1})
	c.Close()
	eventually(t, "the end of the connection", func() bool { return len(b.all()) == 0 })
	const n = 40
	for i := range n {
		route(b, []event.Event{ev("t", fmt.Sprintf("%d %s", i, strings.Repeat(" ", 10_000)), 1)})
	}
	dropped := b.Stats().Dropped
	if waiting := b.Stats().Waiting; dropped+waiting != n || waiting < 14 || waiting > 16 {
		t.Errorf("%d messages were dropped and %d wait, want 15 or so of %d", dropped, waiting, n)
	}
	c = connect(t, b, v4, "a")
	for i := int(dropped); i < n; i++ {
		if got := c.receive(); !strings.HasPrefix(got.Payload, fmt.Sprint(i, " ")) {
			t.Fatalf("got %.9q, want message %d", got.Payload, i)
		}
	}
	c.silence()
	if st := b.Stats(); st.Dropped != dropped || st.Waiting != 0 {
		t.Errorf("%d dropped, %d wait, want %d and none", st.Dropped, st.Waiting, dropped)
	}
}

func TestTakeoverLosesNothing(t *testing.T) {
	const n = 3000
	b := start(t, newFakeLog())
	c := connect(t, b, v4, "a")
	c.subscribe(filter{"t", 1})
	turns := make(chan struct{}, n)
	for range 3 { // the subscriber may be so many hundreds behind
		turns <- struct{}{}
	}
	go func() {
		for i := range n {
			if i%100 == 0 {
				<-turns
			}
			route(b, []event.Event{ev("t", fmt.Sprint(i), 1)})
		}
	}()
	seen := map[string]bool{}
	for reconnects := 0; len(seen) < n; {
		first, body, err := c.read()
		if err != nil {
			t.Fatalf("after %d messages: %v", len(seen), err)
		}
		if first>>4 != packet.TypePublish {
			continue
		}
		p, err := packet.ParsePublish(first, body, false)
		if err != nil {
			t.Fatal(err)
		}
		seen[string(p.Payload)] = true
		c.send(puback(p.ID))
		if len(seen)/100 > reconnects {
			reconnects++
			turns <- struct{}{}
			c = connect(t, b, v4, "a") // the old connection is still open
		}
	}
}

func TestAStuckSubscriberHoldsUpNobody(t *testing.T) {
	for _, qos := range []byte{0, 1} {
		t.Run(fmt.Sprintf("QoS %d", qos), virtually(func(t *testing.T) {
			b := start(t, newFakeLog(), virtual, func(o *Options) { o.MaxQueued = 1 << 20 })
			stuck, lively := connect(t, b, v4, "stuck"), connect(t, b, v4, "lively")
			stuck.subscribe(filter{"t", qos})
			lively.subscribe(filter{"t", 0})
			go io.Copy(io.Discard, lively)
			big := ev("t", strings.Repeat("x", 100_000), qos)
			began := time.Now()
			for range 300 { // 30 MB
				route(b, []event.Event{big})
			}
			// It can come back at once.
			again := dial(t, b, v4)
			again.send(connectPacket(connectOptions{id: "stuck"}))
			again.connack(0)
			if waited := time.Since(began); waited > 0 {
				t.Errorf("somebody waited %v", waited)
			}
		}))
	}
}

func TestASharedSubscriptionServesOneConnectedMember(t *testing.T) {
	b := start(t, newFakeLog())
	one, two := connect(t, b, v5, "one"), connect(t, b, v5, "two")
	for _, c := range []*client{one, two} {
		c.subscribe(filter{"$share/g/t", 1})
	}
	route(b, []event.Event{ev("t", "1", 0), ev("t", "2", 0)})
	got := []string{one.receive().Payload, two.receive().Payload} // by turns
	if got[0] == got[1] {
		t.Errorf("both got %s", got[0])
	}
	two.Close()
	eventually(t, "the end of the connection", func() bool { return len(b.all()) == 1 })
	route(b, []event.Event{ev("t", "3", 1), ev("t", "4", 1)})
	one.receives(received{Topic: "t", Payload: "3", QoS: 1}, received{Topic: "t", Payload: "4", QoS: 1})
}

func TestPacketsLargerThanTheSubscriberTakesAreNotSent(t *testing.T) {
	b := start(t, newFakeLog())
	c := dial(t, b, v5)
	c.send(connectPacket(connectOptions{v: v5, id: "a", props: []byte{0x27, 0, 0, 0, 100}}))
	c.connack(0)
	c.subscribe(filter{"t", 1})
	route(b, []event.Event{ev("t", strings.Repeat("x", 100), 1), ev("t", "small", 1)})
	c.receives(received{Topic: "t", Payload: "small", QoS: 1})
}

func TestTheServerReportsOnItself(t *testing.T) {
	b := start(t, newFakeLog())
	c := connect(t, b, v5, "a")
	c.subscribe(filter{"$SYS/broker/version", 0})
	if got := c.receive(); got.Payload == "" || !got.Retain {
		t.Errorf("got %+v", got)
	}
}

func TestCloseSendsAcknowledgementsAndSaysGoodbye(t *testing.T) {
	l := newFakeLog()
	l.byHand = true
	b := start(t, l)
	c := connect(t, b, v5, "a")
	c.publish(numbered(10)...)
	l.events(t, 10)
	b.StopIntake()
	c.publish(pub{topic: "late", qos: 1, id: 99})
	if _, err := net.Dial("tcp", b.Addrs()[0].String()); err == nil {
		t.Error("a client could connect after StopIntake")
	}
	l.commit(nil)
	b.Close()
	for i := range 10 {
		c.expect(puback(uint16(i + 1))...)
	}
	c.closed(packet.ServerShuttingDown)
	if n := len(l.events(t, 10)); n != 10 {
		t.Errorf("%d events, want 10", n)
	}
}
