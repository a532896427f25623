package storage

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"slices"
)

// Dead letters are events of a stream of their own (Options.Letters). One is
// open until it is settled: tried again, purged, or taken by retention. What
// is settled is a set of offsets beside the stream, for a log changes nothing
// that is in it.
//
// A letter that is tried again moves from Dead back to pending in the ledger
// of the cursor that it fell from. The cursor keeps its offset until it has
// been delivered, has been refused again, which makes a new letter, or
// retention has taken it, which counts as dropped. Each of these moves is one
// transaction: a crash finds it done or not begun.

// LetterCounts account for all letters that a stream has ever held:
//
//	appended = open + Retried + Purged + Lost
type LetterCounts struct {
	Retried uint64 `json:"retried,omitempty"`
	Purged  uint64 `json:"purged,omitempty"`
	Lost    uint64 `json:"lost,omitempty"` // open ones that retention took
}

// LetterStatus is a stream of dead letters as the operator sees it.
type LetterStatus struct {
	LetterCounts
	Open uint64
}

// letters is what a stream of dead letters knows about them. It is guarded by
// the stream's mutex and changed by the committer only.
type letters struct {
	settled spans
	counts  LetterCounts
}

// Letter names a dead letter and the cursor that it fell from.
type Letter struct {
	Offset uint64 // in the stream of dead letters
	Stream *Stream
	Cursor string
}

// letterStatus returns the counts. The caller holds s.mu.
func (s *Stream) letterStatus() LetterStatus {
	if !s.given.Letters {
		return LetterStatus{}
	}
	return LetterStatus{s.letters.counts, s.durable - s.first - s.letters.settled.count(s.first, s.durable)}
}

// Open reports whether the letter at offset is open.
func (s *Stream) Open(offset uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open(offset)
}

func (s *Stream) open(offset uint64) bool {
	return offset >= s.first && offset < s.durable && !s.letters.settled.has(offset)
}

// lettersAtOnce bounds a transaction: a letter comes to a few keys.
const lettersAtOnce = commitEntries / 4

// Retry moves open letters of s back to pending at the cursors that they fell
// from, and returns how many were moved when that is on disk. Letters that are
// not open, or whose cursor does not exist, stay as they are.
func (s *Stream) Retry(ctx context.Context, all []Letter) (moved int, err error) {
	return s.settleLetters(ctx, all, &s.letters.counts.Retried, func(l Letter) (key []byte, ok bool) {
		c := l.cursor()
		if c == nil {
			return nil, false
		}
		c.stream.mu.Lock()
		defer c.stream.mu.Unlock()
		if c.saved.Ledger.Dead == 0 {
			return nil, false // the cursor was forgotten, and is another one now
		}
		c.saved.Ledger.Dead--
		c.saved.Retrying++
		i, _ := slices.BinarySearch(c.retrying, l.Offset)
		c.retrying = slices.Insert(c.retrying, i, l.Offset)
		c.write()
		wake(&c.retried)
		return retryKey(c.stream.id, c.name, l.Offset), true
	})
}

// Purge settles open letters of s for good, and returns how many were when
// that is on disk. They stay Dead in the ledger of the cursor, if they have one.
func (s *Stream) Purge(ctx context.Context, all []Letter) (purged int, err error) {
	return s.settleLetters(ctx, all, &s.letters.counts.Purged, func(l Letter) ([]byte, bool) {
		if c := l.cursor(); c != nil {
			c.stream.mu.Lock()
			defer c.stream.mu.Unlock()
			c.saved.Purged++
			c.write()
		}
		return nil, true
	})
}

func (l Letter) cursor() *Cursor {
	if l.Stream == nil {
		return nil
	}
	l.Stream.mu.Lock()
	defer l.Stream.mu.Unlock()
	return l.Stream.cursors[l.Cursor]
}

// settleLetters settles those of the letters that are open and that book agrees to;
// book runs on the committer's goroutine and may return a key to write.
func (s *Stream) settleLetters(ctx context.Context, all []Letter, counter *uint64, book func(Letter) (key []byte, ok bool)) (n int, err error) {
	for part := range slices.Chunk(all, lettersAtOnce) {
		r := &request{keys: 4*len(part) + 1}
		settled := 0
		r.prepare = func(r *request) {
			touched := map[uint64]bool{}
			for _, l := range part {
				if !s.Open(l.Offset) {
					continue
				}
				key, ok := book(l)
				if !ok {
					continue
				}
				if key != nil {
					r.sets = append(r.sets, keyValue{key, []byte{}})
				}
				s.mu.Lock()
				s.letters.settled.add(l.Offset, touched)
				*counter++
				s.mu.Unlock()
				settled++
			}
			r.sets = append(r.sets, s.settledKeys(touched)...)
		}
		if err := s.log.submitAndWait(ctx, r); err != nil {
			return n, err
		}
		n += settled
	}
	return n, nil
}

