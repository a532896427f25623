package forward_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/gateway/event"
	"holdfast/gateway/forward"
	"holdfast/gateway/forward/sinktest"
)

var long = flag.Bool("long", false, "more seeds of the model test")

// far is the model of a far side in a bad mood. It answers at random, loses
// answers, and holds against the forwarder what it was never allowed to do.
type far struct {
	t        *testing.T
	requests int
	limit    int             // bytes of a batch
	poison   map[uint64]bool // offsets that it refuses for good
	healthy  float64         // share of requests that it just takes

	mu       sync.Mutex
	random   *rand.Rand
	flying   map[string]bool // ordering keys that are on their way
	under    int             // requests under way
	most     int
	accepted map[uint64]int    // arrivals by offset
	newest   map[string]uint64 // last first arrival of each key
	excused  map[uint64]bool   // may come again: the answer was lost, or there was a crash
}

func (f *far) Close() error { return nil }

func (f *far) Send(ctx context.Context, b forward.Batch) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.under++; f.under > f.requests {
		f.t.Errorf("%d requests are under way, %d may be", f.under, f.requests)
	}
	f.most = max(f.most, f.under)
	keys, size, poisoned := map[string]bool{}, 0, []int{}
	for i := range b.Events {
		e := &b.Events[i]
		keys[e.OrderingKey()] = true
		size += e.Size()
		if f.poison[e.Offset] {
			poisoned = append(poisoned, i)
		}
		if i > 0 && e.Offset <= b.Events[i-1].Offset {
			f.t.Errorf("a batch has offset %d behind %d", e.Offset, b.Events[i-1].Offset)
		}
	}
	for k := range keys {
		if f.flying[k] {
			f.t.Errorf("key %s is on its way twice", k)
		}
		f.flying[k] = true
	}
	defer func() {
		f.under--
		for k := range keys {
			delete(f.flying, k)
		}
	}()

	mood := f.random.Float64()
	hang := mood > f.healthy && f.random.IntN(8) == 0
	pause := time.Duration(f.random.IntN(300)) * time.Millisecond
	f.mu.Unlock()
	if hang {
		pause = time.Hour
	}
	select {
	case <-time.After(pause):
	case <-ctx.Done():
	}
	f.mu.Lock()
	if err := ctx.Err(); err != nil {
		if f.random.IntN(2) == 0 { // it has them all the same
			f.take(&b, poisoned, true)
		}
		return err
	}
	if mood > f.healthy {
		switch f.random.IntN(5) {
		case 0:
			return forward.RetryAfter(errors.New("429"), time.Duration(f.random.IntN(3))*time.Second)
		case 1:
			f.take(&b, poisoned, true)
			return errors.New("the connection broke before the answer")
		default:
			return errDown
		}
	}
	switch {
	case size > f.limit:
		return forward.TooLarge(errors.New("413"))
	case len(poisoned) > 0 && f.random.IntN(4) == 0:
		refused := map[int]error{}
		for _, i := range poisoned {
			refused[i] = errors.New("422")
		}
		f.take(&b, poisoned, false)
		return &forward.PartialError{Refused: refused}
	case len(poisoned) > 0:
		return forward.Permanent(errors.New("400"))
	}
	f.take(&b, nil, false)
	return nil
}

// take accepts a batch but for the poisoned events.
func (f *far) take(b *forward.Batch, poisoned []int, lost bool) {
	bad := map[int]bool{}
	for _, i := range poisoned {
		bad[i] = true
	}
	for i := range b.Events {
		e := &b.Events[i]
		if bad[i] {
			continue
		}
		if f.accepted[e.Offset]++; f.accepted[e.Offset] > 1 && !f.excused[e.Offset] {
			f.t.Errorf("event %d arrived %d times, and nobody had cause to send it again", e.Offset, f.accepted[e.Offset])
		}
		if f.accepted[e.Offset] == 1 {
			if k := e.OrderingKey(); e.Offset < f.newest[k] {
				f.t.Errorf("event %d of key %s arrived first behind %d", e.Offset, k, f.newest[k])
			} else {
				f.newest[k] = e.Offset
			}
		}
		f.excused[e.Offset] = lost
	}
}

