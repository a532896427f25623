package window

import (
	"fmt"
	"testing"
	"time"

	"holdfast/gateway/event"
)

// Each row is a reading of the next of so many devices; time goes on by a fixed
// step, so that windows close and memory is used again. The cost of closing is
// in the figures.
func BenchmarkAdd(b *testing.B) {
	plain := []string{"count", "avg", "min", "max", "sum"}
	for _, bb := range []struct {
		name   string
		assign Assigner
		keys   int
		aggs   []string
		step   time.Duration // from row to row
	}{
		{"tumbling-10s/keys=1", Tumbling{10 * time.Second}, 1, plain, 100 * time.Microsecond},
		{"tumbling-10s/keys=10000", Tumbling{10 * time.Second}, 10000, plain, 100 * time.Microsecond},
		{"tumbling-10s/keys=10000/p95", Tumbling{10 * time.Second}, 10000, []string{"count", "avg", "min", "max", "p95"}, 100 * time.Microsecond},
		{"tumbling-10s/keys=10000/increase", Tumbling{10 * time.Second}, 10000, []string{"count", "avg", "min", "max", "increase"}, 100 * time.Microsecond},
		{"tumbling-10s/keys=10000/distinct", Tumbling{10 * time.Second}, 10000, []string{"distinct"}, 100 * time.Microsecond},
		{"hopping-60s-10s/keys=10000", Hopping{time.Minute, 10 * time.Second}, 10000, plain, 100 * time.Microsecond},
		{"sliding-10s/keys=100/rows=10", Sliding{10 * time.Second}, 100, plain, 10 * time.Millisecond},
		{"sliding-10s/keys=1/rows=10000", Sliding{10 * time.Second}, 1, plain, time.Millisecond},
		{"session-5s/keys=10000", Session{5 * time.Second}, 10000, plain, 100 * time.Microsecond},
		{"count-10/keys=10000", Count{10}, 10000, plain, 100 * time.Microsecond},
		{"state/keys=10000", State{}, 10000, plain, 100 * time.Microsecond},
	} {
		b.Run(bb.name, func(b *testing.B) {
			names := make([]string, bb.keys)
			for i := range names {
				names[i] = fmt.Sprintf("device-%d", i)
			}
			w := newWindow(b, Config{Assign: bb.assign, InOrder: true, Expire: time.Hour}, aggregatesOf(b, bb.aggs...))
			values := []Value{Num(0)}
			now, i, panes := event.Time(1e18), 0, 0
			var dst []Pane
			step := func() {
				now += event.Time(bb.step)
				values[0].Num = 20 + float64(i%97)/10
				var err error
				dst = w.Advance(dst[:0], now)
				dst, err = w.Add(dst, Row{Key: names[i%bb.keys], Time: now, Offset: uint64(i), Holds: i/bb.keys%10 > 0, Values: values})
				if err != nil {
					b.Fatal(err)
				}
				panes += len(dst)
				i++
			}
			for range 300000 { // warm up
				step()
			}
			panes = 0
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				step()
				n++
			}
			b.ReportMetric(float64(panes)/float64(n), "panes/op")
		})
	}
}

func BenchmarkAppendState(b *testing.B) {
	for _, keys := range []int{100, 10000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			w := newWindow(b, Config{Assign: Tumbling{time.Minute}, MaxKeys: keys}, aggregatesOf(b, "count", "avg", "min", "max", "p95"))
			for i := range 10 * keys {
				if _, err := w.Add(nil, Row{Key: fmt.Sprintf("device-%d", i%keys), Time: 1e18, Values: []Value{Num(float64(i % 97))}}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			var state []byte
			for b.Loop() {
				state = w.AppendState(state[:0])
			}
			b.ReportMetric(float64(len(state))/float64(keys), "B/key")
		})
	}
}
