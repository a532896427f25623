package rules

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/checker"
	"github.com/expr-lang/expr/compiler"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/optimizer"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"

	"holdfast/gateway/config"
)

const (
	maxNodes  = 500   // of one expression
	maxText   = 8192  // bytes of one expression
	maxMemory = 10000 // elements that one evaluation may make
)

// name is something that expressions can read besides payload fields.
type name struct {
	kind      kind
	field     *field // it is this field, whose kind may not be known yet
	remembers bool   // it is made with a function that has a memory
	get       func() (any, error)
}

// scope is what an expression can see.
type scope struct {
	frame    *frame
	names    map[string]*name
	order    *[]string // of names, for messages
	fields   *[]*field // nil where there is no payload
	topics   bool      // there is a topic
	phase    phase     // of functions with a memory
	compiler *ruleCompiler
}

// in returns the scope for expressions of a phase.
func (s *scope) in(p phase) *scope {
	t := *s
	t.phase = p
	return &t
}

// expression is an expression on its way to a program.
type expression struct {
	what   string // as in messages: where, emit.fields.temp
	source config.Expr
	scope  *scope
	want   kind // what it must result in
	key    bool // it must result in something that can be written as text
	tree   *parser.Tree
	term   term
	ast    ast.Node    // the part that is compiled: an aggregate's argument, else all
	text   string      // of an aggregate's argument
	failed bool        // a mistake was found
	within *expression // that it is a part of, as an argument of a function with a memory
	// it uses a function with a memory
	remembers bool

	replaced map[string]string // what the resolver replaced, by the function put there
}

// program is a compiled expression.
type program struct {
	simple comparisons // the whole expression is these; else it has no parts
	frame  *frame
	slot   *slot // the whole expression is this field
	code   *vm.Program
	vm     *vm.VM
	kind   kind
	what   string
	source config.Expr
	places map[int]config.Pos // where errors were, by offset
}

// builtins are the functions of expr that rules can call; nothing changes them.
var builtins, disabled = func() (conf.FunctionsTable, map[string]bool) {
	c := conf.CreateNew()
	for name := range forbidden {
		c.Disabled[name] = true
		delete(c.Builtins, name)
	}
	return c.Builtins, c.Disabled
}()

func newConf() *conf.Config {
	c := &conf.Config{Optimize: true, ShortCircuit: true, MaxNodes: maxNodes, ConstFns: map[string]reflect.Value{},
		Functions: conf.FunctionsTable{}, Builtins: builtins, Disabled: disabled}
	c.WithEnv(map[string]any{})
	return c
}

// parse reads the text of e.
func parse(source config.Expr) (tree *parser.Tree, err *config.Error) {
	defer func() {
		if r := recover(); r != nil {
			err = source.At(0, len(source.Text), "cannot read the expression: %v", r)
		}
	}()
	if len(source.Text) > maxText {
		return nil, source.At(0, 1, "the expression has %d bytes, more than %d", len(source.Text), maxText)
	}
	tree, failed := parser.ParseWithConfig(source.Text, newConf())
	if failed != nil {
		return nil, located(source, failed)
	}
	return tree, nil
}

// resolveIn parses e, unless that was done, and replaces the names in it.
func (e *expression) resolveIn() config.Errors {
	if e.tree == nil {
		tree, err := parse(e.source)
		if err != nil {
			return config.Errors{err}
		}
		e.tree, e.ast = tree, tree.Node
	}
	e.replaced = map[string]string{}
	r := &resolver{of: e, scope: e.scope, source: e.source, tree: e.tree, made: map[ast.Node]term{}, replaced: e.replaced}
	e.term = r.resolve(&e.ast)
	e.remembers = r.remembers
	if e.want != anything {
		r.constrain(e.term, e.want)
	}
	return r.errs
}

