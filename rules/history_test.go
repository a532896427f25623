package rules

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
)

const historyRules = `
- name: hot
  from: plant/+/temp
  where: temp > 50
  emit: {stream: alerts, topic: "alerts/{key}", fields: {t: temp, dev: device}}
  key: device
- name: rt
  from: plant/#
  key: device
  window: {tumbling: 10s, grace: 2s, max_keys: 3}
  aggregate: {n: count(), s: sum(temp), lo: min(temp), hi: max(temp), a: first(temp), z: last(temp)}
  having: n > 1
  emit: {stream: minutes, topic: "agg/{key}"}
- name: et
  from: [plant/#, other]
  where: temp > -20
  time: {field: ts, unit: ms}
  window: {tumbling: 5s, grace: 3s, idle: 4s}
  aggregate: {n: count(), m: avg(temp)}
  emit: {stream: minutes, topic: all, fields: {mean: m, from: start}}
`

// reading is an event in the words of the reference.
type reading struct {
	offset   uint64
	topic    string
	received event.Time
	device   string
	temp     int
	ts       event.Time
	broken   bool // has no fields at all
}

func (r reading) event() event.Event {
	payload := fmt.Sprintf(`{"device":%q,"temp":%d,"ts":%d}`, r.device, r.temp, r.ts/1e6)
	if r.broken {
		payload = `{"temp":`
	}
	return event.Event{Epoch: 3, Offset: r.offset, Topic: r.topic, Received: r.received, Payload: []byte(payload)}
}

// slow is what the rules above mean, written down without any cleverness:
// lists of readings that are searched from end to end.
type slow struct {
	outputs  []string
	failures int
	late     int
	offset   uint64

	rt, et             []reading
	rtNewest, etNewest event.Time
	etLast, etMark     event.Time
}

func (s *slow) step(r reading) {
	s.offset = r.offset
	plant := strings.HasPrefix(r.topic, "plant/")
	if strings.HasPrefix(r.topic, "plant/") && strings.HasSuffix(r.topic, "/temp") {
		switch {
		case r.broken:
			s.failures++
		case r.temp > 50:
			s.emit("alerts/%s {\"t\":%d,\"dev\":%q}", r.device, r.temp, r.device)
		}
	}
	if plant {
		if r.broken {
			s.failures++
		} else {
			s.stepRT(r)
		}
	}
	if plant || r.topic == "other" {
		switch {
		case r.broken:
			s.failures++
		case r.temp > -20:
			s.stepET(r)
		}
	}
}

func (s *slow) emit(format string, args ...any) {
	s.outputs = append(s.outputs, fmt.Sprintf("%d ", s.offset)+fmt.Sprintf(format, args...))
}

func end(t, size event.Time) event.Time { return t/size*size + size }

func (s *slow) stepRT(r reading) {
	if r.received < s.rtNewest-1e9 {
		s.closeRT(1 << 62)
		s.rtNewest = r.received
	}
	r.received = max(r.received, s.rtNewest)
	s.rtNewest = r.received
	s.closeRT(s.rtNewest - 2e9)
	devices := map[string]bool{r.device: true}
	for _, o := range s.rt {
		devices[o.device] = true
	}
	if len(devices) > 3 {
		s.failures++
		return
	}
	s.rt = append(s.rt, r)
}

func (s *slow) closeRT(mark event.Time) {
	var ends []event.Time
	for _, r := range s.rt {
		if e := end(r.received, 10e9); e <= mark && !slices.Contains(ends, e) {
			ends = append(ends, e)
		}
	}
	slices.Sort(ends)
	for _, e := range ends {
		for _, device := range []string{"a", "b", "c", "d", "e"} {
			var n, sum, lo, hi, first, last int
			for _, r := range s.rt {
				if end(r.received, 10e9) != e || r.device != device {
					continue
				}
				if n == 0 {
					lo, hi, first = r.temp, r.temp, r.temp
				}
				n, sum, lo, hi, last = n+1, sum+r.temp, min(lo, r.temp), max(hi, r.temp), r.temp
			}
			if n > 1 {
				s.emit(`agg/%s {"n":%d,"s":%d,"lo":%d,"hi":%d,"a":%d,"z":%d,"key":%q,"start":"%v","end":"%v"}`,
					device, n, sum, lo, hi, first, last, device, e-10e9, e)
			}
		}
	}
	s.rt = slices.DeleteFunc(s.rt, func(r reading) bool { return end(r.received, 10e9) <= mark })
}

