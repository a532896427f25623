// Package switching is what outputs with two levels have in common, whatever
// drives them: the level at the start and when nobody is in charge, pulses,
// blinking, the shortest times on and off, interlocks.
package switching

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"holdfast/devices"
	"holdfast/gateway/config"
)

// Settings are those of an output. A driver embeds them in its own.
type Settings struct {
	FailSafe      string          `config:"fail_safe,oneof=on|off"`  // at the start, at the end, and after fail_safe_after
	FailSafeAfter config.Duration `config:"fail_safe_after,max=7d"`  // without a command; 0 for never
	Initial       string          `config:"initial,oneof=on|off"`    // at the start, instead of fail_safe
	Restore       string          `config:"restore,oneof=none|last"` // last: at the start the level last commanded
	MinOn         config.Duration `config:"min_on,max=24h"`          // a command to switch off waits for that
	MinOff        config.Duration `config:"min_off,max=24h"`         // and one to switch on
	Interlock     string          `config:"interlock"`               // of all outputs with the same one at most one is on
}

// Defaults returns the settings of an output that is off when in doubt.
func Defaults() Settings { return Settings{FailSafe: "off", Restore: "none"} }

// Switch is an output at work. It implements devices.Output.
type Switch struct {
	set    Settings
	name   string // for the interlock, and what is remembered
	lock   *devices.Interlock
	memory *devices.Memory
	orders chan *request
}

// request is an order on its way to Run. Who takes it first decides what becomes of
// it: Run, which carries it out and says so, or who gave it, by giving it up.
type request struct {
	order devices.Order
	taken atomic.Bool
	done  chan error
}

func (r *request) take() bool { return r.taken.CompareAndSwap(false, true) }

// New returns the switch of the output with the name, such as pump or
// expander/valve. s is where the settings stand.
func New(s *config.Section, w *devices.Wiring, name string, set Settings) (*Switch, error) {
	sw := &Switch{set: set, name: name, memory: w.Memory(), orders: make(chan *request)}
	if set.Interlock != "" {
		if set.FailSafe == "on" || set.Initial == "on" {
			return nil, s.Errorf("interlock", "an output of an interlock must be off when in doubt")
		}
		sw.lock = w.Interlock(set.Interlock)
	}
	return sw, nil
}

// Parse takes on and off, pulses that are no shorter than the shortest times,
// and blinking where there are none.
func (s *Switch) Parse(o *devices.Order) error {
	on, off := s.set.MinOn.Std(), s.set.MinOff.Std()
	least := on
	if o.Value == 0 {
		least = off
	}
	switch {
	case o.Value != 0 && o.Value != 1:
		return errors.New("this output is on or off, nothing between")
	case o.For > 0 && o.Blink > 0:
		return errors.New("a command is for a pulse or for blinking, not for both")
	case o.For > 0 && o.For < least:
		return fmt.Errorf("a pulse of %v is shorter than the output may be switched", o.For)
	case o.Blink > 0 && o.Blink < max(on, off, 10*time.Millisecond):
		return fmt.Errorf("blinking every %v is faster than the output may be switched", o.Blink)
	}
	return nil
}

// Do has an order carried out by Run. It waits for Run, until the deadline of
// the order, and then for the shortest times.
func (s *Switch) Do(ctx context.Context, o devices.Order) error {
	r := &request{order: o, done: make(chan error, 1)}
	late := time.NewTimer(time.Until(o.Deadline))
	defer late.Stop()
	select {
	case s.orders <- r:
	case <-late.C:
		return errOffline
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
	}
	if r.take() {
		return ctx.Err()
	}
	return <-r.done
}

var errOffline = errors.New("the device is offline")

// Start returns the level that the output must have from the beginning on. The
// error says that the last level has been forgotten; the next call does without.
func (s *Switch) Start() (bool, error) {
	level := s.set.FailSafe == "on"
	if s.set.Initial != "" {
		level = s.set.Initial == "on"
	}
	if s.set.Restore == "last" {
		if err := s.memory.Load(s.key(), &level); err != nil {
			return false, err
		}
	}
	if level && s.lock != nil && s.lock.Take(s.name) != nil {
		level = false
	}
	return level, nil
}

func (s *Switch) key() string { return "output-" + s.name }

// Line is what a switch drives.
type Line interface {
	Set(level bool) error
	// Check returns an error if the line has gone, without a change to it.
	Check() error
}

// checkEvery is how often the line is checked while nothing is to be done.
const checkEvery = time.Second

