//go:build prove

package prove

import (
	"bufio"
	"bytes"
	"context"
	endian "encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// subscriber is one MQTT 5 client with a session that lasts. It checks what
// publishers' messages come to it: each once and in order, but for duplicates
// that are marked as such.
type subscriber struct {
	addr    string
	id      string
	filter  string
	qos     byte
	maximum uint16 // Receive Maximum; 0 = none stated

	mu         sync.Mutex
	seen       [][]bool // by publisher and number
	last       []int    // the highest number by publisher
	count      int      // distinct messages
	duplicates int      // that were marked
	unmarked   int      // duplicates that were not
	disorder   int      // messages that came after a later one for the first time
	exceeded   int      // times that more than the Receive Maximum were open
	present    int      // connections that found their session
	connects   int

	held map[uint16]bool // packet identifiers between PUBLISH and PUBREL, over all connections
	conn atomic.Pointer[net.TCPConn]
}

// connect opens a connection, and subscribes if there was no session.
func (s *subscriber) connect() (c *net.TCPConn, r *bufio.Reader, took time.Duration, err error) {
	began := time.Now()
	nc, err := net.DialTimeout("tcp", s.addr, 5*time.Second)
	if err != nil {
		return nil, nil, 0, err
	}
	c = nc.(*net.TCPConn)
	defer func() {
		if err != nil {
			nc.Close()
		}
	}()
	props := []byte{0x11, 0, 0, 0x0e, 0x10}
	if s.maximum > 0 {
		props = append(props, 0x21, byte(s.maximum>>8), byte(s.maximum))
	}
	body := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 5, 0, 0, 0, byte(len(props))}, props...)
	body = append(append(body, 0, byte(len(s.id))), s.id...)
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err = c.Write(append([]byte{0x10, byte(len(body))}, body...)); err != nil {
		return nil, nil, 0, err
	}
	r = bufio.NewReaderSize(c, 32<<10)
	first, body, err := readPacket(r)
	if err != nil {
		return nil, nil, 0, err
	}
	if first != 0x20 || body[1] != 0 {
		return nil, nil, 0, fmt.Errorf("CONNACK % x", body)
	}
	took = time.Since(began)
	s.mu.Lock()
	s.connects++
	if body[0] == 1 {
		s.present++
	}
	s.mu.Unlock()
	if body[0] == 0 {
		body := append([]byte{0, 1, 0, 0, byte(len(s.filter))}, s.filter...)
		body = append(body, s.qos)
		if _, err = c.Write(append([]byte{0x82, byte(len(body))}, body...)); err != nil {
			return nil, nil, 0, err
		}
		for first>>4 != 9 {
			if first, _, err = readPacket(r); err != nil {
				return nil, nil, 0, err
			}
		}
	}
	c.SetDeadline(time.Time{})
	s.conn.Store(c)
	return c, r, took, nil
}

func readPacket(r *bufio.Reader) (first byte, body []byte, err error) {
	if first, err = r.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := endian.ReadUvarint(r)
	if err != nil {
		return 0, nil, err
	}
	body = make([]byte, n)
	_, err = io.ReadFull(r, body)
	return first, body, err
}

// run receives until ctx ends, over as many connections as it takes.
func (s *subscriber) run(ctx context.Context) {
	for ctx.Err() == nil {
		c, r, _, err := s.connect()
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		end := context.AfterFunc(ctx, func() { c.Close() })
		s.receive(c, r)
		end()
		c.Close()
	}
}

// receive takes messages until the connection ends. What comes in one go is
// acknowledged in one go.
func (s *subscriber) receive(c *net.TCPConn, r *bufio.Reader) {
	var acks []byte
	open := map[uint16]bool{}
	if s.held == nil {
		s.held = map[uint16]bool{}
	}
	for {
		first, body, err := readPacket(r)
		if err != nil {
			return
		}
		switch first >> 4 {
		case 3:
			n := 2 + int(endian.BigEndian.Uint16(body))
			id := uint16(0)
			if first&6 > 0 {
				id = endian.BigEndian.Uint16(body[n:])
				n += 2
				open[id] = true
			}
			props, k := endian.Uvarint(body[n:])
			if first&6 != 4 || !s.held[id] { // else it has been taken [MQTT-4.3.3-10]
				s.take(body[n+k+int(props):], first&8 > 0)
			}
			if s.maximum > 0 && len(open) > int(s.maximum) {
				s.mu.Lock()
				s.exceeded++
				s.mu.Unlock()
			}
			switch first & 6 {
			case 2:
				acks = append(acks, 0x40, 2, byte(id>>8), byte(id))
				delete(open, id)
			case 4:
				s.held[id] = true
				acks = append(acks, 0x50, 2, byte(id>>8), byte(id))
			}
		case 6:
			acks = append(acks, 0x70, 2, body[0], body[1])
			delete(open, endian.BigEndian.Uint16(body))
			delete(s.held, endian.BigEndian.Uint16(body))
		case 14:
			return
		}
		if len(acks) > 0 && r.Buffered() == 0 {
			if _, err := c.Write(acks); err != nil {
				return
			}
			acks = acks[:0]
		}
	}
}

func (s *subscriber) take(payload []byte, dup bool) {
	p, err1 := number(payload, `"p":`)
	n, err2 := number(payload, `"n":`)
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Join(err1, err2) != nil {
		s.disorder++
		return
	}
	for len(s.seen) <= p {
		s.seen, s.last = append(s.seen, nil), append(s.last, -1)
	}
	for len(s.seen[p]) <= n {
		s.seen[p] = append(s.seen[p], false)
	}
	switch {
	case s.seen[p][n] && dup:
		s.duplicates++
	case s.seen[p][n]:
		s.unmarked++
	default:
		if n < s.last[p] {
			s.disorder++
		}
		s.seen[p][n] = true
		s.count++
	}
	s.last[p] = max(s.last[p], n)
}

// number reads the number behind a key of a publisher's payload.
func number(b []byte, key string) (int, error) {
	_, b, ok := bytes.Cut(b, []byte(key))
	if !ok {
		return 0, fmt.Errorf("no %s", key)
	}
	end := bytes.IndexAny(b, ",}")
	return strconv.Atoi(string(b[:max(end, 0)]))
}

func (s *subscriber) distinct() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// missing counts the messages of the fleet that were acknowledged and did not
// come.
func (s *subscriber) missing(f *fleet) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range f.publishers {
		p.mu.Lock()
		for i, acked := range p.acked {
			if acked && (p.number >= len(s.seen) || i >= len(s.seen[p.number]) || !s.seen[p.number][i]) {
				n++
			}
		}
		p.mu.Unlock()
	}
	return n
}

// check fails the proof if anything but marked duplicates came twice, or out
// of order, or beyond the Receive Maximum.
func (s *subscriber) check(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.qos == 2 && s.duplicates > 0 {
		t.Errorf("%s: %d messages came twice at QoS 2", s.id, s.duplicates)
	}
	if s.unmarked > 0 || s.disorder > 0 || s.exceeded > 0 {
		t.Errorf("%s: %d messages came twice without DUP, %d out of order, %d beyond the Receive Maximum", s.id, s.unmarked, s.disorder, s.exceeded)
	}
}
