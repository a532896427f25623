package rules

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/gateway/event"
)

// checkDue compares what Due said about now with what a tick then did.
func checkDue(t *testing.T, e *Engine, now event.Time, tick func() bool) {
	t.Helper()
	wait, ok := e.Due(Input{Now: now})
	if changed := tick(); changed != (ok && wait == 0) {
		t.Fatalf("the tick at %v changed something: %v, Due had said to wait %v (%v)", now, changed, wait, ok)
	}
}

func TestAClockThatIsSetHoldsUpNothing(t *testing.T) {
	at := func(boot uint32, wall, mono float64) Input {
		return Input{Now: at(wall), Mono: time.Duration(mono * 1e9), Boot: boot}
	}
	give := func(e *Engine, topic string, in Input) {
		ev := jsonEvent(1, 0, topic, `{"v":2}`)
		ev.Received, ev.Mono, ev.Boot = in.Now, in.Mono, in.Boot
		step(e, ev)
	}
	for _, tt := range []struct {
		name, rule string
		begin      Input
		now        []Input
		wait       string // of each now, before the tick
	}{
		{"a window waits for its end", `window: {tumbling: 10s}, aggregate: {n: count()}, emit: {stream: out, topic: o}`,
			at(1, 1, 1), []Input{at(1, 2, 2), at(1, 10, 10), at(1, 11, 11)}, "8s 0s none"},
		{"and closes at once when the clock is set back", `window: {tumbling: 10s}, aggregate: {n: count()}, emit: {stream: out, topic: o}`,
			at(1, 1, 1), []Input{at(1, -3600, 2), at(1, -3599, 3)}, "0s none"},
		{"silence begins anew for a window of event time", `time: {field: v, unit: s}, window: {tumbling: 10s, idle: 60s}, aggregate: {n: count()}, emit: {stream: out, topic: o}`,
			at(1, 0, 0), []Input{at(1, 10, 10), at(1, -3600, 11), at(1, -3590, 21)}, "50s 0s 50s"},
		{"early results come an hour back as well", `time: {field: v, unit: s}, window: {tumbling: 60s, idle: 1h, early: 10s}, aggregate: {n: count()}, emit: {stream: out, topic: o}`,
			at(1, 1, 1), []Input{at(1, 2, 2), at(1, -3599, 3), at(1, -3598, 4)}, "8s 0s 8s"},
		{"for goes by the time since boot, back", `where: v > 1, for: 30s, emit: {stream: out, topic: o}`,
			at(1, 0, 100), []Input{at(1, -3600, 110), at(1, -3580, 130), at(1, -3570, 140)}, "20s 0s none"},
		{"and forth", `where: v > 1, for: 30s, emit: {stream: out, topic: o}`,
			at(1, 0, 100), []Input{at(1, 3600, 110), at(1, 3619, 129), at(1, 3620, 130)}, "20s 1s 0s"},
		{"by the wall clock after a start", `where: v > 1, for: 30s, emit: {stream: out, topic: o}`,
			at(1, 0, 100), []Input{at(2, 20, 1), at(2, 30, 11)}, "10s 0s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := engine(t, "- {name: r, from: t, "+tt.rule+"}\n")
			give(e, "t", tt.begin)
			var got []string
			for _, now := range tt.now {
				wait, ok := e.Due(now)
				if got = append(got, wait.String()); !ok {
					got[len(got)-1] = "none"
				}
				if changed := e.Apply(now, &Result{}); changed != (ok && wait == 0) {
					t.Errorf("at %v: changed %v, to wait %v", now, changed, wait)
				}
			}
			if got := strings.Join(got, " "); got != tt.wait {
				t.Errorf("got %s, want %s", got, tt.wait)
			}
		})
	}
	t.Run("timers begin anew", func(t *testing.T) {
		e := engine(t, "- {name: r, from: {every: 60s}, emit: {stream: out, topic: o}}\n")
		for _, tt := range []struct {
			in   Input
			wait time.Duration
		}{{at(1, 0, 0), 0}, {at(1, 10, 10), 50 * time.Second}, {at(1, -3600, 11), 0}, {at(1, -3590, 21), 50 * time.Second}} {
			if wait, ok := e.Due(tt.in); !ok || wait != tt.wait {
				t.Errorf("at %v: wait %v (%v), want %v", tt.in.Now, wait, ok, tt.wait)
			}
			e.Apply(tt.in, &Result{})
		}
	})
}

func TestAClockThatIsFarAheadMakesNobodyElseLate(t *testing.T) {
	set := mustCompile(t, `
- {name: r, from: t, key: d, time: {field: ts, unit: s}, window: {tumbling: 10s}, aggregate: {n: count()}, emit: {stream: out, topic: o, fields: {key: key, n: n}}}
- {name: bounded, from: t, time: {field: ts, unit: s, ahead: 5s}, window: {tumbling: 10s}, aggregate: {n: count()}, emit: {stream: out, topic: o}}
- {name: wide, from: t, time: {field: ts, unit: s, ahead: 1d}, where: 'd == "b"', window: {tumbling: 10s}, aggregate: {n: count()}, emit: {stream: out, topic: o}}
`)
	e := set.Engine(EventsStream)
	give := func(offset uint64, seconds float64, d string, ahead int) []string {
		ts := int(at(seconds)/1e9) + ahead
		return step(e, jsonEvent(offset, seconds, "t", fmt.Sprintf(`{"d":%q,"ts":%d}`, d, ts)))
	}
	give(1, 1, "a", 0)
	got := give(2, 2, "b", 3601)
	if len(got) != 2 || !strings.Contains(got[0], "is 1h0m1s ahead of the clock of this gateway, and ahead allows 1h0m0s; set the clock of the sender") ||
		!strings.Contains(got[1], "bounded") {
		t.Errorf("%q", got)
	}
	if got := give(3, 3, "b", 6); len(got) != 1 || !strings.Contains(got[0], "ahead allows 5s") {
		t.Errorf("%q", got)
	}
	give(4, 4, "a", 0)
	if got := give(5, 12, "a", 0); len(got) != 3 || got[0] != `5 o {"key":"a","n":2}` {
		t.Errorf("%q", got)
	}
	s := set.Stats()
	if s[0].Failed != 1 || s[0].Late != 0 || s[1].Failed != 2 || s[1].Late != 0 || s[2].Failed != 0 {
		t.Errorf("%+v", s)
	}
}
