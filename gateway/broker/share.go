package broker

import (
	"strings"
	"sync"

	"holdfast/gateway/event"
)

// group is a shared subscription: each event goes to one of its members, by
// turns to those that are connected and have room. While no member has, the
// group is behind as a session can be, and whoever has room first reads on for
// it. So a member that is away or slow keeps nothing from the others.
type group struct {
	b      *Broker
	filter string // with the share name
	topics string // without it

	mu sync.Mutex
	cursor
	members  []*member
	turn     int
	returned []ref // of members whose sessions ended before they acknowledged
	dirty    bool
	stored   bool // there is something of it on disk
}

type member struct {
	o   *outbox
	sub *subscription
}

// ref is a message in the log.
type ref struct {
	feed   *Feed
	offset uint64
}

func isShared(filter string) bool {
	return len(filter) > 7 && filter[6] == '/' && strings.EqualFold(filter[:6], "$share")
}

func newGroup(b *Broker, filter string) *group {
	_, topics, _ := strings.Cut(filter[7:], "/")
	return &group{b: b, filter: filter, topics: topics}
}

// share makes the session a member of a group, or changes its options. The
// caller holds the lock of routing.
func (b *Broker) share(o *outbox, sub *subscription) {
	g := b.route.groups[sub.filter]
	if g == nil {
		g = newGroup(b, sub.filter)
		b.route.groups[sub.filter] = g
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dirty = true
	for _, m := range g.members {
		if m.o == o {
			m.sub = sub
			return
		}
	}
	g.members = append(g.members, &member{o, sub})
	o.mu.Lock()
	o.groups = append(o.groups[:len(o.groups):len(o.groups)], g)
	o.mu.Unlock()
}

// unshare takes the session out of a group. What it has not acknowledged at
// QoS 1 goes to others if it is over. The caller holds the lock of routing.
func (b *Broker) unshare(o *outbox, filter string) {
	g := b.route.groups[filter]
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dirty = true
	for i, m := range g.members {
		if m.o == o {
			g.members = append(g.members[:i:i], g.members[i+1:]...)
			break
		}
	}
	o.mu.Lock()
	for i, of := range o.groups {
		if of == g {
			o.groups = append(o.groups[:i:i], o.groups[i+1:]...)
			break
		}
	}
	if o.over {
		for i := range o.window.list {
			if m := &o.window.list[i]; m.id != 0 && m.group == g && m.qos == 1 && m.feed != nil {
				g.returned = append(g.returned, ref{m.feed, m.offset})
			}
		}
	}
	o.mu.Unlock()
	if len(g.members) == 0 {
		delete(b.route.groups, filter)
		b.keeper.dropGroup(g)
		return
	}
	if len(g.returned) > 0 {
		g.fallBehind(b)
		b.pull(g)
	}
}

// offer gives the group an event that is being routed.
func (g *group) offer(m *message) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.behind && g.give(m) {
		return
	}
	if m.e.QoS == 0 {
		g.give(m)
		return
	}
	if m.f == nil {
		g.dropped++
		g.b.count.dropped.Add(1)
		return
	}
	g.fallBehind(g.b)
	g.lose(g.missed(g.b, int64(m.e.Size())), errTooMuch)
}

func (g *group) lose(n uint64, why error) {
	g.dirty = true
	if n > 0 {
		g.dropped += n
		g.b.count.dropped.Add(n)
		g.b.say("mqtt messages that waited for a shared subscription are dropped", g.filter, why)
	}
}

// give gives a message to the next member that can have it. It returns false
// if there are members for it, but none that has room.
func (g *group) give(m *message) bool {
	wait := false
	for i := range g.members {
		n := (g.turn + i) % len(g.members)
		mb := g.members[n]
		if !mb.o.s.mayReceive(g.b, m.e.Topic) {
			continue
		}
		if mb.o.share(m, mb.sub, g) {
			g.turn = n + 1
			return true
		}
		wait = true
	}
	return !wait || m.e.QoS == 0
}

// share gives a message of a group to this member; false if it has no room.
func (o *outbox) share(m *message, sub *subscription, g *group) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.c == nil || o.over {
		return false
	}
	mt := match{qos: sub.qos(), retain: sub.asIs()}
	if sub.id > 0 {
		mt.ids = []int{sub.id}
	}
	qos := min(m.e.QoS, mt.qos)
	switch {
	case qos == 0:
		return o.send(o.delivery(m, 0, &mt))
	case !o.room():
		return false
	}
	o.deliver(m, qos, &mt, g)
	return true
}

// present reports whether a member is connected. The caller holds g.mu.
func (g *group) present() bool {
	for _, mb := range g.members {
		mb.o.mu.Lock()
		c := mb.o.c
		mb.o.mu.Unlock()
		if c != nil {
			return true
		}
	}
	return false
}

// kick lets a group that is behind go on.
func (g *group) kick() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.b.pull(g)
}

// The group as a puller.

func (g *group) Lock()               { g.mu.Lock() }
func (g *group) Unlock()             { g.mu.Unlock() }
func (g *group) place() *cursor      { return &g.cursor }
func (g *group) version() uint64     { return 0 }
func (g *group) joined(n uint64)     { g.lose(n, errRemoved) }
func (g *group) owes() bool          { return false }
func (g *group) pay()                {}
func (g *group) repeated()           {}
func (g *group) wants(t string) bool { return event.Match(g.topics, t) }

func (g *group) ready() bool {
	for _, mb := range g.members {
		mb.o.mu.Lock()
		ready := mb.o.c != nil && !mb.o.over && mb.o.room()
		mb.o.mu.Unlock()
		if ready {
			return true
		}
	}
	return false
}

func (g *group) take(m *message) bool {
	if m.e.QoS == 0 || !event.Match(g.topics, m.e.Topic) {
		return true
	}
	if _, live := g.b.remaining(m.e); !live {
		g.took(int64(m.e.Size()))
		g.expired++
		g.b.count.expired.Add(1)
		return true
	}
	if !g.give(m) {
		return false
	}
	g.took(int64(m.e.Size()))
	g.dirty = true
	return true
}

func (g *group) again() (f *Feed, offset uint64, ok bool) {
	if len(g.returned) == 0 {
		return nil, 0, false
	}
	return g.returned[0].feed, g.returned[0].offset, true
}

func (g *group) repeat(m *message, f *Feed, offset uint64) {
	if len(g.returned) == 0 || g.returned[0] != (ref{f, offset}) {
		return
	}
	g.dirty = true
	if m == nil {
		g.lose(1, errRemoved)
	} else if !g.give(m) {
		return
	}
	g.returned = g.returned[1:]
}
