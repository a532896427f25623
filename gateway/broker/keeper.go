package broker

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// keepEvery is how often what has changed is written: acknowledgements of
	// subscribers are on disk within a second.
	keepEvery = 800 * time.Millisecond
	// refreshEvery is after how many times the clock is written though nothing
	// has happened.
	refreshEvery = 40
	// refreshAfter is after how many events the place of somebody is written for
	// whom nothing has happened, so that a start after a crash need not look
	// through more.
	refreshAfter = 50_000
	// willGrace is how long after a start clients have to come back before their
	// wills are published, unless those were to wait for less anyway.
	willGrace = 30 * time.Second
)

// keeper keeps what must outlive the process.
type keeper struct {
	b       *Broker
	state   State // nil: nothing is kept
	ticks   int
	covered map[string]uint64 // by stream: retained messages of all events below are kept
	wrote   map[string]uint64 // covered, as it is on disk
	base    atomic.Int64      // the broker's clock when it was started
	began   time.Time
	stop    chan struct{}
	once    sync.Once
	mu      sync.Mutex // one keep at a time
}

func (k *keeper) on() bool { return k.state != nil }

// clock is the time that the gateway has seen go by: it does not jump when the
// wall clock does, and goes on while the gateway is down.
func (k *keeper) clock() time.Duration { return time.Duration(k.base.Load()) + time.Since(k.began) }

// clockRecord is kept to know how long the gateway was down.
type clockRecord struct {
	Clock   time.Duration     `json:"clock"`
	Wall    time.Time         `json:"wall"`
	Boot    uint32            `json:"boot"`
	Mono    time.Duration     `json:"mono"`
	Covered map[string]uint64 `json:"covered"`
}

// set sets the clock by what was kept: within one boot of the machine by the
// time since boot, else by the wall clock as it is now, if that is not behind.
func (k *keeper) set(r clockRecord, boot uint32, mono time.Duration, now time.Time) {
	base := r.Clock
	if r.Boot == boot && boot != 0 {
		base += max(0, mono-r.Mono)
	} else if !r.Wall.IsZero() {
		base += max(0, now.Sub(r.Wall))
	}
	k.base.Store(int64(base))
}

