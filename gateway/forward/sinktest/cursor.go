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
	changed chan struct{} // closed and replaced by every Append
	events  []event.Event
	pos     int
	from    int // where the last batch began
	last    int // its size, 0 once it was committed
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
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// Skip moves the position forward by n events, as retention does.
func (c *Cursor) Skip(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pos = min(c.pos+n, len(c.events))
}

// Fail makes every following Next and Commit return err; nil ends that.
func (c *Cursor) Fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = err
}

// Next returns events as [forward.Cursor] promises.
func (c *Cursor) Next(ctx context.Context, l forward.Limits) (forward.Batch, error) {
	var linger <-chan time.Time
	for {
		c.mu.Lock()
		n, full := c.fit(l)
		changed, err := c.changed, c.fail
		if err == nil && n > 0 && (full || l.Linger <= 0) {
			defer c.mu.Unlock()
			return c.batch(n), nil
		}
		c.mu.Unlock()
		if err != nil {
			return forward.Batch{}, err
		}
		if n > 0 && linger == nil {
			t := time.NewTimer(l.Linger)
			defer t.Stop()
			linger = t.C
		}
		select {
		case <-ctx.Done():
			return forward.Batch{}, ctx.Err()
		case <-changed:
		case <-linger:
			l.Linger = 0
		}
	}
}

func (c *Cursor) fit(l forward.Limits) (n int, full bool) {
	size := 0
	for i := c.pos; i < len(c.events); i++ {
		size += c.events[i].Size()
		if n > 0 && (l.Events > 0 && n >= l.Events || l.Bytes > 0 && size > l.Bytes) {
			return n, true
		}
		n++
	}
	return n, l.Events > 0 && n >= l.Events
}

func (c *Cursor) batch(n int) forward.Batch {
	c.from, c.last = c.pos, n
	return forward.Batch{
		Gateway: c.Gateway, Stream: c.Stream,
		Events: slices.Clone(c.events[c.pos : c.pos+n]),
	}
}

// Commit moves the position and books the outcome, which must add up.
func (c *Cursor) Commit(ctx context.Context, n int, o forward.Outcome) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.fail != nil:
		return c.fail
	case ctx.Err() != nil:
		return ctx.Err()
	case n < 1 || n > c.last:
		return errors.New("sinktest: commit beyond the last batch")
	case o.Delivered+o.Filtered+len(o.Dead) != n:
		return errors.New("sinktest: the outcome does not add up to the events passed")
	}
	c.pos = max(c.pos, c.from+n)
	c.last = 0
	c.commits++
	c.booked.Delivered += o.Delivered
	c.booked.Filtered += o.Filtered
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
