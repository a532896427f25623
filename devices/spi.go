package devices

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"periph.io/x/conn/v3"
	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/conn/v3/spi"

	"holdfast/gateway/config"
)

// SPI are the settings of every device that is on an SPI bus only.
type SPI struct {
	Bus   string `config:"bus,required"` // spi0.1 or /dev/spidev0.1: select 1 of bus 0; sim:NAME/spi1
	Speed Speed  `config:"speed"`
}

// Wires are the settings of every device that can be wired to an I²C or an SPI
// bus: which, its name tells.
type Wires struct {
	Bus     string  `config:"bus,required"` // as in I2C or in SPI
	Address Address `config:"address"`      // at an I²C bus
	Speed   Speed   `config:"speed"`        // at an SPI bus; else what the chip can
}

// Speed is how fast an SPI bus may be clocked, written as 500kHz or 1MHz; 0 is as
// fast as the chip can.
type Speed physic.Frequency

// UnmarshalText reads a speed from 1kHz to 50MHz.
func (v *Speed) UnmarshalText(text []byte) error {
	var f physic.Frequency
	if err := f.Set(string(text)); err != nil || f < physic.KiloHertz || f > 50*physic.MegaHertz {
		return fmt.Errorf("%q is not a speed of an SPI bus; write one from 1kHz to 50MHz, such as 500kHz", text)
	}
	*v = Speed(f)
	return nil
}

// String formats the speed as in 500kHz.
func (v Speed) String() string { return physic.Frequency(v).String() }

var spiForm = regexp.MustCompile(`^(spi|SPI|/dev/spi|sim:[^/]*/spi)`)

// IsSPI reports whether a bus as the configuration names it is one of SPI.
func IsSPI(bus string) bool { return spiForm.MatchString(bus) }

// SPIPort is one select of a bus.
type SPIPort struct {
	bus   *spiBus
	name  string
	speed Speed
}

// SPI returns the port that the settings name; s is where they stand. Nothing is
// opened yet. The error has the position of the bus that cannot be one, or that
// another device has already.
func (w *Wiring) SPI(s *config.Section, set SPI) (*SPIPort, error) {
	busName, name, err := w.buses.ResolveSPI(set.Bus)
	if err != nil {
		return nil, s.Errorf("bus", "%v", err)
	}
	if other, taken := w.taken[name]; taken {
		return nil, s.Errorf("bus", "%s is %s already", name, other)
	}
	w.taken[name], w.bus[s.Name()] = s.Name(), name
	bus := w.spi[busName]
	if bus == nil {
		bus = &spiBus{lane: newLane(busName), open: w.buses.SPI, ports: map[string]*openPort{}}
		w.spi[busName] = bus
	}
	return &SPIPort{bus, name, set.Speed}, nil
}

// Opener returns an [Opener] for a sensor at whichever bus the settings name,
// which one of the functions sets up; see [I2CPort.Opener] and [SPIPort.Opener].
func (w *Wiring) Opener(s *config.Section, set Wires, overI2C func(*i2c.Dev) (Sensor, error), overSPI func(spi.Port) (Sensor, error)) (Opener, error) {
	if !IsSPI(set.Bus) {
		if s.Child("speed") != nil {
			return nil, s.Errorf("speed", "the speed of an I²C bus is a setting of the system, not of a device")
		}
		port, err := w.I2C(s, I2C{set.Bus, set.Address})
		if err != nil {
			return nil, err
		}
		return port.Opener(overI2C), nil
	}
	if s.Child("address") != nil {
		return nil, s.Errorf("address", "devices on an SPI bus have no address: %s names the one", set.Bus)
	}
	port, err := w.SPI(s, SPI{set.Bus, set.Speed})
	if err != nil {
		return nil, err
	}
	return port.Opener(overSPI), nil
}

// Opener returns an [Opener] for a sensor at the port. open connects the chip
// through p, and sets it up. What it gets may be used by one goroutine at a time,
// only while open or Read is running: transfers fail once the time for that is
// over. Without a chip transfers do not fail: a driver has to tell its answers
// from a bus where all bits are the same.
func (p *SPIPort) Opener(open func(p spi.Port) (Sensor, error)) Opener {
	return opener(func(b *bound) (Sensor, error) { return open(&boundPort{b, p, 0, 0}) })
}

