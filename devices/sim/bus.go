package sim

import (
	"fmt"
	"time"

	"periph.io/x/conn/v3/physic"
)

// Device is a chip at an address of a bus. A transfer that writes and reads
// calls Write, then Read. The bus calls one method at a time, and says what time
// it is: a chip has no clock but that, so that it can live in any time.
type Device interface {
	// Write takes the bytes after the address, the register number as a rule
	// first.
	Write(now time.Time, p []byte)
	// Read fills p, from the register on that the last Write selected.
	Read(now time.Time, p []byte)
}

// Bus is a simulated I²C bus with chips on it. It implements periph's
// i2c.BusCloser. All methods may be called at any time from any goroutine.
type Bus struct {
	wires[Device]
}

// NewBus returns a bus with nothing on it.
func NewBus(name string) *Bus { return &Bus{wires[Device]{name: name}} }

// find returns what answers at an address: a chip on the bus, or behind the
// open channels of its multiplexers; nil if there is none. Where several
// answer, they read as what all of them leave high.
func (b *Bus) find(addr uint16) (found Device) {
	if chip := b.chips[addr]; chip != nil {
		found = chip
	}
	for _, chip := range b.chips {
		mux, ok := chip.(*PCA9548)
		if !ok {
			continue
		}
		for _, channel := range mux.open() {
			channel.mu.Lock()
			behind := channel.find(addr)
			channel.mu.Unlock()
			switch {
			case behind == nil:
			case found == nil:
				found = behind
			default:
				found = both{found, behind}
			}
		}
	}
	return found
}

// both are two chips that answer to one address.
type both struct{ a, b Device }

func (d both) Write(now time.Time, p []byte) {
	d.a.Write(now, p)
	d.b.Write(now, p)
}

func (d both) Read(now time.Time, p []byte) {
	q := make([]byte, len(p))
	d.a.Read(now, p)
	d.b.Read(now, q)
	for i := range p {
		p[i] &= q[i] // the bus is low if either is
	}
}

// Tx writes w to the chip, then reads r from it.
func (b *Bus) Tx(addr uint16, w, r []byte) error {
	if err := b.pass(addr); err != nil {
		return fmt.Errorf("%s, address 0x%02x: %w", b.name, addr, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	chip := b.find(addr)
	if chip == nil {
		return fmt.Errorf("%s, address 0x%02x: %w", b.name, addr, ErrNACK)
	}
	now := b.now()
	if len(w) > 0 {
		chip.Write(now, w)
	}
	if len(r) > 0 {
		chip.Read(now, r)
		b.noise(addr, r)
	}
	return nil
}

// String returns the name of the bus.
func (b *Bus) String() string { return b.name }

// SetSpeed does nothing.
func (b *Bus) SetSpeed(physic.Frequency) error { return nil }

// Close does nothing: the bus outlives those who opened it.
func (b *Bus) Close() error { return nil }

// Floating is what a bus without pull-down reads where data never comes: ones.
type Floating struct{}

// Write ignores p.
func (Floating) Write(time.Time, []byte) {}

// Read fills p with ones.
func (Floating) Read(_ time.Time, p []byte) {
	for i := range p {
		p[i] = 0xff
	}
}
