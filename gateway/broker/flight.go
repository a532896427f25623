package broker

import (
	"errors"
	"math"
	"slices"
	"time"

	"holdfast/gateway/broker/packet"
)

// flight is a batch of a client on its way to the disk, and the
// acknowledgements that it will be answered with.
type flight struct {
	c       *conn
	acks    []packet.Ack
	at      []int32 // for each of the first acks the index of its event; -1 for none
	pending int     // messages at QoS 1 and 2 in it
	once    int     // of these, at QoS 1
	events  int
	quota   int         // how many messages at QoS 1 and 2 there may be
	alone   bool        // its client waits for it, and no other client publishes
	began   time.Time   // when it was given to the log
	done    func(error) // finish, bound once
}

// answer notes the acknowledgement of a PUBLISH that is the event of the given
// index in the batch, or none.
func (f *flight) answer(p packet.Publish, reason byte, event int) {
	switch p.QoS {
	case 1:
		f.acks = append(f.acks, packet.Ack{Type: packet.TypePuback, Reason: reason, ID: p.ID})
	case 2:
		f.acks = append(f.acks, packet.Ack{Type: packet.TypePubrec, Reason: reason, ID: p.ID})
	default:
		return
	}
	f.at = append(f.at, int32(event))
}

// refusal tells which acknowledgements of a flight stand for events that are
// not on disk. The zero value is none of them.
type refusal struct {
	all  bool
	some []int   // indexes of events, ascending
	at   []int32 // as flight.at
}

// of reports whether the ith acknowledgement is for an event that was refused.
func (r refusal) of(i int) bool {
	if len(r.some) == 0 || i >= len(r.at) {
		return r.all
	}
	_, found := slices.BinarySearch(r.some, int(r.at[i]))
	return found
}

// emit hands the batch to the log. It blocks for back-pressure.
func (c *conn) emit(batch Batch, f *flight, now time.Time) error {
	if len(batch.Events) == 0 {
		c.ride(f)
		return nil
	}
	if !c.b.enterIntake() {
		f.abandon()
		return nil // it is not acknowledged, so the client sends it again
	}
	defer c.b.leaveIntake()
	f.events = len(batch.Events)
	c.b.countReceived(len(batch.Events))
	c.mu.Lock()
	f.began = now
	batch.Hurry = c.haste.sent(now, f.pending > 0, c.flights > 0, &c.b.opt.pace)
	batch.Peers = c.b.peers.note(c, now)
	f.alone = batch.Hurry && batch.Peers == 1
	c.flights++
	c.pending += f.pending
	c.unacked += f.pending
	c.last = f
	c.mu.Unlock()
	if err := c.b.opt.Emit(batch, f.done); err != nil {
		f.finish(err)
	}
	return nil
}

// finish acknowledges a batch that is on disk, or tells the client that it is
// not. It runs on the committer's goroutine and does not block.
func (f *flight) finish(err error) {
	c := f.c
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flights--
	c.pending -= f.pending
	c.unacked -= f.once
	if c.last == f {
		c.last = nil
	}
	refused := errors.Is(err, ErrRefused)
	r, lost := refusal{all: err != nil, at: f.at}, f.events
	var partial *PartialError
	if errors.As(err, &partial) {
		r.all, r.some, lost = false, partial.Refused, len(partial.Refused)
	}
	if err != nil {
		c.b.count.refused.Add(uint64(lost))
		for i, a := range f.acks {
			if a.Type == packet.TypePubrec && a.Reason == packet.Success && i < len(f.at) && f.at[i] >= 0 && r.of(i) {
				c.unacked--
			}
		}
	}
	if f.pending > f.once {
		c.session.settle(f, r)
	}
	switch {
	case err == nil || refused && c.v5:
		for i, a := range f.acks {
			if err != nil && f.denied(i, r) {
				a.Reason = packet.QuotaExceeded
			}
			c.out = c.appendAck(a)
		}
		if len(f.acks) > 0 {
			c.haste.answered(f.began, time.Now())
		}
	case refused && !f.answers(r): // at QoS 0 nothing was promised
		for _, a := range f.acks {
			c.out = c.appendAck(a)
		}
	default:
		// 3.1.1 has no other answer than the end of the connection.
		for i, a := range f.acks {
			if partial != nil && !f.denied(i, r) {
				c.out = c.appendAck(a)
			}
		}
		if c.v5 && !c.closing {
			c.out = packet.AppendDisconnect(c.out, packet.UnspecifiedError)
		}
		c.flush()
		c.close()
	}
	if f.alone {
		c.sendNow()
	}
	c.flush()
	c.changed.Broadcast()
	c.recycle(f)
}

