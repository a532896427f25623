package storage

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"holdfast/gateway/event"
)

// TestTheLogBehavesLikeItsModel runs random histories of append, read, commit,
// retention, crash and reopen, and compares the log with the simplest thing
// that could be right: a slice for each stream. A crash is a copy of the store
// as the kernel has it, taken while the log runs, and opened in its place.
func TestTheLogBehavesLikeItsModel(t *testing.T) {
	seeds := 4
	if *long {
		seeds = 200
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { history(t, uint64(seed)) })
	}
}

type modelStream struct {
	events []string // payload by offset-1
	cursor uint64   // next offset
}

func history(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 7))
	fill := rand.NewChaCha8([32]byte{byte(seed)})
	dir := t.TempDir()
	names := []string{"events", "alerts"}
	model := map[string]*modelStream{}
	for _, n := range names {
		model[n] = &modelStream{cursor: 1}
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
		case 4, 5, 6: // deliver
			first, durable, _ := l.Stream(name).Bounds()
			m.cursor = max(m.cursor, first)
			if m.cursor == durable {
				continue
			}
			events, err := cursors[name].Next(t.Context(), ReadLimits{Events: 1 + random.IntN(100), Bytes: 1 << 20}, 0)
			if err != nil {
				t.Fatal(err)
			}
			for i, e := range events {
				if e.Offset != m.cursor+uint64(i) || string(e.Payload) != m.events[e.Offset-1] {
					t.Fatalf("step %d: stream %s: offset %d is not what was appended (cursor at %d)", step, name, e.Offset, m.cursor)
				}
			}
			n := 1 + random.IntN(len(events))
			if err := cursors[name].Commit(context.Background(), n, Outcome{Delivered: n}); err != nil {
				t.Fatal(err)
			}
			m.cursor += uint64(n)
		case 7: // read from anywhere
			first, durable, _ := l.Stream(name).Bounds()
			if first == durable {
				continue
			}
			from := first + random.Uint64N(durable-first)
			events, err := l.Stream(name).Reader(false).Read(from, ReadLimits{Events: 50, Bytes: 1 << 20})
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
			for _, n := range names { // a position may be up to a second old
				c := ledger(t, l, n, "c")
				if c.Next > model[n].cursor {
					first, _, _ := l.Stream(n).Bounds()
					if c.Next != first {
						t.Fatalf("step %d: after the crash the cursor of %s is at %d, ahead of %d", step, n, c.Next, model[n].cursor)
					}
				}
				model[n].cursor = c.Next
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
		for _, n := range names {
			_, durable, _ := l.Stream(n).Bounds()
			if durable != uint64(len(model[n].events))+1 {
				t.Fatalf("step %d (operation %d): stream %s ends at %d, want %d", step, op, n, durable, len(model[n].events)+1)
			}
			ledger(t, l, n, "c")
		}
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
