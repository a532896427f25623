package window

import (
	"fmt"
	"math"
	"slices"

	"holdfast/gateway/event"
)

// maxNumber keeps sums of many values finite and inside what a sketch takes.
const maxNumber = 1e300

// groups has the state of all panes of all keys of a window, a group for each,
// column by column: a row then allocates nothing and the collector has little
// to look at. A group is dropped when its pane closes, and used again.
type groups struct {
	at       []group
	free     []int32
	columns  []column
	carriers []column // those to which the row before a pane matters
	outs     []output
	checks   []check
	width    int   // values of a row
	scratch  int32 // a group for merging into
	values   []Value
	reading  reading // at hand; here so that it need not be allocated
}

// group is what all panes have, besides the cells in the columns.
type group struct {
	key           int32
	generation    uint32
	rows          uint64
	offset, epoch uint64
	first, last   event.Time
	changed       bool // since its last early result
}

type output struct {
	function *Function
	column   column
	params   []float64
}

type check struct {
	input  int
	wanted Input
}

func (s *groups) init(aggs []Aggregate, expire event.Time) error {
	var states []string
	for i, a := range aggs {
		if a.Func == nil {
			return fmt.Errorf("aggregate %d has no function", i)
		}
		params, err := a.Func.Check(a.Params)
		if err != nil {
			return fmt.Errorf("aggregate %d: %w", i, err)
		}
		out := output{function: a.Func, params: params}
		s.outs = append(s.outs, out)
		if a.Func.column == nil {
			continue
		}
		if a.Input < 0 || a.Input > 1000 {
			return fmt.Errorf("aggregate %d: there is no input %d", i, a.Input)
		}
		s.width = max(s.width, a.Input+1)
		if c := (check{a.Input, a.Func.Input}); !slices.Contains(s.checks, c) {
			s.checks = append(s.checks, c)
		}
		if a.Func.reads {
			params = nil
		}
		state := fmt.Sprint(a.Func.state, a.Input, params)
		j := slices.Index(states, state)
		if j < 0 {
			j = len(states)
			states = append(states, state)
			s.columns = append(s.columns, a.Func.column(operand{a.Input, params, expire}))
			if a.Func.ordered {
				s.carriers = append(s.carriers, s.columns[j])
			}
		}
		s.outs[i].column = s.columns[j]
	}
	s.scratch = s.take(0)
	return nil
}

// check refuses a row before any of it is counted.
func (s *groups) check(row *Row) error {
	if len(row.Values) < s.width {
		return fmt.Errorf("the row has %d values, the aggregates read %d", len(row.Values), s.width)
	}
	for _, c := range s.checks {
		v := &row.Values[c.input]
		switch {
		case c.wanted == Numbers && (v.Kind != Number || !(math.Abs(v.Num) <= maxNumber)):
			return fmt.Errorf("%v: %w", v.Any(), ErrNumber)
		case c.wanted == Truths && v.Kind != Bool:
			return fmt.Errorf("%v: %w", v.Any(), ErrTruth)
		case v.Kind > Bool || v.Kind == Number && math.IsNaN(v.Num):
			return fmt.Errorf("%v: %w", v.Any(), ErrValue)
		}
	}
	return nil
}

// take returns an empty group for a key.
func (s *groups) take(key int32) int32 {
	var g int32
	if n := len(s.free); n > 0 {
		g, s.free = s.free[n-1], s.free[:n-1]
	} else {
		g = int32(len(s.at))
		s.at = append(s.at, group{})
		for _, c := range s.columns {
			c.grow()
		}
	}
	s.at[g].key = key
	return g
}

// drop empties a group, to be taken again.
func (s *groups) drop(g int32) {
	s.clear(g)
	s.free = append(s.free, g)
}

func (s *groups) clear(g int32) {
	s.at[g] = group{key: s.at[g].key, generation: s.at[g].generation + 1}
	for _, c := range s.columns {
		c.clear(g)
	}
}

