package rulestest

import (
	"bytes"

	"holdfast/gateway/event"
	"holdfast/rules"
)

// Outcome is an event that came out, or one on which a rule failed.
type Outcome struct {
	Rule   string
	Stream string // that it went to; empty for a failure
	Event  event.Event
	Err    string     // of a failure
	At     event.Time // when it came out, on the clock of the test

	step int // during which it came out
}

// Stage runs the rules of a set on a clock of its own, as a gateway would: each
// stream is a log, and what is emitted to a stream is read by the rules that
// read it.
type Stage struct {
	Clock    event.Time
	Outcomes []Outcome

	start   event.Time
	streams []*stream
	step    int
	result  rules.Result
}

// stream is a log that rules read.
type stream struct {
	name   string
	engine *rules.Engine
	last   uint64 // offset of the newest event
}

// NewStage returns a stage on which nothing has happened.
func NewStage(set *rules.Set, start event.Time) *Stage {
	s := &Stage{Clock: start, start: start}
	for _, name := range set.Inputs() {
		s.streams = append(s.streams, &stream{name: name, engine: set.Engine(name)})
	}
	s.tick(start)
	return s
}

// Give lets time pass up to at, and then has the event come in.
func (s *Stage) Give(name string, e event.Event, at event.Time) {
	s.Advance(at)
	s.append(name, e)
}

// append puts an event into a stream and runs the rules that read it, and
// those that read what comes of it.
func (s *Stage) append(name string, e event.Event) {
	for _, st := range s.streams {
		if st.name != name {
			continue
		}
		st.last++
		e.Epoch, e.Offset, e.Received = 1, st.last, s.Clock
		e.Boot, e.Mono = 1, s.Clock.Std().Sub(s.start.Std())+1
		s.result.Reset()
		st.engine.Step([]event.Event{e}, &s.result)
		s.take()
	}
}

// take notes what came out, and hands it on.
func (s *Stage) take() {
	first := len(s.Outcomes)
	for _, f := range s.result.Failures {
		s.Outcomes = append(s.Outcomes, Outcome{Rule: f.Rule, Event: f.Event, Err: f.Err.Error(), At: s.Clock, step: s.step})
	}
	for _, o := range s.result.Outputs {
		o.Event.Payload = bytes.Clone(o.Event.Payload)
		s.Outcomes = append(s.Outcomes, Outcome{Rule: o.Rule, Stream: o.Stream, Event: o.Event, At: s.Clock, step: s.step})
	}
	for _, o := range s.Outcomes[first:len(s.Outcomes):len(s.Outcomes)] {
		if o.Stream != "" {
			s.append(o.Stream, o.Event)
		}
	}
}

// Advance lets time pass up to to. What is due meanwhile happens in its order.
func (s *Stage) Advance(to event.Time) {
	for {
		due, found := to, false
		for _, st := range s.streams {
			if at, ok := st.engine.NextTick(); ok && at <= due {
				due, found = at, true
			}
		}
		if !found {
			break
		}
		s.Clock = max(s.Clock, due)
		if !s.tick(s.Clock) {
			break // due, and yet nothing to be done
		}
	}
	s.Clock = max(s.Clock, to)
}

// tick gives the time to all rules.
func (s *Stage) tick(now event.Time) (changed bool) {
	for _, st := range s.streams {
		s.result.Reset()
		if st.engine.Tick(now, &s.result) {
			changed = true
			s.take()
		}
	}
	return changed
}
