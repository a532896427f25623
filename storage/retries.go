package storage

import (
	"context"
	"errors"
	"slices"

	"holdfast/gateway/event"
)

// Retries hands out the dead letters that were moved back to pending at a
// cursor, oldest first, beside the cursor's live events. It serves one
// goroutine.
type Retries struct {
	cursor  *Cursor
	dead    *Stream
	restore func(*event.Event) event.Event
	reader  *Reader

	batch   []event.Event // restored
	letters []uint64      // their offsets in dead
}

// Retries returns what hands out the cursor's letters in the stream dead;
// restore makes the event that a letter was, its offset and epoch included.
func (c *Cursor) Retries(dead *Stream, restore func(*event.Event) event.Event) *Retries {
	return &Retries{cursor: c, dead: dead, restore: restore, reader: dead.Reader(false)}
}

// Next returns the events of letters, waiting for the first one. Their offsets
// ascend. It returns the same events again until Commit.
func (r *Retries) Next(ctx context.Context, l ReadLimits) ([]event.Event, error) {
	for len(r.batch) == 0 {
		offsets, err := r.wait(ctx, l.Events)
		if err != nil {
			return nil, err
		}
		if err := r.read(ctx, offsets, l); err != nil {
			return nil, err
		}
	}
	return r.batch, nil
}

// wait returns the offsets of the next letters, n at most.
func (r *Retries) wait(ctx context.Context, n int) ([]uint64, error) {
	c := r.cursor
	for {
		c.stream.mu.Lock()
		if len(c.retrying) > 0 {
			offsets := slices.Clone(c.retrying[:min(max(n, 1), len(c.retrying))])
			c.stream.mu.Unlock()
			return offsets, nil
		}
		retried := listen(&c.retried)
		c.stream.mu.Unlock()
		select {
		case <-retried:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-c.stream.log.failed:
			return nil, c.stream.log.Err()
		case <-c.stream.log.closing:
			return nil, ErrClosed
		}
	}
}

// read fills the batch with the letters at the given offsets, as far as the
// limits and the order of the events' own offsets allow.
func (r *Retries) read(ctx context.Context, offsets []uint64, l ReadLimits) error {
	size := 0
	for _, offset := range offsets {
		events, err := r.reader.Read(offset, ReadLimits{Events: 1, Bytes: 1})
		switch {
		case errors.As(err, new(*TrimmedError)):
			return nil // retention has booked it
		case errors.As(err, new(*DamagedError)):
			if len(r.batch) > 0 {
				return nil
			}
			return r.settle(ctx, []uint64{offset}, Outcome{}, 1)
		case err != nil:
			return err
		case len(events) == 0:
			return nil
		}
		e := r.restore(&events[0])
		size += e.Size()
		if n := len(r.batch); n > 0 && (size > l.Bytes || e.Offset <= r.batch[n-1].Offset) {
			return nil
		}
		r.batch, r.letters = append(r.batch, e), append(r.letters, offset)
	}
	return nil
}

// Commit books what became of the first n events of the last batch and returns
// when that, and new letters for those refused again, is on disk.
func (r *Retries) Commit(ctx context.Context, n int, o Outcome) error {
	n = min(n, len(r.batch))
	if err := r.settle(ctx, r.letters[:n], o, 0); err != nil {
		return err
	}
	if r.batch, r.letters = r.batch[n:], r.letters[n:]; len(r.batch) == 0 {
		r.batch, r.letters = nil, nil // whoever has the batch may still look at it
	}
	return nil
}

func (r *Retries) settle(ctx context.Context, letters []uint64, o Outcome, damaged uint64) error {
	c := r.cursor
	q := &request{keys: len(letters)}
	if len(o.Dead) > 0 {
		q.appends = []appendTo{{stream: o.Stream, events: o.Dead}}
	}
	q.apply = func() (sets []keyValue) {
		c.stream.mu.Lock()
		defer c.stream.mu.Unlock()
		for _, offset := range letters {
			i, found := slices.BinarySearch(c.retrying, offset)
			if !found {
				// Retention took the letter while it was under way.
				c.saved.Ledger.Dropped -= min(1, c.saved.Ledger.Dropped)
				continue
			}
			c.retrying = slices.Delete(c.retrying, i, i+1)
			c.saved.Retrying--
			sets = append(sets, keyValue{retryKey(c.stream.id, c.name, offset), nil})
		}
		l := &c.saved.Ledger
		l.Delivered += uint64(o.Delivered)
		l.Filtered += uint64(o.Filtered)
		l.Dead += uint64(len(o.Dead))
		l.Damaged += damaged
		c.write()
		return sets
	}
	return c.stream.log.submitAndWait(ctx, q)
}
