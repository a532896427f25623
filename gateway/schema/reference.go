package schema

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"holdfast/gateway"
	"holdfast/gateway/config"
)

// Text is what people read about a key.
type Text struct {
	Text    string // a sentence or more; "" if the name says it all
	Default string // in words, or as one would write it; "" if there is none
	Example string // the key with a value, in YAML
}

// document is a part of the reference with its comments at hand.
type document struct {
	gateway.Document
	lines []line
	root  *yaml.Node
}

// line is a line of YAML, its comment apart.
type line struct {
	code    string
	comment string // without # and what follows it at once
	col     int    // of the #, from 1; 0 without a comment
}

func (l line) only() bool { return l.col > 0 && strings.TrimSpace(l.code) == "" }

// split takes the comment off a line. A # in quotes is none.
func split(text string) line {
	var quote rune
	before := ' '
	col := 0
	for at, r := range text {
		col++
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
			}
		case (r == '"' || r == '\'') && strings.ContainsRune(" [{:,", before):
			quote = r
		case r == '#' && (before == ' ' || before == '\t'):
			return line{code: strings.TrimRight(text[:at], " \t"), comment: text[at+1:], col: col}
		}
		before = r
	}
	return line{code: strings.TrimRight(text, " \t")}
}

func read(doc gateway.Document) (*document, error) {
	d := &document{Document: doc}
	for text := range strings.Lines(doc.Text) {
		d.lines = append(d.lines, split(strings.TrimRight(text, "\n")))
	}
	var root yaml.Node
	if err := yaml.Unmarshal([]byte(doc.Text), &root); err != nil {
		return nil, err
	}
	if len(root.Content) > 0 {
		d.root = root.Content[0]
	} else {
		d.root = &root
	}
	return d, nil
}

// above returns the comment that ends above a line and begins in the column.
func (d *document) above(n, col int) []string {
	from := n - 1
	for from > 0 && d.lines[from-1].only() && d.lines[from-1].col == col {
		from--
	}
	var all []string
	for _, l := range d.lines[from : n-1] {
		all = append(all, l.comment)
	}
	return all
}

// wayBehind is how much further to the right than a key a comment begins that
// goes on below its line, rather than being about the next key.
const wayBehind = 12

// behind returns the comment behind a line, and below it where it goes on.
func (d *document) behind(n int) string {
	first := d.lines[n-1]
	if first.col == 0 || first.only() {
		return ""
	}
	text := strings.TrimSpace(first.comment)
	begins := len(first.code) - len(strings.TrimLeft(first.code, " -"))
	for _, l := range d.lines[n:] {
		if !l.only() || l.col < begins+wayBehind {
			break
		}
		text += " " + strings.TrimSpace(l.comment)
	}
	return text
}

// comment is a comment taken apart.
type comment struct {
	prose   string
	table   map[string]string
	example string // YAML
	list    bool   // the example is a list
}

var (
	tableRow  = regexp.MustCompile(`^([a-z_0-9]+)\s{2,}(\S.*)$`) // the first
	tightRows = regexp.MustCompile(`^([a-z_0-9]+)\s+(\S.*)$`)
)

func parseComment(lines []string) comment {
	c := comment{table: map[string]string{}}
	var block []string
	prose := func(text string) {
		if text = strings.TrimSpace(text); text != "" {
			c.prose = strings.TrimSpace(c.prose + " " + text)
		}
	}
	flush := func() {
		if len(block) == 0 {
			return
		}
		text := dedent(block)
		var node yaml.Node
		rows := strings.Split(text, "\n")
		switch err := yaml.Unmarshal([]byte(text), &node); {
		case tableRow.MatchString(rows[0]):
			key := ""
			for _, row := range rows {
				if m := tightRows.FindStringSubmatch(row); m != nil {
					key = m[1]
					row = m[2]
				}
				c.table[key] = strings.TrimSpace(c.table[key] + " " + strings.TrimSpace(row))
			}
		case err == nil && len(node.Content) > 0 && node.Content[0].Kind != yaml.ScalarNode:
			c.example += text + "\n"
			c.prose = strings.TrimSuffix(c.prose, ", such as")
			c.list = node.Content[0].Kind == yaml.SequenceNode
		default:
			prose(text)
		}
		block = nil
	}
	for _, l := range lines {
		switch {
		case strings.HasPrefix(l, "  "):
			block = append(block, l)
		case strings.TrimSpace(l) == "" && len(block) > 0 && !tableRow.MatchString(strings.TrimSpace(block[0])):
			block = append(block, "")
		default:
			flush()
			prose(l)
		}
	}
	flush()
	return c
}

