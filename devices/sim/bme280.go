package sim

import (
	"slices"
	"sync"
	"time"

	"periph.io/x/conn/v3/spi"
)

// Registers of the BME280 (data sheet BST-BME280-DS002 revision 1.6, section
// 5.3, page 26).
const (
	regCalib00  = 0x88
	regID       = 0xd0
	regReset    = 0xe0
	regCalib26  = 0xe1
	regCtrlHum  = 0xf2
	regStatus   = 0xf3
	regCtrlMeas = 0xf4
	regConfig   = 0xf5
	regPressure = 0xf7 // then temperature and humidity, 8 bytes in all
)

const (
	modeSleep  = 0
	modeForced = 1 // and 2
	modeNormal = 3

	skipped20 = 0x80000 // what a skipped measurement reads as
	skipped16 = 0x8000
)

// BME280 is a model of Bosch's sensor for temperature, pressure and humidity:
// identity, calibration, sleep, forced and normal mode, oversampling with its
// measurement time, standby, skipped measurements, soft reset, both buses. It does
// not model the IIR filter, noise or SPI with three wires.
type BME280 struct {
	mu      sync.Mutex
	weather Weather
	trim    Trim
	fixed   *[3]uint32 // raw temperature, pressure, humidity, instead of the weather
	frozen  bool
	dry     bool // a BMP280

	reg     [256]byte
	pointer byte
	began   time.Time // of the running measurement, or the first one of normal mode
	taken   time.Time // when the data registers were last filled
	osrsH   byte      // in force, since the last write of ctrl_meas
}

// NewBME280 returns a chip that has just been powered on, with [ExampleTrim].
func NewBME280(w Weather) *BME280 {
	d := &BME280{weather: w, trim: ExampleTrim}
	d.powerOn()
	return d
}

// NewBMP280 returns the chip without humidity.
func NewBMP280(w Weather) *BME280 {
	d := &BME280{weather: w, trim: ExampleTrim, dry: true}
	d.powerOn()
	return d
}

// PowerOn is what a chip does when its supply returns: all settings are gone,
// it sleeps.
func (d *BME280) PowerOn() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.powerOn()
}

// Freeze makes the values stick where they are; the chip answers as before.
func (d *BME280) Freeze(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.frozen = on
}

// FixRaw makes measurements give these raw numbers: 20 bits of temperature and
// pressure, 16 of humidity.
func (d *BME280) FixRaw(temperature, pressure, humidity uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fixed = &[3]uint32{temperature, pressure, humidity}
}

func (d *BME280) powerOn() {
	d.reg, d.pointer, d.osrsH = [256]byte{}, 0, 0
	d.began, d.taken = time.Time{}, time.Time{}
	d.reg[regID] = 0x60
	d.trim.store(&d.reg)
	d.store(skipped20, skipped20, skipped16)
	if d.dry {
		d.reg[regID] = 0x58
	}
}

// Write sets the register to read from; what follows its number are a value
// for it and further pairs of register and value (section 6.2.1).
func (d *BME280) Write(now time.Time, p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.advance(now)
	d.pointer = p[0]
	for ; len(p) >= 2; p = p[2:] {
		d.set(p[0], p[1], now)
	}
}

// Read reads registers one after the other.
func (d *BME280) Read(now time.Time, p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.advance(now)
	for i := range p {
		p[i] = d.reg[d.pointer]
		d.pointer++
	}
}

// Exchange is a transfer over SPI, in mode 0 or 3 (section 6.3): the highest bit of
// the first byte says that registers are read from there on, else each pair of
// bytes sets one; the highest bit of a register's number is not sent.
func (d *BME280) Exchange(now time.Time, mode spi.Mode, w, answer []byte) {
	const read = 0x80
	switch {
	case mode != spi.Mode0 && mode != spi.Mode3:
	case w[0]&read != 0:
		d.mu.Lock()
		d.pointer = w[0]
		d.mu.Unlock()
		d.Read(now, answer[1:])
	default:
		pairs := slices.Clone(w)
		for i := 0; i < len(pairs); i += 2 {
			pairs[i] |= read
		}
		d.Write(now, pairs)
	}
}

