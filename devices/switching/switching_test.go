package switching_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/devices"
	"holdfast/devices/bus"
	"holdfast/devices/devicetest"
	"holdfast/devices/output"
	"holdfast/devices/sim"
	"holdfast/gateway/event"
)

type bench struct {
	*devicetest.Log
	*devices.Set
	lines *sim.Lines
	n     uint64
}

func load(t *testing.T, lines *sim.Lines, memory *devices.Memory, yaml string) *bench {
	t.Helper()
	b := &bench{Log: new(devicetest.Log), lines: lines}
	var err error
	if b.Set, err = devicetest.Load(yaml, []devices.Driver{output.Driver}, bus.Buses{SimulatedLines: b.lines}); err != nil {
		t.Fatal(err)
	}
	b.Remember(memory)
	devicetest.Run(t, b.Set, b.Emit)
	time.Sleep(10 * time.Millisecond)
	return b
}

func start(t *testing.T, yaml string) *bench {
	t.Helper()
	return load(t, new(sim.Lines), new(devices.Memory), yaml)
}

// tell gives a command of the given age.
func (b *bench) tell(device, payload string, age time.Duration) {
	b.n++
	b.Execute([]devices.Command{{
		Topic: "devices/" + device + "/set", Payload: []byte(payload), Age: age,
		ID: event.ID{Gateway: "g", Stream: "events", Offset: b.n},
	}})
	time.Sleep(10 * time.Millisecond)
}

// acks returns what became of the commands.
func (b *bench) acks(device string) (all []string) {
	for _, line := range b.Lines("devices/" + device + "/ack") {
		_, rest, _ := strings.Cut(line, `"state":"`)
		state, rest, _ := strings.Cut(rest, `"`)
		if _, why, ok := strings.Cut(rest, `"error":"`); ok {
			state += ": " + strings.TrimSuffix(why, `"}`)
		}
		all = append(all, state)
	}
	return all
}

func (b *bench) driven(t *testing.T, line string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, b.lines.Wire("sim:c", line).Driven()); diff != "" {
		t.Errorf("line %s was driven (-want +got)\n%s", line, diff)
	}
}

const pump = "pump: {driver: output, chip: sim:c, line: 1%s}"

func TestAnOutputDoesWhatItIsToldAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, fmt.Sprintf(pump, ""))
		for _, c := range []string{"on", "on", "off", "1", `{"value": false}`, "0.5", "up"} {
			b.tell("pump", c, 0)
		}
		b.driven(t, "1", "0", "1", "0", "1", "0")
		want := []string{
			"done", "done", "done", "done", "done", "refused: this output is on or off, nothing between",
			`refused: \"up\" is not a level; write on, off, or a number from 0 to 1`,
		}
		if diff := cmp.Diff(want, b.acks("pump")); diff != "" {
			t.Error(diff)
		}
		states := b.Lines("devices/pump/state")
		if len(states) != 5 {
			t.Errorf("states %v", states)
		}
		if acks := b.Events("devices/pump/ack"); acks[0].Cause == nil || acks[0].Cause.Offset != 1 {
			t.Errorf("the report does not say what it is about: %+v", acks[0])
		}
	})
}

func TestAStaleOrRepeatedCommandIsReportedAndNotExecuted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, fmt.Sprintf(pump, ""))
		b.tell("pump", "on", 11*time.Second)
		b.tell("pump", `{"value": "on", "ttl": "1s"}`, 2*time.Second)
		b.tell("pump", `{"value": "on", "time": "1999-12-31T23:59:40Z"}`, 0) // the clock of the test starts at 2000
		b.tell("pump", `{"value": "on", "ttl": "1m", "id": "x"}`, 11*time.Second)
		b.tell("pump", "off", 0)
		b.tell("pump", `{"value": "on", "id": "x"}`, 0)
		b.driven(t, "1", "0", "1", "0")
		if diff := cmp.Diff([]string{"expired", "expired", "expired", "done", "done", "repeated"}, b.acks("pump")); diff != "" {
			t.Error(diff)
		}
	})
}

func TestOfAThousandCommandsAfterAnOutageExactlyOneIsExecuted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, fmt.Sprintf(pump, ""))
		var queued []devices.Command
		for i := range 1000 { // one every 600 ms for 10 minutes
			queued = append(queued, devices.Command{
				Topic: "devices/pump/set", Payload: fmt.Appendf(nil, `{"value": %d, "id": "c-%d"}`, (i+1)%2, i),
				ID: event.ID{Gateway: "g", Stream: "events", Offset: uint64(i + 1)}, Age: time.Duration(1000-i) * 600 * time.Millisecond,
			})
		}
		queued[999].Payload = []byte(`{"value": "on", "id": "c-999"}`)
		b.Execute(queued)
		time.Sleep(time.Second)
		b.driven(t, "1", "0", "1")
		count := map[string]int{}
		for _, state := range b.acks("pump") {
			count[state]++
		}
		// 600 ms to 9.6 s are young enough: 16 commands, the newest wins.
		if diff := cmp.Diff(map[string]int{"done": 1, "superseded": 15, "expired": 984}, count); diff != "" {
			t.Error(diff)
		}
	})
}

func TestAPulseAndBlinkingEndByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, fmt.Sprintf(pump, ""))
		b.tell("pump", `{"value": "on", "for": "500ms"}`, 0)
		time.Sleep(480 * time.Millisecond)
		b.driven(t, "1", "0", "1")
		time.Sleep(20 * time.Millisecond)
		b.driven(t, "1", "0", "1", "0")
		b.tell("pump", `{"value": "on", "blink": 0.1, "times": 2}`, 0)
		time.Sleep(time.Second)
		b.driven(t, "1", "0", "1", "0", "1", "0", "1", "0")
		b.tell("pump", `{"value": "on", "blink": "100ms"}`, 0)
		time.Sleep(time.Second)
		b.tell("pump", "off", 0)
		n := len(b.lines.Wire("sim:c", "1").Driven())
		time.Sleep(time.Second)
		if got := b.lines.Wire("sim:c", "1").Driven(); len(got) != n || n < 16 || got[n-1] != "0" {
			t.Errorf("it blinked %v", got)
		}
	})
}

func TestTheShortestTimesAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, fmt.Sprintf(pump, ", min_on: 10s, min_off: 5s"))
		b.tell("pump", "on", 0)
		time.Sleep(time.Second)
		b.tell("pump", "off", 0) // has to wait
		b.driven(t, "1", "0", "1")
		time.Sleep(8 * time.Second)
		b.driven(t, "1", "0", "1")
		time.Sleep(time.Second)
		b.driven(t, "1", "0", "1", "0")
		b.tell("pump", "on", 0)
		b.tell("pump", "off", 0) // in its place
		time.Sleep(10 * time.Second)
		b.driven(t, "1", "0", "1", "0")
		b.tell("pump", `{"value": 1, "for": "1s"}`, 0)
		b.tell("pump", `{"value": 1, "blink": "1s"}`, 0)
		want := []string{
			"done", "done", "superseded", "done",
			"refused: a pulse of 1s is shorter than the output may be switched", "refused: blinking every 1s is faster than the output may be switched",
		}
		if diff := cmp.Diff(want, b.acks("pump")); diff != "" {
			t.Error(diff)
		}
	})
}

func TestACommandThatWaitsWhenTheGatewayStopsIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, fmt.Sprintf(pump, ", min_on: 10s"))
		b.tell("pump", "on", 0)
		b.tell("pump", "off", 0) // has to wait
		b.Close()
		if acks := b.acks("pump"); len(acks) != 2 || !strings.HasPrefix(acks[1], "refused: the ") { // gateway is stopping, or device is offline
			t.Errorf("%q", acks)
		}
	})
}

func TestOutputsOfAnInterlockAreNeverOnTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, "up: {driver: output, chip: sim:c, line: 1, interlock: gate}\ndown: {driver: output, chip: sim:c, line: 2, interlock: gate}")
		b.tell("up", "on", 0)
		b.tell("down", "on", 0)
		b.tell("down", `{"value": "on", "blink": "1s"}`, 0)
		b.driven(t, "2", "0")
		b.tell("up", "off", 0)
		b.tell("down", "on", 0)
		b.tell("up", `{"value": "on", "for": "1s"}`, 0)
		b.driven(t, "1", "0", "1", "0")
		b.driven(t, "2", "0", "1")
		refused := "refused: up is on, and must be off before down"
		if diff := cmp.Diff([]string{refused, refused, "done"}, b.acks("down")); diff != "" {
			t.Error(diff)
		}
	})
}

func TestAnOutputThatCannotBeReachedCountsAsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, "up: {driver: output, chip: sim:c, line: 1, interlock: gate}\ndown: {driver: output, chip: sim:d, line: 2, interlock: gate}")
		b.tell("up", "on", 0)
		b.lines.Wire("sim:c", "1").Unplug(true)
		b.tell("up", "off", 0)
		time.Sleep(time.Minute)
		b.tell("down", "on", 0)
		b.lines.Wire("sim:c", "1").Unplug(false)
		time.Sleep(31 * time.Second)
		b.tell("down", "on", 0)
		if acks := b.acks("down"); len(acks) != 2 || !strings.HasPrefix(acks[0], "refused: up is on") || acks[1] != "done" {
			t.Errorf("%q", acks)
		}
	})
}

