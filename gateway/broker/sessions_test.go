package broker

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/gateway/broker/packet"
	"holdfast/gateway/event"
)

func TestASessionSurvivesTheEndOfTheGateway(t *testing.T) {
	for _, how := range []string{"stop", "kill"} {
		bothVersions(t, func(t *testing.T, v version) {
			s := newSite(t)
			c := resume(t, s.Broker, v, "a", false)
			c.subscribe(filter{"t/+", 1}, filter{"gone", 1})
			c.send(unsubscribe(v, "gone"))
			c.read()
			s.route(ev("t/1", "acknowledged", 1), ev("t/2", "sent", 1))
			c.receives(received{Topic: "t/1", Payload: "acknowledged", QoS: 1})
			id := c.message().ID
			c.silence()
			c.Close()
			s.gone(0)
			s.route(ev("t/3", "missed", 1), ev("gone", "no", 1))
			s.kept()
			if how == "stop" {
				s.restart()
			} else {
				s.kill()
			}
			s.route(ev("t/4", "later", 2))
			c = resume(t, s.Broker, v, "a", true)
			if p := c.message(); string(p.Payload) != "sent" || !p.Dup || p.ID != id {
				t.Errorf("got %q with identifier %d, dup %v, want what was sent before with %d", p.Payload, p.ID, p.Dup, id)
			}
			c.send(puback(id))
			c.receives(received{Topic: "t/3", Payload: "missed", QoS: 1}, received{Topic: "t/4", Payload: "later", QoS: 1})
			s.route(ev("t/5", "live", 1))
			c.receives(received{Topic: "t/5", Payload: "live", QoS: 1})
			c.silence()
		})
	}
}

func TestWhatWasSentBeforeAKillComesAgainAsADuplicateOnly(t *testing.T) {
	s := newSite(t)
	c := resume(t, s.Broker, v4, "a", false)
	c.subscribe(filter{"t", 1})
	s.kept()
	for i := range 10 { // what became of these is not on disk yet
		s.route(ev("t", fmt.Sprint(i), 1))
		c.receives(received{Topic: "t", Payload: fmt.Sprint(i), QoS: 1})
	}
	s.state = s.state.freeze()
	s.Broker.Close()
	s.start()
	s.route(ev("t", "new", 1))
	c = resume(t, s.Broker, v4, "a", true)
	for {
		got := c.receive()
		if got.Payload == "new" {
			if got.Dup {
				t.Error("the new message came as a duplicate")
			}
			break
		}
		if !got.Dup {
			t.Errorf("message %s came again, not as a duplicate", got.Payload)
		}
	}
	c.silence()
}

func TestAnExactlyOnceDeliverySurvivesAKill(t *testing.T) {
	s := newSite(t)
	c := resume(t, s.Broker, v5, "a", false)
	c.subscribe(filter{"t", 2})
	s.route(ev("t", "1", 2), ev("t", "2", 2), ev("t", "3", 2))
	one, two, three := c.message().ID, c.message().ID, c.message().ID
	c.send(append(pubrec(one), pubrec(two)...))
	c.expect(pubrel(one)...)
	c.expect(pubrel(two)...)
	c.send(pubcomp(one))
	c.silence()
	s.kill()
	c = resume(t, s.Broker, v5, "a", true)
	// The client may have forgotten both identifiers: a PUBLISH with one of
	// them would be a new message to it. PUBREL does no harm.
	rest := map[string]int{}
	for range 3 {
		first, body, err := c.read()
		if err != nil {
			t.Fatal(err)
		}
		if first>>4 == packet.TypePublish {
			p, _ := packet.ParsePublish(first, body, true)
			rest[fmt.Sprintf("%s %d %v", p.Payload, p.ID, p.Dup)]++
			c.send(pubrec(p.ID))
			c.expect(pubrel(p.ID)...)
			c.send(pubcomp(p.ID))
			continue
		}
		rest[fmt.Sprintf("pubrel %d", binary.BigEndian.Uint16(body))]++
		c.send(pubcomp(binary.BigEndian.Uint16(body)))
	}
	want := map[string]int{fmt.Sprint("pubrel ", one): 1, fmt.Sprint("pubrel ", two): 1, fmt.Sprintf("3 %d true", three): 1}
	if !maps.Equal(rest, want) {
		t.Errorf("got %v, want %v", rest, want)
	}
	c.silence()
}

