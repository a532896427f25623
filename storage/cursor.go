package storage

import (
	"context"
	"errors"
	"sync"
	"time"

	"holdfast/gateway/event"
)

// Ledger says what became of the events that a cursor has passed. It balances
// by construction, for a cursor moves only by booking:
//
//	appended = Delivered + Filtered + Expired + Dropped + Dead + Damaged + SkippedAtStart + pending
type Ledger struct {
	Delivered      uint64 `json:"delivered"`
	Filtered       uint64 `json:"filtered"`         // not selected by the destination
	Expired        uint64 `json:"expired"`          // older than the stream's max_age
	Dropped        uint64 `json:"dropped"`          // removed because the stream was full
	Dead           uint64 `json:"dead"`             // moved to the dead letters
	Damaged        uint64 `json:"damaged"`          // could not be read
	SkippedAtStart uint64 `json:"skipped_at_start"` // older than the cursor
}

// cursorState is stored in the key "c stream name".
type cursorState struct {
	Next   uint64 `json:"next"` // offset of the first event not booked
	Ledger Ledger `json:"ledger"`
	// Retrying are dead letters that are pending again; Purged are letters,
	// counted as Dead, that somebody has purged.
	Retrying uint64 `json:"retrying,omitempty"`
	Purged   uint64 `json:"purged,omitempty"`
}

// Cursor is the durable position of one destination in one stream.
type Cursor struct {
	stream *Stream
	name   string

	// guarded by stream.mu, like all that retention may move
	pos      uint64        // the next event to hand out after a Commit
	saved    cursorState   // booked so far
	dirty    bool          // saved is ahead of the disk
	urgent   bool          // and goes there with the next transaction
	taken    []taking      // what retention took, ascending
	retrying []uint64      // dead letters to be delivered again, ascending
	retried  chan struct{} // closed and nil when one comes; nil while nobody waits
	attached bool          // a destination of the running configuration uses it

	mu     sync.Mutex // one batch at a time
	reader *Reader
	batch  []event.Event
	from   uint64 // offset of the batch's first event

	selection *selection // nil selects everything
}

// taking is a range of offsets that retention took before they were passed.
type taking struct {
	span
	expired bool // and booked as that; else as dropped
}

// take notes and books what retention takes. The caller holds stream.mu.
func (c *Cursor) take(next uint64, expired bool) {
	n := next - c.pos
	if expired {
		c.saved.Ledger.Expired += n
	} else {
		c.saved.Ledger.Dropped += n
	}
	if k := len(c.taken); k > 0 && c.taken[k-1].to == c.pos && c.taken[k-1].expired == expired {
		c.taken[k-1].to = next
	} else {
		c.taken = append(c.taken, taking{span{c.pos, next}, expired})
	}
	c.pos, c.saved.Next, c.dirty = next, next, true
}

// giveBack unbooks what retention took of [from, to): a batch that was under
// way has been settled after all. The caller holds stream.mu.
func (c *Cursor) giveBack(from, to uint64) {
	l := &c.saved.Ledger
	rest := c.taken[:0]
	for _, t := range c.taken {
		if a, b := max(t.from, from), min(t.to, to); a < b {
			if t.expired {
				l.Expired -= b - a
			} else {
				l.Dropped -= b - a
			}
		}
		if t.to > to {
			rest = append(rest, t)
		}
	}
	c.taken = rest
}

// write has the cursor written with the next transaction. The caller holds
// stream.mu.
func (c *Cursor) write() {
	c.dirty, c.urgent = true, true
	c.stream.log.urgent.Store(true)
}

// Start says where a cursor that does not exist yet begins.
type Start int

// Where a cursor can begin.
const (
	StartNow    Start = iota // at the next event
	StartOldest              // at the oldest event kept
)

