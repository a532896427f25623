package sim

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"periph.io/x/conn/v3/physic"
)

// Errors of a simulated bus. Real adapters word them differently; drivers must
// not depend on the words.
var (
	ErrNACK    = errors.New("no device acknowledged the address")
	ErrStalled = errors.New("the bus is held low, the transfer timed out")
)

// Device is a chip at an address of a bus. A transfer that writes and reads
// calls Write, then Read. The bus calls one method at a time.
type Device interface {
	// Write takes the bytes after the address, the register number as a rule
	// first.
	Write(p []byte)
	// Read fills p, from the register on that the last Write selected.
	Read(p []byte)
}

// Fault is asked before each transfer to an address: an error is what the
// transfer fails with, nil lets it through.
type Fault func() error

// NACK is the fault of a device that does not answer.
func NACK() error { return ErrNACK }

// Stall returns the fault of a device that holds the clock low until the
// adapter gives up after d; nobody else can use the bus meanwhile.
func Stall(d time.Duration) Fault {
	return func() error {
		time.Sleep(d)
		return ErrStalled
	}
}

// Times returns a fault that strikes n times and is gone then.
func Times(n int, f Fault) Fault {
	var mu sync.Mutex
	return func() error {
		mu.Lock()
		strike := n > 0
		n--
		mu.Unlock()
		if !strike {
			return nil
		}
		return f()
	}
}

// Bus is a simulated I²C bus with chips on it. It implements periph's
// i2c.BusCloser. All methods may be called at any time from any goroutine.
type Bus struct {
	name   string
	mu     sync.Mutex
	chips  map[uint16]Device
	faults map[uint16]Fault
	garble map[uint16]int
	slow   time.Duration
	count  uint64
}

// NewBus returns a bus with nothing on it.
func NewBus(name string) *Bus {
	return &Bus{name: name, chips: map[uint16]Device{}, faults: map[uint16]Fault{}, garble: map[uint16]int{}}
}

// Plug connects a chip, in place of what was at the address.
func (b *Bus) Plug(addr uint16, chip Device) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.chips[addr] = chip
}

// Unplug takes the chip off the bus: its address is not acknowledged any more.
// A chip that is plugged in again has kept its registers; see [BME280.PowerOn].
func (b *Bus) Unplug(addr uint16) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.chips, addr)
}

// Break puts a fault between the bus and an address; nil removes it.
func (b *Bus) Break(addr uint16, f Fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults[addr] = f
}

// Garble flips the highest bit but one of the first byte of the next n reads
// from an address, as noise on the cable does.
func (b *Bus) Garble(addr uint16, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.garble[addr] = n
}

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

func (d both) Write(p []byte) {
	d.a.Write(p)
	d.b.Write(p)
}

func (d both) Read(p []byte) {
	q := make([]byte, len(p))
	d.a.Read(p)
	d.b.Read(q)
	for i := range p {
		p[i] &= q[i] // the bus is low if either is
	}
}

// Slow makes each transfer take d, as on a real bus.
func (b *Bus) Slow(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.slow = d
}

// Transfers returns how many transfers were tried.
func (b *Bus) Transfers() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count
}

// Tx writes w to the chip, then reads r from it.
func (b *Bus) Tx(addr uint16, w, r []byte) error {
	b.mu.Lock()
	b.count++
	fault, slow := b.faults[addr], b.slow
	b.mu.Unlock()
	if slow > 0 {
		time.Sleep(slow)
	}
	if fault != nil { // without the lock: a stall must not keep Unplug waiting
		if err := fault(); err != nil {
			return fmt.Errorf("%s, address 0x%02x: %w", b.name, addr, err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	chip := b.find(addr)
	if chip == nil {
		return fmt.Errorf("%s, address 0x%02x: %w", b.name, addr, ErrNACK)
	}
	if len(w) > 0 {
		chip.Write(w)
	}
	if len(r) > 0 {
		chip.Read(r)
		if b.garble[addr] > 0 {
			b.garble[addr]--
			r[0] ^= 0x40
		}
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
func (Floating) Write([]byte) {}

// Read fills p with ones.
func (Floating) Read(p []byte) {
	for i := range p {
		p[i] = 0xff
	}
}