func TestEveryWindowMovesOn(t *testing.T) {
	const n = 1500
	for _, window := range []uint16{1, 3, 100, 65535} {
		for _, qos := range []byte{1, 2} {
			t.Run(fmt.Sprintf("receive maximum %d QoS %d", window, qos), func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				c := resume(t, s.Broker, v5, "a", false, 0x21, byte(window>>8), byte(window))
				c.subscribe(filter{"t/#", qos})
				go func() {
					for i := 0; i < n; i += 5 {
						var events []event.Event
						for k := range 5 {
							events = append(events, ev(fmt.Sprint("t/", i+k), fmt.Sprint(i+k), 2), ev("other", "no", 2))
						}
						s.route(events...)
					}
				}()
				for i := range n {
					if got := c.receive(); got.Payload != fmt.Sprint(i) || got.Dup || got.QoS != qos {
						t.Fatalf("got %+v, want message %d", got, i)
					}
				}
				if qos == 1 {
					c.silence()
				}
			})
		}
	}
}

func TestASubscriptionIsForWhatComesAfterIt(t *testing.T) {
	s := newSite(t)
	c := resume(t, s.Broker, v5, "a", false, 0x21, 0, 1)
	c.subscribe(filter{"a", 1})
	s.route(ev("a", "1", 1), ev("b", "before", 1), ev("a", "2", 1))
	c.message() // and while that is not acknowledged, the session is behind
	c.send(frame(packet.TypeSubscribe<<4|2, append(packet.AppendString([]byte{0, 9, 0}, "b"), 1)))
	c.read()
	s.route(ev("b", "after", 1))
	c.send(puback(1))
	c.receives(received{Topic: "a", Payload: "2", QoS: 1}, received{Topic: "b", Payload: "after", QoS: 1})
	c.silence()
}

func TestOverlappingSubscriptionsAreOneMessage(t *testing.T) {
	s := newSite(t)
	c := resume(t, s.Broker, v5, "a", false)
	for i, f := range []struct {
		filter  string
		options byte
	}{{"t/#", 1}, {"t/+", 2 | 8}, {"+/1", 0}} {
		c.send(frame(packet.TypeSubscribe<<4|2, append(packet.AppendString([]byte{0, 9, 2, packet.PropSubscriptionID, byte(i + 1)}, f.filter), f.options)))
		c.read()
	}
	e := ev("t/1", "x", 2)
	e.Retain = true
	s.route(e)
	first, body, err := c.read()
	if err != nil {
		t.Fatal(err)
	}
	p, _ := packet.ParsePublish(first, body, true)
	want := []byte{packet.PropSubscriptionID, 1, packet.PropSubscriptionID, 2, packet.PropSubscriptionID, 3}
	if p.QoS != 2 || !p.Retain || !slices.Equal(p.Properties, want) {
		t.Errorf("got QoS %d, retain %v, properties % x", p.QoS, p.Retain, p.Properties)
	}
	c.silence()
}