// Run carries out orders until ctx ends, at the line, from the level that Start
// returned; changed is told each level. At the end it drives the fail-safe level.
// It returns the error of the line, or nil after ctx. An output that could not be
// switched off counts as on for its interlock, until Run begins anew.
func (s *Switch) Run(ctx context.Context, level bool, line Line, changed func(bool)) error {
	m := &machine{Switch: s, line: line, changed: changed, level: level, heard: time.Now()}
	defer m.end()
	check := time.NewTicker(checkEvery)
	defer check.Stop()
	m.release()
	changed(level)
	for {
		var alarm <-chan time.Time
		if at := m.next(); !at.IsZero() {
			alarm = time.After(time.Until(at))
		}
		var err error
		select {
		case <-ctx.Done():
			m.until = time.Time{}
			return m.put(s.set.FailSafe == "on", time.Now())
		case r := <-s.orders:
			m.accept(r, time.Now())
			err = m.step(time.Now())
		case <-alarm:
			err = m.step(time.Now())
		case <-check.C:
			err = line.Check()
		}
		if err != nil {
			return err
		}
	}
}

// machine is the state of a switch that runs. Times are arguments.
type machine struct {
	*Switch
	line    Line
	changed func(bool)

	level bool
	since time.Time // of the level; zero at the start, when nothing is known
	heard time.Time // when the last order came; zero once the fail-safe level was taken for it
	wish  *request  // that waits for the shortest times, or was given up
	safe  bool      // the fail-safe level waits for them

	until time.Time // of the pulse or phase of blinking under way; zero for none
	blink time.Duration
	left  int // phases of blinking; negative without end
}

// next returns when something is to be done; zero if nothing is.
func (m *machine) next() (at time.Time) {
	earlier := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	earlier(m.until)
	if m.wish != nil || m.safe {
		earlier(m.free())
	}
	if after := m.set.FailSafeAfter.Std(); after > 0 && !m.heard.IsZero() {
		earlier(m.heard.Add(after))
	}
	return at
}

// free returns when the level may change; zero for at any time.
func (m *machine) free() time.Time {
	if m.since.IsZero() {
		return time.Time{}
	}
	if m.level {
		return m.since.Add(m.set.MinOn.Std())
	}
	return m.since.Add(m.set.MinOff.Std())
}

func (m *machine) accept(r *request, now time.Time) { m.wish, m.safe, m.heard = r, false, now }

// step does what is due.
func (m *machine) step(now time.Time) error {
	if after := m.set.FailSafeAfter.Std(); after > 0 && !m.heard.IsZero() && now.Sub(m.heard) >= after {
		m.heard, m.safe = time.Time{}, true
	}
	if !m.until.IsZero() && !now.Before(m.until) {
		if err := m.phase(now); err != nil {
			return err
		}
	}
	if m.safe && m.may(m.set.FailSafe == "on", now) {
		m.safe, m.until = false, time.Time{}
		if err := m.put(m.set.FailSafe == "on", now); err != nil {
			return err
		}
	}
	r := m.wish
	if r == nil || !m.may(r.order.Value == 1, now) {
		return nil
	}
	m.wish = nil
	if !r.take() {
		return nil
	}
	return m.obey(r, now)
}

// may reports whether the level may be the wanted one now.
func (m *machine) may(level bool, now time.Time) bool {
	return level == m.level || !now.Before(m.free())
}

// obey carries out an order whose time has come.
func (m *machine) obey(r *request, now time.Time) error {
	o := r.order
	want := o.Value == 1
	if (want || o.Blink > 0 || o.For > 0) && m.lock != nil {
		if err := m.lock.Take(m.name); err != nil {
			r.done <- err
			return nil
		}
	}
	err := m.put(want, now)
	m.until, m.blink = time.Time{}, 0
	switch {
	case err != nil:
	case o.For > 0:
		m.until, m.left = now.Add(o.For), 1
	case o.Blink > 0:
		m.until, m.blink, m.left = now.Add(o.Blink), o.Blink, 2*o.Times-1
		if o.Times == 0 {
			m.left = -1
		}
	case m.set.Restore == "last":
		if saved := m.memory.Save(m.key(), want); saved != nil {
			r.done <- fmt.Errorf("it was done, but %w", saved)
			return nil
		}
	}
	r.done <- err
	return err
}

// phase ends a pulse, or a phase of blinking.
func (m *machine) phase(now time.Time) error {
	if m.left > 0 {
		m.left--
	}
	m.until = time.Time{}
	if m.left != 0 {
		m.until = now.Add(m.blink)
	}
	return m.put(!m.level, now)
}

// put drives a level.
func (m *machine) put(level bool, now time.Time) error {
	if level == m.level {
		return m.line.Check() // of a line that has gone nothing was done
	}
	if level && m.lock != nil {
		if err := m.lock.Take(m.name); err != nil {
			return nil // the phase is left out
		}
	}
	if err := m.line.Set(level); err != nil {
		return err
	}
	m.level, m.since = level, now
	if m.until.IsZero() {
		m.release()
	}
	m.changed(level)
	return nil
}

// end refuses the order that waits.
func (m *machine) end() {
	if m.wish != nil && m.wish.take() {
		m.wish.done <- errOffline
	}
	m.release()
}

// release lets others of the interlock be on, if this one is off.
func (m *machine) release() {
	if !m.level && m.lock != nil {
		m.lock.Release(m.name)
	}
}
