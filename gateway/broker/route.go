package broker

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"holdfast/gateway/event"
)

// maxRoutes bounds the topics whose subscribers are remembered.
const maxRoutes = 16 << 10

// routing is the state of Route. Its lock is held while events are routed and
// while a session moves from one connection to another.
type routing struct {
	sync.Mutex
	used       atomic.Bool   // there was a subscription at some time
	generation atomic.Uint64 // grows whenever subscriptions change
	seen       uint64        // the generation that targets belongs to
	targets    map[string]*targets
}

// changed tells Route that subscriptions have changed.
func (r *routing) changed() {
	r.used.Store(true)
	r.generation.Add(1)
}

// targets are the subscribers of one topic.
type targets struct {
	plain  []target
	shared []*shareGroup
}

type shareGroup struct {
	members []target
	next    int
}

type target struct {
	client  string
	user    string // who is allowed the topic
	qos     byte
	noLocal bool
	retain  bool  // retain as published
	ids     []int // subscription identifiers
}

// Route sends events to the clients that subscribe to their topics, in order,
// and keeps those with Retain set for later subscribers. It is called after
// the events have been committed, by one goroutine at a time, for events of
// every source; it never waits for a subscriber, and costs next to nothing for
// events that nobody subscribes to.
func (b *Broker) Route(events []event.Event) {
	r := &b.route
	r.Lock()
	defer r.Unlock()
	used := r.used.Load()
	for i := range events {
		e := &events[i]
		if e.Retain {
			b.retain(e)
		}
		if !used {
			continue
		}
		if t := b.targetsOf(e.Topic); t != nil {
			b.fanOut(e, t)
		}
	}
}

// targetsOf returns the subscribers of a topic, nil if there are none.
func (b *Broker) targetsOf(topic string) *targets {
	r := &b.route
	// The generation is read before the tree: a change in between is noticed
	// at the next event.
	if g := r.generation.Load(); g != r.seen || len(r.targets) >= maxRoutes || r.targets == nil {
		r.targets = make(map[string]*targets)
		r.seen = g
	}
	t, ok := r.targets[topic]
	if !ok {
		t = b.newTargets(topic)
		r.targets[topic] = t
	}
	return t
}

// newTargets finds the subscribers that may receive messages of a topic.
func (b *Broker) newTargets(topic string) *targets {
	subs := b.server.Topics.Subscribers(topic)
	t := new(targets)
	for client, sub := range subs.Subscriptions {
		if user, ok := b.receiver(client, topic); ok {
			t.plain = append(t.plain, newTarget(client, user, sub))
		}
	}
	for _, members := range subs.Shared {
		g := new(shareGroup)
		for client, sub := range members {
			if user, ok := b.receiver(client, topic); ok {
				g.members = append(g.members, newTarget(client, user, sub))
			}
		}
		if len(g.members) > 0 {
			t.shared = append(t.shared, g)
		}
	}
	if len(t.plain)+len(t.shared) == 0 {
		return nil
	}
	return t
}

// receiver reports whether a client may receive messages of a topic, and who
// it is.
func (b *Broker) receiver(client, topic string) (user string, ok bool) {
	b.mu.Lock()
	s := b.sessions[client]
	b.mu.Unlock()
	if s == nil {
		return "", false // just ended, and its subscriptions are about to
	}
	return s.user, s.rights(b).maySubscribe(topic)
}

func newTarget(client, user string, sub packets.Subscription) target {
	t := target{client: client, user: user, qos: sub.Qos, noLocal: sub.NoLocal, retain: sub.RetainAsPublished}
	for _, id := range sub.Identifiers {
		if id > 0 {
			t.ids = append(t.ids, id)
		}
	}
	if len(sub.Identifiers) == 0 && sub.Identifier > 0 {
		t.ids = []int{sub.Identifier}
	}
	slices.Sort(t.ids)
	return t
}

// fanOut sends one event to its subscribers, and to one of each group that
// shares a subscription: a connected one if there is one.
func (b *Broker) fanOut(e *event.Event, t *targets) {
	m := message{e: e}
	if p := e.Properties; p != nil {
		m.expiry = p.Expiry
	}
	for i := range t.plain {
		to := &t.plain[i]
		if to.noLocal && e.Source == "mqtt" && e.Client == to.client { // [MQTT-3.8.3-3]
			continue
		}
		b.deliver(&m, to, to.retain && e.Retain)
	}
	for _, g := range t.shared {
		pick := -1
		for i := range g.members {
			n := (g.next + i) % len(g.members)
			cl, ok := b.server.Clients.Get(g.members[n].client)
			if !ok {
				continue
			}
			if pick < 0 {
				pick = n
			}
			if !cl.Closed() {
				pick = n
				break
			}
		}
		if pick >= 0 {
			g.next = pick + 1
			to := &g.members[pick]
			b.deliver(&m, to, to.retain && e.Retain)
		}
	}
}

// message is an event on its way to subscribers.
type message struct {
	e      *event.Event
	expiry uint32
	// retained messages of a new subscription are kept for it even if its
	// session is full: they do not come again.
	retained bool
	stored   *packets.Packet // as mochi keeps it for a session, made when needed
}

