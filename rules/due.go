package rules

import (
	"time"

	"holdfast/gateway/event"
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
	next, setBack = e.timerDue, now < e.timerBack
	for _, r := range e.windows {
		if r.off {
			continue
		}
		mark := &r.win.mark
		if due, open := r.win.window.Due(); open {
			next = min(next, mark.Next(due))
			setBack = setBack || mark.SetBack(now)
		}
		if t, early := mark.NextEarly(); early && r.win.window.Changed() {
			next = min(next, t)
		}
	}
	return next, setBack, next != never
}
