package devices

import (
	"context"
	"errors"
	"fmt"
)

// bound is what the transfers of a sensor have in common: they work until a
// context ends. periph's interfaces carry none, and the one that counts changes
// from reading to reading.
type bound struct {
	ctx context.Context
	err error // of the last transfer
}

// opener returns an [Opener] whose sensor does its transfers within the time of
// open, and later of each reading.
func opener(open func(b *bound) (Sensor, error)) Opener {
	return func(ctx context.Context) (Sensor, error) {
		b := &bound{ctx: ctx}
		sensor, err := open(b)
		if err != nil {
			return nil, b.explain(err)
		}
		return &boundSensor{sensor, b}, nil
	}
}

// explain adds to the error of a driver why its last transfer failed, which
// some keep to themselves.
func (b *bound) explain(err error) error {
	if err == nil || b.err == nil || errors.Is(err, b.err) {
		return err
	}
	return fmt.Errorf("%w: %w", err, b.err)
}

type boundSensor struct {
	sensor Sensor
	bound  *bound
}

func (s *boundSensor) Read(ctx context.Context) ([]Reading, error) {
	s.bound.ctx, s.bound.err = ctx, nil
	readings, err := s.sensor.Read(ctx)
	return readings, s.bound.explain(err)
}
