package rules

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
)

func snapshot(t testing.TB, e *Engine) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := e.Snapshot(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// restart carries the state of e over into a new engine.
func restart(t testing.TB, set *Set, e *Engine) *Engine {
	t.Helper()
	return restore(t, set, snapshot(t, e))
}

// restore returns an engine with a state that suits it as a whole.
func restore(t testing.TB, set *Set, state []byte) *Engine {
	t.Helper()
	next := set.Engine(EventsStream)
	report, err := next.Restore(bytes.NewReader(state))
	if err != nil || len(report.Kept)+len(report.Partly)+len(report.Lost) > 0 {
		t.Fatalf("restore: %v, %+v", err, report)
	}
	return next
}

func TestAnUnchangedRuleKeepsItsWindowsInAChangedSet(t *testing.T) {
	const rule = "- {name: %s, from: %q, key: d, window: {tumbling: 10s}, aggregate: {n: %s}, emit: {stream: out, topic: %s}}\n"
	old := engine(t, fmt.Sprintf(rule+rule+rule+rule,
		"same", "a", "count()", "x", "emits", "a", "sum(v)", "x", "changed", "a", "sum(v)", "x", "gone", "a", "count()", "x"))
	stepOne(old, event.Event{Offset: 1, Topic: "a", Received: at(1), Payload: []byte(`{"d":"k","v":2}`)})

	set := mustCompile(t, fmt.Sprintf(rule+rule+rule+rule,
		"changed", "a", "sum(v * 2)", "c", "fresh", "a", "count()", "f", "emits", "a", "sum(v)", "e", "same", "a", "count()", "s"))
	e := set.Engine(EventsStream)
	report, err := e.Restore(bytes.NewReader(snapshot(t, old)))
	if err != nil {
		t.Fatal(err)
	}
	want := Restored{Kept: []string{"same", "emits"}, Lost: []string{"changed", "gone"}, Tables: map[string]string{}}
	if diff := cmp.Diff(want, report); diff != "" {
		t.Error(diff)
	}
	var res Result
	e.Step([]event.Event{{Offset: 2, Topic: "a", Received: at(2), Payload: []byte(`{"d":"k","v":3}`)}}, &res)
	e.Tick(at(10), &res)
	got := lines(res.Outputs)
	const span = `,"key":"k","start":"2024-06-01T12:00:00Z","end":"2024-06-01T12:00:10Z"}`
	lined := []string{`2 c {"n":6` + span, `2 f {"n":1` + span, `2 e {"n":5` + span, `2 s {"n":2` + span}
	if diff := cmp.Diff(lined, got); diff != "" {
		t.Error(diff)
	}
}

func TestADamagedSnapshotLeavesTheEngineEmpty(t *testing.T) {
	set := mustCompile(t, historyRules)
	e := set.Engine(EventsStream)
	var res Result
	for i := range 10 {
		in := reading{offset: uint64(i + 1), topic: "plant/1/temp", received: at(1), device: "a", temp: 60, ts: at(1)}
		e.Step([]event.Event{in.event()}, &res)
	}
	good := snapshot(t, e)
	empty := snapshot(t, set.Engine(EventsStream))
	for n := range good {
		e := set.Engine(EventsStream)
		if _, err := e.Restore(bytes.NewReader(good[:n])); err == nil {
			t.Fatalf("the first %d bytes of %d pass as a whole", n, len(good))
		}
		if !bytes.Equal(empty, snapshot(t, e)) {
			t.Fatalf("after the first %d bytes the engine is not empty", n)
		}
	}
	newer := bytes.Clone(good)
	newer[4] = 99
	if _, err := set.Engine(EventsStream).Restore(bytes.NewReader(newer)); err == nil || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("a snapshot of a newer version: %v", err)
	}
}
