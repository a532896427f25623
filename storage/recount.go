package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/gateway/event"
)

// Recount is what reading a whole stream again has found.
type Recount struct {
	Stream  string
	First   uint64 // the recount covers the offsets [First, Next)
	Next    uint64
	Events  uint64 // that were read
	Bytes   uint64 // of these, by event.Size
	Damaged uint64 // offsets whose blocks cannot be read
	Removed uint64 // offsets that retention took meanwhile
	// Differences say in words what does not fit.
	Differences []string
}

// mostDifferences bounds a list that somebody has to read.
const mostDifferences = 20

func (r *Recount) differs(format string, args ...any) {
	if len(r.Differences) < mostDifferences {
		r.Differences = append(r.Differences, fmt.Sprintf(format, args...))
	}
}

// Recount reads every block of the stream from the disk, compares it with what
// the stream and its cursors count, and calls each with the events if it is not
// nil. It takes half the time of one processor at most, and never holds up a
// commit. progress is called now and then with the offset that was reached.
func (s *Stream) Recount(ctx context.Context, each func([]event.Event), progress func(at uint64)) (Recount, error) {
	s.mu.Lock()
	r := Recount{Stream: s.name, First: s.first, Next: s.durable}
	gap := s.gap
	for _, c := range s.cursors {
		c.check(&r)
	}
	s.mu.Unlock()
	if gap > r.First-1 {
		r.differs("a repair has skipped %d offsets, but only %d are gone", gap, r.First-1)
	}
	for at := r.First; at < r.Next; {
		begin := time.Now()
		next, err := s.recountBlock(&r, at, each)
		if err != nil {
			return r, err
		}
		at = next
		progress(at)
		if err := pause(ctx, time.Since(begin)); err != nil {
			return r, err
		}
	}
	if sum := r.Events + r.Damaged + r.Removed; sum != r.Next-r.First {
		r.differs("%d offsets were appended and kept, %d were found", r.Next-r.First, sum)
	}
	return r, nil
}

// recountBlock reads the block at offset and returns where the next one begins.
func (s *Stream) recountBlock(r *Recount, offset uint64, each func([]event.Event)) (next uint64, err error) {
	s.mu.Lock()
	first := s.first
	number, found := s.segmentOf(offset)
	s.mu.Unlock()
	if offset < first {
		first = min(first, r.Next)
		r.Removed += first - offset
		return first, nil
	}
	var events []event.Event
	if found {
		events, err = s.readBlock(number, offset)
	} else {
		err = &DamagedError{s.name, offset, s.nextKnown(offset), errors.New("no segment holds them")}
	}
	var damaged *DamagedError
	switch {
	case err != nil && s.trimmed(offset):
		return offset, nil // and around again
	case errors.As(err, &damaged):
		next = min(max(damaged.Next, offset+1), r.Next)
		r.Damaged += next - offset
		r.differs("offsets %d to %d cannot be read: %v", offset, next-1, damaged.Err)
		return next, nil
	case err != nil:
		return offset, err
	}
	if from := events[0].Offset; from < offset {
		if offset != r.First {
			r.differs("the block of offset %d begins at %d, which another block holds as well", offset, from)
		}
		events = events[offset-from:]
	}
	for i := range events {
		if want := offset + uint64(i); events[i].Offset != want {
			r.differs("the event at offset %d says that it is %d", want, events[i].Offset)
			break
		}
	}
	if past := offset + uint64(len(events)); past > r.Next {
		events = events[:r.Next-offset]
	}
	r.Events += uint64(len(events))
	for i := range events {
		r.Bytes += uint64(events[i].Size())
	}
	if each != nil {
		each(events)
	}
	return offset + uint64(len(events)), nil
}

// check compares a cursor's ledger with its position. The caller holds
// stream.mu.
func (c *Cursor) check(r *Recount) {
	l := c.saved.Ledger
	booked := l.Delivered + l.Filtered + l.Expired + l.Dropped + l.Dead + l.Damaged + l.SkippedAtStart + c.saved.Retrying
	if passed := c.pos - 1 - c.stream.gap; booked != passed {
		r.differs("destination %s has passed %d events and accounts for %d", c.name, passed, booked)
	}
	if n := uint64(len(c.retrying)); n != c.saved.Retrying {
		r.differs("destination %s counts %d dead letters to be tried again, and there are %d", c.name, c.saved.Retrying, n)
	}
	if c.pos < c.stream.first || c.pos > c.stream.next {
		r.differs("destination %s is at offset %d, outside of the stream's %d to %d", c.name, c.pos, c.stream.first, c.stream.next)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