// load brings back what was kept.
func (k *keeper) load() error {
	b := k.b
	k.covered, k.wrote = map[string]uint64{}, map[string]uint64{}
	k.began, k.stop = time.Now(), make(chan struct{})
	if k.state == nil {
		return nil
	}
	cards, places := map[string]card{}, map[string]place{}
	groups := map[string]place{}
	b.route.Lock()
	defer b.route.Unlock()
	err := k.state.Load(func(key string, value []byte) (err error) {
		switch {
		case key == keyClock:
			var r clockRecord
			if err = json.Unmarshal(value, &r); err == nil {
				boot, mono := b.bootClock()
				k.set(r, boot, mono, time.Now())
				if r.Covered != nil {
					k.covered = r.Covered
				}
			}
		case strings.HasPrefix(key, keyCard):
			var c card
			err = json.Unmarshal(value, &c)
			cards[key[len(keyCard):]] = c
		case strings.HasPrefix(key, keyPlace):
			places[key[len(keyPlace):]], err = parsePlace(value)
		case strings.HasPrefix(key, keyGroup):
			groups[key[len(keyGroup):]], err = parsePlace(value)
		case strings.HasPrefix(key, keyRetained):
			err = b.retained.restore(key[len(keyRetained):], value)
		}
		if err != nil { // the store opens, whatever is damaged
			b.log.Error("state of mqtt cannot be read and is passed over", "key", key, "err", err)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the state of mqtt: %w", err)
	}
	b.now.Store(int64(k.clock()))
	for id, c := range cards {
		p, ok := places[id]
		k.restore(id, c, p, ok)
	}
	for filter, p := range groups {
		if g := b.route.groups[filter]; g != nil {
			g.restore(b, &p)
			for _, r := range p.returned {
				g.returned = append(g.returned, ref{b.feed(r.stream), r.offset})
			}
		}
	}
	return nil
}

// restore brings back one session.
func (k *keeper) restore(id string, c card, p place, placed bool) {
	b := k.b
	s := newSession(b, id, c.User)
	if c.Password {
		s.password, s.who.hash = true, "kept" // what it was does not matter: the next connection has its own
	}
	s.who.user = c.User
	s.expiry = time.Duration(c.Expiry) * time.Second
	o := &s.out
	o.lasts = c.Lasts
	b.sessions[id] = s
	s.left = p.left
	if p.connected || s.left == 0 {
		s.left = k.clock()
	}
	if placed {
		o.restore(b, &p)
		o.progress = progress{acked: p.delivered, asked: p.delivered, safe: p.delivered}
	} else {
		o.behind = true
		o.next = make([]uint64, len(b.feeds()))
	}
	o.crashed, o.stored = p.connected, true
	o.window.lastID = p.lastID
	for _, cs := range c.Subs {
		sub := &subscription{filter: cs.Filter, options: cs.Options, id: cs.ID}
		o.subscribe(sub)
		sub.since = b.byFeed(cs.Since)
		if cs.Owed != "" {
			o.arrears, o.carded = append(o.arrears, arrears{sub, cs.Owed}), true
		}
	}
	for _, ps := range p.window {
		m := sent{id: ps.id, qos: ps.qos, retain: ps.retain, released: ps.released, size: ps.size, offset: ps.offset, topic: ps.topic}
		if ps.stream != "" {
			m.feed = b.feed(ps.stream)
			o.overlap = o.overlap || m.offset >= p.next[ps.stream]
		}
		if m.group = b.route.groups[ps.group]; m.group != nil && m.feed != nil {
			at := ref{m.feed, m.offset}
			m.group.hold(at)
			if m.id == 0 {
				o.done = append(o.done, turn{m.group, at})
			}
		}
		if m.id == 0 {
			continue
		}
		last := o.window.lastID
		o.window.add(m)
		o.window.lastID = last
	}
	b.route.changed()
	if c.Will != nil {
		w := &will{event: c.Will.Event, delay: c.Will.Delay, due: c.Will.Due}
		s.lastWill = w
		b.waitWill(s, w, w.rest(k.clock(), b.opt.willGrace))
	}
}

// replay looks through what the log had on disk when the routing of a feed
// began and the retained messages kept do not cover. The caller holds the lock
// of routing.
func (k *keeper) replay(f *Feed) {
	for _, s := range k.b.crashedSessions() { // it may have been sent all of that
		s.out.mu.Lock()
		for len(s.out.before) <= f.index {
			s.out.before = append(s.out.before, 0)
		}
		s.out.before[f.index] = f.start
		s.out.mu.Unlock()
	}
	if k.state == nil {
		return
	}
	from := max(k.covered[f.name], 1) // from its beginning if nothing is kept of the stream yet
	scanner := f.stream.Retained()
	for from < f.start {
		events, next, err := scanner.Read(from)
		if err != nil || next <= from {
			k.b.log.Error("retained messages may be missing", "stream", f.name, "err", err)
			return
		}
		for i := range events {
			if e := &events[i]; e.Retain && e.Offset < f.start {
				k.b.retained.keep(f, e)
			}
		}
		from = next
	}
}

// run writes what has changed until the broker is closed.
func (k *keeper) run() {
	k.mu.Lock()
	k.keepRetained(true) // the log from here on says which messages are retained
	k.mu.Unlock()
	tick := time.NewTicker(k.b.opt.keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-k.stop:
			return
		case <-tick.C:
			k.keep(false)
		}
	}
}

// close writes all there is.
func (k *keeper) close() {
	k.once.Do(func() {
		close(k.stop)
		k.b.kept.Wait()
		k.keep(true)
	})
}

// keep does what is to be done now and then: limits of age, expiry, and the
// writing of what has changed.
func (k *keeper) keep(all bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	b := k.b
	b.now.Store(int64(k.clock()))
	k.ticks++
	b.retained.expire()
	for _, g := range b.allGroups() {
		g.keep(all)
	}
	for _, s := range b.allSessions() {
		o := &s.out
		o.mu.Lock()
		if o.behind && !o.over {
			o.lose(o.age(b), errTooOld)
		}
		if o.lasts && !o.over && (o.dirty || o.stale(b, all)) {
			_ = o.write(false, false, nil)
		}
		gone := o.lapsed(k.clock())
		o.mu.Unlock()
		if gone && !all {
			b.expire(s)
		}
	}
	k.keepRetained(all || k.ticks%refreshEvery == 0)
}

// dropGroup forgets a group without members. The caller holds g.mu.
func (k *keeper) dropGroup(g *group) {
	if g.stored {
		k.write(Entry{keyGroup + g.filter, nil})
	}
}

// keepRetained writes the retained messages that have changed, and then up to
// where that holds.
func (k *keeper) keepRetained(refresh bool) {
	if k.state == nil {
		return
	}
	b := k.b
	r := &b.retained
	covered := b.byName(b.positions()) // before the messages are looked at
	r.mu.Lock()
	changed := r.changed
	r.changed = map[string]struct{}{}
	messages := make(map[string]*keptMessage, len(changed))
	for topic := range changed {
		messages[topic] = r.of[topic]
	}
	r.mu.Unlock()
	var entries []Entry
	size := 0
	for topic, m := range messages {
		e := Entry{Key: keyRetained + topic}
		if m != nil && m.feed != nil {
			e.Value = m.record()
		}
		entries = append(entries, e)
		if size += len(e.Key) + len(e.Value); size > 32<<10 {
			k.write(entries...)
			entries, size = nil, 0
		}
	}
	for name, at := range covered {
		refresh = refresh || at > k.wrote[name]+refreshAfter
	}
	if len(changed) == 0 && !refresh {
		return
	}
	k.wrote = covered
	boot, mono := b.bootClock()
	rec, _ := json.Marshal(clockRecord{k.clock(), time.Now(), boot, mono, covered}) // of plain types
	k.write(append(entries, Entry{keyClock, rec})...)
}

// put changes the State, if there is one.
func (k *keeper) put(entries []Entry, hurry bool, done func(error)) (err error) {
	if k.state == nil {
		return nil
	}
	return k.state.Put(entries, hurry, done)
}

// write is put for those who do not wait for it. It fails only when the log
// has failed or is closed, which is told elsewhere.
func (k *keeper) write(entries ...Entry) { _ = k.put(entries, false, func(error) {}) }

// tell puts a session on disk, or takes it off when it does not last, and
// returns when that is done.
func (k *keeper) tell(s *session) error {
	if k.state == nil {
		return nil
	}
	result := make(chan error, 1)
	done := func(err error) { result <- err }
	var err error
	o := &s.out
	o.mu.Lock()
	switch {
	case !o.over && (o.lasts || s.lastWill != nil):
		o.stored = true
		err = o.write(true, true, done)
	case !o.over && o.stored:
		o.stored = false
		err = k.put(forgotten(s.id), true, done)
	default:
		result <- nil
	}
	o.mu.Unlock()
	if err != nil {
		return err
	}
	return <-result
}

// note puts a session on disk without waiting for it.
func (k *keeper) note(s *session) {
	o := &s.out
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.lasts && !o.over {
		o.stored = true
		_ = o.write(true, false, nil)
	}
}

// forget takes a session that is over off the disk.
func (k *keeper) forget(s *session) {
	o := &s.out
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stored {
		o.stored = false
		k.write(forgotten(s.id)...)
	}
}

func forgotten(id string) []Entry { return []Entry{{keyCard + id, nil}, {keyPlace + id, nil}} }

func (b *Broker) bootClock() (boot uint32, mono time.Duration) {
	if b.opt.Clock == nil {
		return 0, 0
	}
	return b.opt.Clock()
}

func (b *Broker) allSessions() []*session {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]*session, 0, len(b.sessions))
	for _, s := range b.sessions {
		all = append(all, s)
	}
	return all
}

func (b *Broker) crashedSessions() (all []*session) {
	for _, s := range b.allSessions() {
		if s.out.crashed {
			all = append(all, s)
		}
	}
	return all
}
