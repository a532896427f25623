// Package counter counts the pulses of a GPIO line, such as those of a water or
// power meter, a flow sensor or a fan.
//
//	reading    unit         values
//	total      as set       pulses × per_pulse, since the counter was first configured
//	frequency  Hz           of the pulses within the interval, by the kernel's times
//	duty       /            share of the time that the line is 1, with duty: true
//
// The total survives a restart: it is on disk with each interval and at the end. Pulses
// while nobody counts are not in it; those of the last interval are not if the
// gateway is killed. Edges that the kernel gave a number and that nobody took in
// time are in the total, and are told as lost in the status of the device.
package counter

import (
	"context"
	"time"

	"holdfast/devices"
	"holdfast/devices/gpio"
	"holdfast/gateway/config"
)

// Driver is the entry in the list of drivers.
var Driver = devices.Driver{
	Name: "counter",
	Doc:  "Counts the pulses of a GPIO line, such as a meter, and measures their frequency and duty cycle.",
	Sample: `chip: gpiochip0
line: 22
pull: up
debounce: 1ms
interval: 10s
per_pulse: 0.001       # what a pulse stands for
unit: m3
duty: false            # true: measure the duty cycle too
`,
	New: newSource,
}

func newSource(s *config.Section, w *devices.Wiring) (devices.Source, error) {
	set := struct {
		devices.Line
		devices.InputLine
		Interval config.Duration `config:"interval,min=10ms,max=24h"`
		PerPulse float64         `config:"per_pulse"`
		Unit     string          `config:"unit"`
		Duty     bool            `config:"duty"`
	}{Interval: config.Duration(10 * time.Second), PerPulse: 1}
	if err := s.Decode(&set); err != nil {
		return nil, err
	}
	line, err := w.Line(s, "line", set.Line)
	if err != nil {
		return nil, err
	}
	c := &source{
		lines: w.Lines(), line: line, config: set.Config(gpio.Rising), interval: set.Interval.Std(),
		perPulse: set.PerPulse, unit: set.Unit, total: devices.Keep[uint64](w.Memory(), "counter-"+s.Name()),
	}
	if set.Duty {
		c.config.Edges = gpio.Both
	}
	return c, nil
}

type source struct {
	lines    gpio.Lines
	line     gpio.Ref
	config   gpio.InputConfig
	interval time.Duration
	perPulse float64
	unit     string
	total    *devices.Kept[uint64]
}

func (c *source) Quantities() []devices.Quantity {
	all := []devices.Quantity{{Name: "total", Unit: c.unit}, {Name: "frequency", Unit: "Hz"}}
	if c.config.Edges == gpio.Both {
		all = append(all, devices.Quantity{Name: "duty", Unit: "/", Low: 0, High: 1})
	}
	return all
}

// Run counts until ctx ends or the chip of the line has gone.
func (c *source) Run(ctx context.Context, feed *devices.Feed) error {
	if err := c.total.Load(); err != nil {
		return err
	}
	defer c.total.Save(feed)
	var m meter
	put := func(at time.Time) error {
		readings := []devices.Reading{
			{Name: "total", Unit: c.unit, Value: devices.Round(float64(c.total.Value)*c.perPulse, 9)},
			{Name: "frequency", Unit: "Hz", Value: devices.Round(m.frequency(), 6)},
		}
		if c.config.Edges == gpio.Both {
			readings = append(readings, devices.Reading{Name: "duty", Unit: "/", Value: devices.Round(m.duty(), 6)})
		}
		return feed.Put(at, readings...)
	}
	due := time.Time{}
	return devices.Watch(ctx, feed, c.lines, []gpio.Ref{c.line}, c.config, c.interval,
		func(at time.Time, levels []bool) error {
			m.level = levels[0]
			due = at.Add(c.interval)
			return put(at)
		},
		func(at time.Time, edges []gpio.Edge, lost uint64, _ gpio.Inputs) error {
			for _, e := range edges {
				if e.Rising {
					c.total.Value++
				}
				m.edge(e)
			}
			if lost > 0 {
				m.broken()
				if c.config.Edges == gpio.Both {
					lost = (lost + 1) / 2 // every second one was a pulse
				}
				c.total.Value += lost
			}
			if at.Before(due) && ctx.Err() == nil {
				return nil
			}
			due = due.Add(at.Sub(due)/c.interval*c.interval + c.interval)
			if err := put(at); err != nil {
				return err
			}
			m.restart()
			c.total.Save(feed)
			return nil
		})
}

// meter measures within an interval by the kernel's times.
type meter struct {
	level       bool
	pulses      int           // since first
	first, last time.Duration // of rising edges
	any         bool          // first is one
	high, low   time.Duration
	changed     time.Duration // last edge of any kind
	known       bool          // changed is one
	quiet       bool          // nothing came in the interval
}

func (m *meter) edge(e gpio.Edge) {
	if m.known {
		if e.Rising {
			m.low += e.Stamp - m.changed
		} else {
			m.high += e.Stamp - m.changed
		}
	}
	m.changed, m.known, m.level, m.quiet = e.Stamp, true, e.Rising, false
	if !e.Rising {
		return
	}
	if !m.any {
		m.first, m.any = e.Stamp, true
	} else {
		m.pulses++
	}
	m.last = e.Stamp
}

// broken forgets what cannot be told after edges were lost.
func (m *meter) broken() { m.any, m.pulses, m.high, m.low, m.known = false, 0, 0, 0, false }

func (m *meter) frequency() float64 {
	if m.pulses == 0 || m.last == m.first {
		return 0
	}
	return float64(m.pulses) / (m.last - m.first).Seconds()
}

func (m *meter) duty() float64 {
	if m.high+m.low == 0 {
		return devices.Level(m.level)
	}
	return float64(m.high) / float64(m.high+m.low)
}

// restart begins a new interval at the last pulse, so that none is left out
// between two. A line on which nothing came for an interval has stopped.
func (m *meter) restart() {
	if m.quiet {
		m.any = false
	}
	m.quiet = true
	m.first, m.pulses, m.high, m.low = m.last, 0, 0, 0
}