func (d *BME280) set(reg, v byte, now time.Time) {
	switch reg {
	case regReset:
		if v == 0xb6 {
			d.powerOn()
		}
	case regCtrlHum:
		if !d.dry {
			d.reg[reg] = v & 7
		}
	case regConfig:
		if d.mode() != modeNormal { // else it may be ignored, section 5.4.6
			d.reg[reg] = v
		}
	case regCtrlMeas:
		d.reg[reg] = v
		d.osrsH = d.reg[regCtrlHum] // takes effect now, page 27
		if d.mode() != modeSleep {
			d.began, d.taken = now, time.Time{}
		}
		d.advance(now)
	}
}

func (d *BME280) mode() byte { return d.reg[regCtrlMeas] & 3 }

// advance does what the chip did until now.
func (d *BME280) advance(now time.Time) {
	d.reg[regStatus] = 0
	mode := d.mode()
	if mode == modeSleep {
		return
	}
	measure := d.measureTime()
	passed := now.Sub(d.began)
	if mode != modeNormal { // 1 and 2 are both forced mode, section 5.4.5
		if passed < measure {
			d.reg[regStatus] = 8
			return
		}
		d.sample(d.began.Add(measure))
		d.reg[regCtrlMeas] &^= 3
		return
	}
	cycle := measure + d.standby()
	if passed%cycle < measure {
		d.reg[regStatus] = 8
	}
	if passed >= measure {
		d.sample(d.began.Add((passed-measure)/cycle*cycle + measure))
	}
}

// measureTime is the typical one (section 9.1, page 51).
func (d *BME280) measureTime() time.Duration {
	t := time.Millisecond
	if n := times(d.reg[regCtrlMeas] >> 5); n > 0 {
		t += n * 2 * time.Millisecond
	}
	for _, osrs := range []byte{d.reg[regCtrlMeas] >> 2 & 7, d.osrsH & 7} {
		if n := times(osrs); n > 0 {
			t += n*2*time.Millisecond + 500*time.Microsecond
		}
	}
	return t
}

// times is how often a value is measured for one result.
func times(osrs byte) time.Duration {
	if osrs == 0 {
		return 0
	}
	return 1 << (min(osrs, 5) - 1)
}

func (d *BME280) standby() time.Duration {
	const ms = time.Millisecond
	return [8]time.Duration{ms / 2, 62500 * time.Microsecond, 125 * ms, 250 * ms, 500 * ms, 1000 * ms, 10 * ms, 20 * ms}[d.reg[regConfig]>>5]
}

// sample fills the data registers with what there was at t.
func (d *BME280) sample(t time.Time) {
	if d.frozen || t.Equal(d.taken) {
		return
	}
	d.taken = t
	var rawT, rawP, rawH uint32
	if d.fixed != nil {
		rawT, rawP, rawH = d.fixed[0], d.fixed[1], d.fixed[2]
	} else {
		rawT, rawP, rawH = d.trim.raw(d.weather(t))
	}
	if d.reg[regCtrlMeas]>>5 == 0 {
		rawT = skipped20
	}
	if d.reg[regCtrlMeas]>>2&7 == 0 {
		rawP = skipped20
	}
	if d.osrsH&7 == 0 || d.dry {
		rawH = skipped16
	}
	d.store(rawT, rawP, rawH)
}

func (d *BME280) store(rawT, rawP, rawH uint32) {
	copy(d.reg[regPressure:], []byte{
		byte(rawP >> 12), byte(rawP >> 4), byte(rawP << 4),
		byte(rawT >> 12), byte(rawT >> 4), byte(rawT << 4),
		byte(rawH >> 8), byte(rawH),
	})
}
