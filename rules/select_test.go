package rules

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
	"holdfast/rules/codec"
)

func TestLevelsOfTheTopicHaveNames(t *testing.T) {
	e := engine(t, `
- name: r
  from: ["plant/{line}/{sensor}/temp", "{line}/x/{sensor}/#"]
  where: line != "9"
  key: line
  emit: {stream: out, topic: "a/{line}/{sensor}/{key}", fields: {l: line, s: sensor}}
`)
	for topic, want := range map[string]string{
		"plant/1/s7/temp":  `a/1/s7/1 {"l":"1","s":"s7"}`,
		"plant/9/s7/temp":  "",
		"site/x/s8/a/b":    `a/site/s8/site {"l":"site","s":"s8"}`,
		"plant/x/s9/temp":  `a/x/s9/x {"l":"x","s":"s9"}`, // the first filter that matches counts
		"plant/1/s7/humid": "",
	} {
		if got := stepOne(e, event.Event{Offset: 1, Topic: topic}); got != want {
			t.Errorf("%s: got %s, want %s", topic, got, want)
		}
	}
}

// The index over filters finds what asking each filter finds.
func TestTheIndexFindsWhatTheFiltersFind(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	levels := []string{"a", "b", "", "$x", "+"}
	for range 300 {
		var x index
		var filters []string
		for i := range 1 + r.IntN(20) {
			var parts []string
			for range 1 + r.IntN(4) {
				parts = append(parts, levels[r.IntN(5)])
			}
			if r.IntN(3) == 0 {
				parts = append(parts, "#")
			}
			f := strings.Join(parts, "/")
			if event.CheckFilter(f) != nil {
				f = "a"
			}
			filters = append(filters, f)
			x.add(f, hit{i, 0})
		}
		for range 50 {
			var parts []string
			for range 1 + r.IntN(4) {
				parts = append(parts, levels[r.IntN(4)])
			}
			topic := strings.Join(parts, "/")
			var want, got []int
			for i, f := range filters {
				if event.Match(f, topic) {
					want = append(want, i)
				}
			}
			for _, h := range x.match(nil, topic) {
				got = append(got, h.rule)
			}
			if !slices.Equal(want, got) {
				t.Fatalf("%q matches %v, the index of %q finds %v", topic, want, filters, got)
			}
		}
	}
}

