package bench

import (
	"context"
	"fmt"
	"math"
	"syscall"
	"time"
)

// drainLimit is how long a run waits for outstanding acknowledgements after
// its last message.
const drainLimit = 10 * time.Second

// With windows of deepWindow and more, a saturating load rests for a moment
// before it looks for acknowledgements again. A broker that writes each PUBACK
// by itself would otherwise wake the generator for each of them, which costs
// both more than the messages do; a client on another machine takes nothing
// from the broker either. The rest is in the latencies, whose size is then
// that of a full window: some milliseconds.
const (
	deepWindow = 64
	rest       = 200 * time.Microsecond
)

// driver runs all publishers of a load in one goroutine.
type driver struct {
	load       Load
	epoll      int
	publishers []*publisher
	buf        []byte
	events     []syscall.EpollEvent
	tally      tally
	sent       int64
	turn       int // who publishes first in the next round
}

// tally counts answers.
type tally struct {
	acknowledged int64
	refused      int64
	latencies    Latencies
}

func newDriver(ctx context.Context, l Load) (*driver, error) {
	d := &driver{load: l, epoll: -1, buf: make([]byte, 64<<10), events: make([]syscall.EpollEvent, 256)}
	var err error
	if d.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("prepare load: epoll: %w", err)
	}
	var noise []byte
	if l.Size >= leastPadded {
		noise = newNoise()
	}
	for n := range l.Clients {
		p, err := newPublisher(ctx, l, n, noise)
		if err == nil {
			d.publishers = append(d.publishers, p)
			const edge = 1 << 31 // EPOLLET, which package syscall has as a negative number
			e := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP | edge, Fd: int32(n)}
			err = syscall.EpollCtl(d.epoll, syscall.EPOLL_CTL_ADD, p.fd, &e)
		}
		if err != nil {
			d.close()
			return nil, err
		}
	}
	return d, nil
}

func (d *driver) close() {
	for _, p := range d.publishers {
		p.close()
	}
	syscall.Close(d.epoll)
}

func (d *driver) run(ctx context.Context) (Result, error) {
	start := time.Now()
	from, end := start.Add(d.load.Warmup), start.Add(d.load.Warmup+d.load.Duration)
	measured := d.load.Warmup == 0
	now := start
	for now.Before(end) && ctx.Err() == nil && d.left() > 0 {
		if !measured && !now.Before(from) {
			measured, from = true, now
			d.tally = tally{refused: d.tally.refused}
			if d.load.QoS == 0 {
				d.tally.acknowledged = -d.sent
			}
		}
		wait := end.Sub(now)
		if d.load.Rate > 0 {
			wait = min(wait, d.pace(start, now))
		} else if d.saturate(start, now) && d.load.QoS == 0 {
			wait = 0
		}
		if d.load.Rate == 0 && d.load.QoS > 0 && d.load.Window >= deepWindow {
			pause := syscall.NsecToTimespec(int64(rest))
			_ = syscall.Nanosleep(&pause, nil) // an early end does no harm
		}
		var err error
		if now, err = d.poll(start, wait); err != nil {
			return Result{}, err
		}
		if d.allBroken() {
			break
		}
	}
	if d.load.QoS == 0 {
		if err := d.ping(start); err != nil {
			return Result{}, err
		}
		now = time.Now()
		d.tally.acknowledged += d.sent
	}
	res := Result{Addr: d.load.Addr, Elapsed: now.Sub(from), Acknowledged: d.tally.acknowledged,
		P50: d.tally.latencies.Quantile(0.5), P99: d.tally.latencies.Quantile(0.99), Max: d.tally.latencies.Max()}
	if res.Elapsed > 0 {
		res.PerSecond = float64(res.Acknowledged) / res.Elapsed.Seconds()
	}
	if err := d.drain(start); err != nil {
		return Result{}, err
	}
	res.Sent, res.Refused = d.sent, d.tally.refused
	for n, p := range d.publishers {
		res.Unacknowledged += int64(p.inflight)
		if p.broken != nil {
			res.Errors = append(res.Errors, fmt.Sprintf("client %d: %v", n, p.broken))
		}
	}
	return res, nil
}

