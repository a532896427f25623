package window

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"holdfast/gateway/event"
)

// Aggregate is one result of a pane: a function of the column Input of
// Row.Values, with its parameters. Input does not matter for count.
type Aggregate struct {
	Func   *Function
	Input  int
	Params []float64
}

// Function is a way of making one value of the rows of a pane. [Functions]
// lists them.
type Function struct {
	Name   string
	Doc    string // one sentence
	Input  Input
	Params []Param
	Result Kind // Null: that of the input

	state   reflect.Type // functions of one state, input and parameters share it
	reads   bool         // the parameters are for reading the state only
	ordered bool         // needs rows in order of time
	column  func(operand) column
	read    func(column, int32, *reading) Value
}

// Input is what a function takes of each row.
type Input uint8

// The inputs.
const (
	NoInput  Input = iota
	Numbers        // finite, at most 1e300
	Truths         // true or false
	Anything       // null, a number, text or a truth value
)

// Param is a parameter that follows the input.
type Param struct {
	Name     string
	Min, Max float64
	Whole    bool
	Many     bool    // one or more of it, ascending; up to 100
	Optional bool    // Default if it is missing
	Default  float64 // of an optional parameter
}

// Signature returns how the function is written in rules.
func (f *Function) Signature() string {
	var parts []string
	switch f.Input {
	case Numbers, Anything:
		parts = append(parts, "x")
	case Truths:
		parts = append(parts, "condition")
	}
	for _, p := range f.Params {
		switch {
		case p.Many:
			parts = append(parts, p.Name, "…")
		case p.Optional:
			parts = append(parts, p.Name+" = "+strconv.FormatFloat(p.Default, 'g', -1, 64))
		default:
			parts = append(parts, p.Name)
		}
	}
	return f.Name + "(" + strings.Join(parts, ", ") + ")"
}

// Check returns the parameters with the missing ones filled in, or what is
// wrong with them.
func (f *Function) Check(params []float64) ([]float64, error) {
	var all []float64
	for _, p := range f.Params {
		n := 1
		if p.Many {
			n = len(params)
		}
		switch {
		case len(params) == 0 && p.Optional:
			all = append(all, p.Default)
			continue
		case len(params) == 0:
			return nil, fmt.Errorf("%s needs %s, as in %s", f.Name, p.Name, f.Signature())
		case n > 100:
			return nil, fmt.Errorf("%s takes at most 100 %s", f.Name, p.Name)
		}
		for i, v := range params[:n] {
			switch {
			case !(v >= p.Min && v <= p.Max):
				return nil, fmt.Errorf("%s of %s is %v, it must be between %v and %v", p.Name, f.Name, v, p.Min, p.Max)
			case p.Whole && v != math.Trunc(v):
				return nil, fmt.Errorf("%s of %s is %v, it must be a whole number", p.Name, f.Name, v)
			case i > 0 && v <= params[i-1]:
				return nil, fmt.Errorf("%s of %s must ascend: %v follows %v", p.Name, f.Name, v, params[i-1])
			}
		}
		all, params = append(all, params[:n]...), params[n:]
	}
	if len(params) > 0 {
		return nil, fmt.Errorf("%s takes fewer parameters, as in %s", f.Name, f.Signature())
	}
	return all, nil
}

// Lookup returns the function of a name.
func Lookup(name string) (*Function, bool) {
	i := slices.IndexFunc(Functions, func(f Function) bool { return f.Name == name })
	if i < 0 {
		return nil, false
	}
	return &Functions[i], true
}

// operand is what the state of an aggregate needs to know.
type operand struct {
	input  int
	params []float64
	expire event.Time // 0: never
}

// reading is what a result may depend on besides the state. Values are held
// until the end.
type reading struct {
	rows       uint64
	start, end event.Time
	params     []float64
}

// cell is the state of an aggregate in one pane of one key. Its zero value is
// empty.
type cell[C any] interface {
	*C
	add(o *operand, v *Value, t event.Time)
	// merge adds the rows of another cell, which are not older.
	merge(o *operand, later *C)
	// clear empties the cell and may keep its memory.
	clear()
	appendState(b []byte) []byte
	readState(o *operand, r *reader)
}

// carrier is a cell to which the row before the pane matters.
type carrier[C any] interface {
	// carry makes the cell one that knows the last row of from, and has none.
	carry(from *C)
}

// column has the cells of one aggregate for all groups of a window.
type column interface {
	grow()
	clear(g int32)
	add(g int32, row *Row)
	merge(g, later int32)
	carry(g, from int32)
	appendState(b []byte, g int32) []byte
	readState(r *reader, g int32)
}

type cells[C any, P cell[C]] struct {
	operand
	cells []C
}

func (c *cells[C, P]) grow() {
	var empty C
	c.cells = append(c.cells, empty)
}

func (c *cells[C, P]) clear(g int32) { P(&c.cells[g]).clear() }

func (c *cells[C, P]) add(g int32, row *Row) {
	P(&c.cells[g]).add(&c.operand, &row.Values[c.input], row.Time)
}

func (c *cells[C, P]) merge(g, later int32) { P(&c.cells[g]).merge(&c.operand, &c.cells[later]) }

func (c *cells[C, P]) carry(g, from int32) {
	if to, ok := any(P(&c.cells[g])).(carrier[C]); ok {
		to.carry(&c.cells[from])
	}
}

func (c *cells[C, P]) appendState(b []byte, g int32) []byte { return P(&c.cells[g]).appendState(b) }
func (c *cells[C, P]) readState(r *reader, g int32)         { P(&c.cells[g]).readState(&c.operand, r) }

// define completes a function by the state that it is read from.
func define[C any, P cell[C]](f Function, read func(P, *reading) Value) Function {
	f.state = reflect.TypeFor[C]()
	f.column = func(o operand) column { return &cells[C, P]{operand: o} }
	f.read = func(c column, g int32, rd *reading) Value { return read(&c.(*cells[C, P]).cells[g], rd) }
	_, f.ordered = any(P(new(C))).(carrier[C])
	return f
}
