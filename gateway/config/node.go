package config

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Kind is the shape of a section.
type Kind int

// The kinds of sections. Null is a key without a value, or an empty file.
const (
	Null Kind = iota
	Scalar
	List
	Mapping
)

// String returns the kind in words for messages, such as "a list".
func (k Kind) String() string {
	return [...]string{"nothing", "a single value", "a list", "a mapping"}[k]
}

// node is one YAML value that knows its file, with aliases resolved.
type node struct {
	file      *file
	kind      Kind
	value     string // of a scalar
	style     yaml.Style
	line, col int
	entries   []entry // of a mapping, in the order of the file, keys unique
	items     []*node // of a list

	height, size int // levels and values below and with this node
}

type entry struct{ key, value *node }

func (n *node) index(key string) int {
	return slices.IndexFunc(n.entries, func(e entry) bool { return e.key.value == key })
}

func (n *node) quoted() bool {
	return n.style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
}

// width is the number of characters that n takes on its first line.
func (n *node) width() int {
	if n.kind != Scalar || n.style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		return 1
	}
	places := n.places()
	end := places[len(places)-1]
	if end.line != n.line {
		return len([]rune(n.file.line(n.line))) - n.col + 1
	}
	if n.quoted() {
		end.col++
	}
	return max(1, end.col-n.col)
}

// converter makes nodes of the library's, and finds what the library lets
// pass: repeated keys, aliases that never end, tags.
type converter struct {
	file *file
	errs Errors
	done map[*yaml.Node]*node
	open map[*yaml.Node]bool
}

func (c *converter) errorf(y *yaml.Node, width int, format string, args ...any) {
	e := c.file.errorAt(y.Line, y.Column, width, format, args...)
	e.Source = hideSecrets(e.Source)
	c.errs = append(c.errs, e)
}

func (c *converter) convert(y *yaml.Node) *node {
	if y.Kind == yaml.AliasNode {
		return c.alias(y)
	}
	n := &node{file: c.file, line: y.Line, col: y.Column, value: y.Value, style: y.Style, height: 1, size: 1}
	c.open[y] = true
	switch y.Kind {
	case yaml.MappingNode:
		n.kind = Mapping
		c.mapping(n, y)
	case yaml.SequenceNode:
		n.kind = List
		for _, item := range y.Content {
			child := c.convert(item)
			n.items = append(n.items, child)
			n.grow(child)
		}
	case yaml.ScalarNode:
		n.kind = Scalar
		if y.Tag == "!!null" {
			n.kind = Null
		}
	}
	delete(c.open, y)
	if y.Style&yaml.TaggedStyle != 0 && !strings.HasPrefix(y.Tag, "!!") {
		c.errorf(y, len(y.Tag), "the tag %s is not known here; remove it", y.Tag)
	}
	if y.Anchor != "" {
		c.done[y] = n
	}
	return n
}

func (n *node) grow(child *node) {
	n.height = max(n.height, child.height+1)
	n.size = min(n.size+child.size, maxNodes+1)
}

// alias returns the node that y stands for; the node is shared, not copied.
func (c *converter) alias(y *yaml.Node) *node {
	width := len(y.Value) + 1
	nothing := &node{file: c.file, kind: Null, line: y.Line, col: y.Column, height: 1, size: 1}
	if c.open[y.Alias] {
		c.errorf(y, width, "*%s contains itself", y.Value)
		return nothing
	}
	n := c.done[y.Alias]
	switch {
	case n == nil:
		return nothing
	case n.height > maxDepth || n.size > maxNodes:
		c.errorf(y, width, "*%s repeats too much: more than %d values or %d levels", y.Value, maxNodes, maxDepth)
		return nothing
	}
	return n
}

func (c *converter) mapping(n *node, y *yaml.Node) {
	for i := 0; i+1 < len(y.Content); i += 2 {
		ykey, key := y.Content[i], c.convert(y.Content[i])
		value := c.convert(y.Content[i+1])
		n.grow(value)
		switch {
		case key.kind != Scalar || key.value == "":
			c.errorf(ykey, 1, "a key must be a word")
			continue
		case key.value == "<<" && !key.quoted():
			c.errorf(ykey, 2, "merging with << is not supported; write the keys out")
			continue
		}
		if first := n.index(key.value); first >= 0 {
			c.errorf(ykey, key.width(), "the key %q is already given at line %d", key.value, n.entries[first].key.line)
			continue
		}
		n.entries = append(n.entries, entry{key, value})
	}
}
