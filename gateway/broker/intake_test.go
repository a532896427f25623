package broker

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/broker/packet"
	"holdfast/gateway/event"
)

func TestNothingIsAcknowledgedBeforeItIsOnDisk(t *testing.T) {
	bothVersions(t, func(t *testing.T, v version) {
		l := newFakeLog()
		l.byHand = true
		c := connect(t, start(t, l), v, "a")
		c.publish(pub{topic: "a/b", payload: "1", qos: 1, id: 7}, pub{topic: "a/c", payload: "2", qos: 2, id: 8})
		l.events(t, 2)
		c.silence()
		l.commit(nil)
		c.expect(puback(7)...)
		c.expect(pubrec(8)...)
		c.silence()
	})
}

func TestAnEventIsWhatWasPublished(t *testing.T) {
	l := newFakeLog()
	b := start(t, l)
	connect(t, b, v4, "four").publish(pub{topic: "a", payload: "p", qos: 1, id: 1, retain: true})
	l.events(t, 1)
	props := []byte{packet.PropPayloadFormat, 1, packet.PropMessageExpiry, 0, 0, 0, 60}
	props = packet.AppendString(append(props, packet.PropContentType), "application/json")
	props = packet.AppendString(append(props, packet.PropResponseTopic), "reply/here")
	props = append(props, packet.PropCorrelationData, 0, 2, 0xff, 0x00)
	props = packet.AppendString(packet.AppendString(append(props, packet.PropUser), "k"), "v1")
	props = packet.AppendString(packet.AppendString(append(props, packet.PropUser), "k"), "v2")
	props = packet.AppendString(packet.AppendString(append(props, packet.PropUser), "traceparent"), "00-1-2-03")
	connect(t, b, v5, "five").publish(pub{topic: "b/é", payload: "", props: props})

	want := []event.Event{
		{Topic: "a", Source: "mqtt", Client: "four", Payload: []byte("p"), QoS: 1, Retain: true},
		{
			Topic: "b/é", Source: "mqtt", Client: "five", Payload: []byte{},
			ContentType: "application/json", Trace: "00-1-2-03",
			Properties: &event.Properties{
				Expiry: 60, HasExpiry: true, UTF8: true, ResponseTopic: "reply/here",
				CorrelationData: []byte{0xff, 0},
				User:            []event.Property{{Name: "k", Value: "v1"}, {Name: "k", Value: "v2"}, {Name: "traceparent", Value: "00-1-2-03"}},
			},
		},
	}
	got := l.events(t, 2)
	for i := range got {
		if age := time.Since(got[i].Received.Std()); age < 0 || age > patience {
			t.Errorf("received %v ago", age)
		}
		got[i].Received = 0
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events, -want +got:\n%s", diff)
	}
}

func TestAcknowledgementsComeInOrderAndOneWritePerCommit(t *testing.T) {
	l := newFakeLog()
	l.byHand = true
	c := connect(t, start(t, l), v4, "a")
	c.publish(numbered(500)...)
	for i, topic := range l.topics(t, 500) {
		if topic != fmt.Sprintf("t/%d", i) {
			t.Fatalf("event %d has topic %s", i, topic)
		}
	}
	c.silence()
	l.commit(nil)
	for i := range 500 {
		c.expect(puback(uint16(i + 1))...)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.batches) > 20 {
		t.Errorf("500 messages sent at once made %d batches", len(l.batches))
	}
}

func TestAMessageAsLargeAsAllowedArrivesWhole(t *testing.T) {
	bothVersions(t, func(t *testing.T, v version) {
		l := newFakeLog()
		b := start(t, l, func(o *Options) { o.MaxPacket = 300_000 })
		c := connect(t, b, v, "a")
		size := 300_000 - 1 - 3 - 3 - 2
		if v == v5 {
			size--
		}
		payload := make([]byte, size)
		for i := range payload {
			payload[i] = byte(i * 7)
		}
		c.publish(pub{topic: "t", payload: string(payload), qos: 1, id: 1}, pub{topic: "t", payload: "small", qos: 1, id: 2})
		c.expect(puback(1)...)
		c.expect(puback(2)...)
		if got := l.events(t, 2); string(got[0].Payload) != string(payload) || string(got[1].Payload) != "small" {
			t.Error("payloads were changed on the way")
		}
		c.publish(pub{topic: "t", payload: string(payload) + "x", qos: 1, id: 3})
		c.closed(packet.PacketTooLarge)
	})
}

