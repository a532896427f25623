//go:build vm

package vmtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"holdfast/devices"
	"holdfast/devices/devicetest"
	"holdfast/devices/drivers"
	"holdfast/devices/gpio"
	"holdfast/devices/sim"
	"holdfast/devices/vmtest/hardware"
)

// board returns a bus with thermometers at 20 °C.
func board(addresses ...uint16) *sim.Bus {
	b := sim.NewBus("board")
	for _, addr := range addresses {
		b.Plug(addr, sim.NewThermometer(12, sim.Steady(sim.Climate{Temperature: 20})))
	}
	return b
}

// transfer opens a bus and reads a thermometer.
func transfer(t *testing.T, file string, addr uint16) error {
	t.Helper()
	b, err := kernel.I2C(file)
	if err != nil {
		return err
	}
	defer b.Close()
	var reading [2]byte
	err = b.Tx(addr, []byte{0}, reading[:])
	if want := [2]byte{20, 0}; err == nil && reading != want {
		t.Errorf("read % x at %#x, want % x", reading, addr, want)
	}
	return err
}

// Adapters word errors as they like: what counts is that there is one, and that
// the bus works afterwards.
func TestATransferThatFailsDoesNotSpoilTheNextOne(t *testing.T) {
	for name, plugged := range map[string]func(*sim.Bus) (pluggable, func() string){
		"i2c-tiny-usb": func(b *sim.Bus) (pluggable, func() string) {
			a := hardware.NewAdapter(b)
			return a, func() string { return a.File }
		},
		"cp2112": func(b *sim.Bus) (pluggable, func() string) {
			a := hardware.NewBridge(b)
			return a, func() string { return a.File }
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := board(0x48)
			hw, file := plugged(b)
			plug(t, hw)
			for what, fail := range map[string]func() error{
				"nobody there": func() error { return transfer(t, file(), 0x50) },
				"no answer": func() error {
					b.Break(0x48, sim.NACK)
					defer b.Break(0x48, nil)
					return transfer(t, file(), 0x48)
				},
			} {
				err := fail()
				if err == nil {
					t.Errorf("%s: no error", what)
				}
				t.Logf("%s, %s: %v", name, what, err)
				if err := transfer(t, file(), 0x48); err != nil {
					t.Errorf("after %s: %v", what, err)
				}
			}
			unplug(t, hw)
			if err := transfer(t, file(), 0x48); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("unplugged: %v", err)
			}
			plugAgain(t, hw)
			if err := transfer(t, file(), 0x48); err != nil {
				t.Errorf("plugged in again: %v", err)
			}
		})
	}
}

// load runs devices until the end of the test.
func load(t *testing.T, yaml string) (*devices.Set, *devicetest.Log) {
	t.Helper()
	log, set := devicetest.Start(t, yaml, drivers.All, kernel)
	return set, log
}

func status(set *devices.Set, name string) devices.Status {
	for _, s := range set.Status() {
		if s.Name == name {
			return s
		}
	}
	return devices.Status{}
}

// wait waits for the nth status event of a device, and returns its payload.
func wait(t *testing.T, log *devicetest.Log, name string, n int) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	events := log.Wait(ctx, "devices/"+name+"/status", n)
	if len(events) < n {
		t.Fatalf("%s has told %d times how it does, want %d", name, len(events), n)
	}
	return string(events[n-1].Payload)
}

// The kernel gives a stuck bus up after 2 s. Until then nobody else can use it.
func TestAStuckDeviceHoldsUpOnlyItsBus(t *testing.T) {
	stuck, free := board(0x48, 0x49), board(0x48)
	a, b := hardware.NewAdapter(stuck), hardware.NewAdapter(free)
	plug(t, a)
	plug(t, b)
	set, log := load(t, fmt.Sprintf(`
bad:       {driver: tmp102, bus: %[1]s, address: 0x48, interval: 500ms}
neighbour: {driver: tmp102, bus: %[1]s, address: 0x49, interval: 500ms}
other:     {driver: tmp102, bus: %[2]s, address: 0x48, interval: 500ms}
`, a.File, b.File))
	for _, name := range []string{"bad", "neighbour", "other"} {
		if got := wait(t, log, name, 1); !strings.Contains(got, "online") {
			t.Fatal(got)
		}
	}
	stuck.Break(0x48, sim.Stall(3*time.Second))
	before := status(set, "other").Captured
	// Held up together with the stuck one, the other bus would give half at most.
	const length = 20 * time.Second
	time.Sleep(length)
	if n := status(set, "other").Captured - before; n < uint64(length/(500*time.Millisecond))*3/4 {
		t.Errorf("the other bus gave only %d readings", n)
	}
	if got := wait(t, log, "bad", 2); !strings.Contains(got, "offline") {
		t.Error(got)
	}
	if s := status(set, "neighbour"); s.State != devices.Online || s.Failures > 0 {
		t.Errorf("the neighbour: %+v", s)
	}
	if lines := log.Lines("devices/other/status"); len(lines) != 1 {
		t.Errorf("%v", lines)
	}
}

