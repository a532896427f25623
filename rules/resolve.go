package rules

import (
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"

	"holdfast/gateway/config"
)

// field is one payload field of a rule with what its uses say about its kind.
// Fields that are compared with each other are of one kind: they share a root.
type field struct {
	path []string
	bare bool
	kind kind
	weak bool // used so that it is a number unless something else is known
	// where the kind was first seen, for the message about a contradiction
	first config.Pos
	place *config.Error // the same as a mistake without a text
	root  *field
}

func (f *field) find() *field {
	for f.root != nil {
		f = f.root
	}
	return f
}

// kindNow is the kind as far as it is known.
func (f *field) kindNow() kind {
	r := f.find()
	if r.kind == anything && r.weak {
		return number
	}
	return r.kind
}

// term is what an expression node is known to be.
type term struct {
	kind  kind
	field *field // nil unless the kind of the node is that of a field
	node  ast.Node
	none  bool // the literal nil
	elems *term
}

func (t term) kindNow() kind {
	if t.field != nil {
		return t.field.kindNow()
	}
	return t.kind
}

// maxInside bounds how often the lists of a payload are gone through for each
// of their elements.
const maxInside = 2

// resolver walks an expression, replaces names by calls of functions that
// read them, and infers the kinds of payload fields on the way.
type resolver struct {
	of     *expression
	scope  *scope
	source config.Expr
	locals []string
	made   map[ast.Node]term // nodes that already are replacements
	tree   *parser.Tree
	inside int // predicates of list functions around the node
	// remembers tells that a function with a memory was found
	remembers bool
	// what was there before, by the name of the function, for explanations
	replaced map[string]string
	errs     config.Errors
}

// at returns a mistake at a node.
func (r *resolver) at(loc file.Location, format string, args ...any) *config.Error {
	return errorAt(r.source, loc, format, args...)
}

func (r *resolver) errorf(n ast.Node, format string, args ...any) {
	r.errs = append(r.errs, r.at(n.Location(), format, args...))
}

// errorAt turns a position in runes into one in the file.
func errorAt(source config.Expr, loc file.Location, format string, args ...any) *config.Error {
	from, to := byteOffset(source.Text, loc.From), byteOffset(source.Text, loc.To)
	return source.At(from, max(to-from, 1), format, args...)
}

func byteOffset(s string, runes int) int {
	for i := range s {
		if runes <= 0 {
			return i
		}
		runes--
	}
	return len(s)
}

// constrain notes that a term is used as k.
func (r *resolver) constrain(t term, k kind) {
	if t.field == nil || k == anything {
		return
	}
	root := t.field.find()
	switch root.kind {
	case anything:
		root.kind, root.place = k, r.at(t.node.Location(), "")
		root.first = root.place.Pos
	case k:
	default:
		r.errorf(t.node, "%q is used as %s here and as %s at %v", pathName(t.field.path),
			k.article(), root.kind.article(), root.first)
	}
}

// unify notes that two terms are of one kind, and returns it.
func (r *resolver) unify(a, b term) term {
	switch {
	case a.field == nil && b.field == nil:
		if a.kind == b.kind || b.none {
			return a
		}
		if a.none {
			return b
		}
		return term{node: a.node}
	case a.field == nil:
		r.constrain(b, a.kind)
		return term{kind: a.kind, field: pick(a.kind, b.field), node: b.node}
	case b.field == nil:
		r.constrain(a, b.kind)
		return term{kind: b.kind, field: pick(b.kind, a.field), node: a.node}
	}
	x, y := a.field.find(), b.field.find()
	switch {
	case x == y:
	case x.kind != anything && y.kind != anything && x.kind != y.kind:
		r.errorf(b.node, "%q is %s, by its use at %v, and cannot go together with %q, which is %s, by its use at %v",
			pathName(b.field.path), y.kind.article(), y.first, pathName(a.field.path), x.kind.article(), x.first)
	default:
		if x.kind == anything {
			x.kind, x.first, x.place = y.kind, y.first, y.place
		}
		x.weak = x.weak || y.weak
		y.root = x
	}
	return a
}

func pick(known kind, f *field) *field {
	if known != anything {
		return nil
	}
	return f
}

func (r *resolver) weaken(t term) {
	if t.field != nil {
		t.field.find().weak = true
	}
}

// replace puts a call of the named function in place of the node.
func (r *resolver) replace(n *ast.Node, name string, t term) term {
	r.replaced[name] = (*n).String()
	callee := &ast.IdentifierNode{Value: name}
	callee.SetLocation((*n).Location())
	call := &ast.CallNode{Callee: callee}
	call.SetLocation((*n).Location())
	*n, t.node = call, call
	r.made[call] = t
	return t
}

