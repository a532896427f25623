package broker

import (
	"errors"
	"io"
	"testing"
	"time"

	"holdfast/gateway/broker/packet"
	"holdfast/gateway/event"
)

// guarded is a broker with an ACL and users whose passwords are their names.
func guarded(t testing.TB, l *fakeLog, a *ACL) *Broker {
	return start(t, l, func(o *Options) {
		o.Users = users(t, "pump", "pump", "valve", "valve", "panel", "panel")
		o.ACL = a
	})
}

// as connects as a user, with a session that lasts.
func as(t testing.TB, b *Broker, v version, user, id string) *client {
	t.Helper()
	c := dial(t, b, v)
	c.send(connectPacket(connectOptions{v: v, id: id, keep: true, user: user, password: user}))
	c.connack(0)
	return c
}

// refused subscribes, and expects to be told that that is not allowed.
func (c *client) refused(filters ...string) {
	c.t.Helper()
	want := byte(0x80)
	if c.v5 {
		want = packet.NotAuthorized
	}
	for _, f := range filters {
		b := []byte{0, 78}
		if c.v5 {
			b = append(b, 0)
		}
		c.send(frame(packet.TypeSubscribe<<4|2, append(packet.AppendString(b, f), 1)))
		first, body, err := c.read()
		if err != nil || first != 0x90 || body[len(body)-1] != want {
			c.t.Fatalf("subscribe to %s: got %x % x, %v, want SUBACK with %#x", f, first, body, err, want)
		}
	}
}

func retained(topic, payload string) event.Event {
	e := ev(topic, payload, 1)
	e.Retain = true
	return e
}

func TestAClientCannotGetRoundTheACLByAWill(t *testing.T) {
	bothVersions(t, func(t *testing.T, v version) {
		l := newFakeLog()
		b := guarded(t, l, plant(t))
		try := func(topic string, code byte) *client {
			c := dial(t, b, v)
			w := event.Event{Topic: topic, Payload: []byte("x"), Retain: true}
			c.send(connectPacket(connectOptions{v: v, id: "p", user: "pump", password: "pump", will: &w}))
			c.connack(code)
			return c
		}
		no := byte(5)
		if v {
			no = packet.NotAuthorized
		}
		try("plant/valve/a", no).closed(0)
		try("plant/secret/a", no).closed(0)
		try("plant/pump/a", 0).Close()
		if got := l.topics(t, 1); len(got) != 1 || got[0] != "plant/pump/a" {
			t.Errorf("got %v", got)
		}
		eventually(t, "the end of the connection", func() bool { return len(b.all()) == 0 })
	})
}

func TestAClientCannotGetRoundTheACLByADelayedWill(t *testing.T) {
	w := event.Event{Topic: "plant/pump/a", Payload: []byte("x")}
	left := func(t *testing.T, b *Broker) {
		c := dial(t, b, v5)
		c.send(connectPacket(connectOptions{v: v5, id: "p", user: "pump", password: "pump", keep: true, will: &w, willDelay: 200}))
		c.connack(0)
		c.Close()
		eventually(t, "the end of the connection", func() bool { return len(b.all()) == 0 })
	}
	t.Run("that is not allowed any more when it is due", func(t *testing.T) {
		l := newFakeLog()
		b := guarded(t, l, plant(t))
		left(t, b)
		a := *b.access.Load()
		a.ACL = acl(t, "allow subscribe * #")
		b.SetAccess(a)
		b.dueWills()
		eventually(t, "the refusal of the will", func() bool { return b.Stats().Refused == 1 })
		if len(l.batches) > 0 {
			t.Error("the will was published")
		}
	})
	t.Run("of a user that is gone when it is due", func(t *testing.T) {
		b := guarded(t, newFakeLog(), plant(t))
		left(t, b)
		a := *b.access.Load()
		a.Users = users(t, "valve", "valve")
		b.SetAccess(a)
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.sessions) > 0 {
			t.Errorf("there still are sessions: %v", b.sessions)
		}
	})
}

