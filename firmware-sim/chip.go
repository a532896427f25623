package sim

import (
	"math"
	"slices"
	"time"

	models "holdfast/devices/sim"
)

// chip is a sensor chip on a board, modelled down to its registers. The firmware
// of the board works it as a driver would, so that what the board sends has the
// chip's steps, range and checksums, and its faults.
type chip struct {
	name  string
	kinds []string // of sensors that it can be, in the order of what read returns
	plug  func(w *wire, a air)
	read  func(w *wire) []float64 // the firmware; what it returns counts only if w has not failed
}

// air is what a chip is exposed to, by kind of sensor. A chip is on the board for
// one sensor; all else is as usual.
type air map[string]float64

func (a air) of(kind string) float64 {
	usual := map[string]float64{"temperature": 20, "pressure": 101_325, "humidity": 50, "co2": 420, "voltage": 12}
	if v, ok := a[kind]; ok {
		return v
	}
	return usual[kind]
}

func (a air) weather(time.Time) models.Climate {
	return models.Climate{Temperature: a.of("temperature"), Pressure: a.of("pressure"), Humidity: a.of("humidity")}
}

func (a air) supply(time.Time) (volts, amperes float64) { return a.of("voltage"), a.of("current") }

func (a air) steady(kind string) func(time.Time) float64 {
	return func(time.Time) float64 { return a.of(kind) }
}

// Shunts and the probe of a tank, as the boards have them.
const (
	shunt219 = 0.1   // Ω, for 3.2 A
	shunt226 = 0.002 // Ω, for 40 A
	empty    = 0.5   // V at 0 %
	full     = 4.5   // V at 100 %
)

// chips are all that there are models of, but for the multiplexer, which measures
// nothing.
func chips() []chip {
	return []chip{
		thermometer("tmp102", 12), thermometer("lm75", 9), thermometer("lm75b", 11),
		{"mcp9808", []string{"temperature"},
			func(w *wire, a air) { w.plug(models.NewMCP9808(a.weather)) },
			func(w *wire) []float64 { return []float64{float64(int16(w.word(5)<<3)>>3) / 16} }},
		{"ds18b20", []string{"temperature"},
			func(w *wire, a air) { w.probe = models.NewDS18B20(12, a.weather) }, readDS18B20},
		{"sht3x", []string{"temperature", "humidity"},
			func(w *wire, a air) { w.plug(models.NewSHT3x(a.weather)) },
			func(w *wire) []float64 {
				w.write(0x24, 0x00)
				w.wait(16 * time.Millisecond)
				v := w.checked(2)
				return []float64{175*v[0]/65535 - 45, 100 * v[1] / 65535}
			}},
		{"sht4x", []string{"temperature", "humidity"},
			func(w *wire, a air) { w.plug(models.NewSHT4x(a.weather)) },
			func(w *wire) []float64 {
				w.write(0xfd)
				w.wait(10 * time.Millisecond)
				v := w.checked(2)
				return []float64{175*v[0]/65535 - 45, min(max(125*v[1]/65535-6, 0), 100)}
			}},
		{"scd4x", []string{"co2", "temperature", "humidity"},
			func(w *wire, a air) { w.plug(models.NewSCD4x(a.weather, a.steady("co2"))) },
			func(w *wire) []float64 {
				w.write(0x21, 0xb1) // measure every 5 s
				w.wait(5 * time.Second)
				w.write(0xec, 0x05)
				v := w.checked(3)
				return []float64{v[0], 175*v[1]/65535 - 45, 100 * v[2] / 65535}
			}},
		{"bme280", []string{"temperature", "pressure", "humidity"},
			func(w *wire, a air) { w.plug(models.NewBME280(a.weather)) }, readBME280},
		{"bmp280", []string{"temperature", "pressure"},
			func(w *wire, a air) { w.plug(models.NewBMP280(a.weather)) }, readBME280},
		{"bh1750", []string{"illuminance"},
			func(w *wire, a air) { w.plug(models.NewBH1750(a.steady("illuminance"))) },
			func(w *wire) []float64 {
				w.write(0x01) // on
				w.write(0x20) // once, in steps of 1/1.2 lx
				w.wait(180 * time.Millisecond)
				return []float64{float64(number(w.read(2))) / 1.2}
			}},
		{"ads1115", []string{"tank_level"},
			func(w *wire, a air) {
				volts := empty + (full-empty)*a.of("tank_level")/100
				w.plug(models.NewADS1115(func(time.Time, int) float64 { return volts }))
			},
			func(w *wire) []float64 {
				w.write(0x01, 0xc1, 0x83) // the input 0 once, ±6.144 V, 128 a second
				w.wait(9 * time.Millisecond)
				volts := float64(int16(w.word(0))) * 6.144 / 32768
				return []float64{(volts - empty) / (full - empty) * 100}
			}},
		{"ina219", []string{"voltage", "current"},
			func(w *wire, a air) { w.plug(models.NewINA219(shunt219, a.supply)) },
			func(w *wire) []float64 {
				return []float64{float64(w.word(2)>>3) * 4e-3, float64(int16(w.word(1))) * 10e-6 / shunt219}
			}},
		{"ina226", []string{"voltage", "current"},
			func(w *wire, a air) { w.plug(models.NewINA226(shunt226, a.supply)) },
			func(w *wire) []float64 {
				return []float64{float64(w.word(2)) * 1.25e-3, float64(int16(w.word(1))) * 2.5e-6 / shunt226}
			}},
		{"mcp23017", []string{"door", "motion"}, // at its lines A0 and A1
			func(w *wire, a air) {
				lines := models.NewMCP23017()
				lines.Set(0, a.of("door") != 0)
				lines.Set(1, a.of("motion") != 0)
				w.plug(lines)
			},
			func(w *wire) []float64 {
				levels := w.ask(1, 0x12)[0]
				return []float64{float64(levels & 1), float64(levels >> 1 & 1)}
			}},
	}
}

