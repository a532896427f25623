// Package bh1750 drives ROHM's BH1750FVI, a sensor for ambient light, at an I²C
// bus.
//
//	reading      unit  range         resolution
//	illuminance  lx    0 … 54 612    1, or 0.5 with fine: true (then up to 27 306)
//
// From the technical note 2009.04 revision B. Each reading powers the sensor up and
// measures once, which takes up to 180 ms, during which the
// bus is free. The count divided by 1.2 is the illuminance (page 10).
//
// periph's bh1750 is not used: it sends a reset in place of power-on, and gives
// whole lumens only.
package bh1750

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"periph.io/x/conn/v3/i2c"

	"holdfast/devices"
	"holdfast/gateway/config"
)

// Driver is the entry in the list of drivers.
var Driver = devices.Driver{
	Name: "bh1750",
	Doc:  "Measures ambient light with a ROHM BH1750 at an I²C bus.",
	Sample: `bus: 1
address: 0x23         # 0x5c if ADDR is wired to the supply
interval: 10s
fine: false           # steps of 0.5 lx, up to half the range
`,
	Addresses: []devices.Address{0x23, 0x5c},
	New:       newSource,
}

const measureTime = 180 * time.Millisecond

// Commands (section on the instruction set).
const (
	powerOn     = 0x01
	onceHigh    = 0x20
	onceHigh2   = 0x21
	fullScale   = 65535 / 1.2
	countsPerLx = 1.2
)

func newSource(s *config.Section, w *devices.Wiring) (devices.Source, error) {
	set := struct {
		devices.Polling
		devices.I2C
		Fine bool `config:"fine"`
	}{devices.Every(10 * time.Second), devices.I2C{Address: 0x23}, false}
	if err := s.Decode(&set); err != nil {
		return nil, err
	}
	if set.Address != 0x23 && set.Address != 0x5c {
		return nil, s.Errorf("address", "a BH1750 is at 0x23 or 0x5c, not at %v", set.Address)
	}
	port, err := w.I2C(s, set.I2C)
	if err != nil {
		return nil, err
	}
	chip := sensor{mode: onceHigh, perLx: countsPerLx, decimals: 1}
	if set.Fine {
		chip = sensor{mode: onceHigh2, perLx: 2 * countsPerLx, decimals: 1}
	}
	open := func(d *i2c.Dev) (devices.Sensor, error) {
		if err := d.Tx([]byte{powerOn}, nil); err != nil {
			return nil, fmt.Errorf("find a BH1750: %w", err)
		}
		chip := chip
		chip.at = d
		return chip, nil
	}
	return devices.Poll(set.Polling, port.Opener(open),
		devices.Quantity{Name: "illuminance", Unit: "lx", Low: 0, High: fullScale * countsPerLx / chip.perLx}), nil
}

type sensor struct {
	at       *i2c.Dev
	mode     byte
	perLx    float64
	decimals int
}

// Read measures once.
func (s sensor) Read(ctx context.Context) ([]devices.Reading, error) {
	var b [2]byte
	err := s.at.Tx([]byte{powerOn}, nil)
	if err == nil {
		err = s.at.Tx([]byte{s.mode}, nil)
	}
	if err == nil {
		err = devices.Wait(ctx, measureTime)
	}
	if err == nil {
		err = s.at.Tx(nil, b[:])
	}
	if err != nil {
		return nil, fmt.Errorf("measure with the BH1750: %w", err)
	}
	lx := devices.Round(float64(binary.BigEndian.Uint16(b[:]))/s.perLx, s.decimals)
	return []devices.Reading{{Name: "illuminance", Unit: "lx", Value: lx}}, nil
}
