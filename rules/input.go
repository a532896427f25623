package rules

import (
	"fmt"
	"time"

	"holdfast/gateway/event"
)

// Input is something other than an event that moves the state of rules. What
// had an effect belongs into the log, so that a second run can give it again at
// the same place between the events.
type Input struct {
	// Now is the wall clock; Mono and Boot are the time since boot and the
	// number of the boot, as in events. Boot 0 means that they are not known.
	Now  event.Time    `json:"-"`
	Mono time.Duration `json:"mono,omitempty"`
	Boot uint32        `json:"boot,omitempty"`

	// Rule is enabled or disabled, for the reason given.
	Rule    string `json:"rule,omitempty"`
	Disable bool   `json:"disable,omitempty"`
	Reason  string `json:"reason,omitempty"`

	// Table is a lookup table that has a new version from here on.
	Table   string `json:"table,omitempty"`
	Version string `json:"version,omitempty"`
}

// Apply takes in an input and appends what comes of it to res. It reports
// whether the input had an effect: only then it needs to be logged. An input
// that names a table needs [Engine.SetTable] instead.
func (e *Engine) Apply(in Input, res *Result) (changed bool) {
	if in.Rule == "" {
		return e.tick(in, res)
	}
	for _, r := range e.rules {
		if r.Name != in.Rule || r.off == in.Disable && r.reason == in.Reason {
			continue
		}
		r.off, r.reason, changed = in.Disable, in.Reason, true
		e.suspects -= r.cost.reset()
		r.total.off.Store(in.Disable)
	}
	e.remind()
	return changed
}

// SetTable gives rules a version of a lookup table. It reports whether that is
// another one than before.
func (e *Engine) SetTable(t *Table) (changed bool) {
	old := e.frame.tables[t.Name]
	e.frame.tables[t.Name] = t
	return old == nil || old.Version != t.Version
}

// Tables returns the versions of the lookup tables that are in force, by name.
func (e *Engine) Tables() map[string]string {
	all := map[string]string{}
	for name, t := range e.frame.tables {
		all[name] = t.Version
	}
	return all
}

func (e *Engine) rule(name string) *rule {
	for _, r := range e.rules {
		if r.Name == name {
			return r
		}
	}
	return nil
}

// sampleEvery is how many events there are for one whose cost is measured, while
// no rule is suspected of taking longer than its budget; else all are.
const sampleEvery = 32

// It takes enough samples to judge a rule, or a few that have taken longer than
// patience.
const (
	enough   = 64
	few      = 8
	patience = 1e9 // nanoseconds
)

// cost is what a rule takes on average, in nanoseconds.
type cost struct {
	samples int
	mean    float64
	over    bool // the mean is above the budget
}

// add takes in a sample and returns how many more rules are suspects with it. No
// single sample decides: it may have been the machine.
func (c *cost) add(nanos, budget int64) (suspects int) {
	c.samples++
	c.mean += (min(float64(nanos), 30*float64(budget)) - c.mean) / float64(min(c.samples, enough))
	over := c.mean > float64(budget)
	switch {
	case over && !c.over:
		suspects = 1
	case c.over && !over:
		suspects = -1
	}
	c.over = over
	return suspects
}

// reset forgets the samples and returns how many suspects there are less.
func (c *cost) reset() (suspects int) {
	if c.over {
		suspects = 1
	}
	*c = cost{}
	return suspects
}

func (r *rule) expensive() bool {
	c := &r.cost
	return !r.off && c.over && (c.samples >= enough || c.samples >= few && c.mean*float64(c.samples) >= patience)
}

// Expensive returns the rules that take longer than their budget, each with the
// reason in an operator's words. What to do with them is an [Input].
func (e *Engine) Expensive() (rules, reasons []string) {
	if !e.costly {
		return nil, nil
	}
	e.costly = false
	for _, r := range e.rules {
		if r.expensive() {
			e.costly = true
			rules = append(rules, r.Name)
			reasons = append(reasons, fmt.Sprintf("it takes %v of processor time for an event on average, its budget is %v; simplify it or raise budget",
				time.Duration(r.cost.mean).Round(10*time.Microsecond), time.Duration(r.budget)))
		}
	}
	return rules, reasons
}
