package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"holdfast/gateway/event"
)

// TestTheLogBehavesLikeItsModel runs random histories of append, output of
// rules, read, deliver, refuse, retry, purge, retention, crash and reopen over
// streams of every policy, and compares the log with the simplest thing that
// could be right: a slice for each stream and a set of letters. A crash is a
// copy of the store as the kernel has it, taken while the log runs, and opened
// in its place.
func TestTheLogBehavesLikeItsModel(t *testing.T) {
	seeds := []uint64{0, 1, 9} // 9 restarts while disk space is being given back
	if *long {
		seeds = nil
		for n := range uint64(200) {
			seeds = append(seeds, n)
		}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { history(t, seed) })
	}
}

type modelStream struct {
	events  []string // payload by offset-1
	cursor  uint64   // next offset
	behind  uint64   // behind the last commit: the rest of a batch stays valid when retention takes it
	written int      // bytes of rules' outputs, for which there is a reserve
}

// modelLetter is the event that a dead letter is about.
type modelLetter struct {
	stream string
	offset uint64
}

// model is a log and what it should be.
type model struct {
	t          *testing.T
	seed       uint64
	step       int
	random     *rand.Rand
	fill       *rand.ChaCha8
	dir        string
	generation int
	l          *Log
	streams    map[string]*modelStream
	cursors    map[string]*batches
	retries    map[string]*Retries
	rules      *Processor
	letters    map[uint64]modelLetter // open, by their offset in dead
	retrying   map[uint64]modelLetter // pending again
	buried     uint64                 // letters ever written
}

var modelNames = []string{"events", "alerts", "slow"}

func (m *model) options(o *Options) {
	o.TailBytes = 16 << 10
	o.Streams = []StreamOptions{
		{Name: "events", Max: 4 << 20},
		{Name: "alerts", Max: 4 << 20, WhenFull: Reject},
		{Name: "slow", Max: 4 << 20, WhenFull: Block, MaxEvents: 600},
		{Name: "dead", Letters: true},
	}
}

func (m *model) fatalf(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("seed %d, step %d: %s", m.seed, m.step, fmt.Sprintf(format, args...))
}

func (m *model) open(dir string) {
	m.l = open(m.t, dir, m.options)
	if r := m.l.Report(); r.SetAside != "" {
		m.fatalf("the store was set aside: %v", r.Notes)
	}
	for _, n := range modelNames {
		s := m.l.Stream(n)
		m.cursors[n] = &batches{Cursor: s.Cursor("c", StartOldest)}
		m.retries[n] = m.cursors[n].Retries(m.l.Stream("dead"), unbury)
		s.Cursor("session", StartOldest).Detach() // must never keep an event
	}
	var err error
	if m.rules, _, _, err = m.l.OpenProcessor("events", 0); err != nil {
		m.fatalf("%v", err)
	}
}

func history(t *testing.T, seed uint64) {
	m := &model{
		t: t, seed: seed, random: rand.New(rand.NewPCG(seed, 7)), fill: rand.NewChaCha8([32]byte{byte(seed)}), dir: t.TempDir(),
		streams: map[string]*modelStream{}, cursors: map[string]*batches{}, retries: map[string]*Retries{},
		letters: map[uint64]modelLetter{}, retrying: map[uint64]modelLetter{},
	}
	for _, n := range modelNames {
		m.streams[n] = &modelStream{cursor: 1}
	}
	m.open(filepath.Join(m.dir, "0"))
	operations := []func(name string, s *modelStream){
		m.append, m.append, m.append, m.append, m.output, m.deliver, m.deliver, m.readAnywhere,
		m.bury, m.retry, m.deliverAgain, m.purge, m.crash, m.restart,
	}
	for m.step = range 250 {
		name := modelNames[m.random.IntN(len(modelNames))]
		operations[m.random.IntN(len(operations))](name, m.streams[name])
		m.check()
	}
	for _, n := range append([]string{"dead"}, modelNames...) {
		s := m.l.Stream(n)
		first, durable, _ := s.Bounds()
		r, err := s.Recount(t.Context(), nil, func(uint64) {})
		if err != nil || len(r.Differences) > 0 || r.Events+r.Removed != durable-first {
			t.Errorf("seed %d: the recount of %s [%d, %d) found %+v, %v", seed, n, first, durable, r, err)
		}
	}
}

// check compares what must hold at any time.
func (m *model) check() {
	m.t.Helper()
	for _, n := range modelNames {
		s, want := m.l.Stream(n), m.streams[n]
		if _, durable, _ := s.Bounds(); durable != uint64(len(want.events))+1 {
			m.fatalf("stream %s ends at %d, want %d", n, durable, len(want.events)+1)
		}
		got := ledger(m.t, m.l, n, "c")
		ledger(m.t, m.l, n, "session")
		// In the reserve there is room for what rules write and one append.
		if n != "events" && got.Ledger.Dropped > 0 && want.written < ownReserve-1<<20 {
			m.fatalf("stream %s dropped %d events that no source may displace", n, got.Ledger.Dropped)
		}
		var again uint64
		for _, l := range m.retrying {
			if l.stream == n {
				again++
			}
		}
		if got.Retrying != again {
			m.fatalf("%d letters of %s are pending again, want %d", got.Retrying, n, again)
		}
	}
	if st := letterBook(m.t, m.l); st.Open != uint64(len(m.letters)) || st.Lost != 0 {
		m.fatalf("letters %+v, want %d open", st, len(m.letters))
	}
	for o := range m.letters {
		if !m.l.Stream("dead").Open(o) {
			m.fatalf("letter %d is not open", o)
		}
	}
}

