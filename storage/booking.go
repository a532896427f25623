package storage

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"holdfast/gateway/event"
)

// Outcome books the events that a Commit passes.
type Outcome struct {
	Delivered, Filtered, Damaged int
	// Refused are events that were refused for good and become no dead
	// letters: those of a replay.
	Refused int
	// Dead are the letters for the events that were refused for good, to be
	// appended to Stream in the same transaction.
	Dead   []event.Event
	Stream *Stream
}

func (o *Outcome) sum() uint64 {
	return uint64(o.Delivered) + uint64(o.Filtered) + uint64(o.Damaged) + uint64(o.Refused) + uint64(len(o.Dead))
}

// taking is what retention has booked of the events that are handed out.
type taking struct {
	from, to uint64
	expired  bool // else dropped
}

// Commit moves the cursor over the offsets [from, to), which Next has handed
// out, and books what became of each of them. Spans are committed in order.
// With dead letters it returns when they and the position are on disk;
// otherwise the position reaches the disk within a second.
//
// What retention took of the span while it was under way was booked as
// dropped or expired; that is taken back, for now it is known what became of
// it. A commit of what was handed out to an earlier user of the cursor does
// nothing: the events are handed out again.
func (c *Cursor) Commit(ctx context.Context, from, to uint64, o Outcome) error {
	if to < from || o.sum() != to-from {
		return fmt.Errorf("commit %d to %d of stream %q: %d events are accounted for", from, to, c.stream.name, o.sum())
	}
	c.stream.mu.Lock()
	turn := c.turn
	if len(o.Dead) == 0 {
		c.book(from, to, &o)
		c.stream.mu.Unlock()
		return nil
	}
	c.stream.mu.Unlock()
	// On the committer's goroutine, like retention: the state that is written
	// with the letters is neither older nor newer than they are.
	r := &request{appends: []appendTo{{stream: o.Stream, events: o.Dead}}}
	r.prepare = func(r *request) {
		c.stream.mu.Lock()
		defer c.stream.mu.Unlock()
		if c.turn != turn {
			r.appends = nil
			return
		}
		c.book(from, to, &o)
		c.write()
	}
	return c.stream.log.submitAndWait(ctx, r)
}

// book moves the cursor. The caller holds stream.mu.
func (c *Cursor) book(from, to uint64, o *Outcome) {
	l := &c.saved.Ledger
	kept := c.taken[:0]
	for _, t := range c.taken {
		if n := min(t.to, to) - min(max(t.from, from), min(t.to, to)); t.expired {
			l.Expired -= n
		} else {
			l.Dropped -= n
		}
		if t.to > to {
			t.from = max(t.from, to)
			kept = append(kept, t)
		}
	}
	c.taken = kept
	l.Delivered += uint64(o.Delivered)
	l.Filtered += uint64(o.Filtered)
	l.Damaged += uint64(o.Damaged)
	l.Dead += uint64(o.Refused) + uint64(len(o.Dead))
	c.pos = max(c.pos, to)
	c.saved.Next, c.dirty = c.pos, true
}

// miss moves the cursor over what retention takes. The caller holds stream.mu.
func (c *Cursor) miss(to uint64, expired bool) {
	if c.replay != nil {
		to = min(to, c.replay.End)
	}
	if to <= c.pos {
		return
	}
	if end := min(to, c.ahead); end > c.pos {
		c.taken = append(c.taken, taking{c.pos, end, expired})
	}
	if expired {
		c.saved.Ledger.Expired += to - c.pos
	} else {
		c.saved.Ledger.Dropped += to - c.pos
	}
	c.pos = to
	c.saved.Next, c.dirty = to, true
}

// restore sets the position from what was saved, which may be behind what
// retention has removed meanwhile.
func (c *Cursor) restore() {
	c.pos = c.saved.Next
	c.ahead = c.pos
	c.miss(c.stream.first, false)
}

// value is the cursor as it is stored in a state.
func (c *Cursor) value(state cursorState) ([]byte, error) {
	if c.replay != nil {
		return json.Marshal(storedReplay{*c.replay, state})
	}
	return json.Marshal(state)
}

// followers calls fn for every cursor and replay. The caller holds s.mu.
func (s *Stream) followers(fn func(*Cursor)) {
	for _, c := range s.cursors {
		fn(c)
	}
	for _, c := range s.replays {
		fn(c)
	}
}

// dirtyCursor is a cursor and the state that goes to the disk.
type dirtyCursor struct {
	cursor *Cursor
	saved  cursorState
}

// write has the cursor written with the next transaction. The caller holds
// stream.mu.
func (c *Cursor) write() {
	c.dirty, c.urgent = true, true
	c.stream.log.urgent.Store(true)
}

// dirtyCursors returns the cursors to be written with the next transaction:
// only urgent ones if the last were written a moment ago and no one forces it.
func (l *Log) dirtyCursors(force bool) (all []dirtyCursor) {
	now := time.Now()
	due := force || now.Sub(l.cursorsAt) >= cursorDelay/4
	if urgent := l.urgent.Swap(false); !due && !urgent {
		return nil
	}
	if due {
		l.cursorsAt = now
	}
	for _, s := range l.Streams() {
		s.mu.Lock()
		s.followers(func(c *Cursor) {
			if c.dirty && (due || c.urgent) {
				c.urgent = false
				all = append(all, dirtyCursor{c, c.saved})
			}
		})
		s.mu.Unlock()
	}
	return all
}

// settled notes that a state of the cursor is on disk.
func (c *Cursor) settled(state cursorState) {
	c.stream.mu.Lock()
	c.dirty = c.saved != state
	c.stream.mu.Unlock()
}
