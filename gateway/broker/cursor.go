package broker

import (
	"sync"
	"time"
)

// cursor is where somebody is in the streams who takes messages at QoS 1 and
// 2 from the log: a session, or the members of a shared subscription together.
//
// Whoever keeps up is given each event as it is routed, and has no place of
// his own: it is that of the routing. One who cannot take an event falls
// behind: from then on the events routed are only counted for him, and he
// reads the log as fast as he can until there is nothing between him and the
// routing. So nobody waits for him, and what waits for him takes no memory.
type cursor struct {
	behind  bool
	pumping bool     // a goroutine reads for him
	next    []uint64 // while behind: the offset in each feed to go on at
	wrote   uint64   // the sum of the offsets that are on disk
	waiting          // while behind: what that is
	outcome          // of what was not delivered
}

// waiting counts the messages between a cursor and the routing. Marks divide
// them, oldest first, so that the oldest can be dropped.
type waiting struct {
	pending uint64
	bytes   int64
	marks   []mark
}

// mark begins a part of what waits.
type mark struct {
	next  []uint64 // offset in each feed where the part begins
	count uint64
	bytes int64
	until time.Duration // when its last message came, by the broker's clock
}

// partsPerMax is in how many steps the limits of a session are kept.
const partsPerMax = 16

// fallBehind makes everything that is routed from now on wait. The caller
// holds the lock of the cursor.
func (k *cursor) fallBehind(b *Broker) {
	if k.behind {
		return
	}
	k.behind = true
	k.next = b.positions()
}

// stale reports whether the place on disk is far behind, or with now at all.
func (k *cursor) stale(b *Broker, now bool) bool {
	at := k.sum(b)
	return now && at != k.wrote || at > k.wrote+refreshAfter
}

func (k *cursor) sum(b *Broker) (sum uint64) {
	if k.behind {
		for _, at := range k.next {
			sum += at
		}
		return sum
	}
	for _, f := range b.feeds() {
		sum += f.next.Load()
	}
	return sum
}

// missed counts a message that waits, and drops the oldest that are too many.
func (k *cursor) missed(b *Broker, size int64) (dropped uint64) {
	now := time.Duration(b.now.Load())
	n := len(k.marks)
	part := b.opt.Sessions.Max / partsPerMax
	age := b.opt.Sessions.MaxAge / partsPerMax
	if n == 0 || k.marks[n-1].bytes >= part || age > 0 && now-k.marks[n-1].until > age {
		k.marks = append(k.marks, mark{next: b.positions()})
		n++
	}
	m := &k.marks[n-1]
	m.count, m.bytes, m.until = m.count+1, m.bytes+size, now
	k.pending++
	k.bytes += size
	for k.bytes > b.opt.Sessions.Max && len(k.marks) > 1 {
		dropped += k.shed(b)
	}
	return dropped
}

// shed gives up the oldest part of what waits.
func (k *cursor) shed(b *Broker) (dropped uint64) {
	m := k.marks[0]
	k.marks = k.marks[1:]
	to := b.positions()
	if len(k.marks) > 0 {
		to = k.marks[0].next
	}
	for i := range k.next {
		if i < len(to) {
			k.next[i] = max(k.next[i], to[i])
		}
	}
	k.pending -= min(k.pending, m.count)
	k.bytes -= min(k.bytes, m.bytes)
	return m.count
}

// age drops what has waited for too long.
func (k *cursor) age(b *Broker) (dropped uint64) {
	limit := b.opt.Sessions.MaxAge
	now := time.Duration(b.now.Load())
	for limit > 0 && len(k.marks) > 0 && now-k.marks[0].until > limit {
		dropped += k.shed(b)
	}
	return dropped
}

// took counts a message that waits no more.
func (k *cursor) took(size int64) {
	k.pending -= min(k.pending, 1)
	k.bytes -= min(k.bytes, size)
	if len(k.marks) == 0 {
		return
	}
	m := &k.marks[0]
	m.count -= min(m.count, 1)
	m.bytes -= min(m.bytes, size)
	if m.count == 0 && len(k.marks) > 1 {
		k.marks = k.marks[1:]
	}
}

// keepUp ends being behind. It returns how many messages should have been
// found in the log and were not: retention had removed them.
func (k *cursor) keepUp() (lost uint64) {
	lost = k.pending
	k.behind, k.next, k.waiting = false, nil, waiting{}
	return lost
}

