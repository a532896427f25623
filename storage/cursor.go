package storage

import (
	"context"
	"encoding/json"
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
}

// Cursor is the durable position of one destination in one stream.
type Cursor struct {
	stream *Stream
	name   string

	// guarded by stream.mu, like all that retention may move
	pos      uint64      // the next event to hand out after a Commit
	saved    cursorState // booked so far
	dirty    bool        // saved is ahead of the disk
	attached bool        // a destination of the running configuration uses it

	mu     sync.Mutex // one batch at a time
	reader *Reader
	batch  []event.Event
	from   uint64 // offset of the batch's first event

	selection *selection // nil selects everything
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
		c = &Cursor{stream: s, name: name, dirty: true}
		c.pos = s.next
		if start == StartOldest {
			c.pos = s.first
		}
		c.saved = cursorState{Next: c.pos, Ledger: Ledger{SkippedAtStart: c.pos - 1 - s.gap}}
		s.cursors[name] = c
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
	apply := func(state cursorState) cursorState {
		l := &state.Ledger
		// What retention took while the batch was under way was booked as
		// dropped, but the far side has it.
		if taken := min(state.Next, end); taken > from {
			l.Dropped -= min(taken-from, l.Dropped)
		}
		l.Delivered += uint64(o.Delivered)
		l.Filtered += uint64(o.Filtered)
		l.Dead += uint64(len(o.Dead))
		state.Next = max(end, state.Next)
		return state
	}
	move := func() {
		c.stream.mu.Lock()
		c.saved = apply(c.saved)
		c.pos, c.dirty = c.saved.Next, true
		c.stream.mu.Unlock()
	}
	if len(o.Dead) == 0 {
		move()
		c.forget(n)
		return nil
	}
	c.stream.mu.Lock()
	value, err := json.Marshal(apply(c.saved))
	c.stream.mu.Unlock()
	if err != nil {
		return err
	}
	r := &request{
		appends:   []appendTo{{o.Stream, o.Dead}},
		sets:      []keyValue{{cursorKey(c.stream.id, c.name), value}},
		committed: move,
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
			Appended: max(s.durable, c.pos) - 1 - s.gap, Pending: s.durable - min(c.pos, s.durable), Ledger: c.saved.Ledger}
		if st.Pending > 0 {
			st.Oldest = s.receivedAt(c.pos)
		}
		all[name] = st
	}
	return all
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
// none if the last ones were written a moment ago and no one forces it.
func (l *Log) dirtyCursors(force bool) (all []dirtyCursor) {
	now := time.Now()
	if !force && now.Sub(l.cursorsAt) < cursorDelay/4 {
		return nil
	}
	l.cursorsAt = now
	for _, s := range l.Streams() {
		s.mu.Lock()
		for _, c := range s.cursors {
			if c.dirty {
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
