package sim

import (
	"math"
	"sync"
	"time"
)

// words is a chip of 16-bit registers, the high byte first: the first byte of a
// write chooses the register, two more set it.
type words struct {
	mu      sync.Mutex
	pointer byte
	get     func(reg byte, now time.Time) uint16
	set     func(reg byte, v uint16, now time.Time)
}

// Write chooses a register, and sets it if there is a value.
func (d *words) Write(now time.Time, p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pointer = p[0]
	if len(p) >= 3 && d.set != nil {
		d.set(p[0], uint16(p[1])<<8|uint16(p[2]), now)
	}
}

// Read reads the chosen register.
func (d *words) Read(now time.Time, p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := d.get(d.pointer, now)
	for i := range p {
		p[i] = byte(v >> (8 * (1 - i&1)))
	}
}

// signed returns v in steps, as a number in two's complement of 16 bits.
func signed(v, step float64) uint16 {
	return uint16(int16(min(math.MaxInt16, max(math.MinInt16, math.Round(v/step)))))
}

// Thermometer is a model of chips that hold their temperature in register 0,
// with so many bits from the top: 12 for a TMP102, 11 for an LM75B, 9 for an
// LM75. It measures all the time.
type Thermometer struct {
	words
	config uint16
}

// NewThermometer returns a chip with so many bits.
func NewThermometer(bits int, w Weather) *Thermometer {
	d := &Thermometer{config: 0x60a0}
	step := 256 / float64(int(1)<<bits)
	d.get = func(reg byte, now time.Time) uint16 {
		if reg&3 == 0 {
			return signed(min(max(w(now).Temperature, -128), 128-step), step) << (16 - bits)
		}
		return d.config
	}
	d.set = func(reg byte, v uint16, _ time.Time) {
		if reg&3 == 1 {
			d.config = v
		}
	}
	return d
}

// MCP9808 is a model of Microchip's thermometer: identity, resolution, shutdown.
type MCP9808 struct {
	words
	config     uint16
	resolution uint16
}

// NewMCP9808 returns a chip that has just been powered on.
func NewMCP9808(w Weather) *MCP9808 {
	d := &MCP9808{resolution: 3}
	var held uint16
	d.get = func(reg byte, now time.Time) uint16 {
		switch reg & 15 {
		case 1:
			return d.config
		case 5:
			if d.config&0x0100 == 0 { // else it sleeps
				step := []float64{0.5, 0.25, 0.125, 0.0625}[d.resolution]
				held = signed(math.Round(min(max(w(now).Temperature, -256), 256-step)/step)*step, 0.0625) & 0x1fff
			}
			return held
		case 6:
			return 0x0054
		case 7:
			return 0x0400
		case 8:
			return d.resolution << 8 // a register of one byte
		}
		return 0
	}
	d.set = func(reg byte, v uint16, _ time.Time) {
		if reg == 1 {
			d.config = v
		}
	}
	return d
}

// Write takes the one byte of the resolution too.
func (d *MCP9808) Write(now time.Time, p []byte) {
	if len(p) == 2 && p[0] == 8 {
		d.mu.Lock()
		d.resolution = uint16(p[1]) & 3
		d.mu.Unlock()
	}
	d.words.Write(now, p)
}

// Supply tells the voltage in V and the current in A of a supply at a time.
type Supply func(t time.Time) (volts, amperes float64)

// INA219 is a model of TI's monitor with a 12-bit shunt voltage, 4 mV steps of
// the bus voltage, and current and power by the calibration register.
type INA219 struct {
	words
	config, calibration uint16
}

// NewINA219 returns a chip that has just been powered on, with a shunt in ohms.
func NewINA219(shunt float64, s Supply) *INA219 {
	d := &INA219{config: 0x399f}
	d.get = func(reg byte, now time.Time) uint16 {
		volts, amperes := s(now)
		raw := signed(amperes*shunt, 10e-6)
		bus := uint16(math.Round(volts / 4e-3))
		current := int32(int16(raw)) * int32(d.calibration) / 4096
		switch reg {
		case 0:
			return d.config
		case 1:
			return raw
		case 2:
			return bus<<3 | 2 // conversion ready
		case 3:
			return uint16(max(current, -current) * int32(bus) / 5000)
		case 4:
			return uint16(int16(current))
		case 5:
			return d.calibration
		}
		return 0
	}
	d.set = func(reg byte, v uint16, _ time.Time) {
		switch reg {
		case 0:
			d.config = v
			if v&0x8000 != 0 {
				d.config, d.calibration = 0x399f, 0
			}
		case 5:
			d.calibration = v &^ 1 // bit 0 is always 0
		}
	}
	return d
}

