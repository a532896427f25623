package sinktest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"holdfast/gateway/event"
	"holdfast/gateway/forward"
)

// Cursor is a stream and the position of one destination in it, in memory. It
// keeps the promises of [forward.Cursor] but durability, checks what it is
// asked to commit, and may be used by several goroutines.
type Cursor struct {
	Gateway, Stream string

	mu      sync.Mutex
	changed chan struct{} // closed and replaced by every Append and End
	events  []event.Event
	taken   []bool // by retention, and not committed
	pos     int
	ahead   int // where Next goes on
	done    int // the end of the last Commit
	ended   bool
	booked  forward.Outcome
	commits int
	fail    error
}

var _ forward.Cursor = (*Cursor)(nil)

// NewCursor returns a cursor at the start of an empty stream.
func NewCursor(gateway, stream string) *Cursor {
	return &Cursor{Gateway: gateway, Stream: stream, changed: make(chan struct{})}
}

// Append adds events to the stream and numbers them from 1.
func (c *Cursor) Append(events ...event.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range events {
		e.Epoch, e.Offset = 0xfeed, uint64(len(c.events)+1)
		c.events = append(c.events, e)
		c.taken = append(c.taken, false)
	}
	c.wake()
}

func (c *Cursor) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// End has Next return [forward.ErrEnd] once all events are handed out.
func (c *Cursor) End() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.wake()
}

// Skip moves the position forward by n events, as retention does.
func (c *Cursor) Skip(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for end := min(c.pos+n, len(c.events)); c.pos < end; c.pos++ {
		c.taken[c.pos] = true
	}
}

// Taken returns how many events retention took that nobody has committed.
func (c *Cursor) Taken() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.taken {
		if t {
			n++
		}
	}
	return n
}

// Rewind has the next user of the cursor begin behind what is committed, as a
// restart does.
func (c *Cursor) Rewind() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead, c.done = c.pos, c.pos
}

// Fail makes every following Next and Commit return err; nil ends that.
func (c *Cursor) Fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = err
}

// Next returns events as [forward.Cursor] promises.
func (c *Cursor) Next(ctx context.Context, l forward.Limits) (forward.Span, error) {
	var linger <-chan time.Time
	for {
		c.mu.Lock()
		n, full := c.fit(l)
		changed, err := c.changed, c.fail
		if err == nil && n == 0 && c.ended {
			err = forward.ErrEnd
		}
		if err == nil && n > 0 && (full || c.ended || l.Linger <= 0) {
			defer c.mu.Unlock()
			return c.span(n), nil
		}
		c.mu.Unlock()
		if err != nil {
			return forward.Span{}, err
		}
		if n > 0 && linger == nil {
			t := time.NewTimer(l.Linger)
			defer t.Stop()
			linger = t.C
		}
		select {
		case <-ctx.Done():
			return forward.Span{}, ctx.Err()
		case <-changed:
		case <-linger:
			l.Linger = 0
		}
	}
}

func (c *Cursor) fit(l forward.Limits) (n int, full bool) {
	c.ahead = max(c.ahead, c.pos)
	size := 0
	for i := c.ahead; i < len(c.events); i++ {
		size += c.events[i].Size()
		if n > 0 && (l.Events > 0 && n >= l.Events || l.Bytes > 0 && size > l.Bytes) {
			return n, true
		}
		n++
	}
	return n, l.Events > 0 && n >= l.Events
}

func (c *Cursor) span(n int) forward.Span {
	from := c.ahead
	c.ahead += n
	return forward.Span{
		Batch: forward.Batch{Gateway: c.Gateway, Stream: c.Stream, Events: slices.Clone(c.events[from:c.ahead])},
		From:  uint64(from + 1), To: uint64(c.ahead + 1),
	}
}

// Commit moves the position and books the outcome, which must add up.
func (c *Cursor) Commit(ctx context.Context, from, to uint64, o forward.Outcome) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.fail != nil:
		return c.fail
	case ctx.Err() != nil:
		return ctx.Err()
	case to <= from || int(to) > c.ahead+1:
		return errors.New("sinktest: commit of what was not handed out")
	case int(from) <= c.done:
		return errors.New("sinktest: commit of what is committed")
	case o.Delivered+o.Filtered+o.Damaged+len(o.Dead) != int(to-from):
		return errors.New("sinktest: the outcome does not add up to the events passed")
	}
	for i := c.done; i < int(from)-1; i++ {
		if !c.taken[i] {
			return errors.New("sinktest: commit behind a hole")
		}
	}
	for i := from - 1; i < to-1; i++ {
		c.taken[i] = false
	}
	c.done = int(to) - 1
	c.pos = max(c.pos, c.done)
	c.commits++
	c.booked.Delivered += o.Delivered
	c.booked.Filtered += o.Filtered
	c.booked.Damaged += o.Damaged
	c.booked.Dead = append(c.booked.Dead, o.Dead...)
	return nil
}

// Pending returns how many events lie behind the position.
func (c *Cursor) Pending() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.events) - c.pos
}

// Booked returns the sum of all outcomes and the number of commits.
func (c *Cursor) Booked() (forward.Outcome, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.booked
	o.Dead = slices.Clone(o.Dead)
	return o, c.commits
}
