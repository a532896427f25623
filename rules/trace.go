package rules

import (
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/conf"

	"holdfast/gateway/event"
	"holdfast/rules/window"
)

// tracer notes what the parts of expressions come to. It makes each part an
// argument of a function that notes it and returns it, so that evaluation goes
// the way that it goes without: what is not reached is not evaluated.
type tracer struct {
	rule   string // being compiled
	traced []*traced

	of      map[string]*Explanation // by rule
	open    []*evaluating           // a window closes within the evaluation of an event
	reading int
	later   bool

	outputs, failures int // of the result that are in an evaluation
}

// evaluating is an evaluation under way.
type evaluating struct {
	rule string
	Evaluation
}

// begin opens the evaluation of an event, or of a pane.
func (t *tracer) begin(r *rule, ev *event.Event, p *window.Pane, res *Result) {
	t.settle(res)
	e := &evaluating{r.Name, Evaluation{Reading: t.reading, Later: t.later}}
	if p != nil {
		e.Pane = &window.Pane{Key: p.Key, Start: p.Start, End: p.End, Early: p.Early, Expired: p.Expired}
	} else {
		e.Event = *ev
	}
	t.open = append(t.open, e)
}

// end closes what was opened last.
func (t *tracer) end(res *Result) {
	t.settle(res)
	e := t.open[len(t.open)-1]
	t.open = t.open[:len(t.open)-1]
	to := t.of[e.rule]
	to.Evaluations = append(to.Evaluations, e.Evaluation)
}

// settle gives the evaluation under way what has come about since the last call.
func (t *tracer) settle(res *Result) {
	var now *evaluating
	if len(t.open) > 0 {
		now = t.open[len(t.open)-1]
	}
	for ; now != nil && t.failures < len(res.Failures); t.failures++ {
		now.Err = res.Failures[t.failures].Err
	}
	for ; t.outputs < len(res.Outputs); t.outputs++ {
		o := res.Outputs[t.outputs]
		if now == nil || now.rule != o.Rule { // it has waited for this
			to := t.of[o.Rule]
			to.Evaluations = append(to.Evaluations, Evaluation{Reading: t.reading, Later: t.later, Outputs: []Output{o}})
			continue
		}
		now.Outputs = append(now.Outputs, o)
	}
	if now == nil {
		return
	}
	var failed *evalError
	errors.As(now.Err, &failed)
	for _, x := range t.traced {
		if x.rule == now.rule && x.root != nil && (x.root.touched() || failed != nil && failed.what == x.what) {
			v := x.root.export()
			v.What = x.what
			now.Expressions = append(now.Expressions, v)
			x.root.reset()
		}
	}
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

func (p *tracedPart) export() Value {
	v := Value{Text: p.text, Reached: p.reached, Value: p.value}
	for _, q := range p.parts {
		v.Parts = append(v.Parts, q.export())
	}
	return v
}

// touched reports whether a part has come to something.
func (p *tracedPart) touched() bool {
	return p.reached || slices.ContainsFunc(p.parts, (*tracedPart).touched)
}

func (p *tracedPart) reset() {
	p.reached, p.value = false, nil
	for _, q := range p.parts {
		q.reset()
	}
}