func TestPacketsMayArriveByteByByte(t *testing.T) {
	l := newFakeLog()
	c := dial(t, start(t, l), v5)
	all := connectPacket(connectOptions{v: v5, id: "slow"})
	for _, p := range numbered(3) {
		all = append(all, p.packet(v5)...)
	}
	for _, b := range all {
		c.send([]byte{b})
	}
	c.connack(0)
	for i := range 3 {
		c.expect(puback(uint16(i + 1))...)
	}
}

func TestAPublishBehindConnectWaitsForTheSession(t *testing.T) {
	l := newFakeLog()
	c := dial(t, start(t, l), v4)
	c.send(append(connectPacket(connectOptions{id: "a"}), pub{topic: "x", qos: 1, id: 1}.packet(v4)...))
	c.connack(0)
	c.expect(puback(1)...)
}

func TestARefusedMessageIsNeverAcknowledged(t *testing.T) {
	refused := fmt.Errorf("stream is full: %w", ErrRefused)
	broken := errors.New("disk on fire")
	for _, at := range []string{"emit", "commit"} {
		t.Run(at, func(t *testing.T) {
			fail := func(v version, err error) *client {
				l := newFakeLog()
				b := start(t, l)
				c := connect(t, b, v, "a")
				l.mu.Lock()
				if at == "emit" {
					l.full = err
				} else {
					l.byHand = true
				}
				l.mu.Unlock()
				c.publish(pub{topic: "x"}, pub{topic: "x", qos: 1, id: 1}, pub{topic: "x", qos: 2, id: 2})
				if at == "commit" {
					l.events(t, 3)
					l.commit(err)
				}
				return c
			}
			t.Run("mqtt5 is told", func(t *testing.T) {
				c := fail(v5, refused)
				c.expect(packet.TypePuback<<4, 3, 0, 1, packet.QuotaExceeded)
				c.expect(packet.TypePubrec<<4, 3, 0, 2, packet.QuotaExceeded)
				c.silence()
			})
			t.Run("mqtt311 is disconnected", func(t *testing.T) { fail(v4, refused).closed(0) })
			t.Run("other errors disconnect", func(t *testing.T) { fail(v5, broken).closed(packet.UnspecifiedError) })
		})
	}
}

func TestARefusedMessageCanBeSentAgain(t *testing.T) {
	l := newFakeLog()
	l.byHand = true
	c := connect(t, start(t, l), v5, "a")
	c.publish(pub{topic: "x", qos: 2, id: 2})
	l.events(t, 1)
	l.commit(ErrRefused)
	c.expect(packet.TypePubrec<<4, 3, 0, 2, packet.QuotaExceeded)
	c.publish(pub{topic: "x", qos: 2, id: 2})
	l.events(t, 2)
	l.commit(nil)
	c.expect(pubrec(2)...)
}

