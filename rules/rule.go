package rules

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/parser"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
	"holdfast/rules/window"
)

// Rule describes one rule of a [Set].
type Rule struct {
	Name    string
	Stream  string   // that it reads
	Filters []string // topic filters
	Where   string   // condition on events, empty for none
	Window  bool     // it aggregates
	Output  string   // the stream that it writes to
	Pos     config.Pos
}

// Stat counts what a rule has done since its set was compiled.
type Stat struct {
	Rule    string
	Matched uint64 // events whose topic one of its filters selects
	Passed  uint64 // of these, events that its condition lets through
	Failed  uint64 // of these, events that it failed on, and panes
	Late    uint64 // of those passed, events whose window had closed
	Emitted uint64 // outputs
}

// counters are the Stat of a rule, for all engines of a set.
type counters struct{ matched, passed, failed, late, emitted atomic.Uint64 }

func (c *counters) add(s *Stat) {
	c.matched.Add(s.Matched)
	c.passed.Add(s.Passed)
	c.failed.Add(s.Failed)
	c.late.Add(s.Late)
	c.emitted.Add(s.Emitted)
	*s = Stat{}
}

// rule is a compiled rule with its state.
type rule struct {
	Rule
	shape  uint64
	frame  *frame
	slots  []*slot
	where  *program // nil: all events
	key    *program // nil: one key
	clock  *clock   // nil: receive time
	having *program
	emit   emission
	win    *aggregation // nil: no window

	counted Stat      // since the counters were last brought up to date
	total   *counters // shared by all engines of the set

	// number of the next output of the rule at the offset last
	last uint64
	next int
}

// aggregation is the window part of a rule.
type aggregation struct {
	mark   window.Watermark
	window *window.Window
	inputs []input
	row    []window.Value
	names  [][]byte // keys of the payload unless the rule names fields
}

// input is an expression that aggregates read.
type input struct {
	program *program
	numeric bool
}

// clock takes event time from a payload field.
type clock struct {
	slot *slot
	nano int64 // of a unit; 0 for rfc3339
}

var units = map[string]int64{"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1}

// time returns the event time in the frame's payload.
func (c *clock) time(f *frame) (event.Time, error) {
	v, err := f.get(c.slot)
	if err != nil {
		return 0, err
	}
	if s, ok := v.(string); ok {
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return 0, fmt.Errorf("field %q is %.40q, not a time such as 2024-05-01T12:00:00Z", pathName(c.slot.path), s)
		}
		if t.Year() < 1970 || t.Year() > 2222 {
			return 0, window.ErrTime
		}
		return event.At(t), nil
	}
	if n, err := strconv.ParseInt(c.slot.raw, 10, 64); err == nil {
		if n < 0 || n >= int64(window.MaxTime)/c.nano {
			return 0, window.ErrTime
		}
		return event.Time(n * c.nano), nil
	}
	// A fraction: to the microsecond, which is what a float64 can tell.
	micros := math.Round(v.(float64) * float64(c.nano) / 1e3)
	if !(micros >= 0 && micros < float64(window.MaxTime)/1e3) {
		return 0, window.ErrTime
	}
	return event.Time(micros) * 1e3, nil
}

// happened is the time of the event at hand by the rule's time, else the time
// that its source gave, else its receive time.
func (r *rule) happened() (event.Time, error) {
	if r.clock == nil {
		return r.frame.ev.Happened(), nil
	}
	t, err := r.clock.time(r.frame)
	if err != nil {
		return 0, fmt.Errorf("time: %w", err)
	}
	return t, nil
}

// ruleCompiler makes a rule of a spec.
type ruleCompiler struct {
	sp     *spec
	rule   *rule
	errs   config.Errors
	fields []*field      // of the payload
	exprs  []*expression // not yet resolved
}

// compileRule compiles a rule for a frame. The errors hold all mistakes that
// readSpec did not find; the rule is only usable without any.
func compileRule(sp *spec, f *frame) (*rule, config.Errors) {
	r := &rule{Rule: sp.rule(), frame: f, shape: sp.shape(), total: &counters{}}
	f.uses = &r.slots
	defer func() { f.uses = nil }()
	c := &ruleCompiler{sp: sp, rule: r}
	c.compile()
	return r, c.errs
}

