package devices

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
)

// Wiring hands the ports of buses to drivers, and sees to it that none is
// given away twice.
type Wiring struct {
	buses   Buses
	memory  *Memory
	i2c     map[string]*i2cBus      // by resolved name
	spi     map[string]*spiBus      // by resolved name
	oneWire map[string]*oneWireLane // by name
	taken   map[string]string       // place to the device that has it
	behind  map[string]string       // place to the device behind a multiplexer that would answer too
	locks   map[string]*Interlock   // by name
	bus     map[string]string       // by device, where that has one
}

// Memory returns what the devices remember. It must not be used before the
// source runs.
func (w *Wiring) Memory() *Memory { return w.memory }

// Set are the devices of a configuration.
type Set struct {
	devices []*device
	wiring  *Wiring
	hub     *hub
	desks   map[string]*desk // of outputs, by the topic of their commands
	acts    acts
	edges   []string // topics of edges of inputs

	mu     sync.Mutex
	stop   context.CancelFunc // nil unless Run is running
	done   chan struct{}      // closed when Run has returned
	closed bool
}

// deviceSettings are the keys of every device; the others are its driver's.
type deviceSettings struct {
	Driver string `config:"driver,required"`
	Topic  string `config:"topic"`
	shapeSettings
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Load reads the settings of devices by name. The error is [config.Errors]
// with every mistake and its position. Load touches no hardware.
func Load(sections config.Named, drivers []Driver, buses Buses) (*Set, error) {
	set := &Set{
		hub:   newHub(),
		desks: map[string]*desk{},
		wiring: &Wiring{
			buses: buses, memory: new(Memory), i2c: map[string]*i2cBus{}, spi: map[string]*spiBus{}, oneWire: map[string]*oneWireLane{},
			taken: map[string]string{}, behind: map[string]string{}, locks: map[string]*Interlock{},
			bus: map[string]string{},
		},
	}
	var errs config.Errors
	topics := map[string]string{} // prefix to device
	for _, s := range sections {
		d, err := set.load(s, drivers, topics)
		errs.Add(err)
		set.devices = append(set.devices, d)
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return set, nil
}

func (set *Set) load(s *config.Section, drivers []Driver, topics map[string]string) (*device, error) {
	var errs config.Errors
	c := deviceSettings{Topic: "devices/" + s.Name()}
	if s.Kind() != config.Mapping {
		return nil, s.Decode(&c)
	}
	common := config.Keys(&c)
	errs.Add(s.Only(common...).Decode(&c))
	if !nameForm.MatchString(s.Name()) {
		errs.Add(s.Errorf("", "%q cannot name a device; use up to 64 letters, digits, dots, hyphens and underscores", s.Name()))
	} else if err := checkPrefix(c.Topic); err != nil {
		errs.Add(s.Errorf("topic", "%v", err))
	} else if other, taken := topics[c.Topic]; taken {
		errs.Add(s.Errorf("topic", "the device %s has the topic %s already", other, c.Topic))
	}
	topics[c.Topic] = s.Name()

	driver := find(drivers, c.Driver)
	if driver == nil {
		if c.Driver != "" { // else reported as missing
			errs.Add(s.Errorf("driver", "%q is not a driver%s", c.Driver, hint(drivers, c.Driver)))
		}
		return nil, errs.Err()
	}
	source, err := driver.New(s.Allow(common...), set.wiring)
	errs.Add(placed(s, err))
	var quantities []Quantity
	if m, ok := source.(Measurer); ok {
		quantities = m.Quantities()
	}
	kept := map[string]shape{}
	if source != nil { // else the keys of its readings are not known
		var mistakes config.Errors
		kept, mistakes = shapes(s, c.shapeSettings, quantities)
		errs.Add(mistakes.Err())
	}
	for _, q := range quantities {
		if q.Edges {
			set.edges = append(set.edges, c.Topic+"/"+q.Name)
		}
	}
	d := &device{source, newFeed(s.Name(), driver.Name, c.Topic, kept, set.hub)}
	d.feed.status.Bus = set.wiring.bus[s.Name()]
	if chip := s.Child("chip"); chip != nil {
		errs.Add(chip.Decode(&d.feed.status.Bus))
	}
	if a, ok := source.(Actuator); ok {
		set.furnish(d.feed, a)
	}
	return d, errs.Err()
}

func checkPrefix(topic string) error {
	if strings.HasPrefix(topic, "$") || strings.HasSuffix(topic, "/") {
		return fmt.Errorf("%q cannot be what the topics of a device begin with; write it as in plant/boiler", topic)
	}
	return event.CheckTopic(topic)
}

func find(drivers []Driver, name string) *Driver {
	for i := range drivers {
		if drivers[i].Name == name {
			return &drivers[i]
		}
	}
	return nil
}

func hint(drivers []Driver, name string) string {
	var known []string
	for _, d := range drivers {
		known = append(known, d.Name)
	}
	if near := config.Nearest(name, known); near != "" {
		return fmt.Sprintf(", did you mean %q?", near)
	}
	return "; known are " + strings.Join(known, ", ")
}

// placed gives an error without a position that of the section.
func placed(s *config.Section, err error) error {
	var many config.Errors
	var one *config.Error
	if err == nil || errors.As(err, &many) || errors.As(err, &one) {
		return err
	}
	return s.Errorf("", "%v", err)
}

// Remember makes the devices keep what they must not forget, such as totals. It
// is called before Run.
func (set *Set) Remember(m *Memory) {
	*set.wiring.memory = *m
	for _, d := range set.desks {
		d.remember()
	}
	set.noteAll(set.acts.load(set.wiring.memory, set.desks))
}

// noteAll keeps an error that concerns all outputs.
func (set *Set) noteAll(err error) {
	if err != nil {
		for _, d := range set.desks {
			d.feed.note(err)
		}
	}
}

// EdgeTopics returns the topics of the levels of inputs, which are told at each
// edge.
func (set *Set) EdgeTopics() []string { return slices.Clone(set.edges) }

// Observe has see called with each event of a device as soon as there is one,
// before it is on disk and even if the log refuses it. It is called before Run;
// see must be quick and must not call back.
func (set *Set) Observe(see func([]event.Event)) { set.hub.observe = see }

// Run works all devices and emits their events until ctx ends or the set is
// closed, then returns nil. It waits for all that it started, for a transfer
// on a bus and an emit that blocks too. A set runs once.
func (set *Set) Run(ctx context.Context, emit event.Emit) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	set.mu.Lock()
	switch {
	case set.closed:
		set.mu.Unlock()
		return nil
	case set.done != nil:
		set.mu.Unlock()
		return errors.New("run devices: they have been run already")
	}
	set.stop, set.done = cancel, make(chan struct{})
	defer close(set.done)
	set.mu.Unlock()

	var sources, rest sync.WaitGroup
	// Buses and hub go on until no source can need them.
	last, end := context.WithCancel(context.WithoutCancel(ctx))
	for _, bus := range set.wiring.i2c {
		rest.Go(func() { bus.run(last) })
	}
	for _, bus := range set.wiring.spi {
		rest.Go(func() { bus.run(last) })
	}
	for _, bus := range set.wiring.oneWire {
		rest.Go(func() { bus.run(last, func() {}) })
	}
	set.acts.begun()
	for _, d := range set.desks {
		sources.Go(func() { d.run(ctx) })
	}
	rest.Go(func() { set.hub.run(last, emit) })
	for _, d := range set.devices {
		sources.Go(func() { d.run(ctx) })
	}
	<-ctx.Done()
	sources.Wait()
	end()
	rest.Wait()
	set.noteAll(set.acts.close(set.wiring.memory))
	return nil
}

// Close ends Run and waits for it. It may be called more than once.
func (set *Set) Close() {
	set.mu.Lock()
	set.closed = true
	stop, done := set.stop, set.done
	set.mu.Unlock()
	if stop != nil {
		stop()
		<-done
	}
}

// Status returns how each device does, in the order of the configuration.
func (set *Set) Status() []Status {
	all := make([]Status, len(set.devices))
	for i, d := range set.devices {
		all[i] = d.feed.Status()
	}
	return all
}

// Latest returns the newest readings of a device, and whether there is one of
// that name.
func (set *Set) Latest(name string) (readings []Latest, known bool) {
	for _, d := range set.devices {
		if d.feed.status.Name == name {
			return d.feed.Latest(), true
		}
	}
	return nil, false
}
