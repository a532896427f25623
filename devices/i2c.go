package devices

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"

	"holdfast/gateway/config"
)

// I2C are the settings of every device on an I²C bus. A driver embeds them in
// its own settings, with the chip's usual address as the default.
type I2C struct {
	Bus     string  `config:"bus,required"` // 1, /dev/i2c-1 or sim:NAME; behind a multiplexer 1/0x70:3
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

// Between reports a mistake at the address unless it is one of those that the
// chip can be wired to.
func (set I2C) Between(s *config.Section, chip string, low, high Address) error {
	if set.Address != 0 && (set.Address < low || set.Address > high) {
		return s.Errorf("address", "a %s is at %v to %v, not at %v", chip, low, high, set.Address)
	}
	return nil
}

// I2CPort is one address on a bus.
type I2CPort struct {
	bus  *i2cBus
	hops []hop
	addr Address
}

// I2C returns the port that the settings name; s is where they stand. Nothing
// is opened yet. The error has the position of the bus that cannot be one, of
// the address that is missing or that another device has already.
func (w *Wiring) I2C(s *config.Section, set I2C) (*I2CPort, error) {
	if IsSPI(set.Bus) {
		return nil, s.Errorf("bus", "%s is an SPI bus, which this device is not read over; name an I²C bus such as /dev/i2c-1", set.Bus)
	}
	root, hops, err := cutHops(set.Bus)
	if err != nil {
		return nil, s.Errorf("bus", "%v", err)
	}
	name, err := w.buses.ResolveI2C(root)
	if err != nil {
		return nil, s.Errorf("bus", "%v", err)
	}
	if set.Address == 0 {
		return nil, s.Errorf("", "the required key %q is missing", "address")
	}
	if err := w.take(set.Address, name, hops, s.Name()); err != nil {
		return nil, s.Errorf("address", "%v", err)
	}
	w.bus[s.Name()] = name
	bus := w.i2c[name]
	if bus == nil {
		open := func() (i2c.BusCloser, error) { return w.buses.I2C(name) }
		bus = &i2cBus{lane: newLane(name), open: open}
		w.i2c[name] = bus
	}
	if len(hops) > 0 && !slices.Contains(bus.muxes, hops[0].addr) {
		bus.muxes = append(bus.muxes, hops[0].addr)
	}
	return &I2CPort{bus, hops, set.Address}, nil
}

// take gives the address at the end of the hops to a device. What is on the
// way to a channel answers beside the channel itself, so that an address there
// must not be used again behind it.
func (w *Wiring) take(addr Address, bus string, hops []hop, device string) error {
	place := func(addr Address, n int) string { return fmt.Sprintf("%v on bus %s", addr, pathName(bus, hops[:n])) }
	here := place(addr, len(hops))
	for i := range len(hops) + 1 {
		if other, taken := w.taken[place(addr, i)]; taken {
			return fmt.Errorf("%s is %s already", place(addr, i), other)
		}
		if i < len(hops) && hops[i].addr == addr {
			return fmt.Errorf("%s is the multiplexer that leads to the device", place(addr, i))
		}
	}
	if other, taken := w.behind[here]; taken {
		return fmt.Errorf("%s would answer together with %s", here, other)
	}
	w.taken[here] = device
	for i, h := range hops {
		w.behind[place(addr, i)] = device
		w.behind[place(h.addr, i)] = "the multiplexer that leads to " + device
	}
	return nil
}

// Tx writes w to the device, then reads r from it, before ctx ends. It may be
// called from any goroutine.
func (p *I2CPort) Tx(ctx context.Context, w, r []byte) error {
	return p.bus.tx(ctx, p.hops, uint16(p.addr), w, r)
}

// Opener returns an [Opener] for a sensor at the port. open sets the chip up
// through d. d may be used by one goroutine at a time, only while open or Read
// is running: its transfers fail once the time for that is over, so that even
// a driver that waits for a chip without end comes to one.
func (p *I2CPort) Opener(open func(d *i2c.Dev) (Sensor, error)) Opener {
	return opener(func(b *bound) (Sensor, error) {
		return open(&i2c.Dev{Bus: &boundBus{b, p}, Addr: uint16(p.addr)})
	})
}

// boundBus is a bus that works until a context ends.
type boundBus struct {
	*bound
	port *I2CPort
}

func (b *boundBus) String() string { return pathName(b.port.bus.name, b.port.hops) }

func (b *boundBus) Tx(addr uint16, w, r []byte) error {
	b.err = b.port.bus.tx(b.ctx, b.port.hops, addr, w, r)
	return b.err
}

func (b *boundBus) SetSpeed(physic.Frequency) error {
	return fmt.Errorf("bus %s: the speed cannot be changed", b.port.bus.name)
}
