package bench

import "fmt"

// MinSize is the size in bytes of the smallest payload: one reading in JSON.
const MinSize = 120

// HotEvery says how often a reading of one client is hot: of so many in a row
// exactly one is over 80 °C, so that a rule `temperature > 80` passes 1 %.
const HotEvery = 100

// The reading whose digits are written anew for every message.
const (
	reading       = `{"device":"sensor-00000000","temperature":20.000,"humidity":45.0,"pressure":1013.25,"seq":1000000000,"ts":1700000000000`
	atDevice      = 18
	atTemperature = 42
	atHumidity    = 60
	atPressure    = 76
	atSeq         = 90
	atTS          = 106
	padding       = `,"pad":"`
	atPad         = len(reading) + len(padding)
	leastPadded   = atPad + len(`"}`)
)

// readings makes the payloads of one client: a sensor whose values drift, so
// that they compress as real ones do.
type readings struct {
	payload []byte // the current reading
	noise   []byte // where padding is cut from; nil without padding
	random  uint64
	temp    uint32 // thousandths of a degree
	humid   uint32 // tenths of a per cent
	press   uint32 // hundredths of a hectopascal above 1000
	seq     uint64
	ts      int64 // ms since 1970, as written in payload
}

// newReadings prepares payloads of size bytes for client number n. Padding is
// cut from noise, which all clients may share.
func newReadings(n, size int, noise []byte) (*readings, error) {
	if size < MinSize {
		return nil, fmt.Errorf("payload of %d bytes: a reading takes at least %d", size, MinSize)
	}
	r := &readings{random: uint64(n)*0x9E3779B97F4A7C15 + 1, temp: 21000, humid: 450, press: 1325}
	r.payload = append(r.payload, reading...)
	if size >= leastPadded {
		r.payload = append(r.payload, padding...)
		r.noise = noise
	}
	for len(r.payload) < size-1 {
		r.payload = append(r.payload, ' ')
	}
	if r.noise != nil {
		r.payload[size-2] = '"'
	}
	r.payload = append(r.payload, '}')
	digits(r.payload[atDevice:atDevice+8], uint64(n))
	return r, nil
}

// next writes the next reading, taken at ms since 1970, over the current one.
func (r *readings) next(ms int64) {
	p := r.payload
	x := xorshift(&r.random) >> 20
	r.temp = drift(r.temp, uint32(x%41), 20, 18000, 32000)
	r.humid = drift(r.humid, uint32(x>>8%5), 2, 300, 700)
	r.press = drift(r.press, uint32(x>>16%7), 3, 1000, 1700)
	t := r.temp
	if r.seq%HotEvery == HotEvery-1 {
		t += 62001
	}
	digits(p[atTemperature:atTemperature+2], uint64(t/1000))
	digits(p[atTemperature+3:atTemperature+6], uint64(t%1000))
	digits(p[atHumidity:atHumidity+2], uint64(r.humid/10))
	p[atHumidity+3] = '0' + byte(r.humid%10)
	digits(p[atPressure+2:atPressure+4], uint64(r.press/100))
	digits(p[atPressure+5:atPressure+7], uint64(r.press%100))
	digits(p[atSeq+1:atSeq+10], r.seq)
	if r.ts != ms {
		r.ts = ms
		digits(p[atTS:atTS+13], uint64(ms))
	}
	if r.noise != nil {
		pad := p[atPad : len(p)-2]
		for n, from := 0, int(r.random>>8)&(noiseSize-1); n < len(pad); from = 0 {
			n += copy(pad[n:], r.noise[from:])
		}
	}
	r.seq++
}

func drift(v, step, back, low, high uint32) uint32 {
	return min(max(v+step-back, low), high)
}

// digits fills p with the lowest decimal digits of v.
func digits(p []byte, v uint64) {
	for i := len(p) - 1; i >= 0; i-- {
		p[i] = '0' + byte(v%10)
		v /= 10
	}
}

func xorshift(x *uint64) uint64 {
	*x ^= *x << 13
	*x ^= *x >> 7
	*x ^= *x << 17
	return *x
}

// noiseSize is how far apart equal padding is, beyond the reach of any
// compression of blocks.
const noiseSize = 1 << 20

// newNoise makes text of noiseSize bytes that does not compress.
func newNoise() []byte {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-"
	b := make([]byte, noiseSize)
	x := uint64(88172645463325252)
	for i := range b {
		b[i] = letters[xorshift(&x)>>40&63]
	}
	return b
}
