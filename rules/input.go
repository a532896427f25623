package rules

import (
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
