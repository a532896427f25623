package storage

import (
	"errors"
	"fmt"

	badger "github.com/dgraph-io/badger/v4"

	"holdfast/gateway/event"
)

// ReadLimits bound one read. At least one event is returned whatever its size.
type ReadLimits struct {
	Events int
	Bytes  int
}

// A TrimmedError says that retention has removed the events before First.
type TrimmedError struct {
	Stream string
	First  uint64
}

func (e *TrimmedError) Error() string {
	return fmt.Sprintf("stream %q: retention has removed the events before offset %d", e.Stream, e.First)
}

// A DamagedError says that the events [From, Next) cannot be read. They stay
// on disk for a repair; readers go on at Next.
type DamagedError struct {
	Stream     string
	From, Next uint64
	Err        error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("stream %q: offsets %d to %d cannot be read: %v", e.Stream, e.From, e.Next-1, e.Err)
}
func (e *DamagedError) Unwrap() error { return e.Err }

// Reader reads a stream from some offset on. It serves one goroutine. Events
// come from memory where they are there, else from the disk.
type Reader struct {
	stream    *Stream
	sequenced bool
	block     []event.Event // the block last read from the disk
	buf       []event.Event
}

// Reader returns a reader of what is on disk. A sequenced reader also sees
// events that have an offset but are not on disk yet: what it makes of them
// may be committed only behind them.
func (s *Stream) Reader(sequenced bool) *Reader {
	return &Reader{stream: s, sequenced: sequenced}
}

// Read returns events from offset on, without waiting; none if there are none
// yet. The slice is valid until the next Read; the events stay valid.
func (r *Reader) Read(offset uint64, l ReadLimits) ([]event.Event, error) {
	s := r.stream
	r.buf = r.buf[:0]
	for {
		s.mu.Lock()
		end := s.durable
		if r.sequenced {
			end = s.next
		}
		if offset < s.first {
			first := s.first
			s.mu.Unlock()
			return nil, &TrimmedError{s.name, first}
		}
		if offset >= end {
			s.mu.Unlock()
			return nil, nil
		}
		var ok bool
		if r.buf, ok = s.fromTail(r.buf, offset, end, l); ok {
			s.mu.Unlock()
			r.block = nil
			return r.buf, nil
		}
		number, found := s.segmentOf(offset)
		s.mu.Unlock()
		if !found {
			return nil, &DamagedError{s.name, offset, s.nextKnown(offset), errors.New("no segment holds them")}
		}
		if len(r.block) == 0 || offset < r.block[0].Offset || offset > r.block[len(r.block)-1].Offset {
			block, err := s.readBlock(number, offset)
			if err != nil {
				if s.trimmed(offset) {
					continue // retention came between
				}
				s.noteDamage(err)
				return nil, err
			}
			r.block = block
		}
		return within(r.block[offset-r.block[0].Offset:], l), nil
	}
}

func within(events []event.Event, l ReadLimits) []event.Event {
	size := 0
	for i := range events {
		size += events[i].Size()
		if i > 0 && (i >= l.Events || size > l.Bytes) {
			return events[:i]
		}
	}
	return events
}

// noteDamage counts damaged events once, however many readers meet them.
func (s *Stream) noteDamage(err error) {
	var d *DamagedError
	if !errors.As(err, &d) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if from := max(d.From, s.damageSeen); d.Next > from {
		s.damaged += d.Next - from
		s.damageSeen = d.Next
	}
}

func (s *Stream) trimmed(offset uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return offset < s.first
}

// nextKnown returns the first offset behind a hole at offset.
func (s *Stream) nextKnown(offset uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.segments {
		if s.segments[i].First > offset {
			return s.segments[i].First
		}
	}
	return s.durable
}

// readBlock reads the block that holds offset.
func (s *Stream) readBlock(number uint32, offset uint64) (events []event.Event, err error) {
	err = s.log.db.View(func(tx *badger.Txn) error {
		first, end, err := s.findBlock(tx, number, offset)
		if err != nil {
			return err
		}
		item, err := tx.Get(blockKey(keyBlock, s.id, number, first))
		if err == nil {
			err = item.Value(func(b []byte) error {
				events, err = openBlock(b)
				return err
			})
		}
		if err == nil && (len(events) == 0 || events[0].Offset != first || events[len(events)-1].Offset+1 != end) {
			err = fmt.Errorf("%w: the block is not what its index says", ErrFormat)
		}
		if err != nil {
			return &DamagedError{s.name, offset, end, err}
		}
		return nil
	})
	return events, err
}

// findBlock returns the bounds of the block that holds offset. Readers mostly
// go on where a block ended, so that the next begins exactly at offset.
func (s *Stream) findBlock(tx *badger.Txn, number uint32, offset uint64) (first, end uint64, err error) {
	count := func(item *badger.Item) (n uint64, err error) {
		err = item.Value(func(v []byte) error {
			x, err := parseIndex(v)
			n = x.count
			return err
		})
		return n, err
	}
	item, err := tx.Get(blockKey(keyIndex, s.id, number, offset))
	if err == nil {
		n, err := count(item)
		if err != nil {
			return 0, 0, &DamagedError{s.name, offset, s.nextBlock(tx, number, offset), err}
		}
		return offset, offset + n, nil
	}
	if !errors.Is(err, badger.ErrKeyNotFound) {
		return 0, 0, err
	}
	it := tx.NewIterator(badger.IteratorOptions{Prefix: segmentPrefix(keyIndex, s.id, number), Reverse: true})
	defer it.Close()
	it.Seek(blockKey(keyIndex, s.id, number, offset))
	if it.Valid() {
		_, first, _ := parseBlockKey(it.Item().Key())
		if n, err := count(it.Item()); err == nil && first+n > offset {
			return first, first + n, nil
		}
	}
	return 0, 0, &DamagedError{s.name, offset, s.nextBlock(tx, number, offset), errors.New("no block holds them")}
}

// nextBlock returns the first offset of the block after offset.
func (s *Stream) nextBlock(tx *badger.Txn, number uint32, offset uint64) uint64 {
	it := tx.NewIterator(badger.IteratorOptions{Prefix: streamPrefix(keyIndex, s.id)})
	defer it.Close()
	it.Seek(blockKey(keyIndex, s.id, number, offset+1))
	if it.Valid() {
		if _, first, ok := parseBlockKey(it.Item().Key()); ok {
			return first
		}
	}
	return s.nextKnown(offset)
}
