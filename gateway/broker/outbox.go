package broker

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"holdfast/gateway/broker/packet"
	"holdfast/gateway/event"
)

// outbox gives one session the messages that its subscriptions match.
//
// While its client is connected and takes what it is sent, the outbox keeps up
// with the routing; else it is behind and reads the log, see cursor. Messages
// at QoS 0 go to clients that are connected, or to nobody.
//
// For a session that outlasts its connections, what exactly once takes is on
// disk before the client sees it: the packet identifier before PUBLISH, and
// that PUBREC came before PUBREL. Otherwise a client could be given a message
// twice after the gateway was killed. Messages that come behind one that waits
// for that, at any QoS, wait with it: a client gets what it keeps up with in the
// order of the log. What else changes reaches the disk within a second, or sooner
// if it is much, see progress.
type outbox struct {
	b *Broker
	s *session

	mu sync.Mutex // guards all below
	cursor
	progress
	window  window
	c       *conn // ready for messages; nil while there is none
	over    bool  // the session has ended
	taken   bool  // the session has a connection, which may be about to begin
	lasts   bool  // it outlasts its connections
	dirty   bool  // there is more to tell than what is on disk
	subs    map[string]*subscription
	groups  []*group // in which it shares subscriptions
	done    []turn   // messages at QoS 2 of these that are completed, while the place of the group on disk is before them
	changes uint64   // of subs
	memo    *memo    // while behind
	before  []uint64 // what a feed had below this offset may have been sent before a crash
	crashed bool     // it was connected when the gateway went down
	overlap bool     // the window may hold messages that are still to be read
	stored  bool     // it is on disk

	debts   []debt    // retained messages for new subscriptions
	arrears []arrears // and for the time without a connection
	carded  bool      // the card on disk has arrears
	waits   departure // packets that go when the session is on disk
	leaving bool      // there is a PUBLISH among those for which it is being written
	saving  bool

	filters atomic.Pointer[[]string] // of subs, for scanners
	peer    string                   // the gateway that the client is, see introductions
}

// memo remembers what topics match.
type memo struct {
	changes uint64
	rights  *rights
	topics  map[string]match
}

const maxMemo = 256

// subscription is one of a session.
type subscription struct {
	filter  string
	options byte     // as in SUBSCRIBE: QoS, no local, retain as published
	id      int      // subscription identifier, 0 if it has none
	since   []uint64 // offset in each feed at which it was made
}

func (s *subscription) qos() byte     { return s.options & 3 }
func (s *subscription) noLocal() bool { return s.options&4 != 0 }
func (s *subscription) asIs() bool    { return s.options&8 != 0 }

// match returns what the subscriptions amount to that match a topic, and were
// there when the feed was at offset if that is not nil. The caller holds o.mu.
func (o *outbox) match(topic string, f *Feed, offset uint64) (m match) {
	var own match
	m.peer = o.peer
	for _, sub := range o.subs {
		if isShared(sub.filter) || !event.Match(sub.filter, topic) {
			continue
		}
		if f != nil && f.index < len(sub.since) && offset < sub.since[f.index] {
			continue
		}
		m.merge(sub)
		if sub.noLocal() {
			m.local = true
		} else {
			own.merge(sub)
		}
	}
	slices.Sort(m.ids)
	if m.local && own.ok {
		slices.Sort(own.ids)
		m.own = &own
	}
	return m
}

func (m *match) merge(sub *subscription) {
	m.ok = true
	m.qos = max(m.qos, sub.qos()) // [MQTT-3.3.4-2]
	m.retain = m.retain || sub.asIs()
	if sub.id > 0 {
		m.ids = append(m.ids, sub.id)
	}
	for i, at := range sub.since {
		if i == len(m.since) {
			m.since = append(m.since, 0)
		}
		m.since[i] = max(m.since[i], at)
	}
}

// offer gives the session an event that is being routed.
func (o *outbox) offer(m *message, mt *match) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch qos := min(m.e.QoS, mt.qos); {
	case o.over:
	case qos == 0:
		if o.c != nil {
			o.send(o.delivery(m, 0, mt))
		}
	case !o.behind && o.c != nil && o.room():
		o.deliver(m, qos, mt, nil)
	case m.f == nil:
		o.drop(1)
	default:
		o.fallBehind(o.b)
		o.lose(o.missed(o.b, int64(m.e.Size())), errTooMuch)
	}
}

var (
	errTooMuch = errors.New("it is away or does not keep up, and more than mqtt.sessions.max was waiting")
	errTooOld  = errors.New("it is away or does not keep up, and they had waited for mqtt.sessions.max_age")
	errRemoved = errors.New("it was away or did not keep up, and their stream has not kept them so long; or it has no right to them or subscription any more")
)

