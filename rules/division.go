package rules

import (
	"errors"
	"reflect"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/conf"
)

var errDivision = errors.New("division by zero")

// guardDivisions makes divisions fail whose divisor is zero. Otherwise they give
// infinity, which a condition takes for a large number. It reports whether there
// are any with a divisor that is not written out.
func guardDivisions(n *ast.Node, c *conf.Config) bool {
	g := &divisionGuard{c: c}
	ast.Walk(n, g)
	return g.found
}

type divisionGuard struct {
	c     *conf.Config
	found bool
}

func (g *divisionGuard) Visit(n *ast.Node) {
	b, ok := (*n).(*ast.BinaryNode)
	if !ok || b.Operator != "/" {
		return
	}
	switch by := b.Right.(type) {
	case *ast.IntegerNode:
		ok = by.Value == 0
	case *ast.FloatNode:
		ok = by.Value == 0
	}
	if !ok {
		return
	}
	const name = "divide#"
	g.found = true
	g.c.Functions[name] = &builtin.Function{Name: name, Func: divide, Types: []reflect.Type{reflect.TypeFor[func(any, any) float64]()}}
	call := &ast.CallNode{Callee: &ast.IdentifierNode{Value: name}, Arguments: []ast.Node{b.Left, b.Right}}
	call.SetLocation(b.Location())
	ast.Patch(n, call)
}

func divide(args ...any) (any, error) {
	of, _ := toNumber(args[0])
	by, _ := toNumber(args[1])
	if by == 0 {
		return nil, errDivision
	}
	return of / by, nil
}