// settledKeys returns what makes the ranges on disk those in memory, where
// they were touched, and the stream's counts with them.
func (s *Stream) settledKeys(touched map[uint64]bool) (sets []keyValue) {
	if len(touched) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for from := range touched {
		k := keyValue{key: settledKey(s.id, from)}
		if to := s.letters.settled.upTo(from); to != 0 {
			k.value = binary.BigEndian.AppendUint64(nil, to)
		}
		sets = append(sets, k)
	}
	state, err := json.Marshal(s.state())
	if err != nil {
		s.log.fail(err)
	}
	return append(sets, keyValue{nameKey(keyStream, s.name), state})
}

// loadLetters reads what is settled, and which letters the stream's cursors
// are to deliver again.
func (l *Log) loadLetters(s *Stream) error {
	err := l.scan(streamPrefix(keySettled, s.id), func(k, v []byte) error {
		if len(k) == 11 && len(v) == 8 {
			s.letters.settled = append(s.letters.settled, span{binary.BigEndian.Uint64(k[3:]), binary.BigEndian.Uint64(v)})
		}
		return nil
	})
	if err != nil {
		return err
	}
	return l.scan(streamPrefix(keyRetry, s.id), func(k, _ []byte) error {
		if len(k) < 12 {
			return nil
		}
		if c := s.cursors[string(k[3:len(k)-9])]; c != nil {
			c.retrying = append(c.retrying, binary.BigEndian.Uint64(k[len(k)-8:]))
		}
		return nil
	})
}

// loseLetters books what retention takes of a stream of dead letters when it
// moves the first offset from before to first: open letters are lost, and
// those that were to be tried again are dropped. The keys in now belong to the
// transaction that moves the offset, the others may follow. Committer only.
func (l *Log) loseLetters(s *Stream, before, first uint64) (now, later []keyValue) {
	touched := map[uint64]bool{}
	s.mu.Lock()
	s.letters.counts.Lost += first - before - s.letters.settled.count(before, first)
	s.letters.settled.cut(first, touched)
	s.mu.Unlock()
	touched[first] = true // so that the counts are written
	later = s.settledKeys(touched)
	now, later = later[len(later)-1:], later[:len(later)-1] // the counts come last
	for _, from := range l.Streams() {
		from.mu.Lock()
		for _, c := range from.cursors {
			n, _ := slices.BinarySearch(c.retrying, first)
			if n == 0 {
				continue
			}
			for _, offset := range c.retrying[:n] {
				later = append(later, keyValue{retryKey(from.id, c.name, offset), nil})
			}
			c.retrying = slices.Delete(c.retrying, 0, n)
			c.saved.Retrying -= min(uint64(n), c.saved.Retrying)
			c.saved.Ledger.Dropped += uint64(n)
			c.dirty = true
			b, err := json.Marshal(c.saved)
			if err != nil {
				l.fail(err)
			}
			now = append(now, keyValue{cursorKey(from.id, c.name), b})
		}
		from.mu.Unlock()
	}
	return now, later
}

// finishLetters passes over what a reclaim that was cut short has left of dead
// letters, and sees to it that each cursor counts the letters that it has.
func (l *Log) finishLetters() {
	first := uint64(0)
	for _, s := range l.streams {
		if s.opt.Letters {
			s.letters.settled.cut(s.first, map[uint64]bool{})
			first = s.first
		}
	}
	for _, s := range l.streams {
		for _, c := range s.cursors {
			n, _ := slices.BinarySearch(c.retrying, first)
			c.retrying = c.retrying[n:]
			if lost := c.saved.Retrying - min(uint64(len(c.retrying)), c.saved.Retrying); lost > 0 {
				c.saved.Ledger.Dropped += lost
			}
			c.dirty = c.dirty || c.saved.Retrying != uint64(len(c.retrying))
			c.saved.Retrying = uint64(len(c.retrying))
		}
	}
}
