package broker

import (
	"sync"
	"time"
)

// haste tells whether a client waits for acknowledgements before it sends on.
// What such a client publishes is to be committed at once. For others the log
// waits until there is more, since each commit costs the flash some pages,
// however little there is in it.
//
// A client that waits sends right behind an acknowledgement, or while some are
// due because it may send several. One that publishes at a pace of its own does
// so too, if that is fast and commits are quick. They can be told apart when an
// acknowledgement takes long: then the first falls silent and the second does
// not. For that nobody is in a hurry for a moment, now and then.
type haste struct {
	waits   int       // batches in a row that followed an acknowledgement
	patient int       // how many long waits in silence it takes until the client counts as one that waits
	latest  time.Time // last batch
	acked   time.Time // last acknowledgement
}

// pace is how haste is judged.
type pace struct {
	// behind is how soon after an acknowledgement a message must come to be
	// one that the client may have held back for it.
	behind time.Duration
	// every is how often nobody is in a hurry, so that acknowledgements take
	// long.
	every time.Duration
}

var usualPace = pace{behind: 5 * time.Millisecond, every: 2 * time.Second}

const (
	// hurryAfter is how many batches in a row must have come behind
	// acknowledgements for the client to count as one that waits: chance brings
	// one or two.
	hurryAfter = 3
	// unhurried is how long nobody is in a hurry then. A client that does wait
	// loses no more than the log lingers, once in pace.every.
	unhurried = 10 * time.Millisecond
	// longWait is how long an acknowledgement must take to show anything.
	// Commits are faster, unless the log waits for more.
	longWait = 5 * time.Millisecond
	// silences is how many long waits in silence make a client that was seen to
	// go on one that waits again: a crowded machine brings one or two.
	silences = 3
)

// sent notes a batch and reports whether it is in a hurry: whether the client
// is to be acknowledged something in it, and waits for that. flying says that
// batches of the client are under way.
func (h *haste) sent(now time.Time, acknowledged, flying bool, p *pace) bool {
	if acknowledged && (flying || now.Sub(h.acked) < p.behind) {
		h.waits++
	} else {
		h.waits = 0
	}
	h.latest = now
	return h.waits >= hurryAfter && h.patient == 0 && now.UnixNano()%int64(p.every) >= int64(unhurried)
}

// answered notes that a batch given to the log at began is acknowledged. Of
// those that are acknowledged together the first tells something.
func (h *haste) answered(began, now time.Time) {
	waited := now.Sub(began)
	if waited >= longWait && now.Sub(h.acked) >= longWait {
		if h.latest.Sub(began) >= waited/2 {
			h.patient = silences
		} else {
			h.patient = max(0, h.patient-1)
		}
	}
	h.acked = now
}

// peers counts the clients that publish at the moment, in windows of time.
type peers struct {
	mu     sync.Mutex
	window int64
	count  int // clients in this window
	before int // and in the one before
}

const peersWindow = 4 * time.Millisecond

// note takes down that the client of c has published, and returns how many
// clients did so lately.
func (p *peers) note(c *conn, now time.Time) int {
	window := now.UnixNano() / int64(peersWindow)
	p.mu.Lock()
	defer p.mu.Unlock()
	if window > p.window {
		p.before = 0
		if window == p.window+1 {
			p.before = p.count
		}
		p.window, p.count = window, 0
	}
	if c.noted != p.window {
		c.noted = p.window
		p.count++
	}
	return max(p.count, p.before)
}