func (c *ruleCompiler) compile() {
	sp, r := c.sp, c.rule
	events := c.eventScope()
	where := c.expression("where", sp.Where, events, truth)
	key := c.expression("key", sp.Key, events, anything)
	timeField := c.timeField()

	var inputs, fields []*expression
	var columns []window.Aggregate
	var having *expression
	if sp.Window == nil {
		fields = c.emitFields(events)
		c.resolve()
	} else {
		inputs, columns = c.aggregates(events)
		c.resolve()
		panes := c.paneScope(inputs, columns)
		having = c.expression("having", sp.Having, panes, truth)
		fields = c.emitFields(panes)
		c.resolve()
	}

	r.where, r.key, r.having = c.program(where), c.program(key), c.program(having)
	r.emit = c.emission()
	for _, e := range fields {
		r.emit.programs = append(r.emit.programs, c.program(e))
	}
	if timeField != nil {
		r.clock = &clock{slot: r.frame.slot(timeField.path, timeField.kindNow(), false), nano: units[sp.Time.Unit]}
	}
	if w := sp.Window; w != nil {
		r.win = &aggregation{
			mark: window.Watermark{ByEventTime: sp.Time != nil, Grace: time.Duration(w.Grace), Idle: sp.idle()},
			row:  make([]window.Value, len(inputs)),
		}
		for _, e := range inputs {
			r.win.inputs = append(r.win.inputs, input{program: c.program(e), numeric: e.want == number})
		}
		r.win.names = c.paneFields()
		if len(c.errs) == 0 && w.Tumbling > 0 {
			win, err := window.New(window.Config{
				Assign: window.Tumbling{Size: time.Duration(w.Tumbling)}, MaxKeys: w.MaxKeys,
				Expire: defaultExpire, InOrder: sp.Time == nil,
			}, columns)
			if err != nil {
				c.errs = append(c.errs, sp.section.Errorf("window", "%v", err))
			}
			r.win.window = win
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
	if e == nil || e.failed {
		return nil
	}
	p, err := e.compile()
	if err != nil {
		c.errs = append(c.errs, err)
	}
	return p
}

func (c *ruleCompiler) emitFields(s *scope) []*expression {
	var all []*expression
	for _, f := range c.sp.fields {
		if e := c.expression("emit.fields."+f.name, f.source, s, anything); e != nil {
			all = append(all, e)
		}
	}
	return all
}

// timeField registers the field of time: with the kind that its unit needs.
func (c *ruleCompiler) timeField() *field {
	t := c.sp.Time
	if t == nil || t.Field.IsZero() || t.Unit == "" {
		return nil
	}
	f := &field{path: strings.Split(t.Field.Text, "."), kind: number, first: t.Field.Pos}
	if t.Unit == "rfc3339" {
		f.kind = text
	}
	c.fields = append(c.fields, f)
	return f
}

// aggregates parses the columns of a window. Columns that read the same
// expression share an input.
func (c *ruleCompiler) aggregates(s *scope) ([]*expression, []window.Aggregate) {
	var inputs []*expression
	var columns []window.Aggregate
	for i := range c.sp.columns {
		col := &c.sp.columns[i]
		if col.source.IsZero() {
			continue
		}
		tree, arg, err := parseAggregate(col)
		if err != nil {
			c.errs = append(c.errs, err)
			continue
		}
		a := window.Aggregate{Func: col.fn, Input: -1, Params: col.params}
		if arg != nil {
			want := [...]kind{window.Numbers: number, window.Truths: truth, window.Anything: anything}[col.fn.Input]
			text := arg.String()
			for j, e := range inputs {
				if e.want == want && e.text == text {
					a.Input = j
				}
			}
			if a.Input < 0 {
				a.Input = len(inputs)
				e := c.expression("aggregate."+col.name, col.source, s, want)
				e.tree, e.ast, e.text = tree, arg, text
				inputs = append(inputs, e)
			}
		}
		columns = append(columns, a)
	}
	return inputs, columns
}

// eventScope is what expressions about events can read.
func (c *ruleCompiler) eventScope() *scope {
	f, r := c.rule.frame, c.rule
	s := &scope{frame: f, names: map[string]*name{}, fields: &c.fields}
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
	return s
}

// paneScope is what expressions about a closed window can read.
func (c *ruleCompiler) paneScope(inputs []*expression, columns []window.Aggregate) *scope {
	f := c.rule.frame
	s := &scope{frame: f, names: map[string]*name{}}
	for i, col := range c.sp.columns {
		k := anything
		switch {
		case len(columns) < len(c.sp.columns): // some are wrong
		case col.fn.Result == window.Number:
			k = number
		case col.fn.Result == window.List:
			k = list
		case col.fn.Result == window.Record:
			k = mapping
		default:
			if k = inputs[columns[i].Input].term.kindNow(); k > truth {
				k = anything
			}
		}
		s.add(col.name, k, func() (any, error) { return f.pane.Values[i].Any(), nil })
	}
	s.add("key", text, func() (any, error) { return f.pane.Key, nil })
	s.add("start", instant, func() (any, error) { return f.pane.Start.Std(), nil })
	s.add("end", instant, func() (any, error) { return f.pane.End.Std(), nil })
	return s
}

func (s *scope) add(id string, k kind, get func() (any, error)) {
	s.names[id] = &name{kind: k, get: get}
	s.order = append(s.order, id)
}

var countCall = regexp.MustCompile(`^\s*count\s*\(\s*\)\s*$`)

// parseAggregate takes a column like avg(x) apart.
func parseAggregate(col *column) (tree *parser.Tree, arg ast.Node, err *config.Error) {
	if countCall.MatchString(col.source.Text) {
		col.fn, _ = window.Lookup("count")
		return nil, nil, nil
	}
	if tree, err = parse(col.source); err != nil {
		return nil, nil, err
	}
	at := tree.Node.Location()
	var function string
	var args []ast.Node
	switch x := tree.Node.(type) {
	case *ast.BuiltinNode:
		function, args = x.Name, x.Arguments
	case *ast.CallNode:
		function, args = calleeName(x), x.Arguments
	default:
		return nil, nil, col.source.At(0, len(col.source.Text),
			"an aggregate is a call of one of %s; calculate with aggregates in emit.fields", strings.Join(aggregateNames(), ", "))
	}
	fn, known := window.Lookup(function)
	switch {
	case !known:
		return nil, nil, errorAt(col.source, at, "%q is not an aggregate%s; known are %s", function,
			didYouMean(function, aggregateNames()), strings.Join(aggregateNames(), ", "))
	case fn.Input == window.NoInput:
		return nil, nil, errorAt(col.source, at, "count() counts events and takes nothing; select events with where or use count_if")
	case len(args) == 0:
		return nil, nil, errorAt(col.source, at, "%s takes an expression, as in %s", function, fn.Signature())
	}
	col.params = nil // a spec is compiled once for each engine
	for _, arg := range args[1:] {
		f, ok := constant(arg)
		if !ok {
			return nil, nil, errorAt(col.source, arg.Location(), "what follows the expression must be numbers, as in %s", fn.Signature())
		}
		col.params = append(col.params, f)
	}
	if _, wrong := fn.Check(col.params); wrong != nil {
		return nil, nil, errorAt(col.source, at, "%v", wrong)
	}
	col.fn = fn
	return tree, args[0], nil
}

func aggregateNames() []string {
	var names []string
	for _, f := range window.Functions {
		names = append(names, f.Name)
	}
	return names
}

// constant returns the value of a number that is written out.
func constant(n ast.Node) (float64, bool) {
	switch x := n.(type) {
	case *ast.IntegerNode:
		return float64(x.Value), true
	case *ast.FloatNode:
		return x.Value, true
	case *ast.UnaryNode:
		f, ok := constant(x.Node)
		return -f, ok && x.Operator == "-"
	}
	return 0, false
}

// fail counts a failure and reports it.
func (r *rule) fail(res *Result, ev *event.Event, err error) {
	r.counted.Failed++
	res.Failures = append(res.Failures, Failure{Rule: r.Name, Event: *ev, Err: err})
}
