// Package registers reads any device at an I²C or SPI bus by a description of its
// registers, for chips that have no driver:
//
//	boiler:
//	  driver: registers
//	  bus: 1
//	  address: 0x48
//	  init: [[0x01, 0x60, 0xa0]]            # writes after it is found
//	  registers:
//	    temperature: {at: 0x00, bytes: 2, signed: true, shift: 4, scale: 0.0625, unit: Cel}
//
// A register is read by writing at, waiting for wait if it is given, and reading.
// skip leaves out the first bytes of the answer, bytes are those of the value,
// order tells which comes first. shift drops the lowest bits, bits keeps so many of
// the others, signed takes the highest of them for the sign. The value is
// raw × scale + offset. With crc each group of every bytes of the answer is followed
// by a CRC-8 that is checked and left out. expect fails if the raw value is
// another one, for registers that tell what the chip is.
//
// At an SPI bus the answer follows what is written in the same transfer, and at
// is written with the bits of read_bits added to its first byte:
//
//	gyro:
//	  driver: registers
//	  bus: spi0.1
//	  mode: 3
//	  read_bits: 0xc0                       # read, and go on to the next register
//	  registers:
//	    chip: {at: 0x0f, expect: 0x33}
//	    temperature: {at: 0x0c, bytes: 2, order: little, signed: true, scale: 0.00390625, unit: Cel}
//	oven:
//	  driver: registers
//	  bus: spi0.0
//	  registers:
//	    temperature: {at: [], bytes: 2, shift: 3, bits: 12, scale: 0.25, unit: Cel}   # a MAX6675 only answers
//
// Nobody acknowledges anything there: expect makes a device that is not there
// fail, instead of reading as ones or zeros.
package registers

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/spi"

	"holdfast/devices"
	"holdfast/gateway/config"
)

// Driver is the entry in the list of drivers.
var Driver = devices.Driver{
	Name: "registers",
	Doc:  "Reads the registers of any device at an I²C or SPI bus, as the settings describe them.",
	Sample: `bus: 1                         # or that of SPI, such as spi0.0
address: 0x44                  # at an I²C bus; at one of SPI instead:
# speed: 1MHz                  # at most
# mode: 0                      # to 3: CPOL and CPHA
# read_bits: 0x80              # added to the first byte of at; default: 0
interval: 10s
init: [[0x30, 0xa2]]           # bytes to write when it is found
settle: 2ms                    # wait after each of them
registers:
  temperature: {at: [0x24, 0x00], wait: 16ms, bytes: 2, scale: 0.0026703, offset: -45, unit: Cel, crc: {poly: 0x31, init: 0xff, every: 2}}
  humidity: {at: [0x24, 0x00], wait: 16ms, skip: 2, bytes: 2, scale: 0.0015259, unit: "%RH", low: 0, high: 100, crc: {poly: 0x31, init: 0xff, every: 2}}
`,
	New: newSource,
}

// number is a byte or word written as 0x1f or 31.
type number uint64

func (n *number) UnmarshalText(text []byte) error {
	v, err := strconv.ParseUint(string(text), 0, 64)
	if err != nil {
		return fmt.Errorf("%q is not a number; write it as 31 or 0x1f", text)
	}
	*n = number(v)
	return nil
}

type crcSettings struct {
	Poly  number `config:"poly"`
	Init  number `config:"init"`
	Every int    `config:"every,min=1,max=32"`
}

type registerSettings struct {
	At     []number        `config:"at,required"`
	Wait   config.Duration `config:"wait,max=10s"`
	Skip   int             `config:"skip,min=0,max=64"`
	Bytes  int             `config:"bytes,min=1,max=8"`
	Order  string          `config:"order,oneof=big|little"`
	Signed bool            `config:"signed"`
	Shift  int             `config:"shift,min=0,max=63"`
	Bits   int             `config:"bits,min=1,max=64"`
	Scale  float64         `config:"scale"`
	Offset float64         `config:"offset"`
	Unit   string          `config:"unit"`
	Low    float64         `config:"low"`
	High   float64         `config:"high"`
	CRC    *crcSettings    `config:"crc"`
	Expect *number         `config:"expect"`
}

type register struct {
	registerSettings
	name string
	at   []byte
}

