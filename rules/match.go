package rules

import (
	"encoding/binary"
	"slices"
	"strings"

	"holdfast/rules/codec"
)

// match is what some topics have in common: the rules to evaluate and the
// payload fields that these name.
type match struct {
	rules     []call
	listeners []*listener
	plan      *codec.Tree
	codec     codec.Codec
	one       [1]call // of rules, as most topics have
}

// call is a rule with the filter of it that selects a topic.
type call struct {
	*rule
	filter int
}

// match finds the rules that a topic concerns and remembers them.
func (e *Engine) match(topic string) *match {
	if len(e.topics) >= maxTopics {
		e.reset()
	}
	format := codecOf(e.codecs, topic)
	e.hits = e.index.match(e.hits[:0], topic)
	heard := e.listening.match(nil, topic)
	name := e.name[:0]
	for _, hits := range [][]hit{e.hits, heard} {
		for _, h := range hits {
			name = binary.AppendUvarint(binary.AppendUvarint(name, uint64(h.rule+1)), uint64(h.filter))
		}
		name = append(name, 0)
	}
	if format != nil {
		name = append(name, format.String()...)
	}
	e.name = name
	m := e.groups[string(name)]
	if m == nil {
		m = e.group(e.hits, heard)
		m.codec = format
		e.groups[string(name)] = m
	}
	e.topics[strings.Clone(topic)] = m
	return m
}

func (e *Engine) group(hits, heard []hit) *match {
	m := &match{}
	m.rules = m.one[:0]
	var planned []*slot
	add := func(slots []*slot) {
		for _, s := range slots {
			if !slices.Contains(planned, s) {
				planned = append(planned, s)
			}
		}
	}
	for _, h := range hits {
		r := e.rules[h.rule]
		m.rules = append(m.rules, call{r, h.filter})
		add(r.slots)
	}
	for _, h := range heard {
		l := e.listeners[h.rule]
		m.listeners = append(m.listeners, l)
		add([]*slot{l.slot})
	}
	m.plan = e.frame.planFor(planned)
	return m
}