func dedent(lines []string) string {
	least := 1 << 20
	for _, l := range lines {
		if rest := strings.TrimLeft(l, " "); rest != "" {
			least = min(least, len(l)-len(rest))
		}
	}
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l[min(least, len(l)):] + "\n")
	}
	return strings.TrimRight(b.String(), "\n ")
}

// Documents takes the reference apart: itself, with the examples of further
// keys that its comments hold, and each example of another value with the keys
// around it.
func Documents(reference gateway.Document) ([]gateway.Document, error) {
	d, err := read(expand(reference))
	if err != nil {
		return nil, err
	}
	all := []gateway.Document{d.Document}
	var walk func(n *yaml.Node, path []string)
	walk = func(n *yaml.Node, path []string) {
		for i, child := range n.Content {
			if n.Kind != yaml.MappingNode {
				walk(child, path)
				continue
			}
			if i%2 == 1 {
				continue
			}
			key, value := child, n.Content[i+1]
			here := append(path[:len(path):len(path)], key.Value)
			if c := parseComment(d.head(key)); c.example != "" {
				for _, text := range alternatives(c.example, value.Kind == yaml.SequenceNode) {
					all = append(all, gateway.Document{
						Name: reference.Name + ", another " + strings.Join(here, "."),
						Text: d.replace(key, value, text),
					})
				}
			}
			walk(value, here)
		}
	}
	walk(d.root, nil)
	return all, nil
}

// alternatives are the values that an example lists: itself for a key with a
// list, else each of its items.
func alternatives(example string, list bool) []string {
	if list {
		return []string{example}
	}
	var items []string
	for l := range strings.Lines(example) {
		if rest, first := strings.CutPrefix(l, "- "); first {
			items = append(items, "  "+rest)
		} else if len(items) > 0 {
			items[len(items)-1] += l
		}
	}
	return items
}

// replace returns the document with another value for a key.
func (d *document) replace(key, value *yaml.Node, text string) string {
	lines := strings.SplitAfter(d.Text, "\n")
	to := bottom(value)
	for to < len(d.lines) && d.lines[to].only() && d.lines[to].col > key.Column+wayBehind {
		to++ // the comment behind the value goes on
	}
	indent := strings.Repeat(" ", key.Column-1)
	out := strings.Join(lines[:key.Line-1], "") + indent + key.Value + ":\n"
	for l := range strings.Lines(dedent(strings.Split(text, "\n"))) {
		out += indent + "  " + strings.TrimRight(l, "\n") + "\n"
	}
	return out + strings.Join(lines[to:], "")
}

// expand makes the examples of further keys a part of the document, each below
// the comment that it stood in.
func expand(doc gateway.Document) gateway.Document {
	var out strings.Builder
	var run []string // of lines with nothing but a comment
	var comments []string
	col := 0
	flush := func() {
		c := parseComment(comments)
		if c.example == "" || c.list {
			out.WriteString(strings.Join(run, ""))
		} else {
			by := strings.Repeat(" ", col-1)
			if c.prose != "" {
				out.WriteString(by + "# " + c.prose + "\n")
			}
			for _, key := range slices.Sorted(maps.Keys(c.table)) {
				out.WriteString(by + "#   " + key + "   " + c.table[key] + "\n")
			}
			for l := range strings.Lines(c.example) {
				out.WriteString(by + l)
			}
			out.WriteString("\n")
		}
		run, comments = nil, nil
	}
	for text := range strings.Lines(doc.Text) {
		l := split(strings.TrimRight(text, "\n"))
		if len(run) > 0 && (!l.only() || l.col != col) {
			flush()
		}
		if !l.only() {
			out.WriteString(text)
			continue
		}
		run, comments, col = append(run, text), append(comments, l.comment), l.col
	}
	flush()
	return gateway.Document{Name: doc.Name, Text: out.String()}
}

// head is the comment above a key that begins its line.
func (d *document) head(key *yaml.Node) []string {
	if strings.TrimSpace(d.lines[key.Line-1].code[:key.Column-1]) != "" {
		return nil
	}
	return d.above(key.Line, key.Column)
}

// first reports whether a key is the first thing on its line, apart from the
// hyphen of a list.
func (d *document) first(key *yaml.Node) bool {
	return strings.Trim(d.lines[key.Line-1].code[:key.Column-1], " -") == ""
}