// compile checks the types of e and makes a program of it. The kinds of all
// fields are known by now.
func (e *expression) compile() (p *program, failed *config.Error) {
	all := func(format string, args ...any) *config.Error {
		return e.source.At(0, len(e.source.Text), format, args...)
	}
	defer func() {
		if r := recover(); r != nil {
			failed = all("cannot compile the expression: %v", r)
		}
	}()
	c := newConf()
	ast.Walk(&e.ast, &binder{e: e, c: c})
	trace := e.scope.frame.trace
	if trace != nil {
		trace.instrument(e, c)
	}
	tree := &parser.Tree{Node: e.ast, Source: e.tree.Source}
	t, err := checker.Check(tree, c)
	if err != nil {
		return nil, located(e.source, err)
	}
	p = &program{what: e.what, source: e.source, kind: kindOf(t), frame: e.scope.frame, vm: &e.scope.frame.vm}
	switch {
	case e.key && p.kind >= instant:
		return nil, all("%s must be text, a number or true or false, not %v", e.what, p.kind)
	case e.want != anything && p.kind != anything && p.kind != e.want:
		return nil, all("%s must be %v, not %v", e.what, e.want, p.kind)
	}
	if trace == nil && p.kind == truth {
		if p.simple = e.comparisons(); p.simple.parts != nil {
			return p, nil
		}
	}
	if guardDivisions(&tree.Node, c) {
		if _, err := checker.Check(tree, c); err != nil {
			return nil, located(e.source, err)
		}
	}
	if err := optimizer.Optimize(&tree.Node, c); err != nil {
		return nil, located(e.source, err)
	}
	if p.code, err = compiler.Compile(tree, c); err != nil {
		return nil, located(e.source, err)
	}
	if sort, _, _ := strings.Cut(calleeName(e.ast), "#"); trace == nil && e.term.field != nil && e.term.node == e.ast && sort == "field" && !strings.HasSuffix(calleeName(e.ast), "?") {
		f := e.term.field
		p.slot = e.scope.frame.slot(f.path, f.kindNow(), f.bare)
	}
	return p, nil
}

func calleeName(n ast.Node) string {
	if call, ok := n.(*ast.CallNode); ok {
		if id, ok := call.Callee.(*ast.IdentifierNode); ok {
			return id.Value
		}
	}
	return ""
}

// binder gives the functions that the resolver put in to expr.
type binder struct {
	e *expression
	c *conf.Config
}

func (b *binder) Visit(n *ast.Node) {
	full := calleeName(*n)
	sort, rest, ok := strings.Cut(full, "#")
	if !ok || b.c.Functions[full] != nil {
		return
	}
	if b.bindCall(sort, rest, full) {
		return
	}
	f := b.e.scope.frame
	switch sort {
	case "name":
		v := b.e.scope.names[rest]
		b.function(full, v.kind, func(...any) (any, error) { return v.get() })
	case "level":
		i, _ := strconv.Atoi(rest)
		b.function(full, text, func(...any) (any, error) { return topicLevel(f.ev.Topic, i) })
	case "field":
		id, optional := strings.CutSuffix(rest, "?")
		i, _ := strconv.Atoi(id)
		fd := (*b.e.scope.fields)[i]
		s := f.slot(fd.path, fd.kindNow(), fd.bare)
		if optional {
			b.function(full, anything, s.maybe)
		} else {
			b.function(full, s.kind, s.get)
		}
	}
}

func (b *binder) function(name string, k kind, get func(...any) (any, error)) {
	t := reflect.FuncOf(nil, []reflect.Type{k.goType()}, false)
	b.c.Functions[name] = &builtin.Function{
		Name:  name,
		Func:  get,
		Types: []reflect.Type{t},
	}
}

// call gives expr a function of one argument.
func (b *binder) call(name string, k kind, of func(any) (any, error)) {
	t := reflect.FuncOf([]reflect.Type{reflect.TypeFor[any]()}, []reflect.Type{k.goType()}, false)
	b.c.Functions[name] = &builtin.Function{
		Name:  name,
		Func:  func(args ...any) (any, error) { return of(args[0]) },
		Types: []reflect.Type{t},
	}
}

// topicLevel returns the n-th level of a topic, from the end for n < 0.
func topicLevel(topic string, n int) (any, error) {
	i, rest := n, topic
	if n < 0 {
		if i += strings.Count(topic, "/") + 1; i < 0 {
			return nil, fmt.Errorf("the topic %q has no level(%d)", topic, n)
		}
	}
	for {
		level, more, found := strings.Cut(rest, "/")
		if i == 0 {
			return level, nil
		}
		if !found {
			return nil, fmt.Errorf("the topic %q has no level(%d)", topic, n)
		}
		i, rest = i-1, more
	}
}

// run evaluates the program on the frame's event or pane.
func (p *program) run() (any, error) {
	if p.slot != nil {
		v, err := p.frame.get(p.slot)
		if err != nil {
			return nil, p.wrap(err)
		}
		return v, nil
	}
	if p.simple.parts != nil {
		return p.compare()
	}
	v, err := p.vm.Run(p.code, nil)
	if err != nil {
		var at *file.Error
		offset := 0
		if errors.As(err, &at) {
			offset = at.From
		}
		return nil, p.place(runtimeError(err), offset)
	}
	return v, nil
}

