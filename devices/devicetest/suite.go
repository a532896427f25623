package devicetest

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"holdfast/devices"
	"holdfast/devices/sim"
	"holdfast/gateway/event"
)

// Bench is where sensors are tried: a model in the same process, or an adapter of
// the kernel with the model behind it.
type Bench struct {
	// InTime runs f. On models it is testing/synctest.Test, where waiting takes
	// no time; on devices of the kernel f runs in real time.
	InTime func(t *testing.T, f func(t *testing.T))
	// Open makes the chips on a bus reachable, and returns what the
	// configuration calls that bus.
	Open func(t *testing.T, bus *sim.Bus) (buses devices.Buses, name string)
	// OpenSPI does so with those at select 0 of an SPI bus; nil where there is no
	// such bus.
	OpenSPI func(t *testing.T, bus *sim.SPI) (buses devices.Buses, name string)
}

// Case is a sensor on its model.
type Case struct {
	Driver   string
	Name     string // what is special about it
	Settings string // beside driver, bus, address and interval
	Address  uint16
	Chip     func() sim.Device
	SPI      func() sim.SPIDevice // instead of Chip and Address
	Want     map[string]Value
	Checksum bool // damage on the cable is noticed
	Flagged  bool // what is measured is more than can be
	Interval time.Duration
}

// Value is a reading with its unit, and how far off it may be.
type Value struct {
	V, Within float64
	Unit      string
}

// patience is how long all that a case waits for may take: far longer than it
// does, even in a machine that is slow.
const patience = 15 * time.Minute

var air = sim.Climate{Temperature: 21.37, Pressure: 101325, Humidity: 45.5}

