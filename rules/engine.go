package rules

import (
	"math"
	"runtime"
	"slices"

	"holdfast/gateway/event"
	"holdfast/rules/window"
)

// maxTopics bounds the memory of which rules a topic concerns.
const maxTopics = 16384

// never is a time that does not come.
const never = event.Time(math.MaxInt64)

// Engine runs the rules of one stream, and those that read what these emit. It
// is used by one goroutine at a time.
type Engine struct {
	stream string
	rules  []*rule // by depth, then as in the file
	frame  *frame
	codecs []TopicCodec
	offset uint64 // of the last event stepped over

	index     index
	listening index
	listeners []*listener
	topics    map[string]*match
	groups    map[string]*match // by the set of rules
	hits      []hit             // scratch
	name      []byte            // scratch
	panes     []window.Pane     // scratch

	waiting  []int   // rules that have events of other rules to read, sorted
	counting []*rule // that have counted something the set does not have yet

	timed   bool // durations matter
	steady  steady
	windows agenda     // rules with a window, by the wall clock
	latest  event.Time // windows have seen no later time of the wall clock
	holders agenda     // rules with for, by steady time
	timers  []*rule
	// Wall times: the next one of a timer, and one before which the clock has
	// been set back so far that timers begin anew.
	timerDue, timerBack event.Time
	holdDue             event.Time // steady time; may be too early

	// Meter returns the time that has passed, in nanoseconds, for measuring
	// what rules cost. It does not influence results. nil: nothing is measured.
	Meter func() int64
	// Work returns the time for which a processor has worked for the thread. It
	// decides on rules that take long by Meter, which may be the fault of a busy
	// machine; the engine stays on its thread between two calls. nil: Meter does.
	Work      func() int64
	sample    uint
	measuring bool // the event at hand is a sample
	suspects  int  // rules that take longer than their budget, as far as is known
	costly    bool // one of them is to be reported
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

// Step evaluates events, which are in the order of their offsets, and appends
// what comes of them to res. A payload with several readings ([codec.Series]) is
// evaluated as if each of them were an event of its own. Outputs share the
// payload of the events where rules pass it on.
//
// It returns how many events it has evaluated: fewer than all only behind one
// that shows with the others, by [Engine.Meter], that a rule costs too much.
func (e *Engine) Step(events []event.Event, res *Result) (n int) {
	reported := e.costly
	for i := range events {
		ev := &events[i]
		if e.timed {
			e.pass(ev, res)
		}
		m := e.topics[ev.Topic]
		if m == nil {
			m = e.match(ev.Topic)
		}
		if len(m.rules) == 0 && len(m.listeners) == 0 {
			continue
		}
		e.offset = ev.Offset
		e.frame.begin(ev, m.plan, m.codec)
		readings := e.frame.readings()
		if len(readings) == 0 {
			e.take(ev, m, res)
		} else {
			part := *ev
			for _, part.Payload = range readings {
				e.frame.begin(&part, m.plan, m.codec)
				e.take(&part, m, res)
			}
		}
		if e.costly && !reported {
			events = events[:i+1]
			break
		}
	}
	if n = len(events); n > 0 {
		e.offset = events[n-1].Offset
		e.count()
	}
	return n
}

// take evaluates the event, or one reading of it, that the frame looks at.
func (e *Engine) take(ev *event.Event, m *match, res *Result) {
	for _, l := range m.listeners {
		l.hear(e.frame)
	}
	if t := e.frame.trace; t != nil {
		t.reading++
	}
	e.sample++
	e.measuring = e.Meter != nil && (e.suspects > 0 || e.sample%sampleEvery == 0)
	for _, c := range m.rules {
		e.run(c.rule, c.filter, ev, res)
	}
	if len(e.waiting) > 0 {
		e.cascade(ev.Received, res)
	}
}

// pass lets the time pass until an event: what `for` waits for and timers come
// first.
func (e *Engine) pass(ev *event.Event, res *Result) {
	e.steady.observe(ev.Received, ev.Mono, ev.Boot)
	if e.steady.now < e.holdDue && ev.Received < e.timerDue && ev.Received >= e.timerBack {
		return
	}
	e.offset = ev.Offset
	e.elapse(ev.Received, res)
}

// elapse releases and triggers what is due.
func (e *Engine) elapse(now event.Time, res *Result) (changed bool) {
	for place, r := range e.holders.rules {
		if e.holders.may(place, e.steady.now) && !r.off && e.release(r, e.steady.now, res) {
			e.holders.touch(place)
			changed = true
		}
	}
	if e.trigger(now, res) {
		changed = true
	}
	if len(e.waiting) > 0 {
		e.cascade(now, res)
	}
	e.remindHolds()
	return changed
}

func (e *Engine) remindHolds() { e.holdDue = e.holders.first((*rule).holdDue) }

// run evaluates a rule, and measures what that costs now and then.
func (e *Engine) run(r *rule, filter int, ev *event.Event, res *Result) {
	if t := e.frame.trace; t != nil {
		t.begin(r, ev, nil, res)
		e.evaluate(r, filter, ev, res)
		t.end(res)
		return
	}
	if !e.measuring {
		e.evaluate(r, filter, ev, res)
		return
	}
	meter := e.Meter
	if r.cost.suspect && e.Work != nil {
		meter = e.Work
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	from := meter()
	e.evaluate(r, filter, ev, res)
	e.suspects += r.cost.add(meter()-from, r.budget)
	e.costly = e.costly || r.expensive()
}

// evaluate runs a rule on the event that the frame looks at.
func (e *Engine) evaluate(r *rule, filter int, ev *event.Event, res *Result) {
	if r.off || r.disabled != nil && r.disabled.Load() {
		return
	}
	e.tally(r).matched++
	r.filter = filter
	var t event.Time
	if r.memory != nil {
		var err error
		if t, err = e.enter(r, ev); err != nil {
			e.fail(r, res, ev, err)
			return
		}
		r.memory.run(selected, t)
	}
	pass := true
	if r.where != nil {
		var err error
		if pass, err = r.where.truth(); err != nil {
			e.fail(r, res, ev, err)
			return
		}
	}
	if pass {
		r.counted.passed++
		if r.memory != nil {
			r.memory.run(passed, t)
		}
	}
	switch {
	case r.holds != nil:
		e.hold(r, pass, t, res)
		e.holders.touch(r.holds.entry)
		if w := r.holds.waiting; len(w) > 0 {
			e.holdDue = min(e.holdDue, w[0].hold.due)
		}
	case !pass:
	case r.win != nil:
		e.aggregate(r, ev, res)
	default:
		outputs, err := r.outputs()
		if err != nil {
			e.fail(r, res, ev, err)
			return
		}
		e.emit(r, outputs, res)
	}
}

// enter turns the memory of a rule to the key of an event: that of the rule,
// else the topic. It returns the time by which functions go: that which the
// rule takes from the payload, else the steady time.
func (e *Engine) enter(r *rule, ev *event.Event) (t event.Time, err error) {
	t = e.steady.now
	if r.clock != nil {
		if t, err = r.rowTime(ev); err != nil {
			return 0, err
		}
	}
	key := ev.Topic
	if r.key != nil {
		if key, err = r.key.text(); err != nil {
			return 0, err
		}
	}
	return t, r.memory.enter(key, e.steady.now)
}

// outputs makes what the rule emits for the event at hand. The result is valid
// until the next call.
func (r *rule) outputs() ([]output, error) {
	r.made = r.made[:0]
	for i := range r.emits {
		o := &r.emits[i]
		if o.where != nil {
			if pass, err := o.where.truth(); err != nil {
				return nil, err
			} else if !pass {
				continue
			}
		}
		ev, err := r.event(o)
		if err != nil {
			return nil, err
		}
		r.made = append(r.made, output{o.stream, ev})
	}
	return r.made, nil
}

// emit appends outputs and hands them to the rules that read them.
func (e *Engine) emit(r *rule, outputs []output, res *Result) {
	if r.last != e.offset {
		r.last, r.next = e.offset, 0
	}
	e.tally(r).emitted += uint64(len(outputs))
	for i := range outputs {
		res.Outputs = append(res.Outputs, Output{Rule: r.Name, Stream: outputs[i].stream, Event: outputs[i].event, Offset: e.offset, N: r.next})
		r.next++
		for _, to := range r.readers {
			e.hand(to, &outputs[i])
		}
	}
}

// reader is a rule that reads what another one emits.
type reader struct {
	rule   int
	stream string // only outputs to it; empty: all
}

// hand gives an output to a rule that reads it, for cascade.
func (e *Engine) hand(to reader, o *output) {
	r := e.rules[to.rule]
	if r.off || to.stream != "" && to.stream != o.stream {
		return
	}
	filter := slices.IndexFunc(r.Filters, func(f string) bool { return event.Match(f, o.event.Topic) })
	if filter < 0 {
		return
	}
	r.inbox = append(r.inbox, incoming{o.event, filter})
	if i, there := slices.BinarySearch(e.waiting, to.rule); !there {
		e.waiting = slices.Insert(e.waiting, i, to.rule)
	}
}

// incoming is an event of another rule.
type incoming struct {
	event  event.Event
	filter int
}

// cascade runs the rules that read other rules. They come behind all that they
// read, so that one pass is enough.
func (e *Engine) cascade(received event.Time, res *Result) {
	for len(e.waiting) > 0 {
		r := e.rules[e.waiting[0]]
		e.waiting = slices.Delete(e.waiting, 0, 1)
		for i := range r.inbox {
			in := &r.inbox[i]
			in.event.Received = received
			e.frame.begin(&in.event, r.plan, nil)
			e.run(r, in.filter, &in.event, res)
		}
		clear(r.inbox)
		r.inbox = r.inbox[:0]
	}
}

// Tick lets the time pass until now although no event says so: windows close,
// what `for` waits for comes about, and timers trigger. It reports whether it
// changed anything: only such ticks need to be logged, and given again in a
// second run at the same place between the events, for that to come out the
// same. It is [Engine.Apply] of an input that has only a time.
func (e *Engine) Tick(now event.Time, res *Result) (changed bool) {
	return e.tick(Input{Now: now}, res)
}

func (e *Engine) tick(in Input, res *Result) (changed bool) {
	now := in.Now
	if e.timed && now >= 0 && now < window.MaxTime {
		was := e.steady
		e.steady.observe(now, in.Mono, in.Boot)
		if (e.steady.now >= e.holdDue || now >= e.timerDue || now < e.timerBack) && e.elapse(now, res) {
			changed = true
		}
		if !changed {
			e.steady = was // a tick without effect changes nothing
		}
	}
	setBack := e.windowsSetBack(now)
	for place, r := range e.windows.rules {
		if (setBack || e.windows.may(place, now)) && !r.off && e.tickWindow(r, now, res) {
			changed = true
			if len(e.waiting) > 0 {
				e.cascade(now, res)
			}
		}
	}
	if changed {
		e.remindHolds()
		e.count()
	}
	return changed
}

// count brings the set's counters up to date.
func (e *Engine) count() {
	for _, r := range e.counting {
		r.total.add(&r.counted)
		r.uncount = false
	}
	e.counting = e.counting[:0]
}

// tally returns what is counted of a rule until the set gets it.
func (e *Engine) tally(r *rule) *counts {
	if !r.uncount {
		r.uncount = true
		e.counting = append(e.counting, r)
	}
	return &r.counted
}

func (e *Engine) reset() {
	e.topics, e.groups = map[string]*match{}, map[string]*match{}
}
