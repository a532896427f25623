package broker

import (
	"fmt"
	"strings"
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

func TestRetainedMessagesThatASubscriptionStillHasToGetComeOnTheNextConnection(t *testing.T) {
	for _, how := range []string{"reconnect", "restart", "kill"} {
		bothVersions(t, func(t *testing.T, v version) {
			const n = 2 * maxWindow
			s := newSite(t)
			for i := range n {
				e := ev(fmt.Sprintf("r/%04d", i), "x", 1)
				e.Retain = true
				s.route(e)
			}
			c := resume(t, s.Broker, v, "a", false)
			c.subscribe(filter{"r/+", 1}, filter{"other", 1})
			got := map[string]bool{}
			for range 100 {
				got[c.receive().Topic] = true
			}
			if how != "kill" {
				c.Close()
				s.gone(0)
			}
			switch how {
			case "restart":
				s.restart()
			case "kill":
				s.kill()
			}
			c = resume(t, s.Broker, v, "a", true)
			for len(got) < n {
				m := c.receive()
				if !m.Retain {
					t.Errorf("%s is not marked as retained", m.Topic)
				}
				got[m.Topic] = true
			}
			c.silence()
			c.Close()
			s.gone(0)
			s.restart()
			resume(t, s.Broker, v, "a", true).silence() // and only once
		})
	}
}

func TestRetainedMessagesTakeNoMoreMemoryThanTheyMay(t *testing.T) {
	s := newSite(t, func(o *Options) { o.Limits.Retained = 10_000 })
	keep := func(topic string, size int) {
		e := ev(topic, strings.Repeat("x", size), 1)
		e.Retain = true
		s.route(e)
	}
	c := resume(t, s.Broker, v5, "a", false)
	c.subscribe(filter{"r/#", 1})
	for i := range 100 {
		keep(fmt.Sprintf("r/%02d", i), 100)
		if got := c.receive(); got.Topic != fmt.Sprintf("r/%02d", i) {
			t.Fatalf("got %+v", got)
		}
	}
	check := func(want int) {
		t.Helper()
		if st := s.Stats(); st.Retained != want || st.RetainedBytes > 10_000 || st.NotRetained == 0 {
			t.Errorf("%d are retained, want %d: %+v", st.Retained, want, st)
		}
	}
	held := s.Stats().Retained
	if n := held - len(sysTopics()); n < 10 || n > 40 {
		t.Errorf("%d are retained", n)
	}
	keep("r/00", 90) // one that is there can change
	check(held)
	keep("r/01", 9000) // but not to what there is no room for, and is then not what it was
	check(held - 1)
	keep("r/02", 0)
	check(held - 2)
	keep("r/99", 100) // there is room again
	check(held - 1)
	s.kept()
	s.kill()
	if n := s.Stats().Retained; n != held-1 {
		t.Errorf("%d are retained after a kill, want %d", n, held-1)
	}
}

func TestRetainedMessagesSurviveAKillBeforeTheFirstOfThemIsKept(t *testing.T) {
	s := newSite(t)
	s.state = newMemState()
	s.state.frozen = true
	s.Broker.Close()
	s.start()
	e := ev("r", "x", 1)
	e.Retain = true
	s.route(e)
	s.kill()
	c := resume(t, s.Broker, v4, "a", false)
	c.subscribe(filter{"r", 1})
	if got := c.receive(); got.Payload != "x" || !got.Retain {
		t.Errorf("got %+v", got)
	}
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
