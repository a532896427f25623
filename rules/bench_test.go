package rules

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"holdfast/gateway/event"
)

// payload120 is a reading as a typical device sends it.
const payload120 = `{"device":"press-17","temperature":71.25,"unit":"C","humidity":43.1,"seq":184467,"ts":1717243200123,"status":"ok","v":3}`

// BenchmarkNoMatch is an event whose topic no rule selects.
func BenchmarkNoMatch(b *testing.B) {
	e := engine(b, `
- name: hot
  from: other/+/temp
  where: temperature > 80
  emit: {stream: alerts}
`)
	run(b, e, events(512, "plant/7/temp", payload120))
}

// BenchmarkFilter is one rule on JSON of 120 bytes.
func BenchmarkFilter(b *testing.B) {
	for _, kind := range []struct{ name, where, emit string }{
		{"no", `temperature > 80 && unit == "C"`, `{stream: alerts, topic: alerts/hot}`},
		{"pass", `temperature > 70 && unit == "C"`, `{stream: alerts, topic: alerts/hot}`},
		{"fields", `temperature > 70 && unit == "C"`, `{stream: alerts, topic: "alerts/{topic}", fields: {temp: temperature, f: temperature * 9 / 5 + 32, device: device}}`},
		{"missing", `pressure > 70 && unit == "C"`, `{stream: alerts, topic: alerts/hot}`},
	} {
		b.Run(kind.name, func(b *testing.B) {
			e := engine(b, fmt.Sprintf("- {name: hot, from: plant/+/temp, where: '%s', emit: %s}\n", kind.where, kind.emit))
			run(b, e, events(512, "plant/7/temp", payload120))
		})
	}
}

// BenchmarkFilters100 is a hundred rules on one stream of events.
func BenchmarkFilters100(b *testing.B) {
	var y strings.Builder
	for i := range 100 {
		fmt.Fprintf(&y, "- name: r%d\n  from: plant/+/temp\n  where: temperature > %d && unit == \"C\"\n  emit: {stream: alerts, topic: a}\n", i, 80+i)
	}
	run(b, engine(b, y.String()), events(512, "plant/7/temp", payload120))
}

// BenchmarkTopics1000 is a thousand rules, of which each event concerns one by
// its topic, beside three rules that share the same events, and three of which
// each reads them all.
func BenchmarkTopics1000(b *testing.B) {
	for _, rules := range []int{3, -3, 1000} {
		name, from := fmt.Sprintf("rules=%d", rules), "%d"
		if rules < 0 {
			rules = -rules
			name, from = fmt.Sprintf("rules=%d/each-reads-all", rules), "+"
		}
		b.Run(name, func(b *testing.B) {
			var y strings.Builder
			for i := range rules {
				from := strings.ReplaceAll(from, "%d", strconv.Itoa(i))
				fmt.Fprintf(&y, "- {name: r%d, from: plant/%s/+/temp, where: 'temperature > %d && unit == \"C\"', emit: {stream: alerts, topic: a}}\n", i, from, 80+i)
			}
			evs := events(1000, "", payload120)
			for i := range evs {
				evs[i].Topic = fmt.Sprintf("plant/%d/%d/temp", i%rules, i)
			}
			run(b, engine(b, y.String()), evs)
		})
	}
	// More topics than the engine remembers: the index is asked each time.
	b.Run("topics=100000", func(b *testing.B) {
		var y strings.Builder
		for i := range 1000 {
			fmt.Fprintf(&y, "- {name: r%d, from: plant/+/%d, where: temperature > 80, emit: {stream: alerts, topic: a}}\n", i, i)
		}
		evs := events(100000, "", payload120)
		for i := range evs {
			evs[i].Topic = fmt.Sprintf("plant/%d/%d", i, i%1000)
		}
		run(b, engine(b, y.String()), evs)
	})
}

