package rules

import (
	"fmt"
	"strings"
	"testing"

	"holdfast/gateway/event"
)

// remember steps over events of one topic, so many seconds after each other,
// and returns what a function gives for each.
func remember(t *testing.T, call string, in ...string) string {
	t.Helper()
	e := engine(t, "- {name: r, from: '#', emit: {stream: out, fields: {x: '"+strings.ReplaceAll(call, "'", "''")+"'}}}\n")
	var got []string
	for i, step := range in {
		after, value, timed := strings.Cut(step, "s:")
		seconds := float64(i)
		if timed {
			fmt.Sscan(after, &seconds)
		} else {
			value = step
		}
		line := stepOne(e, event.Event{Offset: uint64(i + 1), Topic: "t", Received: at(seconds), Payload: []byte(`{"v":` + value + `}`)})
		_, line, _ = strings.Cut(line, " ")
		got = append(got, strings.TrimSuffix(strings.TrimPrefix(line, `{"x":`), "}"))
	}
	return strings.Join(got, " ")
}

func TestFunctionsRememberWhatWasBefore(t *testing.T) {
	for _, tt := range []struct{ call, in, want string }{
		{`prev(v)`, `1 2 2 5`, `null 1 2 2`},
		{`prev(v) ?? 0`, `"a" "b"`, `0 "a"`},
		{`change(v)`, `5 7 7 1.5`, `0 2 0 -5.5`},
		{`changed(v)`, `1 1 2 "2" true true`, `true false true true true false`},
		{`rising(v > 3)`, `5 6 2 4 1`, `true false false true false`},
		{`falling(v > 3)`, `5 6 2 4 1 0`, `false false true false true false`},
		{`hysteresis(v, 10, 5)`, `7 10 7 5 7 11`, `false true true false false true`},
		{`hysteresis(v, 5, 10)`, `7 5 7 10 7`, `false true true false false`},
		{`debounce(v, "2s")`, `0s:1 1s:2 2s:2 3s:2 4s:3 5s:2 6s:9 9s:1`, `1 1 1 2 2 2 2 9`},
		{`throttle(v > 0, "5s")`, `0s:1 1s:1 4.9s:1 5s:1 6s:0 11s:1`, `true false false true false true`},
		{`duplicate(v, "5s")`, `0s:1 1s:2 2s:1 4.9s:1 5s:1 6s:2`, `false false true true false false`},
		{`counter(v > 3)`, `5 2 4 4`, `1 1 2 3`},
		{`total(v)`, `5 2 -3`, `5 7 4`},
		{`rising(change(v) > 1)`, `1 5 9 9 20`, `false true false false true`},
		{`v > 3 && rising(v > 2)`, `3 4 1 4`, `false false false true`},
	} {
		t.Run(tt.call, func(t *testing.T) {
			if got := remember(t, tt.call, strings.Fields(tt.in)...); got != tt.want {
				t.Errorf("%s of %s:\ngot  %s\nwant %s", tt.call, tt.in, got, tt.want)
			}
		})
	}
}

const memoryRules = `
- name: all
  from: plant/{dev}/v
  where: v > -50
  emit:
    stream: out
    topic: all/{dev}
    fields: &fields
      p: prev(v) ?? -1000
      c: change(v)
      ch: changed(s)
      r: rising(v > 50)
      f: falling(v > 50)
      h: hysteresis(v, 60, 20)
      d: debounce(v > 0, "3s")
      q: throttle(v > 0, "4s")
      u: duplicate(v, "20s")
      n: counter(v > 0)
      t: total(v)
  state: {expire: 30s}
- name: evt
  from: plant/{dev}/v
  key: dev
  time: {field: ts, unit: ms}
  emit:
    stream: out
    topic: evt/{dev}
    fields: *fields
  state: {expire: 30s, max_keys: 3}
- name: edge
  from: plant/{dev}/v
  where: v > -50 && rising(v > 50)
  key: dev
  emit: {stream: edges, topic: "edge/{key}"}
- name: second
  from: {rule: edge}
  emit: {stream: out, topic: seconds, fields: {n: counter(true), t: topic}}
- name: third
  from: {stream: edges, topics: [edge/a, edge/b]}
  key: '"one"'
  where: throttle(true, "10s")
  emit: {stream: out, topic: third}
- name: held
  from: plant/{dev}/v
  key: dev
  where: v > 0
  for: 5s
  emit: {stream: out, topic: "held/{dev}", fields: {v: v}}
- name: clock
  from: {every: 7s}
  emit: {stream: out, topic: clock, fields: {at: time, a: 'latest("plant/a/v", "v") ?? -1'}}
`