// thermometer is a chip that has its temperature in register 0, with so many bits
// from the top (TMP102: data sheet SBOS397, 12 bits of 1/16 °C).
func thermometer(name string, bits int) chip {
	return chip{name, []string{"temperature"},
		func(w *wire, a air) { w.plug(models.NewThermometer(bits, a.weather)) },
		func(w *wire) []float64 {
			raw := int16(w.word(0)) >> (16 - bits)
			return []float64{float64(raw) * 256 / math.Exp2(float64(bits))}
		}}
}

// readBME280 measures once, with the words of the chip in the firmware.
func readBME280(w *wire) []float64 {
	w.write(0xf2, 0x01, 0xf4, 0x25) // humidity, temperature and pressure once
	w.wait(10 * time.Millisecond)
	b := w.ask(8, 0xf7)
	now := models.ExampleTrim.Climate(number(b[3:6])>>4, number(b[0:3])>>4, number(b[6:8]))
	return []float64{now.Temperature, now.Pressure, now.Humidity}
}

func readDS18B20(w *wire) []float64 {
	pad := w.scratchpad()
	return []float64{float64(int16(number([]byte{pad[1], pad[0]}))) / 16}
}

func chipNamed(name string) *chip {
	all := chips()
	if i := slices.IndexFunc(all, func(c chip) bool { return c.name == name }); i >= 0 {
		return &all[i]
	}
	return nil
}

// chipsFor returns the names of the chips that can be a sensor of a kind.
func chipsFor(kind string) (names []string) {
	for _, c := range chips() {
		if slices.Contains(c.kinds, kind) {
			names = append(names, c.name)
		}
	}
	return names
}

// sense returns what the firmware makes of a chip as a sensor of a kind that is
// exposed to v at a time, or false if it gets no reading.
func (c *chip) sense(kind string, v float64, now time.Time, fault string) (float64, bool) {
	w := newWire(now)
	c.plug(w, air{kind: v})
	if fault != "" {
		faultNamed(fault)(w)
	}
	values := c.read(w)
	return values[slices.Index(c.kinds, kind)], !w.failed
}
