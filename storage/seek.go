package storage

import (
	badger "github.com/dgraph-io/badger/v4"

	"holdfast/gateway/event"
)

// Times selects events by when they were received: [From, To). 0 is no bound.
type Times struct {
	From event.Time `json:"from,omitempty"`
	To   event.Time `json:"to,omitempty"`
}

// holds reports whether t is in the range.
func (r Times) holds(t event.Time) bool {
	return t >= r.From && (r.To == 0 || t < r.To)
}

// touches reports whether a block can hold an event of the range.
func (r Times) touches(x *blockIndex) bool {
	return x.latest >= r.From && (r.To == 0 || x.earliest < r.To)
}

// Since returns the offset of the oldest event kept that was received at t or
// later; the end of what is on disk if there is none. It reads the indexes of
// the blocks, and one block.
func (s *Stream) Since(t event.Time) (uint64, error) {
	_, durable, _ := s.Bounds()
	first, _, err := s.between(Times{From: t})
	if err != nil || first >= durable {
		return durable, err
	}
	r := s.Reader(false)
	for offset := first; offset < durable; {
		events, err := r.Read(offset, ReadLimits{Events: 1000, Bytes: mebibyte})
		if err != nil {
			return offset, nil // whoever reads from there will meet it again
		}
		for i := range events {
			if events[i].Received >= t {
				return events[i].Offset, nil
			}
		}
		offset += uint64(len(events))
	}
	return durable, nil
}

// between returns the bounds of the blocks that can hold events of the range,
// which is empty if there are none. The wall clock may have jumped: other
// events can lie between.
func (s *Stream) between(r Times) (from, end uint64, err error) {
	first, durable, _ := s.Bounds()
	from, end = durable, durable
	found := false
	err = s.log.db.View(func(tx *badger.Txn) error {
		it := tx.NewIterator(badger.IteratorOptions{Prefix: streamPrefix(keyIndex, s.id)})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			_, offset, ok := parseBlockKey(it.Item().Key())
			if !ok || offset >= durable {
				continue
			}
			err := it.Item().Value(func(v []byte) error {
				x, err := parseIndex(v)
				if err != nil || offset+x.count <= first || !r.touches(&x) {
					return nil // a damaged index holds up readers, not the search
				}
				if !found {
					found, from = true, max(offset, first)
				}
				end = min(offset+x.count, durable)
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return from, end, err
}
