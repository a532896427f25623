//go:build vm

package hardware

import (
	"fmt"
	"slices"
	"sync"

	"holdfast/devices/sim"
)

// bridgeLines is how many lines a bridge has.
const bridgeLines = 8

// Bridge is a CP2112: an I²C bus and eight lines, which the kernel's driver
// hid-cp2112 works. The driver looks at the lines every 40 ms, so that edges
// come late and short pulses are lost. Sections are those of Silicon Labs
// AN495, revision 0.2.
type Bridge struct {
	// File is /dev/i2c-N and Chip is gpiochipN while the bridge is plugged in.
	File, Chip string

	usb usb
	bus *sim.Bus

	mu      sync.Mutex
	outside byte // levels that the world puts on the lines
	outputs byte // lines that are outputs
	levels  byte // that they are driven to
	driven  [bridgeLines][]string
	config  []byte
	failed  bool
	answer  []byte // of the last transfer
}

// reports is the report descriptor. It tells the kernel of the two reports that
// come without having been asked for; all others it just sends.
var reports = []byte{
	0x06, 0x00, 0xff, 0x09, 0x01, 0xa1, 0x01, // a collection of the vendor's
	0x15, 0x00, 0x26, 0xff, 0x00, 0x75, 0x08, // of bytes
	0x85, dataAnswer, 0x95, 63, 0x09, 0x01, 0x81, 0x02,
	0x85, statusAnswer, 0x95, 6, 0x09, 0x01, 0x81, 0x02,
	0x85, writeRequest, 0x95, 63, 0x09, 0x01, 0x91, 0x02,
	0xc0,
}

// Numbers of reports (section 3).
const (
	lineConfig       = 0x02
	lineLevels       = 0x03
	lineSet          = 0x04
	version          = 0x05
	busConfig        = 0x06
	readRequest      = 0x10
	writeReadRequest = 0x11
	dataRequest      = 0x12
	dataAnswer       = 0x13
	writeRequest     = 0x14
	statusRequest    = 0x15
	statusAnswer     = 0x16
	lock             = 0x20
	usbConfig        = 0x21
)

// NewBridge returns a bridge that is not plugged in, with the chips of the bus.
func NewBridge(bus *sim.Bus) *Bridge {
	b := &Bridge{bus: bus, config: make([]byte, 14)}
	b.config[0] = busConfig
	b.usb = usb{
		descriptor: []byte{
			18, 1, 0x00, 0x02, 0, 0, 0, 64, // USB 2, 64 bytes at endpoint 0
			0xc4, 0x10, 0x90, 0xea, 0x00, 0x01, // 10c4:ea90, the ids of the CP2112
			1, 2, 0, 1,
		},
		configuration: []byte{
			9, 2, 41, 0, 1, 1, 0, 0x80, 50,
			9, 4, 0, 0, 2, 3, 0, 0, 0, // a human interface device
			9, 0x21, 0x11, 0x01, 0, 1, 0x22, byte(len(reports)), 0,
			7, 5, 0x81, 3, 64, 0, 1, // interrupts, to the host
			7, 5, 0x01, 3, 64, 0, 1, // and from it
		},
		names:     []string{"holdfast", "simulated CP2112"},
		behaviour: b,
	}
	return b
}

// Plug plugs the bridge in and returns when its files are there.
func (b *Bridge) Plug() (err error) {
	b.mu.Lock()
	b.outputs, b.levels, b.answer = 0, 0, nil
	b.mu.Unlock()
	if err := b.usb.plugIn(); err != nil {
		return err
	}
	if b.File, err = b.usb.node("*/i2c-*"); err != nil {
		return err
	}
	chip, err := b.usb.node("*/gpiochip*")
	b.Chip = chip[min(len("/dev/"), len(chip)):]
	return err
}

// Unplug pulls the bridge out.
func (b *Bridge) Unplug() error { return b.usb.unplug() }

// Set puts a level on a line from outside.
func (b *Bridge) Set(line int, high bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.outside &^= 1 << line
	if high {
		b.outside |= 1 << line
	}
}

// High returns whether a line carries a high level.
func (b *Bridge) High(line int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.carried()>>line&1 == 1
}