// resolve handles one node and what is below it.
func (r *resolver) resolve(n *ast.Node) term {
	if t, ok := r.made[*n]; ok {
		return t
	}
	switch x := (*n).(type) {
	case *ast.NilNode:
		return term{node: x, none: true}
	case *ast.IntegerNode, *ast.FloatNode:
		return term{kind: number, node: x}
	case *ast.BoolNode:
		return term{kind: truth, node: x}
	case *ast.StringNode:
		return term{kind: text, node: x}
	case *ast.IdentifierNode:
		return r.identifier(n, x)
	case *ast.UnaryNode:
		return r.unary(x)
	case *ast.BinaryNode:
		return r.binary(x)
	case *ast.ChainNode:
		if path, base := pathOf(x.Node); r.isField(base) {
			return r.payloadField(n, path, base.Value == "value" && len(path) == 1, true)
		}
		return r.resolve(&x.Node)
	case *ast.MemberNode:
		if path, base := pathOf(x); r.isField(base) {
			return r.payloadField(n, path, false, false)
		}
		r.resolve(&x.Node)
		r.resolve(&x.Property)
		return term{node: x}
	case *ast.SliceNode:
		t := r.resolve(&x.Node)
		for _, bound := range []*ast.Node{&x.From, &x.To} {
			if *bound != nil {
				r.resolve(bound)
			}
		}
		return term{kind: t.kind, node: x}
	case *ast.CallNode:
		return r.call(n, x)
	case *ast.BuiltinNode:
		return r.builtin(x)
	case *ast.PredicateNode:
		if r.inside++; r.inside == maxInside+1 {
			r.errorf(x, "list functions inside each other to more than %d levels may take very long; split the rule", maxInside)
		}
		t := r.resolve(&x.Node)
		r.inside--
		return term{kind: t.kind, field: t.field, node: t.node}
	case *ast.VariableDeclaratorNode:
		r.resolve(&x.Value)
		r.locals = append(r.locals, x.Name)
		t := r.resolve(&x.Expr)
		r.locals = r.locals[:len(r.locals)-1]
		return t
	case *ast.SequenceNode:
		var t term
		for i := range x.Nodes {
			t = r.resolve(&x.Nodes[i])
		}
		return t
	case *ast.ConditionalNode:
		r.constrain(r.resolve(&x.Cond), truth)
		return r.unify(r.resolve(&x.Exp1), r.resolve(&x.Exp2))
	case *ast.ArrayNode:
		return r.array(x)
	case *ast.MapNode:
		for i := range x.Pairs {
			r.resolve(&x.Pairs[i])
		}
		return term{kind: mapping, node: x}
	case *ast.PairNode:
		r.resolve(&x.Key)
		r.resolve(&x.Value)
	}
	return term{node: *n}
}

func (r *resolver) array(x *ast.ArrayNode) term {
	var elems *term
	for i := range x.Nodes {
		t := r.resolve(&x.Nodes[i])
		if elems == nil {
			elems = &t
		} else if elems.kindNow() != t.kindNow() {
			elems = &term{}
		}
	}
	return term{kind: list, node: x, elems: elems}
}

func (r *resolver) unary(x *ast.UnaryNode) term {
	t := r.resolve(&x.Node)
	if x.Operator == "!" || x.Operator == "not" {
		r.constrain(t, truth)
		return term{kind: truth, node: x}
	}
	r.constrain(t, number)
	return term{kind: number, node: x}
}

func (r *resolver) binary(x *ast.BinaryNode) term {
	a, b := r.resolve(&x.Left), r.resolve(&x.Right)
	switch x.Operator {
	case "&&", "and", "||", "or":
		r.constrain(a, truth)
		r.constrain(b, truth)
		return term{kind: truth, node: x}
	case "==", "!=":
		switch {
		case b.none:
			r.optional(x.Left)
		case a.none:
			r.optional(x.Right)
		default:
			r.unify(a, b)
		}
		return term{kind: truth, node: x}
	case "<", "<=", ">", ">=":
		r.weaken(r.unify(a, b))
		return term{kind: truth, node: x}
	case "+":
		t := r.unify(a, b)
		r.weaken(t)
		return term{kind: t.kind, field: t.field, node: t.node}
	case "-", "*":
		if a.kind == instant || a.kind == duration || b.kind == instant || b.kind == duration {
			return term{node: x}
		}
		fallthrough
	case "/", "%", "**", "^":
		r.constrain(a, number)
		r.constrain(b, number)
		return term{kind: number, node: x}
	case "contains", "startsWith", "endsWith", "matches":
		r.constrain(a, text)
		r.constrain(b, text)
		if _, ok := x.Right.(*ast.StringNode); !ok && x.Operator == "matches" {
			r.errorf(x.Right, "the pattern of matches must be written out, so that it can be checked and compiled once")
		}
		return term{kind: truth, node: x}
	case "in":
		if b.elems != nil {
			r.constrain(a, b.elems.kindNow())
		}
		return term{kind: truth, node: x}
	case "..":
		return term{kind: list, node: x, elems: &term{kind: number}}
	case "??":
		r.optional(x.Left)
		return r.unify(a, b)
	}
	return term{node: x}
}
