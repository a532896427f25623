package forward

import "time"

// pace finds the size of batches that suits the far side: it grows while a
// backlog waits and answers come quickly, and shrinks when they take long. A
// size that was too large is remembered for a while, so that it is not found
// out again with every batch.
type pace struct {
	most   int // events in a batch
	events int // in a batch now

	room    int       // bytes in a batch since one was too large; 0 for no limit
	good    int       // the largest size that passed since
	ceiling int       // the smallest size that was too large
	forget  time.Time // when the ceiling is tried again
}

const (
	firstBatch = 500 // events, before anything is known of the far side
	quick      = 250 * time.Millisecond
	brisk      = time.Second
	slow       = 5 * time.Second

	rememberCeiling = 10 * time.Minute
)

func newPace(most int) pace { return pace{most: most, events: min(most, firstBatch)} }

// through learns from a batch that passed. full says that it held as much as it
// might, cut that room kept more out of it.
func (p *pace) through(n, size int, full, cut bool, took time.Duration, now time.Time) {
	switch {
	case took > slow:
		p.events = max(1, min(p.events, n/2))
	case !full:
	case took < quick:
		p.events = min(p.most, 2*p.events)
	case took < brisk:
		p.events = min(p.most, p.events+p.events/4+1)
	}
	if !cut || p.room == 0 {
		return
	}
	p.good = max(p.good, size)
	grown := p.room + p.room/8 + 1
	if now.Before(p.forget) {
		if p.ceiling-p.room <= p.ceiling/8 {
			return
		}
		grown = min(grown, (p.room+p.ceiling)/2)
	}
	p.room = grown
}

// tooLarge learns from a batch of several events that was too large.
func (p *pace) tooLarge(size int, now time.Time) {
	if p.ceiling == 0 || !now.Before(p.forget) || size < p.ceiling {
		p.ceiling = size
	}
	p.forget = now.Add(rememberCeiling)
	p.room = size / 2
	if p.good < size {
		p.room = max(p.room, p.good)
	} else {
		p.good = 0 // the far side takes less than it did
	}
}

// timedOut learns that n events were too many for the time there is.
func (p *pace) timedOut(n int) { p.events = max(1, min(p.events, n/2)) }

// fits reports whether what has no limits by size needs none any more.
func (p *pace) fits(most int) {
	if p.room >= most {
		p.room, p.good, p.ceiling = 0, 0, 0
	}
}
