package window

import (
	"testing"
	"time"

	"holdfast/gateway/event"
)

const second = event.Time(time.Second)

func TestWatermarkOfReceiveTime(t *testing.T) {
	m := &Watermark{Grace: 2 * time.Second}
	for _, tt := range []struct {
		name            string
		received        event.Time
		counted, mark   event.Time
		restart, anyway bool
	}{
		{name: "the first event starts it", received: 100 * second, counted: 100 * second, mark: 98 * second},
		{name: "it follows the clock", received: 110 * second, counted: 110 * second, mark: 108 * second},
		{name: "a small step back counts at the newest time", received: 109 * second, counted: 110 * second, mark: 108 * second},
		{name: "a great step back begins anew", received: 50 * second, counted: 50 * second, mark: 48 * second, restart: true},
		{name: "and goes on from there", received: 51 * second, counted: 51 * second, mark: 49 * second},
	} {
		counted, mark, restart := m.Observe(tt.received, tt.received)
		if counted != tt.counted || mark != tt.mark || restart != tt.restart {
			t.Errorf("%s: got %v, %v, %v; want %v, %v, %v", tt.name, counted, mark, restart, tt.counted, tt.mark, tt.restart)
		}
	}
}

func TestTicksOfReceiveTime(t *testing.T) {
	m := &Watermark{Grace: 2 * time.Second}
	m.Observe(105*second, 105*second)
	due := 110 * second
	if got := m.Next(due); got != 112*second {
		t.Errorf("next tick at %v, want 112 s", got)
	}
	if _, effect := m.Tick(112*second-1, due); effect != NoEffect {
		t.Errorf("before the end plus grace: effect %v", effect)
	}
	if at, effect := m.Tick(112*second, due); effect != Advance || at != 110*second {
		t.Errorf("at the end plus grace: %v, effect %v", at, effect)
	}
	// An event stamped just before the tick but processed after it is not late.
	if counted, _, restart := m.Observe(112*second-1, 112*second-1); counted != 112*second || restart {
		t.Errorf("an event from just before the tick counts at %v, restart %v", counted, restart)
	}
	if _, effect := m.Tick(100*second, due); effect != Restart {
		t.Errorf("the clock stepped back: effect %v", effect)
	}
	if _, mark, restart := m.Observe(100*second, 100*second); mark != 98*second || restart {
		t.Errorf("after that: watermark %v, restart %v", mark, restart)
	}
}

func TestSilenceMovesTheWatermarkOfEventTime(t *testing.T) {
	m := &Watermark{ByEventTime: true, Grace: time.Second, Idle: 5 * time.Second}
	m.Observe(1000*second, 50*second) // the device's clock is far ahead of ours
	if counted, mark, _ := m.Observe(990*second, 51*second); counted != 990*second || mark != 999*second {
		t.Errorf("an older event counts at %v with watermark %v", counted, mark)
	}
	due := 1002 * second
	if got := m.Next(due); got != 56*second {
		t.Errorf("next tick at %v, want after 5 s of silence", got)
	}
	if _, effect := m.Tick(56*second-1, due); effect != NoEffect {
		t.Errorf("before 5 s of silence: effect %v", effect)
	}
	if at, effect := m.Tick(56*second, due); effect != Advance || at != 1004*second {
		t.Errorf("after 5 s of silence: %v, effect %v", at, effect)
	}
	if got := m.Next(1020 * second); got != 72*second {
		t.Errorf("next tick at %v, want when 21 s of silence reach the end", got)
	}
	if _, effect := m.Tick(40*second, due); effect != Noted {
		t.Errorf("our clock stepped back: effect %v", effect)
	}
	if at, effect := m.Tick(45*second, due); effect != Advance || at != 1004*second {
		t.Errorf("5 s after that: %v, effect %v", at, effect)
	}
}

func TestATickWithoutEffectChangesNothing(t *testing.T) {
	for _, byEvent := range []bool{false, true} {
		m := &Watermark{ByEventTime: byEvent, Idle: time.Second}
		m.Observe(100*second, 100*second)
		before := string(m.AppendState(nil))
		for _, now := range []event.Time{-1, 99 * second, 100 * second, 101 * second, MaxTime, 1<<63 - 1} {
			if _, effect := m.Tick(now, 150*second); effect != NoEffect {
				t.Errorf("tick at %v: effect %v", now, effect)
			}
		}
		if string(m.AppendState(nil)) != before {
			t.Error("the state has changed")
		}
	}
}

func TestNextIsTheFirstTickWithEffect(t *testing.T) {
	for _, m := range []*Watermark{
		{Grace: 3 * time.Second}, {Grace: 3 * time.Second, Idle: 20 * time.Second},
		{ByEventTime: true, Idle: 5 * time.Second}, {ByEventTime: true, Grace: time.Minute},
	} {
		m.Observe(100*second, 100*second)
		next := m.Next(110 * second)
		if _, effect := m.Tick(next-1, 110*second); effect != NoEffect {
			t.Errorf("%+v: a tick before Next has effect %v", m, effect)
		}
		if _, effect := m.Tick(next, 110*second); effect != Advance {
			t.Errorf("%+v: a tick at Next has effect %v", m, effect)
		}
	}
}

func TestEarlyResultsGoByTheClock(t *testing.T) {
	m := &Watermark{ByEventTime: true, Early: 10 * time.Second}
	take := func(now event.Time, want bool) {
		t.Helper()
		if got := m.TakeEarly(now * second); got != want {
			t.Errorf("at %d s: got %v, want %v", now, got, want)
		}
	}
	if _, ok := m.NextEarly(); ok {
		t.Error("early results are due before there was an event")
	}
	m.Observe(5*second, 101*second)
	take(101, false)
	if at, ok := m.NextEarly(); !ok || at != 110*second {
		t.Errorf("next at %v, %v, want 110 s", at, ok)
	}
	take(109, false)
	take(110, true)
	take(111, false)
	take(145, true)
	take(149, false)
	restored := &Watermark{ByEventTime: true, Early: 10 * time.Second}
	if rest, err := restored.RestoreState(m.AppendState(nil)); err != nil || len(rest) > 0 {
		t.Fatal(err)
	}
	if at, ok := restored.NextEarly(); !ok || at != 150*second {
		t.Errorf("restored: next at %v, %v, want 150 s", at, ok)
	}
	take(50, false) // the clock stepped back
	take(61, true)
	if (&Watermark{}).TakeEarly(100 * second) {
		t.Error("early results without being asked for")
	}
}
