package rules

import (
	"cmp"
	"slices"
	"strings"
)

// index finds the entries whose topic filter matches a topic, level by level:
// what it costs depends on the levels of the topic and on what matches, not on
// how many filters there are.
type index struct {
	kids  map[string]*index
	plus  *index
	here  []hit // filters that end here
	below []hit // filters that end with a # behind this level
}

// hit says which filter of which rule matches.
type hit struct{ rule, filter int }

func (x *index) add(filter string, h hit) {
	for rest, more := filter, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		switch level {
		case "#":
			x.below = append(x.below, h)
			return
		case "+":
			if x.plus == nil {
				x.plus = &index{}
			}
			x = x.plus
		default:
			kid := x.kids[level]
			if kid == nil {
				if x.kids == nil {
					x.kids = map[string]*index{}
				}
				kid = &index{}
				x.kids[level] = kid
			}
			x = kid
		}
	}
	x.here = append(x.here, h)
}

// match appends the hits of a topic to dst, sorted by rule, each rule once:
// with the first of its filters that matches.
func (x *index) match(dst []hit, topic string) []hit {
	dst = x.find(dst[:0], topic, true, strings.HasPrefix(topic, "$"))
	slices.SortFunc(dst, func(a, b hit) int { return cmp.Or(cmp.Compare(a.rule, b.rule), cmp.Compare(a.filter, b.filter)) })
	return slices.CompactFunc(dst, func(a, b hit) bool { return a.rule == b.rule })
}

// find follows the levels in rest; more tells that there is at least one.
// Wildcards do not match a first level that begins with $ [MQTT-4.7.2-1].
func (x *index) find(dst []hit, rest string, more, dollar bool) []hit {
	if !dollar {
		dst = append(dst, x.below...)
	}
	if !more {
		return append(dst, x.here...)
	}
	level, rest, more := strings.Cut(rest, "/")
	if kid := x.kids[level]; kid != nil {
		dst = kid.find(dst, rest, more, false)
	}
	if x.plus != nil && !dollar {
		dst = x.plus.find(dst, rest, more, false)
	}
	return dst
}
