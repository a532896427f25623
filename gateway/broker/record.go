package broker

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"holdfast/gateway/event"
)

// card is what is kept of a session that changes with CONNECT, SUBSCRIBE and
// UNSUBSCRIBE only.
type card struct {
	User     string     `json:"user,omitempty"`
	Password bool       `json:"password,omitempty"` // the user is in the users file
	Lasts    bool       `json:"lasts"`              // false: it is here for its will only
	Expiry   int64      `json:"expiry"`             // seconds
	Subs     []cardSub  `json:"subs,omitempty"`
	Will     *willState `json:"will,omitempty"`
}

type cardSub struct {
	Filter  string            `json:"filter"`
	Options byte              `json:"options"`
	ID      int               `json:"id,omitempty"`
	Since   map[string]uint64 `json:"since,omitempty"` // by stream
	Owed    string            `json:"owed,omitempty"`  // the first topic of its arrears
}

type willState struct {
	Event event.Event   `json:"event"`
	Delay time.Duration `json:"delay"`
	Due   time.Duration `json:"due,omitempty"`
}

// card returns the session's. The caller holds o.mu.
func (o *outbox) card() card {
	s := o.s
	c := card{User: s.user, Password: s.password, Lasts: o.lasts, Expiry: int64(s.expiry / time.Second)}
	feeds := o.b.feeds()
	o.carded = len(o.arrears) > 0
	for _, sub := range o.subs {
		cs := cardSub{Filter: sub.filter, Options: sub.options, ID: sub.id, Since: map[string]uint64{}}
		for i, at := range sub.since {
			cs.Since[feeds[i].name] = at
		}
		for _, a := range o.arrears {
			if a.sub == sub {
				cs.Owed = a.from
			}
		}
		c.Subs = append(c.Subs, cs)
	}
	if s.lastWill != nil {
		c.Will = &willState{s.lastWill.event, s.lastWill.delay, s.lastWill.due}
	}
	return c
}

// place is where a session or a group is, as it is kept. It is written often,
// and therefore small.
type place struct {
	connected bool
	left      time.Duration // when the connection ended, by the broker's clock
	lastID    uint16
	next      map[string]uint64 // by stream
	pending   uint64
	bytes     int64
	delivered uint64
	outcome
	marks    []placeMark
	window   []placeSent
	returned []placeSent // of a group
}

type placeMark struct {
	count uint64
	bytes int64
	until time.Duration
	next  map[string]uint64
}

type placeSent struct {
	id               uint16
	qos              byte
	retain, released bool
	size             int32
	stream           string
	offset           uint64
	topic            string
	group            string
}

// Version 1 had neither delivered nor dropped nor expired.
const placeVersion = 2

var errPlace = errors.New("the kept place of a session cannot be read")

// append encodes p.
//
//	version, 2
//	flags: 1 connected
//	left, last identifier, pending, bytes, delivered, dropped, expired (uvarints)
//	names: streams and groups that are referred to below (count, texts)
//	next: number, then (name, offset)
//	marks: number, then (count, bytes, until, next)
//	window (with identifier 0: done) and returned: number, then (identifier, flags, size, stream+1, offset, group+1, [topic])
func (p *place) append(b []byte) []byte {
	var names []string
	name := func(s string) uint64 {
		i := slices.Index(names, s)
		if i < 0 {
			names = append(names, s)
			i = len(names) - 1
		}
		return uint64(i)
	}
	var body []byte
	put := func(v uint64) { body = binary.AppendUvarint(body, v) }
	nexts := func(next map[string]uint64) {
		put(uint64(len(next)))
		for s, at := range next {
			put(name(s))
			put(at)
		}
	}
	nexts(p.next)
	put(uint64(len(p.marks)))
	for _, m := range p.marks {
		put(m.count)
		put(uint64(m.bytes))
		put(uint64(m.until))
		nexts(m.next)
	}
	for _, list := range [][]placeSent{p.window, p.returned} {
		put(uint64(len(list)))
		for _, m := range list {
			put(uint64(m.id))
			flags := uint64(m.qos)
			for i, on := range []bool{m.retain, m.released, m.topic != "", m.stream != "", m.group != ""} {
				if on {
					flags |= 4 << i
				}
			}
			put(flags)
			put(uint64(m.size))
			put(m.offset)
			if m.stream != "" {
				put(name(m.stream))
			}
			if m.group != "" {
				put(name(m.group))
			}
			if m.topic != "" {
				put(uint64(len(m.topic)))
				body = append(body, m.topic...)
			}
		}
	}
	flags := byte(0)
	if p.connected {
		flags = 1
	}
	b = append(b, placeVersion, flags)
	b = binary.AppendUvarint(b, uint64(max(p.left, 0)))
	b = binary.AppendUvarint(b, uint64(p.lastID))
	b = binary.AppendUvarint(b, p.pending)
	b = binary.AppendUvarint(b, uint64(max(p.bytes, 0)))
	for _, n := range []uint64{p.delivered, p.dropped, p.expired} {
		b = binary.AppendUvarint(b, n)
	}
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, s := range names {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return append(b, body...)
}

// parsePlace decodes what append has encoded.
func parsePlace(b []byte) (p place, err error) {
	if len(b) < 2 || b[0] == 0 || b[0] > placeVersion {
		return p, errPlace
	}
	p.connected = b[1]&1 != 0
	r := placeReader{b: b[2:]}
	p.left = time.Duration(r.number())
	p.lastID = uint16(r.number())
	p.pending = r.number()
	p.bytes = int64(r.number())
	if b[0] > 1 {
		p.delivered, p.dropped, p.expired = r.number(), r.number(), r.number()
	}
	for range r.length() {
		r.names = append(r.names, r.text())
	}
	p.next = r.next()
	for range r.length() {
		p.marks = append(p.marks, placeMark{r.number(), int64(r.number()), time.Duration(r.number()), r.next()})
	}
	p.window, p.returned = r.list(), r.list()
	if r.bad || len(r.b) > 0 {
		return place{}, errPlace
	}
	return p, nil
}

type placeReader struct {
	b     []byte
	bad   bool
	names []string
}

func (r *placeReader) number() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// length is a number of things that take at least a byte each.
func (r *placeReader) length() uint64 {
	n := r.number()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return 0
	}
	return n
}

