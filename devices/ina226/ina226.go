// Package ina226 drives TI's INA226, which measures the voltage of a supply and
// the current through a shunt, at an I²C bus.
//
//	reading  unit  range                  resolution
//	voltage  V     0 … 36                 0.00125
//	current  A     ±0.08192 / shunt       0.0000025 / shunt
//	power    W     voltage × current
//	shunt    V     ±0.08192               0.0000025
//
// From the data sheet SBOS547. Current and power are computed
// here, from what the chip measures: its own registers for them do the same, with
// less resolution, and are 0 after a loss of supply. The chip says who it is (manufacturer
// 0x5449, die 0x2260), which is checked when it is found. It averages 16
// measurements of 1.1 ms by default.
package ina226

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/mmr"

	"holdfast/devices"
	"holdfast/gateway/config"
)

// Driver is the entry in the list of drivers.
var Driver = devices.Driver{
	Name: "ina226",
	Doc:  "Measures voltage, current and power of a supply with a TI INA226 at an I²C bus.",
	Sample: `bus: 1
address: 0x40         # to 0x4f by A0 and A1
interval: 1s
shunt: 0.002          # ohms
average: 16           # or 1, 4, 64, 128, 256, 512, 1024 measurements of 2.2 ms
`,
	Addresses: []devices.Address{0x40, 0x41, 0x44, 0x45},
	New:       newSource,
}

// Registers and steps (data sheet SBOS547).
const (
	regConfig  = 0x00
	regShunt   = 0x01
	regBus     = 0x02
	regMaker   = 0xfe
	regDie     = 0xff
	maker      = 0x5449
	die        = 0x2260
	shuntStep  = 2.5e-6
	busStep    = 1.25e-3
	conversion = 2 * 1100 * time.Microsecond // shunt, then bus
)

// averages by their number, as in bits 11 to 9 of the configuration (configuration register).
var averages = map[int]uint16{1: 0, 4: 1, 16: 2, 64: 3, 128: 4, 256: 5, 512: 6, 1024: 7}

func newSource(s *config.Section, w *devices.Wiring) (devices.Source, error) {
	set := struct {
		devices.Polling
		devices.I2C
		Shunt   float64 `config:"shunt,min=0.00001,max=10"`
		Average int     `config:"average,oneof=1|4|16|64|128|256|512|1024"`
	}{devices.Every(time.Second), devices.I2C{Address: 0x40}, 0.002, 16}
	if err := s.Decode(&set); err != nil {
		return nil, err
	}
	if err := set.Between(s, "INA226", 0x40, 0x4f); err != nil {
		return nil, err
	}
	port, err := w.I2C(s, set.I2C)
	if err != nil {
		return nil, err
	}
	open := func(d *i2c.Dev) (devices.Sensor, error) {
		c := &sensor{chip: mmr.Dev8{Conn: d, Order: binary.BigEndian}, shunt: set.Shunt, config: 0x4127&^0x0e00 | averages[set.Average]<<9}
		if err := c.setUp(); err != nil {
			return nil, fmt.Errorf("find an INA226: %w", err)
		}
		time.Sleep(time.Duration(set.Average) * conversion)
		return c, nil
	}
	limit := 0.08192 / set.Shunt
	return devices.Poll(set.Polling, port.Opener(open),
		devices.Quantity{Name: "voltage", Unit: "V", Low: 0, High: 36},
		devices.Quantity{Name: "current", Unit: "A", Low: -limit, High: limit},
		devices.Quantity{Name: "power", Unit: "W", Low: -36 * limit, High: 36 * limit},
		devices.Quantity{Name: "shunt", Unit: "V", Low: -0.08192, High: 0.08192},
	), nil
}

type sensor struct {
	chip   mmr.Dev8
	shunt  float64
	config uint16
}

func (s *sensor) setUp() error {
	m, err := s.chip.ReadUint16(regMaker)
	if err != nil {
		return err
	}
	d, err := s.chip.ReadUint16(regDie)
	if err != nil {
		return err
	}
	if m != maker || d&0xfff0 != die {
		return fmt.Errorf("the chip says that it is number %#04x of maker %#04x", d, m)
	}
	return s.chip.WriteUint16(regConfig, s.config)
}

// Read reads the last measurement.
func (s *sensor) Read(context.Context) ([]devices.Reading, error) {
	var raw [3]uint16
	for i, reg := range []uint8{regShunt, regBus, regConfig} { // which tells of all before
		v, err := s.chip.ReadUint16(reg)
		if err != nil {
			return nil, fmt.Errorf("read the INA226: %w", err)
		}
		raw[i] = v
	}
	if raw[2] != s.config {
		return nil, errors.New("read the INA226: it has lost its settings; was its supply interrupted?")
	}
	shunt, bus := float64(int16(raw[0]))*shuntStep, float64(raw[1])*busStep
	current := shunt / s.shunt
	return []devices.Reading{
		{Name: "voltage", Unit: "V", Value: devices.Round(bus, 5)},
		{Name: "current", Unit: "A", Value: devices.Round(current, 6)},
		{Name: "power", Unit: "W", Value: devices.Round(bus*current, 6)},
		{Name: "shunt", Unit: "V", Value: devices.Round(shunt, 7)},
	}, nil
}
