package storage

import (
	"context"
	"errors"
	"testing"
	"time"

	"holdfast/gateway/event"
)

func ledger(t testing.TB, l *Log, stream, cursor string) CursorStatus {
	t.Helper()
	c, ok := l.Stream(stream).Cursors()[cursor]
	if !ok {
		t.Fatalf("stream %q has no cursor %q", stream, cursor)
	}
	b := c.Ledger
	if sum := b.Delivered + b.Filtered + b.Expired + b.Dropped + b.Dead + b.Damaged + b.SkippedAtStart + c.Pending; sum != c.Appended {
		t.Errorf("the ledger does not balance: appended %d, accounted for %d: %+v", c.Appended, sum, c)
	}
	return c
}

// nextSpan returns the next span with events, and books those that were passed over.
func nextSpan(t testing.TB, c *Cursor, n int) Span {
	t.Helper()
	for {
		span, err := c.Next(t.Context(), ReadLimits{Events: n, Bytes: 1 << 20}, 0)
		if err != nil {
			t.Fatal(err)
		}
		skipped := int(span.To - span.From)
		switch span.Skipped {
		case SkipNothing:
			return span
		case SkipFiltered:
			book(t, c, span.From, span.To, Outcome{Filtered: skipped})
		case SkipDamaged:
			book(t, c, span.From, span.To, Outcome{Damaged: skipped})
		}
		if c.stream.Cursors()[c.name].Pending == 0 {
			return Span{From: span.To, To: span.To}
		}
	}
}

func book(t testing.TB, c *Cursor, from, to uint64, o Outcome) {
	t.Helper()
	if err := c.Commit(t.Context(), from, to, o); err != nil {
		t.Fatal(err)
	}
}

// deliver books a span as delivered.
func deliver(t testing.TB, c *Cursor, span Span) {
	t.Helper()
	book(t, c, span.From, span.To, Outcome{Delivered: len(span.Events)})
}

func TestACursorReadsAheadAndItsNextUserBeginsBehindWhatIsCommitted(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	appendNow(t, l, "events", numbered(0, 10)...)
	c := l.Stream("events").Cursor("cloud", StartOldest)
	if first, ahead := nextSpan(t, c, 4), nextSpan(t, c, 4); first.From != 1 || len(first.Events) != 4 || ahead.From != 5 || len(ahead.Events) != 4 {
		t.Fatal("a cursor does not read ahead of what is committed")
	}
	c = l.Stream("events").Cursor("cloud", StartNow)
	if again := nextSpan(t, c, 4); again.From != 1 {
		t.Fatalf("the next user begins at %d, want 1: nothing is committed", again.From)
	}
	book(t, c, 1, 4, Outcome{Delivered: 2, Filtered: 1})
	dead := []event.Event{{Topic: "x", Payload: []byte("dead")}}
	book(t, c, 4, 5, Outcome{Dead: dead, Stream: l.Stream("dead")})
	if err := c.Commit(t.Context(), 5, 7, Outcome{Delivered: 1}); err == nil {
		t.Error("a commit that does not account for every event was taken")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir)
	c = l.Stream("events").Cursor("cloud", StartNow)
	if span := nextSpan(t, c, 10); span.From != 5 || len(span.Events) != 6 {
		t.Errorf("after the restart the cursor is at %d with %d events, want 5 and 6", span.From, len(span.Events))
	}
	if got := ledger(t, l, "events", "cloud").Ledger; got.Delivered != 2 || got.Filtered != 1 || got.Dead != 1 {
		t.Errorf("ledger %+v", got)
	}
	if letters := readAll(t, l, "dead", 1); len(letters) != 1 || string(letters[0].Payload) != "dead" {
		t.Errorf("dead letters %v", letters)
	}
}

func TestANewCursorBeginsNowOrAtTheOldest(t *testing.T) {
	l := open(t, t.TempDir())
	appendNow(t, l, "events", numbered(0, 5)...)
	l.Stream("events").Cursor("now", StartNow)
	l.Stream("events").Cursor("oldest", StartOldest)
	appendNow(t, l, "events", numbered(5, 2)...)
	if c := ledger(t, l, "events", "now"); c.Pending != 2 || c.Ledger.SkippedAtStart != 5 {
		t.Errorf("a cursor that begins now has %+v", c)
	}
	if c := ledger(t, l, "events", "oldest"); c.Pending != 7 || c.Ledger.SkippedAtStart != 0 {
		t.Errorf("a cursor that begins at the oldest event has %+v", c)
	}
}

