package devices

import (
	"context"
	"sync"
	"time"

	"holdfast/gateway/event"
)

// refusalPause is how long nothing is emitted after the log has refused.
const refusalPause = time.Second

// hub stands between the devices and the log, so that no device ever waits for
// the log: it keeps the newest event of each topic until it is emitted.
type hub struct {
	mu      sync.Mutex
	waiting []*line             // to be emitted, in the order of their coming
	reports []report            // to be emitted, each of them
	observe func([]event.Event) // sees each event before it waits; nil if nobody does
	refused bool                // the log did so last
	closed  bool                // nothing is emitted any more
	wake    chan struct{}
}

// line is one topic of a device.
type line struct {
	feed    *Feed
	topic   string
	counted bool // a reading, not a status
	index   int  // of a reading, in Feed.latest
	channel channel

	newest  event.Event // under hub.mu, as all below
	number  uint64      // of newest; counts the events of this topic
	waiting bool        // newest has not been emitted, or was refused
}

// report is an event that no later one replaces: what became of a command, an
// edge.
type report struct {
	feed    *Feed
	event   event.Event
	counted bool // a reading
}

func (r *report) missed() { r.feed.status.Missed++ }

// maxReports wait; beyond them the oldest are dropped, and counted as missed.
const maxReports = 10_000

// emitted is an event on its way to the disk.
type emitted struct {
	line   *line // nil for a report
	number uint64
	report report
}

func newHub() *hub { return &hub{wake: make(chan struct{}, 1)} }

// signal makes run look for waiting events.
func (h *hub) signal() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// report adds an event that each must come to the log.
func (h *hub) report(r report) {
	if len(h.reports) >= maxReports {
		h.reports[0].missed()
		h.reports = h.reports[1:]
	}
	h.reports = append(h.reports, r)
	h.announce(r.event)
}

// announce says that there is an event. Those who observe learn of it last: on a
// machine with one processor who was woken last runs first, and acts on an edge
// before the log takes its time for it.
func (h *hub) announce(e event.Event) {
	h.signal()
	if h.observe != nil {
		h.observe([]event.Event{e})
	}
}

// put makes e the newest event of its topic.
func (h *hub) put(l *line, e event.Event) {
	if l.waiting {
		l.missed() // the one before
	} else {
		l.waiting = true
		h.waiting = append(h.waiting, l)
	}
	l.newest = e
	l.number++
	h.announce(e)
}

func (l *line) missed() {
	if l.counted {
		l.feed.status.Missed++
	}
}

// run emits what waits until ctx ends, and then once more unless the log
// refuses. It returns once emit has.
func (h *hub) run(ctx context.Context, emit event.Emit) {
	defer h.close()
	for ended := false; !ended; {
		select {
		case <-ctx.Done():
		case <-h.wake:
		}
		ended = ctx.Err() != nil
		if h.refusing() && (ended || !sleep(ctx, refusalPause)) {
			return
		}
		events, flight := h.take()
		if len(events) == 0 {
			continue
		}
		if err := emit(events, func(err error) { h.settle(flight, err) }); err != nil {
			h.settle(flight, err)
		}
	}
}

func (h *hub) refusing() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.refused
}

func (h *hub) take() ([]event.Event, []emitted) {
	h.mu.Lock()
	defer h.mu.Unlock()
	events := make([]event.Event, len(h.waiting))
	flight := make([]emitted, len(h.waiting))
	for i, l := range h.waiting {
		l.waiting = false
		events[i], flight[i] = l.newest, emitted{line: l, number: l.number}
	}
	for _, r := range h.reports {
		events, flight = append(events, r.event), append(flight, emitted{report: r})
	}
	h.waiting, h.reports = h.waiting[:0], nil
	return events, flight
}

// settle counts what reached the disk. What did not waits again, unless a
// newer event of its topic has come since.
func (h *hub) settle(flight []emitted, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused = err != nil
	var again []report
	for _, e := range flight {
		switch {
		case e.line == nil && err == nil:
			if e.report.counted {
				e.report.feed.status.Captured++
			}
		case e.line == nil && h.closed:
			e.report.missed()
		case e.line == nil:
			again = append(again, e.report)
		case err == nil && e.line.counted:
			e.line.feed.status.Captured++
		case err == nil:
		case e.number == e.line.number && !h.closed:
			e.line.waiting = true
			h.waiting = append(h.waiting, e.line)
		default:
			e.line.missed()
		}
	}
	if err != nil {
		h.reports = append(again, h.reports...)
		h.signal()
	}
}

// close counts what nobody will emit any more.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, l := range h.waiting {
		l.waiting = false
		l.missed()
	}
	for _, r := range h.reports {
		r.missed()
	}
	h.waiting, h.reports = nil, nil
}

// sleep returns true when d has passed, or false once ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
