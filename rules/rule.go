package rules

import (
	"errors"
	"sync/atomic"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
	"holdfast/rules/codec"
)

// Rule describes one rule of a [Set].
type Rule struct {
	Name    string
	Stream  string   // that it reads; empty if it reads a rule
	Reads   string   // the rule that it reads
	Timer   string   // what triggers it instead of events, such as "every 10s"
	Root    string   // the stream of the log that its events come from
	Depth   int      // how many rules they have passed before
	Filters []string // topic filters
	Where   string   // condition on events, empty for none
	Window  bool     // it aggregates
	Outputs []string // the streams that it writes to
	// Topics are filters that match every topic that it writes to.
	Topics    []string
	Immediate bool // it acts on outputs ahead of the log, see [Set.Ahead]
	Pos       config.Pos
}

// Stat counts what a rule has done since its set was compiled.
type Stat struct {
	Rule     string
	Disabled bool
	Matched  uint64 // events whose topic one of its filters selects
	Passed   uint64 // of these, events that its condition lets through
	Failed   uint64 // of these, events that it failed on, and panes
	Late     uint64 // of those passed, events whose window had closed
	Emitted  uint64 // outputs
}

// counters are the Stat of a rule, for all engines of a set.
type counters struct {
	matched, passed, failed, late, emitted atomic.Uint64
	off                                    atomic.Bool
}

// counts are what an engine has counted of a rule on its way to the set.
type counts struct{ matched, passed, failed, late, emitted uint64 }

// add takes counts over. Most events only match.
func (c *counters) add(n *counts) {
	c.matched.Add(n.matched)
	if rest := n.passed | n.failed | n.late | n.emitted; rest != 0 {
		c.passed.Add(n.passed)
		c.failed.Add(n.failed)
		c.late.Add(n.late)
		c.emitted.Add(n.emitted)
	}
	*n = counts{}
}

// rule is a compiled rule with its state. What every event needs comes first, in
// two lines of the processor's cache, so that an event of one rule in a thousand
// waits for little memory.
type rule struct {
	off     bool         // disabled
	uncount bool         // the set does not have its counts yet
	filter  int          // of the event at hand, in source.patterns
	where   *program     // nil: all events
	memory  *memory      // nil: none
	holds   *holds       // nil: where need not hold for long
	win     *aggregation // nil: no window
	total   *counters    // shared by all engines of the set
	// disabled tells that a rule ahead of the log is off; nil: it is as off says
	disabled *atomic.Bool
	counted  counts // since total was last brought up to date

	Rule
	spec   *spec
	source *source
	shape  uint64 // of the state of its window
	print  uint64 // of all that is written about it
	frame  *frame
	slots  []*slot
	plan   *codec.Tree // of its own slots
	vars   []*variable // values of set
	key    *program    // nil: one key
	clock  *clock      // nil: receive time
	having *program
	emits  []emission

	transform *transform // nil: payloads pass as they are
	timer     *timer     // nil: events trigger it
	latest    []*listener
	readers   []reader
	budget    int64 // nanoseconds

	reason string // why it is off
	cost   cost

	inbox []incoming // events of other rules
	made  []output   // scratch

	// number of the next output of the rule at the offset last
	last uint64
	next int
}

// capture is a level of the topic at hand by its name.
func (r *rule) capture(name string) (string, error) {
	v, err := topicLevel(r.frame.ev.Topic, r.source.patterns[r.filter].level(name))
	if err != nil {
		return "", err
	}
	return v.(string), nil
}

// Failure is an event that a rule could not evaluate, or a pane that it could
// not emit; Event then is the pane with all its aggregates as payload.
type Failure struct {
	Rule   string
	Pos    config.Pos // of what failed in the file, or of the rule
	Event  event.Event
	Offset uint64 // of the event that was at hand, in the stream of the engine
	Err    error
}

// evalError is an error with its place in a rule.
type evalError struct {
	what string // as in where or emit.fields.temp
	pos  config.Pos
	err  error
}

func (e *evalError) Error() string { return e.what + ": " + e.err.Error() }

func (e *evalError) Unwrap() error { return e.err }

// fail counts a failure and reports it.
func (e *Engine) fail(r *rule, res *Result, ev *event.Event, err error) {
	e.tally(r).failed++
	f := Failure{Rule: r.Name, Pos: r.Pos, Event: *ev, Offset: e.offset, Err: err}
	var at *evalError
	if errors.As(err, &at) {
		f.Pos = at.pos
	}
	res.Failures = append(res.Failures, f)
}

func (e *Engine) failPane(r *rule, res *Result, err error) {
	out, _ := r.pane(&r.emits[0])
	e.fail(r, res, &out, err)
}
