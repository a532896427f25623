// Package sht3x drives Sensirion's SHT30, SHT31 and SHT35, sensors for
// temperature and humidity, at an I²C bus.
//
//	reading      unit  range        resolution  accuracy (SHT31)
//	temperature  Cel   -40 … 125    0.01        ±0.2 (0 … 90 °C)
//	humidity     %RH   0 … 100      0.01        ±2 (0 … 100 %RH)
//
// From the data sheet SHT3x-DIS, version 5 (May 2018). Each reading is one measurement of
// high repeatability without clock stretching, command 0x2400 (table 9), which
// takes up to 15.5 ms (table 4), during which the bus is free. Each word has a
// checksum (section 4.12).
package sht3x

import (
	"context"
	"fmt"
	"time"

	"periph.io/x/conn/v3/i2c"

	"holdfast/devices"
	"holdfast/devices/sensirion"
	"holdfast/gateway/config"
)

// Driver is the entry in the list of drivers.
var Driver = devices.Driver{
	Name: "sht3x",
	Doc:  "Measures temperature and humidity with a Sensirion SHT30, SHT31 or SHT35 at an I²C bus.",
	Sample: `bus: 1
address: 0x44         # 0x45 if ADDR is wired to the supply
interval: 10s
`,
	Addresses: []devices.Address{0x44, 0x45},
	New:       newSource,
}

// measureTime is the longest that a measurement takes.
const measureTime = 16 * time.Millisecond

func newSource(s *config.Section, w *devices.Wiring) (devices.Source, error) {
	set := struct {
		devices.Polling
		devices.I2C
	}{devices.Every(10 * time.Second), devices.I2C{Address: 0x44}}
	if err := s.Decode(&set); err != nil {
		return nil, err
	}
	if err := set.Between(s, "SHT3x", 0x44, 0x45); err != nil {
		return nil, err
	}
	port, err := w.I2C(s, set.I2C)
	if err != nil {
		return nil, err
	}
	return devices.Poll(set.Polling, port.Opener(open), sensirion.Climate...), nil
}

func open(d *i2c.Dev) (devices.Sensor, error) {
	if _, err := sensirion.Words(d, 1, 0xf3, 0x2d); err != nil { // the status, table 17
		return nil, fmt.Errorf("find an SHT3x: %w", err)
	}
	return sensor{d}, nil
}

type sensor struct{ at *i2c.Dev }

// Read measures once.
func (s sensor) Read(ctx context.Context) ([]devices.Reading, error) {
	words, err := sensirion.Ask(ctx, s.at, 2, measureTime, 0x24, 0x00)
	if err != nil {
		return nil, fmt.Errorf("measure with the SHT3x: %w", err)
	}
	return sensirion.Readings(sensirion.Celsius(words[0]), 100*float64(words[1])/65535), nil
}
