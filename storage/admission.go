package storage

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// How sources meet a full stream. A stream is full when what it has on disk
// and what waits for the committer come to Max; so an append goes over Max by
// less than itself. Requests of the gateway itself never come here.

// sourceStats count what a stream does to its sources.
type sourceStats struct {
	refused   atomic.Uint64 // events
	refusedAt atomic.Int64  // ns since 1970, 0 for never
	waiting   atomic.Int64  // appends that wait for room
}

// enter makes room for a request of a source in its streams: it waits for
// those that block, and marks the request as refused if one rejects. The
// refusal takes its turn in the queue, so that acknowledgements and refusals
// of one source stay in order.
func (l *Log) enter(ctx context.Context, r *request, gone <-chan struct{}) error {
	for {
		s := r.reserve()
		switch {
		case s == nil:
			return nil
		case Policy(s.policy.Load()) == Reject:
			s.refuse(r)
			return nil
		}
		if err := s.waitForRoom(ctx, gone); err != nil {
			return err
		}
	}
}

// reserve counts the request's events in the streams that have a bound for
// sources. If one of them is full it reserves nothing and returns that one.
func (r *request) reserve() *Stream {
	for i := range r.appends {
		a := &r.appends[i]
		if Policy(a.stream.policy.Load()) == DropOldest || len(a.events) == 0 {
			continue
		}
		size := uint64(0)
		for k := range a.events {
			size += uint64(a.events[k].Size())
		}
		s := a.stream
		s.mu.Lock()
		full := s.full()
		if !full {
			s.queued += size
			s.queuedEvents += uint64(len(a.events))
			a.reserved = size
		}
		s.mu.Unlock()
		if full {
			r.leave()
			return s
		}
	}
	return nil
}

// leave gives back what reserve has counted: the events are on disk, or never
// will be.
func (r *request) leave() {
	for i := range r.appends {
		a := &r.appends[i]
		if a.reserved == 0 {
			continue
		}
		a.stream.mu.Lock()
		a.stream.queued -= a.reserved
		a.stream.queuedEvents -= uint64(len(a.events))
		wake(&a.stream.room)
		a.stream.mu.Unlock()
		a.reserved = 0
	}
}

// full reports whether sources find no room. The caller holds s.mu.
func (s *Stream) full() bool {
	return s.storedBytes()+s.queued >= uint64(s.opt.Max) ||
		s.opt.MaxEvents > 0 && s.durable-s.first+s.queuedEvents >= s.opt.MaxEvents
}

// Refuses reports whether the stream would refuse an event of a source now.
func (s *Stream) Refuses() bool {
	if Policy(s.policy.Load()) != Reject {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.full()
}

// CountRefused counts events of sources that were refused without an Append.
func (s *Stream) CountRefused(n int) {
	s.sources.refused.Add(uint64(n))
	s.sources.refusedAt.Store(time.Now().UnixNano())
}

// refuse leaves of the request nothing but its turn.
func (s *Stream) refuse(r *request) {
	for _, a := range r.appends {
		if a.stream == s {
			s.CountRefused(len(a.events))
		}
	}
	r.refused = fmt.Errorf("stream %q: %w", s.name, ErrStreamFull)
	r.appends, r.sets = nil, nil
}

// waitForRoom returns when the stream may have room.
func (s *Stream) waitForRoom(ctx context.Context, gone <-chan struct{}) error {
	s.mu.Lock()
	if !s.full() || s.opt.WhenFull != Block {
		s.mu.Unlock()
		return nil
	}
	room := listen(&s.room)
	s.mu.Unlock()
	s.sources.waiting.Add(1)
	defer s.sources.waiting.Add(-1)
	select {
	case <-room:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-gone:
		return ErrClosed
	case <-s.log.failed:
		return s.log.Err()
	case <-s.log.closing:
		return ErrClosed
	}
}

// limit applies new limits.
func (s *Stream) limit(o StreamOptions) {
	total := int64(0)
	if o.Share > 0 {
		total = totalBytes(s.log.opt.Dir)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.given, s.opt = o, o.within(total)
	s.policy.Store(uint32(o.WhenFull))
	wake(&s.room)
}

// limitShares follows a file system that has changed its size.
func (l *Log) limitShares() {
	for _, s := range l.Streams() {
		s.mu.Lock()
		given := s.given
		s.mu.Unlock()
		if given.Share > 0 {
			s.limit(given)
		}
	}
}
