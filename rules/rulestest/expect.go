package rulestest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
)

// expectation is a list of events that must have come out.
type expectation struct {
	section *config.Section
	items   []*expected
}

// expected says what must be so of an event.
type expected struct {
	section *config.Section
	set     expectSpec
	at      moment
}

type expectSpec struct {
	Stream  string          `config:"stream"`
	Topic   string          `config:"topic"`
	Rule    string          `config:"rule"`
	Key     string          `config:"key"`
	At      string          `config:"at"`
	QoS     uint8           `config:"qos,max=2"`
	Retain  bool            `config:"retain"`
	Fields  *config.Section `config:"fields"`
	Exact   bool            `config:"exact"`
	Data    *config.Section `config:"data"`
	Payload string          `config:"payload"`
	Dead    string          `config:"dead"`
	Error   string          `config:"error"`
}

func readExpectation(s *config.Section, errs *config.Errors) *expectation {
	e := &expectation{section: s}
	items := s.Items()
	switch s.Kind() {
	case config.Scalar:
		if s.Decode(&nothing{}) != nil {
			errs.Add(s.Errorf("", "expect takes a list of events, or nothing"))
		}
		return e
	case config.Null:
		errs.Add(s.Errorf("", "write expect: nothing if nothing comes out"))
		return e
	case config.Mapping:
		items = []*config.Section{s}
	}
	for _, item := range items {
		x := &expected{section: item}
		errs.Add(item.Decode(&x.set))
		e.items = append(e.items, x)
		if item.Kind() != config.Mapping {
			continue
		}
		switch {
		case len(item.Keys()) == 0:
			errs.Add(item.Errorf("", "say something about the event, such as its topic"))
		case item.Has("error") && !item.Has("dead"):
			errs.Add(item.Errorf("error", "error is that of an event on which a rule failed; name the rule with dead"))
		case item.Has("dead") && (item.Has("stream") || item.Has("rule")):
			errs.Add(item.Errorf("dead", "an event on which a rule failed has no stream and no rule but that; remove stream and rule"))
		case item.Has("data") && (item.Has("fields") || item.Has("payload")), item.Has("fields") && item.Has("payload"):
			errs.Add(item.Errorf("", "one of fields, data and payload is enough"))
		case item.Has("exact") && !item.Has("fields"):
			errs.Add(item.Errorf("exact", "exact is about fields; data is always exact"))
		case item.Has("at"):
			x.at = readMoment(item, x.set.At, errs)
		}
		if x.set.Fields != nil && x.set.Fields.Kind() != config.Mapping {
			errs.Add(x.set.Fields.Errorf("", "fields must be a mapping; use data for another payload"))
		}
	}
	return e
}

// nothing is the word for no events at all.
type nothing struct{}

// OneOf says to a schema what there is to write.
func (nothing) OneOf() []string { return []string{"nothing"} }

// UnmarshalText takes the word.
func (nothing) UnmarshalText(text []byte) error {
	if string(text) != "nothing" {
		return errors.New("not nothing")
	}
	return nil
}

// fact is something said about an event, next to what is so.
type fact struct {
	name      string
	want, got string // as YAML or JSON; "" where there is nothing
	same      bool
}

// facts compares an outcome with what is expected of it.
func (x *expected) facts(o *Outcome, start event.Time) []fact {
	var all []fact
	is := func(key, want, got string) {
		if x.section.Has(key) {
			all = append(all, fact{key, want, got, want == got})
		}
	}
	if x.section.Has("dead") || o.Err != "" {
		dead, reason := "", o.Err
		if o.Err != "" {
			dead = o.Rule
		}
		all = append(all, fact{"dead", x.set.Dead, dead, x.set.Dead == dead})
		switch {
		case x.section.Has("error"):
			all = append(all, fact{"error", x.set.Error, reason, reason != "" && strings.Contains(reason, x.set.Error)})
		case reason != "" && !x.section.Has("dead"):
			all = append(all, fact{"error", "", reason, false})
		}
	} else {
		is("rule", x.set.Rule, o.Rule)
	}
	is("stream", x.set.Stream, o.Stream)
	is("topic", x.set.Topic, o.Event.Topic)
	is("key", x.set.Key, o.Event.OrderingKey())
	if x.section.Has("at") {
		want := x.at.time(start, start)
		all = append(all, fact{"at", clock(want, start), clock(o.At, start), want == o.At})
	}
	is("qos", strconv.Itoa(int(x.set.QoS)), strconv.Itoa(int(o.Event.QoS)))
	is("retain", strconv.FormatBool(x.set.Retain), strconv.FormatBool(o.Event.Retain))
	is("payload", x.set.Payload, string(o.Event.Payload))
	switch {
	case x.set.Data != nil:
		all = append(all, compare("data", parse(x.set.Data.JSON()), parse(o.Event.Payload), true)...)
	case x.set.Fields != nil:
		got := parse(o.Event.Payload)
		if _, ok := got.(map[string]any); !ok {
			all = append(all, fact{"fields", show(parse(x.set.Fields.JSON())), show(got), false})
			break
		}
		all = append(all, compare("", parse(x.set.Fields.JSON()), got, x.set.Exact)...)
	}
	return all
}

// clock is a time as so long after the start.
func clock(t, start event.Time) string { return "+" + config.Duration(t-start).String() }

// raw is a payload that is not JSON.
type raw string

// parse reads JSON; what is none stays as it is.
func parse(b []byte) any {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil || d.More() {
		return raw(b)
	}
	return v
}

func show(v any) string {
	if text, ok := v.(raw); ok {
		return string(text)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

// compare compares values, mappings key by key. Unless they must be exact,
// mappings may have further keys, and null is what is not there.
func compare(name string, want, got any, exact bool) []fact {
	w, ok := want.(map[string]any)
	g, also := got.(map[string]any)
	if !ok || !also || len(w) == 0 {
		return []fact{{name, show(want), show(got), equal(want, got)}}
	}
	var all []fact
	keys := make([]string, 0, len(w)+len(g))
	for key := range w {
		keys = append(keys, key)
	}
	for key := range g {
		if _, said := w[key]; !said && exact {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		full := key
		if name != "" {
			full = name + "." + key
		}
		wv, said := w[key]
		gv, there := g[key]
		switch {
		case !said:
			all = append(all, fact{full, "", show(gv), false})
		case !there:
			all = append(all, fact{full, show(wv), "", wv == nil && !exact})
		default:
			all = append(all, compare(full, wv, gv, exact)...)
		}
	}
	return all
}

func equal(a, b any) bool {
	switch x := a.(type) {
	case json.Number:
		y, ok := b.(json.Number)
		return ok && (x == y || near(x, y))
	case []any:
		y, ok := b.([]any)
		return ok && slices.EqualFunc(x, y, equal)
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for key, v := range x {
			if w, there := y[key]; !there || !equal(v, w) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(a, b)
}

// near reports whether two numbers differ by less than a billionth. What is
// calculated in binary is hardly ever what one writes in decimals.
func near(a, b json.Number) bool {
	x, err1 := a.Float64()
	y, err2 := b.Float64()
	return err1 == nil && err2 == nil && math.Abs(x-y) <= 1e-9*max(math.Abs(x), math.Abs(y))
}

// offset is a clock as it would be written in a test, to the millisecond.
func offset(t, start event.Time) string {
	return clock(event.Time(time.Duration(t-start).Round(time.Millisecond))+start, start)
}
