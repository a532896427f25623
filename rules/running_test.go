package rules

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
)

func jsonEvent(offset uint64, seconds float64, topic, payload string) event.Event {
	return event.Event{Offset: offset, Topic: topic, Received: at(seconds), Payload: []byte(payload)}
}

// step gives one event to the engine and returns what comes of it.
func step(e *Engine, ev event.Event) []string {
	var res Result
	e.Step([]event.Event{ev}, &res)
	got := lines(res.Outputs)
	for _, f := range res.Failures {
		got = append(got, fmt.Sprintf("%s at %v: %v", f.Rule, f.Pos, f.Err))
	}
	return got
}

func TestEveryKindOfWindowCanBeWrittenInARule(t *testing.T) {
	const day = "2024-06-01T12:00:"
	for _, tt := range []struct{ window, want string }{
		{`{hopping: 10s, hop: 5s}`, `a:2@05 a:3@10 a:2@15 a:1@20 a:1@25 a:1@30`},
		{`{sliding: 5s}`, `a:1@01 a:2@04 a:2@08 a:2@12 a:1@21`},
		{`{session: 5s}`, `a:4@17 a:1@26`},
		{`{count: 2}`, `a:2@04 a:2@12`},
		{`{while: v > 1}`, `a:3@12`},
		{`{tumbling: 10s, early: 3s}`, `a:1@10? a:2@10? a:3@10? a:3@10 a:1@20? a:1@20 a:1@30? a:1@30`},
	} {
		t.Run(tt.window, func(t *testing.T) {
			e := engine(t, "- {name: r, from: t, key: '\"a\"', window: "+tt.window+", aggregate: {n: count()}, emit: {stream: out, topic: o, fields: {n: n, e: end, early: early}}}\n")
			var res Result
			now := 0.
			for i, s := range []struct {
				at float64
				v  int
			}{{1, 2}, {4, 2}, {8, 2}, {12, 1}, {21, 1}} {
				for ; now < s.at; now++ {
					e.Tick(at(now), &res)
				}
				e.Step([]event.Event{jsonEvent(uint64(i+1), s.at, "t", fmt.Sprintf(`{"v":%d}`, s.v))}, &res)
			}
			for ; now < 40; now++ {
				e.Tick(at(now), &res)
			}
			var got []string
			for _, o := range res.Outputs {
				line := strings.NewReplacer(`{"n":`, "a:", `,"e":"`+day, "@", `Z","early":false}`, "", `Z","early":true}`, "?").Replace(string(o.Event.Payload))
				got = append(got, line)
			}
			if diff := cmp.Diff(strings.Fields(tt.want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLateEventsGoToAStreamOfTheirOwn(t *testing.T) {
	set := mustCompile(t, `
- {name: r, from: "t/#", time: {field: ts, unit: s}, window: {tumbling: 10s, late: toolate}, aggregate: {n: count()}, emit: {stream: out, topic: o}}
- {name: again, from: {stream: toolate}, emit: {stream: repaired, topic: "again/{topic}"}}
`)
	if diff := cmp.Diff([]string{"out", "repaired", "toolate"}, set.Outputs()); diff != "" {
		t.Error(diff)
	}
	e := set.Engine(EventsStream)
	step(e, jsonEvent(1, 1, "t/1", `{"ts":1717243225}`))
	got := step(e, jsonEvent(2, 2, "t/2", `{"ts":1717243205}`))
	if diff := cmp.Diff([]string{`2 t/2 {"ts":1717243205}`, `2 again/t/2 {"ts":1717243205}`}, got); diff != "" {
		t.Error(diff)
	}
	if s := set.Stats()[0]; s.Late != 1 {
		t.Errorf("%+v", s)
	}
}

func TestADisabledRuleSeesNothingAndKeepsItsState(t *testing.T) {
	const yaml = `
- {name: counted, from: "#", emit: {stream: out, topic: n, fields: {n: counter(true)}}}
- {name: tick, from: {every: 10s}, emit: {stream: out, topic: tick}}
- {name: other, from: t, emit: {stream: out, topic: o, fields: {}}}
`
	set := mustCompile(t, strings.Replace(yaml, "fields: {}", "payload: '\"x\"'", 1))
	e := set.Engine(EventsStream)
	var res Result
	step(e, jsonEvent(1, 1, "t", ""))
	off := Input{Now: at(2), Rule: "counted", Disable: true, Reason: "tests"}
	if !e.Apply(off, &res) || e.Apply(off, &res) {
		t.Error("disabling a rule twice has an effect twice, or none at all")
	}
	e.Apply(Input{Now: at(2), Rule: "tick", Disable: true}, &res)
	if got := step(e, jsonEvent(2, 30, "t", "")); len(got) != 1 || got[0] != "2 o x" {
		t.Errorf("a disabled rule emits: %q", got)
	}
	if _, ok := e.NextTick(); ok {
		t.Error("a disabled timer is due")
	}
	if s := set.Stats(); !s[0].Disabled || s[2].Disabled {
		t.Errorf("%+v", s)
	}
	e = restart(t, set, e)
	if s, err := e.Inspect("counted", "", 10); err != nil || !s.Disabled || s.Reason != "tests" || s.Memory[0].Calls["counter(true)"] != 1. {
		t.Errorf("%+v, %v", s, err)
	}
	if !e.Apply(Input{Now: at(31), Rule: "counted"}, &res) {
		t.Error("enabling has no effect")
	}
	if got := step(e, jsonEvent(3, 31, "t", "")); got[0] != `3 n {"n":2}` {
		t.Errorf("after it was enabled: %q", got)
	}
	if e.Apply(Input{Rule: "unknown", Disable: true}, &res) {
		t.Error("a rule of another engine has an effect")
	}
}

func TestAChangedRuleKeepsWhatItsShapeAllows(t *testing.T) {
	const yaml = `
- {name: same, from: "#", emit: {stream: out, topic: s, fields: {n: counter(true)}}}
- {name: emits, from: "#", emit: {stream: out, topic: s, fields: {n: counter(true)}}}
- {name: partly, from: "#", emit: {stream: out, topic: s, fields: {n: counter(true), m: total(v)}}}
- {name: source, from: "#", emit: {stream: out, topic: s, fields: {n: counter(true)}}}
- {name: held, from: "#", where: v > 1, for: 10s, emit: {stream: out, topic: h}}
- {name: held2, from: "#", where: v > 1, for: 10s, emit: {stream: out, topic: h}}
`
	old := engine(t, yaml)
	step(old, jsonEvent(1, 1, "t", `{"v":2}`))
	e := engine(t, strings.NewReplacer("name: emits, from: \"#\", emit: {stream: out, topic: s", "name: emits, from: \"#\", emit: {stream: out, topic: e",
		"total(v)", "total(v + 1)", "name: source, from: \"#\"", "name: source, from: \"t\"", "name: held2, from: \"#\", where: v > 1", "name: held2, from: \"#\", where: v > 0").Replace(yaml))
	report, err := e.Restore(bytes.NewReader(snapshot(t, old)))
	if err != nil {
		t.Fatal(err)
	}
	want := Restored{Kept: []string{"emits"}, Partly: []string{"partly", "held2"}, Lost: []string{"source"}, Tables: map[string]string{}}
	if diff := cmp.Diff(want, report); diff != "" {
		t.Error(diff)
	}
	got := step(e, jsonEvent(2, 11, "t", `{"v":3}`))
	if diff := cmp.Diff([]string{`2 h {"v":2}`, `2 s {"n":2}`, `2 e {"n":2}`, `2 s {"n":2,"m":4}`, `2 s {"n":1}`}, got); diff != "" {
		t.Error(diff)
	}
}

func TestKeysAreBoundedAndForgotten(t *testing.T) {
	e := engine(t, `- {name: r, from: "t/{id}", key: id, state: {max_keys: 2, expire: 60s}, emit: {stream: out, topic: n, fields: {n: counter(true)}}}
`)
	for i, tt := range []struct {
		id   string
		at   float64
		want string
	}{
		{"a", 0, `n {"n":1}`}, {"b", 10, `n {"n":1}`}, {"c", 20, "at rules.yaml:2:3: the rule remembers too many keys; raise max_keys of state, or lower expire"},
		{"a", 50, `n {"n":2}`}, {"c", 70, `n {"n":1}`}, {"b", 75, "too many keys"}, {"a", 109, `n {"n":3}`}, {"a", 169, `n {"n":1}`},
	} {
		if got := strings.Join(step(e, jsonEvent(uint64(i+1), tt.at, "t/"+tt.id, "")), "\n"); !strings.Contains(got, tt.want) {
			t.Errorf("%s at %v: %s, want %s", tt.id, tt.at, got, tt.want)
		}
	}
}

func TestAFailureSaysWhereInTheFile(t *testing.T) {
	e := engine(t, `
- name: r
  from: "#"
  where: >
    a > 1 &&
    b / c > 2 && level(7) == "x"
  emit:
    stream: out
    topic: x
    fields: {ok: 1, bad: lower(s)}
- {name: set, from: "#", set: {y: z * 2}, where: y > 1, emit: {stream: out}}
`)
	for payload, want := range map[string][]string{
		`{"a":2,"c":1,"z":0}`:       {`r at rules.yaml:7:5: where: field "b" is missing`},
		`{"a":2,"b":9,"c":1,"z":0}`: {`r at rules.yaml:7:18: where: the topic "t" has no level(7)`},
		`{"a":0}`:                   {`set at rules.yaml:12:35: set.y: field "z" is missing`},
	} {
		if diff := cmp.Diff(want, step(e, jsonEvent(1, 1, "t", payload))); diff != "" {
			t.Errorf("%s: %s", payload, diff)
		}
	}
}

func TestTimersTriggerAtTheirTimes(t *testing.T) {
	e := engine(t, `
- {name: minute, from: {every: 60s}, emit: {stream: out, topic: m}}
- {name: cron, from: {cron: "30 14 * * *", zone: Europe/Berlin}, emit: {stream: out, topic: c, fields: {t: time}}}
- {name: reads, from: {rule: minute}, emit: {stream: out, topic: r, fields: {n: counter(true)}}}
`)
	var res Result
	if next, ok := e.NextTick(); !ok || next > at(0) {
		t.Fatalf("a timer that was never looked at is due at %v", next)
	}
	tick := func(seconds float64) []string {
		res.Reset()
		e.Tick(at(seconds), &res)
		return lines(res.Outputs)
	}
	for _, tt := range []struct {
		at   float64
		want []string
	}{
		{5, nil}, {59, nil}, // noon UTC is 14:00 in Berlin
		{60, []string{`0 m {"time":"2024-06-01T12:01:00Z"}`, `0 r {"n":1}`}},
		{61, nil},
		{1799, []string{`0 m {"time":"2024-06-01T12:29:00Z"}`, `0 r {"n":2}`}}, // missed times count once
		{1800, []string{`0 m {"time":"2024-06-01T12:30:00Z"}`, `0 c {"t":"2024-06-01T12:30:00Z"}`, `0 r {"n":3}`}},
		{-3600, nil}, // the clock is set back: timers begin anew
		{-3540, []string{`0 m {"time":"2024-06-01T11:01:00Z"}`, `0 r {"n":4}`}},
	} {
		if diff := cmp.Diff(tt.want, tick(tt.at)); diff != "" {
			t.Errorf("at %v: %s", tt.at, diff)
		}
	}
	next, ok := e.NextTick()
	if !ok || next != at(-3480) {
		t.Errorf("the next tick is at %v", next)
	}
}

func TestHoldingCountsTheTimeThatPassed(t *testing.T) {
	set := mustCompile(t, `- {name: r, from: "t", where: v > 1, for: 30s, emit: {stream: out, topic: o}}
`)
	begin := func() *Engine {
		e := set.Engine(EventsStream)
		ev := jsonEvent(1, 0, "t", `{"v":2}`)
		ev.Boot, ev.Mono = 3, 100*time.Second
		step(e, ev)
		return restart(t, set, e)
	}
	var res Result
	t.Run("over a restart", func(t *testing.T) {
		e := begin()
		if next, ok := e.NextTick(); !ok || next != at(30) {
			t.Errorf("due at %v", next)
		}
		res.Reset()
		if !e.Tick(at(45), &res) || len(res.Outputs) != 1 {
			t.Errorf("%v", lines(res.Outputs))
		}
		ev := jsonEvent(2, 99, "t", `{"v":5}`)
		if got := step(e, ev); len(got) > 0 {
			t.Errorf("it emits twice: %q", got)
		}
	})
	t.Run("also if it ceases before anybody looked", func(t *testing.T) {
		if got := step(begin(), jsonEvent(2, 45, "t", `{"v":0}`)); len(got) != 1 {
			t.Errorf("%q", got)
		}
	})
	t.Run("not if it ceased", func(t *testing.T) {
		e := begin()
		step(e, jsonEvent(2, 10, "t", `{"v":0}`))
		if _, due := e.NextTick(); due {
			t.Error("it still waits")
		}
		if got := step(e, jsonEvent(3, 35, "t", `{"v":2}`)); len(got) > 0 {
			t.Errorf("%q", got)
		}
	})
	t.Run("a clock that is set ahead makes nothing last longer", func(t *testing.T) {
		e := begin()
		ev := jsonEvent(2, 1e6, "t", `{"v":2}`)
		ev.Boot, ev.Mono = 3, 110*time.Second
		if got := step(e, ev); len(got) > 0 {
			t.Errorf("after 10 s: %q", got)
		}
		res.Reset()
		if e.Apply(Input{Now: at(1e6 + 19), Boot: 3, Mono: 129 * time.Second}, &res) {
			t.Error("after 29 s")
		}
		if !e.Apply(Input{Now: at(1e6 + 20), Boot: 3, Mono: 130 * time.Second}, &res) {
			t.Error("not after 30 s")
		}
	})
	t.Run("by the time in the payload", func(t *testing.T) {
		e := engine(t, "- {name: r, from: t, where: v > 1, time: {field: ts, unit: s}, for: 30s, emit: {stream: out, topic: o}}\n")
		step(e, jsonEvent(1, 0, "t", `{"v":2,"ts":1000}`))
		if got := step(e, jsonEvent(2, 1, "t", `{"v":2,"ts":1030}`)); len(got) != 1 {
			t.Errorf("a device that sends what it has stored: %q", got)
		}
	})
}

func TestOutputsArePublishedAndHavePlainPayloads(t *testing.T) {
	set := mustCompile(t, `
- name: door
  from: home/{room}/door
  emit: {stream: log}
  publish:
    - {topic: "home/{room}/light/set", retain: true, qos: 2, payload: 'open ? "ON" : "OFF"'}
    - {topic: "home/{room}/level", where: open, payload: lux * 2}
`)
	e := set.Engine(EventsStream)
	var res Result
	e.Step([]event.Event{jsonEvent(1, 0, "home/hall/door", `{"open":true,"lux":21}`), jsonEvent(2, 0, "home/hall/door", `{"open":false,"lux":1}`)}, &res)
	var got []string
	for _, o := range res.Outputs {
		got = append(got, fmt.Sprintf("%s %s %s %v %d %s", o.Stream, o.Event.Topic, o.Event.Payload, o.Event.Retain, o.Event.QoS, o.Event.ContentType))
	}
	want := []string{
		`log home/hall/door {"open":true,"lux":21} false 1 `, `local home/hall/light/set ON true 2 text/plain`, `local home/hall/level 42 false 1 application/json`,
		`log home/hall/door {"open":false,"lux":1} false 1 `, `local home/hall/light/set OFF true 2 text/plain`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTheStateOfAWindowIsShownAndStaysAsItIs(t *testing.T) {
	e := engine(t, `
- {name: minute, from: "t/{id}", key: id, window: {tumbling: 60s, grace: 5s}, aggregate: {n: count(), mean: avg(v), all: 'collect(v, 3)'}, emit: {stream: out, topic: o}}
- {name: batch, from: "t/{id}", window: {count: 5}, aggregate: {last: last(v)}, emit: {stream: out, topic: o}}
`)
	for i, id := range []string{"b", "a", "b"} {
		step(e, jsonEvent(uint64(i+1), float64(i), "t/"+id, fmt.Sprintf(`{"v":%d}`, i)))
	}
	before := snapshot(t, e)
	show := func(rule, key string, most int) string {
		s, err := e.Inspect(rule, key, most)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		_, text, _ := strings.Cut(string(b), `"keys":`)
		return text
	}
	const head = `2,"window":{"watermark":"2024-06-01T11:59:57Z","closes":"2024-06-01T12:01:05Z","open":[`
	const a = `{"key":"a","start":"2024-06-01T12:00:00Z","end":"2024-06-01T12:01:00Z","results":{"all":[1],"mean":1,"n":1}}`
	const b = `{"key":"b","start":"2024-06-01T12:00:00Z","end":"2024-06-01T12:01:00Z","results":{"all":[0,2],"mean":1,"n":2}}`
	for _, tt := range []struct {
		rule, key string
		most      int
		want      string
	}{
		{"minute", "", 10, head + a + "," + b + `]},"memory":[]}`},
		{"minute", "", 1, head + a + `]},"memory":[]}`},
		{"minute", "b", 10, head + b + `]},"memory":[]}`},
		{"batch", "", 10, `1,"window":{"watermark":"2024-06-01T12:00:02Z","closes":"2024-06-02T12:00:02Z","open":[` +
			`{"start":"2024-06-01T12:00:00Z","end":"2024-06-01T12:00:02Z","results":{"last":2}}]},"memory":[]}`},
	} {
		if got := show(tt.rule, tt.key, tt.most); got != tt.want {
			t.Errorf("%s %s:\ngot  %s\nwant %s", tt.rule, tt.key, got, tt.want)
		}
	}
	if !bytes.Equal(before, snapshot(t, e)) {
		t.Error("to look has changed the state")
	}
}
