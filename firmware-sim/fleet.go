package sim

import (
	"container/heap"
	"fmt"
	"iter"
	"slices"
	"time"
)

// Fleet is what the boards of a scenario send, as a function of seed and
// start. It has no state: its sequences can be read again, and by several
// goroutines at once.
type Fleet struct{ boards []*board }

// board is one board of a fleet.
type board struct {
	*Board
	name   string
	id     string // client identifier
	prefix string // of its topics, with the last slash
	clock  clock
	probes []*probe
	crowds []Crowd

	boot, links, repeats random
}

// Fleet returns the boards of the scenario under a seed, beginning at start.
// With n > 0 there are n boards: the first n, or further ones of the same
// making, named after the board they repeat, such as boiler-1.2.
func (s *Scenario) Fleet(seed uint64, start time.Time, n int) *Fleet {
	start = start.UTC().Truncate(time.Millisecond) // as exact as payloads are
	f := &Fleet{}
	for round := 1; ; round++ {
		for i := range s.Boards {
			for _, name := range s.Boards[i].names() {
				if n > 0 && len(f.boards) == n {
					return f
				}
				if round > 1 {
					name = fmt.Sprintf("%s.%d", name, round)
				}
				f.boards = append(f.boards, s.board(&s.Boards[i], name, seed, start))
			}
		}
		if len(f.boards) >= n {
			return f
		}
	}
}

func (s *Scenario) board(of *Board, name string, seed uint64, start time.Time) *board {
	b := &board{
		Board: of, name: name, id: s.Site + "-" + name,
		prefix: s.Site + "/" + of.Area + "/" + name + "/",
		clock:  clock{of.Clock, start},
		boot:   randomOf(seed, name, "boot"), links: randomOf(seed, name, "link"), repeats: randomOf(seed, name, "repeat"),
	}
	for _, sensor := range of.Sensors {
		b.probes = append(b.probes, newProbe(seed, start, name, sensor))
	}
	chips := slices.DeleteFunc(slices.Clone(b.probes), func(p *probe) bool { return p.chip == nil })
	for _, p := range chips {
		p.bus = chips
	}
	for _, c := range s.Crowds {
		if c.in(of.Area) {
			b.crowds = append(b.crowds, c)
		}
	}
	return b
}

// Len returns the number of boards.
func (f *Fleet) Len() int { return len(f.boards) }

// Board returns what the i-th board sends, in the order of time. It ends only
// if the board is not to come back.
func (f *Fleet) Board(i int) iter.Seq[Message] { return f.boards[i].messages }

// All returns what all boards send, in the order of time; at the same time in
// the order of the boards.
func (f *Fleet) All() iter.Seq[Message] {
	return func(yield func(Message) bool) {
		var q queue
		for i, b := range f.boards {
			next, stop := iter.Pull[Message](b.messages)
			defer stop()
			if m, ok := next(); ok {
				q = append(q, head{m, i, next})
			}
		}
		heap.Init(&q)
		for len(q) > 0 {
			if !yield(q[0].m) {
				return
			}
			if m, ok := q[0].next(); ok {
				q[0].m = m
				heap.Fix(&q, 0)
			} else {
				heap.Pop(&q)
			}
		}
	}
}

// queue is a heap of boards by their next message.
type queue []head

type head struct {
	m    Message
	i    int
	next func() (Message, bool)
}

func (q queue) Len() int      { return len(q) }
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q queue) Less(i, j int) bool {
	if !q[i].m.At.Equal(q[j].m.At) {
		return q[i].m.At.Before(q[j].m.At)
	}
	return q[i].i < q[j].i
}
func (q *queue) Push(x any) { *q = append(*q, x.(head)) }
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// messages yields what the board sends, one power-on after the other.
func (b *board) messages(yield func(Message) bool) {
	always := Schedule{For: forever}
	present := b.Present
	if present == nil {
		present = &always
	}
	for n, from := int64(0), time.Duration(0); ; n++ {
		start, end := present.next(from)
		if start == forever {
			return
		}
		// Boards do not start in the same instant, even on one switch.
		start += b.boot.moment(n, min(time.Second, (end-start)/10))
		u := uptime{board: b, start: start, end: end}
		if !u.run(yield) || end == forever {
			return
		}
		from = end
	}
}

