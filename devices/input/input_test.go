package input_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/devices"
	"holdfast/devices/bus"
	"holdfast/devices/devicetest"
	"holdfast/devices/input"
	"holdfast/devices/sim"
	"holdfast/gateway/event"
)

func start(t *testing.T, settings string) (*devicetest.Log, *sim.Wire, *devices.Set) {
	t.Helper()
	lines := new(sim.Lines)
	log, set := devicetest.Start(t, "door: {driver: input, chip: sim:c, line: DOOR"+settings+"}", []devices.Driver{input.Driver}, bus.Buses{SimulatedLines: lines})
	time.Sleep(10 * time.Millisecond)
	return log, lines.Wire("sim:c", "DOOR"), set
}

func levels(log *devicetest.Log) (s string) {
	for _, line := range log.Lines("devices/door/level") {
		s += line[len(`devices/door/level {"value":`) : len(line)-1]
	}
	return s
}

func TestTheLevelAndEachChangeOfItAreEvents(t *testing.T) {
	for _, c := range []struct{ name, settings, want string }{
		{"both edges", "", "010101"},
		{"active low", ", active_low: true", "101010"},
		{"rising", ", edges: rising", "011"},
		{"bounces", ", debounce: 10ms", "01"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log, wire, _ := start(t, c.settings)
				for i := range 5 {
					wire.Set(i%2 == 0)
					time.Sleep(time.Millisecond)
				}
				time.Sleep(time.Second)
				if got := levels(log); !strings.HasPrefix(got, c.want) || c.name != "rising" && got != c.want {
					t.Errorf("levels %s, want %s", got, c.want)
				}
			})
		})
	}
}

func TestNoEdgeReplacesAnotherWhileTheLogLags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := new(sim.Lines)
		set, err := devicetest.Load("door: {driver: input, chip: sim:c, line: 4}", []devices.Driver{input.Driver}, bus.Buses{SimulatedLines: lines})
		if err != nil {
			t.Fatal(err)
		}
		log := new(devicetest.Log)
		devicetest.Run(t, set, func(events []event.Event, done func(error)) error {
			time.Sleep(time.Second)
			return log.Emit(events, done)
		})
		time.Sleep(10 * time.Millisecond)
		began := time.Now()
		lines.Wire("sim:c", "4").Pulse(50, time.Millisecond)
		time.Sleep(5 * time.Second)
		events := log.Events("devices/door/level")
		if len(events) != 101 {
			t.Fatalf("%d events of 100 edges and a level", len(events))
		}
		for i, e := range events[1:] {
			if want := began.Add(time.Duration(i) * time.Millisecond); !e.Time.Std().Equal(want) {
				t.Errorf("edge %d at %v, want %v", i, e.Time.Std(), want)
			}
		}
		if s := set.Status()[0]; s.Captured != 101 || s.Missed != 0 || s.Lost != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestLostEdgesAreCountedAndTheLevelIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, wire, set := start(t, "")
		wire.Lose(7)
		wire.Set(true)
		time.Sleep(time.Second)
		if s := set.Status()[0]; s.Lost != 7 {
			t.Errorf("%+v", s)
		}
		if got := levels(log); got != "011" {
			t.Errorf("levels %s", got)
		}
	})
}

func TestAChipThatGoesIsNoticedAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, wire, set := start(t, ", interval: 10s")
		wire.Unplug(true)
		time.Sleep(3 * time.Second)
		if s := set.Status()[0]; s.State != devices.Offline || !strings.Contains(s.Err, "no such file") {
			t.Errorf("%+v", s)
		}
		wire.Set(true)
		wire.Unplug(false)
		time.Sleep(35 * time.Second)
		var states []string
		for _, line := range log.Lines("devices/door/status") {
			states = append(states, strings.Split(line, `"`)[3])
		}
		if diff := cmp.Diff([]string{"online", "offline", "online"}, states); diff != "" {
			t.Error(diff)
		}
		if got := levels(log); !strings.HasPrefix(got, "01") {
			t.Errorf("levels %s", got)
		}
	})
}
