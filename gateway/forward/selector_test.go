package forward_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
	"holdfast/gateway/forward"
	"holdfast/gateway/forward/sinktest"
)

// picky is a sink that does not want what came from itself.
type picky struct{ sinktest.Sink }

func (*picky) Wants(b *forward.Batch, e *event.Event) bool {
	return b.Stream == "events" && e.Client != "cloud"
}

var _ forward.Selector = (*picky)(nil)

func TestWhatTheSinkDoesNotWantIsNotSentAndCountedAsFiltered(t *testing.T) {
	for _, c := range []struct {
		name   string
		topics []string
	}{{"alone", nil}, {"beside topics", []string{"a/#"}}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cur, sink := sinktest.NewCursor("gw-1", "events"), &picky{}
				var want []uint64
				for i := range 300 {
					e := event.Event{Topic: []string{"a/1", "b"}[i%2], Client: []string{"cloud", "sensor", "rule"}[i%3]}
					if i >= 50 && i < 150 {
						e.Client = "cloud" // whole batches of nothing
					}
					cur.Append(e)
					if e.Client != "cloud" && (c.topics == nil || e.Topic == "a/1") {
						want = append(want, uint64(i+1))
					}
				}
				poison := want[len(want)/2]
				away := 2
				refuses := refuse(poison)
				sink.Answer = func(ctx context.Context, n int, b forward.Batch) error {
					if away > 0 { // the same batch is picked again
						away--
						return errDown
					}
					return refuses(ctx, n, b)
				}
				f := forward.New(cur, sink, forward.Options{Name: "cloud", Topics: c.topics, Limits: forward.Limits{Events: 20}})
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				done := make(chan error, 1)
				go func() { done <- f.Run(ctx) }()
				for cur.Pending() > 0 && ctx.Err() == nil {
					time.Sleep(time.Second) // virtual
				}
				cancel()
				if err := <-done; err != nil {
					t.Fatal(err)
				}

				var got []uint64
				for _, e := range sink.Accepted() {
					got = append(got, e.Offset)
				}
				want = slices.DeleteFunc(want, func(o uint64) bool { return o == poison })
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("accepted (-want +got):\n%s", diff)
				}
				booked, _ := cur.Booked()
				if len(booked.Dead) != 1 || booked.Dead[0].Event.Offset != poison {
					t.Errorf("dead letters %+v, want offset %d", booked.Dead, poison)
				}
				if filtered := 300 - len(want) - 1; booked.Filtered != filtered || f.Status().Filtered != uint64(filtered) {
					t.Errorf("%d filtered, status %d, want %d", booked.Filtered, f.Status().Filtered, filtered)
				}
			})
		})
	}
}
