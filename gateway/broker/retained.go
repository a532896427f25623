package broker

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"

	"holdfast/gateway/event"
)

// retainedSet are the retained messages: the newest event with the flag of each
// topic. They are in memory, and on disk as something that follows from the
// log: which of them has changed is written once a second, with the offset up
// to which that holds, and the rest of the log is looked through at start. So
// a message is as durable as its event, and costs the commit nothing.
type retainedSet struct {
	b  *Broker
	mu sync.Mutex
	of map[string]*keptMessage
	// bytes is what they take. Anybody who may publish can make up topics, so
	// that it needs a limit; $SYS does not count.
	bytes   int64
	refused uint64 // messages that were too much
	// changed are the topics to be written.
	changed map[string]struct{}
}

type keptMessage struct {
	event event.Event
	feed  *Feed // nil if it is in no stream
}

// size is the memory that a retained message takes, more or less.
func (m *keptMessage) size() int64 {
	if m.feed == nil {
		return 0
	}
	return int64(m.event.Size()) + 256
}

var errRetained = errors.New("those that are retained take as much as mqtt.max_retained allows")

// put replaces the message of a topic, or with nil removes it. A limit of 0 is
// none. The caller holds r.mu.
func (r *retainedSet) put(topic string, m *keptMessage, limit int64) (ok bool) {
	size := r.bytes
	if old := r.of[topic]; old != nil {
		size -= old.size()
	}
	if m != nil {
		size += m.size()
	}
	if m == nil || limit > 0 && size > limit && m.feed != nil {
		delete(r.of, topic) // also because an old one must not pass for the newest
		if m != nil {
			size -= m.size()
		}
		r.bytes = size
		return m == nil
	}
	r.of[topic], r.bytes = m, size
	return true
}

// keep notes an event with the flag, or with an empty payload forgets the one
// of its topic [MQTT-3.3.1-6], [MQTT-3.3.1-7].
func (r *retainedSet) keep(f *Feed, e *event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(e.Payload) == 0 {
		if _, ok := r.of[e.Topic]; !ok {
			return
		}
		r.put(e.Topic, nil, 0)
	} else {
		m := &keptMessage{event: *e, feed: f}
		// The event's memory is that of a whole batch.
		m.event.Topic = strings.Clone(e.Topic)
		m.event.Payload = slices.Clone(e.Payload)
		if !r.put(m.event.Topic, m, r.b.limits.Retained) {
			r.refused++
			r.b.say("mqtt message is delivered but not retained", e.Client, errRetained)
		}
	}
	if f != nil {
		r.changed[e.Topic] = struct{}{}
	}
}

// message returns the retained message of a topic if it is still the one of
// that offset.
func (r *retainedSet) message(topic string, offset uint64) *message {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.of[topic]
	if m == nil || m.event.Offset != offset {
		return nil
	}
	return &message{f: m.feed, e: &m.event, late: true, kept: true}
}

// matching returns the topics with a retained message that a filter matches,
// in their order.
func (r *retainedSet) matching(filter string) (topics []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !strings.ContainsAny(filter, "+#") {
		if _, ok := r.of[filter]; ok {
			topics = []string{filter}
		}
		return topics
	}
	for topic := range r.of {
		if event.Match(filter, topic) {
			topics = append(topics, topic)
		}
	}
	slices.Sort(topics)
	return topics
}

// count is how many there are and what they take, and how many were refused.
func (r *retainedSet) count() (n int, bytes int64, refused uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.of), r.bytes, r.refused
}

// debt is a retained message that a new subscription is to be given.
type debt struct {
	topic string
	sub   *subscription
}

// arrears are what a subscription is still to be given, by this connection or
// the next: the retained messages that it matches, from a topic on in their order.
type arrears struct {
	sub  *subscription
	from string
}

