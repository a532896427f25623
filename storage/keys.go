package storage

import (
	"encoding/binary"
)

// Every key in Badger, by its first byte. Numbers are big endian, so that
// keys sort as the numbers do.
//
//	b stream(2) segment(4) offset(8)   a block, by the offset of its first event
//	i stream(2) segment(4) offset(8)   its index
//	s stream(2) segment(4)             summary of a sealed segment, JSON
//	n name                             a stream: number, first offset, counters, JSON
//	c stream(2) name                   a cursor: position and ledger, JSON
//	y id(8)                            a replay: what it selects, position and counts, JSON
//	p name                             a processor: covered offset and last input, JSON
//	t name 0 sequence(8)               a processor's logged input, JSON
//	q client 0 id(2)                   a QoS 2 packet identifier that is held
//	r stream(2) cursor 0 offset(8)     a dead letter that a cursor is to deliver again, by its offset
//	x stream(2) from(8)                dead letters that are settled: offset behind the last of them
//	k table 0 key                      an entry of a table, see Log.Put
//	m epoch, m boot                    identity of the store, boot counter, JSON
//	z                                  a key to drop, see reclaim
const (
	keyBlock     = 'b'
	keyIndex     = 'i'
	keySegment   = 's'
	keyStream    = 'n'
	keyCursor    = 'c'
	keyReplay    = 'y'
	keyProcessor = 'p'
	keyInput     = 't'
	keyHeld      = 'q'
	keyRetry     = 'r'
	keySettled   = 'x'
	keyTable     = 'k'
	keyMeta      = 'm'
	keyDummy     = 'z'
)

func blockKey(kind byte, stream uint16, segment uint32, offset uint64) []byte {
	k := make([]byte, 15)
	k[0] = kind
	binary.BigEndian.PutUint16(k[1:], stream)
	binary.BigEndian.PutUint32(k[3:], segment)
	binary.BigEndian.PutUint64(k[7:], offset)
	return k
}

func parseBlockKey(k []byte) (segment uint32, offset uint64, ok bool) {
	if len(k) != 15 {
		return 0, 0, false
	}
	return binary.BigEndian.Uint32(k[3:]), binary.BigEndian.Uint64(k[7:]), true
}

func segmentKey(stream uint16, segment uint32) []byte {
	k := make([]byte, 7)
	k[0] = keySegment
	binary.BigEndian.PutUint16(k[1:], stream)
	binary.BigEndian.PutUint32(k[3:], segment)
	return k
}

func streamPrefix(kind byte, stream uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{kind}, stream)
}

func segmentPrefix(kind byte, stream uint16, segment uint32) []byte {
	return binary.BigEndian.AppendUint32(streamPrefix(kind, stream), segment)
}

func nameKey(kind byte, name string) []byte { return append([]byte{kind}, name...) }

func cursorKey(stream uint16, name string) []byte {
	return append(streamPrefix(keyCursor, stream), name...)
}

func replayKey(id uint64) []byte { return binary.BigEndian.AppendUint64([]byte{keyReplay}, id) }

func inputKey(processor string, sequence uint64) []byte {
	return binary.BigEndian.AppendUint64(append(nameKey(keyInput, processor), 0), sequence)
}

func heldKey(client string, id uint16) []byte {
	return binary.BigEndian.AppendUint16(append(nameKey(keyHeld, client), 0), id)
}

func retryKey(stream uint16, cursor string, offset uint64) []byte {
	k := append(append(streamPrefix(keyRetry, stream), cursor...), 0)
	return binary.BigEndian.AppendUint64(k, offset)
}

func settledKey(stream uint16, from uint64) []byte {
	return binary.BigEndian.AppendUint64(streamPrefix(keySettled, stream), from)
}