// PowerOn is what a chip does when its supply returns.
func (d *INA219) PowerOn() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.config, d.calibration = 0x399f, 0
}

// INA226 is a model of TI's monitor with 2.5 µV steps of the shunt voltage and
// 1.25 mV of the bus voltage.
type INA226 struct {
	words
	config, calibration uint16
}

// NewINA226 returns a chip that has just been powered on, with a shunt in ohms.
func NewINA226(shunt float64, s Supply) *INA226 {
	d := &INA226{config: 0x4127}
	d.get = func(reg byte, now time.Time) uint16 {
		volts, amperes := s(now)
		raw := signed(amperes*shunt, 2.5e-6)
		bus := uint16(math.Round(volts / 1.25e-3))
		current := int32(int16(raw)) * int32(d.calibration) / 2048
		switch reg {
		case 0x00:
			return d.config
		case 0x01:
			return raw
		case 0x02:
			return bus
		case 0x03:
			return uint16(max(current, -current) * int32(bus) / 20000)
		case 0x04:
			return uint16(int16(current))
		case 0x05:
			return d.calibration
		case 0xfe:
			return 0x5449
		case 0xff:
			return 0x2260
		}
		return 0
	}
	d.set = func(reg byte, v uint16, _ time.Time) {
		switch reg {
		case 0x00:
			if d.config = v&^0x8000 | 0x4000; v&0x8000 != 0 {
				d.config, d.calibration = 0x4127, 0
			}
		case 0x05:
			d.calibration = v & 0x7fff
		}
	}
	return d
}

// PowerOn is what a chip does when its supply returns.
func (d *INA226) PowerOn() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.config, d.calibration = 0x4127, 0
}

// Voltages tells the voltage at one of four inputs at a time.
type Voltages func(t time.Time, input int) float64

// ADS1115 is a model of TI's converter in single-shot mode: ranges, pairs of
// inputs, and the time that a conversion takes, which a clock that is Slow
// stretches.
type ADS1115 struct {
	words
	slow       float64
	config     uint16
	conversion uint16
	next       uint16
	ready      time.Time
}

var (
	adsRange  = [8]float64{6.144, 4.096, 2.048, 1.024, 0.512, 0.256, 0.256, 0.256}
	adsInputs = [8][2]int{{0, 1}, {0, 3}, {1, 3}, {2, 3}, {0, -1}, {1, -1}, {2, -1}, {3, -1}}
	adsRate   = [8]time.Duration{8, 16, 32, 64, 128, 250, 475, 860}
)

// NewADS1115 returns a chip that has just been powered on.
func NewADS1115(v Voltages) *ADS1115 {
	d := &ADS1115{config: 0x8583, slow: 1}
	d.get = func(reg byte, now time.Time) uint16 {
		if !d.ready.IsZero() && !now.Before(d.ready) {
			d.conversion, d.ready = d.next, time.Time{}
			d.config |= 0x8000
		}
		switch reg & 3 {
		case 0:
			return d.conversion
		case 1:
			return d.config
		}
		return 0
	}
	d.set = func(reg byte, c uint16, now time.Time) {
		if reg&3 != 1 {
			return
		}
		d.config = c &^ 0x8000
		if c&0x8000 == 0 {
			return
		}
		in := adsInputs[c>>12&7]
		x := v(now, in[0])
		if in[1] >= 0 {
			x -= v(now, in[1])
		}
		d.next = signed(x, adsRange[c>>9&7]/32768)
		d.ready = now.Add(time.Duration(d.slow * float64(time.Second/adsRate[c>>5&7])))
	}
	return d
}

// Slow makes conversions take f times as long; a real chip may be 10 % slow.
func (d *ADS1115) Slow(f float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slow = f
}
