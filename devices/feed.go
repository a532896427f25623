package devices

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"holdfast/gateway/event"
)

// Last parts of the topics of a device that are no readings.
const (
	statusName = "status" // how it does
	setName    = "set"    // commands
	ackName    = "ack"    // what became of them
)

var reserved = []string{statusName, setName, ackName}

// Feed takes the readings of one device into the log, and tells what becomes
// of the device. Its methods never wait for the log: while the log refuses or
// lags, the newest value of each reading is kept and older ones count as
// missed. They may be called from any goroutine.
type Feed struct {
	hub    *hub
	states *line            // of the status events
	lines  map[string]*line // by name of the reading; under hub.mu, as all below
	shapes map[string]shape // by name of the reading; "" for those without one

	status    Status
	latest    []Latest // of each reading, in the order of their first coming
	published uint64   // readings that became events
	working   bool     // has been online since the source was last started
}

// Latest is the newest value of a reading, as it was read and calibrated,
// published or not.
type Latest struct {
	Reading
	At   time.Time
	Good bool // within its limits
}

func newFeed(name, driver, topic string, shapes map[string]shape, h *hub) *Feed {
	f := &Feed{
		hub: h, lines: map[string]*line{}, shapes: shapes,
		status: Status{Name: name, Driver: driver, Topic: topic, State: Starting},
	}
	f.states = &line{feed: f, topic: topic + "/" + statusName}
	return f
}

// Put takes readings that were made at the given time, and the device for
// online. The error says which reading cannot be an event; then none is taken.
func (f *Feed) Put(at time.Time, readings ...Reading) error { return f.accept(at, false, readings) }

// PutEach is Put for readings each of which counts, such as the edges of an
// input: none replaces another while the log lags. Only if thousands wait the
// oldest count as missed.
func (f *Feed) PutEach(at time.Time, readings ...Reading) error { return f.accept(at, true, readings) }

func (f *Feed) accept(at time.Time, each bool, readings []Reading) error {
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
		f.take(lines[i], at, r, each)
	}
	f.status.LastRead = at
	return nil
}

func (f *Feed) take(l *line, at time.Time, r Reading, each bool) {
	c := &l.channel
	calibrated, good := c.calibrate(r)
	f.latest[l.index] = Latest{calibrated, at, good}
	f.status.Sampled++
	if !good {
		f.status.OutOfRange++
	}
	switch s, ok := c.take(at, r); {
	case ok && each:
		f.published++
		f.hub.report(report{f, f.event(l, s.at, s.payload()), true})
	case ok:
		f.put(l, s.at, s.payload())
	}
	f.status.Suppressed = f.status.Sampled - f.published
}

// flush publishes what has been gathered so far.
func (f *Feed) flush() {
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	for _, latest := range f.latest {
		l := f.lines[latest.Name]
		if s, ok := l.channel.flush(); ok {
			f.put(l, s.at, s.payload())
		}
		l.channel.again()
	}
}

// Lost counts edges that nobody took in time.
func (f *Feed) Lost(n uint64) {
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	f.status.Lost += n
}

// Latest returns the newest value of each reading.
func (f *Feed) Latest() []Latest {
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	return slices.Clone(f.latest)
}

// Online takes the device for online although it has nothing to tell yet.
func (f *Feed) Online() {
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	f.online(time.Now())
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

// note keeps an error that is no failure of the device.
func (f *Feed) note(err error) {
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	f.status.Err, f.status.ErrAt = err.Error(), time.Now()
}

// offline tells the world about the last failure.
func (f *Feed) offline() {
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	f.become(Offline, f.status.ErrAt, f.status.Err)
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
	if err := event.CheckTopic(topic); err != nil || name == "" || slices.Contains(reserved, name) {
		return nil, fmt.Errorf("%q cannot name a reading", name)
	}
	sh, known := f.shapes[name]
	if !known {
		sh, known = f.shapes[""]
	}
	if !known {
		sh = plain(Quantity{})
	}
	l := &line{feed: f, topic: topic, counted: true, index: len(f.latest), channel: channel{shape: sh}}
	f.lines[name] = l
	f.latest = append(f.latest, Latest{Reading: Reading{Name: name}})
	return l, nil
}

func (f *Feed) put(l *line, at time.Time, payload []byte) {
	if l.counted {
		f.published++
	}
	f.hub.put(l, f.event(l, at, payload))
}

func (f *Feed) event(l *line, at time.Time, payload []byte) event.Event {
	return event.Event{
		Time: event.At(at), Topic: l.topic, Source: "device", Client: f.status.Name,
		ContentType: "application/json", Payload: payload, QoS: 1, Retain: !l.counted,
	}
}

// payload is the payload of a reading.
func (s *sample) payload() []byte {
	out := struct {
		Value   float64 `json:"value"`
		Unit    string  `json:"unit,omitempty"`
		N       int     `json:"n,omitempty"`
		Quality string  `json:"quality,omitempty"`
	}{s.Value, s.Unit, s.n, ""}
	if !s.good {
		out.Quality = "out_of_range"
	}
	b, _ := json.Marshal(out) // no field can fail
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
