package window

import (
	"fmt"
	"math"

	"holdfast/gateway/event"
)

// Op is an aggregate operation.
type Op uint8

// The operations. All but Count read one column of the rows; all but First and
// Last need numbers there.
const (
	Count Op = iota
	Sum
	Avg
	Min
	Max
	P50
	P95
	P99
	First
	Last
)

// Ops are the names of the operations, indexed by Op.
var Ops = [...]string{"count", "sum", "avg", "min", "max", "p50", "p95", "p99", "first", "last"}

// String returns the name of the operation as it is written in rules.
func (o Op) String() string { return Ops[o] }

// Numeric reports whether the operation takes numbers only.
func (o Op) Numeric() bool { return o >= Sum && o <= P99 }

// Aggregate is one result of a pane: an operation over the column Input of
// Row.Values. Count has no input.
type Aggregate struct {
	Op    Op
	Input int
}

// maxNumber keeps sums of many values finite and inside what a sketch takes.
const maxNumber = 1e300

// cell is a piece of state of one group. Aggregates share cells: avg and sum
// of one input, for example, or its percentiles.
type cell struct {
	op    Op  // Sum, Min, Max, P50 (a sketch), First, Last
	input int // column of Row.Values
	at    int // index in the group's numbers, texts or sketches
}

// layout says where in the state of a group each aggregate lives.
type layout struct {
	aggs     []Aggregate
	cells    []cell
	of       []int // aggregate to cell; -1 for Count
	numbers  int   // float64s of a group
	values   int   // stamped values of a group
	sketches int   // sketches of a group
}

func newLayout(aggs []Aggregate) *layout {
	l := &layout{aggs: aggs}
	for _, a := range aggs {
		l.of = append(l.of, l.cellFor(a))
	}
	return l
}

func (l *layout) cellFor(a Aggregate) int {
	op := a.Op
	switch op {
	case Count:
		return -1
	case Avg:
		op = Sum
	case P95, P99:
		op = P50
	}
	for i, c := range l.cells {
		if c.op == op && c.input == a.Input {
			return i
		}
	}
	c := cell{op: op, input: a.Input}
	switch op {
	case Sum:
		c.at = l.numbers
		l.numbers += 2 // the sum and its compensation
	case Min, Max:
		c.at = l.numbers
		l.numbers++
	case P50:
		c.at = l.sketches
		l.sketches++
	case First, Last:
		c.at = l.values
		l.values++
	}
	l.cells = append(l.cells, c)
	return len(l.cells) - 1
}

// check refuses a row before any of it is counted.
func (l *layout) check(row *Row) error {
	if row.Time < 0 || row.Time >= MaxTime {
		return ErrTime
	}
	for i := range l.cells {
		c := &l.cells[i]
		if !c.op.Numeric() {
			continue
		}
		if v := &row.Values[c.input]; v.Kind != Number || !(math.Abs(v.Num) <= maxNumber) {
			return fmt.Errorf("%v of %v: %w", c.op, v.Any(), ErrNumber)
		}
	}
	return nil
}

// stamped is a value with the time that it is from.
type stamped struct {
	Value
	time event.Time
}

// group is the state of one key in one pane. Its numbers, values and sketches
// lie in the slabs of the pane.
type group struct {
	key    string
	rows   uint64
	offset uint64
	epoch  uint64
}

// update counts a row in; fresh says that it is the group's first.
func (l *layout) update(row *Row, numbers []float64, values []stamped, sketches []*sketch, fresh bool) {
	for i := range l.cells {
		c := &l.cells[i]
		v := &row.Values[c.input]
		switch c.op {
		case Sum:
			if fresh {
				numbers[c.at], numbers[c.at+1] = v.Num, 0
				continue
			}
			old := numbers[c.at]
			sum := old + v.Num
			if math.Abs(old) >= math.Abs(v.Num) {
				numbers[c.at+1] += (old - sum) + v.Num
			} else {
				numbers[c.at+1] += (v.Num - sum) + old
			}
			numbers[c.at] = sum
		case Min:
			if fresh || v.Num < numbers[c.at] {
				numbers[c.at] = v.Num
			}
		case Max:
			if fresh || v.Num > numbers[c.at] {
				numbers[c.at] = v.Num
			}
		case P50:
			sketches[c.at].add(v.Num)
		case First:
			if fresh || row.Time < values[c.at].time {
				values[c.at] = stamped{v.keep(), row.Time}
			}
		case Last:
			if fresh || row.Time >= values[c.at].time {
				values[c.at] = stamped{v.keep(), row.Time}
			}
		}
	}
}

// results appends one value for each aggregate.
func (l *layout) results(dst []Value, rows uint64, numbers []float64, values []stamped, sketches []*sketch) []Value {
	for i, a := range l.aggs {
		if a.Op == Count {
			dst = append(dst, Num(float64(rows)))
			continue
		}
		at := l.cells[l.of[i]].at
		switch a.Op {
		case Sum:
			dst = append(dst, Num(numbers[at]+numbers[at+1]))
		case Avg:
			dst = append(dst, Num((numbers[at]+numbers[at+1])/float64(rows)))
		case Min, Max:
			dst = append(dst, Num(numbers[at]))
		case P50:
			dst = append(dst, Num(sketches[at].percentile(50)))
		case P95:
			dst = append(dst, Num(sketches[at].percentile(95)))
		case P99:
			dst = append(dst, Num(sketches[at].percentile(99)))
		case First, Last:
			dst = append(dst, values[at].Value)
		}
	}
	return dst
}
