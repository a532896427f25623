package rules

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/conf"

	"holdfast/gateway/event"
)

// Explanation is what one rule makes of one event.
type Explanation struct {
	Rule        Rule
	Selected    bool // it got the event, or what another rule made of it
	Expressions []Value
	Outputs     []Output // at once
	Later       []Output // when time passes, with this event alone
	Err         error    // why the rule failed on the event; nil if it did not
}

// Value is what an expression, or a part of one, came to.
type Value struct {
	What    string // where the expression stands, as in emit.fields.t; empty for a part
	Text    string
	Reached bool // false: the result was known before, or it failed before
	Value   any  // if it was reached
	Parts   []Value
}

// Show returns the value as one would write it in an expression; an unfinished
// one as "not reached".
func (v Value) Show() string {
	if !v.Reached {
		return "not reached"
	}
	switch x := v.Value.(type) {
	case nil:
		return "nil"
	case string:
		return strconv.Quote(x)
	case time.Time:
		return x.UTC().Format(time.RFC3339Nano)
	case time.Duration:
		return x.String()
	}
	b, err := appendJSON(nil, v.Value)
	if err != nil {
		return fmt.Sprint(v.Value)
	}
	return string(b)
}

// Explain runs an event that comes into a stream through a fresh engine, as the
// first event ever, and returns what each rule of the set made of it. Rules
// that do not read the stream are among them, as not selected.
func (s *Set) Explain(stream string, ev event.Event) []Explanation {
	tr := &tracer{}
	e := s.engine(stream, tr, nil)
	all := make([]Explanation, len(s.defs))
	at := map[string]*Explanation{}
	for i, d := range s.defs {
		all[i].Rule = d.Rule
		at[d.Name] = &all[i]
	}
	if e == nil {
		return all
	}
	ev.Offset = max(ev.Offset, 1)
	var res Result
	e.Tick(ev.Received, &res)
	res.Reset()
	before := s.Stats()
	e.Step([]event.Event{ev}, &res)
	for _, o := range res.Outputs {
		at[o.Rule].Outputs = append(at[o.Rule].Outputs, o)
	}
	for _, f := range res.Failures {
		at[f.Rule].Err = f.Err
	}
	for range mostTicks {
		due, ok := e.NextTick()
		if !ok {
			break
		}
		later := Result{}
		e.Tick(due, &later)
		for _, o := range later.Outputs {
			if x := at[o.Rule]; x.Rule.Timer == "" {
				x.Later = append(x.Later, o)
			}
		}
	}
	for i, after := range s.Stats() {
		all[i].Selected = after.Matched > before[i].Matched && all[i].Rule.Timer == ""
	}
	tr.into(at)
	return all
}

// mostTicks bounds how far Explain looks into the future of rules that never
// come to an end.
const mostTicks = 100

// tracer notes what the parts of expressions come to. It makes each part an
// argument of a function that notes it and returns it, so that evaluation goes
// the way that it goes without: what is not reached is not evaluated.
type tracer struct {
	rule   string
	traced []*traced
}

// traced is an expression under a tracer.
type traced struct {
	rule, what string
	root       *tracedPart
	texts      map[string]string // what the resolver replaced, by the function that it put there
}

type tracedPart struct {
	text    string
	reached bool
	value   any
	parts   []*tracedPart
}

// instrument prepares an expression whose names are resolved.
func (t *tracer) instrument(e *expression, c *conf.Config) {
	whole := e
	for whole.within != nil {
		whole = whole.within
	}
	x := &traced{rule: t.rule, what: e.what, texts: whole.replaced}
	t.traced = append(t.traced, x)
	x.root = x.wrap(&e.ast, c, len(t.traced)) // nil for a constant
}

// wrap puts the function around a node, and around those below it.
func (x *traced) wrap(n *ast.Node, c *conf.Config, id int) *tracedPart {
	p := &tracedPart{text: x.text(*n)}
	below := func(nodes ...*ast.Node) {
		for _, child := range nodes {
			if *child == nil {
				continue
			}
			if q := x.wrap(child, c, id); q != nil {
				p.parts = append(p.parts, q)
			}
		}
	}
	switch y := (*n).(type) {
	case *ast.NilNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.StringNode, *ast.ConstantNode,
		*ast.PredicateNode, *ast.PairNode, *ast.PointerNode, *ast.VariableDeclaratorNode, *ast.SequenceNode:
		return nil
	case *ast.UnaryNode:
		if _, literal := y.Node.(*ast.IntegerNode); literal {
			return nil
		}
		below(&y.Node)
	case *ast.BinaryNode:
		below(&y.Left)
		if y.Operator != "matches" && y.Operator != ".." {
			below(&y.Right)
		}
	case *ast.ConditionalNode:
		below(&y.Cond, &y.Exp1, &y.Exp2)
	case *ast.CallNode:
		for i := range y.Arguments {
			below(&y.Arguments[i])
		}
	case *ast.BuiltinNode:
		for i := range y.Arguments {
			below(&y.Arguments[i])
		}
	case *ast.ArrayNode:
		for i := range y.Nodes {
			below(&y.Nodes[i])
		}
		if len(p.parts) == 0 {
			return nil
		}
	case *ast.IdentifierNode: // a name that let gave
		return nil
	}
	name := "trace#" + strconv.Itoa(id) + "#" + strconv.Itoa(len(c.Functions))
	c.Functions[name] = &builtin.Function{
		Name: name,
		Func: func(args ...any) (any, error) {
			p.reached, p.value = true, args[0]
			return args[0], nil
		},
		Types: []reflect.Type{reflect.TypeFor[func(any) any]()},
	}
	callee := &ast.IdentifierNode{Value: name}
	callee.SetLocation((*n).Location())
	call := &ast.CallNode{Callee: callee, Arguments: []ast.Node{*n}}
	call.SetLocation((*n).Location())
	*n = call
	return p
}

// text is a node as the user wrote it, more or less.
func (x *traced) text(n ast.Node) string {
	text := n.String()
	for changed := true; changed; {
		changed = false
		text = strings.ReplaceAll(text, "?(", "(") // of fields that may be absent
		for put, was := range x.texts {
			if from := strings.Index(text, put+"("); from >= 0 {
				text = text[:from] + was + text[closing(text, from+len(put))+1:]
				changed = true
			}
		}
	}
	return text
}

// closing is where the bracket at text[open] is closed.
func closing(text string, open int) int {
	depth := 0
	for i := open; i < len(text); i++ {
		switch text[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return len(text) - 1
}

// into hands what was traced to the rules.
func (t *tracer) into(at map[string]*Explanation) {
	for _, x := range t.traced {
		if to := at[x.rule]; to != nil && x.root != nil {
			v := x.root.export()
			v.What = x.what
			to.Expressions = append(to.Expressions, v)
		}
	}
}

func (p *tracedPart) export() Value {
	v := Value{Text: p.text, Reached: p.reached, Value: p.value}
	for _, q := range p.parts {
		v.Parts = append(v.Parts, q.export())
	}
	return v
}
