package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	badger "github.com/dgraph-io/badger/v4"
)

// Retention works on whole segments, oldest first. Badger gives the space of
// a value log file back only when compaction has counted what is dead in it,
// so that a segment goes in this order, measured to be the one that leaks
// nothing and pauses commits least:
//
//	a  commit the stream's new first offset, and what cursors miss by it
//	b  write tombstones for the keys of the segment
//	c  DropPrefix of a key that is there for nothing else: it flushes the
//	   memtable and compacts, and that counts what is dead
//	d  RunValueLogGC until it finds nothing to do
//
// DropPrefix of the segment's own prefix would throw tables away without
// counting. It makes commits that run beside it fail, so the committer does
// all of it itself, d file by file between two commits.

// due is what retention takes from one stream.
type due struct {
	stream *Stream
	taken  []taken // the oldest segments, in order
	roll   bool    // the last one is the active segment
}

// taken is a segment that goes, and why.
type taken struct {
	segment
	why reason
}

type reason int

const (
	passed  reason = iota // every destination has it, or nobody wants it
	tooMuch               // the stream is full
	tooOld                // it is past MaxAge
)

func (l *Log) reclaimDue() bool {
	now := time.Now()
	if !l.overfull() && now.Sub(l.reclaimedAt) < time.Second {
		return false
	}
	l.reclaimedAt = now
	return true
}

// overfull says whether a stream takes more than it may.
func (l *Log) overfull() bool {
	for _, s := range l.Streams() {
		s.mu.Lock()
		full := s.storedBytes() > uint64(s.opt.hardMax()) || s.opt.MaxEvents > 0 && s.durable-s.first > s.opt.hardEvents()
		s.mu.Unlock()
		if full {
			return true
		}
	}
	return false
}

// expiredSegments decides what goes.
func (s *Stream) expiredSegments(uptime time.Duration) due {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := due{stream: s}
	o := &s.opt
	total, count := s.storedBytes(), s.durable-s.first
	limit, most := uint64(o.hardMax()), o.hardEvents()
	if total > limit {
		limit -= min(o.segmentBytes(), limit/4) // some room, so that reclaims are few
	}
	read := s.durable
	// The cursors of removed destinations too: a slip of the pen in the
	// configuration must not make delivered history of a backlog. Only the
	// limits of the stream pass them. They are no reason to refuse sources.
	for _, c := range s.cursors {
		if c.attached || o.WhenFull == DropOldest {
			read = min(read, c.pos)
		}
	}
	pinned := s.durable
	for _, p := range s.pins {
		pinned = min(pinned, p.offset)
	}
	for i, g := range s.segments {
		active := i == len(s.segments)-1
		if g.Bytes == 0 || g.Next > s.durable {
			break
		}
		age := uptime - g.At
		if active && age < restBeforeRoll {
			break // it is being written: wait until it is full or at rest
		}
		t := taken{segment: g}
		switch {
		case g.Next <= read && s.spent(&g, age, total > uint64(o.Max)/4 || o.MaxEvents > 0 && count > o.MaxEvents/4, active):
			t.why = passed
		case !active && (total > limit || most > 0 && count > most):
			t.why = tooMuch
		case o.MaxAge > 0 && age > o.MaxAge:
			t.why = tooOld
		default:
			return d
		}
		if g.Next > pinned {
			for _, p := range s.pins {
				select {
				case p.Pressure <- struct{}{}:
				default:
				}
			}
			// A checkpoint comes within moments; a processor that does not
			// make one must not fill the disk.
			if total < uint64(o.hardMax()+o.Max/8) {
				break
			}
		}
		d.taken = append(d.taken, t)
		d.roll = active
		total -= g.Bytes
		count -= g.Next - max(g.First, s.first)
	}
	return d
}

// spent reports whether a segment that every destination has passed may go.
// much says that the stream holds more than history may take.
func (s *Stream) spent(g *segment, age time.Duration, much, active bool) bool {
	if s.opt.Letters {
		return s.letters.settled.count(g.First, g.Next) == g.Next-g.First
	}
	return age >= s.opt.Keep || much && !active
}

// reclaim removes what retention allows. Committer only.
func (l *Log) reclaim() {
	uptime := l.clock.uptimeNow()
	var all []due
	for _, s := range l.Streams() {
		if d := s.expiredSegments(uptime); len(d.taken) > 0 {
			all = append(all, d)
		}
	}
	if len(all) == 0 {
		return
	}
	for _, d := range all {
		if err := l.moveFirst(d); err != nil {
			l.fail(fmt.Errorf("reclaim: %w", err))
			return
		}
	}
	for _, d := range all {
		for _, g := range d.taken {
			if err := l.bury(d.stream.id, g.Number); err != nil {
				l.fail(fmt.Errorf("reclaim: %w", err))
				return
			}
		}
	}
	l.collect()
}