// denied reports whether the ith acknowledgement may not say that a message is
// on disk. A message at QoS 2 may be there already, and one that came twice is
// there if the first of it is.
func (f *flight) denied(i int, r refusal) bool {
	a := f.acks[i]
	switch {
	case a.Reason != packet.Success:
		return false
	case a.Type == packet.TypePuback:
		return r.of(i)
	}
	repeated := i >= len(f.at) || f.at[i] < 0
	return (repeated || r.of(i)) && !f.c.session.holds(a.ID)
}

// answers reports whether the client waits for an answer about an event that
// was refused.
func (f *flight) answers(r refusal) bool {
	for i := range f.acks {
		if r.of(i) {
			return true
		}
	}
	return false
}

// appendAck appends an acknowledgement to the queue. The caller holds c.mu.
func (c *conn) appendAck(a packet.Ack) []byte {
	if c.closing {
		return c.out
	}
	c.packets++
	return packet.AppendAck(c.out, a, c.v5)
}

// ride sends acknowledgements that need no event of their own behind those of
// the newest batch, so that they keep the order in which messages arrived.
func (c *conn) ride(f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last != nil {
		c.last.acks = append(c.last.acks, f.acks...)
	} else {
		for _, a := range f.acks {
			c.out = c.appendAck(a)
		}
		c.flush()
	}
	c.recycle(f)
}

// abandon forgets a batch that was not given to the log.
func (f *flight) abandon() {
	if f.pending > f.once {
		f.c.session.settle(f, refusal{all: true})
	}
}

func (c *conn) newFlight() *flight {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.free); n > 0 {
		f := c.free[n-1]
		c.free = c.free[:n-1]
		return f
	}
	f := &flight{c: c}
	f.done = f.finish
	return f
}

func (c *conn) recycle(f *flight) {
	if len(c.free) < 4 && cap(f.acks) <= 4096 {
		f.acks, f.at, f.pending, f.once, f.events = f.acks[:0], f.at[:0], 0, 0, 0
		c.free = append(c.free, f)
	}
}

// quota is how many more messages the client may send unacknowledged. 3.1.1
// knows no such limit: there the broker stops reading at some point.
func (c *conn) quota() int {
	if !c.v5 {
		return math.MaxInt
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.b.receiveMaximum - c.unacked
}

func (c *conn) pong(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return
	}
	for range n {
		c.out = packet.AppendPingresp(c.out)
	}
	c.packets += n
	c.flush()
}

// release ends the delivery of messages at QoS 2: their packet identifiers are
// forgotten, on disk first, and then PUBCOMP is sent.
func (c *conn) release(ids []uint16) error {
	known, acks, counted := c.session.release(ids)
	done := func(err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if err != nil {
			c.close()
			return
		}
		c.unacked -= counted
		for _, a := range acks {
			c.out = c.appendAck(a)
		}
		c.flush()
	}
	if len(known) == 0 || c.b.opt.Release == nil {
		done(nil)
		return nil
	}
	if !c.b.enterIntake() {
		return nil
	}
	defer c.b.leaveIntake()
	if err := c.b.opt.Release(c.id, known, done); err != nil {
		done(err)
	}
	return nil
}