// lose counts messages that the session does not get, and says why.
func (o *outbox) lose(n uint64, why error) {
	if n > 0 {
		o.drop(n)
		o.b.say("mqtt messages that waited for a session are dropped", o.s.id, why)
	}
}

func (o *outbox) drop(n uint64) {
	o.dirty = true
	o.dropped += n
	o.b.count.dropped.Add(n)
}

func (o *outbox) expire() {
	o.dirty = true
	o.expired++
	o.b.count.expired.Add(1)
}

// room reports whether one more message at QoS 1 or 2 may be sent. What earlier
// connections were sent comes first.
func (o *outbox) room() bool {
	w := &o.window
	return o.c != nil && w.flying == w.count && w.flying < o.c.window && w.count < maxWindow && w.count+o.unsaved() < o.repeats() && (w.flying == 0 || w.bytes < o.b.maxQueued/4) && w.next() != 0
}

func (o *outbox) delivery(m *message, qos byte, mt *match) packet.Delivery {
	d := packet.Delivery{Event: m.e, QoS: qos, Retain: m.e.Retain && (mt.retain || m.kept), SubscriptionIDs: mt.ids}
	if m.e.Properties != nil {
		d.Expiry = m.e.Properties.Expiry
		if m.late {
			d.Expiry, _ = o.b.remaining(m.e)
		}
	}
	return d
}

// deliver sends a message for which there is room, and keeps it in mind until
// it is acknowledged.
func (o *outbox) deliver(m *message, qos byte, mt *match, g *group) {
	d := o.delivery(m, qos, mt)
	d.ID = o.window.next()
	entry := sent{id: d.ID, qos: qos, retain: d.Retain, flying: true, size: int32(m.e.Size()), feed: m.f, offset: m.e.Offset, group: g}
	if m.kept {
		entry.topic = m.e.Topic
	}
	o.window.add(entry)
	if m.late && m.f != nil && m.f.index < len(o.before) && m.e.Offset < o.before[m.f.index] {
		d.Dup = true
	}
	if !o.send(d) {
		o.window.settle(o.window.find(d.ID)) // as if it had been received [MQTT-3.1.2-25]
		o.drop(1)
	}
	o.dirty = true
}

// acknowledged takes what a client says about messages that it was sent.
func (o *outbox) acknowledged(c *conn, acks []packet.Ack) {
	o.mu.Lock()
	if o.c != c {
		o.mu.Unlock()
		return
	}
	var answer []byte
	for _, a := range acks {
		m := o.window.find(a.ID)
		switch {
		case m == nil && a.Type == packet.TypePubrec:
			answer = packet.AppendAck(answer, packet.Ack{Type: packet.TypePubrel, Reason: packet.PacketIDNotFound, ID: a.ID}, c.v5)
		case m == nil:
		case a.Type == packet.TypePuback && m.qos == 1, a.Type == packet.TypePubcomp && m.released,
			a.Type == packet.TypePubrec && m.qos == 2 && a.Reason >= packet.UnspecifiedError && !m.released:
			o.complete(m)
			o.window.settle(m)
			o.acked++
		case a.Type == packet.TypePubrec && m.qos == 2:
			m.released = true
			if o.kept() {
				o.waits.packets = packet.AppendAck(o.waits.packets, packet.Ack{Type: packet.TypePubrel, ID: a.ID}, c.v5)
				o.waits.recorded = true
			} else {
				answer = packet.AppendAck(answer, packet.Ack{Type: packet.TypePubrel, ID: a.ID}, c.v5)
			}
		}
	}
	o.dirty = true
	o.save()
	o.note()
	if len(answer) > 0 {
		c.queue(answer)
	}
	o.b.pull(o)
	groups := o.groups
	o.mu.Unlock()
	for _, g := range groups {
		g.kick()
	}
}

// begin makes c the connection that messages go to. What earlier connections
// were sent and did not acknowledge goes first, oldest first [MQTT-4.4.0-1].
func (o *outbox) begin(c *conn) {
	o.mu.Lock()
	if o.over {
		o.mu.Unlock()
		return
	}
	o.c = c
	o.resume()
	var out []byte
	for i := range o.window.list {
		if m := &o.window.list[i]; m.id != 0 && m.released {
			o.window.launch(m)
			out = packet.AppendAck(out, packet.Ack{Type: packet.TypePubrel, ID: m.id}, c.v5)
		}
	}
	if len(out) > 0 {
		c.queue(out)
	}
	o.b.pull(o)
	groups := o.groups
	o.mu.Unlock()
	for _, g := range groups {
		g.kick()
	}
}

