package broker

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"holdfast/gateway/event"
)

// maxRoutes bounds the topics whose subscribers are remembered.
const maxRoutes = 16 << 10

// routing is the state of Route. Its lock is held while events are routed and
// while a session or its subscriptions change. Locks are taken in the order
// routing, Broker.mu, group, outbox, conn.
type routing struct {
	sync.Mutex
	used       atomic.Bool   // there was a subscription at some time
	generation atomic.Uint64 // grows whenever subscriptions change
	seen       uint64        // the generation that targets belongs to
	targets    map[string]*targets
	feeds      atomic.Pointer[[]*Feed]
	groups     map[string]*group // by the filter with its share name
}

// changed tells Route that subscriptions have changed.
func (r *routing) changed() {
	r.used.Store(true)
	r.generation.Add(1)
}

// Feed is a stream whose events are routed to subscribers.
type Feed struct {
	b      *Broker
	index  int
	name   string
	stream Stream        // nil until it is followed
	next   atomic.Uint64 // events below have been routed; moved under the lock of routing
	start  uint64        // where the routing began
}

// Follow returns where the events of a stream are handed over for its
// subscribers, from offset next on. What is before it, on disk already, goes
// to the sessions that have not had it. To be called before Start for the
// streams that there are.
func (b *Broker) Follow(s Stream, next uint64) *Feed {
	b.route.Lock()
	defer b.route.Unlock()
	f := b.feed(s.Name())
	f.stream, f.start = s, next
	f.next.Store(next)
	b.eachCursor(func(k *cursor) {
		for len(k.next) <= f.index {
			k.next = append(k.next, 0)
		}
		if k.next[f.index] == 0 {
			k.next[f.index] = next
		}
	})
	b.keeper.replay(f)
	return f
}

// feed returns the feed of that name, which may not be followed yet. The
// caller holds the lock of routing.
func (b *Broker) feed(name string) *Feed {
	feeds := b.feeds()
	for _, f := range feeds {
		if f.name == name {
			return f
		}
	}
	f := &Feed{b: b, index: len(feeds), name: name}
	feeds = append(slices.Clone(feeds), f)
	b.route.feeds.Store(&feeds)
	return f
}

func (b *Broker) feeds() []*Feed {
	if p := b.route.feeds.Load(); p != nil {
		return *p
	}
	return nil
}

// positions returns up to where each feed has been routed.
func (b *Broker) positions() []uint64 {
	feeds := b.feeds()
	next := make([]uint64, len(feeds))
	for i, f := range feeds {
		next[i] = f.next.Load()
	}
	return next
}

// Route sends events of the stream to the clients that subscribe to their
// topics, in order, and keeps those with Retain set for later subscribers. It
// is called after the events have been committed, by one goroutine for each
// feed; it never waits for a subscriber, and costs next to nothing for events
// that nobody subscribes to.
func (f *Feed) Route(events []event.Event) {
	if len(events) == 0 {
		return
	}
	r := &f.b.route
	r.Lock()
	defer r.Unlock()
	f.b.routeAll(f, events)
	f.next.Store(events[len(events)-1].Offset + 1)
}

// Skip says that there is nothing to be routed before offset next: the events
// are gone.
func (f *Feed) Skip(next uint64) {
	f.b.route.Lock()
	defer f.b.route.Unlock()
	f.next.Store(max(next, f.next.Load()))
}

// Route sends events that are in no stream to the clients that subscribe to
// their topics. They get them now or, if they are away or do not keep up,
// never.
func (b *Broker) Route(events []event.Event) {
	b.route.Lock()
	defer b.route.Unlock()
	b.routeAll(nil, events)
}

func (b *Broker) routeAll(f *Feed, events []event.Event) {
	used := b.route.used.Load()
	for i := range events {
		e := &events[i]
		if e.Retain {
			b.retained.keep(f, e)
		}
		if !used {
			continue
		}
		if t := b.targetsOf(e.Topic); t != nil {
			if f != nil {
				f.next.Store(e.Offset)
			}
			b.fanOut(&message{f: f, e: e}, t)
		}
	}
}

// message is an event on its way to subscribers.
type message struct {
	f    *Feed // nil for one that is in no stream
	e    *event.Event
	late bool // it has been read from the log, or is a retained one
	kept bool // it is a retained message for a new subscription
}

// targets are the subscribers of one topic.
type targets struct {
	plain  []target
	shared []*group
}

type target struct {
	o *outbox
	match
}

// match is what the subscriptions of a session that match a topic amount to.
type match struct {
	ok     bool // there is one
	qos    byte
	retain bool   // retain as published
	local  bool   // one of them does not want the client's own messages
	ids    []int  // subscription identifiers
	own    *match // with local: what the others of them amount to
	since  []uint64
	peer   string // the gateway that the client is: what came from there does not go back
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
// mochi's tree says whom to ask; what their subscriptions amount to is looked
// at here, for it merges their options wrongly.
func (b *Broker) newTargets(topic string) *targets {
	subs := b.server.Topics.Subscribers(topic)
	t := new(targets)
	for client := range subs.Subscriptions {
		b.mu.Lock()
		s := b.sessions[client]
		b.mu.Unlock()
		if s == nil || !s.mayReceive(b, topic) {
			continue
		}
		s.out.mu.Lock()
		m := s.out.match(topic, nil, 0)
		s.out.mu.Unlock()
		if m.ok {
			t.plain = append(t.plain, target{&s.out, m})
		}
	}
	for filter := range subs.Shared {
		if g := b.route.groups[filter]; g != nil && event.Match(g.topics, topic) {
			t.shared = append(t.shared, g)
		}
	}
	if len(t.plain)+len(t.shared) == 0 {
		return nil
	}
	// So that no subscriber is always the last, and tests can count on it.
	slices.SortFunc(t.plain, func(a, b target) int { return cmp.Compare(a.o.s.id, b.o.s.id) })
	return t
}

// fanOut sends one event to its subscribers, and to one of each group that
// shares a subscription.
func (b *Broker) fanOut(m *message, t *targets) {
	for i := range t.plain {
		to := &t.plain[i]
		if mt := to.forClient(to.o.s.id, m.e); mt != nil {
			to.o.offer(m, mt)
		}
	}
	for _, g := range t.shared {
		g.offer(m)
	}
}

// forClient returns what counts for an event, which may be the client's own
// [MQTT-3.8.3-3]; nil if nothing does.
func (m *match) forClient(id string, e *event.Event) *match {
	if e.CameFrom(m.peer) {
		return nil
	}
	if m.local && e.Source == "mqtt" && e.Client == id {
		return m.own
	}
	return m
}

// eachCursor calls fn with every cursor that is behind, under its lock. The
// caller holds the lock of routing.
func (b *Broker) eachCursor(fn func(*cursor)) {
	b.mu.Lock()
	all := make([]*session, 0, len(b.sessions))
	for _, s := range b.sessions {
		all = append(all, s)
	}
	b.mu.Unlock()
	for _, s := range all {
		s.out.mu.Lock()
		if s.out.behind {
			fn(&s.out.cursor)
		}
		s.out.mu.Unlock()
	}
	for _, g := range b.route.groups {
		g.mu.Lock()
		if g.behind {
			fn(&g.cursor)
		}
		g.mu.Unlock()
	}
}
