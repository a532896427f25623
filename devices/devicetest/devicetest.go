// Package devicetest helps to test drivers: it runs devices with a log that
// remembers what they emitted and refuses on order, and has the suites for sensors
// and for lines.
package devicetest

import (
	"context"
	"strings"
	"sync"
	"testing"

	"holdfast/devices"
	"holdfast/gateway/config"
	"holdfast/gateway/event"
)

// Log takes events as the gateway's log does. The zero value takes all. Its
// methods may be called from any goroutine.
type Log struct {
	mu      sync.Mutex
	events  []event.Event
	refusal error
	atOnce  bool
	changed chan struct{} // closed at the next change
}

// Emit is what a set of devices runs with.
func (l *Log) Emit(events []event.Event, done func(error)) error {
	l.mu.Lock()
	refusal, atOnce := l.refusal, l.atOnce
	if refusal == nil {
		l.events = append(l.events, events...)
		if l.changed != nil {
			close(l.changed)
			l.changed = nil
		}
	}
	l.mu.Unlock()
	if refusal != nil && atOnce {
		return refusal
	}
	done(refusal)
	return nil
}

// Refuse makes Emit return err from now on; nil ends it.
func (l *Log) Refuse(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refusal, l.atOnce = err, true
}

// Fail makes the log take events and then report that they did not reach the
// disk; nil ends it.
func (l *Log) Fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refusal, l.atOnce = err, false
}

// Events returns what was taken whose topic matches the filter.
func (l *Log) Events(filter string) []event.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.matching(filter)
}

func (l *Log) matching(filter string) (found []event.Event) {
	for _, e := range l.events {
		if event.Match(filter, e.Topic) {
			found = append(found, e)
		}
	}
	return found
}

// Lines returns the topic and payload of what was taken whose topic matches
// the filter.
func (l *Log) Lines(filter string) (lines []string) {
	for _, e := range l.Events(filter) {
		lines = append(lines, e.Topic+" "+string(e.Payload))
	}
	return lines
}

// Wait returns once there are n events whose topic matches the filter, or when
// ctx ends.
func (l *Log) Wait(ctx context.Context, filter string, n int) []event.Event {
	for {
		l.mu.Lock()
		found := l.matching(filter)
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		if len(found) >= n {
			return found
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return found
		}
	}
}

// Start runs devices as [Load] reads them, until the end of the test, and returns
// the log that takes their events.
func Start(t testing.TB, yaml string, drivers []devices.Driver, buses devices.Buses) (*Log, *devices.Set) {
	t.Helper()
	set, err := Load(yaml, drivers, buses)
	if err != nil {
		t.Fatal(err)
	}
	log := new(Log)
	Run(t, set, log.Emit)
	return log, set
}

// Run works devices until the end of the test, or until they are closed before.
func Run(t testing.TB, set *devices.Set, emit event.Emit) {
	go func() {
		if err := set.Run(t.Context(), emit); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(set.Close)
}

// Load reads devices from YAML, a mapping of names to settings.
func Load(yaml string, drivers []devices.Driver, buses devices.Buses) (*devices.Set, error) {
	s, err := config.LoadBytes("devices.yaml", []byte(yaml))
	if err != nil {
		return nil, err
	}
	return devices.Load(s.Children(), drivers, buses)
}

// Check tests what every driver promises: it has a name and a description, its
// sample passes, and a key that nobody knows does not.
func Check(t *testing.T, d devices.Driver, buses devices.Buses) {
	t.Helper()
	if d.Name == "" || d.Doc == "" {
		t.Errorf("the driver %q needs a name and a description", d.Name)
	}
	yaml := "sample:\n  driver: " + d.Name + "\n"
	for line := range strings.Lines(d.Sample) {
		yaml += "  " + line
	}
	if _, err := Load(yaml, []devices.Driver{d}, buses); err != nil {
		t.Errorf("the sample of %s does not pass:\n%v", d.Name, err)
	}
	if _, err := Load(strings.TrimRight(yaml, "\n")+"\n  nobody_knows: 1\n", []devices.Driver{d}, buses); err == nil {
		t.Errorf("%s takes keys that it does not know", d.Name)
	}
}
