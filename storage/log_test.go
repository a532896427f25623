package storage

import (
	"context"
	"fmt"
	"testing"
	"time"

	"holdfast/gateway/event"
)

func open(t testing.TB, dir string, change ...func(*Options)) *Log {
	t.Helper()
	o := Options{Dir: dir, Gateway: "test", Streams: []StreamOptions{{Name: "events"}, {Name: "alerts"}, {Name: "dead"}}}
	for _, c := range change {
		c(&o)
	}
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// append adds events and waits until they are on disk.
func appendNow(t testing.TB, l *Log, stream string, events ...event.Event) {
	t.Helper()
	done := make(chan error, 1)
	err := l.Append(context.Background(), []Append{{l.Stream(stream), events}}, AppendOptions{Hurry: true}, func(err error) { done <- err })
	if err == nil {
		err = <-done
	}
	if err != nil {
		t.Fatal(err)
	}
}

func numbered(from, n int) []event.Event {
	events := make([]event.Event, n)
	for i := range events {
		events[i] = event.Event{
			Topic: fmt.Sprintf("plant/%d/temp", (from+i)%7), Source: "mqtt", Client: "c1", QoS: 1,
			Payload: fmt.Appendf(nil, `{"device":"d%d","n":%d}`, (from+i)%7, from+i),
		}
	}
	return events
}

func readAll(t testing.TB, l *Log, stream string, from uint64) (all []event.Event) {
	t.Helper()
	r := l.Stream(stream).Reader(false)
	for {
		events, err := r.Read(from, ReadLimits{Events: 1000, Bytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if len(events) == 0 {
			return all
		}
		all = append(all, events...)
		from += uint64(len(events))
	}
}

func TestWhatIsAppendedIsReadBackFromMemoryAndFromDisk(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, func(o *Options) { o.TailBytes = 4 << 10 })
	want := numbered(0, 3000)
	for i := 0; i < len(want); i += 100 {
		appendNow(t, l, "events", append([]event.Event(nil), want[i:i+100]...)...)
	}
	check := func(l *Log) {
		t.Helper()
		got := readAll(t, l, "events", 1)
		if len(got) != len(want) {
			t.Fatalf("read %d events, want %d", len(got), len(want))
		}
		for i := range got {
			if got[i].Offset != uint64(i+1) || got[i].Epoch != l.Epoch() || string(got[i].Payload) != string(want[i].Payload) || got[i].Topic != want[i].Topic {
				t.Fatalf("event %d: got %+v, want %+v", i, got[i], want[i])
			}
			if i > 0 && got[i].Received < got[i-1].Received {
				t.Fatalf("event %d was received before the one before", i)
			}
		}
	}
	check(l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	check(open(t, dir))
}

func BenchmarkAppend(b *testing.B) {
	l := open(b, b.TempDir(), func(o *Options) { o.Streams[0].Max = 256 << 20 })
	const batch = 100
	s := l.Stream("events")
	window := make(chan struct{}, 50)
	payload := []byte(`{"device":"pump-07","temperature":21.37,"humidity":44.1,"pressure":1013.2,"battery":3.71,"seq":123456,"ts":1763715600123}`)
	b.SetBytes(batch * int64(len(payload)))
	start := time.Now()
	for range b.N {
		events := make([]event.Event, batch)
		for i := range events {
			events[i] = event.Event{Topic: "plant/7/temp", Source: "mqtt", Client: "c1", QoS: 1, Payload: payload}
		}
		window <- struct{}{}
		if err := l.Append(context.Background(), []Append{{s, events}}, AppendOptions{}, func(error) { <-window }); err != nil {
			b.Fatal(err)
		}
	}
	for range cap(window) {
		window <- struct{}{}
	}
	st := l.Stats()
	b.ReportMetric(float64(b.N*batch)/time.Since(start).Seconds(), "events/s")
	b.ReportMetric(float64(b.N*batch)/float64(st.Commits), "events/commit")
}
