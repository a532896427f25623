package devices_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/conn/v3/spi"

	"holdfast/devices"
	"holdfast/devices/bme280"
	"holdfast/devices/bus"
	"holdfast/devices/devicetest"
	"holdfast/devices/registers"
	"holdfast/devices/sim"
)

// startSPI runs devices on simulated SPI buses, each transfer of which takes 100 µs,
// of a machine that has no others.
func startSPI(t *testing.T, yaml string) (*sim.Boards, *devicetest.Log, *devices.Set) {
	t.Helper()
	boards := new(sim.Boards)
	buses := bus.Buses{Root: t.TempDir(), Simulated: boards.Open, SimulatedSPI: func(board string, sel uint16) spi.PortCloser {
		boards.SPI(board).Slow(100 * time.Microsecond)
		return boards.SPI(board).Port(sel)
	}}
	log, set := devicetest.Start(t, yaml, []devices.Driver{bme280.Driver, bme280.BMP280, registers.Driver, tmp102}, buses)
	return boards, log, set
}

func TestSelectsOfAnSPIBusShareAGoroutineAndABusThatHangsHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boards, log, set := startSPI(t, `
attic:  {driver: bme280, bus: sim:one/spi0, interval: 1s}
cellar: {driver: bmp280, bus: sim:one/spi1, interval: 1s}
garden: {driver: bme280, bus: sim:two/spi0, interval: 1s}
`)
		time.Sleep(10500 * time.Millisecond)
		boards.SPI("one").Break(0, sim.Stall(3*time.Second))
		time.Sleep(time.Minute)
		if n := len(log.Events("devices/garden/humidity")); n != 71 {
			t.Errorf("the other bus: %d readings in 70.5 s", n)
		}
		status := set.Status()
		if s := status[0]; s.State != devices.Offline || !strings.Contains(s.Err, "held low") {
			t.Errorf("the one that hangs: %+v", s)
		}
		if s := status[1]; s.State != devices.Online || s.Failures > 0 {
			t.Errorf("its neighbour, which waits for it: %+v", s)
		}
		boards.SPI("one").Break(0, nil)
		time.Sleep(31 * time.Second)
		if s := set.Status()[0]; s.State != devices.Online {
			t.Errorf("after it: %+v", s)
		}
	})
}

// Without a chip an SPI bus reads as all ones, and nothing fails by itself.
func TestNoReadingIsMadeOfAnSPIBusWithoutAChip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boards, log, set := startSPI(t, `
attic: {driver: bme280, bus: sim:one/spi0, interval: 1s}
boxed: {driver: registers, bus: sim:one/spi1, interval: 1s, mode: 3, read_bits: 0x80, registers: {id: {at: 0x50, expect: 0x58}, t1: {at: 0x08, bytes: 2, order: little}}}
`)
		time.Sleep(2500 * time.Millisecond)
		boards.SPI("one").Unplug(0)
		boards.SPI("one").Unplug(1)
		time.Sleep(time.Minute)
		if n, m := len(log.Events("devices/attic/temperature")), len(log.Events("devices/boxed/t1")); n != 3 || m != 3 {
			t.Errorf("%d and %d readings, of which 3 were measured each", n, m)
		}
		for i, want := range []string{"nothing answers; is it connected?", "it is 0xff, not 0x58"} {
			if s := set.Status()[i]; s.State != devices.Offline || !strings.Contains(s.Err, want) {
				t.Errorf("%+v", s)
			}
		}
	})
}

// The model answers in modes 0 and 3.
func TestADeviceAtAnSPIBusIsReadInItsMode(t *testing.T) {
	for mode, want := range []devices.State{devices.Online, devices.Offline, devices.Offline, devices.Online} {
		synctest.Test(t, func(t *testing.T) {
			_, _, set := startSPI(t, fmt.Sprintf("x: {driver: registers, bus: sim:a/spi0, interval: 1s, mode: %d, read_bits: 0x80, registers: {id: {at: 0x50, expect: 0x60}, t1: {at: 0x08, bytes: 2}}}", mode))
			time.Sleep(3 * time.Second)
			if s := set.Status()[0]; s.State != want {
				t.Errorf("mode %d: %+v", mode, s)
			}
		})
	}
}

// converter answers without being asked anything, as a MAX6675 does.
type converter struct{}

func (converter) Exchange(_ time.Time, _ spi.Mode, w, answer []byte) {
	if len(w) == 2 {
		copy(answer, []byte{0x0c, 0x98}) // 403 × 0.25 °C, 12 bits above the lowest three
	}
}

func TestADeviceThatOnlyAnswersIsReadOverSPI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := sim.NewSPI("oven")
		board.Plug(0, converter{})
		log, _ := devicetest.Start(t, "oven: {driver: registers, bus: sim:oven/spi0, registers: {temperature: {at: [], bytes: 2, shift: 3, bits: 12, scale: 0.25, unit: Cel}}}",
			[]devices.Driver{registers.Driver}, bus.Buses{SimulatedSPI: func(_ string, sel uint16) spi.PortCloser { return board.Port(sel) }})
		log.Wait(t.Context(), "#", 2)
		want := []string{`devices/oven/status {"state":"online"}`, `devices/oven/temperature {"value":100.75,"unit":"Cel"}`}
		if diff := cmp.Diff(want, log.Lines("#")); diff != "" {
			t.Error(diff)
		}
	})
}

