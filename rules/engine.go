package rules

import (
	"errors"
	"strings"

	"holdfast/gateway/event"
	"holdfast/rules/window"
)

// maxTopics bounds the memory of which rules a topic concerns.
const maxTopics = 4096

// Engine runs the rules of one stream. It is used by one goroutine at a time.
type Engine struct {
	stream string
	rules  []*rule
	frame  *frame
	offset uint64 // of the last event stepped over

	topics map[string]*match
	groups map[string]*match // by the set of rules
	panes  []window.Pane     // scratch
}

// match is what some topics have in common: the rules to evaluate and the
// payload fields that these name.
type match struct {
	rules []*rule
	plan  *want
}

// Result collects what steps and ticks bring about. Outputs and failures are
// appended; the caller empties it with Reset.
type Result struct {
	Outputs  []Output
	Failures []Failure
}

// Reset empties r and keeps its memory.
func (r *Result) Reset() {
	clear(r.Outputs)
	clear(r.Failures)
	r.Outputs, r.Failures = r.Outputs[:0], r.Failures[:0]
}

// Output is an event that a rule emits. Its offset, epoch and receive time are
// for the log to set.
type Output struct {
	Rule   string
	Stream string // to emit to
	Event  event.Event
	// Offset is that of the event that made the rule emit; for a tick, that of
	// the last event before it. With the rule and N it names the output: a
	// second run gives the same name to the same event.
	Offset uint64
	N      int // counts the outputs of the rule at the offset, from 0
}

// Failure is an event that a rule could not evaluate, or a pane that it could
// not emit; Event then is the pane with all its aggregates as payload.
type Failure struct {
	Rule  string
	Event event.Event
	Err   error
}

// Step evaluates events, which are in the order of their offsets, and appends
// what comes of them to res. Outputs share the payload of the events where
// rules pass it on.
func (e *Engine) Step(events []event.Event, res *Result) {
	for i := range events {
		ev := &events[i]
		m := e.topics[ev.Topic]
		if m == nil {
			m = e.match(ev.Topic)
		}
		if len(m.rules) == 0 {
			continue
		}
		e.offset = ev.Offset
		e.frame.begin(ev, m.plan)
		for _, r := range m.rules {
			e.evaluate(r, ev, res)
		}
	}
	if n := len(events); n > 0 {
		e.offset = events[n-1].Offset
		e.count()
	}
}

func (e *Engine) evaluate(r *rule, ev *event.Event, res *Result) {
	r.counted.Matched++
	if r.where != nil {
		pass, err := r.where.truth()
		if err != nil {
			r.fail(res, ev, err)
			return
		}
		if !pass {
			return
		}
	}
	r.counted.Passed++
	if r.win != nil {
		e.aggregate(r, ev, res)
		return
	}
	out, err := r.event()
	if err != nil {
		r.fail(res, ev, err)
		return
	}
	e.emit(r, out, res)
}

// emit appends an output.
func (e *Engine) emit(r *rule, out event.Event, res *Result) {
	if r.last != e.offset {
		r.last, r.next = e.offset, 0
	}
	res.Outputs = append(res.Outputs, Output{Rule: r.Name, Stream: r.Output, Event: out, Offset: e.offset, N: r.next})
	r.next++
	r.counted.Emitted++
}

// aggregate puts the event into the rule's window.
func (e *Engine) aggregate(r *rule, ev *event.Event, res *Result) {
	w := r.win
	row := window.Row{Offset: ev.Offset, Epoch: ev.Epoch, Values: w.row}
	var err error
	if row.Time, err = r.rowTime(ev); err == nil && r.key != nil {
		row.Key, err = r.key.text()
	}
	for i := 0; err == nil && i < len(w.inputs); i++ {
		w.row[i], err = w.inputs[i].value()
	}
	if err != nil {
		r.fail(res, ev, err)
		return
	}

	received := min(max(ev.Received, 0), window.MaxTime-1)
	t, watermark, restart := w.mark.Observe(row.Time, received)
	row.Time = t
	panes := e.panes[:0]
	if restart {
		panes = w.window.Flush(panes)
	}
	panes = w.window.Advance(panes, watermark)
	panes, err = w.window.Add(panes, row)
	e.close(r, panes, res)
	switch {
	case errors.Is(err, window.ErrLate):
		r.counted.Late++
	case err != nil:
		r.fail(res, ev, err)
	}
}

