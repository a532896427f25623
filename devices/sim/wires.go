package sim

import (
	"errors"
	"sync"
	"time"
)

// Errors of a simulated bus. Real adapters word them differently; drivers must
// not depend on the words.
var (
	ErrNACK    = errors.New("no device acknowledged the address")
	ErrStalled = errors.New("the bus is held low, the transfer timed out")
)

// Fault is asked before each transfer to an address or a select: an error is what
// the transfer fails with, nil lets it through.
type Fault func() error

// NACK is the fault of a device that does not answer.
func NACK() error { return ErrNACK }

// Stuck is the fault of a bus that is held low, for adapters that say so at once.
func Stuck() error { return ErrStalled }

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

// wires lead to the chips of a bus, by address or select.
type wires[D any] struct {
	name   string
	mu     sync.Mutex
	chips  map[uint16]D
	faults map[uint16]Fault
	garble map[uint16]int
	slow   time.Duration
	count  uint64
	clock  func() time.Time // nil is time.Now
}

// Plug connects a chip, in place of what was at the address or select.
func (b *wires[D]) Plug(addr uint16, chip D) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.chips == nil {
		b.chips = map[uint16]D{}
	}
	b.chips[addr] = chip
}

// Unplug takes the chip off the bus: it answers no more. One that is plugged in
// again has kept its registers; see [BME280.PowerOn].
func (b *wires[D]) Unplug(addr uint16) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.chips, addr)
}

// Break puts a fault between the bus and an address; nil removes it.
func (b *wires[D]) Break(addr uint16, f Fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.faults == nil {
		b.faults = map[uint16]Fault{}
	}
	b.faults[addr] = f
}

// Garble flips the highest bit but one of the first byte of the next n reads
// from an address, as noise on the cable does.
func (b *wires[D]) Garble(addr uint16, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.garble == nil {
		b.garble = map[uint16]int{}
	}
	b.garble[addr] = n
}

// Slow makes each transfer take d, as on a real bus.
func (b *wires[D]) Slow(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.slow = d
}

// Clock makes the chips live in the time that now tells.
func (b *wires[D]) Clock(now func() time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clock = now
}

// Transfers returns how many transfers were tried.
func (b *wires[D]) Transfers() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count
}

// pass lets a transfer through after its time, or not. Without the lock: a stall
// must not keep Unplug waiting.
func (b *wires[D]) pass(addr uint16) error {
	b.mu.Lock()
	b.count++
	fault, slow := b.faults[addr], b.slow
	b.mu.Unlock()
	if slow > 0 {
		time.Sleep(slow)
	}
	if fault == nil {
		return nil
	}
	return fault()
}

// now returns the time of the chips. The caller has the lock.
func (b *wires[D]) now() time.Time {
	if b.clock != nil {
		return b.clock()
	}
	return time.Now()
}

// noise does to an answer what the cable does. The caller has the lock.
func (b *wires[D]) noise(addr uint16, answer []byte) {
	if b.garble[addr] > 0 && len(answer) > 0 {
		b.garble[addr]--
		answer[0] ^= 0x40
	}
}