func TestAClientCannotGetRoundTheACLByARetainedMessage(t *testing.T) {
	bothVersions(t, func(t *testing.T, v version) {
		b := guarded(t, newFakeLog(), plant(t))
		route(b, []event.Event{retained("plant/secret/a", "1"), retained("plant/valve/a", "2"), retained("plant/pump/a", "3")})
		panel := as(t, b, v, "panel", "x")
		panel.subscribe(filter{"plant/+/a", 0})
		got := map[string]bool{panel.receive().Topic: true, panel.receive().Topic: true}
		if !got["plant/valve/a"] || !got["plant/pump/a"] {
			t.Errorf("got %v", got)
		}
		panel.silence()
		c := as(t, b, v, "pump", "p")
		c.refused("plant/+/a", "plant/valve/a")
		c.silence()
		// Nor can it be removed by who may not write it.
		five := as(t, b, v5, "pump", "five")
		five.publish(pub{topic: "plant/valve/a", retain: true, qos: 1, id: 1})
		five.expect(packet.TypePuback<<4, 3, 0, 1, packet.NotAuthorized)
	})
}

func TestAClientCannotGetRoundTheACLByTakingOverASession(t *testing.T) {
	bothVersions(t, func(t *testing.T, v version) {
		b := guarded(t, newFakeLog(), plant(t))
		c := as(t, b, v, "pump", "p")
		c.subscribe(filter{"plant/pump/#", 1})
		try := func(clean bool) {
			thief := dial(t, b, v)
			thief.send(connectPacket(connectOptions{v: v, id: "p", keep: true, clean: clean, user: "valve", password: "valve"}))
			if v {
				thief.connack(0x85)
			} else {
				thief.connack(2)
			}
			thief.closed(0)
		}
		try(false)
		try(true)
		route(b, []event.Event{ev("plant/pump/a", "1", 1)})
		c.receives(received{Topic: "plant/pump/a", Payload: "1", QoS: 1})
		// Neither while its owner is away.
		c.Close()
		eventually(t, "the end of the connection", func() bool { return len(b.all()) == 0 })
		route(b, []event.Event{ev("plant/pump/a", "2", 1)})
		try(false)
		try(true)
		c = as(t, b, v, "pump", "p")
		c.receives(received{Topic: "plant/pump/a", Payload: "2", QoS: 1})
	})
	t.Run("once it has ended the client id is free", func(t *testing.T) {
		b := guarded(t, newFakeLog(), plant(t))
		c := dial(t, b, v5)
		c.send(connectPacket(connectOptions{v: v5, id: "p", user: "pump", password: "pump"}))
		c.connack(0)
		c.subscribe(filter{"plant/pump/#", 1})
		c.Close()
		eventually(t, "the end of the connection", func() bool { return len(b.all()) == 0 })
		c = as(t, b, v5, "valve", "p")
		route(b, []event.Event{ev("plant/pump/a", "1", 1)})
		c.silence()
	})
	t.Run("nor by having no name", func(t *testing.T) {
		b := start(t, newFakeLog(), func(o *Options) {
			o.Users, o.AllowAnonymous, o.ACL = users(t, "pump", "pump"), true, plant(t)
		})
		as(t, b, v5, "pump", "p")
		c := dial(t, b, v5)
		c.send(connectPacket(connectOptions{v: v5, id: "p"}))
		c.connack(0x85)
	})
	t.Run("of a name that nobody has checked", func(t *testing.T) {
		b := start(t, newFakeLog(), func(o *Options) { o.ACL = plant(t) }) // loopback, no users
		c := as(t, b, v5, "panel", "p")
		c.refused("#", "plant/panel/#")
	})
}