// deliver sends a message to one subscriber. At QoS 1 and 2 it is kept in the
// subscriber's session until acknowledged, connected or not.
func (b *Broker) deliver(m *message, to *target, retain bool) {
	cl, ok := b.server.Clients.Get(to.client)
	if !ok {
		return
	}
	c, ok := cl.Net.Conn.(*conn)
	if !ok || c.session == nil || c.session.user != to.user {
		return
	}
	d := delivery{e: m.e, qos: min(m.e.QoS, to.qos), retain: retain, expiry: m.expiry, subs: to.ids}
	if d.qos == 0 {
		_ = c.publish(d)
		return
	}
	if !c.session.outbox.put(b, cl, c, m, d) {
		b.count.dropped.Add(1)
		b.say("mqtt session is full: messages dropped", to.client, errSlow)
	}
}

// publish queues a message for a connected client. ok is false if the client
// does not take packets of its size [MQTT-3.1.2-24].
func (c *conn) publish(d delivery) (ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return true
	}
	if d.qos == 0 && len(c.out) > c.b.maxQueued/2 {
		c.b.count.dropped.Add(1)
		return true
	}
	if c.out, ok = appendPublish(c.out, d, c.v5, c.limit); ok {
		c.b.count.delivered.Add(1)
		c.b.count.payloadOut.Add(uint64(len(d.e.Payload)))
		c.packets++
		atomic.AddInt64(&c.b.server.Info.MessagesSent, 1)
		c.flush()
	}
	return ok
}

// packet returns the message as mochi keeps it, with memory of its own: the
// event's is shared by a whole batch.
func (m *message) packet() *packets.Packet {
	if m.stored != nil {
		return m.stored
	}
	e := m.e
	p := &packets.Packet{
		FixedHeader:     packets.FixedHeader{Type: packets.Publish, Qos: e.QoS, Retain: e.Retain},
		TopicName:       e.Topic,
		Payload:         bytes.Clone(e.Payload),
		Origin:          e.Client,
		Created:         time.Now().Unix(),
		ProtocolVersion: 5,
	}
	p.Properties.ContentType = e.ContentType
	if ep := e.Properties; ep != nil {
		if ep.HasExpiry {
			p.Properties.MessageExpiryInterval = m.expiry
			p.Expiry = p.Created + int64(m.expiry)
		}
		if ep.UTF8 {
			p.Properties.PayloadFormat, p.Properties.PayloadFormatFlag = 1, true
		}
		p.Properties.ResponseTopic = ep.ResponseTopic
		p.Properties.CorrelationData = bytes.Clone(ep.CorrelationData)
		for _, u := range ep.User {
			p.Properties.User = append(p.Properties.User, packets.UserProperty{Key: u.Name, Val: u.Value})
		}
	}
	m.stored = p
	return p
}

// retain keeps a message for later subscribers, or with an empty payload
// forgets the one of its topic [MQTT-3.3.1-5], [MQTT-3.3.1-6].
func (b *Broker) retain(e *event.Event) {
	m := message{e: e}
	if p := e.Properties; p != nil {
		m.expiry = p.Expiry
	}
	b.server.Topics.RetainMessage(*m.packet())
	atomic.StoreInt64(&b.server.Info.Retained, int64(b.server.Topics.Retained.Len()))
}

// sendRetained sends the retained messages of a new subscription. It runs on
// the subscriber's own goroutine and waits for it when it reads slowly.
func (b *Broker) sendRetained(c *conn, g grant) {
	filter := g.sub.Filter
	if mqtt.IsSharedFilter(filter) || g.sub.RetainHandling == 2 || g.sub.RetainHandling == 1 && g.existed {
		return // [MQTT-3.3.1-10], [MQTT-3.3.1-11]
	}
	found := b.server.Topics.Messages(filter)
	if parent, ok := strings.CutSuffix(filter, "/#"); ok { // which mochi forgets
		found = append(found, b.server.Topics.Messages(parent)...)
	}
	to := newTarget(c.session.id, c.session.user, g.sub)
	for i := range found {
		if c.ready() != nil {
			return
		}
		b.sendCurrent(found[i].TopicName, &to)
	}
}

// sendCurrent sends the retained message that the topic has now. Under the
// lock of Route no newer one can come in between.
func (b *Broker) sendCurrent(topic string, to *target) {
	b.route.Lock()
	defer b.route.Unlock()
	p, ok := b.server.Topics.Retained.Get(topic)
	if ok {
		_, ok = b.receiver(to.client, topic)
	}
	if !ok {
		return
	}
	e, live := eventOf(&p)
	if !live {
		return
	}
	m := message{e: &e, retained: true}
	if e.Properties != nil {
		m.expiry = e.Properties.Expiry
	}
	b.deliver(&m, to, true)
}

// eventOf is the inverse of packet; live is false if the message has expired.
func eventOf(p *packets.Packet) (e event.Event, live bool) {
	props := &p.Properties
	e = event.Event{
		Topic:       p.TopicName,
		Payload:     p.Payload,
		QoS:         p.FixedHeader.Qos,
		Retain:      p.FixedHeader.Retain,
		ContentType: props.ContentType,
		Properties: &event.Properties{
			UTF8:            props.PayloadFormat == 1,
			ResponseTopic:   props.ResponseTopic,
			CorrelationData: props.CorrelationData,
		},
	}
	for _, u := range props.User {
		e.Properties.User = append(e.Properties.User, event.Property{Name: u.Key, Value: u.Val})
	}
	if p.Expiry > 0 {
		left := p.Expiry - time.Now().Unix()
		if left <= 0 {
			return e, false
		}
		e.Properties.HasExpiry, e.Properties.Expiry = true, uint32(left)
	}
	return e, true
}
