package rules

import (
	"slices"

	"holdfast/gateway/event"
)

// agenda says when each of some rules is due. What it takes to keep it depends
// on the rules that an event concerns, not on how many there are: only when the
// first of them has moved are all looked at, side by side in memory.
type agenda struct {
	rules []*rule
	due   []event.Time // of each; never for one that waits for nothing
	least event.Time   // of due, unless moved
	moved bool

	touched []int // rules whose due is to be asked for
	marks   []bool
}

// add takes a rule in and returns its place.
func (a *agenda) add(r *rule) (place int) {
	a.rules, a.due, a.marks = append(a.rules, r), append(a.due, never), append(a.marks, false)
	a.least = never
	return len(a.rules) - 1
}

// touch notes that the due of a rule may have changed.
func (a *agenda) touch(place int) {
	if !a.marks[place] {
		a.marks[place] = true
		a.touched = append(a.touched, place)
	}
}

func (a *agenda) touchAll() {
	for place := range a.rules {
		a.touch(place)
	}
}

// first returns the time at which the first rule is due; never if none is. of
// tells when a rule is.
func (a *agenda) first(of func(*rule) event.Time) event.Time {
	if len(a.rules) == 0 {
		return never
	}
	for _, place := range a.touched {
		a.marks[place] = false
		was, now := a.due[place], of(a.rules[place])
		a.due[place] = now
		switch {
		case now <= a.least:
			a.least = now
		case was == a.least:
			a.moved = true
		}
	}
	a.touched = a.touched[:0]
	if a.moved {
		a.least, a.moved = slices.Min(a.due), false
	}
	return a.least
}

// may reports whether a rule may be due at a time: surely not if it says no.
func (a *agenda) may(place int, now event.Time) bool {
	return a.marks[place] || a.due[place] <= now
}
