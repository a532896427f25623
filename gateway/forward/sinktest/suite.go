package sinktest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
	"holdfast/gateway/forward"
)

// Target is a sink with a look at, and a hand on, its far side.
type Target struct {
	Sink     forward.Sink
	Received func() []Item // what the far side has accepted, oldest first
	Fail     func(on bool) // the far side is out of order for a while
	Hang     func(on bool) // the far side takes batches and does not answer; nil if it cannot
	Requests int           // calls of Send that may be under way at a time; 0 means 1
}

// Soon is how long a sink may take to return after ctx has ended: much more than
// any needs on a crowded machine, and less than its own time limits.
const Soon = 8 * time.Second

// Run checks the promises of [forward.Sink]. open is called once per promise,
// with a far side that is in order and holds nothing.
func Run(t *testing.T, open func(t *testing.T) Target) {
	t.Run("events arrive whole and in order", func(t *testing.T) {
		far := open(t)
		for _, b := range []forward.Batch{batch(1, 3), batch(4, 1), batch(5, 50)} {
			if err := far.Sink.Send(t.Context(), b); err != nil {
				t.Fatalf("Send: %v", err)
			}
		}
		if err := far.Sink.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
		arrived(t, far, 1, 54)
	})

	t.Run("several batches may be under way at a time", func(t *testing.T) {
		far := open(t)
		defer func() { _ = far.Sink.Close() }()
		requests := max(1, far.Requests)
		var sending sync.WaitGroup
		for i := range requests {
			sending.Go(func() {
				for k := range 5 {
					if err := far.Sink.Send(t.Context(), batch(uint64(i*1000+k*100+1), 100)); err != nil {
						t.Errorf("Send: %v", err)
					}
				}
			})
		}
		sending.Wait()
		arrivals := map[string]int{}
		for _, i := range far.Received() {
			arrivals[i.ID]++
		}
		if len(arrivals) != requests*500 {
			t.Errorf("%d different events arrived, want %d", len(arrivals), requests*500)
		}
		for id, n := range arrivals {
			if n != 1 {
				t.Errorf("%s arrived %d times", id, n)
			}
		}
	})

	t.Run("nil means that the far side has the batch already", func(t *testing.T) {
		far := open(t)
		if err := far.Sink.Send(t.Context(), batch(1, 7)); err != nil {
			t.Fatalf("Send: %v", err)
		}
		arrived(t, far, 1, 7) // before Close
		_ = far.Sink.Close()
	})

	t.Run("a fault of the far side is temporary and the same batch passes later", func(t *testing.T) {
		far := open(t)
		defer func() { _ = far.Sink.Close() }()
		send(t, far, batch(1, 2))
		far.Fail(true)
		for range 3 {
			err := far.Sink.Send(t.Context(), batch(3, 2))
			if err == nil {
				t.Fatal("Send returned nil while the far side was out of order")
			}
			if forward.IsPermanent(err) || forward.IsTooLarge(err) {
				t.Fatalf("the fault was blamed on the events: %v", err)
			}
		}
		arrived(t, far, 1, 2)
		far.Fail(false)
		send(t, far, batch(3, 2))
		send(t, far, batch(5, 2))
		arrived(t, far, 1, 6)
	})

	t.Run("Send returns soon after its context ends", func(t *testing.T) {
		far := open(t)
		ended, end := context.WithCancel(t.Context())
		end()
		if took := timed(func() { _ = far.Sink.Send(ended, batch(1, 1)) }); took > Soon {
			t.Errorf("with an ended context Send took %v", took)
		}
		if far.Hang == nil {
			return
		}
		far.Hang(true)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		took := timed(func() {
			if err := far.Sink.Send(ctx, batch(1, 1)); err == nil {
				t.Error("Send returned nil although the far side never answered")
			}
		})
		if took > Soon {
			t.Errorf("with a silent far side Send took %v", took)
		}
		far.Hang(false)
		_ = far.Sink.Close()
	})

	t.Run("the batch stays the caller's", func(t *testing.T) {
		far := open(t)
		defer func() { _ = far.Sink.Close() }()
		b := batch(1, 20)
		send(t, far, b)
		if diff := cmp.Diff(batch(1, 20), b); diff != "" {
			t.Errorf("Send changed the batch (-before +after):\n%s", diff)
		}
		for i := range b.Events { // nothing may come of this
			clear(b.Events[i].Payload)
			b.Events[i].Topic = "changed"
		}
		send(t, far, batch(21, 5))
		arrived(t, far, 1, 25)
	})

	t.Run("Close may be repeated and ends the sink", func(t *testing.T) {
		far := open(t)
		send(t, far, batch(1, 1))
		for range 2 {
			if err := far.Sink.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
		if err := far.Sink.Send(t.Context(), batch(2, 1)); err == nil {
			t.Error("Send after Close returned nil")
		} else if forward.IsPermanent(err) {
			t.Errorf("Send after Close blames the events: %v", err)
		}
	})

	t.Run("a sink that was never used closes", func(t *testing.T) {
		if err := open(t).Sink.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

func send(t *testing.T, far Target, b forward.Batch) {
	t.Helper()
	if err := far.Sink.Send(t.Context(), b); err != nil {
		t.Fatalf("Send of %d events from %d: %v", len(b.Events), b.Events[0].Offset, err)
	}
}

func timed(do func()) time.Duration {
	start := time.Now()
	do()
	return time.Since(start)
}

// arrived checks that the far side has exactly the events first to last.
func arrived(t *testing.T, far Target, first, last uint64) {
	t.Helper()
	type seen struct{ ID, Topic, Payload string }
	var got, want []seen
	for _, i := range far.Received() {
		got = append(got, seen{i.ID, i.Topic, string(i.Payload())})
	}
	b := batch(first, int(last-first)+1)
	for i := range b.Events {
		e := &b.Events[i]
		want = append(want, seen{e.ID(b.Gateway, b.Stream).String(), e.Topic, string(e.Payload)})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("the far side has other events (-want +got):\n%s", diff)
	}
}

// Events returns n events from offset first on whose payloads are of all
// kinds: JSON, text, binary and none.
func Events(first uint64, n int) []event.Event {
	start := event.At(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	events := make([]event.Event, 0, n)
	for offset := first; offset < first+uint64(n); offset++ {
		payloads := []string{
			fmt.Sprintf(`{"seq":%d,"temp":21.50,"unit":"°C"}`, offset),
			fmt.Sprintf("seq=%d\r\ntemp=21.5\n", offset),
			string([]byte{0, 0xff, 0xfe, byte(offset), '\n', 0x80}),
			"",
			fmt.Sprint(offset),
		}
		at := start.Add(time.Duration(offset) * 1234567 * time.Nanosecond)
		events = append(events, event.Event{
			Epoch: 0xfeed, Offset: offset, Time: at, Received: at.Add(time.Millisecond),
			Topic: fmt.Sprintf("plant/line%d/temp", offset%3), Source: "mqtt", Client: "sensor-17",
			Payload: []byte(payloads[offset%uint64(len(payloads))]), QoS: 1,
		})
	}
	return events
}

func batch(first uint64, n int) forward.Batch {
	return forward.Batch{Gateway: "gw-1", Stream: "events", Events: Events(first, n)}
}
