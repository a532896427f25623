package rules

import (
	"slices"
	"strings"
	"unsafe"

	"github.com/expr-lang/expr/vm"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
	"holdfast/rules/window"
)

// ruleCompiler makes a rule of a spec.
type ruleCompiler struct {
	sp     *spec
	rule   *rule
	tables map[string]*Table
	errs   config.Errors
	fields []*field      // of the payload
	heard  []*field      // of other topics
	exprs  []*expression // not yet resolved
	sites  []*site
}

// compileRule compiles a rule for a frame. The errors hold all mistakes that
// readSpec did not find; the rule is only usable without any.
func compileRule(sp *spec, f *frame, tables map[string]*Table) (*rule, *ruleCompiler) {
	r := &rule{Rule: sp.rule(), source: &sp.source, frame: f, shape: sp.shape(), print: sp.print(),
		total: &counters{}, budget: int64(sp.Budget)}
	f.uses = &r.slots
	defer func() { f.uses = nil }()
	c := &ruleCompiler{sp: sp, rule: r, tables: tables}
	c.compile()
	r.plan = f.planFor(r.slots)
	return r, c
}

// outputExpressions are the expressions of one output.
type outputExpressions struct {
	where, payload *expression
	fields         []*expression
}

func (c *ruleCompiler) compile() {
	sp, r := c.sp, c.rule
	events := c.eventScope()
	sets := c.sets(events)
	where := c.expression("where", sp.Where, events.in(selected), truth)
	key := c.expression("key", sp.Key, events.in(noMemory), anything)
	timeField := c.timeField()

	var inputs []*expression
	var columns []window.Aggregate
	var while, having *expression
	var outputs []outputExpressions
	if sp.Window == nil {
		outputs = c.outputExpressions(events.in(passed))
		c.resolve()
	} else {
		while = c.expression("window.while", sp.Window.While, events.in(passed), truth)
		inputs, columns = c.aggregates(events.in(passed))
		c.resolve()
		panes := c.paneScope(inputs, columns)
		having = c.expression("having", sp.Having, panes.in(closed), truth)
		outputs = c.outputExpressions(panes.in(kept))
		c.resolve()
	}

	c.values(sets, events)
	for _, s := range c.sites {
		for _, e := range s.exprs {
			s.args = append(s.args, c.program(e))
		}
		s.in = make([]window.Value, len(s.args))
	}
	r.where, r.key, r.having = c.program(where), c.program(key), c.program(having)
	for i, o := range sp.outputs {
		e := c.emission(o)
		e.where, e.payload = c.program(outputs[i].where), c.program(outputs[i].payload)
		for _, f := range outputs[i].fields {
			e.programs = append(e.programs, c.program(f))
		}
		r.emits = append(r.emits, e)
	}
	if timeField != nil {
		r.clock = &clock{slot: r.frame.slot(timeField.path, timeField.kindNow(), false), nano: units[sp.Time.Unit], ahead: event.Time(sp.Time.Ahead)}
	}
	for _, l := range r.latest {
		uses := r.frame.uses // it belongs to other topics
		r.frame.uses = nil
		l.slot = r.frame.slot(l.field.path, l.field.kindNow(), l.field.bare)
		r.frame.uses = uses
	}
	r.transform = c.transform()
	c.state()
	if sp.Window != nil {
		c.window(inputs, columns, while)
	}
}

// values compiles those of set, each before what names it, so that its kind is
// known.
func (c *ruleCompiler) values(sets []*expression, events *scope) {
	for i, e := range sets {
		v := c.rule.vars[i]
		if v.program = c.program(e); v.program == nil {
			continue
		}
		// It runs while an expression that names it is being run.
		v.program.vm = &vm.VM{MemoryBudget: maxMemory}
		if v.kind = v.program.kind; v.kind > duration {
			v.kind = anything
		}
		events.names[c.sp.sets[i].name].kind = v.kind
	}
}

