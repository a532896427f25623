package broker

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"holdfast/gateway/broker/packet"
	"holdfast/gateway/event"
)

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

// dueWills makes all wills that wait due.
func (b *Broker) dueWills() {
	for _, s := range b.allSessions() {
		s.mu.Lock()
		if s.will != nil {
			s.will.Reset(0)
		}
		s.mu.Unlock()
	}
}

func TestAWillSurvivesAKill(t *testing.T) {
	w := event.Event{Topic: "gone/a", Payload: []byte("dead"), QoS: 1}
	for _, keep := range []bool{true, false} {
		t.Run(fmt.Sprint("session lasts ", keep), func(t *testing.T) {
			s := newSite(t, func(o *Options) { o.willGrace = time.Hour })
			for _, id := range []string{"stays away", "comes back", "said goodbye"} {
				c := dial(t, s.Broker, v5)
				c.send(connectPacket(connectOptions{v: v5, id: id, keep: keep, will: &w}))
				c.connack(0)
				if id == "said goodbye" {
					c.send([]byte{packet.TypeDisconnect << 4, 0})
					c.closed(0)
				}
			}
			s.gone(2)
			s.flush()
			s.kill()
			resume(t, s.Broker, v5, "comes back", keep).silence()
			s.dueWills()
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