// uptime is a board from power-on to power-off.
type uptime struct {
	*board
	start, end time.Duration
	down       bool      // the link is
	buffer     []Message // readings made meanwhile
	lost       int       // readings that have left the buffer
}

// run yields all messages of the uptime, and false if the caller has enough.
func (u *uptime) run(yield func(Message) bool) bool {
	seqs, last, next := make([]int, len(u.probes)), make([]time.Duration, len(u.probes)), make([]time.Duration, len(u.probes))
	for i, p := range u.probes {
		last[i] = u.start
		next[i] = p.next(u.start, u.crowds)
	}
	if !yield(u.status(u.start, "online", LinkUp)) {
		return false
	}
	linkDown, linkUp := u.Reconnects.next(u.links, u.start+1)
	for {
		first := 0
		for i := range next {
			if next[i] < next[first] {
				first = i
			}
		}
		t := next[first]
		switch {
		case !u.down && linkDown <= t && linkDown < u.end:
			u.down = true
			if !yield(u.will(linkDown)) {
				return false
			}
		case u.down && linkUp <= t && linkUp < u.end:
			if !u.reconnect(linkUp, yield) {
				return false
			}
			linkDown, linkUp = u.Reconnects.next(u.links, linkUp)
		case t >= u.end:
			return u.down || yield(u.status(u.end, "offline", LinkDown))
		default:
			p := u.probes[first]
			value, until, ok := p.read(last[first], t)
			if !ok {
				next[first] = p.next(max(t, until-1), u.crowds)
				continue
			}
			seqs[first]++
			m := u.message(t, p.Metric)
			m.Payload = p.reading(value, &u.clock, u.start, t, seqs[first])
			last[first], next[first] = t, p.next(t, u.crowds)
			if !u.send(m, yield) {
				return false
			}
		}
	}
}

// send yields a reading, or keeps it while the link is down.
func (u *uptime) send(m Message, yield func(Message) bool) bool {
	if !u.down {
		return u.yield(m, yield)
	}
	if len(u.buffer) == u.Buffer {
		u.buffer = u.buffer[1:]
		u.lost++
	}
	u.buffer = append(u.buffer, m)
	return true
}

// yield yields a reading, and again if the board is one that sends some twice.
func (u *uptime) yield(m Message, yield func(Message) bool) bool {
	if !yield(m) {
		return false
	}
	if u.Duplicates == 0 || randomOf(uint64(u.repeats), m.Topic, string(m.Payload)).unit(0) >= u.Duplicates {
		return true
	}
	m.Repeated = true
	return yield(m)
}

// reconnect yields the status, then all that was kept.
func (u *uptime) reconnect(t time.Duration, yield func(Message) bool) bool {
	m := u.status(t, "online", LinkUp)
	m.Lost = u.lost
	if !yield(m) {
		return false
	}
	for _, kept := range u.buffer {
		kept.At = m.At
		if !u.yield(kept, yield) {
			return false
		}
	}
	u.down, u.buffer, u.lost = false, nil, 0
	return true
}

// message returns a message of the board without its payload.
func (b *board) message(t time.Duration, metric string) Message {
	return Message{At: b.clock.start.Add(t), Board: b.name, Topic: b.prefix + metric}
}

// status returns the retained message with which the board comes or goes.
func (u *uptime) status(t time.Duration, state string, link Link) Message {
	m := u.message(t, statusMetric)
	m.Payload, m.Retained, m.Link = status(state, &u.clock, u.start, t), true, link
	return m
}

func (b *board) will(t time.Duration) Message {
	m := b.message(t, statusMetric)
	m.Payload, m.Retained, m.Link = []byte(willPayload), true, LinkDropped
	return m
}
