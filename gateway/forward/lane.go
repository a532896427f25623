package forward

import (
	"time"

	"holdfast/gateway/event"
)

// lanes keep the order of events that share an ordering key while several
// requests are under way: a key always has the same lane, and what is taken
// from a lane is settled before more of it is sent.
type lanes struct {
	all   []lane
	batch Batch // what all events have in common

	key  string // of the event before, for most have the same
	last int    // its lane
	free []int  // reused

	spare []*parcel // settled, for their memory
}

// lane is a queue of events that are not on their way yet.
type lane struct {
	events []event.Event // in log order
	spans  []*span       // where each of them stands in the window
	head   int           // the first one that is still in the queue
	busy   bool          // a parcel with events of the lane is not settled
}

func (l *lane) empty() bool { return l.head == len(l.events) }

// push adds an event, reusing the room of those that are gone.
func (l *lane) push(e *event.Event, in *span) {
	if l.head > 0 && len(l.events) == cap(l.events) {
		n := copy(l.events, l.events[l.head:])
		clear(l.events[n:])
		copy(l.spans, l.spans[l.head:])
		clear(l.spans[n:])
		l.events, l.spans, l.head = l.events[:n], l.spans[:n], 0
	}
	l.events = append(l.events, *e)
	l.spans = append(l.spans, in)
}

// pop takes the first event out. What it points to is not kept.
func (l *lane) pop() (e event.Event, in *span) {
	e, in = l.events[l.head], l.spans[l.head]
	l.events[l.head], l.spans[l.head] = event.Event{}, nil
	if l.head++; l.empty() {
		l.events, l.spans, l.head = l.events[:0], l.spans[:0], 0
	}
	return e, in
}

func newLanes(n int) lanes { return lanes{all: make([]lane, n)} }

// of returns the lane of an ordering key: FNV-1a, so that it is the same after
// a restart.
func (l *lanes) of(key string) int {
	if len(l.all) == 1 || key == l.key {
		return l.last
	}
	h := uint32(2166136261)
	for i := 0; i < len(key); i++ {
		h = (h ^ uint32(key[i])) * 16777619
	}
	h ^= h >> 15 // the low bits alone depend too little on the front of a key
	l.key, l.last = key, int(h%uint32(len(l.all)))
	return l.last
}

// add queues an event.
func (l *lanes) add(e *event.Event, in *span) {
	l.all[l.of(e.OrderingKey())].push(e, in)
}

// parcel is what is taken out of some lanes to be sent: in one attempt, or,
// if the far side does not take it at once, in several.
type parcel struct {
	events []event.Event // not settled yet
	spans  []*span
	store  []event.Event // the memory of events, and of spans
	stored []*span
	lanes  []int
	full   bool // it holds as much as it may
	cut    bool // because of the bytes

	most      int    // events in one attempt since attempts timed out; 0 is no limit
	suspect   uint64 // last offset of a run from the first event on that was refused; 0 if none
	tries     trail  // failed attempts that its events took part in
	failures  int    // attempts in a row that the destination failed
	timeouts  int    // of these, in a row, without any answer
	notBefore time.Time
	flying    bool
}

// take makes a parcel of at most so many events and bytes: from all lanes that
// are free, or, to leave some for other requests, from the one with the oldest
// event. It returns nil if nothing can be sent.
func (l *lanes) take(events, bytes int, one bool) *parcel {
	from := l.free[:0]
	for i := range l.all {
		if !l.all[i].busy && !l.all[i].empty() {
			from = append(from, i)
		}
	}
	l.free = from
	if len(from) == 0 {
		return nil
	}
	if one {
		from = append(from[:0], l.oldest(from))
	}
	p := l.parcel()
	defer func() { p.events, p.spans = p.store, p.stored }()
	for size := 0; ; {
		i := l.oldest(from)
		if i < 0 {
			p.full = len(p.store) >= events
			return p
		}
		lane := &l.all[i]
		size += lane.events[lane.head].Size()
		if len(p.store) > 0 && (len(p.store) >= events || size > bytes) {
			p.full, p.cut = true, len(p.store) < events
			return p
		}
		e, in := lane.pop()
		p.store, p.stored = append(p.store, e), append(p.stored, in)
		if !lane.busy {
			lane.busy = true
			p.lanes = append(p.lanes, i)
		}
	}
}

// oldest returns which of the lanes has the oldest event; -1 if all are empty.
func (l *lanes) oldest(of []int) int {
	found := -1
	for _, i := range of {
		if q := &l.all[i]; !q.empty() && (found < 0 || q.first() < l.all[found].first()) {
			found = i
		}
	}
	return found
}

func (l *lane) first() uint64 { return l.events[l.head].Offset }

// parcel returns an empty one, with the memory of one that is settled.
func (l *lanes) parcel() *parcel {
	n := len(l.spare)
	if n == 0 {
		return &parcel{}
	}
	p := l.spare[n-1]
	l.spare = l.spare[:n-1]
	return &parcel{store: p.store, stored: p.stored, lanes: p.lanes[:0]}
}

// settled gives back the lanes of a parcel, and its memory.
func (l *lanes) settled(p *parcel) {
	for _, i := range p.lanes {
		l.all[i].busy = false
	}
	clear(p.store)
	clear(p.stored)
	p.store, p.stored = p.store[:0], p.stored[:0]
	l.spare = append(l.spare, p)
}

// first is the offset of its oldest event that is not settled.
func (p *parcel) first() uint64 { return p.events[0].Offset }

// pick returns how many of its events the next attempt sends, and their size:
// no more than half of a suspect run, no more than room for bytes, 0 for no
// limit. cut says that the room ended the run.
func (p *parcel) pick(room int) (n, size int, cut bool) {
	n = len(p.events)
	if p.most > 0 {
		n = min(n, p.most)
	}
	if p.suspect != 0 {
		run := 0
		for run < n && p.events[run].Offset <= p.suspect {
			run++
		}
		if run == 0 { // the culprit is behind us
			p.suspect = 0
		} else {
			n = (run + 1) / 2
		}
	}
	for i := range n {
		add := p.events[i].Size()
		if room > 0 && i > 0 && size+add > room {
			return i, size, true
		}
		size += add
	}
	return n, size, false
}

// pass decides the fates of the first n events: delivered, but for those in
// dead, and takes them out.
func (p *parcel) pass(n int, dead map[int]*DeadLetter) {
	p.tries.pass(p.events[n-1].Offset)
	for i := range n {
		if d := dead[i]; d != nil {
			p.spans[i].decide(p.events[i].Offset, buried, d)
		} else {
			p.spans[i].decide(p.events[i].Offset, delivered, nil)
		}
	}
	p.events, p.spans = p.events[n:], p.spans[n:]
}
