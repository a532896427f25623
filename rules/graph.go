package rules

import (
	"slices"
	"strings"

	"holdfast/gateway/config"
)

// maxCascade bounds how many rules an event can pass in one step.
const maxCascade = 16

// graph says which rules read what others emit.
type graph struct {
	specs   []*spec
	open    func(stream string) bool
	names   map[string]int
	writes  map[string][]int // rules by the stream that they write to
	edges   [][]int          // from a rule to those that read it
	inputs  [][]int          // from a rule to those that it may read from
	roots   []string
	depths  []int
	visited []bool
}

func newGraph(specs []*spec, open func(string) bool) *graph {
	n := len(specs)
	g := &graph{specs: specs, open: open, names: map[string]int{}, writes: map[string][]int{},
		edges: make([][]int, n), inputs: make([][]int, n), roots: make([]string, n), depths: make([]int, n)}
	for i, sp := range specs {
		if _, twice := g.names[sp.Name]; !twice {
			g.names[sp.Name] = i
		}
		for _, stream := range sp.rule().Outputs {
			g.writes[stream] = append(g.writes[stream], i)
		}
	}
	return g
}

// connect finds circles: each edge that would close one is a mistake.
func (g *graph) connect() config.Errors {
	var errs config.Errors
	readers := map[string][]int{} // by stream, those seen so far
	writers := map[string][]int{}
	for i, sp := range g.specs {
		errs = append(errs, g.readsRule(i)...)
		if stream := sp.source.stream; stream != "" && sp.source.text == "" {
			for _, w := range writers[stream] {
				if g.reaching(w, i) != nil {
					g.link(w, i)
				}
			}
			readers[stream] = append(readers[stream], i)
		}
		for _, stream := range sp.rule().Outputs {
			for _, r := range readers[stream] {
				o := g.reaching(i, r)
				switch {
				case o == nil:
				case g.reaches(r, i):
					errs.Add(o.section.Errorf("stream", "events would go around in a circle: what this rule emits to %q comes back to it through %v", o.Stream, &sp.source))
				default:
					g.link(i, r)
				}
			}
			writers[stream] = append(writers[stream], i)
		}
	}
	return errs
}

// readsRule connects a rule with the one that it names in from.
func (g *graph) readsRule(i int) config.Errors {
	sp := g.specs[i]
	if sp.source.rule == "" {
		return nil
	}
	w, ok := g.names[sp.source.rule]
	switch {
	case !ok:
		var known []string
		for _, other := range g.specs {
			known = append(known, other.Name)
		}
		return config.Errors{sp.From.Errorf("rule", "there is no rule %q%s", sp.source.rule, didYouMean(sp.source.rule, known))}
	case g.reaches(i, w):
		return config.Errors{sp.From.Errorf("rule", "events would go around in a circle: the rule %q gets what this one emits", sp.source.rule)}
	}
	g.link(w, i)
	return nil
}

// reaching returns an output of rule w that rule r reads from its stream.
func (g *graph) reaching(w, r int) *outputSpec {
	reader := g.specs[r]
	if reader.source.text != "" || reader.source.rule != "" {
		return nil
	}
	for _, o := range g.specs[w].written() {
		if o.Stream == reader.source.stream && anyOverlap(reader.source.filters(), g.topicsOf(w, o)) {
			return o
		}
	}
	return nil
}

// topicsOf returns filters that match every topic that an output can have.
func (g *graph) topicsOf(i int, o *outputSpec) []string {
	sp := g.specs[i]
	text := o.Topic.Text
	if text == "" {
		text = "{topic}"
	}
	if text == "{topic}" && sp.source.rule == "" && len(sp.source.patterns) > 0 {
		return sp.source.filters()
	}
	levels := strings.Split(text, "/")
	for l, level := range levels {
		if strings.Contains(level, "{topic}") || strings.Contains(level, "{key}") || strings.Contains(level, "{client}") {
			return []string{strings.Join(append(levels[:l:l], "#"), "/")}
		}
		if strings.Contains(level, "{") {
			levels[l] = "+"
		}
	}
	return []string{strings.Join(levels, "/")}
}

func (g *graph) link(from, to int) {
	if !slices.Contains(g.edges[from], to) {
		g.edges[from] = append(g.edges[from], to)
		g.inputs[to] = append(g.inputs[to], from)
	}
}

// reaches reports whether events of one rule come to another. There are no
// circles among the edges.
func (g *graph) reaches(from, to int) bool {
	g.visited = make([]bool, len(g.specs))
	return g.walk(from, to)
}

func (g *graph) walk(from, to int) bool {
	if from == to {
		return true
	}
	if g.visited[from] {
		return false
	}
	g.visited[from] = true
	return slices.ContainsFunc(g.edges[from], func(next int) bool { return g.walk(next, to) })
}

// place finds for each rule the stream of the log that its events come from,
// and how many rules they have passed before. It wants a graph without circles.
func (g *graph) place() config.Errors {
	var errs config.Errors
	for i := range g.specs {
		g.root(i)
	}
	for i, sp := range g.specs {
		if g.depths[i] > maxCascade {
			errs.Add(sp.From.Errorf("", "events would pass %d rules in one step, more than %d; read a stream that other sources write to as well", g.depths[i], maxCascade))
		}
	}
	return errs
}

func (g *graph) root(i int) string {
	if g.roots[i] != "" {
		return g.roots[i]
	}
	src := &g.specs[i].source
	g.roots[i] = src.stream
	if src.rule != "" {
		w := g.names[src.rule]
		g.roots[i] = g.root(w)
		g.depths[i] = g.depths[w] + 1
	} else if root, ok := g.inner(src.stream); ok && src.text == "" {
		g.roots[i] = root
		for _, w := range g.writes[src.stream] {
			g.depths[i] = max(g.depths[i], g.depths[w]+1)
		}
	}
	return g.roots[i]
}

// inner reports whether a stream holds nothing but what rules make of one
// stream of the log. Its readers then get it in memory, in the same step.
func (g *graph) inner(stream string) (root string, ok bool) {
	if stream == EventsStream || len(g.writes[stream]) == 0 || g.open != nil && g.open(stream) ||
		g.upstream(stream, stream, map[string]bool{}) {
		return "", false
	}
	for _, w := range g.writes[stream] {
		r := g.root(w)
		if root != "" && r != root {
			return "", false
		}
		root = r
	}
	return root, true
}

// upstream reports whether what a stream holds may come from the stream of,
// whatever the topics.
func (g *graph) upstream(stream, of string, seen map[string]bool) bool {
	seen[stream] = true
	for _, w := range g.writes[stream] {
		for n := 0; g.specs[w].source.rule != "" && n < len(g.specs); n++ {
			w = g.names[g.specs[w].source.rule]
		}
		from := g.specs[w].source.stream
		if from == of || !seen[from] && g.upstream(from, of, seen) {
			return true
		}
	}
	return false
}
