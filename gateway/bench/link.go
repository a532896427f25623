package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

const connectLimit = 10 * time.Second

// link is one connection of a load. All its methods belong to the goroutine of
// the driver.
type link struct {
	fd      int
	out     []byte // encoded, not yet written
	written int    // how much of out is written
	in      []byte // read, an incomplete packet
	pong    bool   // a PINGRESP came
	broken  error
}

// connect opens the socket and takes it out of the hands of the Go runtime,
// whose poller would wake a goroutine for every acknowledgement.
func (k *link) connect(ctx context.Context, addr string, login Login) error {
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
		if k.fd, dup = syscall.Dup(int(fd)); dup == nil {
			syscall.CloseOnExec(k.fd)
		}
	})
	if err = errors.Join(err, dup); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrConnect, addr, err)
	}
	return nil
}

// ErrConnect is wrapped by errors of reaching a broker.
var ErrConnect = errors.New("broker not reachable")

// Dial connects to a broker and logs in. present reports that the broker kept
// a session of an earlier connection. The error wraps ErrConnect, or a
// [*RefusedError] of a broker that was reached.
func Dial(ctx context.Context, addr string, login Login) (c *net.TCPConn, present bool, err error) {
	c, present, err = dial(ctx, addr, login)
	var refused *RefusedError
	switch {
	case err == nil:
		return c, present, nil
	case errors.As(err, &refused):
		refused.Addr = addr
		return nil, false, refused
	}
	return nil, false, fmt.Errorf("%w: %s: %w", ErrConnect, addr, err)
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

// flush writes what the socket takes. The rest waits for the next call.
func (k *link) flush() {
	for k.broken == nil && k.written < len(k.out) {
		n, err := syscall.Write(k.fd, k.out[k.written:])
		switch {
		case err == syscall.EAGAIN:
			return
		case err == syscall.EINTR:
		case err != nil:
			k.broken = fmt.Errorf("write: %w", err)
		default:
			k.written += n
		}
	}
	k.out, k.written = k.out[:0], 0
}

// An end of a load is a link with a purpose. parse takes what was read at ns
// and counts it into t; it keeps what is incomplete in the link.
type end interface {
	parse(b []byte, ns int64, t *tally)
}

// receive reads what has come and hands it to the end that k belongs to. It
// reads until the socket is empty, as edge-triggered polling demands; a short
// read says so, unless the end of the connection came in the same edge.
func (k *link) receive(to end, buf []byte, ended bool, ns int64, t *tally) {
	for k.broken == nil {
		n, err := syscall.Read(k.fd, buf)
		switch {
		case err == syscall.EAGAIN:
			return
		case err == syscall.EINTR:
			continue
		case err != nil:
			k.broken = fmt.Errorf("read: %w", err)
			return
		case n == 0:
			k.broken = errors.New("the broker closed the connection")
			return
		}
		to.parse(buf[:n], ns, t)
		if n < len(buf) && !ended {
			return
		}
	}
}

// unwritten reports whether flush left something.
func (k *link) unwritten() bool { return k.broken == nil && k.written < len(k.out) }

func (k *link) close() {
	if k.fd < 0 {
		return
	}
	if k.broken == nil && !k.unwritten() {
		_, _ = syscall.Write(k.fd, disconnect) // a courtesy
	}
	syscall.Close(k.fd)
	k.fd = -1
}
