package storage

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/gateway/event"
)

func prefixed(filters []string, topic string) bool {
	for _, f := range filters {
		if strings.HasPrefix(topic, strings.TrimSuffix(f, "#")) {
			return true
		}
	}
	return false
}

// sendReplay takes a replay to its end, or for so many events, and returns
// the offsets that it selects.
func sendReplay(t *testing.T, r *Replay, most int) (offsets []uint64, read int) {
	t.Helper()
	for read < most {
		span, err := r.Next(t.Context(), ReadLimits{Events: 10, Bytes: 1 << 20}, 0)
		if errors.Is(err, ErrEnd) {
			return offsets, read
		}
		if err != nil {
			t.Fatal(err)
		}
		o := Outcome{Filtered: int(span.To-span.From) - len(span.Events)}
		for i := range span.Events {
			if e := &span.Events[i]; r.Holds(e) && (len(r.Topics) == 0 || prefixed(r.Topics, e.Topic)) {
				offsets = append(offsets, e.Offset)
				o.Delivered++
			} else {
				o.Filtered++
			}
		}
		read += len(span.Events)
		book(t, r.Cursor, span.From, span.To, o)
	}
	return offsets, read
}

func TestAReplaySendsWhatItSelectsGoesOnAfterARestartAndTouchesNoLedger(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, func(o *Options) { o.TailBytes = 1 })
	var times []event.Time
	for i := range 100 {
		topic := "common/1"
		if i%10 == 3 {
			topic = "rare/1"
		}
		times = append(times, l.Now())
		appendNow(t, l, "events", event.Event{Topic: topic, Payload: []byte("x")}, event.Event{Topic: topic, Payload: []byte("y")})
	}
	l.Stream("events").Cursor("cloud", StartOldest)
	before := ledger(t, l, "events", "cloud").Ledger

	o := ReplayOptions{Destination: "cloud", Topics: []string{"rare/#"}, Times: Times{From: times[20], To: times[90]}}
	r, err := l.Stream("events").AddReplay(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	r = l.Replay(r.ID, prefixed)
	got, read := sendReplay(t, r, 12)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir, func(o *Options) { o.TailBytes = 1 })
	r = l.Replay(r.ID, prefixed)
	rest, again := sendReplay(t, r, 1000)
	got, read = append(got, rest...), read+again
	want := []uint64{47, 48, 67, 68, 87, 88, 107, 108, 127, 128, 147, 148, 167, 168}
	if len(got) != len(want) || got[0] != want[0] || got[len(got)-1] != want[len(want)-1] {
		t.Errorf("the replay sent %v, want %v", got, want)
	}
	if read > 30 { // a block of two events for each, and what it takes to learn the topics
		t.Errorf("%d events were read for %d", read, len(want))
	}
	st := l.Replays()[0]
	if !st.Done() || st.Ledger.Delivered != uint64(len(want)) || st.Ledger.Delivered+st.Ledger.Filtered != st.End-st.First {
		t.Errorf("at the end the replay is %+v", st)
	}
	if after := ledger(t, l, "events", "cloud").Ledger; after != before {
		t.Errorf("the replay moved the ledger of live delivery from %+v to %+v", before, after)
	}
	if found, err := l.RemoveReplay(t.Context(), st.ID); !found || err != nil {
		t.Errorf("removing the replay: %v, %v", found, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if left := open(t, dir).Replays(); len(left) != 0 {
		t.Errorf("after its removal there is still %+v", left)
	}
}

func TestAReplayHoldsUpNoRetentionAndCountsWhatItMissed(t *testing.T) {
	l := open(t, t.TempDir(), func(o *Options) { o.Streams[0].Max = 4 << 20 })
	random := newNoise()
	appendNow(t, l, "events", noise(random, 64, 16<<10)...)
	r, err := l.Stream("events").AddReplay(t.Context(), ReplayOptions{Destination: "cloud"})
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		appendNow(t, l, "events", noise(random, 64, 16<<10)...)
	}
	l.reclaimNow(t)
	if _, err := l.Replay(r.ID, prefixed).Next(t.Context(), ReadLimits{Events: 1, Bytes: 1}, 0); !errors.Is(err, ErrEnd) {
		t.Errorf("all of the replay was removed, and it got %v", err)
	}
	if st := l.Replays()[0]; st.Ledger.Dropped != 64 || !st.Done() {
		t.Errorf("the replay is %+v", st)
	}
}

func TestTheOldestEventSinceATimeIsFound(t *testing.T) {
	l := open(t, t.TempDir())
	s := l.Stream("events")
	if o, err := s.Since(0); err != nil || o != 1 {
		t.Errorf("in an empty stream: %d, %v", o, err)
	}
	var times []event.Time
	for i := range 20 {
		times = append(times, l.Now())
		appendNow(t, l, "events", numbered(3*i, 3)...)
	}
	for i, at := range times {
		if o, err := s.Since(at); err != nil || o != uint64(3*i+1) {
			t.Errorf("since %v: %d, %v; want %d", at, o, err, 3*i+1)
		}
	}
	if o, err := s.Since(l.Now().Add(time.Hour)); err != nil || o != 61 {
		t.Errorf("since a time to come: %d, %v; want 61", o, err)
	}
	at := times[7]
	o, err := s.Since(at)
	if err != nil {
		t.Fatal(err)
	}
	s.Cursor("cloud", StartFrom(o))
	if c := ledger(t, l, "events", "cloud"); c.Ledger.SkippedAtStart != 21 || c.Pending != 39 {
		t.Errorf("a cursor from there has %+v", c)
	}
}

