package sim

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"syscall"
	"time"

	"holdfast/devices/gpio"
)

// Lines are simulated GPIO chips by name, sim:NAME, made when they are first
// asked for, with lines of any number or name. The zero value is ready for use.
// It implements gpio.Lines as the kernel does: lines that are taken are busy,
// the newest edges are kept when nobody takes them, glitches are remembered.
type Lines struct {
	mu    sync.Mutex
	lines map[gpio.Ref]*Wire
	pwms  map[string]*PWM
}

// Wire is what a line is connected to, seen from outside. Levels are
// electrical.
type Wire struct {
	mu      sync.Mutex
	name    string
	high    bool // that the world puts on it, or the pull
	gone    bool
	in      *simInputs
	index   int
	out     bool
	level   bool // driven
	history []string
}

// Wire returns the line of a reference.
func (l *Lines) Wire(chip, line string) *Wire {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := gpio.Ref{Chip: chip, Line: line}
	if l.lines == nil {
		l.lines = map[gpio.Ref]*Wire{}
	}
	if l.lines[r] == nil {
		l.lines[r] = &Wire{name: r.String()}
	}
	return l.lines[r]
}

// Set puts a level on the line from outside.
func (w *Wire) Set(high bool) {
	w.mu.Lock()
	changed, in, index := w.high != high, w.in, w.index
	w.high = high
	w.mu.Unlock()
	if changed && in != nil {
		in.change(index, high, time.Now())
	}
}

// Pulse puts n pulses on the line, each high for a while and low for as long.
func (w *Wire) Pulse(n int, half time.Duration) {
	for range n {
		w.Set(true)
		time.Sleep(half)
		w.Set(false)
		time.Sleep(half)
	}
}

// Lose makes n edges disappear as if nobody had taken them in time.
func (w *Wire) Lose(n int) {
	w.mu.Lock()
	in := w.in
	w.mu.Unlock()
	if in != nil {
		in.mu.Lock()
		in.number += uint32(n)
		in.mu.Unlock()
	}
}

// Unplug makes the chip of the line go, or come back.
func (w *Wire) Unplug(gone bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone = gone
	if gone {
		w.out, w.in = false, nil
	}
}

// Driven returns what the line was driven to since it became an output: in, 0
// or 1, one word for each change.
func (w *Wire) Driven() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.history...)
}

// High returns whether the line carries a high level.
func (w *Wire) High() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.out {
		return w.level
	}
	return w.high
}

// ResolveLine takes any line of chips sim:NAME.
func (l *Lines) ResolveLine(r gpio.Ref) (gpio.Ref, error) {
	if r.Line == "" || r.Chip == "" {
		return r, errors.New("a line needs its number or its name, and a chip")
	}
	return r, nil
}

// Inputs opens lines.
func (l *Lines) Inputs(refs []gpio.Ref, c gpio.InputConfig, edge func(gpio.Edge)) (gpio.Inputs, error) {
	in := &simInputs{config: c, edge: edge, began: time.Now()}
	for i, r := range refs {
		w := l.Wire(r.Chip, r.Line)
		if err := w.take(func() {
			w.in, w.index = in, i
			switch c.Pull {
			case gpio.Up:
				w.high = true
			case gpio.Down:
				w.high = false
			}
			in.wires = append(in.wires, w)
			in.stable = append(in.stable, w.high != c.ActiveLow)
			in.timers = append(in.timers, nil)
		}); err != nil {
			_ = in.Close()
			return nil, err
		}
	}
	return in, nil
}

// take runs f if the line is free.
func (w *Wire) take(f func()) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.gone:
		return fmt.Errorf("open line %s: %w", w.name, syscall.ENOENT)
	case w.in != nil || w.out:
		return fmt.Errorf("open line %s: %w; another program or a driver of the kernel has the line, gpioinfo tells which", w.name, syscall.EBUSY)
	}
	f()
	return nil
}

type simInputs struct {
	config gpio.InputConfig
	edge   func(gpio.Edge)
	began  time.Time
	wires  []*Wire

	mu     sync.Mutex
	number uint32
	closed bool
	stable []bool // logical, after debouncing
	timers []*time.Timer
}

