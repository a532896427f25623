package bme280

import (
	"context"
	"errors"
	"fmt"
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
	Addresses: []devices.Address{0x76, 0x77},
	New: func(s *config.Section, w *devices.Wiring) (devices.Source, error) {
		return newSource(s, w, chip{"BME280", 0x60, true})
	},
}

// BMP280 is the entry of the chip without humidity.
var BMP280 = devices.Driver{
	Name:      "bmp280",
	Doc:       "Measures temperature and pressure with a Bosch BMP280 at an I²C bus.",
	Sample:    Driver.Sample,
	Addresses: Driver.Addresses,
	New: func(s *config.Section, w *devices.Wiring) (devices.Source, error) {
		return newSource(s, w, chip{"BMP280", 0x58, false})
	},
}

// chip is one of the family.
type chip struct {
	name     string
	id       byte
	humidity bool
}

func (c chip) quantities() []devices.Quantity {
	all := []devices.Quantity{
		{Name: "temperature", Unit: "Cel", Low: -40, High: 85},
		{Name: "pressure", Unit: "Pa", Low: 30_000, High: 110_000},
	}
	if c.humidity {
		all = append(all, devices.Quantity{Name: "humidity", Unit: "%RH", Low: 0, High: 100})
	}
	return all
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

func newSource(s *config.Section, w *devices.Wiring, c chip) (devices.Source, error) {
	set := settings{
		Polling:      devices.Every(10 * time.Second),
		I2C:          devices.I2C{Address: 0x76},
		Oversampling: 1,
	}
	if err := s.Decode(&set); err != nil {
		return nil, err
	}
	if set.Address != 0x76 && set.Address != 0x77 {
		return nil, s.Errorf("address", "a %s is at 0x76 or 0x77, not at %v", c.name, set.Address)
	}
	port, err := w.I2C(s, set.I2C)
	if err != nil {
		return nil, err
	}
	return devices.Poll(set.Polling, port.Opener(func(d *i2c.Dev) (devices.Sensor, error) {
		return open(d, c, oversampling[set.Oversampling])
	}), c.quantities()...), nil
}

// Registers that periph keeps to itself (data sheet section 5.3, page 26).
const (
	regID      = 0xd0
	regCtrlHum = 0xf2
)

type sensor struct {
	chip
	dev  *bmxx80.Dev
	at   *i2c.Dev
	osrs bmxx80.Oversampling
}

func open(d *i2c.Dev, c chip, osrs bmxx80.Oversampling) (devices.Sensor, error) {
	var id [1]byte
	if err := d.Tx([]byte{regID}, id[:]); err != nil {
		return nil, fmt.Errorf("find a %s: %w", c.name, err)
	}
	if id[0] != c.id {
		return nil, fmt.Errorf("find a %s: the chip at %v says that it is a %s", c.name, devices.Address(d.Addr), chipName(id[0]))
	}
	opts := bmxx80.Opts{Temperature: osrs, Pressure: osrs}
	if c.humidity {
		opts.Humidity = osrs
	}
	dev, err := bmxx80.NewI2C(d.Bus, d.Addr, &opts)
	if err != nil {
		return nil, fmt.Errorf("set up the %s: %w", c.name, err)
	}
	return &sensor{c, dev, d, osrs}, nil
}

func chipName(id byte) string {
	switch id {
	case 0x55:
		return "BMP180"
	case 0x56, 0x57, 0x58:
		return "BMP280, which has no humidity and the driver bmp280"
	case 0x60:
		return "BME280, which has the driver bme280"
	case 0x61:
		return "BME680 or BME688"
	}
	return fmt.Sprintf("chip with the number 0x%02x", id)
}

// Read measures once.
func (s *sensor) Read(context.Context) ([]devices.Reading, error) {
	var env physic.Env
	if err := s.dev.Sense(&env); err != nil {
		return nil, fmt.Errorf("measure with the %s: %w", s.name, err)
	}
	if err := s.settled(); err != nil {
		return nil, fmt.Errorf("measure with the %s: %w", s.name, err)
	}
	readings := []devices.Reading{
		{Name: "temperature", Unit: "Cel", Value: devices.Round(env.Temperature.Celsius(), 2)},
		{Name: "pressure", Unit: "Pa", Value: devices.Round(float64(env.Pressure)/float64(physic.Pascal), 2)},
	}
	if s.humidity {
		readings = append(readings, devices.Reading{Name: "humidity", Unit: "%RH", Value: devices.Round(float64(env.Humidity)/float64(physic.PercentRH), 2)})
	}
	return readings, nil
}

// settled checks that the chip still has its settings. After a loss of supply
// humidity would be skipped, and read as a number like any other; temperature
// and pressure are asked for with each measurement.
func (s *sensor) settled() error {
	if !s.humidity {
		return nil
	}
	var ctrl [1]byte
	if err := s.at.Tx([]byte{regCtrlHum}, ctrl[:]); err != nil {
		return err
	}
	if ctrl[0] != byte(s.osrs) {
		return errors.New("it has lost its settings; was its supply interrupted?")
	}
	return nil
}