func TestWhatWasRememberedAndIsDamagedIsReportedAndTheOutputIsSafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "output-pump.json"), []byte("tru"), 0o600); err != nil {
			t.Fatal(err)
		}
		b := load(t, new(sim.Lines), devices.MemoryIn(dir), fmt.Sprintf(pump, ", restore: last"))
		time.Sleep(time.Second)
		b.driven(t, "1", "0")
		if s := b.Status()[0]; s.State != devices.Online || !strings.Contains(s.Err, "remember output-pump") {
			t.Errorf("%+v", s)
		}
	})
}

func TestTheFailSafeLevelHoldsWhenNobodyIsInCharge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, fmt.Sprintf(pump, ", active_low: true, fail_safe_after: 1m"))
		b.driven(t, "1", "1") // off is high, from the beginning on
		b.tell("pump", "on", 0)
		time.Sleep(50 * time.Second)
		b.tell("pump", "on", 0)
		time.Sleep(59 * time.Second)
		b.driven(t, "1", "1", "0")
		time.Sleep(time.Second)
		b.driven(t, "1", "1", "0", "1")
		b.tell("pump", "on", 0)
		b.Close()
		b.driven(t, "1", "1", "0", "1", "0", "1", "in")
	})
}

func TestTheLastLevelComesBackOnlyIfThatIsWanted(t *testing.T) {
	for settings, want := range map[string]string{"": "0", ", restore: last": "1", ", initial: on": "1", ", fail_safe: on": "1"} {
		t.Run(settings, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := devices.MemoryIn(t.TempDir())
				b := load(t, new(sim.Lines), memory, fmt.Sprintf(pump, settings))
				b.tell("pump", `{"value": "on", "id": "again"}`, 0)
				b.tell("pump", `{"value": "off", "for": "1h"}`, 0) // is not what is remembered
				b.Close()
				b = load(t, new(sim.Lines), memory, fmt.Sprintf(pump, settings))
				b.driven(t, "1", want)
				b.tell("pump", `{"value": "on", "id": "again"}`, 0)
				if acks := b.acks("pump"); len(acks) != 1 || acks[0] != "repeated" {
					t.Errorf("the same command after a restart: %v", acks)
				}
			})
		})
	}
}

func TestACommandToWhatIsUnpluggedIsRefusedAndItComesBackSafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, fmt.Sprintf(pump, ""))
		b.tell("pump", "on", 0)
		wire := b.lines.Wire("sim:c", "1")
		wire.Unplug(true)
		b.tell("pump", "off", 0)
		time.Sleep(2 * time.Second)
		if s := b.Status()[0]; s.State != devices.Offline {
			t.Errorf("%+v", s)
		}
		b.tell("pump", "on", 0) // waits for it, but not for longer than it is good for
		time.Sleep(11 * time.Second)
		wire.Unplug(false)
		time.Sleep(31 * time.Second)
		if wire.High() || b.Status()[0].State != devices.Online {
			t.Errorf("high %v, %+v", wire.High(), b.Status()[0])
		}
		acks := b.acks("pump")
		if len(acks) != 3 || acks[0] != "done" || !strings.HasPrefix(acks[1], "refused: the chip of the line has gone") || acks[2] != "refused: the device is offline" {
			t.Errorf("%q", acks)
		}
	})
}

func TestMistakesAreShownAtTheirPlace(t *testing.T) {
	for yaml, want := range map[string]string{
		fmt.Sprintf(pump, ", interlock: x, initial: on"):                                       "an output of an interlock must be off when in doubt",
		fmt.Sprintf(pump, ", fail_safe: high"):                                                 `fail_safe: "high" is not known`,
		"a: {driver: output, chip: sim:c, line: 1}\nb: {driver: output, chip: sim:c, line: 1}": "2:40: the line sim:c/1 is a already",
		"a: {driver: output, line: 17}":                                                        `1:27: the line 17 needs a chip`,
	} {
		_, err := devicetest.Load(yaml, []devices.Driver{output.Driver}, bus.Buses{SimulatedLines: new(sim.Lines)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v\nwant %s", yaml, err, want)
		}
	}
}

func TestAnOutputWhoseChipHasGoneIsOfflineAndDrivenAgainWhenItIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, fmt.Sprintf(pump, ", initial: on"))
		b.tell("pump", "on", 0)
		wire := b.lines.Wire("sim:c", "1")
		wire.Unplug(true)
		b.tell("pump", "on", 0) // nothing to change, but nothing that it holds for
		time.Sleep(3 * time.Second)
		if s := b.Status()[0]; s.State != devices.Offline {
			t.Errorf("%+v", s)
		}
		if acks := b.acks("pump"); len(acks) != 2 || !strings.HasPrefix(acks[1], "refused") {
			t.Errorf("%v", acks)
		}
		wire.Unplug(false)
		time.Sleep(time.Minute)
		if s := b.Status()[0]; s.State != devices.Online || !wire.High() {
			t.Errorf("%+v, the line is high: %v", s, wire.High())
		}
	})
}
