package rules

import (
	"slices"

	"holdfast/gateway/config"
)

// Set is a checked set of rules. It is read-only and may be shared by
// goroutines; only its counters move.
type Set struct {
	defs []def
}

// def is one rule of a set: what Engine compiles again for each engine, since
// compiled expressions belong to the memory of one engine.
type def struct {
	Rule
	spec  *spec
	total *counters
}

// Compile checks the rules in the sections, one each, in the order of the
// file. The error is [config.Errors] with every mistake.
func Compile(sections []*config.Section) (*Set, error) {
	var errs config.Errors
	set := &Set{}
	names := map[string]config.Pos{}
	var emits []edge
	for _, s := range sections {
		if s.Kind() != config.Mapping {
			errs.Add(s.Errorf("", "a rule is a mapping with name, from and emit, not %v", s.Kind()))
			continue
		}
		sp, mistakes := readSpec(s)
		errs.Add(mistakes.Err())
		r, mistakes := compileRule(sp, newFrame())
		errs.Add(mistakes.Err())
		if first, twice := names[r.Name]; twice && r.Name != "" {
			errs.Add(s.Errorf("name", "another rule is named %q, at %v", r.Name, first))
		} else {
			names[r.Name] = s.Errorf("name", "").Pos
		}
		if r.Stream != "" && r.Output != "" {
			if reaches(emits, r.Output, r.Stream) {
				errs.Add(s.Errorf("emit.stream", "events would go around in a circle: what this rule emits to %q comes back to it through %q",
					r.Output, r.Stream))
			} else {
				emits = append(emits, edge{r.Stream, r.Output})
			}
		}
		set.defs = append(set.defs, def{Rule: r.Rule, spec: sp, total: r.total})
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return set, nil
}

// edge says that a rule reads one stream and writes to another.
type edge struct{ from, to string }

// reaches reports whether events of the stream from come into the stream to.
// The edges have no circles.
func reaches(edges []edge, from, to string) bool {
	if from == to {
		return true
	}
	for _, e := range edges {
		if e.from == from && reaches(edges, e.to, to) {
			return true
		}
	}
	return false
}

// Len returns the number of rules.
func (s *Set) Len() int { return len(s.defs) }

// Rules returns the rules in the order of the file.
func (s *Set) Rules() []Rule {
	all := make([]Rule, len(s.defs))
	for i, d := range s.defs {
		all[i] = d.Rule
		all[i].Filters = slices.Clone(d.Filters)
	}
	return all
}

// Inputs returns the streams that rules read, sorted.
func (s *Set) Inputs() []string { return s.streams(func(d def) string { return d.Stream }) }

// Outputs returns the streams that rules write to, sorted.
func (s *Set) Outputs() []string { return s.streams(func(d def) string { return d.Output }) }

func (s *Set) streams(of func(def) string) []string {
	var all []string
	for _, d := range s.defs {
		all = append(all, of(d))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Stats returns the counters of all rules in the order of the file. They cover
// every engine of the set, and are brought up to date at the end of each Step
// and Tick. Stats may be called by any goroutine at any time.
func (s *Set) Stats() []Stat {
	all := make([]Stat, len(s.defs))
	for i, d := range s.defs {
		c := d.total
		all[i] = Stat{Rule: d.Name, Matched: c.matched.Load(), Passed: c.passed.Load(), Failed: c.failed.Load(),
			Late: c.late.Load(), Emitted: c.emitted.Load()}
	}
	return all
}

// Engine returns a new engine with empty state for the rules that read the
// stream; nil if there are none.
func (s *Set) Engine(stream string) *Engine { return s.engine(stream, nil) }

// engine makes an engine whose expressions are traced, if there is a tracer.
func (s *Set) engine(stream string, trace *tracer) *Engine {
	e := &Engine{stream: stream, frame: newFrame()}
	e.frame.trace = trace
	e.reset()
	for _, d := range s.defs {
		if d.Stream != stream {
			continue
		}
		if trace != nil {
			trace.rule = d.Name
		}
		r, errs := compileRule(d.spec, e.frame)
		if trace != nil && len(errs) > 0 { // it compiles without the tracer's functions
			e.frame.trace = nil
			r, errs = compileRule(d.spec, e.frame)
			e.frame.trace = trace
		}
		if len(errs) > 0 {
			panic("rules: a rule that compiled does not compile again: " + errs.Error())
		}
		r.total = d.total
		e.rules = append(e.rules, r)
	}
	if len(e.rules) == 0 {
		return nil
	}
	return e
}