// Random answers, crashes and retention, with several requests in flight:
// order per key, at least once, one dead letter for each poisoned event, books
// that balance, and nothing sent twice but what nobody knew to have arrived.
func TestDeliveryBehavesLikeItsModel(t *testing.T) {
	seeds := 60
	if *long {
		seeds = 3000
	}
	overlapped := 0
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if delivery(t, uint64(seed)) > 1 {
					overlapped++
				}
			})
		})
	}
	if overlapped < seeds/3 {
		t.Errorf("in %d of %d runs only there was more than one request under way", overlapped, seeds)
	}
}

func delivery(t *testing.T, seed uint64) (most int) {
	random := rand.New(rand.NewPCG(seed, 11))
	events := 50 + random.IntN(1500)
	keys := 1 + random.IntN(12)
	o := forward.Options{
		Name: "cloud", Requests: 1 + random.IntN(6), Timeout: 5 * time.Second, Grace: -1,
		Limits:  forward.Limits{Events: 1 + random.IntN(120), Bytes: 1 << 20, Linger: time.Duration(random.IntN(50)) * time.Millisecond},
		Backoff: forward.Backoff{Base: 100 * time.Millisecond, Cap: 2 * time.Second},
		Logger:  slog.New(slog.DiscardHandler),
	}
	f := &far{
		t: t, requests: o.Requests, limit: 300 + random.IntN(20_000), // any single event passes
		poison: map[uint64]bool{}, healthy: 0.3 + 0.7*random.Float64(),
		random: rand.New(rand.NewPCG(seed, 12)), flying: map[string]bool{},
		accepted: map[uint64]int{}, newest: map[string]uint64{}, excused: map[uint64]bool{},
	}
	cur := sinktest.NewCursor("gw", "events")
	if random.IntN(2) == 0 {
		o.Topics = []string{"t/#"}
	}
	add := func(n int) {
		for range n {
			e := event.Event{Topic: fmt.Sprintf("t/%d", random.IntN(keys)), Payload: make([]byte, random.IntN(60))}
			if random.IntN(10) == 0 {
				e.Topic = "other"
			}
			cur.Append(e)
		}
	}
	for o := range events {
		if random.IntN(80) == 0 {
			f.poison[uint64(o+1)] = true
		}
	}
	first := random.IntN(events)
	add(first)
	crashes, retention := random.IntN(4), random.IntN(3) == 0

	left := events - first
	for life := 0; ; life++ {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- forward.New(cur, f, o).Run(ctx) }()
		end := time.Now().Add(6 * time.Hour)
		if life < crashes {
			end = time.Now().Add(time.Duration(random.IntN(20_000)) * time.Millisecond)
		}
		for time.Now().Before(end) && (left > 0 || life < crashes || cur.Pending() > 0) {
			time.Sleep(time.Duration(1+random.IntN(500)) * time.Millisecond)
			n := min(left, random.IntN(200))
			add(n)
			left -= n
			if retention && random.IntN(20) == 0 {
				cur.Skip(random.IntN(100))
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatalf("Run: %v", err)
		}
		if life >= crashes {
			break
		}
		cur.Rewind()
		f.mu.Lock()
		again := 0
		for offset := range f.accepted {
			if int(offset) > events-left-cur.Pending() {
				f.excused[offset] = true
				again++
			}
		}
		f.mu.Unlock()
		if bound := (2*o.Requests + 1) * o.Limits.Events; again > bound {
			t.Errorf("%d events beyond the position had arrived at the crash, at most %d may have been handed out", again, bound)
		}
	}

	booked, _ := cur.Booked()
	if cur.Pending() != 0 || booked.Delivered+booked.Filtered+len(booked.Dead)+cur.Taken() != events {
		t.Errorf("of %d events %d are pending; booked %d delivered, %d filtered, %d dead, %d taken by retention",
			events, cur.Pending(), booked.Delivered, booked.Filtered, len(booked.Dead), cur.Taken())
	}
	buried := map[uint64]bool{}
	for i := range booked.Dead {
		offset := booked.Dead[i].Event.Offset
		if buried[offset] || !f.poison[offset] {
			t.Errorf("event %d is a dead letter (poisoned: %v, twice: %v)", offset, f.poison[offset], buried[offset])
		}
		buried[offset] = true
	}
	arrived := len(f.accepted)
	if retention {
		// What was taken after it had arrived and before it was booked counts as taken.
		if arrived < booked.Delivered {
			t.Errorf("%d events arrived, %d are booked as delivered", arrived, booked.Delivered)
		}
	} else if arrived != booked.Delivered {
		t.Errorf("%d events arrived, %d are booked as delivered", arrived, booked.Delivered)
	}
	return f.most
}
