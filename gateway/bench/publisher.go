package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

const (
	maxWindow  = 16384
	writeChunk = 64 << 10 // encode so much before writing
)

// publisher is the end that sends.
type publisher struct {
	link
	packet   []byte // the PUBLISH packet whose digits change
	atID     int    // where its packet identifier is; 0 at QoS 0
	readings *readings
	window   int

	ids      uint16  // mask of the packet identifiers in use
	next     uint16  // the last packet identifier given
	sent     []int64 // by packet identifier: when it was written, in ns; 0 = free
	inflight int
	trail    *trail // nil if nobody subscribes
}

// newPublisher connects as client number n.
func newPublisher(ctx context.Context, l Load, n int, noise []byte) (*publisher, error) {
	r, err := newReadings(n, l.Size, noise)
	if err != nil {
		return nil, err
	}
	p := &publisher{link: link{fd: -1}, readings: r, window: l.Window}
	topic := l.topic(n)
	p.packet = AppendPublish(nil, l.Version, topic, r.payload, l.QoS, 0, false)
	at := len(p.packet) - len(r.payload)
	r.payload = p.packet[at:] // from now on readings are written into the packet
	if l.QoS > 0 {
		p.atID = at - 2
		if l.Version == 5 {
			p.atID--
		}
		size := 2
		for size < l.Window+1 {
			size *= 2
		}
		p.ids, p.sent = uint16(size-1), make([]int64, size)
	}
	if l.Subscribers > 0 {
		p.trail = newTrail(l.Window, len(p.sent))
	}
	login := Login{ClientID: fmt.Sprintf("%s%d", l.ClientID, n), Username: l.Username, Password: l.Password, Version: l.Version}
	if err := p.connect(ctx, l.Addr, login); err != nil {
		return nil, err
	}
	return p, nil
}

// room is how many messages may be published now: what the window leaves, or
// at QoS 0 what the socket has taken.
func (p *publisher) room() int {
	switch {
	case p.broken != nil:
		return 0
	case p.atID == 0:
		return max(0, (writeChunk-len(p.out)+p.written)/len(p.packet))
	default:
		return p.window - p.inflight
	}
}

// publish encodes up to n messages and returns how many; they are written by
// flush.
func (p *publisher) publish(n int, now time.Time, ns int64) int {
	ms := now.UnixMilli()
	for i := range n {
		if p.atID > 0 {
			id := p.next&p.ids + 1
			if p.sent[id-1] != 0 {
				return i // acknowledged out of order: this one is still out
			}
			p.next, p.sent[id-1] = id, ns
			p.inflight++
			binary.BigEndian.PutUint16(p.packet[p.atID:], id)
		}
		if p.trail != nil {
			p.trail.add(p.readings.seq, ns, p.next)
		}
		p.readings.next(ms)
		p.out = append(p.out, p.packet...)
	}
	return n
}

func (p *publisher) parse(b []byte, ns int64, t *tally) {
	if len(p.in) > 0 {
		p.in = append(p.in, b...)
		b = p.in
	}
	var same, run int64 // acknowledgements of one write have one latency
	for {
		first, body, rest, ok, err := NextPacket(b)
		if err != nil {
			p.broken = err
			break
		}
		if !ok {
			break
		}
		b = rest
		switch first >> 4 {
		case typePuback:
			a, err := ParseAck(body)
			if err != nil || a.ID == 0 || int(a.ID) > len(p.sent) || p.sent[a.ID-1] == 0 {
				p.broken = errors.Join(fmt.Errorf("PUBACK for packet %d, which is not outstanding", a.ID), err)
				return
			}
			if at := p.sent[a.ID-1]; at != same {
				t.latencies.Add(time.Duration(ns-same), int(run))
				same, run = at, 0
			}
			p.sent[a.ID-1] = 0
			p.inflight--
			if a.Code >= 0x80 {
				t.refused++
				if p.trail != nil {
					p.trail.excuse(a.ID)
				}
			} else {
				run++
				t.acknowledged++
			}
		case typePingresp:
			p.pong = true
		case typeDisconnect:
			p.broken = fmt.Errorf("the broker disconnected: % x", body)
		}
	}
	t.latencies.Add(time.Duration(ns-same), int(run))
	p.in = append(p.in[:0], b...)
}