// window makes the window of the rule.
func (c *ruleCompiler) window(inputs []*expression, columns []window.Aggregate, while *expression) {
	sp, w := c.sp, c.sp.Window
	win := &aggregation{
		mark: window.Watermark{ByEventTime: sp.Time != nil, Grace: w.Grace.Std(), Idle: sp.idle(), Early: w.Early.Std()},
		row:  make([]window.Value, len(inputs)), names: c.paneFields(), while: c.program(while), late: w.Late,
	}
	c.rule.win = win
	for _, e := range inputs {
		win.inputs = append(win.inputs, input{program: c.program(e), numeric: e.want == number})
	}
	expire := defaultKeyExpire
	if w.Expire != nil {
		expire = w.Expire.Std()
	}
	assign := w.assigner()
	if len(c.errs) > 0 || assign == nil {
		return
	}
	win.empty = func() (*window.Window, error) {
		return window.New(window.Config{
			Assign: assign, MaxKeys: w.MaxKeys, MaxRows: w.MaxRows, Expire: expire, InOrder: sp.Time == nil,
		}, columns)
	}
	var err error
	if win.window, err = win.empty(); err != nil {
		c.errs = append(c.errs, sp.section.Errorf("window", "%v", err))
	}
}

// state makes what the rule remembers.
func (c *ruleCompiler) state() {
	sp, r := c.sp, c.rule
	if sp.For > 0 {
		r.holds = &holds{span: event.Time(sp.For)}
		if sp.Where.IsZero() {
			c.errs = append(c.errs, sp.section.Errorf("for", "for needs where: it says how long that must hold"))
		}
	}
	if len(c.sites) > 0 || r.holds != nil {
		r.memory = newMemory(c.sites, sp.State.MaxKeys, event.Time(sp.expire()))
	}
	if sp.source.text != "" {
		r.timer = &timer{source: &sp.source}
		for key, set := range map[string]bool{"for": sp.For > 0, "time": sp.Time != nil, "key": !sp.Key.IsZero()} {
			if set {
				c.errs = append(c.errs, sp.section.Errorf(key, "a timer has no events; remove %s", key))
			}
		}
	}
}

// expression notes an expression for the next call of resolve; nil if there is
// none.
func (c *ruleCompiler) expression(what string, source config.Expr, s *scope, want kind) *expression {
	if source.IsZero() {
		return nil
	}
	e := &expression{what: what, source: source, scope: s, want: want, key: what == "key"}
	c.exprs = append(c.exprs, e)
	return e
}

// resolve infers the kinds of fields from all expressions noted since the
// last call.
func (c *ruleCompiler) resolve() {
	for _, e := range c.exprs {
		errs := e.resolveIn()
		e.failed = len(errs) > 0
		c.errs = append(c.errs, errs...)
	}
	c.exprs = nil
}

// program compiles e, unless there is nothing to compile or it has been found
// wrong.
func (c *ruleCompiler) program(e *expression) *program {
	if e == nil || e.failed || e.within != nil && e.within.failed {
		return nil
	}
	p, err := e.compile()
	if err != nil {
		c.errs = append(c.errs, err)
	}
	return p
}

// sets resolves the values of set one after the other: each knows those before
// it.
func (c *ruleCompiler) sets(events *scope) (all []*expression) {
	for _, col := range c.sp.sets {
		sites := len(c.sites)
		e := c.expression("set."+col.name, col.source, events.in(selected), anything)
		c.resolve()
		v := &variable{}
		c.rule.vars = append(c.rule.vars, v)
		all = append(all, e)
		if e == nil || events.names[col.name] != nil {
			continue
		}
		k := e.term.kindNow()
		if k > duration {
			k = anything
		}
		f := c.rule.frame
		events.add(col.name, k, func() (any, error) { return v.get(f) })
		n := events.names[col.name]
		n.remembers = len(c.sites) > sites || e.remembers
		n.field = e.term.field
	}
	return all
}

