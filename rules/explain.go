package rules

import (
	"fmt"
	"strconv"
	"time"

	"holdfast/gateway/event"
	"holdfast/rules/window"
)

// Explanation is what one rule makes of one event.
type Explanation struct {
	Rule        Rule
	Selected    bool // it got the event, or what another rule made of it
	Evaluations []Evaluation
}

// Evaluation is what a rule makes of one thing that it looks at: of the event,
// of one reading of its payload, of an event of another rule, or of a window
// that closes.
type Evaluation struct {
	Reading     int          // of the payload, from 1; most have only one; 0 when time passes
	Event       event.Event  // that the rule got; none for a window
	Pane        *window.Pane // the window, without its values; nil for none
	Later       bool         // when time passes, with this event alone
	Expressions []Value      // that were evaluated
	Outputs     []Output
	Err         error // why the rule failed; nil if it did not
}

// Value is what an expression, or a part of one, came to.
type Value struct {
	What    string // where the expression stands, as in emit.fields.t; empty for a part
	Text    string
	Reached bool // false: the result was known before, or it failed before
	Value   any  // if it was reached
	Parts   []Value
}

// Show returns the value as one would write it in an expression; an unfinished
// one as "not reached".
func (v Value) Show() string {
	if !v.Reached {
		return "not reached"
	}
	switch x := v.Value.(type) {
	case nil:
		return "nil"
	case string:
		return strconv.Quote(x)
	case time.Time:
		return x.UTC().Format(time.RFC3339Nano)
	case time.Duration:
		return x.String()
	}
	b, err := appendJSON(nil, v.Value)
	if err != nil {
		return fmt.Sprint(v.Value)
	}
	return string(b)
}

// Explain runs an event that comes into a stream through a fresh engine, as the
// first event ever, and returns what each rule of the set made of it. Rules
// that do not read the stream are among them, as not selected. Timers stand
// still.
func (s *Set) Explain(stream string, ev event.Event) []Explanation {
	all := make([]Explanation, len(s.defs))
	tr := &tracer{of: map[string]*Explanation{}}
	for i, d := range s.defs {
		all[i].Rule = d.Rule
		tr.of[d.Name] = &all[i]
	}
	e := s.engine(stream, tr, nil)
	if e == nil {
		return all
	}
	e.timers = nil
	e.remindTimers()
	ev.Offset = max(ev.Offset, 1)
	var res Result
	before := s.Stats()
	e.Step([]event.Event{ev}, &res)
	tr.settle(&res)
	tr.reading, tr.later = 0, true
	for range mostTicks {
		due, ok := e.NextTick()
		if !ok {
			break
		}
		e.Tick(due, &res)
		tr.settle(&res)
	}
	for i, after := range s.Stats() {
		all[i].Selected = after.Matched > before[i].Matched
	}
	return all
}

// mostTicks bounds how far Explain looks into the future of rules that never
// come to an end.
const mostTicks = 100
