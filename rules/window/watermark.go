package window

import (
	"time"

	"holdfast/gateway/event"
)

// MaxStepBack is how far the clock may step back between two events without
// windows of receive time noticing.
const MaxStepBack = time.Second

// maxSilence bounds how far silence moves a watermark of event time, so that a
// clock that jumps by decades cannot make it overflow.
const maxSilence = 1e18

// Watermark derives a watermark from the times of events and from ticks.
//
// Windows of receive time: the watermark is the newest receive time less
// Grace, and a tick at now, after silence of Idle, moves it to now less Grace.
// When the clock steps back by more than [MaxStepBack], all panes close and
// the watermark begins anew at the new time; after a smaller step, events count
// as if they had come at the newest time seen, so that none of them is late.
//
// Windows of event time: the watermark is the newest event time less Grace. If
// no event has come for Idle of receive time, a tick at now moves it to the
// newest event time plus the length of the silence, less Grace.
//
// Early results go by the clock of the gateway, also for windows of event time:
// they are due at every multiple of Early since 1970 that has passed since the
// last event or the last early results.
type Watermark struct {
	ByEventTime bool
	Grace, Idle time.Duration
	Early       time.Duration // 0: no early results

	newest event.Time // greatest time of an event
	last   event.Time // receive time of the last event
	ticked event.Time // receive time only: the last tick that closed a pane
	early  event.Time // receive time at which early results are due
	any    bool       // there was an event
}

// Observe takes in an event and returns the time that it counts at and the
// watermark that it makes. restart tells that the clock has stepped back: the
// window is to be flushed first.
func (m *Watermark) Observe(t, received event.Time) (counted, at event.Time, restart bool) {
	if m.ByEventTime {
		if !m.any || t > m.newest {
			m.newest = t
		}
		m.last, m.any = received, true
		return t, m.newest.Add(-m.Grace), false
	}
	if restart = m.steppedBack(t); restart {
		m.newest, m.ticked = t, 0
	}
	m.newest = max(t, m.newest, m.ticked)
	m.last, m.any = m.newest, true
	return m.newest, m.newest.Add(-m.Grace), restart
}

// SetBack reports whether the clock, being at now, was set back so far that a
// tick has an effect.
func (m *Watermark) SetBack(now event.Time) bool {
	return now >= 0 && now < MaxTime && m.steppedBack(now)
}

func (m *Watermark) steppedBack(now event.Time) bool {
	return m.any && now < max(m.last, m.ticked).Add(-MaxStepBack)
}

// Latest returns the latest time of the clock that the watermark has seen, by
// which it knows when the clock is set back; 0 before the first event.
func (m *Watermark) Latest() event.Time {
	if !m.any {
		return 0
	}
	return max(m.last, m.ticked)
}

// Effect is what a tick does.
type Effect uint8

// The effects of ticks. A tick without effect changes nothing, so that it need
// not be remembered for a run to be repeated exactly.
const (
	NoEffect Effect = iota
	Advance         // the window advances to the returned watermark
	Restart         // the clock stepped back: the window is flushed
	Noted           // the clock stepped back: silence counts from now on
)

// Tick returns what a tick at now does to a window whose [Window.Due] is due,
// and the watermark to advance to.
func (m *Watermark) Tick(now, due event.Time) (event.Time, Effect) {
	if !m.any || now < 0 || now >= MaxTime {
		return 0, NoEffect
	}
	if m.steppedBack(now) {
		m.last = now
		m.TakeEarly(now) // they are not due, but will be sooner
		if m.ByEventTime {
			return 0, Noted
		}
		m.newest, m.ticked = now, 0
		return 0, Restart
	}
	silence := now - m.last
	if silence < event.Time(m.Idle) {
		return 0, NoEffect
	}
	at := m.newest.Add(-m.Grace) + min(silence, maxSilence)
	if at < due {
		return 0, NoEffect
	}
	if !m.ByEventTime {
		m.ticked = now
	}
	return at, Advance
}

// Next returns the time of the first tick that would close the pane due.
func (m *Watermark) Next(due event.Time) event.Time {
	wait := max(due-m.newest.Add(-m.Grace), event.Time(m.Idle), 0)
	return m.last + min(wait, maxSilence)
}

// NextEarly returns when early results are due; false if they never are. A tick
// at or after that time gives them if [Window.Changed], and then has an effect.
func (m *Watermark) NextEarly() (event.Time, bool) { return m.early, m.any && m.Early > 0 }

// TakeEarly reports whether early results are due at now, and if so, when they
// will be next. It is for each event, with its receive time, after Observe and
// before the event is added, and for ticks as NextEarly says.
func (m *Watermark) TakeEarly(now event.Time) bool {
	if m.Early <= 0 || now < 0 || now >= MaxTime {
		return false
	}
	every := event.Time(m.Early)
	next := now - now%every + every
	due := m.early > 0 && now >= m.early
	if due || m.early == 0 || m.early > next { // greater: the clock stepped back
		m.early = next
	}
	return due
}

// AppendState appends the state to b.
func (m *Watermark) AppendState(b []byte) []byte {
	if !m.any {
		return append(b, 0)
	}
	b = append(b, 1)
	for _, t := range []event.Time{m.newest, m.last, m.ticked, m.early} {
		b = appendInt(b, int64(t))
	}
	return b
}

// RestoreState takes up what AppendState wrote and returns the rest of b.
func (m *Watermark) RestoreState(b []byte) ([]byte, error) {
	r := &reader{b: b}
	m.newest, m.last, m.ticked, m.early, m.any = 0, 0, 0, 0, false
	if r.bool() {
		newest, last, ticked, early := r.time(), r.time(), r.time(), r.time()
		if r.err == nil {
			m.newest, m.last, m.ticked, m.early, m.any = newest, last, ticked, early, true
		}
	}
	return r.b, r.err
}
