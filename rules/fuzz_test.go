package rules

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
)

// Whatever stands in a rule file, Compile returns.
func FuzzCompile(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yaml")
	for _, file := range files {
		if b, err := os.ReadFile(file); err == nil {
			f.Add(b)
		}
	}
	f.Add([]byte("rules:\n" + historyRules))
	f.Add([]byte("rules:\n" + memoryRules))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, _ := config.LoadBytes("f.yaml", b)
		if s == nil || s.Child("rules") == nil {
			return
		}
		set, err := Compile(s.Child("rules").Items())
		if err != nil {
			return
		}
		for _, stream := range set.Inputs() {
			e := set.Engine(stream)
			var res Result
			e.Step([]event.Event{{Offset: 1, Topic: "plant/1/temp", Payload: []byte(payload120), Received: at(0)}}, &res)
			e.Tick(at(1000), &res)
		}
	})
}

// Whatever stands in an expression, it compiles or not, and then runs or fails.
func FuzzExpression(f *testing.F) {
	for _, text := range []string{
		`temperature > 80 && unit == "C"`, `a.b[0]?.c ?? d`, `let x = v; map(x, {# * 2}) | filter(# > 1) | sum()`, `1 < x < 3`,
		`level(-1) + string(qos) + toJSON(o)`, `time.Format("2006") matches "2"`, `received - time > duration("5s")`,
		`x in 1..5 ? y : [1, {a: z}]`, `groupBy(v, #.k)["a"][0].b`, `reduce(v, #acc + #, 0)`, `field("a b").c`, `v[1:3]`, `((((`, `not not a`,
		`rising(prev(x) != x) && hysteresis(v, 3, 1)`, `debounce(x, "1s") == duplicate(x, "2s")`, `total(change(v)) + counter(throttle(v > 1, "1s"))`,
		`convert(v, "degF", "degC") > latest("a/b", "v.w") ?? 3`, `lookup("t", x, "y") ?? changed(x)`,
	} {
		f.Add(text, payload120)
	}
	f.Fuzz(func(t *testing.T, text, payload string) {
		quoted, err := json.Marshal(text)
		if err != nil {
			return
		}
		s, _ := config.LoadBytes("f.yaml", []byte(`[{name: a, from: "#", emit: {stream: s, fields: {x: `+string(quoted)+`}}},`+
			`{name: b, from: "#", where: `+string(quoted)+`, key: `+string(quoted)+`, emit: {stream: s}}]`))
		if s == nil {
			return
		}
		set, err := Compile(s.Items()[:1])
		if err != nil {
			_ = err.Error()
			return
		}
		if both, err := Compile(s.Items()); err == nil {
			set = both
		}
		e := set.Engine(EventsStream)
		ev := event.Event{Offset: 1, Topic: "plant/1/temp", Payload: []byte(payload), Received: at(0)}
		got, again := stepOne(e, ev), stepOne(set.Engine(EventsStream), ev)
		if got != again {
			t.Errorf("the second run differs:\n%s\n%s", got, again)
		}
		if _, body, ok := strings.Cut(got, " "); ok && strings.HasPrefix(got, "plant/1/temp {\"x\"") {
			body, _, _ = strings.Cut(body, "\n")
			if !json.Valid([]byte(body)) || !strings.HasPrefix(body, `{"x":`) {
				t.Errorf("not JSON: %s", body)
			}
		}
	})
}

