package rules

import (
	"strconv"
	"strings"

	"github.com/expr-lang/expr/ast"
)

// Most conditions only compare fields with constants: temperature > 80 && unit
// == "C". They are evaluated here rather than by expr, which takes a tenth of the
// time and of the memory that an event of one rule in a thousand has to wait for.

// comparison compares a field with a constant.
type comparison struct {
	slot   *slot
	number float64
	text   string // for fields that are text
	truth  bool   // for those that are true or false
	op     byte   // '=', '!', '<', '>', and l and g for <= and >=
	offset int32  // of the field in the expression
}

// comparisons is a condition of which all parts must hold, or any.
type comparisons struct {
	parts []comparison
	any   bool
}

// holds evaluates the condition as expr does: from the left, and no further than
// it takes. An error has the offset of the field that it is about.
func (c *comparisons) holds(f *frame) (holds bool, offset int, err error) {
	for i := range c.parts {
		p := &c.parts[i]
		v, err := f.get(p.slot)
		if err != nil {
			return false, int(p.offset), err
		}
		if p.holds(v) == c.any {
			return c.any, 0, nil
		}
	}
	return !c.any, 0, nil
}

func (p *comparison) holds(v any) bool {
	switch x := v.(type) {
	case float64:
		switch p.op {
		case '<':
			return x < p.number
		case '>':
			return x > p.number
		case 'l':
			return x <= p.number
		case 'g':
			return x >= p.number
		}
		return (x == p.number) == (p.op == '=')
	case string:
		return (x == p.text) == (p.op == '=')
	case bool:
		return (x == p.truth) == (p.op == '=')
	}
	panic("rules: a field is of another kind than its slot")
}

// comparisons takes the expression for a list of comparisons; without parts if it
// is none. Its names are bound and its types are checked.
func (e *expression) comparisons() (c comparisons) {
	joined := ""
	var walk func(n ast.Node) bool
	walk = func(n ast.Node) bool {
		if b, ok := n.(*ast.BinaryNode); ok {
			op := map[string]string{"&&": "&&", "and": "&&", "||": "||", "or": "||"}[b.Operator]
			if op != "" {
				if joined != "" && joined != op {
					return false
				}
				joined = op
				return walk(b.Left) && walk(b.Right)
			}
		}
		p, ok := e.comparison(n)
		c.parts = append(c.parts, p)
		return ok
	}
	if !walk(e.ast) {
		return comparisons{}
	}
	c.any = joined == "||"
	return c
}

func (e *expression) comparison(n ast.Node) (p comparison, ok bool) {
	switch x := n.(type) {
	case *ast.UnaryNode:
		p, ok = e.plain(x.Node, '!')
		return p, ok && p.slot.kind == truth && (x.Operator == "!" || x.Operator == "not")
	case *ast.CallNode:
		p, ok = e.plain(x, '=')
		return p, ok && p.slot.kind == truth
	case *ast.BinaryNode:
		op := map[string]byte{"==": '=', "!=": '!', "<": '<', ">": '>', "<=": 'l', ">=": 'g'}[x.Operator]
		field, constant := x.Left, x.Right
		if _, is := field.(*ast.CallNode); !is {
			field, constant = constant, field
			op = map[byte]byte{'=': '=', '!': '!', '<': '>', '>': '<', 'l': 'g', 'g': 'l'}[op]
		}
		if p, ok = e.plain(field, op); ok && op != 0 {
			return p, p.against(constant)
		}
	}
	return p, false
}

// plain is the comparison of a field that must be there with true.
func (e *expression) plain(n ast.Node, op byte) (p comparison, ok bool) {
	sort, id, _ := strings.Cut(calleeName(n), "#")
	i, err := strconv.Atoi(id)
	if sort != "field" || err != nil { // an id that ends in ? is of a field that may be absent
		return p, false
	}
	fd := (*e.scope.fields)[i]
	s := e.scope.frame.slot(fd.path, fd.kindNow(), fd.bare)
	return comparison{slot: s, op: op, offset: int32(n.Location().From), truth: true}, s.kind == number || s.kind == text || s.kind == truth
}

// against takes in the constant.
func (p *comparison) against(n ast.Node) bool {
	equality := p.op == '=' || p.op == '!'
	sign := 1.0
	if u, ok := n.(*ast.UnaryNode); ok && u.Operator == "-" {
		n, sign = u.Node, -1
	}
	switch x := n.(type) {
	case *ast.IntegerNode:
		p.number = sign * float64(x.Value)
		return p.slot.kind == number
	case *ast.FloatNode:
		p.number = sign * x.Value
		return p.slot.kind == number
	case *ast.StringNode:
		p.text = x.Value
		return p.slot.kind == text && equality
	case *ast.BoolNode:
		p.truth = x.Value
		return p.slot.kind == truth && equality
	}
	return false
}
