package rules

import (
	"strings"
	"testing"

	"holdfast/gateway/event"
)

func TestARuleThatCostsTooMuchIsReported(t *testing.T) {
	e := engine(t, `
- {name: cheap, from: "#", emit: {stream: out}}
- {name: dear, from: "#", budget: 1ms, where: v > 1, emit: {stream: out}}
`)
	var clock int64
	slow := true
	e.Meter = func() int64 { // every second call ends a measurement: cheap, dear, cheap, …
		if clock++; slow && clock%4 == 0 {
			clock += 5e6 / 4 * 4
		}
		return clock
	}
	for i := range 100 * sampleEvery {
		step(e, jsonEvent(uint64(i+1), 1, "t", `{"v":2}`))
	}
	names, reasons := e.Expensive()
	if len(names) != 1 || names[0] != "dear" || !strings.Contains(reasons[0], "its budget is 1ms") {
		t.Fatalf("%q: %q", names, reasons)
	}
	var res Result
	e.Apply(Input{Rule: "dear", Disable: true, Reason: reasons[0]}, &res)
	if names, _ := e.Expensive(); len(names) > 0 {
		t.Errorf("disabled and still too expensive: %q", names)
	}
	slow = false
	if e.suspects != 0 {
		t.Errorf("a rule that is off is measured all the time")
	}
	e.Apply(Input{Rule: "dear"}, &res)
	for i := range 100 * sampleEvery {
		step(e, jsonEvent(uint64(i+1), 1, "t", `{"v":2}`))
	}
	if names, _ := e.Expensive(); len(names) > 0 {
		t.Errorf("enabled again it is judged by what was before: %q", names)
	}
}

// A rule that takes 60 ms for each event is found out within seconds, not behind
// all the events that wait.
func TestARuleThatCostsVeryMuchIsReportedSoon(t *testing.T) {
	e := engine(t, "- {name: dear, from: '#', where: v > 1, emit: {stream: out}}\n")
	var clock int64
	e.Meter = func() int64 {
		clock += 60e6
		return clock
	}
	events := make([]event.Event, 4000)
	for i := range events {
		events[i] = jsonEvent(uint64(i+1), 1, "t", `{"v":2}`)
	}
	var res Result
	n := e.Step(events, &res)
	if n >= 100 || len(res.Outputs) != n {
		t.Errorf("the step went on for %d events, with %d outputs", n, len(res.Outputs))
	}
	names, reasons := e.Expensive()
	if len(names) != 1 {
		t.Fatalf("%q after %d events", names, n)
	}
	e.Apply(Input{Rule: "dear", Disable: true, Reason: reasons[0]}, &res)
	if more := e.Step(events[n:], &res); n+more != len(events) || len(res.Outputs) != n {
		t.Errorf("then it went on for %d events, to %d outputs", more, len(res.Outputs))
	}
}

// On a machine that is busy with something else all takes long, and nothing works.
func TestARuleIsNotTooExpensiveBecauseTheMachineIsBusy(t *testing.T) {
	e := engine(t, "- {name: patient, from: '#', where: v > 1, emit: {stream: out}}\n")
	var clock, work int64
	e.Meter = func() int64 { clock += 60e6; return clock }
	e.Work = func() int64 { work += 1e3; return work }
	var res Result
	for i := range 100 * sampleEvery {
		e.Step([]event.Event{jsonEvent(uint64(i+1), 1, "t", `{"v":2}`)}, &res)
	}
	if names, reasons := e.Expensive(); len(names) > 0 || len(res.Outputs) != 100*sampleEvery {
		t.Errorf("%q: %q, %d outputs", names, reasons, len(res.Outputs))
	}
	if work == 0 {
		t.Error("nobody has looked at what it works")
	}
	e.Work = func() int64 { work += 60e6; return work }
	for i := range 100 * sampleEvery {
		e.Step([]event.Event{jsonEvent(uint64(i+1), 1, "t", `{"v":2}`)}, &res)
	}
	if names, _ := e.Expensive(); len(names) != 1 {
		t.Error("a rule that works hard is not found out")
	}
}