// Cursor returns the cursor of that name in the stream and attaches it: the
// events it has not passed are kept, as far as the stream's limits allow.
func (s *Stream) Cursor(name string, start Start) *Cursor {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.cursors[name]
	if c == nil {
		c = &Cursor{stream: s, name: name}
		c.pos = s.next
		if start == StartOldest {
			c.pos = s.first
		}
		c.saved = cursorState{Next: c.pos, Ledger: Ledger{SkippedAtStart: c.pos - 1 - s.gap}}
		s.cursors[name] = c
		c.write() // before an event that it must not skip once more
	}
	c.attached = true
	if c.reader == nil {
		c.reader = s.Reader(false)
	}
	return c
}

// Detach says that no destination uses the cursor any more. It keeps its
// position, but no event is kept for it.
func (c *Cursor) Detach() {
	c.stream.mu.Lock()
	c.attached = false
	c.stream.mu.Unlock()
}

// Next returns the events at the cursor, waiting for the first one and then
// for the linger time for more. It returns the same events again until Commit.
func (c *Cursor) Next(ctx context.Context, l ReadLimits, linger time.Duration) ([]event.Event, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.batch) > 0 {
		return c.batch, nil
	}
	for {
		pos := c.position()
		if err := c.stream.Wait(ctx, pos, false); err != nil {
			return nil, err
		}
		if linger > 0 {
			if err := c.linger(ctx, pos, l, linger); err != nil {
				return nil, err
			}
		}
		if c.selection != nil {
			if n := c.stream.skippable(pos, c.selection); n > 0 {
				c.book(pos, n, func(l *Ledger, n uint64) { l.Filtered += n })
				continue
			}
		}
		events, err := c.reader.Read(pos, l)
		var damaged *DamagedError
		switch {
		case errors.As(err, &damaged):
			c.stream.log.opt.Logger.Error("events cannot be read and are passed over",
				"stream", c.stream.name, "destination", c.name, "err", err)
			c.book(pos, damaged.Next-pos, func(l *Ledger, n uint64) { l.Damaged += n })
			continue
		case errors.As(err, new(*TrimmedError)):
			continue // retention has moved and booked the cursor
		case err != nil:
			return nil, err
		case len(events) == 0:
			continue
		}
		// A reader from the disk returns block by block; a batch may be more.
		c.from = events[0].Offset
		c.batch = append(c.batch[:0], events...)
		c.fill(l)
		if c.selection != nil {
			c.selection.learn(c.batch)
		}
		return c.batch, nil
	}
}

// fill extends the batch by what can be had without waiting.
func (c *Cursor) fill(l ReadLimits) {
	size := 0
	for i := range c.batch {
		size += c.batch[i].Size()
	}
	for len(c.batch) < l.Events && size < l.Bytes {
		more, err := c.reader.Read(c.from+uint64(len(c.batch)), ReadLimits{l.Events - len(c.batch), l.Bytes - size})
		if err != nil || len(more) == 0 {
			return
		}
		for i := range more {
			size += more[i].Size()
			if size > l.Bytes {
				return
			}
			c.batch = append(c.batch, more[i])
		}
	}
}

