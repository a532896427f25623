// Package scd4x drives Sensirion's SCD40 and SCD41, sensors for carbon dioxide,
// temperature and humidity, at an I²C bus, by periph's scd4x.
//
//	reading      unit  range         resolution  accuracy (SCD41)
//	co2          ppm   0 … 40 000    1           ±(50 ppm + 5 %), 400 … 5000 ppm
//	temperature  Cel   -10 … 60      0.01        ±0.8
//	humidity     %RH   0 … 100       0.01        ±6
//
// From the data sheet SCD4x, version 1.3. The sensor measures every 5 s by itself
// (section 3.5): a shorter interval waits for it. Its address cannot be changed;
// several need a multiplexer.
package scd4x

import (
	"context"
	"fmt"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/devices/v3/scd4x"

	"holdfast/devices"
	"holdfast/gateway/config"
)

// Driver is the entry in the list of drivers.
var Driver = devices.Driver{
	Name: "scd4x",
	Doc:  "Measures carbon dioxide, temperature and humidity with a Sensirion SCD40 or SCD41 at an I²C bus.",
	Sample: `bus: 1
interval: 30s         # 5s at least: the sensor has a rhythm of its own
`,
	Addresses: []devices.Address{address},
	New:       newSource,
}

const address = devices.Address(scd4x.SensorAddress)

var quantities = []devices.Quantity{
	{Name: "co2", Unit: "ppm", Low: 0, High: 40_000},
	{Name: "temperature", Unit: "Cel", Low: -10, High: 60},
	{Name: "humidity", Unit: "%RH", Low: 0, High: 100},
}

func newSource(s *config.Section, w *devices.Wiring) (devices.Source, error) {
	set := struct {
		devices.Polling
		devices.I2C
	}{devices.Every(30 * time.Second), devices.I2C{Address: address}}
	set.Timeout = config.Duration(15 * time.Second) // the first measurement takes 5 s, periph waits up to 6
	if err := s.Decode(&set); err != nil {
		return nil, err
	}
	if set.Address != address {
		return nil, s.Errorf("address", "an SCD4x is always at %v", address)
	}
	if set.Interval.Std() < 5*time.Second {
		return nil, s.Errorf("interval", "an SCD4x measures every 5s; the interval must be at least that")
	}
	port, err := w.I2C(s, set.I2C)
	if err != nil {
		return nil, err
	}
	return devices.Poll(set.Polling, port.Opener(open), quantities...), nil
}

func open(d *i2c.Dev) (devices.Sensor, error) {
	chip, err := scd4x.NewI2C(d.Bus, d.Addr)
	if err != nil {
		return nil, fmt.Errorf("find an SCD4x: %w", err)
	}
	return sensor{chip}, nil
}

type sensor struct{ chip *scd4x.Dev }

// Read waits for the next measurement.
func (s sensor) Read(context.Context) ([]devices.Reading, error) {
	var env scd4x.Env
	if err := s.chip.Sense(&env); err != nil {
		return nil, fmt.Errorf("measure with the SCD4x: %w", err)
	}
	return []devices.Reading{
		{Name: "co2", Unit: "ppm", Value: float64(env.CO2)},
		{Name: "temperature", Unit: "Cel", Value: devices.Round(env.Temperature.Celsius(), 2)},
		{Name: "humidity", Unit: "%RH", Value: devices.Round(float64(env.Humidity)/float64(physic.PercentRH), 2)},
	}, nil
}
