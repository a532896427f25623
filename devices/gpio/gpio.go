// Package gpio says what Holdfast asks of digital lines: inputs that tell each
// edge with the kernel's time and number, outputs that come up at the level
// they are asked for, without a glitch, and pulse width outputs. Package bus
// does it with the kernel's character device, package sim with a model; the
// suite in package devicetest holds for both.
//
// Levels are logical: with ActiveLow true means a low voltage. An output is
// never read back: what was driven is remembered by whoever drove it.
package gpio

import (
	"errors"
	"io"
	"time"
)

// ErrLost means that the chip of a line has gone, as an unplugged adapter does.
var ErrLost = errors.New("the chip of the line has gone")

// Ref names a line: its chip (gpiochip0, /dev/gpiochip0, the chip's label or
// sim:NAME; "" to look on all chips) and the line's number on it or its name,
// such as GPIO17. A chip that can be unplugged is better named by its label: its
// number may be another one when it comes back.
type Ref struct{ Chip, Line string }

// String formats the reference as chip/line.
func (r Ref) String() string {
	if r.Chip == "" {
		return r.Line
	}
	return r.Chip + "/" + r.Line
}

// Pull is the resistor that the chip connects to an input.
type Pull string

// The pulls.
const (
	AsIs Pull = ""
	Up   Pull = "up"
	Down Pull = "down"
	None Pull = "none"
)

// Edges are those that an input tells.
type Edges string

// The kinds of edges, by the logical level.
const (
	Both    Edges = "both"
	Rising  Edges = "rising"
	Falling Edges = "falling"
)

// InputConfig says how inputs are set up.
type InputConfig struct {
	Pull      Pull
	ActiveLow bool
	Edges     Edges         // "" for none
	Debounce  time.Duration // changes shorter than that are no edges; 0 for all
}

// Edge is a change of an input.
type Edge struct {
	Line   int  // index of the line in the request
	Rising bool // to the logical level 1
	At     time.Time
	// Stamp is the time that the kernel gave the edge, of a clock that never
	// jumps; differences of it are exact.
	Stamp time.Duration
	// Number counts the edges of the request from 1. A gap is as many edges
	// that were lost because nobody took them in time.
	Number uint32
}

// Inputs are lines that are read together.
type Inputs interface {
	// Levels returns the logical levels of the lines, in the order of the
	// request.
	Levels() ([]bool, error)
	// Close gives the lines back; no edge is told after it has returned.
	io.Closer
}

// Output is a line that is driven.
type Output interface {
	Set(level bool) error
	// Check returns ErrLost if the chip of the line has gone. The line stays
	// as it is.
	Check() error
	// Close gives the line back. What the line does then is up to the chip:
	// drive the level wanted before.
	io.Closer
}

// Drive is how an output makes its levels.
type Drive string

// The drives.
const (
	PushPull   Drive = ""
	OpenDrain  Drive = "open_drain"
	OpenSource Drive = "open_source"
)

// OutputConfig says how an output is set up. The line has its initial level
// from the moment on that it becomes an output.
type OutputConfig struct {
	ActiveLow bool
	Drive     Drive
	Initial   bool
}

// PWM is a pulse width output.
type PWM interface {
	// Set makes the output active for the share duty, from 0 to 1, of each
	// period.
	Set(period time.Duration, duty float64) error
	// Close switches the output off.
	Close() error
}

// Lines opens lines.
type Lines interface {
	// ResolveLine checks a reference without touching the line, and returns
	// the form that all spellings of it share as far as that is known.
	ResolveLine(Ref) (Ref, error)
	// Inputs opens lines of one chip, and calls edge, which must not block, for
	// each edge from then on, from one goroutine at a time.
	Inputs(lines []Ref, c InputConfig, edge func(Edge)) (Inputs, error)
	// Output opens a line as an output.
	Output(line Ref, c OutputConfig) (Output, error)
	// PWM opens a channel of a pulse width chip: pwmchip0, and its number.
	PWM(chip string, channel int) (PWM, error)
}

// Gap returns how many edges were lost between two numbers that follow each
// other.
func Gap(last, next uint32) uint64 { return uint64(next - last - 1) }
