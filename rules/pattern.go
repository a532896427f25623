package rules

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/gateway/event"
)

// pattern is a topic filter whose levels may have names: plant/{line}/+/temp
// selects what plant/+/+/temp does, and `line` is the second level of the topic.
type pattern struct {
	text   string
	filter string
	names  []string
	levels []int // of the names
}

// parsePattern reads a filter with named levels.
func parsePattern(text string) (pattern, error) {
	p := pattern{text: text}
	levels := strings.Split(text, "/")
	for i, level := range levels {
		if !strings.ContainsAny(level, "{}") {
			continue
		}
		name, open := strings.CutPrefix(level, "{")
		name, closed := strings.CutSuffix(name, "}")
		switch {
		case !open || !closed || strings.ContainsAny(name, "{}"):
			return p, fmt.Errorf("%q: level %q: a name in braces must stand alone between slashes, as in plant/{line}/temp", text, level)
		case !identifier.MatchString(name):
			return p, fmt.Errorf("%q: %q cannot name a level: use letters, digits and _", text, name)
		case slices.Contains(reserved, name):
			return p, fmt.Errorf("%q: %q is taken: every event has it; choose another name", text, name)
		case slices.Contains(p.names, name):
			return p, fmt.Errorf("%q: two levels are named %q", text, name)
		}
		p.names, p.levels = append(p.names, name), append(p.levels, i)
		levels[i] = "+"
	}
	p.filter = strings.Join(levels, "/")
	return p, event.CheckFilter(p.filter)
}

// level returns the level of the topic that has the name; -1 if none has.
func (p *pattern) level(name string) int {
	if i := slices.Index(p.names, name); i >= 0 {
		return p.levels[i]
	}
	return -1
}

func anyOverlap(as, bs []string) bool {
	return slices.ContainsFunc(as, func(a string) bool {
		return slices.ContainsFunc(bs, func(b string) bool { return event.Overlap(a, b) })
	})
}

// PlainFilter returns the topic filter of a pattern with named levels.
func PlainFilter(pattern string) string {
	p, err := parsePattern(pattern)
	if err != nil {
		return pattern
	}
	return p.filter
}
