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
	"sync"
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
		period: time.Duration(float64(time.Second) / set.Frequency),
	}, nil
}

type source struct {
	lines    gpio.Lines
	chip     string
	channel  int
	period   time.Duration
	failSafe float64

	mu     sync.Mutex
	feed   *devices.Feed // nil unless it runs
	port   gpio.PWM
	failed chan error
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

// Do drives a share.
func (p *source) Do(_ context.Context, o devices.Order) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.feed == nil {
		return errors.New("the device is offline")
	}
	return p.drive(o.Value)
}

func (p *source) drive(duty float64) error {
	if err := p.port.Set(p.period, duty); err != nil {
		select {
		case p.failed <- err:
		default:
		}
		return err
	}
	return p.feed.PutEach(time.Now(), devices.Reading{Name: "duty", Unit: "/", Value: duty})
}

// Run holds the channel until ctx ends.
func (p *source) Run(ctx context.Context, feed *devices.Feed) error {
	port, err := p.lines.PWM(p.chip, p.channel)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.port, p.feed, p.failed = port, feed, make(chan error, 1)
	err = p.drive(p.failSafe)
	p.mu.Unlock()
	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-p.failed:
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.feed = nil
	if err != nil {
		return fmt.Errorf("drive channel %d of %s: %w", p.channel, p.chip, err)
	}
	if p.failSafe > 0 {
		return port.Set(p.period, p.failSafe) // stays on
	}
	return errors.Join(port.Set(p.period, 0), port.Close())
}
