package forward

import "holdfast/gateway/event"

// trail remembers the failed attempts that the events behind the position took
// part in, so that a dead letter can say how often it was tried and since when.
// Attempts begin at the position, which only moves forward: one that reached
// as far as an event included it. A fault that lasts repeats the same run, so
// the trail stays as short as a run can be halved.
type trail []tried

type tried struct {
	last  uint64 // offset at which the attempts ended
	times int
	first event.Time
}

// add notes a failed attempt that ended at offset last.
func (t *trail) add(last uint64, at event.Time) {
	for i := range *t {
		if (*t)[i].last == last {
			(*t)[i].times++
			return
		}
	}
	*t = append(*t, tried{last: last, times: 1, first: at})
}

// of returns how many failed attempts the event at offset was part of, and
// when the earliest of them began.
func (t trail) of(offset uint64) (times int, first event.Time) {
	for _, a := range t {
		if a.last < offset {
			continue
		}
		if times == 0 || a.first < first {
			first = a.first
		}
		times += a.times
	}
	return times, first
}

// pass forgets the attempts that ended at or before offset.
func (t *trail) pass(offset uint64) {
	kept := (*t)[:0]
	for _, a := range *t {
		if a.last > offset {
			kept = append(kept, a)
		}
	}
	*t = kept
}
