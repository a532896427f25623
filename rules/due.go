package rules

import (
	"time"

	"holdfast/gateway/event"
	"holdfast/rules/window"
)

// NextTick returns the earliest time at which Tick will change something if no
// event comes before and nobody sets the clock; false if it never will.
func (e *Engine) NextTick() (next event.Time, ok bool) {
	next, _, ok = e.nextWall(never)
	e.remindHolds() // a condition may have ceased to hold
	if e.holdDue != never {
		next, ok = min(next, e.steady.at(e.holdDue)), true
	}
	return next, ok
}

// Due returns how long it is from now until a tick will change something if no
// event comes before; 0 if one would at once, false if none ever will. A clock
// that was set has been allowed for: what goes by monotonic time waits for that,
// and windows of receive time and timers begin anew when the clock was set back.
func (e *Engine) Due(now Input) (wait time.Duration, ok bool) {
	next, setBack, ok := e.nextWall(now.Now)
	if setBack {
		return 0, true
	}
	left := next - now.Now
	e.remindHolds()
	if e.holdDue != never {
		s := e.steady
		s.observe(now.Now, now.Mono, now.Boot)
		if until := e.holdDue - s.now; !ok || until < left {
			left = until
		}
		ok = true
	}
	return time.Duration(max(left, 0)), ok
}

// nextWall returns the next time by the wall clock at which a window closes or
// gives early results, or a timer triggers; never if there is none. setBack
// tells that the clock, being at now, was set back behind what one of them knows.
func (e *Engine) nextWall(now event.Time) (next event.Time, setBack, ok bool) {
	next = min(e.timerDue, e.windows.first((*rule).windowDue))
	return next, now < e.timerBack || e.windowsSetBack(now), next != never
}

// windowDue is the wall time at which the window of the rule closes something or
// gives early results; never if it does neither.
func (r *rule) windowDue() event.Time {
	next, mark := never, &r.win.mark
	if r.off {
		return never
	}
	if due, open := r.win.window.Due(); open {
		next = mark.Next(due)
	}
	if t, early := mark.NextEarly(); early && r.win.window.Changed() {
		next = min(next, t)
	}
	return next
}

// windowsSetBack reports whether the clock, being at now, was set back so far
// that a window notices.
func (e *Engine) windowsSetBack(now event.Time) (setBack bool) {
	if now >= e.latest.Add(-window.MaxStepBack) {
		return false
	}
	e.latest = 0
	for _, r := range e.windows.rules {
		e.latest = max(e.latest, r.win.mark.Latest())
		if _, open := r.win.window.Due(); open && !r.off {
			setBack = setBack || r.win.mark.SetBack(now)
		}
	}
	return setBack
}

// remind looks at all rules again: they have another state.
func (e *Engine) remind() {
	e.windows.touchAll()
	e.holders.touchAll()
	e.latest = never
	e.remindHolds()
	e.remindTimers()
}
