//go:build vm

package hardware

import (
	"encoding/binary"

	"holdfast/devices/sim"
)

// Adapter is a USB adapter with an I²C bus that the kernel's driver i2c-tiny-usb
// works: it gives up a stuck bus after 2 s.
type Adapter struct {
	// File is /dev/i2c-N while the adapter is plugged in.
	File string

	usb    usb
	bus    *sim.Bus
	status byte
}

// NewAdapter returns an adapter that is not plugged in, with the chips of the
// bus.
func NewAdapter(bus *sim.Bus) *Adapter {
	a := &Adapter{bus: bus}
	a.usb = usb{
		descriptor: []byte{
			18, 1, 0x10, 0x01, 0xff, 0, 0, 8, // USB 1.1, of no class, 8 bytes at endpoint 0
			0x03, 0x04, 0x31, 0xc6, 0x05, 0x02, // 0403:c631, the ids that the driver knows
			1, 2, 0, 1,
		},
		configuration: []byte{
			9, 2, 18, 0, 1, 1, 0, 0x80, 50,
			9, 4, 0, 0, 0, 0xff, 0, 0, 0,
		},
		names:     []string{"holdfast", "simulated i2c-tiny-usb"},
		behaviour: a,
	}
	return a
}

// Plug plugs the adapter in and returns when its file is there.
func (a *Adapter) Plug() (err error) {
	if err := a.usb.plugIn(); err != nil {
		return err
	}
	a.File, err = a.usb.node("i2c-*")
	return err
}

// Unplug pulls the adapter out.
func (a *Adapter) Unplug() error { return a.usb.unplug() }

// control speaks the protocol of drivers/i2c/busses/i2c-tiny-usb.c. A transfer
// is one or more messages, each with the address in the index and the flags,
// of which the lowest bit means a read, in the value.
func (a *Adapter) control(s setup, data []byte) ([]byte, error) {
	const (
		getFunctions = 1
		setDelay     = 2
		getStatus    = 3
		message      = 4       // and the bits of first and last in a transfer
		functions    = 1       // plain I²C, of which the kernel can make more:
		bytes        = 1 << 20 // writes of a register of one byte

		acknowledged, notAcknowledged = 1, 2
	)
	switch s.request {
	case getFunctions:
		return binary.LittleEndian.AppendUint32(nil, functions|bytes), nil
	case setDelay:
		return nil, nil
	case getStatus:
		return []byte{a.status}, nil
	case message, message | 1, message | 2, message | 3:
		var answer []byte
		if s.value&1 != 0 {
			answer, data = make([]byte, s.length), nil
		}
		a.status = acknowledged
		if a.bus.Tx(s.index, data, answer) != nil {
			a.status = notAcknowledged
		}
		return answer, nil
	}
	return nil, errStall
}

func (a *Adapter) output([]byte) {}
