package mqttsink_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
	"holdfast/gateway/forward"
	"holdfast/gateway/forward/sinktest"
)

// mosquitto is Debian's broker as the far side.
type mosquitto struct {
	t      testing.TB
	binary string
	dir    string
	addr   string
	cmd    *exec.Cmd
}

func newMosquitto(t testing.TB) *mosquitto {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		for _, p := range []string{"/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"} {
			if _, statErr := os.Stat(p); statErr == nil {
				path, err = p, nil
			}
		}
	}
	if err != nil {
		t.Skip("SKIP: mosquitto is not installed; nothing is shown about a real broker")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &mosquitto{t: t, binary: path, dir: t.TempDir(), addr: l.Addr().String()}
	_ = l.Close()
	_, port, _ := net.SplitHostPort(m.addr)
	write(t, m.conf(), fmt.Appendf(nil,
		"listener %s 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\nlog_type error\n", port))
	m.start()
	t.Cleanup(m.kill)
	return m
}

func (m *mosquitto) conf() string { return filepath.Join(m.dir, "mosquitto.conf") }

func (m *mosquitto) start() {
	m.cmd = exec.Command(m.binary, "-c", m.conf())
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	eventually(m.t, "mosquitto listens", func() bool {
		c, err := net.Dial("tcp", m.addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// kill is kill -9.
func (m *mosquitto) kill() {
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait()
}

// dial connects a plain client.
func (m *mosquitto) dial(id string) (net.Conn, *bufio.Reader) {
	m.t.Helper()
	c, err := net.Dial("tcp", m.addr)
	if err != nil {
		m.t.Fatal(err)
	}
	r := bufio.NewReader(c)
	_, _ = c.Write(packet{0x10, slices.Concat(text("MQTT"), []byte{4, 2, 0, 0}, text(id))}.bytes())
	if p, err := readPacket(r); err != nil || p.kind() != 2 || p.body[1] != 0 {
		m.t.Fatalf("CONNACK %v, %v", p, err)
	}
	return c, r
}

// publish sends messages with QoS 1 and waits for their PUBACKs.
func (m *mosquitto) publish(messages ...publish) {
	m.t.Helper()
	c, r := m.dial("publisher")
	defer c.Close()
	for i, msg := range messages {
		msg.id, msg.qos = uint16(i+1), 1
		_, _ = c.Write(msg.packet().bytes())
	}
	for range messages {
		if p, err := readPacket(r); err != nil || p.kind() != 4 {
			m.t.Fatalf("PUBACK %v, %v", p, err)
		}
	}
}

// watcher is a subscriber to everything on the far side.
type watcher struct {
	mu   sync.Mutex
	got  []string
	done chan bool // closed when the connection has ended
}

// watch subscribes with QoS 0: mosquitto then writes a message to the
// subscriber before it answers the publisher, so that what was acknowledged is
// seen even when it is killed.
func (w *watcher) watch(m *mosquitto) {
	c, r := m.dial("watcher")
	_, _ = c.Write(packet{0x82, slices.Concat([]byte{0, 1}, text("#"), []byte{0})}.bytes())
	if p, err := readPacket(r); err != nil || p.kind() != 9 {
		m.t.Fatalf("SUBACK %v, %v", p, err)
	}
	done := make(chan bool)
	w.done = done
	go func() {
		defer close(done)
		defer c.Close()
		for {
			p, err := readPacket(r)
			if err != nil {
				return
			}
			w.mu.Lock()
			w.got = append(w.got, parsePublish(p).payload)
			w.mu.Unlock()
		}
	}()
}

func (w *watcher) payloads() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.got)
}

func (w *watcher) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.got)
}

// proxy stands between the sink and the far side and makes trouble.
type proxy struct {
	listener net.Listener
	to       string
	shut     atomic.Bool  // nobody gets through
	swallow  atomic.Bool  // PUBACKs are lost
	stall    sync.RWMutex // while it is locked, nothing moves
	lost     atomic.Int64
	accepted atomic.Int64
	conns    atomic.Int64 // those that got through
}

func newProxy(t testing.TB, to string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, to: to}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			p.accepted.Add(1)
			go p.serve(in)
		}
	}()
	return p
}

func (p *proxy) serve(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", p.to)
	if err != nil || p.shut.Load() {
		return
	}
	defer out.Close()
	p.conns.Add(1)
	go func() {
		defer out.Close()
		_, _ = io.Copy(out, reader(func(b []byte) (int, error) { p.wait(); return in.Read(b) }))
	}()
	r := bufio.NewReader(out)
	for {
		answer, err := readPacket(r)
		if err != nil {
			return
		}
		p.wait()
		if answer.kind() == 4 && p.swallow.Load() {
			p.lost.Add(1)
			continue
		}
		if _, err := in.Write(answer.bytes()); err != nil {
			return
		}
	}
}

func (p *proxy) wait() {
	p.stall.RLock()
	p.stall.RUnlock() //nolint:staticcheck // only to pass
}

type reader func([]byte) (int, error)

func (r reader) Read(b []byte) (int, error) { return r(b) }

