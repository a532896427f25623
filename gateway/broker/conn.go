package broker

import (
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"holdfast/gateway/broker/packet"
	"holdfast/gateway/event"
)

const (
	idleBuffer  = 1 << 10  // read buffer of a connection with little to say
	busyBuffer  = 32 << 10 // and of one that fills it; larger packets get more
	quietReads  = 64       // so many small reads make a busy connection idle again
	keptOut     = 4 << 10  // write buffers above this size are given back
	maxUncommit = 8192     // messages of one client that may wait for the log

	writeTimeout = 10 * time.Second // for a client that does not read
	closeTimeout = 3 * time.Second  // for the last bytes to a client
	drainTimeout = 500 * time.Millisecond
)

var longAgo = time.Unix(1, 0)

// conn is the connection of one client. mochi reads the CONNECT from it and
// writes the CONNACK; all other packets are the broker's. What is written is
// queued, in order and in whole packets, and sent by a goroutine that lives as
// long as the queue has something: nobody who writes ever waits for the client.
type conn struct {
	net.Conn                 // the socket
	raw      syscall.RawConn // of the socket; nil if that is not a plain one
	b        *Broker
	over     chan struct{}     // closed when the connection is about to end
	from     Listener          // where the client connected
	cert     *x509.Certificate // that the client has proven to own, if any

	// Set while the session is established, constant from then on.
	id      string
	session *session
	present bool // the session was there before
	who     identity
	v5      bool
	ends    bool // the session ends with the connection (until DISCONNECT says otherwise)
	will    *will
	limit   int    // largest packet that the client takes, 0 if it did not say
	window  int    // messages at QoS 1 and 2 that the client takes at once
	expiry  uint32 // session expiry interval in seconds, for MQTT 5

	// Owned by the goroutine that reads.
	buf       []byte
	r, w      int                  // unread bytes are buf[r:w]
	need      int                  // size of the packet that is incomplete at buf[r:]
	pass      []byte               // rest of the packet that mochi is reading
	quiet     int                  // small reads in a row
	rights    *rights              // by which topics and aliases were judged
	topics    map[string]topicName // seen, so that a steady publisher costs no allocation
	aliases   []topicName          // topic aliases of the client
	keepAlive time.Duration        // time without a packet after which it is gone; 0 for ever
	refreshed time.Time            // when the read deadline was set
	heard     bool                 // a packet came since
	connected bool                 // CONNECT has been passed on
	bridge    bool                 // the client is another broker
	origin    *event.ID            // what its messages come from, if that is known
	hello     *packet.Connect      // what it said first, until mochi has judged that
	bye       bool                 // the client has taken its leave
	gone      bool                 // the client's end is closed
	noWill    bool                 // DISCONNECT said that there is to be none
	prior     *conn                // the client's connection before this one
	visit     string               // what mochi calls the connection, once it has a session
	// established is set, under mu, when mochi has answered CONNECT.
	established   bool
	keepAliveSecs uint16

	mu       sync.Mutex
	changed  sync.Cond // on mu: bytes were sent, a batch was committed, or the end is near
	out      []byte    // whole packets for the client
	spare    []byte
	packets  int // put into out that are not in the broker's count
	flushing bool
	serving  bool              // the session is established
	greeted  bool              // CONNACK has said so, and no DISCONNECT has followed
	paused   bool              // nothing more is read
	closing  bool              // nothing more is read or queued
	starved  bool              // somebody waits for the queue to become shorter
	aliasMax int               // topic aliases that the client takes
	given    map[string]uint16 // those that it has been given
	sendBy   time.Time
	kill     *time.Timer
	last     *flight // the newest batch that is not committed
	free     []*flight
	flights  int
	pending  int // messages with an acknowledgement to come that are not committed
	unacked  int // messages that count against the receive maximum
	haste    haste
	noted    int64 // window in which peers has counted the client; guarded by peers.mu
}