// Driven returns what the driver was told to make of a line: 0, 1 or in, one
// word for each time.
func (b *Bridge) Driven(line int) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.driven[line])
}

func (b *Bridge) carried() byte { return b.levels&b.outputs | b.outside&^b.outputs }

// direct makes lines outputs or inputs; b.mu is held. A new output keeps the
// level of the line until it is told one: the chip takes levels only of outputs
// (section 4.4), so that what it drives between the driver's two requests is up
// to the chip, not to the program.
func (b *Bridge) direct(outputs byte) {
	fresh, gone := outputs&^b.outputs, b.outputs&^outputs
	b.levels = b.levels&^fresh | b.outside&fresh
	b.outputs = outputs
	b.note(gone, "in")
}

// drive makes those outputs of the mask high or low whose bits say so; b.mu is
// held.
func (b *Bridge) drive(mask, levels byte) {
	mask &= b.outputs
	b.levels = b.levels&^mask | levels&mask
	b.note(mask&levels, "1")
	b.note(mask&^levels, "0")
}

func (b *Bridge) note(lines byte, word string) {
	for line := range bridgeLines {
		if lines>>line&1 == 1 {
			b.driven[line] = append(b.driven[line], word)
		}
	}
}

// control answers requests of the HID class for reports (HID 1.11, section
// 7.2), of which the number is in the value.
func (b *Bridge) control(s setup, data []byte) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	const (
		standard, get, set = 0x81, 0xa1, 0x21
		getDescriptor      = 6
		getReport          = 1
		setReport, setIdle = 9, 10
	)
	switch [2]byte{s.kind, s.request} {
	case [2]byte{standard, getDescriptor}:
		return reports, nil
	case [2]byte{set, setIdle}:
		return nil, nil
	case [2]byte{get, getReport}:
		return b.feature(byte(s.value))
	case [2]byte{set, setReport}:
		if len(data) > 2 {
			return nil, b.setFeature(data)
		}
	}
	return nil, errStall
}

func (b *Bridge) feature(number byte) ([]byte, error) {
	switch number {
	case lineConfig:
		return []byte{lineConfig, b.outputs, 0xff, 0, 0}, nil
	case lineLevels:
		return []byte{lineLevels, b.carried()}, nil
	case version:
		return []byte{version, 0x0c, 3}, nil
	case busConfig:
		return b.config, nil
	case lock:
		return []byte{lock, 0}, nil
	case usbConfig:
		return []byte{usbConfig, 0xc4, 0x10, 0x90, 0xea, 50, 0, 1, 0, 0}, nil
	}
	return nil, fmt.Errorf("report %#x: %w", number, errStall)
}

func (b *Bridge) setFeature(data []byte) error {
	switch data[0] {
	case lineConfig:
		b.direct(data[1])
	case lineSet:
		b.drive(data[2], data[1])
	case busConfig:
		copy(b.config, data)
	default:
		return errStall
	}
	return nil
}

// output takes the requests for transfers (sections 3.10 to 3.17). A transfer
// is done at once, the driver asks afterwards what came of it.
func (b *Bridge) output(data []byte) {
	transfer := func(written []byte, toRead int) {
		b.answer = make([]byte, toRead)
		b.failed = b.bus.Tx(uint16(data[1]>>1), written, b.answer) != nil
	}
	long := func(i int) int { return int(data[i])<<8 | int(data[i+1]) }
	switch data[0] {
	case readRequest:
		transfer(nil, long(2))
	case writeReadRequest:
		transfer(data[5:5+data[4]], long(2))
	case writeRequest:
		transfer(data[3:3+data[2]], 0)
	case statusRequest:
		const complete, withError, succeeded, notAcknowledged = 2, 3, 5, 0
		state, how := byte(complete), byte(succeeded)
		if b.failed {
			state, how = withError, notAcknowledged
		}
		b.usb.send([]byte{statusAnswer, state, how, 0, 0, byte(len(b.answer) >> 8), byte(len(b.answer))})
	case dataRequest:
		n := min(61, len(b.answer), long(1))
		answer := make([]byte, 64)
		answer[0], answer[1], answer[2] = dataAnswer, 2, byte(n)
		copy(answer[3:], b.answer[:n])
		b.answer = b.answer[n:]
		b.usb.send(answer)
	}
}