func TestATopicIsSentOnceToAClientThatTakesAliases(t *testing.T) {
	s := newSite(t)
	c := resume(t, s.Broker, v5, "a", false, 0x22, 0, 1)
	c.subscribe(filter{"#", 0})
	s.route(ev("one", "1", 0), ev("one", "2", 0), ev("two", "3", 0), ev("one", "4", 0))
	for _, want := range []string{"one [35 0 1]", " [35 0 1]", "two []", " [35 0 1]"} {
		p := c.message()
		if got := fmt.Sprintf("%s %v", p.Topic, p.Properties); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestAMessageThatWaitedHasTheRestOfItsExpiryInterval(t *testing.T) {
	age := time.Duration(0)
	s := newSite(t, func(o *Options) { o.Age = func(*event.Event) time.Duration { return age } })
	c := resume(t, s.Broker, v5, "a", false)
	c.subscribe(filter{"t", 1})
	c.Close()
	s.gone(0)
	for _, seconds := range []uint32{60, 20} {
		e := ev("t", fmt.Sprint(seconds), 1)
		e.Properties = &event.Properties{HasExpiry: true, Expiry: seconds}
		s.route(e)
	}
	age = 25 * time.Second
	c = resume(t, s.Broker, v5, "a", true)
	p := c.message()
	if string(p.Payload) != "60" || !slices.Equal(p.Properties, []byte{packet.PropMessageExpiry, 0, 0, 0, 35}) {
		t.Errorf("got %s with % x, want the rest of 35 s", p.Payload, p.Properties)
	}
	eventually(t, "the end of the other one", func() bool { return s.Stats().Expired == 1 })
	c.silence()
}

func TestWhatRetentionRemovesBeforeASessionHadItIsCounted(t *testing.T) {
	s := newSite(t)
	c := resume(t, s.Broker, v4, "a", false)
	c.subscribe(filter{"t", 1})
	c.Close()
	s.gone(0)
	for i := range 10 {
		s.route(ev("t", fmt.Sprint(i), 1), ev("other", "x", 1))
	}
	s.main.trim(7) // three of the session's
	c = resume(t, s.Broker, v4, "a", true)
	for i := 3; i < 10; i++ {
		c.receives(received{Topic: "t", Payload: fmt.Sprint(i), QoS: 1})
	}
	s.route(ev("t", "live", 1))
	c.receives(received{Topic: "t", Payload: "live", QoS: 1})
	eventually(t, "three are counted as dropped", func() bool { return s.Stats().Dropped == 3 })
}

func TestMessagesThatWaitTooLongAreDropped(t *testing.T) {
	s := newSite(t, func(o *Options) { o.Sessions.MaxAge = time.Hour })
	c := resume(t, s.Broker, v4, "a", false)
	c.subscribe(filter{"t", 1})
	c.Close()
	s.gone(0)
	s.route(ev("t", "old", 1))
	s.keeper.base.Add(int64(50 * time.Minute))
	s.kept()
	s.route(ev("t", "young", 1))
	s.keeper.base.Add(int64(20 * time.Minute))
	s.kept()
	if n := s.Stats().Dropped; n != 1 {
		t.Errorf("%d dropped, want 1", n)
	}
	c = resume(t, s.Broker, v4, "a", true)
	c.receives(received{Topic: "t", Payload: "young", QoS: 1})
	c.silence()
}

func TestASessionExpiresAlsoAcrossRestarts(t *testing.T) {
	s := newSite(t)
	c := resume(t, s.Broker, v5, "a", false) // one hour
	c.subscribe(filter{"t", 1})
	c.Close()
	s.gone(0)
	s.keeper.base.Add(int64(40 * time.Minute))
	s.restart()
	s.keeper.base.Add(int64(10 * time.Minute))
	s.kept()
	if n := s.Stats().Sessions; n != 1 {
		t.Fatalf("%d sessions after 50 min, want 1", n)
	}
	s.keeper.base.Add(int64(11 * time.Minute))
	s.kept()
	if n := s.Stats().Sessions; n != 0 {
		t.Fatalf("%d sessions after 61 min, want none", n)
	}
	s.flush()
	s.restart()
	resume(t, s.Broker, v5, "a", false)
}

// The broker looks for sessions that have expired now and then only.
func TestASessionThatHasExpiredIsNotTakenUpAgain(t *testing.T) {
	s := newSite(t)
	c := resume(t, s.Broker, v5, "a", false) // one hour
	c.subscribe(filter{"t", 1})
	c.Close()
	s.gone(0)
	s.route(ev("t", "gone", 1))
	s.keeper.base.Add(int64(61 * time.Minute))
	c = resume(t, s.Broker, v5, "a", false)
	c.silence()
	if st := s.Stats(); st.Expiries != 1 || st.Sessions != 1 {
		t.Errorf("%d sessions have expired and %d are left, want one and the new one", st.Expiries, st.Sessions)
	}
}

func TestTheSessionClockDoesNotJump(t *testing.T) {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	saved := clockRecord{Clock: time.Hour, Wall: began, Boot: 3, Mono: 10 * time.Minute}
	for _, c := range []struct {
		what string
		boot uint32
		mono time.Duration
		wall time.Time
		want time.Duration
	}{
		{"the process was restarted", 3, 11 * time.Minute, began.Add(time.Minute), time.Hour + time.Minute},
		{"meanwhile the wall clock was set", 3, 11 * time.Minute, began.AddDate(30, 0, 0), time.Hour + time.Minute},
		{"the machine was off for a day", 4, time.Minute, began.AddDate(0, 0, 1), 25 * time.Hour},
		{"and has no clock of its own", 4, time.Minute, time.Unix(0, 0), time.Hour},
	} {
		var k keeper
		k.set(saved, c.boot, c.mono, c.wall)
		if got := time.Duration(k.base.Load()); got != c.want {
			t.Errorf("%s: the clock is at %v, want %v", c.what, got, c.want)
		}
	}
}

func TestWhatBecameOfASessionsMessagesIsCountedAcrossKills(t *testing.T) {
	age := time.Duration(0)
	s := newSite(t, func(o *Options) {
		o.Sessions.Max = 4000
		o.Age = func(*event.Event) time.Duration { return age }
	})
	matched := uint64(0)
	send := func(payload string, expiry uint32) {
		e := ev("t", payload, 1)
		if expiry > 0 {
			e.Properties = &event.Properties{HasExpiry: true, Expiry: expiry}
		}
		s.route(e)
		matched++
	}
	account := func(when string) (st SessionStats) {
		t.Helper()
		for _, st = range s.Sessions(10) {
		}
		if sum := st.Delivered + st.Waiting + uint64(st.Sent) + st.Dropped + st.Expired; st.Client != "a" || sum != matched {
			t.Errorf("%s: %+v are %d messages, of %d", when, st, sum, matched)
		}
		return st
	}
	c := resume(t, s.Broker, v5, "a", false, packet.PropMaximumPacketSize, 0, 0, 8, 0) // packets of 2 KiB at most
	c.subscribe(filter{"t", 1})
	send("1", 0)
	send(strings.Repeat("x", 3000), 0)
	c.receive()
	c.silence()
	if st := account("connected"); st.Delivered != 1 || st.Dropped != 1 || !st.Connected {
		t.Errorf("got %+v, want one message that was delivered and one that was too large", st)
	}
	c.Close()
	s.gone(0)
	for i := range 30 {
		send(strings.Repeat("x", 200), uint32(i%2*10))
	}
	away := account("away")
	if away.Dropped < 10 || away.Waiting == 0 || away.Connected {
		t.Errorf("got %+v, want some messages dropped", away)
	}
	s.kept()
	s.kill()
	if st := account("after a kill"); st.Dropped != away.Dropped || st.Delivered != 1 {
		t.Errorf("got %+v, want %+v", st, away)
	}
	age = 20 * time.Second
	c = resume(t, s.Broker, v5, "a", true)
	for range away.Waiting / 2 {
		c.receive()
	}
	c.silence()
	if st := account("at the end"); st.Waiting != 0 || st.Expired < away.Waiting/2 || !st.Connected {
		t.Errorf("got %+v, want half of what waited expired", st)
	}
}
