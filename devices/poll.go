package devices

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/gateway/config"
)

// Polling are the settings of every device that is read every so often. A
// driver embeds them in its own settings, with [Every] as their defaults.
type Polling struct {
	Interval config.Duration `config:"interval,min=10ms,max=24h"` // from reading to reading
	Timeout  config.Duration `config:"timeout,min=10ms,max=5m"`   // for one reading
}

// Every returns the defaults of a device that is read once per interval. The
// timeout is above the 2 to 3 s for which the kernel lets a stuck device hold
// a bus, so that its neighbours are late but do not fail.
func Every(interval time.Duration) Polling {
	return Polling{config.Duration(interval), config.Duration(5 * time.Second)}
}

// Opener finds a sensor and sets it up. [I2CPort.Opener] makes one for I²C.
type Opener func(ctx context.Context) (Sensor, error)

// Poll returns the source that opens a sensor and reads it at once, then at
// every interval. A reading that takes longer than the interval delays the
// next one to the interval after; those left out are counted. The quantities
// are what the sensor measures.
func Poll(p Polling, open Opener, quantities ...Quantity) Source {
	return &poll{p.Interval.Std(), p.Timeout.Std(), open, quantities}
}

type poll struct {
	interval, timeout time.Duration
	open              Opener
	quantities        []Quantity
}

func (p *poll) Quantities() []Quantity { return p.quantities }

func (p *poll) Run(ctx context.Context, feed *Feed) error {
	sensor, err := p.start(ctx)
	if err != nil {
		return err
	}
	for due := time.Now(); ; {
		if err := p.read(ctx, sensor, feed); err != nil {
			return err
		}
		due = due.Add(p.interval)
		if late := time.Since(due); late > 0 {
			left := late/p.interval + 1
			feed.overrun(uint64(left))
			due = due.Add(left * p.interval)
		}
		if !sleep(ctx, time.Until(due)) {
			return nil
		}
	}
}

func (p *poll) start(ctx context.Context) (Sensor, error) {
	ctx, cancel := p.limit(ctx)
	defer cancel()
	return p.open(ctx)
}

func (p *poll) read(ctx context.Context, sensor Sensor, feed *Feed) error {
	ctx, cancel := p.limit(ctx)
	defer cancel()
	readings, err := sensor.Read(ctx)
	if err != nil {
		return err
	}
	if len(readings) == 0 {
		return errors.New("the device gave no reading")
	}
	return feed.Put(time.Now(), readings...)
}

func (p *poll) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, p.timeout, fmt.Errorf("not done within %v", config.Duration(p.timeout)))
}

// Wait returns nil when d has passed, as a chip needs it to measure, or why ctx
// ended before.
func Wait(ctx context.Context, d time.Duration) error {
	if !sleep(ctx, d) {
		return context.Cause(ctx)
	}
	return nil
}
