package rules

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/gateway/event"
	"holdfast/rules/window"
)

func TestEveryAggregateCanBeWrittenInARule(t *testing.T) {
	var b strings.Builder
	b.WriteString("- name: all\n  from: '#'\n  window: {tumbling: 10s}\n  aggregate:\n")
	for i, f := range window.Functions {
		arg := map[window.Input]string{window.Numbers: "v", window.Truths: "v > 1", window.Anything: "s"}[f.Input]
		for range f.Params {
			arg += ", 5"
		}
		fmt.Fprintf(&b, "    %s: %s(%s)\n", fmt.Sprint("a", i), f.Name, arg)
	}
	b.WriteString("  emit: {stream: out, topic: out}\n")
	e := mustCompile(t, b.String()).Engine(EventsStream)
	var res Result
	for i := range 3 {
		e.Step([]event.Event{{Offset: uint64(i + 1), Topic: "a", Received: event.Time(i+1) * 1e9,
			Payload: fmt.Appendf(nil, `{"v": %d, "s": "x"}`, i)}}, &res)
	}
	e.Tick(100e9, &res)
	if len(res.Outputs) != 1 || len(res.Failures) != 0 {
		t.Fatalf("%d outputs, %v", len(res.Outputs), res.Failures)
	}
	got := string(res.Outputs[0].Event.Payload)
	for i, want := range map[string]string{
		"count": "3", "count_if": "1", "percentile": "0", "increase": "2", "p95": "1.9936617014173443", "last": `"x"`, "collect": `["x","x","x"]`,
		"histogram": `{"bounds":[5],"counts":[3,0]}`, "topk": `[{"count":3,"value":"x"}]`,
	} {
		at := slices.IndexFunc(window.Functions, func(f window.Function) bool { return f.Name == i })
		if want = fmt.Sprintf(`"a%d":%s,`, at, want); !strings.Contains(got, want) {
			t.Errorf("%s: %s is not in %s", i, want, got)
		}
	}
}
