package storage

import (
	"context"
	"sync"
	"time"

	"holdfast/gateway/event"
)

// request is one thing to be committed as a whole.
type request struct {
	appends []appendTo
	sets    []keyValue
	source  bool // from outside: may be refused, and done then gets ErrFull
	hurry   bool // somebody waits for it before he goes on
	flush   bool // and does not wait for room on the disk
	peers   int  // how many append at the moment
	done    func(error)
	bytes   int
	small   int        // bytes of table entries
	stamped event.Time // receive time of its events
	refused error      // what done gets: it was refused, and waits only for its turn
	keys    int        // at most so many keys come from prepare
	// prepare books what the request means for cursors, on the committer's
	// goroutine and before the request is written; it may change what is to be
	// appended and set. Cursors that it marks as urgent are written with it.
	prepare func(*request)
	// committed is called on the committer's goroutine before done(nil).
	committed func()
}

type appendTo struct {
	stream   *Stream
	events   []event.Event
	reserved uint64 // bytes that are counted in stream.queued
}

// keyValue is a key to set, or to delete if the value is nil.
type keyValue struct{ key, value []byte }

// measure counts the bytes that the request holds in memory.
func (r *request) measure() {
	for i := range r.appends {
		for k := range r.appends[i].events {
			r.bytes += r.appends[i].events[k].Size()
		}
	}
}

// queue is where requests wait for the committer.
type queue struct {
	mu     sync.Mutex
	reqs   []*request
	spare  []*request // the slice of the batch before, to be used again
	bytes  int
	limit  int
	hurry  time.Time // since when somebody in a hurry waits; zero if nobody does
	peers  int       // requests that are worth waiting for then
	closed bool
	// busy says that somebody commits, or does other work of the committer:
	// from the taking of a batch until release.
	busy   bool
	waited bool          // the committer waits for that to end, and is next
	look   bool          // the committer is to come, even for nothing
	taken  time.Time     // when the latest batch was
	moving event.Time    // receive time of the first request that was taken but has no offsets yet; 0 if none
	room   chan struct{} // closed and nil when requests were taken; nil while nobody waits
	filled chan struct{} // capacity 1: something came that the committer should look at
}

func newQueue(limit int) *queue {
	return &queue{limit: limit, filled: make(chan struct{}, 1)}
}

// put adds a request, stamping its events with now: the order of the queue is
// the order of the log, and receive times follow it. A request from a source
// waits while the queue is full; the gateway's own never do.
func (q *queue) put(ctx context.Context, r *request, stamp func([]event.Event) event.Time) error {
	r.measure()
	q.mu.Lock()
	for r.source && q.bytes >= q.limit && !q.closed {
		room := listen(&q.room)
		q.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
		q.mu.Lock()
	}
	if q.closed {
		q.mu.Unlock()
		return ErrClosed
	}
	for i := range r.appends {
		r.stamped = stamp(r.appends[i].events)
	}
	first := len(q.reqs) == 0
	below := q.bytes < hurryBytes
	q.reqs = append(q.reqs, r)
	q.bytes += r.bytes
	signal := first || below && q.bytes >= hurryBytes
	if r.hurry {
		if q.hurry.IsZero() {
			q.hurry, q.peers = time.Now(), 0
			signal = true
		}
		q.peers = max(q.peers, r.peers)
	}
	signal = signal || !q.hurry.IsZero() && len(q.reqs) == q.peers
	q.mu.Unlock()
	if signal {
		q.signal()
	}
	return nil
}

// putFirst takes r for a commit at once, by the caller, who must call release
// after it. It does nothing and returns nil if somebody else commits or waits,
// the committer among them: one source that never pauses must not keep it from
// retention, on a machine with one processor least of all.
func (q *queue) putFirst(r *request, stamp func([]event.Event) event.Time) []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.busy || q.closed || q.waited || q.look || len(q.reqs) > 0 {
		return nil
	}
	r.measure()
	for i := range r.appends {
		r.stamped = stamp(r.appends[i].events)
	}
	q.reqs = append(q.reqs, r)
	q.bytes += r.bytes
	return q.pop()
}

