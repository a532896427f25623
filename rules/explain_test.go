package rules

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
)

func explainSet(t *testing.T, text string) *Set {
	t.Helper()
	file, err := config.LoadBytes("rules.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	set, err := Compile(Sections(file))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// outline writes values as one line each.
func outline(values []Value, depth int) string {
	var b strings.Builder
	for _, v := range values {
		fmt.Fprintf(&b, "%s%s = %s\n", strings.Repeat(" ", depth), v.Text, v.Show())
		b.WriteString(outline(v.Parts, depth+1))
	}
	return b.String()
}

func TestAnExplanationShowsEachPartAndWhatIsNotReached(t *testing.T) {
	for where, want := range map[string]string{
		`a > 1 && b > 1`:                   `a > 1 && b > 1 = false ;  a > 1 = false ;   a = 1 ;  b > 1 = not reached ;   b = not reached`,
		`a == 1 || b > 1`:                  `a == 1 || b > 1 = true ;  a == 1 = true ;   a = 1 ;  b > 1 = not reached ;   b = not reached`,
		`(missing ?? 7) > 5`:               `(missing ?? 7) > 5 = true ;  missing ?? 7 = 7 ;   missing = nil`,
		`missing == nil`:                   `missing == nil = true ;  missing = nil`,
		`upper(unit) in ["C", "F"]`:        `upper(unit) in ["C", "F"] = true ;  upper(unit) = "C" ;   unit = "c"`,
		`unit matches "^[cf]$"`:            `unit matches "^[cf]$" = true ;  unit = "c"`,
		`len(list) > 2`:                    `len(list) > 2 = true ;  len(list) = 3 ;   list = [1,2,3]`,
		`all(list, # > 0)`:                 `all(list, # > 0) = true ;  list = [1,2,3]`,
		`nested.deep > 2 ? a > 0 : b`:      `nested.deep > 2 ? a > 0 : b = true ;  nested.deep > 2 = true ;   nested.deep = 3 ;  a > 0 = true ;   a = 1 ;  b = not reached`,
		`level(1) == "x" && topic != ""`:   `level(1) == "x" && topic != "" = true ;  level(1) == "x" = true ;   level(1) = "x" ;  topic != "" = true ;   topic = "p/x"`,
		`field("odd name") == 4`:           `field("odd name") == 4 = true ;  field("odd name") = 4`,
		`let x = a * 2; x > 1`:             ``,
		`received - time < duration("1s")`: `received - time < duration("1s") = true ;  received - time = 0s ;   received = 2026-01-01T00:00:00Z ;   time = 2026-01-01T00:00:00Z ;  duration("1s") = 1s`,
		`!(a > 3)`:                         `!(a > 3) = true ;  a > 3 = false ;   a = 1`,
		`int(a) % 2 == 1`:                  `int(a) % 2 == 1 = true ;  int(a) % 2 = 1 ;   int(a) = 1 ;    a = 1`,
	} {
		set := explainSet(t, "{name: r, from: p/+, where: '"+strings.ReplaceAll(where, "'", "''")+"', emit: {stream: s}}")
		ev := event.Event{Topic: "p/x", Received: 1767225600e9,
			Payload: []byte(`{"a": 1, "unit": "c", "list": [1, 2, 3], "nested": {"deep": 3}, "odd name": 4}`)}
		x := set.Explain(EventsStream, ev)[0].Evaluations[0]
		got := strings.ReplaceAll(strings.TrimSpace(outline(x.Expressions, 0)), "\n", " ; ")
		if got != want {
			t.Errorf("%s:\ngot  %s\nwant %s (%v)", where, got, want, x.Err)
		}
	}
}

func TestAnExplainedEventComesToWhatTheEngineMakesOfIt(t *testing.T) {
	set := explainSet(t, historyRules)
	for _, payload := range []string{
		`{"device": "d", "temp": 60, "ts": 1767225600000}`, `{"device": "d", "temp": 20, "ts": 1767225600000}`,
		`{"device": 3, "temp": "x"}`, `{"temp":`, `7`,
	} {
		ev := event.Event{Offset: 1, Topic: "plant/a/temp", Received: 1767225600e9, Payload: []byte(payload)}
		var want Result
		set.Engine(EventsStream).Step([]event.Event{ev}, &want)
		var outputs []Output
		failed := map[string]string{}
		for _, x := range set.Explain(EventsStream, ev) {
			for _, e := range x.Evaluations {
				if !e.Later {
					outputs = append(outputs, e.Outputs...)
				}
				if e.Err != nil {
					failed[x.Rule.Name] = e.Err.Error()
				}
			}
			if !x.Selected {
				t.Errorf("%s is not selected", x.Rule.Name)
			}
		}
		if diff := cmp.Diff(want.Outputs, outputs, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: (-engine +explained)\n%s", payload, diff)
		}
		for _, f := range want.Failures {
			if failed[f.Rule] != f.Err.Error() {
				t.Errorf("%s: %s: got %q, want %q", payload, f.Rule, failed[f.Rule], f.Err)
			}
		}
	}
}

func TestEachReadingOfAPackIsExplained(t *testing.T) {
	set := explainSet(t, `
- {name: hot, from: p/+, where: t > 80, emit: {stream: s, topic: "hot/{topic}", fields: {t: t, was: prev(t) ?? -1}}}
- {name: again, from: {rule: hot}, where: t > 90, emit: {stream: s}}
- {name: odd, from: p/+, where: missing > 1, emit: {stream: s}}
- {name: span, from: p/+, key: kind, window: {tumbling: 10s}, aggregate: {n: count(), hi: max(t)}, having: n > 1, emit: {stream: s, topic: "span/{key}"}}
- {name: lasts, from: p/+, where: t > 0, for: 1s, emit: {stream: s}}
`)
	ev := event.Event{Topic: "p/x", Received: 1767225600e9, ContentType: "application/senml+json", Payload: []byte(`[
		{"bt": 1767225500, "n": "t", "v": 85}, {"n": "kind", "vs": "a"},
		{"n": "t", "v": 70, "t": 1}, {"n": "kind", "vs": "b", "t": 1},
		{"n": "t", "v": 95, "t": 2}, {"n": "kind", "vs": "a", "t": 2}]`)}
	var got strings.Builder
	for _, x := range set.Explain(EventsStream, ev) {
		fmt.Fprintf(&got, "%s\n", x.Rule.Name)
		for _, e := range x.Evaluations {
			fmt.Fprintf(&got, " %d %v", e.Reading, e.Later)
			if e.Pane != nil {
				fmt.Fprintf(&got, " window %s", e.Pane.Key)
			}
			for _, v := range e.Expressions {
				fmt.Fprintf(&got, "; %s = %s", v.What, v.Show())
			}
			for _, o := range e.Outputs {
				fmt.Fprintf(&got, " => %s", o.Event.Payload)
			}
			if e.Err != nil {
				fmt.Fprintf(&got, " => %v", e.Err)
			}
			got.WriteString("\n")
		}
	}
	if diff := cmp.Diff(packExplained, got.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

const packExplained = `hot
 1 false; prev = 85; where = true; emit.fields.t = 85; emit.fields.was = -1 => {"t":85,"was":-1}
 2 false; where = false
 3 false; prev = 95; where = true; emit.fields.t = 95; emit.fields.was = 85 => {"t":95,"was":85}
again
 1 false; where = false
 3 false; where = true => {"t":95,"was":85}
odd
 1 false; where = not reached => where: field "missing" is missing
 2 false; where = not reached => where: field "missing" is missing
 3 false; where = not reached => where: field "missing" is missing
span
 1 false; key = "a"; aggregate.hi = 85
 2 false; key = "b"; aggregate.hi = 70
 3 false; key = "a"; aggregate.hi = 95
 0 true window a; having = true => {"n":2,"hi":95,"key":"a","start":"2026-01-01T00:00:00Z","end":"2026-01-01T00:00:10Z"}
 0 true window b; having = false
lasts
 1 false; where = true
 2 false; where = true
 3 false; where = true
 0 true => [{"bt":1767225502,"n":"t","v":95},{"n":"kind","vs":"a"}]
`