// As long as the file of an adapter that has gone is open, the kernel sees
// nothing that is plugged in at the same hub.
func TestAnAdapterThatIsPulledOutIsLetGo(t *testing.T) {
	for interval, when := range map[string]string{"500ms": "while it is in use", "1h": "while nobody uses it"} {
		t.Run(when, func(t *testing.T) {
			gone, next := hardware.NewAdapter(board(0x48)), hardware.NewAdapter(board(0x49))
			plug(t, gone)
			_, log := load(t, fmt.Sprintf("a: {driver: tmp102, bus: %s, address: 0x48, interval: %s}", gone.File, interval))
			if got := wait(t, log, "a", 1); !strings.Contains(got, "online") {
				t.Fatal(got)
			}
			time.Sleep(3 * time.Second)
			unplug(t, gone)
			plug(t, next)
			if err := transfer(t, next.File, 0x49); err != nil {
				t.Error(err)
			}
		})
	}
}

// The kernel is told of the bridge anew each time, and gives it the same file.
func TestADeviceAtAnSPIBusSurvivesThatItsAdapterIsUnplugged(t *testing.T) {
	board := sim.NewSPI("board")
	board.Plug(0, sim.NewBME280(sim.Steady(sim.Climate{Temperature: 20, Pressure: 1e5, Humidity: 50})))
	s := hardware.NewSelects(board)
	plug(t, s)
	file := s.File
	set, log := load(t, fmt.Sprintf("air: {driver: bme280, bus: %s, interval: 1s}", file))
	for n, want := range []string{"online", "offline", "online"} {
		if got := wait(t, log, "air", n+1); !strings.Contains(got, `"`+want+`"`) {
			t.Errorf("%s, want %s", got, want)
		}
		switch n {
		case 0:
			unplug(t, s)
		case 1:
			t.Logf("unplugged: %s", status(set, "air").Err)
			if plugAgain(t, s); s.File != file {
				t.Fatalf("it is %s now, and was %s", s.File, file)
			}
		}
	}
}

// The chip has another number each time, since its lines are in use when it goes.
func TestDevicesSurviveThatTheirHardwareIsUnplugged(t *testing.T) {
	b := hardware.NewBridge(board(0x48))
	plug(t, b)
	_, log := load(t, fmt.Sprintf(`
sensor: {driver: tmp102, bus: %s, address: 0x48, interval: 1s}
door:   {driver: input, chip: cp2112_gpio, line: 0}
pump:   {driver: output, chip: cp2112_gpio, line: 1, initial: on}
`, b.File))
	names := []string{"sensor", "door", "pump"}
	for n, want := range []string{"online", "offline", "online", "offline", "online"} {
		for _, name := range names {
			if got := wait(t, log, name, n+1); !strings.Contains(got, `"`+want+`"`) {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
		switch want {
		case "online":
			if !b.High(1) {
				t.Error("the output is not at its level")
			}
			unplug(t, b)
		case "offline":
			plugAgain(t, b)
		}
	}
}

func TestALineThatAnotherProgramHasIsReportedAndTakenWhenItIsFree(t *testing.T) {
	c := hardware.NewChip("panel", "", "PUMP")
	plug(t, c)
	other, err := kernel.Output(gpio.Ref{Chip: c.Name, Line: "1"}, gpio.OutputConfig{})
	if err != nil {
		t.Fatal(err)
	}
	_, log := load(t, "pump: {driver: output, line: PUMP, initial: on}")
	if got := wait(t, log, "pump", 1); !strings.Contains(got, "offline") || !strings.Contains(got, "another program") {
		t.Error(got)
	}
	for _, info := range kernel.Places().Chips {
		if l := info.Lines[1]; info.Name == c.Name && (l.Name != "PUMP" || l.User != "holdfast") {
			t.Errorf("%+v", l)
		}
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	if got := wait(t, log, "pump", 2); !strings.Contains(got, "online") {
		t.Error(got)
	}
	if high, err := c.High(1); err != nil || !high {
		t.Errorf("the output is high: %v, %v", high, err)
	}
}

// What nobody took in time shows in the kernel's numbers.
func TestABurstOfPulsesIsCountedToTheLastOne(t *testing.T) {
	c := hardware.NewChip("meter", "")
	plug(t, c)
	set, log := load(t, fmt.Sprintf("meter: {driver: counter, chip: %s, line: 0, interval: 1s}", c.Name))
	wait(t, log, "meter", 1)
	const pulses = 5000
	for range pulses {
		if err := errors.Join(c.Set(0, true), c.Set(0, false)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	total := ""
	for n := 1; total != fmt.Sprintf(`{"value":%d}`, pulses); n++ {
		events := log.Wait(ctx, "devices/meter/total", n)
		if ctx.Err() != nil {
			t.Fatalf("counted %s of %d pulses", total, pulses)
		}
		total = string(events[n-1].Payload)
	}
	t.Logf("%d pulses as fast as they can be made: all counted, %d of them by a gap in the kernel's numbers", pulses, status(set, "meter").Lost)
}
