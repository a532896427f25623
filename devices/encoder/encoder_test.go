package encoder_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/devices"
	"holdfast/devices/bus"
	"holdfast/devices/devicetest"
	"holdfast/devices/encoder"
	"holdfast/devices/sim"
)

// turn moves the tracks by steps, forward or, if negative, back.
func turn(lines *sim.Lines, phase *int, steps int) {
	a, b := lines.Wire("sim:c", "5"), lines.Wire("sim:c", "6")
	for range max(steps, -steps) {
		if steps > 0 {
			*phase++
		} else {
			*phase--
		}
		p := *phase & 3
		a.Set(p == 1 || p == 2)
		b.Set(p == 2 || p == 3)
		time.Sleep(time.Millisecond)
	}
}

func TestThePositionFollowsBothWaysAndSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines, memory, phase := new(sim.Lines), devices.MemoryIn(t.TempDir()), 0
		for _, want := range []string{"70.2", "140.4"} {
			set, err := devicetest.Load("e: {driver: encoder, chip: sim:c, a: 5, b: 6, per_step: 0.9, unit: deg}",
				[]devices.Driver{encoder.Driver}, bus.Buses{SimulatedLines: lines})
			if err != nil {
				t.Fatal(err)
			}
			set.Remember(memory)
			log := new(devicetest.Log)
			devicetest.Run(t, set, log.Emit)
			time.Sleep(time.Millisecond)
			turn(lines, &phase, 100)
			turn(lines, &phase, -22)
			time.Sleep(time.Second)
			set.Close()
			positions := log.Lines("devices/e/position")
			if got := positions[len(positions)-1]; !strings.Contains(got, `"value":`+want+`,"unit":"deg"`) {
				t.Errorf("%s, want %s", got, want)
			}
			speeds := log.Lines("devices/e/speed")
			if got := speeds[len(speeds)-1]; !strings.Contains(got, `"value":0,"unit":"deg/s"`) {
				t.Errorf("at rest: %s", got)
			}
			if s := set.Status()[0]; s.Lost != 0 || s.Failures != 0 {
				t.Errorf("%+v", s)
			}
			if len(positions) > 8 {
				t.Errorf("%d events of a position that rests", len(positions))
			}
		}
	})
}
