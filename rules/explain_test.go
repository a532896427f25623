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
		x := set.Explain(EventsStream, ev)[0]
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
			outputs = append(outputs, x.Outputs...)
			if x.Err != nil {
				failed[x.Rule.Name] = x.Err.Error()
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