// sample is an event in the words of the reference.
type sample struct {
	offset   uint64
	received event.Time
	dev      string
	v        int
	ts       event.Time
	broken   bool
	other    bool // of a topic that no rule reads
}

func (s sample) event() event.Event {
	ev := event.Event{Offset: s.offset, Epoch: 1, Topic: "plant/" + s.dev + "/v", Received: s.received,
		Payload: fmt.Appendf(nil, `{"v":%d,"s":"%d","ts":%d}`, s.v, s.v/30, s.ts/1e6)}
	if s.broken {
		ev.Payload = []byte(`{"v":"x"}`)
	}
	if s.other {
		ev.Topic = "other"
	}
	return ev
}

// moment is what the reference has seen of one key: an event and when.
type moment struct {
	v int
	t event.Time
}

// slowMemory is what the rules above mean, by searching through everything
// that was there.
type slowMemory struct {
	outputs  []string
	failures int
	offset   uint64

	wall, steady event.Time
	any          bool
	seen         map[string]event.Time // by rule and key
	lists        map[string][]moment   // events of a rule and key that count
	held         map[string]*slowHold
	edges        int
	throttled    []event.Time
	armed        bool
	last         event.Time
	latest       string
}

type slowHold struct {
	since event.Time
	v     int
	fired bool
}

func (s *slowMemory) emit(format string, args ...any) {
	s.outputs = append(s.outputs, fmt.Sprintf("%d ", s.offset)+fmt.Sprintf(format, args...))
}

func (s *slowMemory) pass(now event.Time) (changed bool) {
	if s.any {
		s.steady += max(0, now-s.wall)
	} else {
		s.steady, s.any = now, true
	}
	s.wall = now
	for {
		first := ""
		for dev, h := range s.held {
			if !h.fired && h.since+5e9 <= s.steady && (first == "" || h.since < s.held[first].since || h.since == s.held[first].since && dev < first) {
				first = dev
			}
		}
		if first == "" {
			break
		}
		s.held[first].fired, changed = true, true
		s.emit(`held/%s {"v":%d}`, first, s.held[first].v)
	}
	switch {
	case !s.armed || now < s.last-60e9:
		s.armed, s.last, changed = true, now, true
	case now/7e9 > s.last/7e9:
		s.last, changed = now/7e9*7e9, true
		s.emit(`clock {"at":"%v","a":%s}`, s.last, s.latest)
	}
	return changed
}

func (s *slowMemory) step(in sample) {
	s.offset = in.offset
	s.pass(in.received)
	if in.other {
		return
	}
	if in.dev == "a" && !in.broken {
		s.latest = fmt.Sprint(in.v)
	}
	for _, rule := range []string{"all", "evt"} {
		key := rule + " " + in.dev
		t := s.steady
		if rule == "evt" {
			t = in.ts
			if in.broken {
				s.failures++ // before the key counts: there is no time
				continue
			}
			live := map[string]bool{key: true}
			for k, seen := range s.seen {
				if strings.HasPrefix(k, "evt ") && s.steady-seen < 30e9 {
					live[k] = true
				}
			}
			if len(live) > 3 {
				s.failures++
				continue
			}
		}
		if seen, ok := s.seen[key]; ok && s.steady-seen >= 30e9 {
			delete(s.lists, key)
		}
		s.seen[key] = s.steady
		switch {
		case in.broken:
			s.failures++
		case rule == "evt" || in.v > -50:
			if list := s.lists[key]; len(list) > 0 {
				t = max(t, list[len(list)-1].t)
			}
			s.lists[key] = append(s.lists[key], moment{in.v, t})
			s.functions(rule+"/"+in.dev, s.lists[key])
		}
	}
	if in.broken {
		s.failures += 2 // edge, held
		return
	}
	// edge and what reads it; the key never falls silent for seven days
	list := s.lists["edge "+in.dev]
	rises := in.v > 50 && (len(list) == 0 || list[len(list)-1].v <= 50)
	s.lists["edge "+in.dev] = append(list, moment{v: in.v})
	payload := string(in.event().Payload)
	if h := s.held[in.dev]; in.v > 0 {
		if h == nil {
			h = &slowHold{since: s.steady}
			s.held[in.dev] = h
		}
		h.v = in.v
	} else {
		delete(s.held, in.dev)
	}
	if rises {
		s.emit("edge/%s %s", in.dev, payload)
		s.edges++
		key := "second " + in.dev
		s.lists[key] = append(s.lists[key], moment{})
		s.emit(`seconds {"n":%d,"t":"edge/%s"}`, len(s.lists[key]), in.dev)
		if in.dev == "a" || in.dev == "b" {
			if n := len(s.throttled); n == 0 || s.steady-s.throttled[n-1] >= 10e9 {
				s.throttled = append(s.throttled, s.steady)
				s.emit("third %s", payload)
			}
		}
	}
}