func TestQoS0LeavesNoTraceOnTheWire(t *testing.T) {
	bothVersions(t, func(t *testing.T, v version) {
		l := newFakeLog()
		c := connect(t, start(t, l), v, "a")
		c.publish(pub{topic: "x"}, pub{topic: "y"})
		c.silence()
		if diff := cmp.Diff([]string{"x", "y"}, l.topics(t, 2)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestQoS0ThatTheLogRefusesDisconnectsNobody(t *testing.T) {
	l := newFakeLog()
	l.full = ErrRefused
	b := start(t, l)
	c := connect(t, b, v4, "a")
	c.publish(pub{topic: "x"})
	eventually(t, "the refusal", func() bool { return b.Stats().Refused == 1 })
	c.silence()
}

func TestAnExactlyOnceMessageMakesOneEvent(t *testing.T) {
	bothVersions(t, func(t *testing.T, v version) {
		l := newFakeLog()
		b := start(t, l)
		c := connect(t, b, v, "a")
		c.publish(pub{topic: "x", qos: 2, id: 5})
		c.expect(pubrec(5)...)
		c.publish(pub{topic: "x", qos: 2, id: 5, dup: true}, pub{topic: "x", qos: 2, id: 5})
		c.expect(pubrec(5)...)
		c.expect(pubrec(5)...)
		c.Close()

		c = connect(t, b, v, "a") // it comes back and has not seen the PUBREC
		c.publish(pub{topic: "x", qos: 2, id: 5, dup: true})
		c.expect(pubrec(5)...)
		c.send(pubrel(5))
		c.expect(pubcomp(5)...)
		c.publish(pub{topic: "next", qos: 2, id: 5})
		c.expect(pubrec(5)...)
		if diff := cmp.Diff([]string{"x", "next"}, l.topics(t, 2)); diff != "" {
			t.Error(diff)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if diff := cmp.Diff([][]uint16{{5}, {5}}, [][]uint16{l.batches[0].Hold, l.batches[1].Hold}); diff != "" {
			t.Errorf("held with their events:\n%s", diff)
		}
		if diff := cmp.Diff([]uint16{5}, l.released); diff != "" {
			t.Errorf("released:\n%s", diff)
		}
	})
}

func TestADuplicateIsAnsweredOnlyAfterTheFirstIsOnDisk(t *testing.T) {
	l := newFakeLog()
	l.byHand = true
	b := start(t, l)
	c := connect(t, b, v4, "a")
	c.publish(pub{topic: "x", qos: 2, id: 5})
	l.events(t, 1)
	c.publish(pub{topic: "x", qos: 2, id: 5, dup: true})
	c.silence()

	again := connect(t, b, v4, "a")
	again.publish(pub{topic: "x", qos: 2, id: 5, dup: true}, pub{topic: "y", qos: 1, id: 6})
	c.closed(0)
	l.commit(nil)
	l.events(t, 2)
	l.commit(nil)
	again.expect(pubrec(5)...)
	again.expect(puback(6)...)
	if diff := cmp.Diff([]string{"x", "y"}, l.topics(t, 2)); diff != "" {
		t.Error(diff)
	}
}

func TestPacketIdentifiersOnDiskSurviveARestart(t *testing.T) {
	l := newFakeLog()
	l.disk["a"] = []uint16{3, 4, 5}
	b := start(t, l)
	c := connect(t, b, v5, "a")
	c.publish(
		pub{topic: "old", qos: 2, id: 3, dup: true}, // was on disk before the crash
		pub{topic: "new", qos: 2, id: 4},            // no DUP: the client has begun anew
	)
	c.expect(pubrec(3)...)
	c.expect(pubrec(4)...)
	c.send(slices.Concat(pubrel(5), pubrel(9)))
	c.expect(pubcomp(5)...)
	c.expect(packet.TypePubcomp<<4, 3, 0, 9, packet.PacketIDNotFound)
	if diff := cmp.Diff([]string{"new"}, l.topics(t, 1)); diff != "" {
		t.Error(diff)
	}
}

func TestACleanStartForgetsPacketIdentifiers(t *testing.T) {
	l := newFakeLog()
	l.disk["a"] = []uint16{3}
	b := start(t, l)
	c := dial(t, b, v5)
	c.send(connectPacket(connectOptions{v: v5, id: "a", keep: true, clean: true}))
	c.connack(0)
	c.publish(pub{topic: "x", qos: 2, id: 3, dup: true})
	c.expect(pubrec(3)...)
	l.events(t, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if diff := cmp.Diff([]uint16{3}, l.released); diff != "" {
		t.Errorf("released:\n%s", diff)
	}
}

func TestASessionThatEndsLeavesNoPacketIdentifiersOnDisk(t *testing.T) {
	l := newFakeLog()
	b := start(t, l)
	c := dial(t, b, v4)
	c.send(connectPacket(connectOptions{id: "a"})) // clean session
	c.connack(0)
	c.publish(pub{topic: "x", qos: 2, id: 3})
	c.expect(pubrec(3)...)
	c.Close()
	eventually(t, "release of the identifier", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return slices.Equal(l.released, []uint16{3})
	})
}

func TestPubcompWaitsForTheDisk(t *testing.T) {
	l := newFakeLog()
	b := start(t, l)
	c := connect(t, b, v4, "a")
	c.publish(pub{topic: "x", qos: 2, id: 5})
	c.expect(pubrec(5)...)
	l.mu.Lock()
	l.byHand = true
	l.mu.Unlock()
	c.send(pubrel(5))
	eventually(t, "the request to release", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.waiting) == 1
	})
	c.silence()
	l.commit(nil)
	c.expect(pubcomp(5)...)
}

func TestTopicAliases(t *testing.T) {
	alias := func(n byte) []byte { return []byte{packet.PropTopicAlias, 0, n} }
	t.Run("stand for the topic", func(t *testing.T) {
		l := newFakeLog()
		c := connect(t, start(t, l), v5, "a")
		c.publish(
			pub{topic: "a", props: alias(1)}, pub{topic: "b", props: alias(maxAlias)},
			pub{props: alias(1)}, pub{props: alias(maxAlias)},
			pub{topic: "c", props: alias(1)}, pub{props: alias(1)},
		)
		if diff := cmp.Diff([]string{"a", "b", "a", "b", "c", "c"}, l.topics(t, 6)); diff != "" {
			t.Error(diff)
		}
	})
	for _, n := range []byte{0, maxAlias + 1} {
		t.Run(fmt.Sprintf("%d is out of range", n), func(t *testing.T) {
			c := connect(t, start(t, newFakeLog()), v5, "a")
			c.publish(pub{topic: "a", props: alias(n)})
			c.closed(packet.TopicAliasInvalid)
		})
	}
	t.Run("must be set before use", func(t *testing.T) {
		c := connect(t, start(t, newFakeLog()), v5, "a")
		c.publish(pub{props: alias(3)})
		c.closed(packet.ProtocolError)
	})
}

func TestReceiveMaximum(t *testing.T) {
	t.Run("is announced and enforced with mqtt5", func(t *testing.T) {
		l := newFakeLog()
		l.byHand = true
		b := start(t, l, func(o *Options) { o.ReceiveMaximum = 10 })
		c := connect(t, b, v5, "a")
		c.publish(numbered(10)...)
		l.events(t, 10)
		c.silence()
		l.commit(nil)
		for i := range 10 {
			c.expect(puback(uint16(i + 1))...)
		}
		c.publish(numbered(11)...)
		c.closed(packet.ReceiveMaximumExceeded)
		if got := len(l.events(t, 20)); got != 20 {
			t.Errorf("got %d events, want 20: all that were allowed", got)
		}
	})
	t.Run("counts exactly-once messages until PUBCOMP", func(t *testing.T) {
		b := start(t, newFakeLog(), func(o *Options) { o.ReceiveMaximum = 2 })
		c := connect(t, b, v5, "a")
		c.publish(pub{topic: "x", qos: 2, id: 1}, pub{topic: "x", qos: 2, id: 2})
		c.expect(pubrec(1)...)
		c.expect(pubrec(2)...)
		c.send(pubrel(1))
		c.expect(pubcomp(1)...)
		c.publish(pub{topic: "x", qos: 2, id: 3})
		c.expect(pubrec(3)...)
		c.publish(pub{topic: "x", qos: 1, id: 4})
		c.closed(packet.ReceiveMaximumExceeded)
	})
	t.Run("slows mqtt311 down instead", func(t *testing.T) {
		l := newFakeLog()
		l.byHand = true
		c := connect(t, start(t, l), v4, "a")
		const n = maxUncommit + 20_000
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for i := range n {
				if _, err := c.Write(pub{topic: "x", qos: 1, id: uint16(i%60_000 + 1)}.packet(v4)); err != nil {
					return
				}
			}
		}()
		got := len(l.events(t, maxUncommit))
		if got > maxUncommit+busyBuffer/7 {
			t.Errorf("%d messages were taken without a commit", got)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range n {
				if _, body, err := c.read(); err != nil || body[0] != byte((i%60_000+1)>>8) {
					t.Errorf("acknowledgement %d: % x, %v", i, body, err)
					return
				}
			}
		}()
		for open := true; open; {
			l.commit(nil)
			select {
			case <-done:
				open = false
			case <-time.After(time.Millisecond):
			}
		}
		<-sent
	})
}

func TestMessagesBeforeAViolationCount(t *testing.T) {
	l := newFakeLog()
	c := connect(t, start(t, l), v4, "a")
	c.publish(pub{topic: "good", qos: 1, id: 1}, pub{topic: "bad/#", qos: 1, id: 2}, pub{topic: "late", qos: 1, id: 3})
	if diff := cmp.Diff([]string{"good"}, l.topics(t, 1)); diff != "" {
		t.Error(diff)
	}
}

func TestAPublisherThatReadsNothingHoldsUpNobody(t *testing.T) {
	l := newFakeLog()
	b := start(t, l, func(o *Options) { o.MaxQueued = 1 << 16 })
	stuck := connect(t, b, v4, "stuck")
	go func() {
		for i := 0; ; i++ {
			if _, err := stuck.Write(pub{topic: "x", qos: 1, id: uint16(i%60_000 + 1)}.packet(v4)); err != nil {
				return
			}
		}
	}()
	l.events(t, 5000)
	c := connect(t, b, v4, "lively")
	for i := range 100 {
		c.publish(pub{topic: "y", qos: 1, id: uint16(i + 1)})
		c.expect(puback(uint16(i + 1))...)
	}
}

func TestTopicsThatBeginWithADollarAreTheBrokers(t *testing.T) {
	l := newFakeLog()
	b := start(t, l)
	c := connect(t, b, v5, "five")
	c.publish(pub{topic: "$SYS/x", qos: 0}, pub{topic: "$SYS/x", qos: 1, id: 1}, pub{topic: "$x", qos: 2, id: 2}, pub{topic: "ok", qos: 1, id: 3})
	c.expect(packet.TypePuback<<4, 3, 0, 1, packet.TopicNameInvalid)
	c.expect(packet.TypePubrec<<4, 3, 0, 2, packet.TopicNameInvalid)
	c.expect(puback(3)...)
	c = connect(t, b, v4, "four")
	c.publish(pub{topic: "$SYS/x", qos: 1, id: 1})
	c.closed(0)
	if diff := cmp.Diff([]string{"ok"}, l.topics(t, 1)); diff != "" {
		t.Error(diff)
	}
}

func TestWills(t *testing.T) {
	w := event.Event{Topic: "gone/a", Payload: []byte("dead"), QoS: 1, Retain: true}
	begin := func(t *testing.T, o connectOptions) (*fakeLog, *Broker, *client) {
		l := newFakeLog()
		b := start(t, l)
		c := dial(t, b, o.v)
		o.id, o.will = "a", &w
		c.send(connectPacket(o))
		c.connack(0)
		return l, b, c
	}
	none := func(t *testing.T, l *fakeLog, b *Broker) {
		t.Helper()
		eventually(t, "the end of the connection", func() bool { return len(b.all()) == 0 })
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.batches) > 0 {
			t.Errorf("got %v, want no will", l.batches)
		}
	}
	bothVersions(t, func(t *testing.T, v version) {
		t.Run("are events when the client vanishes", func(t *testing.T) {
			l, _, c := begin(t, connectOptions{v: v})
			c.Close()
			got := l.events(t, 1)[0]
			got.Received = 0
			want := w
			want.Source, want.Client = "mqtt", "a"
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
		t.Run("are forgotten when it takes its leave", func(t *testing.T) {
			l, b, c := begin(t, connectOptions{v: v})
			c.send([]byte{packet.TypeDisconnect << 4, 0})
			c.closed(0)
			none(t, l, b)
		})
		t.Run("are events when it breaks the protocol", func(t *testing.T) {
			l, _, c := begin(t, connectOptions{v: v})
			c.send([]byte{0, 0})
			c.closed(packet.ProtocolError)
			l.events(t, 1)
		})
		t.Run("are not for a server that stops", func(t *testing.T) {
			l, b, _ := begin(t, connectOptions{v: v})
			b.Close()
			none(t, l, b)
		})
	})
	t.Run("are events when it asks for them", func(t *testing.T) {
		l, _, c := begin(t, connectOptions{v: v5})
		c.send([]byte{packet.TypeDisconnect << 4, 1, packet.DisconnectWithWill})
		l.events(t, 1)
	})
	t.Run("wait for their delay", func(t *testing.T) {
		l, b, c := begin(t, connectOptions{v: v5, keep: true, willDelay: 1})
		from := time.Now()
		c.Close()
		eventually(t, "the end of the connection", func() bool { return len(b.all()) == 0 })
		l.events(t, 1)
		if took := time.Since(from); took < time.Second {
			t.Errorf("came after %v, want 1 s", took)
		}
	})
	t.Run("do not outlast the session", func(t *testing.T) {
		l, _, c := begin(t, connectOptions{v: v5, willDelay: 200})
		c.Close()
		l.events(t, 1)
	})
	t.Run("are cancelled when the client comes back", func(t *testing.T) {
		l, b, c := begin(t, connectOptions{v: v5, keep: true, willDelay: 200})
		c.Close()
		eventually(t, "the end of the connection", func() bool { return len(b.all()) == 0 })
		c = connect(t, b, v5, "a")
		c.publish(pub{topic: "back"})
		if waits := b.waitingWills(); len(waits) > 0 {
			t.Errorf("wills of %v wait", waits)
		}
		if diff := cmp.Diff([]string{"back"}, l.topics(t, 1)); diff != "" {
			t.Error(diff)
		}
	})
}