// Whatever a device sends, Step returns, and sees what encoding/json sees.
func FuzzPayload(f *testing.F) {
	for _, p := range []string{payload120, `{"a":{"b":[1,{"c":"x\u0041\"\\"}]}}`, `"on"`, `-1.5e3`, ` [1, 2] `, `{"":null}`, `{`, "", "\xff", `{"a" : true , "t":{"b":1}}`} {
		f.Add([]byte(p))
	}
	e := engine(f, `
- {name: any, from: "#", emit: {stream: s, topic: x, fields: {a: "a ?? 0", b: "a.b[1].c ?? 1", v: "value ?? nil", t: "t.b ?? 2"}}}
- {name: raw, from: "#", where: "a != nil", emit: {stream: s, topic: x, fields: {a: a}}}
- {name: num, from: "#", where: "a + 1 > 0 || t", emit: {stream: s, topic: x}}
- {name: win, from: "#", key: a, time: {field: ts, unit: ms}, window: {tumbling: 1s}, aggregate: {n: p95(t.b), l: last(a)}, emit: {stream: s, topic: x}}
`)
	f.Fuzz(func(t *testing.T, payload []byte) {
		var res Result
		e.Step([]event.Event{{Offset: 1, Topic: "t", Payload: payload, Received: at(0)}}, &res)
		var top map[string]any
		err := json.Unmarshal(payload, &top)
		for _, o := range res.Outputs {
			if o.Rule == "num" || o.Rule == "win" {
				continue
			}
			var fields map[string]any
			if err := json.Unmarshal(o.Event.Payload, &fields); err != nil {
				t.Fatalf("%s emits %q: %v", o.Rule, o.Event.Payload, err)
			}
			if strings.ContainsAny(string(o.Event.Payload), "\n\r") {
				t.Errorf("%s emits more than one line: %q", o.Rule, o.Event.Payload)
			}
			if o.Rule == "raw" && (err != nil || top["a"] == nil) && strings.Count(string(payload), `"`) < 4 {
				t.Errorf("field a was found in %q", payload)
			}
		}
	})
}

// Whatever stands in a checkpoint, Restore takes it or leaves the engine empty,
// and a state that was taken is written again as it was.
func FuzzRestore(f *testing.F) {
	set := mustCompile(f, memoryRules+historyRules)
	e := set.Engine(EventsStream)
	f.Add(snapshot(f, e))
	var res Result
	for i := range 30 {
		in := sample{offset: uint64(i + 1), received: at(float64(i)), dev: string("abc"[i%3]), v: i*37%150 - 40, ts: at(float64(i))}
		e.Step([]event.Event{in.event()}, &res)
	}
	f.Add(snapshot(f, e))
	empty := snapshot(f, set.Engine(EventsStream))
	f.Fuzz(func(t *testing.T, b []byte) {
		e := set.Engine(EventsStream)
		if _, err := e.Restore(bytes.NewReader(b)); err != nil {
			if !bytes.Equal(empty, snapshot(t, e)) {
				t.Fatal("an engine that could not be restored is not empty")
			}
			return
		}
		var res Result
		e.Step([]event.Event{{Offset: 100, Topic: "plant/a/v", Payload: []byte(`{"v":60,"s":"2","ts":1717243300000}`), Received: at(100)}}, &res)
		e.Tick(at(1000), &res)
		once := snapshot(t, e)
		if again := snapshot(t, restart(t, set, e)); !bytes.Equal(once, again) {
			t.Fatal("the state is another one after it was read again")
		}
	})
}

// Whatever stands in from, it is a filter that MQTT knows or a mistake.
func FuzzPattern(f *testing.F) {
	for _, p := range []string{"plant/{line}/+/temp", "{a}", "a/#", "{a}/{a}", "{", "a{b}", "$x/{y}", "{topic}"} {
		f.Add(p, "plant/1/2/temp")
	}
	f.Fuzz(func(t *testing.T, text, topic string) {
		p, err := parsePattern(text)
		if err != nil {
			return
		}
		if err := event.CheckFilter(p.filter); err != nil {
			t.Fatalf("%q became %q: %v", text, p.filter, err)
		}
		if event.CheckTopic(topic) != nil || !event.Match(p.filter, topic) {
			return
		}
		for _, name := range p.names {
			if _, err := topicLevel(topic, p.level(name)); err != nil {
				t.Errorf("%q matches %q without %s: %v", text, topic, name, err)
			}
		}
	})
}