func (s *slow) stepET(r reading) {
	s.etNewest, s.etLast = max(s.etNewest, r.ts), r.received
	s.closeET(s.etNewest - 3e9)
	if end(r.ts, 5e9) <= s.etMark {
		s.late++
		return
	}
	s.et = append(s.et, r)
}

func (s *slow) closeET(mark event.Time) {
	s.etMark = max(s.etMark, mark)
	for {
		var oldest event.Time
		for _, r := range s.et {
			if e := end(r.ts, 5e9); e <= s.etMark && (oldest == 0 || e < oldest) {
				oldest = e
			}
		}
		if oldest == 0 {
			return
		}
		n, sum := 0, 0
		for _, r := range s.et {
			if end(r.ts, 5e9) == oldest {
				n, sum = n+1, sum+r.temp
			}
		}
		s.emit(`all {"mean":%v,"from":"%v"}`, float64(sum)/float64(n), oldest-5e9)
		s.et = slices.DeleteFunc(s.et, func(r reading) bool { return end(r.ts, 5e9) == oldest })
	}
}

func (s *slow) tick(now event.Time) {
	if len(s.rt) > 0 {
		if now < s.rtNewest-1e9 {
			s.closeRT(1 << 62)
			s.rtNewest = now
		} else if slices.ContainsFunc(s.rt, func(r reading) bool { return end(r.received, 10e9) <= now-2e9 }) {
			s.rtNewest = max(s.rtNewest, now)
			s.closeRT(now - 2e9)
		}
	}
	if len(s.et) > 0 {
		silence := now - s.etLast
		mark := s.etNewest - 3e9 + silence
		if silence < -1e9 {
			s.etLast = now
		} else if silence >= 4e9 && slices.ContainsFunc(s.et, func(r reading) bool { return end(r.ts, 5e9) <= mark }) {
			s.closeET(mark)
		}
	}
}

// entry is a part of the log of a run: events, or a tick.
type entry struct {
	events []event.Event
	tick   event.Time
}

func lines(outputs []Output) (all []string) {
	for _, o := range outputs {
		all = append(all, fmt.Sprintf("%d %s %s", o.Offset, o.Event.Topic, o.Event.Payload))
	}
	return all
}

// history is what an engine is told, one thing after the other, and what comes of
// it.
type history struct {
	t      *testing.T
	r      *rand.Rand
	engine *Engine
	now    event.Time
	offset uint64 // of the newest event
	log    []entry
	all    Result
}

func newHistory(t *testing.T, set *Set, seed, stream uint64) *history {
	return &history{t: t, r: rand.New(rand.NewPCG(seed, stream)), engine: set.Engine(EventsStream), now: at(0)}
}

// pass lets up to most go by. Once in so many times the clock is set as well, by up
// to jump forth or back.
func (h *history) pass(most event.Time, once int, jump event.Time) {
	h.now += event.Time(h.r.Int64N(int64(most)))
	if h.r.IntN(once) == 0 {
		h.now += event.Time(h.r.Int64N(int64(2*jump))) - jump
	}
}

// step gives events to the engine.
func (h *history) step(events []event.Event) {
	h.engine.Step(events, &h.all)
	h.log = append(h.log, entry{events: events})
}

// tick gives the time to the engine, and reports whether that had an effect, which
// the engine must have known before.
func (h *history) tick() (changed bool) {
	h.t.Helper()
	next, due := h.engine.NextTick()
	state := snapshot(h.t, h.engine)
	checkDue(h.t, h.engine, h.now, func() bool { changed = h.engine.Tick(h.now, &h.all); return changed })
	if changed {
		h.log = append(h.log, entry{tick: h.now})
	} else if !bytes.Equal(state, snapshot(h.t, h.engine)) {
		h.t.Fatal("a tick without effect has changed the state")
	}
	if due && h.now >= next && !changed {
		h.t.Fatalf("the tick at %v had no effect, NextTick had said %v", h.now, next)
	}
	return changed
}

// again gives a log to an engine, and returns what comes of it.
func again(t *testing.T, e *Engine, log []entry) (all Result) {
	t.Helper()
	for _, in := range log {
		if in.events != nil {
			e.Step(in.events, &all)
		} else if !e.Tick(in.tick, &all) {
			t.Fatal("a tick that had an effect has none in the second run")
		}
	}
	return all
}

