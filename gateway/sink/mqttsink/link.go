package mqttsink

import (
	"bufio"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	maxWrite  = 64 << 10        // bytes given to the network at once
	lastWords = 1 * time.Second // for what is still to be written when paho closes
)

// errClosed is the reason when paho ends a connection by itself: because we
// asked it to, and nobody reads this, or because a ping was not answered.
var errClosed = errors.New("the far side does not answer pings")

// link is the one network connection of a paho client. It knows first when the
// connection is lost, and why; paho tells late or not at all.
//
// Writing never blocks: paho holds its callers for up to 30 s while a write
// waits for a stalled far side. What is written is bounded by the messages in
// flight, and goes out in few large writes instead of one for every packet.
type link struct {
	conn  net.Conn
	in    *bufio.Reader // paho reads single bytes
	guard guard
	down  chan struct{} // closed when the connection is lost
	wake  chan struct{} // there is something in out, or closing
	idle  chan struct{} // closed when flush has ended
	met   chan struct{} // closed when the far side has told its name

	mu      sync.Mutex
	out     []byte // not given to the network yet
	closing bool
	err     error  // why the connection was lost
	peer    string // the far side, if it is a gateway
}

func newLink(conn net.Conn) *link {
	l := &link{
		conn: conn, in: bufio.NewReaderSize(conn, 16<<10),
		down: make(chan struct{}), wake: make(chan struct{}, 1), idle: make(chan struct{}), met: make(chan struct{}),
	}
	go l.flush()
	return l
}

// subscribed tells the guard how many filters the SUBSCRIBE to come has. It is
// called at most once, before that is sent.
func (l *link) subscribed(filters int) { l.guard.filters.Store(int32(filters)) }

// fail ends the connection at once; the first error is the reason.
func (l *link) fail(err error) {
	l.mu.Lock()
	if l.err == nil {
		l.err = err
		close(l.down)
	}
	l.mu.Unlock()
	_ = l.conn.Close()
}

// cause returns why the connection was lost, nil while it is up.
func (l *link) cause() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *link) isDown() bool {
	select {
	case <-l.down:
		return true
	default:
		return false
	}
}

// Read hands paho what the guard has passed. Its error is never that of a
// closed socket, for paho would take that as its own doing and stay connected.
func (l *link) Read(p []byte) (int, error) {
	n, err := l.in.Read(p)
	if err == nil {
		err = l.guard.check(p[:n])
	}
	if err != nil {
		l.fail(err)
		return 0, l.cause()
	}
	return n, nil
}

// Write takes p and returns at once.
func (l *link) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return 0, l.err
	}
	l.out = append(l.out, p...)
	l.signal()
	return len(p), nil
}

func (l *link) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// flush writes until the connection is lost or closed.
func (l *link) flush() {
	defer close(l.idle)
	var spare []byte
	for {
		l.mu.Lock()
		data, end := l.out, l.closing
		l.out = spare[:0]
		l.mu.Unlock()
		for rest := data; len(rest) > 0; {
			n, err := l.conn.Write(rest[:min(len(rest), maxWrite)])
			if err != nil {
				l.fail(err)
				return
			}
			rest = rest[n:]
		}
		if spare = data; cap(spare) > 1<<20 {
			spare = nil
		}
		if len(data) > 0 {
			continue
		}
		if end {
			return
		}
		select {
		case <-l.wake:
		case <-l.down:
			return
		}
	}
}

// Close is how paho ends the connection. What it has written before, such as a
// DISCONNECT, goes out first if the far side takes it.
func (l *link) Close() error {
	l.mu.Lock()
	l.closing = true
	l.signal()
	l.mu.Unlock()
	patience := time.NewTimer(lastWords)
	defer patience.Stop()
	select {
	case <-l.idle:
	case <-patience.C:
	}
	l.fail(errClosed)
	return nil
}

func (l *link) LocalAddr() net.Addr  { return l.conn.LocalAddr() }
func (l *link) RemoteAddr() net.Addr { return l.conn.RemoteAddr() }

// SetDeadline is how paho bounds the handshake.
func (l *link) SetDeadline(t time.Time) error     { return l.conn.SetDeadline(t) }
func (l *link) SetReadDeadline(t time.Time) error { return l.conn.SetReadDeadline(t) }

// SetWriteDeadline does nothing: no write of paho waits for the network.
func (l *link) SetWriteDeadline(time.Time) error { return nil }