func newConn(b *Broker, socket net.Conn) *conn {
	c := &conn{Conn: socket, b: b, buf: make([]byte, idleBuffer), over: make(chan struct{})}
	c.changed.L = &c.mu
	_ = socket.SetReadDeadline(time.Now().Add(b.limits.ConnectTimeout))
	if plain, ok := socket.(syscall.Conn); ok {
		c.raw, _ = plain.SyscallConn()
	}
	return c
}

// Read gives mochi the next bytes of the next packet that is for it, and
// handles all packets before that.
func (c *conn) Read(p []byte) (int, error) {
	for len(c.pass) == 0 {
		if err := c.next(); err != nil {
			c.endWith(err)
			return 0, err
		}
	}
	n := copy(p, c.pass)
	c.pass = c.pass[n:]
	return n, nil
}

// endWith closes the connection after what Read met.
func (c *conn) endWith(err error) {
	var v *packet.Violation
	switch {
	case errors.As(err, &v):
		if v.Denied { // 3.1.1 has no other way to say so
			c.b.count.refused.Add(1)
		} else {
			c.b.count.violations[v.Reason].Add(1)
			c.b.say("mqtt protocol violation", c.name(), v)
		}
		if c.connected {
			c.disconnect(v.Reason)
		} else {
			c.refuse(v)
		}
	case errors.Is(err, errNoConnect):
		c.b.count.violations[0].Add(1)
		c.b.say("mqtt protocol violation", c.name(), err)
	case errors.Is(err, errSilent):
		c.disconnect(packet.KeepAliveTimeout)
	}
}

// hungUp reports whether the client has closed its end, as far as that can be
// seen without reading.
func (c *conn) hungUp() (gone bool) {
	if c.raw == nil {
		return false
	}
	_ = c.raw.Control(func(fd uintptr) {
		n, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		gone = n == 0 && err == nil || errors.Is(err, syscall.ECONNRESET)
	})
	return gone
}

// name is what the log calls the client.
func (c *conn) name() string {
	if c.id != "" {
		return c.id
	}
	return c.host()
}

// host is where the client is.
func (c *conn) host() string {
	host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
	return host
}

