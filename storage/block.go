package storage

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/s2"

	"holdfast/gateway/event"
)

// A block is the unit of storage: consecutive records of one stream in one
// Badger value.
//
//	 0  version, 1
//	 1  codec: 0 none, 1 S2
//	 2  CRC-32C of all that follows, little endian
//	 6  epoch of its events, 8 bytes
//	14  offset of its first event (uvarint)
//	    number of events (uvarint)
//	    bytes of the body before compression (uvarint)
//	    body: records
const (
	blockVersion = 1

	codecNone = 0
	codecS2   = 1

	// BlockBytes is where a block ends: the next record would make its body
	// larger. A record that is larger by itself is a block of its own.
	BlockBytes = 64 << 10

	// Below this a body is stored as it is: there is nothing to gain.
	compressFrom = 256

	// maxBody bounds what a damaged length can make a reader allocate: MQTT's
	// largest packet.
	maxBody = 256 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sealBlock appends to dst the block of the records in e.
func sealBlock(dst []byte, e *encoder, epoch, first uint64) []byte {
	start := len(dst)
	dst = append(dst, blockVersion, codecNone, 0, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, epoch)
	dst = binary.AppendUvarint(dst, first)
	dst = binary.AppendUvarint(dst, uint64(e.count))
	dst = binary.AppendUvarint(dst, uint64(len(e.buf)))
	body := len(dst)
	if len(e.buf) >= compressFrom {
		need := s2.MaxEncodedLen(len(e.buf))
		for cap(dst)-body < need {
			dst = append(dst[:cap(dst)], 0)
		}
		packed := s2.Encode(dst[body:body+need], e.buf)
		if len(packed) < len(e.buf) {
			dst = dst[:body+len(packed)]
			dst[start+1] = codecS2
		} else {
			dst = dst[:body]
		}
	}
	if dst[start+1] == codecNone {
		dst = append(dst[:body], e.buf...)
	}
	binary.LittleEndian.PutUint32(dst[start+2:], crc32.Checksum(dst[start+6:], castagnoli))
	return dst
}

// openBlock checks a block and returns its events in offset order. They point
// into memory of their own, not into b.
func openBlock(b []byte) ([]event.Event, error) {
	if len(b) < 14 || b[0] != blockVersion {
		return nil, fmt.Errorf("%w: no block of version %d", ErrFormat, blockVersion)
	}
	codec, sum := b[1], binary.LittleEndian.Uint32(b[2:])
	if got := crc32.Checksum(b[6:], castagnoli); got != sum {
		return nil, fmt.Errorf("%w: checksum %08x, want %08x", ErrFormat, got, sum)
	}
	head := decoder{b: b[14:]}
	epoch := binary.LittleEndian.Uint64(b[6:])
	first, count, raw := head.uvarint(), head.uvarint(), head.uvarint()
	if head.bad || raw > maxBody || count > raw {
		return nil, fmt.Errorf("%w: block header", ErrFormat)
	}
	var body []byte
	switch codec {
	case codecNone:
		body = append([]byte(nil), head.b...)
	case codecS2:
		n, err := s2.DecodedLen(head.b)
		if err != nil || uint64(n) != raw {
			return nil, fmt.Errorf("%w: block body length", ErrFormat)
		}
		if body, err = s2.Decode(nil, head.b); err != nil {
			return nil, fmt.Errorf("%w: block body: %w", ErrFormat, err)
		}
	default:
		return nil, fmt.Errorf("%w: codec %d is of a later version", ErrFormat, codec)
	}
	if uint64(len(body)) != raw {
		return nil, fmt.Errorf("%w: block body length", ErrFormat)
	}
	events := make([]event.Event, count)
	d := decoder{b: body}
	for i := range events {
		if err := d.next(&events[i]); err != nil {
			return nil, err
		}
		events[i].Epoch, events[i].Offset = epoch, first+uint64(i)
	}
	if len(d.b) != 0 {
		return nil, fmt.Errorf("%w: %d bytes behind the last record", ErrFormat, len(d.b))
	}
	return events, nil
}
