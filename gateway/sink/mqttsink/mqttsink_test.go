package mqttsink_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/forward"
	"holdfast/gateway/forward/sinktest"
)

func TestSink(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) sinktest.Target {
		f := newFar(t)
		s := open(t, "url: "+f.url()+"\npayload: item\nmax_inflight: 8")
		return sinktest.Target{Sink: s, Received: f.Received, Fail: f.Fail, Hang: f.Hang}
	})
}

func sendWithin(s forward.Sink, d time.Duration, b forward.Batch) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return s.Send(ctx, b)
}

// reset ends a connection without a FIN.
func reset(c *farConn) {
	_ = c.Conn.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}

func payloads(messages []publish) (all []string) {
	for _, m := range messages {
		all = append(all, m.payload)
	}
	return all
}

// count returns the payloads of numbered(first, n).
func count(first, n int) (all []string) {
	for i := first; i < first+n; i++ {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

func TestWithoutEveryPubackSendFails(t *testing.T) {
	// Each far side sees a batch of 50 with up to 20 in flight.
	for _, c := range []struct {
		name string
		on   func(f *far, c *farConn, m publish)
		want string
	}{
		{"no PUBACK at all", func(*far, *farConn, publish) {}, "deadline"},
		{"no PUBACK, then a cut", func(f *far, c *farConn, m publish) {
			if c.came == 20 {
				_ = c.Close()
			}
		}, "ended the connection"},
		{"no PUBACK, then a reset", func(f *far, c *farConn, m publish) {
			if c.came == 20 {
				reset(c)
			}
		}, "ended the connection"},
		{"the last PUBACK is missing", func(f *far, c *farConn, m publish) {
			if m.payload != "50" {
				f.accept(c, m)
			}
		}, "deadline"},
		{"a cut before the last PUBACK", func(f *far, c *farConn, m publish) {
			if m.payload == "50" {
				_ = c.Close()
				return
			}
			f.accept(c, m)
		}, "ended the connection"},
		{"a cut within the last PUBACK", func(f *far, c *farConn, m publish) {
			if m.payload == "50" {
				c.mu.Lock()
				_, _ = c.Write(ack(4, m.id).bytes()[:3])
				c.mu.Unlock()
				_ = c.Close()
				return
			}
			f.accept(c, m)
		}, "ended the connection"},
		{"every other PUBACK", func(f *far, c *farConn, m publish) {
			if c.came%2 == 0 {
				f.accept(c, m)
			}
		}, "deadline"},
		{"PUBACKs for messages that nobody sent", func(f *far, c *farConn, m publish) { c.write(ack(4, m.id+1000)) }, "deadline"},
		{"PUBREC", func(f *far, c *farConn, m publish) { c.write(ack(5, m.id)) }, "broke the MQTT protocol"},
		{"PUBCOMP", func(f *far, c *farConn, m publish) { c.write(ack(7, m.id)) }, "broke the MQTT protocol"},
		{"UNSUBACK", func(f *far, c *farConn, m publish) { c.write(ack(11, m.id)) }, "broke the MQTT protocol"},
		{"SUBACK", func(f *far, c *farConn, m publish) {
			c.write(packet{0x90, append(ack(9, m.id).body, 0, 0, 0, 0)})
		}, "broke the MQTT protocol"},
		{"a length of 256 MiB", func(f *far, c *farConn, m publish) {
			c.mu.Lock()
			defer c.mu.Unlock()
			_, _ = c.Write([]byte{0x30, 0xff, 0xff, 0xff, 0x7f})
		}, "at most"},
		{"no MQTT", func(f *far, c *farConn, m publish) {
			c.mu.Lock()
			defer c.mu.Unlock()
			_, _ = c.Write([]byte{0x30, 0xff, 0xff, 0xff, 0xff})
		}, "does not speak MQTT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFar(t)
			var honest atomic.Bool
			f.on = func(conn *farConn, m publish) {
				if honest.Load() {
					f.accept(conn, m)
				} else {
					c.on(f, conn, m)
				}
			}
			s := open(t, "url: "+f.url()+"\nmax_inflight: 20")
			most := patience
			if c.want == "deadline" {
				most = 300 * time.Millisecond
			}
			start := time.Now()
			err := sendWithin(s, most, numbered(1, 50))
			if took := time.Since(start); took > sinktest.Soon {
				t.Errorf("Send took %v", took)
			}
			honest.Store(true)
			switch {
			case err == nil:
				t.Fatal("Send returned nil")
			case forward.IsPermanent(err) || forward.IsTooLarge(err) || errors.As(err, new(*forward.PartialError)):
				t.Fatalf("the events are blamed: %v", err)
			case !strings.Contains(err.Error(), c.want):
				t.Errorf("got %v, want %q", err, c.want)
			}

			for _, first := range []int{1, 51} {
				if err := sendWithin(s, patience, numbered(first, 50)); err != nil {
					t.Fatalf("from an honest far side: %v", err)
				}
			}
			checkOrder(t, payloads(f.came()), 100, 50)
			accepted := payloads(f.taken())
			for _, want := range count(1, 100) {
				if !slices.Contains(accepted, want) {
					t.Errorf("%s was never accepted", want)
				}
			}
		})
	}
}

func TestAFarSideThatStopsReadingEndsSendInTime(t *testing.T) {
	f := newFar(t)
	release := make(chan struct{})
	f.on = func(*farConn, publish) { <-release }
	defer close(release)
	b := numbered(1, 20)
	for i := range b.Events { // more than the buffers of the kernel hold
		b.Events[i].Payload = make([]byte, 1<<20)
	}
	s := open(t, "url: "+f.url())
	for range 2 {
		start := time.Now()
		if err := sendWithin(s, 200*time.Millisecond, b); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the deadline", err)
		}
		if took := time.Since(start); took > sinktest.Soon {
			t.Errorf("Send took %v", took)
		}
	}
}

