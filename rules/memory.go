package rules

import (
	"errors"
	"strings"

	"holdfast/gateway/event"
	"holdfast/rules/window"
)

// phase says when a function with a memory takes an event in.
type phase int8

// The phases. Functions in where and set see every event that from selects,
// those in aggregates and outputs the events that where lets through; those in
// having see every pane, and those in outputs of a window the panes that having
// lets through.
const (
	noMemory phase = iota - 1
	selected
	passed
	closed
	kept
	phases
)

// site is a place in a rule where a function with a memory is called. It is
// evaluated once for each event of its phase, whether or not the expression
// comes to ask for its result.
type site struct {
	fn    *function
	id    string // phase and text: what it keeps when the rule changes
	phase phase
	exprs []*expression
	args  []*program
	span  event.Time // a duration among the arguments
	kind  kind

	in     []window.Value // scratch
	result any
	err    error
}

// memory is what a rule keeps by key.
type memory struct {
	sites  []*site
	keys   map[string]*keyed
	max    int
	expire event.Time

	// Keys by when they were last seen.
	oldest, newest *keyed

	at *keyed // of the event or pane at hand
}

// keyed is the memory of one key.
type keyed struct {
	name         string
	seen         event.Time    // by the engine's steady time
	cells        []cell        // by site
	times        [2]event.Time // newest of its events and panes
	hold         *holding      // nil: where does not hold
	older, newer *keyed
}

// cell is what one site keeps of one key. Each function uses what it needs.
type cell struct {
	set     bool
	flag    bool
	at      event.Time
	number  float64
	value   window.Value
	waiting window.Value
	recent  *recent
}

var errKeys = errors.New("the rule remembers too many keys; raise max_keys of state, or lower expire")

func newMemory(sites []*site, most int, expire event.Time) *memory {
	return &memory{sites: sites, keys: map[string]*keyed{}, max: most, expire: expire}
}

// enter turns to a key, which may be new, at a time.
func (m *memory) enter(name string, now event.Time) error {
	m.forget(now)
	k := m.keys[name]
	if k == nil {
		if len(m.keys) >= m.max {
			m.at = nil
			return errKeys
		}
		k = &keyed{name: strings.Clone(name), cells: make([]cell, len(m.sites))}
		m.keys[k.name] = k
	} else {
		m.unlink(k)
	}
	k.seen = now
	m.link(k)
	m.at = k
	return nil
}

// forget drops keys that have been silent for too long; while where holds for a
// key it stays.
func (m *memory) forget(now event.Time) {
	for k := m.oldest; k != nil && k.seen+m.expire <= now; k = m.oldest {
		m.unlink(k)
		if k.hold != nil && !k.hold.fired {
			k.seen = now
			m.link(k)
			continue
		}
		delete(m.keys, k.name)
	}
}

func (m *memory) link(k *keyed) {
	k.older, k.newer = m.newest, nil
	if m.newest != nil {
		m.newest.newer = k
	} else {
		m.oldest = k
	}
	m.newest = k
}

func (m *memory) unlink(k *keyed) {
	if k.older != nil {
		k.older.newer = k.newer
	} else {
		m.oldest = k.newer
	}
	if k.newer != nil {
		k.newer.older = k.older
	} else {
		m.newest = k.older
	}
	k.older, k.newer = nil, nil
}

// run lets the sites of a phase take in the event or pane at hand, whose time
// is t; where that goes back it stands still. A site whose arguments cannot be evaluated remembers nothing of it and
// fails only if its result is asked for.
func (m *memory) run(p phase, t event.Time) {
	newest := &m.at.times[p/closed]
	*newest = max(*newest, t)
	for i, s := range m.sites {
		if s.phase == p {
			s.result, s.err = s.take(&m.at.cells[i], *newest)
		}
	}
}

func (s *site) take(c *cell, t event.Time) (any, error) {
	for i, p := range s.args {
		v, err := p.run()
		if err != nil {
			return nil, err
		}
		value, ok := toValue(v)
		switch want := s.fn.args[i]; {
		case !ok || want == number && value.Kind != window.Number || want == truth && value.Kind != window.Bool:
			wanted := "a number, text or true or false"
			if want != anything {
				wanted = want.String()
			}
			return nil, p.errorf("%s takes %s, not %s", s.fn.name, wanted, describe(v))
		case value.Num != value.Num:
			return nil, p.errorf("%s cannot take NaN", s.fn.name)
		}
		s.in[i] = value
	}
	return s.fn.step(c, s.in, s.span, t), nil
}

// keep makes c a value with memory of its own: a text may be a part of a
// payload.
func keep(v window.Value) window.Value {
	v.Text = strings.Clone(v.Text)
	return v
}