func (in *simInputs) change(i int, high bool, now time.Time) {
	in.mu.Lock()
	defer in.mu.Unlock()
	level := high != in.config.ActiveLow
	if in.timers[i] != nil {
		in.timers[i].Stop()
	}
	if in.config.Debounce == 0 {
		in.tell(i, level, now)
		return
	}
	in.timers[i] = time.AfterFunc(in.config.Debounce, func() {
		in.mu.Lock()
		defer in.mu.Unlock()
		in.tell(i, level, time.Now())
	})
}

// tell reports an edge of the stable level; in.mu is held.
func (in *simInputs) tell(i int, level bool, now time.Time) {
	if in.closed || level == in.stable[i] {
		return
	}
	in.stable[i] = level
	c := in.config.Edges
	if c == "" || c == gpio.Rising && !level || c == gpio.Falling && level {
		return
	}
	in.number++
	in.edge(gpio.Edge{Line: i, Rising: level, At: now, Stamp: now.Sub(in.began), Number: in.number})
}

func (in *simInputs) Levels() (levels []bool, err error) {
	for _, w := range in.wires {
		w.mu.Lock()
		gone, high := w.gone, w.high
		w.mu.Unlock()
		if gone {
			return nil, fmt.Errorf("%w: %w", gpio.ErrLost, syscall.ENODEV)
		}
		levels = append(levels, high != in.config.ActiveLow)
	}
	return levels, nil
}

func (in *simInputs) Close() error {
	in.mu.Lock()
	in.closed = true
	in.mu.Unlock()
	for _, w := range in.wires {
		w.mu.Lock()
		if w.in == in {
			w.in = nil
		}
		w.mu.Unlock()
	}
	return nil
}

// Output opens a line as an output.
func (l *Lines) Output(r gpio.Ref, c gpio.OutputConfig) (gpio.Output, error) {
	w := l.Wire(r.Chip, r.Line)
	o := &simOutput{w, c.ActiveLow}
	if err := w.take(func() { w.out = true; w.drive(c.Initial != c.ActiveLow) }); err != nil {
		return nil, err
	}
	return o, nil
}

func (w *Wire) drive(high bool) {
	w.level = high
	word := "0"
	if high {
		word = "1"
	}
	if n := len(w.history); n == 0 || w.history[n-1] != word {
		w.history = append(w.history, word)
	}
}

type simOutput struct {
	wire      *Wire
	activeLow bool
}

func (o *simOutput) Set(level bool) error {
	o.wire.mu.Lock()
	defer o.wire.mu.Unlock()
	if err := o.check(); err != nil {
		return err
	}
	o.wire.drive(level != o.activeLow)
	return nil
}

func (o *simOutput) Check() error {
	o.wire.mu.Lock()
	defer o.wire.mu.Unlock()
	return o.check()
}

// check reports a chip that has gone; the wire's lock is held.
func (o *simOutput) check() error {
	if o.wire.gone || !o.wire.out {
		return fmt.Errorf("%w: %w", gpio.ErrLost, syscall.ENODEV)
	}
	return nil
}

func (o *simOutput) Close() error {
	o.wire.mu.Lock()
	defer o.wire.mu.Unlock()
	if o.wire.out {
		o.wire.out = false
		o.wire.history = append(o.wire.history, "in")
	}
	return nil
}

// PWM is a simulated pulse width output.
type PWM struct {
	mu     sync.Mutex
	period time.Duration
	duty   float64
	on     bool
}

// PWMOf returns a channel of a chip.
func (l *Lines) PWMOf(chip string, channel int) *PWM {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pwms == nil {
		l.pwms = map[string]*PWM{}
	}
	key := chip + "/" + strconv.Itoa(channel)
	if l.pwms[key] == nil {
		l.pwms[key] = new(PWM)
	}
	return l.pwms[key]
}

// PWM opens a channel.
func (l *Lines) PWM(chip string, channel int) (gpio.PWM, error) { return l.PWMOf(chip, channel), nil }

// Set drives the channel.
func (p *PWM) Set(period time.Duration, duty float64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.period, p.duty, p.on = period, duty, true
	return nil
}

// Close switches the channel off.
func (p *PWM) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.on = false
	return nil
}

// Duty returns the share of the period in which the output is active.
func (p *PWM) Duty() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.on {
		return 0
	}
	return p.duty
}