// BenchmarkFunctions is one rule whose condition remembers, for so many keys.
func BenchmarkFunctions(b *testing.B) {
	for _, tt := range []struct{ name, rule string }{
		{"rising", `where: rising(temperature > 80), emit: {stream: alerts}`},
		{"five", `where: 'rising(temperature > 80) || hysteresis(temperature, 90, 80) || change(humidity) > 5 || throttle(temperature > 90, "10s") || debounce(unit, "1s") == "F"', emit: {stream: alerts}`},
		{"for", `where: temperature > 80, for: 10s, emit: {stream: alerts}`},
		{"set", `set: {f: temperature * 9 / 5 + 32}, drop: [status], where: f > 200, emit: {stream: alerts}`},
		{"lookup", `where: 'temperature > (lookup("machines", line, "limit") ?? 80)', emit: {stream: alerts}`},
	} {
		b.Run(tt.name, func(b *testing.B) {
			t := table(b, "machines", "m.csv", machines)
			set, err := Options{Tables: []*Table{t}}.Compile(mustSections(b, "- {name: r, from: 'plant/{line}/temp', "+tt.rule+"}\n"))
			if err != nil {
				b.Fatal(err)
			}
			evs := events(1000, "", payload120)
			for i := range evs {
				evs[i].Topic = fmt.Sprintf("plant/%d/temp", i)
			}
			run(b, set.Engine(EventsStream), evs)
		})
	}
}

// BenchmarkCascade is an event that passes three rules.
func BenchmarkCascade(b *testing.B) {
	run(b, engine(b, `
- {name: a, from: plant/+/temp, where: temperature > 70, emit: {stream: one, topic: a}}
- {name: b, from: {rule: a}, where: temperature > 71, emit: {stream: two, topic: b, fields: {t: temperature}}}
- {name: c, from: {stream: two}, emit: {stream: three, topic: c}}
`), events(512, "plant/7/temp", payload120))
}

// BenchmarkWindow is five aggregates for each of so many keys.
func BenchmarkWindow(b *testing.B) {
	for _, keys := range []int{10, 10000} {
		for _, aggs := range []string{
			"{n: count(), t: avg(temperature), lo: min(temperature), hi: max(temperature), s: sum(humidity)}",
			"{n: count(), t: avg(temperature), p: p95(temperature), hi: max(temperature), u: last(unit)}",
		} {
			b.Run(fmt.Sprintf("keys=%d/%s", keys, strings.Fields(aggs)[4]), func(b *testing.B) {
				e := engine(b, `
- name: w
  from: plant/#
  key: device
  window: {tumbling: 10s}
  aggregate: `+aggs+`
  emit: {stream: minutes, topic: "agg/{key}"}
`)
				evs := events(20000, "plant/7/temp", payload120)
				for i := range evs {
					evs[i].Payload = []byte(strings.Replace(payload120, "press-17", fmt.Sprintf("press-%d", i%keys), 1))
				}
				run(b, e, evs)
			})
		}
	}
}

func events(n int, topic, payload string) []event.Event {
	all := make([]event.Event, n)
	for i := range all {
		all[i] = event.Event{Topic: topic, Payload: []byte(payload), Client: "c", Source: "mqtt"}
	}
	return all
}

// run steps over the events again and again, 10 µs apart.
func run(b *testing.B, e *Engine, evs []event.Event) {
	b.ReportAllocs()
	b.ResetTimer()
	var res Result
	offset := uint64(0)
	for n := 0; n < b.N; {
		batch := evs[:min(len(evs), 512, b.N-n)]
		at := n % len(evs)
		if at+len(batch) > len(evs) {
			batch = evs[at:]
		} else {
			batch = evs[at : at+len(batch)]
		}
		for i := range batch {
			offset++
			batch[i].Offset, batch[i].Received = offset, event.Time(1717243200e9+offset*1e4)
		}
		res.Reset()
		e.Step(batch, &res)
		n += len(batch)
	}
	b.ReportMetric(float64(len(res.Failures)), "failures")
}

