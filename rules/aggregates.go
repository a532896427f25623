package rules

import (
	"regexp"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/parser"

	"holdfast/gateway/config"
	"holdfast/rules/window"
)

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

// columnKind is the kind of an aggregate; anything if it is that of what it
// reads.
func (c *ruleCompiler) columnKind(col column) kind {
	switch col.fn.Result {
	case window.Number:
		return number
	case window.List:
		return list
	case window.Record:
		return mapping
	}
	return anything
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