// next reads until there is a packet for mochi, or the client says goodbye.
func (c *conn) next() error {
	for {
		if err := c.take(); err != nil || len(c.pass) > 0 || c.bye {
			return err
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
}

// fill reads what the socket has, at least one byte.
func (c *conn) fill() error {
	for {
		if err := c.ready(); err != nil {
			return err
		}
		c.makeRoom()
		n, err := c.Conn.Read(c.buf[c.w:])
		c.w += n
		c.b.count.bytesIn.Add(uint64(n))
		switch {
		case n >= idleBuffer:
			c.quiet = 0
			return nil
		case n > 0:
			c.quiet++
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.mu.Lock()
			called := c.paused || c.closing
			c.mu.Unlock()
			if called {
				continue // ready knows what to do
			}
			if c.connected {
				return errSilent
			}
			return errNoConnect
		case err != nil:
			c.gone = true
			return err
		}
	}
}

// ready waits until more may be read: not while the client leaves what it is
// sent unread, nor while it has too much waiting for the log.
func (c *conn) ready() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.closing && (c.paused || c.pending >= maxUncommit || len(c.out) > c.b.maxQueued/4) {
		c.changed.Wait()
		c.heard = true // the wait is not the client's silence
	}
	if c.closing {
		return net.ErrClosed
	}
	if c.heard && c.serving {
		// Moving a deadline costs a timer operation, so it is done only when
		// it is worth it, and the deadline allows for that.
		c.heard = false
		now, slack := time.Now(), c.keepAlive/16
		if c.keepAlive > 0 && now.Sub(c.refreshed) >= slack {
			c.refreshed = now
			_ = c.Conn.SetReadDeadline(now.Add(c.keepAlive + slack))
		}
	}
	return nil
}

// makeRoom leaves free space in the buffer, which grows only as bytes arrive,
// whatever the length that a packet claims to have.
func (c *conn) makeRoom() {
	used, full, size := c.w-c.r, c.w == len(c.buf), len(c.buf)
	switch {
	case used == size:
		size = max(min(4*size, busyBuffer), min(2*size, c.need))
	case full && size < busyBuffer:
		size = min(4*size, busyBuffer) // there was more to read
	case used == 0 && size > busyBuffer:
		size = busyBuffer
	case used == 0 && size > idleBuffer && c.quiet > quietReads:
		size = idleBuffer
	}
	switch {
	case size != len(c.buf):
		buf := make([]byte, size)
		copy(buf, c.buf[c.r:c.w])
		c.buf = buf
	case used == 0 || full:
		copy(c.buf, c.buf[c.r:c.w])
	default:
		return
	}
	c.r, c.w = 0, used
}

// run serves the client, from CONNACK until the connection ends.
func (c *conn) run() error {
	c.pass = nil
	c.serve(c.keepAliveSecs)
	c.session.out.begin(c)
	for {
		if err := c.next(); err != nil {
			c.endWith(err)
			return err
		}
		if c.bye {
			return nil
		}
	}
}

// serve begins the work of an established session.
func (c *conn) serve(keepAlive uint16) {
	c.keepAlive = time.Duration(keepAlive) * time.Second * 3 / 2 // [MQTT-3.1.2-22]
	c.refreshed = time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serving = true
	c.b.count.connects.Add(1)
	if c.closing || c.paused {
		return
	}
	if c.keepAlive > 0 {
		_ = c.Conn.SetReadDeadline(c.refreshed.Add(c.keepAlive + c.keepAlive/16))
	} else {
		_ = c.Conn.SetReadDeadline(time.Time{})
	}
}

// SetDeadline does nothing: mochi computes the keep alive in 16 bits, and
// does not see the packets that are taken before it.
func (c *conn) SetDeadline(time.Time) error { return nil }

// Close ends the connection without waiting: what is queued is still sent,
// for at most closeTimeout, and the goroutine that reads is called back.
//
// mochi calls it when it has been made to let go of a connection that lasts.
func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.established {
		c.close()
	}
	return nil
}

func (c *conn) close() {
	if c.closing {
		return
	}
	c.closing = true
	close(c.over)
	c.kill = time.AfterFunc(closeTimeout, func() { _ = c.Conn.Close() })
	_ = c.Conn.SetReadDeadline(longAgo)
	c.changed.Broadcast()
}

// disconnect closes the connection, with the reason to a client that can read
// one.
func (c *conn) disconnect(reason byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return
	}
	if c.greeted && c.v5 {
		c.out = packet.AppendDisconnect(c.out, reason)
		c.packets++
		c.flush()
	}
	c.close()
}

// refuse answers a CONNECT that is not as it must be, where the version has an
// answer for that, and closes the connection.
func (c *conn) refuse(v *packet.Violation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return
	}
	c.out = v.AppendConnack(c.out, c.v5)
	c.flush()
	c.close()
}

// pause stops reading for good. Acknowledgements are still sent.
func (c *conn) pause() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.paused && !c.closing {
		c.paused = true
		_ = c.Conn.SetReadDeadline(longAgo)
	}
}

// finish releases the socket after mochi has left the connection. It waits
// until the queue is sent, and then shortly for the client to close first:
// closing with unread bytes would reset the connection, and the client might
// never see the reason.
func (c *conn) finish() {
	c.mu.Lock()
	c.close()
	for c.flushing {
		c.changed.Wait()
	}
	c.mu.Unlock()
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && !c.bye && !c.gone && half.CloseWrite() == nil {
		_ = c.Conn.SetReadDeadline(time.Now().Add(drainTimeout))
		_, _ = io.CopyN(io.Discard, c.Conn, 1<<20)
	}
	c.kill.Stop()
	_ = c.Conn.Close()
}
