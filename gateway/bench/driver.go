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

// quietLimit is how long a run waits after the last delivery for those that
// are missing.
const quietLimit = 5 * time.Second

// driver runs all publishers and subscribers of a load in one goroutine.
type driver struct {
	load        Load
	epoll       int
	publishers  []*publisher
	subscribers []*subscriber
	buf         []byte
	events      []syscall.EpollEvent
	tally       tally
	sent        int64
	turn        int // who publishes first in the next round
}

// tally counts answers.
type tally struct {
	acknowledged int64
	refused      int64
	latencies    Latencies
	delivered    int64
	deliveries   Latencies
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
			err = d.watch(&p.link, n)
		}
		if err != nil {
			d.close()
			return nil, err
		}
	}
	if err := d.subscribe(ctx); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// watch has poll look after a link; n numbers first the publishers, then the
// subscribers.
func (d *driver) watch(k *link, n int) error {
	const edge = 1 << 31 // EPOLLET, which package syscall has as a negative number
	e := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP | edge, Fd: int32(n)}
	return syscall.EpollCtl(d.epoll, syscall.EPOLL_CTL_ADD, k.fd, &e)
}

// subscribe connects the subscribers and waits until their subscriptions are
// in force.
func (d *driver) subscribe(ctx context.Context) error {
	for n := range d.load.Subscribers {
		s, err := newSubscriber(ctx, d.load, n, d.publishers)
		if err != nil {
			return err
		}
		d.subscribers = append(d.subscribers, s)
		if err := d.watch(&s.link, len(d.publishers)+n); err != nil {
			return err
		}
		s.flush()
	}
	err := d.await(time.Now(), connectLimit, func() bool {
		return d.allSubscribers(func(s *subscriber) bool { return s.granted })
	})
	for n, s := range d.subscribers {
		switch {
		case err != nil:
		case s.broken != nil:
			err = fmt.Errorf("subscriber %d: %w", n, s.broken)
		case !s.granted:
			err = fmt.Errorf("subscriber %d: the broker did not answer the subscription to %s", n, d.load.filter())
		}
	}
	return err
}

func (d *driver) close() {
	for _, p := range d.publishers {
		p.close()
	}
	for _, s := range d.subscribers {
		s.close()
	}
	syscall.Close(d.epoll)
}

