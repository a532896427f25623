package storage

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"holdfast/gateway/event"
)

// withLetters is a log whose stream dead has dead letters.
func withLetters(o *Options) { o.Streams[2] = StreamOptions{Name: "dead", Letters: true} }

// bury makes dead letters of the next n events of the cursor. A letter says in
// its key which offset it had.
func bury(t *testing.T, l *Log, c *Cursor, n int) {
	t.Helper()
	b := batches{Cursor: c}
	events, err := b.Next(t.Context(), ReadLimits{Events: n, Bytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	var dead []event.Event
	for _, e := range events[:n] {
		id := e.ID("test", c.stream.name)
		e.Cause = &id
		dead = append(dead, e)
	}
	if err := b.Commit(t.Context(), n, Outcome{Dead: dead, Stream: l.Stream("dead")}); err != nil {
		t.Fatal(err)
	}
}

// unbury is what the gateway makes of a letter.
func unbury(d *event.Event) event.Event {
	e := *d
	e.Epoch, e.Offset, e.Cause = d.Cause.Epoch, d.Cause.Offset, nil
	return e
}

func lettersOf(s *Stream, cursor string, offsets ...uint64) (all []Letter) {
	for _, o := range offsets {
		all = append(all, Letter{Offset: o, Stream: s, Cursor: cursor})
	}
	return all
}

// letterBook fails the test unless every letter is accounted for.
func letterBook(t testing.TB, l *Log) LetterStatus {
	t.Helper()
	st := l.Stream("dead").Status()
	if sum := st.Letters.Open + st.Letters.Retried + st.Letters.Purged + st.Letters.Lost; sum != st.Next-1-st.Gap {
		t.Errorf("%d letters were written, accounted for are %d: %+v", st.Next-1-st.Gap, sum, st.Letters)
	}
	return st.Letters
}

func TestADeadLetterThatIsTriedAgainIsPendingAndKeepsItsIdentity(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, withLetters)
	s, dead := l.Stream("events"), l.Stream("dead")
	appendNow(t, l, "events", numbered(0, 10)...)
	c := s.Cursor("cloud", StartOldest)
	bury(t, l, c, 4)
	n, err := dead.Retry(t.Context(), append(lettersOf(s, "cloud", 2, 3, 3, 99), lettersOf(s, "nobody", 1)...))
	if n != 2 || err != nil {
		t.Fatalf("%d letters were moved, %v", n, err)
	}
	if got := ledger(t, l, "events", "cloud"); got.Ledger.Dead != 2 || got.Pending != 8 || got.Retrying != 2 {
		t.Errorf("ledger %+v", got)
	}
	if st := letterBook(t, l); st.Open != 2 || st.Retried != 2 {
		t.Errorf("letters %+v", st)
	}
	if err := l.Close(); err != nil { // they are on disk
		t.Fatal(err)
	}
	l = open(t, dir, withLetters)
	s, dead = l.Stream("events"), l.Stream("dead")
	if got := ledger(t, l, "events", "cloud"); got.Ledger.Dead != 2 || got.Pending != 8 || got.Retrying != 2 {
		t.Errorf("after a restart: ledger %+v", got)
	}
	r := s.Cursor("cloud", StartOldest).Retries(dead, unbury)
	var events []event.Event
	for range 2 {
		e, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	if events[0].Offset != 2 || events[1].Offset != 3 || string(events[0].Payload) != string(numbered(1, 1)[0].Payload) {
		t.Fatalf("what is tried again is %v", events)
	}
	// One is delivered, the other refused once more: a new letter.
	if err := r.Commit(t.Context(), Outcome{Delivered: 1}); err != nil {
		t.Fatal(err)
	}
	again := events[1]
	id := again.ID("test", "events")
	again.Cause = &id
	if err := r.Commit(t.Context(), Outcome{Dead: []event.Event{again}, Stream: dead}); err != nil {
		t.Fatal(err)
	}
	if got := ledger(t, l, "events", "cloud"); got.Ledger.Dead != 3 || got.Ledger.Delivered != 1 || got.Retrying != 0 || got.Pending != 6 {
		t.Errorf("ledger %+v", got)
	}
	if st := letterBook(t, l); st.Open != 3 || st.Retried != 2 || !dead.Open(5) {
		t.Errorf("letters %+v", st)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if e, err := r.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nothing is left to be tried, and there came %v, %v", e, err)
	}
}

func TestPurgedLettersAreCountedAndStayDead(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, withLetters)
	s, dead := l.Stream("events"), l.Stream("dead")
	appendNow(t, l, "events", numbered(0, 5)...)
	bury(t, l, s.Cursor("cloud", StartOldest), 5)
	for range 2 { // the second time there is nothing left to purge
		n, err := dead.Purge(t.Context(), lettersOf(s, "cloud", 1, 2, 4))
		if err != nil || n != 3 && n != 0 {
			t.Fatalf("%d purged, %v", n, err)
		}
	}
	if n, err := dead.Retry(t.Context(), lettersOf(s, "cloud", 2)); n != 0 || err != nil {
		t.Errorf("a purged letter was tried again: %d, %v", n, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir, withLetters)
	if got := ledger(t, l, "events", "cloud"); got.Ledger.Dead != 5 || got.Purged != 3 {
		t.Errorf("ledger %+v", got)
	}
	dead = l.Stream("dead")
	if st := letterBook(t, l); st.Purged != 3 || st.Open != 2 || dead.Open(4) || !dead.Open(3) {
		t.Errorf("letters %+v", st)
	}
}

func TestLettersOutliveReadersAndGoByTheLimitsOfTheirStream(t *testing.T) {
	l := open(t, t.TempDir(), func(o *Options) {
		o.Streams[2] = StreamOptions{Name: "dead", Letters: true, Max: 4 << 20}
	})
	s, dead := l.Stream("events"), l.Stream("dead")
	reader := dead.Cursor("somebody", StartOldest)
	c := s.Cursor("cloud", StartOldest)
	random := newNoise()
	more := func(n int) {
		for range n {
			appendNow(t, l, "events", noise(random, 16, 15<<10)...)
			bury(t, l, c, 16)
			drain(t, dead, reader)
		}
	}
	more(10) // 2.4 MB, more than a quarter of max
	l.reclaimedAtOnce(t)
	if st := letterBook(t, l); st.Open != 160 || st.Lost != 0 {
		t.Fatalf("letters that somebody has read are gone: %+v", st)
	}
	if n, err := dead.Retry(t.Context(), lettersOf(s, "cloud", 1, 2, 3)); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	r := c.Retries(dead, unbury)
	for range 2 {
		if _, err := r.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	more(20) // beyond max, while two of the three are under way
	l.reclaimedAtOnce(t)
	got := ledger(t, l, "events", "cloud")
	if st := letterBook(t, l); st.Lost == 0 || got.Ledger.Dropped != 3 || got.Retrying != 0 {
		t.Errorf("letters %+v, ledger %+v; want some lost, and those to be tried again dropped", st, got)
	}
	for range 2 {
		if err := r.Commit(t.Context(), Outcome{Delivered: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if got := ledger(t, l, "events", "cloud").Ledger; got.Dropped != 1 || got.Delivered != 2 {
		t.Errorf("two of the dropped were delivered after all: ledger %+v", got)
	}
	// Purged letters give their space back.
	first, end, _ := dead.Bounds()
	var all []uint64
	for o := first; o < end; o++ {
		all = append(all, o)
	}
	if _, err := dead.Purge(t.Context(), lettersOf(s, "cloud", all...)); err != nil {
		t.Fatal(err)
	}
	l.reclaimedAtOnce(t)
	if st := dead.Status(); st.Bytes > 2<<20 || st.Letters.Open != 0 {
		t.Errorf("after a purge the stream has %+v", st)
	}
	if n := len(dead.letters.settled); n > 1 {
		t.Errorf("%d ranges of settled letters, want one", n)
	}
	letterBook(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, l.opt.Dir, func(o *Options) { o.Streams[2] = StreamOptions{Name: "dead", Letters: true, Max: 4 << 20} })
	if st := letterBook(t, l); st.Open != 0 {
		t.Errorf("after a restart %+v", st)
	}
}

// reclaimedAtOnce waits until retention has looked at everything.
func (l *Log) reclaimedAtOnce(t *testing.T) {
	t.Helper()
	for range 3 {
		done := make(chan struct{})
		err := l.queue.put(t.Context(), &request{hurry: true, committed: func() { l.reclaim(); close(done) }}, l.stamp)
		if err != nil {
			t.Fatal(err)
		}
		<-done
	}
}

// A letter and the position behind its event are on disk together: a crash
// finds both or neither, whatever the cursor did in between.
func TestACrashFindsALetterAndItsLedgerInOneStep(t *testing.T) {
	dir := t.TempDir()
	l := open(t, filepath.Join(dir, "0"), withLetters)
	s := l.Stream("events")
	appendNow(t, l, "events", numbered(0, 10)...)
	c := s.Cursor("cloud", StartOldest)
	// Delivered lazily: the cursor on disk is behind when the letter comes.
	b := batches{Cursor: c}
	if _, err := b.Next(t.Context(), ReadLimits{Events: 3, Bytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(t.Context(), 3, Outcome{Delivered: 3}); err != nil {
		t.Fatal(err)
	}
	bury(t, l, c, 2)
	next := filepath.Join(dir, "1")
	crash(t, l, next)
	l = open(t, next, withLetters)
	got := ledger(t, l, "events", "cloud")
	if letters := readAll(t, l, "dead", 1); len(letters) != 2 || got.Ledger.Dead != 2 || got.Ledger.Delivered != 3 || got.Next != 6 {
		t.Errorf("after the crash there are %d letters, and the ledger is %+v", len(letters), got)
	}
}

func TestSpansAreASetOfOffsets(t *testing.T) {
	var s spans
	model := map[uint64]bool{}
	touched := map[uint64]bool{}
	disk := map[uint64]uint64{}
	random := newNoise()
	for step := range 3000 {
		o := random.Uint64()%200 + 1
		if step%500 == 499 {
			s.cut(o, touched)
			for k := range model {
				if k < o {
					delete(model, k)
				}
			}
		} else {
			s.add(o, touched)
			model[o] = true
		}
		for from := range touched {
			delete(disk, from)
			if to := s.upTo(from); to != 0 {
				disk[from] = to
			}
		}
		clear(touched)
		for o := uint64(1); o < 203; o++ {
			if s.has(o) != model[o] {
				t.Fatalf("step %d: %d is %v in %v", step, o, s.has(o), s)
			}
		}
		if s.count(50, 150) != uint64(len(slices.DeleteFunc(keys(model), func(o uint64) bool { return o < 50 || o >= 150 }))) {
			t.Fatalf("step %d: count of %v", step, s)
		}
		if len(disk) != len(s) {
			t.Fatalf("step %d: %v on disk, %v in memory", step, disk, s)
		}
		for i, r := range s {
			if disk[r.from] != r.to || r.from >= r.to || i > 0 && s[i-1].to >= r.from {
				t.Fatalf("step %d: %v on disk, %v in memory", step, disk, s)
			}
		}
	}
}

func keys(m map[uint64]bool) (all []uint64) {
	for k := range m {
		all = append(all, k)
	}
	return all
}

// What is appended after a destination began belongs to it, also when the
// gateway is killed before the destination's place would have been written.
func TestANewCursorIsOnDiskWithTheNextEvent(t *testing.T) {
	dir := t.TempDir()
	l := open(t, filepath.Join(dir, "0"))
	appendNow(t, l, "events", numbered(0, 5)...)
	l.Stream("events").Cursor("cloud", StartNow)
	appendNow(t, l, "events", numbered(5, 2)...)
	copied := make(chan error, 1)
	next := filepath.Join(dir, "1")
	err := l.queue.put(t.Context(), &request{hurry: true, committed: func() { copied <- snapshot(l.opt.Dir, next) }}, l.stamp)
	if err == nil {
		err = <-copied
	}
	if err != nil {
		t.Fatal(err)
	}
	l = open(t, next)
	l.Stream("events").Cursor("cloud", StartNow)
	if got := ledger(t, l, "events", "cloud"); got.Pending != 2 || got.Ledger.SkippedAtStart != 5 {
		t.Errorf("after the crash the cursor has %+v", got)
	}
}

// In a store of before, a letter could be written after retention had moved
// the cursor, and take its place back: what was missed is counted at the start.
func TestACursorBehindTheStreamIsBookedAtTheStart(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, func(o *Options) { o.Streams[0].Max = 4 << 20 })
	s := l.Stream("events")
	s.Cursor("cloud", StartOldest)
	random := newNoise()
	for range 8 {
		appendNow(t, l, "events", noise(random, 64, 16<<10)...)
	}
	l.reclaimedAtOnce(t)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir)
	first, _, _ := l.Stream("events").Bounds()
	if first == 1 {
		t.Fatal("nothing was dropped")
	}
	if err := l.set([]keyValue{{cursorKey(l.Stream("events").id, "cloud"), []byte(`{"next":1,"ledger":{}}`)}}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir)
	if got := ledger(t, l, "events", "cloud"); got.Ledger.Dropped != first-1 || got.Next != first {
		t.Errorf("the cursor has %+v, the stream begins at %d", got, first)
	}
}
