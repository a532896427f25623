package broker

import (
	"slices"
	"strings"
	"sync"

	"holdfast/gateway/event"
)

// group is a shared subscription: each event goes to one of its members, by
// turns to those that are connected and have room. While no member has, the
// group is behind as a session can be, and whoever has room first reads on for
// it. So a member that is away or slow keeps nothing from the others.
//
// After kill -9 it gives again what it has given since its place was on disk,
// but for what members have in theirs. As with progress of a session that has
// a bound, see repeats.
type group struct {
	b      *Broker
	filter string // with the share name
	topics string // without it

	mu sync.Mutex
	cursor
	members  []*member
	turn     int
	returned []ref        // of members whose sessions ended before they acknowledged
	held     map[ref]bool // since a crash: what it gave to members that have it still
	given    uint64       // messages at QoS 1 and 2
	safe     uint64       // of these, those that the place on disk has passed
	saving   bool
	dirty    bool
	stored   bool // there is something of it on disk
}

type member struct {
	o   *outbox
	sub *subscription
}

// turn is a message that a group has given to a member.
type turn struct {
	group *group
	ref
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
	o.done = slices.DeleteFunc(o.done, func(t turn) bool { return t.group == g })
	if o.over {
		g.returned = append(g.returned, o.unacknowledged(g)...)
	}
	o.mu.Unlock()
	if len(g.members) == 0 {
		delete(b.route.groups, filter)
		b.keeper.dropGroup(g)
		return
	}
	if len(g.returned) > 0 {
		g.save(false) // before the session is taken off the disk
		g.fallBehind(b)
		b.pull(g)
	}
}

// hold notes what a member has that the group may read again.
func (g *group) hold(r ref) {
	if g.held == nil {
		g.held = map[ref]bool{}
	}
	g.held[r] = true
}

// repeats is how many messages a group may give again after kill -9: a window
// for each member, whose places are written with its own.
func (g *group) repeats() uint64 { return uint64(maxWindow * max(1, len(g.members))) }

// room reports whether the disk keeps up with what the group gives.
func (g *group) room() bool { return g.given < g.safe+g.repeats() }

// note sees to it that the place is on disk before it has to be waited for.
func (g *group) note() {
	if g.saving || g.given < g.safe+g.repeats()/2 {
		return
	}
	if !g.b.keeper.on() || !g.lasts() {
		g.safe = g.given // nothing of it survives
		return
	}
	g.save(true)
}

// lasts reports whether there is a member whose session outlasts its
// connections.
func (g *group) lasts() bool {
	for _, m := range g.members {
		if m.o.outlasts() {
			return true
		}
	}
	return false
}

// keep does what is to be done for a group now and then.
func (g *group) keep(all bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.behind {
		g.lose(g.age(g.b), errTooOld)
	}
	if g.dirty || g.stale(g.b, all) || !g.stored {
		g.save(false)
	}
}

// save puts the place of a group on disk, behind those of its members: what it
// has passed is then in one of theirs. What members have whose sessions do not
// last is for others after a crash, as it is when they end. The caller holds
// g.mu.
func (g *group) save(hurry bool) {
	k := &g.b.keeper
	if !k.on() || len(g.members) == 0 || !g.lasts() {
		return
	}
	p := &place{}
	g.fill(g.b, p)
	returned := g.returned[:len(g.returned):len(g.returned)]
	passed := map[turn]bool{}
	for _, m := range g.members {
		m.o.mu.Lock()
		for _, t := range m.o.done {
			passed[t] = t.group == g
		}
		switch {
		case m.o.over:
		case !m.o.lasts:
			returned = append(returned, m.o.unacknowledged(g)...)
		case m.o.dirty:
			_ = m.o.write(false, hurry, nil) // it fails when the log has failed or is closed
		}
		m.o.mu.Unlock()
	}
	for _, r := range returned {
		p.returned = append(p.returned, placeSent{stream: r.feed.name, offset: r.offset})
	}
	given := g.given
	g.dirty, g.stored, g.saving = false, true, true
	err := k.put([]Entry{{keyGroup + g.filter, p.append(nil)}}, hurry, func(err error) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.saving = false
		if err == nil {
			g.safe = max(g.safe, given)
			g.passed(passed)
		}
		g.note()
		g.b.pull(g)
	})
	if err != nil {
		g.saving = false
	}
}

// passed makes members forget what the place of the group on disk has passed.
func (g *group) passed(turns map[turn]bool) {
	if len(turns) == 0 {
		return
	}
	for _, m := range g.members {
		m.o.mu.Lock()
		m.o.done = slices.DeleteFunc(m.o.done, func(t turn) bool { return turns[t] })
		m.o.mu.Unlock()
	}
}

// complete remembers a message that the client has completed, if its group
// might give it again after a kill. At QoS 1 that is allowed.
func (o *outbox) complete(m *sent) {
	if m.group != nil && m.qos == 2 && m.feed != nil && o.kept() {
		o.done = append(o.done, turn{m.group, ref{m.feed, m.offset}})
	}
}

// unacknowledged are the messages of a group at QoS 1 that the session was
// given and has not acknowledged. The caller holds o.mu.
func (o *outbox) unacknowledged(g *group) (all []ref) {
	for i := range o.window.list {
		if m := &o.window.list[i]; m.id != 0 && m.group == g && m.qos == 1 && m.feed != nil {
			all = append(all, ref{m.feed, m.offset})
		}
	}
	return all
}

// offer gives the group an event that is being routed.
func (g *group) offer(m *message) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.behind && g.room() && g.give(m) {
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
			if m.e.QoS > 0 {
				g.given++
				g.note()
			}
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
func (g *group) joined(n uint64)     { g.held = nil; g.lose(n, errRemoved) }
func (g *group) owes() bool          { return false }
func (g *group) pay()                {}
func (g *group) repeated()           {}
func (g *group) wants(t string) bool { return event.Match(g.topics, t) }

func (g *group) ready() bool {
	if !g.room() {
		return false
	}
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
	if at := (ref{m.f, m.e.Offset}); g.held[at] {
		delete(g.held, at)
		g.took(int64(m.e.Size()))
		return true
	}
	if _, live := g.b.remaining(m.e); !live {
		g.took(int64(m.e.Size()))
		g.expired++
		g.b.count.expired.Add(1)
		return true
	}
	if !g.room() || !g.give(m) {
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
	switch {
	case g.held[ref{f, offset}]:
	case m == nil:
		g.lose(1, errRemoved)
	case !g.room() || !g.give(m):
		return
	}
	g.returned = g.returned[1:]
}
