package storage

import (
	"errors"
	"sync"

	"holdfast/gateway/event"
)

// Scanner reads a stream for one of many who have fallen behind, such as the
// sessions of MQTT subscribers: it shares decoded blocks with all other
// scanners, copies nothing, passes over blocks that hold no topic it wants,
// and keeps nothing between two calls but what it has learned about topics.
// It serves one goroutine.
type Scanner struct {
	stream *Stream
	sel    *selection // nil wants everything
}

// Scanner returns a scanner of what is on disk for those topics; wants may be
// nil.
func (s *Stream) Scanner(wants func(topic string) bool) *Scanner {
	sc := &Scanner{stream: s}
	if wants != nil {
		sc.sel = &selection{wants: wants, known: map[uint32]bool{}}
	}
	return sc
}

// RetainedScanner returns a scanner of what is on disk that passes over blocks
// without an event that has the flag Retain.
func (s *Stream) RetainedScanner() *Scanner {
	return &Scanner{stream: s, sel: &selection{retained: true}}
}

// Read returns some events from offset on, without waiting, and the offset to
// go on at. What retention has removed, what cannot be read, and blocks
// without a wanted topic are passed over: the first event may have a higher
// offset, and there may be none although next has moved. Events of other
// topics may be among them. They are shared and must not be changed.
func (sc *Scanner) Read(offset uint64) (events []event.Event, next uint64, err error) {
	s := sc.stream
	for {
		s.mu.Lock()
		offset = max(offset, s.first)
		if offset >= s.durable {
			s.mu.Unlock()
			return nil, offset, nil
		}
		if events = s.runAt(offset); events != nil {
			events = events[:min(uint64(len(events)), s.durable-offset)]
			s.mu.Unlock()
			return events, offset + uint64(len(events)), nil
		}
		number, found := s.segmentOf(offset)
		s.mu.Unlock()
		if !found {
			return nil, s.nextKnown(offset), nil
		}
		if sc.sel != nil {
			if n := s.skippable(offset, sc.sel); n > 0 {
				return nil, offset + n, nil
			}
		}
		block, err := s.log.cache.block(s, number, offset)
		var damaged *DamagedError
		switch {
		case err == nil:
			if sc.sel != nil {
				sc.sel.learn(block)
			}
			events = block[offset-block[0].Offset:]
			return events, offset + uint64(len(events)), nil
		case s.trimmed(offset): // retention came between
		case errors.As(err, &damaged):
			s.noteDamage(err)
			return nil, damaged.Next, nil
		default:
			return nil, offset, err
		}
	}
}

// runAt returns the events from offset on that were appended together with
// it, if they are in memory. The caller holds s.mu.
func (s *Stream) runAt(offset uint64) []event.Event {
	for i := len(s.tail) - 1; i >= 0; i-- {
		if r := &s.tail[i]; r.first <= offset {
			if offset >= r.end() {
				return nil
			}
			return r.events[offset-r.first:]
		}
	}
	return nil
}

// blockCache keeps decoded blocks that were read lately. Those who have
// fallen behind mostly read the same ones.
type blockCache struct {
	limit int
	load  sync.Mutex // one block is decoded at a time, so that none is decoded twice

	mu     sync.Mutex
	blocks []cachedBlock // the one used last at the end
	bytes  int
}

type cachedBlock struct {
	stream *Stream
	events []event.Event
	bytes  int
}

// block returns the block of a stream that holds offset.
func (c *blockCache) block(s *Stream, segment uint32, offset uint64) ([]event.Event, error) {
	if events := c.find(s, offset); events != nil {
		return events, nil
	}
	c.load.Lock()
	defer c.load.Unlock()
	if events := c.find(s, offset); events != nil {
		return events, nil
	}
	events, err := s.readBlock(segment, offset)
	if err == nil {
		c.keep(s, events)
	}
	return events, err
}

func (c *blockCache) find(s *Stream, offset uint64) []event.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := len(c.blocks) - 1; i >= 0; i-- {
		b := c.blocks[i]
		if b.stream != s || offset < b.events[0].Offset || offset > b.events[len(b.events)-1].Offset {
			continue
		}
		copy(c.blocks[i:], c.blocks[i+1:])
		c.blocks[len(c.blocks)-1] = b
		return b.events
	}
	return nil
}

// keep adds a block, and forgets those that have not been used for longest.
// Small blocks are cheap to read and many: the number is bounded as well, for
// find looks at all of them.
func (c *blockCache) keep(s *Stream, events []event.Event) {
	b := cachedBlock{stream: s, events: events}
	for i := range events {
		b.bytes += events[i].Size() + eventOverhead
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocks = append(c.blocks, b)
	c.bytes += b.bytes
	drop := 0
	for drop < len(c.blocks)-1 && (c.bytes > c.limit || len(c.blocks)-drop > maxCached) {
		c.bytes -= c.blocks[drop].bytes
		drop++
	}
	if drop > 0 {
		n := copy(c.blocks, c.blocks[drop:])
		clear(c.blocks[n:])
		c.blocks = c.blocks[:n]
	}
}

const maxCached = 64