func TestAClientKeepsNothingOfWhatItWasAllowedBefore(t *testing.T) {
	bothVersions(t, func(t *testing.T, v version) {
		l := newFakeLog()
		b := guarded(t, l, acl(t, "allow publish,subscribe * #,$SYS/#"))
		c, gone := as(t, b, v, "pump", "p"), as(t, b, v, "pump", "away")
		c.subscribe(filter{"a/#", 1}, filter{"$share/g/a/#", 0}, filter{"$SYS/broker/uptime", 0})
		if first, body, err := c.read(); err != nil || first>>4 != packet.TypePublish {
			t.Fatalf("got %x % x, %v, want the retained message of $SYS", first, body, err)
		}
		c.publish(pub{topic: "a/1", qos: 1, id: 1})
		c.expect(puback(1)...)
		gone.subscribe(filter{"#", 1})
		gone.Close()
		eventually(t, "the end of a connection", func() bool { return len(b.all()) == 1 })
		route(b, []event.Event{ev("a/2", "1", 1), ev("b/2", "2", 1)})
		c.receive()
		c.receive()

		a := *b.access.Load()
		a.ACL = acl(t, "allow publish,subscribe * b/#")
		b.SetAccess(a)
		route(b, []event.Event{ev("a/2", "3", 1)})
		_ = b.server.Publish("$SYS/broker/uptime", []byte("x"), false, 0)
		c.silence()
		gone = as(t, b, v, "pump", "away") // what waited for it is looked at again
		gone.receives(received{Topic: "b/2", Payload: "2", QoS: 1})
		gone.silence()
		c.publish(pub{topic: "b/1", qos: 1, id: 2})
		c.expect(puback(2)...)
		c.publish(pub{topic: "a/1", qos: 1, id: 3})
		if v {
			c.expect(packet.TypePuback<<4, 3, 0, 3, packet.NotAuthorized)
		} else {
			c.closed(0)
		}
	})
}

func TestAnExactlyOnceMessageThatWasTakenStaysTaken(t *testing.T) {
	l := newFakeLog()
	b := guarded(t, l, plant(t))
	c := as(t, b, v5, "pump", "p")
	c.publish(pub{topic: "plant/pump/a", qos: 2, id: 1})
	c.expect(pubrec(1)...)
	a := *b.access.Load()
	a.ACL = acl(t, "allow publish pump other")
	b.SetAccess(a)
	c.publish(pub{topic: "plant/pump/a", qos: 2, id: 1, dup: true}) // it did not see the answer
	c.expect(pubrec(1)...)
	c.send(pubrel(1))
	c.expect(pubcomp(1)...)
	c.publish(pub{topic: "plant/pump/a", qos: 2, id: 1})
	c.expect(packet.TypePubrec<<4, 3, 0, 1, packet.NotAuthorized)
	if n := len(l.events(t, 1)); n != 1 {
		t.Errorf("got %d events, want 1", n)
	}
}

func TestUsersThatAreRemovedOrChangedAreDisconnected(t *testing.T) {
	bothVersions(t, func(t *testing.T, v version) {
		b := guarded(t, newFakeLog(), nil)
		stays, changed, removed := as(t, b, v, "pump", "1"), as(t, b, v, "valve", "2"), as(t, b, v, "panel", "3")
		away := as(t, b, v, "panel", "4")
		away.subscribe(filter{"a", 1})
		away.Close()
		eventually(t, "the end of a connection", func() bool { return len(b.all()) == 3 })
		b.SetAccess(Access{Users: users(t, "pump", "pump", "valve", "new")})
		changed.closed(packet.NotAuthorized)
		removed.closed(packet.NotAuthorized)
		stays.subscribe(filter{"a", 0})
		eventually(t, "the end of two connections", func() bool { return len(b.all()) == 1 })
		b.mu.Lock()
		kept := len(b.sessions)
		b.mu.Unlock()
		if kept != 2 {
			t.Errorf("%d sessions are left, want those of two users", kept)
		}
		c := dial(t, b, v)
		c.send(connectPacket(connectOptions{v: v, id: "4", keep: true, user: "valve", password: "new"}))
		c.connack(0)
		route(b, []event.Event{ev("a", "x", 1)})
		stays.receives(received{Topic: "a", Payload: "x"})
		c.silence()
	})
	t.Run("anonymous ones too", func(t *testing.T) {
		b := start(t, newFakeLog(), func(o *Options) { o.AllowAnonymous = true })
		c := connect(t, b, v5, "a")
		b.SetAccess(Access{}) // they are on loopback, and there are no users
		c.silence()
		b.SetAccess(Access{Users: users(t, "pump", "pump")})
		c.closed(packet.NotAuthorized)
	})
}