// left is how many messages may still be sent.
func (d *driver) left() int64 {
	if d.load.Messages == 0 {
		return math.MaxInt64
	}
	return d.load.Messages - d.sent
}

// saturate publishes all that the windows allow and reports whether it did.
// It waits until a quarter of a window is free, so that writes carry many
// messages.
func (d *driver) saturate(start, now time.Time) bool {
	any := false
	for _, p := range d.publishers {
		if room := p.room(); room > 0 && room >= d.load.Window/4 && !p.unwritten() {
			room = int(min(int64(room), d.left()))
			d.sent += int64(p.publish(room, now, int64(now.Sub(start))+1))
			p.flush()
			any = true
		}
	}
	return any
}

// pace publishes what is due by the rate, spread evenly over the publishers,
// and returns the time until the next message is due.
func (d *driver) pace(start, now time.Time) time.Duration {
	rate := float64(d.load.Rate)
	due := min(int64(now.Sub(start).Seconds()*rate)-d.sent, d.left())
	for stuck := 0; due > 0 && stuck < len(d.publishers); d.turn++ {
		p := d.publishers[d.turn%len(d.publishers)]
		if p.room() > 0 && p.publish(1, now, int64(now.Sub(start))+1) == 1 {
			d.sent++
			due--
			stuck = 0
		} else {
			stuck++
		}
	}
	for _, p := range d.publishers {
		p.flush()
	}
	if due > 0 {
		return time.Second // an acknowledgement or room in the socket comes first
	}
	next := time.Duration(float64(d.sent+1) / rate * 1e9)
	return max(next-now.Sub(start), 0)
}

// poll waits for answers or room to write, at most for wait, and takes them
// in. It returns the time after the wait.
func (d *driver) poll(start time.Time, wait time.Duration) (time.Time, error) {
	ms := int((wait + time.Millisecond - 1) / time.Millisecond)
	n, err := syscall.EpollWait(d.epoll, d.events, ms)
	if err != nil && err != syscall.EINTR {
		return time.Time{}, fmt.Errorf("wait for acknowledgements: %w", err)
	}
	now := time.Now()
	ns := int64(now.Sub(start)) + 1
	for _, e := range d.events[:max(n, 0)] {
		p := d.publishers[e.Fd]
		if e.Events&syscall.EPOLLOUT != 0 && p.unwritten() {
			p.flush()
		}
		if e.Events&^syscall.EPOLLOUT != 0 {
			const ends = syscall.EPOLLRDHUP | syscall.EPOLLHUP | syscall.EPOLLERR
			p.receive(d.buf, e.Events&ends != 0, ns, &d.tally)
		}
	}
	return now, nil
}

// ping asks each broker connection for a sign that all before it was read.
func (d *driver) ping(start time.Time) error {
	for _, p := range d.publishers {
		p.out = append(p.out, pingreq...)
		p.flush()
	}
	return d.await(start, func(p *publisher) bool { return p.pong })
}

// drain waits for the acknowledgements that are still out.
func (d *driver) drain(start time.Time) error {
	return d.await(start, func(p *publisher) bool { return p.inflight == 0 })
}

func (d *driver) await(start time.Time, done func(*publisher) bool) error {
	for end := time.Now().Add(drainLimit); ; {
		open := false
		for _, p := range d.publishers {
			open = open || p.broken == nil && !done(p)
		}
		left := time.Until(end)
		if !open || left <= 0 {
			return nil
		}
		if _, err := d.poll(start, left); err != nil {
			return err
		}
	}
}

func (d *driver) allBroken() bool {
	for _, p := range d.publishers {
		if p.broken == nil {
			return false
		}
	}
	return true
}
