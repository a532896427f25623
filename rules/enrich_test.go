package rules

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
)

// mustSections returns the sections of a list of rules in YAML.
func mustSections(t testing.TB, yaml string) []*config.Section {
	t.Helper()
	s, err := config.LoadBytes("rules.yaml", []byte("rules:\n"+yaml))
	if err != nil {
		t.Fatal(err)
	}
	return s.Child("rules").Items()
}

func TestAPayloadIsChangedOnItsWay(t *testing.T) {
	for _, tt := range []struct{ rule, payload, want string }{
		{`set: {f: t * 9 / 5 + 32}`, `{"t": 20.0, "u":"C"}`, `{"t":20.0,"u":"C","f":68}`},
		{`set: {t: t + 1}`, `{"t":1,"u":2}`, `{"u":2,"t":2}`},
		{`set: {a: t + 1, b: a * 2}, where: b > 3`, `{"t":1}`, `{"t":1,"a":2,"b":4}`},
		{`set: {copy: big}`, `{"big":12345678901234567890}`, `{"big":12345678901234567890,"copy":12345678901234567890}`},
		{`drop: [x, "a b"]`, `{"x":{"y":1},"k":[1, 2],"a b":3}`, `{"k":[1,2]}`},
		{`rename: {t: temperature, u: t}`, `{"t":1,"u":"C","v":2}`, `{"temperature":1,"t":"C","v":2}`},
		{`rename: {t: u}`, `{"t":1,"u":"C"}`, `{"u":1}`},
		{`set: {f: value * 2}`, `20`, `{"value":20,"f":40}`},
		{`set: {f: value * 2}, rename: {value: c}`, ` 20 `, `{"c":20,"f":40}`},
		{`drop: [q]`, `{}`, `{}`},
		{`set: {f: t}`, `{"x":1}`, `failure: set.f: field "t" is missing`},
		{`drop: [q]`, `{`, `failure: the payload is not JSON`},
	} {
		e := engine(t, "- {name: r, from: '#', "+tt.rule+", emit: {stream: out, topic: o}}\n")
		got := strings.TrimPrefix(stepOne(e, event.Event{Offset: 1, Topic: "t", Payload: []byte(tt.payload)}), "o ")
		if got != tt.want {
			t.Errorf("%s on %s:\ngot  %s\nwant %s", tt.rule, tt.payload, got, tt.want)
		}
	}
}

func TestValuesOfSetAreThereForWindows(t *testing.T) {
	e := engine(t, "- {name: r, from: 't/{line}', set: {c: 'convert(f, \"degF\", \"degC\")'}, key: line, window: {tumbling: 10s}, aggregate: {m: avg(c)}, emit: {stream: out, topic: o}}\n")
	var res Result
	for i, f := range []string{"68", "50"} {
		e.Step([]event.Event{{Offset: uint64(i + 1), Topic: "t/1", Received: at(1), Payload: []byte(`{"f":` + f + `}`)}}, &res)
	}
	e.Tick(at(10), &res)
	if got := lines(res.Outputs); len(got) != 1 || !strings.HasPrefix(got[0], `2 o {"m":15,"key":"1",`) {
		t.Errorf("%v, %v", got, res.Failures)
	}
}

func TestUnitsAreConverted(t *testing.T) {
	for _, tt := range []struct {
		x, want  float64
		from, to string
	}{
		{68, 20, "degF", "degC"}, {-40, -40, "degC", "degF"}, {0, 273.15, "Cel", "K"}, {300, 26.85, "K", "°C"},
		{1013.25, 1, "hPa", "atm"}, {1, 1000, "bar", "mbar"}, {36, 10, "km/h", "m/s"}, {1, 25.4, "in", "mm"}, {2.5, 2500, "kWh", "Wh"},
		{90, 1.5, "s", "min"}, {1500, 25, "rpm", "Hz"}, {42, 0.42, "%", "/"}, {60, 0.001, "l/min", "m3/s"}, {7, 7, "kg", "kg"},
	} {
		got := convert(tt.x, unitsOf[tt.from], unitsOf[tt.to])
		if diff := got - tt.want; diff > 1e-12 || diff < -1e-12 {
			t.Errorf("%v %s is %v %s, want %v", tt.x, tt.from, got, tt.to, tt.want)
		}
	}
	for name, u := range unitsOf {
		if u.num <= 0 || u.den <= 0 || u.dimension == "" {
			t.Errorf("%s is %+v", name, u)
		}
	}
}

const machines = "id,limit,site,critical\nm1,80,north,true\n m2 ,95.5,south,false\nm3,,\"a, b\",\n"