// Cases are the sensors with an own driver. The values that name a page are the
// examples of the data sheets.
func Cases() []Case {
	steady := func(c sim.Climate) sim.Weather { return sim.Steady(c) }
	celsius := func(t float64) sim.Weather { return sim.Steady(sim.Climate{Temperature: t}) }
	supply := func(v, a float64) sim.Supply { return func(time.Time) (float64, float64) { return v, a } }
	always := func(v float64) func(time.Time) float64 { return func(time.Time) float64 { return v } }
	volts := func(v ...float64) sim.Voltages { return func(_ time.Time, i int) float64 { return v[i] } }

	all := []Case{
		{Driver: "bme280", Address: 0x76, Chip: func() sim.Device { return sim.NewBME280(steady(air)) },
			Want: map[string]Value{"temperature": {21.37, 0.011, "Cel"}, "pressure": {101325, 2, "Pa"}, "humidity": {45.5, 0.05, "%RH"}}},
		{Driver: "bmp280", Name: "BST-BMP280-DS001 revision 1.23, page 23", Address: 0x76, Chip: func() sim.Device {
			chip := sim.NewBMP280(nil)
			chip.FixRaw(519888, 415148, 0)
			return chip
		}, Want: map[string]Value{"temperature": {25.08, 0.001, "Cel"}, "pressure": {100653.27, 0.03, "Pa"}}},
		{Driver: "sht3x", Address: 0x44, Checksum: true, Chip: func() sim.Device { return sim.NewSHT3x(steady(air)) },
			Want: map[string]Value{"temperature": {21.37, 0.006, "Cel"}, "humidity": {45.5, 0.006, "%RH"}}},
		{Driver: "sht4x", Address: 0x44, Checksum: true, Chip: func() sim.Device { return sim.NewSHT4x(steady(air)) },
			Want: map[string]Value{"temperature": {21.37, 0.006, "Cel"}, "humidity": {45.5, 0.006, "%RH"}}},
		{Driver: "sht4x", Name: "cropped", Address: 0x44, Checksum: true, Chip: func() sim.Device { return sim.NewSHT4x(steady(sim.Climate{Humidity: 103})) },
			Want: map[string]Value{"temperature": {0, 0.006, "Cel"}, "humidity": {100, 0, "%RH"}}},
		{Driver: "scd4x", Name: "version 1.3, section 3.5.2", Address: 0x62, Checksum: true, Interval: 5 * time.Second, Chip: func() sim.Device {
			return sim.NewSCD4x(steady(sim.Climate{Temperature: 25, Humidity: 37}), always(500)) // 0x01f4, 0x6667, 0x5eb9
		}, Want: map[string]Value{"co2": {500, 0, "ppm"}, "temperature": {25, 0.006, "Cel"}, "humidity": {37, 0.006, "%RH"}}},
		{Driver: "bh1750", Name: "2009.04 revision B, page 10", Address: 0x23, Chip: func() sim.Device { return sim.NewBH1750(always(0x8390 / 1.2)) },
			Want: map[string]Value{"illuminance": {28067, 1, "lx"}}},
		{Driver: "bh1750", Name: "fine", Settings: "fine: true", Address: 0x23, Chip: func() sim.Device { return sim.NewBH1750(always(3.5)) },
			Want: map[string]Value{"illuminance": {3.3, 0.04, "lx"}}},
		{Driver: "ina219", Name: "SBOS448F page 24, table 3", Settings: "shunt: 0.002, max_current: 15", Address: 0x40,
			Chip: func() sim.Device { return sim.NewINA219(0.002, supply(11.98, 10)) },
			Want: map[string]Value{"voltage": {11.98, 0, "V"}, "current": {10, 0.002, "A"}, "power": {119.8, 0.03, "W"}, "shunt": {0.02, 0, "V"}}},
		{Driver: "ina226", Name: "SBOS547 page 16, table 1", Settings: "shunt: 0.002", Address: 0x40,
			Chip: func() sim.Device { return sim.NewINA226(0.002, supply(11.98, 10)) },
			Want: map[string]Value{"voltage": {11.98, 0, "V"}, "current": {10, 0, "A"}, "power": {119.8, 0, "W"}, "shunt": {0.02, 0, "V"}}},
		{Driver: "ina226", Name: "the other way", Settings: "shunt: 0.01", Address: 0x41,
			Chip: func() sim.Device { return sim.NewINA226(0.01, supply(24, -1.5)) },
			Want: map[string]Value{"voltage": {24, 0, "V"}, "current": {-1.5, 0, "A"}, "power": {-36, 0, "W"}, "shunt": {-0.015, 0, "V"}}},
		{Driver: "ads1115", Name: "inputs one after the other", Settings: "rate: 128, inputs: {a: {input: 0}, b: {input: 3, range: 0.512}, d: {input: 2-3, range: 0.256}}", Address: 0x48,
			Chip: func() sim.Device { return sim.NewADS1115(volts(3.3, 0, 0.1, 0.25)) },
			Want: map[string]Value{"a": {3.3, 0.000063, "V"}, "b": {0.25, 0.000008, "V"}, "d": {-0.15, 0.000004, "V"}}},
		{Driver: "ads1115", Name: "more than the range", Settings: "inputs: {a: {input: 0, range: 2.048}}", Address: 0x48, Flagged: true,
			Chip: func() sim.Device { return sim.NewADS1115(volts(2.2, 0, 0, 0)) },
			Want: map[string]Value{"a": {2.048, 0.0001, "V"}}},
		{Driver: "ads1115", Name: "a clock that is 10 % slow", Settings: "rate: 8, inputs: {a: {input: 0}, b: {input: 1}}", Address: 0x48,
			Chip: func() sim.Device {
				chip := sim.NewADS1115(volts(1, 2, 0, 0))
				chip.Slow(1.1)
				return chip
			},
			Want: map[string]Value{"a": {1, 0.000063, "V"}, "b": {2, 0.000063, "V"}}},
		{Driver: "registers", Name: "an SHT3x", Settings: `init: [[0x30, 0xa2]], settle: 2ms, registers: {t: {at: [0x24, 0x00], wait: 16ms, bytes: 2, scale: 0.0026703, offset: -45, unit: Cel, crc: {poly: 0x31, init: 0xff, every: 2}}, h: {at: [0x24, 0x00], wait: 16ms, skip: 2, bytes: 2, scale: 0.0015259, unit: "%RH", crc: {poly: 0x31, init: 0xff, every: 2}}}`,
			Address: 0x44, Checksum: true, Chip: func() sim.Device { return sim.NewSHT3x(steady(air)) },
			Want: map[string]Value{"t": {21.37, 0.01, "Cel"}, "h": {45.5, 0.01, "%RH"}}},
		{Driver: "registers", Name: "a BME280 says who it is", Settings: `registers: {id: {at: 0xd0, expect: 0x60}, t1: {at: 0x88, bytes: 2, order: little}, t3: {at: 0x8c, bytes: 2, order: little, signed: true}}`,
			Address: 0x76, Chip: func() sim.Device { return sim.NewBME280(steady(air)) },
			Want: map[string]Value{"t1": {27504, 0, ""}, "t3": {-1000, 0, ""}}},
	}
	all = append(all,
		Case{Driver: "bme280", Name: "over SPI", Settings: "speed: 500kHz", SPI: func() sim.SPIDevice { return sim.NewBME280(steady(air)) },
			Want: map[string]Value{"temperature": {21.37, 0.011, "Cel"}, "pressure": {101325, 2, "Pa"}, "humidity": {45.5, 0.05, "%RH"}}},
		Case{Driver: "bmp280", Name: "over SPI", SPI: func() sim.SPIDevice { return sim.NewBMP280(steady(air)) },
			Want: map[string]Value{"temperature": {21.37, 0.011, "Cel"}, "pressure": {101325, 2, "Pa"}}},
		Case{Driver: "registers", Name: "a BME280 over SPI", Settings: `mode: 3, read_bits: 0x80, registers: {id: {at: 0x50, expect: 0x60}, t1: {at: 0x08, bytes: 2, order: little}, t3: {at: 0x0c, bytes: 2, order: little, signed: true}}`,
			SPI:  func() sim.SPIDevice { return sim.NewBME280(steady(air)) },
			Want: map[string]Value{"t1": {27504, 0, ""}, "t3": {-1000, 0, ""}}},
	)
	// SBOS397C, page 6, table 5.
	for _, t := range []float64{127.9375, 100, 80, 75, 50, 25, 0.25, 0, -0.25, -25, -55} {
		all = append(all, Case{Driver: "tmp102", Name: fmt.Sprintf("SBOS397C page 6, %v °C", t), Address: 0x48, Flagged: t > 125,
			Chip: func() sim.Device { return sim.NewThermometer(12, celsius(t)) }, Want: map[string]Value{"temperature": {t, 0, "Cel"}}})
	}
	for _, t := range []float64{125, 25.5, -0.5, -55} {
		all = append(all, Case{Driver: "lm75", Name: fmt.Sprintf("%v °C", t), Address: 0x4f,
			Chip: func() sim.Device { return sim.NewThermometer(9, celsius(t)) }, Want: map[string]Value{"temperature": {t, 0, "Cel"}}})
	}
	for _, t := range []float64{124.9375, 25.25, 0, -0.0625, -25.25} {
		all = append(all, Case{Driver: "mcp9808", Name: fmt.Sprintf("%v °C", t), Address: 0x18,
			Chip: func() sim.Device { return sim.NewMCP9808(celsius(t)) }, Want: map[string]Value{"temperature": {t, 0, "Cel"}}})
	}
	return all
}

