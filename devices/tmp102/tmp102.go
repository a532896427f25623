// Package tmp102 drives TI's TMP102, a thermometer, and those that read alike:
// LM75, LM75B, TMP75 and TMP175, at an I²C bus.
//
//	reading      unit  range        resolution
//	temperature  Cel   -40 … 125    0.0625 (TMP102), 0.125 (LM75B), 0.5 (LM75)
//
// From the data sheets SBOS397C (TMP102, page 6, table 5) and SNIS153 (LM75). The register
// 0 of all of them holds the temperature in two's complement with the sign at the
// top and 1/256 °C at the bottom; bits that a chip does not have read as zero. The
// chips measure all the time from power-on, so that nothing has to be set up.
//
// periph's tmp102 is not used: it writes back a configuration that it failed to
// read, and does not know the LM75.
package tmp102

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"periph.io/x/conn/v3/i2c"

	"holdfast/devices"
	"holdfast/gateway/config"
)

// Driver is the entry of the TMP102 in the list of drivers.
var Driver = driver("tmp102", "TI TMP102, TMP75 or TMP175", 125)

// LM75 is the entry of the LM75.
var LM75 = driver("lm75", "LM75 or LM75B", 125)

func driver(name, chip string, high float64) devices.Driver {
	quantity := devices.Quantity{Name: "temperature", Unit: "Cel", Low: -55, High: high}
	return devices.Driver{
		Name: name,
		Doc:  "Measures temperature with a " + chip + " at an I²C bus.",
		Sample: `bus: 1
address: 0x48         # to 0x4f by A0, A1 and A2
interval: 10s
`,
		Addresses: []devices.Address{0x48, 0x49, 0x4a, 0x4b, 0x4c, 0x4d, 0x4e, 0x4f},
		New: func(s *config.Section, w *devices.Wiring) (devices.Source, error) {
			set := struct {
				devices.Polling
				devices.I2C
			}{devices.Every(10 * time.Second), devices.I2C{Address: 0x48}}
			if err := s.Decode(&set); err != nil {
				return nil, err
			}
			if err := set.Between(s, name, 0x48, 0x4f); err != nil {
				return nil, err
			}
			port, err := w.I2C(s, set.I2C)
			if err != nil {
				return nil, err
			}
			return devices.Poll(set.Polling, port.Opener(func(d *i2c.Dev) (devices.Sensor, error) {
				return sensor{d, name}, nil
			}), quantity), nil
		},
	}
}

type sensor struct {
	at   *i2c.Dev
	name string
}

// Read reads the last measurement.
func (s sensor) Read(context.Context) ([]devices.Reading, error) {
	var b [2]byte
	if err := s.at.Tx([]byte{0}, b[:]); err != nil {
		return nil, fmt.Errorf("read the %s: %w", s.name, err)
	}
	celsius := float64(int16(binary.BigEndian.Uint16(b[:]))) / 256
	return []devices.Reading{{Name: "temperature", Unit: "Cel", Value: devices.Round(celsius, 4)}}, nil
}
