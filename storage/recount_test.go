package storage

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func recount(t *testing.T, l *Log, stream string) Recount {
	t.Helper()
	r, err := l.Stream(stream).Recount(t.Context(), nil, func(uint64) {})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestARecountFindsWhatWasAppended(t *testing.T) {
	l := open(t, t.TempDir())
	for i := range 50 {
		appendNow(t, l, "events", numbered(10*i, 10)...)
	}
	l.Stream("events").Cursor("cloud", StartNow)
	at := uint64(0)
	r, err := l.Stream("events").Recount(t.Context(), nil, func(n uint64) {
		if n <= at {
			t.Errorf("progress goes from %d to %d", at, n)
		}
		at = n
	})
	if err != nil || len(r.Differences) > 0 || r.Events != 500 || at != 501 {
		t.Errorf("%+v at %d, %v", r, at, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Stream("events").Recount(ctx, nil, func(uint64) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("a recount that nobody waits for: %v", err)
	}
}

func TestARecountSaysWhatTheLedgerHasWrong(t *testing.T) {
	l := open(t, t.TempDir())
	appendNow(t, l, "events", numbered(0, 10)...)
	c := l.Stream("events").Cursor("cloud", StartOldest)
	drain(t, l.Stream("events"), c)
	c.stream.mu.Lock()
	c.saved.Ledger.Delivered--
	c.stream.mu.Unlock()
	r := recount(t, l, "events")
	if got := strings.Join(r.Differences, "\n"); got != "destination cloud has passed 10 events and accounts for 9" {
		t.Errorf("the differences are %q", got)
	}
}

func TestARecountFindsBlocksThatAreGone(t *testing.T) {
	l := open(t, t.TempDir())
	for i := range 10 {
		appendNow(t, l, "events", numbered(10*i, 10)...)
	}
	s := l.Stream("events")
	if err := l.set([]keyValue{{blockKey(keyBlock, s.id, s.segments[0].Number, 31), nil}}); err != nil {
		t.Fatal(err)
	}
	r := recount(t, l, "events")
	if len(r.Differences) != 1 || !strings.Contains(r.Differences[0], "offsets 31 to 40 cannot be read") || r.Damaged != 10 || r.Events != 90 {
		t.Errorf("%+v", r)
	}
}

// A batch that was under way when its events became too old was delivered all
// the same: nothing is counted twice.
func TestLateDeliveryOfWhatHasExpiredKeepsTheLedgerBalanced(t *testing.T) {
	l := open(t, t.TempDir(), func(o *Options) {
		o.Streams[0] = StreamOptions{Name: "events", Max: 4 << 20, MaxAge: time.Millisecond}
	})
	c := batches{Cursor: l.Stream("events").Cursor("cloud", StartOldest)}
	random := newNoise()
	appendNow(t, l, "events", noise(random, 10, 16<<10)...)
	if _, err := c.Next(t.Context(), ReadLimits{Events: 10, Bytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		appendNow(t, l, "events", noise(random, 10, 16<<10)...)
	}
	time.Sleep(2 * time.Millisecond) // the age that matters is the machine's
	l.reclaimedAtOnce(t)
	before := ledger(t, l, "events", "cloud").Ledger
	if before.Expired < 10 || before.Dropped != 0 {
		t.Fatalf("ledger %+v", before)
	}
	if err := c.Commit(t.Context(), 10, Outcome{Delivered: 10}); err != nil {
		t.Fatal(err)
	}
	if got := ledger(t, l, "events", "cloud").Ledger; got.Delivered != 10 || got.Expired != before.Expired-10 {
		t.Errorf("ledger %+v, before %+v", got, before)
	}
	if st := l.Stream("events").Status(); st.Expired != before.Expired || st.Dropped != 0 {
		t.Errorf("the stream counts %+v", st)
	}
}