// Suite tests what every sensor at an I²C or SPI bus promises: it measures what there
// is, it is offline when it is unplugged and back when it is plugged in again,
// and damage on the cable is no reading where a checksum tells.
func Suite(t *testing.T, drivers []devices.Driver, b Bench) {
	for _, c := range Cases() {
		name := c.Driver
		if c.Name != "" {
			name += ", " + c.Name
		}
		if c.SPI != nil && b.OpenSPI == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			b.InTime(t, func(t *testing.T) { c.run(t, drivers, b) })
		})
	}
}

// socket is where a chip is plugged in.
type socket struct {
	chip         any
	buses        devices.Buses
	wiring       string // the settings that lead there
	plug, unplug func()
	garble       func(n int)
}

func (c Case) socket(t *testing.T, b Bench) *socket {
	if c.SPI != nil {
		board, chip := sim.NewSPI("board"), c.SPI()
		board.Slow(100 * time.Microsecond) // else who waits for a chip that is not there stops the clock
		buses, name := b.OpenSPI(t, board)
		return &socket{chip, buses, fmt.Sprintf("bus: %q", name),
			func() { board.Plug(0, chip) }, func() { board.Unplug(0) }, func(n int) { board.Garble(0, n) }}
	}
	board, chip := sim.NewBus("board"), c.Chip()
	buses, name := b.Open(t, board)
	return &socket{chip, buses, fmt.Sprintf("bus: %q, address: %#x", name, c.Address),
		func() { board.Plug(c.Address, chip) }, func() { board.Unplug(c.Address) }, func(n int) { board.Garble(c.Address, n) }}
}