func TestTheBacklogOfARemovedDestinationStaysUntilTheStreamIsFullOrItIsForgotten(t *testing.T) {
	dir := t.TempDir()
	small := func(o *Options) { o.Streams[0] = StreamOptions{Name: "events", Max: 8 << 20, Keep: time.Nanosecond} }
	l := open(t, dir, small)
	l.Stream("events").Cursor("cloud", StartOldest)
	random := newNoise()
	appendNow(t, l, "events", noise(random, 320, 16<<10)...) // 5 MiB, more than a quarter of max
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir, small) // nobody attaches the cursor
	l.reclaimNow(t)
	if c := ledger(t, l, "events", "cloud"); c.Pending != 320 || c.Ledger.Dropped != 0 {
		t.Fatalf("of a backlog of 320 there is %+v", c)
	}
	appendNow(t, l, "events", noise(random, 320, 16<<10)...)
	l.reclaimNow(t)
	if c := ledger(t, l, "events", "cloud"); c.Ledger.Dropped == 0 || c.Pending+c.Ledger.Dropped != 640 {
		t.Errorf("what retention passed is not counted: %+v", c)
	}
	if found, err := l.Stream("events").Forget(t.Context(), "cloud"); !found || err != nil {
		t.Fatalf("forget: %v, %v", found, err)
	}
	l.reclaimNow(t)
	if st := l.Stream("events").Status(); st.Bytes > 3<<20 {
		t.Errorf("with nobody left to read it the stream keeps %d bytes", st.Bytes)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if c := open(t, dir, small).Stream("events").Cursors(); len(c) != 0 {
		t.Errorf("a forgotten cursor is back: %v", c)
	}
}

// reclaimNow waits until retention has looked at the streams once more.
func (l *Log) reclaimNow(t *testing.T) {
	t.Helper()
	r := &request{hurry: true, prepare: func(*request) { l.reclaim() }}
	if err := l.submitAndWait(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

func TestAStreamThatIsNotConfiguredAnyMoreKeepsItsEventsAndItsLimits(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, func(o *Options) { o.Streams = append(o.Streams, StreamOptions{Name: "big", Max: 2 << 30}) })
	if err := l.Configure([]StreamOptions{{Name: "big", Max: 1 << 30, Keep: time.Hour, MaxAge: 48 * time.Hour}}); err != nil {
		t.Fatal(err)
	}
	appendNow(t, l, "big", numbered(0, 5)...)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir)
	s := l.Stream("big")
	if s == nil || s.opt.Max != 1<<30 || s.opt.Keep != time.Hour || s.opt.MaxAge != 48*time.Hour {
		t.Fatalf("the stream is %+v", s)
	}
	if got := readAll(t, l, "big", 1); len(got) != 5 {
		t.Errorf("%d of 5 events are left", len(got))
	}
}

func TestADeadLetterAndItsBookingAreOnDiskTogether(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	appendNow(t, l, "events", numbered(0, 10)...)
	c := l.Stream("events").Cursor("cloud", StartOldest)
	nextSpan(t, c, 10)
	book(t, c, 1, 4, Outcome{Delivered: 3}) // not on disk yet
	book(t, c, 4, 5, Outcome{Dead: numbered(0, 1), Stream: l.Stream("dead")})
	crashed := filepath.Join(t.TempDir(), "crashed")
	crash(t, l, crashed)
	l = open(t, crashed)
	if c := ledger(t, l, "events", "cloud"); c.Next != 5 || c.Ledger.Dead != 1 || len(readAll(t, l, "dead", 1)) != 1 {
		t.Errorf("after the crash the cursor is %+v", c)
	}
}

func TestWhatAnEarlierUserOfTheCursorCommitsLateIsNotBookedTwice(t *testing.T) {
	l := open(t, t.TempDir())
	appendNow(t, l, "events", numbered(0, 4)...)
	c := l.Stream("events").Cursor("cloud", StartOldest)
	nextSpan(t, c, 4)
	busy, gate, late := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	blocked := &request{hurry: true, prepare: func(*request) { close(busy); <-gate }}
	if err := l.submit(t.Context(), blocked); err != nil {
		t.Fatal(err)
	}
	<-busy
	go func() {
		late <- c.Commit(t.Context(), 1, 2, Outcome{Dead: numbered(0, 1), Stream: l.Stream("dead")})
	}()
	eventually(t, func() bool { return l.queue.waiting() > 0 }, "the letter is in the queue")
	c = l.Stream("events").Cursor("cloud", StartOldest) // by a reload
	close(gate)
	if err := <-late; err != nil {
		t.Fatal(err)
	}
	span := nextSpan(t, c, 4)
	book(t, c, 1, 2, Outcome{Dead: numbered(0, 1), Stream: l.Stream("dead")})
	book(t, c, 2, span.To, Outcome{Delivered: 3})
	if got := ledger(t, l, "events", "cloud").Ledger; got.Dead != 1 || got.Delivered != 3 || len(readAll(t, l, "dead", 1)) != 1 {
		t.Errorf("ledger %+v", got)
	}
}

func (q *queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.reqs)
}
