package rules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/expr-lang/expr/ast"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
)

// constantText is the text of an argument that must be written out.
func constantText(n ast.Node) (string, bool) {
	s, ok := n.(*ast.StringNode)
	if !ok {
		return "", false
	}
	return s.Value, true
}

// replaceCall puts a function of its arguments in place of a call.
func (r *resolver) replaceCall(n *ast.Node, name string, args []ast.Node, t term) term {
	t = r.replace(n, name, t)
	(*n).(*ast.CallNode).Arguments = args
	return t
}

// convertCall handles convert(x, "degF", "degC").
func (r *resolver) convertCall(n *ast.Node, x *ast.CallNode) term {
	if len(x.Arguments) != 3 {
		r.errorf(x, `convert takes a number and two units, as in convert(temperature, "degF", "degC")`)
		return term{node: x}
	}
	t := r.resolve(&x.Arguments[0])
	r.constrain(t, number)
	var names [2]string
	for i, arg := range x.Arguments[1:] {
		name, ok := constantText(arg)
		if !ok {
			r.errorf(arg, "the units of convert must be written out in quotes, so that they can be checked")
			return term{kind: number, node: x}
		}
		if _, known := unitsOf[name]; !known {
			hint := didYouMean(name, strings.Split(unitNames(""), ", "))
			if hint == "" {
				hint = "; known are " + unitNames("")
			}
			r.errorf(arg, "the unit %q is not known%s", name, hint)
			return term{kind: number, node: x}
		}
		names[i] = name
	}
	from, to := unitsOf[names[0]], unitsOf[names[1]]
	if from.dimension != to.dimension {
		r.errorf(x.Arguments[2], "%s is a unit of %s and %s one of %s; of %s there are %s", names[0], from.dimension,
			names[1], to.dimension, from.dimension, unitNames(from.dimension))
	}
	return r.replaceCall(n, "convert#"+names[0]+"#"+names[1], x.Arguments[:1], term{kind: number})
}

// lookupCall handles lookup("table", key, "column").
func (r *resolver) lookupCall(n *ast.Node, x *ast.CallNode) term {
	if len(x.Arguments) != 3 {
		r.errorf(x, `lookup takes a table, a key and a column, as in lookup("machines", device, "limit")`)
		return term{node: x}
	}
	r.resolve(&x.Arguments[1])
	table, ok := constantText(x.Arguments[0])
	column, ok2 := constantText(x.Arguments[2])
	if !ok || !ok2 {
		r.errorf(x, "the table and the column of lookup must be written out in quotes, so that they can be checked")
		return term{node: x}
	}
	t := r.scope.compiler.tables[table]
	if t == nil {
		var known []string
		for name := range r.scope.compiler.tables {
			known = append(known, name)
		}
		hint := didYouMean(table, known)
		if hint == "" && len(known) == 0 {
			hint = "; name it in tables of the configuration"
		}
		r.errorf(x.Arguments[0], "there is no table %q%s", table, hint)
		return term{node: x}
	}
	k, known := t.columns[column]
	if !known {
		r.errorf(x.Arguments[2], "the table %q has no column %q%s; it has %s", table, column, didYouMean(column, t.Columns()), strings.Join(t.Columns(), ", "))
		return term{node: x}
	}
	return r.replaceCall(n, fmt.Sprintf("lookup#%d#%s#%s", k, table, column), x.Arguments[1:2], term{kind: k})
}

// latestCall handles latest("plant/{line}/ambient", "temperature").
func (r *resolver) latestCall(n *ast.Node, x *ast.CallNode) term {
	path := []string{"value"}
	var topic string
	ok := len(x.Arguments) == 1 || len(x.Arguments) == 2
	if ok {
		topic, ok = constantText(x.Arguments[0])
	}
	if ok && len(x.Arguments) == 2 {
		var field string
		if field, ok = constantText(x.Arguments[1]); ok {
			path = strings.Split(field, ".")
		}
	}
	if !ok {
		r.errorf(x, `latest takes a topic and a field, both in quotes, as in latest("plant/{line}/ambient", "temperature")`)
		return term{node: x}
	}
	c := r.scope.compiler
	var p pattern
	t := template{text: topic}
	part := ""
	levels := strings.Split(topic, "/")
	sample := slices.Clone(levels)
	captures := c.sp.source.captures()
	for i, level := range levels {
		if i > 0 {
			part += "/"
		}
		name, open := strings.CutPrefix(level, "{")
		name, closed := strings.CutSuffix(name, "}")
		if !open || !closed {
			part += level
			continue
		}
		if !slices.Contains(captures, name) || !r.scope.topics {
			r.errorf(x.Arguments[0], "{%s} is not a level that from names, as in from: plant/{%s}/temp", name, name)
			return term{node: x}
		}
		t.parts, t.between = append(t.parts, part), append(t.between, hole{capture: name})
		part, levels[i], sample[i] = "", "+", "x"
	}
	t.parts = append(t.parts, part)
	p.filter = strings.Join(levels, "/")
	if err := event.CheckTopic(strings.Join(sample, "/")); err != nil {
		r.errorf(x.Arguments[0], "%v", err)
		return term{node: x}
	}
	i := c.listener(topic+"#"+strings.Join(path, "."), p.filter, t, path)
	return r.replace(n, "latest#"+strconv.Itoa(i), term{field: c.rule.latest[i].field})
}

