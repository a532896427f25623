// Package input reads a GPIO line: its level at the start and each change of it.
//
//	reading  unit  values
//	level          0, 1
//
// An event has the time that the kernel gave the edge. Each edge is an event;
// what was lost on the way, because there were too many at once, is counted in
// the status of the device, and the level is read anew.
package input

import (
	"context"
	"time"

	"holdfast/devices"
	"holdfast/devices/gpio"
	"holdfast/gateway/config"
)

// Driver is the entry in the list of drivers.
var Driver = devices.Driver{
	Name: "input",
	Doc:  "Reads a GPIO line, such as a door contact: its level and each change.",
	Sample: `chip: gpiochip0
line: 27               # or the name of the line, such as GPIO27
pull: up               # or down, none
active_low: true
debounce: 20ms         # shorter changes are no edges
edges: both            # or rising, falling
interval: 0s           # tell the level again so often; 0s for changes only
`,
	New: newSource,
}

func newSource(s *config.Section, w *devices.Wiring) (devices.Source, error) {
	set := struct {
		devices.Line
		devices.InputLine
		Edges    string          `config:"edges,oneof=both|rising|falling"`
		Interval config.Duration `config:"interval,max=24h"`
	}{Edges: "both"}
	if err := s.Decode(&set); err != nil {
		return nil, err
	}
	line, err := w.Line(s, "line", set.Line)
	if err != nil {
		return nil, err
	}
	return &source{w.Lines(), line, set.Config(gpio.Edges(set.Edges)), set.Interval.Std()}, nil
}

type source struct {
	lines    gpio.Lines
	line     gpio.Ref
	config   gpio.InputConfig
	interval time.Duration
}

func (in *source) Quantities() []devices.Quantity {
	return []devices.Quantity{{Name: "level", Edges: true}}
}

// Run reads the line until ctx ends or its chip has gone.
func (in *source) Run(ctx context.Context, feed *devices.Feed) error {
	put := func(at time.Time, level bool) error {
		return feed.PutEach(at, devices.Reading{Name: "level", Value: devices.Level(level)})
	}
	return devices.Watch(ctx, feed, in.lines, []gpio.Ref{in.line}, in.config, in.interval,
		func(at time.Time, levels []bool) error { return put(at, levels[0]) },
		func(at time.Time, edges []gpio.Edge, lost uint64, lines gpio.Inputs) error {
			for _, e := range edges {
				if err := put(e.At, e.Rising); err != nil {
					return err
				}
			}
			if len(edges) > 0 && lost == 0 {
				return nil
			}
			levels, err := lines.Levels()
			if err != nil {
				return err
			}
			return put(at, levels[0])
		})
}
