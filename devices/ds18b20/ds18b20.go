// Package ds18b20 drives Maxim's DS18B20, a thermometer, at a 1-Wire bus of the
// kernel (overlay w1-gpio, module w1_therm).
//
//	reading      unit  range        resolution  accuracy
//	temperature  Cel   -55 … 125    0.0625      ±0.5 (-10 … 85 °C)
//
// From the data sheet revision 042208. The scratchpad is checked by its CRC
// (page 9) and decoded here. 85 °C is also what the register holds after
// power-on, before the first conversion (table 1, page 4): a jump to it is taken
// for a failed conversion.
//
// periph's ds18b20 is not used: it needs a bus that hands out single bits, which
// periph's own driver for the kernel does not find on all boards.
package ds18b20

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"regexp"
	"time"

	"holdfast/devices"
	"holdfast/gateway/config"
)

// Driver is the entry in the list of drivers.
var Driver = devices.Driver{
	Name: "ds18b20",
	Doc:  "Measures temperature with a Maxim DS18B20 at a 1-Wire bus.",
	Sample: `bus: w1
id: 28-0316a2795a1b   # holdfast devices scan shows it
interval: 10s
`,
	New: newSource,
}

var idForm = regexp.MustCompile(`^28-[0-9a-f]{12}$`)

func newSource(s *config.Section, w *devices.Wiring) (devices.Source, error) {
	set := struct {
		devices.Polling
		Bus string `config:"bus"`
		ID  string `config:"id,required"`
	}{Polling: devices.Every(10 * time.Second), Bus: "w1"}
	if err := s.Decode(&set); err != nil {
		return nil, err
	}
	if !idForm.MatchString(set.ID) {
		return nil, s.Errorf("id", "%q is not the id of a DS18B20; write it as the kernel does, such as 28-0316a2795a1b", set.ID)
	}
	port, err := w.OneWire(s, set.Bus, set.ID)
	if err != nil {
		return nil, err
	}
	open := func(context.Context) (devices.Sensor, error) { return &sensor{port: port}, nil }
	return devices.Poll(set.Polling, open, devices.Quantity{Name: "temperature", Unit: "Cel", Low: -55, High: 125}), nil
}

type sensor struct {
	port *devices.OneWirePort
	last float64
	any  bool
}

const powerOn = 85

// Read measures once.
func (s *sensor) Read(ctx context.Context) ([]devices.Reading, error) {
	pad, err := s.port.Convert(ctx)
	var celsius float64
	if err == nil {
		celsius, err = Decode(pad)
	}
	if err != nil {
		return nil, fmt.Errorf("measure with the DS18B20: %w", err)
	}
	if celsius == powerOn && (!s.any || math.Abs(s.last-powerOn) > 5) {
		return nil, errors.New("measure with the DS18B20: it gave 85 °C, its value after power-on; was its supply interrupted?")
	}
	s.last, s.any = celsius, true
	return []devices.Reading{{Name: "temperature", Unit: "Cel", Value: celsius}}, nil
}

// Decode returns the temperature in a scratchpad.
func Decode(pad [9]byte) (float64, error) {
	if pad == [9]byte{} {
		return 0, errors.New("it reads as zeros; is its supply connected?")
	}
	if CRC(pad[:8]) != pad[8] {
		return 0, errors.New("the checksum is wrong; is the cable too long, or a pull-up missing?")
	}
	raw := int16(binary.LittleEndian.Uint16(pad[:]))
	// Lower resolutions leave their lowest bits undefined.
	raw &^= 1<<(3-pad[4]>>5&3) - 1
	return float64(raw) / 16, nil
}

// CRC returns the checksum of 1-Wire devices (polynomial x⁸+x⁵+x⁴+1, the lowest
// bit first, page 9).
func CRC(p []byte) byte {
	var crc byte
	for _, b := range p {
		crc ^= b
		for range 8 {
			if crc&1 != 0 {
				crc = crc>>1 ^ 0x8c
			} else {
				crc >>= 1
			}
		}
	}
	return crc
}
