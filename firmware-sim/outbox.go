package sim

import (
	"sync"
	"sync/atomic"
)

// outbox is what a board has still to send, and whether it should have a link.
// One goroutine puts, one takes.
type outbox struct {
	changed chan struct{} // holds a value after each change

	mu      sync.Mutex
	items   []*item
	limit   int  // of the readings in items
	waiting int  // readings in items
	wanted  bool // the link should be up
	ended   bool
	dropped *atomic.Int64
}

// item is a message and whether it has been sent before.
type item struct {
	Message
	sent bool
}

func (i *item) reading() bool { return i.Link == LinkKept }

func newOutbox(limit int, dropped *atomic.Int64) *outbox {
	return &outbox{changed: make(chan struct{}, 1), limit: limit, dropped: dropped}
}

// put adds a message. If the buffer is full the oldest reading is dropped.
func (o *outbox) put(m Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch m.Link {
	case LinkDropped: // the broker says it, not the board
		o.wanted = false
	case LinkUp:
		o.wanted = true
		o.add(m)
	default:
		o.add(m)
	}
	o.tell()
}

func (o *outbox) add(m Message) {
	i := &item{Message: m}
	o.items = append(o.items, i)
	if !i.reading() {
		return
	}
	if o.waiting++; o.waiting <= o.limit {
		return
	}
	for n, old := range o.items {
		if old.reading() {
			o.items = append(o.items[:n], o.items[n+1:]...)
			o.waiting--
			if !old.sent { // else it is counted as never acknowledged
				o.dropped.Add(1)
			}
			return
		}
	}
}

// end says that nothing more comes. A board that has a link says goodbye.
func (o *outbox) end(goodbye Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	if o.wanted {
		o.add(goodbye)
	}
	o.tell()
}

func (o *outbox) tell() {
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

// take returns the next message to send, or nil.
func (o *outbox) take() *item {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.items) == 0 || !o.wanted {
		return nil
	}
	i := o.items[0]
	o.items = o.items[1:]
	if i.reading() {
		o.waiting--
	}
	return i
}

// back puts messages in front that have been taken, in their order.
func (o *outbox) back(items []*item) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, i := range items {
		if i.reading() {
			o.waiting++
		}
	}
	o.items = append(items, o.items...)
}

// greet puts m in front unless there stands a status already.
func (o *outbox) greet(m Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.items) == 0 || o.items[0].reading() {
		o.items = append([]*item{{Message: m}}, o.items...)
	}
}

// state says whether the link should be up, and whether the board is through.
func (o *outbox) state() (wanted, through bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.wanted, o.ended && (!o.wanted || len(o.items) == 0)
}

// gone says that the goodbye has been acknowledged: the link is not wanted
// until a new greeting, which may wait already.
func (o *outbox) gone() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wanted = len(o.items) > 0
}

// greeting says whether the next message begins a new connection.
func (o *outbox) greeting() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.items) > 0 && o.items[0].Link == LinkUp
}

// unsent counts the messages that have never been sent.
func (o *outbox) unsent() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := int64(0)
	for _, i := range o.items {
		if !i.sent {
			n++
		}
	}
	return n
}
