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
	count  uint64
}

// NewBus returns a bus with nothing on it.
func NewBus(name string) *Bus {
	return &Bus{name: name, chips: map[uint16]Device{}, faults: map[uint16]Fault{}}
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
	fault := b.faults[addr]
	b.mu.Unlock()
	if fault != nil { // without the lock: a stall must not keep Unplug waiting
		if err := fault(); err != nil {
			return fmt.Errorf("%s, address 0x%02x: %w", b.name, addr, err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	chip := b.chips[addr]
	if chip == nil {
		return fmt.Errorf("%s, address 0x%02x: %w", b.name, addr, ErrNACK)
	}
	if len(w) > 0 {
		chip.Write(w)
	}
	if len(r) > 0 {
		chip.Read(r)
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
