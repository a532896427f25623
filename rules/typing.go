package rules

import (
	"fmt"
	"slices"

	"holdfast/gateway/config"
)

// typedRule is a rule with what its expressions say about the fields of events.
type typedRule struct {
	index   int // in the set
	spec    *spec
	fields  []*field
	heard   []*field
	latest  []*listener
	outputs []typedOutput
}

// typedOutput is what is known of the payload of an output.
type typedOutput struct {
	passed bool // it is that of the event that came in
	fields map[string]kind
	names  []string // in order
}

// typed describes the rule for checkKinds, as far as it has no mistakes.
func (c *ruleCompiler) typed(index int) typedRule {
	t := typedRule{index: index, spec: c.sp, fields: c.fields, heard: c.heard, latest: c.rule.latest}
	for i, o := range c.sp.outputs {
		out := typedOutput{fields: map[string]kind{}, passed: c.sp.passesOn(o) && c.rule.transform == nil}
		add := func(name string, k kind) {
			out.names = append(out.names, name)
			out.fields[name] = written(k)
		}
		switch {
		case o.fields != nil:
			for j, f := range o.fields {
				if i < len(c.rule.emits) && j < len(c.rule.emits[i].programs) { // else it has a mistake
					add(f.name, c.rule.emits[i].programs[j].kind)
				}
			}
		case o.bare() && c.sp.Window != nil:
			for _, col := range c.sp.columns {
				add(col.name, c.columnKind(col))
			}
			if !c.sp.Key.IsZero() {
				add("key", text)
			}
			add("start", text)
			add("end", text)
		default:
			out.fields = nil // nothing is known
		}
		t.outputs = append(t.outputs, out)
	}
	return t
}

// written is the kind that a value has once it has become JSON.
func written(k kind) kind {
	switch k {
	case instant:
		return text
	case duration:
		return number
	}
	return k
}

// use is one rule's use of a field as a kind.
type use struct {
	filters []string
	kind    kind
	at      config.Pos
}

// kindChecker finds fields that rules take for different kinds although they
// see the same events.
type kindChecker struct {
	rules map[int]*typedRule
	graph *graph
	uses  map[string][]use // by source and field
	errs  config.Errors
}

// checkKinds finds fields that two rules take for different kinds although both
// see the same events, and those that a rule takes for something else than the
// rule that it reads makes them: one of the rules would fail on every event.
// float(x) and string(x) accept either kind.
func checkKinds(rules []typedRule, g *graph) config.Errors {
	c := &kindChecker{rules: map[int]*typedRule{}, graph: g, uses: map[string][]use{}}
	for i := range rules {
		c.rules[rules[i].index] = &rules[i]
	}
	for i := range rules {
		r := &rules[i]
		src := &r.spec.source
		for _, f := range r.fields {
			c.check(f, src.String(), src.filters())
			for _, w := range g.inputs[r.index] {
				if writer := c.rules[w]; writer != nil {
					c.made(r, writer, f)
				}
			}
		}
		for i, f := range r.heard {
			c.check(f, (&source{stream: g.roots[r.index]}).String(), []string{r.latest[i].filter})
		}
	}
	return c.errs
}

// check compares the use of a field with those of rules before.
func (c *kindChecker) check(f *field, source string, filters []string) {
	root := f.find()
	if root.kind == anything || root.place == nil {
		return
	}
	id := source + "\x00" + pathName(f.path)
	for _, other := range c.uses[id] {
		if other.kind != root.kind && anyOverlap(other.filters, filters) {
			c.wrong(root, "%q is used as %s here and as %s at %v, by a rule that gets the same events; float(x) and string(x) accept both",
				pathName(f.path), root.kind.article(), other.kind.article(), other.at)
			return
		}
	}
	c.uses[id] = append(c.uses[id], use{filters, root.kind, root.first})
}

// made compares the use of a field with what another rule emits.
func (c *kindChecker) made(r, writer *typedRule, f *field) {
	root := f.find()
	if root.kind == anything || root.place == nil {
		return
	}
	for i, o := range writer.outputs {
		stream := writer.spec.outputs[i].Stream
		if src := &r.spec.source; src.rule == "" && src.stream != stream || !anyOverlap(src.filters(), c.graph.topicsOf(writer.index, writer.spec.outputs[i])) {
			continue
		}
		if o.passed { // both see the same payload
			for _, theirs := range writer.fields {
				if t := theirs.find(); slices.Equal(theirs.path, f.path) && t.kind != anything && t.kind != root.kind {
					c.wrong(root, "%q is used as %s here and as %s at %v, by the rule that emits it; float(x) and string(x) accept both",
						pathName(f.path), root.kind.article(), t.kind.article(), t.first)
					return
				}
			}
			continue
		}
		k, known := o.fields[f.path[0]]
		if known && len(f.path) == 1 && k != anything && k != root.kind {
			c.wrong(root, "%q is used as %s here, and the rule %q emits %s", pathName(f.path), root.kind.article(), writer.spec.Name, k.article())
			return
		}
	}
}

func (c *kindChecker) wrong(f *field, format string, args ...any) {
	mistake := *f.place
	mistake.Msg = fmt.Sprintf(format, args...)
	c.errs = append(c.errs, &mistake)
}