// Between two looks at who a client is, somebody else may have come.
func TestAClientCannotGetRoundTheACLByBeingQuick(t *testing.T) {
	t.Run("to take up a session that is about to end", func(t *testing.T) {
		b := guarded(t, newFakeLog(), plant(t))
		c := as(t, b, v4, "pump", "p")
		c.subscribe(filter{"plant/pump/#", 1}, filter{"news", 1})
		c.Close()
		eventually(t, "the end of the connection", func() bool { return len(b.all()) == 0 })
		route(b, []event.Event{ev("plant/pump/a", "1", 1), ev("news", "1", 1)})
		b.mu.Lock()
		delete(b.sessions, "p") // while mochi still has it
		b.mu.Unlock()
		c = as(t, b, v4, "valve", "p")
		route(b, []event.Event{ev("plant/pump/a", "2", 1), ev("news", "2", 1)})
		c.silence()
	})
	t.Run("to be sent what was on its way to another", func(t *testing.T) {
		b := guarded(t, newFakeLog(), plant(t))
		old := as(t, b, v4, "pump", "p")
		old.subscribe(filter{"plant/pump/#", 0})
		b.mu.Lock()
		s := b.sessions["p"]
		b.mu.Unlock()
		old.Close()
		eventually(t, "the end of the connection", func() bool { return len(b.all()) == 0 })
		b.endSession(s)
		c := as(t, b, v4, "valve", "p")
		e := ev("plant/pump/a", "1", 0)
		s.out.offer(&message{e: &e}, &match{ok: true})
		c.silence()
	})
	t.Run("to connect by a password that was changed meanwhile", func(t *testing.T) {
		b := guarded(t, newFakeLog(), plant(t))
		c := newConn(b, &chunks{})
		c.who = identity{user: "pump", hash: "another", named: true}
		if _, err := b.attach(c, "p", false); !errors.Is(err, errRevoked) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("to leave a will and be removed", func(t *testing.T) {
		b := guarded(t, newFakeLog(), nil)
		s := newSession(b, "p", "pump")
		s.banned = true
		b.leaveWill(s, &will{event: ev("a", "x", 0)}, time.Hour)
		if s.will != nil {
			t.Error("the will waits")
		}
		b.leaveWill(s, &will{event: ev("a", "x", 0)}, 0)
		if n := b.Stats().Refused; n != 1 {
			t.Errorf("counted %d refused wills, want 1", n)
		}
	})
}

// Everything at once, for the race detector, and nothing may leak.
func TestAccessCanChangeUnderLoad(t *testing.T) {
	l := newFakeLog()
	b := guarded(t, l, plant(t))
	open, shut := *b.access.Load(), *b.access.Load()
	open.ACL, shut.ACL = acl(t, "allow publish,subscribe * a/#"), acl(t, "allow publish,subscribe * b/#")
	c := as(t, b, v5, "pump", "p")
	b.SetAccess(open)
	c.subscribe(filter{"a/#", 0})
	go io.Copy(io.Discard, c.r)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 300 {
			c.publish(pub{topic: "a/1", qos: 1, id: uint16(i%100 + 1)}, pub{topic: "b/1"})
			route(b, []event.Event{ev("a/1", "x", 0)})
		}
	}()
	for range 100 {
		b.SetAccess(shut)
		b.SetAccess(open)
	}
	<-done
	b.SetAccess(shut)
	before := b.Stats().Delivered
	route(b, []event.Event{ev("a/1", "x", 0)})
	if after := b.Stats().Delivered; after != before {
		t.Error("a message was delivered that the ACL denies")
	}
}
