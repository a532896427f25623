package devices

import (
	"context"
	"fmt"

	"holdfast/gateway/config"
)

// OneWire is a 1-Wire bus with thermometers on it.
type OneWire interface {
	// Convert has the device with the given id (28-0316a2795a1b as the kernel
	// writes it) measure, and returns its scratchpad.
	Convert(id string) ([9]byte, error)
	// Devices returns the ids of the devices that answer.
	Devices() ([]string, error)
}

// OneWirePort is a device on a 1-Wire bus.
type OneWirePort struct {
	lane *oneWireLane
	id   string
}

// oneWireLane is a 1-Wire bus; one goroutine does all that is done on it.
type oneWireLane struct {
	lane
	bus OneWire
}

// OneWire returns the port of the device with the id at a 1-Wire bus: w1 for
// those of the kernel, or sim:NAME.
func (w *Wiring) OneWire(s *config.Section, bus, id string) (*OneWirePort, error) {
	b, err := w.buses.OneWire(bus)
	if err != nil {
		return nil, s.Errorf("bus", "%v", err)
	}
	if other, taken := w.taken[bus+" "+id]; taken {
		return nil, s.Errorf("id", "%s is %s already", id, other)
	}
	w.taken[bus+" "+id], w.bus[s.Name()] = s.Name(), bus
	l := w.oneWire[bus]
	if l == nil {
		l = &oneWireLane{newLane(bus), b}
		w.oneWire[bus] = l
	}
	return &OneWirePort{l, id}, nil
}

// Convert measures and returns the scratchpad of the device.
func (p *OneWirePort) Convert(ctx context.Context) (pad [9]byte, err error) {
	result := make(chan [9]byte, 1)
	err = p.lane.do(ctx, fmt.Sprintf("%s on bus %s", p.id, p.lane.name), func() error {
		pad, err := p.lane.bus.Convert(p.id)
		result <- pad
		return err
	})
	if err == nil {
		pad = <-result
	}
	return pad, err
}