// ports remembers how the ports of a bus were set up and whether they were closed.
type ports struct {
	mu     sync.Mutex
	speeds []string
	open   int
}

func (p *ports) note(opened int, speed ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open += opened
	p.speeds = append(p.speeds, speed...)
}

func (p *ports) seen() (open int, speeds []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open, slices.Clone(p.speeds)
}

func TestAnSPIPortIsSetUpAndClosedAsItShouldBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := sim.NewSPI("b")
		board.Plug(0, sim.NewBME280(sim.Steady(sim.Climate{Temperature: 20, Pressure: 1e5, Humidity: 50})))
		p := new(ports)
		_, set := devicetest.Start(t, "x: {driver: bme280, bus: sim:b/spi0, interval: 10s, speed: 250kHz}", []devices.Driver{bme280.Driver},
			bus.Buses{SimulatedSPI: func(_ string, sel uint16) spi.PortCloser {
				p.note(1)
				return watchedPort{board.Port(sel), p}
			}})
		time.Sleep(time.Second)
		if open, speeds := p.seen(); open != 1 || len(speeds) != 1 || speeds[0] != "250kHz Mode3" {
			t.Errorf("%d ports are open, set up as %v", open, speeds)
		}
		time.Sleep(5 * time.Second) // an idle bus is closed
		if open, _ := p.seen(); open != 0 {
			t.Errorf("%d ports are open while nobody needs them", open)
		}
		board.Break(0, sim.Times(1, sim.Stuck))
		time.Sleep(6 * time.Second)
		open, speeds := p.seen()
		if s := set.Status()[0]; s.Failures != 1 || len(speeds) != 3 || open != 1 {
			t.Errorf("after a failure: set up as %v, %d open, %+v", speeds, open, s)
		}
	})
}

// watchedPort notes on ports what is done with it.
type watchedPort struct {
	spi.PortCloser
	notes *ports
}

func (p watchedPort) Connect(f physic.Frequency, mode spi.Mode, bits int) (spi.Conn, error) {
	p.notes.note(0, fmt.Sprintf("%v %v", f, mode))
	return p.PortCloser.Connect(f, mode, bits)
}

func (p watchedPort) Close() error {
	p.notes.note(-1)
	return p.PortCloser.Close()
}

func TestMistakesInTheWiringOfAnSPIBusAreShownAtTheirPlace(t *testing.T) {
	boards := new(sim.Boards)
	buses := bus.Buses{Root: t.TempDir(), Simulated: boards.Open, SimulatedSPI: func(board string, sel uint16) spi.PortCloser { return boards.SPI(board).Port(sel) }}
	for yaml, want := range map[string]string{
		"a: {driver: bme280, bus: spi0}":                                                  `1:26: "spi0" is not a select of an SPI bus; write it as spi0.1`,
		"a: {driver: bme280, bus: spi0.0, address: 0x76}":                                 "1:43: devices on an SPI bus have no address",
		"a: {driver: bme280, bus: 1, speed: 1MHz}":                                        "1:36: the speed of an I²C bus is a setting of the system",
		"a: {driver: bme280, bus: spi0.0, speed: 1GHz}":                                   `1:41: speed: "1GHz" is not a speed of an SPI bus; write one from 1kHz to 50MHz`,
		"a: {driver: tmp102, bus: spi0.0}":                                                "1:26: spi0.0 is an SPI bus, which this device is not read over",
		"a: {driver: tmp102, bus: /dev/spidev0.0}":                                        "is an SPI bus",
		"a: {driver: registers, bus: 1, address: 0x48, mode: 1, registers: {v: {at: 1}}}": "1:53: mode is for devices on an SPI bus",
		"a: {driver: registers, bus: spi0.0, mode: 4, registers: {v: {at: 1}}}":           "1:43: mode must be at most 3",
		"a: {driver: registers, bus: spi0.0, read_bits: 0x100, registers: {v: {at: 1}}}":  "1:48: read_bits must be at most 255",
		"a: {driver: bme280, bus: spi0.0}\nb: {driver: bmp280, bus: /dev/spidev0.0}":      "2:26: /dev/spidev0.0 is a already",
	} {
		_, err := devicetest.Load(yaml, []devices.Driver{bme280.Driver, bme280.BMP280, registers.Driver, tmp102}, buses)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v\nwant %s", yaml, err, want)
		}
	}
}

func TestAScanNamesTheSelectsOfSPIBuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, set := startSPI(t, "attic: {driver: bme280, bus: sim:one/spi0}")
		if diff := cmp.Diff([]devices.Found{{Bus: "sim:one/spi0", Device: "attic"}}, set.Scan(t.Context(), nil)); diff != "" {
			t.Error(diff)
		}
	})
}