// end takes the connection away; from now on messages wait. The caller holds
// the lock of routing.
func (o *outbox) end(c *conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c != nil && o.c != c {
		return
	}
	o.c, o.memo, o.waits = nil, nil, departure{}
	o.postpone(o.debts)
	o.debts = nil
	o.window.land()
	o.fallBehind(o.b)
	o.dirty = true
}

// The outbox as a puller.

func (o *outbox) Lock()          { o.mu.Lock() }
func (o *outbox) Unlock()        { o.mu.Unlock() }
func (o *outbox) place() *cursor { return &o.cursor }
func (o *outbox) version() uint64 {
	return o.changes
}

func (o *outbox) ready() bool {
	if o.c == nil || o.over {
		return false
	}
	if w := &o.window; w.grounded() != nil {
		return w.flying < o.c.window && (w.flying == 0 || w.bytes < o.b.maxQueued/4)
	}
	return o.room() && (len(o.debts) == 0 || !o.c.congested())
}

// drained lets what waits for the connection go on.
func (o *outbox) drained() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.c != nil {
		o.b.pull(o)
	}
}

func (o *outbox) wants(topic string) bool {
	p := o.filters.Load()
	return p != nil && event.MatchAny(*p, topic)
}

// take takes an event from the log.
func (o *outbox) take(m *message) bool {
	mt := o.remembered(m)
	if mt == nil || min(m.e.QoS, mt.qos) == 0 {
		return true
	}
	if o.overlap && o.window.holds(m.f, m.e.Offset) {
		return true
	}
	if !o.room() {
		return false
	}
	o.took(int64(m.e.Size()))
	o.dirty = true
	if _, live := o.b.remaining(m.e); !live {
		o.expire()
		return true
	}
	o.deliver(m, min(m.e.QoS, mt.qos), mt, nil)
	return true
}

// remembered is match for an event from the log, with what the client may
// receive; nil if there is nothing.
func (o *outbox) remembered(m *message) *match {
	r := o.s.rights(o.b)
	if o.memo == nil || o.memo.changes != o.changes || o.memo.rights != r || len(o.memo.topics) >= maxMemo {
		o.memo = &memo{o.changes, r, map[string]match{}}
	}
	mt, ok := o.memo.topics[m.e.Topic]
	if !ok {
		if o.s.mayReceive(o.b, m.e.Topic) {
			mt = o.match(m.e.Topic, nil, 0)
		}
		o.memo.topics[m.e.Topic] = mt
	}
	if mt.ok && m.f.index < len(mt.since) && m.e.Offset < mt.since[m.f.index] {
		mt = o.match(m.e.Topic, m.f, m.e.Offset) // before one of the subscriptions was made
	}
	if !mt.ok {
		return nil
	}
	return mt.forClient(o.s.id, m.e)
}

// again returns a message that was sent on an earlier connection.
func (o *outbox) again() (f *Feed, offset uint64, ok bool) {
	if m := o.window.grounded(); m != nil {
		return m.feed, m.offset, true
	}
	return nil, 0, false
}

func (o *outbox) repeat(m *message, f *Feed, offset uint64) {
	w := o.window.grounded()
	if w == nil || w.feed != f || w.offset != offset || o.c == nil {
		return
	}
	if w.topic != "" {
		m = o.b.retained.message(w.topic, w.offset)
	}
	o.dirty = true
	if m == nil || !o.s.mayReceive(o.b, m.e.Topic) {
		o.window.settle(w)
		o.drop(1)
		return
	}
	if _, live := o.b.remaining(m.e); !live {
		o.window.settle(w)
		o.expire()
		return
	}
	mt := o.match(m.e.Topic, nil, 0)
	d := o.delivery(m, w.qos, &mt)
	d.ID, d.Retain, d.Dup = w.id, w.retain, true
	o.window.launch(w)
	if !o.c.publish(d) {
		o.window.settle(o.window.find(d.ID))
		o.drop(1)
	}
}

// repeated lets the groups go on when all has been sent again.
func (o *outbox) repeated() {
	o.mu.Lock()
	groups := o.groups
	if o.window.grounded() != nil {
		groups = nil
	}
	o.mu.Unlock()
	for _, g := range groups {
		g.kick()
	}
}

func (o *outbox) joined(lost uint64) {
	o.memo, o.before, o.crashed, o.overlap, o.dirty = nil, nil, false, false, true
	o.lose(lost, errRemoved)
}
