package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

const (
	maxWindow    = 16384
	connectLimit = 10 * time.Second
	writeChunk   = 64 << 10 // encode so much before writing
)

// publisher is one connection of a load. All its methods belong to the
// goroutine of the driver.
type publisher struct {
	fd       int
	packet   []byte // the PUBLISH packet whose digits change
	atID     int    // where its packet identifier is; 0 at QoS 0
	readings *readings
	window   int

	out     []byte // encoded, not yet written
	written int    // how much of out is written
	in      []byte // read, an incomplete packet

	ids      uint16  // mask of the packet identifiers in use
	next     uint16  // the last packet identifier given
	sent     []int64 // by packet identifier: when it was written, in ns; 0 = free
	inflight int
	pong     bool // a PINGRESP came
	broken   error
}

// newPublisher connects as client number n.
func newPublisher(ctx context.Context, l Load, n int, noise []byte) (*publisher, error) {
	r, err := newReadings(n, l.Size, noise)
	if err != nil {
		return nil, err
	}
	p := &publisher{fd: -1, readings: r, window: l.Window}
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
	login := Login{ClientID: fmt.Sprintf("%s%d", l.ClientID, n), Username: l.Username, Password: l.Password, Version: l.Version}
	if err := p.connect(ctx, l.Addr, login); err != nil {
		return nil, err
	}
	return p, nil
}

// connect opens the socket and takes it out of the hands of the Go runtime,
// whose poller would wake a goroutine for every acknowledgement.
func (p *publisher) connect(ctx context.Context, addr string, login Login) error {
	c, _, err := Dial(ctx, addr, login)
	if err != nil {
		return err
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrConnect, addr, err)
	}
	var dup error
	err = raw.Control(func(fd uintptr) {
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		if p.fd, dup = syscall.Dup(int(fd)); dup == nil {
			syscall.CloseOnExec(p.fd)
		}
	})
	if err = errors.Join(err, dup); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrConnect, addr, err)
	}
	return nil
}

// ErrConnect is wrapped by errors of connecting to a broker or logging in.
var ErrConnect = errors.New("broker not reachable")

// Dial connects to a broker and logs in. present reports that the broker kept
// a session of an earlier connection.
func Dial(ctx context.Context, addr string, login Login) (c *net.TCPConn, present bool, err error) {
	c, present, err = dial(ctx, addr, login)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %s: %w", ErrConnect, addr, err)
	}
	return c, present, nil
}

func dial(ctx context.Context, addr string, login Login) (c *net.TCPConn, present bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, false, err
	}
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	if _, err := conn.Write(AppendConnect(nil, login)); err != nil {
		return nil, false, err
	}
	var in []byte
	for buf := make([]byte, 512); ; {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, false, fmt.Errorf("wait for CONNACK: %w", err)
		}
		in = append(in, buf[:n]...)
		first, body, _, ok, err := NextPacket(in)
		if err == nil && !ok {
			continue
		}
		if err == nil {
			err = ParseConnack(first, body)
		}
		if err != nil {
			return nil, false, err
		}
		conn.SetDeadline(time.Time{})
		return conn.(*net.TCPConn), body[0]&1 == 1, nil
	}
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
		p.readings.next(ms)
		p.out = append(p.out, p.packet...)
	}
	return n
}

// flush writes what the socket takes. The rest waits for the next call.
func (p *publisher) flush() {
	for p.broken == nil && p.written < len(p.out) {
		n, err := syscall.Write(p.fd, p.out[p.written:])
		switch {
		case err == syscall.EAGAIN:
			return
		case err == syscall.EINTR:
		case err != nil:
			p.broken = fmt.Errorf("write: %w", err)
		default:
			p.written += n
		}
	}
	p.out, p.written = p.out[:0], 0
}

// receive reads what has come and counts it into t. It reads until the socket
// is empty, as edge-triggered polling demands; a short read says so, unless
// the end of the connection came in the same edge.
func (p *publisher) receive(buf []byte, ended bool, ns int64, t *tally) {
	for p.broken == nil {
		n, err := syscall.Read(p.fd, buf)
		switch {
		case err == syscall.EAGAIN:
			return
		case err == syscall.EINTR:
			continue
		case err != nil:
			p.broken = fmt.Errorf("read: %w", err)
			return
		case n == 0:
			p.broken = errors.New("the broker closed the connection")
			return
		}
		p.parse(buf[:n], ns, t)
		if n < len(buf) && !ended {
			return
		}
	}
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

// unwritten reports whether flush left something.
func (p *publisher) unwritten() bool { return p.broken == nil && p.written < len(p.out) }

func (p *publisher) close() {
	if p.fd < 0 {
		return
	}
	if p.broken == nil && !p.unwritten() {
		_, _ = syscall.Write(p.fd, disconnect) // a courtesy
	}
	syscall.Close(p.fd)
	p.fd = -1
}
