package storage

import (
	"encoding/json"
	"errors"
	"fmt"
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
	stream   *Stream
	segments []segment // to be removed
	full     int       // how many of them go because the stream is full
	expired  int       // how many because of their age
	roll     bool      // the last one is the active segment
}

func (l *Log) reclaimDue() bool {
	now := time.Now()
	full := false
	for _, s := range l.Streams() {
		s.mu.Lock()
		full = full || s.storedBytes() > uint64(s.opt.Max)
		s.mu.Unlock()
	}
	if !full && now.Sub(l.reclaimedAt) < time.Second {
		return false
	}
	l.reclaimedAt = now
	return true
}

// expiredSegments decides what goes.
func (s *Stream) expiredSegments(uptime time.Duration) due {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := due{stream: s}
	total := s.storedBytes()
	limit := uint64(s.opt.Max)
	if total > limit {
		limit -= min(s.opt.segmentBytes(), limit/4) // some room, so that reclaims are few
	}
	passed := s.durable
	// The cursors of removed destinations too: a slip of the pen in the
	// configuration must not make delivered history of a backlog. Only the
	// limits of the stream pass them.
	for _, c := range s.cursors {
		passed = min(passed, c.pos)
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
		over := total > limit && !active
		old := s.opt.MaxAge > 0 && age > s.opt.MaxAge
		done := g.Next <= passed && (age >= s.opt.Keep || total > uint64(s.opt.Max)/4 && !active)
		if active && age < restBeforeRoll {
			break // it is being written: wait until it is full or at rest
		}
		if !over && !old && !done {
			break
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
			if total < uint64(s.opt.Max)+uint64(s.opt.Max)/8 {
				break
			}
		}
		switch {
		case done:
		case over:
			d.full++
		default:
			d.expired++
		}
		d.segments = append(d.segments, g)
		d.roll = active
		total -= g.Bytes
	}
	return d
}

// reclaim removes what retention allows. Committer only.
func (l *Log) reclaim() {
	uptime := l.clock.uptimeNow()
	var all []due
	for _, s := range l.Streams() {
		if d := s.expiredSegments(uptime); len(d.segments) > 0 {
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
		for _, g := range d.segments {
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
	last := d.segments[len(d.segments)-1]
	s.mu.Lock()
	s.followers(func(c *Cursor) {
		for i, g := range d.segments {
			c.miss(g.Next, c.attached && i >= d.full && d.expired > 0)
		}
	})
	s.first = last.Next
	s.segments = append([]segment(nil), s.segments[len(d.segments):]...)
	if d.roll {
		s.segments = []segment{{Number: last.Number + 1, First: s.next, Next: s.next, At: last.At}}
	}
	state, err := json.Marshal(s.state())
	sets := []keyValue{{nameKey(keyStream, s.name), state}}
	s.followers(func(c *Cursor) {
		b, e := c.value(c.saved)
		err = errors.Join(err, e)
		sets = append(sets, keyValue{c.key, b})
	})
	s.mu.Unlock()
	for _, g := range d.segments {
		sets = append(sets, keyValue{segmentKey(s.id, g.Number), nil})
	}
	boot, e := json.Marshal(l.clock.state())
	if err = errors.Join(err, e); err != nil {
		return err
	}
	sets = append(sets, keyValue{nameKey(keyMeta, "boot"), boot})
	return l.set(sets)
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
