package rules

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
)

// compile makes a set of a list of rules in YAML.
func compile(t testing.TB, yaml string) (*Set, error) {
	t.Helper()
	s, err := config.LoadBytes("rules.yaml", []byte("rules:\n"+yaml))
	if err != nil {
		return nil, err
	}
	return Compile(s.Child("rules").Items())
}

func mustCompile(t testing.TB, yaml string) *Set {
	t.Helper()
	set, err := compile(t, yaml)
	if err != nil {
		t.Fatalf("compile:\n%v", err)
	}
	return set
}

func engine(t testing.TB, yaml string) *Engine {
	t.Helper()
	e := mustCompile(t, yaml).Engine(EventsStream)
	if e == nil {
		t.Fatal("no rule reads the events")
	}
	return e
}

// at is the time of an event, in seconds from some noon.
func at(seconds float64) event.Time { return 1717243200e9 + event.Time(math.Round(seconds*1e3))*1e6 }

// stepOne gives one event to the engine and returns what comes of it in one
// line for each output and failure.
func stepOne(e *Engine, ev event.Event) string {
	var res Result
	e.Step([]event.Event{ev}, &res)
	var lines []string
	for _, o := range res.Outputs {
		lines = append(lines, fmt.Sprintf("%s %s", o.Event.Topic, o.Event.Payload))
	}
	for _, f := range res.Failures {
		lines = append(lines, "failure: "+f.Err.Error())
	}
	return strings.Join(lines, "\n")
}