func (m *model) events() []event.Event {
	events := make([]event.Event, 1+m.random.IntN(120))
	for i := range events {
		p := make([]byte, m.random.IntN(12000))
		_, _ = m.fill.Read(p)
		events[i] = event.Event{Topic: fmt.Sprintf("t/%d", i%5), Source: "mqtt", Payload: p}
	}
	return events
}

func (s *modelStream) add(events []event.Event) (bytes int) {
	for i := range events {
		s.events = append(s.events, string(events[i].Payload))
		bytes += len(events[i].Payload)
	}
	return bytes
}

// append offers events as a source; one that would have to wait gives up.
func (m *model) append(name string, s *modelStream) {
	events := m.events()
	gone := make(chan struct{})
	close(gone)
	done := make(chan error, 1)
	err := m.l.Append(m.t.Context(), []Append{{m.l.Stream(name), events}}, AppendOptions{Hurry: true, Gone: gone}, func(err error) { done <- err })
	if err == nil {
		err = <-done
	}
	switch {
	case err == nil:
		s.add(events)
	case name == "alerts" && errors.Is(err, ErrStreamFull), name == "slow" && errors.Is(err, ErrClosed):
		if st := m.l.Stream(name).Status(); st.Bytes < 3<<20 && st.Next-st.First < st.MaxEvents-50 {
			m.fatalf("%s has %d bytes and refuses", name, st.Bytes)
		}
	default:
		m.fatalf("append to %s: %v", name, err)
	}
}

// output writes events as a rule, which is never refused.
func (m *model) output(name string, s *modelStream) {
	events, done := m.events(), make(chan error, 1)
	err := m.rules.Commit(Step{Outputs: []Append{{m.l.Stream(name), events}}}, func(err error) { done <- err })
	if err == nil {
		err = <-done
	}
	if err != nil {
		m.fatalf("an output to %s: %v", name, err)
	}
	s.written += s.add(events)
}

// next returns what the cursor hands out; none if there is nothing.
func (m *model) next(name string, s *modelStream, n int) []event.Event {
	first, durable, _ := m.l.Stream(name).Bounds()
	s.cursor = max(s.cursor, first)
	if s.cursor == durable {
		return nil
	}
	events, err := m.cursors[name].Next(m.t.Context(), ReadLimits{Events: n, Bytes: 1 << 20})
	if err != nil {
		m.fatalf("%v", err)
	}
	from := s.cursor
	if first, _, _ := m.l.Stream(name).Bounds(); events[0].Offset == s.behind {
		from = s.behind
	} else if o := events[0].Offset; from < o && o <= first { // retention came between
		from, s.cursor = o, o
	}
	for i, e := range events {
		if e.Offset != from+uint64(i) || string(e.Payload) != s.events[e.Offset-1] {
			m.fatalf("stream %s: offset %d, the %d. of %d from %d, is not what was appended (cursor at %d)", name, e.Offset, i, len(events), from, s.cursor)
		}
	}
	return events
}

func (m *model) deliver(name string, s *modelStream) {
	events := m.next(name, s, 1+m.random.IntN(100))
	if len(events) == 0 {
		return
	}
	n := 1 + m.random.IntN(len(events))
	if err := m.cursors[name].Commit(context.Background(), n, Outcome{Delivered: n}); err != nil {
		m.fatalf("%v", err)
	}
	s.commit(events[0].Offset + uint64(n))
}

func (s *modelStream) commit(end uint64) { s.behind, s.cursor = end, max(s.cursor, end) }

// bury makes the next event a dead letter.
func (m *model) bury(name string, s *modelStream) {
	events := m.next(name, s, 1)
	if len(events) == 0 {
		return
	}
	if err := m.cursors[name].Commit(context.Background(), 1, m.refused(name, events[0])); err != nil {
		m.fatalf("%v", err)
	}
	s.commit(events[0].Offset + 1)
}

// refused is the outcome of an event that becomes the next letter.
func (m *model) refused(name string, e event.Event) Outcome {
	m.buried++
	m.letters[m.buried] = modelLetter{name, e.Offset}
	id := e.ID("test", name)
	e.Cause = &id
	return Outcome{Dead: []event.Event{e}, Stream: m.l.Stream("dead")}
}

// some are letters that exist and a few that do not.
func (m *model) some() (all []Letter) {
	for range 1 + m.random.IntN(3) {
		o := 1 + m.random.Uint64N(m.buried+2)
		l, open := m.letters[o]
		if !open {
			l.stream = "events"
		}
		all = append(all, Letter{Offset: o, Stream: m.l.Stream(l.stream), Cursor: "c"})
	}
	return all
}

