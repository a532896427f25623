package pwm_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/devices"
	"holdfast/devices/bus"
	"holdfast/devices/devicetest"
	"holdfast/devices/pwm"
	"holdfast/devices/sim"
)

func TestAShareIsDrivenAndTheFailSafeOneHoldsAtBothEnds(t *testing.T) {
	for _, c := range []struct {
		settings   string
		start, end float64
	}{{"", 0, 0}, {", fail_safe: 0.2", 0.2, 0.2}} {
		synctest.Test(t, func(t *testing.T) {
			lines := new(sim.Lines)
			log, set := devicetest.Start(t, "fan: {driver: pwm, chip: sim:c"+c.settings+"}", []devices.Driver{pwm.Driver}, bus.Buses{SimulatedLines: lines})
			port := lines.PWMOf("sim:c", 0)
			time.Sleep(time.Millisecond)
			if port.Duty() != c.start {
				t.Errorf("at the start %v", port.Duty())
			}
			set.Execute([]devices.Command{
				{Topic: "devices/fan/set", Payload: []byte(`{"value": 1, "for": "1s"}`)},
				{Topic: "devices/fan/set", Payload: []byte("0.75")},
			})
			time.Sleep(time.Millisecond)
			if port.Duty() != 0.75 {
				t.Errorf("commanded %v", port.Duty())
			}
			acks := log.Lines("devices/fan/ack")
			if len(acks) != 2 || !strings.Contains(acks[0], "does not pulse") || !strings.Contains(acks[1], `"state":"done","value":0.75`) {
				t.Errorf("%v", acks)
			}
			set.Close()
			if port.Duty() != c.end {
				t.Errorf("at the end %v", port.Duty())
			}
		})
	}
}
