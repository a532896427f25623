// Package mcp23017 drives Microchip's MCP23017, an expander with 16 lines, at an
// I²C bus. Inputs are read every interval and told when they change; outputs take
// commands on devices/NAME/OUTPUT/set, with all that an output at a GPIO line can
// do.
//
//	reading   unit  values
//	INPUT           0, 1
//	OUTPUT          0, 1
//
// From the data sheet DS20001952. Latches are written before directions, so that
// an output has its level from the moment on that it is one. Changes of inputs
// between two readings are not seen. Each reading checks directions, pull-ups and
// latches: a chip that lost its supply has become all inputs, and is set up anew
// with the levels that outputs start with.
//
// periph's mcp23xxx is not used: it keeps what it believes the registers to be,
// and makes lines outputs before they have their level.
package mcp23017

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"holdfast/devices"
	"holdfast/devices/switching"
	"holdfast/gateway/config"
)

// Driver is the entry in the list of drivers.
var Driver = devices.Driver{
	Name: "mcp23017",
	Doc:  "Reads and drives up to 16 lines of a Microchip MCP23017 at an I²C bus.",
	Sample: `bus: 1
address: 0x20          # to 0x27 by A0, A1 and A2
interval: 100ms
inputs:
  door: {line: A0, pull: up, active_low: true}
outputs:
  valve: {line: B7, fail_safe: off, min_off: 1s}
`,
	Addresses: []devices.Address{0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27},
	New:       newSource,
}

// Registers of port A; those of port B follow each (data sheet DS20001952,
// table 3-3).
const (
	regDirection = 0x00 // 1: input
	regPolarity  = 0x02
	regPullUp    = 0x0c
	regLevel     = 0x12
	regLatch     = 0x14
)

type line uint8

// UnmarshalText reads A0 to B7.
func (l *line) UnmarshalText(text []byte) error {
	if len(text) != 2 || text[0] != 'A' && text[0] != 'B' || text[1] < '0' || text[1] > '7' {
		return fmt.Errorf("%q is not a line; they are called A0 to A7 and B0 to B7", text)
	}
	*l = line((text[0]-'A')*8 + text[1] - '0')
	return nil
}

type input struct {
	name      string
	line      line
	activeLow bool
}

type output struct {
	*switching.Switch
	name      string
	line      line
	activeLow bool
}

func newSource(s *config.Section, w *devices.Wiring) (devices.Source, error) {
	set := struct {
		devices.Polling
		devices.I2C
		Inputs  config.Named `config:"inputs"`
		Outputs config.Named `config:"outputs"`
	}{Polling: devices.Every(100 * time.Millisecond), I2C: devices.I2C{Address: 0x20}}
	if err := s.Decode(&set); err != nil {
		return nil, err
	}
	var errs config.Errors
	errs.Add(set.Between(s, "MCP23017", 0x20, 0x27))
	src := &source{interval: set.Interval.Std(), timeout: set.Timeout.Std()}
	taken := map[line]string{}
	names := map[string]bool{}
	take := func(s *config.Section, l line) {
		if other, ok := taken[l]; ok {
			errs.Add(s.Errorf("line", "this line is %s already", other))
		}
		if names[s.Name()] {
			errs.Add(s.Errorf("", "there is an input %s already", s.Name()))
		}
		taken[l], names[s.Name()] = s.Name(), true
	}
	for _, in := range set.Inputs {
		own := struct {
			Line      line   `config:"line,required"`
			Pull      string `config:"pull,oneof=up|none"`
			ActiveLow bool   `config:"active_low"`
		}{}
		errs.Add(in.Decode(&own))
		take(in, own.Line)
		src.inputs = append(src.inputs, input{in.Name(), own.Line, own.ActiveLow})
		if own.Pull == "up" {
			src.pullUp |= 1 << own.Line
		}
	}
	for _, out := range set.Outputs {
		own := struct {
			switching.Settings
			Line      line `config:"line,required"`
			ActiveLow bool `config:"active_low"`
		}{Settings: switching.Defaults()}
		errs.Add(out.Decode(&own))
		take(out, own.Line)
		sw, err := switching.New(out, w, s.Name()+"-"+out.Name(), own.Settings)
		errs.Add(err)
		src.outputs = append(src.outputs, output{sw, out.Name(), own.Line, own.ActiveLow})
	}
	if len(taken) == 0 && len(errs) == 0 {
		errs.Add(s.Errorf("", "there are no inputs and no outputs"))
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	var err error
	src.port, err = w.I2C(s, set.I2C)
	return src, err
}

type source struct {
	port              *devices.I2CPort
	interval, timeout time.Duration
	inputs            []input
	outputs           []output
	pullUp            uint16

	mu    sync.Mutex
	latch uint16 // levels driven
}

func (c *source) Quantities() (all []devices.Quantity) {
	for _, in := range c.inputs {
		all = append(all, devices.Quantity{Name: in.name, Edges: true})
	}
	for _, out := range c.outputs {
		all = append(all, devices.Quantity{Name: out.name})
	}
	return all
}

func (c *source) Outputs() map[string]devices.Output {
	all := map[string]devices.Output{}
	for _, out := range c.outputs {
		all[out.name] = out
	}
	return all
}

// Run sets the chip up, and works it until ctx ends or it fails.
func (c *source) Run(ctx context.Context, feed *devices.Feed) error {
	levels := map[string]bool{}
	c.latch = 0
	for _, out := range c.outputs {
		level, err := out.Start()
		if err != nil {
			return err
		}
		levels[out.name] = level
		if level != out.activeLow {
			c.latch |= 1 << out.line
		}
	}
	if err := c.setUp(ctx); err != nil {
		return fmt.Errorf("set up the MCP23017: %w", err)
	}
	// The outputs go to their fail-safe levels while the bus still works.
	work, stop := context.WithCancel(ctx)
	defer stop()
	var done sync.WaitGroup
	failed := make(chan error, len(c.outputs)+1)
	for _, out := range c.outputs {
		done.Go(func() {
			err := out.Run(work, levels[out.name], driven{c, out},
				func(level bool) { _ = c.tell(feed, out.name, level) })
			if err != nil {
				failed <- fmt.Errorf("drive %s: %w", out.name, err)
			}
		})
	}
	err := c.poll(work, feed, failed)
	stop()
	done.Wait()
	if err == nil {
		select {
		case err = <-failed:
		default:
		}
	}
	return err
}

func (c *source) tell(feed *devices.Feed, name string, level bool) error {
	return feed.PutEach(time.Now(), devices.Reading{Name: name, Value: devices.Level(level)})
}

func (c *source) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.timeout)
}