func (m *model) retry(string, *modelStream) {
	all := m.some()
	want := 0
	for _, l := range all {
		if letter, open := m.letters[l.Offset]; open {
			delete(m.letters, l.Offset)
			m.retrying[l.Offset] = letter
			want++
		}
	}
	if n, err := m.l.Stream("dead").Retry(m.t.Context(), all); n != want || err != nil {
		m.fatalf("%d letters are tried again (%v), want %d", n, err, want)
	}
}

func (m *model) purge(string, *modelStream) {
	all := m.some()[:1]
	want := 0
	if _, open := m.letters[all[0].Offset]; open {
		delete(m.letters, all[0].Offset)
		want = 1
	}
	if n, err := m.l.Stream("dead").Purge(m.t.Context(), all); n != want || err != nil {
		m.fatalf("%d letters are purged (%v), want %d", n, err, want)
	}
}

// deliverAgain delivers or refuses what is tried again.
func (m *model) deliverAgain(name string, _ *modelStream) {
	if m.cursors[name].stream.Cursors()["c"].Retrying == 0 {
		return
	}
	r := m.retries[name]
	e, err := r.Next(m.t.Context())
	if err != nil {
		m.fatalf("%v", err)
	}
	o, offset := Outcome{Delivered: 1}, r.under[0].letter
	letter, ok := m.retrying[offset]
	if !ok || letter != (modelLetter{name, e.Offset}) || string(e.Payload) != m.streams[name].events[e.Offset-1] {
		m.fatalf("letter %d of %s comes as offset %d, want %+v", offset, name, e.Offset, letter)
	}
	delete(m.retrying, offset)
	if m.random.IntN(2) == 0 {
		o = m.refused(name, e)
	}
	if err := r.Commit(m.t.Context(), o); err != nil {
		m.fatalf("%v", err)
	}
}

func (m *model) readAnywhere(name string, s *modelStream) {
	first, durable, _ := m.l.Stream(name).Bounds()
	if first == durable {
		return
	}
	from := first + m.random.Uint64N(durable-first)
	events, err := m.l.Stream(name).Reader(false).Read(from, ReadLimits{Events: 50, Bytes: 1 << 20})
	if errors.As(err, new(*TrimmedError)) {
		return // retention came between
	}
	if err != nil || len(events) == 0 {
		m.fatalf("read %d of [%d, %d): %v", from, first, durable, err)
	}
	for i, e := range events {
		if e.Offset != from+uint64(i) || string(e.Payload) != s.events[e.Offset-1] {
			m.fatalf("read at %d gave the wrong event", from)
		}
	}
}

// crash leaves only what the kernel has.
func (m *model) crash(string, *modelStream) {
	m.generation++
	next := filepath.Join(m.dir, fmt.Sprint(m.generation))
	crash(m.t, m.l, next)
	_ = m.l.Close()
	_ = os.RemoveAll(m.l.opt.Dir)
	m.open(next)
	for _, n := range modelNames { // a position may be up to a second old
		c := ledger(m.t, m.l, n, "c")
		if first, _, _ := m.l.Stream(n).Bounds(); c.Next > m.streams[n].cursor && c.Next != first {
			m.fatalf("after the crash the cursor of %s is at %d, ahead of %d", n, c.Next, m.streams[n].cursor)
		}
		m.streams[n].cursor, m.streams[n].behind = c.Next, 0
	}
}

func (m *model) restart(string, *modelStream) {
	if err := m.l.Close(); err != nil {
		m.fatalf("%v", err)
	}
	m.open(m.l.opt.Dir)
	for _, n := range modelNames {
		m.streams[n].behind = 0
		c := ledger(m.t, m.l, n, "c")
		first, _, _ := m.l.Stream(n).Bounds()
		if c.Next != max(m.streams[n].cursor, first) {
			m.fatalf("a restart moved the cursor of %s from %d to %d", n, m.streams[n].cursor, c.Next)
		}
	}
}

// crash copies the store as the kernel has it, on the committer's goroutine, so
// that no file changes meanwhile.
func crash(t *testing.T, l *Log, to string) {
	t.Helper()
	copied := make(chan error, 1)
	err := l.queue.put(context.Background(), &request{hurry: true, committed: func() { copied <- snapshot(l.opt.Dir, to) }}, l.stamp)
	if err == nil {
		err = <-copied
	}
	if err != nil {
		t.Fatal(err)
	}
}

// snapshot copies a store while no commit is under way. Badger may flush and
// compact meanwhile: a copy across such a change is no state that a disk ever
// had, and is made again.
func snapshot(from, to string) error {
	for {
		before := tables(from)
		err := os.CopyFS(to, os.DirFS(from))
		if err == nil && before == tables(from) {
			return nil
		}
		if before == tables(from) {
			return err
		}
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
}

// tables lists Badger's files and the length of its manifest.
func tables(dir string) string {
	names, _ := filepath.Glob(filepath.Join(dir, databaseDir, "*"))
	info, err := os.Stat(filepath.Join(dir, databaseDir, "MANIFEST"))
	if err != nil {
		return ""
	}
	return fmt.Sprint(names, info.Size())
}
