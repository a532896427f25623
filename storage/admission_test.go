package storage

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"testing"
	"time"

	"holdfast/gateway/event"
)

// limited is a log whose stream events has the given policy and 4 MiB.
func limited(t *testing.T, policy Policy, change ...func(*StreamOptions)) *Log {
	t.Helper()
	return open(t, t.TempDir(), func(o *Options) {
		o.Streams[0] = StreamOptions{Name: "events", Max: 4 << 20, WhenFull: policy}
		for _, c := range change {
			c(&o.Streams[0])
		}
	})
}

// offer appends one event as a source does and returns what became of it.
func offer(ctx context.Context, l *Log, stream string, events ...event.Event) error {
	done := make(chan error, 1)
	if err := l.Append(ctx, []Append{{l.Stream(stream), events}}, AppendOptions{Hurry: true}, func(err error) { done <- err }); err != nil {
		return err
	}
	return <-done
}

// fillUp offers events of 64 KiB until one is refused or would wait, and
// returns how many were taken.
func fillUp(t *testing.T, l *Log) (n int) {
	t.Helper()
	random := newNoise()
	for ; n < 1000; n++ {
		l.Stream("events").mu.Lock()
		full := l.Stream("events").full()
		l.Stream("events").mu.Unlock()
		if full {
			return n
		}
		if err := offer(t.Context(), l, "events", noise(random, 1, 64<<10)...); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the stream is never full")
	return n
}

// drain delivers everything to the cursor.
func drain(t *testing.T, s *Stream, c *Cursor) {
	t.Helper()
	b := batches{Cursor: c}
	for s.Cursors()[c.name].Pending > 0 {
		events, err := b.Next(t.Context(), ReadLimits{Events: 1000, Bytes: 4 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Commit(t.Context(), len(events), Outcome{Delivered: len(events)}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFullStreamThatRejectsTakesNothingFromSourcesAndLosesNothing(t *testing.T) {
	l := limited(t, Reject)
	s := l.Stream("events")
	c := s.Cursor("cloud", StartOldest)
	n := fillUp(t, l)
	for i := range 5 {
		err := offer(t.Context(), l, "events", numbered(i, 3)...)
		if !errors.Is(err, ErrStreamFull) || errors.Is(err, ErrFull) {
			t.Fatalf("a full stream answers %v", err)
		}
	}
	if err := offer(t.Context(), l, "alerts", numbered(0, 1)...); err != nil {
		t.Errorf("another stream is refused as well: %v", err)
	}
	st := s.Status()
	if st.Next != uint64(n)+1 || st.First != 1 || !st.Full || st.Refused != 15 || st.RefusedAt.IsZero() || !s.Refuses() {
		t.Errorf("after %d events the stream is %+v", n, st)
	}
	drain(t, s, c)
	eventually(t, func() bool { return !s.Refuses() }, "the stream takes events again once they are delivered")
	if err := offer(t.Context(), l, "events", numbered(0, 1)...); err != nil {
		t.Error(err)
	}
	if got := ledger(t, l, "events", "cloud").Ledger; got.Dropped != 0 || got.Delivered != uint64(n) {
		t.Errorf("ledger %+v, want %d delivered and none dropped", got, n)
	}
}

func TestAFullStreamThatBlocksMakesSourcesWaitForRoom(t *testing.T) {
	l := limited(t, Block)
	s := l.Stream("events")
	c := s.Cursor("cloud", StartOldest)
	n := fillUp(t, l)
	results := make(chan error, 3)
	for i := range 3 {
		go func() { results <- offer(context.Background(), l, "events", numbered(i, 1)...) }()
	}
	eventually(t, func() bool { return s.Status().Waiting == 3 }, "three sources wait")
	if st := s.Status(); st.Next != uint64(n)+1 || !st.Full {
		t.Errorf("while sources wait the stream is %+v", st)
	}
	select {
	case err := <-results:
		t.Fatalf("a source did not wait: %v", err)
	default:
	}
	drain(t, s, c)
	for range 3 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if st := s.Status(); st.Waiting != 0 || st.Next != uint64(n)+4 {
		t.Errorf("afterwards the stream is %+v", st)
	}
	if got := ledger(t, l, "events", "cloud").Ledger; got.Dropped != 0 {
		t.Errorf("ledger %+v", got)
	}
}

func TestASourceThatWaitsForRoomGivesUpWhenItIsOver(t *testing.T) {
	l := limited(t, Block)
	l.Stream("events").Cursor("cloud", StartOldest)
	fillUp(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan struct{})
	results := make(chan error, 3)
	wait := func(ctx context.Context, gone <-chan struct{}) {
		results <- l.Append(ctx, []Append{{l.Stream("events"), numbered(0, 1)}}, AppendOptions{Gone: gone}, nil)
	}
	waiting := func(n int) {
		eventually(t, func() bool { return l.Stream("events").Status().Waiting == n }, "sources wait")
	}
	go wait(ctx, nil)
	waiting(1)
	cancel()
	if err := <-results; !errors.Is(err, context.Canceled) {
		t.Errorf("a source whose context has ended got %v", err)
	}
	go wait(t.Context(), gone)
	waiting(1)
	close(gone)
	if err := <-results; !errors.Is(err, ErrClosed) {
		t.Errorf("a source that is gone got %v", err)
	}
	go wait(t.Context(), nil)
	waiting(1)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-results; !errors.Is(err, ErrClosed) {
		t.Errorf("a source got %v when the log was closed", err)
	}
}

func TestNewLimitsLetThoseInWhoWait(t *testing.T) {
	l := limited(t, Block)
	l.Stream("events").Cursor("cloud", StartOldest)
	fillUp(t, l)
	result := make(chan error, 1)
	go func() { result <- offer(context.Background(), l, "events", numbered(0, 1)...) }()
	eventually(t, func() bool { return l.Stream("events").Status().Waiting == 1 }, "a source waits")
	if err := l.Configure([]StreamOptions{{Name: "events", Max: 8 << 20, WhenFull: Block}}); err != nil {
		t.Fatal(err)
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
}

// Refusals must not overtake the acknowledgements of what was taken before.
func TestRefusalsKeepTheirTurn(t *testing.T) {
	l := limited(t, Reject)
	l.Stream("events").Cursor("cloud", StartOldest)
	fillUp(t, l)
	order := make(chan string, 20)
	for i := range 10 {
		stream := []string{"alerts", "events"}[i%2]
		err := l.Append(t.Context(), []Append{{l.Stream(stream), numbered(i, 1)}}, AppendOptions{}, func(err error) {
			order <- fmt.Sprint(i, err != nil)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if got, want := <-order, fmt.Sprint(i, i%2 == 1); got != want {
			t.Fatalf("answer %d is %q, want %q", i, got, want)
		}
	}
}

func TestWhatIsRefusedHoldsNoPacketIdentifier(t *testing.T) {
	l := limited(t, Reject)
	l.Stream("events").Cursor("cloud", StartOldest)
	fillUp(t, l)
	done := make(chan error, 1)
	err := l.Append(t.Context(), []Append{{l.Stream("events"), numbered(0, 1)}}, AppendOptions{Client: "c", Hold: []uint16{7}}, func(err error) { done <- err })
	if err == nil {
		err = <-done
	}
	if !errors.Is(err, ErrStreamFull) {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if held := open(t, l.opt.Dir).Held("c"); len(held) != 0 {
		t.Errorf("after a restart %v are held: the client's repetition would be taken for a duplicate", held)
	}
}

// No cycle of back-pressure: what a rule makes of the events of a stream that
// is full goes into that very stream, or another one that is full, at once.
func TestOutputsOfRulesNeverWaitForAFullStreamAndTheDiskStaysBounded(t *testing.T) {
	for _, policy := range []Policy{Block, Reject} {
		t.Run(fmt.Sprint(policy), func(t *testing.T) {
			l := limited(t, policy)
			s := l.Stream("events")
			s.Cursor("cloud", StartOldest)
			n := uint64(fillUp(t, l))
			p, _, _, err := l.OpenProcessor("events", 0)
			if err != nil {
				t.Fatal(err)
			}
			random := newNoise()
			hard := uint64(s.opt.hardMax())
			for i := range 400 { // 25 MiB into 4
				done := make(chan error, 1)
				if err := p.Commit(Step{Covered: uint64(i + 1), Outputs: []Append{{s, noise(random, 1, 64<<10)}}}, func(err error) { done <- err }); err != nil {
					t.Fatal(err)
				}
				select {
				case err := <-done:
					if err != nil {
						t.Fatal(err)
					}
				case <-time.After(patience):
					t.Fatalf("output %d of a rule waits for a full stream", i)
				}
				if got := s.Status().Bytes; got > hard+2<<20 {
					t.Fatalf("after %d outputs the stream has %d bytes, and may have %d", i, got, hard)
				}
			}
			st := s.Status()
			if st.Next != n+401 || st.First == 1 || st.Dropped == 0 || st.DroppedAt.IsZero() {
				t.Errorf("the stream is %+v", st)
			}
			if got := ledger(t, l, "events", "cloud").Ledger; got.Dropped != st.First-1 || got.Dropped != st.Dropped {
				t.Errorf("ledger %+v, first %d", got, st.First)
			}
			if policy == Reject && !errors.Is(offer(t.Context(), l, "events", numbered(0, 1)...), ErrStreamFull) {
				t.Error("a source gets what is reserved for rules")
			}
		})
	}
}

func TestAStreamMayBeLimitedToAShareOfTheDisk(t *testing.T) {
	for _, tt := range []struct {
		o     StreamOptions
		total int64
		want  int64
	}{
		{StreamOptions{}, 1 << 40, defaultMax},
		{StreamOptions{Max: 1 << 30}, 1 << 40, 1 << 30},
		{StreamOptions{Share: 0.5}, 1 << 30, 1 << 29},
		{StreamOptions{Share: 0.5, Max: 1 << 28}, 1 << 30, 1 << 28},
		{StreamOptions{Share: 0.125, Max: 1 << 28}, 1 << 30, 1 << 27},
		{StreamOptions{Share: 0.01}, 1 << 20, leastMax},
		{StreamOptions{Share: 0.5}, 0, defaultMax},
	} {
		if bits.UintSize == 32 && tt.o.Share > 0 {
			tt.want = min(tt.want, ShareOn32Bit)
		}
		if got := tt.o.within(tt.total).Max; got != tt.want {
			t.Errorf("%+v of %d: %d, want %d", tt.o, tt.total, got, tt.want)
		}
	}
	l := limited(t, DropOldest, func(o *StreamOptions) { o.Max, o.Share = 0, 0.001 })
	want := max(totalBytes(l.opt.Dir)/1000, leastMax)
	if bits.UintSize == 32 {
		want = min(want, ShareOn32Bit)
	}
	if got := l.Stream("events").Status().Max; got < want-1 || got > want+1 {
		t.Errorf("a thousandth of the disk is %d, want %d", got, want)
	}
}

func TestAStreamMayBeLimitedInItsNumberOfEvents(t *testing.T) {
	for _, policy := range []Policy{DropOldest, Reject} {
		t.Run(fmt.Sprint(policy), func(t *testing.T) {
			l := limited(t, policy, func(o *StreamOptions) { o.MaxEvents = 320 })
			s := l.Stream("events")
			s.Cursor("cloud", StartOldest)
			refused := 0
			for i := range 100 {
				if err := offer(t.Context(), l, "events", numbered(10*i, 10)...); err != nil {
					refused++
				}
			}
			eventually(t, func() bool { st := s.Status(); return st.Next-st.First <= 340 }, "retention has come by")
			st, got := s.Status(), ledger(t, l, "events", "cloud")
			if policy == Reject {
				if st.Next != 321 || refused != 68 || got.Ledger.Dropped != 0 {
					t.Errorf("%d appends were refused, the stream is %+v", refused, st)
				}
				return
			}
			if kept := st.Next - st.First; refused != 0 || kept > 340 || kept < 280 || got.Ledger.Dropped != st.First-1 {
				t.Errorf("%d events are kept, %d dropped", kept, got.Ledger.Dropped)
			}
		})
	}
}

// patience is how long a test waits for what must happen: so long that a slow
// machine is not taken for one that hangs.
const patience = time.Minute

// eventually waits for what the committer does in its own time.
func eventually(t testing.TB, ok func() bool, what string) {
	t.Helper()
	for begin := time.Now(); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatal("not in time: " + what)
		}
	}
}
