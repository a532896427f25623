// Package pwm drives a channel of a pulse width chip of the kernel, such as a
// valve, a fan or a dimmer, as commands on the topic devices/NAME/set tell it: 0
// for off, 1 for on, or any share between.
//
//	reading  unit  values
//	duty     /     0 … 1
package pwm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/devices"
	"holdfast/devices/gpio"
	"holdfast/gateway/config"
)

// Driver is the entry in the list of drivers.
var Driver = devices.Driver{
	Name: "pwm",
	Doc:  "Drives a pulse width output, such as a fan or a dimmer, by commands on devices/NAME/set.",
	Sample: `chip: pwmchip0
channel: 0
frequency: 1000        # Hz
fail_safe: 0           # share at the start and at the end
`,
	New: newSource,
}

func newSource(s *config.Section, w *devices.Wiring) (devices.Source, error) {
	set := struct {
		Chip      string  `config:"chip"`
		Channel   int     `config:"channel,min=0,max=63"`
		Frequency float64 `config:"frequency,min=0.1,max=1000000"`
		FailSafe  float64 `config:"fail_safe,min=0,max=1"`
	}{Chip: "pwmchip0", Frequency: 1000}
	if err := s.Decode(&set); err != nil {
		return nil, err
	}
	if _, err := w.Line(s, "channel", devices.Line{Chip: set.Chip, Line: fmt.Sprintf("pwm%d", set.Channel)}); err != nil {
		return nil, err
	}
	return &source{
		lines: w.Lines(), chip: set.Chip, channel: set.Channel, failSafe: set.FailSafe,
		period: time.Duration(float64(time.Second) / set.Frequency), orders: make(chan request),
	}, nil
}

type source struct {
	lines    gpio.Lines
	chip     string
	channel  int
	period   time.Duration
	failSafe float64

	orders chan request
}

type request struct {
	duty float64
	done chan error
}

func (p *source) Quantities() []devices.Quantity {
	return []devices.Quantity{{Name: "duty", Unit: "/", Low: 0, High: 1}}
}

func (p *source) Outputs() map[string]devices.Output { return map[string]devices.Output{"": p} }

// Parse takes any share.
func (p *source) Parse(o *devices.Order) error {
	if o.For > 0 || o.Blink > 0 {
		return errors.New("a pulse width output does not pulse or blink")
	}
	return nil
}

// Do has a share driven by Run, for which it waits until the deadline.
func (p *source) Do(ctx context.Context, o devices.Order) error {
	r := request{o.Value, make(chan error, 1)}
	late := time.NewTimer(time.Until(o.Deadline))
	defer late.Stop()
	select {
	case p.orders <- r:
		return <-r.done
	case <-late.C:
		return errors.New("the device is offline")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run holds the channel until ctx ends.
func (p *source) Run(ctx context.Context, feed *devices.Feed) error {
	port, err := p.lines.PWM(p.chip, p.channel)
	if err != nil {
		return err
	}
	drive := func(duty float64) error {
		if err := port.Set(p.period, duty); err != nil {
			return fmt.Errorf("drive channel %d of %s: %w", p.channel, p.chip, err)
		}
		return feed.PutEach(time.Now(), devices.Reading{Name: "duty", Unit: "/", Value: duty})
	}
	if err := drive(p.failSafe); err != nil {
		return err
	}
	for {
		select {
		case r := <-p.orders:
			err := drive(r.duty)
			r.done <- err
			if err != nil {
				return err
			}
			continue
		case <-ctx.Done():
		}
		err := port.Set(p.period, p.failSafe)
		if p.failSafe == 0 { // else it stays on
			err = errors.Join(err, port.Close())
		}
		return err
	}
}
