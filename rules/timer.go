package rules

import (
	"time"

	"holdfast/gateway/event"
)

// timer triggers a rule at times of its own. Times that were missed, because
// the gateway was down, count once: the rule gets the last of them.
type timer struct {
	source *source
	armed  bool
	last   event.Time // the last time up to which all is done
	next   event.Time // the first time after from
	from   event.Time
	event  event.Event
}

// setBack is how far the clock may go back before timers begin anew.
const setBack = event.Time(time.Minute)

// due is the wall time at which the timer triggers next; 0 before the first
// event or tick, which only arms it.
func (t *timer) due() event.Time {
	if !t.armed {
		return 0
	}
	if t.next == 0 || t.from != t.last {
		t.next, t.from = t.source.next(t.last), t.last
	}
	return t.next
}

// time takes in the wall clock: whether the timer triggers, and for which time.
func (t *timer) time(now event.Time) (at event.Time, triggers bool) {
	if !t.armed || now < t.last-setBack {
		t.armed, t.last = true, now
		return 0, false
	}
	if at, triggers = t.source.latest(t.last, now); triggers {
		t.last = at
	}
	return at, triggers
}

// trigger evaluates the rules whose time has come.
func (e *Engine) trigger(now event.Time, res *Result) (changed bool) {
	for _, r := range e.timers {
		t := r.timer
		if r.off {
			continue
		}
		if t.due() <= now || now < t.last-setBack {
			changed = true
			if at, triggers := t.time(now); triggers {
				t.event = event.Event{Topic: r.Name, Source: "timer", Client: r.Name, Time: at, Received: now}
				e.frame.begin(&t.event, r.plan, nil)
				e.run(r, 0, &t.event, res)
			}
		}
	}
	e.remindTimers()
	return changed
}

// remindTimers works out when to look at the timers again.
func (e *Engine) remindTimers() {
	e.timerDue, e.timerBack = never, -never
	for _, r := range e.timers {
		if t := r.timer; !r.off {
			e.timerDue = min(e.timerDue, t.due())
			e.timerBack = max(e.timerBack, t.last-setBack)
		}
	}
}
