package storage

import (
	"context"
	"errors"
	"slices"
	"sync"

	"holdfast/gateway/event"
)

// Retries hands out the dead letters that were moved back to pending at a
// cursor, oldest first, beside the cursor's live events. One goroutine may
// call Next while another calls Commit.
type Retries struct {
	cursor  *Cursor
	dead    *Stream
	restore func(*event.Event) event.Event
	reader  *Reader

	mu      sync.Mutex
	under   []underway    // handed out and not committed, in order
	settled chan struct{} // closed and nil when one is; nil while nobody waits
}

// underway is a letter by its offset, and the event that it was by its own.
type underway struct{ letter, offset uint64 }

// Retries returns what hands out the cursor's letters in the stream dead;
// restore makes the event that a letter was, its offset and epoch included.
func (c *Cursor) Retries(dead *Stream, restore func(*event.Event) event.Event) *Retries {
	return &Retries{cursor: c, dead: dead, restore: restore, reader: dead.Reader(false)}
}

// Next returns the event of the oldest letter that is not under way, waiting
// for one. The offsets of events that are under way ascend: an
// older one waits until those before it are committed.
func (r *Retries) Next(ctx context.Context) (event.Event, error) {
	for {
		letter, err := r.wait(ctx)
		if err != nil {
			return event.Event{}, err
		}
		events, err := r.reader.Read(letter, ReadLimits{Events: 1, Bytes: 1})
		switch {
		case errors.As(err, new(*TrimmedError)):
			continue // retention is booking it
		case errors.As(err, new(*DamagedError)):
			if err := r.settle(ctx, letter, Outcome{Damaged: 1}); err != nil {
				return event.Event{}, err
			}
			continue
		case err != nil:
			return event.Event{}, err
		case len(events) == 0:
			continue
		}
		e := r.restore(&events[0])
		if err := r.handOut(ctx, underway{letter, e.Offset}); err != nil {
			return event.Event{}, err
		}
		return e, nil
	}
}

// wait returns the oldest letter that is not under way.
func (r *Retries) wait(ctx context.Context) (uint64, error) {
	c := r.cursor
	for {
		c.stream.mu.Lock()
		for _, letter := range c.retrying {
			if !r.isUnderway(letter) {
				c.stream.mu.Unlock()
				return letter, nil
			}
		}
		retried := listen(&c.retried)
		c.stream.mu.Unlock()
		if err := r.sleep(ctx, retried); err != nil {
			return 0, err
		}
	}
}

func (r *Retries) isUnderway(letter uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.under, func(u underway) bool { return u.letter == letter })
}

// sleep waits for the signal.
func (r *Retries) sleep(ctx context.Context, signal <-chan struct{}) error {
	l := r.cursor.stream.log
	select {
	case <-signal:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-l.failed:
		return l.Err()
	case <-l.closing:
		return ErrClosed
	}
}

func (r *Retries) handOut(ctx context.Context, u underway) error {
	for {
		r.mu.Lock()
		if n := len(r.under); n == 0 || r.under[n-1].offset < u.offset {
			r.under = append(r.under, u)
			r.mu.Unlock()
			return nil
		}
		settled := listen(&r.settled)
		r.mu.Unlock()
		if err := r.sleep(ctx, settled); err != nil {
			return err
		}
	}
}

// Commit books what became of the oldest event that is under way and returns
// when that, and the new letter if it was refused again, is on disk.
func (r *Retries) Commit(ctx context.Context, o Outcome) error {
	r.mu.Lock()
	if len(r.under) == 0 {
		r.mu.Unlock()
		return errors.New("commit of a dead letter: none is under way")
	}
	u := r.under[0]
	r.mu.Unlock()
	if err := r.settle(ctx, u.letter, o); err != nil {
		return err
	}
	r.mu.Lock()
	r.under = r.under[1:]
	wake(&r.settled)
	r.mu.Unlock()
	return nil
}

func (r *Retries) settle(ctx context.Context, letter uint64, o Outcome) error {
	c := r.cursor
	q := &request{hurry: true, keys: 1}
	if len(o.Dead) > 0 {
		q.appends = []appendTo{{stream: o.Stream, events: o.Dead}}
	}
	q.prepare = func(q *request) {
		c.stream.mu.Lock()
		defer c.stream.mu.Unlock()
		if i, found := slices.BinarySearch(c.retrying, letter); found {
			c.retrying = slices.Delete(c.retrying, i, i+1)
			c.saved.Retrying--
			q.sets = append(q.sets, keyValue{retryKey(c.stream.id, c.name, letter), nil})
		} else {
			// Retention took the letter while it was under way.
			c.saved.Ledger.Dropped -= min(1, c.saved.Ledger.Dropped)
		}
		l := &c.saved.Ledger
		l.Delivered += uint64(o.Delivered)
		l.Filtered += uint64(o.Filtered)
		l.Damaged += uint64(o.Damaged)
		l.Dead += uint64(len(o.Dead))
		c.write()
	}
	return c.stream.log.submitAndWait(ctx, q)
}