// moveFirst is step a. Readers see the new first offset before anything of
// the old events is gone.
func (l *Log) moveFirst(d due) error {
	s := d.stream
	last := d.taken[len(d.taken)-1].segment
	s.mu.Lock()
	behind := s.durable // where the slowest attached cursor is
	for _, c := range s.cursors {
		if c.attached {
			behind = min(behind, c.pos)
		}
	}
	for _, g := range d.taken {
		if behind < g.Next {
			n := g.Next - behind
			behind = g.Next
			if g.why == tooOld {
				s.expired += n
			} else {
				s.dropped += n
				s.droppedAt = time.Now()
			}
		}
		s.followers(func(c *Cursor) { c.miss(g.Next, g.why == tooOld) })
	}
	before := s.first
	s.first = last.Next
	s.segments = append([]segment(nil), s.segments[len(d.taken):]...)
	if d.roll {
		s.segments = []segment{{Number: last.Number + 1, First: s.next, Next: s.next, At: last.At}}
	}
	letters := s.opt.Letters
	state, err := json.Marshal(s.state())
	sets := []keyValue{{nameKey(keyStream, s.name), state}}
	s.followers(func(c *Cursor) {
		b, e := c.value(c.saved)
		err = errors.Join(err, e)
		sets = append(sets, keyValue{c.key, b})
	})
	wake(&s.room)
	s.mu.Unlock()
	var later []keyValue // too many for one transaction, and below the first offset they mean nothing
	if letters {
		var now []keyValue
		now, later = l.loseLetters(s, before, last.Next)
		sets = append(sets, now...)
	}
	for _, g := range d.taken {
		sets = append(sets, keyValue{segmentKey(s.id, g.Number), nil})
	}
	boot, e := json.Marshal(l.clock.state())
	if err = errors.Join(err, e); err != nil {
		return err
	}
	sets = append(sets, keyValue{nameKey(keyMeta, "boot"), boot})
	if err := l.set(sets); err != nil {
		return err
	}
	for part := range slices.Chunk(later, commitEntries) {
		if err := l.set(part); err != nil {
			return err
		}
	}
	return nil
}

// set writes keys in one transaction of its own.
func (l *Log) set(sets []keyValue) error {
	return l.db.Update(func(tx *badger.Txn) error {
		for _, e := range sets {
			var err error
			if e.value == nil {
				err = tx.Delete(e.key)
			} else {
				err = tx.Set(e.key, e.value)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// bury is step b for one segment.
func (l *Log) bury(stream uint16, segment uint32) error {
	for _, kind := range []byte{keyBlock, keyIndex} {
		prefix := segmentPrefix(kind, stream, segment)
		var from []byte
		for more := true; more; {
			var sets []keyValue
			more = false
			err := l.db.View(func(tx *badger.Txn) error {
				it := tx.NewIterator(badger.IteratorOptions{Prefix: prefix})
				defer it.Close()
				for it.Seek(append(prefix[:len(prefix):len(prefix)], from...)); it.Valid(); it.Next() {
					if len(sets) == commitEntries {
						more = true
						from = it.Item().KeyCopy(nil)[len(prefix):]
						return nil
					}
					sets = append(sets, keyValue{it.Item().KeyCopy(nil), nil})
				}
				return nil
			})
			if err == nil && len(sets) > 0 {
				err = l.set(sets)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// collect is step c; step d follows between the next commits.
func (l *Log) collect() {
	if err := l.set([]keyValue{{[]byte{keyDummy}, []byte{}}}); err != nil {
		l.fail(fmt.Errorf("reclaim: %w", err))
		return
	}
	if err := l.db.DropPrefix([]byte{keyDummy}); err != nil {
		l.fail(fmt.Errorf("reclaim: %w", err))
		return
	}
	l.collecting = true
}

// collectOne is step d for one value log file. It runs on the committer's
// goroutine, one file between two commits: beside commits Badger's collection
// reads a counter that they write.
func (l *Log) collectOne() {
	err := l.db.RunValueLogGC(gcRatio)
	if err == nil {
		return // there may be more
	}
	l.collecting = false
	if !errors.Is(err, badger.ErrNoRewrite) && !errors.Is(err, badger.ErrRejected) {
		l.opt.Logger.Warn("value log cannot be collected", "err", err)
	}
}

// restBeforeRoll is how long a stream must be silent before the segment that
// is being written may go: each reclaim flushes and compacts.
const restBeforeRoll = 10 * time.Second

// gcRatio is the share of a value log file that must be dead before its rest
// is written again: lower frees sooner and writes more.
const gcRatio = 0.5

// finishReclaims removes what a reclaim that was cut short has left: keys
// below the first offset of their stream.
func (l *Log) finishReclaims() error {
	left := false
	for _, s := range l.streams {
		lowest := s.segments[0].Number
		numbers := map[uint32]bool{}
		for _, kind := range []byte{keyBlock, keyIndex} {
			err := l.db.View(func(tx *badger.Txn) error {
				it := tx.NewIterator(badger.IteratorOptions{Prefix: streamPrefix(kind, s.id)})
				defer it.Close()
				for it.Rewind(); it.Valid(); {
					n, _, ok := parseBlockKey(it.Item().Key())
					if !ok || n >= lowest {
						return nil
					}
					numbers[n] = true
					it.Seek(segmentPrefix(kind, s.id, n+1))
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		for n := range numbers {
			left = true
			if err := l.bury(s.id, n); err != nil {
				return err
			}
		}
	}
	if left {
		l.collect()
	}
	return nil
}