func (s *slowMemory) functions(topic string, list []moment) {
	now := list[len(list)-1]
	var was *moment
	if len(list) > 1 {
		was = &list[len(list)-2]
	}
	p, c, ch, r, f := -1000, 0, true, now.v > 50, false
	if was != nil {
		p, c, ch = was.v, now.v-was.v, was.v/30 != now.v/30
		r, f = now.v > 50 && was.v <= 50, now.v <= 50 && was.v > 50
	}
	h := false
	for _, m := range list {
		if m.v >= 60 {
			h = true
		} else if m.v <= 20 {
			h = false
		}
	}
	// The value of a debounced condition is that of the last run of equal values
	// that lasted for 3 s, until the first event after it.
	d := list[0].v > 0
	from := 0
	for i := range list {
		if (list[i].v > 0) != (list[from].v > 0) {
			if list[i].t-list[from].t >= 3e9 {
				d = list[from].v > 0
			}
			from = i
		} else if list[i].t-list[from].t >= 3e9 {
			d = list[i].v > 0
		}
	}
	var through []event.Time
	q := false
	for _, m := range list {
		if q = m.v > 0 && (len(through) == 0 || m.t-through[len(through)-1] >= 4e9); q {
			through = append(through, m.t)
		}
	}
	u := false
	let := map[int]event.Time{}
	for _, m := range list {
		at, known := let[m.v]
		if u = known && m.t-at < 20e9; !u {
			let[m.v] = m.t
		}
	}
	n, t := 0, 0
	for _, m := range list {
		if t += m.v; m.v > 0 {
			n++
		}
	}
	s.emit(`%s {"p":%d,"c":%d,"ch":%v,"r":%v,"f":%v,"h":%v,"d":%v,"q":%v,"u":%v,"n":%d,"t":%d}`, topic, p, c, ch, r, f, h, d, q, u, n, t)
}

func (s *slowMemory) tick(now event.Time) bool {
	wall, steady, any := s.wall, s.steady, s.any
	if s.pass(now) {
		return true
	}
	s.wall, s.steady, s.any = wall, steady, any
	return false
}

// crash carries on in a new engine from a checkpoint and what was logged since.
func crash(t *testing.T, set *Set, state []byte, log []entry) *Engine {
	t.Helper()
	e := restore(t, set, state)
	again(t, e, log)
	return e
}

// Functions, for, timers and rules that read rules do what a slow reference
// does, over random histories with broken payloads, repeated and late events,
// jumps of the clock, ticks, and crashes at any point after which the state is
// worked out from a checkpoint and the log.
func TestMemoryOverRandomHistories(t *testing.T) {
	set := mustCompile(t, memoryRules)
	outputs := 0
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			h := newHistory(t, set, seed, 3)
			r, checkpoint := h.r, snapshot(t, h.engine) // h.log is what came since
			ref := &slowMemory{seen: map[string]event.Time{}, lists: map[string][]moment{}, held: map[string]*slowHold{}, latest: "-1"}
			var sent []sample
			for range 200 {
				h.pass(4e9, 40, 100e9)
				switch r.IntN(8) {
				case 0:
					h.engine = crash(t, set, checkpoint, h.log)
				case 1:
					checkpoint, h.log = snapshot(t, h.engine), nil
				case 2, 3:
					if changed := h.tick(); ref.tick(h.now) != changed {
						t.Fatalf("the tick at %v: changed %v, the reference says otherwise", h.now, changed)
					}
				default:
					var events []event.Event
					for range 1 + r.IntN(4) {
						h.offset++
						in := sample{offset: h.offset, received: h.now, dev: string("abcd"[min(r.IntN(6), 3)]), v: r.IntN(200) - 80, broken: r.IntN(25) == 0,
							other: r.IntN(10) == 0, ts: (h.now + event.Time(r.Int64N(6e9)) - 3e9) / 1e6 * 1e6}
						if len(sent) > 0 && r.IntN(6) == 0 {
							in = sent[r.IntN(len(sent))] // a device sends it again
							in.offset, in.received = h.offset, h.now
						}
						sent = append(sent, in)
						events = append(events, in.event())
						ref.step(in)
						h.now += event.Time(r.Int64N(1e9)) - 1e8
					}
					h.step(events)
				}
			}
			h.check(ref.outputs, ref.failures)
			outputs += len(h.all.Outputs)
		})
	}
	if outputs < 6000 {
		t.Errorf("%d outputs in all: the histories are too tame to show anything", outputs)
	}
}
