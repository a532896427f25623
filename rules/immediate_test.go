package rules

import (
	"testing"
	"time"

	"holdfast/gateway/event"
)

const lamp = `
- {name: lamp, from: devices/door/level, immediate: true, where: rising(value == 1), emit: {stream: commands, topic: devices/lamp/set, payload: "'on'"}}
- {name: count, from: devices/door/level, emit: {stream: seen, topic: seen}}
- {name: after, from: {rule: lamp}, emit: {stream: seen, topic: after}}
`

func edge(value string, n int) event.Event {
	return event.Event{Topic: "devices/door/level", Payload: []byte(`{"value":` + value + `}`), Received: at(float64(n)),
		Time: at(float64(n)), Mono: time.Duration(n) * time.Second, Boot: 1}
}

// An engine that knew nothing of the past would take the first event after a
// start for an edge.
func TestImmediateRulesBeginWithTheStateOfTheOthers(t *testing.T) {
	set := mustCompile(t, lamp)
	e := set.Engine(EventsStream)
	logged := edge("1", 1)
	logged.Offset = 7
	if got := stepOne(e, logged); got != "devices/lamp/set on\nseen {\"value\":1}\nafter on" {
		t.Fatalf("in the log: %q", got)
	}
	ahead, err := set.Ahead(e)
	if err != nil {
		t.Fatal(err)
	}
	for n, step := range []struct{ value, want string }{{"1", ""}, {"0", ""}, {"1", "devices/lamp/set on"}} {
		if got := stepOne(ahead, edge(step.value, n+2)); got != step.want {
			t.Errorf("event %d, %s: %q, want %q", n, step.value, got, step.want)
		}
	}
	if got := set.Stats()[0]; got.Matched != 1 || got.Emitted != 1 {
		t.Errorf("what was done ahead of the log was counted as well: %+v", got)
	}
}

func TestADisabledRuleDoesNothingAheadOfTheLogEither(t *testing.T) {
	set := mustCompile(t, lamp)
	e := set.Engine(EventsStream)
	ahead, err := set.Ahead(e)
	if err != nil {
		t.Fatal(err)
	}
	var res Result
	for n, disable := range []bool{true, false} {
		e.Apply(Input{Rule: "lamp", Disable: disable}, &res)
		stepOne(ahead, edge("0", 2*n+1))
		if got := stepOne(ahead, edge("1", 2*n+2)); (got == "") != disable {
			t.Errorf("disabled %v: %q", disable, got)
		}
	}
	again, err := set.Ahead(e)
	if err != nil || stepOne(again, edge("1", 9)) == "" {
		t.Errorf("after it was enabled again, a new one does nothing: %v", err)
	}
}

func TestRulesThatAreNotImmediateHaveNoEngineAheadOfTheLog(t *testing.T) {
	set := mustCompile(t, `- {name: a, from: x, emit: {stream: s}}`)
	if ahead, err := set.Ahead(set.Engine(EventsStream)); ahead != nil || err != nil {
		t.Errorf("%v, %v", ahead, err)
	}
}
