package mqttsink_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
	"holdfast/gateway/forward"
	"holdfast/gateway/sink/mqttsink"
)

// journal is a log that commits when a test lets it.
type journal struct {
	commit func(n int) error // decides about the n-th emission; nil commits
	refuse func(n int) error // of Emit itself

	mu     sync.Mutex
	calls  int
	events []event.Event
}

func (j *journal) emit(events []event.Event, done func(error)) error {
	j.mu.Lock()
	j.calls++
	n := j.calls
	j.mu.Unlock()
	if j.refuse != nil {
		if err := j.refuse(n); err != nil {
			return err
		}
	}
	go func() {
		var err error
		if j.commit != nil {
			err = j.commit(n)
		}
		if err == nil {
			j.mu.Lock()
			j.events = append(j.events, events...)
			j.mu.Unlock()
		}
		done(err)
	}()
	return nil
}

func (j *journal) payloads() (all []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.events {
		all = append(all, string(e.Payload))
	}
	return all
}

func source(t testing.TB, yaml string) forward.Source {
	t.Helper()
	s, err := mqttsink.Kind.Source(section(t, yaml))
	if err != nil || s == nil {
		t.Fatalf("source %v, error %v", s, err)
	}
	return s
}

// run runs a source until the test ends or stop is called, which waits.
func run(t testing.TB, s forward.Source, j *journal) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, forward.Intake{Gateway: "gw-1", Emit: j.emit, Logger: quiet()}) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Error("Run does not end")
		}
	})
	t.Cleanup(stop)
	return stop
}

// acks collects the packet identifiers that were acknowledged.
type acks struct {
	mu  sync.Mutex
	ids []uint16
}

func (a *acks) add(_ *farConn, id uint16) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ids = append(a.ids, id)
}

func (a *acks) get() []uint16 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.ids)
}

func command(id uint16, payload string) publish {
	return publish{topic: "cmd/door", payload: payload, id: id, qos: 1}
}

func TestACommandBecomesAnEventAndIsAcknowledgedOnlyThen(t *testing.T) {
	f, a := newFar(t), &acks{}
	f.acked = a.add
	f.subscribed = func(c *farConn) { c.write(command(7, "open").packet()) }
	committing, commit := make(chan bool), make(chan bool)
	j := &journal{commit: func(int) error { committing <- true; <-commit; return nil }}
	before := event.At(time.Now())
	s := source(t, "url: "+f.url()+"\nsubscribe: [{topic: 'cmd/#', to: 'down/{gateway}/{topic}'}]")
	run(t, s, j)

	<-committing
	time.Sleep(50 * time.Millisecond) // for a PUBACK that must not come
	if ids := a.get(); len(ids) > 0 {
		t.Fatalf("acknowledged %v before the commit", ids)
	}
	close(commit)
	eventually(t, "the PUBACK", func() bool { return slices.Equal(a.get(), []uint16{7}) })

	e := j.events[0]
	if e.Received < before {
		t.Errorf("received at %v, before the test", e.Received)
	}
	e.Received = 0
	want := event.Event{Topic: "down/gw-1/cmd/door", Source: "bridge", Client: "cloud", Payload: []byte("open"), QoS: 1}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
	connect := f.connections()[0].connect.body
	if connect[7] != 0 || !bytes.HasSuffix(connect, text("holdfast-gw-1-cloud-down")) {
		t.Errorf("CONNECT %q, want a kept session with a name of its own", connect)
	}
	eventually(t, "the status", func() bool { return s.Status().Received == 1 })
	if st := s.Status(); !st.Connected || st.Err != "" || st.Since.IsZero() {
		t.Errorf("status %+v", st)
	}
}