// puller is who owns a cursor that is behind. Methods are called with its lock
// held unless noted.
type puller interface {
	sync.Locker
	place() *cursor
	ready() bool          // there is room for a message
	wants(string) bool    // of a topic; without the lock
	take(m *message) bool // take it, or pass over it; false: there is no room
	again() (f *Feed, offset uint64, ok bool)
	repeat(m *message, f *Feed, offset uint64) // take again; m is nil if it is gone
	repeated()                                 // repeat was called; without the lock
	joined(lost uint64)                        // it has caught up
	owes() bool                                // there is something that is not in the log
	pay()                                      // give that, as far as there is room
	version() uint64                           // grows when wants changes
}

// pumpStep is how many events are taken under one lock.
const pumpStep = 256

// pull starts a goroutine that reads the log for p, if there is something to
// be had and room for it. The caller holds p's lock.
func (b *Broker) pull(p puller) {
	k := p.place()
	if k.pumping || !k.behind && !p.owes() || !p.ready() {
		return
	}
	k.pumping = true
	b.wg.Go(func() { (&pump{b: b, p: p}).run() })
}

// pump reads the log for one puller until that has no room or has caught up.
type pump struct {
	b        *Broker
	p        puller
	version  uint64 // of what the scanners are for
	scanners []Scanner
}

func (u *pump) run() {
	p, k := u.p, u.p.place()
	for {
		p.Lock()
		if !k.behind && !p.owes() || !p.ready() {
			k.pumping = false
			p.Unlock()
			return
		}
		if p.owes() {
			p.pay()
			p.Unlock()
			continue
		}
		if f, offset, ok := p.again(); ok {
			p.Unlock()
			m := u.one(f, offset)
			p.Lock()
			p.repeat(m, f, offset)
			p.Unlock()
			p.repeated()
			continue
		}
		f := u.lagging(k)
		if f == nil {
			p.Unlock()
			if u.join() {
				return
			}
			continue
		}
		from := k.next[f.index]
		if v := p.version(); v != u.version {
			u.version, u.scanners = v, nil
		}
		p.Unlock()
		events, next, err := u.scanner(f).Read(from)
		p.Lock()
		if err != nil { // the log has failed or is closed
			k.pumping = false
			p.Unlock()
			return
		}
		if k.behind && k.next[f.index] == from {
			limit := f.next.Load()
			if len(events) > pumpStep {
				events = events[:pumpStep]
				next = events[pumpStep-1].Offset + 1
			}
			for i := range events {
				e := &events[i]
				if e.Offset >= limit {
					break
				}
				k.next[f.index] = e.Offset
				if !p.take(&message{f: f, e: e, late: true}) {
					// Whoever makes room pulls again. But while the log was
					// read another connection may have come, which is to have
					// something else first.
					if k.pumping = p.ready(); !k.pumping {
						p.Unlock()
						return
					}
					next = e.Offset
					break
				}
			}
			k.next[f.index] = min(next, limit)
		}
		p.Unlock()
	}
}

// lagging returns a feed that has been routed farther than the cursor is.
func (u *pump) lagging(k *cursor) *Feed {
	for _, f := range u.b.feeds() {
		if f.index < len(k.next) && k.next[f.index] < f.next.Load() && f.stream != nil {
			return f
		}
	}
	return nil
}

func (u *pump) scanner(f *Feed) Scanner {
	for len(u.scanners) <= f.index {
		u.scanners = append(u.scanners, nil)
	}
	if u.scanners[f.index] == nil {
		u.scanners[f.index] = f.stream.Scanner(u.p.wants)
	}
	return u.scanners[f.index]
}

// one reads a single message; nil if it is not there any more.
func (u *pump) one(f *Feed, offset uint64) *message {
	if f == nil || f.stream == nil {
		return nil
	}
	events, _, err := f.stream.Scanner(nil).Read(offset)
	if err != nil || len(events) == 0 || events[0].Offset != offset {
		return nil
	}
	return &message{f: f, e: &events[0], late: true}
}

// join makes the puller one of those who keep up, if it has caught up. While
// the routing stands still it cannot fall behind again unnoticed.
func (u *pump) join() bool {
	u.b.route.Lock()
	defer u.b.route.Unlock()
	p, k := u.p, u.p.place()
	p.Lock()
	defer p.Unlock()
	if !k.behind || !p.ready() {
		k.pumping = false
		return true
	}
	if _, _, ok := p.again(); ok || p.owes() || u.lagging(k) != nil {
		return false
	}
	k.pumping = false
	p.joined(k.keepUp())
	return true
}