// texts walks the document along the shape and notes what it says about
// fields, unless something is noted already.
func (d *document) texts(shape *config.Shape, n *yaml.Node, tables []map[string]string, into map[*config.Field]*Text) {
	shape = choose(shape, n)
	if shape == nil {
		return
	}
	switch {
	case n.Kind == yaml.SequenceNode && shape.Form == config.ListForm:
		for _, item := range n.Content {
			d.texts(shape.Items, item, tables, into)
		}
	case n.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			var text string
			var inner []map[string]string
			if d.first(key) {
				c := parseComment(d.head(key))
				text = c.prose
				inner = append(inner, c.table)
				if behind := d.behind(last(key, value)); behind != "" {
					text = strings.TrimSpace(text + " " + requiredWords.ReplaceAllString(behind, ""))
				}
			}
			inner = append(inner, tables...)
			if shape.Form == config.NamedForm {
				d.texts(shape.Items, value, inner, into)
				continue
			}
			f := field(shape, key.Value)
			if f == nil {
				continue
			}
			for _, t := range tables {
				if text == "" {
					text = t[key.Value]
				}
			}
			note := into[f]
			if note == nil {
				note = &Text{Example: d.source(key, value)}
				into[f] = note
			}
			if note.Text == "" && note.Default == "" {
				note.Text, note.Default = takeDefault(text)
			}
			d.texts(f.Shape, value, inner, into)
		}
	}
}

// last is the line with the comment of a value: that of the key if the value
// is a block below it.
func last(key, value *yaml.Node) int {
	if value.Kind != yaml.ScalarNode && value.Style&yaml.FlowStyle == 0 {
		return key.Line
	}
	return bottom(value)
}

func bottom(n *yaml.Node) int {
	most := n.Line
	for _, c := range n.Content {
		most = max(most, bottom(c))
	}
	return most
}

// source is a key with its value as they are written.
func (d *document) source(key, value *yaml.Node) string {
	from, to := key.Line, bottom(value)
	if from == to && !d.first(key) { // within braces
		short := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{key, value}}
		b, err := yaml.Marshal(short)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(b))
	}
	var lines []string
	for i, l := range d.lines[from-1 : to] {
		switch code := []rune(l.code); {
		case l.only() || strings.TrimSpace(l.code) == "":
		case i == 0:
			lines = append(lines, strings.Repeat(" ", key.Column-1)+string(code[key.Column-1:]))
		default:
			lines = append(lines, l.code)
		}
	}
	return dedent(lines)
}

// choose finds the one of several shapes that a value is an example of.
func choose(shape *config.Shape, n *yaml.Node) *config.Shape {
	if shape == nil || shape.Alternatives == nil {
		return shape
	}
	for _, s := range shape.Alternatives {
		switch {
		case n.Kind == yaml.MappingNode && s.Form == config.NamedForm, n.Kind == yaml.SequenceNode && s.Form == config.ListForm:
			return s
		case n.Kind != yaml.MappingNode || s.Form != config.MappingForm:
		case s.CaseKey == "":
			return s
		default:
			for i := 0; i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == s.CaseKey && n.Content[i+1].Value == s.Case {
					return s
				}
			}
		}
	}
	return nil
}

func field(shape *config.Shape, key string) *config.Field {
	for _, f := range shape.Fields {
		if f.Key == key {
			return f
		}
	}
	return nil
}

var (
	defaultWords  = regexp.MustCompile(`(?i)(^|[.;,]\s+)default:\s+(.+?)(;\s*|\.\s+|\.?$)`)
	requiredWords = regexp.MustCompile(`(?i)^required[;:.]?\s*`)
)

// takeDefault takes what a text says about the default out of it, and what
// the type says better.
func takeDefault(text string) (rest, value string) {
	text = requiredWords.ReplaceAllString(text, "")
	if m := defaultWords.FindStringSubmatchIndex(text); m != nil {
		value = text[m[4]:m[5]]
		before, after := strings.TrimSpace(text[:m[0]]), strings.TrimSpace(text[m[1]:])
		switch {
		case before == "" || after == "":
			text = before + after
		case strings.HasSuffix(before, ".") || strings.HasPrefix(text[m[5]:], "."):
			text = strings.TrimSuffix(before, ".") + ". " + strings.ToUpper(after[:1]) + after[1:]
		default:
			text = before + "; " + after
		}
	}
	return strings.TrimSpace(text), value
}
