// Package encoder follows a rotary or linear encoder with two tracks in
// quadrature at two GPIO lines of one chip.
//
//	reading   unit    values
//	position  as set  steps × per_step, four steps a period of the tracks
//	speed     unit/s  over the interval
//
// A becomes 1 before B when it goes forward. The position survives a restart; what
// is moved meanwhile is not known. Steps that nobody took in time, and changes that
// cannot be, are counted as lost in the status of the device.
package encoder

import (
	"context"
	"time"

	"holdfast/devices"
	"holdfast/devices/gpio"
	"holdfast/gateway/config"
)

// Driver is the entry in the list of drivers.
var Driver = devices.Driver{
	Name: "encoder",
	Doc:  "Follows the position of an encoder with two tracks in quadrature at two GPIO lines.",
	Sample: `chip: gpiochip0
a: 5
b: 6
pull: up
interval: 100ms
per_step: 0.9          # what a step stands for
unit: deg
`,
	New: newSource,
}

func newSource(s *config.Section, w *devices.Wiring) (devices.Source, error) {
	set := struct {
		devices.InputLine
		Chip     string          `config:"chip"`
		A        string          `config:"a,required"`
		B        string          `config:"b,required"`
		Interval config.Duration `config:"interval,min=10ms,max=24h"`
		PerStep  float64         `config:"per_step"`
		Unit     string          `config:"unit"`
	}{Interval: config.Duration(100 * time.Millisecond), PerStep: 1}
	if err := s.Decode(&set); err != nil {
		return nil, err
	}
	a, err := w.Line(s, "a", devices.Line{Chip: set.Chip, Line: set.A})
	if err != nil {
		return nil, err
	}
	b, err := w.Line(s, "b", devices.Line{Chip: set.Chip, Line: set.B})
	if err != nil {
		return nil, err
	}
	return &source{
		w.Lines(), []gpio.Ref{a, b}, set.Config(gpio.Both), set.Interval.Std(), set.PerStep, set.Unit,
		devices.Keep[int64](w.Memory(), "encoder-"+s.Name()),
	}, nil
}

type source struct {
	lines    gpio.Lines
	refs     []gpio.Ref
	config   gpio.InputConfig
	interval time.Duration
	perStep  float64
	unit     string
	position *devices.Kept[int64]
}

func (e *source) Quantities() []devices.Quantity {
	return []devices.Quantity{{Name: "position", Unit: e.unit}, {Name: "speed", Unit: e.speedUnit()}}
}

func (e *source) speedUnit() string {
	if e.unit == "" {
		return "1/s"
	}
	return e.unit + "/s"
}

// Run follows the encoder until ctx ends or the chip of the lines has gone.
func (e *source) Run(ctx context.Context, feed *devices.Feed) error {
	if err := e.position.Load(); err != nil {
		return err
	}
	defer e.position.Save(feed)
	var at tracks
	told, when := e.position.Value, time.Time{}
	resting := false // and told so
	put := func(now time.Time) error {
		speed := 0.0
		if !when.IsZero() && now.After(when) {
			speed = float64(e.position.Value-told) * e.perStep / now.Sub(when).Seconds()
		}
		told, when = e.position.Value, now
		return feed.Put(now,
			devices.Reading{Name: "position", Unit: e.unit, Value: devices.Round(float64(e.position.Value)*e.perStep, 9)},
			devices.Reading{Name: "speed", Unit: e.speedUnit(), Value: devices.Round(speed, 6)})
	}
	return devices.Watch(ctx, feed, e.lines, e.refs, e.config, e.interval,
		func(now time.Time, levels []bool) error {
			copy(at[:], levels)
			return put(now)
		},
		func(now time.Time, edges []gpio.Edge, lost uint64, in gpio.Inputs) error {
			for _, edge := range edges {
				step := at.change(edge.Line, edge.Rising)
				if step == 0 {
					feed.Lost(1)
				}
				e.position.Value += step
			}
			if lost > 0 {
				levels, err := in.Levels()
				if err != nil {
					return err
				}
				copy(at[:], levels)
			}
			if now.Sub(when) < e.interval && ctx.Err() == nil {
				return nil
			}
			if e.position.Value == told && len(edges) == 0 && resting {
				return nil
			}
			resting = e.position.Value == told
			if err := put(now); err != nil {
				return err
			}
			if resting || ctx.Err() != nil {
				e.position.Save(feed)
			}
			return nil
		})
}

// tracks are the levels of A and B.
type tracks [2]bool

// change takes an edge of a track, and returns the step: 1 forward, -1 back, and 0
// for an edge that cannot be, since the track had that level already.
func (t *tracks) change(track int, level bool) int64 {
	if t[track] == level {
		return 0
	}
	t[track] = level
	// After a change of A going forward A differs from B, after one of B it
	// does not.
	if (t[0] != t[1]) == (track == 0) {
		return 1
	}
	return -1
}