func TestMosquittoKilledTenTimesUnderLoadLosesNothing(t *testing.T) {
	const events, perBatch, kills = 16_000, 100, 10
	m := newMosquitto(t)
	p := newProxy(t, m.addr)
	var w watcher
	w.watch(m)

	cur := sinktest.NewCursor("gw-1", "events")
	cur.Append(numbered(1, events).Events...)
	s := open(t, "url: tcp://"+p.listener.Addr().String()+"\nmax_inflight: 50")
	drained := make(chan bool)
	go func() {
		defer close(drained)
		drain(t, cur, s, perBatch)
	}()

	at := 0
	for n := 1; n <= kills; n++ {
		at = max(at, w.count()) + events/(kills+5)
		eventually(t, "load", func() bool { return w.count() >= at })
		p.shut.Store(true)
		m.kill()
		<-w.done // has read what was written to it
		m.start()
		w.watch(m)
		// From the first message on, for all that is left may pass in a moment.
		swallow := n == 3 || n == 6
		before := p.lost.Load()
		p.swallow.Store(swallow)
		p.shut.Store(false)
		if swallow {
			eventually(t, "swallowed PUBACKs", func() bool { return p.lost.Load() >= before+50 })
			p.swallow.Store(false)
		}
		if n == 4 || n == 8 {
			eventually(t, "traffic", func() bool { return w.count() > at })
			conns := p.accepted.Load()
			p.stall.Lock()
			eventually(t, "the sink gives the connection up", func() bool { return p.accepted.Load() > conns })
			p.stall.Unlock()
		}
		if cur.Pending() == 0 {
			t.Fatalf("nothing left to send at kill %d", n)
		}
	}
	<-drained
	repeated := 0
	eventually(t, "the last event", func() bool { got := w.payloads(); return got[len(got)-1] == fmt.Sprint(events) })
	repeated = checkOrder(t, w.payloads(), events, perBatch)
	t.Logf("%d events, %d kills, %d connections, %d PUBACKs swallowed: none lost, %d repeated",
		events, kills, p.conns.Load(), p.lost.Load(), repeated)
}

func TestMosquittoKeepsCommandsForAnAbsentGatewayAndTheyArriveOnce(t *testing.T) {
	m := newMosquitto(t)
	yaml := "url: tcp://" + m.addr + "\nsubscribe: [{topic: 'cmd/#', to: 'down/{topic}'}]"
	first := source(t, yaml)
	stop := run(t, first, &journal{})
	eventually(t, "the session", func() bool { return first.Status().Connected })
	stop()

	var messages []publish
	for _, text := range count(1, 50) {
		messages = append(messages, publish{topic: "cmd/" + text, payload: text})
	}
	m.publish(messages...)

	// Nothing overtakes the last command, so what must not come is not still to come.
	for start, want := range [][]string{append(count(1, 50), "last"), {"last"}} {
		j := &journal{}
		s := source(t, yaml)
		stop := run(t, s, j)
		eventually(t, "a connection", func() bool { return s.Status().Connected })
		m.publish(publish{topic: "cmd/last", payload: "last"})
		eventually(t, "the last command", func() bool { return slices.Contains(j.payloads(), "last") })
		stop()
		if diff := cmp.Diff(want, j.payloads()); diff != "" {
			t.Errorf("start %d: events (-want +got):\n%s", start+1, diff)
		}
	}
}

// gateway is the least that bridges both ways: what comes in is appended to
// the stream that the sink sends.
type gateway struct {
	cur       *sinktest.Cursor
	forwarder *forward.Forwarder
	came      atomic.Int64
}

func newGateway(t *testing.T, name, yaml string) *gateway {
	g := &gateway{cur: sinktest.NewCursor(name, "events")}
	g.forwarder = forward.New(g.cur, open(t, yaml), forward.Options{Name: "cloud", Logger: quiet()})
	ctx, cancel := context.WithCancel(context.Background())
	s := source(t, yaml)
	var running sync.WaitGroup
	running.Go(func() { _ = g.forwarder.Run(ctx) })
	running.Go(func() { _ = s.Run(ctx, forward.Intake{Gateway: name, Emit: g.emit, Logger: quiet()}) })
	t.Cleanup(func() { cancel(); running.Wait() })
	eventually(t, "a connection", func() bool { return s.Status().Connected })
	return g
}

func (g *gateway) emit(events []event.Event, done func(error)) error {
	g.cur.Append(events...)
	g.came.Add(int64(len(events)))
	done(nil)
	return nil
}

func TestTwoGatewaysBridgedBothWaysDoNotFeedEachOther(t *testing.T) {
	m := newMosquitto(t)
	var w watcher
	w.watch(m)
	yaml := "url: tcp://" + m.addr + "\nsubscribe: [{topic: '#'}]"
	a, b := newGateway(t, "a", yaml), newGateway(t, "b", yaml)
	for i := range 20 {
		a.cur.Append(event.Event{Topic: "t/a", Source: "mqtt", Client: "sensor", Payload: binary.AppendUvarint(nil, uint64(i))})
		b.cur.Append(event.Event{Topic: "t/b", Source: "mqtt", Client: "sensor", Payload: binary.AppendUvarint(nil, uint64(i))})
	}
	eventually(t, "all events on the far side and back", func() bool { return w.count() >= 40 && a.came.Load() >= 40 && b.came.Load() >= 40 })
	eventually(t, "both have looked at what came", func() bool {
		return a.forwarder.Status().Filtered >= 40 && b.forwarder.Status().Filtered >= 40
	})
	// What would go round is before these, for nothing overtakes anything.
	for _, g := range []*gateway{a, b} {
		g.cur.Append(event.Event{Topic: "t/last", Source: "mqtt", Client: "sensor", Payload: []byte("last")})
	}
	eventually(t, "the last events everywhere", func() bool {
		return w.count() >= 42 && a.forwarder.Status().Filtered >= 42 && b.forwarder.Status().Filtered >= 42
	})
	if n := w.count(); n != 42 {
		t.Errorf("%d messages on the far side, want 42", n)
	}
	for name, g := range map[string]*gateway{"a": a, "b": b} {
		if s := g.forwarder.Status(); s.Sent != 21 || s.Filtered != 42 || g.came.Load() != 42 {
			t.Errorf("gateway %s: %d sent, %d filtered, %d came; want 21, 42, 42", name, s.Sent, s.Filtered, g.came.Load())
		}
	}
}
