package sim

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// OneWire is a simulated 1-Wire bus with thermometers on it, as the kernel
// shows one.
type OneWire struct {
	mu    sync.Mutex
	chips map[string]*DS18B20
}

// NewOneWire returns a bus with nothing on it.
func NewOneWire() *OneWire { return &OneWire{chips: map[string]*DS18B20{}} }

// Plug connects a thermometer with an id such as 28-0316a2795a1b; nil unplugs.
func (b *OneWire) Plug(id string, chip *DS18B20) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.chips[id] = chip
	if chip == nil {
		delete(b.chips, id)
	}
}

// Convert has a thermometer measure and returns its scratchpad.
func (b *OneWire) Convert(id string) (pad [9]byte, err error) {
	b.mu.Lock()
	chip := b.chips[id]
	b.mu.Unlock()
	if chip == nil {
		return pad, fmt.Errorf("no device %s on the bus", id)
	}
	return chip.convert(), nil
}

// Devices returns the ids of the thermometers.
func (b *OneWire) Devices() (ids []string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id := range b.chips {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, nil
}

// DS18B20 is a model of Maxim's thermometer: scratchpad with its checksum,
// resolution and the time a conversion takes.
type DS18B20 struct {
	mu      sync.Mutex
	weather Weather
	bits    int
	fault   func(pad *[9]byte)
}

// NewDS18B20 returns a thermometer with 9 to 12 bits.
func NewDS18B20(bits int, w Weather) *DS18B20 { return &DS18B20{weather: w, bits: bits} }

// Break has f change what is read; nil ends it.
func (d *DS18B20) Break(f func(pad *[9]byte)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = f
}

// PowerFails is the fault of a thermometer whose supply fails during the
// conversion: the register holds 85 °C, as after power-on.
func PowerFails(pad *[9]byte) {
	pad[0], pad[1] = 0x50, 0x05
	pad[8] = CRCOneWire(pad[:8])
}

func (d *DS18B20) convert() [9]byte {
	d.mu.Lock()
	bits := d.bits
	d.mu.Unlock()
	time.Sleep(750 * time.Millisecond >> (12 - bits))
	return d.Scratchpad(time.Now())
}

// Scratchpad returns what the chip holds after a conversion that ends at now.
func (d *DS18B20) Scratchpad(now time.Time) (pad [9]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	raw := signed(d.weather(now).Temperature, 1.0/16)
	pad = [9]byte{byte(raw), byte(raw >> 8), 0x4b, 0x46, byte(d.bits-9)<<5 | 0x1f, 0xff, 0x0c, 0x10}
	pad[8] = CRCOneWire(pad[:8])
	if d.fault != nil {
		d.fault(&pad)
	}
	return pad
}

// CRCOneWire returns the checksum of 1-Wire devices.
func CRCOneWire(p []byte) (crc byte) {
	for _, b := range p {
		for range 8 {
			if (crc^b)&1 != 0 {
				crc = crc>>1 ^ 0x8c
			} else {
				crc >>= 1
			}
			b >>= 1
		}
	}
	return crc
}