func TestPubacksMayComeInAnyOrder(t *testing.T) {
	f := newFar(t)
	var waiting []packet
	f.on = func(c *farConn, m publish) {
		waiting = append(waiting, ack(4, m.id))
		if len(waiting) == 10 {
			rand.Shuffle(10, func(i, j int) { waiting[i], waiting[j] = waiting[j], waiting[i] })
			c.write(waiting...)
			waiting = nil
		}
	}
	s := open(t, "url: "+f.url()+"\nmax_inflight: 10")
	if err := sendWithin(s, patience, numbered(1, 50)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(count(1, 50), payloads(f.came())); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
}

func TestNoMoreThanMaxInflightWaitForAPuback(t *testing.T) {
	f := newFar(t)
	f.Hang(true)
	s := open(t, "url: "+f.url()+"\nmax_inflight: 7")
	ctx, cancel := context.WithCancel(t.Context())
	sent := make(chan error, 1)
	go func() { sent <- s.Send(ctx, numbered(1, 50)) }()
	eventually(t, "seven messages", func() bool { return len(f.came()) >= 7 })
	cancel()
	if err := <-sent; err == nil {
		t.Fatal("Send returned nil")
	}
	_ = s.Close()
	<-f.connections()[0].ended // all that was sent is read
	if diff := cmp.Diff(count(1, 7), payloads(f.came())); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
}

func TestASecondAttemptRepeatsOnlyWhatWasInFlight(t *testing.T) {
	f := newFar(t)
	f.on = func(c *farConn, m publish) {
		if c.came <= 30 {
			f.accept(c, m)
		} else if c.came == 40 {
			_ = c.Close()
		}
	}
	s := open(t, "url: "+f.url()+"\nmax_inflight: 10")
	for attempt := 1; ; attempt++ {
		err := sendWithin(s, patience, numbered(1, 100))
		if err == nil {
			break
		}
		if attempt == 4 {
			t.Fatalf("no end after %d attempts: %v", attempt, err)
		}
	}
	if diff := cmp.Diff(count(1, 100), payloads(f.taken())); diff != "" {
		t.Errorf("accepted (-want +got):\n%s", diff)
	}
	want := slices.Concat(count(1, 40), count(31, 40), count(61, 40), count(91, 10))
	if diff := cmp.Diff(want, payloads(f.came())); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}

	t.Run("but a replay and another batch are whole", func(t *testing.T) {
		again := numbered(200, 100)
		replay := numbered(200, 100)
		replay.Replay = true
		f := newFar(t)
		s := open(t, "url: "+f.url())
		f.on = func(c *farConn, m publish) {
			if m.payload == "250" && c.number == 1 {
				_ = c.Close()
				return
			}
			f.accept(c, m)
		}
		if err := sendWithin(s, patience, again); err == nil {
			t.Fatal("Send returned nil")
		}
		before := len(f.taken())
		if err := sendWithin(s, patience, replay); err != nil {
			t.Fatal(err)
		}
		if err := sendWithin(s, patience, numbered(201, 10)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(append(count(200, 100), count(201, 10)...), payloads(f.taken()[before:])); diff != "" {
			t.Errorf("accepted (-want +got):\n%s", diff)
		}
	})
}

func TestALostIdleConnectionIsMadeAnewWithoutAnError(t *testing.T) {
	f := newFar(t)
	s := open(t, "url: "+f.url())
	for n := 1; n <= 3; n++ {
		if err := sendWithin(s, patience, numbered(n, 1)); err != nil {
			t.Fatal(err)
		}
		f.cut()
		down := s.(interface{ Idle() bool }).Idle
		eventually(t, "the sink knows that its connection is lost", down)
	}
	if n := len(f.connections()); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
}

// TestNothingIsLostOverABadLink lets a far side misbehave at random.
func TestNothingIsLostOverABadLink(t *testing.T) {
	const events, perBatch = 3000, 50
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	f := newFar(t)
	swallowed := -1
	batch := func(m publish) int { n, _ := strconv.Atoi(m.payload); return (n - 1) / perBatch }
	held := map[*farConn][]publish{} // accepted, but the PUBACK comes after the next one
	f.on = func(c *farConn, m publish) {
		switch roll := dice.IntN(1000); {
		case roll < 5:
			reset(c)
		case roll < 10: // taken, never acknowledged
			f.mu.Lock()
			f.accepted = append(f.accepted, m)
			f.mu.Unlock()
			_ = c.Close()
		case roll < 12 && batch(m) > swallowed: // the batch runs into its timeout, once: then it would be cut in two
			swallowed = batch(m)
			f.mu.Lock()
			f.accepted = append(f.accepted, m)
			f.mu.Unlock()
		case roll < 200 && len(held[c]) == 0 && !strings.HasSuffix(m.payload, "0"):
			f.mu.Lock()
			f.accepted = append(f.accepted, m)
			f.mu.Unlock()
			held[c] = append(held[c], m)
			return
		default:
			f.accept(c, m)
		}
		for _, m := range held[c] {
			c.write(ack(4, m.id))
		}
		delete(held, c)
	}
	cur := sinktest.NewCursor("gw-1", "events")
	cur.Append(numbered(1, events).Events...)
	drain(t, cur, open(t, "url: "+f.url()+"\nmax_inflight: 20"), perBatch)
	n := checkOrder(t, payloads(f.taken()), events, perBatch)
	t.Logf("%d events, %d repeated, over %d connections", events, n, len(f.connections()))
}

// drain forwards until nothing is pending.
func drain(t *testing.T, cur *sinktest.Cursor, s forward.Sink, perBatch int) {
	t.Helper()
	f := forward.New(cur, s, forward.Options{
		Name: "cloud", Limits: forward.Limits{Events: perBatch}, Timeout: 2 * time.Second,
		Backoff: forward.Backoff{Base: time.Millisecond, Cap: 5 * time.Millisecond}, Logger: quiet(),
	})
	ctx, stop := context.WithTimeout(t.Context(), 4*time.Minute)
	defer stop()
	cur.End()
	if err := f.Run(ctx); err != nil {
		t.Error(err)
	}
	if cur.Pending() > 0 {
		t.Errorf("%d events are still pending: %+v", cur.Pending(), f.Status())
	}
}

// checkOrder checks that the numbers 1 to n are all there, without a gap, and
// go back only within a batch. It returns how many came more than once.
func checkOrder(t *testing.T, got []string, n, perBatch int) (repeated int) {
	t.Helper()
	batch := func(i int) int { return (i - 1) / perBatch }
	top, last := 0, 0
	for _, text := range got {
		var i int
		if _, err := fmt.Sscan(text, &i); err != nil {
			t.Fatalf("payload %q", text)
		}
		switch {
		case i > top+1:
			t.Fatalf("%d came after %d: lost, or out of order", i, top)
		case i == top+1:
			top = i
		case batch(i) != batch(top):
			t.Fatalf("%d came again after %d, which is of another batch", i, top)
		default:
			repeated++
		}
		if i != last+1 && i > last {
			t.Fatalf("%d came after %d: a gap within a repetition", i, last)
		}
		last = i
	}
	if top != n {
		t.Fatalf("the far side has 1 to %d, want %d", top, n)
	}
	return repeated
}

func TestFailedAttemptsLeaveNothingBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	f := newFar(t)
	s := open(t, "url: "+f.url()+"\nmax_inflight: 10")
	f.on = func(c *farConn, m publish) {
		switch {
		case c.came == 15 && c.number%2 == 0:
			reset(c)
		case c.came < 8 || c.number%3 > 0:
			c.write(ack(4, m.id))
		}
	}
	for range 12 {
		b := numbered(1, 100)
		b.Replay = true // from the start each time
		_ = sendWithin(s, 50*time.Millisecond, b)
	}
	_ = s.Close()
	_ = f.listener.Close()
	f.cut()
	eventually(t, "the goroutines are gone", func() bool { return runtime.NumGoroutine() <= before+1 })
}

func BenchmarkSend(b *testing.B) {
	f := newFar(b)
	f.on = func(c *farConn, m publish) { c.write(ack(4, m.id)) }
	s := open(b, "url: "+f.url())
	events := numbered(1, 500)
	for i := range events.Events {
		events.Events[i].Payload = bytes.Repeat([]byte("x"), 120)
	}
	b.ResetTimer()
	for b.Loop() {
		if err := s.Send(b.Context(), events); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*500/b.Elapsed().Seconds(), "events/s")
}
