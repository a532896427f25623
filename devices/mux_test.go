package devices_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/i2c"

	"holdfast/devices"
	"holdfast/devices/bus"
	"holdfast/devices/devicetest"
	"holdfast/devices/sim"
)

// thermometers are TMP102 with one temperature each, all at the same address
// behind two multiplexers.
func thermometers(t *testing.T) (*devicetest.Log, *sim.Bus, *devices.Set, [2]*sim.PCA9548) {
	t.Helper()
	board := sim.NewBus("b")
	muxes := [2]*sim.PCA9548{sim.NewPCA9548(), sim.NewPCA9548()}
	var yaml strings.Builder
	for m, mux := range muxes {
		board.Plug(uint16(0x70+m), mux)
		for c := range 8 {
			mux.Channel(c).Plug(0x48, &tmp102Model{raw: uint16(10*m+c) << 8})
			fmt.Fprintf(&yaml, "t%d%d: {driver: tmp102, bus: 'sim:b/%#x:%d', interval: 1s}\n", m, c, 0x70+m, c)
		}
	}
	inner := sim.NewPCA9548()
	muxes[0].Channel(7).Plug(0x72, inner)
	inner.Channel(3).Plug(0x4b, &tmp102Model{raw: 77 << 8})
	yaml.WriteString("inner: {driver: tmp102, bus: 'sim:b/0x70:7/0x72:3', address: 0x4b, interval: 1s}\n")
	yaml.WriteString("outer: {driver: tmp102, bus: sim:b, address: 0x49, interval: 1s}\n")
	board.Plug(0x49, &tmp102Model{raw: 55 << 8})
	log, set := devicetest.Start(t, yaml.String(), []devices.Driver{tmp102}, bus.Buses{Simulated: func(string) (i2c.BusCloser, error) { return board, nil }})
	return log, board, set, muxes
}

// check compares all readings with what the device alone can have measured.
func check(t *testing.T, log *devicetest.Log, least int) {
	t.Helper()
	want := map[string]int{"inner": 77, "outer": 55}
	for m := range 2 {
		for c := range 8 {
			want[fmt.Sprintf("t%d%d", m, c)] = 10*m + c
		}
	}
	for name, v := range want {
		lines := log.Lines("devices/" + name + "/temperature")
		if len(lines) < least {
			t.Errorf("%s: %d readings, want %d", name, len(lines), least)
		}
		for _, line := range lines {
			if !strings.Contains(line, fmt.Sprintf(`{"value":%d,`, v)) {
				t.Errorf("%s, want %d", line, v)
			}
		}
	}
}

func TestDevicesBehindMultiplexersAreNeverMistakenForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, _, _, _ := thermometers(t)
		time.Sleep(9500 * time.Millisecond)
		check(t, log, 10)
	})
}

func TestAMultiplexerThatLosesItsSupplyOrGoesIsSwitchedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, board, set, muxes := thermometers(t)
		for range 5 {
			time.Sleep(1300 * time.Millisecond)
			muxes[0].PowerOn()
			muxes[1].PowerOn()
		}
		board.Unplug(0x71)
		time.Sleep(10 * time.Second)
		if s := set.Status()[8]; s.State != devices.Offline || !strings.Contains(s.Err, "switch the multiplexer at 0x71") {
			t.Errorf("%+v", s)
		}
		if s := set.Status()[0]; s.State != devices.Online {
			t.Errorf("behind the other: %+v", s)
		}
		board.Plug(0x71, muxes[1])
		time.Sleep(40 * time.Second)
		check(t, log, 20)
		for _, s := range set.Status() {
			if s.State != devices.Online {
				t.Errorf("%+v", s)
			}
		}
	})
}

func TestAMultiplexerThatLosesItsSupplyCostsOneReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board, mux := sim.NewBus("b"), sim.NewPCA9548()
		board.Plug(0x70, mux)
		mux.Channel(2).Plug(0x48, &tmp102Model{raw: 7 << 8})
		_, set := devicetest.Start(t, "a: {driver: tmp102, bus: 'sim:b/0x70:2', interval: 1s}", []devices.Driver{tmp102},
			bus.Buses{Simulated: func(string) (i2c.BusCloser, error) { return board, nil }})
		time.Sleep(1500 * time.Millisecond)
		mux.PowerOn()
		time.Sleep(10 * time.Second)
		if s := set.Status()[0]; s.Failures != 1 || s.State != devices.Online {
			t.Errorf("%+v", s)
		}
	})
}

func TestMistakesAboutMultiplexersAreShownAtTheirPlace(t *testing.T) {
	for yaml, want := range map[string]string{
		"a: {driver: tmp102, bus: 1/0x70:8}":                                             "1:26: the channels of a PCA9548 go from 0 to 7, not to 8",
		"a: {driver: tmp102, bus: 1/0x20:1}":                                             "1:26: a PCA9548 is at 0x70 to 0x77, not at 0x20",
		"a: {driver: tmp102, bus: 1/0x70:1}\nb: {driver: tmp102, bus: 1}":                "2:1: 0x48 on bus /dev/i2c-1 would answer together with a",
		"a: {driver: tmp102, bus: 1}\nb: {driver: tmp102, bus: 1/0x70:1}":                "2:1: 0x48 on bus /dev/i2c-1 is a already",
		"a: {driver: tmp102, bus: 1/0x70:1}\nb: {driver: tmp102, bus: 1/0x70:1}":         "2:1: 0x48 on bus /dev/i2c-1/0x70:1 is a already",
		"a: {driver: tmp102, bus: 1/0x70:1}\nb: {driver: tmp102, bus: 1, address: 0x70}": "2:38: 0x70 on bus /dev/i2c-1 would answer together with the multiplexer that leads to a",
		"a: {driver: tmp102, bus: 1/0x70:1, address: 0x70}":                              "1:45: 0x70 on bus /dev/i2c-1 is the multiplexer that leads to the device",
	} {
		_, err := devicetest.Load(yaml, []devices.Driver{tmp102}, bus.Buses{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v\nwant %s", yaml, err, want)
		}
	}
}