func TestARuleReadsWhatAnotherEmitsInTheSameStep(t *testing.T) {
	set := mustCompile(t, `
- {name: last, from: {rule: second}, emit: {stream: d, topic: last, fields: {y: y + 1}}}
- {name: first, from: t/+, where: x > 1, emit: [{stream: b, topic: "b/{topic}"}, {stream: c, topic: c, where: x > 5}]}
- {name: second, from: {stream: b, topics: b/#}, emit: {stream: c, topic: "c/{topic}", fields: {y: x * 2}}}
- {name: both, from: {stream: c}, window: {tumbling: 10s}, aggregate: {n: count()}, emit: {stream: d, topic: n}}
- {name: after, from: {rule: both}, emit: {stream: e, topic: after, fields: {m: n + 1}}}
`)
	if got := set.Inputs(); !slices.Equal(got, []string{"events"}) {
		t.Errorf("the rules read %v", got)
	}
	e := set.Engine(EventsStream)
	var res Result
	e.Step([]event.Event{
		{Epoch: 4, Offset: 1, Topic: "t/1", Received: at(1), Payload: []byte(`{"x":2}`)},
		{Epoch: 4, Offset: 2, Topic: "t/1", Received: at(2), Payload: []byte(`{"x":1}`)},
		{Epoch: 4, Offset: 3, Topic: "t/2", Received: at(3), Payload: []byte(`{"x":7}`)},
	}, &res)
	e.Tick(at(10), &res)
	var got []string
	for _, o := range res.Outputs {
		if strings.HasPrefix(o.Rule, "both") || o.Rule == "after" {
			if o.Event.Cause.Offset != 3 || o.Event.Cause.Epoch != 4 || o.Event.Cause.Stream != "events" {
				t.Errorf("%s comes from %+v", o.Rule, o.Event.Cause)
			}
		} else if o.Event.Cause.Offset != o.Offset || o.Event.Cause.Stream != "events" {
			t.Errorf("%s at %d comes from %+v", o.Rule, o.Offset, o.Event.Cause)
		}
		got = append(got, fmt.Sprintf("%d %s/%d %s %s", o.Offset, o.Rule, o.N, o.Event.Topic, o.Event.Payload))
	}
	want := []string{
		`1 first/0 b/t/1 {"x":2}`,
		`1 second/0 c/b/t/1 {"y":4}`,
		`1 last/0 last {"y":5}`,
		`3 first/0 b/t/2 {"x":7}`,
		`3 first/1 c {"x":7}`,
		`3 second/0 c/b/t/2 {"y":14}`,
		`3 last/0 last {"y":15}`,
		`3 both/0 n {"n":3,"start":"2024-06-01T12:00:00Z","end":"2024-06-01T12:00:10Z"}`,
		`3 after/0 after {"m":4}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(res.Failures) > 0 {
		t.Error(res.Failures)
	}
}

func TestAStreamWithOtherSourcesIsReadFromTheLog(t *testing.T) {
	const yaml = `
- {name: a, from: t, emit: {stream: mixed}}
- {name: b, from: {stream: mixed}, emit: {stream: out}}
- {name: c, from: {stream: two}, emit: {stream: out}}
- {name: d, from: t, emit: {stream: two}}
- {name: e, from: {stream: mixed}, emit: {stream: two, topic: x}}
`
	s := mustSections(t, yaml)
	set, err := Options{Open: func(stream string) bool { return stream == "mixed" }}.Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	// Rules of two streams write to two, so nobody has all of it in one step.
	if diff := cmp.Diff([]string{"events", "mixed", "two"}, set.Inputs()); diff != "" {
		t.Error(diff)
	}
}

func TestAThousandRulesOnOtherTopicsAreNotLookedAt(t *testing.T) {
	var y strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&y, "- {name: r%d, from: plant/%d/temp, where: v > 1, emit: {stream: out}}\n", i, i)
	}
	e := engine(t, y.String())
	m := e.match("plant/7/temp")
	if len(m.rules) != 1 || m.rules[0].Name != "r7" {
		t.Errorf("the topic concerns %d rules", len(m.rules))
	}
}

func TestPayloadsAreReadByTheirFormat(t *testing.T) {
	inCBOR, err := cbor.Marshal(map[string]any{"temp": 21.5, "unit": "C", "id": uint64(1) << 60, "on": true, "sub": map[string]any{"deep": []int{1, 2}}})
	if err != nil {
		t.Fatal(err)
	}
	s := mustSections(t, `
- {name: r, from: "#", where: temp > 20, emit: {stream: out, topic: o, fields: {t: temp, u: upper(unit), i: id, o: on, d: "sub.deep[1] ?? 0"}}}
- {name: pass, from: "dev/#", set: {f: temp + 1}, rename: {unit: u}, drop: [id, on, sub], emit: {stream: out, topic: p}}
- {name: v, from: "#", emit: {stream: out, topic: v, fields: {v: "value ?? nil"}}}
- {name: asis, from: "dev/#", emit: {stream: passed, topic: elsewhere}}
- {name: reads, from: {rule: asis}, emit: {stream: out, topic: r, fields: {t: temp}}}
`)
	set, err := Options{Codecs: []TopicCodec{{"raw/#", codec.Text}, {"dev/#", codec.CBOR}}}.Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	e := set.Engine(EventsStream)
	for _, tt := range []struct{ topic, mime, payload, want string }{
		{"x", "application/cbor", string(inCBOR), `o {"t":21.5,"u":"C","i":1152921504606846976,"o":true,"d":2}` + "\n" + `v {"v":null}`},
		{"dev/1", "", string(inCBOR), `o {"t":21.5,"u":"C","i":1152921504606846976,"o":true,"d":2}` + "\n" + `p {"temp":21.5,"u":"C","f":22.5}` + "\n" + `v {"v":null}` + "\nelsewhere " + string(inCBOR) + "\n" + `r {"t":21.5}`},
		{"raw/1", "application/json", `21.5`, `v {"v":21.5}` + "\n" + `failure: where: field "temp" is missing`},
		{"raw/1", "", `ON`, `v {"v":"ON"}` + "\n" + `failure: where: field "temp" is missing`},
		{"x", "application/senml+json", `[{"n":"temp","u":"Cel","v":19}]`, `v {"v":19}`},
		{"x", "application/cbor", "\x18", "failure: where: the payload is not CBOR: unexpected EOF\nfailure: emit.fields.v: the payload is not CBOR: unexpected EOF"},
	} {
		if got := stepOne(e, event.Event{Offset: 1, Topic: tt.topic, ContentType: tt.mime, Payload: []byte(tt.payload)}); got != tt.want {
			t.Errorf("%s as %q:\ngot  %s\nwant %s", tt.topic, tt.mime, got, tt.want)
		}
	}
}

func TestEachReadingOfAPackCounts(t *testing.T) {
	e := engine(t, `
- {name: hot, from: "t/#", where: temp > 21, emit: {stream: out, topic: hot, fields: {temp: temp, unit: units.temp ?? "?", hum: hum ?? 0}}}
- {name: mean, from: "t/a", key: bn, time: {field: t, unit: s}, window: {tumbling: 10s}, aggregate: {n: count(), t: avg(temp)}, emit: {stream: out, topic: mean, fields: {key: key, n: n, t: t}}}
- {name: follows, from: {rule: hot}, emit: {stream: out, topic: n, fields: {n: counter(true)}}}
- {name: asis, from: "t/as/is", emit: {stream: out}}
`)
	give := func(offset uint64, topic, pack string) []string {
		ev := jsonEvent(offset, 30, topic, pack)
		ev.ContentType = "application/senml+json"
		return step(e, ev)
	}
	base, offset := fmt.Sprint(int(at(0)/1e9)), uint64(0)
	for _, tt := range []struct {
		topic, pack string
		want        []string
	}{
		{"t/a", `[{"bn":"d:","bt":` + base + `,"n":"temp","t":1,"u":"Cel","v":20},{"n":"temp","t":5,"v":22},{"n":"temp","t":9,"v":24}]`, []string{
			`1 hot {"temp":22,"unit":"?","hum":0}`, `1 n {"n":1}`, `1 hot {"temp":24,"unit":"?","hum":0}`, `1 n {"n":2}`}},
		{"t/a", `[{"bn":"d:","n":"temp","v":10},{"n":"temp","t":-18,"v":12}]`, []string{`2 mean {"key":"d:","n":3,"t":22}`, `2 mean {"key":"d:","n":1,"t":12}`}},
		{"t/as/is", `[{"n":"temp","t":-1,"v":1},{"n":"temp","v":2}]`, []string{
			`3 t/as/is [{"bt":-1,"n":"temp","v":1}]`, `3 t/as/is [{"bt":0,"n":"temp","v":2}]`}},
		{"t/a", `[{"n":"temp","v":1},{"n":"temp"}`, []string{
			`hot at rules.yaml:3:35: where: the payload is not a SenML pack: unexpected end of JSON input`,
			`mean at rules.yaml:4:3: time: the payload is not a SenML pack: unexpected end of JSON input`}},
	} {
		offset++
		if diff := cmp.Diff(tt.want, give(offset, tt.topic, tt.pack)); diff != "" {
			t.Errorf("%s: %s", tt.pack, diff)
		}
	}
}

func TestTextIsTakenForWhatTheRuleNeeds(t *testing.T) {
	s := mustSections(t, `
- {name: n, from: n/#, where: value > 3, emit: {stream: out, topic: n}}
- {name: t, from: t/#, where: value startsWith "4", emit: {stream: out, topic: t}}
- {name: b, from: b/#, where: value, emit: {stream: out, topic: b}}
`)
	set, err := Options{Codecs: []TopicCodec{{"#", codec.Text}}}.Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	e := set.Engine(EventsStream)
	for _, tt := range []struct{ topic, payload, want string }{
		{"n/1", "4.5\n", "n 4.5\n"}, {"n/1", "x", `failure: where: field "value" is text, not a number`}, {"n/1", "inf", `failure: where: field "value" is text, not a number`},
		{"t/1", "42", "t 42"}, {"b/1", "true", "b true"}, {"b/1", "ON", `failure: where: field "value" is text, not true or false`},
	} {
		if got := stepOne(e, event.Event{Offset: 1, Topic: tt.topic, Payload: []byte(tt.payload)}); got != tt.want {
			t.Errorf("%s %q: got %q, want %q", tt.topic, tt.payload, got, tt.want)
		}
	}
}