func newSource(s *config.Section, w *devices.Wiring) (devices.Source, error) {
	set := struct {
		devices.Polling
		devices.Wires
		Mode      spi.Mode        `config:"mode,min=0,max=3"`
		ReadBits  number          `config:"read_bits,max=255"`
		Init      [][]number      `config:"init"`
		Settle    config.Duration `config:"settle,max=10s"`
		Registers config.Named    `config:"registers,required"`
	}{Polling: devices.Every(10 * time.Second)}
	if err := s.Decode(&set); err != nil {
		return nil, err
	}
	var errs config.Errors
	inits, err := readInits(s, set.Init)
	errs.Add(err)
	all, err := readRegisters(set.Registers, byte(set.ReadBits))
	errs.Add(err)
	quantities := quantitiesOf(all)
	if len(quantities) == 0 && len(errs) == 0 {
		errs.Add(s.Errorf("registers", "there is no register to read"))
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	if !devices.IsSPI(set.Bus) {
		for _, key := range []string{"mode", "read_bits"} {
			if s.Child(key) != nil {
				return nil, s.Errorf(key, "%s is for devices on an SPI bus", key)
			}
		}
	}
	open := func(tx transfer) (devices.Sensor, error) {
		for _, b := range inits {
			if err := tx(b, nil); err != nil {
				return nil, fmt.Errorf("set the device up: %w", err)
			}
			time.Sleep(set.Settle.Std())
		}
		return &sensor{tx, all}, nil
	}
	opener, err := w.Opener(s, set.Wires,
		func(d *i2c.Dev) (devices.Sensor, error) { return open(d.Tx) },
		func(p spi.Port) (devices.Sensor, error) {
			c, err := p.Connect(0, set.Mode, 8)
			if err != nil {
				return nil, err
			}
			return open(devices.InTurn(c))
		})
	if err != nil {
		return nil, err
	}
	return devices.Poll(set.Polling, opener, quantities...), nil
}

// readInits returns the writes of the setting init.
func readInits(s *config.Section, lines [][]number) (inits [][]byte, err error) {
	var errs config.Errors
	for i, line := range lines {
		b, err := octets(line)
		if err == nil && len(b) == 0 {
			err = errors.New("there is no byte to write")
		}
		if err != nil {
			errs.Add(s.Errorf(fmt.Sprintf("init.%d", i), "%v", err))
		}
		inits = append(inits, b)
	}
	return inits, errs.Err()
}

// readRegisters returns those of the setting registers; the bits are added to where
// each is.
func readRegisters(sections config.Named, readBits byte) (all []register, err error) {
	var errs config.Errors
	for _, s := range sections {
		r := register{registerSettings: registerSettings{Bytes: 1, Order: "big", Scale: 1}, name: s.Name()}
		if err := s.Decode(&r.registerSettings); err != nil {
			errs.Add(err)
			continue
		}
		if r.at, err = octets(r.At); err != nil {
			errs.Add(s.Errorf("at", "%v", err))
		} else if len(r.at) > 0 {
			r.at[0] |= readBits
		}
		errs.Add(r.check(s))
		all = append(all, r)
	}
	return all, errs.Err()
}

// quantitiesOf returns what the registers measure, which those that are compared
// with a number do not.
func quantitiesOf(all []register) (quantities []devices.Quantity) {
	for _, r := range all {
		if r.Expect == nil {
			quantities = append(quantities, devices.Quantity{Name: r.name, Unit: r.Unit, Low: r.Low, High: r.High})
		}
	}
	return quantities
}

// transfer writes w to a device, then reads r from it.
type transfer func(w, r []byte) error

func octets(numbers []number) ([]byte, error) {
	var b []byte
	for _, n := range numbers {
		if n > 0xff {
			return nil, fmt.Errorf("%#x is more than a byte; write its bytes one by one", uint64(n))
		}
		b = append(b, byte(n))
	}
	return b, nil
}

func (r *register) check(s *config.Section) error {
	var errs config.Errors
	if r.Bits == 0 {
		r.Bits = 8*r.Bytes - r.Shift
	}
	if r.Bits < 1 || r.Shift+r.Bits > 8*r.Bytes {
		errs.Add(s.Errorf("bits", "%d bits above the lowest %d are more than the %d of %d bytes", r.Bits, r.Shift, 8*r.Bytes, r.Bytes))
	}
	if c := r.CRC; c != nil {
		if c.Every == 0 {
			c.Every = r.Bytes
		}
		if c.Poly == 0 || c.Poly > 0xff || c.Init > 0xff {
			errs.Add(s.Errorf("crc", "a CRC-8 needs a polynomial from 0x01 to 0xff, and starts at 0x00 to 0xff"))
		}
		if (r.Skip+r.Bytes)%c.Every != 0 {
			errs.Add(s.Errorf("crc", "the %d bytes that are read are not made of groups of %d", r.Skip+r.Bytes, c.Every))
		}
	}
	if r.Low > r.High {
		errs.Add(s.Errorf("low", "low must be less than high"))
	}
	return errs.Err()
}

type sensor struct {
	tx        transfer
	registers []register
}

// Read reads all registers, those that follow each other with the same request
// in one go.
func (s *sensor) Read(ctx context.Context) ([]devices.Reading, error) {
	var readings []devices.Reading
	var answer []byte
	for i := range s.registers {
		r := &s.registers[i]
		if i == 0 || !r.continues(&s.registers[i-1]) {
			var err error
			if answer, err = s.fetch(ctx, s.registers[i:]); err != nil {
				return nil, fmt.Errorf("read %s: %w", r.name, err)
			}
		}
		raw, value := r.decode(answer[r.Skip : r.Skip+r.Bytes])
		switch {
		case r.Expect == nil:
			readings = append(readings, devices.Reading{Name: r.name, Unit: r.Unit, Value: value})
		case raw != uint64(*r.Expect):
			return nil, fmt.Errorf("read %s: it is %#x, not %#x; is this another device?", r.name, raw, uint64(*r.Expect))
		}
	}
	return readings, nil
}

// continues reports whether r is part of the answer that q is part of.
func (r *register) continues(q *register) bool {
	sameCRC := r.CRC == q.CRC || r.CRC != nil && q.CRC != nil && *r.CRC == *q.CRC
	return string(r.at) == string(q.at) && r.Wait == q.Wait && sameCRC
}

// fetch reads the answer that the first of the registers is part of.
func (s *sensor) fetch(ctx context.Context, rest []register) ([]byte, error) {
	first := &rest[0]
	n := 0
	for i := range rest {
		if !rest[i].continues(first) {
			break
		}
		n = max(n, rest[i].Skip+rest[i].Bytes)
	}
	size := n
	if c := first.CRC; c != nil {
		size += n / c.Every
	}
	answer := make([]byte, size)
	var err error
	if first.Wait == 0 {
		err = s.tx(first.at, answer)
	} else if err = s.tx(first.at, nil); err == nil {
		if err = devices.Wait(ctx, first.Wait.Std()); err == nil {
			err = s.tx(nil, answer)
		}
	}
	if err != nil || first.CRC == nil {
		return answer, err
	}
	return first.CRC.strip(answer)
}

// strip checks the checksums and leaves them out.
func (c *crcSettings) strip(answer []byte) (data []byte, err error) {
	for ; len(answer) > c.Every; answer = answer[c.Every+1:] {
		crc := byte(c.Init)
		for _, b := range answer[:c.Every] {
			crc ^= b
			for range 8 {
				if high := crc & 0x80; high != 0 {
					crc = crc<<1 ^ byte(c.Poly)
				} else {
					crc <<= 1
				}
			}
		}
		if crc != answer[c.Every] {
			return nil, errors.New("the checksum is wrong")
		}
		data = append(data, answer[:c.Every]...)
	}
	return data, nil
}

// decode returns the bits of the value, and the value.
func (r *register) decode(b []byte) (raw uint64, value float64) {
	for i := range b {
		if r.Order == "little" {
			raw |= uint64(b[i]) << (8 * i)
		} else {
			raw = raw<<8 | uint64(b[i])
		}
	}
	raw = raw >> r.Shift & (1<<r.Bits - 1)
	value = float64(raw)
	if r.Signed && bits.Len64(raw) == r.Bits {
		value = float64(int64(raw<<(64-r.Bits)) >> (64 - r.Bits))
	}
	return raw, devices.Round(value*r.Scale+r.Offset, 9)
}
