package broker

import (
	"fmt"
	"testing"

	"holdfast/gateway/event"
)

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
