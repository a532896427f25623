package forward

import (
	"time"

	"holdfast/gateway/event"
)

// lanes keep the order of events that share an ordering key while several
// requests are under way: a key always has the same lane, and what is taken
// from a lane is settled before more of it is sent.
type lanes struct {
	all    []lane
	queued int   // events in all of them
	batch  Batch // what all events have in common

	key  string // of the event before, for most have the same
	last int    // its lane
	free []int  // reused
}

// lane is a queue of events that are not on their way yet.
type lane struct {
	events []event.Event // in log order
	spans  []*span       // where each of them stands in the window
	busy   bool          // a parcel with events of the lane is not settled
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
	to := &l.all[l.of(e.OrderingKey())]
	to.events = append(to.events, *e)
	to.spans = append(to.spans, in)
	l.queued++
}

// parcel is what is taken out of some lanes to be sent: in one attempt, or,
// if the far side does not take it at once, in several.
type parcel struct {
	events []event.Event // not settled yet
	spans  []*span
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

// take makes a parcel of at most so many events and bytes: from the free lane
// with the oldest event, or, if all that waits fits, from all that are free.
// It returns nil if nothing can be sent.
func (l *lanes) take(events, bytes int) *parcel {
	p := &parcel{}
	from := l.free[:0]
	for i := range l.all {
		if !l.all[i].busy && len(l.all[i].events) > 0 {
			from = append(from, i)
		}
	}
	l.free = from
	if len(from) == 0 {
		return nil
	}
	if l.queued > events {
		from = append(from[:0], l.oldest(from))
	}
	for size := 0; ; {
		i := l.oldest(from)
		if i < 0 {
			p.full = len(p.events) >= events
			return p
		}
		lane := &l.all[i]
		size += lane.events[0].Size()
		if len(p.events) > 0 && (len(p.events) >= events || size > bytes) {
			p.full, p.cut = true, len(p.events) < events
			return p
		}
		p.events = append(p.events, lane.events[0])
		p.spans = append(p.spans, lane.spans[0])
		lane.events[0] = event.Event{} // the queue must not keep its payload
		lane.events, lane.spans = lane.events[1:], lane.spans[1:]
		l.queued--
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
		if q := l.all[i].events; len(q) > 0 && (found < 0 || q[0].Offset < l.all[found].events[0].Offset) {
			found = i
		}
	}
	return found
}

// settled gives the lanes of a parcel back.
func (l *lanes) settled(p *parcel) {
	for _, i := range p.lanes {
		l.all[i].busy = false
	}
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
