package devices

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"holdfast/gateway/event"
)

const statusName = "status" // last part of the topic of status events

// Feed takes the readings of one device into the log, and tells what becomes
// of the device. Its methods never wait for the log: while the log refuses or
// lags, the newest value of each reading is kept and older ones count as
// missed. They may be called from any goroutine.
type Feed struct {
	hub    *hub
	states *line            // of the status events
	lines  map[string]*line // by name of the reading; under hub.mu, as all below

	status  Status
	working bool // has been online since the source was last started
}

func newFeed(name, driver, topic string, h *hub) *Feed {
	f := &Feed{
		hub: h, lines: map[string]*line{},
		status: Status{Name: name, Driver: driver, Topic: topic, State: Starting},
	}
	f.states = &line{feed: f, topic: topic + "/" + statusName}
	return f
}

// Put takes readings that were made at the given time, and the device for
// online. The error says which reading cannot be an event; then none is taken.
func (f *Feed) Put(at time.Time, readings ...Reading) error {
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	lines := make([]*line, len(readings))
	for i, r := range readings {
		l, err := f.line(r.Name)
		if err != nil {
			return err
		}
		if math.IsNaN(r.Value) || math.IsInf(r.Value, 0) {
			return fmt.Errorf("the reading %s is not a number but %v", r.Name, r.Value)
		}
		lines[i] = l
	}
	f.online(at)
	for i, r := range readings {
		f.put(lines[i], at, readingPayload(r))
	}
	f.status.LastRead = at
	f.hub.signal()
	return nil
}

// Online takes the device for online although it has nothing to tell yet.
func (f *Feed) Online() {
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	f.online(time.Now())
	f.hub.signal()
}

func (f *Feed) online(at time.Time) {
	f.working = true
	f.become(Online, at, "")
}

// failed notes that the source gave up, and reports whether the device had
// been working since it was started.
func (f *Feed) failed(err error) (worked bool) {
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	worked, f.working = f.working, false
	f.status.Failures++
	f.status.Err, f.status.ErrAt = err.Error(), time.Now()
	return worked
}

// offline tells the world about the last failure.
func (f *Feed) offline() {
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	f.become(Offline, f.status.ErrAt, f.status.Err)
	f.hub.signal()
}

func (f *Feed) overrun(n uint64) {
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	f.status.Overruns += n
}

// Status returns how the device does.
func (f *Feed) Status() Status {
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	return f.status
}

// become changes the state, with an event if it is another one.
func (f *Feed) become(state State, at time.Time, err string) {
	if f.status.State == state {
		return
	}
	f.status.State, f.status.Since = state, at
	f.put(f.states, at, statusPayload(state, err))
}

// line returns the line of a reading, which is made when it is first seen.
func (f *Feed) line(name string) (*line, error) {
	if l := f.lines[name]; l != nil {
		return l, nil
	}
	topic := f.status.Topic + "/" + name
	if err := event.CheckTopic(topic); err != nil || name == "" || name == statusName {
		return nil, fmt.Errorf("%q cannot name a reading", name)
	}
	l := &line{feed: f, topic: topic, counted: true}
	f.lines[name] = l
	return l, nil
}

func (f *Feed) put(l *line, at time.Time, payload []byte) {
	f.hub.put(l, event.Event{
		Time: event.At(at), Topic: l.topic, Source: "device", Client: f.status.Name,
		ContentType: "application/json", Payload: payload, QoS: 1, Retain: !l.counted,
	})
}

// readingPayload is the payload of a reading.
func readingPayload(r Reading) []byte {
	b, _ := json.Marshal(struct { // neither field can fail
		Value float64 `json:"value"`
		Unit  string  `json:"unit,omitempty"`
	}{r.Value, r.Unit})
	return b
}

// statusPayload is the payload of a status event.
func statusPayload(state State, err string) []byte {
	b, _ := json.Marshal(struct {
		State State  `json:"state"`
		Error string `json:"error,omitempty"`
	}{state, err})
	return b
}
