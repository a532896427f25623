package counter_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/devices"
	"holdfast/devices/bus"
	"holdfast/devices/counter"
	"holdfast/devices/devicetest"
	"holdfast/devices/sim"
)

type bench struct {
	*devicetest.Log
	*devices.Set
	wire *sim.Wire
}

func start(t *testing.T, memory *devices.Memory, settings string) *bench {
	t.Helper()
	lines := new(sim.Lines)
	set, err := devicetest.Load("m: {driver: counter, chip: sim:c, line: 4, interval: 1s"+settings+"}", []devices.Driver{counter.Driver}, bus.Buses{SimulatedLines: lines})
	if err != nil {
		t.Fatal(err)
	}
	set.Remember(memory)
	b := &bench{new(devicetest.Log), set, lines.Wire("sim:c", "4")}
	devicetest.Run(t, set, b.Emit)
	time.Sleep(time.Millisecond)
	return b
}

// last returns the newest value of a reading as it is written.
func (b *bench) last(name string) string {
	all := b.lines(name)
	if len(all) == 0 {
		return "none"
	}
	return all[len(all)-1]
}

func (b *bench) lines(name string) (all []string) {
	for _, line := range b.Lines("devices/m/" + name) {
		value, _, _ := strings.Cut(line, ",")
		_, value, _ = strings.Cut(value, `:`)
		all = append(all, strings.TrimSuffix(value, "}"))
	}
	return all
}

func TestPulsesAreCountedAndTheirFrequencyIsMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, new(devices.Memory), ", per_pulse: 0.001, unit: m3")
		b.wire.Pulse(150, 10*time.Millisecond) // 3 s at 50 Hz
		if got := b.last("frequency"); got != "50" {
			t.Errorf("frequency %s", got)
		}
		time.Sleep(1500 * time.Millisecond)
		if got := b.last("total"); got != "0.15" {
			t.Errorf("total %s", got)
		}
		time.Sleep(2 * time.Second)
		if got := b.last("frequency"); got != "0" {
			t.Errorf("a line that rests has the frequency %s", got)
		}
	})
}

func TestASlowMeterHasAFrequencyToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, new(devices.Memory), "")
		b.wire.Pulse(20, 350*time.Millisecond) // one every 700 ms
		if got := b.last("frequency"); got != fmt.Sprint(devices.Round(1/0.7, 6)) {
			t.Errorf("frequency %s", got)
		}
	})
}

func TestTheDutyCycleIsThatOfTheKernelsTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, new(devices.Memory), ", duty: true")
		for range 200 {
			b.wire.Set(true)
			time.Sleep(3 * time.Millisecond)
			b.wire.Set(false)
			time.Sleep(7 * time.Millisecond)
		}
		time.Sleep(time.Second)
		if duty, total := b.lines("duty"), b.last("total"); total != "200" || len(duty) < 3 || duty[2] != "0.3" {
			t.Errorf("duty %v, total %s", duty, total)
		}
		b.wire.Set(true)
		time.Sleep(3 * time.Second)
		if got := b.last("duty"); got != "1" {
			t.Errorf("a line that stays on has the duty %s", got)
		}
	})
}

func TestTheTotalSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := devices.MemoryIn(t.TempDir())
		for i := range 3 {
			b := start(t, memory, "")
			if got := b.last("total"); got != fmt.Sprint(7*i) {
				t.Errorf("start %d: total %s", i, got)
			}
			b.wire.Pulse(7, time.Millisecond)
			b.Close()
			if got := b.last("total"); got != fmt.Sprint(7*i+7) {
				t.Errorf("end %d: total %s", i, got)
			}
		}
	})
}

func TestATotalThatCannotBeSavedGoesOnAndIsSavedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		memory, inTheWay := devices.MemoryIn(dir), filepath.Join(dir, "counter-m.json.new")
		if err := os.Mkdir(inTheWay, 0o750); err != nil {
			t.Fatal(err)
		}
		b := start(t, memory, "")
		b.wire.Pulse(7, time.Millisecond)
		time.Sleep(2 * time.Second)
		if s := b.Status()[0]; s.State != devices.Online || s.Failures > 0 || !strings.Contains(s.Err, "save counter-m") {
			t.Errorf("%+v", s)
		}
		b.wire.Unplug(true) // the count goes on when it is back
		time.Sleep(3 * time.Second)
		b.wire.Unplug(false)
		time.Sleep(31 * time.Second)
		b.wire.Pulse(3, time.Millisecond)
		if err := os.Remove(inTheWay); err != nil {
			t.Fatal(err)
		}
		b.Close()
		b = start(t, memory, "")
		if got := b.last("total"); got != "10" {
			t.Errorf("total %s after 10 pulses", got)
		}
	})
}

func TestLostEdgesAreInTheTotalAndToldAsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, new(devices.Memory), "")
		b.wire.Pulse(10, time.Millisecond)
		b.wire.Lose(5)
		b.wire.Pulse(10, time.Millisecond)
		time.Sleep(2 * time.Second)
		if got, s := b.last("total"), b.Status()[0]; got != "25" || s.Lost != 5 {
			t.Errorf("total %s, %+v", got, s)
		}
	})
}