func (c Case) run(t *testing.T, drivers []devices.Driver, b Bench) {
	at := c.socket(t, b)
	at.plug()
	interval := max(c.Interval, time.Second)
	settings := c.Settings
	if settings != "" {
		settings = ", " + settings
	}
	log, set := Start(t, fmt.Sprintf("x: {driver: %s, %s, interval: %v%s}", c.Driver, at.wiring, interval, settings), drivers, at.buses)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	for name, want := range c.Want {
		events := log.Wait(ctx, "devices/x/"+name, 1)
		if len(events) == 0 {
			t.Fatalf("no reading %s: %+v", name, set.Status()[0])
		}
		got, unit, quality := reading(t, events[0])
		if !(math.Abs(got-want.V) <= want.Within+1e-9) || unit != want.Unit {
			t.Errorf("%s is %v %s, want %v ± %v %s", name, got, unit, want.V, want.Within, want.Unit)
		}
		if flagged := quality == "out_of_range"; flagged != c.Flagged {
			t.Errorf("%s is flagged %q", name, quality)
		}
	}

	at.unplug()
	events := log.Wait(ctx, "devices/x/status", 2)
	if len(events) < 2 || !strings.Contains(string(events[1].Payload), "offline") {
		t.Fatalf("unplugged: %s", log.Lines("devices/x/status"))
	}
	at.plug()
	if events = log.Wait(ctx, "devices/x/status", 3); len(events) < 3 {
		t.Fatalf("plugged in again: %+v", set.Status()[0])
	}
	if c.Checksum {
		for range 5 { // whichever of its answers it hits
			at.garble(1)
			time.Sleep(3*interval + interval/3)
		}
	}
	if p, ok := at.chip.(interface{ PowerOn() }); ok {
		for range 3 { // whenever in the interval it happens
			p.PowerOn()
			time.Sleep(4*interval + interval/3)
		}
		n := len(log.Events("devices/x/+"))
		if events := log.Wait(ctx, "devices/x/+", n+1); len(events) <= n {
			t.Errorf("no reading after a loss of supply: %+v", set.Status()[0])
		}
	}
	for name, want := range c.Want {
		for _, e := range log.Events("devices/x/" + name) {
			if got, _, _ := reading(t, e); !(math.Abs(got-want.V) <= want.Within+1e-9) {
				t.Errorf("a reading that was not measured: %s %s", e.Topic, e.Payload)
			}
		}
	}
}

// reading returns what an event of a reading says.
func reading(t *testing.T, e event.Event) (value float64, unit, quality string) {
	t.Helper()
	var r struct {
		Value         float64
		Unit, Quality string
	}
	if err := json.Unmarshal(e.Payload, &r); err != nil {
		t.Fatalf("%s: %v", e.Payload, err)
	}
	return r.Value, r.Unit, r.Quality
}