func (s *groups) add(g int32, row *Row) {
	gr := &s.at[g]
	if gr.rows == 0 || row.Time < gr.first {
		gr.first = row.Time
	}
	if gr.rows == 0 || row.Time > gr.last {
		gr.last = row.Time
	}
	if gr.rows == 0 || row.Offset >= gr.offset {
		gr.offset, gr.epoch = row.Offset, row.Epoch
	}
	gr.rows++
	gr.changed = true
	for _, c := range s.columns {
		c.add(g, row)
	}
}

// merge adds the rows of a group that are not older than those of g.
func (s *groups) merge(g, later int32) {
	to, from := &s.at[g], &s.at[later]
	if to.rows == 0 || from.first < to.first {
		to.first = from.first
	}
	if to.rows == 0 || from.last > to.last {
		to.last = from.last
	}
	if to.rows == 0 || from.offset >= to.offset {
		to.offset, to.epoch = from.offset, from.epoch
	}
	to.rows += from.rows
	to.changed = to.changed || from.changed
	for _, c := range s.columns {
		c.merge(g, later)
	}
}

// carry makes g an empty group that knows the last row of from.
func (s *groups) carry(g, from int32) {
	last := s.at[from].last
	s.clear(g)
	s.at[g].last = last
	for _, c := range s.carriers {
		c.carry(g, from)
	}
}

// start makes g an empty group that knows what from knows, a group of carry.
func (s *groups) start(g, from int32) {
	s.clear(g)
	for _, c := range s.carriers {
		c.merge(g, from)
	}
}

// reuse takes the memory of earlier results for new ones.
func (s *groups) reuse() {
	clear(s.values)
	s.values = s.values[:0]
}

// pane appends the results of a group.
func (s *groups) pane(dst []Pane, g int32, key string, start, end event.Time) []Pane {
	gr := &s.at[g]
	return s.result(dst, g, Pane{Key: key, Start: start, End: end, Rows: gr.rows, Offset: gr.offset, Epoch: gr.epoch}, end)
}

// earlyPane appends the results so far of a group.
func (s *groups) earlyPane(dst []Pane, g int32, key string, start, end event.Time) []Pane {
	gr := &s.at[g]
	p := Pane{Key: key, Start: start, End: end, Rows: gr.rows, Offset: gr.offset, Epoch: gr.epoch, Early: true}
	return s.result(dst, g, p, min(gr.last, end))
}

func (s *groups) result(dst []Pane, g int32, p Pane, end event.Time) []Pane {
	rd := &s.reading
	*rd = reading{rows: p.Rows, start: p.Start, end: end}
	from := len(s.values)
	for i := range s.outs {
		out := &s.outs[i]
		rd.params = out.params
		s.values = append(s.values, out.function.read(out.column, g, rd))
	}
	p.Values = s.values[from:len(s.values):len(s.values)]
	return append(dst, p)
}

func (s *groups) appendState(b []byte, g int32) []byte {
	gr := &s.at[g]
	for _, n := range []uint64{gr.rows, gr.offset, gr.epoch} {
		b = appendUint(b, n)
	}
	b = appendInt(appendInt(b, int64(gr.first)), int64(gr.last))
	b = appendBool(b, gr.changed)
	for _, c := range s.columns {
		b = c.appendState(b, g)
	}
	return b
}

// readState fills an empty group. One of an open pane has rows.
func (s *groups) readState(r *reader, g int32) {
	gr := &s.at[g]
	gr.rows, gr.offset, gr.epoch, gr.first, gr.last, gr.changed = r.uint(), r.uint(), r.uint(), r.time(), r.time(), r.bool()
	for _, c := range s.columns {
		c.readState(r, g)
	}
}

// appendCarried writes a group of carry.
func (s *groups) appendCarried(b []byte, g int32) []byte {
	b = appendInt(b, int64(s.at[g].last))
	for _, c := range s.carriers {
		b = c.appendState(b, g)
	}
	return b
}

func (s *groups) readCarried(r *reader, g int32) {
	s.at[g].last = r.time()
	for _, c := range s.carriers {
		c.readState(r, g)
	}
}
