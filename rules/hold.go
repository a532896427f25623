package rules

import (
	"cmp"
	"slices"

	"holdfast/gateway/event"
)

// holding is what `for` keeps of a key whose condition holds.
type holding struct {
	since   event.Time // time of the event with which it began, as functions see it
	due     event.Time // steady time at which the rule emits
	fired   bool       // it has
	outputs []output   // to emit, as made of the last event
}

// output is an event on its way to a stream.
type output struct {
	stream string
	event  event.Event
}

// holds is the condition of a rule that must hold for a while.
type holds struct {
	span    event.Time
	waiting []*keyed // not fired, by due and name
	entry   int      // in the agenda
}

// holdDue is the steady time at which the rule emits next; never if nothing
// waits.
func (r *rule) holdDue() event.Time {
	if r.off || len(r.holds.waiting) == 0 {
		return never
	}
	return r.holds.waiting[0].hold.due
}

func compareHolds(a, b *keyed) int {
	return cmp.Or(cmp.Compare(a.hold.due, b.hold.due), cmp.Compare(a.name, b.name))
}

func (h *holds) place(k *keyed) (int, bool) {
	return slices.BinarySearchFunc(h.waiting, k, compareHolds)
}

func (h *holds) begin(k *keyed, t, now event.Time) {
	k.hold = &holding{since: t, due: now + h.span}
	i, _ := h.place(k)
	h.waiting = slices.Insert(h.waiting, i, k)
}

func (h *holds) stop(k *keyed) {
	if k.hold != nil && !k.hold.fired {
		if i, ok := h.place(k); ok {
			h.waiting = slices.Delete(h.waiting, i, i+1)
		}
	}
}

// hold takes in whether where holds for the key at hand, and emits once it has
// for long enough.
func (e *Engine) hold(r *rule, pass bool, t event.Time, res *Result) {
	k := r.memory.at
	if !pass {
		r.holds.stop(k)
		k.hold = nil
		return
	}
	if k.hold == nil {
		r.holds.begin(k, t, e.steady.now)
	}
	h := k.hold
	if h.fired {
		return
	}
	outputs, err := r.outputs()
	if err != nil {
		e.fail(r, res, r.frame.ev, err)
		return
	}
	h.outputs = slices.Clone(outputs)
	for i := range h.outputs { // they may wait long after the events they share memory with
		h.outputs[i].event.Payload = slices.Clone(h.outputs[i].event.Payload)
	}
	if t-h.since >= r.holds.span {
		e.fire(r, k, res)
	}
}

// fire emits what waits for a key.
func (e *Engine) fire(r *rule, k *keyed, res *Result) {
	r.holds.stop(k)
	k.hold.fired = true
	e.emit(r, k.hold.outputs, res)
	k.hold.outputs = nil
}

// release emits for all keys whose condition has held until now.
func (e *Engine) release(r *rule, now event.Time, res *Result) (changed bool) {
	for len(r.holds.waiting) > 0 && r.holds.waiting[0].hold.due <= now {
		e.fire(r, r.holds.waiting[0], res)
		changed = true
	}
	return changed
}
