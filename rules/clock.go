package rules

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"holdfast/gateway/event"
	"holdfast/rules/window"
)

// clock takes event time from a payload field.
type clock struct {
	slot *slot
	nano int64 // of a unit; 0 for rfc3339
	// No time further ahead of the receive time counts: one event with a wrong
	// time would close the windows of all others, and make them late.
	ahead event.Time
}

var units = map[string]int64{"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1}

// time returns the event time in the frame's payload.
func (c *clock) time(f *frame) (event.Time, error) {
	v, err := f.get(c.slot)
	if err != nil {
		return 0, err
	}
	if s, ok := v.(string); ok {
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return 0, fmt.Errorf("field %q is %.40q, not a time such as 2024-05-01T12:00:00Z", pathName(c.slot.Path), s)
		}
		if t.Year() < 1970 || t.Year() > 2222 {
			return 0, window.ErrTime
		}
		return event.At(t), nil
	}
	if n, err := strconv.ParseInt(c.slot.Raw, 10, 64); err == nil {
		return c.count(n)
	}
	if n, ok := c.slot.Value.(int64); ok {
		return c.count(n)
	}
	// A fraction: to the microsecond, which is what a float64 can tell.
	x, ok := v.(float64)
	if !ok {
		return 0, window.ErrTime
	}
	if c.slot.Raw == "" && x == math.Trunc(x) && math.Abs(x) < 1<<53 {
		return c.count(int64(x))
	}
	micros := math.Round(x * float64(c.nano) / 1e3)
	if !(micros >= 0 && micros < float64(window.MaxTime)/1e3) {
		return 0, window.ErrTime
	}
	return event.Time(micros) * 1e3, nil
}

func (c *clock) count(n int64) (event.Time, error) {
	if n < 0 || n >= int64(window.MaxTime)/c.nano {
		return 0, window.ErrTime
	}
	return event.Time(n * c.nano), nil
}

// happened is the time of the event at hand by the rule's time, else the time
// that its source gave, else its receive time.
func (r *rule) happened() (event.Time, error) {
	if r.clock == nil {
		return r.frame.ev.Happened(), nil
	}
	t, err := r.clock.time(r.frame)
	if err != nil {
		return 0, fmt.Errorf("time: %w", err)
	}
	return t, nil
}

// rowTime is the time by which windows and functions with a memory take the
// event.
func (r *rule) rowTime(ev *event.Event) (event.Time, error) {
	t := ev.Received
	if r.clock != nil {
		var err error
		if t, err = r.happened(); err != nil {
			return 0, err
		}
		if by := t - ev.Received; by > r.clock.ahead && ev.Received >= 0 {
			return 0, fmt.Errorf("time: %v is %v ahead of the clock of this gateway, and ahead allows %v; set the clock of the sender, or raise ahead",
				t, time.Duration(by).Round(time.Millisecond), time.Duration(r.clock.ahead))
		}
	}
	if t < 0 || t >= window.MaxTime {
		return 0, window.ErrTime
	}
	return t, nil
}

// steady measures how long things last by what events and inputs say about the
// time they came in. Within a boot it goes by monotonic time, so that a wall
// clock that is set does not make anything last longer or shorter; across boots
// it goes by the wall clock, as far as that has moved on.
type steady struct {
	now  event.Time // begins with the wall clock and never goes back
	wall event.Time
	mono time.Duration
	boot uint32
	any  bool
}

func (s *steady) observe(wall event.Time, mono time.Duration, boot uint32) {
	passed := wall - s.wall
	if boot == s.boot && boot != 0 {
		passed = event.Time(mono - s.mono)
	}
	if !s.any {
		passed = min(max(wall, 0), window.MaxTime)
	}
	if s.any = true; passed > 0 && s.now < window.MaxTime {
		s.now += min(passed, window.MaxTime-s.now)
	}
	s.wall, s.mono, s.boot = wall, mono, boot
}

// at returns the wall time at which the steady time is due.
func (s *steady) at(due event.Time) event.Time { return s.wall + max(due-s.now, 0) }
