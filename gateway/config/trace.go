package config

import (
	"reflect"
	"slices"
)

// Trace notes what the values of one file are decoded into. Settings that one
// part keeps for another as a [*Section] or as [Named] have no type until that
// part decodes them: a trace of a file that shows every key knows them all.
type Trace struct {
	root *node
	seen map[spot][]use
}

// spot tells the values of a file apart. Sections copy nodes, so that the
// address of a node does not.
type spot struct {
	line, col int
	kind      Kind
}

// use is one decoding of a value.
type use struct {
	typ     reflect.Type
	options options
	before  reflect.Value // what it was before: the default
}

// Trace begins to note what is decoded from the file of the section, a whole
// file. It must not be called while the file is in use by several goroutines.
func (s *Section) Trace() *Trace {
	t := &Trace{root: s.node, seen: map[spot][]use{}}
	s.node.file.trace = t
	return t
}

func (n *node) spot() spot { return spot{n.line, n.col, n.kind} }

// note remembers that s is about to be decoded into v.
func (t *Trace) note(s *Section, v reflect.Value, o options) {
	if t == nil || v.Kind() == reflect.Pointer && v.Type() != sectionType {
		return
	}
	at := s.node.spot()
	if slices.ContainsFunc(t.seen[at], func(u use) bool { return u.typ == v.Type() }) {
		return
	}
	before := reflect.New(v.Type()).Elem()
	before.Set(v)
	t.seen[at] = append(t.seen[at], use{typ: v.Type(), options: o, before: before})
}
