package storage

import (
	"errors"

	badger "github.com/dgraph-io/badger/v4"

	"holdfast/gateway/event"
)

// selection says which topics a reader is for. Block indexes have hashes
// only, so it remembers what it has learned about each from blocks that were
// read: an unknown hash costs one block.
type selection struct {
	wants func(topic string) bool // nil wants all
	known map[uint32]bool         // by topic hash: whether a topic with it is wanted
	times Times
	// retained wants only what has the flag Retain.
	retained bool
}

// maxKnown bounds what is remembered; beyond it everything is learned anew.
const maxKnown = 100_000

// Select tells the cursor that only these topics matter to its destination.
// It then passes over whole blocks that hold none of them, booking their
// events as filtered, without reading them. Events of other topics may still
// be handed out. To be called before the first Next.
func (c *Cursor) Select(wants func(topic string) bool) {
	c.selection = &selection{wants: wants, known: map[uint32]bool{}}
}

func (s *selection) learn(events []event.Event) {
	if s.wants == nil {
		return
	}
	if len(s.known) > maxKnown {
		clear(s.known)
	}
	last := ""
	for i := range events {
		if topic := events[i].Topic; topic != last {
			last = topic
			h := topicHash(topic)
			s.known[h] = s.known[h] || s.wants(topic)
		}
	}
}

// skippable returns how many events from offset on are in blocks that hold
// nothing the selection wants: 0 where that takes a read to know. Blocks that
// are in memory are not worth the question.
func (s *Stream) skippable(offset uint64, sel *selection) (n uint64) {
	s.mu.Lock()
	durable := s.durable
	inMemory := len(s.tail) > 0 && s.tail[0].first <= offset
	number, found := s.segmentOf(offset)
	s.mu.Unlock()
	if inMemory || !found {
		return 0
	}
	mayWant := func(hash uint32) bool {
		wanted, known := sel.known[hash]
		return wanted || !known
	}
	// An error ends the skipping; the read that follows will meet it again.
	_ = s.log.db.View(func(tx *badger.Txn) error {
		it := tx.NewIterator(badger.IteratorOptions{Prefix: streamPrefix(keyIndex, s.id)})
		defer it.Close()
		for it.Seek(blockKey(keyIndex, s.id, number, offset)); it.Valid(); it.Next() {
			_, first, ok := parseBlockKey(it.Item().Key())
			if !ok || first != offset+n || first >= durable {
				return nil
			}
			err := it.Item().Value(func(v []byte) error {
				x, err := parseIndex(v)
				if err == nil && sel.times.touches(&x) && (!sel.retained || x.retain) && (sel.wants == nil || x.mayHold(mayWant)) {
					return errWanted
				}
				n += x.count
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return n
}

var errWanted = errors.New("the block may hold what is wanted")
