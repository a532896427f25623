package devices_test

import (
	"encoding/json"
	"slices"
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

// reacting is a pump that immediate rules switch.
type reacting struct {
	*devices.Set
	log   *devicetest.Log
	lines *sim.Lines
	n     uint64 // offsets of commands in the log
}

func react(t *testing.T, lines *sim.Lines, m *devices.Memory) *reacting {
	t.Helper()
	set, err := devicetest.Load("pump: {driver: output, chip: sim:panel, line: 17}", []devices.Driver{output.Driver}, bus.Buses{SimulatedLines: lines})
	if err != nil {
		t.Fatal(err)
	}
	set.Remember(m)
	r := &reacting{Set: set, log: new(devicetest.Log), lines: lines}
	devicetest.Run(t, set, r.log.Emit)
	synctest.Wait()
	return r
}

// command is what the rule stop gives for an edge at a time.
func command(value string, at int) devices.Command {
	return devices.Command{Topic: "devices/pump/set", Payload: []byte(value), Rule: "stop", Time: event.Time(at)}
}

func (r *reacting) act(value string, at int) {
	r.React([]devices.Command{command(value, at)})
	synctest.Wait()
}

// logged gives a command with its place in the log; one of a rule if at is set.
func (r *reacting) logged(value string, at int, change ...func(*devices.Command)) {
	r.n++
	c := command(value, at)
	if at == 0 {
		c.Rule = ""
	}
	c.ID = event.ID{Gateway: "g", Stream: "s", Offset: r.n}
	for _, f := range change {
		f(&c)
	}
	r.Execute([]devices.Command{c})
	synctest.Wait()
}

func (r *reacting) driven() []string { return r.lines.Wire("sim:panel", "17").Driven() }

// reports are the reports so far: id, state, and the offset of the cause.
func (r *reacting) reports(t *testing.T) (all []string) {
	t.Helper()
	for _, e := range r.log.Events("devices/pump/ack") {
		var ack struct{ ID, State string }
		if err := json.Unmarshal(e.Payload, &ack); err != nil {
			t.Fatal(err)
		}
		line := ack.ID + " " + ack.State
		if e.Cause != nil && e.Cause.String() != ack.ID {
			line += " because of " + e.Cause.String()
		}
		all = append(all, line)
	}
	return all
}

func (r *reacting) check(t *testing.T, driven, reports []string) {
	t.Helper()
	if diff := cmp.Diff(driven, r.driven()); diff != "" {
		t.Errorf("driven (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(reports, r.reports(t)); diff != "" {
		t.Errorf("reports (-want +got):\n%s", diff)
	}
}

const first, second, third = "g/0000000000000000/s/1", "g/0000000000000000/s/2", "g/0000000000000000/s/3"

func TestAnActIsDoneOnceAndReportedWithItsCommandAsTheCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := react(t, new(sim.Lines), new(devices.Memory))
		r.act("on", 1)
		r.check(t, []string{"0", "1"}, nil)
		r.logged("on", 1)
		r.check(t, []string{"0", "1"}, []string{first + " done"})
		if e := r.log.Events("devices/pump/ack")[0]; e.Cause == nil || e.Cause.Offset != 1 {
			t.Errorf("the cause is %v", e.Cause)
		}
		r.act("off", 2)
		r.act("on", 3)
		r.logged("off", 2)
		r.logged("on", 3)
		r.check(t, []string{"0", "1", "0", "1"}, []string{first + " done", second + " done", third + " done"})
	})
}

// An emergency stop must not be undone by a command that was given before it and
// takes the long way.
func TestACommandThatStandsBeforeAnActInTheLogDoesNotUndoIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := react(t, new(sim.Lines), new(devices.Memory))
		r.act("off", 1)
		r.logged("on", 0)
		r.logged("off", 1)
		r.check(t, []string{"0"}, []string{first + " superseded", second + " done"})
		r.logged("on", 0)
		r.check(t, []string{"0", "1"}, []string{first + " superseded", second + " done", third + " done"})
	})
}

func TestWhatNobodyDidAheadOfTheLogIsDoneFromTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := react(t, new(sim.Lines), new(devices.Memory))
		r.logged("on", 1)
		r.check(t, []string{"0", "1"}, []string{first + " done"})
	})
}

func TestAnActWhoseEdgeDidNotGetIntoTheLogIsReportedAndHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := react(t, new(sim.Lines), new(devices.Memory))
		r.act("on", 1)
		time.Sleep(11 * time.Second)
		alone := "stop@1970-01-01T00:00:00.000000001Z done"
		r.check(t, []string{"0", "1"}, []string{alone})
		r.logged("off", 0)
		r.logged("on", 1) // late, and known
		r.check(t, []string{"0", "1", "0"}, []string{alone, first + " done"})
	})
}

func TestAnActIsKnownAfterAStopInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines, dir := new(sim.Lines), t.TempDir()
		r := react(t, lines, devices.MemoryIn(dir))
		r.act("on", 1)
		r.Close()
		r = react(t, lines, devices.MemoryIn(dir))
		r.logged("on", 1, func(c *devices.Command) { c.Before = true })
		r.check(t, []string{"0", "1", "0", "in", "0"}, []string{first + " done"})
		r.Close()
		r = react(t, lines, devices.MemoryIn(dir))
		time.Sleep(time.Minute)
		if got := r.reports(t); len(got) > 0 {
			t.Errorf("reported again: %q", got)
		}
	})
}

func TestACommandOfBeforeACrashIsNotDoneForTheSecondTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := react(t, new(sim.Lines), new(devices.Memory))
		r.logged("on", 1, func(c *devices.Command) { c.Before = true })
		r.check(t, []string{"0"}, []string{first + " refused"})
	})
}

func TestACommandThatAnOutputCannotObeyIsRefusedAheadOfTheLogToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := react(t, new(sim.Lines), new(devices.Memory))
		for i, value := range []string{"0.5", `{"value": "on", "id": "x"}`, "up"} {
			r.act(value, i+1)
			r.logged(value, i+1)
		}
		r.check(t, []string{"0"}, []string{first + " refused", second + " refused", third + " refused"})
	})
}

func TestThousandsOfActsWaitAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := react(t, new(sim.Lines), new(devices.Memory))
		const n = 10_000
		for i := range n + 2 {
			r.React([]devices.Command{command([]string{"off", "on"}[i%2], i+1)})
		}
		synctest.Wait()
		before := r.driven()
		r.logged("off", 1)
		r.logged("on", n+2)
		if !slices.Equal(before, r.driven()) {
			t.Error("what was forgotten was done again")
		}
		got := r.reports(t)
		if len(got) != 4 || got[2] != first+" refused" || got[3] != second+" done" {
			t.Errorf("%q", got)
		}
	})
}
