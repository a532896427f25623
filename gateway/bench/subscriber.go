package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"time"
)

// subscriber is an end that is sent all messages of a load, and checks them.
type subscriber struct {
	link
	version    byte
	size       int // of a payload
	granted    bool
	since      int64 // ms since 1970; what was sent before is of another run
	publishers []*publisher
	deliveries []deliveries // by publisher

	received   int64 // all that follows included
	duplicates int64
	late       int64
	foreign    int64
}

// newSubscriber connects as subscriber number n, and encodes its subscription.
func newSubscriber(ctx context.Context, l Load, n int, publishers []*publisher) (*subscriber, error) {
	s := &subscriber{
		link: link{fd: -1}, version: l.Version, size: l.Size,
		publishers: publishers, deliveries: make([]deliveries, len(publishers)),
	}
	login := Login{ClientID: fmt.Sprintf("%ssub-%d", l.ClientID, n), Username: l.Username, Password: l.Password, Version: l.Version}
	if err := s.connect(ctx, l.Addr, login); err != nil {
		return nil, err
	}
	s.out = appendSubscribe(s.out, l.Version, l.filter(), l.SubQoS)
	return s, nil
}

func (s *subscriber) parse(b []byte, ns int64, t *tally) {
	if len(s.in) > 0 {
		s.in = append(s.in, b...)
		b = s.in
	}
	for s.broken == nil {
		first, body, rest, ok, err := NextPacket(b)
		if err != nil {
			s.broken = err
		}
		if !ok {
			break
		}
		b = rest
		switch first >> 4 {
		case typePublish:
			payload, id, err := cutPublish(first, s.version, body)
			if err != nil {
				s.broken = err
				break
			}
			if id > 0 {
				s.out = append(s.out, typePuback<<4, 2)
				s.out = binary.BigEndian.AppendUint16(s.out, id)
			}
			s.take(payload, ns, t)
		case typeSuback:
			if code := body[max(len(body)-1, 0):]; len(code) == 0 || code[0] >= 0x80 {
				s.broken = fmt.Errorf("the broker refused the subscription with % x", code)
			}
			s.granted = true
		case typePingresp:
			s.pong = true
		case typeDisconnect:
			s.broken = fmt.Errorf("the broker disconnected: % x", body)
		}
	}
	s.in = append(s.in[:0], b...)
	s.flush()
}

// take checks one message that was read at ns.
func (s *subscriber) take(payload []byte, ns int64, t *tally) {
	s.received++
	n, seq, ms, ok := readReading(payload)
	if !ok || len(payload) != s.size || n >= uint64(len(s.publishers)) || ms < s.since || seq >= s.publishers[n].readings.seq {
		s.foreign++
		return
	}
	switch s.deliveries[n].add(seq) {
	case again:
		s.duplicates++
		return
	case late:
		s.late++
	}
	t.delivered++
	at, ok := s.publishers[n].trail.sentAt(seq)
	if !ok { // far behind: a millisecond makes no difference
		at = (ms - s.since) * int64(time.Millisecond)
	}
	t.deliveries.Add(time.Duration(ns-at), 1)
}

// missing is how many messages were owed and never came.
func (s *subscriber) missing() int64 {
	n := int64(0)
	for i, p := range s.publishers {
		d := &s.deliveries[i]
		if p.broken != nil && p.atID == 0 {
			// Nobody knows how far the broker has read.
			n += int64(d.next - d.count)
			continue
		}
		n += int64(p.readings.seq - d.count)
		p.unowed(func(seq uint64) {
			if !d.has(seq) {
				n--
			}
		})
	}
	return n
}

// deliveries are the messages of one publisher that came to one subscriber.
type deliveries struct {
	seen  []uint64 // one bit for each message
	count uint64   // distinct messages
	next  uint64   // one more than the highest
}

// How a message came.
const (
	inOrder = iota
	late    // after a later one
	again
)

func (d *deliveries) add(seq uint64) int {
	if d.has(seq) {
		return again
	}
	for uint64(len(d.seen)) <= seq/64 {
		d.seen = append(d.seen, 0)
	}
	d.seen[seq/64] |= 1 << (seq % 64)
	d.count++
	if seq < d.next {
		return late
	}
	d.next = seq + 1
	return inOrder
}

func (d *deliveries) has(seq uint64) bool {
	return seq/64 < uint64(len(d.seen)) && d.seen[seq/64]>>(seq%64)&1 == 1
}

// readReading returns what identifies a payload that readings made: the client,
// the number of the message and when it was taken, in ms since 1970.
func readReading(p []byte) (client, seq uint64, ms int64, ok bool) {
	if len(p) < MinSize || !bytes.HasPrefix(p, []byte(reading[:atDevice])) {
		return 0, 0, 0, false
	}
	client, ok1 := number(p[atDevice : atDevice+8])
	seq, ok2 := number(p[atSeq+1 : atSeq+10])
	ts, ok3 := number(p[atTS : atTS+13])
	return client, seq, int64(ts), ok1 && ok2 && ok3
}

// number is the inverse of digits.
func number(p []byte) (n uint64, ok bool) {
	for _, c := range p {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}
