package bme280

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/devices/v3/bmxx80"

	"holdfast/devices"
	"holdfast/gateway/config"
)

// Driver is the entry in the list of drivers.
var Driver = devices.Driver{
	Name: "bme280",
	Doc:  "Measures temperature, pressure and humidity with a Bosch BME280 at an I²C bus.",
	Sample: `bus: /dev/i2c-1       # or 1, or sim:NAME for a simulated one
address: 0x76         # 0x77 if SDO is wired to the supply
interval: 10s
oversampling: 1       # or 2, 4, 8, 16: less noise, more time and current
`,
	New: newSource,
}

type settings struct {
	devices.Polling
	devices.I2C
	Oversampling int `config:"oversampling,oneof=1|2|4|8|16"`
}

// oversampling by the number of measurements for one result.
var oversampling = map[int]bmxx80.Oversampling{
	1: bmxx80.O1x, 2: bmxx80.O2x, 4: bmxx80.O4x, 8: bmxx80.O8x, 16: bmxx80.O16x,
}

func newSource(s *config.Section, w *devices.Wiring) (devices.Source, error) {
	set := settings{
		Polling:      devices.Every(10 * time.Second),
		I2C:          devices.I2C{Address: 0x76},
		Oversampling: 1,
	}
	if err := s.Decode(&set); err != nil {
		return nil, err
	}
	if set.Address != 0x76 && set.Address != 0x77 {
		return nil, s.Errorf("address", "a BME280 is at 0x76 or 0x77, not at %v", set.Address)
	}
	port, err := w.I2C(s, set.I2C)
	if err != nil {
		return nil, err
	}
	return devices.Poll(set.Polling, port.Opener(func(d *i2c.Dev) (devices.Sensor, error) {
		return open(d, oversampling[set.Oversampling])
	})), nil
}

// Registers that periph keeps to itself (data sheet section 5.3, page 26).
const (
	regID      = 0xd0
	regCtrlHum = 0xf2

	chipID = 0x60
)

type sensor struct {
	chip *bmxx80.Dev
	at   *i2c.Dev
	osrs bmxx80.Oversampling
}

func open(d *i2c.Dev, osrs bmxx80.Oversampling) (devices.Sensor, error) {
	var id [1]byte
	if err := d.Tx([]byte{regID}, id[:]); err != nil {
		return nil, fmt.Errorf("find a BME280: %w", err)
	}
	if id[0] != chipID {
		return nil, fmt.Errorf("find a BME280: the chip at %v says that it is a %s", devices.Address(d.Addr), chipName(id[0]))
	}
	chip, err := bmxx80.NewI2C(d.Bus, d.Addr, &bmxx80.Opts{Temperature: osrs, Pressure: osrs, Humidity: osrs})
	if err != nil {
		return nil, fmt.Errorf("set up the BME280: %w", err)
	}
	return &sensor{chip, d, osrs}, nil
}

func chipName(id byte) string {
	switch id {
	case 0x55:
		return "BMP180"
	case 0x56, 0x57, 0x58:
		return "BMP280, which has no humidity"
	case 0x61:
		return "BME680 or BME688"
	}
	return fmt.Sprintf("chip with the number 0x%02x", id)
}

// Read measures once.
func (s *sensor) Read(context.Context) ([]devices.Reading, error) {
	var env physic.Env
	if err := s.chip.Sense(&env); err != nil {
		return nil, fmt.Errorf("measure with the BME280: %w", err)
	}
	// After a loss of supply humidity would be skipped, and read as a number
	// like any other.
	var ctrl [1]byte
	if err := s.at.Tx([]byte{regCtrlHum}, ctrl[:]); err != nil {
		return nil, fmt.Errorf("measure with the BME280: %w", err)
	}
	if ctrl[0] != byte(s.osrs) {
		return nil, errors.New("measure with the BME280: it has lost its settings; was its supply interrupted?")
	}
	return []devices.Reading{
		{Name: "temperature", Unit: "Cel", Value: round(float64(env.Temperature-physic.ZeroCelsius) / float64(physic.Celsius))},
		{Name: "pressure", Unit: "Pa", Value: round(float64(env.Pressure) / float64(physic.Pascal))},
		{Name: "humidity", Unit: "%RH", Value: round(float64(env.Humidity) / float64(physic.PercentRH))},
	}, nil
}

// round gives two decimals, the finest that the chip resolves.
func round(v float64) float64 { return math.Round(v*100) / 100 }