// remember handles a call of a function with a memory.
func (r *resolver) remember(n *ast.Node, x *ast.CallNode, fn *function) term {
	c := r.scope.compiler
	switch {
	case r.scope.phase == noMemory:
		r.errorf(x, "%s() remembers by the key, so the key cannot be made with it", fn.name)
		return term{node: x}
	case len(r.locals) > 0 || r.inside > 0:
		r.errorf(x, "%s() remembers the event before; it cannot stand inside a list function or behind let: use set", fn.name)
		return term{node: x}
	}
	want := len(fn.args)
	if fn.span != "" {
		want++
	}
	if len(x.Arguments) != want {
		r.errorf(x, "%s is called as in %s", fn.name, fn.usage)
		return term{node: x}
	}
	s := &site{fn: fn, id: strconv.Itoa(int(r.scope.phase)) + ":" + x.String(), phase: r.scope.phase, kind: fn.result}
	if fn.span != "" {
		last := x.Arguments[len(fn.args)]
		text, ok := constantText(last)
		d, err := config.ParseDuration(text)
		if !ok || err != nil || d == 0 || d.Std() > window366 {
			r.errorf(last, `%s of %s is written out in quotes, as in %s, and at most 366d`, fn.span, fn.name, fn.usage)
		}
		s.span = event.Time(d)
	}
	r.remembers = true
	for i, k := range fn.args {
		t := r.resolve(&x.Arguments[i])
		r.constrain(t, k)
		if fn.result == argument && i == 0 {
			if s.kind = t.kindNow(); s.kind > truth {
				s.kind = anything
			}
		}
		s.exprs = append(s.exprs, &expression{within: r.of, what: fn.name, source: r.source, scope: r.scope, want: k, tree: r.tree, ast: x.Arguments[i], term: t})
	}
	i := slices.IndexFunc(c.sites, func(other *site) bool { return other.id == s.id })
	if i < 0 {
		i = len(c.sites)
		c.sites = append(c.sites, s)
	}
	return r.replace(n, "site#"+strconv.Itoa(i), term{kind: s.kind})
}

const window366 = 366 * 24 * 60 * 60 * 1e9

// bindCall gives expr the function that stands for a call with arguments; it
// reports whether it is one.
func (b *binder) bindCall(sort, rest, full string) bool {
	f := b.e.scope.frame
	switch sort {
	case "site":
		i, _ := strconv.Atoi(rest)
		s := b.e.scope.compiler.sites[i]
		b.function(full, s.kind, func(...any) (any, error) { return s.result, s.err })
	case "convert":
		name, _, _ := strings.Cut(rest, "#")
		from, to := unitsOf[name], unitsOf[rest[len(name)+1:]]
		b.call(full, number, func(v any) (any, error) {
			x, ok := toNumber(v)
			if !ok {
				return nil, fmt.Errorf("convert takes a number, not %s", describe(v))
			}
			return convert(x, from, to), nil
		})
	case "lookup":
		rest, optional := strings.CutSuffix(rest, "?")
		parts := strings.SplitN(rest, "#", 3)
		n, _ := strconv.Atoi(parts[0])
		k, table, column := kind(n), parts[1], parts[2]
		result := k
		if optional {
			result = anything
		}
		b.call(full, result, func(v any) (any, error) { return f.lookup(table, column, k, v, optional) })
	case "latest":
		id, optional := strings.CutSuffix(rest, "?")
		i, _ := strconv.Atoi(id)
		r := b.e.scope.compiler.rule
		l := r.latest[i]
		k := l.field.kindNow()
		if optional {
			k = anything
		}
		b.function(full, k, func(...any) (any, error) {
			v, err := l.last(r)
			if v == nil && err == nil && !optional {
				err = fmt.Errorf("there has been no value of latest(%q) yet; say what to take instead with ??", l.topic.text)
			}
			return v, err
		})
	default:
		return false
	}
	return true
}

// lookup returns a value of a table.
func (f *frame) lookup(table, column string, k kind, key any, optional bool) (any, error) {
	t := f.tables[table]
	name, ok := toText(key)
	if t == nil || !ok {
		if optional && key == nil {
			return nil, nil
		}
		return nil, fmt.Errorf("lookup in %q: the key is %s", table, describe(key))
	}
	v := t.lookup(name, column)
	switch {
	case v == nil && !optional:
		return nil, fmt.Errorf("the table %q has no %s of %q", table, column, name)
	case v != nil && k != anything && kindOfValue(v) != k:
		return nil, fmt.Errorf("%s of %q in the table %q is %s, not %v", column, name, table, describe(v), k)
	}
	return v, nil
}
