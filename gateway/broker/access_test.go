package broker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/gateway/event"
)

// acl reads rules from lines of the form "allow publish,subscribe a,b a/#,c".
func acl(t testing.TB, lines ...string) *ACL {
	t.Helper()
	var rules []Rule
	for _, line := range lines {
		f := strings.Fields(line)
		r := Rule{Deny: f[0] == "deny", Users: strings.Split(f[2], ","), Topics: strings.Split(f[3], ",")}
		for _, a := range strings.Split(f[1], ",") {
			r.Publish = r.Publish || a == "publish"
			r.Subscribe = r.Subscribe || a == "subscribe"
		}
		rules = append(rules, r)
	}
	a, err := NewACL(rules)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// plant is what most tests here allow.
func plant(t testing.TB) *ACL {
	return acl(t,
		"allow publish,subscribe pump,valve plant/%u/#",
		"allow subscribe pump,valve news",
		"allow subscribe panel #",
		"deny publish,subscribe * plant/secret/#",
	)
}

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
		want = codeNotAuthorized
	}
	for _, f := range filters {
		b := []byte{0, 78}
		if c.v5 {
			b = append(b, 0)
		}
		c.send(packet(typeSubscribe<<4|2, append(appendText(b, f), 1)))
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

func TestWithAnACLAClientPublishesOnlyWhatItIsAllowed(t *testing.T) {
	l := newFakeLog()
	b := guarded(t, l, plant(t))
	c := as(t, b, v5, "pump", "p")
	c.publish(
		pub{topic: "plant/pump/a", qos: 1, id: 1}, pub{topic: "plant/valve/a", qos: 1, id: 2},
		pub{topic: "plant/valve/a", qos: 2, id: 3}, pub{topic: "plant/valve/a"}, pub{topic: "plant/pump/b", qos: 2, id: 4})
	c.expect(puback(1)...)
	c.expect(typePuback<<4, 3, 0, 2, codeNotAuthorized)
	c.expect(typePubrec<<4, 3, 0, 3, codeNotAuthorized)
	c.expect(pubrec(4)...)
	c.publish(pub{topic: "plant/pump/c", qos: 2, id: 3}) // the identifier is free
	c.expect(pubrec(3)...)
	if got := fmt.Sprint(l.topics(t, 3)); got != "[plant/pump/a plant/pump/b plant/pump/c]" {
		t.Errorf("got %s", got)
	}
	if n := b.Stats().Refused; n != 3 {
		t.Errorf("counted %d refused messages, want 3", n)
	}
	old := as(t, b, v4, "pump", "old")
	old.publish(pub{topic: "plant/pump/d", qos: 1, id: 1}, pub{topic: "plant/valve/a", qos: 1, id: 2}, pub{topic: "plant/pump/e", qos: 1, id: 3})
	old.expect(puback(1)...)
	old.closed(0)
	if s := b.Stats(); s.Refused != 4 || violations(b) != 0 {
		t.Errorf("counted %+v, want 4 refused messages", s)
	}
}

func TestWithoutAnACLEverybodyMayDoEverything(t *testing.T) {
	bothVersions(t, func(t *testing.T, v version) {
		b := guarded(t, newFakeLog(), nil)
		c := as(t, b, v, "pump", "p")
		c.subscribe(filter{"#", 1}, filter{"$SYS/#", 0})
		c.publish(pub{topic: "plant/valve", qos: 1, id: 1})
	})
}

func TestAClientCannotGetRoundTheACLByAWildcard(t *testing.T) {
	bothVersions(t, func(t *testing.T, v version) {
		b := guarded(t, newFakeLog(), plant(t))
		c := as(t, b, v, "pump", "p")
		c.refused("#", "+/#", "plant/#", "plant/+", "plant/+/a", "plant/+/#", "+/pump/a", "plant/valve/#", "plant/secret/#", "$SYS/#", "$SYS/broker/version")
		c.subscribe(filter{"plant/pump", 0}, filter{"plant/pump/#", 0}, filter{"plant/pump/+/x", 0})
		// The panel may see everything; what is denied of that is left out.
		panel := as(t, b, v, "panel", "x")
		panel.refused("plant/secret", "plant/secret/#", "plant/secret/+", "$SYS/#")
		panel.subscribe(filter{"#", 0})
		route(b, []event.Event{ev("plant/secret", "1", 0), ev("plant/secret/a", "2", 0), ev("plant/valve/a", "3", 0)})
		panel.receives(received{Topic: "plant/valve/a", Payload: "3"})
		panel.silence()
		c.silence()
	})
}

func TestAClientCannotGetRoundTheACLByASharedSubscription(t *testing.T) {
	bothVersions(t, func(t *testing.T, v version) {
		b := guarded(t, newFakeLog(), plant(t))
		c := as(t, b, v, "pump", "p")
		c.refused("$share/g/#", "$share/g/plant/#", "$SHARE/g/plant/valve/#", "$share/plant/pump/#", "$share/g/$SYS/#", "$share/g/+/pump/a")
		c.subscribe(filter{"$share/g/plant/pump/#", 0}, filter{"$SHARE/i/plant/pump", 0})
		// A member that may not have a message does not take it from the others.
		panel := as(t, b, v, "panel", "x")
		panel.subscribe(filter{"$share/h/#", 0})
		route(b, []event.Event{ev("plant/secret/a", "1", 0), ev("plant/secret/a", "2", 0), ev("plant/pump/a", "3", 0)})
		c.receives(received{Topic: "plant/pump/a", Payload: "3"})
		panel.receives(received{Topic: "plant/pump/a", Payload: "3"})
		panel.silence()
	})
	t.Run("of which another member may have the message", func(t *testing.T) {
		b := guarded(t, newFakeLog(), acl(t, "allow subscribe pump,valve #", "deny subscribe pump a/#"))
		no, yes := as(t, b, v5, "pump", "p"), as(t, b, v5, "valve", "v")
		no.subscribe(filter{"$share/g/#", 0})
		yes.subscribe(filter{"$share/g/#", 0})
		for range 4 {
			route(b, []event.Event{ev("a/b", "x", 0)})
			yes.receives(received{Topic: "a/b", Payload: "x"})
		}
		no.silence()
	})
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
			no = codeNotAuthorized
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
		c.send(connectPacket(connectOptions{v: v5, id: "p", user: "pump", password: "pump", keep: true, will: &w, willDelay: 1}))
		c.connack(0)
		c.Close()
		eventually(t, "the end of the connection", func() bool { return len(b.all()) == 0 })
	}
	t.Run("that is not allowed any more when it is due", func(t *testing.T) {
		t.Parallel()
		l := newFakeLog()
		b := guarded(t, l, plant(t))
		left(t, b)
		a := *b.access.Load()
		a.ACL = acl(t, "allow subscribe * #")
		b.SetAccess(a)
		eventually(t, "the refusal of the will", func() bool { return b.Stats().Refused == 1 })
		if len(l.batches) > 0 {
			t.Error("the will was published")
		}
	})
	t.Run("of a user that is gone when it is due", func(t *testing.T) {
		t.Parallel()
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
		five.expect(typePuback<<4, 3, 0, 1, codeNotAuthorized)
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

func TestAClientCannotGetRoundTheACLByATopicAlias(t *testing.T) {
	l := newFakeLog()
	b := guarded(t, l, plant(t))
	c := as(t, b, v5, "pump", "p")
	alias := func(n byte) []byte { return []byte{propTopicAlias, 0, n} }
	c.publish(
		pub{topic: "plant/valve/a", qos: 1, id: 1, props: alias(1)}, // refused, but the alias is set
		pub{qos: 1, id: 2, props: alias(1)},
		pub{topic: "plant/pump/a", qos: 1, id: 3, props: alias(2)},
		pub{qos: 1, id: 4, props: alias(2)})
	c.expect(typePuback<<4, 3, 0, 1, codeNotAuthorized)
	c.expect(typePuback<<4, 3, 0, 2, codeNotAuthorized)
	c.expect(puback(3)...)
	c.expect(puback(4)...)
	// An alias keeps its topic when the rules change, but not its permission.
	a := *b.access.Load()
	a.ACL = acl(t, "allow publish pump plant/valve/#")
	b.SetAccess(a)
	c.publish(pub{qos: 1, id: 5, props: alias(1)}, pub{qos: 1, id: 6, props: alias(2)})
	c.expect(puback(5)...)
	c.expect(typePuback<<4, 3, 0, 6, codeNotAuthorized)
	if got := fmt.Sprint(l.topics(t, 3)); got != "[plant/pump/a plant/pump/a plant/valve/a]" {
		t.Errorf("got %s", got)
	}
}

func TestAClientCannotGetRoundTheACLByItsName(t *testing.T) {
	for _, name := range []string{"+", "#", "a/b", "a+", "valve/#", "/", "$SYS", "$share"} {
		r := newRights(&Access{ACL: acl(t,
			"allow publish,subscribe * plant/%u/#,%u/x,plant/by-%c,%c/#",
			"allow publish,subscribe * free/#", "deny publish * free/%c/x")}, name, name)
		for _, topic := range []string{"plant/" + name + "/a", "plant/valve/a", name + "/x", "valve/x", "plant/by-" + name, "$SYS/broker", "$SYS/x"} {
			if name[0] == '$' && strings.HasPrefix(topic, "plant/") && strings.Contains(topic, name) {
				continue // there the name is one like any other
			}
			if r.mayPublish(topic) || r.toSubscribe(topic).allowed {
				t.Errorf("a client called %q may use %s", name, topic)
			}
		}
		if name[0] != '$' && r.mayPublish("free/"+name+"/x") {
			t.Errorf("a client called %q gets round what is denied", name)
		}
	}
}

func TestAClientKeepsNothingOfWhatItWasAllowedBefore(t *testing.T) {
	bothVersions(t, func(t *testing.T, v version) {
		l := newFakeLog()
		b := guarded(t, l, acl(t, "allow publish,subscribe * #,$SYS/#"))
		c, gone := as(t, b, v, "pump", "p"), as(t, b, v, "pump", "away")
		c.subscribe(filter{"a/#", 1}, filter{"$share/g/a/#", 0}, filter{"$SYS/broker/uptime", 0})
		if first, body, err := c.read(); err != nil || first>>4 != typePublish {
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
			c.expect(typePuback<<4, 3, 0, 3, codeNotAuthorized)
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
	c.expect(typePubrec<<4, 3, 0, 1, codeNotAuthorized)
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
		changed.closed(codeNotAuthorized)
		removed.closed(codeNotAuthorized)
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
		c.closed(codeNotAuthorized)
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

func TestRulesOfAnACL(t *testing.T) {
	a := acl(t,
		"allow publish,subscribe pump a/%u/%c/#,p%%",
		"allow publish * public/+/x",
		"deny publish pump public/no/x",
		"allow subscribe panel $SYS/#,#",
		"deny subscribe * a/+/hidden/#")
	for _, c := range []struct {
		user, do, topic string
		want            bool
	}{
		{"pump", "publish", "a/pump/c", true},
		{"pump", "publish", "a/pump/c/1", true},
		{"pump", "publish", "a/pump/d", false},
		{"pump", "publish", "p%", true},
		{"pump", "publish", "public/1/x", true},
		{"pump", "publish", "public/no/x", false},
		{"valve", "publish", "public/no/x", true},
		{"", "publish", "public/1/x", true},
		{"", "publish", "a//c", false},
		{"valve", "publish", "a/valve/c", false},
		{"panel", "publish", "$SYS/x", false},
		{"panel", "subscribe", "$SYS/broker/#", true},
		{"panel", "subscribe", "#", true},
		{"panel", "subscribe", "+/+", true},
		{"panel", "subscribe", "a/b/hidden", false},
		{"panel", "subscribe", "a/+/hidden/x/#", false},
		{"panel", "subscribe", "$share/g/a/+/hidden/x", false},
		{"pump", "subscribe", "public/1/x", false},
		{"pump", "subscribe", "a/pump/c/+/#", true},
		{"pump", "subscribe", "a/pump/+", false},
	} {
		r := newRights(&Access{ACL: a}, c.user, "c")
		got := r.mayPublish(c.topic)
		if c.do == "subscribe" {
			got = r.toSubscribe(c.topic).allowed
		}
		if got != c.want {
			t.Errorf("%q may %s %s: got %v", c.user, c.do, c.topic, got)
		}
	}
}

func TestTheFirstRuleThatDeniesDecidesElseTheFirstThatAllows(t *testing.T) {
	a := acl(t,
		"allow publish * plant/#",
		"allow publish,subscribe pump plant/pump/#",
		"deny publish pump plant/pump/set/#",
		"deny publish,subscribe * plant/+/set/valve",
		"allow publish * plant/pump/set/valve")
	for i := range a.rules[:4] {
		a.rules[i].At = fmt.Sprintf("plant.yaml:%d:7", i+10)
	}
	for _, c := range []struct{ user, do, topic, want string }{
		{"pump", "publish", "plant/pump/a", "rule 1 of the acl (plant.yaml:10:7) allows it"},
		{"pump", "publish", "plant/pump/set/a", "rule 3 of the acl (plant.yaml:12:7) denies it"},
		{"pump", "publish", "plant/pump/set/valve", "rule 3 of the acl (plant.yaml:12:7) denies it"},
		{"valve", "publish", "plant/pump/set/a", "rule 1 of the acl (plant.yaml:10:7) allows it"},
		{"valve", "publish", "plant/pump/set/valve", "rule 4 of the acl (plant.yaml:13:7) denies it"},
		{"pump", "publish", "other", "no rule of the acl allows it"},
		{"pump", "subscribe", "plant/pump/#", "rule 2 of the acl (plant.yaml:11:7) allows it"},
		{"pump", "subscribe", "$share/g/plant/pump/#", "rule 2 of the acl (plant.yaml:11:7) allows it"},
		{"pump", "subscribe", "plant/pump/set/valve", "rule 4 of the acl (plant.yaml:13:7) denies it"},
		{"valve", "subscribe", "plant/pump/#", "no rule of the acl allows it"},
	} {
		r := newRights(&Access{ACL: a}, c.user, "c")
		got := r.toPublish(c.topic)
		if c.do == "subscribe" {
			got = r.toSubscribe(c.topic)
		}
		if got.String() != c.want {
			t.Errorf("%q may %s %s? got %q, want %q", c.user, c.do, c.topic, got, c.want)
		}
	}
	if got := newRights(&Access{}, "", "c").toPublish("a").String(); got != "there is no acl" {
		t.Errorf("got %q", got)
	}
}

// logBuffer keeps what is logged while others log.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func TestTheLogNamesTheRuleThatRefuses(t *testing.T) {
	var log logBuffer
	a := acl(t, "allow publish,subscribe pump plant/#", "deny publish,subscribe pump plant/secret/#")
	a.rules[1].At = "plant.yaml:9:7"
	b := start(t, newFakeLog(), func(o *Options) {
		o.Users, o.ACL = users(t, "pump", "pump"), a
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	w := event.Event{Topic: "plant/secret/will", Payload: []byte("x")}
	refused := dial(t, b, v5)
	refused.send(connectPacket(connectOptions{v: v5, id: "w", user: "pump", password: "pump", will: &w}))
	refused.connack(codeNotAuthorized)
	c := as(t, b, v5, "pump", "p")
	c.refused("plant/secret/a")
	c.publish(pub{topic: "plant/secret/b", qos: 1, id: 1})
	c.expect(typePuback<<4, 3, 0, 1, codeNotAuthorized)
	c.subscribe(filter{"plant/#", 0})
	route(b, []event.Event{ev("plant/secret/c", "1", 0), ev("plant/d", "2", 0)})
	c.receives(received{Topic: "plant/d", Payload: "2"})
	for _, what := range []string{
		`msg="mqtt will refused" client=w err="user \"pump\" may not publish to plant/secret/will: `,
		`msg="mqtt subscription refused" client=p err="user \"pump\" may not subscribe to plant/secret/a: `,
		`msg="mqtt message refused" client=p err="user \"pump\" may not publish to plant/secret/b: `,
		`msg="mqtt message not delivered" client=p err="user \"pump\" may not receive plant/secret/c: `,
	} {
		if want := what + `rule 2 of the acl (plant.yaml:9:7) denies it"`; !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %s:\n%s", want, log.String())
		}
	}
}

func TestMistakesInRulesAreNamed(t *testing.T) {
	for pattern, want := range map[string]string{
		"a/%i": "%i", "a/%": "%", "a/#/b": "#", "a+%u": "+", "": "empty", "$share/g/a": "shared",
		strings.Repeat("/", 200): "levels",
	} {
		if err := CheckPattern(pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q in it", pattern, err, want)
		}
	}
	for _, r := range []Rule{
		{Publish: true, Topics: []string{"a"}}, {Users: []string{"*"}, Topics: []string{"a"}},
		{Users: []string{"*"}, Publish: true}, {Users: []string{"*"}, Publish: true, Topics: []string{"%x"}},
	} {
		if _, err := NewACL([]Rule{r}); err == nil || !strings.Contains(err.Error(), "acl rule 1") {
			t.Errorf("%+v: got %v", r, err)
		}
	}
}

// FuzzFill: with names in it, a pattern allows no topic in which a level of
// the pattern without a name differs, and no topic of another depth.
func FuzzFill(f *testing.F) {
	f.Add("plant/%u/x", "+", "c", "plant/a/x")
	f.Add("%c/%u", "a", "$SYS", "$SYS/a")
	f.Add("a/%u%c/#", "x/y", "#", "a/b/c")
	f.Fuzz(func(t *testing.T, pattern, user, client, topic string) {
		if CheckPattern(pattern) != nil || event.CheckTopic(topic) != nil {
			return
		}
		filter, ok := fill(pattern, user, client)
		wide, _ := fill(pattern, "w", "w")
		if ok && (strings.Count(filter, "/") != strings.Count(wide, "/") || strings.Count(filter, "+") != strings.Count(wide, "+") ||
			strings.Count(filter, "#") != strings.Count(wide, "#") || (filter[0] == '$') != (pattern[0] == '$')) {
			t.Fatalf("%q for %q and %q is %q", pattern, user, client, filter)
		}
	})
}