func (d *driver) run(ctx context.Context) (Result, error) {
	start := time.Now()
	for _, s := range d.subscribers {
		s.since = start.UnixMilli()
	}
	from, end := start.Add(d.load.Warmup), start.Add(d.load.Warmup+d.load.Duration)
	measured := d.load.Warmup == 0
	now := start
	report := reporter{at: start}
	for now.Before(end) && ctx.Err() == nil && d.left() > 0 {
		if !measured && !now.Before(from) {
			measured, from = true, now
			d.tally = tally{refused: d.tally.refused}
			if d.load.QoS == 0 {
				d.tally.acknowledged = -d.sent
			} else {
				report.done = 0
			}
		}
		if d.load.Progress != nil && now.Sub(report.at) >= time.Second {
			d.load.Progress(report.next(d, now.Sub(start), now, !measured))
		}
		wait := end.Sub(now)
		if d.load.Progress != nil {
			wait = min(wait, report.at.Add(time.Second).Sub(now))
		}
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
	if !measured { // it ended while warming up, which is then all there is
		from = start
	}
	res := Result{Addr: d.load.Addr, Elapsed: now.Sub(from), Acknowledged: d.tally.acknowledged,
		P50: d.tally.latencies.Quantile(0.5), P99: d.tally.latencies.Quantile(0.99), Max: d.tally.latencies.Max()}
	res.Delivered = d.tally.delivered
	if res.Elapsed > 0 {
		res.PerSecond = float64(res.Acknowledged) / res.Elapsed.Seconds()
		res.DeliveredPerSecond = float64(res.Delivered) / res.Elapsed.Seconds()
	}
	if err := d.drain(start); err != nil {
		return Result{}, err
	}
	if err := d.settle(start, &res); err != nil {
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

// reporter remembers the figures of the report before.
type reporter struct {
	at   time.Time
	done int64
}

func (r *reporter) next(d *driver, elapsed time.Duration, now time.Time, warming bool) Progress {
	done := d.tally.acknowledged
	if d.load.QoS == 0 {
		done = d.sent
	}
	p := Progress{
		Elapsed: elapsed, Warming: warming, Sent: d.sent, Delivered: d.tally.delivered,
		PerSecond: float64(done-r.done) / now.Sub(r.at).Seconds(),
	}
	r.at, r.done = now, done
	return p
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
		k, to := d.at(int(e.Fd))
		if e.Events&syscall.EPOLLOUT != 0 && k.unwritten() {
			k.flush()
		}
		if e.Events&^syscall.EPOLLOUT != 0 {
			const ends = syscall.EPOLLRDHUP | syscall.EPOLLHUP | syscall.EPOLLERR
			k.receive(to, d.buf, e.Events&ends != 0, ns, &d.tally)
		}
	}
	return now, nil
}

// at returns the link that watch was given with n.
func (d *driver) at(n int) (*link, end) {
	if n < len(d.publishers) {
		return &d.publishers[n].link, d.publishers[n]
	}
	s := d.subscribers[n-len(d.publishers)]
	return &s.link, s
}

// ping asks each broker connection for a sign that all before it was read.
func (d *driver) ping(start time.Time) error {
	for _, p := range d.publishers {
		p.out = append(p.out, pingreq...)
		p.flush()
	}
	return d.await(start, drainLimit, func() bool {
		return d.allPublishers(func(p *publisher) bool { return p.pong })
	})
}

// drain waits for the acknowledgements that are still out.
func (d *driver) drain(start time.Time) error {
	return d.await(start, drainLimit, func() bool {
		return d.allPublishers(func(p *publisher) bool { return p.inflight == 0 })
	})
}

// await polls until done or limit.
func (d *driver) await(start time.Time, limit time.Duration, done func() bool) error {
	for end := time.Now().Add(limit); !done(); {
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		if _, err := d.poll(start, left); err != nil {
			return err
		}
	}
	return nil
}

// settle waits for the messages that subscribers are still to be sent, and
// adds what they found to the result.
func (d *driver) settle(start time.Time, res *Result) error {
	if len(d.subscribers) == 0 {
		return nil
	}
	quiet := quietLimit
	if d.load.quiet > 0 {
		quiet = d.load.quiet
	}
	all := func() bool {
		return d.allSubscribers(func(s *subscriber) bool { return s.missing() == 0 })
	}
	for before := int64(-1); before != d.distinct(); {
		before = d.distinct()
		if err := d.await(start, quiet, func() bool { return d.distinct() > before || all() }); err != nil {
			return err
		}
	}
	// A duplicate of the last message comes before the answer to this.
	for _, s := range d.subscribers {
		s.out = append(s.out, pingreq...)
		s.flush()
	}
	err := d.await(start, drainLimit, func() bool {
		return d.allSubscribers(func(s *subscriber) bool { return s.pong })
	})
	for n, s := range d.subscribers {
		res.Received += s.received
		res.Lost += s.missing()
		res.Duplicates += s.duplicates
		res.OutOfOrder += s.late
		res.Foreign += s.foreign
		if s.broken != nil {
			res.Errors = append(res.Errors, fmt.Sprintf("subscriber %d: %v", n, s.broken))
		}
	}
	l := &d.tally.deliveries
	res.DeliverP50, res.DeliverP99, res.DeliverMax = l.Quantile(0.5), l.Quantile(0.99), l.Max()
	return err
}

// distinct is how many messages came, duplicates not included.
func (d *driver) distinct() (n int64) {
	for _, s := range d.subscribers {
		n += s.received - s.duplicates - s.foreign
	}
	return n
}

// allPublishers reports whether all whose connection stands are done.
func (d *driver) allPublishers(done func(*publisher) bool) bool {
	for _, p := range d.publishers {
		if p.broken == nil && !done(p) {
			return false
		}
	}
	return true
}

func (d *driver) allSubscribers(done func(*subscriber) bool) bool {
	for _, s := range d.subscribers {
		if s.broken == nil && !done(s) {
			return false
		}
	}
	return true
}

func (d *driver) allBroken() bool {
	for _, p := range d.publishers {
		if p.broken == nil {
			return false
		}
	}
	return true
}
