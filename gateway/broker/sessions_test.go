package broker

import (
	"encoding/binary"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/gateway/event"
)

// site is a broker on a log and a state that outlive it.
type site struct {
	t     testing.TB
	log   *fakeLog
	state *memState
	main  *memStream
	with  []func(*Options)
	*Broker
}

func newSite(t testing.TB, with ...func(*Options)) *site {
	s := &site{t: t, log: newFakeLog(), state: newMemState(), main: newMemStream("events"), with: with}
	s.start()
	return s
}

func (s *site) start() {
	s.t.Helper()
	o := Options{Listen: []Listener{{Address: "127.0.0.1:0"}}, Emit: s.log.Emit, Release: s.log.Release, Held: s.log.Held, State: s.state}
	for _, f := range s.with {
		f(&o)
	}
	b, err := New(o)
	if err != nil {
		s.t.Fatal(err)
	}
	follow(b, s.main)
	if err := b.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { b.Close() })
	s.Broker = b
}

// kill starts a new broker on what was on disk, as after kill -9.
func (s *site) kill() {
	s.t.Helper()
	s.state = s.state.freeze()
	s.Broker.Close()
	s.start()
}

// restart stops the broker in order and starts another.
func (s *site) restart() {
	s.t.Helper()
	s.Broker.Close()
	s.flush()
	s.start()
}

// flush waits until all that was put is on disk.
func (s *site) flush() {
	done := make(chan struct{})
	_ = s.state.Put(nil, false, func(error) { close(done) })
	<-done
}

// kept waits until the broker has written what has changed.
func (s *site) kept() {
	s.keeper.keep(false)
	s.flush()
}

func (s *site) route(events ...event.Event) { route(s.Broker, events) }

func (s *site) gone(left int) {
	s.t.Helper()
	eventually(s.t, "the end of a connection", func() bool { return len(s.all()) == left })
}

// resume connects and checks whether there was a session.
func resume(t testing.TB, b *Broker, v version, id string, present bool, props ...byte) *client {
	t.Helper()
	c := dial(t, b, v)
	c.send(connectPacket(connectOptions{v: v, id: id, keep: true, props: props}))
	first, body, err := c.read()
	if err != nil || first != 0x20 || body[1] != 0 || (body[0] == 1) != present {
		t.Fatalf("got %x % x, %v, want CONNACK with session present %v", first, body, err, present)
	}
	return c
}

// message reads a PUBLISH without acknowledging it.
func (c *client) message() publish {
	c.t.Helper()
	first, body, err := c.read()
	if err != nil || first>>4 != typePublish {
		c.t.Fatalf("got %x % x, %v, want PUBLISH", first, body, err)
	}
	p, err := parsePublish(first, body, c.v5)
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

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
			id := c.message().id
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
			if p := c.message(); string(p.payload) != "sent" || !p.dup || p.id != id {
				t.Errorf("got %q with identifier %d, dup %v, want what was sent before with %d", p.payload, p.id, p.dup, id)
			}
			c.send(puback(id))
			c.receives(received{Topic: "t/3", Payload: "missed", QoS: 1}, received{Topic: "t/4", Payload: "later", QoS: 1})
			s.route(ev("t/5", "live", 1))
			c.receives(received{Topic: "t/5", Payload: "live", QoS: 1})
			c.silence()
		})
	}
}

