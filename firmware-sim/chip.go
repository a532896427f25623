package sim

import (
	"encoding/binary"
	"time"

	models "holdfast/devices/sim"
)

// chip is a thermometer on a board, modelled down to its registers: the firmware
// of the board sees what the chip can tell of a temperature, in its steps and
// within its range.
type chip struct {
	name     string
	model    func(models.Weather) models.Device
	register byte // of the temperature, two bytes, the high one first
	value    func(uint16) float64
}

// chips lists those that read the same whenever they are asked, so that a value
// stays a pure function of time.
var chips = []chip{
	// TMP102, data sheet SBOS397C, page 6, table 5: 12 bits from the top, 1/16 °C.
	{"tmp102", thermometer(12), 0, func(b uint16) float64 { return float64(int16(b)>>4) / 16 }},
	// LM75B: the same with 11 bits, 1/8 °C.
	{"lm75b", thermometer(11), 0, func(b uint16) float64 { return float64(int16(b)>>5) / 8 }},
	// MCP9808, data sheet DS25095A, register 5: 13 bits below three flags, 1/16 °C.
	{"mcp9808", func(w models.Weather) models.Device { return models.NewMCP9808(w) }, 5,
		func(b uint16) float64 { return float64(int16(b<<3)>>3) / 16 }},
}

func thermometer(bits int) func(models.Weather) models.Device {
	return func(w models.Weather) models.Device { return models.NewThermometer(bits, w) }
}

func chipNamed(name string) *chip {
	for i := range chips {
		if chips[i].name == name {
			return &chips[i]
		}
	}
	return nil
}

// read returns what the chip makes of a temperature.
func (c *chip) read(celsius float64) float64 {
	d := c.model(func(time.Time) models.Climate { return models.Climate{Temperature: celsius} })
	var b [2]byte
	d.Write([]byte{c.register})
	d.Read(b[:])
	return c.value(binary.BigEndian.Uint16(b[:]))
}