func (p *program) wrap(err error) error { return p.place(err, 0) }

// place adds to an error what was evaluated, and where that stands in the file.
// An error that has come from a value of set has its place already.
func (p *program) place(err error, offset int) error {
	var placed *evalError
	if errors.As(err, &placed) {
		return err
	}
	pos, known := p.places[offset]
	if !known {
		pos = errorAt(p.source, file.Location{From: offset, To: offset}, "").Pos
		if p.places == nil {
			p.places = map[int]config.Pos{}
		}
		p.places[offset] = pos
	}
	return &evalError{p.what, pos, err}
}

func (p *program) errorf(format string, args ...any) error {
	return p.wrap(fmt.Errorf(format, args...))
}

func (p *program) compare() (bool, error) {
	holds, offset, err := p.simple.holds(p.frame)
	if err != nil {
		return false, p.place(err, offset)
	}
	return holds, nil
}

// truth evaluates a condition.
func (p *program) truth() (bool, error) {
	if p.simple.parts != nil {
		return p.compare()
	}
	v, err := p.run()
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, p.errorf("the result is %s, not %v", describe(v), truth)
	}
	return b, nil
}

// number evaluates the argument of an aggregate that takes numbers.
func (p *program) number() (float64, error) {
	v, err := p.run()
	if err != nil {
		return 0, err
	}
	n, ok := v.(float64)
	if !ok {
		if n, ok = toNumber(v); !ok {
			return 0, p.errorf("the value is %s, not %v", describe(v), number)
		}
	}
	if math.IsNaN(n) || math.IsInf(n, 0) {
		return 0, p.errorf("the value is %v, which cannot be aggregated", n)
	}
	return n, nil
}

// runtimeError takes what matters out of an error of expr: it carries the
// error of a field within, or the message of a panic.
func runtimeError(err error) error {
	var at *file.Error
	if !errors.As(err, &at) {
		return err
	}
	var panicked runtime.Error
	if at.Prev != nil && !errors.As(at.Prev, &panicked) {
		return at.Prev
	}
	return errors.New(inOurWords(at.Message))
}

// located turns an error of expr into a mistake with its place.
func located(source config.Expr, err error) *config.Error {
	var at *file.Error
	if errors.As(err, &at) {
		return errorAt(source, at.Location, "%s", inOurWords(at.Message))
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return source.At(0, len(source.Text), "%s", inOurWords(first))
}

var (
	tokenName = regexp.MustCompile(`token \w+\("(.*)"\)`)
	typeName  = regexp.MustCompile(`\b(float64|int64|int|string|bool|time\.Time|time\.Duration|\[\](?:any|int|string)|map\[string\](?:any|interface \{\}))\b|interface \{\}`)
)

// inOurWords replaces Go's and expr's words by those of rule files.
func inOurWords(msg string) string {
	msg = strings.Replace(msg, "unexpected token EOF", "the expression ends too early", 1)
	msg = strings.Replace(msg, "unexpected end of expression", "the expression ends too early", 1)
	msg = strings.Replace(msg, "runtime error: integer divide by zero", errDivision.Error(), 1)
	msg = strings.Replace(msg, "memory budget exceeded", "the lists it makes are too long", 1)
	msg = strings.Replace(msg, "compilation failed: expression exceeds maximum allowed nodes",
		"the expression has too many parts; split the rule", 1)
	msg = tokenName.ReplaceAllString(msg, `"$1"`)
	msg = typeName.ReplaceAllStringFunc(msg, func(t string) string {
		switch t {
		case "float64", "int", "int64":
			return "number"
		case "string":
			return "text"
		case "bool":
			return "true-or-false"
		case "time.Time":
			return "time"
		case "time.Duration":
			return "duration"
		case "interface {}":
			return "anything"
		}
		if t[0] == '[' {
			return "list"
		}
		return "mapping"
	})
	if strings.HasPrefix(msg, "invalid operation: % ") {
		return "% takes whole numbers only, as in int(x) % 2"
	}
	return strings.TrimSpace(msg)
}

// text evaluates the expression of a key.
func (p *program) text() (string, error) {
	v, err := p.run()
	if err != nil {
		return "", err
	}
	s, ok := toText(v)
	if !ok {
		return "", p.errorf("the result is %s, which cannot be a key", describe(v))
	}
	return s, nil
}
