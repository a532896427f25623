package rules

import (
	"bytes"
	"fmt"

	"github.com/expr-lang/expr/ast"

	"holdfast/gateway/config"
)

// An immediate rule is evaluated twice: as soon as an edge comes, by an engine
// of [Set.Ahead], for what it has outputs do at once; and like every rule when
// the edge has its place in the log, for what is written. Both must come to the
// same, so such a rule may only go by what is the same at both times: the event
// itself, and what the function remembers of the last events of its key. What
// it remembers must put itself right after an event that only one of the two has
// seen.

// tooLate says why an immediate rule cannot have a key.
var tooLate = []struct{ key, why string }{
	{"window", "a window closes when its time has come, and nothing can be done ahead of that"},
	{"for", "it waits for time to pass, and nothing can be done ahead of that; use debounce of the input"},
	{"time", "edges have their time from the kernel, and no other"},
}

// readImmediate checks what an immediate rule may have.
func (sp *spec) readImmediate() error {
	if !sp.Immediate {
		return nil
	}
	var errs config.Errors
	for _, no := range tooLate {
		if sp.section.Has(no.key) {
			sp.errorf(&errs, no.key, "an immediate rule has no %s: %s", no.key, no.why)
		}
	}
	switch {
	case sp.source.rule != "":
		errs.Add(sp.From.Errorf("rule", "an immediate rule reads edges of inputs by topic, not another rule"))
	case sp.From != nil && sp.From.Kind() == config.Mapping && (sp.From.Has("every") || sp.From.Has("cron")):
		errs.Add(sp.From.Errorf("", "an immediate rule reads edges of inputs by topic, not a timer"))
	}
	for _, o := range sp.outputs {
		for _, f := range o.fields {
			if f.name == "id" {
				errs.Add(o.section.Child("fields").Errorf("id", "a command of an immediate rule has no id of its own: it is carried out before the id could be remembered"))
			}
		}
	}
	return errs.Err()
}

// immediate finds immediate rules whose events come from other rules.
func (g *graph) immediate() config.Errors {
	var errs config.Errors
	for i, sp := range g.specs {
		if sp.Immediate && g.depths[i] > 0 && sp.source.rule == "" {
			errs.Add(sp.From.Errorf("stream", "an immediate rule reads edges of inputs; the stream %q holds what other rules write", sp.source.stream))
		}
	}
	return errs
}

// late are names and functions that an immediate rule cannot use, and why.
var late = map[string]string{
	"received": "it is not known before the event is in the log; use time",
	"lookup":   "a table may have another version when the event is in the log",
	"latest":   "events of other topics may come in between until the event is in the log",
	"counter":  "it would be wrong for ever after an edge that did not come into the log",
	"total":    "it would be wrong for ever after an edge that did not come into the log",
}

// checkLate notes a mistake if an immediate rule cannot use a name or a function.
func (r *resolver) checkLate(n ast.Node, name string) {
	c := r.scope.compiler
	if c == nil || !c.sp.Immediate {
		return
	}
	if why, bad := late[name]; bad {
		r.errorf(n, "an immediate rule cannot use %s: %s", name, why)
	}
}

// Ahead returns an engine of the immediate rules among those of e, with the
// state that they have in e now; nil if there are none. It is given the edges of
// inputs as soon as they come, and has no part in what is written: it counts
// nothing, and rules that read the outputs of others are not in it. A rule that
// is disabled in any engine of the set is so in this one.
//
// Events must have Received, Mono and Boot, and have no offset.
func (s *Set) Ahead(e *Engine) (*Engine, error) {
	a := s.engine(e.stream, nil, func(d *def) bool { return d.Immediate })
	if a == nil {
		return nil, nil
	}
	var state bytes.Buffer
	if err := e.Snapshot(&state); err != nil {
		return nil, err
	}
	if _, err := a.Restore(&state); err != nil {
		return nil, fmt.Errorf("give immediate rules the state of the others: %w", err)
	}
	for _, r := range a.rules {
		r.off, r.disabled = false, &r.total.off
		r.total = &counters{}
	}
	return a, nil
}
