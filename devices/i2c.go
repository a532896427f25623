package devices

import (
	"context"
	"fmt"
	"strconv"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"

	"holdfast/gateway/config"
)

// I2C are the settings of every device on an I²C bus. A driver embeds them in
// its own settings, with the chip's usual address as the default.
type I2C struct {
	Bus     string  `config:"bus,required"` // 1, /dev/i2c-1 or sim:NAME
	Address Address `config:"address"`
}

// Address is a 7-bit I²C address, written as 0x76 or 118.
type Address uint16

// UnmarshalText reads an address that a device may have: 0x00 to 0x07 and 0x78
// to 0x7f are reserved by the I²C specification.
func (a *Address) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 0, 16)
	if err != nil {
		return fmt.Errorf("%q is not an I²C address; write one such as 0x76", text)
	}
	if n < 0x08 || n > 0x77 {
		return fmt.Errorf("%s is not an address that a device can have; they go from 0x08 to 0x77", text)
	}
	*a = Address(n)
	return nil
}

// String formats the address as in 0x76.
func (a Address) String() string { return fmt.Sprintf("0x%02x", uint16(a)) }

// I2CPort is one address on a bus.
type I2CPort struct {
	bus  *i2cBus
	addr Address
}

// I2C returns the port that the settings name; s is where they stand. Nothing
// is opened yet. The error has the position of the bus that cannot be one, of
// the address that is missing or that another device has already.
func (w *Wiring) I2C(s *config.Section, set I2C) (*I2CPort, error) {
	name, err := w.buses.ResolveI2C(set.Bus)
	if err != nil {
		return nil, s.Errorf("bus", "%v", err)
	}
	if set.Address == 0 {
		return nil, s.Errorf("", "the required key %q is missing", "address")
	}
	at := fmt.Sprintf("%s %v", name, set.Address)
	if other, taken := w.taken[at]; taken {
		return nil, s.Errorf("address", "%v on bus %s is %s already", set.Address, name, other)
	}
	w.taken[at] = s.Name()
	bus := w.i2c[name]
	if bus == nil {
		open := func() (i2c.BusCloser, error) { return w.buses.I2C(name) }
		bus = &i2cBus{name: name, open: open, transfers: make(chan *transfer)}
		w.i2c[name] = bus
	}
	return &I2CPort{bus, set.Address}, nil
}

// Opener returns an [Opener] for a sensor at the port. open sets the chip up
// through d. d may be used by one goroutine at a time, only while open or Read
// is running: its transfers fail once the time for that is over, so that even
// a driver that waits for a chip without end comes to one.
func (p *I2CPort) Opener(open func(d *i2c.Dev) (Sensor, error)) Opener {
	return func(ctx context.Context) (Sensor, error) {
		b := &boundBus{p.bus, ctx}
		sensor, err := open(&i2c.Dev{Bus: b, Addr: uint16(p.addr)})
		if err != nil {
			return nil, err
		}
		return &boundSensor{sensor, b}, nil
	}
}

// boundBus is a bus that works until a context ends. periph's interfaces carry
// none, and the one that counts changes from reading to reading.
type boundBus struct {
	bus *i2cBus
	ctx context.Context
}

func (b *boundBus) String() string                    { return b.bus.name }
func (b *boundBus) Tx(addr uint16, w, r []byte) error { return b.bus.tx(b.ctx, addr, w, r) }
func (b *boundBus) SetSpeed(physic.Frequency) error {
	return fmt.Errorf("bus %s: the speed cannot be changed", b.bus.name)
}

type boundSensor struct {
	sensor Sensor
	bus    *boundBus
}

func (s *boundSensor) Read(ctx context.Context) ([]Reading, error) {
	s.bus.ctx = ctx
	return s.sensor.Read(ctx)
}

// reopenAfter failures in a row, the adapter is taken for gone.
const reopenAfter = 3

// i2cBus is a bus that its devices share. One goroutine does all transfers: a
// device that holds the bus blocks that goroutine, not those that wait for it
// to be done with. The bus is open from the first transfer on, and opened anew
// after failures, since a USB adapter may have been plugged in again.
type i2cBus struct {
	name      string
	open      func() (i2c.BusCloser, error)
	transfers chan *transfer
}

type transfer struct {
	addr uint16
	w, r []byte // not the caller's, who may have gone
	done chan error
}

// tx waits for its turn and the transfer, at most until ctx ends.
func (b *i2cBus) tx(ctx context.Context, addr uint16, w, r []byte) error {
	buf := make([]byte, len(w)+len(r))
	copy(buf, w)
	t := &transfer{addr, buf[:len(w):len(w)], buf[len(w):], make(chan error, 1)}
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("address %v on bus %s: %w", Address(addr), b.name, err)
	}
	select {
	case b.transfers <- t:
	case <-ctx.Done():
		return fmt.Errorf("bus %s is busy, another device may be holding it: %w", b.name, context.Cause(ctx))
	}
	select {
	case err := <-t.done:
		copy(r, t.r)
		return err
	case <-ctx.Done():
		return fmt.Errorf("address %v on bus %s does not answer: %w", Address(addr), b.name, context.Cause(ctx))
	}
}

// run does transfers until ctx ends, then closes the bus.
func (b *i2cBus) run(ctx context.Context) {
	var bus i2c.BusCloser
	shut := func() {
		if bus != nil {
			_ = bus.Close() // nothing was buffered
			bus = nil
		}
	}
	defer shut()
	for failures := 0; ; {
		var t *transfer
		select {
		case <-ctx.Done():
			return
		case t = <-b.transfers:
		}
		var err error
		if bus == nil {
			bus, err = b.open()
		}
		if err == nil {
			err = bus.Tx(t.addr, t.w, t.r)
		}
		if failures++; err == nil {
			failures = 0
		}
		if failures >= reopenAfter {
			failures = 0
			shut()
		}
		t.done <- err
	}
}