// rowTime is the time by which the rule's window takes the event.
func (r *rule) rowTime(ev *event.Event) (event.Time, error) {
	t := ev.Received
	if r.clock != nil {
		var err error
		if t, err = r.happened(); err != nil {
			return 0, err
		}
	}
	if t < 0 || t >= window.MaxTime {
		return 0, window.ErrTime
	}
	return t, nil
}

func (in *input) value() (window.Value, error) {
	if in.numeric {
		n, err := in.program.number()
		return window.Num(n), err
	}
	v, err := in.program.run()
	if err != nil {
		return window.Value{}, err
	}
	value, ok := toValue(v)
	if !ok {
		return value, in.program.errorf("the value is %s, which cannot be kept; use a number, text or true or false", describe(v))
	}
	return value, nil
}

// close emits the panes that the rule's window has closed.
func (e *Engine) close(r *rule, panes []window.Pane, res *Result) {
	for i := range panes {
		e.frame.pane = &panes[i]
		if r.having != nil {
			pass, err := r.having.truth()
			if err != nil {
				out, _ := r.pane()
				r.fail(res, &out, err)
				continue
			}
			if !pass {
				continue
			}
		}
		out, err := r.pane()
		if err != nil {
			r.fail(res, &out, err)
			continue
		}
		e.emit(r, out, res)
	}
	e.frame.pane = nil
	clear(panes)
	e.panes = panes[:0]
}

// Tick closes windows whose time has come although no event says so. It
// reports whether it changed anything: only such ticks need to be logged, and
// given again in a second run at the same place between the events, for that
// to come out the same.
func (e *Engine) Tick(now event.Time, res *Result) (changed bool) {
	for _, r := range e.rules {
		if r.win == nil {
			continue
		}
		due, ok := r.win.window.Due()
		if !ok {
			continue
		}
		watermark, effect := r.win.mark.Tick(now, due)
		panes := e.panes[:0]
		switch effect {
		case window.NoEffect:
			continue
		case window.Advance:
			panes = r.win.window.Advance(panes, watermark)
		case window.Restart:
			panes = r.win.window.Flush(panes)
		}
		e.close(r, panes, res)
		changed = true
	}
	if changed {
		e.count()
	}
	return changed
}

// NextTick returns the earliest time at which Tick will change something if no
// event comes before; false if it never will. Call Tick also when the clock has
// been set back: windows of receive time then close at once.
func (e *Engine) NextTick() (next event.Time, ok bool) {
	for _, r := range e.rules {
		if r.win == nil {
			continue
		}
		if due, open := r.win.window.Due(); open {
			if t := r.win.mark.Next(due); !ok || t < next {
				next, ok = t, true
			}
		}
	}
	return next, ok
}

// count brings the set's counters up to date.
func (e *Engine) count() {
	for _, r := range e.rules {
		if r.counted.Matched|r.counted.Failed|r.counted.Emitted != 0 {
			r.total.add(&r.counted)
		}
	}
}

func (e *Engine) reset() {
	e.topics, e.groups = map[string]*match{}, map[string]*match{}
}

// match finds the rules that a topic concerns and remembers them.
func (e *Engine) match(topic string) *match {
	if len(e.topics) >= maxTopics {
		e.reset()
	}
	set := make([]byte, (len(e.rules)+7)/8)
	for i, r := range e.rules {
		if event.MatchAny(r.Filters, topic) {
			set[i/8] |= 1 << (i % 8)
		}
	}
	m := e.groups[string(set)]
	if m == nil {
		m = &match{plan: &want{}}
		planned := map[*slot]bool{}
		for i, r := range e.rules {
			if set[i/8]>>(i%8)&1 == 0 {
				continue
			}
			m.rules = append(m.rules, r)
			for _, s := range r.slots {
				if !planned[s] {
					planned[s] = true
					m.plan.add(s)
				}
			}
		}
		e.groups[string(set)] = m
	}
	e.topics[strings.Clone(topic)] = m
	return m
}
