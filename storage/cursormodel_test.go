package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"holdfast/gateway/event"
)

// TestCursorsBehaveLikeTheirModel runs random histories of append, read, commit,
// retention, crash and reopen, and compares the log with the simplest thing
// that could be right: a slice for each stream. A crash is a copy of the store
// as the kernel has it, taken while the log runs, and opened in its place.
func TestCursorsBehaveLikeTheirModel(t *testing.T) {
	seeds := 4
	if *long {
		seeds = 200
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { flights(t, uint64(seed)) })
	}
}

type flightStream struct {
	events []string // payload by offset-1
	cursor uint64   // next offset
	flight []Span   // handed out and not committed
	dead   int      // letters committed
}

func flights(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 7))
	fill := rand.NewChaCha8([32]byte{byte(seed)})
	dir := t.TempDir()
	names := []string{"events", "alerts"}
	model := map[string]*flightStream{}
	for _, n := range names {
		model[n] = &flightStream{cursor: 1}
	}
	options := func(o *Options) {
		o.TailBytes = 16 << 10
		for i := range o.Streams {
			o.Streams[i].Max = 4 << 20
		}
	}
	l := open(t, filepath.Join(dir, "0"), options)
	generation := 0
	cursors := map[string]*Cursor{}
	attach := func() {
		for _, n := range names {
			cursors[n] = l.Stream(n).Cursor("c", StartOldest)
			model[n].flight = nil
		}
	}
	attach()
	for step := range 150 {
		name := names[random.IntN(len(names))]
		m := model[name]
		op := random.IntN(10)
		switch op {
		case 0, 1, 2, 3: // append
			events := make([]event.Event, 1+random.IntN(40))
			for i := range events {
				p := make([]byte, random.IntN(9000))
				_, _ = fill.Read(p)
				events[i] = event.Event{Topic: fmt.Sprintf("t/%d", i%5), Source: "mqtt", Payload: p}
				m.events = append(m.events, string(p))
			}
			appendNow(t, l, name, events...)
		case 4, 5: // hand out
			first, durable, _ := l.Stream(name).Bounds()
			m.cursor = max(m.cursor, first)
			from := m.cursor
			if n := len(m.flight); n > 0 {
				from = max(from, m.flight[n-1].To)
			}
			if from == durable || len(m.flight) == 4 {
				continue
			}
			span, err := cursors[name].Next(t.Context(), ReadLimits{Events: 1 + random.IntN(100), Bytes: 1 << 20}, 0)
			if err != nil {
				t.Fatal(err)
			}
			if first, _, _ := l.Stream(name).Bounds(); from < span.From && span.From <= first { // retention came between
				from = span.From
			}
			if span.From != from {
				t.Fatalf("step %d: stream %s: handed out from %d, want %d", step, name, span.From, from)
			}
			for i, e := range span.Events {
				if e.Offset != from+uint64(i) || string(e.Payload) != m.events[e.Offset-1] {
					t.Fatalf("step %d: stream %s: offset %d is not what was appended (cursor at %d)", step, name, e.Offset, m.cursor)
				}
			}
			m.flight = append(m.flight, span)
		case 6: // commit a part of what is in flight, now and then with a dead letter
			if len(m.flight) == 0 {
				continue
			}
			span := &m.flight[0]
			n := 1 + random.Uint64N(span.To-span.From)
			o := Outcome{Delivered: int(n)}
			if random.IntN(3) == 0 {
				o.Delivered--
				o.Dead, o.Stream = []event.Event{{Topic: "dead"}}, l.Stream("dead")
				m.dead++
			}
			before := cursors[name].status().Ledger
			if err := cursors[name].Commit(context.Background(), span.From, span.From+n, o); err != nil {
				t.Fatal(err)
			}
			after := cursors[name].status().Ledger
			if after.Delivered != before.Delivered+uint64(o.Delivered) || after.Dead != before.Dead+uint64(len(o.Dead)) {
				t.Fatalf("step %d: the commit of %+v made of %+v %+v", step, o, before, after)
			}
			span.From += n
			m.cursor = max(m.cursor, span.From)
			if span.From == span.To {
				m.flight = m.flight[1:]
			}
		case 7: // read from anywhere
			first, durable, _ := l.Stream(name).Bounds()
			if first == durable {
				continue
			}
			from := first + random.Uint64N(durable-first)
			events, err := l.Stream(name).Reader(false).Read(from, ReadLimits{Events: 50, Bytes: 1 << 20})
			if errors.As(err, new(*TrimmedError)) {
				continue // retention came between
			}
			if err != nil || len(events) == 0 {
				t.Fatalf("step %d: read %d of [%d, %d): %v", step, from, first, durable, err)
			}
			for i, e := range events {
				if e.Offset != from+uint64(i) || string(e.Payload) != m.events[e.Offset-1] {
					t.Fatalf("step %d: read at %d gave the wrong event", step, from)
				}
			}
		case 8: // crash: only what the kernel has survives
			generation++
			next := filepath.Join(dir, fmt.Sprint(generation))
			copied := make(chan error, 1)
			// On the committer's goroutine, so that no file changes meanwhile.
			err := l.queue.put(context.Background(), &request{hurry: true, committed: func() {
				copied <- snapshot(l.opt.Dir, next)
			}}, l.stamp)
			if err == nil {
				err = <-copied
			}
			if err != nil {
				t.Fatal(err)
			}
			_ = l.Close()
			l = open(t, next, options)
			if r := l.Report(); r.SetAside != "" {
				t.Fatalf("step %d: the store was set aside: %v", step, r.Notes)
			}
			attach()
			letters := 0
			for _, n := range names { // a position may be up to a second old
				c := ledger(t, l, n, "c")
				if c.Next > model[n].cursor {
					first, _, _ := l.Stream(n).Bounds()
					if c.Next != first {
						t.Fatalf("step %d: after the crash the cursor of %s is at %d, ahead of %d", step, n, c.Next, model[n].cursor)
					}
				}
				model[n].cursor = c.Next
				letters += int(c.Ledger.Dead)
			}
			// A letter and its booking are on disk together.
			if _, durable, _ := l.Stream("dead").Bounds(); durable-1 != uint64(letters) {
				t.Fatalf("step %d: after the crash there are %d dead letters, %d are booked", step, durable-1, letters)
			}
		case 9: // restart
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = open(t, l.opt.Dir, options)
			attach()
			if c := ledger(t, l, name, "c"); c.Next != m.cursor {
				if first, _, _ := l.Stream(name).Bounds(); c.Next != first {
					t.Fatalf("step %d: a restart moved the cursor from %d to %d", step, m.cursor, c.Next)
				}
			}
		}
		booked := 0
		for _, n := range names {
			booked += int(ledger(t, l, n, "c").Ledger.Dead)
			_, durable, _ := l.Stream(n).Bounds()
			if durable != uint64(len(model[n].events))+1 {
				t.Fatalf("step %d (operation %d): stream %s ends at %d, want %d", step, op, n, durable, len(model[n].events)+1)
			}
		}
		if _, durable, _ := l.Stream("dead").Bounds(); durable-1 != uint64(booked) || booked != model["events"].dead+model["alerts"].dead {
			t.Fatalf("step %d (operation %d): %d dead letters, %d are booked", step, op, durable-1, booked)
		}
	}
}

func (c *Cursor) status() CursorStatus { return c.stream.Cursors()[c.name] }
