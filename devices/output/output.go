// Package output drives a GPIO line, such as that of a relay, as commands on
// the topic devices/NAME/set tell it.
//
//	reading  unit  values
//	state          0, 1
//
// The line has its level from the moment on that it becomes an output. It is
// never read back: the state is what was driven.
package output

import (
	"context"
	"fmt"
	"time"

	"holdfast/devices"
	"holdfast/devices/gpio"
	"holdfast/devices/switching"
	"holdfast/gateway/config"
)

// Driver is the entry in the list of drivers.
var Driver = devices.Driver{
	Name: "output",
	Doc:  "Drives a GPIO line, such as a relay, by commands on devices/NAME/set.",
	Sample: `chip: gpiochip0
line: 17               # or the name of the line, such as GPIO17
active_low: false
drive: push_pull       # or open_drain, open_source
fail_safe: off         # at the start, at the end, and when nobody is in charge
fail_safe_after: 0s    # without a command; 0s for never
restore: none          # last: at the start the level last commanded
min_on: 0s
min_off: 0s
`,
	New: newSource,
}

func newSource(s *config.Section, w *devices.Wiring) (devices.Source, error) {
	set := struct {
		devices.Line
		switching.Settings
		ActiveLow bool   `config:"active_low"`
		Drive     string `config:"drive,oneof=push_pull|open_drain|open_source"`
	}{Settings: switching.Defaults()}
	if err := s.Decode(&set); err != nil {
		return nil, err
	}
	line, err := w.Line(s, "line", set.Line)
	if err != nil {
		return nil, err
	}
	sw, err := switching.New(s, w, s.Name(), set.Settings)
	if err != nil {
		return nil, err
	}
	c := gpio.OutputConfig{ActiveLow: set.ActiveLow}
	if set.Drive != "push_pull" {
		c.Drive = gpio.Drive(set.Drive)
	}
	return &source{w.Lines(), line, c, sw}, nil
}

type source struct {
	lines  gpio.Lines
	line   gpio.Ref
	config gpio.OutputConfig
	sw     *switching.Switch
}

func (o *source) Quantities() []devices.Quantity { return []devices.Quantity{{Name: "state"}} }

func (o *source) Outputs() map[string]devices.Output { return map[string]devices.Output{"": o.sw} }

// Run drives the line until ctx ends, then to its fail-safe level.
func (o *source) Run(ctx context.Context, feed *devices.Feed) error {
	level, err := o.sw.Start()
	if err != nil {
		return err
	}
	c := o.config
	c.Initial = level
	line, err := o.lines.Output(o.line, c)
	if err != nil {
		return err
	}
	defer line.Close()
	err = o.sw.Run(ctx, c.Initial, line, func(level bool) {
		_ = feed.PutEach(time.Now(), devices.Reading{Name: "state", Value: devices.Level(level)}) // a valid reading
	})
	if err != nil {
		return fmt.Errorf("drive line %v: %w", o.line, err)
	}
	return nil
}
