package sim

import (
	"encoding/binary"
	"math"
	"sync"
	"time"
)

// CRC8 returns the checksum of Sensirion's chips.
func CRC8(p []byte) byte {
	crc := byte(0xff)
	for _, b := range p {
		crc ^= b
		for range 8 {
			if crc&0x80 != 0 {
				crc = crc<<1 ^ 0x31
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}

// answer is words with their checksums, that a chip gives after some time.
type answer struct {
	bytes []byte
	from  time.Time
}

func words16(from time.Time, words ...uint16) answer {
	var b []byte
	for _, w := range words {
		b = binary.BigEndian.AppendUint16(b, w)
		b = append(b, CRC8(b[len(b)-2:]))
	}
	return answer{b, from}
}

// read fills p; before its time the chip does not acknowledge, which reads as
// ones.
func (a answer) read(p []byte, now time.Time) {
	for i := range p {
		p[i] = 0xff
	}
	if !now.Before(a.from) {
		copy(p, a.bytes)
	}
}

func rawCelsius(t float64) uint16 { return unsigned((t + 45) / 175 * 65535) }

func unsigned(v float64) uint16 { return uint16(min(65535, max(0, math.Round(v)))) }

// SHT is a model of Sensirion's SHT3x or SHT4x: measurements on command, with
// their time and checksums, status or serial number.
type SHT struct {
	mu      sync.Mutex
	weather Weather
	four    bool
	answer  answer
}

// NewSHT3x returns a chip of the family SHT3x.
func NewSHT3x(w Weather) *SHT { return &SHT{weather: w} }

// NewSHT4x returns a chip of the family SHT4x.
func NewSHT4x(w Weather) *SHT { return &SHT{weather: w, four: true} }

// Write takes a command.
func (d *SHT) Write(now time.Time, p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	climate := d.weather(now)
	switch {
	case d.four && p[0] == 0xfd:
		d.answer = words16(now.Add(8300*time.Microsecond), rawCelsius(climate.Temperature), unsigned((climate.Humidity+6)/125*65535))
	case d.four && p[0] == 0x89:
		d.answer = words16(now, 0x1234, 0x5678)
	case d.four || len(p) < 2:
		d.answer = answer{}
	case p[0] == 0x24 && p[1] == 0x00:
		d.answer = words16(now.Add(15*time.Millisecond), rawCelsius(climate.Temperature), unsigned(climate.Humidity/100*65535))
	case p[0] == 0xf3 && p[1] == 0x2d:
		d.answer = words16(now, 0x8010)
	}
}

// Read gives the answer.
func (d *SHT) Read(now time.Time, p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer.read(p, now)
}

// SCD4x is a model of Sensirion's CO₂ sensor: it measures every 5 s once it has
// been started, and until it is stopped knows only a few commands.
type SCD4x struct {
	mu      sync.Mutex
	weather Weather
	co2     func(t time.Time) float64
	began   time.Time // of periodic measurement; zero when idle
	read    time.Time // of the newest measurement that was read
	answer  answer
}

// NewSCD4x returns an idle chip that measures ppm.
func NewSCD4x(w Weather, co2 func(t time.Time) float64) *SCD4x { return &SCD4x{weather: w, co2: co2} }

// latest returns when the newest measurement was made.
func (d *SCD4x) latest(now time.Time) time.Time {
	const period = 5 * time.Second
	if d.began.IsZero() || now.Sub(d.began) < period {
		return time.Time{}
	}
	return d.began.Add(now.Sub(d.began) / period * period)
}

// Write takes a command.
func (d *SCD4x) Write(now time.Time, p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer = answer{}
	if len(p) < 2 {
		return
	}
	latest := d.latest(now)
	fresh := !latest.IsZero() && latest.After(d.read)
	switch binary.BigEndian.Uint16(p) {
	case 0x21b1:
		if d.began.IsZero() {
			d.began = now
		}
	case 0x3f86:
		d.began = time.Time{}
	case 0xe4b8: // the 11 lowest bits are 0 as long as nothing is ready
		state := uint16(0x8000)
		if fresh {
			state |= 6
		}
		d.answer = words16(now, state)
	case 0xec05:
		if fresh {
			c := d.weather(latest)
			d.answer = words16(now, unsigned(d.co2(latest)), rawCelsius(c.Temperature), unsigned(c.Humidity/100*65535))
			d.read = latest
		}
	}
}

// Read gives the answer.
func (d *SCD4x) Read(now time.Time, p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer.read(p, now)
}

// PowerOn is what a chip does when its supply returns: it is idle.
func (d *SCD4x) PowerOn() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.began, d.read, d.answer = time.Time{}, time.Time{}, answer{}
}

// BH1750 is a model of ROHM's light sensor: power on, one measurement on
// command, and its time.
type BH1750 struct {
	mu     sync.Mutex
	light  func(t time.Time) float64
	on     bool
	raw    uint16
	fromAt time.Time
	next   uint16
}

// NewBH1750 returns a chip in power-down that is exposed to light in lx.
func NewBH1750(light func(t time.Time) float64) *BH1750 { return &BH1750{light: light} }

// Write takes a command.
func (d *BH1750) Write(now time.Time, p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settle(now)
	perLx := map[byte]float64{0x20: 1.2, 0x21: 2.4}[p[0]]
	switch {
	case p[0] == 0x00:
		d.on = false
	case p[0] == 0x01:
		d.on = true
	case p[0] == 0x07 && d.on:
		d.raw = 0
	case perLx > 0 && d.on:
		d.next, d.fromAt, d.on = unsigned(d.light(now)*perLx), now.Add(120*time.Millisecond), false
	}
}

func (d *BH1750) settle(now time.Time) {
	if !d.fromAt.IsZero() && !now.Before(d.fromAt) {
		d.raw, d.fromAt = d.next, time.Time{}
	}
}

// Read gives the last measurement.
func (d *BH1750) Read(now time.Time, p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settle(now)
	for i := range p {
		p[i] = byte(d.raw >> (8 * (1 - i&1)))
	}
}
