// Package ina219 drives TI's INA219, which measures the voltage of a supply and
// the current through a shunt, at an I²C bus, by periph's ina219.
//
//	reading  unit  range                        resolution
//	voltage  V     0 … 32                       0.004
//	current  A     ±max_current                 max_current / 32768
//	power    W     0 … 32 × max_current         20 × that of the current
//	shunt    V     ±0.32                        0.00001
//
// From the data sheet SBOS448F. The chip computes current and power by a
// calibration register that is 0 after power-on: each reading checks that it
// still holds what was written, since a chip that lost its supply would report
// no current at all.
package ina219

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/devices/v3/ina219"

	"holdfast/devices"
	"holdfast/gateway/config"
)

// Driver is the entry in the list of drivers.
var Driver = devices.Driver{
	Name: "ina219",
	Doc:  "Measures voltage, current and power of a supply with a TI INA219 at an I²C bus.",
	Sample: `bus: 1
address: 0x40         # to 0x4f by A0 and A1
interval: 1s
shunt: 0.1            # ohms
max_current: 3.2      # amperes
`,
	Addresses: []devices.Address{0x40, 0x41, 0x44, 0x45},
	New:       newSource,
}

const regCalibration = 5

func newSource(s *config.Section, w *devices.Wiring) (devices.Source, error) {
	set := struct {
		devices.Polling
		devices.I2C
		Shunt float64 `config:"shunt,min=0.0001,max=10"`
		Max   float64 `config:"max_current,min=0.01,max=1000"`
	}{devices.Every(time.Second), devices.I2C{Address: 0x40}, 0.1, 3.2}
	if err := s.Decode(&set); err != nil {
		return nil, err
	}
	if err := set.Between(s, "INA219", 0x40, 0x4f); err != nil {
		return nil, err
	}
	if set.Shunt*set.Max > 0.3201 {
		return nil, s.Errorf("max_current", "%g A through %g ohms are %.3g V; an INA219 measures up to 0.32 V at its shunt", set.Max, set.Shunt, set.Shunt*set.Max)
	}
	port, err := w.I2C(s, set.I2C)
	if err != nil {
		return nil, err
	}
	open := func(d *i2c.Dev) (devices.Sensor, error) {
		chip, err := ina219.New(d.Bus, &ina219.Opts{
			Address:       int(d.Addr),
			SenseResistor: physic.ElectricResistance(math.Round(set.Shunt * float64(physic.Ohm))),
			MaxCurrent:    physic.ElectricCurrent(math.Round(set.Max * float64(physic.Ampere))),
		})
		if err != nil {
			return nil, fmt.Errorf("set up the INA219: %w", err)
		}
		s := &sensor{chip: chip, at: d}
		if err := d.Tx([]byte{regCalibration}, s.calibration[:]); err != nil {
			return nil, fmt.Errorf("set up the INA219: %w", err)
		}
		time.Sleep(2 * time.Millisecond) // the first conversion
		return s, nil
	}
	return devices.Poll(set.Polling, port.Opener(open),
		devices.Quantity{Name: "voltage", Unit: "V", Low: 0, High: 32},
		devices.Quantity{Name: "current", Unit: "A", Low: -set.Max, High: set.Max},
		devices.Quantity{Name: "power", Unit: "W", Low: 0, High: 32 * set.Max},
		devices.Quantity{Name: "shunt", Unit: "V", Low: -0.32, High: 0.32},
	), nil
}

type sensor struct {
	chip        *ina219.Dev
	at          *i2c.Dev
	calibration [2]byte
}

// Read reads the last measurement.
func (s *sensor) Read(context.Context) ([]devices.Reading, error) {
	p, err := s.chip.Sense()
	if err != nil {
		return nil, fmt.Errorf("read the INA219: %w", err)
	}
	var now [2]byte
	if err := s.at.Tx([]byte{regCalibration}, now[:]); err != nil { // at last, for all before
		return nil, fmt.Errorf("read the INA219: %w", err)
	}
	if now != s.calibration || now == [2]byte{} {
		return nil, errors.New("read the INA219: it has lost its settings; was its supply interrupted?")
	}
	return []devices.Reading{
		{Name: "voltage", Unit: "V", Value: devices.Round(float64(p.Voltage)/float64(physic.Volt), 3)},
		{Name: "current", Unit: "A", Value: devices.Round(float64(p.Current)/float64(physic.Ampere), 6)},
		{Name: "power", Unit: "W", Value: devices.Round(float64(p.Power)/float64(physic.Watt), 5)},
		{Name: "shunt", Unit: "V", Value: devices.Round(float64(p.Shunt)/float64(physic.Volt), 5)},
	}, nil
}