// postpone makes arrears of debts. The caller holds o.mu.
func (o *outbox) postpone(debts []debt) {
	var last *subscription // those of one come together
	for _, d := range debts {
		if d.sub == last {
			continue
		}
		last = d.sub
		known := slices.ContainsFunc(o.arrears, func(a arrears) bool { return a.sub == d.sub })
		if !known && o.subs[d.sub.filter] == d.sub {
			o.arrears = append(o.arrears, arrears{d.sub, d.topic})
		}
	}
}

// resume owes again what was left to this connection. The caller holds o.mu.
func (o *outbox) resume() {
	for _, a := range o.arrears {
		for _, topic := range o.b.retained.matching(a.sub.filter) {
			if topic >= a.from && o.subs[a.sub.filter] == a.sub {
				o.debts = append(o.debts, debt{topic, a.sub})
			}
		}
	}
	o.arrears = nil
}

// pledge returns the retained messages that new subscriptions match. Until they
// are owed they are arrears, which are on disk with the subscriptions: neither
// the end of the connection nor that of the gateway forgets them.
func (o *outbox) pledge(subs []*subscription) (debts []debt) {
	for _, sub := range subs {
		for _, topic := range o.b.retained.matching(sub.filter) {
			debts = append(debts, debt{topic, sub})
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.postpone(debts)
	return debts
}

// owe gives what is pledged, now as far as there is room, the rest as room
// comes.
func (o *outbox) owe(debts []debt) {
	if len(debts) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	owed := map[*subscription]bool{}
	for _, d := range debts {
		owed[d.sub] = true
	}
	o.arrears = slices.DeleteFunc(o.arrears, func(a arrears) bool { return owed[a.sub] })
	o.debts = append(o.debts, debts...)
	if o.ready() {
		o.pay()
	}
	o.b.pull(o)
}

func (o *outbox) owes() bool { return len(o.debts) > 0 && o.window.grounded() == nil }

// pay sends what is owed as far as there is room. A message is the one that the
// topic has now: under the lock, a newer one can only come behind it.
func (o *outbox) pay() {
	for len(o.debts) > 0 && o.ready() {
		d := o.debts[0]
		o.debts = o.debts[1:]
		r := &o.b.retained
		r.mu.Lock()
		kept := r.of[d.topic]
		r.mu.Unlock()
		if kept == nil || !o.s.mayReceive(o.b, d.topic) {
			continue
		}
		m := &message{f: kept.feed, e: &kept.event, late: true, kept: true}
		if _, live := o.b.remaining(m.e); !live {
			continue
		}
		mt := match{qos: d.sub.qos(), retain: true}
		if d.sub.id > 0 {
			mt.ids = []int{d.sub.id}
		}
		if qos := min(m.e.QoS, mt.qos); qos == 0 {
			o.send(o.delivery(m, 0, &mt))
		} else {
			o.deliver(m, qos, &mt, nil)
		}
	}
	if len(o.debts) == 0 {
		o.debts = nil
	}
}

// expire forgets those whose time has come.
func (r *retainedSet) expire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for topic, m := range r.of {
		if m.event.Properties == nil || !m.event.Properties.HasExpiry {
			continue
		}
		if _, live := r.b.remaining(&m.event); !live {
			r.put(topic, nil, 0)
			if m.feed != nil {
				r.changed[topic] = struct{}{}
			}
		}
	}
}

// retainedRecord is how a retained message is kept.
type retainedRecord struct {
	Stream string      `json:"stream"`
	Event  event.Event `json:"event"`
}

func (m *keptMessage) record() []byte {
	b, _ := json.Marshal(retainedRecord{m.feed.name, m.event}) // of plain types
	return b
}

// restore reads one.
func (r *retainedSet) restore(topic string, value []byte) error {
	var rec retainedRecord
	if err := json.Unmarshal(value, &rec); err != nil {
		return err
	}
	r.put(topic, &keptMessage{event: rec.Event, feed: r.b.feed(rec.Stream)}, 0)
	return nil
}