// check compares what came out with what a reference says. No two outputs may have
// the same name.
func (h *history) check(outputs []string, failures int) {
	h.t.Helper()
	if diff := cmp.Diff(outputs, lines(h.all.Outputs)); diff != "" {
		h.t.Fatalf("outputs (-reference +engine):\n%s", diff)
	}
	if len(h.all.Failures) != failures {
		h.t.Errorf("%d failures, want %d", len(h.all.Failures), failures)
	}
	seen := map[string]bool{}
	for _, o := range h.all.Outputs {
		name := fmt.Sprint(o.Rule, o.Offset, "/", o.N)
		if seen[name] {
			h.t.Errorf("two outputs are named %s", name)
		}
		seen[name] = true
	}
}

// The engine does what the slow reference does, over random histories with
// broken payloads, late events, jumps of the clock, ticks, and restarts from
// snapshots; and a second run over the log of what had an effect does it again.
func TestRandomHistories(t *testing.T) {
	set := mustCompile(t, historyRules)
	for seed := range uint64(150) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			h, ref := newHistory(t, set, seed, 2), &slow{}
			r, before := h.r, set.Stats()
			for range 150 {
				h.pass(3e9, 50, 60e9)
				switch r.IntN(6) {
				case 0:
					h.engine = restart(t, set, h.engine)
				case 1, 2:
					h.tick()
					ref.tick(h.now)
				default:
					var events []event.Event
					for range 1 + r.IntN(5) {
						h.offset++
						in := reading{
							offset: h.offset, received: h.now, topic: []string{"plant/1/temp", "plant/2/hum", "other", "else"}[r.IntN(4)],
							device: string("abcde"[r.IntN(5)]), temp: r.IntN(200) - 100, broken: r.IntN(20) == 0,
							ts: (h.now + event.Time(r.Int64N(20e9)) - 10e9) / 1e6 * 1e6,
						}
						events = append(events, in.event())
						ref.step(in)
						h.now += event.Time(r.Int64N(1e9)) - 2e8
					}
					h.step(events)
				}
			}
			h.check(ref.outputs, ref.failures)
			if late := set.Stats()[2].Late - before[2].Late; late != uint64(ref.late) {
				t.Errorf("%d late events, want %d", late, ref.late)
			}
			if len(h.all.Outputs) == 0 || ref.late == 0 || ref.failures == 0 {
				t.Error("the history is too tame to show anything")
			}

			e := set.Engine(EventsStream)
			second := again(t, e, h.log)
			if !reflect.DeepEqual(h.all.Outputs, second.Outputs) { // a fraction of what the difference costs
				t.Errorf("the second run differs (-first +second):\n%s", cmp.Diff(h.all.Outputs, second.Outputs))
			}
			if !bytes.Equal(snapshot(t, h.engine), snapshot(t, e)) {
				t.Error("the second run ends in another state")
			}
		})
	}
}

func TestAPaneThatCannotBeEmittedIsKeptAsAFailure(t *testing.T) {
	e := engine(t, "- {name: r, from: '#', key: d, window: {tumbling: 10s}, aggregate: {n: count(), s: last(v)}, having: 's > 1', emit: {stream: out, topic: 'a/{key}'}}\n")
	var res Result
	for i, v := range []string{`"hot"`, "2", "3"} {
		e.Step([]event.Event{{Offset: uint64(i + 1), Topic: "t", Received: at(1), Payload: []byte(`{"d":"` + []string{"x", "a", "#"}[i] + `","v":` + v + `}`)}}, &res)
	}
	e.Tick(at(10), &res)
	if got := lines(res.Outputs); len(got) != 1 || !strings.HasPrefix(got[0], "3 a/a ") {
		t.Errorf("outputs: %v", got)
	}
	var got []string
	for _, f := range res.Failures {
		got = append(got, fmt.Sprintf("%s %d %s: %v", f.Event.Key, f.Event.Cause.Offset, f.Event.Payload, f.Err))
	}
	const span = `"start":"2024-06-01T12:00:00Z","end":"2024-06-01T12:00:10Z"}: `
	want := []string{
		`# 3 {"n":1,"s":3,"key":"#",` + span + `emit.topic: invalid topic: "a/#" has the wildcard '#'; wildcards are for filters only`,
		`x 1 {"n":1,"s":"hot","key":"x",` + span + `having: invalid operation: text > number`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