func (r *placeReader) text() string {
	n := r.length()
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *placeReader) name() string {
	i := r.number()
	if i >= uint64(len(r.names)) {
		r.bad = true
		return ""
	}
	return r.names[i]
}

func (r *placeReader) next() map[string]uint64 {
	next := map[string]uint64{}
	for range r.length() {
		s := r.name()
		next[s] = r.number()
	}
	return next
}

func (r *placeReader) list() (list []placeSent) {
	for range r.length() {
		m := placeSent{id: uint16(r.number())}
		flags := r.number()
		m.qos = byte(flags & 3)
		m.retain, m.released = flags&4 != 0, flags&8 != 0
		m.size = int32(min(r.number(), 1<<30))
		m.offset = r.number()
		if flags&32 != 0 {
			m.stream = r.name()
		}
		if flags&64 != 0 {
			m.group = r.name()
		}
		if flags&16 != 0 {
			m.topic = r.text()
		}
		list = append(list, m)
	}
	return list
}

// byName names positions by their streams.
func (b *Broker) byName(next []uint64) map[string]uint64 {
	named := make(map[string]uint64, len(next))
	for i, f := range b.feeds() {
		if i < len(next) && next[i] > 0 {
			named[f.name] = next[i]
		}
	}
	return named
}

// byFeed is its inverse. The caller holds the lock of routing.
func (b *Broker) byFeed(named map[string]uint64) []uint64 {
	for name := range named {
		b.feed(name)
	}
	next := make([]uint64, len(b.feeds()))
	for i, f := range b.feeds() {
		next[i] = named[f.name]
	}
	return next
}

func (k *cursor) fill(b *Broker, p *place) {
	next := k.next
	if !k.behind {
		next = b.positions()
	}
	k.wrote = k.sum(b)
	p.next, p.pending, p.bytes, p.outcome = b.byName(next), k.pending, k.bytes, k.outcome
	for _, m := range k.marks {
		p.marks = append(p.marks, placeMark{m.count, m.bytes, m.until, b.byName(m.next)})
	}
}

func (k *cursor) restore(b *Broker, p *place) {
	k.behind = true
	k.next, k.pending, k.bytes, k.outcome = b.byFeed(p.next), p.pending, p.bytes, p.outcome
	for _, m := range p.marks {
		k.marks = append(k.marks, mark{b.byFeed(m.next), m.count, m.bytes, m.until})
	}
}

// placed returns where the session is. The caller holds o.mu.
func (o *outbox) placed() *place {
	p := &place{connected: o.taken, left: o.s.left, lastID: o.window.lastID, delivered: o.acked}
	o.fill(o.b, p)
	for i := range o.window.list {
		m := &o.window.list[i]
		if m.id == 0 {
			continue
		}
		ps := placeSent{id: m.id, qos: m.qos, retain: m.retain, released: m.released, size: m.size, offset: m.offset, topic: m.topic}
		if m.feed != nil {
			ps.stream = m.feed.name
		}
		if m.group != nil {
			ps.group = m.group.filter
		}
		p.window = append(p.window, ps)
	}
	for _, t := range o.done {
		p.window = append(p.window, placeSent{qos: 2, stream: t.feed.name, offset: t.offset, group: t.group.filter})
	}
	return p
}

// entries returns what is kept of the session, the card only if it is asked
// for. The caller holds o.mu.
func (o *outbox) entries(full bool) (all []Entry) {
	if full {
		c, _ := json.Marshal(o.card()) // of plain types
		all = append(all, Entry{keyCard + o.s.id, c})
	}
	o.dirty = false
	return append(all, Entry{keyPlace + o.s.id, o.placed().append(nil)})
}

// Keys of the State.
const (
	keyCard     = "s/"
	keyPlace    = "p/"
	keyGroup    = "g/"
	keyRetained = "r/"
	keyClock    = "clock"
)