// What the design promises for the cost of one event, in allocations, which do
// not depend on the machine.
func TestAnEventCostsFewAllocations(t *testing.T) {
	for name, tt := range map[string]struct {
		topic string
		most  float64
		yaml  string
	}{
		"no rule":          {"other", 0, "- {name: a, from: plant/#, where: temperature > 80, emit: {stream: s}}\n"},
		"does not pass":    {"plant/1", 2, "- {name: a, from: plant/#, where: 'temperature > 80 && unit == \"C\"', emit: {stream: s}}\n"},
		"passes, unparsed": {"plant/1", 1, "- {name: a, from: plant/#, emit: {stream: s}}\n"},
		"window":           {"plant/1", 5, "- {name: a, from: plant/#, key: device, window: {tumbling: 10s}, aggregate: {n: count(), t: avg(temperature), h: max(humidity)}, emit: {stream: s, topic: t}}\n"},
	} {
		e, evs, res := engine(t, tt.yaml), events(1, tt.topic, payload120), Result{}
		got := testing.AllocsPerRun(1000, func() {
			res.Reset()
			evs[0].Offset++
			e.Step(evs, &res)
		})
		if got > tt.most {
			t.Errorf("%s: %v allocations, at most %v are promised", name, got, tt.most)
		}
		if len(res.Failures) > 0 {
			t.Error(res.Failures)
		}
	}
}

// BenchmarkCompile is a set of a hundred rules and its engine.
func BenchmarkCompile(b *testing.B) {
	var y strings.Builder
	for i := range 100 {
		fmt.Fprintf(&y, "- name: r%d\n  from: plant/+/temp\n  where: temperature > %d && unit == \"C\"\n  emit: {stream: alerts, topic: a}\n", i, 80+i)
	}
	for b.Loop() {
		engine(b, y.String())
	}
}

// BenchmarkSnapshot writes and reads the state of 10,000 keys.
func BenchmarkSnapshot(b *testing.B) {
	set := mustCompile(b, `
- name: w
  from: plant/#
  key: device
  window: {tumbling: 10s}
  aggregate: {n: count(), t: avg(temperature), p: p95(temperature), hi: max(temperature), u: last(unit)}
  emit: {stream: minutes, topic: "agg/{key}"}
`)
	e := set.Engine(EventsStream)
	evs := events(10000, "plant/7/temp", "")
	for i := range evs {
		evs[i].Payload = []byte(strings.Replace(payload120, "press-17", fmt.Sprintf("press-%d", i), 1))
	}
	e.Step(evs, &Result{})
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			b.SetBytes(int64(len(snapshot(b, e))))
		}
	})
	b.Run("restart", func(b *testing.B) {
		for b.Loop() {
			restart(b, set, e)
		}
	})
}

// BenchmarkBatch is what an event costs that comes alone, between two looks at
// when time alone does something: what a gateway with little to do is busy with.
// One rule of so many reads it.
func BenchmarkBatch(b *testing.B) {
	for _, kind := range []struct{ name, rest string }{
		{"filter", `where: temperature > 80, emit: {stream: alerts}`},
		{"window", `window: {tumbling: 1d}, aggregate: {n: count(), t: avg(temperature)}, emit: {stream: minutes, topic: m}`},
		{"for", `where: temperature > 70, for: 1d, emit: {stream: alerts}`},
		{"timer", ``},
	} {
		for _, rules := range []int{3, 1000} {
			b.Run(fmt.Sprintf("%s/rules=%d", kind.name, rules), func(b *testing.B) {
				var y strings.Builder
				for i := range rules {
					rest := kind.rest
					if rest == "" { // most rules are timers, one reads the events
						fmt.Fprintf(&y, "- {name: t%d, from: {cron: '%d %d * * *'}, emit: {stream: s, topic: t}}\n", i, i%60, i/60)
						rest = `where: rising(temperature > 80), emit: {stream: alerts}`
						if i > 0 {
							continue
						}
					}
					fmt.Fprintf(&y, "- {name: r%d, from: plant/%d/temp, %s}\n", i, i, rest)
				}
				e, evs := engine(b, y.String()), events(rules, "", payload120)
				if kind.rest == "" {
					evs = evs[:1]
				}
				for i := range evs {
					evs[i].Topic = fmt.Sprintf("plant/%d/temp", i)
				}
				var res Result
				b.ReportAllocs()
				n := 0
				for b.Loop() {
					ev := evs[n%len(evs):][:1]
					n++
					ev[0].Offset, ev[0].Received = uint64(n), 1717243200e9+event.Time(n)*1e3
					now := Input{Now: ev[0].Received}
					res.Reset()
					e.Step(ev, &res)
					e.Due(now)
					e.Due(now)
				}
			})
		}
	}
}
