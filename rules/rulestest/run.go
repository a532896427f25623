package rulestest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"holdfast/gateway/config"
	"holdfast/rules"
)

// Result is what became of one test.
type Result struct {
	Test   *Test
	Faults []Fault // none: it passed
	Took   time.Duration
}

// Fault is one thing that is not as a test expects.
type Fault struct {
	Pos  config.Pos
	Msg  string
	Diff []string // lines that begin with "  ", "- " (expected) or "+ " (came out)
}

// String returns the fault with its place and difference.
func (f Fault) String() string {
	text := f.Pos.String() + ": " + f.Msg
	for _, l := range f.Diff {
		text += "\n    " + l
	}
	return text
}

// Run runs the tests whose names match; nil for all. They know nothing of each
// other. Took is measured with the given clock.
func (f *File) Run(names *regexp.Regexp, now func() time.Time) []Result {
	var all []Result
	for _, t := range f.Tests {
		if names != nil && !names.MatchString(t.Name) {
			continue
		}
		begin := now()
		faults := f.run(t)
		all = append(all, Result{Test: t, Faults: faults, Took: now().Sub(begin)})
	}
	return all
}

func (f *File) run(t *Test) []Fault {
	var faults []Fault
	stage := NewStage(f.set, t.start)
	seen := 0
	for i := range t.steps {
		st := &t.steps[i]
		stage.step = i
		at := st.at.time(t.start, stage.Clock)
		if at < stage.Clock {
			return append(faults, Fault{Pos: st.section.Pos(), Msg: fmt.Sprintf(
				"this comes before what happened already: it is %s by then", offset(stage.Clock, t.start))})
		}
		switch {
		case st.event != nil:
			stage.Give(st.stream, *st.event, at)
		case st.expect != nil:
			faults = append(faults, t.compare(st.expect, t.relevant(stage.Outcomes[seen:]))...)
			seen = len(stage.Outcomes)
		default:
			stage.Advance(at)
		}
	}
	if rest := t.relevant(stage.Outcomes[seen:]); len(rest) > 0 { // the last step expects
		faults = append(faults, t.compare(&expectation{}, rest)...)
	}
	return faults
}

// relevant are the outcomes that the test looks at.
func (t *Test) relevant(all []Outcome) []Outcome {
	if t.only == nil {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(o Outcome) bool { return o.Err == "" && !slices.Contains(t.only, o.Stream) })
}

// compare finds the order-keeping pairs of what is expected and what came out
// that leave the least unexplained, and words what is left.
func (t *Test) compare(e *expectation, got []Outcome) []Fault {
	n, m := len(e.items), len(got)
	facts := make([][][]fact, n)
	differ := make([][]int, n)
	for i, x := range e.items {
		facts[i], differ[i] = make([][]fact, m), make([]int, m)
		for j := range got {
			facts[i][j] = x.facts(&got[j], t.start)
			for _, f := range facts[i][j] {
				if !f.same {
					differ[i][j] += f.weight()
				}
			}
		}
	}
	// cost[i][j] is that of explaining the expected from i on by those that
	// came out from j on.
	cost := make([][]int, n+1)
	for i := range cost {
		cost[i] = make([]int, m+1)
	}
	for i := n; i >= 0; i-- {
		for j := m; j >= 0; j-- {
			cost[i][j] = (n - i + m - j) * alone
			if i < n {
				cost[i][j] = min(cost[i][j], cost[i+1][j]+alone)
			}
			if j < m {
				cost[i][j] = min(cost[i][j], cost[i][j+1]+alone)
			}
			if i < n && j < m {
				cost[i][j] = min(cost[i][j], cost[i+1][j+1]+differ[i][j])
			}
		}
	}
	var faults []Fault
	for i, j := 0, 0; i < n || j < m; {
		switch {
		case i < n && j < m && cost[i][j] == cost[i+1][j+1]+differ[i][j]:
			if differ[i][j] > 0 {
				faults = append(faults, t.different(e.items[i], &got[j], facts[i][j]))
			}
			i, j = i+1, j+1
		case i < n && cost[i][j] == cost[i+1][j]+alone:
			faults = append(faults, e.items[i].missing())
			i++
		default:
			faults = append(faults, t.unexpected(&got[j]))
			j++
		}
	}
	return faults
}

// alone is the cost of an event without a counterpart: that of a pair that
// is less than half alike.
const alone = 8

func (f fact) weight() int {
	switch f.name {
	case "topic", "stream", "rule", "dead":
		return 8
	}
	return 1
}

func (t *Test) different(x *expected, o *Outcome, facts []fact) Fault {
	f := Fault{Pos: x.section.Pos(), Msg: "this came out differently, at " + offset(o.At, t.start)}
	for _, c := range facts {
		switch {
		case c.same:
			f.Diff = append(f.Diff, "  "+c.name+": "+c.got)
			continue
		case c.want != "":
			f.Diff = append(f.Diff, "- "+c.name+": "+c.want)
		}
		if c.got != "" {
			f.Diff = append(f.Diff, "+ "+c.name+": "+c.got)
		}
	}
	return f
}

func (x *expected) missing() Fault {
	f := Fault{Pos: x.section.Pos(), Msg: "this did not come out"}
	for _, key := range x.section.Keys() {
		f.Diff = append(f.Diff, "- "+key+": "+plain(x.section.Child(key)))
	}
	return f
}

// plain is a value on one line.
func plain(s *config.Section) string {
	text := string(s.JSON())
	if s.Kind() == config.Scalar {
		text = strings.Trim(text, `"`)
	}
	return text
}

func (t *Test) unexpected(o *Outcome) Fault {
	f := Fault{Pos: t.steps[o.step].section.Pos()}
	if o.Err != "" {
		f.Msg = fmt.Sprintf("at %s the rule %s failed, which is not expected", offset(o.At, t.start), o.Rule)
		f.Diff = []string{"+ dead: " + o.Rule, "+ error: " + o.Err, "+ topic: " + o.Event.Topic, "+ payload: " + string(o.Event.Payload)}
		return f
	}
	f.Msg = fmt.Sprintf("at %s this came out, and is not expected", offset(o.At, t.start))
	f.Diff = []string{"+ rule: " + o.Rule, "+ stream: " + o.Stream, "+ topic: " + o.Event.Topic}
	if payload := parse(o.Event.Payload); payload != nil {
		if _, isRaw := payload.(raw); isRaw {
			f.Diff = append(f.Diff, "+ payload: "+string(o.Event.Payload))
		} else {
			f.Diff = append(f.Diff, "+ data: "+show(payload))
		}
	}
	return f
}

// Passed reports whether nothing is wrong.
func (r Result) Passed() bool { return len(r.Faults) == 0 }

// Stats returns what the rules of the file have done in all its tests.
func (f *File) Stats() []rules.Stat { return f.set.Stats() }
