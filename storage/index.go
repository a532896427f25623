package storage

import (
	"encoding/binary"
	"fmt"
	"sort"

	"holdfast/gateway/event"
)

// blockIndex is the small value beside each block. A reader that looks for a
// time or a few topics decides by it whether to read the block at all.
//
//	version, 1
//	number of events, bytes of the block (uvarints)
//	earliest receive time (signed), length of the range in ns (uvarint)
//	number of topic hashes, 0 if there are more than maxTopics (uvarint)
//	the hashes in ascending order, 4 bytes each
//	1 if an event has the flag Retain, else 0; without this byte it may
type blockIndex struct {
	count    uint64
	bytes    uint64
	earliest event.Time
	latest   event.Time
	topics   []uint32 // nil: may hold any topic
	retain   bool     // an event may have the flag Retain
}

const (
	indexVersion = 1
	maxTopics    = 128
)

// topicHash is FNV-1a of 32 bits: two topics with one hash cost a block read
// for nothing, never an event.
func topicHash(topic string) uint32 {
	h := uint32(2166136261)
	for i := 0; i < len(topic); i++ {
		h = (h ^ uint32(topic[i])) * 16777619
	}
	return h
}

// observe takes an event into the index; it is called in offset order, and
// most events have the topic of the one before.
func (x *blockIndex) observe(ev, before *event.Event) {
	if x.count == 0 || ev.Received < x.earliest {
		x.earliest = ev.Received
	}
	if x.count == 0 || ev.Received > x.latest {
		x.latest = ev.Received
	}
	x.count++
	x.retain = x.retain || ev.Retain
	if len(x.topics) > maxTopics || before != nil && before.Topic == ev.Topic {
		return
	}
	h := topicHash(ev.Topic)
	i := sort.Search(len(x.topics), func(i int) bool { return x.topics[i] >= h })
	if i < len(x.topics) && x.topics[i] == h {
		return
	}
	x.topics = append(x.topics, 0)
	copy(x.topics[i+1:], x.topics[i:])
	x.topics[i] = h
}

func (x *blockIndex) append(b []byte) []byte {
	b = append(b, indexVersion)
	b = binary.AppendUvarint(b, x.count)
	b = binary.AppendUvarint(b, x.bytes)
	b = binary.AppendVarint(b, int64(x.earliest))
	b = binary.AppendUvarint(b, uint64(x.latest-x.earliest))
	topics := x.topics
	if len(topics) > maxTopics {
		topics = nil
	}
	b = binary.AppendUvarint(b, uint64(len(topics)))
	for _, h := range topics {
		b = binary.LittleEndian.AppendUint32(b, h)
	}
	if x.retain {
		return append(b, 1)
	}
	return append(b, 0)
}

func parseIndex(b []byte) (blockIndex, error) {
	var x blockIndex
	if len(b) == 0 || b[0] != indexVersion {
		return x, fmt.Errorf("%w: no block index of version %d", ErrFormat, indexVersion)
	}
	d := decoder{b: b[1:]}
	x.count, x.bytes = d.uvarint(), d.uvarint()
	x.earliest = event.Time(d.varint())
	x.latest = x.earliest + event.Time(d.uvarint())
	n := d.uvarint()
	if d.bad || n > maxTopics || uint64(len(d.b)) != 4*n && uint64(len(d.b)) != 4*n+1 {
		return x, fmt.Errorf("%w: block index", ErrFormat)
	}
	x.retain = uint64(len(d.b)) == 4*n || d.b[4*n] != 0
	for i := range n {
		x.topics = append(x.topics, binary.LittleEndian.Uint32(d.b[4*i:]))
	}
	return x, nil
}

// mayHold reports whether the block can hold an event whose topic hash
// satisfies match.
func (x *blockIndex) mayHold(match func(hash uint32) bool) bool {
	if x.topics == nil {
		return true
	}
	for _, h := range x.topics {
		if match(h) {
			return true
		}
	}
	return false
}
