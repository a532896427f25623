package bme280

import (
	"context"
	"errors"
	"fmt"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/conn/v3/spi"
	"periph.io/x/devices/v3/bmxx80"

	"holdfast/devices"
	"holdfast/gateway/config"
)

// Driver is the entry in the list of drivers.
var Driver = devices.Driver{
	Name: "bme280",
	Doc:  "Measures temperature, pressure and humidity with a Bosch BME280 at an I²C or SPI bus.",
	Sample: `bus: /dev/i2c-1       # or 1; SPI: /dev/spidev0.0 or spi0.0; simulated: sim:NAME, sim:NAME/spi0
address: 0x76         # 0x77 if SDO is wired to the supply; not for SPI
# speed: 1MHz         # of SPI at most, for long wires; default: 10MHz
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
	Doc:       "Measures temperature and pressure with a Bosch BMP280 at an I²C or SPI bus.",
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
	devices.Wires
	Oversampling int `config:"oversampling,oneof=1|2|4|8|16"`
}

// oversampling by the number of measurements for one result.
var oversampling = map[int]bmxx80.Oversampling{
	1: bmxx80.O1x, 2: bmxx80.O2x, 4: bmxx80.O4x, 8: bmxx80.O8x, 16: bmxx80.O16x,
}

func newSource(s *config.Section, w *devices.Wiring, c chip) (devices.Source, error) {
	set := settings{
		Polling:      devices.Every(10 * time.Second),
		Wires:        devices.Wires{Address: 0x76},
		Oversampling: 1,
	}
	if err := s.Decode(&set); err != nil {
		return nil, err
	}
	if set.Address != 0x76 && set.Address != 0x77 {
		return nil, s.Errorf("address", "a %s is at 0x76 or 0x77, not at %v", c.name, set.Address)
	}
	osrs := oversampling[set.Oversampling]
	opener, err := w.Opener(s, set.Wires,
		func(d *i2c.Dev) (devices.Sensor, error) {
			return open(c, osrs, d.Tx, func(opts *bmxx80.Opts) (*bmxx80.Dev, error) { return bmxx80.NewI2C(d.Bus, d.Addr, opts) })
		},
		func(p spi.Port) (devices.Sensor, error) {
			at, err := p.Connect(maxSpeed, spi.Mode3, 8) // or 0; as periph does
			if err != nil {
				return nil, err
			}
			s, err := open(c, osrs, devices.InTurn(at), func(opts *bmxx80.Opts) (*bmxx80.Dev, error) { return bmxx80.NewSPI(p, opts) })
			return overSPI{s}, err
		})
	if err != nil {
		return nil, err
	}
	return devices.Poll(set.Polling, opener, c.quantities()...), nil
}

// maxSpeed is that of the chip's SPI (section 6.3, page 33).
const maxSpeed = 10 * physic.MegaHertz

// Registers that periph keeps to itself (data sheet section 5.3, page 26).
const (
	regID       = 0xd0
	regCtrlHum  = 0xf2
	regCtrlMeas = 0xf4
)

// get reads registers one after the other: the number of the first goes in w, which
// has the highest bit for a read over SPI too (section 6.3.2, page 34).
type get func(w, r []byte) error

type sensor struct {
	chip
	dev  *bmxx80.Dev
	get  get
	osrs bmxx80.Oversampling
}

func open(c chip, osrs bmxx80.Oversampling, read get, start func(*bmxx80.Opts) (*bmxx80.Dev, error)) (*sensor, error) {
	if err := c.there(read); err != nil {
		return nil, fmt.Errorf("find a %s: %w", c.name, err)
	}
	opts := bmxx80.Opts{Temperature: osrs, Pressure: osrs}
	if c.humidity {
		opts.Humidity = osrs
	}
	dev, err := start(&opts)
	if err != nil {
		return nil, fmt.Errorf("set up the %s: %w", c.name, err)
	}
	return &sensor{c, dev, read, osrs}, nil
}

// there reports whether the chip is.
func (c chip) there(read get) error {
	var id [1]byte
	if err := read([]byte{regID}, id[:]); err != nil {
		return err
	}
	switch id[0] {
	case c.id:
		return nil
	case 0x00, 0xff:
		return errors.New("nothing answers; is it connected?")
	}
	return fmt.Errorf("there is a %s", chipName(id[0]))
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

// overSPI looks for the chip before each reading: an SPI bus gives numbers even
// without one.
type overSPI struct{ *sensor }

func (s overSPI) Read(ctx context.Context) ([]devices.Reading, error) {
	if err := s.there(s.get); err != nil {
		return nil, fmt.Errorf("measure with the %s: %w", s.name, err)
	}
	return s.sensor.Read(ctx)
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
// humidity would be skipped, and read as a number like any other; temperature and
// pressure are asked for with each measurement, and are such numbers if the supply
// fails between that and their reading.
func (s *sensor) settled() error {
	reg, want := byte(regCtrlMeas), byte(s.osrs)<<5|byte(s.osrs)<<2 // and asleep again
	if s.humidity {
		reg, want = regCtrlHum, byte(s.osrs)
	}
	var ctrl [1]byte
	if err := s.get([]byte{reg}, ctrl[:]); err != nil {
		return err
	}
	if ctrl[0] != want {
		return errors.New("it has lost its settings; was its supply interrupted?")
	}
	return nil
}