// linger waits until the stream holds a full batch at pos, or for d.
func (c *Cursor) linger(ctx context.Context, pos uint64, l ReadLimits, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	err := c.stream.Wait(ctx, pos+uint64(l.Events)-1, false)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

func (c *Cursor) position() uint64 {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	return c.pos
}

// book moves the cursor from pos over n events, unless retention has moved it
// meanwhile.
func (c *Cursor) book(pos, n uint64, to func(*Ledger, uint64)) {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	if c.pos != pos {
		return
	}
	c.pos += n
	c.saved.Next = c.pos
	to(&c.saved.Ledger, n)
	c.dirty = true
}

// Outcome books the events that a Commit passes.
type Outcome struct {
	Delivered, Filtered int
	// Dead are the letters for the events that were refused for good, to be
	// appended to Stream in the same transaction.
	Dead   []event.Event
	Stream *Stream
}

// Commit moves the cursor behind the first n events of the last batch. With
// dead letters it returns when they and the position are on disk; otherwise
// the position reaches the disk within a second.
func (c *Cursor) Commit(ctx context.Context, n int, o Outcome) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	n = min(n, len(c.batch))
	end := c.from + uint64(n)

	from := c.from
	move := func() {
		c.stream.mu.Lock()
		defer c.stream.mu.Unlock()
		c.giveBack(from, end)
		l := &c.saved.Ledger
		l.Delivered += uint64(o.Delivered)
		l.Filtered += uint64(o.Filtered)
		l.Dead += uint64(len(o.Dead))
		c.saved.Next = max(end, c.saved.Next)
		c.pos, c.dirty = c.saved.Next, true
		if len(o.Dead) > 0 {
			c.write()
		}
	}
	if len(o.Dead) == 0 {
		move()
		c.forget(n)
		return nil
	}
	// The committer itself moves the cursor, so that letters and position are
	// in one transaction, whatever else moves the cursor meanwhile.
	r := &request{
		appends: []appendTo{{stream: o.Stream, events: o.Dead}},
		apply:   func() []keyValue { move(); return nil },
	}
	if err := c.stream.log.submitAndWait(ctx, r); err != nil {
		return err
	}
	c.forget(n)
	return nil
}

func (c *Cursor) forget(n int) {
	c.from += uint64(n)
	c.batch = c.batch[n:]
	if len(c.batch) == 0 {
		c.batch = nil
	}
}

// CursorStatus is a cursor as the operator sees it.
type CursorStatus struct {
	Name     string
	Attached bool
	Next     uint64
	Appended uint64 // events of the stream since its beginning
	Pending  uint64
	Retrying uint64     // of the pending ones, dead letters that are tried again
	Purged   uint64     // of the dead ones, letters that were purged
	Bytes    uint64     // that the pending events take on disk, about
	Oldest   event.Time // when the first pending event came in; 0 if unknown or none
	Ledger   Ledger
}

// Cursors returns the state of every cursor of the stream.
func (s *Stream) Cursors() map[string]CursorStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]CursorStatus, len(s.cursors))
	for name, c := range s.cursors {
		st := CursorStatus{Name: name, Attached: c.attached, Next: c.pos,
			Appended: max(s.durable, c.pos) - 1 - s.gap, Pending: s.durable - min(c.pos, s.durable),
			Retrying: c.saved.Retrying, Purged: c.saved.Purged, Ledger: c.saved.Ledger}
		if st.Pending > 0 {
			st.Oldest = s.receivedAt(c.pos)
			st.Bytes = s.bytesFrom(c.pos)
		}
		st.Pending += st.Retrying
		all[name] = st
	}
	return all
}

// bytesFrom estimates what the events from offset on take on disk, by shares of
// their segments.
func (s *Stream) bytesFrom(offset uint64) (n uint64) {
	for i := range s.segments {
		g := &s.segments[i]
		switch {
		case g.Next <= offset:
		case g.First >= offset:
			n += g.Bytes
		default:
			n += g.Bytes * (g.Next - offset) / (g.Next - g.First)
		}
	}
	return n
}

// receivedAt estimates when the event at offset came in, without reading it:
// exactly for what is in memory, else by the end of the segment before.
func (s *Stream) receivedAt(offset uint64) event.Time {
	for i := range s.tail {
		if r := &s.tail[i]; offset >= r.first && offset < r.end() {
			return r.events[offset-r.first].Received
		}
	}
	for i := range s.segments {
		if offset < s.segments[i].Next {
			if i > 0 {
				return s.segments[i-1].Latest
			}
			return s.segments[i].Latest
		}
	}
	return 0
}

// dirtyCursor is a cursor and the state that goes to the disk.
type dirtyCursor struct {
	cursor *Cursor
	saved  cursorState
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
		for _, c := range s.cursors {
			if c.dirty && (due || c.urgent) {
				c.urgent = false
				all = append(all, dirtyCursor{c, c.saved})
			}
		}
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