func unsubscribe(v version, filters ...string) []byte {
	b := []byte{0, 9}
	if v {
		b = append(b, 0)
	}
	for _, f := range filters {
		b = appendText(b, f)
	}
	return packet(typeUnsubscribe<<4|2, b)
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
	one, two, three := c.message().id, c.message().id, c.message().id
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
		if first>>4 == typePublish {
			p, _ := parsePublish(first, body, true)
			rest[fmt.Sprintf("%s %d %v", p.payload, p.id, p.dup)]++
			c.send(pubrec(p.id))
			c.expect(pubrel(p.id)...)
			c.send(pubcomp(p.id))
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

func TestAMemberThatDiesLeavesItsShareToTheOthers(t *testing.T) {
	s := newSite(t)
	dies := dial(t, s.Broker, v5)
	dies.send(connectPacket(connectOptions{v: v5, id: "dies"}))
	dies.connack(0)
	stays := resume(t, s.Broker, v5, "stays", false)
	dies.subscribe(filter{"$share/g/t", 1})
	stays.subscribe(filter{"$share/g/t", 1})
	for i := range 10 {
		s.route(ev("t", fmt.Sprint(i), 1))
	}
	var got []string
	for range 5 {
		got = append(got, stays.receive().Payload)
		dies.message()
	}
	dies.Close()
	for range 5 {
		got = append(got, stays.receive().Payload)
	}
	stays.silence()
	slices.Sort(got)
	if strings.Join(got, "") != "0123456789" {
		t.Errorf("got %v", got)
	}
}

func TestASharedSubscriptionWaitsForItsMembersAndSurvivesAKill(t *testing.T) {
	s := newSite(t)
	c := resume(t, s.Broker, v5, "a", false)
	c.subscribe(filter{"$share/g/t", 1})
	c.Close()
	s.gone(0)
	s.route(ev("t", "1", 1), ev("t", "2", 1))
	s.kept()
	s.kill()
	s.route(ev("t", "3", 1))
	c = resume(t, s.Broker, v5, "a", true)
	for _, want := range []string{"1", "2", "3"} {
		c.receives(received{Topic: "t", Payload: want, QoS: 1})
	}
	c.silence()
}

func TestASubscriptionIsForWhatComesAfterIt(t *testing.T) {
	s := newSite(t)
	c := resume(t, s.Broker, v5, "a", false, 0x21, 0, 1)
	c.subscribe(filter{"a", 1})
	s.route(ev("a", "1", 1), ev("b", "before", 1), ev("a", "2", 1))
	c.message() // and while that is not acknowledged, the session is behind
	c.send(packet(typeSubscribe<<4|2, append(appendText([]byte{0, 9, 0}, "b"), 1)))
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
		c.send(packet(typeSubscribe<<4|2, append(appendText([]byte{0, 9, 2, propSubscriptionID, byte(i + 1)}, f.filter), f.options)))
		c.read()
	}
	e := ev("t/1", "x", 2)
	e.Retain = true
	s.route(e)
	first, body, err := c.read()
	if err != nil {
		t.Fatal(err)
	}
	p, _ := parsePublish(first, body, true)
	want := []byte{propSubscriptionID, 1, propSubscriptionID, 2, propSubscriptionID, 3}
	if p.qos != 2 || !p.retain || !slices.Equal(p.props, want) {
		t.Errorf("got QoS %d, retain %v, properties % x", p.qos, p.retain, p.props)
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
		if got := fmt.Sprintf("%s %v", p.topic, p.props); got != want {
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
	if string(p.payload) != "60" || !slices.Equal(p.props, []byte{propExpiry, 0, 0, 0, 35}) {
		t.Errorf("got %s with % x, want the rest of 35 s", p.payload, p.props)
	}
	c.silence()
	if n := s.Stats().Expired; n != 1 {
		t.Errorf("%d expired, want 1", n)
	}
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
	if n := s.Stats().Dropped; n != 3 {
		t.Errorf("%d messages counted as dropped, want 3", n)
	}
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

// waitingWills are the clients whose wills are to be published later.
func (b *Broker) waitingWills() (clients []string) {
	for _, s := range b.allSessions() {
		s.mu.Lock()
		if s.will != nil {
			clients = append(clients, s.id)
		}
		s.mu.Unlock()
	}
	return clients
}

func TestAWillSurvivesAKill(t *testing.T) {
	w := event.Event{Topic: "gone/a", Payload: []byte("dead"), QoS: 1}
	for _, keep := range []bool{true, false} {
		t.Run(fmt.Sprint("session lasts ", keep), func(t *testing.T) {
			s := newSite(t, func(o *Options) { o.willGrace = 50 * time.Millisecond })
			for _, id := range []string{"stays away", "comes back", "said goodbye"} {
				c := dial(t, s.Broker, v5)
				c.send(connectPacket(connectOptions{v: v5, id: id, keep: keep, will: &w}))
				c.connack(0)
				if id == "said goodbye" {
					c.send([]byte{typeDisconnect << 4, 0})
					c.closed(0)
				}
			}
			s.gone(2)
			s.flush()
			s.with = append(s.with, func(o *Options) { o.willGrace = time.Second })
			s.kill()
			resume(t, s.Broker, v5, "comes back", keep).silence()
			// Without a session to come back to, its will is due at once.
			want := []string{"stays away"}
			if !keep {
				want = []string{"comes back", "stays away"}
			}
			var from []string
			for _, e := range s.log.events(t, len(want)) {
				from = append(from, e.Client)
			}
			slices.Sort(from)
			if !slices.Equal(from, want) {
				t.Errorf("wills of %v, want %v", from, want)
			}
			s.flush()
			s.flush()
			s.kill() // and only once
			if waits := s.waitingWills(); len(waits) > 0 {
				t.Errorf("wills of %v wait", waits)
			}
			if n := len(s.log.events(t, 1)); n != len(want) {
				t.Errorf("%d wills, want %d", n, len(want))
			}
		})
	}
}

func TestARestartDoesNotMakeAWillWaitAnew(t *testing.T) {
	for _, c := range []struct {
		name               string
		delay, due, passed time.Duration
		want               time.Duration
	}{
		{"of a client that was connected", 0, 0, 0, 30 * time.Second},
		{"of a client that was connected, with a long delay", time.Hour, 0, 0, time.Hour},
		{"that has waited before", 10 * time.Minute, 15 * time.Minute, 13 * time.Minute, 2 * time.Minute},
		{"whose time is near", 10 * time.Minute, 15 * time.Minute, 899 * time.Second, 30 * time.Second},
		{"whose time came while the gateway was down", 10 * time.Minute, 15 * time.Minute, time.Hour, 30 * time.Second},
		{"with a short delay", 3 * time.Second, 15 * time.Minute, 15*time.Minute - 2*time.Second, 3 * time.Second},
	} {
		if got := (&will{delay: c.delay, due: c.due}).rest(c.passed, 30*time.Second); got != c.want {
			t.Errorf("a will %s waits %v more, want %v", c.name, got, c.want)
		}
	}
	s := newSite(t, func(o *Options) { o.willGrace = 20 * time.Millisecond })
	c := dial(t, s.Broker, v5)
	c.send(connectPacket(connectOptions{v: v5, id: "a", keep: true, will: &event.Event{Topic: "gone", Payload: []byte("x")}, willDelay: 200}))
	c.connack(0)
	c.Close()
	s.gone(0)
	s.keeper.base.Add(int64(199*time.Second + 900*time.Millisecond))
	s.restart()
	s.log.events(t, 1) // and not in 200 s
}

func TestAClientThatLeavesBeforeItIsAcceptedLeavesNoWill(t *testing.T) {
	s := newSite(t)
	hold := make(chan struct{})
	s.state.puts <- func() { <-hold } // the disk is slow
	c := dial(t, s.Broker, v4)
	c.send(connectPacket(connectOptions{id: "a", will: &event.Event{Topic: "gone", Payload: []byte("x")}}))
	eventually(t, "the session", func() bool { return s.Stats().Sessions == 1 })
	c.Close()
	conn := s.all()[0]
	eventually(t, "the kernel to know", conn.hungUp)
	close(hold)
	s.gone(0)
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	if len(s.log.batches) > 0 {
		t.Errorf("got %v, want no will", s.log.batches)
	}
}

func TestRetainedMessagesSurviveAKill(t *testing.T) {
	s := newSite(t)
	keep := func(topic, payload string) event.Event {
		e := ev(topic, payload, 1)
		e.Retain = true
		return e
	}
	s.route(keep("r/1", "old"), keep("r/2", "gone"), keep("r/3", "stays"))
	s.kept()
	s.route(keep("r/1", "new"), keep("r/2", ""), keep("r/4", "late")) // in the log only
	s.kill()
	c := resume(t, s.Broker, v5, "a", false)
	c.subscribe(filter{"r/+", 1})
	for _, want := range []string{"r/1 new", "r/3 stays", "r/4 late"} {
		got := c.receive()
		if got.Topic+" "+got.Payload != want || !got.Retain {
			t.Errorf("got %+v, want %s", got, want)
		}
	}
	c.silence()
}

func TestMoreRetainedMessagesThanTheWindowComeAll(t *testing.T) {
	const n = 3 * maxWindow
	s := newSite(t)
	for i := range n {
		e := ev(fmt.Sprintf("r/%04d", i), "x", 1)
		e.Retain = true
		s.route(e)
	}
	c := resume(t, s.Broker, v5, "a", false)
	c.subscribe(filter{"r/+", 1})
	for i := range n {
		if got := c.receive(); got.Topic != fmt.Sprintf("r/%04d", i) {
			t.Fatalf("got %s, want message %d", got.Topic, i)
		}
	}
	c.silence()
}

func TestAPlaceIsReadAsItWasWritten(t *testing.T) {
	p := place{
		connected: true, left: 5 * time.Second, lastID: 77, pending: 9, bytes: 1000, delivered: 300, outcome: outcome{dropped: 4, expired: 5},
		next:     map[string]uint64{"events": 12, "alerts": 3},
		marks:    []placeMark{{3, 400, time.Minute, map[string]uint64{"events": 13}}},
		window:   []placeSent{{id: 7, qos: 2, retain: true, released: true, size: 99, stream: "events", offset: 10}, {id: 8, qos: 1, offset: 4, topic: "r/1", stream: "alerts"}},
		returned: []placeSent{{stream: "events", offset: 3, group: "$share/g/t"}},
	}
	got, err := parsePlace(p.append(nil))
	if err != nil || !reflect.DeepEqual(got, p) {
		t.Errorf("got %+v, %v, want %+v", got, err, p)
	}
}

func TestAPlaceOfTheFirstVersionIsRead(t *testing.T) {
	b := append([]byte{1, 1, 5, 77, 9, 100, 1, 6}, "events"...)
	b = append(b, 1, 0, 12, 0, 0, 0)
	want := place{connected: true, left: 5, lastID: 77, pending: 9, bytes: 100, next: map[string]uint64{"events": 12}}
	if got, err := parsePlace(b); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
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
	c := resume(t, s.Broker, v5, "a", false, propMaximumPacket, 0, 0, 8, 0) // packets of 2 KiB at most
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

func FuzzPlace(f *testing.F) {
	p := place{next: map[string]uint64{"events": 12}, window: []placeSent{{id: 7, qos: 2, stream: "events", offset: 10, topic: "t"}}}
	f.Add(p.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePlace(b)
		if err != nil {
			return
		}
		again, err := parsePlace(p.append(nil))
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Errorf("%+v became %+v, %v", p, again, err)
		}
	})
}