// boundPort is a port that works until a context ends, and its own connection.
type boundPort struct {
	*bound
	port  *SPIPort
	speed physic.Frequency
	mode  spi.Mode
}

func (b *boundPort) String() string { return b.port.name }

// Connect takes the slower of the driver's speed and that of the settings, 1 MHz if
// neither says.
func (b *boundPort) Connect(f physic.Frequency, mode spi.Mode, bits int) (spi.Conn, error) {
	if bits != 8 {
		return nil, fmt.Errorf("%s: words have 8 bits, not %d", b.port.name, bits)
	}
	if limit := physic.Frequency(b.port.speed); limit > 0 && (f == 0 || limit < f) {
		f = limit
	}
	if f == 0 {
		f = physic.MegaHertz
	}
	b.speed, b.mode = f, mode
	return b, nil
}

func (b *boundPort) Duplex() conn.Duplex { return conn.Full }

func (b *boundPort) Tx(w, r []byte) error {
	b.err = b.port.bus.tx(b.ctx, b.port.name, b.speed, b.mode, w, r)
	return b.err
}

func (b *boundPort) TxPackets([]spi.Packet) error {
	return errors.New("transfers of several packets are not supported")
}

// InTurn returns what does transfers at c as they are at an I²C bus: w is written,
// then r is read. At an SPI bus both happen at the same time, so that zeros follow
// w and what comes while w is written is left out.
func InTurn(c spi.Conn) func(w, r []byte) error {
	return func(w, r []byte) error {
		if len(r) == 0 {
			return c.Tx(w, nil)
		}
		sent, got := make([]byte, len(w)+len(r)), make([]byte, len(w)+len(r))
		copy(sent, w)
		err := c.Tx(sent, got)
		copy(r, got[len(w):])
		return err
	}
}

// spiBus is the selects of a bus that devices share. All of it but the lane
// belongs to the lane's goroutine. A port is open only while there is something to
// do, and opened anew after a failure, as those of I²C are.
type spiBus struct {
	lane
	open  func(port string) (spi.PortCloser, error)
	ports map[string]*openPort
}

type openPort struct {
	spi.PortCloser
	conn  spi.Conn
	speed physic.Frequency // as it was connected
	mode  spi.Mode
}

// tx waits for its turn and the transfer, at most until ctx ends.
func (b *spiBus) tx(ctx context.Context, port string, speed physic.Frequency, mode spi.Mode, w, r []byte) error {
	buf := make([]byte, len(w)+len(r)) // not the caller's, who may have gone
	copy(buf, w)
	err := b.do(ctx, port, func() error { return b.transfer(port, speed, mode, buf[:len(w):len(w)], buf[len(w):]) })
	if err == nil {
		copy(r, buf[len(w):])
	}
	return err
}

func (b *spiBus) transfer(port string, speed physic.Frequency, mode spi.Mode, w, r []byte) error {
	p := b.ports[port]
	if p != nil && (p.speed != speed || p.mode != mode) {
		b.shut(port) // it can be connected once
		p = nil
	}
	if p == nil {
		opened, err := b.open(port)
		if err != nil {
			return err
		}
		conn, err := opened.Connect(speed, mode, 8)
		if err != nil {
			_ = opened.Close() // nothing was written
			return fmt.Errorf("set up %s: %w", port, err)
		}
		p = &openPort{opened, conn, speed, mode}
		b.ports[port] = p
	}
	err := p.conn.Tx(w, r)
	if err != nil {
		b.shut(port)
	}
	return err
}

func (b *spiBus) shut(port string) {
	_ = b.ports[port].Close() // nothing was buffered
	delete(b.ports, port)
}

func (b *spiBus) shutAll() {
	for port := range b.ports {
		b.shut(port)
	}
}

// run does transfers until ctx ends, then closes the ports.
func (b *spiBus) run(ctx context.Context) {
	defer b.shutAll()
	b.lane.run(ctx, b.shutAll)
}