func TestConditions(t *testing.T) {
	const passes, holds = "t/x/7 ", ""
	for _, tt := range []struct{ where, payload, want string }{
		{`temperature > 80`, `{"temperature": 80.5}`, passes},
		{`temperature > 80`, `{"temperature": 80}`, holds},
		{`temperature > 80`, `{"temperature": "81"}`, `failure: where: field "temperature" is text, not a number`},
		{`temperature > 80`, `{"temperature": [81]}`, `failure: where: field "temperature" is a list, not a number`},
		{`temperature > 80`, `{"temperature": null}`, `failure: where: field "temperature" is missing`},
		{`temperature > 80`, `{}`, `failure: where: field "temperature" is missing`},
		{`temperature > 80`, `81`, `failure: where: field "temperature" is missing`},
		{`temperature > 80`, `{"temperature": 1e999}`, `failure: where: field "temperature" is out of the range of numbers`},
		{`temperature > 80`, `{"temperature": 81`, `failure: where: the payload is not JSON`},
		{`temperature > 80`, ``, `failure: where: the payload is not JSON`},
		{`temperature > 80 && unit == "C"`, `{"temperature": 1}`, holds},
		{`temperature > 80 || unit == "C"`, `{"temperature": 81}`, passes},
		{`temperature > 80`, `{"temperature": 81, "temperature": 1}`, passes},
		{`(temperature ?? 100) > 80`, `{}`, passes},
		{`(temperature ?? 100) > 80`, `{"temperature": null}`, passes},
		{`(temperature ?? 100) > 80`, `{"temperature": 3}`, holds},
		{`(temperature ?? 100) > 80`, `{"temperature": "x"}`, `failure: where: field "temperature" is text, not a number`},
		{`temperature == nil`, `{}`, passes},
		{`temperature != nil && temperature > 1`, `{"temperature": 2}`, passes},
		{`a.b.c == "x"`, `{"a": {"z": {"c": "y"}, "b": {"c": "x"}}}`, passes},
		{`a.b == 1 && a.c == 2 && d == 3`, `{"d":3,"a":{"c":2,"q":[1,{"b":7}],"b":1}}`, passes},
		{`a.b?.c == "x"`, `{"a": {"b": {"c": "x"}}}`, passes},
		{`a?.b == nil`, `{"a": {}}`, passes},
		{`v[1] > 2 && v[0] == 1`, `{"v": [1, 3]}`, passes},
		{`v[2] > 2`, `{"v": [1, 3]}`, `failure: where: field "v.2" is missing`},
		{`v[i] > 2`, `{"v": [1, 3], "i": 1}`, passes},
		{`len(v) == 2 && sum(v) == 4`, `{"v": [1, 3]}`, passes},
		{`any(v, # > 2)`, `{"v": [1, 3]}`, passes},
		{`any(v, .t > limit)`, `{"v": [{"t": 3}], "limit": 2}`, passes},
		{`unit in ["C", "F"]`, `{"unit": "F"}`, passes},
		{`n in [1, 2]`, `{"n": 2}`, passes},
		{`unit matches "^C+$"`, `{"unit": "CC"}`, passes},
		{`not alarm`, `{"alarm": false}`, passes},
		{`alarm`, `{"alarm": true}`, passes},
		{`alarm`, `{"alarm": 1}`, `failure: where: field "alarm" is a number, not true or false`},
		{`name == "caf\u00e9 \"x\""`, `{"name": "caf\u00e9 \"x\""}`, passes},
		{`field("a b", "time") == 1`, `{"a b": {"time": 1}}`, passes},
		{`field("a\"b") == 1`, `{"a\"b": 1}`, passes},
		{`1 < x < 3`, `{"x": 2}`, passes},
		{`let y = x * 2; y > 3 && y < 5`, `{"x": 2}`, passes},
		{`x > 1 ? unit == "C" : false`, `{"x": 2, "unit": "C"}`, passes},
		{`len(1..int(n)) > 3`, `{"n": 1000000}`, "failure: where: the lists it makes are too long"},
		{`upper(unit) == "C" && abs(x) == 2`, `{"x": -2, "unit": "c"}`, passes},
		{`int(x) % 2 == 1`, `{"x": 5}`, passes},
		{`id == other`, `{"id": 9007199254740993, "other": 9007199254740993}`, passes},
		{`value > 3`, `4`, passes},
		{`value > 3`, ` 4 `, passes},
		{`value > 3`, `{"value": 4}`, passes},
		{`value == "on"`, `"on"`, passes},
		{`value`, `true`, passes},
		{`value.x == 1`, `{"value": {"x": 1}}`, passes},
		{`payload == "ON"`, `ON`, passes},
		{`topic == "t/x/7" && client == "c1" && source == "mqtt" && key == "t/x/7" && qos == 1`, ``, passes},
		{`level(1) == "x" && level(-1) == "7"`, ``, passes},
		{`level(3) == "x"`, ``, `failure: where: the topic "t/x/7" has no level(3)`},
		{`a / (a - 1) > 3`, `{"a":1}`, "failure: where: division by zero"},
		{`a / (a - 1) > 3`, `{"a":1.25}`, passes},
		{`int(a) % int(b) == 0`, `{"a":1,"b":0}`, "failure: where: division by zero"},
		{`level(-4) == "x"`, ``, `failure: where: the topic "t/x/7" has no level(-4)`},
		{`received - time == duration("2s")`, ``, passes},
		{`received - time > duration("2s")`, ``, holds},
		{`time.Hour() == 11 && time.Format("15:04:05") == "11:59:58"`, ``, passes},
	} {
		t.Run(tt.where+" on "+tt.payload, func(t *testing.T) {
			set, err := compile(t, "- name: r\n  from: t/#\n  where: >-\n    "+tt.where+"\n  emit: {stream: out}\n")
			if err != nil {
				t.Fatalf("compile:\n%v", err)
			}
			got := stepOne(set.Engine("events"), event.Event{Offset: 1, Topic: "t/x/7", Client: "c1", Source: "mqtt",
				QoS: 1, Payload: []byte(tt.payload), Received: at(0), Time: at(-2)})
			want := tt.want
			if want == passes {
				want += tt.payload
			}
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestEmittedFields(t *testing.T) {
	for _, tt := range []struct{ fields, payload, want string }{
		{`{temp: temperature, f: temperature * 9 / 5 + 32}`, `{"temperature": 21.50}`, `{"temp":21.50,"f":70.7}`},
		{`{z: a, a: b, m: '"x"'}`, `{"a":1,"b":2}`, `{"z":1,"a":2,"m":"x"}`},
		{`{id: id}`, `{"id": 12345678901234567890}`, `{"id":12345678901234567890}`},
		{`{id: "[id]"}`, `{"id": 9007199254740993}`, `{"id":[9007199254740993]}`},
		{`{o: o}`, "{\"o\": {\"b\" : [1,\n 2], \"a\": \"x y\"}}", `{"o":{"b":[1,2],"a":"x y"}}`},
		{`{s: s, u: upper(s)}`, `{"s": "a\n\"\\ü"}`, `{"s":"a\n\"\\ü","u":"A\n\"\\Ü"}`},
		{`{t: time, d: received - time, l: level(0), q: qos, b: x > 1, n: "x ?? nil"}`, `{"x": 2}`,
			`{"t":"2024-06-01T11:59:58Z","d":2,"l":"t","q":1,"b":true,"n":2}`},
		{`{"a b": 1, "q\"": 1.5}`, `{}`, `{"a b":1,"q\"":1.5}`},
		{`{m: "{b: 1, a: x}"}`, `{"x": "<"}`, `{"m":{"a":"<","b":1}}`},
		{`{x: a / b}`, `{"a":1,"b":0}`, "failure: emit.fields.x: division by zero"},
		{`{x: a}`, `{"b":0}`, `failure: emit.fields.x: field "a" is missing`},
		{`{x: tiny, y: huge * 10}`, `{"tiny":1.50e-9,"huge":1e21}`, `{"x":1.50e-9,"y":1e+22}`},
	} {
		t.Run(tt.fields, func(t *testing.T) {
			e := engine(t, "- name: r\n  from: '#'\n  emit: {stream: out, topic: o, fields: "+tt.fields+"}\n")
			got := strings.TrimPrefix(stepOne(e, event.Event{Offset: 1, Topic: "t/x/7", QoS: 1, Payload: []byte(tt.payload), Received: at(0), Time: at(-2)}), "o ")
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestTopicsAreFilledIn(t *testing.T) {
	for _, tt := range []struct{ topic, want string }{
		{"", "t/7"},
		{"alerts", "alerts"},
		{"{topic}", "t/7"},
		{"a/{topic}/{client}/{key}/{rule}", "a/t/7/c1/d/r"},
		{"a/{field}", ""},
	} {
		yaml := "- name: r\n  from: '#'\n  key: device\n  emit: {stream: out, topic: '" + tt.topic + "'}\n"
		set, err := compile(t, yaml)
		if tt.want == "" {
			if err == nil {
				t.Errorf("%q compiles", tt.topic)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		ev := event.Event{Offset: 1, Topic: "t/7", Client: "c1", Payload: []byte(`{"device":"d"}`)}
		if got, _, _ := strings.Cut(stepOne(set.Engine("events"), ev), " "); got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.topic, got, tt.want)
		}
	}
	e := engine(t, "- name: r\n  from: '#'\n  key: device\n  emit: {stream: out, topic: 'a/{key}'}\n")
	ev := event.Event{Offset: 1, Topic: "t", Payload: []byte(`{"device":"+/#"}`)}
	if got := stepOne(e, ev); !strings.HasPrefix(got, "failure: emit.topic: invalid topic") {
		t.Errorf("a key with wildcards: got %s", got)
	}
}

func TestAnOutputSaysWhereItComesFrom(t *testing.T) {
	e := engine(t, `
- name: pass
  from: t/+
  emit: {stream: alerts, topic: "a/{topic}", qos: 2, retain: true}
- name: made
  from: [x, t/7]
  key: id
  time: {field: at.ms, unit: ms}
  emit: {stream: more, fields: {id: id}}
`)
	props := &event.Properties{Expiry: 3, HasExpiry: true}
	in := event.Event{Epoch: 9, Offset: 77, Topic: "t/7", Client: "c1", Key: "k", ContentType: "text/json", Trace: "tr",
		Payload: []byte(`{"id": 5, "at": {"ms": 1717243200123}}`), Received: at(3), Properties: props}
	cause := &event.ID{Epoch: 9, Stream: "events", Offset: 77}
	var res Result
	e.Step([]event.Event{in}, &res)
	want := []Output{
		{Rule: "pass", Stream: "alerts", Offset: 77, Event: event.Event{Time: at(3), Topic: "a/t/7", Source: "rule", Client: "pass", Key: "k",
			ContentType: "text/json", Trace: "tr", Payload: in.Payload, QoS: 2, Retain: true, Properties: props, Cause: cause}},
		{Rule: "made", Stream: "more", Offset: 77, Event: event.Event{Time: at(0.123), Topic: "t/7", Source: "rule", Client: "made", Key: "5",
			ContentType: "application/json", Trace: "tr", Payload: []byte(`{"id":5}`), QoS: 1, Cause: cause}},
	}
	if diff := cmp.Diff(want, res.Outputs); diff != "" {
		t.Error(diff)
	}
	if len(res.Failures) > 0 {
		t.Error(res.Failures)
	}
}

func TestOneRuleFailingStopsNoOther(t *testing.T) {
	set := mustCompile(t, `
- {name: a, from: "#", where: "x > 1", emit: {stream: out, topic: a}}
- {name: b, from: "#", where: 'string(x) startsWith "h"', emit: {stream: out, topic: b}}
- {name: c, from: "#", where: "y > 1", emit: {stream: out, topic: c}}
- {name: d, from: "#", emit: {stream: out, topic: d}}
- {name: e, from: "other", emit: {stream: out, topic: e}}
`)
	e := set.Engine("events")
	got := stepOne(e, event.Event{Offset: 1, Topic: "t", Payload: []byte(`{"x":"hot"}`)})
	want := `b {"x":"hot"}
d {"x":"hot"}
failure: where: field "x" is text, not a number
failure: where: field "y" is missing`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if diff := cmp.Diff([]Stat{
		{Rule: "a", Matched: 1, Failed: 1}, {Rule: "b", Matched: 1, Passed: 1, Emitted: 1}, {Rule: "c", Matched: 1, Failed: 1},
		{Rule: "d", Matched: 1, Passed: 1, Emitted: 1}, {Rule: "e"},
	}, set.Stats()); diff != "" {
		t.Error(diff)
	}
}

// A pane whose sum no number can hold fails as a whole, and says which one.
func TestASumBeyondTheRangeOfNumbersFails(t *testing.T) {
	e := engine(t, "- {name: r, from: '#', window: {tumbling: 1s}, aggregate: {n: count(), s: sum(v * v)}, emit: {stream: out, topic: a}}\n")
	var res Result
	for i := range 3 {
		e.Step([]event.Event{{Offset: uint64(i + 1), Topic: "t", Payload: []byte(`{"v":1e200}`), Received: at(0)}}, &res)
	}
	e.Step([]event.Event{{Offset: 4, Topic: "t", Payload: []byte(`{"v":1e150}`), Received: at(0)}}, &res)
	e.Tick(at(1), &res)
	if len(res.Failures) != 3 || !strings.Contains(res.Failures[0].Err.Error(), "+Inf") || len(res.Outputs) != 1 {
		t.Errorf("outputs %v, failures %v", lines(res.Outputs), res.Failures)
	}
}

func TestASetListsItsStreamsAndRules(t *testing.T) {
	set := mustCompile(t, `
- {name: a, from: [x, y/#], where: "x > 1", emit: {stream: alerts}}
- {name: b, from: {stream: alerts}, emit: {stream: more, topic: b}}
- {name: c, from: {stream: alerts, topics: x}, window: {tumbling: 1s}, aggregate: {n: count()}, emit: {stream: all, topic: c}}
`)
	if diff := cmp.Diff([]string{"events"}, set.Inputs()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"alerts", "all", "more"}, set.Outputs()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Rule{
		{Name: "a", Stream: "events", Root: "events", Filters: []string{"x", "y/#"}, Where: "x > 1", Outputs: []string{"alerts"}, Topics: []string{"x", "y/#"}, Pos: config.Pos{File: "rules.yaml", Line: 3, Col: 3}},
		{Name: "b", Stream: "alerts", Root: "events", Depth: 1, Filters: []string{"#"}, Outputs: []string{"more"}, Topics: []string{"b"}, Pos: config.Pos{File: "rules.yaml", Line: 4, Col: 3}},
		{Name: "c", Stream: "alerts", Root: "events", Depth: 1, Filters: []string{"x"}, Window: true, Outputs: []string{"all"}, Topics: []string{"c"}, Pos: config.Pos{File: "rules.yaml", Line: 5, Col: 3}},
	}, set.Rules()); diff != "" {
		t.Error(diff)
	}
	if set.Len() != 3 || set.Engine("nothing") != nil || set.Engine("alerts") != nil || set.Engine("events") == nil {
		t.Error("the set does not know its engines")
	}
}

// More topics than the cache of topics holds: the rules still apply to each.
func TestManyTopics(t *testing.T) {
	e := engine(t, "- {name: a, from: t/+/a, emit: {stream: out}}\n")
	for i := range 3 * maxTopics {
		level := []string{"a", "b"}[i%2]
		got := stepOne(e, event.Event{Offset: uint64(i + 1), Topic: fmt.Sprintf("t/%d/%s", i, level)})
		if (got != "") != (level == "a") {
			t.Fatalf("topic %d: got %q", i, got)
		}
	}
	if len(e.topics) > maxTopics {
		t.Errorf("%d topics are remembered", len(e.topics))
	}
}

func TestDeepPayloadsAreRefused(t *testing.T) {
	e := engine(t, "- {name: a, from: '#', where: x > 1, emit: {stream: out}}\n")
	for _, payload := range []string{strings.Repeat("[", 1<<20), `{"x":` + strings.Repeat(`{"a":`, 1<<18), strings.Repeat(`["]",`, 1<<16)} {
		if got := stepOne(e, event.Event{Offset: 1, Topic: "t", Payload: []byte(payload)}); !strings.Contains(got, "inside each other") {
			t.Errorf("%.10s…: got %s", payload, got)
		}
	}
	wide := `{"a":[` + strings.Repeat(`[{"b":"[[["}],`, 1<<14) + `1],"x":2}`
	if got := stepOne(e, event.Event{Offset: 1, Topic: "t", Payload: []byte(wide)}); !strings.HasPrefix(got, "t {") {
		t.Errorf("a wide payload: got %.100s", got)
	}
}
