package window

import (
	"errors"

	"holdfast/gateway/event"
)

// Errors of Add. The window is unchanged when one of them is returned.
var (
	ErrLate   = errors.New("the event is late: its window has closed")
	ErrKeys   = errors.New("too many keys in one window")
	ErrNumber = errors.New("not a finite number")
	ErrTime   = errors.New("the time is not between 1970 and 2223")
)

// MaxTime is the first instant that windows do not take. It leaves room for
// adding any window length to an event time without overflow.
const MaxTime event.Time = 8e18

// Window assigns rows to panes. Tumbling is the first kind; hopping, sliding,
// session and count windows are to satisfy it too, which is why Add may close
// panes and why panes carry their own bounds.
//
// A Window is used by one goroutine at a time.
type Window interface {
	// Add puts a row into the panes that it belongs to and appends the panes
	// that this closes to dst. The row's values are copied.
	Add(dst []Pane, row Row) ([]Pane, error)
	// Advance moves the watermark to at, unless it is there or beyond, and
	// appends the panes that this closes to dst, by end and key.
	Advance(dst []Pane, at event.Time) []Pane
	// Flush appends all open panes to dst, by end and key, and forgets the
	// watermark: the next row may have any time.
	Flush(dst []Pane) []Pane
	// Due returns the least watermark that would close a pane; false if no
	// pane is open.
	Due() (event.Time, bool)
	// AppendState appends the whole state to b, in a form that only a window
	// of the same settings understands.
	AppendState(b []byte) []byte
	// RestoreState replaces the state by what AppendState wrote. On an error,
	// which means that b is damaged or of other settings, the window is empty.
	RestoreState(b []byte) error
}

// Row is what one event gives to a window.
type Row struct {
	Key    string
	Time   event.Time
	Offset uint64 // of the event, in its stream
	Epoch  uint64 // of the event
	Values []Value
}

// Pane is the result of one closed window of one key.
type Pane struct {
	Key        string
	Start, End event.Time
	Rows       uint64
	Offset     uint64  // of the last event in it, by arrival
	Epoch      uint64  // of the last event in it
	Values     []Value // one for each Aggregate, in their order
}

// Kind is the type of a Value.
type Kind uint8

// The kinds of values.
const (
	Null Kind = iota
	Number
	Text
	Bool
)

// Value is a number, a text or a truth value that goes into an aggregate or
// comes out of it.
type Value struct {
	Kind Kind
	Num  float64 // of a Number; 1 for true and 0 for false of a Bool
	Text string  // of a Text
}

// Num returns f as a value.
func Num(f float64) Value { return Value{Kind: Number, Num: f} }

// Str returns s as a value.
func Str(s string) Value { return Value{Kind: Text, Text: s} }

// Truth returns b as a value.
func Truth(b bool) Value {
	if b {
		return Value{Kind: Bool, Num: 1}
	}
	return Value{Kind: Bool}
}

// Any returns v as a Go value: nil, float64, string or bool.
func (v Value) Any() any {
	switch v.Kind {
	case Number:
		return v.Num
	case Text:
		return v.Text
	case Bool:
		return v.Num != 0
	}
	return nil
}