func TestWhatRetentionTakesFromACursorIsBookedAndLateDeliveryCorrectsIt(t *testing.T) {
	l := open(t, t.TempDir(), func(o *Options) { o.Streams[0].Max = 4 << 20 })
	c := l.Stream("events").Cursor("cloud", StartOldest)
	random := newNoise()
	appendNow(t, l, "events", noise(random, 64, 16<<10)...)
	span := nextSpan(t, c, 10)
	held := len(span.Events)
	for range 20 { // far beyond max while the batch is under way
		appendNow(t, l, "events", noise(random, 64, 16<<10)...)
	}
	l.reclaimNow(t)
	dropped := ledger(t, l, "events", "cloud").Ledger.Dropped
	if dropped < 100 {
		t.Fatalf("only %d events were dropped", dropped)
	}
	deliver(t, c, span)
	if got := ledger(t, l, "events", "cloud").Ledger; got.Delivered != uint64(held) || got.Dropped != dropped-uint64(held) {
		t.Errorf("%d of the dropped events were delivered after all: ledger %+v, dropped before %d", held, got, dropped)
	}
}

func TestWhatExpiresWhileItIsUnderWayAndIsDeliveredIsBookedOnce(t *testing.T) {
	limits := StreamOptions{Name: "events", Max: 16 << 20}
	l := open(t, t.TempDir(), func(o *Options) { o.Streams[0] = limits })
	c := l.Stream("events").Cursor("cloud", StartOldest)
	appendNow(t, l, "events", noise(newNoise(), 256, 16<<10)...)
	first, second := nextSpan(t, c, 10), nextSpan(t, c, 10)
	limits.MaxAge = time.Nanosecond
	if err := l.Configure([]StreamOptions{limits}); err != nil {
		t.Fatal(err)
	}
	l.reclaimNow(t)
	expired := ledger(t, l, "events", "cloud").Ledger.Expired
	if expired < 20 {
		t.Fatalf("%d events expired", expired)
	}
	deliver(t, c, first)
	book(t, c, second.From, second.From+3, Outcome{Delivered: 1, Filtered: 2})
	got := ledger(t, l, "events", "cloud").Ledger // it balances
	if want := expired - uint64(len(first.Events)) - 3; got.Expired != want || got.Delivered != uint64(len(first.Events))+1 || got.Filtered != 2 {
		t.Errorf("ledger %+v, want %d expired", got, want)
	}
}

func TestAFailedWriteStopsEveryAcknowledgement(t *testing.T) {
	broken := errors.New("the disk is broken")
	failing := false
	l := open(t, t.TempDir(), func(o *Options) {
		o.OnCommit = func() error {
			if failing {
				return broken
			}
			return nil
		}
	})
	appendNow(t, l, "events", numbered(0, 1)...)
	done := make(chan error, 2)
	failing = true
	if err := l.Append(t.Context(), []Append{{l.Stream("events"), numbered(1, 1)}}, AppendOptions{Hurry: true}, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, ErrFailed) || !errors.Is(err, broken) {
		t.Errorf("the append got %v", err)
	}
	failing = false
	if err := l.Append(t.Context(), []Append{{l.Stream("events"), numbered(2, 1)}}, AppendOptions{}, func(err error) { done <- err }); !errors.Is(err, ErrFailed) {
		t.Errorf("an append after the failure got %v: it may not be taken before the store was opened again", err)
	}
	if _, err := l.Stream("events").Cursor("x", StartNow).Next(t.Context(), ReadLimits{Events: 1, Bytes: 1}, 0); !errors.Is(err, ErrFailed) {
		t.Errorf("a waiting reader got %v", err)
	}
}

