package mcp23017_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"periph.io/x/conn/v3/i2c"

	"holdfast/devices"
	"holdfast/devices/bus"
	"holdfast/devices/devicetest"
	"holdfast/devices/mcp23017"
	"holdfast/devices/sim"
)

const settings = `
x:
  driver: mcp23017
  bus: sim:b
  inputs:
    door: {line: A0, pull: up, active_low: true}
    tank: {line: B0}
  outputs:
    valve: {line: B7}
    lamp: {line: A1, active_low: true}
`

func start(t *testing.T) (*devicetest.Log, *sim.Bus, *sim.MCP23017, *devices.Set) {
	t.Helper()
	board, chip := sim.NewBus("b"), sim.NewMCP23017()
	board.Plug(0x20, chip)
	log, set := devicetest.Start(t, settings, []devices.Driver{mcp23017.Driver},
		bus.Buses{Simulated: func(string) (i2c.BusCloser, error) { return board, nil }})
	time.Sleep(10 * time.Millisecond)
	return log, board, chip, set
}

func TestInputsAreToldWhenTheyChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, _, chip, _ := start(t)
		for _, high := range []bool{true, false} {
			time.Sleep(time.Second)
			chip.Set(0, high)
			chip.Set(8, high)
		}
		time.Sleep(time.Second)
		want := []string{
			`devices/x/door {"value":1}`, `devices/x/door {"value":0}`, `devices/x/door {"value":1}`,
		}
		if diff := cmp.Diff(want, log.Lines("devices/x/door")); diff != "" {
			t.Error(diff)
		}
		if got := log.Lines("devices/x/tank"); len(got) != 3 || got[1] != `devices/x/tank {"value":1}` {
			t.Error(got)
		}
	})
}

func TestOutputsComeUpWithoutAGlitchAndTakeCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, _, chip, set := start(t)
		if diff := cmp.Diff([]uint16{1 << 1}, chip.Driven()); diff != "" { // the lamp is off when its line is high
			t.Errorf("at the start %s", diff)
		}
		set.Execute([]devices.Command{
			{Topic: "devices/x/valve/set", Payload: []byte("on")},
			{Topic: "devices/x/lamp/set", Payload: []byte(`{"value": "on", "for": "1s"}`)},
		})
		time.Sleep(100 * time.Millisecond)
		if _, high := chip.Output(15); !high {
			t.Error("the valve is off")
		}
		if _, high := chip.Output(1); high {
			t.Error("the lamp is off")
		}
		time.Sleep(time.Second)
		if _, high := chip.Output(1); !high {
			t.Error("the lamp is on for longer than a second")
		}
		if acks := log.Lines("devices/x/+/ack"); len(acks) != 2 {
			t.Errorf("%v", acks)
		}
		set.Close()
		if output, high := chip.Output(15); !output || high {
			t.Error("the valve was not closed at the end")
		}
	})
}

func TestALossOfSupplyIsNoticedAndTheOutputsComeBackSafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, _, chip, set := start(t)
		set.Execute([]devices.Command{{Topic: "devices/x/valve/set", Payload: []byte("on")}})
		time.Sleep(time.Second)
		chip.PowerOn()
		time.Sleep(2 * time.Second)
		if s := set.Status()[0]; s.State != devices.Online || !strings.Contains(s.Err, "lost its settings") {
			t.Errorf("%+v", s)
		}
		if output, high := chip.Output(15); !output || high {
			t.Errorf("the valve: output %v, high %v", output, high)
		}
		if got := log.Lines("devices/x/valve"); !strings.HasSuffix(got[len(got)-1], `{"value":0}`) {
			t.Errorf("%v", got)
		}
	})
}

// Each transfer takes 10 ms: the second command comes while the first is written.
func TestACommandThatIsReplacedWhileItIsCarriedOutIsReportedAsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, board, chip, set := start(t)
		board.Slow(10 * time.Millisecond)
		time.Sleep(1050 * time.Millisecond) // between two readings
		for _, value := range []string{"on", "off"} {
			set.Execute([]devices.Command{{Topic: "devices/x/valve/set", Payload: []byte(value)}})
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(time.Second)
		var valve []string // as its bit was driven
		for _, all := range chip.Driven() {
			valve = append(valve, fmt.Sprint(all>>15))
		}
		acks := log.Lines("devices/x/valve/ack")
		if len(acks) != 2 || !strings.Contains(acks[0], `"done"`) || !strings.Contains(acks[1], `"done"`) {
			t.Errorf("the valve was driven to %v, and reported are %v", valve, acks)
		}
	})
}

func TestMistakesAreShownAtTheirPlace(t *testing.T) {
	for yaml, want := range map[string]string{
		"x: {driver: mcp23017, bus: 1}":                                                        "there are no inputs and no outputs",
		"x: {driver: mcp23017, bus: 1, inputs: {a: {line: C0}}}":                               `"C0" is not a line; they are called A0 to A7 and B0 to B7`,
		"x: {driver: mcp23017, bus: 1, inputs: {a: {line: A0}}, outputs: {b: {line: A0}}}":     "this line is a already",
		"x: {driver: mcp23017, bus: 1, inputs: {a: {line: A0}}, outputs: {a: {line: A1}}}":     "there is an input a already",
		"x: {driver: mcp23017, bus: 1, address: 0x28, inputs: {a: {line: A0}}}":                "a MCP23017 is at 0x20 to 0x27, not at 0x28",
		"x: {driver: mcp23017, bus: 1, inputs: {a: {line: A0}}, readings: {b: {deadband: 1}}}": `x has no reading "b"`,
	} {
		if _, err := devicetest.Load(yaml, []devices.Driver{mcp23017.Driver}, bus.Buses{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", yaml, err)
		}
	}
}
