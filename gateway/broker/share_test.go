package broker

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/gateway/broker/packet"
	"holdfast/gateway/event"
)

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

func TestASharedSubscriptionIsOnDiskWhenItIsGranted(t *testing.T) {
	s := newSite(t)
	c := resume(t, s.Broker, v5, "a", false)
	c.subscribe(filter{"$share/g/t", 1})
	s.kill()
	s.main.add([]event.Event{ev("t", "committed before the kill", 1)})
	s.kill()
	c = resume(t, s.Broker, v5, "a", true)
	if got := c.receive(); got.Payload != "committed before the kill" {
		t.Errorf("got %+v", got)
	}
}

func TestASharedSubscriptionGoesOnWhetherOrNotAnythingOfItIsKept(t *testing.T) {
	const n = 3 * maxWindow
	for name, b := range map[string]*Broker{"on disk": newSite(t).Broker, "in memory": start(t, newFakeLog())} {
		for _, keep := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, session lasts %v", name, keep), func(t *testing.T) {
				id := fmt.Sprint("a", keep)
				c := dial(t, b, v5)
				c.send(connectPacket(connectOptions{v: v5, id: id, keep: keep}))
				c.connack(0)
				c.subscribe(filter{"$share/g/" + id, 1})
				go func() {
					for i := range n {
						route(b, []event.Event{ev(id, fmt.Sprint(i), 1)})
					}
				}()
				for i := range n {
					if got := c.receive(); got.Payload != fmt.Sprint(i) {
						t.Fatalf("got %+v, want message %d", got, i)
					}
				}
			})
		}
	}
}

func TestASharedMessageThatAMemberHasIsNotGivenAgainAfterAKill(t *testing.T) {
	s := newSite(t)
	a, b := resume(t, s.Broker, v5, "a", false), resume(t, s.Broker, v5, "b", false)
	a.subscribe(filter{"$share/g/t", 2})
	b.subscribe(filter{"$share/g/t", 2})
	s.kept()
	s.route(ev("t", "1", 2), ev("t", "2", 2)) // which puts the members' places on disk, not that of the group
	first, second := a.message(), b.message()
	s.flush()
	s.kill()
	a, b = resume(t, s.Broker, v5, "a", true), resume(t, s.Broker, v5, "b", true)
	for _, c := range []struct {
		*client
		want packet.Publish
	}{{a, first}, {b, second}} {
		p := c.message()
		if !p.Dup || p.ID != c.want.ID || string(p.Payload) != string(c.want.Payload) {
			t.Errorf("got %q, want %q again", p.Payload, c.want.Payload)
		}
		c.send(pubrec(p.ID))
		c.expect(pubrel(p.ID)...)
		c.send(pubcomp(p.ID))
	}
	a.silence()
	b.silence()
	s.route(ev("t", "3", 2), ev("t", "3", 2))
	for _, c := range []*client{a, b} {
		if p := c.message(); string(p.Payload) != "3" {
			t.Errorf("got %q", p.Payload)
		}
	}
}

func TestASharedMessageThatAMemberHasCompletedIsNotGivenAgainAfterAKill(t *testing.T) {
	s := newSite(t)
	c := resume(t, s.Broker, v5, "a", false)
	c.subscribe(filter{"$share/g/t", 2})
	s.kept()
	complete := func(want string, dup bool) {
		t.Helper()
		p := c.message()
		if string(p.Payload) != want || p.Dup != dup {
			t.Errorf("got %q, dup %v, want %q", p.Payload, p.Dup, want)
		}
		c.send(pubrec(p.ID))
		c.expect(pubrel(p.ID)...)
		c.send(pubcomp(p.ID))
		c.silence()
	}
	for range 2 {
		s.route(ev("t", "1", 2))
		complete("1", false)
		s.route(ev("t", "2", 2)) // for which the place of the member is put on disk, and not that of the group
		c.message()
		s.flush()
		s.kill()
		if s.kept(); len(s.sessions["a"].out.done) == 0 {
			t.Error("a message is forgotten that the group will come to again")
		}
		c = resume(t, s.Broker, v5, "a", true)
		complete("2", true)
	}
	eventually(t, "what the group has passed is forgotten", func() bool { // it reads the log in its own time
		s.kept()
		o := &s.sessions["a"].out
		o.mu.Lock()
		defer o.mu.Unlock()
		return len(o.done) == 0
	})
}

func TestASharedMessageOfAMemberWithoutASessionSurvivesAKill(t *testing.T) {
	s := newSite(t)
	dies := dial(t, s.Broker, v5)
	dies.send(connectPacket(connectOptions{v: v5, id: "dies"}))
	dies.connack(0)
	stays := resume(t, s.Broker, v5, "stays", false)
	dies.subscribe(filter{"$share/g/t", 1})
	stays.subscribe(filter{"$share/g/t", 1})
	s.route(ev("t", "1", 1), ev("t", "2", 1))
	if p := dies.message(); string(p.Payload) != "1" {
		t.Fatalf("got %q", p.Payload)
	}
	stays.receives(received{Topic: "t", Payload: "2", QoS: 1})
	stays.silence()
	s.kept()
	s.kill()
	stays = resume(t, s.Broker, v5, "stays", true)
	if got := stays.receive(); got.Payload != "1" {
		t.Errorf("got %+v, want what the other member had not acknowledged", got)
	}
	stays.silence()
}
