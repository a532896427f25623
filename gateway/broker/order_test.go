package broker

import (
	"fmt"
	"testing"
)

func TestNoMessageOvertakesOneThatWaitsForTheDisk(t *testing.T) {
	bothVersions(t, func(t *testing.T, v version) {
		s := newSite(t)
		c := resume(t, s.Broker, v, "a", false)
		c.subscribe(filter{"t", 2}, filter{"u", 1})
		s.flush()
		s.state.mu.Lock() // the disk is slow
		s.route(ev("t", "at once", 1))
		first := c.message()
		s.route(ev("t", "1", 2), ev("t", "2", 1), ev("t", "3", 0), ev("t", "4", 2), ev("u", "5", 2))
		c.silence()
		s.state.mu.Unlock()
		for i := range 5 {
			if p := c.message(); string(p.Payload) != string(rune('1'+i)) {
				t.Errorf("got %q in place %d", p.Payload, i+1)
			}
		}
		s.flush()
		s.state.mu.Lock()
		defer s.state.mu.Unlock()
		s.route(ev("t", "at once again", 1))
		if p := c.message(); string(p.Payload) != "at once again" || string(first.Payload) != "at once" {
			t.Errorf("got %q and %q", first.Payload, p.Payload)
		}
	})
}

func TestTheOnlyMemberOfAGroupGetsWhatItWasSentBeforeWhatIsNew(t *testing.T) {
	s := newSite(t)
	c := resume(t, s.Broker, v5, "a", false)
	c.subscribe(filter{"$share/g/t", 1})
	for range 20 {
		want := []string{"1", "2", "3", "4", "5", "6", "7", "8"}
		for _, p := range want[:4] {
			s.route(ev("t", p, 1))
			c.message()
		}
		c.Close()
		s.gone(0)
		for _, p := range want[4:] {
			s.route(ev("t", p, 1))
		}
		c = resume(t, s.Broker, v5, "a", true)
		for i, p := range want {
			m := c.message()
			if string(m.Payload) != p || m.Dup != (i < 4) {
				t.Fatalf("got %q in place %d, dup %v, want %q", m.Payload, i, m.Dup, p)
			}
			c.send(puback(m.ID))
		}
		c.silence()
	}
}

func TestABusyClientIsNotSentASecondOfMessagesAgainAfterAKill(t *testing.T) {
	const n = 10 * maxWindow
	s := newSite(t)
	c := resume(t, s.Broker, v4, "a", false)
	c.subscribe(filter{"t", 1})
	for i := range n {
		s.route(ev("t", fmt.Sprint(i), 1))
		c.send(puback(c.message().ID))
	}
	c.silence()
	s.flush()
	s.kill()
	s.route(ev("t", "new", 1))
	c = resume(t, s.Broker, v4, "a", true)
	for again := 0; ; again++ {
		m := c.message()
		if string(m.Payload) == "new" {
			break
		}
		if again == maxWindow/4 { // as far as the disk has kept up, which it had
			t.Fatalf("message %s comes again, and %d did before", m.Payload, again)
		}
		c.send(puback(m.ID))
	}
}

func TestNoMoreThanTheWindowComesAgainAfterAKillHoweverSlowTheDisk(t *testing.T) {
	for _, test := range []struct {
		filter  string
		maximum uint16
		most    int
	}{{"t", 1, leastRepeat}, {"t", 10, leastRepeat}, {"t", 200, 200}, {"t", 65535, maxWindow}, {"$share/g/t", 65535, maxWindow}} {
		t.Run(fmt.Sprintf("%s, receive maximum %d", test.filter, test.maximum), func(t *testing.T) {
			maximum, most := test.maximum, test.most
			t.Parallel()
			const n = 3 * maxWindow
			s := newSite(t)
			c := resume(t, s.Broker, v5, "a", false, 0x21, byte(maximum>>8), byte(maximum))
			c.subscribe(filter{test.filter, 1})
			s.kept()
			s.state.mu.Lock() // nothing gets to the disk
			for i := range n {
				s.route(ev("t", fmt.Sprint(i), 1))
			}
			for i := range most {
				m := c.message()
				if string(m.Payload) != fmt.Sprint(i) {
					t.Fatalf("got %s, want %d", m.Payload, i)
				}
				c.send(puback(m.ID))
			}
			c.silence()
			s.state.frozen = true // and never will
			s.state.mu.Unlock()
			s.kill()
			c = resume(t, s.Broker, v5, "a", true)
			for i := range n { // all of it, for the disk is quick again
				m := c.message()
				marked := m.Dup || test.filter != "t" // who had a shared message before is not known
				if string(m.Payload) != fmt.Sprint(i) || i < most && !marked {
					t.Fatalf("got %s, dup %v, want %d", m.Payload, m.Dup, i)
				}
				c.send(puback(m.ID))
			}
			c.silence()
		})
	}
}
