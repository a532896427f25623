package broker

import (
	"testing"

	"holdfast/gateway/broker/packet"
	"holdfast/gateway/event"
)

// site is a broker on a log and a state that outlive it. It writes what has
// changed when the test says so, see kept: what a kill finds on disk does not
// depend on how fast the machine is.
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
	o := s.log.options()
	o.State = s.state
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

// flush waits until all that was put is on disk, with what is put because of
// that.
func (s *site) flush() {
	for more := true; more; {
		done := make(chan bool)
		_ = s.state.Put(nil, false, func(error) { done <- len(s.state.puts) > 0 })
		more = <-done
	}
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
func (c *client) message() packet.Publish {
	c.t.Helper()
	first, body, err := c.read()
	if err != nil || first>>4 != packet.TypePublish {
		c.t.Fatalf("got %x % x, %v, want PUBLISH", first, body, err)
	}
	p, err := packet.ParsePublish(first, body, c.v5)
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

func unsubscribe(v version, filters ...string) []byte {
	b := []byte{0, 9}
	if v {
		b = append(b, 0)
	}
	for _, f := range filters {
		b = packet.AppendString(b, f)
	}
	return frame(packet.TypeUnsubscribe<<4|2, b)
}
