package rules

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/gateway/event"
)

// State is what a rule remembers, for people.
type State struct {
	Rule     string        `json:"rule"`
	Disabled bool          `json:"disabled"`
	Reason   string        `json:"reason,omitempty"` // why it is disabled
	Cost     time.Duration `json:"cost_ns,omitempty"`
	Keys     int           `json:"keys"`                  // with a memory
	Next     *time.Time    `json:"next,omitempty"`        // when its timer triggers
	Memory   []KeyState    `json:"memory"`                // of some keys, the last seen first
	Latest   []LatestState `json:"latest,omitempty"`      // what latest() knows of some topics
	Full     bool          `json:"latest_full,omitempty"` // there were more topics than latest() keeps
}

// KeyState is what a rule remembers of a key.
type KeyState struct {
	Key   string         `json:"key"`
	Calls map[string]any `json:"calls,omitempty"` // by the call of the function
	// What `for` waits for: since when the condition holds, and whether the
	// rule has emitted.
	Since   *time.Time `json:"since,omitempty"`
	Emitted bool       `json:"emitted,omitempty"`
}

// LatestState is what latest() knows of a topic.
type LatestState struct {
	Topic string `json:"topic"`
	Value any    `json:"value"`
}

// Inspect returns what a rule remembers: of one key, or with an empty key of
// the most keys seen last.
func (e *Engine) Inspect(rule, key string, most int) (State, error) {
	r := e.rule(rule)
	if r == nil {
		return State{}, fmt.Errorf("there is no rule %q", rule)
	}
	s := State{Rule: r.Name, Disabled: r.off, Reason: r.reason, Cost: time.Duration(r.cost.mean), Memory: []KeyState{}}
	if r.timer != nil && r.timer.armed {
		next := r.timer.due().Std()
		s.Next = &next
	}
	if m := r.memory; m != nil {
		s.Keys = len(m.keys)
		for k := m.newest; k != nil && len(s.Memory) < most; k = k.older {
			if key == "" || k.name == key {
				s.Memory = append(s.Memory, m.describe(k))
			}
		}
	}
	for _, l := range r.latest {
		s.Full = s.Full || l.full
		for _, topic := range slices.Sorted(maps.Keys(l.values)) {
			if len(s.Latest) < most {
				s.Latest = append(s.Latest, LatestState{topic, l.values[topic].Any()})
			}
		}
	}
	return s, nil
}

func (m *memory) describe(k *keyed) KeyState {
	s := KeyState{Key: k.name, Calls: map[string]any{}}
	for i, site := range m.sites {
		_, call, _ := strings.Cut(site.id, ":")
		s.Calls[call] = k.cells[i].describe(site.fn.name)
	}
	if h := k.hold; h != nil {
		since := h.since.Std()
		s.Since, s.Emitted = &since, h.fired
	}
	return s
}

// describe is what the cell of a function keeps.
func (c *cell) describe(function string) any {
	since := func(t event.Time) string { return t.Std().Format(time.RFC3339Nano) }
	switch function {
	case "prev", "changed":
		return c.value.Any()
	case "change", "counter", "total":
		return c.number
	case "debounce":
		return map[string]any{"value": c.value.Any(), "waiting": c.waiting.Any(), "since": since(c.at)}
	case "throttle":
		if !c.set {
			return nil
		}
		return since(c.at)
	case "duplicate":
		if c.recent == nil {
			return 0
		}
		return len(c.recent.order)
	}
	return c.flag
}
