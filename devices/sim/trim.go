package sim

import (
	"encoding/binary"
	"sort"
)

// Trim are the compensation words that Bosch writes into each BME280 (section
// 4.2.2, page 24).
type Trim struct {
	T1                             uint16
	T2, T3                         int16
	P1                             uint16
	P2, P3, P4, P5, P6, P7, P8, P9 int16
	H1                             uint8
	H2                             int16
	H3                             uint8
	H4, H5                         int16 // 12 bits
	H6                             int8
}

// ExampleTrim has the words for temperature and pressure of the worked example
// in the data sheet of the BMP280 (BST-BMP280-DS001 revision 1.23, section
// 3.12, page 23), with which the BME280 is compatible. There is no example for
// humidity: these words are typical ones.
var ExampleTrim = Trim{
	T1: 27504, T2: 26435, T3: -1000,
	P1: 36477, P2: -10685, P3: 3024, P4: 2855, P5: 140, P6: -7, P7: 15500, P8: -14600, P9: 6000,
	H1: 75, H2: 362, H3: 0, H4: 328, H5: 50, H6: 30,
}

// store writes the words to their registers.
func (c *Trim) store(reg *[256]byte) {
	at := regCalib00
	for _, v := range []uint16{
		c.T1, uint16(c.T2), uint16(c.T3),
		c.P1, uint16(c.P2), uint16(c.P3), uint16(c.P4), uint16(c.P5), uint16(c.P6), uint16(c.P7), uint16(c.P8), uint16(c.P9),
	} {
		binary.LittleEndian.PutUint16(reg[at:], v)
		at += 2
	}
	reg[0xa1] = c.H1
	binary.LittleEndian.PutUint16(reg[regCalib26:], uint16(c.H2))
	reg[0xe3] = c.H3
	reg[0xe4] = byte(c.H4 >> 4)
	reg[0xe5] = byte(c.H4&15) | byte(c.H5&15)<<4
	reg[0xe6] = byte(c.H5 >> 4)
	reg[0xe7] = byte(c.H6)
}

// The formulas below are those in double precision (section 8.1, page 49);
// drivers as a rule use those in integers, which makes the two a check on each
// other.

// temperature returns °C, and the fine temperature that the others need.
func (c *Trim) temperature(raw uint32) (celsius, fine float64) {
	a := (float64(raw)/16384 - float64(c.T1)/1024) * float64(c.T2)
	b := float64(raw)/131072 - float64(c.T1)/8192
	fine = a + b*b*float64(c.T3)
	return fine / 5120, fine
}

// pressure returns Pa.
func (c *Trim) pressure(raw uint32, fine float64) float64 {
	x := fine/2 - 64000
	offset := (x*x*float64(c.P6)/32768+x*float64(c.P5)*2)/4 + float64(c.P4)*65536
	slope := (1 + (float64(c.P3)*x*x/524288+float64(c.P2)*x)/524288/32768) * float64(c.P1)
	if slope == 0 {
		return 0
	}
	p := (1048576 - float64(raw) - offset/4096) * 6250 / slope
	return p + (float64(c.P9)*p*p/2147483648+p*float64(c.P8)/32768+float64(c.P7))/16
}

// humidity returns % relative humidity.
func (c *Trim) humidity(raw uint32, fine float64) float64 {
	x := fine - 76800
	h := (float64(raw) - (float64(c.H4)*64 + float64(c.H5)/16384*x)) *
		(float64(c.H2) / 65536 * (1 + float64(c.H6)/67108864*x*(1+float64(c.H3)/67108864*x)))
	h *= 1 - float64(c.H1)*h/524288
	return min(100, max(0, h))
}

// Climate returns what the numbers of a measurement mean.
func (c *Trim) Climate(rawT, rawP, rawH uint32) (now Climate) {
	var fine float64
	now.Temperature, fine = c.temperature(rawT)
	now.Pressure, now.Humidity = c.pressure(rawP, fine), c.humidity(rawH, fine)
	return now
}

// raw returns the numbers that the converter gives in a climate.
func (c *Trim) raw(now Climate) (rawT, rawP, rawH uint32) {
	rawT = search(1<<20, func(raw uint32) bool {
		t, _ := c.temperature(raw)
		return t >= now.Temperature
	})
	_, fine := c.temperature(rawT)
	rawP = search(1<<20, func(raw uint32) bool { return c.pressure(raw, fine) <= now.Pressure })
	rawH = search(1<<16, func(raw uint32) bool { return c.humidity(raw, fine) >= now.Humidity })
	return rawT, rawP, rawH
}

// search returns the first number below n for which reached holds, or the last.
func search(n int, reached func(raw uint32) bool) uint32 {
	return uint32(min(sort.Search(n, func(i int) bool { return reached(uint32(i)) }), n-1))
}