func TestACopiedStoreGetsANewEpoch(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	epoch := l.Epoch()
	appendNow(t, l, "events", numbered(0, 3)...)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir)
	if l.Epoch() != epoch {
		t.Fatal("a restart changed the epoch")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	copied := t.TempDir()
	copyTree(t, dir, copied)
	l = open(t, copied)
	if l.Epoch() == epoch || l.Report().NewEpoch == "" {
		t.Error("a copy of the store kept the epoch: its events would pass for duplicates of the original's")
	}
	if got := readAll(t, l, "events", 1); got[0].Epoch != epoch {
		t.Error("events from before the copy have lost their identity")
	}
}

func TestAStoreThatDoesNotOpenIsSetAsideAndOffsetsGoOn(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	l.Stream("events").Cursor("cloud", StartOldest)
	appendNow(t, l, "events", numbered(0, 100)...)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	damageManifest(t, dir)
	l = open(t, dir)
	if l.Report().SetAside == "" {
		t.Fatal("nothing was reported")
	}
	appendNow(t, l, "events", numbered(100, 1)...)
	first, _, next := l.Stream("events").Bounds()
	if first <= 100 {
		t.Errorf("offset %d was used twice", first)
	}
	c := ledger(t, l, "events", "cloud")
	if c.Ledger.Damaged != 100 || c.Next != first || next != first+1 {
		t.Errorf("cursor %+v in [%d, %d)", c, first, next)
	}
}

func TestHeldPacketIdentifiersSurviveARestartUntilTheyAreReleased(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	done := make(chan error, 1)
	o := AppendOptions{Hurry: true, Client: "c", Hold: []uint16{7, 9}}
	if err := l.Append(context.Background(), []Append{{l.Stream("events"), numbered(0, 2)}}, o, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := l.Release("c", []uint16{7}, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if held := open(t, dir).Held("c"); len(held) != 1 || held[0] != 9 {
		t.Errorf("held after the restart: %v, want 9", held)
	}
}

func TestLingerGroupsWhatNobodyWaitsFor(t *testing.T) {
	l := open(t, t.TempDir(), func(o *Options) { o.Linger = 50 * time.Millisecond })
	appendNow(t, l, "events", numbered(0, 1)...)
	before := l.Stats().Commits
	done := make(chan error, 100)
	start := time.Now()
	for i := range 100 {
		if err := l.Append(t.Context(), []Append{{l.Stream("events"), numbered(i, 1)}}, AppendOptions{}, func(err error) { done <- err }); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if n, most := l.Stats().Commits-before, 2+uint64(time.Since(start)/(50*time.Millisecond)); n > most {
		t.Errorf("100 appends in a moment took %d commits, want at most %d", n, most)
	}
}

func TestACursorForFewTopicsPassesOverBlocksWithoutThem(t *testing.T) {
	l := open(t, t.TempDir(), func(o *Options) { o.TailBytes = 1 })
	for i := range 200 {
		topic := "common"
		if i%50 == 49 {
			topic = "rare"
		}
		appendNow(t, l, "events", event.Event{Topic: topic, Payload: []byte("x")}, event.Event{Topic: topic, Payload: []byte("y")})
	}
	c := l.Stream("events").Cursor("cloud", StartOldest)
	c.Select(func(topic string) bool { return topic == "rare" })
	handed, rare := 0, 0
	for ledger(t, l, "events", "cloud").Pending > 0 {
		span := nextSpan(t, c, 2)
		o := Outcome{}
		for _, e := range span.Events {
			if e.Topic == "rare" {
				rare++
				o.Delivered++
			} else {
				o.Filtered++
			}
		}
		handed += len(span.Events)
		book(t, c, span.From, span.To, o)
	}
	if rare != 8 || handed > 20 {
		t.Errorf("%d of 8 rare events among %d that were read, want at most 20", rare, handed)
	}
	if got := ledger(t, l, "events", "cloud").Ledger; got.Delivered != 8 || got.Filtered != 392 {
		t.Errorf("ledger %+v", got)
	}

	appendNow(t, l, "events", event.Event{Topic: "common"})
	appendNow(t, l, "events", event.Event{Topic: "common"})
	all := l.Stream("events").Cursor("cloud", StartOldest) // with other settings, which select everything
	if span := nextSpan(t, all, 2); span.From != 401 || len(span.Events) == 0 {
		t.Errorf("the next user of the cursor is handed out %+v", span)
	}
}