func (c *ruleCompiler) outputExpressions(s *scope) (all []outputExpressions) {
	for _, o := range c.sp.outputs {
		x := outputExpressions{
			where:   c.expression(o.what+".where", o.Where, s, truth),
			payload: c.expression(o.what+".payload", o.Payload, s, anything),
		}
		for _, f := range o.fields {
			if e := c.expression(o.what+".fields."+f.name, f.source, s, anything); e != nil {
				x.fields = append(x.fields, e)
			}
		}
		all = append(all, x)
	}
	return all
}

// timeField registers the field of time: with the kind that its unit needs.
func (c *ruleCompiler) timeField() *field {
	t := c.sp.Time
	if t == nil || t.Field.IsZero() || t.Unit == "" {
		return nil
	}
	f := &field{path: strings.Split(t.Field.Text, "."), kind: number, first: t.Field.Pos, place: t.Field.At(0, len(t.Field.Text), "")}
	if t.Unit == "rfc3339" {
		f.kind = text
	}
	c.fields = append(c.fields, f)
	return f
}

// eventScope is what expressions about events can read.
func (c *ruleCompiler) eventScope() *scope {
	f, r := c.rule.frame, c.rule
	s := &scope{frame: f, names: map[string]*name{}, order: new([]string), compiler: c, fields: &c.fields, topics: true}
	if c.sp.source.text != "" {
		s.fields, s.topics = nil, false
		s.add("time", instant, func() (any, error) { return f.ev.Time.Std(), nil })
		return s
	}
	s.add("topic", text, func() (any, error) { return f.ev.Topic, nil })
	s.add("client", text, func() (any, error) { return f.ev.Client, nil })
	s.add("source", text, func() (any, error) { return f.ev.Source, nil })
	s.add("key", text, func() (any, error) { return f.ev.OrderingKey(), nil })
	s.add("received", instant, func() (any, error) { return f.ev.Received.Std(), nil })
	s.add("qos", number, func() (any, error) { return float64(f.ev.QoS), nil })
	s.add("payload", text, func() (any, error) {
		return unsafe.String(unsafe.SliceData(f.ev.Payload), len(f.ev.Payload)), nil
	})
	s.add("time", instant, func() (any, error) {
		t, err := r.happened()
		return t.Std(), err
	})
	for _, id := range c.sp.source.captures() {
		s.add(id, text, func() (any, error) { return r.capture(id) })
	}
	return s
}

// paneScope is what expressions about a closed window can read.
func (c *ruleCompiler) paneScope(inputs []*expression, columns []window.Aggregate) *scope {
	f := c.rule.frame
	s := &scope{frame: f, names: map[string]*name{}, order: new([]string), compiler: c}
	for i, col := range c.sp.columns {
		k := anything
		if len(columns) == len(c.sp.columns) { // else some are wrong
			if k = c.columnKind(col); k == anything && columns[i].Input >= 0 {
				if k = inputs[columns[i].Input].term.kindNow(); k > truth {
					k = anything
				}
			}
		}
		s.add(col.name, k, func() (any, error) { return f.pane.Values[i].Any(), nil })
	}
	s.add("key", text, func() (any, error) { return f.pane.Key, nil })
	s.add("start", instant, func() (any, error) { return f.pane.Start.Std(), nil })
	s.add("end", instant, func() (any, error) { return f.pane.End.Std(), nil })
	s.add("early", truth, func() (any, error) { return f.pane.Early, nil })
	s.add("expired", truth, func() (any, error) { return f.pane.Expired, nil })
	return s
}

func (s *scope) add(id string, k kind, get func() (any, error)) {
	s.names[id] = &name{kind: k, get: get}
	*s.order = append(*s.order, id)
}

// listener returns the rule's listener for a field of other topics.
func (c *ruleCompiler) listener(id, filter string, t template, path []string) int {
	i := slices.IndexFunc(c.rule.latest, func(l *listener) bool { return l.id == id })
	if i < 0 {
		i = len(c.rule.latest)
		f := &field{path: path, bare: len(path) == 1 && path[0] == "value"}
		c.heard = append(c.heard, f)
		c.rule.latest = append(c.rule.latest, &listener{id: id, filter: filter, topic: t, field: f, values: map[string]window.Value{}})
	}
	return i
}