// release ends what began with the taking of a batch. The committer looks
// after the log at once if it is told to, without a batch of its own.
func (q *queue) release(look bool) {
	q.mu.Lock()
	q.busy = false
	q.look = q.look || look
	signal := q.waited || q.look || len(q.reqs) > 0
	q.mu.Unlock()
	if signal {
		q.signal()
	}
}

func (q *queue) signal() {
	select {
	case q.filled <- struct{}{}:
	default:
	}
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	wake(&q.room)
	q.mu.Unlock()
	q.signal()
}

// take returns what waits, within the bounds of a transaction. It lingers
// for so long after the batch before while nobody is in a hurry. It returns nothing when
// idle came first, and done when the queue is closed and empty. The queue is
// then the caller's until release.
func (q *queue) take(linger time.Duration, idle <-chan time.Time) (batch []*request, done bool) {
	idled := false
	for {
		q.mu.Lock()
		wait := time.Duration(0)
		if q.waited = q.busy; q.waited {
			q.mu.Unlock()
			tick := idle
			if idled {
				tick = nil
			}
			select {
			case <-q.filled:
			case <-tick:
				idled = true
			}
			continue
		}
		if len(q.reqs) > 0 {
			switch {
			case q.closed || q.bytes >= hurryBytes:
			case q.hurry.IsZero():
				wait = time.Until(q.taken.Add(linger))
			case len(q.reqs) < q.peers:
				wait = time.Until(q.hurry.Add(hurryLinger))
			}
			if wait <= 0 {
				batch, q.look = q.pop(), false // it looks after each batch
				q.mu.Unlock()
				return batch, false
			}
		} else if idled || q.look || q.closed {
			q.busy, q.look = true, false
			done = q.closed
			q.mu.Unlock()
			return nil, done
		}
		q.mu.Unlock()

		var lingered <-chan time.Time
		var timer *time.Timer
		if wait > 0 {
			timer = time.NewTimer(wait)
			lingered = timer.C
		}
		select {
		case <-q.filled:
		case <-lingered:
		case <-idle:
			idled = true
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

func (q *queue) pop() []*request {
	n, bytes, entries, small := 0, 0, 0, 0
	for _, r := range q.reqs {
		if n > 0 && (bytes+r.bytes > commitBytes || entries+len(r.sets)+r.keys > commitEntries || small+r.small > commitSmall) {
			break
		}
		n, bytes, entries, small = n+1, bytes+r.bytes, entries+len(r.sets)+r.keys+2*len(r.appends), small+r.small
	}
	batch := append(q.spare[:0], q.reqs[:n]...)
	q.spare = batch
	rest := copy(q.reqs, q.reqs[n:])
	clear(q.reqs[rest:])
	q.reqs = q.reqs[:rest]
	q.bytes -= bytes
	q.busy, q.taken = true, time.Now()
	q.hurry, q.peers = time.Time{}, 0
	for _, r := range q.reqs { // what did not fit goes next
		if r.hurry {
			q.hurry = time.Now()
			break
		}
	}
	for _, r := range batch {
		if r.stamped != 0 {
			q.moving = r.stamped
			break
		}
	}
	wake(&q.room)
	return batch
}

// sequenced says that all requests taken have their offsets, or are refused.
func (q *queue) sequenced() {
	q.mu.Lock()
	q.moving = 0
	q.mu.Unlock()
}

// before returns a time such that every event received until then has its
// offset; now is the clock.
func (q *queue) before(now func() event.Time) event.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.moving != 0 {
		return q.moving - 1
	}
	for _, r := range q.reqs {
		if r.stamped != 0 {
			return r.stamped - 1
		}
	}
	return now()
}

// putBack returns requests that cannot be committed yet to the head of the queue.
func (q *queue) putBack(batch []*request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reqs = append(append([]*request(nil), batch...), q.reqs...)
	for _, r := range batch {
		q.bytes += r.bytes
	}
}
