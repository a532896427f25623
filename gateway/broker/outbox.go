package broker

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// maxWindow bounds the messages at QoS 1 and 2 that are sent to a subscriber
// without an acknowledgement, if it does not ask for fewer.
const maxWindow = 512

// maxKept leaves some of the 65,535 packet identifiers free.
const maxKept = 60_000

// outbox keeps order among the messages at QoS 1 and 2 of one session: which
// are sent, and which wait because the subscriber is away, slow or has set a
// receive maximum. mochi's inflight map holds the messages themselves; their
// packet identifiers count down, since mochi has one set of them for both
// directions and clients count up. So the order of the identifiers is the
// order of the messages. The zero outbox is empty.
type outbox struct {
	mu     sync.Mutex
	lastID uint16
	kept   map[uint16]parcel
	bytes  int      // of all kept
	sent   int      // number of those that are sent
	flying int      // and their bytes
	queue  []uint16 // those that are not, in order; settled ones may be among them
}

// parcel is a message that is not acknowledged.
type parcel struct {
	size int
	sent bool // on the present connection
}

// put keeps a message until it is acknowledged, and sends it if the
// subscriber is ready for it. It returns false if the session is full. The
// caller holds Broker.route.
func (o *outbox) put(b *Broker, cl *mqtt.Client, c *conn, m *message, d delivery) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	size := m.e.Size()
	full := len(o.kept) >= b.maxInflight || o.bytes > 0 && o.bytes+size > b.maxQueued
	if full && !m.retained || len(o.kept) >= maxKept {
		return false
	}
	d.id = o.nextID(cl.State.Inflight)
	now := !cl.Closed() && o.idle() && o.room(c)
	p := *m.packet()
	p.FixedHeader.Qos, p.FixedHeader.Retain, p.PacketID = d.qos, d.retain, d.id
	p.FixedHeader.Dup = now // so it would be next time
	p.Properties.SubscriptionIdentifier = d.subs
	cl.State.Inflight.Set(p)
	atomic.AddInt64(&b.server.Info.Inflight, 1)
	o.keep(d.id, parcel{size: size, sent: now})
	if !now {
		if len(o.queue) > 2*len(o.kept)+64 { // many expired before the subscriber came
			o.queue = slices.DeleteFunc(o.queue, func(id uint16) bool { _, ok := o.kept[id]; return !ok })
		}
		o.queue = append(o.queue, d.id)
	} else if !c.publish(d) {
		o.discard(b, cl, d.id)
	}
	return true
}

func (o *outbox) nextID(in *mqtt.Inflight) uint16 {
	for {
		if o.lastID--; o.lastID != 0 {
			if _, used := in.Get(o.lastID); !used {
				return o.lastID
			}
		}
	}
}

// idle reports whether nothing waits to be sent.
func (o *outbox) idle() bool { return len(o.queue) == 0 }

// room reports whether one more message may be sent.
func (o *outbox) room(c *conn) bool {
	return o.sent < c.window && (o.sent == 0 || o.flying < c.b.maxQueued/4)
}

func (o *outbox) keep(id uint16, p parcel) {
	if o.kept == nil {
		o.kept = make(map[uint16]parcel)
	}
	o.kept[id] = p
	o.bytes += p.size
	if p.sent {
		o.sent++
		o.flying += p.size
	}
}

func (o *outbox) forget(id uint16) {
	p, ok := o.kept[id]
	if !ok {
		return
	}
	delete(o.kept, id)
	o.bytes -= p.size
	if p.sent {
		o.sent--
		o.flying -= p.size
	}
}

// discard gives up a message that the subscriber does not take.
func (o *outbox) discard(b *Broker, cl *mqtt.Client, id uint16) {
	if cl.State.Inflight.Delete(id) {
		atomic.AddInt64(&b.server.Info.Inflight, -1)
	}
	o.forget(id)
}

// settle forgets a message that mochi has forgotten, and sends what waited.
func (o *outbox) settle(cl *mqtt.Client, c *conn, id uint16) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.forget(id)
	o.send(cl, c)
}

// send sends what waits, as far as there is room.
func (o *outbox) send(cl *mqtt.Client, c *conn) {
	for len(o.queue) > 0 && o.room(c) && !cl.Closed() {
		id := o.queue[0]
		o.queue = o.queue[1:]
		kept, ok := o.kept[id]
		if !ok {
			continue
		}
		p, ok := cl.State.Inflight.Get(id)
		if !ok {
			o.forget(id)
			continue
		}
		o.forget(id)
		o.keep(id, parcel{size: kept.size, sent: true})
		if p.FixedHeader.Type != packets.Publish { // PUBREL
			_ = cl.WritePacket(p)
			continue
		}
		e, live := eventOf(&p)
		d := delivery{
			e: &e, qos: p.FixedHeader.Qos, id: id, retain: p.FixedHeader.Retain, dup: p.FixedHeader.Dup,
			expiry: e.Properties.Expiry, subs: p.Properties.SubscriptionIdentifier,
		}
		if !live || !c.session.rights(c.b).maySubscribe(e.Topic) || !c.publish(d) {
			o.discard(c.b, cl, id)
			continue
		}
		if !p.FixedHeader.Dup {
			p.FixedHeader.Dup = true
			cl.State.Inflight.Set(p)
		}
	}
	if len(o.queue) == 0 {
		o.queue = nil
	}
}

// takeAll empties mochi's inflight map: what is in it is sent by resume, not
// by mochi, which would lose its order.
func takeAll(cl *mqtt.Client) []packets.Packet {
	all := cl.State.Inflight.GetAll(false)
	for i := range all {
		cl.State.Inflight.Delete(all[i].PacketID)
	}
	return all
}

// resume begins a connection of the session with what earlier ones left,
// oldest first [MQTT-4.6.0-1].
func (o *outbox) resume(cl *mqtt.Client, c *conn, left []packets.Packet) {
	o.mu.Lock()
	defer o.mu.Unlock()
	kept := o.kept
	o.kept, o.queue, o.bytes, o.sent, o.flying = nil, nil, 0, 0, 0
	slices.SortFunc(left, func(a, b packets.Packet) int {
		return int(b.PacketID-o.lastID) - int(a.PacketID-o.lastID)
	})
	now := time.Now().Unix()
	for _, p := range left {
		if p.FixedHeader.Type != packets.Publish && p.FixedHeader.Type != packets.Pubrel ||
			p.Expiry > 0 && p.Expiry <= now && p.FixedHeader.Type == packets.Publish {
			atomic.AddInt64(&c.b.server.Info.Inflight, -1)
			continue
		}
		cl.State.Inflight.Set(p)
		o.keep(p.PacketID, parcel{size: max(kept[p.PacketID].size, len(p.Payload))})
		o.queue = append(o.queue, p.PacketID)
	}
	o.send(cl, c)
}
