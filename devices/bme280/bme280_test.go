package bme280_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/devices"
	"holdfast/devices/bme280"
	"holdfast/devices/bus"
	"holdfast/devices/devicetest"
	"holdfast/devices/sim"
	"holdfast/gateway/event"
)

// bench is a driver at work on a model.
type bench struct {
	*devicetest.Log
	bus  *sim.Bus
	chip *sim.BME280
	set  *devices.Set
}

// start runs a BME280 at 0x76 that is read every second.
func start(t *testing.T, chip sim.Device, settings string) *bench {
	t.Helper()
	boards := new(sim.Boards)
	b := &bench{bus: boards.Bus("board")}
	b.chip, _ = chip.(*sim.BME280)
	b.bus.Plug(0x76, chip)
	yaml := "attic: {driver: bme280, bus: sim:board, interval: 1s" + settings + "}"
	b.Log, b.set = devicetest.Start(t, yaml, []devices.Driver{bme280.Driver}, bus.Buses{Simulated: boards.Open})
	return b
}

func TestTheSamplePasses(t *testing.T) {
	devicetest.Check(t, bme280.Driver, bus.Buses{})
}

// The raw numbers are the worked example of the BMP280's data sheet
// (BST-BMP280-DS001 revision 1.23, section 3.12, page 23), whose temperature
// and pressure the BME280 shares. It prints 25.08 °C and 100653.27 Pa, and notes
// that integers may differ slightly: the 64-bit formula gives 25767233/256. No
// data sheet has an example for humidity: the expected value was worked out by
// the formula in double precision (BST-BME280-DS002, section 8.1, page 49),
// 49.657, of which the integers leave 49.65.
func TestTheExampleOfTheDataSheetComesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chip := sim.NewBME280(nil)
		chip.FixRaw(519888, 415148, 30000)
		b := start(t, chip, "")
		time.Sleep(500 * time.Millisecond)
		want := []string{
			`devices/attic/status {"state":"online"}`,
			`devices/attic/temperature {"value":25.08,"unit":"Cel"}`,
			`devices/attic/pressure {"value":100653.25,"unit":"Pa"}`,
			`devices/attic/humidity {"value":49.65,"unit":"%RH"}`,
		}
		if diff := cmp.Diff(want, b.Lines("#")); diff != "" {
			t.Error(diff)
		}
	})
}

// The driver computes in integers, the model in double precision; both are
// written after the data sheet.
func TestWhatTheAirIsLikeIsWhatIsMeasured(t *testing.T) {
	for _, c := range []sim.Climate{
		{Temperature: 21.37, Pressure: 101325, Humidity: 45},
		{Temperature: -39.5, Pressure: 31000, Humidity: 1},
		{Temperature: 84.5, Pressure: 109000, Humidity: 99},
		{Temperature: 0, Pressure: 87000, Humidity: 100},
	} {
		for _, n := range []int{1, 16} {
			t.Run(fmt.Sprintf("%v°C,x%d", c.Temperature, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := start(t, sim.NewBME280(sim.Steady(c)), fmt.Sprintf(", oversampling: %d", n))
					time.Sleep(500 * time.Millisecond)
					for name, want := range map[string][2]float64{
						"temperature": {c.Temperature, 0.011},
						"pressure":    {c.Pressure, 2}, // a step of 0.01 °C in the compensation
						"humidity":    {c.Humidity, 0.05},
					} {
						events := b.Events("+/+/" + name)
						if len(events) != 1 || !(math.Abs(value(events[0])-want[0]) <= want[1]) {
							t.Errorf("%s: got %s, want %v", name, b.Lines("+/+/"+name), want[0])
						}
					}
				})
			})
		}
	}
}

func value(e event.Event) (v float64) {
	if _, err := fmt.Sscanf(string(e.Payload), `{"value":%g`, &v); err != nil {
		return math.NaN()
	}
	return v
}

func TestALossOfSupplyIsNoticedAndRepaired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, sim.NewBME280(sim.Steady(sim.Climate{Temperature: 20, Pressure: 1e5, Humidity: 80})), "")
		time.Sleep(1500 * time.Millisecond)
		b.chip.PowerOn()
		time.Sleep(2 * time.Second)
		status := b.set.Status()[0]
		if status.State != devices.Online || status.Failures != 1 || !strings.Contains(status.Err, "lost its settings") {
			t.Errorf("%+v", status)
		}
		readings := b.Events("+/+/humidity")
		for _, e := range readings {
			if !(math.Abs(value(e)-80) <= 0.05) {
				t.Errorf("a humidity that was not measured: %s", e.Payload)
			}
		}
		if len(readings) < 4 {
			t.Errorf("%d readings in 3.5 s", len(readings))
		}
	})
}

func TestAnotherChipAtTheAddressIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, otherChip(0x58), "")
		time.Sleep(time.Second)
		if status := b.set.Status()[0]; status.State != devices.Offline || !strings.Contains(status.Err, "BMP280, which has no humidity") {
			t.Errorf("%+v", status)
		}
	})
}

// otherChip answers every register with its number.
type otherChip byte

func (otherChip) Write(time.Time, []byte) {}

func (c otherChip) Read(_ time.Time, p []byte) {
	for i := range p {
		p[i] = byte(c)
	}
}

// periph waits for the end of a measurement without a limit of its own.
func TestAChipThatNeverEndsAMeasurementIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, sim.NewBME280(sim.Steady(sim.Climate{Temperature: 20, Pressure: 1e5, Humidity: 50})), ", timeout: 200ms")
		time.Sleep(500 * time.Millisecond)
		b.bus.Plug(0x76, &slowFloating{})
		time.Sleep(5 * time.Second)
		if status := b.set.Status()[0]; status.State != devices.Offline {
			t.Errorf("%+v", status)
		}
		b.bus.Plug(0x76, b.chip)
		time.Sleep(40 * time.Second)
		if status := b.set.Status()[0]; status.State != devices.Online {
			t.Errorf("it did not come back: %+v", status)
		}
	})
}

// slowFloating reads as ones, and takes the time that a real bus needs for
// that; without it the clock of the test would stand still.
type slowFloating struct{ sim.Floating }

func (s *slowFloating) Read(now time.Time, p []byte) {
	time.Sleep(time.Millisecond)
	s.Floating.Read(now, p)
}

func TestMistakesInTheSettingsAreShownAtTheirPlace(t *testing.T) {
	for _, c := range []struct{ name, yaml, want string }{
		{"no bus", "a: {driver: bme280}", `1:1: the required key "bus" is missing`},
		{"other address", "a:\n  driver: bme280\n  bus: 1\n  address: 0x48", "4:12: a BME280 is at 0x76 or 0x77, not at 0x48"},
		{"no address", "a:\n  driver: bme280\n  bus: 1\n  address: SDO", `4:12: address: "SDO" is not an I²C address`},
		{"odd oversampling", "a:\n  driver: bme280\n  bus: 1\n  oversampling: 3", "4:17: oversampling:"},
		{"misspelt key", "a:\n  driver: bme280\n  bus: 1\n  intervall: 1s", `4:3: unknown key "intervall", did you mean "interval"?`},
		{"no such bus", "a:\n  driver: bme280\n  bus: i2c", `3:8: "i2c" is not an I²C bus`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := devicetest.Load(c.yaml, []devices.Driver{bme280.Driver}, bus.Buses{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
		})
	}
}