func table(t testing.TB, name, file, content string) *Table {
	t.Helper()
	tab, err := ParseTable(name, file, "id", []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func TestRowsOfATableAreLookedUp(t *testing.T) {
	for file, content := range map[string]string{
		"m.csv":  machines,
		"m.yaml": "[{id: m1, limit: 80, site: north, critical: true}, {id: m2, limit: 95.5, site: south, critical: false}, {id: m3, site: 'a, b'}]",
		"n.yaml": "m1: {limit: 80, site: north, critical: true}\nm2: {limit: 95.5, site: south, critical: false}\nm3: {site: 'a, b'}\n",
	} {
		t.Run(file, func(t *testing.T) {
			s := mustSections(t, `
- {name: r, from: "t/{id}", where: 'temp > (lookup("machines", id, "limit") ?? 50)', emit: {stream: out, topic: o, fields: {s: 'lookup("machines", id, "site")', c: 'lookup("machines", id, "critical") ?? false'}}}
`)
			set, err := Options{Tables: []*Table{table(t, "machines", file, content)}}.Compile(s)
			if err != nil {
				t.Fatal(err)
			}
			e := set.Engine(EventsStream)
			for id, want := range map[string]string{
				"m1": `o {"s":"north","c":true}`, "m2": "", "m3": `o {"s":"a, b","c":false}`, "m4": `failure: emit.fields.s: the table "machines" has no site of "m4"`,
			} {
				if got := stepOne(e, event.Event{Offset: 1, Topic: "t/" + id, Payload: []byte(`{"temp":90}`)}); got != want {
					t.Errorf("%s: got %s, want %s", id, got, want)
				}
			}
			newer := table(t, "machines", file, strings.Replace(content, "95.5", "70", 1))
			if !e.SetTable(newer) || e.SetTable(newer) {
				t.Error("a new version is not told from the same one")
			}
			if got := stepOne(e, event.Event{Offset: 2, Topic: "t/m2", Payload: []byte(`{"temp":90}`)}); got != `o {"s":"south","c":false}` {
				t.Errorf("with the new version: %s", got)
			}
			report, err := set.Engine(EventsStream).Restore(bytes.NewReader(snapshot(t, e)))
			if err != nil || report.Tables["machines"] != newer.Version {
				t.Errorf("the snapshot names the version %v, %v", report.Tables, err)
			}
		})
	}
}

func TestTablesWithMistakesAreRefused(t *testing.T) {
	for file, tt := range map[string]struct{ content, want string }{
		"a.csv":  {"", "the file is empty"},
		"b.csv":  {"name,limit\na,1\n", `there is no column "id"; there are name, limit`},
		"c.csv":  {"id,limit\na,1\na,2\n", `line 3: the key "a" is there twice`},
		"d.csv":  {"id,limit\na,1,2\n", "wrong number of fields"},
		"e.csv":  {"id,limit\n,1\n", "line 2 has no key"},
		"f.yaml": {"- 3\n", "item 1 is not a mapping"},
		"g.yaml": {"- {limit: 3}\n", "item 1 has no id that could be a key"},
		"h.yaml": {"- {id: 1, x: [2]}\n", `x of "1" is neither a number nor text nor true or false`},
		"i.yaml": {"a: b: c\n", ""},
		"j.yaml": {"3\n", "neither a list of mappings nor a mapping of them"},
	} {
		_, err := ParseTable("t", file, "id", []byte(tt.content))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", file, err, tt.want)
		}
	}
}

func FuzzTable(f *testing.F) {
	f.Add("t.csv", machines)
	f.Add("t.yaml", "[{id: m1, limit: 80}]")
	f.Add("t.yaml", "m1: {limit: 80, x: true}")
	f.Fuzz(func(t *testing.T, file, content string) {
		a, err := ParseTable("t", file, "id", []byte(content))
		if err != nil {
			return
		}
		b, _ := ParseTable("t", file, "id", []byte(content))
		if a.Version != b.Version || !cmp.Equal(a.Columns(), b.Columns()) || a.Len() != b.Len() {
			t.Error("the second reading differs")
		}
	})
}

func TestTheLastValueOfAnotherTopicIsKnown(t *testing.T) {
	e := engine(t, `
- {name: r, from: "plant/{line}/temp", where: 't > latest("plant/{line}/ambient", "deg.c") + 10', emit: {stream: out, topic: o, fields: {m: 'latest("mode") ?? "none"'}}}
`)
	step := func(offset uint64, topic, payload string) string {
		return stepOne(e, event.Event{Offset: offset, Topic: topic, Payload: []byte(payload)})
	}
	if got := step(1, "plant/1/temp", `{"t":30}`); got != `failure: where: there has been no value of latest("plant/{line}/ambient") yet; say what to take instead with ??` {
		t.Error(got)
	}
	step(2, "plant/1/ambient", `{"deg":{"c":15}}`)
	step(3, "plant/2/ambient", `{"deg":{"c":25}}`)
	step(4, "plant/1/ambient", `{"deg":{}}`) // leaves what is known
	if got := step(5, "plant/1/temp", `{"t":30}`); got != `o {"m":"none"}` {
		t.Error(got)
	}
	step(6, "mode", `"night"`)
	e = restart(t, mustCompile(t, `
- {name: r, from: "plant/{line}/temp", where: 't > latest("plant/{line}/ambient", "deg.c") + 10', emit: {stream: out, topic: o, fields: {m: 'latest("mode") ?? "none"'}}}
`), e)
	if got := step(7, "plant/2/temp", `{"t":30}`); got != "" {
		t.Error(got)
	}
	if got := step(8, "plant/1/temp", `{"t":30}`); got != `o {"m":"night"}` {
		t.Error(got)
	}
}