func (c *source) directions() uint16 {
	inputs := uint16(0xffff)
	for _, out := range c.outputs {
		inputs &^= 1 << out.line
	}
	return inputs
}

func (c *source) setUp(ctx context.Context) error {
	ctx, cancel := c.limit(ctx)
	defer cancel()
	for _, r := range []struct {
		reg   byte
		value uint16
	}{{regLatch, c.latch}, {regPullUp, c.pullUp}, {regPolarity, 0}, {regDirection, c.directions()}} {
		if err := c.write(ctx, r.reg, r.value); err != nil {
			return err
		}
	}
	return nil
}

func (c *source) write(ctx context.Context, reg byte, v uint16) error {
	return c.port.Tx(ctx, []byte{reg, byte(v), byte(v >> 8)}, nil)
}

func (c *source) read(ctx context.Context, reg byte) (uint16, error) {
	var b [2]byte
	err := c.port.Tx(ctx, []byte{reg}, b[:])
	return binary.LittleEndian.Uint16(b[:]), err
}

// driven is an output as its switch sees it.
type driven struct {
	chip   *source
	output output
}

func (d driven) Set(level bool) error { return d.chip.drive(d.output, level) }

// Check does nothing: that the chip is there is checked for all lines together.
func (d driven) Check() error { return nil }

// drive writes the latch with one line changed.
func (c *source) drive(out output, level bool) error {
	ctx, cancel := c.limit(context.Background())
	defer cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	latch := c.latch &^ (1 << out.line)
	if level != out.activeLow {
		latch |= 1 << out.line
	}
	if err := c.write(ctx, regLatch, latch); err != nil {
		return err
	}
	c.latch = latch
	return nil
}

// poll reads the inputs every interval, tells those that have changed, and
// checks that the chip is what it was made.
func (c *source) poll(ctx context.Context, feed *devices.Feed, failed <-chan error) error {
	tick := time.NewTicker(c.interval)
	defer tick.Stop()
	var last uint16
	for first := true; ; first = false {
		levels, err := c.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the MCP23017: %w", err)
		}
		feed.Online()
		for _, in := range c.inputs {
			if bit := uint16(1) << in.line; first || (levels^last)&bit != 0 {
				if err := c.tell(feed, in.name, (levels&bit != 0) != in.activeLow); err != nil {
					return err
				}
			}
		}
		last = levels
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-tick.C:
		}
	}
}

func (c *source) look(ctx context.Context) (levels uint16, err error) {
	ctx, cancel := c.limit(ctx)
	defer cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	if levels, err = c.read(ctx, regLevel); err != nil {
		return 0, err
	}
	for _, want := range []struct { // after the levels, which are wrong without a pull-up
		reg   byte
		value uint16
	}{{regDirection, c.directions()}, {regPullUp, c.pullUp}, {regLatch, c.latch}} {
		v, err := c.read(ctx, want.reg)
		if err != nil {
			return 0, err
		}
		if v != want.value {
			return 0, errors.New("it has lost its settings; was its supply interrupted?")
		}
	}
	return levels, nil
}