func TestCommandsKeepTheirOrderAndSoDoTheirPubacks(t *testing.T) {
	f, a, j := newFar(t), &acks{}, &journal{}
	f.acked = a.add
	const n = 1000
	var ids []uint16
	f.subscribed = func(c *farConn) {
		for i := range n {
			m := command(uint16(n-i), fmt.Sprint(i+1))
			ids = append(ids, m.id)
			c.write(m.packet())
		}
	}
	run(t, source(t, "url: "+f.url()+"\nsubscribe: [{topic: 'cmd/#'}]"), j)
	eventually(t, "all PUBACKs", func() bool { return len(a.get()) == n })
	if diff := cmp.Diff(ids, a.get()); diff != "" {
		t.Errorf("acknowledged (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(count(1, n), j.payloads()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestWhatCouldNotBeStoredIsNotAcknowledgedAndComesAgain(t *testing.T) {
	full := errors.New("the store is full")
	first := func(n int) error {
		if n == 1 {
			return full
		}
		return nil
	}
	for name, j := range map[string]*journal{"refused": {refuse: first}, "not committed": {commit: first}} {
		t.Run(name, func(t *testing.T) {
			f, a := newFar(t), &acks{}
			f.acked = a.add
			f.subscribed = func(c *farConn) {
				c.write(publish{topic: "cmd/1", payload: "1", id: 1, qos: 1, dup: c.number > 1}.packet())
			}
			s := source(t, "url: "+f.url()+"\nsubscribe: [{topic: 'cmd/#'}]")
			run(t, s, j)
			eventually(t, "the PUBACK", func() bool { return len(a.get()) == 1 })
			if diff := cmp.Diff([]string{"1"}, j.payloads()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if n := len(f.connections()); n != 2 {
				t.Errorf("%d connections, want 2", n)
			}
			if st := s.Status(); st.Repeated != 0 || st.Received != 1 {
				t.Errorf("status %+v", st)
			}
		})
	}
}

func TestARepetitionThatIsSurelyOneIsAcknowledgedWithoutASecondEvent(t *testing.T) {
	for _, c := range []struct {
		name    string
		present bool    // the far side has kept the session
		second  publish // on the second connection; the first brought "open" with identifier 9
		want    []string
	}{
		{"repetition", true, publish{topic: "cmd/door", payload: "open", id: 9, qos: 1, dup: true}, []string{"open"}},
		{"same words again", true, publish{topic: "cmd/door", payload: "open", id: 9, qos: 1}, []string{"open", "open"}},
		{"another identifier", true, publish{topic: "cmd/door", payload: "open", id: 10, qos: 1, dup: true}, []string{"open", "open"}},
		{"another payload", true, publish{topic: "cmd/door", payload: "close", id: 9, qos: 1, dup: true}, []string{"open", "close"}},
		{"another topic", true, publish{topic: "cmd/gate", payload: "open", id: 9, qos: 1, dup: true}, []string{"open", "open"}},
		{"a new session", false, publish{topic: "cmd/door", payload: "open", id: 9, qos: 1, dup: true}, []string{"open", "open"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, a := newFar(t), &acks{}
			f.acked = a.add
			f.connack = func(conn *farConn) packet {
				if conn.number > 1 && c.present {
					return packet{0x20, []byte{1, 0}}
				}
				return packet{0x20, []byte{0, 0}}
			}
			gone, lost := make(chan bool), make(chan bool)
			f.subscribed = func(conn *farConn) {
				if conn.number == 1 {
					conn.write(command(9, "open").packet())
				} else if !c.present {
					conn.write(c.second.packet())
				}
			}
			s := source(t, "url: "+f.url()+"\nsubscribe: [{topic: 'cmd/#'}]")
			j := &journal{commit: func(n int) error {
				if n == 1 { // the connection is lost before the event is on disk
					close(gone)
					<-lost
				}
				return nil
			}}
			run(t, s, j)
			<-gone
			f.connections()[0].finish()
			close(lost)
			eventually(t, "the second connection", func() bool { return len(f.connections()) == 2 && s.Status().Connected })
			if c.present {
				f.connections()[1].write(c.second.packet())
			}
			eventually(t, "the PUBACK", func() bool { return slices.Equal(a.get(), []uint16{c.second.id}) })
			if diff := cmp.Diff(c.want, j.payloads()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestItSubscribesOnceForEverySession(t *testing.T) {
	f, j := newFar(t), &journal{}
	var mu sync.Mutex
	var asked []int
	f.connack = func(c *farConn) packet {
		return packet{0x20, []byte{map[int]byte{1: 1, 2: 1, 3: 0}[c.number], 0}}
	}
	f.subscribed = func(c *farConn) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, c.number)
	}
	s := source(t, "url: "+f.url()+"\nsubscribe: [{topic: 'cmd/#'}, {topic: 'cfg/+', qos: 0}]")
	run(t, s, j)
	for n := 1; n <= 3; n++ {
		eventually(t, "the connection", func() bool { return len(f.connections()) == n && s.Status().Connected })
		f.cut()
		eventually(t, "the loss is noticed", func() bool { return len(f.connections()) > n || !s.Status().Connected })
	}
	// The session of the first was kept by the far side since an earlier run,
	// whose settings nobody knows; that of the second is ours; the third is new.
	eventually(t, "the third subscribes", func() bool { mu.Lock(); defer mu.Unlock(); return len(asked) >= 2 })
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff([]int{1, 3}, asked[:min(2, len(asked))]); diff != "" {
		t.Errorf("connections that subscribed (-want +got):\n%s", diff)
	}
}

func TestAnUnfitSubackIsAnErrorAndNoPanic(t *testing.T) {
	for _, c := range []struct {
		name  string
		codes []byte
		want  string
	}{
		{"refused", []byte{0x80}, `refuses the subscription to "cmd/#"`},
		{"a code too many", []byte{1, 1}, "broke the MQTT protocol"},
		{"no code", nil, "broke the MQTT protocol"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFar(t)
			f.suback = func(*farConn, []byte) []byte { return c.codes }
			s := source(t, "url: "+f.url()+"\nsubscribe: [{topic: 'cmd/#'}]")
			run(t, s, &journal{})
			eventually(t, c.want, func() bool { return strings.Contains(s.Status().Err, c.want) })
			if s.Status().Connected {
				t.Error("shown as connected")
			}
		})
	}
}

func TestMessagesThatCannotBecomeEventsAreAcknowledgedAndCounted(t *testing.T) {
	f, a, j := newFar(t), &acks{}, &journal{}
	f.acked = a.add
	f.subscribed = func(c *farConn) {
		c.write(
			publish{topic: "old/subscription", id: 1, qos: 1}.packet(),
			publish{topic: "cmd/+", id: 2, qos: 1}.packet(),
			publish{topic: "cmd/\xff", id: 3, qos: 1}.packet(),
			publish{topic: "cmd/" + strings.Repeat("x", 65530), id: 4, qos: 1}.packet(),
			publish{topic: "cmd/1", payload: strings.Repeat("x", 4<<20+1), id: 5, qos: 1}.packet(),
			publish{topic: "cmd/1", payload: "good", id: 6, qos: 1, retain: true}.packet(),
			publish{topic: "cfg/1", payload: "qos 0", retain: true}.packet(),
		)
	}
	s := source(t, "url: "+f.url()+"\nsubscribe: [{topic: 'cmd/#', to: 'down/{topic}'}, {topic: 'cfg/+', qos: 0, retain: true}]")
	run(t, s, j)
	eventually(t, "all PUBACKs", func() bool { return slices.Equal(a.get(), []uint16{1, 2, 3, 4, 5, 6}) })
	eventually(t, "both events", func() bool { return len(j.payloads()) == 2 })
	eventually(t, "the counts", func() bool { st := s.Status(); return st.Received == 2 && st.Dropped == 5 })
	if j.events[0].Topic != "down/cmd/1" || j.events[0].Retain || j.events[1].Topic != "cfg/1" || !j.events[1].Retain || j.events[1].QoS != 0 {
		t.Errorf("events %+v", j.events)
	}
}

func TestTheStatusTopicShowsTheGatewayComeAndGo(t *testing.T) {
	f := newFar(t)
	yaml := "url: " + f.url() + "\nstatus: {topic: 'gw/{gateway}/{destination}', offline: gone}"
	s := source(t, yaml)
	stop := run(t, s, &journal{})
	// The stop is in order only once the PUBACK has come too; before that the
	// far side would publish the will.
	eventually(t, "online", func() bool { return len(f.taken()) == 1 && s.Status().Connected })
	stop()
	eventually(t, "offline", func() bool { return len(f.taken()) == 2 })
	want := []publish{
		{topic: "gw/gw-1/cloud", payload: "online", qos: 1, id: 1, retain: true},
		{topic: "gw/gw-1/cloud", payload: "gone", qos: 1, id: 2, retain: true},
	}
	if diff := cmp.Diff(want, f.taken(), cmp.AllowUnexported(publish{})); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	c := f.connections()[0]
	const clean, hasWill, qos1, retain = 2, 4, 8, 32
	body := slices.Concat(text("MQTT"), []byte{4, clean | hasWill | qos1 | retain, 0, 30},
		text("holdfast-gw-1-cloud-down"), text("gw/gw-1/cloud"), text("gone"))
	if !bytes.Equal(body, c.connect.body) {
		t.Errorf("CONNECT %q, want %q", c.connect.body, body)
	}
	eventually(t, "the DISCONNECT", func() bool { f.turn.Lock(); defer f.turn.Unlock(); return c.left })

	t.Run("and a sink alone has no will", func(t *testing.T) {
		if err := sendWithin(open(t, yaml), patience, numbered(1, 1)); err != nil {
			t.Fatal(err)
		}
		if flags := f.connections()[1].connect.body[7]; flags != clean {
			t.Errorf("CONNECT flags %b", flags)
		}
	})
}

func TestRunEndsSoonWhateverItIsDoing(t *testing.T) {
	t.Run("unreachable", func(t *testing.T) {
		f := newFar(t)
		_ = f.listener.Close()
		s := source(t, "url: "+f.url()+"\nsubscribe: [{topic: 'cmd/#'}]")
		stop := run(t, s, &journal{})
		eventually(t, "an error", func() bool { return strings.Contains(s.Status().Err, "refused") })
		stop()
	})
	t.Run("no CONNACK", func(t *testing.T) {
		f := newFar(t)
		asked := make(chan bool, 1)
		f.connack = func(*farConn) packet { asked <- true; <-t.Context().Done(); return packet{} }
		stop := run(t, source(t, "url: "+f.url()+"\nsubscribe: [{topic: 'cmd/#'}]"), &journal{})
		<-asked
		stop()
	})
	t.Run("committing", func(t *testing.T) {
		f, a := newFar(t), &acks{}
		f.acked = a.add
		f.subscribed = func(c *farConn) { c.write(command(1, "open").packet()) }
		committing, commit := make(chan bool), make(chan bool)
		stop := run(t, source(t, "url: "+f.url()+"\nsubscribe: [{topic: 'cmd/#'}]"),
			&journal{commit: func(int) error { close(committing); <-commit; return nil }})
		<-committing
		time.AfterFunc(50*time.Millisecond, func() { close(commit) })
		stop()
		eventually(t, "the PUBACK of what was committed", func() bool { return slices.Equal(a.get(), []uint16{1}) })
	})
}

func TestAnOutageIsOneLineInTheLog(t *testing.T) {
	f := newFar(t)
	_ = f.listener.Close()
	var log lines
	s := source(t, "url: "+f.url()+"\nsubscribe: [{topic: 'cmd/#'}]")
	ctx, cancel := context.WithCancel(t.Context()) // a deadline would end the attempt under way with an error of its own
	defer cancel()
	go func() {
		for s.Status().Err == "" { // the first attempt has failed
			time.Sleep(2 * time.Millisecond)
		}
		time.AfterFunc(1500*time.Millisecond, cancel) // some more of them
	}()
	if err := s.Run(ctx, forward.Intake{Gateway: "gw-1", Logger: slog.New(slog.NewTextHandler(&log, nil))}); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "destination=cloud") {
		t.Errorf("log:\n%s", log.String())
	}
}

type lines struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}
