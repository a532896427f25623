// Package sht4x drives Sensirion's SHT40, SHT41 and SHT45, sensors for
// temperature and humidity, at an I²C bus.
//
//	reading      unit  range        resolution  accuracy (SHT40)
//	temperature  Cel   -40 … 125    0.01        ±0.2
//	humidity     %RH   0 … 100      0.01        ±1.8
//
// From the data sheet SHT4x, version 6. Each reading is one measurement of high
// precision, command 0xfd (section 4.5), which takes up to 8.3 ms (section 3.1).
// The formula for humidity may give a little less than 0 or more than 100 %RH at
// the ends of the range; it is cropped as section 4.6 says.
package sht4x

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
	Name: "sht4x",
	Doc:  "Measures temperature and humidity with a Sensirion SHT40, SHT41 or SHT45 at an I²C bus.",
	Sample: `bus: 1
address: 0x44         # 0x45 or 0x46 by the letter in the order code
interval: 10s
`,
	Addresses: []devices.Address{0x44, 0x45, 0x46},
	New:       newSource,
}

const measureTime = 9 * time.Millisecond

func newSource(s *config.Section, w *devices.Wiring) (devices.Source, error) {
	set := struct {
		devices.Polling
		devices.I2C
	}{devices.Every(10 * time.Second), devices.I2C{Address: 0x44}}
	if err := s.Decode(&set); err != nil {
		return nil, err
	}
	if err := set.Between(s, "SHT4x", 0x44, 0x46); err != nil {
		return nil, err
	}
	port, err := w.I2C(s, set.I2C)
	if err != nil {
		return nil, err
	}
	return devices.Poll(set.Polling, port.Opener(open), sensirion.Climate...), nil
}

func open(d *i2c.Dev) (devices.Sensor, error) {
	if _, err := sensirion.Ask(context.Background(), d, 2, time.Millisecond, 0x89); err != nil { // the serial number
		return nil, fmt.Errorf("find an SHT4x: %w", err)
	}
	return sensor{d}, nil
}

type sensor struct{ at *i2c.Dev }

// Read measures once.
func (s sensor) Read(ctx context.Context) ([]devices.Reading, error) {
	words, err := sensirion.Ask(ctx, s.at, 2, measureTime, 0xfd)
	if err != nil {
		return nil, fmt.Errorf("measure with the SHT4x: %w", err)
	}
	humidity := min(100, max(0, -6+125*float64(words[1])/65535))
	return sensirion.Readings(sensirion.Celsius(words[0]), humidity), nil
}
