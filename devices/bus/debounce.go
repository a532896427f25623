package bus

import (
	"sync"
	"time"

	"holdfast/devices/gpio"
)

// debouncer makes stable changes of bouncing ones, as the kernel does where it
// can: a change is an edge once the line has kept its level for the period.
type debouncer struct {
	period time.Duration
	edges  gpio.Edges // that are told
	edge   func(gpio.Edge)

	mu     sync.Mutex
	closed bool
	lines  []bouncing
	seen   uint32 // number of the last change
	number uint32 // of the last edge, and of changes that were lost
}

type bouncing struct {
	stable, now bool          // levels
	at          time.Duration // of the last change
	last        uint32        // its number
	timer       *time.Timer
}

// newDebouncer returns a debouncer for n lines, as c says.
func newDebouncer(c gpio.InputConfig, n int, edge func(gpio.Edge)) *debouncer {
	return &debouncer{period: c.Debounce, edges: c.Edges, edge: edge, lines: make([]bouncing, n)}
}

// begin takes the levels that the lines have now for stable, and returns the
// inputs with stable levels.
func (d *debouncer) begin(in gpio.Inputs) (gpio.Inputs, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	levels, err := in.Levels()
	if err != nil {
		_ = in.Close() // the first error tells
		return nil, err
	}
	for i, level := range levels {
		d.lines[i].stable, d.lines[i].now = level, level
	}
	return &debounced{in, d}, nil
}

// change takes a change of a line to a level, with the time and the number that
// the kernel gave it.
func (d *debouncer) change(line int, level bool, at time.Duration, number uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	d.number += uint32(gpio.Gap(d.seen, number))
	d.seen = number
	l := &d.lines[line]
	if l.timer != nil {
		l.timer.Stop()
	}
	l.now, l.at, l.last = level, at, number
	l.timer = time.AfterFunc(d.period, func() { d.settle(line, number) })
}

// settle tells an edge if the line is at another level than before, and has
// not changed since the change of that number.
func (d *debouncer) settle(line int, number uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := &d.lines[line]
	if d.closed || l.last != number || l.now == l.stable {
		return
	}
	l.stable = l.now
	if d.edges == "" || d.edges == gpio.Rising && !l.now || d.edges == gpio.Falling && l.now {
		return
	}
	d.number++
	stamp := l.at + d.period
	d.edge(gpio.Edge{Line: line, Rising: l.now, At: wall(stamp), Stamp: stamp, Number: d.number})
}

// debounced are inputs whose levels are stable.
type debounced struct {
	gpio.Inputs
	d *debouncer
}

func (in *debounced) Levels() ([]bool, error) {
	levels, err := in.Inputs.Levels() // fails if the chip has gone
	in.d.mu.Lock()
	defer in.d.mu.Unlock()
	for i := range levels {
		levels[i] = in.d.lines[i].stable
	}
	return levels, err
}

func (in *debounced) Close() error {
	err := in.Inputs.Close()
	in.d.mu.Lock()
	defer in.d.mu.Unlock()
	in.d.closed = true
	for _, l := range in.d.lines {
		if l.timer != nil {
			l.timer.Stop()
		}
	}
	return err
}
