package rules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/expr-lang/expr/ast"

	"holdfast/gateway/config"
)

func (r *resolver) isField(base *ast.IdentifierNode) bool {
	return base != nil && r.scope.fields != nil && !slices.Contains(r.locals, base.Value) &&
		r.scope.names[base.Value] == nil && base.Value != "$env"
}

// pathOf takes a.b[0].c apart; the base is nil if it is not only constants.
func pathOf(n ast.Node) ([]string, *ast.IdentifierNode) {
	switch x := n.(type) {
	case *ast.IdentifierNode:
		return []string{x.Value}, x
	case *ast.ChainNode:
		return pathOf(x.Node)
	case *ast.MemberNode:
		path, base := pathOf(x.Node)
		if base == nil || x.Method {
			return nil, nil
		}
		switch p := x.Property.(type) {
		case *ast.StringNode:
			return append(path, p.Value), base
		case *ast.IntegerNode:
			if p.Value >= 0 {
				return append(path, strconv.Itoa(p.Value)), base
			}
		}
	}
	return nil, nil
}

func (r *resolver) identifier(n *ast.Node, x *ast.IdentifierNode) term {
	if slices.Contains(r.locals, x.Value) {
		return term{node: x}
	}
	if v := r.scope.names[x.Value]; v != nil {
		if x.Value == "received" {
			r.checkLate(x, x.Value)
		}
		if v.remembers {
			r.remembers = true
			if r.scope.phase == noMemory {
				r.errorf(x, "%q remembers by the key, so the key cannot be made with it", x.Value)
			}
		}
		return r.replace(n, "name#"+x.Value, term{kind: v.kind, field: pick(v.kind, v.field)})
	}
	if r.isField(x) {
		return r.payloadField(n, []string{x.Value}, x.Value == "value", false)
	}
	if x.Value == "$env" {
		r.errorf(x, "$env is not available")
	} else {
		r.errorf(x, "unknown name %q; known here are %s", x.Value, strings.Join(*r.scope.order, ", "))
	}
	return term{node: x}
}

// payloadField replaces a node by a read of the field.
func (r *resolver) payloadField(n *ast.Node, path []string, bare, optional bool) term {
	i := slices.IndexFunc(*r.scope.fields, func(f *field) bool { return f.bare == bare && slices.Equal(f.path, path) })
	if i < 0 {
		i = len(*r.scope.fields)
		*r.scope.fields = append(*r.scope.fields, &field{path: path, bare: bare})
	}
	name := "field#" + strconv.Itoa(i)
	if optional {
		name += "?"
	}
	return r.replace(n, name, term{field: (*r.scope.fields)[i]})
}

// optional makes a node that reads a field accept that the field is absent.
func (r *resolver) optional(n ast.Node) {
	if call, ok := n.(*ast.CallNode); ok {
		if id, ok := call.Callee.(*ast.IdentifierNode); ok {
			if sort, _, _ := strings.Cut(id.Value, "#"); sort == "field" || sort == "lookup" || sort == "latest" {
				id.Value = strings.TrimSuffix(id.Value, "?") + "?"
			}
		}
	}
}

// call handles calls of functions that are not built into expr, and of the
// few methods of times and durations.
func (r *resolver) call(n *ast.Node, x *ast.CallNode) term {
	if member, ok := x.Callee.(*ast.MemberNode); ok {
		return r.method(x, member)
	}
	id, ok := x.Callee.(*ast.IdentifierNode)
	if !ok {
		r.errorf(x, "only functions can be called")
		return term{node: x}
	}
	r.checkLate(x, id.Value)
	switch {
	case id.Value == "field" && r.scope.fields != nil:
		return r.fieldCall(n, x)
	case id.Value == "convert":
		return r.convertCall(n, x)
	case id.Value == "lookup":
		return r.lookupCall(n, x)
	case id.Value == "latest":
		return r.latestCall(n, x)
	case remembered(id.Value) != nil:
		return r.remember(n, x, remembered(id.Value))
	case id.Value == "level" && r.scope.fields != nil:
		if i, ok := constantInt(x.Arguments); ok {
			return r.replace(n, "level#"+strconv.Itoa(i), term{kind: text})
		}
		r.errorf(x, "level takes one whole number, as in level(1)")
	case forbidden[id.Value] != "":
		r.errorf(x, "%s() is not available: %s", id.Value, forbidden[id.Value])
	default:
		r.errorf(x, "unknown function %q%s", id.Value, didYouMean(id.Value, functionNames()))
	}
	return term{node: x}
}

func (r *resolver) fieldCall(n *ast.Node, x *ast.CallNode) term {
	var path []string
	for _, arg := range x.Arguments {
		name, ok := arg.(*ast.StringNode)
		if !ok {
			path = nil
			break
		}
		path = append(path, name.Value)
	}
	if len(path) == 0 {
		r.errorf(x, `field takes names in quotes, as in field("time") or field("a", "b")`)
		return term{node: x}
	}
	return r.payloadField(n, path, false, false)
}

func constantInt(args []ast.Node) (int, bool) {
	if len(args) != 1 {
		return 0, false
	}
	switch x := args[0].(type) {
	case *ast.IntegerNode:
		return x.Value, true
	case *ast.UnaryNode:
		if i, ok := x.Node.(*ast.IntegerNode); ok && x.Operator == "-" {
			return -i.Value, true
		}
	}
	return 0, false
}

func (r *resolver) method(x *ast.CallNode, m *ast.MemberNode) term {
	t := r.resolve(&m.Node)
	for i := range x.Arguments {
		r.resolve(&x.Arguments[i])
	}
	name, _ := m.Property.(*ast.StringNode)
	if name == nil {
		r.errorf(x, "only functions can be called")
		return term{node: x}
	}
	k, ok := methods[name.Value]
	if !ok || t.kind != instant && t.kind != duration && !(t.kind == anything && t.field == nil) {
		r.errorf(m.Property, "%s() cannot be called here; write functions as in lower(x)", name.Value)
	}
	return term{kind: k, node: x}
}

func (r *resolver) builtin(x *ast.BuiltinNode) term {
	if why := forbidden[x.Name]; why != "" {
		r.errorf(x, "%s() is not available: %s", x.Name, why)
	}
	sig := signatures[x.Name]
	for i := range x.Arguments {
		t := r.resolve(&x.Arguments[i])
		if i < len(sig.args) {
			r.constrain(t, sig.args[i])
		} else if sig.rest != anything && len(x.Arguments) > 1 {
			r.constrain(t, sig.rest)
		}
	}
	return term{kind: sig.result, node: x}
}

func didYouMean(word string, known []string) string {
	if near := config.Nearest(word, known); near != "" {
		return fmt.Sprintf(", did you mean %q?", near)
	}
	return ""
}
