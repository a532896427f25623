package rules

import (
	"cmp"
	"slices"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
	"holdfast/rules/codec"
)

// Options are what rules are compiled with besides their text. The zero value
// is ready for use.
type Options struct {
	// Tables are the lookup tables that rules may name.
	Tables []*Table
	// Codecs say in which format the payloads of topics are, whatever their
	// content type says; the first that matches counts.
	Codecs []TopicCodec
	// Open reports whether a stream takes in other events than what rules emit
	// to it. Its readers then read it from the log; those of other streams get
	// what rules emit in memory, in the same step. nil: no stream does, but
	// EventsStream.
	Open func(stream string) bool
}

// TopicCodec is the format of the payloads of some topics.
type TopicCodec struct {
	Filter string
	Codec  codec.Codec
}

// codecOf is the format of a topic's payloads; nil if nothing is said about it.
func codecOf(all []TopicCodec, topic string) codec.Codec {
	for _, c := range all {
		if event.Match(c.Filter, topic) {
			return c.Codec
		}
	}
	return nil
}

// Set is a checked set of rules. It is read-only and may be shared by
// goroutines; only its counters move.
type Set struct {
	defs    []def
	options Options
}

// def is one rule of a set: what Engine compiles again for each engine, since
// compiled expressions belong to the memory of one engine.
type def struct {
	Rule
	spec    *spec
	readers []reader // by index of the set
	total   *counters
}

// Compile checks the rules in the sections, one each, in the order of the
// file, without any [Options].
func Compile(sections []*config.Section) (*Set, error) { return Options{}.Compile(sections) }

// Compile checks the rules in the sections, one each, in the order of the
// file. The error is [config.Errors] with every mistake.
func (o Options) Compile(sections []*config.Section) (*Set, error) {
	var errs config.Errors
	tables := map[string]*Table{}
	for _, t := range o.Tables {
		tables[t.Name] = t
	}
	set := &Set{options: o}
	names := map[string]config.Pos{}
	var specs []*spec
	var typed []typedRule
	for _, s := range sections {
		if s.Kind() != config.Mapping {
			errs.Add(s.Errorf("", "a rule is a mapping with name, from and emit, not %v", s.Kind()))
			continue
		}
		sp, mistakes := readSpec(s)
		errs.Add(mistakes.Err())
		r, c := compileRule(sp, newFrame(), tables)
		errs.Add(c.errs.Err())
		if first, twice := names[r.Name]; twice && r.Name != "" {
			errs.Add(s.Errorf("name", "another rule is named %q, at %v", r.Name, first))
		} else {
			names[r.Name] = s.Errorf("name", "").Pos
		}
		if len(c.errs) == 0 {
			typed = append(typed, c.typed(len(specs)))
		}
		specs = append(specs, sp)
		set.defs = append(set.defs, def{Rule: r.Rule, spec: sp, total: r.total})
	}
	g := newGraph(specs, o.Open)
	if circles := g.connect(); len(circles) > 0 {
		errs = append(errs, circles...)
	} else {
		errs = append(errs, g.place()...)
		errs = append(errs, g.immediate()...)
		set.place(g)
	}
	errs = append(errs, checkKinds(typed, g)...)
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return set, nil
}

// place notes where each rule gets its events.
func (s *Set) place(g *graph) {
	for i := range s.defs {
		d := &s.defs[i]
		d.Root, d.Depth = g.roots[i], g.depths[i]
		for _, o := range d.spec.outputs {
			d.Topics = append(d.Topics, g.topicsOf(i, o)...)
		}
		if d.Depth == 0 {
			continue
		}
		for _, w := range g.inputs[i] {
			s.defs[w].readers = append(s.defs[w].readers, reader{i, d.Stream})
		}
	}
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

// Inputs returns the streams of the log that rules read, sorted: those that
// have an [Engine].
func (s *Set) Inputs() []string {
	return s.streams(func(d def) []string { return []string{d.Root} })
}

// Outputs returns the streams that rules write to, sorted.
func (s *Set) Outputs() []string { return s.streams(func(d def) []string { return d.Rule.Outputs }) }

func (s *Set) streams(of func(def) []string) []string {
	var all []string
	for _, d := range s.defs {
		all = append(all, of(d)...)
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
		all[i] = Stat{Rule: d.Name, Disabled: c.off.Load(), Matched: c.matched.Load(), Passed: c.passed.Load(), Failed: c.failed.Load(),
			Late: c.late.Load(), Emitted: c.emitted.Load()}
	}
	return all
}

// Engine returns a new engine with empty state for the rules whose events come
// from the stream; nil if there are none.
func (s *Set) Engine(stream string) *Engine { return s.engine(stream, nil, nil) }

// engine makes an engine whose expressions are traced, if there is a tracer, of
// the rules that are chosen; nil: of all.
func (s *Set) engine(stream string, trace *tracer, chosen func(*def) bool) *Engine {
	e := &Engine{stream: stream, frame: newFrame(), codecs: s.options.Codecs}
	e.frame.trace = trace
	e.reset()
	for _, t := range s.options.Tables {
		e.frame.tables[t.Name] = t
	}
	var order []int
	for i := range s.defs {
		if d := &s.defs[i]; d.Root == stream && (chosen == nil || chosen(d)) {
			order = append(order, i)
		}
	}
	if len(order) == 0 {
		return nil
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(s.defs[a].Depth, s.defs[b].Depth) })
	place := map[int]int{}
	for rank, i := range order {
		place[i] = rank
	}
	for rank, i := range order {
		d := &s.defs[i]
		if trace != nil {
			trace.rule = d.Name
		}
		r, c := compileRule(d.spec, e.frame, e.frame.tables)
		if trace != nil && len(c.errs) > 0 { // it compiles without the tracer's functions
			e.frame.trace = nil
			r, c = compileRule(d.spec, e.frame, e.frame.tables)
			e.frame.trace = trace
		}
		if len(c.errs) > 0 {
			panic("rules: a rule that compiled does not compile again: " + c.errs.Error())
		}
		r.total, r.spec, r.Root, r.Depth = d.total, d.spec, d.Root, d.Depth
		for _, to := range d.readers {
			if at, there := place[to.rule]; there {
				r.readers = append(r.readers, reader{at, to.stream})
			}
		}
		e.add(r, rank)
	}
	e.clear()
	return e
}

// add takes a rule in.
func (e *Engine) add(r *rule, rank int) {
	e.rules = append(e.rules, r)
	if r.Depth == 0 && r.timer == nil {
		for i, p := range r.source.patterns {
			e.index.add(p.filter, hit{rank, i})
		}
	}
	for _, l := range r.latest {
		e.listening.add(l.filter, hit{len(e.listeners), 0})
		e.listeners = append(e.listeners, l)
	}
	if r.win != nil {
		r.win.entry = e.windows.add(r)
	}
	if r.timer != nil {
		e.timers = append(e.timers, r)
	}
	if r.holds != nil {
		r.holds.entry = e.holders.add(r)
	}
	e.timed = e.timed || r.memory != nil || r.timer != nil
}
